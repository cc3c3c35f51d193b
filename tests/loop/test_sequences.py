"""Sequence numbers and epochs: gaps, refusals, splits, and the order of what follows them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from aioproducer import KafkaError
from aioproducer.errors import (
    InvalidProducerIdMappingError,
    InvalidRecordError,
    KafkaTimeoutError,
    MessageTooLargeError,
    RecordTooLargeError,
)
from aioproducer.testing import ErrorCode, Fail, FakeCluster, FakeRequest, InitProducerIdResponse
from tests.support.producing import (
    RECORD_BY_RECORD,
    TOPIC,
    failure,
    outcome,
    producing,
    prove,
    sent,
    sequences,
    until,
    values,
)


async def test_sequences_advance_by_the_number_of_records() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        for count in (1, 3, 2):
            await producer.send_many(TOPIC, [b"x"] * count)

        assert sequences(cluster) == [(0, 0), (0, 1), (0, 4)]


async def test_each_partition_counts_for_itself() -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        await prove(producer, 0)
        await prove(producer, 0)
        await prove(producer, 1)

        assert sequences(cluster, 0) == [(0, 0), (0, 1)]
        assert sequences(cluster, 1) == [(0, 0)]


async def test_only_one_batch_of_a_partition_is_in_flight_before_its_first_success() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        cluster.hang("produce", count=1)
        first, *rest = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(6)]
        await cluster.received("produce")
        assert producer.metrics()["requests_in_flight"] == 1

        cluster.release()
        cluster.hang("produce")
        await first
        await cluster.received("produce", 6)
        assert producer.metrics()["requests_in_flight"] == 5
        cluster.release()

        assert [(await delivery).offset for delivery in rest] == [1, 2, 3, 4, 5]


async def test_a_first_batch_that_is_cut_off_is_not_overtaken() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        cluster.cut_next("produce", count=2)

        results = await producer.send_many(TOPIC, [b"%d" % index for index in range(6)])

        assert [metadata.offset for metadata in results] == list(range(6))
        assert values(cluster) == [b"%d" % index for index in range(6)]


async def test_no_record_is_sent_before_there_is_a_producer_id() -> None:
    async with FakeCluster(brokers=2, topics={TOPIC: 1}) as cluster:
        cluster.hang("init_producer_id")
        async with producing(cluster) as producer:
            delivery = producer.send_nowait(TOPIC, b"42")
            await cluster.received("init_producer_id")
            await producer.partitions_for(TOPIC)
            assert cluster.requests_of("produce") == []

            cluster.release()
            await delivery
            assert [batch.producer_id for batch in sent(cluster)] == [1000]


async def test_a_producer_id_that_is_refused_for_now_is_asked_for_again() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.fail_next("init_producer_id", ErrorCode.COORDINATOR_NOT_AVAILABLE, count=3)
        async with producing(cluster) as producer:
            assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0


async def test_a_producer_id_that_is_denied_fails_what_waits_and_is_asked_for_again_later() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.fail_next("init_producer_id", ErrorCode.CLUSTER_AUTHORIZATION_FAILED, count=2)
        async with producing(cluster) as producer:
            error = await failure(producer.send_nowait(TOPIC, b"42"))
            assert error.code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED
            assert not error.possibly_persisted
            assert "IdempotentWrite" in str(error)
            assert "enable_idempotence=False" in str(error)

            assert (await producer.send_and_wait(TOPIC, b"43")).offset == 0


@pytest.mark.parametrize(("producer_id", "epoch"), [(-1, 0), (-1, -1), (1000, -1), (-(2**63), 5)])
async def test_a_producer_id_that_is_none_is_asked_for_again(producer_id: int, epoch: int) -> None:
    def lie(answer: InitProducerIdResponse) -> None:
        answer.producer_id, answer.producer_epoch = producer_id, epoch

    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.edit_next("init_producer_id", lie)
        async with producing(cluster) as producer:
            await producer.send_and_wait(TOPIC, b"42")
            (batch,) = cluster.requests_of("produce")[-1].batches
            assert batch.producer_id >= 1000
            assert batch.producer_epoch == 0


async def test_a_record_refused_in_the_middle_leaves_the_later_ones_delivered_in_order() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        cluster.hang("produce", count=1)
        deliveries = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(5)]
        await cluster.received("produce", 6)
        cluster.fail_next("produce", ErrorCode.INVALID_RECORD)
        cluster.release()

        results = [await outcome(delivery) for delivery in deliveries]

        assert isinstance(results[1], InvalidRecordError)
        assert values(cluster) == [b"first", b"0", b"2", b"3", b"4"]
        assert [r.offset for r in results if not isinstance(r, KafkaError)] == [1, 2, 3, 4]
        # The broker still expects the number of the refused one: the next one gets it.
        assert sequences(cluster)[-3:] == [(0, 2), (0, 3), (0, 4)]
        assert producer.metrics()["epoch_bump_total"] == 0


async def test_the_last_record_refused_leaves_no_gap() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        await failure(producer.send_nowait(TOPIC, b"refused"))

        await producer.send_and_wait(TOPIC, b"next")

        assert sequences(cluster) == [(0, 0), (0, 1), (0, 1)]
        assert producer.metrics()["epoch_bump_total"] == 0


async def test_a_real_gap_starts_a_new_epoch_and_loses_nothing_more() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await producer.send_many(TOPIC, [b"kept"])
        await producer.send_many(TOPIC, [b"lost"])
        cluster.truncate(TOPIC, 0, 1)

        results = await producer.send_many(TOPIC, [b"2", b"3"])

        assert [metadata.offset for metadata in results] == [1, 2]
        assert values(cluster) == [b"kept", b"2", b"3"]
        assert sequences(cluster) == [(0, 0), (0, 1), (0, 2), (1, 0)]


async def test_a_real_gap_with_several_in_flight_keeps_them_in_order() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await producer.send_many(TOPIC, [b"kept"])
        await producer.send_many(TOPIC, [b"lost"])
        cluster.truncate(TOPIC, 0, 1)

        results = await producer.send_many(TOPIC, [b"%d" % index for index in range(8)])

        assert [metadata.offset for metadata in results] == list(range(1, 9))
        assert values(cluster) == [b"kept", *(b"%d" % index for index in range(8))]
        assert producer.metrics()["epoch_bump_total"] == 1


async def test_a_gap_in_one_partition_leaves_the_others_in_their_epoch_until_they_are_idle() -> (
    None
):
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        for partition in (0, 0, 1):
            await prove(producer, partition)
        cluster.hang("produce", count=1)
        other = producer.send_nowait(TOPIC, b"other", partition=1)
        await cluster.received("produce", 4)
        cluster.truncate(TOPIC, 0, 1)
        broken = producer.send_nowait(TOPIC, b"broken", partition=0)
        cluster.release()
        await other
        assert (await broken).offset == 1
        await prove(producer, 1)

        assert sequences(cluster, 0)[-1] == (1, 0)
        assert sequences(cluster, 1) == [(0, 0), (0, 1), (1, 0)]
        assert producer.metrics()["epoch_bump_total"] == 1


async def test_an_unknown_producer_id_starts_a_new_epoch() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.UNKNOWN_PRODUCER_ID)

        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
        assert sequences(cluster) == [(0, 0), (0, 1), (1, 0)]


async def test_a_broker_that_forgot_the_producer_takes_what_follows() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.forget_producers(TOPIC, 0)

        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1


@pytest.mark.parametrize(
    "code",
    [ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.INVALID_PRODUCER_ID_MAPPING],
    ids=lambda code: code.name,
)
async def test_a_producer_id_that_is_not_taken_any_more_is_replaced(code: ErrorCode) -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        for partition in range(2):
            await prove(producer, partition)
        cluster.fail_next("produce", code, topic=TOPIC, partition=0)
        deliveries = [producer.send_nowait(TOPIC, b"%d" % n, partition=0) for n in range(3)]

        assert [(await delivery).offset for delivery in deliveries] == [1, 2, 3]
        assert (await producer.send_and_wait(TOPIC, b"other", partition=1)).offset == 1
        assert values(cluster, partition=0) == [b"first", b"0", b"1", b"2"]
        assert {batch.producer_id for batch in sent(cluster)} == {1000, 1001}
        assert sequences(cluster)[-1] == (0, 0)


async def test_a_record_of_unknown_outcome_fails_with_its_producer_id_and_later_ones_go_on() -> (
    None
):
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        cluster.cut_next("produce", when="after")
        doubtful = producer.send_nowait(TOPIC, b"doubtful")
        cluster.fail_next("produce", ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        behind = producer.send_nowait(TOPIC, b"behind")

        error = await failure(doubtful)
        assert isinstance(error, InvalidProducerIdMappingError)
        assert error.possibly_persisted
        await behind
        assert values(cluster) == [b"first", b"doubtful", b"behind"]


async def test_a_broker_that_expects_another_sequence_for_ever_gets_another_producer_id() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        old = sent(cluster)[0].producer_id

        def forgot(request: FakeRequest) -> Fail | None:
            if any(batch.producer_id == old for batch in request.batches):
                return Fail(ErrorCode.UNKNOWN_PRODUCER_ID)
            return None

        stop = cluster.on_request(forgot)
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
        stop()
        # Its number, the first one of a new epoch, that of another one: then another id.
        assert [batch.producer_id for batch in sent(cluster)][1:] == [old, old, old, old + 1]


async def test_used_up_epochs_ask_for_a_new_producer_id() -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster:

        def last_epoch(answer: InitProducerIdResponse) -> None:
            answer.producer_epoch = 2**15 - 1

        cluster.edit_next("init_producer_id", last_epoch)
        async with producing(cluster, RECORD_BY_RECORD) as producer:
            await prove(producer, 0)
            await prove(producer, 1)
            cluster.hang("init_producer_id")
            cluster.fail_next("produce", ErrorCode.UNKNOWN_PRODUCER_ID, topic=TOPIC, partition=0)
            deliveries = [producer.send_nowait(TOPIC, b"0", partition=0)]
            await cluster.received("init_producer_id", 2)
            # What comes while there is no id has to wait for it.
            deliveries += [
                producer.send_nowait(TOPIC, b"%d" % index, partition=index % 2)
                for index in range(1, 6)
            ]
            await until(lambda: not producer.metrics()["requests_in_flight"])
            cluster.release()

            for delivery in deliveries:
                await delivery
            assert values(cluster, partition=0) == [b"first", b"0", b"2", b"4"]
            assert values(cluster, partition=1) == [b"first", b"1", b"3", b"5"]
            assert sent(cluster, 0)[-1].producer_id == 1001
            assert min(batch.producer_id for batch in sent(cluster, 1)) == 1000


async def test_an_expired_record_of_unknown_outcome_that_was_stored_costs_no_epoch() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster, RECORD_BY_RECORD, request_timeout_ms=250, delivery_timeout_ms=250
        ) as producer,
    ):
        await prove(producer)
        cluster.hang("produce", stored=True, count=1)
        error = await failure(producer.send_nowait(TOPIC, b"in doubt"))
        assert isinstance(error, KafkaTimeoutError)
        assert error.possibly_persisted
        await until(lambda: not producer.metrics()["requests_in_flight"])

        await producer.send_and_wait(TOPIC, b"next")
        assert values(cluster) == [b"first", b"in doubt", b"next"]


async def test_an_expired_record_that_was_lost_does_not_hold_up_the_next() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster,
            RECORD_BY_RECORD,
            request_timeout_ms=250,
            delivery_timeout_ms=250,
            retry_backoff_ms=60_000,
            retry_backoff_max_ms=60_000,
        ) as producer,
    ):
        await prove(producer)
        cluster.cut_next("produce")
        error = await failure(producer.send_nowait(TOPIC, b"lost"))
        assert error.possibly_persisted
        assert error.attempts == 1

        await producer.send_and_wait(TOPIC, b"next")
        assert values(cluster) == [b"first", b"next"]


async def test_expired_records_that_were_never_sent_leave_the_sequences_alone() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, request_timeout_ms=250, delivery_timeout_ms=250) as producer,
    ):
        await prove(producer)
        cluster.move_leader(TOPIC, 0, -1)
        # Not what a broker that is no leader says by itself, which leaves doubt.
        cluster.fail_next("produce", ErrorCode.LEADER_NOT_AVAILABLE, count=None)
        await failure(producer.send_nowait(TOPIC, b"learns that there is no leader"))
        error = await failure(producer.send_nowait(TOPIC, b"never sent"))
        assert error.attempts == 0
        assert not error.possibly_persisted
        cluster.clear_faults()
        cluster.move_leader(TOPIC, 0, 0)

        await producer.send_and_wait(TOPIC, b"next")
        assert sequences(cluster)[-1] == (0, 1)


async def test_a_batch_too_large_for_the_broker_is_split_until_it_fits() -> None:
    everything = [b"%03d" % index * 100 for index in range(40)]
    async with (
        FakeCluster(topics={TOPIC: 1}, message_max_bytes=2_000) as cluster,
        producing(cluster) as producer,
    ):
        await prove(producer)

        results = await producer.send_many(TOPIC, everything)

        assert [metadata.offset for metadata in results] == list(range(1, 41))
        assert values(cluster) == [b"first", *everything]
        stored = [batch for batch in sent(cluster) if batch.size <= 2_000]
        assert all(
            earlier.base_sequence + earlier.record_count == later.base_sequence
            for earlier, later in pairwise(stored)
        )
        assert {epoch for epoch, _ in sequences(cluster)} == {0}
        assert producer.metrics()["batch_split_total"] > 0


async def test_batches_behind_one_that_is_split_follow_all_its_parts() -> None:
    everything = [b"%03d" % index * 100 for index in range(60)]
    async with (
        FakeCluster(topics={TOPIC: 1}, message_max_bytes=1_500) as cluster,
        producing(cluster, batch_size=4_000) as producer,
    ):
        await prove(producer)

        results = await producer.send_many(TOPIC, everything)

        assert [metadata.offset for metadata in results] == list(range(1, 61))
        assert values(cluster) == [b"first", *everything]


async def test_a_split_without_idempotence_keeps_the_order() -> None:
    everything = [b"%03d" % index * 100 for index in range(40)]
    async with (
        FakeCluster(topics={TOPIC: 1}, message_max_bytes=2_000) as cluster,
        producing(
            cluster, acks=1, enable_idempotence=False, max_in_flight_requests_per_connection=1
        ) as producer,
    ):
        results = await producer.send_many(TOPIC, everything)

        assert values(cluster) == everything
        assert [metadata.offset for metadata in results] == list(range(40))


async def test_a_batch_is_split_even_if_no_retries_are_allowed() -> None:
    everything = [b"%03d" % index * 100 for index in range(20)]
    async with (
        FakeCluster(topics={TOPIC: 1}, message_max_bytes=2_000) as cluster,
        producing(cluster, retries=0) as producer,
    ):
        await producer.send_many(TOPIC, everything)

        assert sorted(values(cluster)) == everything


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_compressed_batch_is_split_too(codec: str) -> None:
    everything = [b"%03d" % index * 100 for index in range(200)]
    async with (
        FakeCluster(topics={TOPIC: 1}, message_max_bytes=700) as cluster,
        producing(cluster, compression_type=codec) as producer,  # type: ignore[arg-type]
    ):
        results = await producer.send_many(TOPIC, everything)

        assert [metadata.offset for metadata in results] == list(range(200))
        assert values(cluster) == everything
        assert producer.metrics()["batch_split_total"] > 0


async def test_headers_and_timestamps_survive_a_split() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}, message_max_bytes=1_000) as cluster,
        producing(cluster) as producer,
    ):
        deliveries = [
            producer.send_nowait(
                TOPIC,
                b"x" * 100,
                key=b"%d" % index,
                partition=0,
                headers=[("index", b"%d" % index), ("none", None)],
                timestamp_ms=1_700_000_000_000 + index,
            )
            for index in range(20)
        ]
        for delivery in deliveries:
            await delivery

        for index, record in enumerate(cluster.records(TOPIC)):
            assert record.key == b"%d" % index
            assert record.headers == (("index", b"%d" % index), ("none", None))
            assert record.timestamp_ms == 1_700_000_000_000 + index


async def test_a_single_record_too_large_for_the_broker_fails_alone() -> None:
    small = [b"%03d" % index * 100 for index in range(10)]
    async with (
        FakeCluster(topics={TOPIC: 1}, message_max_bytes=2_000) as cluster,
        producing(cluster) as producer,
    ):
        await prove(producer)
        deliveries = [
            producer.send_nowait(TOPIC, value) for value in [*small[:5], b"x" * 3_000, *small[5:]]
        ]

        results = [await outcome(delivery) for delivery in deliveries]

        too_large = results[5]
        assert isinstance(too_large, MessageTooLargeError)
        assert isinstance(too_large, RecordTooLargeError)
        assert "message.max.bytes" in str(too_large)
        assert not too_large.possibly_persisted
        assert values(cluster) == [b"first", *small]


async def test_refused_records_fail_alone_and_the_others_are_sent_again() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.fail_next(
            "produce",
            ErrorCode.INVALID_RECORD,
            message="some records are bad",
            record_errors={1: "no key", 2: None},
        )
        deliveries = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(4)]

        errors = [await failure(delivery) for delivery in deliveries[1:3]]

        assert all(type(error) is InvalidRecordError for error in errors)
        assert "no key" in str(errors[0])
        assert "some records are bad" in str(errors[1])
        assert [(await deliveries[index]).offset for index in (0, 3)] == [1, 2]
        assert values(cluster) == [b"first", b"0", b"3"]
        assert (await producer.send_and_wait(TOPIC, b"next")).offset == 3
        # Those that were refused never had their numbers: no epoch is needed.
        assert producer.metrics()["epoch_bump_total"] == 0


@pytest.mark.parametrize(
    ("code", "record_errors"),
    [(ErrorCode.INVALID_TIMESTAMP, {0: "out of range"}), (ErrorCode.MESSAGE_TOO_LARGE, None)],
)
async def test_a_batch_that_may_be_stored_is_not_stored_again_in_parts(
    code: ErrorCode, record_errors: dict[int, str | None] | None
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.cut_next("produce", when="after")
        cluster.fail_next("produce", code, record_errors=record_errors)
        deliveries = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(3)]
        for delivery in deliveries:
            error = await failure(delivery)
            assert error.possibly_persisted
            assert not error.safe_to_resend
        await producer.send_and_wait(TOPIC, b"next")
        assert values(cluster) == [b"first", b"0", b"1", b"2", b"next"]


@pytest.mark.parametrize("code", [ErrorCode.INVALID_TIMESTAMP, ErrorCode.MESSAGE_TOO_LARGE])
async def test_without_idempotence_what_may_be_stored_is_sent_again_in_parts(
    code: ErrorCode,
) -> None:
    record_errors = None if code is ErrorCode.MESSAGE_TOO_LARGE else {0: None}
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, enable_idempotence=False) as producer,
    ):
        await prove(producer)
        cluster.cut_next("produce", when="before")
        cluster.fail_next("produce", code, record_errors=record_errors)
        deliveries = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(3)]
        await producer.flush()
        stored = [delivery.exception() is None for delivery in deliveries]
        assert stored == [record_errors is None, True, True]
        error = deliveries[0].exception()
        assert error is None or error.possibly_persisted


async def test_records_without_key_for_a_compacted_topic_get_the_brokers_error() -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, compacted=True)
        async with producing(cluster) as producer:
            error = await failure(producer.send_nowait(TOPIC, b"42"))

            assert "without key" in str(error)
            assert (await producer.send_and_wait(TOPIC, b"42", key=b"card")).offset == 0


@pytest.mark.parametrize(
    "code",
    [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.KAFKA_STORAGE_ERROR],
    ids=lambda code: code.name,
)
async def test_a_leader_that_fell_after_it_stored_a_record_does_not_cost_the_next_one(
    code: ErrorCode,
) -> None:
    # kafka.server.DelayedProduce answers so for a batch in its log whose replicas it waited for.
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD, retries=1) as producer,
    ):
        await prove(producer)
        cluster.fail_next("produce", code, count=2, stored=True)
        error = await failure(producer.send_nowait(TOPIC, b"in doubt"))
        assert error.possibly_persisted

        # Under the number of the one before it, the broker would take it for that one.
        await producer.send_and_wait(TOPIC, b"next")
        assert values(cluster) == [b"first", b"in doubt", b"next"]


async def test_a_refused_record_is_not_lost_to_a_broker_that_forgot_the_producer() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        codes = iter([ErrorCode.NOT_ENOUGH_REPLICAS, None, ErrorCode.INVALID_RECORD])

        def answer(request: FakeRequest) -> Fail | None:
            code = next(codes, None) if request.api == "produce" else None
            if code is ErrorCode.NOT_ENOUGH_REPLICAS:
                cluster.forget_producers(TOPIC, 0)
            return None if code is None else Fail(code)

        cluster.on_request(answer)
        refused, taken, gap = [producer.send_nowait(TOPIC, value) for value in (b"1", b"2", b"3")]

        assert (await taken).offset == 1
        assert isinstance(await failure(gap), InvalidRecordError)
        # Not where it belongs, which the broker made impossible, but not lost either.
        assert (await refused).offset == 2
        assert values(cluster) == [b"first", b"2", b"1"]
