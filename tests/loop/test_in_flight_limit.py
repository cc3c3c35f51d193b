"""What is in flight to a broker is sized by how fast it answers."""

from __future__ import annotations

import asyncio

import pytest

from aioproducer import Producer
from aioproducer.testing import FakeCluster
from tests.support.forwarder import Forwarder
from tests.support.producing import TOPIC, fast, producing, prove, sender_of, values


@pytest.mark.parametrize(
    ("bytes_per_second", "megabytes"), [(2_000_000, 4), (600_000, 1)], ids=["2 MB/s", "600 kB/s"]
)
async def test_a_slow_uplink_loses_nothing_and_no_request_times_out(
    bytes_per_second: int, megabytes: int
) -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        Forwarder(cluster.ports[0], bytes_per_second=bytes_per_second) as uplink,
    ):
        cluster.advertise(0, "127.0.0.1", uplink.port)
        options = fast(request_timeout_ms=1_000, delivery_timeout_ms=15_000)
        async with Producer[bytes, bytes](bootstrap_servers=uplink.address, **options) as producer:
            count = megabytes * 1_000
            deliveries = [
                await producer.send(TOPIC, b"%06d" % n + b"x" * 994, partition=n % 2)
                for n in range(count)
            ]
            await asyncio.gather(*deliveries)
            assert producer.metrics()["batch_retry_total"] == 0
            assert len(values(cluster)) == count
            assert uplink.accepted <= 2


async def test_a_fast_broker_gets_full_requests_after_a_few_responses() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        for _ in range(2):
            deliveries = [await producer.send(TOPIC, b"x" * 10_000) for _ in range(2_000)]
            await asyncio.gather(*deliveries)
        sizes = [request.size for request in cluster.requests_of("produce")]
        assert max(sizes) > 900_000


async def test_one_silent_broker_does_not_hold_all_of_the_buffer_in_flight() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        deliveries = [await producer.send(TOPIC, b"x" * 10_000, partition=0) for _ in range(3_000)]
        await asyncio.gather(*deliveries)
        cluster.hang("produce", node_id=0)
        total = producer.metrics()["buffer_total_bytes"]
        stuck = [producer.send_nowait(TOPIC, b"x" * 10_000, partition=0) for _ in range(2_500)]
        await asyncio.sleep(0.05)
        queues = sender_of(producer).broker_queues
        assert queues.by_node[0].bytes_in_flight <= total / 4 + 1_100_000
        assert (await producer.send_and_wait(TOPIC, b"healthy", partition=1)).offset == 1
        cluster.clear_faults()
        cluster.release()
        await asyncio.gather(*stuck)
