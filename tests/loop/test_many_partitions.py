"""Without a linger, small batches of many partitions grow while the broker is at a request."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from aioproducer import Delivery, Producer
from aioproducer.testing import FakeCluster
from tests.support.producing import TOPIC, producing, sender_of, until

MANY: Final = 100


def send_to_each(producer: Producer[Any, Any], value: bytes) -> list[Delivery]:
    return [producer.send_nowait(TOPIC, value, partition=partition) for partition in range(MANY)]


async def warm(producer: Producer[Any, Any], cluster: FakeCluster) -> None:
    """Send to each, and be so slow at it that what is held back then has a third of a second."""
    cluster.delay("produce", 0.2, count=1)
    await asyncio.gather(*send_to_each(producer, b"1"))


async def a_turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def record_counts(cluster: FakeCluster) -> list[set[int]]:
    """Return how many records the batches of each request had."""
    return [
        {batch.record_count for batch in request.batches}
        for request in cluster.requests_of("produce")
    ]


async def test_batches_of_many_partitions_grow_while_a_request_is_in_flight() -> None:
    async with FakeCluster(topics={TOPIC: MANY}) as cluster, producing(cluster) as producer:
        await warm(producer, cluster)
        cluster.hang("produce")
        deliveries = send_to_each(producer, b"2")
        await cluster.received("produce", 2)
        for value in (b"3", b"4", b"5"):
            deliveries += send_to_each(producer, value)
            await a_turn()
        cluster.clear_faults()
        cluster.release()
        await asyncio.gather(*deliveries)
        assert record_counts(cluster) == [{1}, {1}, {3}]


async def test_batches_of_few_partitions_do_not_wait_for_anything() -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        for partition in range(2):
            await producer.send_and_wait(TOPIC, b"1", partition=partition)
        cluster.hang("produce")
        deliveries: list[Delivery] = []
        for count in range(3):
            deliveries.append(producer.send_nowait(TOPIC, b"2", partition=count % 2))
            await cluster.received("produce", 3 + count)
        cluster.clear_faults()
        cluster.release()
        await asyncio.gather(*deliveries)


async def test_a_busy_partition_does_not_hold_up_the_others() -> None:
    async with (
        FakeCluster(topics={TOPIC: MANY + 1}) as cluster,
        producing(cluster, batch_size=10_000) as producer,
    ):
        await warm(producer, cluster)
        await producer.send_and_wait(TOPIC, b"1", partition=MANY)
        cluster.delay("produce", 0.02, count=1)
        first = send_to_each(producer, b"2")
        await cluster.received("produce", 3)
        cluster.delay("produce", 0.5, count=1)
        held = send_to_each(producer, b"3")
        await a_turn()
        busy = producer.send_nowait(TOPIC, b"x" * 20_000, partition=MANY)
        await cluster.received("produce", 4)
        await asyncio.gather(*first)
        # The response that they waited for is here: they do not wait for the busy one's as well.
        await cluster.received("produce", 5)
        assert not busy.done()
        await asyncio.gather(busy, *held)


@pytest.mark.parametrize("end", ["flush", "close"])
async def test_what_is_held_back_is_sent_at_the_end(end: str) -> None:
    async with FakeCluster(topics={TOPIC: MANY}) as cluster, producing(cluster) as producer:
        await warm(producer, cluster)
        cluster.hang("produce")
        deliveries = send_to_each(producer, b"2")
        await cluster.received("produce", 2)
        deliveries += send_to_each(producer, b"3")
        await a_turn()
        ending = asyncio.ensure_future(producer.flush() if end == "flush" else producer.close())
        await cluster.received("produce", 3)
        assert not any(delivery.done() for delivery in deliveries)
        cluster.clear_faults()
        cluster.release()
        await ending
        assert all(delivery.done() for delivery in deliveries)


async def test_what_is_held_back_for_a_broker_goes_to_its_new_leader_at_once() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: MANY + 1}) as cluster,
        producing(cluster) as producer,
    ):
        for partition in range(MANY):
            cluster.move_leader(TOPIC, partition, 0)
        cluster.move_leader(TOPIC, MANY, 1)
        # Where nothing is in flight, and so the metadata comes from.
        await producer.send_and_wait(TOPIC, b"1", partition=MANY)
        await warm(producer, cluster)
        cluster.hang("produce", node_id=0)
        first = send_to_each(producer, b"2")
        await cluster.received("produce", 3)
        held = send_to_each(producer, b"3")
        await a_turn()
        for partition in range(MANY):
            cluster.move_leader(TOPIC, partition, 1)
        sender = sender_of(producer)
        sender.cluster.refresh()
        await until(lambda: sender.topics.by_name[TOPIC].leaders[0].node_id == 1)
        cluster.clear_faults()
        cluster.cut(0)
        await asyncio.gather(*first, *held)
        assert {request.node_id for request in cluster.requests_of("produce")[3:]} == {1}
