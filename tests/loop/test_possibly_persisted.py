"""`possibly_persisted`: a record that may be stored never fails as certainly not stored.

One test per way in which a record can fail. If its outcome is unknown, no other record may get its
sequence either: the broker would take that record for the same one again.
"""

from __future__ import annotations

import asyncio

import pytest

from aioproducer.errors import KafkaTimeoutError, error_for_code
from aioproducer.network.connection import Connection
from aioproducer.testing import ErrorCode, FakeCluster, InitProducerIdResponse
from tests.support.producing import TOPIC, failure, producing, prove, sender_of, sent, until, values

AFTER_THE_APPEND = [
    ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    # The response also of a leader that lost its partition, or its disk, while the record that it
    # had appended waited for the followers (DelayedProduce in Kafka).
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.KAFKA_STORAGE_ERROR,
]
BEFORE_THE_APPEND = [
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.LEADER_NOT_AVAILABLE,
    ErrorCode.CORRUPT_MESSAGE,
    ErrorCode.POLICY_VIOLATION,
]


@pytest.mark.parametrize("code", AFTER_THE_APPEND, ids=lambda code: code.name)
async def test_a_record_refused_after_its_append_fails_as_possibly_persisted(
    code: ErrorCode,
) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, retries=1) as producer,
    ):
        await prove(producer)
        cluster.fail_next("produce", code, stored=True, count=2)
        error = await failure(producer.send_nowait(TOPIC, b"in doubt"))
        cluster.clear_faults()
        assert type(error) is error_for_code(code)
        assert error.possibly_persisted
        assert "may have been stored" in str(error)

        assert (await producer.send_and_wait(TOPIC, b"next")).offset == 2
        assert values(cluster) == [b"first", b"in doubt", b"next"]


@pytest.mark.parametrize("code", AFTER_THE_APPEND[1:], ids=lambda code: code.name)
async def test_a_record_refused_after_its_append_expires_as_possibly_persisted(
    code: ErrorCode,
) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster,
            request_timeout_ms=100,
            delivery_timeout_ms=100,
            retry_backoff_ms=60_000,
            retry_backoff_max_ms=60_000,
        ) as producer,
    ):
        await prove(producer)
        cluster.fail_next("produce", code, stored=True)
        error = await failure(producer.send_nowait(TOPIC, b"in doubt"))
        assert isinstance(error, KafkaTimeoutError)
        assert error.possibly_persisted
        assert code.name in str(error)

        assert (await producer.send_and_wait(TOPIC, b"next")).offset == 2
        assert values(cluster) == [b"first", b"in doubt", b"next"]


@pytest.mark.parametrize("code", BEFORE_THE_APPEND, ids=lambda code: code.name)
async def test_a_record_refused_before_its_append_was_not_stored(code: ErrorCode) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, retries=1) as producer,
    ):
        await prove(producer)
        cluster.fail_next("produce", code, count=2)
        error = await failure(producer.send_nowait(TOPIC, b"refused"))
        cluster.clear_faults()
        assert not error.possibly_persisted

        # Its number is free, and no epoch is spent.
        assert (await producer.send_and_wait(TOPIC, b"next")).offset == 1
        assert {batch.producer_epoch for batch in sent(cluster)} == {0}


async def test_without_idempotence_parts_of_what_may_be_stored_may_be_stored() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster,
            enable_idempotence=False,
            request_timeout_ms=100,
            delivery_timeout_ms=100,
            retry_backoff_ms=1,
            reconnect_backoff_ms=1,
        ) as producer,
    ):
        await prove(producer)
        cluster.cut_next("produce", when="after")
        deliveries = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(2)]
        await cluster.received("produce", 2)
        cluster.fail_next("produce", ErrorCode.MESSAGE_TOO_LARGE)
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS, count=None)
        for delivery in deliveries:
            error = await failure(delivery)
            assert isinstance(error, KafkaTimeoutError)
            assert error.possibly_persisted
        cluster.clear_faults()


async def test_a_call_that_times_out_in_the_turn_of_its_admission_is_possibly_persisted() -> None:
    loop = asyncio.get_running_loop()
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=1_000) as producer,
    ):
        await prove(producer)
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"x" * 400)
        large = asyncio.create_task(producer.send(TOPIC, b"x" * 800))
        await asyncio.sleep(0)
        deadline = loop.time() + 0.01
        small = asyncio.create_task(producer.send_and_wait(TOPIC, b"small", timeout=0.01))
        await asyncio.sleep(0)
        # One turn of the loop frees buffer space; by then the time of the small record is over.
        large.cancel()
        while loop.time() < deadline + 0.005:
            pass
        with pytest.raises(KafkaTimeoutError) as caught:
            await small
        cluster.release()
        await producer.flush()
        error = caught.value
        assert (b"small" in values(cluster)) == (error.possibly_persisted or error.is_pending)


async def test_what_a_close_gives_up_on_is_possibly_persisted_once_an_attempt_was() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, retry_backoff_ms=60_000, retry_backoff_max_ms=60_000) as producer,
    ):
        await prove(producer)
        cluster.cut_next("produce", when="after")
        delivery = producer.send_nowait(TOPIC, b"42")
        await until(lambda: producer.metrics()["batch_retry_total"])
        (undelivered,) = await producer.close(0)
        assert undelivered.error.possibly_persisted
        assert (await failure(delivery)).possibly_persisted


async def test_a_denied_producer_id_leaves_what_was_sent_before_possibly_persisted() -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster:

        def last_epoch(answer: InitProducerIdResponse) -> None:
            answer.producer_epoch = 2**15 - 1

        cluster.edit_next("init_producer_id", last_epoch)
        async with producing(cluster, retry_backoff_ms=500, retry_backoff_max_ms=500) as producer:
            for partition in range(2):
                await prove(producer, partition)
            cluster.cut_next("produce", when="after")
            in_doubt = producer.send_nowait(TOPIC, b"in doubt", partition=0)
            await until(lambda: producer.metrics()["batch_retry_total"])
            # The other partition uses the last epoch up.
            cluster.fail_next("init_producer_id", ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
            cluster.fail_next("produce", ErrorCode.UNKNOWN_PRODUCER_ID, topic=TOPIC, partition=1)
            refused = producer.send_nowait(TOPIC, b"refused", partition=1)

            errors = [await failure(delivery) for delivery in (in_doubt, refused)]
            assert [error.possibly_persisted for error in errors] == [True, False]
            assert {error.code for error in errors} == {ErrorCode.CLUSTER_AUTHORIZATION_FAILED}
            await prove(producer, 0)
            await prove(producer, 1)


async def test_a_request_that_cannot_be_made_was_not_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)

        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError

        sender = sender_of(producer)
        for connection in sender.cluster.brokers.open_connections():
            # For an old broker Python makes the requests.
            connection.produce_version = 8
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "send_chunks", refuse)
            error = await failure(producer.send_nowait(TOPIC, b"refused"))
        assert not error.possibly_persisted
        assert (await producer.send_and_wait(TOPIC, b"next")).offset == 1
