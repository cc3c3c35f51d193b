"""`async with producer.transaction():` begins on entering, and commits or aborts on leaving.

    the block           a part of it           leaving
    ends                did not fail           commits
    ends                failed                 aborts, and raises the failure
    raises              -                      aborts; what the block raised goes on
    is cancelled        -                      aborts; if that wait is cancelled too, the abort goes
                                               on, and the next transaction waits for its end
    ends                is cancelled           the commit goes on; the next transaction waits for
                                               its end, and aborts what failed in it

Invariants
* What the block raised is never replaced by what the abort raised; that becomes a note.
* The hint of what comes out of the block says what is left to do: no abort, if that is done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from aioproducer.errors import KafkaError, TransactionFailedError

__all__ = ["transaction_of"]

_ABORTED: Final = "The transaction was aborted: begin another one."


class Transactional(Protocol):
    """A producer with transactions."""

    async def begin_transaction(self) -> None:
        """Begin one."""

    async def commit_transaction(self) -> None:
        """Commit it."""

    async def abort_transaction(self) -> None:
        """Abort it."""


@asynccontextmanager
async def transaction_of(producer: Transactional) -> AsyncGenerator[None]:
    """A block whose records are all stored, or none."""
    await producer.begin_transaction()
    try:
        yield
    except BaseException as error:
        await _abort(producer, error)
        raise
    try:
        await producer.commit_transaction()
    except KafkaError as error:
        if error.requires_abort:
            await _abort(producer, error)
        raise


async def _abort(producer: Transactional, why: BaseException) -> None:
    try:
        await producer.abort_transaction()
    except KafkaError as error:
        if error is not why:
            why.add_note(f"The transaction could not be aborted: {error}")
    else:
        if isinstance(why, TransactionFailedError):
            why.hint = _ABORTED
