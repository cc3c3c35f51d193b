"""The values that a user hands in and gets back. No behaviour, no dependencies.

`ProducerRecord` goes in, `RecordMetadata` comes out; `TopicPartition` names where.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias

__all__ = ["Header", "Headers", "ProducerRecord", "RecordMetadata", "TopicPartition"]

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # What keys and values are before they are serialized: anything, unless the user says so.
    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
else:
    # Before Python 3.13 a default (PEP 696) needs a package, which type checkers have built in.
    from typing import TypeVar

    K = TypeVar("K")
    V = TypeVar("V")

Header: TypeAlias = tuple[str, bytes | None]
"""A record header: a name, and a value that may be None."""

Headers: TypeAlias = Sequence[Header] | Mapping[str, bytes | None]
"""The headers of one record: a list or tuple of pairs, in which names may repeat, or a dict."""


class TopicPartition(NamedTuple):
    """A partition of a topic; prints as `payments-3`, the way Kafka writes it."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True, slots=True)
class ProducerRecord(Generic[K, V]):
    """A record to send, for callers who carry all of it in one value.

    Attributes:
        topic: Where to. Letters, digits, `.`, `_` and `-`, at most 249 of them.
        value: What the value serializer takes; None is a tombstone.
        key: What the key serializer takes; None means no key, an empty key is a key.
        partition: An explicit partition, or None to let the partitioner choose.
        headers: `(name, value)` pairs in order, or a dict.
        timestamp_ms: CreateTime in milliseconds since the epoch, or None for now.
    """

    topic: str
    value: V | None = None
    key: K | None = None
    partition: int | None = None
    headers: Headers | None = None
    timestamp_ms: int | None = None

    if not TYPE_CHECKING:
        # `ProducerRecord[bytes, bytes](...)` by way of typing's own alias fails for a frozen class
        # with slots (Python 3.11).
        __class_getitem__ = classmethod(GenericAlias)


class RecordMetadata(NamedTuple):
    """Where a record was stored, as the broker acknowledged it.

    Attributes:
        topic: The topic.
        partition: The partition.
        offset: The record's own offset; -1 when the broker did not say (`acks=0`, or a
            duplicate older than the broker remembers).
        timestamp_ms: The timestamp stored with the record, in milliseconds: the record's own
            (CreateTime) or the broker's (LogAppendTime).
        is_log_append_time: True when the topic is configured with LogAppendTime.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    is_log_append_time: bool = False

    @property
    def topic_partition(self) -> TopicPartition:
        """The topic and partition as one value."""
        return TopicPartition(self.topic, self.partition)
