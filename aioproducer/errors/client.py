"""The errors that the client makes itself: Kafka has no code for them.

Each makes its text from its attributes, in `what()`, so that whoever raises it writes no message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Unpack

from aioproducer.errors.base import ErrorContext, KafkaError, seconds

__all__ = [
    "AuthenticationError",
    "BufferExhaustedError",
    "ConfigError",
    "InvalidPartitionError",
    "KafkaConnectionError",
    "KafkaTimeoutError",
    "ListenerMismatchError",
    "ProducerClosedError",
    "ProducerNotStartedError",
    "ProtocolError",
    "RecordTooLargeError",
    "SerializationError",
    "TlsError",
    "TransactionAbortedError",
    "TransactionFailedError",
    "TransactionStateError",
    "UnknownErrorCodeError",
    "WrongEventLoopError",
]

_SECRET_WORDS = (
    "password",
    "secret",
    "jaas",
    "passphrase",
    "key_pem",
    "store_key",
    "assertion",
    "token_provider",  # A token itself is a mistake that is made.
)
_NOT_GIVEN: Any = object()


class ConfigError(KafkaError, ValueError):
    """An option is unknown, impossible, or in conflict with another one.

    Attributes:
        option: The option's name.
        value: The value given; `"<hidden>"` where it could be a secret.
        allowed: What is allowed, for a reader.
    """

    def __init__(
        self,
        message: str = "",
        *,
        option: str = "",
        value: object = _NOT_GIVEN,
        allowed: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.option = option
        self.allowed = allowed
        self._shown = ""
        self.value: object = None
        if value is not _NOT_GIVEN:
            name = option.lower().replace(".", "_")
            hidden = any(word in name for word in _SECRET_WORDS) and value is not None
            self.value = "<hidden>" if hidden else value
            self._shown = "<hidden>" if hidden else _show(value)

    def what(self) -> str:
        """Return the option, the value given and what is wrong with it."""
        text = self.message.rstrip(". ") or ("not allowed" if self.option else self.description)
        if self.option:
            setting = f"{self.option}={self._shown}" if self._shown else self.option
            text = f"{setting}: {text}"
        return f"{text.rstrip('. ')}; allowed: {self.allowed}" if self.allowed else text


class SerializationError(KafkaError):
    """A part of the record could not be turned into bytes; nothing was queued.

    Attributes:
        topic: The record's topic.
        field: The part: `"key"`, `"value"` or `"headers"`.
        got_type: The name of the type that was given.
        expected_type: What the serializer takes, such as the type that a `Topic` names; empty
            where the type is not what was wrong, or where it takes several.
    """

    def __init__(
        self,
        message: str = "",
        *,
        topic: str = "",
        field: Literal["key", "value", "headers"] = "value",
        got_type: str = "",
        expected_type: str = "",
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(message, **context)
        self.topic = topic
        self.field = field
        self.got_type = got_type
        self.expected_type = expected_type
        if context.get("hint") is None:
            self.hint = (
                "Headers are (str, bytes or None) pairs."
                if field == "headers"
                else f"Pass bytes, or set {field}_serializer."
            )

    def what(self) -> str:
        """Return topic, field, the type given and what the serializer said."""
        subject = f"The {self.field} of a record for topic {self.topic!r}"
        if self.field == "headers":
            subject = f"The headers of a record for topic {self.topic!r}"
        given = f" (type {self.got_type})" if self.got_type else ""
        said = f": {self.message}" if self.message else ""
        return f"{subject} cannot be serialized{given}{said}"


class KafkaTimeoutError(KafkaError, TimeoutError):
    """Something took longer than its bound.

    Attributes:
        waited: How long, in seconds.
        waiting_for: What for, such as `"the metadata of topic payments"`.
        last_broker_error: The last error in a broker's response meanwhile.
        last_connect_error: The last failure to connect meanwhile.
    """

    retriable = True

    def __init__(
        self,
        message: str = "",
        *,
        waited: float = 0.0,
        waiting_for: str = "",
        last_broker_error: KafkaError | None = None,
        last_connect_error: Exception | None = None,
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(message, **context)
        self.waited = waited
        self.waiting_for = waiting_for
        self.last_broker_error = last_broker_error
        self.last_connect_error = last_connect_error

    def what(self) -> str:
        """Return what was waited for, how long, and the last errors seen meanwhile."""
        parts: list[str] = []
        if self.message:
            parts.append(self.message.rstrip(". "))
        if self.waiting_for:
            parts.append(f"Waited {seconds(self.waited)} for {self.waiting_for}")
        if not parts:
            parts.append(self.description.rstrip(". "))
        if self.last_broker_error is not None:
            parts.append(f"the last broker error was {_short(self.last_broker_error)}")
        if self.last_connect_error is not None:
            parts.append(f"the last connect error was {_short(self.last_connect_error)}")
        return "; ".join(parts)

    def _outcome(self) -> str:
        if self.topic_partition is not None and not self.possibly_persisted:
            return f"The record was not stored{' so far' if self.is_pending else ''}."
        return super()._outcome()


class BufferExhaustedError(KafkaTimeoutError):
    """The record buffer is full; the record was not accepted.

    `send_nowait` raises it at once; `send` and others wait for buffer space first.

    Attributes:
        requested_bytes: What the record needs.
        available_bytes: What was free.
        total_bytes: The size of the buffer, `buffer_memory`.
        requests_in_flight: How many requests waited for their responses.
        waiting_callers: How many callers waited for buffer space.
        slowest_broker: The broker that has kept records waiting longest, and what it does.
    """

    hint = "Send slower, await send(), or raise buffer_memory."

    def __init__(
        self,
        message: str = "",
        *,
        requested_bytes: int = 0,
        available_bytes: int = 0,
        total_bytes: int = 0,
        requests_in_flight: int = 0,
        waiting_callers: int = 0,
        slowest_broker: str = "",
        waited: float = 0.0,
        waiting_for: str = "",
        last_connect_error: Exception | None = None,
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(
            message,
            waited=waited,
            waiting_for=waiting_for,
            last_connect_error=last_connect_error,
            **context,
        )
        self.requested_bytes = requested_bytes
        self.available_bytes = available_bytes
        self.total_bytes = total_bytes
        self.requests_in_flight = requests_in_flight
        self.waiting_callers = waiting_callers
        self.slowest_broker = slowest_broker

    def what(self) -> str:
        """Return the sizes, and how long the caller waited for buffer space."""
        text = (
            f"No buffer space for {self.requested_bytes} bytes: {self.available_bytes} of "
            f"{self.total_bytes} bytes of buffer_memory are free"
        )
        text += f"; requests in flight: {self.requests_in_flight}"
        text += f", callers waiting: {self.waiting_callers}"
        if self.slowest_broker:
            text += f", slowest broker: {self.slowest_broker}"
        if not (self.message or self.waiting_for):
            return text
        return f"{super().what()}; {text[0].lower()}{text[1:]}"


class KafkaConnectionError(KafkaError, ConnectionError):
    """No broker could be reached.

    Attributes:
        reasons: Why, for each address tried.
    """

    retriable = True

    def __init__(
        self,
        message: str = "",
        *,
        reasons: Mapping[str, str] | None = None,
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(message, **context)
        self.reasons: Mapping[str, str] = dict(reasons or {})

    def what(self) -> str:
        """Return each address with its reason."""
        text = (self.message or self.description).rstrip(". ")
        if not self.reasons:
            return text
        return f"{text}: " + "; ".join(f"{at}: {why}" for at, why in self.reasons.items())


class ListenerMismatchError(KafkaConnectionError):
    """An address answers, but not as a Kafka listener of this `security_protocol` does.

    `Producer.start` raises it at once where `is_certain`, and else when it stays so for some
    seconds: a broker or load balancer that starts may hang up on everybody, too.

    Attributes:
        is_certain: The other side showed what it speaks, and did not only hang up.
    """

    retriable = False

    def __init__(
        self,
        message: str = "",
        *,
        is_certain: bool = False,
        reasons: Mapping[str, str] | None = None,
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(message, reasons=reasons, **context)
        self.is_certain = is_certain


class AuthenticationError(KafkaError):
    """The broker and the client could not prove to each other who they are.

    Its subclasses say where: `TlsError`, and the broker's `SaslAuthenticationFailedError`,
    `UnsupportedSaslMechanismError` and `IllegalSaslStateError`. `Producer.start` raises it at
    once; when it comes up later, records wait for their `delivery_timeout_ms`, for credentials may
    be mended on either side.
    """


class TlsError(AuthenticationError):
    """The TLS handshake failed: one side does not trust the other's certificate, or speaks no TLS.

    `__cause__` is Python's `ssl.SSLError`, if there was one. As Java's SslAuthenticationException.
    """


class RecordTooLargeError(KafkaError):
    """The record is larger than it may be.

    Raised by the client for `max_request_size`; `MessageTooLargeError` is the broker's.

    Attributes:
        size: The record's size when encoded, in bytes; 0 if not known.
        compressed_size: Its size as it was sent, if it was compressed.
        limit: The bound it broke; 0 if only the broker knows.
        limit_name: The option that sets the bound.
    """

    hint = "Raise max_request_size, and message.max.bytes on the broker with it."

    def __init__(
        self,
        message: str = "",
        *,
        size: int = 0,
        compressed_size: int | None = None,
        limit: int = 0,
        limit_name: str = "max_request_size",
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(message, **context)
        self.size = size
        self.compressed_size = compressed_size
        self.limit = limit
        self.limit_name = limit_name

    def what(self) -> str:
        """Return the size, the limit and the option that sets it."""
        text = (self.message or self.description).rstrip(". ")
        if self.size and self.limit:
            if self.message:
                return text
            text = f"The record has {self.size} bytes, more than {self.limit_name}={self.limit}"
        elif self.size:
            text += f": it has {self.size} bytes"
        if self.compressed_size is not None:
            text += f", {self.compressed_size} when compressed"
        return text


class InvalidPartitionError(KafkaError):
    """The topic has no such partition.

    Attributes:
        partition_count: How many partitions the topic has, if known.
    """

    def __init__(
        self,
        message: str = "",
        *,
        partition_count: int | None = None,
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(message, **context)
        self.partition_count = partition_count

    def what(self) -> str:
        """Return the partition asked for and how many there are."""
        if self.message or self.topic_partition is None or self.partition_count is None:
            return super().what()
        topic, partition = self.topic_partition
        return f"Topic {topic!r} has {self.partition_count} partitions, so no partition {partition}"


class ProducerClosedError(KafkaError):
    """The producer is closed, or was closed before the record was acknowledged."""


class ProducerNotStartedError(KafkaError):
    """The producer has not been started."""

    hint = "Use `async with Producer(...)`, or await start() first."


class TransactionStateError(KafkaError):
    """The producer's transaction is not in a state that allows this call; nothing was changed."""


