"""Every error a producer can raise: one tree under `KafkaError`. Values, no behaviour.

Two kinds. *Broker errors* carry Kafka's number and name, one class per code of Kafka 4.3's
error table (`NotLeaderOrFollowerError.code == 6`); *client errors* are made here and have no
code. The flags on the classes are the table that retry.py reads; they never depend on an
instance. No message holds a payload or a secret.

An instance belongs to one task. Where one failure is told to many (every record of a batch),
each of them raises its own `again()`: a shared instance would collect all their tracebacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, TypedDict, TypeVar, Unpack

from aioproducer.records import TopicPartition

__all__ = [
    "BrokerIdNotRegisteredError",
    "BrokerNotAvailableError",
    "BufferExhaustedError",
    "ClusterAuthorizationFailedError",
    "ConcurrentTransactionsError",
    "ConfigError",
    "CoordinatorLoadInProgressError",
    "CoordinatorNotAvailableError",
    "CorruptMessageError",
    "DelegationTokenAuthDisabledError",
    "DelegationTokenAuthorizationFailedError",
    "DelegationTokenExpiredError",
    "DelegationTokenNotFoundError",
    "DelegationTokenOwnerMismatchError",
    "DelegationTokenRequestNotAllowedError",
    "DuplicateBrokerRegistrationError",
    "DuplicateResourceError",
    "DuplicateSequenceNumberError",
    "DuplicateVoterError",
    "ElectionNotNeededError",
    "EligibleLeadersNotAvailableError",
    "ErrorContext",
    "FeatureUpdateFailedError",
    "FencedInstanceIdError",
    "FencedLeaderEpochError",
    "FencedMemberEpochError",
    "FencedStateEpochError",
    "FetchSessionIdNotFoundError",
    "FetchSessionTopicIdError",
    "GroupAuthorizationFailedError",
    "GroupIdNotFoundError",
    "GroupMaxSizeReachedError",
    "GroupSubscribedToTopicError",
    "IllegalGenerationError",
    "IllegalSaslStateError",
    "InconsistentClusterIdError",
    "InconsistentGroupProtocolError",
    "InconsistentTopicIdError",
    "InconsistentVoterSetError",
    "IneligibleReplicaError",
    "InvalidCommitOffsetSizeError",
    "InvalidConfigError",
    "InvalidFetchSessionEpochError",
    "InvalidFetchSizeError",
    "InvalidGroupIdError",
    "InvalidPartitionError",
    "InvalidPartitionsError",
    "InvalidPrincipalTypeError",
    "InvalidProducerEpochError",
    "InvalidProducerIdMappingError",
    "InvalidRecordError",
    "InvalidRecordStateError",
    "InvalidRegistrationError",
    "InvalidRegularExpressionError",
    "InvalidReplicaAssignmentError",
    "InvalidReplicationFactorError",
    "InvalidRequestError",
    "InvalidRequiredAcksError",
    "InvalidSessionTimeoutError",
    "InvalidShareSessionEpochError",
    "InvalidTimestampError",
    "InvalidTopicError",
    "InvalidTransactionTimeoutError",
    "InvalidTxnStateError",
    "InvalidUpdateVersionError",
    "InvalidVoterKeyError",
    "KafkaConnectionError",
    "KafkaError",
    "KafkaStorageError",
    "KafkaTimeoutError",
    "LeaderNotAvailableError",
    "ListenerNotFoundError",
    "LogDirNotFoundError",
    "MemberIdRequiredError",
    "MessageTooLargeError",
    "MismatchedEndpointTypeError",
    "NetworkError",
    "NewLeaderElectedError",
    "NoReassignmentInProgressError",
    "NonEmptyGroupError",
    "NotControllerError",
    "NotCoordinatorError",
    "NotEnoughReplicasAfterAppendError",
    "NotEnoughReplicasError",
    "NotLeaderOrFollowerError",
    "OffsetMetadataTooLargeError",
    "OffsetMovedToTieredStorageError",
    "OffsetNotAvailableError",
    "OffsetOutOfRangeError",
    "OperationNotAttemptedError",
    "OutOfOrderSequenceNumberError",
    "PolicyViolationError",
    "PositionOutOfRangeError",
    "PreferredLeaderNotAvailableError",
    "PrincipalDeserializationFailureError",
    "ProducerClosedError",
    "ProducerFencedError",
    "ProducerNotStartedError",
    "ProtocolError",
    "ReassignmentInProgressError",
    "RebalanceInProgressError",
    "RebootstrapRequiredError",
    "RecordListTooLargeError",
    "RecordTooLargeError",
    "ReplicaNotAvailableError",
    "RequestTimedOutError",
    "ResourceNotFoundError",
    "SaslAuthenticationFailedError",
    "SecurityDisabledError",
    "SerializationError",
    "ShareSessionLimitReachedError",
    "ShareSessionNotFoundError",
    "SnapshotNotFoundError",
    "StaleBrokerEpochError",
    "StaleControllerEpochError",
    "StaleMemberEpochError",
    "StreamsInvalidTopologyEpochError",
    "StreamsInvalidTopologyError",
    "StreamsTopologyFencedError",
    "TelemetryTooLargeError",
    "ThrottlingQuotaExceededError",
    "TopicAlreadyExistsError",
    "TopicAuthorizationFailedError",
    "TopicDeletionDisabledError",
    "TransactionAbortableError",
    "TransactionCoordinatorFencedError",
    "TransactionalIdAuthorizationFailedError",
    "TransactionalIdNotFoundError",
    "UnacceptableCredentialError",
    "UnknownControllerIdError",
    "UnknownErrorCodeError",
    "UnknownLeaderEpochError",
    "UnknownMemberIdError",
    "UnknownProducerIdError",
    "UnknownServerError",
    "UnknownSubscriptionIdError",
    "UnknownTopicIdError",
    "UnknownTopicOrPartitionError",
    "UnreleasedInstanceIdError",
    "UnstableOffsetCommitError",
    "UnsupportedAssignorError",
    "UnsupportedCompressionTypeError",
    "UnsupportedEndpointTypeError",
    "UnsupportedForMessageFormatError",
    "UnsupportedSaslMechanismError",
    "UnsupportedVersionError",
    "VoterNotFoundError",
    "WrongEventLoopError",
    "broker_error",
    "error_for_code",
]

_Error = TypeVar("_Error", bound="KafkaError")

_MAX_BROKER_TEXT = 500
_SECRET_WORDS = ("password", "secret", "token", "jaas", "passphrase", "credential", "store_key")
_NOT_GIVEN: Any = object()

_by_code: dict[int, type[KafkaError]] = {}


class ErrorContext(TypedDict, total=False):
    """What every error can tell about its record: the keywords of `KafkaError`."""

    topic_partition: TopicPartition | None
    broker: str | None
    attempts: int
    possibly_persisted: bool | None
    hint: str | None


class KafkaError(Exception):
    """The base of everything this package raises on purpose.

    Attributes:
        code: Kafka's number for the error; None when the client made it.
        name: Kafka's name for the error, such as `NOT_LEADER_OR_FOLLOWER`; else empty.
        retriable: Trying again can help. The producer does so by itself until
            `delivery_timeout_ms` is over.
        refreshes_metadata: The client's view of the cluster is stale.
        fatal: This producer cannot send any more and must be closed.
        leaves_doubt: By its nature, the error does not say whether the record was stored.
        description: What the error means, as a sentence.
        hint: What the user can change, as a sentence; may be empty.
        message: What happened this time; empty where the description says it all.
        topic_partition: Where the record was going.
        broker: The broker that answered, as `host:port` or an id.
        attempts: How often the request was sent.
        possibly_persisted: True when the record may have been stored nevertheless, so that
            sending it again can store it twice.
    """

    code: ClassVar[int | None] = None
    name: ClassVar[str] = ""
    retriable: ClassVar[bool] = False
    refreshes_metadata: ClassVar[bool] = False
    fatal: ClassVar[bool] = False
    leaves_doubt: ClassVar[bool] = False
    description: ClassVar[str] = "The producer failed."
    hint: str = ""

    def __init_subclass__(
        cls,
        *,
        code: int | None = None,
        name: str | None = None,
        retriable: bool | None = None,
        refreshes_metadata: bool | None = None,
        fatal: bool | None = None,
        leaves_doubt: bool | None = None,
    ) -> None:
        super().__init_subclass__()
        if code is not None:
            cls.code = code
            _by_code[code] = cls
        if name is not None:
            cls.name = name
        if retriable is not None:
            cls.retriable = retriable
        if refreshes_metadata is not None:
            cls.refreshes_metadata = refreshes_metadata
        if fatal is not None:
            cls.fatal = fatal
        if leaves_doubt is not None:
            cls.leaves_doubt = leaves_doubt
        # The docstring is the description: said once. Under `python -OO` only the name is left.
        summary, _, _ = (cls.__dict__.get("__doc__") or "").partition("\n\n")
        cls.description = " ".join(summary.split()) or f"{cls.name or cls.__name__}."

    def __init__(
        self,
        message: str = "",
        *,
        topic_partition: TopicPartition | None = None,
        broker: str | None = None,
        attempts: int = 0,
        possibly_persisted: bool | None = None,
        hint: str | None = None,
    ) -> None:
        """Describe one failure.

        Args:
            message: What happened, for a reader; empty to use the class's description.
            topic_partition: Where the record was going.
            broker: The broker that answered.
            attempts: How often the request was sent.
            possibly_persisted: Whether the record may have been stored; None for what is
                true of this kind of error by itself (`leaves_doubt`).
            hint: What to change, where it differs from the class's hint.
        """
        super().__init__(message)
        self.message = message
        self.topic_partition = topic_partition
        self.broker = broker
        self.attempts = attempts
        self.possibly_persisted = (
            self.leaves_doubt if possibly_persisted is None else possibly_persisted
        )
        if hint is not None:
            self.hint = hint

    def again(self) -> Self:
        """Return a new exception that says the same, to be raised in another task."""
        twin = _restore(type(self), self.args, self.__dict__)
        twin.__cause__ = self.__cause__
        twin.__suppress_context__ = self.__suppress_context__
        return twin

    def what(self) -> str:
        """Return what happened, without the where and the hint."""
        return self.message or self.description

    def __str__(self) -> str:
        where: list[str] = []
        if self.name:
            where.append(self.name)
        if self.topic_partition is not None:
            where.append(str(self.topic_partition))
        if self.broker is not None:
            where.append(f"broker {self.broker}")
        if self.attempts:
            where.append(f"after {self.attempts} attempt{'s' if self.attempts > 1 else ''}")
        what = self.what().rstrip(". ")
        parts = [f"{what} ({', '.join(where)})." if where else _sentence(what)]
        if fate := self._fate():
            parts.append(fate)
        if self.hint:
            parts.append(self.hint)
        return " ".join(parts)

    def _fate(self) -> str:
        return "The record may have been stored." if self.possibly_persisted else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(cls: type[_Error], args: tuple[object, ...], state: Mapping[str, object]) -> _Error:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


def _sentence(text: str) -> str:
    return text if text.endswith(("?", "!")) else f"{text}."


def _short(error: BaseException) -> str:
    if isinstance(error, KafkaError):
        return f"{error.name or type(error).__name__}: {error.what().rstrip('. ')}"
    return f"{type(error).__name__}: {error}".rstrip(": ")


def error_for_code(code: int) -> type[KafkaError]:
    """Return the class for a broker's error code.

    Args:
        code: The number on the wire; not 0, which means success.

    Returns:
        The class with that `code`, or `UnknownErrorCodeError`.
    """
    if code == 0:
        raise ValueError("error code 0 means success")
    return _by_code.get(code, UnknownErrorCodeError)


def broker_error(
    code: int, message: str | None = None, **context: Unpack[ErrorContext]
) -> KafkaError:
    """Make the error that a broker's answer stands for.

    Args:
        code: The number on the wire; not 0.
        message: The broker's own text, if it sent one. Cut to a bounded length.
        **context: The keywords of `KafkaError`.
    """
    cls = error_for_code(code)
    text = " ".join((message or "")[:_MAX_BROKER_TEXT].split())
    if cls is NetworkError:
        # It speaks of a connection behind it, on which a request was lost.
        context.setdefault("possibly_persisted", True)
    if cls is UnknownErrorCodeError:
        return UnknownErrorCodeError(text, unknown_code=code, **context)
    return cls(text, **context)


# Errors made by the client.


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
            hidden = any(word in option.lower() for word in _SECRET_WORDS) and value is not None
            self.value = "<hidden>" if hidden else value
            self._shown = "<hidden>" if hidden else _show(value)

    def what(self) -> str:
        """Return the option, the value given and what is wrong with it."""
        text = self.message.rstrip(". ") or ("not allowed" if self.option else self.description)
        if self.option:
            setting = f"{self.option}={self._shown}" if self._shown else self.option
            text = f"{setting}: {text}"
        return f"{text.rstrip('. ')}; allowed: {self.allowed}" if self.allowed else text


def _show(value: object) -> str:
    if value is None or isinstance(value, (bool, int, float, str)):
        text = repr(value)
        return text if len(text) <= 100 else text[:97] + "..."
    return f"<{type(value).__name__}>"


class SerializationError(KafkaError):
    """A part of the record could not be turned into bytes; nothing was queued.

    Attributes:
        topic: The record's topic.
        field: The part: `"key"`, `"value"` or `"headers"`.
        got_type: The name of the type that was given.
    """

    def __init__(
        self,
        message: str = "",
        *,
        topic: str = "",
        field: Literal["key", "value", "headers"] = "value",
        got_type: str = "",
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(message, **context)
        self.topic = topic
        self.field = field
        self.got_type = got_type
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


class BufferExhaustedError(KafkaError, retriable=True):
    """The record buffer is full.

    Attributes:
        requested_bytes: What the record needs.
        available_bytes: What was free.
        total_bytes: The size of the buffer, `buffer_memory`.
        waited: How long the call waited for room, in seconds.
        requests_in_flight: How many requests waited for their answers.
        waiting_callers: How many callers waited for room.
        slowest_broker: The broker that has kept records waiting longest, with what it is at.
    """

    hint = "Send slower, await send(), or raise buffer_memory."

    def __init__(
        self,
        message: str = "",
        *,
        requested_bytes: int = 0,
        available_bytes: int = 0,
        total_bytes: int = 0,
        waited: float = 0.0,
        requests_in_flight: int = 0,
        waiting_callers: int = 0,
        slowest_broker: str = "",
        **context: Unpack[ErrorContext],
    ) -> None:
        super().__init__(message, **context)
        self.requested_bytes = requested_bytes
        self.available_bytes = available_bytes
        self.total_bytes = total_bytes
        self.waited = waited
        self.requests_in_flight = requests_in_flight
        self.waiting_callers = waiting_callers
        self.slowest_broker = slowest_broker

    def what(self) -> str:
        """Return the sizes in question."""
        text = (
            f"No room for {self.requested_bytes} bytes: {self.available_bytes} of "
            f"{self.total_bytes} bytes of buffer_memory are free"
        )
        if self.waited:
            text += f" after waiting {self.waited:g} s"
        text += f"; requests in flight: {self.requests_in_flight}"
        text += f", callers waiting: {self.waiting_callers}"
        if self.slowest_broker:
            text += f", slowest broker: {self.slowest_broker}"
        return f"{text}; {self.message}" if self.message else text


class KafkaTimeoutError(KafkaError, TimeoutError, retriable=True):
    """Something took longer than its bound.

    Attributes:
        waited: How long, in seconds.
        waiting_for: What for, such as `"the metadata of topic payments"`.
        last_broker_error: The last error a broker answered with meanwhile.
        last_connect_error: The last failure to connect meanwhile.
    """

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
            parts.append(f"Waited {self.waited:g} s for {self.waiting_for}")
        if not parts:
            parts.append(self.description.rstrip(". "))
        if self.last_broker_error is not None:
            parts.append(f"the last broker error was {_short(self.last_broker_error)}")
        if self.last_connect_error is not None:
            parts.append(f"the last connect error was {_short(self.last_connect_error)}")
        return "; ".join(parts)

    def _fate(self) -> str:
        if self.topic_partition is not None and not self.possibly_persisted:
            return "The record was not stored."
        return super()._fate()


class KafkaConnectionError(KafkaError, ConnectionError, retriable=True):
    """No broker could be reached.

    Attributes:
        reasons: Why, for each address tried.
    """

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


class WrongEventLoopError(KafkaError):
    """The producer belongs to another event loop than the one that runs now."""

    hint = "Make one producer per event loop, and use it only in there."


class ProtocolError(KafkaError):
    """What came over the wire is not what a Kafka broker says."""


class UnknownErrorCodeError(KafkaError, leaves_doubt=True):
    """The broker answered with an error code that this client does not know.

    Not retriable: such a code may mean that the record was written.

    Attributes:
        unknown_code: The number on the wire.
    """

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


# Errors of the broker, in the order of Kafka's codes.


class UnknownServerError(KafkaError, code=-1, name="UNKNOWN_SERVER_ERROR", leaves_doubt=True):
    """The broker failed in a way it did not expect."""

    hint = "Look for the cause in the broker's log."


class OffsetOutOfRangeError(KafkaError, code=1, name="OFFSET_OUT_OF_RANGE"):
    """The offset is outside the range the broker keeps."""


class CorruptMessageError(KafkaError, code=2, name="CORRUPT_MESSAGE", retriable=True):
    """The record batch failed its checksum, or a compacted topic got a record without key."""

    hint = "Give every record of a compacted topic a key; if it has one, suspect the network."


class UnknownTopicOrPartitionError(
    KafkaError, code=3, name="UNKNOWN_TOPIC_OR_PARTITION", retriable=True, refreshes_metadata=True
):
    """The broker does not know the topic or partition."""

    hint = "Create the topic or allow auto-creation; the client needs the Describe permission."


class InvalidFetchSizeError(KafkaError, code=4, name="INVALID_FETCH_SIZE"):
    """The fetch size is invalid."""


class LeaderNotAvailableError(
    KafkaError, code=5, name="LEADER_NOT_AVAILABLE", retriable=True, refreshes_metadata=True
):
    """The partition has no leader while one is being elected."""


class NotLeaderOrFollowerError(
    KafkaError,
    code=6,
    name="NOT_LEADER_OR_FOLLOWER",
    retriable=True,
    refreshes_metadata=True,
    leaves_doubt=True,
):
    """The broker is no longer the leader of the partition.

    Under `acks=all` a broker answers so, too, when it ceases to be the leader while the record it
    has appended waits for its followers: the new leader may have it.
    """


class RequestTimedOutError(
    KafkaError, code=7, name="REQUEST_TIMED_OUT", retriable=True, leaves_doubt=True
):
    """The request was not answered in time."""

    hint = "Raise request_timeout_ms if the brokers are slow but healthy."


class BrokerNotAvailableError(KafkaError, code=8, name="BROKER_NOT_AVAILABLE"):
    """The broker is not available."""


class ReplicaNotAvailableError(
    KafkaError, code=9, name="REPLICA_NOT_AVAILABLE", retriable=True, refreshes_metadata=True
):
    """The replica is not available for the partition."""


class MessageTooLargeError(RecordTooLargeError, code=10, name="MESSAGE_TOO_LARGE"):
    """The record batch is larger than the broker accepts."""

    hint = "Raise message.max.bytes on the broker or max.message.bytes on the topic."


class StaleControllerEpochError(KafkaError, code=11, name="STALE_CONTROLLER_EPOCH"):
    """The controller moved to another broker."""


class OffsetMetadataTooLargeError(KafkaError, code=12, name="OFFSET_METADATA_TOO_LARGE"):
    """The metadata of the committed offset is too large."""


class NetworkError(
    KafkaError, code=13, name="NETWORK_EXCEPTION", retriable=True, refreshes_metadata=True
):
    """The connection to the broker was lost before it answered."""


class CoordinatorLoadInProgressError(
    KafkaError, code=14, name="COORDINATOR_LOAD_IN_PROGRESS", retriable=True
):
    """The coordinator is still loading its state."""


class CoordinatorNotAvailableError(
    KafkaError, code=15, name="COORDINATOR_NOT_AVAILABLE", retriable=True
):
    """The coordinator is not available."""


class NotCoordinatorError(KafkaError, code=16, name="NOT_COORDINATOR", retriable=True):
    """The broker is no longer the coordinator."""


class InvalidTopicError(KafkaError, code=17, name="INVALID_TOPIC_EXCEPTION"):
    """The topic name is not valid, or the topic cannot be written to."""

    hint = "Use letters, digits, '.', '_' and '-', at most 249 of them, and not an internal topic."


class RecordListTooLargeError(KafkaError, code=18, name="RECORD_LIST_TOO_LARGE"):
    """The record batch is larger than a log segment of the topic."""

    hint = "Lower batch_size, or raise segment.bytes on the topic."


class NotEnoughReplicasError(KafkaError, code=19, name="NOT_ENOUGH_REPLICAS", retriable=True):
    """Fewer replicas are in sync than the topic's min.insync.replicas asks for."""


