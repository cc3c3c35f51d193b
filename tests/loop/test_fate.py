"""`possibly_persisted`: no record that may be stored is ever called safely unsent.

One test per way in which a record can fail. Where its fate is unknown, its sequence number must
not be given to another record either: the broker would take that one for the same record again.
"""

from __future__ import annotations

import pytest

from aioproducer.errors import KafkaTimeoutError, error_for_code
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import TOPIC, failure, producing, prove, sent, values

AFTER_THE_APPEND = [
    ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    # The answer also of a leader that lost its partition, or its disk, while the record that it
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
async def test_a_record_refused_after_its_append_fails_as_in_doubt(
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
async def test_a_record_refused_after_its_append_expires_as_in_doubt(code: ErrorCode) -> None:
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
