"""What is done to the cluster, phase by phase, and how it comes to rest after each.

Called by the runner while the clients send. A fault acts on brokers by number and on the topics of
all clients alike: these have their leaders on the same brokers. Every phase ends with all replicas
in sync and each partition led by its first replica, so that none pays for the one before.
"""

from __future__ import annotations

import importlib
import threading
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from tests.broker.helpers import delete_topic
from tests.support.kafka import create_all
from tools.kafka import LocalKafka, NodeControl

__all__ = [
    "CALM",
    "FULL",
    "PARTITIONS",
    "REPLICAS",
    "SHORT",
    "Fault",
    "Field",
    "create_topics",
]

PARTITIONS = 6
REPLICAS = 3
_NODES = (1, 2, 3)
_LONGEST_REST = 60.0


@dataclass(slots=True)
class Field:
    """Where the faults happen.

    Attributes:
        kafka: The brokers.
        topics: The clients' topics.
        second_topics: Those that are deleted and recreated.
        order: Gives all clients an order.
        remade_at: When the second topics were there again, by the clock of the ledgers.
        notes: What a reader of the results should know of this run.
    """

    kafka: NodeControl
    topics: Sequence[str]
    second_topics: Sequence[str]
    order: Callable[[str], None]
    remade_at: float | None = None
    notes: list[str] = field(default_factory=list[str])

    def admin(self) -> AdminClient:
        """Return a client for the brokers' own affairs."""
        return AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers, "log_level": 2})

    def come_to_rest(self) -> None:
        """Have all brokers run and in sync, and every partition led by its first replica."""
        self.kafka.heal()
        self.wait_in_sync(_NODES)
        self.elect_first_replicas()

    def wait_in_sync(self, nodes: Sequence[int]) -> None:
        """Return when the replicas on these nodes are all in sync and no others are.

        Raises:
            TimeoutError: It did not come to that.
        """
        admin = self.admin()
        give_up_at = time.monotonic() + _LONGEST_REST
        while True:
            try:
                found = admin.list_topics(timeout=5).topics
                partitions = [
                    one for name in self.topics for one in found[name].partitions.values()
                ]
                if all({*one.isrs} == {*nodes} and one.leader in nodes for one in partitions):
                    return
            except (KafkaException, KeyError):
                pass  # none answers, or the one that answers has just started
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"nodes {nodes} are not in sync after {_LONGEST_REST:.0f} s")
            time.sleep(0.1)

    def elect_first_replicas(self) -> None:
        """Move each partition's leader to its first replica."""
        with self.kafka_python_admin() as admin:
            # Raises for a partition that is led by its first replica already, unless told not to.
            admin.elect_leaders(0, self._partitions(), timeout_ms=10_000, raise_errors=False)

    def rotate_leaders(self, by: int) -> None:
        """Have each partition led by the broker so many places after its first one."""
        with self.kafka_python_admin() as admin:
            wanted = {
                _kafka_python().TopicPartition(topic, partition): _replicas(partition, by)
                for topic, partitions in self._partitions().items()
                for partition in partitions
            }
            admin.alter_partition_reassignments(wanted, timeout_ms=10_000)
        self.elect_first_replicas()

    @contextmanager
    def kafka_python_admin(self) -> Generator[Any]:
        """Give the one admin client that can both reassign partitions and elect leaders."""
        admin = _kafka_python().KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers)
        try:
            yield admin
        finally:
            admin.close()

    def _partitions(self) -> dict[str, list[int]]:
        found = self.admin().list_topics(timeout=10).topics
        return {topic: list(found[topic].partitions) for topic in self.topics}


@dataclass(frozen=True, slots=True)
class Fault:
    """One phase of the script.

    Attributes:
        name: For the table.
        what: What happens, for a reader.
        do: Does it.
    """

    name: str
    what: str
    do: Callable[[Field], None]


def create_topics(kafka: NodeControl, topics: Sequence[str], partitions: int = PARTITIONS) -> None:
    """Create topics with their leaders on the same brokers; returns when these lead.

    Raises:
        KafkaException: The broker refused.
        TimeoutError: They were not created within 15 s, or had no leaders within 15 more.
    """
    new = [
        NewTopic(topic, partitions, replica_assignment=[_replicas(p) for p in range(partitions)])
        for topic in topics
    ]
    admin = create_all(kafka, new, timeout=15)
    give_up_at = time.monotonic() + 15
    while True:
        found = admin.list_topics(timeout=10).topics
        known = [found[topic].partitions for topic in topics if topic in found]
        if len(known) == len(topics) and all(
            len(each) == partitions and all(one.leader >= 0 for one in each.values())
            for each in known
        ):
            return
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"topics {topics} have no leaders after 15 s")
        time.sleep(0.02)


def _replicas(partition: int, by: int = 0) -> list[int]:
    """The brokers of a partition, its leader first: 1, 2, 3 in turn."""
    return [(partition + by + place) % len(_NODES) + 1 for place in range(REPLICAS)]


