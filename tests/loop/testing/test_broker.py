from __future__ import annotations

import asyncio
import datetime
import struct

import pytest

from aioproducer.testing import FakeCluster
from tests.loop.testing.test_cluster import address, is_reset
from tests.support.kio_client import (
    KioClient,
    batch,
    connected,
    init_producer_id_request,
    produce_request,
    request_frame,
)
from tests.support.kio_messages import kio_class
from tests.unit.testing.apis.test_metadata import asked
from tests.unit.testing.apis.test_small_apis import api_versions

LATE = 0.3


async def values(cluster: FakeCluster) -> list[bytes | None]:
    return [record.value for record in cluster.records("t")]


def one(value: bytes) -> object:
    return produce_request({("t", 0): batch(value)})


async def silent(client: KioClient) -> bool:
    try:
        async with asyncio.timeout(0.05):
            await client.reader.readexactly(1)
    except TimeoutError:
        return True
    return False


async def test_requests_are_answered_in_order() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        messages = [one(b"%d" % n) for n in range(20)]
        for message in messages:
            await client.send(message)
        for number, message in enumerate(messages):
            response = await client.receive(message)
            assert client.answered == number + 1
            assert response.responses[0].partition_responses[0].base_offset == number


async def test_a_request_may_come_byte_by_byte() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        frame = request_frame(one(b"a"))
        for place in range(len(frame)):
            client.writer.write(frame[place : place + 1])
            await asyncio.sleep(0)
        await client.receive(one(b"a"))
        assert await values(cluster) == [b"a"]


@pytest.mark.parametrize("size", [-1, 2**31 - 1])
async def test_a_request_of_an_impossible_size_is_cut(size: int) -> None:
    async with FakeCluster() as cluster, connected(address(cluster)) as client:
        client.writer.write(struct.pack(">i", size))
        assert await is_reset(client)
        assert "claims" in cluster.violations[0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0\2\0\0\0\1\0\0",  # Produce 2, which is advertised and refused
        b"\0\0\0\x63\0\0\0\1\0\0",  # Produce 99
        b"\0\x63\0\0\0\0\0\1\0\0",  # no API of Kafka
        b"\0\3\0\0\0\0\0\1\0\0\0\0\0\0trailing",
    ],
)
async def test_a_request_that_cannot_be_read_closes_the_connection_in_its_turn(
    body: bytes,
) -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        await client.send(one(b"a"))
        client.writer.write(struct.pack(">i", len(body)) + body)
        await client.send(one(b"b"))
        await client.receive(one(b"a"))
        assert await is_reset(client)
        assert await values(cluster) == [b"a"]
        assert len(cluster.violations) == 1


async def test_an_unknown_version_of_api_versions_is_answered_in_version_0() -> None:
    async with FakeCluster(max_versions={"api_versions": 2}) as cluster:
        async with connected(address(cluster)) as client:
            await client.send(api_versions(4))
            (size,) = struct.unpack(">i", await client.reader.readexactly(4))
            data = await client.reader.readexactly(size)
            assert data[:6] == struct.pack(">ih", 1, 35)
            response = await client.ask(api_versions(2))
            offered = {api.api_key: api.max_version for api in response.api_keys}
            assert offered[18] == 2
        cluster.expect_clean()


async def test_acks_0_is_not_answered() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        await client.send(produce_request({("t", 0): batch(b"a")}, acks=0))
        await client.ask(asked(12, []))
        assert await values(cluster) == [b"a"]


async def test_an_error_of_acks_0_closes_the_connection() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        await client.send(produce_request({("t", 9): batch()}, acks=0))
        assert await is_reset(client)


async def test_more_than_five_requests_of_an_idempotent_producer_are_a_violation() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        producer_id = (await client.ask(init_producer_id_request())).producer_id
        cluster.hang("produce", count=1)
        messages = [
            produce_request({("t", 0): batch(producer=(producer_id, 0, n))}) for n in range(6)
        ]
        for message in messages[:5]:
            await client.send(message)
        await cluster.received("produce", 5)
        cluster.expect_clean()
        await client.send(messages[5])
        await cluster.received("produce", 6)
        assert "6 requests of an idempotent producer are in flight" in cluster.violations[0]
        cluster.release()
        for message in messages:
            await client.receive(message)
        await client.ask(produce_request({("t", 0): batch(producer=(producer_id, 0, 6))}))
        assert len(cluster.violations) == 1


