"""A buffer much smaller than the load: order, buffer space and memory, whatever the callers do."""

from __future__ import annotations

import asyncio
import resource
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from aioproducer import (
    BufferExhaustedError,
    Delivery,
    KafkaTimeoutError,
    Producer,
    RecordMetadata,
)
from tests.broker.helpers import buffer_used, fill_buffer, leader_of, producer_for, until
from tests.support.kafka import consume, create_topic
from tools.kafka import Kafka, NodeControl


class Watch:
    """Looks at the buffer after each turn of the loop, and keeps the extremes."""

    def __init__(self, producer: Producer[Any, Any]) -> None:
        self.least_available = float("inf")
        self.most_waiting = 0.0
        self._producer = producer
        self._task = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        while True:
            metrics = self._producer.metrics()
            self.least_available = min(self.least_available, metrics["buffer_available_bytes"])
            self.most_waiting = max(self.most_waiting, metrics["waiting_callers"])
            await asyncio.sleep(0)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.timeout(60)
async def test_ten_thousand_tasks_share_one_mebibyte_and_keep_their_order(kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=6)
    calls: list[bytes] = []
    results: dict[bytes, RecordMetadata] = {}

    async with producer_for(kafka, buffer_memory=1 << 20) as producer:

        async def send(number: int) -> None:
            value = b"%05d" % number + bytes(number % 1_500)
            calls.append(value[:5])
            results[value[:5]] = await producer.send_and_wait(
                topic, value, key=b"%d" % (number % 97)
            )

        watch = Watch(producer)
        async with asyncio.timeout(40), asyncio.TaskGroup() as tasks:
            for number in range(10_000):
                tasks.create_task(send(number))
        await watch.stop()
        assert buffer_used(producer) == 0
        assert producer.metrics()["waiting_callers"] == 0
    assert watch.least_available >= 0
    assert watch.most_waiting > 1_000
    stored = consume(kafka, topic)
    assert len(stored) == 10_000
    found: defaultdict[int, list[bytes]] = defaultdict(list)
    for record in stored:
        name = (record.value or b"")[:5]
        found[record.partition].append(name)
        assert (results[name].partition, results[name].offset) == (record.partition, record.offset)
    expected: defaultdict[int, list[bytes]] = defaultdict(list)
    for name in calls:
        expected[results[name].partition].append(name)
    assert found == expected


async def test_records_of_many_tasks_are_stored_in_the_order_of_their_calls(kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=2)
    calls: dict[int, list[bytes]] = {0: [], 1: []}
    async with producer_for(kafka, buffer_memory=30_000, batch_size=4_096) as producer:

        async def send(task: int) -> list[Delivery]:
            deliveries: list[Delivery] = []
            for number in range(25):
                value = b"%d-%d" % (task, number) + bytes(100 * (task % 20))
                calls[task % 2].append(value)
                deliveries.append(await producer.send(topic, value, partition=task % 2))
                if number % 3 == task % 3:
                    await asyncio.sleep(0)
            return deliveries

        watch = Watch(producer)
        async with asyncio.timeout(15):
            sent = await asyncio.gather(*[send(task) for task in range(100)])
            await asyncio.gather(*[delivery for deliveries in sent for delivery in deliveries])
        await watch.stop()
        assert buffer_used(producer) == 0
    assert watch.least_available >= 0
    assert watch.most_waiting > 0
    stored = consume(kafka, topic)
    for partition in (0, 1):
        found = [record.value for record in stored if record.partition == partition]
        assert found == calls[partition]


async def test_send_nowait_refuses_what_does_not_fit_the_buffer_and_works_again_later(
    kafka: Kafka, topic: str
) -> None:
    async with producer_for(kafka, buffer_memory=64 * 1024) as producer:
        await producer.send_and_wait(topic, b"warm", partition=0)
        accepted = fill_buffer(producer, topic, bytes(1_000), 0)
        assert 60 <= accepted <= 65
        with pytest.raises(BufferExhaustedError, match="buffer_memory") as caught:
            producer.send_nowait(topic, bytes(1_000), partition=0)
        assert caught.value.total_bytes == 64 * 1024
        assert 0 <= caught.value.available_bytes < 1_100
        await producer.flush()
        assert buffer_used(producer) == 0
        assert (await producer.send_nowait(topic, b"x", partition=0)).offset == accepted + 1
    assert len(consume(kafka, topic)) == accepted + 2


async def test_send_nowait_does_not_pass_those_who_wait(kafka: Kafka, topic: str) -> None:
    async with producer_for(kafka, buffer_memory=64 * 1024) as producer:
        await producer.send_and_wait(topic, b"warm", partition=0)
        fill_buffer(producer, topic, bytes(1_000), 0)
        waiting = asyncio.ensure_future(producer.send(topic, bytes(5_000), partition=0))
        with pytest.raises(BufferExhaustedError, match="callers waiting: 1"):
            producer.send_nowait(topic, b"small", partition=0)
        await (await waiting)


