"""Rules of docs/conformance.md that several modules keep together."""

from __future__ import annotations

import asyncio
import struct

import pytest

from aioproducer import KafkaError, Producer, ProducerConfig
from aioproducer.errors import KafkaConnectionError
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.testing import ErrorCode, FakeCluster, FakeRequest, FakeResponse, MetadataResponse
from tests.support.producing import (
    FAST,
    RECORD_BY_RECORD,
    TOPIC,
    failure,
    outcome,
    producing,
    prove,
    sender_of,
    sent,
    sequences,
    until,
    values,
)


def partition_queue_of(producer: Producer[bytes, bytes], partition: int = 0) -> PartitionQueue:
    sender = sender_of(producer)
    queues = sender.topics.by_name[TOPIC].partition_queues
    return next(queue for queue in queues if queue.partition == partition)


async def test_partitions_take_turns_when_a_request_cannot_hold_them_all() -> None:
    async with (
        FakeCluster(topics={TOPIC: 4}) as cluster,
        producing(
            cluster,
            RECORD_BY_RECORD,
            max_request_size=3_000,
            max_in_flight_requests_per_connection=1,
        ) as producer,
    ):
        for partition in range(4):
            await prove(producer, partition)
        cluster.hang("produce", count=1)
        for _ in range(4):
            for partition in range(4):
                producer.send_nowait(TOPIC, b"x" * 1_000, partition=partition)
        await cluster.received("produce", 5)
        cluster.release()
        await producer.flush()
        requests = cluster.requests_of("produce")[4:]
        assert max(len(request.batches) for request in requests) == 2
        order = [batch.partition for request in requests for batch in request.batches]
        assert order == [0, 1, 2, 3] * 4


async def test_the_longest_timeouts_overflow_nothing() -> None:
    longest = 2**31 - 1
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster,
            max_block_ms=longest,
            delivery_timeout_ms=longest,
            metadata_max_age_ms=longest,
            metadata_max_idle_ms=longest,
            connections_max_idle_ms=longest,
        ) as producer,
    ):
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        assert (await producer.send_and_wait(TOPIC, b"43")).offset == 1


async def test_a_broker_without_partitions_of_ours_gets_no_record() -> None:
    async with (
        FakeCluster(brokers=3, topics={TOPIC: 1}) as cluster,
        producing(cluster) as producer,
    ):
        for _ in range(3):
            await prove(producer)
        assert {request.node_id for request in cluster.requests_of("produce")} == {0}


async def test_with_one_request_in_flight_the_order_holds_across_a_leader_move() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, RECORD_BY_RECORD, max_in_flight_requests_per_connection=1) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        cluster.hang("produce", count=1, node_id=0)
        first = producer.send_nowait(TOPIC, b"0", partition=0)
        await cluster.received("produce", 3)
        cluster.move_leader(TOPIC, 0, 1)
        # The other broker is asked, which has nothing in flight.
        sender = sender_of(producer)
        sender.cluster.refresh()
        await until(lambda: partition_queue_of(producer).leader.node_id == 1)
        rest = [producer.send_nowait(TOPIC, b"%d" % index, partition=0) for index in range(1, 4)]
        await asyncio.sleep(0)
        # The new leader gets nothing while the earlier one has not answered.
        assert {request.node_id for request in cluster.requests_of("produce")[2:]} == {0}
        cluster.release()

        assert [(await delivery).offset for delivery in (first, *rest)] == [1, 2, 3, 4]
        assert values(cluster, partition=0) == [b"first", b"0", b"1", b"2", b"3"]


async def test_a_new_leader_gets_one_batch_until_it_acknowledged_one() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        cluster.move_leader(TOPIC, 0, 1)
        sender = sender_of(producer)
        sender.cluster.refresh()
        await until(lambda: partition_queue_of(producer).leader.node_id == 1)
        cluster.hang("produce", count=1)
        everything = [b"%d" % index for index in range(6)]
        deliveries = [producer.send_nowait(TOPIC, value) for value in everything]
        await cluster.received("produce", 2)
        assert producer.metrics()["requests_in_flight"] == 1
        cluster.release()

        assert [(await delivery).offset for delivery in deliveries] == [1, 2, 3, 4, 5, 6]
        assert values(cluster) == [b"first", *everything]


