"""A broker that is silent keeps waiting those who send to it, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from aioproducer import BufferExhaustedError, Delivery, Producer
from aioproducer.config import ProducerOptions
from aioproducer.testing import FakeCluster
from tests.support.producing import FAST, TOPIC, outcome, producing, prove, sender_of, until, values

AnyProducer = Producer[Any, Any]

MEMORY = 200_000
OPTIONS: ProducerOptions = {
    **FAST,
    "buffer_memory": MEMORY,
    "batch_size": 16_384,
    "max_block_ms": 30_000,
    "request_timeout_ms": 30_000,
    "delivery_timeout_ms": 60_000,
}


def fill(producer: AnyProducer, size: int = 900, **record: Any) -> BufferExhaustedError:
    """Send until the buffer is full; return what the last call says."""
    while True:
        try:
            producer.send_nowait(record.get("topic", TOPIC), b"x" * size, partition=1)
        except BufferExhaustedError as error:
            return error


def free(producer: AnyProducer) -> float:
    return producer.metrics()["buffer_available_bytes"]


async def two_brokers(producer: AnyProducer, cluster: FakeCluster) -> None:
    for partition in range(2):
        await prove(producer, partition)
    cluster.hang("produce", node_id=1)


async def test_records_for_a_silent_broker_leave_a_quarter_of_the_buffer_to_the_others() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, OPTIONS) as producer,
    ):
        await two_brokers(producer, cluster)
        error = fill(producer)
        assert MEMORY / 4 - 2_000 < free(producer) < MEMORY / 4 + 2_000
        assert f"Records for broker 1 at 127.0.0.1:{cluster.ports[1]} hold" in str(error)
        for number in range(1_000):
            await producer.send_and_wait(TOPIC, b"%d" % number, partition=0)
        assert values(cluster, partition=0)[1:] == [b"%d" % number for number in range(1_000)]
        cluster.release()
        await producer.flush()
        assert free(producer) == MEMORY


async def test_records_for_two_silent_brokers_leave_a_seventh_of_the_buffer() -> None:
    async with (
        FakeCluster(brokers=3, topics={TOPIC: 3}) as cluster,
        producing(cluster, OPTIONS) as producer,
    ):
        for partition in range(3):
            await prove(producer, partition)
        cluster.hang("produce", node_id=1)
        cluster.hang("produce", node_id=2)
        for _ in range(MEMORY // 500):
            for partition in (1, 2):
                with contextlib.suppress(BufferExhaustedError):
                    producer.send_nowait(TOPIC, b"x" * 500, partition=partition)
        assert MEMORY / 7 - 2_000 < free(producer) < MEMORY / 7 + 2_000
        await producer.send_and_wait(TOPIC, b"42", partition=0)
        cluster.release()


async def test_records_for_the_only_broker_may_take_the_whole_buffer() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster, OPTIONS) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        cluster.hang("produce")
        error = fill(producer)
        assert free(producer) < 1_000
        assert "hold" not in str(error)
        cluster.release()


async def test_callers_for_other_brokers_pass_those_for_a_silent_one() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, OPTIONS) as producer,
    ):
        await two_brokers(producer, cluster)
        fill(producer)
        waiting = [
            asyncio.ensure_future(producer.send(TOPIC, b"late %d" % number * 100, partition=1))
            for number in range(50)
        ]
        await asyncio.sleep(0)
        assert producer.metrics()["waiting_callers"] == 50
        for number in range(100):
            await producer.send_and_wait(TOPIC, b"%d" % number, partition=0)
            delivery = await producer.send(TOPIC, b"%d" % number, partition=0)
            await delivery
        assert producer.metrics()["waiting_callers"] == 50
        cluster.release()
        await asyncio.gather(*[await one for one in waiting])
        late = [value for value in values(cluster, partition=1) if value.startswith(b"late")]
        assert late == [b"late %d" % number * 100 for number in range(50)]


async def test_nobody_passes_an_earlier_call_for_the_same_partition() -> None:
    # The first that waits is large: small ones behind it would fit.
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 4}) as cluster,
        producing(cluster, OPTIONS) as producer,
    ):
        for partition in range(4):
            await prove(producer, partition)
        cluster.hang("produce", node_id=1)
        error = fill(producer)
        assert error.requested_bytes < 2_000
        calls = [
            asyncio.ensure_future(
                producer.send(TOPIC, b"%d:" % number + b"x" * size, partition=1 + 2 * (number % 2))
            )
            for number, size in enumerate([9_000, 1, 1, 9_000, 1, 1])
        ]
        await asyncio.sleep(0)
        with pytest.raises(BufferExhaustedError):
            producer.send_nowait(TOPIC, b"passes", partition=1)
        assert not any(call.done() for call in calls)
        assert producer.metrics()["waiting_callers"] == 6
        cluster.release()
        await asyncio.gather(*[await one for one in calls])
        for partition in (1, 3):
            numbers = [
                int(value.partition(b":")[0])
                for value in values(cluster, partition=partition)
                if b":" in value
            ]
            assert numbers == sorted(numbers)
            assert len(numbers) == 3


async def test_records_without_key_go_where_there_is_buffer_space() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, OPTIONS) as producer,
    ):
        await two_brokers(producer, cluster)
        fill(producer)
        for number in range(200):
            await producer.send_and_wait(TOPIC, b"%d" % number)
        assert values(cluster, partition=0)[1:] == [b"%d" % number for number in range(200)]
        cluster.release()


async def test_callers_are_admitted_when_their_partition_gets_another_leader() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, OPTIONS) as producer,
    ):
        await two_brokers(producer, cluster)
        fill(producer)
        waiting = [
            asyncio.ensure_future(producer.send(TOPIC, b"%d" % number * 900, partition=1))
            for number in range(10)
        ]
        await asyncio.sleep(0)
        assert not any(one.done() for one in waiting)
        cluster.move_leader(TOPIC, 1, 0)
        sender_of(producer).cluster.refresh()
        deliveries: list[Delivery] = await asyncio.gather(*waiting)
        cluster.release()
        offsets = [(await delivery).offset for delivery in deliveries]
        assert offsets == sorted(offsets)


async def test_a_topic_that_does_not_exist_leaves_a_quarter_to_the_others() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}, auto_create_topics=False) as cluster,
        producing(cluster, {**OPTIONS, "max_block_ms": 1_000}) as producer,
    ):
        await prove(producer)
        error = fill(producer, topic="mistyped")
        assert MEMORY / 4 - 4_000 < free(producer) < MEMORY / 4 + 4_000
        assert "Records for topics that are not known yet hold" in str(error)
        waiting = asyncio.ensure_future(producer.send("mistyped", b"x" * 900))
        await asyncio.sleep(0)
        assert producer.metrics()["waiting_callers"] == 1
        for number in range(100):
            await producer.send_and_wait(TOPIC, b"%d" % number, partition=0)
        # Its time may be over with that of those before it.
        with contextlib.suppress(BufferExhaustedError):
            await outcome(await waiting)
        await until(lambda: free(producer) == MEMORY)


async def test_records_without_key_for_a_silent_broker_alone_keep_nobody_else_waiting() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2, "slow": 1}) as cluster,
        producing(cluster, OPTIONS) as producer,
    ):
        await two_brokers(producer, cluster)
        cluster.move_leader("slow", 0, cluster.leader(TOPIC, 1))
        cluster.hang("produce", node_id=cluster.leader(TOPIC, 1))
        await producer.send("slow", b"x")
        waiting = [asyncio.ensure_future(producer.send("slow", b"x" * 900)) for _ in range(300)]
        await asyncio.sleep(0)
        assert producer.metrics()["waiting_callers"]
        for number in range(100):
            producer.send_nowait(TOPIC, b"%d" % number, partition=0)
        await producer.send_and_wait(TOPIC, b"last", partition=0)
        for one in waiting:
            one.cancel()
