"""Flush, close and start: what they wait for, how long, what they report; cancelling them."""

from __future__ import annotations

import asyncio

import pytest

from aioproducer import Producer, ProducerConfig
from aioproducer.errors import KafkaConnectionError, ProducerClosedError
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import (
    FAST,
    RECORD_BY_RECORD,
    TOPIC,
    expect_nothing_left,
    failure,
    producing,
    prove,
    values,
)


async def test_flush_ignores_linger() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster, linger_ms=3_000) as producer,
    ):
        deliveries = [producer.send_nowait(TOPIC, b"x", partition=index) for index in range(2)]
        async with asyncio.timeout(1):
            await producer.flush()
        assert all(delivery.done() for delivery in deliveries)


async def test_flush_does_not_raise_for_records_that_fail() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        delivery = producer.send_nowait(TOPIC, b"42")
        await producer.flush()
        assert delivery.exception() is not None


async def test_flush_waits_for_the_parts_of_a_split_batch() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}, message_max_bytes=1_000) as cluster,
        producing(cluster) as producer,
    ):
        deliveries = [producer.send_nowait(TOPIC, b"x" * 300) for _ in range(20)]
        await producer.flush()
        assert all(delivery.done() for delivery in deliveries)
        assert len(values(cluster)) == 20


async def test_flush_waits_for_records_whose_topic_is_unknown_yet() -> None:
    async with FakeCluster() as cluster, producing(cluster, linger_ms=3_000) as producer:
        delivery = producer.send_nowait("made-on-demand", b"42")
        await producer.flush()
        assert delivery.result().offset == 0


async def test_flush_does_not_wait_for_later_records() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        cluster.hang("produce", count=1)
        producer.send_nowait(TOPIC, b"before")
        flush = asyncio.create_task(producer.flush())
        await cluster.received("produce", 2)
        cluster.release()
        cluster.hang("produce")
        later = producer.send_nowait(TOPIC, b"after")
        await flush
        assert not later.done()
        cluster.release()


async def test_concurrent_flushes_all_end() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, linger_ms=3_000) as producer,
    ):
        producer.send_nowait(TOPIC, b"42")
        first = asyncio.create_task(producer.flush())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(producer.flush(), producer.flush())
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled()
        assert values(cluster) == [b"42"]


async def test_close_delivers_what_was_accepted() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with producing(cluster, linger_ms=3_000) as producer:
            delivery = producer.send_nowait(TOPIC, b"42")
        assert delivery.result().offset == 0


async def test_close_in_time_reports_sent_unsent_compressed_and_unrouted_records() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD, compression_type="lz4") as producer,
    ):
        await prove(producer)
        cluster.hang("produce", count=1)
        cluster.hang("metadata")
        deliveries = [
            producer.send_nowait(TOPIC, b"%d" % index * 100, key=b"k", partition=0)
            for index in range(8)
        ]
        deliveries.append(producer.send_nowait("unknown", b"held", headers={"h": b"1"}))
        await cluster.received("produce", 6)

        started_at = asyncio.get_running_loop().time()
        undelivered = await producer.close(0.02)

        assert asyncio.get_running_loop().time() - started_at < 0.5
        assert [entry.record.value for entry in undelivered] == [
            *(b"%d" % index * 100 for index in range(8)),
            b"held",
        ]
        assert undelivered[0].record.key == b"k"
        assert tuple(undelivered[-1].record.headers or ()) == (("h", b"1"),)
        doubts = [entry.error.possibly_persisted for entry in undelivered]
        assert doubts == [True] * 5 + [False] * 4
        for delivery in deliveries:
            assert isinstance(await failure(delivery), ProducerClosedError)


