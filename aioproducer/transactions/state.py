"""The states of a transactional producer, and what each allows. No I/O, no clock.

Mirrors org.apache.kafka.clients.producer.internals.TransactionManager (4.3), but for its two-phase
commit.

    state          begin       send, offsets   commit      abort       a record fails   fatal error
    UNINITIALIZED  refused     refused         refused     refused     -                FATAL
    READY          OPEN        refused         refused     refused     -                FATAL
    OPEN           refused     allowed         COMMITTING  ABORTING    FAILED           FATAL
    FAILED         refused     refused         refused     ABORTING    stays            FATAL
    COMMITTING     refused     refused         (joins)     refused     FAILED           FATAL
    ABORTING       refused     refused         refused     (joins)     stays            FATAL
    FATAL          refused     refused         refused     refused     stays            stays

    `initialized` leads from UNINITIALIZED to READY, `ended` from COMMITTING or ABORTING, and from
    FAILED where that came too late: while the coordinator was committing already.
    "joins": the same call again, after its caller timed out or was cancelled, waits for the end
    that is under way; any other call is refused until then (KAFKA-14831, and Java since 2.8).

Invariants
* A call that is refused changes nothing.
* An error of a call that leaves FAILED behind has `requires_abort`, one that leaves FATAL has
  `fatal`, whatever its kind: what a broker's code means depends on the request it answered.
* The cause is the first failure; it stays until the transaction has ended.
* A transaction in which anything failed is never committed: FAILED leads to ABORTING only.
"""

from __future__ import annotations

import enum
from typing import Final

from aioproducer.errors import KafkaError, TransactionFailedError, TransactionStateError

__all__ = ["State", "TransactionState"]


class State(enum.Enum):
    """Where a transactional producer stands."""

    UNINITIALIZED = "not initialized"
    READY = "outside of a transaction"
    OPEN = "in a transaction"
    FAILED = "in a transaction that must be aborted"
    COMMITTING = "committing"
    ABORTING = "aborting"
    FATAL = "failed for good"


_BEGIN_FIRST: Final = "Call begin_transaction() first, or use `async with producer.transaction():`."


class TransactionState:
    """The state of one transactional producer.

    Attributes:
        state: The state.
        cause: The first failure of the transaction, or what was fatal.
    """

    def __init__(self) -> None:
        self.state = State.UNINITIALIZED
        self.cause: KafkaError | None = None

    @property
    def takes_records(self) -> bool:
        """Whether records may be sent."""
        return self.state is State.OPEN

    @property
    def must_abort(self) -> bool:
        """Whether no record of the transaction will ever count: none need be sent again."""
        return self.state in (State.FAILED, State.ABORTING, State.FATAL)

    @property
    def is_under_way(self) -> bool:
        """Whether there is a transaction, open or about to end."""
        return self.state not in (State.UNINITIALIZED, State.READY, State.FATAL)

    # ---- calls

    def begin(self) -> None:
        """A transaction begins."""
        if self.state is not State.READY:
            raise self.refusal("begin a transaction")
        self.state = State.OPEN
        self.cause = None

    def begin_commit(self) -> None:
        """The transaction is to be committed."""
        if self.state is not State.OPEN:
            raise self.refusal("commit")
        self.state = State.COMMITTING

    def begin_abort(self) -> None:
        """The transaction is to be aborted."""
        if self.state not in (State.OPEN, State.FAILED):
            raise self.refusal("abort")
        self.state = State.ABORTING

    def refusal(self, call: str) -> KafkaError:
        """The error of a call that this state does not allow.

        Args:
            call: What was tried, as a verb.
        """
        if self.state is State.FATAL:
            assert self.cause is not None
            return self.cause.again()
        if self.state is State.FAILED:
            return self.failure()
        hint = {
            State.UNINITIALIZED: "Use `async with producer:` or `await producer.start()` first.",
            State.READY: _BEGIN_FIRST,
            State.OPEN: "Commit or abort it first: a producer has one transaction at a time.",
            State.COMMITTING: "Wait for commit_transaction(); if it timed out, call it again.",
            State.ABORTING: "Wait for abort_transaction(); if it timed out, call it again.",
        }[self.state]
        return TransactionStateError(
            f"Cannot {call}: the producer is {self.state.value}", hint=hint
        )

    def failure(self) -> KafkaError:
        """The error that says why the transaction must be aborted."""
        cause = self.cause
        assert cause is not None
        error = TransactionFailedError(
            f"The transaction failed: {cause.what().rstrip('. ')}",
            topic_partition=cause.topic_partition,
            broker=cause.broker,
            attempts=cause.attempts,
            possibly_persisted=False,
        )
        error.__cause__ = cause
        return error

    # ---- news

    def initialized(self) -> None:
        """There is a producer id, and no transaction of an earlier producer is left."""
        assert self.state is State.UNINITIALIZED
        self.state = State.READY

    def failed(self, cause: KafkaError) -> bool:
        """A record or another part of the transaction failed; its error says what that means.

        Returns:
            Whether this is the first failure.
        """
        is_first = self.state in (State.OPEN, State.COMMITTING)
        if is_first:
            self.state = State.FAILED
            self.cause = cause
        if self.state is State.FAILED:
            cause.requires_abort, cause.fatal = True, False
        return is_first

    def fatal(self, cause: KafkaError) -> bool:
        """The producer can do nothing more, for good; whether that is news."""
        cause.requires_abort, cause.fatal = False, True
        if self.state is State.FATAL:
            return False
        self.state = State.FATAL
        self.cause = cause
        return True

    def ended(self) -> None:
        """The transaction was committed or aborted.

        FAILED: the cluster was found to be another one while the coordinator committed it.
        """
        assert self.state in (State.COMMITTING, State.ABORTING, State.FAILED), self.state
        self.state = State.READY
        self.cause = None