async def test_a_cancelled_wait_for_buffer_space_withdraws_its_record_alone(
    kafka: Kafka, topic: str
) -> None:
    async with producer_for(kafka, buffer_memory=64 * 1024) as producer:
        await producer.send_and_wait(topic, b"warm", partition=0)
        accepted = fill_buffer(producer, topic, bytes(1_000), 0)
        # The first few of these fit where a larger one did not.
        waiting = asyncio.ensure_future(producer.send(topic, b"large" + bytes(5_000), partition=0))
        tasks = [
            asyncio.ensure_future(producer.send(topic, b"%03d" % number, partition=0))
            for number in range(300)
        ]
        # Some before their task has run, some later.
        for task in tasks[::6]:
            task.cancel()
        await asyncio.sleep(0)
        for task in tasks[3::6]:
            if not task.done():
                task.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(waiting, *tasks, return_exceptions=True)
            await producer.flush()
        assert buffer_used(producer) == 0
        assert producer.metrics()["waiting_callers"] == 0
    stored = consume(kafka, topic)
    assert (stored[accepted + 1].value or b"").startswith(b"large")
    sent = [b"%03d" % number for number, task in enumerate(tasks) if not task.cancelled()]
    assert [record.value for record in stored[accepted + 2 :]] == sent
    assert 200 <= len(sent) <= 250


@pytest.mark.timeout(60)
async def test_waiting_for_buffer_space_ends_after_max_block_ms_and_says_why(
    kafka3: NodeControl,
) -> None:
    topic = create_topic(kafka3, partitions=1, replication_factor=1)
    loop = asyncio.get_running_loop()
    async with producer_for(
        kafka3, buffer_memory=64 * 1024, max_block_ms=800, request_timeout_ms=20_000
    ) as producer:
        await producer.send_and_wait(topic, b"warm")
        node = leader_of(kafka3, topic)
        kafka3.pause(node)
        try:
            accepted = fill_buffer(producer, topic, bytes(1_000), 0)
            started_at = loop.time()
            waiting = [asyncio.ensure_future(producer.send(topic, bytes(2_000))) for _ in range(50)]
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert 0.7 <= loop.time() - started_at < 3
            for error in results:
                assert isinstance(error, KafkaTimeoutError)
                assert "max_block_ms" in str(error)
                assert not error.possibly_persisted
            assert producer.metrics()["waiting_callers"] == 0
        finally:
            kafka3.resume(node)
        # What was accepted is stored, and the producer goes on.
        async with asyncio.timeout(20):
            await producer.flush()
            assert (await producer.send_and_wait(topic, b"x")).offset == accepted + 1
        assert buffer_used(producer) == 0


@pytest.mark.timeout(60)
async def test_buffer_space_that_a_large_record_gave_up_on_goes_to_the_small_ones_behind_it(
    kafka3: NodeControl,
) -> None:
    topic = create_topic(kafka3, partitions=1, replication_factor=1)
    async with producer_for(
        kafka3, buffer_memory=64 * 1024, max_block_ms=1_000, request_timeout_ms=20_000
    ) as producer:
        await producer.send_and_wait(topic, b"warm")
        node = leader_of(kafka3, topic)
        kafka3.pause(node)
        try:
            producer.send_nowait(topic, bytes(40_000))
            large = asyncio.ensure_future(producer.send(topic, bytes(40_000)))
            await asyncio.sleep(0.5)
            small = asyncio.ensure_future(producer.send(topic, b"small"))
            with pytest.raises(KafkaTimeoutError):
                await large
            await until(small.done, within=0.3)
            assert isinstance(small.result(), Delivery)
        finally:
            kafka3.resume(node)
        async with asyncio.timeout(20):
            await (await small)


@pytest.mark.timeout(60)
async def test_memory_stays_flat_while_much_more_than_the_buffer_passes(kafka: Kafka) -> None:
    topic = create_topic(
        kafka, partitions=3, config={"retention.bytes": "10000000", "segment.bytes": "10000000"}
    )
    async with producer_for(kafka, buffer_memory=1 << 20) as producer:

        async def pour(records: int) -> None:
            for number in range(records):
                await producer.send(topic, bytes(8_000), partition=number % 3)

        async def pour_from_many(records: int) -> None:
            await asyncio.gather(*[pour(records // 50) for _ in range(50)])
            await producer.flush()

        await pour_from_many(2_000)
        before = resident_bytes()
        await pour_from_many(10_000)
        grown = resident_bytes() - before
        assert buffer_used(producer) == 0
    assert grown < 16 << 20
