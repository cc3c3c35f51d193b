"""confluent-kafka's AIOProducer, with idempotence.

It collects 1,000 records or waits for its own timer, 1 s by default. `buffer_timeout` is set to
10 ms here, or nothing that waits for its own record would be worth measuring.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from typing import Any

from confluent_kafka.aio import AIOProducer

from benchmarks import drivers
from benchmarks.jobs import Job, Measurement, Pattern

IDIOMS = {
    Pattern.AWAIT_LATER: "await produce(), each future awaited later",
    Pattern.TAKE_TURNS: "await (await produce())",
    Pattern.ONE_AT_A_TIME: "await (await produce())",
}
WRITES_TO_KAFKA = True
_BUFFER_TIMEOUT = 0.01
_VERSION = importlib.metadata.version("confluent-kafka")


def unavailable() -> str | None:
    """It is in the bench group."""
    return None


def measure(job: Job) -> Measurement:
    """Do the job."""
    return drivers.run_on_loop(job, _measure)


async def _measure(job: Job) -> Measurement:
    options = {
        "bootstrap.servers": job.bootstrap_servers,
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": job.payload.codec,
    }
    producer = AIOProducer(options, buffer_timeout=_BUFFER_TIMEOUT)

    async def send_and_wait(topic: str, value: bytes) -> Any:
        return await (await producer.produce(topic, value))

    try:
        match job.pattern:
            case Pattern.AWAIT_LATER:
                return await drivers.await_later(job, producer.produce, producer.flush, _VERSION)
            case Pattern.TAKE_TURNS:
                return await drivers.take_turns(job, send_and_wait, _VERSION)
            case Pattern.ONE_AT_A_TIME:
                return await drivers.one_at_a_time(job, send_and_wait, _VERSION)
            case _:
                raise NotImplementedError(job.pattern)
    finally:
        await asyncio.wait_for(producer.close(), 30)