def _kafka_python() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what kafka-python imports is not ours to mend
        return importlib.import_module("kafka")


# ---- the faults


def _calm(_field: Field) -> None:
    time.sleep(4)


def _kill_a_leader(field: Field) -> None:
    field.kafka.kill(1)
    time.sleep(6)
    field.kafka.start_node(1)
    time.sleep(1)


def _freeze_a_leader(field: Field) -> None:
    field.kafka.pause(2)
    time.sleep(9)
    field.kafka.resume(2)
    time.sleep(2)


def _restart_in_turn(field: Field) -> None:
    for node in _NODES:
        field.kafka.stop_node(node)
        field.kafka.start_node(node)
        field.wait_in_sync(_NODES)


def _kill_two_of_three(field: Field) -> None:
    for node in (2, 3):
        field.kafka.kill(node)
    time.sleep(4)
    # Side by side: neither is up without the other. Each writes down its start first.
    with ThreadPoolExecutor() as threads:
        starts: list[Future[None]] = []
        for node in (2, 3):
            starts.append(threads.submit(field.kafka.start_node, node))
            time.sleep(0.3)
        for start in starts:
            start.result()


def _add_partitions(field: Field) -> None:
    admin = field.admin()
    new = [
        NewPartitions(
            topic, PARTITIONS + 3, [_replicas(p) for p in range(PARTITIONS, PARTITIONS + 3)]
        )
        for topic in field.topics
    ]
    added: Mapping[str, Future[None]] = admin.create_partitions(new)  # pyright: ignore
    for topic in field.topics:
        added[topic].result(timeout=10)
    time.sleep(1)
    # No client looks for new partitions within minutes; after a leader's move each does.
    field.rotate_leaders(1)
    time.sleep(3)


def _move_leaders(field: Field) -> None:
    for by in (1, 2, 0, 1, 0):
        field.rotate_leaders(by)
        time.sleep(0.7)


def _recreate_topics(field: Field) -> None:
    field.order("second")
    time.sleep(2)
    for topic in field.second_topics:
        delete_topic(field.kafka, topic)
    time.sleep(1)
    create_topics(field.kafka, field.second_topics)
    field.remade_at = time.monotonic()
    time.sleep(4)
    field.order("first")
    time.sleep(0.5)


def _lose_a_followers_tail(field: Field) -> None:
    kafka = field.kafka
    assert isinstance(kafka, LocalKafka)
    field.kafka.kill(3)
    field.wait_in_sync((1, 2))
    cut = sum(_truncate(one, 3_000) for one in _last_segments(kafka.data(3), field.topics))
    field.notes.append(f"{cut} bytes were cut from the log of the killed broker")
    field.kafka.start_node(3)
    time.sleep(1)


def _last_segments(data: Path, topics: Sequence[str]) -> list[Path]:
    found = [path for topic in topics for path in data.glob(f"{topic}-[0-9]*") if path.is_dir()]
    return [max(path.glob("*.log")) for path in found]


def _truncate(path: Path, most: int) -> int:
    """Cut bytes from a file's end, as if they had never reached the disk; return how many."""
    size = path.stat().st_size
    left = max(0, size - most)
    with path.open("r+b") as file:
        file.truncate(left)
    return size - left


def _slow_down(field: Field) -> None:
    over = threading.Event()
    threading.Timer(8, over.set).start()
    while not over.is_set():
        field.kafka.pause(1)
        over.wait(0.08)
        field.kafka.resume(1)
        time.sleep(0.02)
    time.sleep(1)


CALM = Fault("calm", "nothing", _calm)
_KILL = Fault("leader killed", "kill -9 of a broker, started again after 6 s", _kill_a_leader)
_FREEZE = Fault("leader frozen", "a broker stopped (SIGSTOP) for 9 s", _freeze_a_leader)
_RESTART = Fault("rolling restart", "each broker shut down in order and started", _restart_in_turn)

FULL: Sequence[Fault] = (
    CALM,
    _KILL,
    _FREEZE,
    _RESTART,
    Fault(
        "two of three down", "kill -9 of two brokers, started again after 4 s", _kill_two_of_three
    ),
    Fault("partitions added", "six partitions become nine", _add_partitions),
    Fault("leaders moved", "all leaders elected elsewhere, five times", _move_leaders),
    Fault("topic recreated", "a second topic deleted under load and recreated", _recreate_topics),
    Fault(
        "tail lost",
        "kill -9 of a broker, the ends of its logs cut off, started",
        _lose_a_followers_tail,
    ),
    Fault("slow leader", "a broker stopped for 80 of each 100 ms, for 8 s", _slow_down),
    Fault("calm again", "nothing", _calm),
)
SHORT: Sequence[Fault] = (CALM, _KILL, _FREEZE, _RESTART)