async def test_a_late_response_holds_up_those_behind_it_and_no_other_connection() -> None:
    async with (
        FakeCluster(topics={"t": 1}) as cluster,
        connected(address(cluster)) as slow,
        connected(address(cluster)) as fast,
    ):
        cluster.delay("produce", LATE, count=1)
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        await slow.send(one(b"a"))
        await slow.send(asked(12, []))
        await cluster.received("metadata")
        await fast.ask(asked(12, []))
        assert await values(cluster) == [b"a"]
        assert loop.time() - begun_at < LATE
        await slow.receive(one(b"a"))
        await slow.receive(asked(12, []))
        assert loop.time() - begun_at >= LATE - 0.001


async def test_a_request_may_be_carried_out_late() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        cluster.delay("produce", LATE, when="before")
        await client.send(one(b"a"))
        await cluster.received("produce")
        assert await values(cluster) == []
        await client.receive(one(b"a"))
        assert await values(cluster) == [b"a"]


async def test_a_request_hangs_until_it_is_released() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        cluster.hang("produce")
        await client.send(one(b"a"))
        await client.send(one(b"b"))
        await cluster.received("produce", 2)
        assert await silent(client)
        assert await values(cluster) == []
        cluster.release()
        await client.receive(one(b"a"))
        await client.receive(one(b"b"))
        assert await values(cluster) == [b"a", b"b"]


async def test_a_request_may_be_stored_and_not_answered() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        cluster.hang("produce", stored=True)
        await client.send(one(b"a"))
        assert await silent(client)
        assert await values(cluster) == [b"a"]
        cluster.release()
        await client.receive(one(b"a"))


async def test_a_request_that_hung_is_carried_out_after_its_connection_is_gone() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster:
        cluster.hang("produce", count=1)
        async with connected(address(cluster)) as client:
            await client.send(one(b"late"))
            await client.send(one(b"never"))
            await cluster.received("produce", 2)
        async with connected(address(cluster)) as client:
            await client.ask(one(b"first"))
        cluster.release()
        assert await values(cluster) == [b"first", b"late"]


async def test_a_broker_that_dies_forgets_what_hung() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster:
        cluster.hang("produce", count=1)
        cluster.delay("metadata", 0.01, when="before", count=1)
        async with (
            connected(address(cluster)) as client,
            connected(address(cluster)) as other,
        ):
            await client.send(one(b"a"))
            await other.send(asked(12, ["made-by-nobody"]))
            await cluster.received("produce")
            await cluster.received("metadata")
            await cluster.stop_broker(0)
            await cluster.start_broker(0)
            cluster.release()
            await asyncio.sleep(0.03)
            assert await values(cluster) == []
            assert cluster.records("made-by-nobody") == []


@pytest.mark.parametrize(("when", "stored"), [("before", []), ("after", [b"a"])])
async def test_a_connection_is_cut_before_or_after_storing(
    when: str, stored: list[bytes | None]
) -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        cluster.cut_next("produce", when="before" if when == "before" else "after")
        await client.send(one(b"a"))
        assert await is_reset(client)
        assert await values(cluster) == stored
        async with connected(address(cluster)) as again:
            assert (await again.produce("t", 0, batch())).error_code == 0


async def test_a_fetch_waits_for_records() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster:
        fetch = kio_class("fetch", 12, "FetchRequest")
        topic = kio_class("fetch", 12, "FetchTopic", fetch)
        part = kio_class("fetch", 12, "FetchPartition", fetch)

        def wanted(wait: float) -> object:
            return fetch(
                cluster_id=None,
                replica_id=-1,
                max_wait=datetime.timedelta(seconds=wait),
                min_bytes=1,
                topics=(
                    topic(
                        topic="t",
                        partitions=(part(partition=0, fetch_offset=0, partition_max_bytes=1000),),
                    ),
                ),
                forgotten_topics_data=(),
            )

        async with connected(address(cluster)) as reader, connected(address(cluster)) as writer:
            response = await reader.ask(wanted(0.01))
            assert response.responses[0].partitions[0].high_watermark == 0
            await reader.send(wanted(10))
            await cluster.received("fetch", 2)
            await writer.ask(one(b"a"))
            response = await reader.receive(wanted(10))
            (fetched,) = response.responses[0].partitions
            assert fetched.high_watermark == 1
            assert fetched.records.endswith(batch(b"a")[21:])