class NotEnoughReplicasAfterAppendError(
    KafkaError, code=20, name="NOT_ENOUGH_REPLICAS_AFTER_APPEND", retriable=True, leaves_doubt=True
):
    """The record was written, but to fewer replicas than min.insync.replicas asks for."""


class InvalidRequiredAcksError(KafkaError, code=21, name="INVALID_REQUIRED_ACKS"):
    """The broker does not take this value of acks."""

    hint = "Set acks to 0, 1 or all."


class IllegalGenerationError(KafkaError, code=22, name="ILLEGAL_GENERATION"):
    """The generation of the consumer group is not the current one."""


class InconsistentGroupProtocolError(KafkaError, code=23, name="INCONSISTENT_GROUP_PROTOCOL"):
    """The member's protocols do not fit those of the consumer group."""


class InvalidGroupIdError(KafkaError, code=24, name="INVALID_GROUP_ID"):
    """The consumer group id is invalid."""


class UnknownMemberIdError(KafkaError, code=25, name="UNKNOWN_MEMBER_ID"):
    """The coordinator does not know this member of the consumer group."""


class InvalidSessionTimeoutError(KafkaError, code=26, name="INVALID_SESSION_TIMEOUT"):
    """The session timeout is outside the range the broker allows."""


class RebalanceInProgressError(KafkaError, code=27, name="REBALANCE_IN_PROGRESS"):
    """The consumer group is rebalancing."""