@pytest.mark.parametrize(
    "fault", [None, ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.REQUEST_TIMED_OUT]
)
async def test_the_sequences_wrap_without_a_gap(fault: ErrorCode | None) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        queue = partition_queue_of(producer)
        # As after 2**31 - 3 records: a broker takes any first sequence of an unknown producer.
        cluster.forget_producers(TOPIC, 0)
        queue.next_sequence, queue.last_acknowledged = 2**31 - 3, 2**31 - 4
        await prove(producer)
        if fault is not None:
            cluster.fail_next("produce", fault, stored=fault == ErrorCode.REQUEST_TIMED_OUT)
        results = await producer.send_many(TOPIC, [b"%d" % index for index in range(6)])

        assert [metadata.offset for metadata in results] == [2, 3, 4, 5, 6, 7]
        assert {epoch for epoch, _ in sequences(cluster)} == {0}
        numbers = dict.fromkeys(number for _, number in sequences(cluster)[1:])
        assert [*numbers] == [2**31 - 3, 2**31 - 2, 2**31 - 1, 0, 1, 2, 3]
        assert producer.metrics()["epoch_bump_total"] == 0


async def test_a_batch_across_the_wrap_is_stored_once_though_its_response_was_lost() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.forget_producers(TOPIC, 0)
        partition_queue_of(producer).next_sequence = 2**31 - 2
        partition_queue_of(producer).last_acknowledged = 2**31 - 3
        cluster.cut_next("produce", when="after")
        await producer.send_many(TOPIC, [b"%d" % index for index in range(5)])
        await prove(producer)

        assert values(cluster) == [b"first", b"0", b"1", b"2", b"3", b"4", b"first"]
        assert sequences(cluster)[-1] == (0, 3)


async def test_a_topic_that_got_no_record_for_long_is_asked_for_again_by_the_next() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        sender = sender_of(producer)
        topics = sender.topics
        topics._config = topics._config.replace(  # pyright: ignore[reportPrivateUsage]
            metadata_max_idle_ms=5_000
        )
        topic = topics.by_name[TOPIC]
        topic.used_at -= 10.0
        topics._unused.add(topic, 0.0)  # pyright: ignore[reportPrivateUsage]
        topics.forget_unused()
        assert TOPIC not in topics.by_name

        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
        # The numbers that were in use are forgotten: they begin again in the next epoch.
        assert sequences(cluster) == [(0, 0), (1, 0)]


async def test_a_new_topic_does_not_wait_for_the_backoff_of_another() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}, auto_create_topics=False) as cluster,
        producing(cluster, retry_backoff_ms=60_000, retry_backoff_max_ms=60_000) as producer,
    ):
        missing = producer.send_nowait("missing", b"42")
        await cluster.received("metadata", 2)
        async with asyncio.timeout(1):
            await prove(producer)
        cluster.create_topic("missing", 1)
        sender = sender_of(producer)
        # Its own backoff of a minute is not waited for.
        sender.cluster._full_at = 0.0  # pyright: ignore[reportPrivateUsage]
        sender.cluster.topic_due()
        assert (await missing).offset == 0


async def test_a_flush_ends_although_a_caller_who_waited_for_buffer_space_was_cancelled() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=1_000) as producer,
    ):
        await prove(producer)
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"x" * 600)
        waiting = asyncio.create_task(producer.send(TOPIC, b"y" * 600))
        await asyncio.sleep(0)
        flush = asyncio.create_task(producer.flush())
        await asyncio.sleep(0)
        waiting.cancel()
        cluster.release()
        await flush
        assert values(cluster) == [b"first", b"x" * 600]


async def test_a_broker_that_knows_no_version_of_api_versions_is_not_asked_for_ever() -> None:
    def refuse(request: FakeRequest) -> FakeResponse | None:
        if request.api != "api_versions":
            return None
        return FakeResponse(struct.pack(">hihhh", 35, 1, 18, 0, 0))

    async with FakeCluster() as cluster:
        cluster.on_request(refuse)
        config = ProducerConfig(bootstrap_servers=cluster.bootstrap_servers, **FAST)
        with pytest.raises(KafkaConnectionError, match="UNSUPPORTED_VERSION"):
            await Producer(config.replace(max_block_ms=50)).start()
        per_connection = [request.connection for request in cluster.requests_of("api_versions")]
        assert max(map(per_connection.count, per_connection)) == 2


