from __future__ import annotations

import struct

import pytest

from aioproducer.errors import KafkaTimeoutError, NotLeaderOrFollowerError
from aioproducer.testing import (
    Cut,
    ErrorCode,
    Fail,
    FakeCluster,
    FakeRequest,
    FakeResponse,
    MetadataResponse,
    ProduceResponse,
)
from tests.loop.testing.test_broker import one, values
from tests.loop.testing.test_cluster import address, is_reset
from tests.support.kio_client import batch, connected, init_producer_id_request
from tests.unit.testing.apis.test_metadata import asked
from tests.unit.testing.apis.test_small_apis import api_versions


async def test_the_next_requests_fail_and_then_no_more() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        cluster.fail_next("produce", NotLeaderOrFollowerError)
        cluster.fail_next("produce", 19, count=2, message="too few")
        answers = [await client.produce("t", 0, batch()) for _ in range(4)]
        assert [answer.error_code for answer in answers] == [6, 19, 19, 0]
        assert answers[1].error_message == "too few"


async def test_an_error_that_no_broker_sends_is_refused() -> None:
    async with FakeCluster() as cluster:
        with pytest.raises(ValueError, match="no code"):
            cluster.fail_next("produce", KafkaTimeoutError)


async def test_single_records_may_be_refused() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        cluster.fail_next("produce", ErrorCode.INVALID_RECORD, record_errors={1: "bad"})
        (error,) = (await client.produce("t", 0, batch(b"a", b"b"))).record_errors
        assert (error.batch_index, error.batch_index_error_message) == (1, "bad")


async def test_a_fault_may_be_that_of_one_broker() -> None:
    async with FakeCluster(brokers=2) as cluster:
        cluster.fail_next("init_producer_id", 14, node_id=1, count=None)
        codes: list[int] = []
        for node_id in (0, 1, 1):
            async with connected(address(cluster, node_id)) as client:
                codes.append((await client.ask(init_producer_id_request())).error_code)
        assert codes == [0, 14, 14]


async def test_faults_are_cleared() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        cluster.fail_next("produce", 6, count=None)
        cluster.clear_faults()
        assert (await client.produce("t", 0, batch())).error_code == 0


async def test_the_bytes_of_a_response_may_be_changed() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        cluster.mutate_next("metadata", lambda payload: struct.pack(">i", 99) + payload[4:])
        await client.send(asked(12, []))
        await client.receive(asked(12, []))
        assert client.answered == 99


async def test_the_size_of_a_response_may_be_changed_too() -> None:
    async with FakeCluster() as cluster, connected(address(cluster)) as client:
        cluster.mutate_next("any", lambda frame: b"\x7f" + frame[1:5], framed=True)
        await client.send(asked(12, []))
        assert (await client.reader.readexactly(5))[0] == 0x7F


async def test_a_response_may_be_edited() -> None:
    async with FakeCluster(topics={"t": 2}) as cluster, connected(address(cluster)) as client:

        def twice(answer: ProduceResponse) -> None:
            answer.partitions *= 2

        def stale(answer: MetadataResponse) -> None:
            answer.topics[0].partitions[0].leader_id = 9

        cluster.edit_next("produce", twice)
        cluster.edit_next("metadata", stale)
        cluster.edit_next("init_producer_id", lambda answer: setattr(answer, "producer_id", 5))
        cluster.edit_next("api_versions", lambda answer: answer.apis.clear())
        response = await client.ask(one(b"a"))
        assert [part.index for part in response.responses[0].partition_responses] == [0, 0]
        (topic,) = (await client.ask(asked(12, ["t"]))).topics
        assert topic.partitions[0].leader_id == 9
        assert (await client.ask(init_producer_id_request())).producer_id == 5
        assert (await client.ask(api_versions(4))).api_keys == ()


async def test_a_function_sees_and_changes_requests_until_it_is_removed() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        seen: list[str] = []

        def fn(request: FakeRequest) -> Fail | None:
            seen.append(request.api)
            return Fail(7, stored=True) if request.api == "produce" else None

        remove = cluster.on_request(fn)
        assert (await client.produce("t", 0, batch(b"a"))).error_code == 7
        remove()
        assert (await client.produce("t", 0, batch(b"b"))).error_code == 0
        assert seen == ["produce"]
        assert await values(cluster) == [b"a", b"b"]


async def test_a_function_may_cut_the_connection() -> None:
    async with FakeCluster() as cluster, connected(address(cluster)) as client:
        cluster.on_request(lambda request: Cut() if request.api == "metadata" else None)
        await client.send(asked(12, []))
        assert await is_reset(client)


async def test_a_function_may_answer_in_the_place_of_the_broker() -> None:
    async with FakeCluster(topics={"t": 1}) as cluster, connected(address(cluster)) as client:
        cluster.on_request(lambda request: FakeResponse(b"nonsense"))
        await client.send(one(b"a"))
        # Size, correlation id, and the empty tagged fields of a flexible header.
        assert await client.reader.readexactly(17) == b"\0\0\0\x0d\0\0\0\1\0nonsense"
        assert await values(cluster) == []
