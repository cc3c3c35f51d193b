"""The values that a user hands in and gets back. No behaviour, no dependencies.

`ProducerRecord` goes in, `RecordMetadata` comes out; `TopicPartition` names where. `TypedTopic` is
what a record knows of a `Topic` (topic.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias, overload

__all__ = [
    "TOPIC_NAMES",
    "Header",
    "Headers",
    "ProducerRecord",
    "RecordMetadata",
    "TopicPartition",
    "TypedTopic",
    "is_topic_name",
]

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

# Those of a topic, beside those of a producer.
TopicK = TypeVar("TopicK")
TopicV = TypeVar("TopicV")

Header: TypeAlias = tuple[str, bytes | None]
"""A record header: a name, and a value that may be None."""

Headers: TypeAlias = Sequence[Header] | Mapping[str, bytes | None]
"""The headers of one record: a list or tuple of pairs, in which names may repeat, or a mapping.

The type admits other sequences too, for `list` alone would not admit a `list[tuple[str, bytes]]`;
the call refuses them."""


_set = object.__setattr__

_TOPIC_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")

TOPIC_NAMES: Final = "1 to 249 letters, digits, '.', '_' and '-', not '.' or '..'"
"""What `is_topic_name` allows, for a reader."""


def is_topic_name(name: str) -> bool:
    """Return whether Kafka has such names (org.apache.kafka.common.internals.Topic)."""
    return _TOPIC_NAME.fullmatch(name) is not None and name not in (".", "..")


class TypedTopic(Generic[K, V]):
    """A topic's name with the types of its keys and values.

    The base of `aioproducer.Topic`, which makes it. It cannot be changed.
    """

    __slots__ = ("_name", "_serializers")

    _name: str
    _serializers: object
    """What the send path takes the name and the serializers from (`TopicSerializers`)."""

    def __init__(self, name: str, serializers: object) -> None:
        _set(self, "_name", name)
        _set(self, "_serializers", serializers)

    @property
    def name(self) -> str:
        """The topic's name."""
        return self._name


class TopicPartition(NamedTuple):
    """A partition of a topic; prints as `payments-3`, the way Kafka writes it."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True, slots=True, init=False)
class ProducerRecord(Generic[K, V]):
    """A record to send, for callers who carry all of it in one value.

    Attributes:
        topic: Where to. Letters, digits, `.`, `_` and `-`, at most 249 of them. Give a `Topic` to
            have its serializers; this is then its name.
        value: What the value serializer takes; None is a tombstone.
        key: What the key serializer takes; None means no key, an empty key is a key.
        partition: An explicit partition, or None to let the partitioner choose.
        headers: `(name, value)` pairs in order, or a dict.
        timestamp_ms: CreateTime in milliseconds since the epoch, or None for now.
        typed_topic: The `Topic` that was given; None if only a name was, or if
            `dataclasses.replace` has named another topic.
    """

    topic: str
    value: V | None
    key: K | None
    partition: int | None
    headers: Headers | None
    timestamp_ms: int | None
    typed_topic: TypedTopic[Any, Any] | None = field(repr=False)

    @overload
    def __init__(
        self,
        topic: str,
        value: V | None = None,
        key: K | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
    ) -> None: ...
    @overload
    def __init__(
        # A record for a Topic is checked against that here, and then goes to any producer.
        self: ProducerRecord[Any, Any],
        topic: TypedTopic[TopicK, TopicV],
        value: TopicV | None = None,
        key: TopicK | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
    ) -> None: ...
    def __init__(
        self,
        topic: str | TypedTopic[Any, Any],
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
        *,
        typed_topic: TypedTopic[Any, Any] | None = None,
    ) -> None:
        # Written out: a `__post_init__` behind the one of a dataclass costs a fourth more.
        if isinstance(topic, TypedTopic):
            typed_topic = topic
            topic = topic.name
        elif typed_topic is not None and typed_topic.name != topic:
            typed_topic = None
        _set(self, "topic", topic)
        _set(self, "value", value)
        _set(self, "key", key)
        _set(self, "partition", partition)
        _set(self, "headers", headers)
        _set(self, "timestamp_ms", timestamp_ms)
        _set(self, "typed_topic", typed_topic)

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
