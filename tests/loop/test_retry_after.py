"""`error.retry_after`: in how many seconds a caller who got no space is to come back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioproducer import BufferExhaustedError, KafkaTimeoutError, Producer
from aioproducer._native.broker_queues import BrokerQueues
from aioproducer.testing import FakeCluster
from tests.support.producing import TOPIC, fast, producing, prove, until

RECORD = b"x" * 1000


async def filled(producer: Producer[bytes, bytes]) -> BufferExhaustedError:
    """Send until there is no buffer space."""
    with pytest.raises(BufferExhaustedError) as raised:
        while True:
            producer.send_nowait(TOPIC, RECORD)
    return raised.value


@pytest.mark.virtual_time
@pytest.mark.parametrize(("delay", "seconds"), [(0.5, 10), (0.05, 1), (1.9, 30)])
async def test_it_is_the_time_in_which_the_buffer_empties(delay: float, seconds: int) -> None:
    options = fast(
        batch_size=0,
        buffer_memory=22_000,
        max_in_flight_requests_per_connection=1,
        request_timeout_ms=30_000,
        delivery_timeout_ms=120_000,
    )
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, options) as producer,
    ):
        cluster.delay("produce", delay)
        await filled(producer)
        held = round(producer.metrics()["record_accepted_total"])
        for _ in range(6):
            # One record is stored every `delay` seconds, and another one comes for it.
            await producer.send(TOPIC, RECORD)
        error = await filled(producer)
        assert error.retry_after == pytest.approx(min(30, max(1, held * delay)), abs=1)
        assert error.retry_after == pytest.approx(seconds, abs=1)
        cluster.clear_faults()


async def test_without_a_rate_it_is_five_seconds() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=22_000) as producer,
    ):
        cluster.hang("produce")
        error = await filled(producer)
        assert error.safe_to_resend
        assert error.retry_after == 5
        cluster.release()


@pytest.mark.virtual_time
async def test_a_rate_of_before_an_outage_says_nothing() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster, buffer_memory=22_000, delivery_timeout_ms=60_000, request_timeout_ms=30_000
        ) as producer,
    ):
        await prove(producer)
        cluster.hang("produce")
        await filled(producer)
        await asyncio.sleep(3)
        assert (await filled(producer)).retry_after == 5
        cluster.release()


@pytest.mark.virtual_time
async def test_an_idle_time_before_a_burst_does_not_count() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=22_000, batch_size=0) as producer,
    ):
        await prove(producer)
        # No call shows from when on the rate counts.
        sender: Any = producer._sender  # pyright: ignore[reportPrivateUsage]
        queues: BrokerQueues = sender.broker_queues
        _, since, _ = queues.lately_delivered()
        await asyncio.sleep(60)
        await prove(producer)
        delivered, later, _ = queues.lately_delivered()
        assert later > since + 59
        assert 0 < delivered < 500


async def test_a_record_that_may_be_stored_has_none() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        with pytest.raises(KafkaTimeoutError) as raised:
            await producer.send_and_wait(TOPIC, b"42", timeout=0.05)
        assert not raised.value.safe_to_resend
        assert raised.value.retry_after is None
        cluster.release()


async def test_a_record_that_was_never_sent_has_one() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, delivery_timeout_ms=150, request_timeout_ms=150) as producer,
    ):
        await producer.partitions_for(TOPIC)
        cluster.refuse(0)
        cluster.cut(0)
        await until(lambda: not producer.status().brokers_connected)
        with pytest.raises(KafkaTimeoutError) as raised:
            await producer.send_and_wait(TOPIC, b"42")
        assert raised.value.safe_to_resend
        assert raised.value.retry_after == 5


async def test_where_one_broker_holds_its_share_the_rate_of_the_others_says_nothing() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, buffer_memory=44_000, batch_size=0) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        cluster.hang("produce", node_id=1)
        with pytest.raises(BufferExhaustedError, match="Records for broker 1") as raised:
            while True:
                producer.send_nowait(TOPIC, RECORD, partition=1)
        await producer.send_and_wait(TOPIC, RECORD, partition=0)
        assert raised.value.retry_after == 5
        cluster.release()
