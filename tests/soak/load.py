"""Many more senders than the buffer holds, while the only leader is frozen.

A part of the soak for itself (`make soak PARTS=load`), and a test with a shorter pause.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any

from aioproducer import Producer
from tests.broker.helpers import buffer_used, leader_of, producer_for
from tests.soak.watching import resident_bytes
from tests.support.kafka import create_topic, end_offsets
from tools.kafka import NodeControl

__all__ = ["senders_outlive_a_frozen_leader"]

BUFFER = 8 << 20
VALUE_SIZE = 400
SAMPLE = 10_000
"""So many senders who wait are measured, to know what each of the others may take."""


async def senders_outlive_a_frozen_leader(
    kafka: NodeControl, *, senders: int, frozen_for: float, say: Callable[[str], object] = print
) -> None:
    """Have `senders` tasks send one record each to a leader that is frozen, then resumed.

    Raises:
        AssertionError: Memory was not bounded, or somebody was not served in turn.
    """
    topic = await asyncio.to_thread(create_topic, kafka, partitions=1, replication_factor=1)
    producer = producer_for(
        kafka, buffer_memory=BUFFER, max_block_ms=600_000, delivery_timeout_ms=600_000
    )
    async with producer:
        await producer.send_and_wait(topic, b"warm")
        node = await asyncio.to_thread(leader_of, kafka, topic)
        await asyncio.to_thread(kafka.pause, node)
        try:
            frozen_at = time.monotonic()
            tasks = await _all_waiting(producer, topic, senders, say)
            await asyncio.sleep(max(0.0, frozen_at + frozen_for - time.monotonic()))
            assert not any(task.done() for task in tasks)
        finally:
            await asyncio.to_thread(kafka.resume, node)
        resumed_at = time.monotonic()
        offsets = await asyncio.gather(*tasks)
        say(f"all stored {time.monotonic() - resumed_at:.1f} s after the leader went on")
        # One partition: the order of admission is the order of the log.
        assert offsets == list(range(1, senders + 1))
        assert buffer_used(producer) == 0
        assert producer.metrics()["waiting_callers"] == 0
        assert producer.metrics()["record_error_total"] == 0
    ends = await asyncio.to_thread(end_offsets, kafka, topic)
    assert ends == {0: senders + 1}


async def _all_waiting(
    producer: Producer[Any, Any], topic: str, senders: int, say: Callable[[str], object]
) -> list[asyncio.Task[int]]:
    """Start the senders; return when each has called, with the memory they took checked."""

    async def send(number: int) -> int:
        value = b"%06d" % number + bytes(VALUE_SIZE - 6)
        return (await producer.send_and_wait(topic, value)).offset

    tasks: list[asyncio.Task[int]] = []

    async def start(count: int) -> int:
        tasks.extend(
            asyncio.ensure_future(send(number)) for number in range(len(tasks), len(tasks) + count)
        )
        # Their first steps are in the queue before this task's next one.
        await asyncio.sleep(0)
        gc.collect()
        return resident_bytes()

    at_first = await start(0)
    # As many as the buffer holds, and a thousand who wait.
    full = await start(BUFFER // VALUE_SIZE + 1_000)
    assert buffer_used(producer) > BUFFER - 2 * VALUE_SIZE
    waiting = producer.metrics()["waiting_callers"]
    assert waiting > 0
    of_each = (await start(SAMPLE) - full) / SAMPLE
    before = resident_bytes()
    rest = senders - len(tasks)
    grown = await start(rest) - before
    assert producer.metrics()["waiting_callers"] == waiting + SAMPLE + rest
    assert buffer_used(producer) <= BUFFER
    say(
        f"{senders} senders, {waiting + SAMPLE + rest:.0f} of them waiting for buffer space:"
        f" {(resident_bytes() - at_first) / 2**20:.0f} MiB,"
        f" {of_each:.0f} bytes for each who waits"
    )
    # Linear in those who wait, and not much for each: a task, its record and its place.
    assert of_each < 6_144
    assert grown < rest * of_each * 1.25 + (4 << 20)
    return tasks
