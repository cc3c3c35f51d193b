"""Metadata: leaders that move, hints, and topics that are unknown, are recreated or grow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioproducer import KafkaError, Producer
from aioproducer.errors import (
    InvalidPartitionError,
    InvalidTopicError,
    MessageTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aioproducer.testing import (
    TANSU,
    ErrorCode,
    FakeCluster,
    MetadataResponse,
    ProduceResponse,
    TopicMetadata,
)
from tests.support.producing import (
    RECORD_BY_RECORD,
    TOPIC,
    failure,
    producing,
    prove,
    sender_of,
    until,
    values,
)


async def test_records_follow_a_leader_that_moved() -> None:
    async with (
        FakeCluster(brokers=3, topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        offsets: list[int] = []
        for node in (1, 2, 0):
            cluster.move_leader(TOPIC, 0, node)
            results = await producer.send_many(TOPIC, [b"%d" % index for index in range(4)])
            offsets += [metadata.offset for metadata in results]
            assert cluster.requests_of("produce")[-1].node_id == node
        assert offsets == list(range(1, 13))


async def test_a_hint_in_the_response_is_followed_without_waiting_for_metadata() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 1}) as cluster,
        producing(cluster, retry_backoff_ms=60_000, retry_backoff_max_ms=60_000) as producer,
    ):
        await prove(producer)
        cluster.hang("metadata")
        cluster.move_leader(TOPIC, 0, 1)

        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
        assert [request.node_id for request in cluster.requests_of("produce")] == [0, 0, 1]
        cluster.release()


async def test_topics_that_nobody_asked_for_are_dropped() -> None:
    topics = {TOPIC: 1} | {f"other-{number}": 3 for number in range(50)}
    async with (
        FakeCluster(topics=topics, habits=TANSU) as cluster,
        producing(cluster) as producer,
    ):
        assert await producer.partitions_for(TOPIC) == (0,)
        sender = sender_of(producer)
        assert set(sender.topics.by_name) == {TOPIC}


@pytest.mark.parametrize("code", [0, 3, 5, 17, 29])
@pytest.mark.parametrize("name", [None, "", "stranger"])
async def test_no_stranger_among_the_topics_does_any_harm(name: str | None, code: int) -> None:
    def add_strangers(answer: MetadataResponse) -> None:
        answer.topics[:0] = [TopicMetadata(name, bytes(range(16)), code) for _ in range(3)]

    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.edit_next("metadata", add_strangers, count=None)
        async with producing(cluster) as producer:
            await prove(producer)
            cluster.fail_next("produce", ErrorCode.NOT_LEADER_OR_FOLLOWER)
            await prove(producer)
            sender = sender_of(producer)
            assert set(sender.topics.by_name) == {TOPIC}


async def test_without_a_hint_metadata_is_asked_for_and_the_leader_found() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 1}, max_versions={"produce": 9}) as cluster,
        producing(cluster) as producer,
    ):
        await prove(producer)
        cluster.move_leader(TOPIC, 0, 1)
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1


@pytest.mark.parametrize("hint", [(1, -1), (-1, 5), (1, 0), (77, 5)])
async def test_a_stale_or_impossible_hint_is_ignored(hint: tuple[int, int]) -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 1}) as cluster,
        producing(cluster) as producer,
    ):
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.NOT_LEADER_OR_FOLLOWER, current_leader=hint)
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
        assert {request.node_id for request in cluster.requests_of("produce")} == {0}


async def test_a_partition_without_leader_waits_for_one_without_failing() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster) as producer,
    ):
        await prove(producer, 0)
        cluster.move_leader(TOPIC, 0, -1)
        delivery = producer.send_nowait(TOPIC, b"42", partition=0)
        await producer.send_and_wait(TOPIC, b"43", partition=1)
        assert not delivery.done()
        cluster.move_leader(TOPIC, 0, 1)
        assert (await delivery).offset == 1


async def test_a_new_topic_is_asked_for_at_once_and_alone() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1, "other": 1}) as cluster,
        producing(cluster) as producer,
    ):
        await prove(producer)
        await producer.send_and_wait("other", b"42")
        assert cluster.requests_of("metadata")[-1].topics == ("other",)


async def test_records_of_an_unknown_topic_are_stored_in_call_order_once_it_appears() -> None:
    async with FakeCluster(auto_create_topics=False) as cluster, producing(cluster) as producer:
        deliveries = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(100)]
        await cluster.received("metadata", 4)
        cluster.create_topic(TOPIC, 1)
        assert [(await delivery).offset for delivery in deliveries] == list(range(100))
        assert values(cluster) == [b"%d" % index for index in range(100)]


async def test_a_topic_that_never_appears_fails_its_records_and_says_what_to_do() -> None:
    notified: list[tuple[KafkaError, int]] = []
    async with (
        FakeCluster(auto_create_topics=False) as cluster,
        producing(
            cluster, max_block_ms=400, on_error=lambda error, count: notified.append((error, count))
        ) as producer,
    ):
        deliveries = [producer.send_nowait(TOPIC, b"42") for _ in range(3)]
        for delivery in deliveries:
            error = await failure(delivery)
            assert isinstance(error, UnknownTopicOrPartitionError)
            assert repr(TOPIC) in str(error)
            assert "max_block_ms" in str(error)
            assert "auto.create.topics.enable" in str(error)
            assert not error.possibly_persisted
        await asyncio.sleep(0)
        assert [count for _, count in notified] == [3]
        assert producer.metrics()["record_error_total"] == 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ErrorCode.INVALID_TOPIC_EXCEPTION, InvalidTopicError),
        (ErrorCode.TOPIC_AUTHORIZATION_FAILED, TopicAuthorizationFailedError),
    ],
)
async def test_a_topic_that_is_refused_fails_its_records_at_once(
    code: ErrorCode, kind: type[KafkaError]
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("metadata", code, topic=TOPIC)
        error = await failure(producer.send_nowait(TOPIC, b"42"))
        assert isinstance(error, kind)
        assert TOPIC in str(error)
        # The next record asks again.
        assert (await producer.send_and_wait(TOPIC, b"43")).offset == 0


async def test_a_topic_left_out_of_a_response_is_asked_for_again() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:

        def forget(answer: MetadataResponse) -> None:
            answer.topics = []

        cluster.edit_next("metadata", forget)
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0


async def test_a_topic_without_partitions_is_asked_for_again() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:

        def forget(answer: MetadataResponse) -> None:
            answer.topics[0].partitions = []

        cluster.edit_next("metadata", forget)
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0


async def test_a_topic_recreated_under_another_id_gets_the_records() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.delete_topic(TOPIC)
        cluster.create_topic(TOPIC, 1)
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0


async def test_a_topic_recreated_with_a_larger_limit_gets_larger_records() -> None:
    async with FakeCluster() as cluster, producing(cluster) as producer:
        cluster.create_topic(TOPIC, 1, message_max_bytes=1_000)
        with pytest.raises(MessageTooLargeError):
            await producer.send_and_wait(TOPIC, bytes(5_000))
        cluster.delete_topic(TOPIC)
        cluster.create_topic(TOPIC, 1)
        # From this one on the producer knows the new topic.
        await producer.send_and_wait(TOPIC, b"small")
        assert (await producer.send_and_wait(TOPIC, bytes(5_000))).offset == 1


async def relearn(producer: Producer[Any, Any]) -> None:
    """Have all metadata asked for, and wait for the response."""
    sender = sender_of(producer)
    before = sender.cluster.metadata_at
    sender.cluster.refresh()
    await until(lambda: sender.cluster.metadata_at > before)


async def test_records_for_a_recreated_topic_keep_their_order_when_the_first_has_to_wait() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        cluster.delete_topic(TOPIC)
        cluster.create_topic(TOPIC, 1)
        await relearn(producer)
        # A new log takes any first sequence: a second batch must not be first.
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        await producer.send_many(TOPIC, [b"%d" % index for index in range(5)])

        assert values(cluster) == [b"0", b"1", b"2", b"3", b"4"]
        assert producer.metrics()["epoch_bump_total"] == 0


@pytest.mark.parametrize("stored", [True, False])
async def test_records_in_flight_while_their_topic_is_recreated_keep_their_order(
    stored: bool,
) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        cluster.hang("produce", stored=stored, count=1)
        everything = [b"%d" % index for index in range(8)]
        deliveries = [producer.send_nowait(TOPIC, value) for value in everything]
        await cluster.received("produce", 6)
        cluster.delete_topic(TOPIC)
        cluster.create_topic(TOPIC, 1)
        cluster.release()
        offsets = [(await delivery).offset for delivery in deliveries]

        # What the earlier topic stored went with it.
        assert values(cluster) == everything[1 if stored else 0 :]
        assert offsets == ([1, *range(7)] if stored else [*range(8)])


async def test_a_hint_about_the_deleted_topic_does_not_move_the_recreated_one() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, delivery_timeout_ms=2_000) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)

        def hint(answer: ProduceResponse) -> None:
            answer.partitions[0].error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
            answer.partitions[0].current_leader = (1, 7)

        cluster.edit_next("produce", hint)
        cluster.hang("produce", count=1)
        delivery = producer.send_nowait(TOPIC, b"42", partition=0)
        await cluster.received("produce", 3)
        cluster.delete_topic(TOPIC)
        cluster.create_topic(TOPIC, 2)
        await relearn(producer)
        cluster.release()

        assert (await delivery).offset == 0
        assert cluster.requests_of("produce")[-1].node_id == 0


async def test_a_partition_that_goes_and_comes_back_keeps_its_records_and_their_order() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer, 1)
        cluster.delete_topic(TOPIC)
        cluster.create_topic(TOPIC, 1)
        early = [producer.send_nowait(TOPIC, b"%d" % index, partition=1) for index in range(3)]
        while len(await producer.partitions_for(TOPIC)) > 1:
            await relearn(producer)
        with pytest.raises(InvalidPartitionError, match="1 partitions"):
            producer.send_nowait(TOPIC, b"not now", partition=1)
        cluster.add_partitions(TOPIC, 2)
        while len(await producer.partitions_for(TOPIC)) < 2:
            # What was on its way said so of the topic before.
            await relearn(producer)
        late = [producer.send_nowait(TOPIC, b"%d" % index, partition=1) for index in range(3, 6)]

        assert [(await delivery).offset for delivery in early + late] == [*range(6)]
        assert values(cluster, partition=1) == [b"%d" % index for index in range(6)]


@pytest.mark.parametrize("version", [7, 9, 13])
async def test_a_recreated_topic_is_found_at_its_new_leader_also_without_topic_ids(
    version: int,
) -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 1}, max_versions={"metadata": version}) as cluster,
        producing(cluster, delivery_timeout_ms=2_000) as producer,
    ):
        for node_id in (1, 0, 1):
            cluster.move_leader(TOPIC, 0, node_id)
        await prove(producer)
        cluster.delete_topic(TOPIC)
        cluster.create_topic(TOPIC, 1)
        # Its epochs begin again, and nothing else tells that it is another topic.
        assert (cluster.leader(TOPIC, 0), cluster.leader_epoch(TOPIC, 0)) == (0, 0)
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0


async def test_more_partitions_are_used_after_a_refresh() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, metadata_max_age_ms=50) as producer,
    ):
        await prove(producer)
        cluster.add_partitions(TOPIC, 3)
        before = len(cluster.requests_of("metadata"))
        await cluster.received("metadata", before + 2)
        assert (await producer.send_and_wait(TOPIC, b"42", partition=2)).partition == 2


async def test_an_older_leader_epoch_does_not_move_a_partition_back() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 1}) as cluster,
        producing(cluster, metadata_max_age_ms=50) as producer,
    ):
        cluster.move_leader(TOPIC, 0, 1)
        await prove(producer)

        def lag(answer: MetadataResponse) -> None:
            for topic in answer.topics:
                for partition in topic.partitions:
                    partition.leader_id, partition.leader_epoch = 0, 0

        cluster.edit_next("metadata", lag, count=None)
        before = len(cluster.requests_of("metadata"))
        await cluster.received("metadata", before + 2)
        await producer.send_and_wait(TOPIC, b"42")
        assert {request.node_id for request in cluster.requests_of("produce")} == {1}


async def test_a_leader_that_is_no_broker_is_asked_for_with_pauses() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, delivery_timeout_ms=300, request_timeout_ms=300) as producer,
    ):

        def lie(answer: MetadataResponse) -> None:
            for topic in answer.topics:
                for partition in topic.partitions:
                    partition.leader_id = 77

        cluster.edit_next("metadata", lie, count=None)
        before = len(cluster.requests_of("metadata"))
        await failure(producer.send_nowait(TOPIC, b"42"))
        assert len(cluster.requests_of("metadata")) - before < 100

        cluster.clear_faults()
        await producer.send_and_wait(TOPIC, b"43")


async def test_partitions_for_waits_for_an_unknown_topic() -> None:
    async with FakeCluster(default_partitions=4) as cluster, producing(cluster) as producer:
        assert await producer.partitions_for("made-on-demand") == (0, 1, 2, 3)


async def test_partitions_for_gives_up_after_max_block_ms() -> None:
    async with (
        FakeCluster(auto_create_topics=False) as cluster,
        producing(cluster, max_block_ms=500) as producer,
    ):
        with pytest.raises(UnknownTopicOrPartitionError, match="max_block_ms"):
            await producer.partitions_for("missing")


async def test_who_gets_the_buffer_space_of_records_whose_topic_was_refused_is_not_forgotten() -> (
    None
):
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=400) as producer,
    ):
        cluster.fail_next("metadata", ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        refused = producer.send_nowait(TOPIC, bytes(250))
        waiting = asyncio.create_task(producer.send(TOPIC, bytes(250)))

        assert isinstance(await failure(refused), TopicAuthorizationFailedError)
        # Now it may be seen.
        assert (await (await waiting)).offset == 0
