"""What a `MockProducer` stores, and what a test ordered to go wrong. No loop, no clock.

    SentRecord  a record as a test sees it
    MockBroker  records, offsets and orders; shared by the senders of all loops
    Given       keys and values before they were serialized

Invariant: `sent` holds the records accepted, without those that failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeAlias
from weakref import WeakSet

from aioproducer.errors import KafkaError
from aioproducer.records import Header, K, TopicPartition, V

__all__ = ["Given", "MockBroker", "MockBrokerListener", "SentRecord"]

Serialized: TypeAlias = bytes | bytearray | memoryview
Serialize: TypeAlias = Callable[[str, Any], Serialized]
Serializers: TypeAlias = tuple[Serialize | None, Serialize | None]


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
    """The keys and values as they were given, noted where they are serialized.

    The serializers run before the accumulator takes the record, in the same call.
    """

    def __init__(self) -> None:
        self._key: tuple[object, Serialized | None] = (None, None)
        self._value: tuple[object, Serialized | None] = (None, None)

    def noting(self, serializers: Serializers) -> Serializers:
        """Return the serializers, extended so that they note what they are given."""
        key, value = serializers
        return (
            None if key is None else partial(self._serialize_key, key),
            None if value is None else partial(self._serialize_value, value),
        )

    def of(self, key: bytes | None, value: bytes | None) -> tuple[Any, Any]:
        """The key and value that were serialized to these bytes; the bytes if none were."""
        given_key, key_bytes = self._key
        given_value, value_bytes = self._value
        return (
            given_key if key is not None and key == key_bytes else key,
            given_value if value is not None and value == value_bytes else value,
        )

    def keep(self) -> Callable[[], None]:
        """Keep what was noted last, for a record that has to wait; returns how to note it again."""
        key, value = self._key, self._value

        def note_again() -> None:
            self._key, self._value = key, value

        return note_again

    def _serialize_key(self, serialize: Serialize, topic: str, key: Any) -> Serialized:
        data = serialize(topic, key)
        self._key = (key, data)
        return data

    def _serialize_value(self, serialize: Serialize, topic: str, value: Any) -> Serialized:
        data = serialize(topic, value)
        self._value = (value, data)
        return data
