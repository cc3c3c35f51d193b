"""Acks 0, 1 and all, with and without idempotence."""

from __future__ import annotations

from typing import Literal

import pytest

from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import RECORD_BY_RECORD, TOPIC, producing, sent, until, values


@pytest.mark.parametrize(("acks", "wire"), [(0, 0), (1, 1), ("all", -1)])
async def test_the_broker_is_asked_for_the_acks_configured(
    acks: Literal[0, 1, "all"], wire: int
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with producing(cluster, acks=acks) as producer:
            await producer.send_and_wait(TOPIC, b"42")
        await cluster.received("produce")
        (request,) = cluster.requests_of("produce")
        assert request.acks == wire
        assert (request.batches[0].producer_id >= 0) == (acks == "all")


async def test_without_acks_records_are_done_when_sent_and_have_no_offset() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with producing(cluster, acks=0) as producer:
            results = await producer.send_many(TOPIC, [b"%d" % index for index in range(50)])
            assert {metadata.offset for metadata in results} == {-1}
        await until(lambda: len(values(cluster)) == 50)
        assert values(cluster) == [b"%d" % index for index in range(50)]


async def test_without_acks_a_broker_that_closes_is_connected_again() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with producing(cluster, acks=0) as producer:
            await producer.send_and_wait(TOPIC, b"1")
            await cluster.received("produce")
            cluster.fail_next("produce", ErrorCode.NOT_LEADER_OR_FOLLOWER)
            await producer.send_and_wait(TOPIC, b"2")
            await cluster.received("produce", 2)
            before = len(cluster.requests_of("metadata"))
            await cluster.received("metadata", before + 1)
            await producer.send_and_wait(TOPIC, b"3")
        await until(lambda: len(values(cluster)) == 2)
        assert values(cluster) == [b"1", b"3"]


async def test_one_request_at_a_time_keeps_the_order_without_idempotence() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster, RECORD_BY_RECORD, acks=1, max_in_flight_requests_per_connection=1
        ) as producer,
    ):
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS, count=3)
        cluster.cut_next("produce")
        everything = [b"%d" % index for index in range(30)]
        await producer.send_many(TOPIC, everything)
        assert values(cluster) == everything
        assert {batch.producer_id for batch in sent(cluster)} == {-1}
        assert cluster.requests_of("init_producer_id") == []
