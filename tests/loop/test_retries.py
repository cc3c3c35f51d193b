"""What happens to a record whose attempt failed: the error table, one code at a time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from aioproducer import KafkaError, TopicPartition
from aioproducer.errors import (
    NetworkError,
    NotEnoughReplicasError,
    UnknownErrorCodeError,
    error_for_code,
)
from aioproducer.testing import Cut, ErrorCode, Fail, FakeCluster, FakeRequest
from tests.support.producing import (
    RECORD_BY_RECORD,
    TOPIC,
    failure,
    outcome,
    producing,
    prove,
    sent,
    sequences,
    values,
    watch_in_flight,
)

REFRESHING = [
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.INCONSISTENT_TOPIC_ID,
    ErrorCode.LEADER_NOT_AVAILABLE,
    ErrorCode.KAFKA_STORAGE_ERROR,
    ErrorCode.LISTENER_NOT_FOUND,
    ErrorCode.REPLICA_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.FENCED_LEADER_EPOCH,
    ErrorCode.NETWORK_EXCEPTION,
]
RETRIABLE = [
    *REFRESHING,
    ErrorCode.CORRUPT_MESSAGE,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode.UNKNOWN_LEADER_EPOCH,
    ErrorCode.THROTTLING_QUOTA_EXCEEDED,
]
STORED_ALL_THE_SAME = [
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
]
FINAL = [
    ErrorCode.INVALID_TOPIC_EXCEPTION,
    ErrorCode.RECORD_LIST_TOO_LARGE,
    ErrorCode.INVALID_REQUIRED_ACKS,
    ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    ErrorCode.INVALID_TIMESTAMP,
    ErrorCode.UNSUPPORTED_VERSION,
    ErrorCode.INVALID_REQUEST,
    ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    ErrorCode.POLICY_VIOLATION,
    ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    ErrorCode.INVALID_RECORD,
]


@pytest.mark.parametrize("code", RETRIABLE, ids=lambda code: code.name)
async def test_a_retriable_error_is_tried_again_and_the_record_stored_once(
    code: ErrorCode,
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", code)

        metadata = await producer.send_and_wait(TOPIC, b"42")

        assert metadata.offset == 0
        assert values(cluster) == [b"42"]
        assert sequences(cluster) == [(0, 0), (0, 0)]


@pytest.mark.parametrize("code", REFRESHING, ids=lambda code: code.name)
async def test_an_error_of_stale_metadata_has_the_metadata_refreshed(code: ErrorCode) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        before = len(cluster.requests_of("metadata"))
        cluster.fail_next("produce", code)

        await producer.send_and_wait(TOPIC, b"42")
        await cluster.received("metadata", before + 1)

        assert TOPIC in (cluster.requests_of("metadata")[-1].topics or ())


@pytest.mark.parametrize(
    "code", sorted(set(RETRIABLE) - set(REFRESHING)), ids=lambda code: code.name
)
async def test_an_error_that_is_not_about_metadata_refreshes_none(code: ErrorCode) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        before = len(cluster.requests_of("metadata"))
        cluster.fail_next("produce", code)

        await producer.send_and_wait(TOPIC, b"42")

        assert len(cluster.requests_of("metadata")) == before


@pytest.mark.parametrize("code", FINAL, ids=lambda code: code.name)
async def test_a_final_error_fails_the_record_and_says_where_and_why(code: ErrorCode) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", code, message="because")

        error = await failure(producer.send_nowait(TOPIC, b"42"))

        assert type(error) is error_for_code(code)
        assert error.name == code.name
        assert error.topic_partition == TopicPartition(TOPIC, 0)
        assert error.broker == f"0 at 127.0.0.1:{cluster.ports[0]}"
        assert error.attempts == 1
        assert not error.possibly_persisted
        assert "because" in str(error)
        assert values(cluster) == []


@pytest.mark.parametrize("code", FINAL, ids=lambda code: code.name)
async def test_the_next_record_is_stored_after_a_final_error(code: ErrorCode) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.fail_next("produce", code)
        await failure(producer.send_nowait(TOPIC, b"refused"))

        assert (await producer.send_and_wait(TOPIC, b"next")).offset == 1
        assert values(cluster) == [b"first", b"next"]


@pytest.mark.parametrize("code", [ErrorCode.UNKNOWN_SERVER_ERROR, 31_000])
async def test_a_code_that_explains_nothing_fails_the_record_as_possibly_stored(code: int) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", code, stored=True)

        error = await failure(producer.send_nowait(TOPIC, b"42"))

        assert error.possibly_persisted
        assert not error.retriable
        assert error.attempts == 1


async def test_an_unknown_code_is_named_by_its_number() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", 31_000)

        error = await failure(producer.send_nowait(TOPIC, b"42"))

        assert isinstance(error, UnknownErrorCodeError)
        assert error.unknown_code == 31_000
        assert "31000" in str(error)


async def test_the_records_after_one_of_unknown_outcome_are_stored() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.UNKNOWN_SERVER_ERROR, stored=True)
        await failure(producer.send_nowait(TOPIC, b"in doubt"))

        assert (await producer.send_and_wait(TOPIC, b"next")).offset == 2
        assert values(cluster) == [b"first", b"in doubt", b"next"]


async def test_when_the_retries_are_used_up_the_last_broker_error_is_raised() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, retries=2) as producer,
    ):
        cluster.fail_next("produce", ErrorCode.LEADER_NOT_AVAILABLE, count=2)
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)

        error = await failure(producer.send_nowait(TOPIC, b"42"))

        assert type(error) is NotEnoughReplicasError
        assert error.attempts == 3
        assert not error.possibly_persisted


async def test_one_attempt_of_unknown_outcome_leaves_the_failure_possibly_persisted() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, retries=1) as producer,
    ):
        cluster.cut_next("produce")
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)

        error = await failure(producer.send_nowait(TOPIC, b"42"))

        assert type(error) is NotEnoughReplicasError
        assert error.possibly_persisted


@pytest.mark.parametrize("code", STORED_ALL_THE_SAME, ids=lambda code: code.name)
async def test_a_record_stored_in_spite_of_an_error_is_not_stored_again(code: ErrorCode) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.fail_next("produce", code, stored=True)

        metadata = await producer.send_and_wait(TOPIC, b"42")

        assert metadata.offset == 1
        assert values(cluster) == [b"first", b"42"]


async def test_a_connection_cut_before_storing_costs_a_retry_and_nothing_else() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.cut_next("produce", when="before")

        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0
        assert values(cluster) == [b"42"]


async def test_a_connection_cut_after_storing_gives_the_true_offset_of_the_one_copy() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.cut_next("produce", when="after")

        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
        assert values(cluster) == [b"first", b"42"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_many_cuts_in_a_row_lose_nothing_and_repeat_nothing(when: str) -> None:
    async with (
        FakeCluster(topics={TOPIC: 3}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        left = 8

        def cut_every_second(request: FakeRequest) -> Cut | None:
            nonlocal left
            if request.api != "produce" or request.correlation_id % 2 or not left:
                return None
            left -= 1
            return Cut("before" if when == "before" else "after")

        cluster.on_request(cut_every_second)
        everything = [b"%d" % index for index in range(60)]
        deliveries = [
            await producer.send(TOPIC, value, partition=index % 3)
            for index, value in enumerate(everything)
        ]
        offsets = [(await delivery).offset for delivery in deliveries]

        for partition in range(3):
            assert values(cluster, partition=partition) == everything[partition::3]
            assert offsets[partition::3] == list(range(20))


async def test_a_duplicate_that_the_broker_no_longer_knows_is_stored_without_an_offset() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.DUPLICATE_SEQUENCE_NUMBER, stored=True)

        assert (await producer.send_and_wait(TOPIC, b"42")).offset == -1
        assert (await producer.send_and_wait(TOPIC, b"43")).offset == 1
        assert values(cluster) == [b"42", b"43"]


async def test_batches_behind_a_lost_one_follow_its_retry_in_order_and_side_by_side() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        cluster.hang("produce", count=1)
        deliveries = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(5)]
        await cluster.received("produce", 6)
        in_flight = watch_in_flight(cluster, producer)
        cluster.cut()
        cluster.clear_faults()

        offsets = [(await delivery).offset for delivery in deliveries]

        assert offsets == [1, 2, 3, 4, 5]
        assert values(cluster) == [b"first", b"0", b"1", b"2", b"3", b"4"]
        # The first retry goes alone; each of the others has left before the next is answered.
        assert in_flight[:2] == [1, 4]


async def test_batches_behind_one_that_the_broker_failed_follow_it_in_order() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)

        results = await producer.send_many(TOPIC, [b"%d" % index for index in range(5)])

        assert [metadata.offset for metadata in results] == [1, 2, 3, 4, 5]
        assert values(cluster) == [b"first", b"0", b"1", b"2", b"3", b"4"]
        # Sent at once, refused as out of order, sent again in order: all in the first epoch.
        assert [sequence for _, sequence in sequences(cluster)] == [
            *(0, 1, 2, 3, 4, 5),
            *(1, 2, 3, 4, 5),
        ]
        assert {epoch for epoch, _ in sequences(cluster)} == {0}


async def test_requests_are_pipelined_again_after_retries() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        await producer.send_many(TOPIC, [b"%d" % index for index in range(5)])
        before = len(sent(cluster))

        cluster.hang("produce")
        deliveries = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(5)]
        await cluster.received("produce", before + 5)
        assert producer.metrics()["requests_in_flight"] == 5
        cluster.release()

        assert [(await delivery).offset for delivery in deliveries] == [6, 7, 8, 9, 10]


async def test_the_failure_of_one_partition_does_not_touch_the_others_of_its_request() -> None:
    async with FakeCluster(topics={TOPIC: 3}) as cluster, producing(cluster) as producer:
        for partition in range(3):
            await prove(producer, partition)
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION, topic=TOPIC, partition=1)

        deliveries = [producer.send_nowait(TOPIC, b"x", partition=index) for index in range(3)]
        results = [await outcome(delivery) for delivery in deliveries]

        assert [isinstance(result, KafkaError) for result in results] == [False, True, False]
        assert len(cluster.requests_of("produce")[-1].batches) == 3


async def test_a_partition_that_is_retried_does_not_hold_up_the_others() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster, retry_backoff_ms=60_000, retry_backoff_max_ms=60_000) as producer,
    ):
        cluster.fail_next(
            "produce", ErrorCode.NOT_ENOUGH_REPLICAS, count=None, topic=TOPIC, partition=0
        )
        stuck = producer.send_nowait(TOPIC, b"stuck", partition=0)
        await producer.send_and_wait(TOPIC, b"goes", partition=1)
        await producer.send_and_wait(TOPIC, b"on", partition=1)

        assert not stuck.done()
        assert len(sent(cluster, 0)) == 1
        (undelivered,) = await producer.close(0)
        assert undelivered.record.value == b"stuck"


async def test_the_backoff_between_attempts_doubles_up_to_its_maximum() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, retry_backoff_ms=10, retry_backoff_max_ms=40) as producer,
    ):
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS, count=4)

        await producer.send_and_wait(TOPIC, b"42")

        times = [request.received_at for request in cluster.requests_of("produce")]
        waits = [later - earlier for earlier, later in pairwise(times)]
        least = [0.008, 0.016, 0.032, 0.032]
        assert all(wait >= bound - 0.002 for wait, bound in zip(waits, least, strict=True))
        assert sum(waits) < 0.5


async def test_the_error_of_a_lost_connection_says_that_the_record_may_be_stored() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, retries=1) as producer,
    ):
        cluster.cut_next("produce", when="after", count=2)

        error = await failure(producer.send_nowait(TOPIC, b"42"))

        assert type(error) is NetworkError
        assert error.possibly_persisted
        assert "may have been stored" in str(error)
        assert error.attempts == 2


async def test_every_failed_batch_of_a_partition_is_retried_while_new_ones_wait_behind() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        failures = iter([True, False, True, True, False, True])

        def fail_some(request: FakeRequest) -> Fail | None:
            if request.api == "produce" and next(failures, False):
                return Fail(ErrorCode.NOT_ENOUGH_REPLICAS)
            return None

        cluster.on_request(fail_some)
        everything = [b"%d" % index for index in range(30)]
        deliveries = [await producer.send(TOPIC, value) for value in everything]

        assert [(await delivery).offset for delivery in deliveries] == list(range(1, 31))
        assert values(cluster) == [b"first", *everything]
