"""An immutable snapshot of what the cluster said of itself. No I/O, no clock.

Made by cluster.py from each Metadata answer, read by sender.py. A newer snapshot is a new value:
`merged` and `with_leader` return one, and never take a partition back to an older leader epoch
of the same topic, if topics have ids (a broker that lags behind may answer last).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from aioproducer.protocol.metadata import MetadataResponse
from aioproducer.protocol.schema import NO_TOPIC_ID

__all__ = ["BrokerAddress", "ClusterMetadata", "PartitionLeader", "TopicMetadata"]

NO_LEADER = -1


class BrokerAddress(NamedTuple):
    """Where a broker listens."""

    node_id: int
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class PartitionLeader(NamedTuple):
    """The leader of one partition; node id -1 when it has none."""

    node_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class TopicMetadata:
    """One topic: its id, the error if it has one, and its leaders by partition id."""

    name: str
    topic_id: bytes = NO_TOPIC_ID
    error_code: int = 0
    leaders: tuple[PartitionLeader, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterMetadata:
    """Brokers by node id and topics by name."""

    cluster_id: str | None = None
    brokers: Mapping[int, BrokerAddress] = field(default_factory=dict[int, BrokerAddress])
    topics: Mapping[str, TopicMetadata] = field(default_factory=dict[str, TopicMetadata])

    def merged(self, response: MetadataResponse) -> ClusterMetadata:
        """The snapshot after `response`: topics it does not name stay as they were."""
        brokers = {
            broker.node_id: BrokerAddress(broker.node_id, broker.host, broker.port)
            for broker in response.brokers
        }
        topics = dict(self.topics)
        for answer in response.topics:
            if answer.name is None:
                continue
            known = topics.get(answer.name)
            topic_id = answer.topic_id
            if answer.error_code and known is not None and known.leaders:
                # Keep the leaders: batches may still be on their way to them.
                topics[answer.name] = replace(known, error_code=answer.error_code)
                continue
            is_same_topic = known is not None and known.topic_id == topic_id
            leaders = [PartitionLeader(NO_LEADER, -1)] * len(answer.partitions)
            if is_same_topic and known is not None:
                # A topic never loses partitions: this broker has not heard of the new ones yet.
                leaders += known.leaders[len(leaders) :]
            for partition in answer.partitions:
                index = partition.partition_index
                if not 0 <= index < len(leaders):
                    continue
                leader = PartitionLeader(partition.leader_id, partition.leader_epoch)
                # Without its id a topic made anew, whose epochs begin at 0, looks like the same
                # one; and brokers before 2.4 may tell epochs that are wrong (KAFKA-9212).
                has_epochs = is_same_topic and topic_id != NO_TOPIC_ID
                if has_epochs and known is not None and index < len(known.leaders):
                    earlier = known.leaders[index]
                    if leader.epoch < earlier.epoch and leader.epoch >= 0:
                        leader = earlier
                leaders[index] = leader
            topics[answer.name] = TopicMetadata(
                answer.name, topic_id, answer.error_code, tuple(leaders)
            )
        return ClusterMetadata(response.cluster_id, brokers, topics)

    def with_leader(
        self,
        topic: str,
        partition: int,
        leader: PartitionLeader,
        addresses: Iterable[BrokerAddress],
    ) -> ClusterMetadata | None:
        """The snapshot after a broker named a new leader (KIP-951), or None if it is no news."""
        known = self.topics.get(topic)
        if known is None or partition >= len(known.leaders):
            return None
        brokers = {**self.brokers, **{address.node_id: address for address in addresses}}
        if leader.node_id not in brokers or leader.epoch <= known.leaders[partition].epoch:
            return None
        leaders = list(known.leaders)
        leaders[partition] = leader
        topics = {**self.topics, topic: replace(known, leaders=tuple(leaders))}
        return ClusterMetadata(self.cluster_id, brokers, topics)

    def without_topics(self, names: Iterable[str]) -> ClusterMetadata:
        """The snapshot without topics that nobody uses any more."""
        gone = set(names)
        topics = {name: topic for name, topic in self.topics.items() if name not in gone}
        return replace(self, topics=topics)
