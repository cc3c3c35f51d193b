"""What all errors have in common: the base class, its context, and how a message is made.

Invariants
* The flags and the description belong to the class, never to an instance.
* No message holds a payload or a secret.
* An instance belongs to one task. Where many tasks get one failure (every record of a batch), each
  raises its own `again()`: a shared instance would collect all their tracebacks.
"""

from __future__ import annotations

import copyreg
import math
from collections.abc import Callable
from typing import Any, ClassVar, Final, Self, TypedDict

from aioproducer.records import TopicPartition

__all__ = ["ErrorContext", "KafkaError"]

_RETRY_AFTER: Final = 5
_RETRY_AFTER_MOST: Final = 30

# The function by which `pickle` makes an object; typeshed does not have it.
_new_object: Final[Callable[..., Any]] = getattr(copyreg, "__newobj__")  # noqa: B009


class ErrorContext(TypedDict, total=False):
    """The context that every error may have: the keywords of `KafkaError`."""

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
        fatal: This producer cannot send any more and must be closed (KIP-1050's
            ApplicationRecoverable and InvalidConfiguration).
        leaves_outcome_unknown: By its nature, the error does not say whether the record was stored.
        description: What the error means, as a sentence.
        hint: What the user can change, as a sentence; may be empty.
        message: What happened this time; empty where the description says it all.
        topic_partition: Where the record was going.
        broker: The broker that answered, as `host:port` or an id.
        attempts: How often the request was sent.
        possibly_persisted: True when the record may have been stored nevertheless, so that
            sending it again can store it twice.
        is_pending: True when only a wait is over (`send_and_wait(timeout=)`) and the record goes
            on: it may still be stored.
        requires_abort: True when the transaction must be aborted; then another one may begin
            (librdkafka's `txn_requires_abort`, KIP-1050's TransactionAbortable).
        safe_to_resend: True when sending the record again can help and cannot store it twice.
        retry_after: In how many seconds to do that; None where it is not safe.
    """

    code: ClassVar[int | None] = None
    name: ClassVar[str] = ""
    retriable: ClassVar[bool] = False
    refreshes_metadata: ClassVar[bool] = False
    leaves_outcome_unknown: ClassVar[bool] = False
    description: ClassVar[str] = "The producer failed."
    fatal: bool = False
    hint: str = ""
    is_pending: bool = False
    requires_abort: bool = False
    _retry_after: int = _RETRY_AFTER

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # The docstring is the description, too. Under `python -OO` only the name is left.
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
                true of this kind of error by itself (`leaves_outcome_unknown`).
            hint: What to change, where it differs from the class's hint.
        """
        super().__init__(message)
        self.message = message
        self.topic_partition = topic_partition
        self.broker = broker
        self.attempts = attempts
        self.possibly_persisted = (
            self.leaves_outcome_unknown if possibly_persisted is None else possibly_persisted
        )
        if hint is not None:
            self.hint = hint

    @property
    def safe_to_resend(self) -> bool:
        """Whether sending the record again can help, and cannot store it twice.

        Not the same as `retriable`, which is about the cause alone: the record may be stored
        already, or be on its way still.
        """
        return self.retriable and not self.possibly_persisted and not self.is_pending

    @property
    def retry_after(self) -> int | None:
        """In how many seconds to send the record again, as HTTP's `Retry-After` wants it.

        The time in which what the buffer holds is stored at the rate of the last second, from 1
        to 30; 5 where nothing has been stored for two seconds, so that there is no rate. None where
        sending again does not help or could store the record twice (`safe_to_resend`).
        """
        return self._retry_after if self.safe_to_resend else None

    def suggest_retry_after(self, seconds: float | None) -> None:
        """Set `retry_after` to a time, rounded up and bounded; None leaves it as it is."""
        if seconds is not None:
            self._retry_after = max(1, math.ceil(min(seconds, _RETRY_AFTER_MOST)))

    def again(self) -> Self:
        """Return a new exception that says the same, to be raised in another task."""
        cls = type(self)
        twin = cls.__new__(cls)
        twin.args = self.args
        twin.__dict__.update(self.__dict__)
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
        if outcome := self._outcome():
            parts.append(outcome)
        if self.hint:
            parts.append(self.hint)
        return " ".join(parts)

    def _outcome(self) -> str:
        return "The record may have been stored." if self.possibly_persisted else ""

    def __reduce__(self) -> tuple[Any, ...]:
        # Not through `__init__`: its keywords differ between classes.
        return _new_object, (type(self),), self.__dict__ | {"args": self.args}


def seconds(duration: float) -> str:
    """A duration as text, as exact as matters: `0.25 s` or `120 s`."""
    digits = 3 if duration < 0.1 else 2 if duration < 10 else 1 if duration < 100 else 0
    return f"{round(duration, digits):g} s"


def _sentence(text: str) -> str:
    return text if text.endswith(("?", "!")) else f"{text}."