class TransactionFailedError(KafkaError):
    """A part of the transaction failed, so it must be aborted; then another one may begin.

    `__cause__` is the first failure, most often that of a record. One that leaves the block of
    `transaction()` says by its hint that the transaction was aborted.
    """

    hint = "Call abort_transaction(), then begin another one."
    requires_abort = True


class TransactionAbortedError(KafkaError):
    """The record was dropped with its transaction, which was aborted or failed.

    As Java's TransactionAbortedException.
    """


class WrongEventLoopError(KafkaError):
    """The producer belongs to another event loop than the one that runs now."""

    hint = "Make one producer per event loop, and use it only in there."


class ProtocolError(KafkaError):
    """What came over the wire is not what a Kafka broker sends."""


class UnknownErrorCodeError(KafkaError):
    """The broker answered with an error code that this client does not know.

    Not retriable: such a code may mean that the record was written.

    Attributes:
        unknown_code: The number on the wire.
    """

    leaves_outcome_unknown = True
    hint = "Look the code up in the broker's version of Kafka, and update aioproducer."

    def __init__(
        self,
        message: str = "",
        *,
        unknown_code: int | None = None,
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(message, **context)
        self.unknown_code = unknown_code

    def what(self) -> str:
        """Return the number, and the broker's text if there was one."""
        if self.unknown_code is None:
            return super().what()
        text = f"The broker answered with error code {self.unknown_code}, unknown to this client"
        return f"{text}: {self.message}" if self.message else text


def _show(value: object) -> str:
    if value is None or isinstance(value, (bool, int, float, str)):
        text = repr(value)
        return text if len(text) <= 100 else text[:97] + "..."
    return f"<{type(value).__name__}>"


def _short(error: BaseException) -> str:
    if isinstance(error, KafkaError):
        return f"{error.name or type(error).__name__}: {error.what().rstrip('. ')}"
    return f"{type(error).__name__}: {error}".rstrip(": ")