class InvalidCommitOffsetSizeError(KafkaError, code=28, name="INVALID_COMMIT_OFFSET_SIZE"):
    """The committed offset data is too large."""


class TopicAuthorizationFailedError(KafkaError, code=29, name="TOPIC_AUTHORIZATION_FAILED"):
    """The client is not allowed to write to the topic."""

    hint = "Grant the client's principal Write and Describe on the topic."


class GroupAuthorizationFailedError(KafkaError, code=30, name="GROUP_AUTHORIZATION_FAILED"):
    """The client is not allowed to use the consumer group."""

    hint = "Grant the client's principal Read on the group."


class ClusterAuthorizationFailedError(
    KafkaError, code=31, name="CLUSTER_AUTHORIZATION_FAILED", fatal=True
):
    """The client is not allowed to do this in the cluster."""

    hint = "Grant the client's principal IdempotentWrite on the cluster, or Write on the topic."


class InvalidTimestampError(KafkaError, code=32, name="INVALID_TIMESTAMP"):
    """The record's timestamp is outside the range the topic accepts."""

    hint = "Compare timestamp_ms with the topic's message.timestamp limits; it counts milliseconds."


class UnsupportedSaslMechanismError(KafkaError, code=33, name="UNSUPPORTED_SASL_MECHANISM"):
    """The broker does not offer the SASL mechanism."""

    hint = "Set sasl_mechanism to one that the broker offers."


