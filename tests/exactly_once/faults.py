"""What is done to brokers and connections while the transactions run.

A phase ends as those of `make chaos` do: all replicas in sync and each partition led by its first
replica, those of the transaction coordinators as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tests.chaos.faults import CALM, Fault, Field
from tests.exactly_once.wires import Wires

__all__ = ["COORDINATED_PARTITIONS", "FULL", "SHORT", "STATE_TOPIC", "WiredField", "partition_of"]

STATE_TOPIC = "__transaction_state"
"""The leader of a partition of it coordinates the transactional ids that belong to it."""

COORDINATED_PARTITIONS = 3
"""How many the brokers are told to have; each of three brokers leads one."""

_BETWEEN_CUTS = 0.1
_FEWEST_CUTS = 5
_SHORTEST_CUT, _LONGEST_CUT = 4.0, 20.0


def partition_of(transactional_id: str) -> int:
    """Return the partition of `STATE_TOPIC` that an id belongs to (Java's `String.hashCode`)."""
    hashed = 0
    for character in transactional_id:
        hashed = (31 * hashed + ord(character)) & 0xFFFFFFFF
    signed = hashed - (1 << 32) if hashed >> 31 else hashed
    # The least integer has no absolute value in Java; Kafka takes 0.
    return abs(signed) % (1 << 31) % COORDINATED_PARTITIONS


@dataclass(slots=True, kw_only=True)
class WiredField(Field):
    """Where the faults happen, the ways of the clients to the brokers included.

    Attributes:
        wires: The clients' connections.
    """

    wires: Wires

    def coordinator(self, partition: int = 0) -> int:
        """Return the node that coordinates the ids of a partition."""
        return self._leader(STATE_TOPIC, partition)

    def leader_beside_coordinator(self) -> int:
        """Return a node that leads records, and does not coordinate the ids of partition 0."""
        leaders = (self._leader(self.topics[0], partition) for partition in range(3))
        return next(node for node in leaders if node != self.coordinator())

    def _leader(self, topic: str, partition: int) -> int:
        found = self.admin().list_topics(timeout=10).topics[topic].partitions[partition]
        return int(found.leader)


def _wired(field: Field) -> WiredField:
    assert isinstance(field, WiredField)
    return field


def _kill(which: Callable[[WiredField], int], field: Field) -> None:
    node = which(_wired(field))
    field.kafka.kill(node)
    time.sleep(4)
    field.kafka.start_node(node)
    time.sleep(1)


def _freeze_coordinator(field: Field) -> None:
    node = _wired(field).coordinator()
    field.kafka.pause(node)
    time.sleep(8)
    field.kafka.resume(node)
    time.sleep(2)


def _cut(cut: Callable[[Wires], None], field: Field) -> None:
    wires = _wired(field).wires
    before = wires.cuts()
    started_at = time.monotonic()
    fewest, passed = 0, 0.0
    # On a busy machine there are few commits.
    while passed < _SHORTEST_CUT or (fewest < _FEWEST_CUTS and passed < _LONGEST_CUT):
        wires.let_pass()
        cut(wires)
        time.sleep(_BETWEEN_CUTS)
        fewest = min(sum(now) - sum(before[client]) for client, now in wires.cuts().items())
        passed = time.monotonic() - started_at
    wires.let_pass()


def _cut_and_kill(field: Field) -> None:
    node = _wired(field).coordinator()
    wires = _wired(field).wires
    wires.hold_answers()
    time.sleep(0.3)  # some commits of each client are applied by then, and nobody knows
    field.kafka.kill(node)
    wires.reset()
    time.sleep(3)
    field.kafka.start_node(node)
    time.sleep(1)


def _restart_coordinator(field: Field) -> None:
    node = _wired(field).coordinator()
    field.kafka.stop_node(node)
    field.kafka.start_node(node)
    time.sleep(1)


_COORDINATOR = Fault(
    "coordinator killed",
    "kill -9 of a broker that coordinates transactions, started again after 4 s",
    partial(_kill, WiredField.coordinator),
)
_CUTS = (
    Fault(
        "commits cut before",
        "connections reset instead of passing an EndTxn on, up to ten times a second",
        partial(_cut, Wires.cut_requests),
    ),
    Fault(
        "commits cut after",
        "EndTxn passed on, and the connection reset instead of its response",
        partial(_cut, Wires.cut_answers),
    ),
)
_END = Fault("calm again", "nothing", CALM.do)

FULL: Sequence[Fault] = (
    CALM,
    _COORDINATOR,
    *_CUTS,
    Fault(
        "leader killed",
        "kill -9 of a broker that leads records, started again after 4 s",
        partial(_kill, WiredField.leader_beside_coordinator),
    ),
    Fault("coordinator frozen", "a broker stopped (SIGSTOP) for 8 s", _freeze_coordinator),
    Fault(
        "cut, and killed",
        "responses of EndTxn withheld for 0.3 s, then kill -9 of the coordinator",
        _cut_and_kill,
    ),
    Fault(
        "coordinator restarted",
        "a broker that coordinates transactions shut down in order and started",
        _restart_coordinator,
    ),
    _END,
)
SHORT: Sequence[Fault] = (CALM, _COORDINATOR, *_CUTS, _END)
