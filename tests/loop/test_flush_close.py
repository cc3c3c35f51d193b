"""Flush, close and start: what they wait for, how long, what they report; cancelling them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from aioproducer import ConfigError, Producer, ProducerConfig, UndeliveredRecord
from aioproducer.errors import InvalidPartitionError, KafkaConnectionError, ProducerClosedError
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import (
    FAST,
    RECORD_BY_RECORD,
    TOPIC,
    expect_nothing_left,
    failure,
    fast,
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

        assert asyncio.get_running_loop().time() - started_at < 5
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


async def test_a_start_whose_task_somebody_else_cancels_begins_again() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.hang("metadata", count=1)
        producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=cluster.bootstrap_servers, **FAST
        )
        starting = [asyncio.create_task(producer.start()) for _ in range(2)]
        await cluster.received("metadata")
        for task in asyncio.all_tasks():
            if task.get_name() == "aioproducer-start":
                task.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(*starting)
        await producer.send_and_wait(TOPIC, b"42")
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


# ---- how long start and close may take


async def test_a_start_has_a_bound_of_its_own() -> None:
    async with FakeCluster() as cluster:
        cluster.hang("api_versions")
        producer = Producer(bootstrap_servers=cluster.bootstrap_servers, max_block_ms=60_000)
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        with pytest.raises(KafkaConnectionError, match=r"within 0\.2\d? s") as caught:
            await producer.start(timeout=0.2)
        assert loop.time() - began_at < 5
        assert "gave no answer" in str(caught.value)
        cluster.release()
        await producer.start(timeout=5)
        await producer.close()


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_start_without_time_is_refused(timeout: float) -> None:
    producer = Producer(bootstrap_servers="localhost:9092")
    with pytest.raises(ValueError, match="more than 0 seconds"):
        await producer.start(timeout=timeout)


async def test_a_close_ends_a_start_at_once() -> None:
    async with FakeCluster() as cluster:
        cluster.hang("api_versions")
        producer = Producer(bootstrap_servers=cluster.bootstrap_servers)
        starting = [asyncio.create_task(producer.start()) for _ in range(2)]
        await cluster.received("api_versions")
        async with asyncio.timeout(5):
            await producer.close()
            for each in starting:
                with pytest.raises(ProducerClosedError):
                    await each
        cluster.release()


async def test_leaving_the_block_without_brokers_takes_close_timeout_ms() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        options = fast(delivery_timeout_ms=60_000, close_timeout_ms=200)
        async with Producer[bytes, bytes](
            bootstrap_servers=cluster.bootstrap_servers, **options
        ) as producer:
            await prove(producer)
            await cluster.stop_broker(0)
            delivery = producer.send_nowait(TOPIC, b"lost")
            began_at = asyncio.get_running_loop().time()
        assert 0.15 < asyncio.get_running_loop().time() - began_at < 5
        assert isinstance(await failure(delivery), ProducerClosedError)


async def test_a_close_without_time_sends_nothing_more() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster, linger_ms=3_000) as producer,
    ):
        for partition in range(2):
            producer.send_nowait(TOPIC, b"first", partition=partition)
        await producer.flush()
        requests = len(cluster.requests_of("produce"))
        lingering = producer.send_nowait(TOPIC, b"lingering", partition=0)
        undelivered = await producer.close(0)
        assert [each.record.value for each in undelivered] == [b"lingering"]
        error = await failure(lingering)
        assert not error.possibly_persisted
        assert len(cluster.requests_of("produce")) == requests


async def test_giving_up_many_records_leaves_the_loop_to_others() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with producing(cluster, batch_size=16_384) as producer:
            await prove(producer)
            cluster.hang("produce")
            deliveries = [producer.send_nowait(TOPIC, b"%d" % n) for n in range(20_000)]
            failing = [asyncio.create_task(failure(delivery)) for delivery in deliveries]
            await asyncio.sleep(0)
            turns = 0
            closing = asyncio.create_task(producer.close(0))
            while not closing.done():
                turns += 1
                await asyncio.sleep(0)
            undelivered = closing.result()
            cluster.release()
        assert turns > 20
        assert len(undelivered) == 20_000
        assert undelivered[19_999].record.value == b"19999"
        assert {type(error) for error in await asyncio.gather(*failing)} == {ProducerClosedError}


async def test_every_close_waits_for_the_hook_and_returns_the_same_records() -> None:
    stored: list[int] = []

    async def store(records: Sequence[UndeliveredRecord]) -> None:
        await asyncio.sleep(0.1)
        stored.append(len(records))

    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        options = fast(on_undelivered=store)
        producer = Producer[bytes, bytes](bootstrap_servers=cluster.bootstrap_servers, **options)
        await producer.start()
        await prove(producer)
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"lost")
        first = asyncio.ensure_future(producer.close(0.05))
        await asyncio.sleep(0.1)
        second = await producer.close()
        assert stored == [1]
        assert second is await first is await producer.close()
        cluster.release()


async def test_a_hook_that_the_end_of_the_loop_cancels_is_not_said_to_have_failed() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    begun = asyncio.Event()

    async def store(records: Sequence[UndeliveredRecord]) -> None:
        begun.set()
        await asyncio.sleep(60)

    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        options = fast(on_undelivered=store)
        producer = Producer[bytes, bytes](bootstrap_servers=cluster.bootstrap_servers, **options)
        await producer.start()
        await prove(producer)
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"lost")
        closing = asyncio.ensure_future(producer.close(0))
        await begun.wait()
        for task in asyncio.all_tasks():
            if task.get_name() == "aioproducer-close":
                task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        cluster.release()
    assert reported == []


def test_a_serializer_that_takes_two_arguments_is_refused_when_the_producer_is_made() -> None:
    def serialize(topic: str, value: bytes) -> bytes:
        return value

    with pytest.raises(ConfigError, match="value_serializer"):
        Producer(bootstrap_servers="b:9092", value_serializer=serialize)  # type: ignore[arg-type]


async def test_a_close_ends_the_wait_for_partitions() -> None:
    async with FakeCluster(auto_create_topics=False) as cluster:
        producer = Producer[bytes, bytes](bootstrap_servers=cluster.bootstrap_servers, **FAST)
        await producer.start()
        waiting = asyncio.ensure_future(producer.partitions_for("nope"))
        await asyncio.sleep(0.05)
        await producer.close()
        async with asyncio.timeout(1):
            with pytest.raises(ProducerClosedError):
                await waiting


async def test_a_start_that_begins_while_a_cancelled_one_ends_is_stopped_with_its_caller() -> None:
    async with FakeCluster() as cluster:
        cluster.hang("api_versions")
        producer = Producer(bootstrap_servers=cluster.bootstrap_servers)
        first = asyncio.ensure_future(producer.start())
        await cluster.received("api_versions")
        first.cancel()
        await asyncio.sleep(0)
        second = asyncio.ensure_future(producer.start())
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([first, second])
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "aioproducer-start" not in names
        cluster.release()


async def test_a_record_that_gets_no_partition_during_close_is_among_the_undelivered() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer = Producer[bytes, bytes](bootstrap_servers=cluster.bootstrap_servers, **FAST)
        await producer.start()
        producer.send_nowait(TOPIC, b"lost", partition=7)
        (undelivered,) = await producer.close()
        assert undelivered.record.value == b"lost"
        assert isinstance(undelivered.error, InvalidPartitionError)