async def test_a_close_that_gives_up_opens_no_new_connection() -> None:
    async with FakeCluster(topics={TOPIC: 8}) as cluster:
        async with producing(
            cluster, RECORD_BY_RECORD, max_in_flight_requests_per_connection=1
        ) as producer:
            for partition in range(8):
                await prove(producer, partition)
            cluster.hang("produce")
            for partition in range(8):
                producer.send_nowait(TOPIC, b"x", partition=partition)
            await cluster.received("produce", 9)
            before = len(cluster.requests_of("api_versions"))
            assert len(await producer.close(0)) == 8
        await asyncio.sleep(0.02)
        assert len(cluster.requests_of("api_versions")) == before
        cluster.release()


async def test_closing_twice_and_at_once_is_harmless() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        assert not any(await asyncio.gather(producer.close(), producer.close(1)))
        assert await producer.close() == ()


async def test_a_second_close_keeps_its_own_bound() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"42")
        first = asyncio.create_task(producer.close())
        await cluster.received("produce", 2)
        async with asyncio.timeout(0.5):
            (undelivered,) = await producer.close(0.02)
        assert undelivered.record.value == b"42"
        assert await first == (undelivered,)


async def test_a_cancelled_close_goes_on() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        delivery = producer.send_nowait(TOPIC, b"42")
        closing = asyncio.create_task(producer.close())
        await cluster.received("produce", 2)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        cluster.release()
        assert await producer.close() == ()
        assert (await delivery).offset == 1


async def test_a_close_that_the_end_of_the_loop_cancels_still_ends_every_delivery() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer = Producer(bootstrap_servers=cluster.bootstrap_servers, **FAST)
        await producer.start()
        await prove(producer)
        cluster.hang("produce")
        delivery = producer.send_nowait(TOPIC, b"42")
        closing = asyncio.create_task(producer.close())
        await cluster.received("produce", 2)
        for task in asyncio.all_tasks():
            if task.get_name() == "aioproducer-close":
                task.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        assert isinstance(await failure(delivery), ProducerClosedError)
        cluster.release()


async def test_a_start_cancelled_twice_can_be_repeated() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.hang("metadata")
        producer = Producer(bootstrap_servers=cluster.bootstrap_servers, **FAST)
        starting = asyncio.create_task(producer.start())
        await cluster.received("metadata")
        starting.cancel()
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        cluster.release()
        async with asyncio.timeout(5):
            await producer.start()
        await producer.close()


async def test_a_cancelled_start_can_be_repeated() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.hang("metadata")
        producer = Producer(bootstrap_servers=cluster.bootstrap_servers, **FAST)
        starting = asyncio.create_task(producer.start())
        beside = asyncio.create_task(producer.start())
        await cluster.received("metadata")
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        cluster.release()
        await beside
        await producer.start()
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0
        await producer.close()
        expect_nothing_left(producer)


async def test_closing_during_start_leaves_a_closed_producer() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.hang("metadata")
        producer = Producer(bootstrap_servers=cluster.bootstrap_servers, **FAST)
        starting = asyncio.create_task(producer.start())
        await cluster.received("metadata")
        await producer.close()
        cluster.release()
        with pytest.raises(ProducerClosedError):
            await starting
        assert producer.status()["state"] == "closed"


async def test_a_start_without_brokers_names_each_address_and_why() -> None:
    async with FakeCluster(brokers=2) as cluster:
        servers = cluster.bootstrap_servers
        await cluster.stop_broker(0)
        await cluster.stop_broker(1)
        config = ProducerConfig(bootstrap_servers=servers, **FAST).replace(max_block_ms=50)
        producer = Producer(config)
        with pytest.raises(KafkaConnectionError) as caught:
            await producer.start()
        assert set(caught.value.reasons) == set(servers.split(","))
        assert set(caught.value.reasons.values()) == {"connection refused"}


async def test_a_closed_producer_refuses_everything_clearly() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await producer.close()
        for topic in (TOPIC, "unknown"):
            with pytest.raises(ProducerClosedError):
                producer.send_nowait(topic, b"42")
        with pytest.raises(ProducerClosedError):
            await producer.start()
