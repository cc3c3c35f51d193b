"""The shapes of what a user may plug in: serializers, a partitioner, callbacks.

Types only. All of them are called on the event loop, so they must not block; but for the providers
of secrets, which are called in a thread if they are plain functions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Never, Protocol, TypeAlias, TypeVar

from aioproducer.errors import KafkaError
from aioproducer.records import Header, ProducerRecord, RecordMetadata

__all__ = [
    "OAuthToken",
    "OAuthTokenProvider",
    "OnDelivery",
    "OnError",
    "OnUndelivered",
    "Partitioner",
    "PartitionerOption",
    "SecretProvider",
    "Serializer",
    "SerializerName",
    "SerializerOption",
    "SerializerWithHeaders",
    "UndeliveredRecord",
]

T_contra = TypeVar("T_contra", contravariant=True)

OnDelivery: TypeAlias = Callable[[RecordMetadata | None, KafkaError | None], object]
"""Called once for one record, with its metadata or with its error, never with both.

Records of one partition are reported in the order in which they were sent. What it returns is
ignored. If it raises, the exception goes to the loop's exception handler and harms nothing else.
"""

OnError: TypeAlias = Callable[[KafkaError, int], object]
"""Called once per failed batch with the error and the number of records lost with it.

This is how the failures of records sent and forgotten are seen: a failed `Delivery` that nobody
awaits logs nothing. Never called per record, nor for an error raised at the call itself (a bad
topic, a value the serializer refuses, a full buffer), because the caller has seen that one.
What it returns is ignored; if it raises, the exception goes to the loop's exception handler.
"""


@dataclass(frozen=True, slots=True)
class UndeliveredRecord:
    """A record that `close` gave up on.

    Attributes:
        record: The record as it was to be stored: key and value are the serialized bytes.
        error: Why; `error.possibly_persisted` says whether it may be stored nevertheless.
    """

    record: ProducerRecord[bytes, bytes]
    error: KafkaError


OnUndelivered: TypeAlias = Callable[[Sequence[UndeliveredRecord]], object]
"""Called once by a `close` that could not deliver everything, with what it returns.

May be a coroutine function: `close` awaits what it returns. If it raises, the exception goes to
the loop's exception handler.
"""


class Serializer(Protocol[T_contra]):
    """Turns the keys or values of one type into bytes, and may look at the topic to do so."""

    def serialize(self, topic: str, value: T_contra, /) -> bytes:
        """Return the bytes to store.

        Never called with None: a record without key, or a tombstone, bypasses the serializer.
        An exception fails the one call of `send`, with nothing queued. It reaches the caller as
        the cause of a `SerializationError`; raise `SerializationError` with a sentence that
        holds no payload to have that sentence in the message.
        """
        ...


class SerializerWithHeaders(Protocol[T_contra]):
    """A `Serializer` that looks at the headers of the record too, such as a content type.

    Known by its `serialize`, once, when the producer or the `Topic` is made: it cannot be called
    with two arguments, or its third parameter is named `headers`.
    """

    def serialize(self, topic: str, value: T_contra, headers: tuple[Header, ...], /) -> bytes:
        """Return the bytes to store, as `Serializer.serialize` does.

        Args:
            topic: The topic's name.
            value: The key or value; never None.
            headers: `(name, value)` pairs as they will be stored, in order; empty without any.
        """
        ...


SerializerName: TypeAlias = Literal[
    "bytes", "string", "json", "integer", "long", "short", "float", "double", "uuid"
]
"""The ready serializers, by name."""

SerializerOption: TypeAlias = (
    SerializerName
    | Serializer[Never]
    | SerializerWithHeaders[Never]
    | Callable[[Never], bytes | bytearray | memoryview]
)
"""A ready serializer's name, a `Serializer`, with headers or without, or a plain callable that
takes the value.

`Never` as the type of an argument allows a callable of any type.
"""


class Partitioner(Protocol):
    """Chooses the partition of every record that does not name one itself."""

    def __call__(
        self,
        topic: str,
        key: bytes | None,
        partitions: Sequence[int],
        available: Sequence[int],
        /,
    ) -> int:
        """Return one of `partitions`.

        Args:
            topic: The record's topic.
            key: The serialized key; None means no key, an empty key is a key.
            partitions: All partitions of the topic, ordered by id; never empty.
            available: Those that have a leader now, ordered by id; may be empty.
        """
        ...


PartitionerOption: TypeAlias = Literal["round_robin"] | Partitioner
"""A ready partitioner's name, or your own callable."""


@dataclass(frozen=True, slots=True)
class OAuthToken:
    """A bearer token for SASL OAUTHBEARER (KIP-255).

    Attributes:
        value: The token as it is sent, most often a JWT; never shown.
        expires_at: When it ends, in seconds since 1970. None: what the claim `exp` of a JWT says;
            a token of another kind is then asked for anew for each connection.
        extensions: SASL extensions to send with it (KIP-342), such as Confluent Cloud's
            `logicalCluster` and `identityPoolId`; those of `sasl_oauthbearer_extensions` are added.
    """

    value: str = field(repr=False)
    expires_at: float | None = None
    extensions: Mapping[str, str] = field(default_factory=dict[str, str])


OAuthTokenProvider: TypeAlias = Callable[
    [], str | OAuthToken | Awaitable[str] | Awaitable[OAuthToken]
]
"""Returns a valid token; a coroutine function, or a plain one, which is called in a thread.

Called when a connection needs a token and the last one is about to expire, by one connection at a
time for all of a producer. An exception fails the attempt to connect, and is shown in its error:
it should hold no secret.
"""

SecretProvider: TypeAlias = Callable[[], str | Awaitable[str]]
"""Returns a secret as it is now; a coroutine function, or a plain one, which is called in a thread.

Called for each new connection, so that a secret that was rotated is used from then on.
"""
