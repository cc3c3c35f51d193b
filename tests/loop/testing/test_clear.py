"""`clear`: one cluster for many tests, with the producers that go on."""

from __future__ import annotations

import asyncio

import pytest

from aioproducer.errors import NotEnoughReplicasError
from aioproducer.testing import FakeCluster
from tests.support.producing import fast, producing, sequences, values

TOPIC = "payments"


async def test_records_requests_and_violations_are_forgotten_and_topics_stay() -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        await producer.send_and_wait(TOPIC, b"1", partition=1)
        cluster.create_topic("more", 3)
        await cluster.clear()
        assert (cluster.records(TOPIC), cluster.requests, cluster.violations) == ([], [], [])
        assert cluster.next_offset(TOPIC, 1) == 0
        assert cluster.next_offset("more", 2) == 0


async def test_a_connected_producer_goes_on_with_its_sequences_from_offset_0() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        for value in (b"1", b"2"):
            await producer.send_and_wait(TOPIC, value)
        connections = cluster.connections
        await cluster.clear()
        stored = [await producer.send_and_wait(TOPIC, value) for value in (b"3", b"4")]
        assert [one.offset for one in stored] == [0, 1]
        assert sequences(cluster) == [(0, 2), (0, 3)]
        assert values(cluster) == [b"3", b"4"]
        assert cluster.connections == connections
        assert cluster.requests_of("init_producer_id") == []


async def test_an_epoch_that_goes_back_is_seen_across_a_clear() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", NotEnoughReplicasError)
        await producer.send_and_wait(TOPIC, b"1")
        await cluster.clear()
        await producer.send_and_wait(TOPIC, b"2")
        cluster.expect_clean()


async def test_faults_are_forgotten_and_brokers_are_well_again() -> None:
    async with FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster:
        cluster.fail_next("produce", NotEnoughReplicasError, count=None)
        cluster.delay("any", 60)
        cluster.on_request(lambda request: pytest.fail(f"asked about {request.api}"))
        cluster.throttle_ms = 60_000
        cluster.slow(60)
        cluster.freeze()
        cluster.fill_disk()
        cluster.refuse(0)
        await cluster.stop_broker(1)
        await cluster.clear()
        async with producing(cluster) as producer:
            for partition in (0, 1):
                await producer.send_and_wait(TOPIC, b"1", partition=partition, timeout=5)


async def test_what_hangs_is_carried_out_before_and_not_found_after() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await producer.send_and_wait(TOPIC, b"1")
        cluster.hang("produce")
        delivery = await producer.send(TOPIC, b"2")
        await cluster.received("produce", 2)
        await cluster.clear()
        assert (await delivery).offset == 1
        assert cluster.records(TOPIC) == []


async def test_requests_are_counted_from_0_on() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await producer.send_and_wait(TOPIC, b"1")
        await cluster.clear()
        arrived = asyncio.create_task(cluster.received("produce"))
        await asyncio.sleep(0)
        assert not arrived.done()
        await producer.send_and_wait(TOPIC, b"2")
        await arrived


async def test_a_new_producer_has_an_id_of_its_own_after_a_clear() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        ids: list[int] = []
        for _ in range(2):
            async with producing(cluster, fast()) as producer:
                await producer.send_and_wait(TOPIC, b"1")
            ids.extend(record.producer_id for record in cluster.records(TOPIC))
            await cluster.clear()
        assert ids == [1000, 1001]
