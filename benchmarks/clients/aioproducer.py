"""This producer, with its defaults."""

from __future__ import annotations

import asyncio
import importlib.metadata
import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from aioproducer import BufferExhaustedError, KafkaError, Producer, RecordMetadata
from benchmarks import drivers
from benchmarks.jobs import WARM_UP, Job, Measurement, Pattern, Records, Stopwatch, spread_keys

IDIOMS = {
    Pattern.CALL: "send_nowait(), await send() while the buffer is full",
    Pattern.AWAIT_LATER: "await send(), each Delivery awaited later",
    Pattern.CALLBACK: "await send(on_delivery=...)",
    Pattern.BULK: "await send_many()",
    Pattern.TAKE_TURNS: "await send_and_wait()",
    Pattern.TASK_PER_RECORD: "await send_and_wait()",
    Pattern.ONE_AT_A_TIME: "await send_and_wait()",
    Pattern.PACED: "await send(), each Delivery awaited later",
    Pattern.HEARTBEAT: "await send(), each Delivery awaited later",
    Pattern.SPREAD: "send_nowait(), await send() while the buffer is full",
    Pattern.TRANSACTIONS: "async with transaction(): await send() in a loop",
    Pattern.BLOCKS: "await send() in a loop, await flush()",
    Pattern.ROUTE: "await send_and_wait() in the route",
    Pattern.START_UP: "async with Producer(), await send_and_wait()",
}
WRITES_TO_KAFKA = True
_VERSION = importlib.metadata.version("aioproducer")


def unavailable() -> str | None:
    """It is always here."""
    return None


def measure(job: Job) -> Measurement:
    """Do the job."""
    return drivers.run_on_loop(job, _measure)


async def _measure(job: Job) -> Measurement:
    options: dict[str, Any] = {"compression_type": job.payload.codec, **job.options}
    if job.ca_location:
        options |= {"security_protocol": "SSL", "ssl_ca_location": job.ca_location}
    if job.pattern is Pattern.TRANSACTIONS:
        options["transactional_id"] = job.topic
    make: Callable[[], Producer] = partial(
        Producer, bootstrap_servers=job.bootstrap_servers, **options
    )
    if job.pattern is Pattern.START_UP:
        return await _start_up(job, make)
    async with make() as producer:
        match job.pattern:
            case Pattern.CALL:
                return await _call(job, producer)
            case Pattern.AWAIT_LATER:
                return await drivers.await_later(job, producer.send, producer.flush, _VERSION)
            case Pattern.CALLBACK:
                return await _callback(job, producer)
            case Pattern.BULK:
                return await drivers.bulk(job, producer.send_many, _VERSION)
            case Pattern.TAKE_TURNS:
                return await drivers.take_turns(job, producer.send_and_wait, _VERSION)
            case Pattern.TASK_PER_RECORD:
                return await drivers.task_per_record(job, producer.send_and_wait, _VERSION)
            case Pattern.ONE_AT_A_TIME:
                return await drivers.one_at_a_time(job, producer.send_and_wait, _VERSION)
            case Pattern.PACED:
                return await drivers.paced(job, producer.send, producer.flush, _VERSION)
            case Pattern.HEARTBEAT:
                return await drivers.heartbeat(job, producer.send, producer.flush, _VERSION)
            case Pattern.SPREAD:
                return await _spread(job, producer)
            case Pattern.TRANSACTIONS:
                return await drivers.transactions(job, producer, _VERSION)
            case Pattern.BLOCKS:
                return await _blocks(job, producer)
            case _:
                raise NotImplementedError(job.pattern)


async def _start_up(job: Job, make: Callable[[], Producer]) -> Measurement:
    producer = make()

    async def first_record() -> None:
        await producer.start()
        await producer.send_and_wait(job.topic, b"first")

    try:
        return await drivers.start_up(first_record, _VERSION)
    finally:
        await producer.close()


async def _call(job: Job, producer: Producer) -> Measurement:
    topic = job.topic
    value = Records.of(job.payload).values[0]
    for _ in range(WARM_UP):
        await producer.send(topic, value)
    await producer.flush()
    clock = time.perf_counter
    send_nowait = producer.send_nowait
    block = min(drivers.BLOCK, drivers.window(job))
    count = 0
    watch = Stopwatch()
    until = clock() + job.seconds
    while clock() < until:
        for _ in range(block):
            try:
                send_nowait(topic, value)
            except BufferExhaustedError:
                await producer.send(topic, value)
        count += block
        await asyncio.sleep(0)
    await producer.flush()
    return watch.stop(count, _VERSION)


async def _callback(job: Job, producer: Producer) -> Measurement:
    topic = job.topic
    value = Records.of(job.payload).values[0]
    acknowledged = failures = 0

    def on_delivery(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        nonlocal acknowledged, failures
        if error is None:
            acknowledged += 1
        else:
            failures += 1

    clock = time.perf_counter
    send = producer.send
    for _ in range(WARM_UP):
        await send(topic, value)
    await producer.flush()
    watch = Stopwatch()
    until = clock() + job.seconds
    while clock() < until:
        for _ in range(drivers.BLOCK):
            await send(topic, value, on_delivery=on_delivery)
    await producer.flush()
    return watch.stop(acknowledged, _VERSION, failures=failures)


async def _spread(job: Job, producer: Producer) -> Measurement:
    """Each record goes to the next topic, or with one topic, has the next key."""
    value = Records.of(job.payload).values[0]
    topics = job.topic_names
    keys = spread_keys() if job.topics == 1 else []
    places: list[tuple[str, bytes | None]] = [(job.topic, key) for key in keys]
    places = places or [(topic, None) for topic in topics]
    for topic, key in places[:WARM_UP]:
        await producer.send(topic, value, key=key)
    # Topics come to be known as they are first used; that is start-up, not the cost of a record.
    for topic in topics:
        await producer.partitions_for(topic)
    await producer.flush()
    warm_up = len(places[:WARM_UP])
    clock = time.perf_counter
    send_nowait = producer.send_nowait
    following = itertools.cycle(places)
    count = 0
    watch = Stopwatch()
    until = clock() + job.seconds
    while clock() < until:
        for topic, key in itertools.islice(following, drivers.BLOCK):
            try:
                send_nowait(topic, value, key=key)
            except BufferExhaustedError:
                await producer.send(topic, value, key=key)
        count += drivers.BLOCK
        await asyncio.sleep(0)
    await producer.flush()
    return watch.stop(count, _VERSION, warm_up=warm_up)


async def _blocks(job: Job, producer: Producer) -> Measurement:
    topic = job.topic
    value = Records.of(job.payload).values[0]

    async def block(count: int) -> None:
        for _ in range(count):
            await producer.send(topic, value)
        await producer.flush()

    return await drivers.blocks(job, block, _VERSION)
