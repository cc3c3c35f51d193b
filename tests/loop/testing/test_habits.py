"""What a FakeCluster does when it plays a broker that is not Kafka's, byte by byte."""

from __future__ import annotations

import struct

import pytest

from aioproducer.testing import (
    EVENT_HUBS,
    KROXYLICIOUS,
    LIBRDKAFKA_MOCK,
    TANSU,
    FakeCluster,
    Habits,
)
from tests.loop.testing.test_cluster import address, is_reset
from tests.support.kio_client import KioClient, batch, connected, produce_request
from tests.unit.testing.apis.test_metadata import asked
from tests.unit.testing.apis.test_small_apis import api_versions


async def raw_response(client: KioClient) -> bytes:
    """The body of the next response, which no client can read."""
    (size,) = struct.unpack(">i", await client.reader.readexactly(4))
    return (await client.reader.readexactly(size))[4:]


@pytest.mark.parametrize(
    ("habits", "refusal"),
    [
        pytest.param(Habits(max_versions={"api_versions": 2}), "0023 00000001 0012 0000 0002"),
        pytest.param(LIBRDKAFKA_MOCK, "0023 01 0012 0000 0002 00000000"),
        pytest.param(KROXYLICIOUS, "0023 02 0012 0000 0003 00 00000000 00"),
    ],
    ids=["Kafka", "librdkafka", "Kroxylicious"],
)
async def test_a_version_of_api_versions_is_refused_as_the_broker_does(
    habits: Habits, refusal: str
) -> None:
    async with FakeCluster(habits=habits) as cluster, connected(address(cluster)) as client:
        await client.send(api_versions(4))
        assert await raw_response(client) == bytes.fromhex(refusal)
        offered = {api.api_key for api in (await client.ask(api_versions(0))).api_keys}
        assert 18 in offered
        cluster.expect_clean()


async def test_event_hubs_resets_the_connection_on_api_versions_4() -> None:
    async with FakeCluster(habits=EVENT_HUBS) as cluster:
        async with connected(address(cluster)) as client:
            await client.send(api_versions(4))
            assert await is_reset(client)
        async with connected(address(cluster)) as client:
            answer = await client.ask(api_versions(3))
            offered = {api.api_key: api.max_version for api in answer.api_keys}
        assert (offered[18], offered[3], offered[0]) == (3, 5, 13)
        cluster.expect_clean()


async def test_what_a_test_says_of_versions_goes_before_the_habits() -> None:
    async with (
        FakeCluster(habits=EVENT_HUBS, max_versions={"metadata": 9}) as cluster,
        connected(address(cluster)) as client,
    ):
        answer = await client.ask(api_versions(0))
        assert {api.api_key: api.max_version for api in answer.api_keys}[3] == 9


async def test_tansu_lists_all_topics_where_it_is_asked_for_none() -> None:
    async with (
        FakeCluster(topics={"a": 1, "b": 2}, habits=TANSU) as cluster,
        connected(address(cluster)) as client,
    ):
        assert [topic.name for topic in (await client.ask(asked(12, []))).topics] == ["a", "b"]
        assert [topic.name for topic in (await client.ask(asked(12, ["b"]))).topics] == ["b"]


@pytest.mark.parametrize("habits", [EVENT_HUBS, TANSU], ids=["Event Hubs", "Tansu"])
async def test_requests_with_acks_0_are_answered_errors_too(habits: Habits) -> None:
    async with (
        FakeCluster(topics={"t": 1}, habits=habits) as cluster,
        connected(address(cluster)) as client,
    ):
        stored = await client.ask(produce_request({("t", 0): batch(b"a")}, version=9, acks=0))
        refused = await client.ask(produce_request({("t", 9): batch(b"b")}, version=9, acks=0))
        codes = [
            answer.responses[0].partition_responses[0].error_code for answer in (stored, refused)
        ]
        assert codes == [0, 3]


async def test_requests_with_acks_0_are_carried_out_though_the_other_side_has_ended() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster:
        cluster.delay("produce", 0.005, when="before")
        async with connected(address(cluster)) as client:
            for value in (b"a", b"b", b"c"):
                await client.send(produce_request({("t", 0): batch(value)}, acks=0))
            client.writer.write_eof()
            assert await client.reader.read(-1) == b""
        assert [record.value for record in cluster.records("t")] == [b"a", b"b", b"c"]
