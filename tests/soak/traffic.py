"""Every way to send, for any number of minutes, over connections that break every few seconds.

A part of the soak. One producer lives as long as the run; others are opened and closed again and
again. Every few seconds the sockets of all are shut down under them, as a network would. At the
end each topic must hold exactly what its producers say was delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aioproducer import BufferExhaustedError, Delivery, KafkaError, Producer, UndeliveredRecords
from aioproducer.config import ProducerOptions
from tests.broker.helpers import producer_for, until
from tests.soak.watching import Sample, expect_flat, sample
from tests.support.kafka import create_topic, end_offsets
from tests.support.producing import sender_of
from tools.kafka import Kafka

__all__ = ["traffic"]

AnyProducer = Producer[Any, Any]

CUT_EVERY = 3.0
BYTES_PER_HOUR = 16 << 20
OBJECTS_ALLOWED = 2_000
SHORT_LIVED: tuple[ProducerOptions, ...] = (
    {},
    {"compression_type": "lz4", "linger_ms": 5},
    {"compression_type": "zstd", "batch_size": 100_000},
    {"batch_size": 0},
    {"acks": 1, "enable_idempotence": False},
)


@dataclass(slots=True)
class Traffic:
    """What the senders share.

    Attributes:
        kafka: Where to.
        topic: Of the producer that lives as long as the run.
        brief: Of those that are closed in order.
        given_up: Of those that are closed at once.
        open: The producers whose connections may be cut.
        totals: Accepted, delivered and failed records of those that closed, and more.
    """

    kafka: Kafka
    topic: str
    brief: str
    given_up: str
    open: set[AnyProducer] = field(default_factory=set[AnyProducer])
    totals: Counter[str] = field(default_factory=Counter[str])
    random: random.Random = field(default_factory=lambda: random.Random(1))

    def value(self, number: int) -> bytes:
        """Make up a record."""
        return b"%d " % number + bytes(self.random.randrange(20, 400))


async def traffic(
    kafka: Kafka,
    seconds: float,
    *,
    every: float = 10.0,
    say: Callable[[str], object] = print,
) -> None:
    """Send in every way for so many seconds, with one line `every` so many.

    Raises:
        AssertionError: Memory, tasks or descriptors grew, or a count is wrong.
    """
    config = {"retention.bytes": "20000000", "segment.bytes": "10000000"}
    topic, brief, given_up = [
        await asyncio.to_thread(create_topic, kafka, config=config) for _ in range(3)
    ]
    run = Traffic(kafka, topic, brief, given_up)
    await _warm_up(run)
    before = sample()
    say(f"at first: {before}")
    samples: list[Sample] = []
    async with _open(run) as producer:
        senders = [
            asyncio.ensure_future(forever)
            for forever in (
                *(_one_after_the_other(run, producer) for _ in range(20)),
                _pipelined(run, producer),
                _forgotten(run, producer),
                _in_bulk(run, producer),
                _short_lived_tasks(run, producer),
                _flushes(producer),
                _short_lived_producers(run),
                _cuts(run),
            )
        ]
        watching = asyncio.ensure_future(_watch(producer, seconds, every, samples, say))
        done, _ = await asyncio.wait([watching, *senders], return_when=asyncio.FIRST_COMPLETED)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        for ended in done:
            ended.result()
        await producer.flush()
        metrics = producer.metrics()
    await _expect_exact(run, metrics, say)
    with contextlib.suppress(TimeoutError):
        await until(lambda: sample().descriptors <= before.descriptors, within=5)
    after = sample()
    say(f"at last: {after}")
    assert (after.descriptors, after.tasks) == (before.descriptors, before.tasks)
    half = samples[len(samples) // 2 :]
    assert half[-1].objects - half[0].objects < OBJECTS_ALLOWED + half[0].objects // 20
    growth = expect_flat(samples, bytes_per_hour=BYTES_PER_HOUR)
    say(f"memory grew by {growth / 2**20:.1f} MiB an hour over the second half")


async def _warm_up(run: Traffic) -> None:
    """Load what is loaded once, and leave nothing open."""
    for options in SHORT_LIVED:
        async with producer_for(run.kafka, **options) as producer:
            await producer.send_many(run.brief, [run.value(number) for number in range(50)])
            run.totals["brief delivered"] += 50
    await asyncio.to_thread(end_offsets, run.kafka, run.topic)


@asynccontextmanager
async def _open(run: Traffic) -> AsyncGenerator[AnyProducer]:
    """Open the producer of the run, and have its connections cut with the others'."""
    async with producer_for(run.kafka, buffer_memory=1 << 20) as producer:
        run.open.add(producer)
        try:
            yield producer
        finally:
            run.open.discard(producer)


async def _watch(
    producer: AnyProducer,
    seconds: float,
    every: float,
    samples: list[Sample],
    say: Callable[[str], object],
) -> None:
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    seen = 0.0
    while loop.time() - started_at < seconds:
        await asyncio.sleep(min(every, seconds))
        metrics = producer.metrics()
        samples.append(sample())
        rate = (metrics["record_delivered_total"] - seen) / every
        seen = metrics["record_delivered_total"]
        say(
            f"{loop.time() - started_at:6.0f} s {rate:7.0f} records/s  {samples[-1]}"
            f"  accepted {metrics['record_accepted_total']:.0f}, delivered {seen:.0f},"
            f" failed {metrics['record_error_total']:.0f},"
            f" retries {metrics['batch_retry_total']:.0f}"
        )


