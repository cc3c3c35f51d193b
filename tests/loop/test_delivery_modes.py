"""Deliveries, callbacks and hooks: who is notified, in which order, how often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioproducer import KafkaError, ProducerRecord, RecordMetadata
from aioproducer.config import CompressionType
from aioproducer.errors import PolicyViolationError
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import (
    RECORD_BY_RECORD,
    TOPIC,
    failure,
    producing,
    prove,
    until,
    values,
)


async def test_a_delivery_can_be_awaited_late_and_many_times() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        delivery = await producer.send(TOPIC, b"42")
        early = [asyncio.ensure_future(delivery) for _ in range(3)]
        results = [*await asyncio.gather(*early), await delivery, await delivery]
        assert {metadata.offset for metadata in results} == {0}


async def test_a_failed_delivery_raises_however_late_it_is_awaited() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        delivery = producer.send_nowait(TOPIC, b"42")
        await producer.flush()
        for _ in range(2):
            with pytest.raises(PolicyViolationError):
                await delivery


async def test_a_cancelled_wait_does_not_recall_the_record() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        delivery = producer.send_nowait(TOPIC, b"42")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(delivery, 0.01)
        cluster.release()
        assert (await delivery).offset == 1


async def test_callbacks_come_in_the_order_of_their_partition_through_retries() -> None:
    notified: list[tuple[int, int]] = []

    def tell(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        assert metadata is not None
        notified.append((metadata.partition, metadata.offset))

    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        cluster.cut_next("produce", when="after")
        for index in range(40):
            await producer.send(TOPIC, b"x", partition=index % 2, on_delivery=tell)
        await producer.flush()
    for partition in range(2):
        assert [o for p, o in notified if p == partition] == list(range(20))


async def test_a_callback_that_raises_goes_to_the_loop_and_harms_nothing() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def broken(metadata: object, error: object) -> None:
        raise RuntimeError("broken")

    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        deliveries = [producer.send_nowait(TOPIC, b"x", on_delivery=broken) for _ in range(3)]
        assert [(await delivery).offset for delivery in deliveries] == [0, 1, 2]
    assert [str(context["exception"]) for context in reported] == ["broken"] * 3


async def test_callbacks_may_send_again() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        left = 20

        def send_again(metadata: object, error: object) -> None:
            nonlocal left
            left -= 1
            if left:
                producer.send_nowait(TOPIC, b"x", on_delivery=send_again)

        producer.send_nowait(TOPIC, b"x", on_delivery=send_again)
        await until(lambda: not left)
        assert len(values(cluster)) == 20


async def test_on_error_is_called_once_per_failed_batch_with_its_records() -> None:
    notified: list[tuple[KafkaError, int]] = []
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(
            cluster, on_error=lambda error, count: notified.append((error, count))
        ) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        for partition in (0, 0, 0, 1):
            producer.send_nowait(TOPIC, b"x", partition=partition)
        await producer.flush()
        await asyncio.sleep(0)
    assert [(str(error.topic_partition), count) for error, count in notified] == [
        (f"{TOPIC}-0", 3),
        (f"{TOPIC}-1", 1),
    ]


async def test_a_hook_that_raises_goes_to_the_loop_and_harms_nothing() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def broken(error: KafkaError, count: int) -> None:
        raise RuntimeError("broken")

    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, on_error=broken) as producer,
    ):
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        await failure(producer.send_nowait(TOPIC, b"x"))
        assert (await producer.send_and_wait(TOPIC, b"y")).offset == 0
    assert [str(context["exception"]) for context in reported] == ["broken"]


async def test_send_many_gives_results_in_order_over_topics_and_partitions() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1, "audit": 1}) as cluster,
        producing(cluster) as producer,
    ):
        results = await producer.send_many(
            TOPIC, [b"0", ProducerRecord("audit", b"1", key=b"k"), b"2"]
        )
        assert [(result.topic, result.offset) for result in results] == [
            (TOPIC, 0),
            ("audit", 0),
            (TOPIC, 1),
        ]


async def test_send_many_with_exceptions_puts_them_among_the_results() -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        for partition in range(2):
            await prove(producer, partition)
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION, topic=TOPIC, partition=1)
        records = [ProducerRecord(TOPIC, b"x", partition=index) for index in range(2)]
        good, bad = await producer.send_many(TOPIC, records, return_exceptions=True)
        assert isinstance(good, RecordMetadata)
        assert isinstance(bad, PolicyViolationError)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("size", [10, 30_000])
async def test_every_codec_is_read_back(codec: CompressionType, size: int) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, compression_type=codec) as producer,
    ):
        everything = [b"%05d" % index * size for index in range(5)]
        results = await producer.send_many(TOPIC, everything)
        assert [metadata.offset for metadata in results] == list(range(5))
        assert values(cluster) == everything
        assert {record.compression for record in cluster.records(TOPIC)} == {codec}


async def test_the_timestamp_is_the_brokers_where_the_topic_says_so() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.create_topic("appended", 1, message_timestamp_type="LogAppendTime")
        async with producing(cluster) as producer:
            own = await producer.send_and_wait(TOPIC, b"x", timestamp_ms=1_700_000_000_123)
            theirs = await producer.send_and_wait("appended", b"x", timestamp_ms=1)
            assert (own.timestamp_ms, own.is_log_append_time) == (1_700_000_000_123, False)
            assert theirs.is_log_append_time
            assert theirs.timestamp_ms == cluster.records("appended")[0].timestamp_ms


async def test_linger_waits_for_more_records_and_no_longer() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, linger_ms=60) as producer,
    ):
        await producer.partitions_for(TOPIC)
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        first = producer.send_nowait(TOPIC, b"1")
        await asyncio.sleep(0.01)
        second = producer.send_nowait(TOPIC, b"2")
        await asyncio.gather(first, second)
        assert 0.055 <= loop.time() - started_at < 2
        assert len(cluster.requests_of("produce")) == 1


async def test_linger_does_not_delay_a_full_batch() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, linger_ms=2_500, batch_size=500) as producer,
    ):
        full = producer.send_nowait(TOPIC, b"x" * 400)
        producer.send_nowait(TOPIC, b"x" * 400)
        async with asyncio.timeout(1):
            await full