async def test_records_wait_while_no_partition_of_their_topic_has_a_leader() -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        for partition in range(2):
            cluster.move_leader(TOPIC, partition, -1)
        deliveries = [producer.send_nowait(TOPIC, b"42") for _ in range(3)]
        await producer.partitions_for(TOPIC)
        assert cluster.requests_of("produce") == []
        assert not any(delivery.done() for delivery in deliveries)
        for partition in range(2):
            cluster.move_leader(TOPIC, partition, 0)
        for delivery in deliveries:
            await delivery


async def test_a_broker_that_takes_nothing_gets_no_more_records_without_key() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, RECORD_BY_RECORD, partitioner_availability_timeout_ms=10) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        cluster.refuse(1)
        cluster.cut(1)
        stuck = producer.send_nowait(TOPIC, b"stuck", partition=1)
        sender = sender_of(producer)
        await until(lambda: sender.is_stalled(1))  # pyright: ignore[reportPrivateUsage]
        results = await producer.send_many(TOPIC, [b"42"] * 20)
        # The sticky partition may have been the slow one's when it fell silent.
        assert {metadata.partition for metadata in results[1:]} == {0}
        assert not stuck.done()
        await cluster.accept(1)
        await stuck


async def test_a_negative_close_timeout_is_refused() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        with pytest.raises(ValueError, match="0 or more seconds"):
            await producer.close(-1)
        await prove(producer)


async def test_a_failed_record_has_no_metadata() -> None:
    notified: list[tuple[object, object]] = []
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        delivery = producer.send_nowait(
            TOPIC, b"42", on_delivery=lambda metadata, error: notified.append((metadata, error))
        )
        error = await failure(delivery)
        ((metadata, reported_error),) = notified
        assert metadata is None
        assert isinstance(reported_error, KafkaError)
        assert reported_error.code == error.code


async def test_retries_of_an_earlier_epoch_and_new_records_land_in_order() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        for partition in (0, 0, 1):
            await prove(producer, partition)
        # A new epoch comes from partition 0 while the batches of partition 1 are to be retried.
        cluster.fail_next(
            "produce", ErrorCode.NOT_ENOUGH_REPLICAS, count=3, topic=TOPIC, partition=1
        )
        cluster.truncate(TOPIC, 0, 1)
        deliveries = [
            producer.send_nowait(TOPIC, b"%d" % index, partition=index % 2) for index in range(8)
        ]
        results = [await outcome(delivery) for delivery in deliveries]

        assert not any(isinstance(result, KafkaError) for result in results)
        assert values(cluster, partition=1) == [b"first", b"1", b"3", b"5", b"7"]
        assert values(cluster, partition=0)[1:] == [b"0", b"2", b"4", b"6"]
        assert {batch.producer_epoch for batch in sent(cluster, 0)} == {0, 1}


async def test_metadata_that_does_not_change_is_asked_for_with_growing_pauses() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}, auto_create_topics=False) as cluster,
        producing(
            cluster, max_block_ms=150, retry_backoff_ms=10, retry_backoff_max_ms=40
        ) as producer,
    ):
        started = len(cluster.requests_of("metadata"))
        await failure(producer.send_nowait("missing", b"42"))
        assert len(cluster.requests_of("metadata")) - started < 20


async def test_a_hint_with_an_address_is_followed_to_a_broker_that_metadata_did_not_name() -> None:
    async with FakeCluster(brokers=2, topics={TOPIC: 1}) as cluster:

        def hide(answer: MetadataResponse) -> None:
            answer.brokers = [broker for broker in answer.brokers if broker.node_id == 0]

        cluster.edit_next("metadata", hide, count=2)
        async with producing(cluster) as producer:
            await prove(producer)
            cluster.hang("metadata")
            cluster.move_leader(TOPIC, 0, 1)
            assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
            assert cluster.requests_of("produce")[-1].node_id == 1
            cluster.release()