class IllegalSaslStateError(KafkaError, code=34, name="ILLEGAL_SASL_STATE"):
    """The request does not fit the state of the SASL exchange."""

    hint = "Check that security_protocol matches the broker's listener: is SASL missing?"


class UnsupportedVersionError(KafkaError, code=35, name="UNSUPPORTED_VERSION", fatal=True):
    """The broker does not support the version of the request."""


class TopicAlreadyExistsError(KafkaError, code=36, name="TOPIC_ALREADY_EXISTS"):
    """The topic exists already."""


class InvalidPartitionsError(KafkaError, code=37, name="INVALID_PARTITIONS"):
    """The number of partitions is invalid."""


class InvalidReplicationFactorError(KafkaError, code=38, name="INVALID_REPLICATION_FACTOR"):
    """The replication factor is invalid or larger than the number of brokers."""


class InvalidReplicaAssignmentError(KafkaError, code=39, name="INVALID_REPLICA_ASSIGNMENT"):
    """The replica assignment is invalid."""


class InvalidConfigError(KafkaError, code=40, name="INVALID_CONFIG"):
    """The configuration is invalid."""


class NotControllerError(KafkaError, code=41, name="NOT_CONTROLLER", retriable=True):
    """The broker is not the controller of the cluster."""


class InvalidRequestError(KafkaError, code=42, name="INVALID_REQUEST"):
    """The broker could not make sense of the request."""

    hint = "Look for the reason in the broker's log."


