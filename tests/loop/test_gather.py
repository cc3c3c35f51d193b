"""`aioproducer.gather` on whole producers: new topics, splits, refusals, retries, a close."""

from __future__ import annotations

import asyncio

import pytest

import aioproducer
from aioproducer import KafkaError, KafkaTimeoutError, ProducerClosedError
from aioproducer.errors import InvalidRecordError, PolicyViolationError
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import RECORD_BY_RECORD, TOPIC, fast, producing, prove


async def test_the_first_records_of_a_new_topic_are_gathered() -> None:
    async with FakeCluster(topics={TOPIC: 3}) as cluster, producing(cluster) as producer:
        deliveries = [producer.send_nowait(TOPIC, b"%d" % n, partition=n % 3) for n in range(300)]
        results = await aioproducer.gather(deliveries)
    assert [(each.partition, each.offset) for each in results] == [
        (n % 3, n // 3) for n in range(300)
    ]


async def test_the_deliveries_of_two_producers_are_gathered_together() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster) as one,
        producing(cluster) as other,
    ):
        deliveries = [
            producer.send_nowait(TOPIC, b"42", partition=partition)
            for _ in range(10)
            for partition, producer in enumerate((one, other))
        ]
        results = await aioproducer.gather(deliveries)
    assert [each.partition for each in results] == [0, 1] * 10


async def test_batches_that_are_too_large_are_followed_to_their_parts() -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, message_max_bytes=1_000)
        async with producing(cluster) as producer:
            await prove(producer)
            deliveries = [producer.send_nowait(TOPIC, b"x" * 100) for _ in range(100)]
            results = await aioproducer.gather(deliveries)
    assert [each.offset for each in results] == list(range(1, 101))


async def test_refused_records_fail_and_the_others_are_stored() -> None:
    bad = {3, 70, 71}
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, compacted=True)
        async with producing(cluster) as producer:
            await producer.send_and_wait(TOPIC, b"warm", key=b"k")
            deliveries = [
                producer.send_nowait(TOPIC, b"%d" % n, key=None if n in bad else b"k")
                for n in range(100)
            ]
            with pytest.raises(InvalidRecordError):
                await aioproducer.gather(deliveries)
            results = await aioproducer.gather(deliveries, return_exceptions=True)
    assert {n for n, each in enumerate(results) if isinstance(each, KafkaError)} == bad


async def test_the_first_failure_is_raised_while_other_records_are_in_flight() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await asyncio.gather(prove(producer), prove(producer, 1))
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        failing = producer.send_nowait(TOPIC, b"42")
        await cluster.received("produce", 3)
        cluster.hang("produce")
        held = producer.send_nowait(TOPIC, b"43", partition=1)
        with pytest.raises(PolicyViolationError):
            await aioproducer.gather([held, failing])
        assert not held.done()
        cluster.release()
        assert len(await aioproducer.gather([held])) == 1


async def test_records_that_are_retried_are_waited_for() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.NOT_LEADER_OR_FOLLOWER)
        deliveries = [producer.send_nowait(TOPIC, b"%d" % n) for n in range(50)]
        results = await aioproducer.gather(deliveries)
    assert [each.offset for each in results] == list(range(1, 51))


@pytest.mark.parametrize("topic", [TOPIC, "new"])
async def test_a_close_ends_the_wait(topic: str) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        cluster.hang("metadata")
        deliveries = [producer.send_nowait(topic, b"%d" % n) for n in range(50)]
        gathering = asyncio.create_task(aioproducer.gather(deliveries, return_exceptions=True))
        await asyncio.sleep(0)
        await producer.close(0)
        assert {type(each) for each in await gathering} == {ProducerClosedError}
        cluster.release()


async def test_a_record_that_misses_its_deadline_fails_the_wait_and_the_others_go_on() -> None:
    options = fast(max_in_flight_requests_per_connection=1)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        cluster.hang("produce")
        deliveries = [producer.send_nowait(TOPIC, b"in flight")]
        await cluster.received("produce", 2)
        deliveries += [producer.send_nowait(TOPIC, b"before")]
        late = producer.send_nowait(TOPIC, b"late", deadline=0.02)
        deliveries += [late, producer.send_nowait(TOPIC, b"after")]
        others = asyncio.create_task(
            aioproducer.gather(each for each in deliveries if each is not late)
        )
        everything = asyncio.create_task(aioproducer.gather(deliveries, return_exceptions=True))
        with pytest.raises(KafkaTimeoutError, match="deadline"):
            await aioproducer.gather(deliveries)
        assert not others.done()
        cluster.release()
        assert [each.offset for each in await others] == [1, 2, 3]
        assert [getattr(each, "offset", None) for each in await everything] == [1, 2, None, 3]


async def test_a_record_of_an_unknown_topic_that_misses_its_deadline_fails_the_wait() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.hang("metadata")
        waits = producer.send_nowait(TOPIC, b"42")
        late = producer.send_nowait(TOPIC, b"late", deadline=0.02)
        with pytest.raises(KafkaTimeoutError):
            await aioproducer.gather([waits, late])
        stays = asyncio.create_task(aioproducer.gather([waits, late], return_exceptions=True))
        await asyncio.sleep(0)
        assert not stays.done()
        cluster.release()
        assert [getattr(each, "offset", None) for each in await stays] == [0, None]
