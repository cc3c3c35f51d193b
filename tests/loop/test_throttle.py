"""Throttling (KIP-219): the broker asks for a pause, and only it gets one."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from aioproducer import Delivery, Producer
from aioproducer.config import ProducerOptions
from aioproducer.errors import KafkaTimeoutError
from aioproducer.testing import ErrorCode, FakeCluster, MetadataResponse, ProduceResponse
from tests.support.producing import FAST, TOPIC, failure, producing, prove, sender_of, until, values

FOR_EVER: Final = 2**31 - 1

BOUNDED: Final[ProducerOptions] = {
    **FAST,
    "request_timeout_ms": 250,
    "delivery_timeout_ms": 250,
}


def _pause(answer: ProduceResponse) -> None:
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

        def pause(answer: ProduceResponse) -> None:
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


def _throttle_for_ever(answer: ProduceResponse) -> None:
    answer.throttle_ms = FOR_EVER


async def test_a_broker_that_throttles_for_ever_fails_its_records_in_time_and_says_so() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, BOUNDED) as producer,
    ):
        cluster.edit_next("produce", _throttle_for_ever, node_id=0)
        await prove(producer, 0)
        error = await failure(producer.send_nowait(TOPIC, b"lost", partition=0))
        assert isinstance(error, KafkaTimeoutError)
        assert not error.possibly_persisted
        assert error.attempts == 0
        assert "throttle" in str(error)
        await producer.send_and_wait(TOPIC, b"other", partition=1)
        assert values(cluster, partition=0) == [b"first"]


async def test_close_is_in_time_while_a_broker_throttles() -> None:
    loop = asyncio.get_running_loop()
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.edit_next("produce", _throttle_for_ever)
        await prove(producer)
        delivery = producer.send_nowait(TOPIC, b"lost")
        started_at = loop.time()
        (undelivered,) = await producer.close(0.05)
        assert loop.time() - started_at < 1
        assert undelivered.record.value == b"lost"
        assert not (await failure(delivery)).possibly_persisted


async def test_the_wait_for_buffer_space_is_bounded_while_a_broker_throttles() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, max_block_ms=400, buffer_memory=1_024) as producer,
    ):
        cluster.edit_next("produce", _throttle_for_ever)
        await prove(producer)
        waiting = producer.send_nowait(TOPIC, b"x" * 900)
        with pytest.raises(KafkaTimeoutError):
            await producer.send(TOPIC, b"x" * 900)
        await producer.close(0)
        assert not (await failure(waiting)).possibly_persisted


async def _held_by_a_pause_for_ever(cluster: FakeCluster, producer: Producer[Any, Any]) -> Delivery:
    cluster.edit_next("produce", _throttle_for_ever)
    await prove(producer)
    delivery = producer.send_nowait(TOPIC, b"42")
    await asyncio.sleep(0)
    assert not delivery.done()
    return delivery


async def test_a_throttle_ends_with_its_connection() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        delivery = await _held_by_a_pause_for_ever(cluster, producer)
        # The broker that asked for the pause is gone; the one that starts has asked for none.
        await cluster.stop_broker(0)
        await cluster.start_broker(0)
        assert (await delivery).offset == 1


async def test_a_new_connections_pause_does_not_wait_for_that_of_an_earlier_one() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        delivery = await _held_by_a_pause_for_ever(cluster, producer)
        cluster.throttle_ms = 100
        cluster.cut()
        await delivery
        # The first response on the new connection asked for the pause that this record waits out.
        await asyncio.wait_for(producer.send_and_wait(TOPIC, b"43"), 5)


@pytest.mark.parametrize("throttle_ms", [-1, -(2**31)])
async def test_a_negative_throttle_is_none(throttle_ms: int) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}, throttle_ms=throttle_ms) as cluster,
        producing(cluster) as producer,
    ):
        for offset in range(3):
            assert (await producer.send_and_wait(TOPIC, b"42")).offset == offset


async def test_the_pause_that_another_response_asks_for_is_kept_too() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        asked = len(cluster.requests_of("metadata"))

        def pause(answer: MetadataResponse) -> None:
            answer.throttle_ms = 150

        cluster.edit_next("metadata", pause)
        sender = sender_of(producer)
        before = sender.cluster.metadata_at
        sender.cluster.refresh()
        await cluster.received("metadata", asked + 1)
        await until(lambda: sender.cluster.metadata_at > before)
        started_at = asyncio.get_running_loop().time()
        await producer.send_and_wait(TOPIC, b"42")
        assert asyncio.get_running_loop().time() - started_at >= 0.14


async def test_metadata_is_asked_for_where_no_pause_was_asked_for() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)

        def pause(answer: ProduceResponse) -> None:
            answer.throttle_ms = 60_000

        cluster.edit_next("produce", pause, node_id=0)
        await prove(producer, 0)
        for _ in range(4):
            cluster.fail_next("produce", ErrorCode.LEADER_NOT_AVAILABLE)
            await prove(producer, 1)
        asked = [request.node_id for request in cluster.requests_of("metadata")]
        assert asked[-3:] == [1, 1, 1]


@pytest.mark.parametrize(("version", "is_kept"), [(5, False), (6, True)])
async def test_a_pause_that_an_old_broker_has_made_itself_is_not_made_again(
    version: int, is_kept: bool
) -> None:
    def pause(answer: MetadataResponse) -> None:
        answer.throttle_ms = 150

    loop = asyncio.get_running_loop()
    async with FakeCluster(topics={TOPIC: 1}, max_versions={"metadata": version}) as cluster:
        cluster.edit_next("metadata", pause, count=None)
        started_at = loop.time()
        async with producing(cluster) as producer:
            await prove(producer)
            assert (loop.time() - started_at >= 0.14) == is_kept