class UnsupportedForMessageFormatError(KafkaError, code=43, name="UNSUPPORTED_FOR_MESSAGE_FORMAT"):
    """The topic's message format on the broker does not support the request."""


class PolicyViolationError(KafkaError, code=44, name="POLICY_VIOLATION"):
    """The request violates a policy of the cluster."""


class OutOfOrderSequenceNumberError(KafkaError, code=45, name="OUT_OF_ORDER_SEQUENCE_NUMBER"):
    """The broker got a batch whose sequence number does not follow the last one."""


class DuplicateSequenceNumberError(KafkaError, code=46, name="DUPLICATE_SEQUENCE_NUMBER"):
    """The broker has stored this batch already."""


class InvalidProducerEpochError(KafkaError, code=47, name="INVALID_PRODUCER_EPOCH"):
    """The producer's epoch is older than the one the broker knows."""


class InvalidTxnStateError(KafkaError, code=48, name="INVALID_TXN_STATE"):
    """The transaction is not in a state that allows this."""


class InvalidProducerIdMappingError(
    KafkaError, code=49, name="INVALID_PRODUCER_ID_MAPPING", fatal=True
):
    """The producer id does not belong to the transactional id."""

    hint = "Create a new producer with the same transactional_id."


class InvalidTransactionTimeoutError(KafkaError, code=50, name="INVALID_TRANSACTION_TIMEOUT"):
    """The transaction timeout is larger than the broker allows."""

    hint = "Lower transaction_timeout_ms, or raise transaction.max.timeout.ms on the broker."


