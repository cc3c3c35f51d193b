"""`buffer_memory`: who waits for space, in which order, how long, and what the error says."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from aioproducer import Delivery
from aioproducer.errors import (
    BufferExhaustedError,
    KafkaTimeoutError,
    ProducerClosedError,
    RecordTooLargeError,
)
from aioproducer.testing import FakeCluster
from tests.support.producing import RECORD_BY_RECORD, TOPIC, producing, prove, values

SMALL = 1_000
VALUE = b"x" * 300
"""Three of them fit, with what they need beside them two."""


async def test_callers_who_wait_for_buffer_space_are_served_in_the_order_of_their_calls() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD, buffer_memory=SMALL) as producer,
    ):
        everything = [b"%03d" % index + VALUE for index in range(50)]

        async def one(value: bytes) -> int:
            return (await producer.send_and_wait(TOPIC, value)).offset

        assert await asyncio.gather(*map(one, everything)) == list(range(50))
        assert values(cluster) == everything


async def test_a_small_record_does_not_pass_a_large_one_that_waits() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD, buffer_memory=SMALL) as producer,
    ):
        await prove(producer)
        cluster.hang("produce")
        first = producer.send_nowait(TOPIC, b"1" * 400)
        large = asyncio.create_task(producer.send(TOPIC, b"2" * 600))
        await asyncio.sleep(0)
        with pytest.raises(BufferExhaustedError):
            producer.send_nowait(TOPIC, b"3")
        small = asyncio.create_task(producer.send(TOPIC, b"3"))
        await asyncio.sleep(0)
        assert producer.metrics()["waiting_callers"] == 2
        cluster.release()
        await first
        await (await large)
        await (await small)
        assert [value[:1] for value in values(cluster)] == [b"f", b"1", b"2", b"3"]


async def test_a_record_without_key_passes_nobody_who_waits_for_its_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The stays of records without key are on partitions 0 and 1 in turn.
    draws = itertools.cycle([0.0, 0.9])
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(
            cluster,
            buffer_memory=200_000,
            batch_size=2_000,
            partitioner_adaptive_partitioning_enable=False,
        ) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        monkeypatch.setattr(random, "random", lambda: next(draws))
        silent = cluster.leader(TOPIC, 1)
        cluster.freeze(silent)
        with pytest.raises(BufferExhaustedError):
            while True:
                producer.send_nowait(TOPIC, b"fills" + bytes(1_500), partition=1)
        waits = asyncio.create_task(producer.send(TOPIC, b"waits" + bytes(1_500), partition=1))
        await asyncio.sleep(0)
        assert producer.metrics()["waiting_callers"] == 1
        for _ in range(30):
            producer.send_nowait(TOPIC, b"later" + bytes(700))
        cluster.thaw(silent)
        await (await waits)
        stored = [value[:5] for value in values(cluster, partition=1)]
        assert stored[-1] == b"waits"
        assert b"later" not in stored


async def test_a_full_buffer_refuses_send_nowait_and_gives_the_sizes() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=SMALL) as producer,
    ):
        await prove(producer)
        cluster.hang("produce")
        producer.send_nowait(TOPIC, VALUE * 2)
        with pytest.raises(BufferExhaustedError, match="buffer_memory") as caught:
            producer.send_nowait(TOPIC, VALUE * 2)
        assert caught.value.total_bytes == SMALL
        assert caught.value.requested_bytes > 600
        assert 0 < caught.value.available_bytes < 400
        cluster.release()


async def test_a_wait_for_buffer_space_ends_after_max_block_ms_and_says_so() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=SMALL, max_block_ms=400) as producer,
    ):
        await prove(producer)
        cluster.hang("produce")
        producer.send_nowait(TOPIC, VALUE * 2)
        with pytest.raises(KafkaTimeoutError) as caught:
            await producer.send(TOPIC, VALUE * 2)
        assert "max_block_ms" in str(caught.value)
        assert "buffer_memory" in str(caught.value)
        assert not caught.value.possibly_persisted
        assert producer.metrics()["waiting_callers"] == 0
        cluster.release()


async def test_a_cancelled_wait_for_buffer_space_withdraws_the_record_and_admits_the_next() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD, buffer_memory=SMALL) as producer,
    ):
        await prove(producer)
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"1" * 400)
        large = asyncio.create_task(producer.send(TOPIC, b"2" * 800))
        small = asyncio.create_task(producer.send(TOPIC, b"3"))
        await asyncio.sleep(0)
        large.cancel()
        delivery: Delivery = await small
        assert large.cancelled()
        cluster.release()
        assert (await delivery).offset == 2
        assert [value[:1] for value in values(cluster)] == [b"f", b"1", b"3"]


async def test_a_timeout_while_waiting_for_buffer_space_says_that_nothing_was_stored() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=SMALL) as producer,
    ):
        await prove(producer)
        cluster.hang("produce")
        producer.send_nowait(TOPIC, VALUE * 2)
        with pytest.raises(KafkaTimeoutError) as caught:
            await producer.send_and_wait(TOPIC, VALUE * 2, timeout=0.02)
        assert not caught.value.possibly_persisted
        cluster.release()
        await producer.flush()
        assert len(values(cluster)) == 2


async def test_close_releases_those_who_wait_for_buffer_space() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=SMALL) as producer,
    ):
        await prove(producer)
        cluster.hang("produce")
        producer.send_nowait(TOPIC, VALUE * 2)
        waiting = asyncio.create_task(producer.send(TOPIC, VALUE * 2))
        await asyncio.sleep(0)
        closing = asyncio.create_task(producer.close())
        with pytest.raises(ProducerClosedError):
            await waiting
        cluster.release()
        assert await closing == ()


async def test_a_record_larger_than_the_buffer_is_refused_at_once() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=SMALL) as producer,
    ):
        with pytest.raises(RecordTooLargeError, match="buffer_memory"):
            producer.send_nowait(TOPIC, b"x" * SMALL)


async def test_records_of_an_unknown_topic_fill_the_buffer_and_keep_their_order() -> None:
    async with (
        FakeCluster(default_partitions=1) as cluster,
        producing(cluster, RECORD_BY_RECORD, buffer_memory=SMALL) as producer,
    ):
        cluster.hang("metadata", count=1)
        tasks = [
            asyncio.create_task(producer.send("new", b"%d" % index + VALUE)) for index in range(6)
        ]
        await cluster.received("metadata", 2)
        assert 0 < producer.metrics()["waiting_callers"] < 6
        cluster.release()
        offsets = [(await (await task)).offset for task in tasks]
        assert offsets == list(range(6))
