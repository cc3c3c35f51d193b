"""One producer, one cluster: what is rebuilt behind an address, and what is somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aioproducer import Producer
from aioproducer.errors import KafkaError, KafkaTimeoutError
from aioproducer.testing import ApiName, FakeCluster, MetadataResponse
from tests.support.forwarder import Forwarder, closed_port
from tests.support.producing import FAST, TOPIC, failure, fast, prove, sender_of, until, values

AnyProducer = Producer[Any, Any]


def named(cluster: FakeCluster, cluster_id: str) -> None:
    """Have a cluster call itself by another id."""

    def rename(answer: MetadataResponse) -> None:
        answer.cluster_id = cluster_id

    cluster.edit_next("metadata", rename, count=None)


BY_NAME: dict[ApiName, int] = {"metadata": 9, "produce": 9}
"""The versions before topics had ids."""


@asynccontextmanager
async def two_behind_one_address(
    versions: dict[ApiName, int] | None,
) -> AsyncGenerator[tuple[FakeCluster, FakeCluster, Forwarder]]:
    """Two clusters of one broker, and an address that leads to the first one so far."""
    async with (
        FakeCluster(topics={TOPIC: 1}, max_versions=versions) as first,
        FakeCluster(topics={TOPIC: 1}, max_versions=versions) as rebuilt,
        Forwarder(first.ports[0]) as address,
    ):
        named(rebuilt, "rebuilt")
        for cluster in (first, rebuilt):
            cluster.advertise(0, "127.0.0.1", address.port)
        yield first, rebuilt, address


@pytest.mark.parametrize("versions", [None, BY_NAME], ids=["topic ids", "topic names"])
async def test_a_cluster_rebuilt_behind_its_address_gets_the_records_under_a_new_producer_id(
    versions: dict[ApiName, int] | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        two_behind_one_address(versions) as (_, rebuilt, address),
        Producer[bytes, bytes](bootstrap_servers=address.address, **FAST) as mine,
    ):
        await mine.send_and_wait(TOPIC, b"mine, old")
        address.target = rebuilt.ports[0]
        address.cut()
        async with Producer[bytes, bytes](bootstrap_servers=address.address, **FAST) as other:
            # Under the same id and numbers as the records that mine has sent and will send.
            for value in (b"other, 0", b"other, 1"):
                await other.send_and_wait(TOPIC, value)
            for value in (b"mine, 0", b"mine, 1"):
                await mine.send_and_wait(TOPIC, value)
        assert values(rebuilt) == [b"other, 0", b"other, 1", b"mine, 0", b"mine, 1"]
        said = [line for line in caplog.messages if "'rebuilt'" in line]
        assert len(said) == 1
        rebuilt.expect_clean()


async def test_a_rebuilt_cluster_fails_records_of_unknown_outcome_and_stores_what_waits() -> None:
    async with (
        two_behind_one_address(BY_NAME) as (first, rebuilt, address),
        Producer[bytes, bytes](bootstrap_servers=address.address, **fast(batch_size=0)) as producer,
    ):
        await prove(producer)
        first.hang("produce", stored=True, count=1)
        in_doubt = [producer.send_nowait(TOPIC, b"in doubt %d" % index) for index in range(5)]
        waiting = [producer.send_nowait(TOPIC, b"waiting %d" % index) for index in range(3)]
        await first.received("produce", 6)
        address.target = rebuilt.ports[0]
        address.cut()
        for delivery in in_doubt:
            assert (await failure(delivery)).possibly_persisted
        assert [(await delivery).offset for delivery in waiting] == [0, 1, 2]
        assert values(rebuilt) == [b"waiting 0", b"waiting 1", b"waiting 2"]
        first.release()


@pytest.mark.parametrize("when", ["between", "within", "committing"])
async def test_a_cluster_rebuilt_around_a_transaction_gets_nothing_of_it(when: str) -> None:
    async with (
        two_behind_one_address(None) as (first, rebuilt, address),
        Producer[bytes, bytes](
            bootstrap_servers=address.address, **fast(transactional_id="id")
        ) as producer,
    ):
        async with producer.transaction():
            await producer.send(TOPIC, b"old")
        if when == "committing":
            first.hang("end_txn", count=1)

        async def transfer() -> None:
            async with producer.transaction():
                await producer.send_and_wait(TOPIC, b"a")
                if when == "within":
                    address.target = rebuilt.ports[0]
                    address.cut()
                await producer.send(TOPIC, b"b")

        if when == "between":
            address.target = rebuilt.ports[0]
            address.cut()
            await until(lambda: not producer.status().brokers_connected)
        transferring = asyncio.create_task(transfer())
        if when == "committing":
            await first.received("end_txn", 2)
            address.target = rebuilt.ports[0]
            address.cut()
        # Also between: only the first answer of the rebuilt one says that it is another.
        with pytest.raises(KafkaError) as caught:
            await transferring
        assert caught.value.requires_abort
        async with producer.transaction():
            await producer.send(TOPIC, b"next")
        records = rebuilt.records(TOPIC, 0, isolation="read_committed")
        assert [record.value for record in records] == [b"next"]
        first.release()


async def test_two_clusters_in_bootstrap_servers_are_never_mixed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as mine,
        FakeCluster(topics={TOPIC: 1}) as foreign,
    ):
        named(foreign, "another")
        options = fast(delivery_timeout_ms=2_000, request_timeout_ms=500)
        producer: AnyProducer = Producer(bootstrap_servers=mine.bootstrap_servers, **options)
        await producer.start()
        sender = sender_of(producer)
        seeds = sender.cluster._bootstrap.seeds  # pyright: ignore[reportPrivateUsage]
        seeds.append(seeds[0]._replace(port=foreign.ports[0]))
        await prove(producer)
        await mine.stop_broker(0)

        error = await failure(producer.send_nowait(TOPIC, b"not for another"))
        assert isinstance(error, KafkaTimeoutError)
        assert foreign.requests_of("produce") == []
        said = [line for line in caplog.messages if "belongs to cluster 'another'" in line]
        assert len(said) == 1

        await mine.start_broker(0)
        assert (await producer.send_and_wait(TOPIC, b"for mine")).offset == 1
        await producer.close()


async def test_a_brokers_address_that_is_another_clusters_by_now_gets_no_record() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as mine,
        FakeCluster(topics={TOPIC: 2}) as foreign,
        Forwarder(mine.ports[1]) as address,
    ):
        named(foreign, "another")
        mine.advertise(1, "127.0.0.1", address.port)
        async with Producer[bytes, bytes](
            bootstrap_servers=f"127.0.0.1:{mine.ports[0]}", **FAST
        ) as producer:
            for partition in range(2):
                await prove(producer, partition)
            # As when a pod's address is given to somebody else's.
            address.target = foreign.ports[0]
            address.cut()
            delivery = producer.send_nowait(TOPIC, b"42", partition=1)
            await until(lambda: address.accepted >= 3)
            assert not delivery.done()
            mine.move_leader(TOPIC, 1, 0)
            assert (await delivery).offset == 1
            assert foreign.requests_of("produce") == []


async def test_a_cluster_may_be_rebuilt_twice_behind_a_seed_that_no_broker_advertises() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as first,
        FakeCluster(topics={TOPIC: 1}) as second,
        FakeCluster(topics={TOPIC: 1}) as third,
        Forwarder(first.ports[0]) as address,
        Producer[bytes, bytes](
            bootstrap_servers=f"localhost:{address.port}", **fast(request_timeout_ms=1_000)
        ) as producer,
    ):
        named(second, "second")
        named(third, "third")
        for cluster in (first, second, third):
            cluster.advertise(0, "127.0.0.1", address.port)
        for cluster in (first, second, third):
            address.target = cluster.ports[0]
            address.cut()
            await asyncio.sleep(0.05)
            await producer.send_and_wait(TOPIC, b"x")
            assert values(cluster) == [b"x"]


async def test_a_seed_that_names_unreachable_brokers_and_hangs_up_is_asked_with_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, Forwarder(cluster.ports[0]) as address:
        cluster.advertise(0, "127.0.0.1", closed_port())

        def hang_up(answer: MetadataResponse) -> None:
            asyncio.get_running_loop().call_later(0.01, address.cut)

        cluster.edit_next("metadata", hang_up, count=None)
        producer = Producer[bytes, bytes](
            bootstrap_servers=address.address,
            max_block_ms=1_000,
            request_timeout_ms=500,
            delivery_timeout_ms=1_000,
            close_timeout_ms=100,
        )
        await producer.start()
        with pytest.raises(KafkaTimeoutError):
            await producer.send_and_wait(TOPIC, b"x")
        await producer.close()
        assert address.accepted < 100
        assert sum("starting again" in line for line in caplog.messages) <= 2