class ConcurrentTransactionsError(
    KafkaError, code=51, name="CONCURRENT_TRANSACTIONS", retriable=True
):
    """Another operation on the same transaction is still running."""


class TransactionCoordinatorFencedError(KafkaError, code=52, name="TRANSACTION_COORDINATOR_FENCED"):
    """The transaction coordinator was replaced by a newer one."""


class TransactionalIdAuthorizationFailedError(
    KafkaError, code=53, name="TRANSACTIONAL_ID_AUTHORIZATION_FAILED", fatal=True
):
    """The client is not allowed to use the transactional id."""

    hint = "Grant the client's principal Write and Describe on the transactional id."


class SecurityDisabledError(KafkaError, code=54, name="SECURITY_DISABLED"):
    """Security features are disabled on the broker."""


class OperationNotAttemptedError(KafkaError, code=55, name="OPERATION_NOT_ATTEMPTED"):
    """The broker did not try this operation because another one of the request failed."""


class KafkaStorageError(
    KafkaError,
    code=56,
    name="KAFKA_STORAGE_ERROR",
    retriable=True,
    refreshes_metadata=True,
    leaves_doubt=True,
):
    """The broker has trouble with the disk that holds the partition.

    The disk may fail while the record waits for followers that have it already.
    """


class LogDirNotFoundError(KafkaError, code=57, name="LOG_DIR_NOT_FOUND"):
    """The log directory is not in the broker's configuration."""


class SaslAuthenticationFailedError(KafkaError, code=58, name="SASL_AUTHENTICATION_FAILED"):
    """The broker refused the SASL credentials."""

    hint = "Check the user name, password or token, and sasl_mechanism."


class UnknownProducerIdError(KafkaError, code=59, name="UNKNOWN_PRODUCER_ID"):
    """The broker has no state for the producer id, perhaps because its records expired."""


class ReassignmentInProgressError(KafkaError, code=60, name="REASSIGNMENT_IN_PROGRESS"):
    """A reassignment of the partition is in progress."""


class DelegationTokenAuthDisabledError(KafkaError, code=61, name="DELEGATION_TOKEN_AUTH_DISABLED"):
    """Delegation tokens are not enabled."""


class DelegationTokenNotFoundError(KafkaError, code=62, name="DELEGATION_TOKEN_NOT_FOUND"):
    """The broker does not know the delegation token."""


class DelegationTokenOwnerMismatchError(
    KafkaError, code=63, name="DELEGATION_TOKEN_OWNER_MISMATCH"
):
    """The principal is not an owner or renewer of the delegation token."""


class DelegationTokenRequestNotAllowedError(
    KafkaError, code=64, name="DELEGATION_TOKEN_REQUEST_NOT_ALLOWED"
):
    """Delegation token requests are not allowed on this connection."""


class DelegationTokenAuthorizationFailedError(
    KafkaError, code=65, name="DELEGATION_TOKEN_AUTHORIZATION_FAILED"
):
    """The client is not allowed to use the delegation token."""


class DelegationTokenExpiredError(KafkaError, code=66, name="DELEGATION_TOKEN_EXPIRED"):
    """The delegation token has expired."""


class InvalidPrincipalTypeError(KafkaError, code=67, name="INVALID_PRINCIPAL_TYPE"):
    """The principal type is not supported."""


class NonEmptyGroupError(KafkaError, code=68, name="NON_EMPTY_GROUP"):
    """The consumer group is not empty."""


class GroupIdNotFoundError(KafkaError, code=69, name="GROUP_ID_NOT_FOUND"):
    """The consumer group does not exist."""


class FetchSessionIdNotFoundError(
    KafkaError, code=70, name="FETCH_SESSION_ID_NOT_FOUND", retriable=True
):
    """The broker does not know the fetch session."""


class InvalidFetchSessionEpochError(
    KafkaError, code=71, name="INVALID_FETCH_SESSION_EPOCH", retriable=True
):
    """The epoch of the fetch session is invalid."""


class ListenerNotFoundError(
    KafkaError, code=72, name="LISTENER_NOT_FOUND", retriable=True, refreshes_metadata=True
):
    """The leader has no listener like the one the metadata was asked on."""

    hint = "Give every broker the same listeners."