async def _expect_exact(
    run: Traffic, metrics: dict[str, float], say: Callable[[str], object]
) -> None:
    totals = run.totals
    say(f"{dict(sorted(totals.items()))}")
    assert metrics["buffer_available_bytes"] == metrics["buffer_total_bytes"]
    assert metrics["waiting_callers"] == metrics["requests_in_flight"] == 0
    # Nothing fails for good: a broken connection is no reason.
    assert metrics["record_error_total"] == 0
    assert metrics["record_accepted_total"] == metrics["record_delivered_total"]
    assert totals["brief failed"] == 0
    stored = {
        topic: sum((await asyncio.to_thread(end_offsets, run.kafka, topic)).values())
        for topic in (run.topic, run.brief, run.given_up)
    }
    assert stored[run.topic] == metrics["record_delivered_total"]
    # Without idempotence a record whose answer was cut off may be there twice.
    assert 0 <= stored[run.brief] - totals["brief delivered"] <= totals["not idempotent"]
    assert (
        totals["given up delivered"]
        <= stored[run.given_up]
        <= totals["given up delivered"] + totals["given up possibly persisted"]
    )


# ---- ways to send


async def _one_after_the_other(run: Traffic, producer: AnyProducer) -> None:
    for number in count():
        timeout = 0.002 if number % 50 == 0 else None
        # The record goes on when its time is over.
        with contextlib.suppress(TimeoutError):
            await producer.send_and_wait(
                run.topic, run.value(number), key=b"%d" % (number % 31), timeout=timeout
            )
        await asyncio.sleep(0.01)


async def _pipelined(run: Traffic, producer: AnyProducer) -> None:
    under_way: deque[Delivery] = deque()
    for number in count():
        under_way.append(await producer.send(run.topic, run.value(number)))
        if len(under_way) > 500:
            await under_way.popleft()
        if number % 20 == 0:
            await asyncio.sleep(0.02)


async def _forgotten(run: Traffic, producer: AnyProducer) -> None:
    for number in count():
        with contextlib.suppress(BufferExhaustedError):
            for _ in range(10):
                producer.send_nowait(run.topic, run.value(number), headers=[("h", b"1")])
        await asyncio.sleep(0.02)


async def _in_bulk(run: Traffic, producer: AnyProducer) -> None:
    for number in count():
        await producer.send_many(run.topic, [run.value(number) for _ in range(200)])
        await asyncio.sleep(0.3)


async def _short_lived_tasks(run: Traffic, producer: AnyProducer) -> None:
    for number in count():
        tasks = [
            asyncio.ensure_future(producer.send_and_wait(run.topic, run.value(number)))
            for _ in range(20)
        ]
        await asyncio.sleep(0.03)
        for task in tasks[::7]:
            # Also those that wait for buffer space; what was accepted goes on.
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, KafkaError):
                raise outcome


async def _flushes(producer: AnyProducer) -> None:
    while True:
        await asyncio.sleep(1)
        await producer.flush()


async def _short_lived_producers(run: Traffic) -> None:
    for number in count():
        options = SHORT_LIVED[number % len(SHORT_LIVED)]
        is_given_up = number % 7 == 6
        topic = run.given_up if is_given_up else run.brief
        living = asyncio.ensure_future(
            _short_lived(run, topic, options, 0.0 if is_given_up else None)
        )
        try:
            await asyncio.shield(living)
        except asyncio.CancelledError:
            # One that the end of the run overtakes is closed in order too.
            await living
            raise
        await asyncio.sleep(0.2)


async def _short_lived(
    run: Traffic, topic: str, options: ProducerOptions, close_timeout: float | None
) -> None:
    name = "brief" if close_timeout is None else "given up"
    producer = producer_for(run.kafka, **options)
    await producer.start()
    run.open.add(producer)
    try:
        for number in range(200):
            await producer.send(topic, run.value(number))
    finally:
        undelivered = await producer.close(close_timeout)
        run.open.discard(producer)
    sender = sender_of(producer)
    metrics = sender.metrics()
    run.totals[f"{name} delivered"] += int(metrics["record_delivered_total"])
    run.totals[f"{name} failed"] += int(metrics["record_error_total"])
    run.totals["producers"] += 1
    if options.get("enable_idempotence") is False:
        run.totals["not idempotent"] += 200
    run.totals["given up possibly persisted"] += _possibly_persisted(undelivered)
    assert metrics["record_error_total"] == len(undelivered)
    assert metrics["record_accepted_total"] == 200
    assert metrics["record_accepted_total"] == (
        metrics["record_delivered_total"] + metrics["record_error_total"]
    )


def _possibly_persisted(undelivered: UndeliveredRecords) -> int:
    return sum(entry.error.possibly_persisted for entry in undelivered)


async def _cuts(run: Traffic) -> None:
    while True:
        await asyncio.sleep(CUT_EVERY * run.random.uniform(0.5, 1.5))
        for producer in list(run.open):
            run.totals["cuts"] += _cut(producer)


def _cut(producer: AnyProducer) -> int:
    """Shut a producer's sockets down under it; return how many."""
    sender = sender_of(producer)
    cuts = 0
    for broker in sender.cluster.brokers.values():
        connection = broker.connection
        if connection is None or (transport := connection._transport) is None:  # pyright: ignore
            continue
        descriptor: int = transport.get_extra_info("socket").fileno()
        if descriptor < 0:
            continue
        with socket.socket(fileno=os.dup(descriptor)) as copy, contextlib.suppress(OSError):
            copy.shutdown(socket.SHUT_RDWR)
            cuts += 1
    return cuts
