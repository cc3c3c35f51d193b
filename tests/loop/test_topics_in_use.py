"""Topics in use stay tracked, others cost nothing: metadata requests and memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioproducer import Delivery, KafkaError, Producer
from aioproducer.errors import (
    InvalidTopicError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import TOPIC, failure, outcome, producing, prove, sender_of, sequences

AnyProducer = Producer[Any, Any]


def topics_of(producer: AnyProducer) -> set[str]:
    sender = sender_of(producer)
    return set(sender.topics.by_name)


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.LEADER_NOT_AVAILABLE,
    ],
    ids=lambda code: code.name,
)
async def test_one_refusal_of_a_topic_in_use_does_not_end_the_search_for_its_leaders(
    code: ErrorCode, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        FakeCluster(brokers=3, topics={TOPIC: 1}) as cluster,
        producing(cluster, metadata_max_age_ms=40) as producer,
    ):
        await prove(producer)
        cluster.fail_next("metadata", code, topic=TOPIC, count=1)
        asked = len(cluster.requests_of("metadata"))
        await cluster.received("metadata", asked + 3)
        await producer.send_and_wait(TOPIC, b"goes on to the leader known")
        await cluster.stop_broker(cluster.leader(TOPIC, 0))
        assert (await producer.send_and_wait(TOPIC, b"and to the next one")).offset >= 0
        said = [line for line in caplog.messages if line.startswith("Brokers name no leaders")]
        assert len(said) == 1


async def test_a_denied_topic_is_not_asked_about_as_fast_as_it_is_sent_to() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, retry_backoff_ms=50, retry_backoff_max_ms=200) as producer,
    ):
        cluster.fail_next("metadata", TopicAuthorizationFailedError, topic="denied", count=None)
        loop = asyncio.get_running_loop()
        before, started_at = len(cluster.requests_of("metadata")), loop.time()
        while loop.time() - started_at < 1:
            error = await failure(producer.send_nowait("denied", b"x"))
            assert isinstance(error, TopicAuthorizationFailedError)
        assert len(cluster.requests_of("metadata")) - before < 20


async def test_a_topic_that_does_not_exist_is_asked_about_alone_and_with_growing_pauses() -> None:
    others = {f"t{number}": 1 for number in range(50)}
    async with (
        FakeCluster(topics=others, auto_create_topics=False) as cluster,
        producing(cluster, retry_backoff_ms=20, retry_backoff_max_ms=400) as producer,
    ):
        await asyncio.gather(*(producer.send_and_wait(name, b"x") for name in others))
        before = len(cluster.requests_of("metadata"))
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        while loop.time() - started_at < 1.2:
            producer.send_nowait("missing", b"x")
            await asyncio.sleep(0.01)
        asked = cluster.requests_of("metadata")[before:]
        assert {request.topics for request in asked} == {("missing",)}
        assert 4 <= len(asked) <= 10


async def test_many_new_topics_are_asked_about_together() -> None:
    async with FakeCluster() as cluster, producing(cluster) as producer:
        before = len(cluster.requests_of("metadata"))
        await asyncio.gather(*(producer.send_and_wait(f"t{n}", b"x") for n in range(100)))
        # Some for those that were just created, whose backoffs differ a little.
        assert len(cluster.requests_of("metadata")) - before <= 8


async def test_a_stream_of_new_topics_does_not_ask_for_each_alone() -> None:
    async with FakeCluster() as cluster, producing(cluster) as producer:
        before = len(cluster.requests_of("metadata"))
        deliveries: list[Delivery] = []
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        for number in range(200):
            deliveries.append(producer.send_nowait(f"t{number}", b"x"))
            await asyncio.sleep(0.002)
        await asyncio.gather(*deliveries)
        took = loop.time() - started_at
        # Ten at once, and twenty a second.
        assert len(cluster.requests_of("metadata")) - before <= 12 + 20 * took


async def test_topics_that_do_not_exist_cost_nothing_afterwards() -> None:
    async with (
        FakeCluster(auto_create_topics=False) as cluster,
        producing(cluster, max_block_ms=300) as producer,
    ):
        results = await asyncio.gather(
            *(outcome(producer.send_nowait(f"missing{n}", b"x")) for n in range(100))
        )
        assert {type(result) for result in results} == {UnknownTopicOrPartitionError}
        assert len(topics_of(producer)) == 100
        forget(producer, 10.0)
        assert topics_of(producer) == set()


async def test_topics_that_were_used_once_cost_nothing_after_a_while() -> None:
    async with (
        FakeCluster() as cluster,
        producing(cluster, metadata_max_idle_ms=5_000) as producer,
    ):
        await asyncio.gather(*(producer.send_and_wait(f"once{n}", b"x") for n in range(20)))
        await producer.send_and_wait(TOPIC, b"x")
        forget(producer, 20.0, kept=TOPIC)
        assert topics_of(producer) == {TOPIC}
        # The numbers of the forgotten ones are not used again: one new epoch for all of them.
        await producer.send_and_wait("once3", b"y")
        await producer.send_and_wait(TOPIC, b"y")
        assert sequences(cluster)[-1] == (1, 0)
        assert producer.metrics()["epoch_bump_total"] == 1
        assert [record.value for record in cluster.records("once3")] == [b"x", b"y"]


async def test_a_topic_with_records_on_their_way_is_not_forgotten() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        delivery = producer.send_nowait(TOPIC, b"42")
        await cluster.received("produce", 2)
        forget(producer, 10_000.0)
        assert topics_of(producer) == {TOPIC}
        cluster.release()
        assert (await delivery).offset == 1


def forget(producer: AnyProducer, seconds: float, kept: str = "") -> None:
    """Have so much time have passed for the topics, since each got its last record."""
    sender = sender_of(producer)
    for topic in sender.topics.by_name.values():
        if topic.name != kept:
            topic.used_at -= seconds
            topic.responded_at -= seconds
        sender.topics._unused.add(topic, 0.0)  # pyright: ignore[reportPrivateUsage]
    sender.topics.forget_unused()


async def test_a_name_that_collides_with_another_topics_says_so() -> None:
    async with FakeCluster(topics={"a_b": 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("metadata", InvalidTopicError, topic="a.b")
        error = await failure(producer.send_nowait("a.b", b"x"))
        assert isinstance(error, InvalidTopicError)
        assert "'.' and '_'" in str(error)


async def test_records_that_wait_are_routed_in_turns_of_the_loop() -> None:
    async with (
        FakeCluster(auto_create_topics=False) as cluster,
        producing(cluster, max_block_ms=10_000) as producer,
    ):
        count = 20_000
        deliveries = [producer.send_nowait(TOPIC, b"%d" % n) for n in range(count)]
        cluster.create_topic(TOPIC, 1)
        topics = sender_of(producer).topics
        topic = topics.by_name[TOPIC]
        left: set[int] = set()
        while topic.waiting_count:
            left.add(topic.waiting_count)
            await asyncio.sleep(0)
        assert len(left) > 3
        late = producer.send_nowait(TOPIC, b"late")
        assert (await late).offset == count
        assert [(await delivery).offset for delivery in deliveries] == list(range(count))


async def test_records_sent_while_others_are_being_routed_stay_behind_them() -> None:
    async with FakeCluster(auto_create_topics=False) as cluster, producing(cluster) as producer:
        deliveries = [producer.send_nowait(TOPIC, b"x") for _ in range(20_000)]
        cluster.create_topic(TOPIC, 1)
        topic = sender_of(producer).topics.by_name[TOPIC]
        while not topic.is_known or topic.waiting:
            deliveries.append(producer.send_nowait(TOPIC, b"y"))
            await asyncio.sleep(0)
        assert [(await delivery).offset for delivery in deliveries] == list(range(len(deliveries)))


async def test_a_partitions_for_that_gave_up_leaves_nothing_behind() -> None:
    async with (
        FakeCluster(auto_create_topics=False) as cluster,
        producing(cluster, max_block_ms=300) as producer,
    ):
        with pytest.raises(KafkaError):
            await producer.partitions_for("missing")
        forget(producer, 10.0)
        assert topics_of(producer) == set()
