"""Records that end when a test says so, and the loop's turns in which they do.

`one` gives a record's delivery and the batch that it is alone in; `complete` and `fail` end the
batch as a response does. Waiters are woken directly, as from the read callback of a socket, unless
a test says `direct=False`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aioproducer._native.record_batch import Delivery, DeliveryWait, RecordBatch
from aioproducer.errors import NetworkError
from aioproducer.records import RecordMetadata
from tests.support.core import TOPIC, Core

OFFSET = 7
STORED = RecordMetadata(TOPIC, 0, OFFSET, 0)
"""What the one record of a batch gets that `complete` has ended."""


def one(core: Core | None = None) -> tuple[Delivery, RecordBatch]:
    """Return a record's delivery and the batch that the record is alone in."""
    core = core or Core(asyncio.get_running_loop())
    delivery = core.put()
    return delivery, core.take()


def complete(batch: RecordBatch, *, direct: bool = True) -> None:
    batch.complete(OFFSET)
    batch.wake(direct)


def fail(batch: RecordBatch, *, direct: bool = True) -> None:
    batch.fail(NetworkError("gone"))
    batch.wake(direct)


def wait_of(delivery: Delivery) -> DeliveryWait:
    """Return what `await delivery` waits by, not begun."""
    wait: object = delivery.__await__()
    assert isinstance(wait, DeliveryWait)
    return wait


def begin(delivery: Delivery) -> DeliveryWait:
    """Begin to wait for a record, as the step of a task does."""
    wait = wait_of(delivery)
    yielded: object = next(wait)
    assert yielded is wait
    return wait


async def wait_for_it(delivery: Delivery) -> RecordMetadata:
    metadata: RecordMetadata = await delivery
    return metadata


def waiting(delivery: Delivery) -> asyncio.Task[RecordMetadata]:
    return asyncio.get_running_loop().create_task(wait_for_it(delivery))


async def turn() -> None:
    """Let whatever is ready run, and what that makes ready."""
    for _ in range(4):
        await asyncio.sleep(0)


def from_the_loop(*functions: Callable[[], object]) -> None:
    """Have something happen outside of any task, in one turn, as a response does."""

    def run() -> None:
        for function in functions:
            function()

    asyncio.get_running_loop().call_soon(run)
