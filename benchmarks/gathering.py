"""`python -m benchmarks.gathering`: what `aioproducer.gather` costs a delivery, without a Kafka.

A task gathers deliveries that are pending; then their batches are completed, and woken as from the
read callback of a socket. Counted is the task's first step, and the time from the wake-up to its
last one. Rounds alternate with `asyncio.gather` of as many deliveries, and with an await of the
last one alone: what a task and its wake-up cost in any case.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aioproducer import Delivery, gather
from aioproducer._native.record_batch import RecordBatch
from tests.support.core import Core

_SHAPES = {
    "10 in a batch": (10, 1, 10),
    "1,000 in a batch": (1_000, 1, 1_000),
    "100,000, batches of 1,000": (100_000, 1, 1_000),
    "100,000 over 60 partitions, batches of 100": (100_000, 60, 100),
    "1,000,000, batches of 5,000": (1_000_000, 1, 5_000),
}
"""Records, partitions, records of a batch."""

_MOST_FOR_ASYNCIO = 100_000


def main() -> None:
    """Measure, and print a table."""
    print("| us a delivery: median (least) | gather | await the last alone | asyncio.gather |")
    print("|---|---|---|---|")
    for name, shape in _SHAPES.items():
        figures = asyncio.run(_alternate(*shape))
        print(f"| {name} | {' | '.join(_us(each) for each in figures)} |", flush=True)


async def _alternate(count: int, partitions: int, size: int) -> list[list[float]]:
    ways: list[Callable[[Sequence[Delivery]], Awaitable[Any]]] = [gather, _last, _asyncio_gather]
    figures: list[list[float]] = [[] for _ in ways]
    for _ in range(max(5, min(1_000, 20_000 // count))):
        for way, seconds in zip(ways, figures, strict=True):
            if way is not _asyncio_gather or count <= _MOST_FOR_ASYNCIO:
                seconds.append(await _measure(way, count, partitions, size))
    return figures


def _us(seconds: list[float]) -> str:
    if not seconds:
        return ""
    return f"{statistics.median(seconds) * 1e6:.3f} ({min(seconds) * 1e6:.3f})"


async def _last(deliveries: Sequence[Delivery]) -> None:
    await deliveries[-1]


async def _asyncio_gather(deliveries: Sequence[Delivery]) -> list[Any]:
    return await asyncio.gather(*deliveries)


async def _measure(
    wait_for: Callable[[Sequence[Delivery]], Awaitable[Any]],
    count: int,
    partitions: int,
    size: int,
) -> float:
    loop = asyncio.get_running_loop()
    woken = 0.0
    deliveries, batches = _records(Core(loop, partitions=partitions), count, partitions, size)

    async def wait() -> tuple[float, float]:
        began = time.perf_counter()
        await wait_for(deliveries)
        return began, time.perf_counter()

    def end() -> None:
        nonlocal woken
        for batch in batches:
            batch.complete(0)
        woken = time.perf_counter()
        for batch in batches:
            batch.wake(True)

    task = loop.create_task(wait())
    await asyncio.sleep(0)
    waiting = time.perf_counter()
    await asyncio.sleep(0)  # asyncio's own tasks begin to wait
    loop.call_soon(end)
    began, over = await task
    return (waiting - began + over - woken) / count


def _records(
    core: Core, count: int, partitions: int, size: int
) -> tuple[list[Delivery], list[RecordBatch]]:
    deliveries: list[Delivery] = []
    batches: list[RecordBatch] = []
    while len(deliveries) < count:
        of_round = min(size * partitions, count - len(deliveries))
        deliveries += [core.put(b"v" * 20, partition=n % partitions) for n in range(of_round)]
        batches += [core.take(partition) for partition in range(min(partitions, of_round))]
    return deliveries, batches


if __name__ == "__main__":
    main()
