"""What all brokers agree on: topics, leaders, logs, producer ids, transactions, groups. No I/O.

Owned by FakeCluster; the API handlers read it and append to its logs, on the loop. Every replica
is in sync at all times: what one broker has stored, the next leader has, and what one coordinator
knows, the next one does.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from aioproducer.testing.coordinators import Coordinators
from aioproducer.testing.groups import Groups
from aioproducer.testing.habits import KAFKA, Habits
from aioproducer.testing.log import LogLimits, PartitionLog
from aioproducer.testing.observed import ApiName
from aioproducer.testing.transaction_values import Marker
from aioproducer.testing.transactions import Transactions

__all__ = ["Address", "ClusterState", "PartitionState", "Supported", "TopicState"]

_LEGAL_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class Address(NamedTuple):
    """Where a broker listens."""

    node_id: int
    host: str
    port: int


class Supported(NamedTuple):
    """The versions of an API that the brokers offer."""

    name: ApiName
    key: int
    min_version: int
    max_version: int
    advertised_min: int
    """What ApiVersions says; lower than `min_version` where 4.x brokers say so too."""


@dataclass(slots=True)
class PartitionState:
    """One partition: its leader and its log."""

    index: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    log: PartitionLog


@dataclass(slots=True)
class TopicState:
    """One topic."""

    name: str
    topic_id: bytes
    limits: LogLimits
    partitions: list[PartitionState] = field(default_factory=list[PartitionState])

    def partition(self, index: int) -> PartitionState | None:
        """Return a partition, or None if there is none of this number."""
        return self.partitions[index] if 0 <= index < len(self.partitions) else None


@dataclass(slots=True)
class ClusterState:
    """The cluster as its brokers know it."""

    auto_create_topics: bool
    default_partitions: int
    limits: LogLimits
    throttle_ms: int
    features: Mapping[str, int]
    habits: Habits = KAFKA
    cluster_id: str = "aioproducer-fake-cluster"
    addresses: dict[int, Address] = field(default_factory=dict[int, Address])
    """Of all brokers, also those that are down."""
    alive: set[int] = field(default_factory=set[int])
    topics: dict[str, TopicState] = field(default_factory=dict[str, TopicState])
    supported: tuple[Supported, ...] = ()
    producer_ids: int = 1000
    """The first id not given out yet."""
    first_producer_id: int = 1000
    wall_clock: Callable[[], float] = time.time
    violations: list[str] = field(default_factory=list[str])
    on_append: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    groups: Groups = field(default_factory=Groups)
    transactions: Transactions = field(init=False)
    coordinators: Coordinators = field(init=False)

    def __post_init__(self) -> None:
        self.coordinators = Coordinators(self.alive)
        self.transactions = Transactions(
            new_producer_id=self.new_producer_id,
            write_partition=self._write_marker,
            write_group=self._write_group_marker,
            has_v2=lambda: self.features.get("transaction.version", 0) >= 2,
        )

    def now_ms(self) -> int:
        """Return the time of day, as brokers write it into logs."""
        return int(self.wall_clock() * 1000)

    def legal(self, name: str) -> bool:
        """Return whether Kafka allows a topic of this name."""
        return _LEGAL_NAME.fullmatch(name) is not None and name not in (".", "..")

    def topic_of_id(self, topic_id: bytes) -> TopicState | None:
        """Return the topic with an id."""
        for topic in self.topics.values():
            if topic.topic_id == topic_id:
                return topic
        return None

    def find(self, topic: str, partition: int) -> PartitionState | None:
        """Return a partition, or None if there is none of this name and number."""
        found = self.topics.get(topic)
        return found.partition(partition) if found else None

    def create_topic(self, name: str, partitions: int, limits: LogLimits) -> TopicState:
        """Make a topic whose partitions are spread over the brokers, from the first one on."""
        topic = TopicState(name, uuid.uuid4().bytes, limits)
        self.topics[name] = topic
        self.add_partitions(topic, partitions)
        return topic

    def add_partitions(self, topic: TopicState, total: int) -> None:
        """Give a topic more partitions."""
        nodes = sorted(self.addresses)
        for index in range(len(topic.partitions), total):
            first = index % len(nodes)
            replicas = tuple(nodes[first:] + nodes[:first])
            leader = next((node for node in replicas if node in self.alive), -1)
            log = PartitionLog(topic.name, index, topic.limits)
            topic.partitions.append(PartitionState(index, leader, 0, replicas, log))

    def limits_of_new_topic(self) -> LogLimits:
        """Return the brokers' own configuration."""
        return replace(self.limits)

    def partitions(self) -> Iterator[PartitionState]:
        """Yield the partitions of all topics."""
        for topic in self.topics.values():
            yield from topic.partitions

    def elect(self) -> None:
        """Give each partition without a living leader its first living replica."""
        for partition in self.partitions():
            if partition.leader in self.alive:
                continue
            leader = next((node for node in partition.replicas if node in self.alive), -1)
            if leader != partition.leader:
                partition.leader = leader
                partition.leader_epoch += 1
        self.coordinators.elect()
        self.transactions.write_markers()

    def living(self) -> list[Address]:
        """Return the brokers that are up."""
        return [self.addresses[node] for node in sorted(self.alive)]

    def new_producer_id(self) -> int:
        """Return an id that no producer has had."""
        self.producer_ids += 1
        return self.producer_ids - 1

    def gave_out(self, producer_id: int) -> bool:
        """Return whether a producer id comes from this cluster."""
        return self.first_producer_id <= producer_id < self.producer_ids

    def appended(self) -> None:
        """Tell those who wait for records that there are some."""
        waiting, self.on_append = self.on_append, []
        for wake in waiting:
            wake()

    def _write_marker(self, topic: str, index: int, marker: Marker) -> bool:
        partition = self.find(topic, index)
        if partition is None:
            return True  # The topic was deleted; nobody waits for its marker.
        if partition.leader not in self.alive:
            return False
        partition.log.write_marker(
            marker, leader_epoch=partition.leader_epoch, now_ms=self.now_ms()
        )
        self.appended()
        return True

    def _write_group_marker(self, group: str, marker: Marker) -> bool:
        if self.coordinators.node_of("group", group) == -1:
            return False
        self.groups.write_marker(group, marker)
        return True
