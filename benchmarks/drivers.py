"""The patterns as asyncio code, shared by every client with coroutines.

A driver gets the client's own functions (`send(topic, value, key=..., headers=...)` looks alike
in all of them), so that one application is measured over different clients. Nothing here but the
sending runs once per record, as far as a pattern allows.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.jobs import WARM_UP, Job, Measurement, Pattern, Records, Stopwatch

__all__ = [
    "BLOCK",
    "LATENCY_EVERY",
    "PACED_HEADER",
    "await_later",
    "blocks",
    "bulk",
    "heartbeat",
    "next_turn",
    "one_at_a_time",
    "paced",
    "run_on_loop",
    "start_up",
    "take_turns",
    "task_per_record",
    "transactions",
    "window",
]

Send = Callable[..., Awaitable[Any]]
Flush = Callable[[], Awaitable[object]]

BLOCK = 1_000
"""Records between two looks at the clock."""

PACED_HEADER = 8
"""Paced values start with their number in so many bytes; those of the warm-up with 0xff."""

_MOST_TASKS = 1_000
_BULK_SIZE = 1_000
_TICK = 0.001
_LONGEST_WARM_UP = 2.0
"""Of one record at a time: for a client that takes a fifth of a second for each."""
LATENCY_EVERY = 499
"""Of paced records, the latency of one in so many is noted: a prime, to hit all partitions."""


def run_on_loop(job: Job, main: Callable[[Job], Awaitable[Measurement]]) -> Measurement:
    """Run `main(job)` on the loop that the job names."""

    async def run() -> Measurement:
        return await main(job)

    if job.loop == "uvloop":
        import uvloop

        return uvloop.run(run())
    return asyncio.run(run())


async def next_turn() -> None:
    """Let everything else that is ready run."""
    await asyncio.sleep(0)


def window(job: Job) -> int:
    """How many results an application keeps before it looks at the older ones.

    Twice as many are under way: 100,000 small ones; 250,000 where replicas make each wait longer;
    few where the loop is watched, for to await what is done already gives it no turn.
    """
    most = 125_000 if "," in job.bootstrap_servers else 50_000
    if job.pattern is Pattern.HEARTBEAT:
        most = 2_000
    return max(16, min(most, (12 << 20) // job.payload.value_bytes))


async def await_later(job: Job, send: Send, flush: Flush, version: str) -> Measurement:
    """`results.append(await send())`; each result is awaited one window later."""
    await _warm_up(job, send, flush)
    watch = Stopwatch()
    count = await _send_and_await_later(job, send, flush)
    return watch.stop(count, version)


async def start_up(first_record: Callable[[], Awaitable[object]], version: str) -> Measurement:
    """`first_record()` makes a client and waits for its first record; the heartbeat goes along."""
    turns: list[float] = []
    beating = asyncio.create_task(_beat(turns))
    await next_turn()
    watch = Stopwatch()
    await first_record()
    measurement = watch.stop(1, version, latencies=turns, warm_up=0)
    beating.cancel()
    return measurement


async def heartbeat(job: Job, send: Send, flush: Flush, version: str) -> Measurement:
    """`await_later`, and the turns of the loop as another task sees them."""
    await _warm_up(job, send, flush)
    turns: list[float] = []
    beating = asyncio.create_task(_beat(turns))
    watch = Stopwatch()
    count = await _send_and_await_later(job, send, flush)
    beating.cancel()
    return watch.stop(count, version, latencies=turns)


async def _beat(turns: list[float]) -> None:
    clock = time.perf_counter
    before = clock()
    while True:
        await asyncio.sleep(0)
        now = clock()
        turns.append(now - before)
        before = now


async def _send_and_await_later(job: Job, send: Send, flush: Flush) -> int:
    topic = job.topic
    records = Records.of(job.payload)
    most = window(job)
    block = min(BLOCK, most)
    count = 0
    older: list[Awaitable[Any]] = []
    results: list[Awaitable[Any]] = []
    clock = time.perf_counter
    until = clock() + job.seconds
    while clock() < until:
        if job.payload.is_card:
            headers = records.headers
            for key, value in zip(records.keys, records.values, strict=True):
                results.append(await send(topic, value, key=key, headers=headers))
            count += len(records.values)
        else:
            value = records.values[0]
            results += [await send(topic, value) for _ in range(block)]
            count += block
        if len(results) >= most:
            for result in older:
                await result
            older, results = results, []
    await flush()
    for result in older + results:
        await result
    return count


async def bulk(job: Job, send_many: Send, version: str) -> Measurement:
    """Each caller awaits lists of 1,000 in turn."""
    value = Records.of(job.payload).values[0]
    await send_many(job.topic, [value] * WARM_UP)
    clock = time.perf_counter
    count = 0

    async def caller() -> None:
        nonlocal count
        values = [value] * _BULK_SIZE
        while clock() < until:
            results = await send_many(job.topic, values)
            count += len(results)

    watch = Stopwatch()
    until = clock() + job.seconds
    await asyncio.gather(*[caller() for _ in range(job.tasks)])
    return watch.stop(count, version)


async def blocks(
    job: Job, send_block: Callable[[int], Awaitable[object]], version: str
) -> Measurement:
    """One block of records after the other; the time that each takes.

    `send_block` sends so many records and returns when all are acknowledged, or committed.
    """
    clock = time.perf_counter
    await send_block(WARM_UP)
    warm_up = WARM_UP
    until = clock() + job.seconds / 2
    while clock() < until:
        await send_block(job.block)
        warm_up += job.block
    latencies: list[float] = []
    watch = Stopwatch()
    now = clock()
    until = now + job.seconds
    while now < until:
        before = now
        await send_block(job.block)
        now = clock()
        latencies.append(now - before)
    count = len(latencies)
    return watch.stop(
        count * job.block, version, latencies=latencies, warm_up=warm_up, blocks=count
    )


async def transactions(job: Job, producer: Any, version: str) -> Measurement:
    """One transaction after the other, by the block of a producer whose sends are not awaited."""
    topic = job.topic
    value = Records.of(job.payload).values[0]

    async def transaction(count: int) -> None:
        # Leaving it waits for every record, and raises if one failed.
        async with producer.transaction():
            for _ in range(count):
                await producer.send(topic, value)

    return await blocks(job, transaction, version)


async def take_turns(
    job: Job, send_and_wait: Send, version: str, *, warm_up: int = WARM_UP
) -> Measurement:
    """`job.tasks` tasks, each awaiting its record before the next; one in ten takes the time."""
    topic = job.topic
    value = Records.of(job.payload).values[0]
    await _wait_for_many(send_and_wait, topic, value, warm_up)
    is_over = False
    count = 0
    latencies: list[float] = []
    clock = time.perf_counter

    async def caller() -> None:
        nonlocal count
        await send_and_wait(topic, value)
        sent = 1
        while not is_over:
            await send_and_wait(topic, value)
            sent += 1
        count += sent

    async def timed_caller() -> None:
        nonlocal count
        sent = 0
        while not (is_over and sent):
            before = clock()
            await send_and_wait(topic, value)
            latencies.append(clock() - before)
            sent += 1
        count += sent

    def end() -> None:
        nonlocal is_over
        is_over = True

    watch = Stopwatch()
    asyncio.get_running_loop().call_later(job.seconds, end)
    # Each sends at least one: making 100,000 tasks may take longer than the time to send.
    await asyncio.gather(
        *[timed_caller() if number % 10 == 0 else caller() for number in range(job.tasks)]
    )
    return watch.stop(count, version, latencies=latencies, warm_up=warm_up)


async def task_per_record(
    job: Job, send_and_wait: Send, version: str, *, warm_up: int = WARM_UP
) -> Measurement:
    """A task for each record, as a web server has one for each request."""
    topic = job.topic
    value = Records.of(job.payload).values[0]
    await _wait_for_many(send_and_wait, topic, value, warm_up)
    loop = asyncio.get_running_loop()
    alive = 0
    count = 0
    has_room = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def request() -> None:
        nonlocal alive
        await send_and_wait(topic, value)
        alive -= 1
        if alive == _MOST_TASKS // 2:
            has_room.set()

    watch = Stopwatch()
    until = time.perf_counter() + job.seconds
    while time.perf_counter() < until:
        started = _MOST_TASKS - alive
        tasks = [loop.create_task(request()) for _ in range(started)]
        alive += started
        count += started
        has_room.clear()
        await has_room.wait()
    await asyncio.gather(*tasks)
    while alive:
        await next_turn()
    return watch.stop(count, version, warm_up=warm_up)


async def one_at_a_time(job: Job, send_and_wait: Send, version: str) -> Measurement:
    """One record after the other; the latency of each."""
    topic = job.topic
    value = Records.of(job.payload).values[0]
    clock = time.perf_counter
    warm_up = 0
    give_up_at = clock() + _LONGEST_WARM_UP
    while warm_up < WARM_UP // 4 and clock() < give_up_at:
        await send_and_wait(topic, value)
        warm_up += 1
    latencies: list[float] = []
    watch = Stopwatch()
    now = clock()
    until = now + job.seconds
    while now < until:
        before = clock()
        await send_and_wait(topic, value)
        now = clock()
        latencies.append(now - before)
    return watch.stop(len(latencies), version, latencies=latencies, warm_up=warm_up)


async def paced(job: Job, send: Send, flush: Flush, version: str) -> Measurement:
    """`job.rate` numbered records a second; latency counts from when a record was due.

    A loop that falls behind sends the missed records at once: their latency shows the delay.
    """
    topic = job.topic
    padding = Records.of(job.payload).values[0][PACED_HEADER:]
    warm_up = b"\xff" * PACED_HEADER + padding
    await _send_all(send, flush, topic, warm_up, WARM_UP)
    clock = time.perf_counter
    latencies: list[float] = []
    failures = 0
    checks: deque[list[Awaitable[Any]]] = deque()
    has_checks = asyncio.Event()

    async def note(result: Awaitable[Any], due_at: float) -> None:
        await result
        latencies.append(clock() - due_at)

    async def check() -> None:
        nonlocal failures
        while results := await _next(checks, has_checks):
            for result in results:
                try:
                    await result
                except Exception:
                    failures += 1

    checker = asyncio.create_task(check())
    notes: set[asyncio.Task[None]] = set()
    watch = Stopwatch()
    started = clock()
    count = 0
    total = int(job.rate * job.seconds)
    while count < total:
        due = min(total, int((clock() - started) * job.rate))
        results: list[Awaitable[Any]] = []
        for number in range(count, due):
            result = await send(topic, number.to_bytes(PACED_HEADER, "big") + padding)
            results.append(result)
            if number % LATENCY_EVERY == 0:
                task = asyncio.create_task(note(result, started + number / job.rate))
                notes.add(task)
                task.add_done_callback(notes.discard)
        count = due
        if results:
            checks.append(results)
            has_checks.set()
        await asyncio.sleep(_TICK)
    await flush()
    checks.append([])
    has_checks.set()
    await checker
    return watch.stop(count - failures, version, latencies=latencies, failures=failures)


async def _next(
    checks: deque[list[Awaitable[Any]]], has_checks: asyncio.Event
) -> list[Awaitable[Any]]:
    while not checks:
        has_checks.clear()
        await has_checks.wait()
    return checks.popleft()


async def _warm_up(job: Job, send: Send, flush: Flush) -> None:
    await _send_all(send, flush, job.topic, Records.of(job.payload).values[0], WARM_UP)


async def _send_all(send: Send, flush: Flush, topic: str, value: bytes, count: int) -> None:
    results = [await send(topic, value) for _ in range(count)]
    await flush()
    for result in results:
        await result


async def _wait_for_many(send_and_wait: Send, topic: str, value: bytes, count: int) -> None:
    async def request() -> None:
        await send_and_wait(topic, value)

    await asyncio.gather(*[request() for _ in range(count)])
