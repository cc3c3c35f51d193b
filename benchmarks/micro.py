"""`python -m benchmarks.micro`: what each step of the record path costs, without a Kafka.

Run by pyperf, in many processes; `-o FILE` stores the figures for `pyperf compare_to`. The steps
are those of the native modules, driven as the tests drive them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyperf

from aioproducer import Topic, gather
from aioproducer._native.accumulator import murmur2
from aioproducer._native.record_batch import Delivery, RecordBatch, crc32c
from aioproducer._native.send_path import SendPath
from aioproducer.records import Header
from tests.support.core import TOPIC, Core

_RECORDS = 1_000
_PARTITIONS = 6
_VALUE = bytes(range(100))
_KEY = b"card-0123456789"
_HEADERS: Sequence[Header] = [
    ("content-type", b"application/json"),
    ("trace-id", b"0" * 32),
    ("to", b"x"),
]
_BATCH = bytes(131_072)


def main() -> None:
    """Run all of them."""
    # Making records ready takes longer than the step itself: more would be waiting, not measuring.
    runner = pyperf.Runner(processes=5, min_time=0.02, program_args=("-m", "benchmarks.micro"))
    measure = {
        "append: value": _append(None, None),
        "append: key, value": _append(_KEY, None),
        "append: key, value, 3 headers": _append(_KEY, _HEADERS),
        "send_nowait to a name": _send_nowait(TOPIC),
        "send_nowait to a Topic": _send_nowait(Topic(TOPIC, key=bytes, value=bytes)),
        "complete, with a callback each": _complete,
        "await a Delivery that is done": _await_done,
        "await a Delivery, wake its task": _await_waiting,
        "gather deliveries that are done": _gather(is_done=True),
        "gather deliveries, wake the task": _gather(is_done=False),
    }
    for name, function in measure.items():
        runner.bench_time_func(name, function, inner_loops=_RECORDS)
    runner.bench_func("murmur2 of 15 bytes", murmur2, _KEY)
    runner.bench_func("crc32c of 128 KiB", crc32c, _BATCH)


def _append(key: bytes | None, headers: Sequence[Header] | None) -> Callable[[int], float]:
    def run(loops: int) -> float:
        spent = 0.0
        for _ in range(loops):
            accept = Core(partitions=_PARTITIONS).accumulator.accept_record
            before = time.perf_counter()
            for _ in range(_RECORDS):
                accept(TOPIC, key, _VALUE, None, headers, None, None)
            spent += time.perf_counter() - before
        return spent

    return run


class _SendPath(SendPath[Any, Any]):
    def _check_running_loop(self) -> bool:
        return True  # no loop runs here, and a call would look for it each time


def _send_nowait(topic: Any) -> Callable[[int], float]:
    def run(loops: int) -> float:
        spent = 0.0
        for _ in range(loops):
            path = _SendPath()
            path._open_path(Core(partitions=_PARTITIONS).accumulator, None, None, False)
            send_nowait = path.send_nowait
            before = time.perf_counter()
            for _ in range(_RECORDS):
                send_nowait(topic, _VALUE, key=_KEY)
            spent += time.perf_counter() - before
        return spent

    return run


def _batch(loop: asyncio.AbstractEventLoop | None = None) -> tuple[RecordBatch, list[Delivery]]:
    core = Core(loop)
    deliveries = [core.put(_VALUE) for _ in range(_RECORDS)]
    batch = core.take()
    batch.assign_sequence(1, 0, 0)
    batch.seal()
    return batch, deliveries


def _complete(loops: int) -> float:
    spent = 0.0
    for _ in range(loops):
        batch, deliveries = _batch()
        for delivery in deliveries:
            delivery.add_done_callback(_ignore)
        before = time.perf_counter()
        batch.complete(0)
        batch.wake(True)
        spent += time.perf_counter() - before
    return spent


def _ignore(_delivery: Delivery) -> None:
    pass


def _await_done(loops: int) -> float:
    async def run() -> float:
        spent = 0.0
        for _ in range(loops):
            batch, deliveries = _batch(asyncio.get_running_loop())
            batch.complete(0)
            batch.wake(False)
            before = time.perf_counter()
            for delivery in deliveries:
                await delivery
            spent += time.perf_counter() - before
        return spent

    return asyncio.run(run())


def _await_waiting(loops: int) -> float:
    async def wait(delivery: Delivery) -> None:
        await delivery

    async def run() -> float:
        loop = asyncio.get_running_loop()
        spent = 0.0
        for _ in range(loops):
            batch, deliveries = _batch(loop)
            tasks = [loop.create_task(wait(delivery)) for delivery in deliveries]
            await asyncio.sleep(0)
            batch.complete(0)
            # From a callback of the loop, as the sender does: no task runs then.
            before = time.perf_counter()
            loop.call_soon(batch.wake, True)
            await tasks[-1]
            spent += time.perf_counter() - before
        return spent

    return asyncio.run(run())


def _gather(*, is_done: bool) -> Callable[[int], float]:
    async def wait(deliveries: list[Delivery]) -> float:
        await gather(deliveries)
        return time.perf_counter()

    async def run(loops: int) -> float:
        loop = asyncio.get_running_loop()
        spent = 0.0
        for _ in range(loops):
            batch, deliveries = _batch(loop)
            if is_done:
                batch.complete(0)
            before = time.perf_counter()
            task = loop.create_task(wait(deliveries))
            await asyncio.sleep(0)
            if not is_done:
                batch.complete(0)
                loop.call_soon(batch.wake, True)
            spent += await task - before
        return spent

    return lambda loops: asyncio.run(run(loops))


if __name__ == "__main__":
    main()
