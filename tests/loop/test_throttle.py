"""Throttling (KIP-219): the broker asks for a pause, and only it gets one."""

from __future__ import annotations

import asyncio

from aioproducer.testing import FakeCluster, ProduceAnswer
from tests.support.producing import TOPIC, producing, prove


def _pause(answer: ProduceAnswer) -> None:
    answer.throttle_ms = 150


async def test_a_throttled_broker_gets_its_pause_and_then_the_records() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.edit_next("produce", _pause)
        await prove(producer)
        started_at = asyncio.get_running_loop().time()
        await producer.send_and_wait(TOPIC, b"42")
        assert 0.14 <= asyncio.get_running_loop().time() - started_at < 1


async def test_a_throttled_broker_delays_no_other() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster) as producer,
    ):
        await prove(producer, 1)
        cluster.edit_next("produce", _pause, node_id=0)
        await prove(producer, 0)
        throttled = producer.send_nowait(TOPIC, b"42", partition=0)
        for _ in range(5):
            await producer.send_and_wait(TOPIC, b"43", partition=1)
        assert not throttled.done()
        await throttled


async def test_a_shorter_throttle_does_not_shorten_a_longer_one() -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        for partition in range(2):
            await prove(producer, partition)
        pauses = iter([150, 1])

        def pause(answer: ProduceAnswer) -> None:
            answer.throttle_ms = next(pauses)

        cluster.hang("produce", count=1)
        cluster.edit_next("produce", pause, count=2)
        first = producer.send_nowait(TOPIC, b"1", partition=0)
        await cluster.received("produce", 3)
        second = producer.send_nowait(TOPIC, b"2", partition=1)
        await cluster.received("produce", 4)
        started_at = asyncio.get_running_loop().time()
        cluster.release()
        await asyncio.gather(first, second)
        await producer.send_and_wait(TOPIC, b"3", partition=0)
        assert asyncio.get_running_loop().time() - started_at >= 0.14
