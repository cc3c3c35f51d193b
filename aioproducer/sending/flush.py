"""Callers of `flush`, and the batches that each still waits for.

Invariant: a flush ends when the batches it began with, or those that replaced them, are done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from aioproducer._native.record_batch import RecordBatch

__all__ = ["Flush", "Flushes"]


class Flush:
    """One caller of `flush`: the batches left to wait for, and the future that it awaits."""

    __slots__ = ("done", "remaining")

    def __init__(self, remaining: set[RecordBatch], done: asyncio.Future[None]) -> None:
        self.remaining = remaining
        self.done = done


class Flushes:
    """The flushes under way.

    Attributes:
        under_way: All of them; always the same list.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.under_way: list[Flush] = []

    async def wait_for(self, batches: Iterable[RecordBatch]) -> None:
        """Wait until all of `batches`, and those that replace them, are done."""
        remaining = {batch for batch in batches if not batch.is_done}
        if not remaining:
            return
        flush = Flush(remaining, self._loop.create_future())
        self.under_way.append(flush)
        try:
            await flush.done
        finally:
            self.under_way.remove(flush)

    def waiting_for(self, batch: RecordBatch) -> Iterator[Flush]:
        """The flushes that wait for a batch."""
        return (flush for flush in list(self.under_way) if batch in flush.remaining)

    def replace(self, batch: RecordBatch, by: Iterable[RecordBatch]) -> None:
        """Wait for other batches instead: the parts of a split one, or where its records went."""
        others = [other for other in by if not other.is_done]
        for flush in self.waiting_for(batch):
            flush.remaining.update(others)
            self._forget(flush, batch)

    def batch_done(self, batch: RecordBatch) -> None:
        """Wait no longer for a batch: it was delivered or failed."""
        for flush in self.waiting_for(batch):
            self._forget(flush, batch)

    def _forget(self, flush: Flush, batch: RecordBatch) -> None:
        flush.remaining.discard(batch)
        if not flush.remaining and not flush.done.done():
            flush.done.set_result(None)