class TopicDeletionDisabledError(KafkaError, code=73, name="TOPIC_DELETION_DISABLED"):
    """Topic deletion is disabled."""


class FencedLeaderEpochError(
    KafkaError, code=74, name="FENCED_LEADER_EPOCH", retriable=True, refreshes_metadata=True
):
    """The leader epoch of the request is older than the broker's."""


class UnknownLeaderEpochError(KafkaError, code=75, name="UNKNOWN_LEADER_EPOCH", retriable=True):
    """The leader epoch of the request is newer than the broker's."""


class UnsupportedCompressionTypeError(KafkaError, code=76, name="UNSUPPORTED_COMPRESSION_TYPE"):
    """The broker does not take this compression type for the partition."""

    hint = "Choose another compression_type."


class StaleBrokerEpochError(KafkaError, code=77, name="STALE_BROKER_EPOCH"):
    """The epoch of the broker has changed."""


class OffsetNotAvailableError(KafkaError, code=78, name="OFFSET_NOT_AVAILABLE", retriable=True):
    """The new leader cannot answer for this offset yet."""


class MemberIdRequiredError(KafkaError, code=79, name="MEMBER_ID_REQUIRED"):
    """The member needs an id before it can join the consumer group."""


class PreferredLeaderNotAvailableError(
    KafkaError,
    code=80,
    name="PREFERRED_LEADER_NOT_AVAILABLE",
    retriable=True,
    refreshes_metadata=True,
):
    """The preferred leader is not available."""


class GroupMaxSizeReachedError(KafkaError, code=81, name="GROUP_MAX_SIZE_REACHED"):
    """The consumer group is full."""


class FencedInstanceIdError(KafkaError, code=82, name="FENCED_INSTANCE_ID"):
    """Another consumer with the same group.instance.id has taken over."""


class EligibleLeadersNotAvailableError(
    KafkaError,
    code=83,
    name="ELIGIBLE_LEADERS_NOT_AVAILABLE",
    retriable=True,
    refreshes_metadata=True,
):
    """No replica that could lead the partition is available."""


class ElectionNotNeededError(
    KafkaError, code=84, name="ELECTION_NOT_NEEDED", retriable=True, refreshes_metadata=True
):
    """The partition needs no leader election."""


class NoReassignmentInProgressError(KafkaError, code=85, name="NO_REASSIGNMENT_IN_PROGRESS"):
    """No reassignment of the partition is in progress."""


class GroupSubscribedToTopicError(KafkaError, code=86, name="GROUP_SUBSCRIBED_TO_TOPIC"):
    """The consumer group is subscribed to the topic."""


class InvalidRecordError(KafkaError, code=87, name="INVALID_RECORD"):
    """The record is not valid."""


class UnstableOffsetCommitError(KafkaError, code=88, name="UNSTABLE_OFFSET_COMMIT", retriable=True):
    """Some offset commits are not stable yet."""


class ThrottlingQuotaExceededError(
    KafkaError, code=89, name="THROTTLING_QUOTA_EXCEEDED", retriable=True
):
    """The client is over its quota."""

    hint = "Raise the client's quota, or send less."


class ProducerFencedError(KafkaError, code=90, name="PRODUCER_FENCED", fatal=True):
    """Another producer with the same transactional id has taken over."""

    hint = "Run one producer per transactional_id; close this one."


class ResourceNotFoundError(KafkaError, code=91, name="RESOURCE_NOT_FOUND"):
    """The request names a resource that does not exist."""


class DuplicateResourceError(KafkaError, code=92, name="DUPLICATE_RESOURCE"):
    """The request names the same resource twice."""


class UnacceptableCredentialError(KafkaError, code=93, name="UNACCEPTABLE_CREDENTIAL"):
    """The credential does not meet the broker's criteria."""


class InconsistentVoterSetError(KafkaError, code=94, name="INCONSISTENT_VOTER_SET"):
    """The sender or receiver is not among the expected voters."""


class InvalidUpdateVersionError(KafkaError, code=95, name="INVALID_UPDATE_VERSION"):
    """The version of the update is invalid."""


class FeatureUpdateFailedError(KafkaError, code=96, name="FEATURE_UPDATE_FAILED"):
    """The finalized features could not be updated."""


class PrincipalDeserializationFailureError(
    KafkaError, code=97, name="PRINCIPAL_DESERIALIZATION_FAILURE"
):
    """A forwarding broker could not read the principal."""


class SnapshotNotFoundError(KafkaError, code=98, name="SNAPSHOT_NOT_FOUND"):
    """The snapshot does not exist."""


class PositionOutOfRangeError(KafkaError, code=99, name="POSITION_OUT_OF_RANGE"):
    """The position is outside the snapshot."""


class UnknownTopicIdError(
    KafkaError, code=100, name="UNKNOWN_TOPIC_ID", retriable=True, refreshes_metadata=True
):
    """The broker does not know the topic id, perhaps because the topic was recreated."""


class DuplicateBrokerRegistrationError(KafkaError, code=101, name="DUPLICATE_BROKER_REGISTRATION"):
    """The broker id is in use already."""


class BrokerIdNotRegisteredError(KafkaError, code=102, name="BROKER_ID_NOT_REGISTERED"):
    """The broker id is not registered."""


