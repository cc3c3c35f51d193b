"""The delivery timeout, wherever the record is when it is over."""

from __future__ import annotations

import asyncio

import pytest

from aioproducer import RecordMetadata, TopicPartition
from aioproducer.errors import KafkaTimeoutError
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import (
    RECORD_BY_RECORD,
    TOPIC,
    failure,
    producing,
    prove,
    sent,
    until,
    values,
)

SHORT = 250


async def test_a_record_that_waits_for_its_turn_expires_as_not_stored() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster, RECORD_BY_RECORD, request_timeout_ms=SHORT, delivery_timeout_ms=SHORT
        ) as producer,
    ):
        cluster.hang("produce")
        deliveries = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(3)]

        errors = [await failure(delivery) for delivery in deliveries]

        assert all(isinstance(error, KafkaTimeoutError) for error in errors)
        assert [error.possibly_persisted for error in errors] == [True, False, False]
        assert [error.attempts for error in errors] == [1, 0, 0]
        assert "may have been stored" in str(errors[0])
        assert "was not stored" in str(errors[1])
        cluster.release()


async def test_a_record_that_backs_off_expires_with_the_last_broker_error() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster,
            request_timeout_ms=SHORT,
            delivery_timeout_ms=SHORT,
            retry_backoff_ms=60_000,
            retry_backoff_max_ms=60_000,
        ) as producer,
    ):
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        error = await failure(producer.send_nowait(TOPIC, b"42"))

        assert isinstance(error, KafkaTimeoutError)
        assert error.topic_partition == TopicPartition(TOPIC, 0)
        assert error.attempts == 1
        assert not error.possibly_persisted
        assert "NOT_ENOUGH_REPLICAS" in str(error)
        assert "delivery_timeout_ms" in str(error)
        assert len(sent(cluster)) == 1


async def test_a_response_after_the_timeout_changes_nothing() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, request_timeout_ms=SHORT, delivery_timeout_ms=SHORT) as producer,
    ):
        await prove(producer)
        cluster.hang("produce", count=1)
        delivery = producer.send_nowait(TOPIC, b"late")
        error = await failure(delivery)
        assert error.possibly_persisted
        cluster.release()
        await until(lambda: not producer.metrics()["requests_in_flight"])

        assert str(delivery.exception()) == str(error)
        await producer.send_and_wait(TOPIC, b"next")
        assert values(cluster) == [b"first", b"late", b"next"]


async def test_two_partitions_that_expire_together_get_an_error_each() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster, request_timeout_ms=SHORT, delivery_timeout_ms=SHORT) as producer,
    ):
        cluster.hang("produce")
        deliveries = [producer.send_nowait(TOPIC, b"42", partition=index) for index in range(2)]
        errors = [await failure(delivery) for delivery in deliveries]
        assert [error.topic_partition for error in errors] == [
            TopicPartition(TOPIC, 0),
            TopicPartition(TOPIC, 1),
        ]
        cluster.release()


async def test_a_callback_that_sends_again_when_its_record_expires_is_served() -> None:
    again: list[asyncio.Future[RecordMetadata]] = []
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        # It waits for its retry when it expires: one in flight could still be stored.
        producing(
            cluster,
            request_timeout_ms=SHORT,
            delivery_timeout_ms=SHORT,
            retry_backoff_ms=60_000,
            retry_backoff_max_ms=60_000,
        ) as producer,
    ):
        await prove(producer)

        def send_again(metadata: object, error: object) -> None:
            cluster.clear_faults()
            again.append(asyncio.ensure_future(producer.send_and_wait(TOPIC, b"again")))

        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS, count=None)
        producer.send_nowait(TOPIC, b"42", on_delivery=send_again)
        await until(lambda: again)
        await again[0]
        assert values(cluster) == [b"first", b"again"]


async def test_the_timeout_of_one_call_ends_only_the_wait() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        with pytest.raises(KafkaTimeoutError, match="timeout of the call") as caught:
            await producer.send_and_wait(TOPIC, b"42", timeout=0.02)
        assert caught.value.possibly_persisted
        cluster.release()
        await producer.flush()
        assert values(cluster) == [b"first", b"42"]
