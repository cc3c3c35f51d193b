"""Brokers that move to other addresses, or that a metadata response leaves out."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from aioproducer import Producer
from aioproducer.errors import KafkaConnectionError
from aioproducer.testing import FakeCluster, MetadataResponse
from tests.support.forwarder import Forwarder
from tests.support.producing import TOPIC, failure, fast, producing, prove, sender_of, until, values


async def test_brokers_that_move_one_after_the_other_are_followed() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        AsyncExitStack() as stack,
    ):

        async def move(node_id: int) -> Forwarder:
            there = await stack.enter_async_context(Forwarder(cluster.ports[node_id]))
            cluster.advertise(node_id, "127.0.0.1", there.port)
            return there

        old = [await move(0), await move(1)]
        async with producing(cluster, metadata_max_age_ms=50) as producer:
            for partition in range(2):
                await prove(producer, partition)
            for node_id in (1, 0):
                now = await move(node_id)
                await old[node_id].aclose()
                # The other one tells the new address, long before anything is sent there.
                asked = len(cluster.requests_of("metadata"))
                await cluster.received("metadata", asked + 2)
                result = await producer.send_and_wait(TOPIC, b"42", partition=node_id)
                assert result.offset == 1
                old[node_id] = now


@pytest.mark.parametrize("change", ["left out", "moved"])
async def test_requests_in_flight_to_a_broker_that_leaves_are_answered_first(change: str) -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        Forwarder(cluster.ports[1]) as elsewhere,
        # Sent again, a record would be stored twice.
        producing(cluster, acks=1, enable_idempotence=False, metadata_max_age_ms=50) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        before = cluster.connections[1]

        def leave_out(answer: MetadataResponse) -> None:
            answer.brokers = [each for each in answer.brokers if each.node_id != 1]

        cluster.hang("produce", node_id=1, stored=True)
        delivery = producer.send_nowait(TOPIC, b"once", partition=1)
        await cluster.received("produce", 3)
        if change == "left out":
            cluster.edit_next("metadata", leave_out, count=2)
        else:
            cluster.advertise(1, "127.0.0.1", elsewhere.port)
        asked = len(cluster.requests_of("metadata"))
        await cluster.received("metadata", asked + 3)
        assert cluster.connections[1] == before
        later = producer.send_nowait(TOPIC, b"later", partition=1)
        cluster.clear_faults()
        cluster.release()
        assert (await delivery).offset == 1
        assert (await later).offset == 2
        assert values(cluster, partition=1) == [b"first", b"once", b"later"]
        if change == "moved":
            assert elsewhere.accepted == 1


async def test_a_topic_without_ids_that_was_recreated_smaller_shrinks() -> None:
    async with (
        FakeCluster(topics={TOPIC: 4}, max_versions={"metadata": 9, "produce": 9}) as cluster,
        producing(cluster, metadata_max_age_ms=50) as producer,
    ):
        assert len(await producer.partitions_for(TOPIC)) == 4
        cluster.delete_topic(TOPIC)
        cluster.create_topic(TOPIC, 2)
        asked = len(cluster.requests_of("metadata"))
        await cluster.received("metadata", asked + 2)
        await until(lambda: len(sender_of(producer).topics.by_name[TOPIC].leaders) == 2)
        assert len(await producer.partitions_for(TOPIC)) == 2
        for _ in range(20):
            await producer.send_and_wait(TOPIC, b"x")


async def test_a_partition_without_leader_is_not_explained_by_a_bootstrap_server() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        dead = "127.0.0.1:1"
        async with Producer[bytes, bytes](
            bootstrap_servers=[dead, f"127.0.0.1:{cluster.ports[0]}"],
            **fast(request_timeout_ms=100, delivery_timeout_ms=200),
        ) as producer:
            await prove(producer)
            cluster.move_leader(TOPIC, 0, -1)
            error = await failure(producer.send_nowait(TOPIC, b"42"))
            assert dead not in str(error)
            assert "has no leader" in str(error)


async def test_a_frozen_broker_delays_no_metadata() -> None:
    async with (
        FakeCluster(brokers=3, topics={TOPIC: 3, "new": 1, "newer": 1}) as cluster,
        producing(cluster, request_timeout_ms=20_000, delivery_timeout_ms=30_000) as producer,
    ):
        for partition in range(3):
            await prove(producer, partition)
        frozen = cluster.leader("new", 0)
        healthy = (frozen + 1) % 3
        cluster.move_leader("new", 0, healthy)
        cluster.move_leader("newer", 0, healthy)
        cluster.hang("any", node_id=frozen)
        # Whoever is asked first: the one with the fewest requests in flight.
        for node_id in range(3):
            if node_id != frozen:
                cluster.delay("produce", 0.5, node_id=node_id)
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        await producer.send_and_wait("new", b"42")
        assert loop.time() - started_at < 4
        cluster.clear_faults()
        cluster.release()


async def test_brokers_that_a_response_named_are_reached_without_metadata() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 1}) as cluster,
        producing(cluster) as producer,
    ):

        def only_the_first(answer: MetadataResponse) -> None:
            answer.brokers = [each for each in answer.brokers if each.node_id == 0]

        cluster.edit_next("metadata", only_the_first, count=None)
        await prove(producer)
        cluster.hang("metadata")
        cluster.move_leader(TOPIC, 0, 1)
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
        cluster.release()


async def test_a_connect_error_names_the_broker_and_what_to_check() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        Producer[bytes, bytes](
            bootstrap_servers=cluster.bootstrap_servers,
            **fast(request_timeout_ms=100, delivery_timeout_ms=300),
        ) as producer,
    ):
        cluster.advertise(0, "127.0.0.9", 9)
        sender_of(producer).cluster.refresh()
        await until(lambda: "0 at 127.0.0.9:9" in producer.status()["brokers"])
        error = await failure(producer.send_nowait(TOPIC, b"42"))
        assert isinstance(getattr(error, "last_connect_error", None), KafkaConnectionError)
        assert "advertised.listeners" in str(error)