class InconsistentTopicIdError(
    KafkaError, code=103, name="INCONSISTENT_TOPIC_ID", retriable=True, refreshes_metadata=True
):
    """The topic id of the request is not the one in the broker's log."""


class InconsistentClusterIdError(KafkaError, code=104, name="INCONSISTENT_CLUSTER_ID"):
    """The cluster id of the request is not the broker's."""


class TransactionalIdNotFoundError(KafkaError, code=105, name="TRANSACTIONAL_ID_NOT_FOUND"):
    """The transactional id does not exist."""


class FetchSessionTopicIdError(
    KafkaError, code=106, name="FETCH_SESSION_TOPIC_ID_ERROR", retriable=True
):
    """The fetch session mixes topic ids and names."""


class IneligibleReplicaError(KafkaError, code=107, name="INELIGIBLE_REPLICA"):
    """The new in-sync replicas hold one that is not eligible."""


class NewLeaderElectedError(KafkaError, code=108, name="NEW_LEADER_ELECTED"):
    """The partition was changed, but its leader is another one now."""


class OffsetMovedToTieredStorageError(KafkaError, code=109, name="OFFSET_MOVED_TO_TIERED_STORAGE"):
    """The offset has moved to tiered storage."""


class FencedMemberEpochError(KafkaError, code=110, name="FENCED_MEMBER_EPOCH"):
    """The epoch of the consumer group member is fenced."""


class UnreleasedInstanceIdError(KafkaError, code=111, name="UNRELEASED_INSTANCE_ID"):
    """Another member of the consumer group still uses the instance id."""


class UnsupportedAssignorError(KafkaError, code=112, name="UNSUPPORTED_ASSIGNOR"):
    """The consumer group does not support the assignor."""


class StaleMemberEpochError(KafkaError, code=113, name="STALE_MEMBER_EPOCH"):
    """The epoch of the consumer group member is stale."""


class MismatchedEndpointTypeError(KafkaError, code=114, name="MISMATCHED_ENDPOINT_TYPE"):
    """The request went to an endpoint of the wrong type."""

    hint = "Put brokers, not controllers, into bootstrap_servers."


class UnsupportedEndpointTypeError(KafkaError, code=115, name="UNSUPPORTED_ENDPOINT_TYPE"):
    """The type of endpoint is not supported."""


class UnknownControllerIdError(KafkaError, code=116, name="UNKNOWN_CONTROLLER_ID"):
    """The controller id is not known."""


class UnknownSubscriptionIdError(KafkaError, code=117, name="UNKNOWN_SUBSCRIPTION_ID"):
    """The telemetry subscription is unknown or outdated."""


class TelemetryTooLargeError(KafkaError, code=118, name="TELEMETRY_TOO_LARGE"):
    """The telemetry is larger than the broker accepts."""


class InvalidRegistrationError(KafkaError, code=119, name="INVALID_REGISTRATION"):
    """The controller found the broker's registration invalid."""


class TransactionAbortableError(KafkaError, code=120, name="TRANSACTION_ABORTABLE"):
    """The transaction failed and can be aborted."""

    hint = "Abort the transaction; then the producer can go on."


class InvalidRecordStateError(KafkaError, code=121, name="INVALID_RECORD_STATE"):
    """The record is not in a state that can be acknowledged."""


class ShareSessionNotFoundError(
    KafkaError, code=122, name="SHARE_SESSION_NOT_FOUND", retriable=True
):
    """The broker does not know the share session."""


class InvalidShareSessionEpochError(
    KafkaError, code=123, name="INVALID_SHARE_SESSION_EPOCH", retriable=True
):
    """The epoch of the share session is invalid."""


class FencedStateEpochError(KafkaError, code=124, name="FENCED_STATE_EPOCH"):
    """The epoch of the share group's state is fenced."""


class InvalidVoterKeyError(KafkaError, code=125, name="INVALID_VOTER_KEY"):
    """The voter key is not the receiver's."""


class DuplicateVoterError(KafkaError, code=126, name="DUPLICATE_VOTER"):
    """The voter is in the set of voters already."""


class VoterNotFoundError(KafkaError, code=127, name="VOTER_NOT_FOUND"):
    """The voter is not in the set of voters."""


class InvalidRegularExpressionError(KafkaError, code=128, name="INVALID_REGULAR_EXPRESSION"):
    """The regular expression is invalid."""


class RebootstrapRequiredError(KafkaError, code=129, name="REBOOTSTRAP_REQUIRED"):
    """The client's view of the cluster is stale: it has to bootstrap again."""


class StreamsInvalidTopologyError(KafkaError, code=130, name="STREAMS_INVALID_TOPOLOGY"):
    """The topology of the streams group is invalid."""


class StreamsInvalidTopologyEpochError(KafkaError, code=131, name="STREAMS_INVALID_TOPOLOGY_EPOCH"):
    """The topology epoch of the streams group is invalid."""


class StreamsTopologyFencedError(KafkaError, code=132, name="STREAMS_TOPOLOGY_FENCED"):
    """The topology epoch of the streams group is outdated."""


class ShareSessionLimitReachedError(
    KafkaError, code=133, name="SHARE_SESSION_LIMIT_REACHED", retriable=True
):
    """The broker holds as many share sessions as it allows."""
