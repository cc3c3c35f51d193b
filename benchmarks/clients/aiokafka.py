"""aiokafka, with idempotence. Larger batches than its 16 KiB made it no faster."""

from __future__ import annotations

import importlib.metadata
import ssl
import time
from typing import Any

import aiokafka

from benchmarks import drivers
from benchmarks.jobs import WARM_UP, Job, Measurement, Pattern, Records, Stopwatch

IDIOMS = {
    Pattern.CALL: "await send(), its future dropped",
    Pattern.AWAIT_LATER: "await send(), each future awaited later",
    Pattern.CALLBACK: "await send(), future.add_done_callback()",
    Pattern.TAKE_TURNS: "await send_and_wait()",
    Pattern.TASK_PER_RECORD: "await send_and_wait()",
    Pattern.ONE_AT_A_TIME: "await send_and_wait()",
    Pattern.PACED: "await send(), each future awaited later",
    Pattern.HEARTBEAT: "await send(), each future awaited later",
    Pattern.TRANSACTIONS: "async with transaction(): await send() in a loop",
    Pattern.ROUTE: "await send_and_wait() in the route",
    Pattern.START_UP: "async with AIOKafkaProducer(), await send_and_wait()",
}
WRITES_TO_KAFKA = True
_VERSION = importlib.metadata.version("aiokafka")


def unavailable() -> str | None:
    """It is in the bench group."""
    return None


def measure(job: Job) -> Measurement:
    """Do the job."""
    return drivers.run_on_loop(job, _measure)


async def _measure(job: Job) -> Measurement:
    codec = job.payload.codec
    options: dict[str, Any] = {"compression_type": None if codec == "none" else codec}
    if job.max_request_bytes is not None:
        options["max_request_size"] = job.max_request_bytes
    if job.ca_location:
        context = ssl.create_default_context(cafile=job.ca_location)
        options |= {"security_protocol": "SSL", "ssl_context": context}
    if job.pattern is Pattern.TRANSACTIONS:
        options["transactional_id"] = job.topic
    producer: Any = aiokafka.AIOKafkaProducer(
        bootstrap_servers=job.bootstrap_servers, acks="all", enable_idempotence=True, **options
    )
    if job.pattern is Pattern.START_UP:
        return await _start_up(job, producer)
    async with producer:
        match job.pattern:
            case Pattern.CALL | Pattern.CALLBACK:
                return await _call(job, producer)
            case Pattern.AWAIT_LATER:
                return await drivers.await_later(job, producer.send, producer.flush, _VERSION)
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
            case Pattern.TRANSACTIONS:
                return await drivers.transactions(job, producer, _VERSION)
            case _:
                raise NotImplementedError(job.pattern)


async def _start_up(job: Job, producer: Any) -> Measurement:
    async def first_record() -> None:
        await producer.start()
        await producer.send_and_wait(job.topic, b"first")

    try:
        return await drivers.start_up(first_record, _VERSION)
    finally:
        await producer.stop()


async def _call(job: Job, producer: Any) -> Measurement:
    topic = job.topic
    value = Records.of(job.payload).values[0]
    for _ in range(WARM_UP):
        await producer.send(topic, value)
    await producer.flush()
    acknowledged = failures = 0

    def on_delivery(future: Any) -> None:
        nonlocal acknowledged, failures
        if future.exception() is None:
            acknowledged += 1
        else:
            failures += 1

    has_callback = job.pattern is Pattern.CALLBACK
    sent = 0
    clock = time.perf_counter
    watch = Stopwatch()
    until = clock() + job.seconds
    while clock() < until:
        if has_callback:
            for _ in range(drivers.BLOCK):
                (await producer.send(topic, value)).add_done_callback(on_delivery)
        else:
            for _ in range(drivers.BLOCK):
                await producer.send(topic, value)
        sent += drivers.BLOCK
    await producer.flush()
    while has_callback and acknowledged + failures < sent:
        await drivers.next_turn()
    return watch.stop(acknowledged if has_callback else sent, _VERSION, failures=failures)
