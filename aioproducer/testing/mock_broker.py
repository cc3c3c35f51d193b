"""What a `MockProducer` stores, and what a test ordered to go wrong. No loop, no clock.

    SentRecord  a record as a test sees it
    MockBroker  records, offsets and orders; shared by the senders of all loops
    Given       keys and values before they were serialized

Invariant: `sent` holds the records accepted, without those that failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol
from weakref import WeakSet

from aioproducer.errors import KafkaError
from aioproducer.records import Header, K, TopicPartition, V

__all__ = ["Given", "MockBroker", "MockBrokerListener", "SentRecord"]


@dataclass(frozen=True, slots=True)
class SentRecord(Generic[K, V]):
    """A record that a `MockProducer` accepted.

    Attributes:
        topic: Where it went.
        partition: The partition that it named, or the partitioner chose.
        offset: Its offset, as the `RecordMetadata` says it.
        key: The serialized key; None if it has none.
        value: The serialized value; None if it is a tombstone.
        headers: `(name, value)` pairs in order.
        timestamp_ms: CreateTime in milliseconds since the epoch.
        given_key: The key before it was serialized.
        given_value: The value before it was serialized.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp_ms: int
    given_key: K | None
    given_value: V | None

    @property
    def topic_partition(self) -> TopicPartition:
        """The topic and partition as one value."""
        return TopicPartition(self.topic, self.partition)


@dataclass(slots=True)
class _Failure:
    """An error for the next records; `left` is None for ever."""

    error: KafkaError
    topic: str | None
    left: int | None


class MockBrokerListener(Protocol):
    """Notified when a test holds or releases records, or says whether the buffer is full.

    From whatever thread: the test may run in another one than the loop.
    """

    def held_changed(self) -> None:
        """Look at `MockBroker.is_held` again."""
        ...

    def full_changed(self) -> None:
        """Look at `MockBroker.is_full` again."""
        ...


class MockBroker:
    """What a test sees of a `MockProducer`, and what it ordered."""

    def __init__(self, partitions: Mapping[str, int], default_partitions: int) -> None:
        for topic, count in {**partitions, "default_partitions": default_partitions}.items():
            if count < 1:
                raise ValueError(f"a topic has at least one partition, not {count} ({topic})")
        self.sent: list[SentRecord[Any, Any]] = []
        self.is_held = False
        self.is_full = False
        self._partitions = dict(partitions)
        self._default_partitions = default_partitions
        self._failures: list[_Failure] = []
        self._next_offsets: Counter[tuple[str, int]] = Counter()
        self._senders: WeakSet[MockBrokerListener] = WeakSet()

    def serve(self, sender: MockBrokerListener) -> None:
        """Notify a sender from now on."""
        self._senders.add(sender)

    def partition_count(self, topic: str) -> int:
        """How many partitions a topic has."""
        return self._partitions.get(topic, self._default_partitions)

    def next_offset(self, topic: str, partition: int) -> int:
        """Give out the next offset of a partition."""
        offset = self._next_offsets[topic, partition]
        self._next_offsets[topic, partition] = offset + 1
        return offset

    def forget(self, record: SentRecord[Any, Any]) -> None:
        """Take out a record that failed after it was accepted."""
        self.sent = [other for other in self.sent if other is not record]

    def fail_next(self, error: KafkaError, topic: str | None, count: int | None) -> None:
        """Order an error for records that are accepted from now on."""
        self._failures.append(_Failure(error, topic, count))

    def failure_for(self, topic: str) -> KafkaError | None:
        """The error ordered for a record of this topic, which counts as used."""
        for failure in self._failures:
            if failure.topic in (None, topic):
                if failure.left is not None:
                    failure.left -= 1
                    if not failure.left:
                        self._failures.remove(failure)
                return failure.error
        return None

    def set_held(self, is_held: bool) -> None:
        """Leave records without outcome, or go on with them."""
        self.is_held = is_held
        for sender in list(self._senders):
            sender.held_changed()

    def set_full(self, is_full: bool) -> None:
        """Let the buffer refuse every record, or take them again."""
        self.is_full = is_full
        for sender in list(self._senders):
            sender.full_changed()

    def clear(self) -> None:
        """Forget everything; topics keep their numbers of partitions."""
        self.sent = []
        self._failures.clear()
        self._next_offsets.clear()
        self.set_full(False)
        self.set_held(False)


class Given:
    """The key and value of the record that is about to be accepted, as they were given."""

    def __init__(self) -> None:
        self._record: tuple[Any, Any] = (None, None)

    def note(self, key: Any, value: Any) -> tuple[Any, Any]:
        """Note what the next record is made of; returns what was noted before."""
        before, self._record = self._record, (key, value)
        return before

    def take(self) -> tuple[Any, Any]:
        """Return the key and value that were noted last, and forget them."""
        record, self._record = self._record, (None, None)
        return record
