"""`deadline=`: a record that was not sent by then is never sent, and its error says so.

One test per place in which a record can be when its deadline is over. What an error calls "not
stored" must not be found at the brokers, then or later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aioproducer import (
    BufferExhaustedError,
    Delivery,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    Producer,
    RecordMetadata,
)
from aioproducer.config import CompressionType
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import (
    FAST,
    RECORD_BY_RECORD,
    TOPIC,
    failure,
    outcome,
    producing,
    prove,
    sender_of,
    sequences,
    until,
    values,
)

SOON = 0.02
"""Seconds: a deadline that is over while a broker is silent."""

LATE = 30.0
"""Seconds: a deadline that is never over."""

ONE_REQUEST = FAST | {"max_in_flight_requests_per_connection": 1}


def never_sent(error: KafkaError) -> bool:
    """Whether an error says that the record is not stored and may be sent again."""
    return (
        isinstance(error, KafkaTimeoutError)
        and error.safe_to_resend
        and not error.possibly_persisted
        and not error.is_pending
    )


async def sent_and_silent(cluster: FakeCluster, producer: Producer[Any, Any]) -> Delivery:
    """Send a record to which the broker does not respond until it is released."""
    await prove(producer)
    cluster.hang("produce", stored=True)
    delivery = producer.send_nowait(TOPIC, b"in flight")
    await cluster.received("produce", 2)
    return delivery


async def test_a_record_that_waits_in_a_batch_is_withdrawn_at_its_deadline() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, ONE_REQUEST) as producer,
    ):
        in_flight = await sent_and_silent(cluster, producer)
        before = producer.send_nowait(TOPIC, b"before")
        with pytest.raises(KafkaTimeoutError, match="deadline of the call") as caught:
            await producer.send_and_wait(TOPIC, b"late", deadline=SOON)
        after = producer.send_nowait(TOPIC, b"after")
        cluster.release()

        assert [(await delivery).offset for delivery in (in_flight, before, after)] == [1, 2, 3]
        assert values(cluster) == [b"first", b"in flight", b"before", b"after"]
    error = caught.value
    assert never_sent(error)
    assert error.topic_partition == (TOPIC, 0)
    assert error.attempts == 0
    assert "The record was not stored. It will not be sent any more" in str(error)


async def test_of_a_record_in_flight_nobody_knows() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce", stored=True)
        with pytest.raises(KafkaTimeoutError, match="not answered yet") as caught:
            await producer.send_and_wait(TOPIC, b"42", deadline=SOON)
        assert caught.value.possibly_persisted
        assert caught.value.is_pending
        assert not caught.value.safe_to_resend
        cluster.release()
        await producer.flush()
        assert values(cluster) == [b"first", b"42"]


async def test_a_delivery_in_flight_goes_on_after_its_deadline() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce", stored=True)
        delivery = await producer.send(TOPIC, b"42", deadline=SOON)
        await asyncio.sleep(2 * SOON)
        assert not delivery.done()
        cluster.release()
        assert (await delivery).offset == 1


@pytest.mark.parametrize("way", ["send", "send_nowait", "send_many"])
async def test_every_way_to_send_takes_a_deadline(way: str) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, ONE_REQUEST) as producer,
    ):
        await sent_and_silent(cluster, producer)
        error: RecordMetadata | KafkaError
        if way == "send":
            error = await failure(await producer.send(TOPIC, b"late", deadline=SOON))
        elif way == "send_nowait":
            error = await failure(producer.send_nowait(TOPIC, b"late", deadline=SOON))
        else:
            results = await producer.send_many(
                TOPIC, [b"late", b"late"], deadline=SOON, return_exceptions=True
            )
            first, error = results
            assert isinstance(first, KafkaError)
            assert never_sent(first)
            assert isinstance(error, KafkaError)
        assert never_sent(error)
        cluster.release()
        await producer.flush()
        assert values(cluster) == [b"first", b"in flight"]


async def test_on_delivery_and_on_error_get_withdrawn_records() -> None:
    reported: list[KafkaError | None] = []
    counted: list[tuple[KafkaError, int]] = []

    def count(error: KafkaError, records: int) -> None:
        counted.append((error, records))

    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, ONE_REQUEST, on_error=count) as producer,
    ):
        await sent_and_silent(cluster, producer)
        for _ in range(3):
            producer.send_nowait(
                TOPIC, b"late", deadline=SOON, on_delivery=lambda _, error: reported.append(error)
            )
        await until(lambda: len(reported) == 3)
        await until(lambda: counted)
        cluster.release()
    assert all(error is not None and never_sent(error) for error in reported)
    assert sum(records for _, records in counted) == 3


async def test_a_record_whose_topic_is_not_known_is_withdrawn() -> None:
    async with FakeCluster(topics={TOPIC: 1, "new": 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("metadata")
        stays = [producer.send_nowait("new", b"1"), producer.send_nowait("new", b"3")]
        with pytest.raises(KafkaTimeoutError, match="partitions of topic 'new'") as caught:
            await producer.send_and_wait("new", b"2", deadline=SOON)
        assert never_sent(caught.value)
        cluster.release()
        await asyncio.gather(*stays)
        assert values(cluster, "new") == [b"1", b"3"]


async def test_records_of_an_unknown_topic_are_withdrawn_one_and_all() -> None:
    async with FakeCluster(topics={TOPIC: 1, "new": 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("metadata")
        late = [producer.send_nowait("new", b"late", deadline=SOON) for _ in range(3)]
        flushing = asyncio.create_task(producer.flush())
        assert all([never_sent(await failure(delivery)) for delivery in late])
        await flushing
        cluster.release()
        assert (await producer.send_and_wait("new", b"next")).offset == 0


async def test_the_last_withdrawn_record_of_an_unknown_topic_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: list[tuple[str, int]] = []

    def count(error: KafkaError, records: int) -> None:
        counted.append((str(error), records))

    async with (
        FakeCluster(topics={TOPIC: 1, "new": 1}) as cluster,
        producing(cluster, on_error=count) as producer,
    ):
        await prove(producer)
        cluster.hang("metadata")
        error = await failure(producer.send_nowait("new", b"late", deadline=SOON))
        await until(lambda: counted)
        await asyncio.sleep(0)
        assert counted == [(str(error), 1)]
        last_error = producer.status().last_error
        assert last_error is not None
        assert str(last_error) == str(error)
        assert "0 records failed" not in caplog.text
        cluster.release()


async def test_a_record_that_finds_no_buffer_space_is_never_accepted() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD, buffer_memory=2_000) as producer,
    ):
        await sent_and_silent(cluster, producer)
        large = producer.send_nowait(TOPIC, bytes(1_500))
        for call in (
            producer.send_and_wait(TOPIC, bytes(1_000), deadline=SOON),
            producer.send(TOPIC, bytes(1_000), deadline=SOON),
        ):
            with pytest.raises(BufferExhaustedError, match="of the call") as caught:
                await call
            assert never_sent(caught.value)
        cluster.release()
        await large
        assert len(values(cluster)) == 3


async def test_the_deadline_of_a_record_that_waited_for_space_counts_from_its_call() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, ONE_REQUEST | {"batch_size": 0}, buffer_memory=2_000) as producer,
    ):
        await sent_and_silent(cluster, producer)
        producer.send_nowait(TOPIC, bytes(1_500), deadline=SOON)
        # Admitted when the first is withdrawn.
        admitted = await producer.send(TOPIC, bytes(1_200), deadline=2 * SOON)
        assert never_sent(await failure(admitted))
        cluster.release()
        await producer.flush()
        assert values(cluster) == [b"first", b"in flight"]


async def test_a_record_that_was_refused_for_certain_is_withdrawn_before_its_retry() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster, RECORD_BY_RECORD, retry_backoff_ms=10_000, retry_backoff_max_ms=10_000
        ) as producer,
    ):
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        with pytest.raises(KafkaTimeoutError, match="NOT_ENOUGH_REPLICAS") as caught:
            await producer.send_and_wait(TOPIC, b"late", deadline=SOON)
        assert never_sent(caught.value)
        assert caught.value.attempts == 1
        # The backoff was the record's.
        assert (await producer.send_and_wait(TOPIC, b"next")).offset == 1
        assert values(cluster) == [b"first", b"next"]


async def test_a_record_that_may_be_stored_is_tried_again_after_its_deadline() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster, RECORD_BY_RECORD, retry_backoff_ms=100, retry_backoff_max_ms=100
        ) as producer,
    ):
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.REQUEST_TIMED_OUT, stored=True)
        with pytest.raises(KafkaTimeoutError) as caught:
            await producer.send_and_wait(TOPIC, b"42", deadline=SOON)
        assert caught.value.possibly_persisted
        await producer.flush()
        assert values(cluster) == [b"first", b"42"]


@pytest.mark.parametrize("code", [ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.CORRUPT_MESSAGE])
async def test_what_is_left_of_refused_batches_keeps_its_order(code: ErrorCode) -> None:
    """Batches with sequences lose records: those behind them get other sequences."""
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, retry_backoff_ms=1_000, retry_backoff_max_ms=1_000) as producer,
    ):
        await prove(producer)
        cluster.delay("produce", SOON, count=3, when="before")
        cluster.fail_next("produce", code, count=3)
        late: list[Delivery] = []
        stays: list[Delivery] = []
        for batch in range(3):
            for record in range(4):
                value = b"%d-%d" % (batch, record)
                if record % 2 == batch % 2:
                    late.append(producer.send_nowait(TOPIC, value, deadline=20 * SOON))
                else:
                    stays.append(producer.send_nowait(TOPIC, value))
            await cluster.received("produce", 2 + batch)
        assert all([never_sent(await failure(delivery)) for delivery in late])
        assert [(await delivery).offset for delivery in stays] == [1, 2, 3, 4, 5, 6]
        stored = [b"first", b"0-1", b"0-3", b"1-0", b"1-2", b"2-1", b"2-3"]
        assert values(cluster) == stored
        assert sequences(cluster)[-1][1] <= 6


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_records_are_withdrawn_from_compressed_batches(compression: CompressionType) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster, ONE_REQUEST, compression_type=compression, batch_size=20_000
        ) as producer,
    ):
        await sent_and_silent(cluster, producer)
        late: list[Delivery] = []
        stays: list[Delivery] = []
        for number in range(400):
            value = b"%d " % number * 50
            if number % 3:
                stays.append(producer.send_nowait(TOPIC, value))
            else:
                late.append(producer.send_nowait(TOPIC, value, deadline=SOON))
        assert all([never_sent(await failure(delivery)) for delivery in late])
        cluster.release()
        offsets = [(await delivery).offset for delivery in stays]
        assert offsets == list(range(2, 2 + len(stays)))
        assert values(cluster)[2:] == [b"%d " % number * 50 for number in range(400) if number % 3]


async def test_a_flush_waits_for_what_is_left_of_a_batch() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, ONE_REQUEST) as producer,
    ):
        await sent_and_silent(cluster, producer)
        producer.send_nowait(TOPIC, b"stays")
        late = producer.send_nowait(TOPIC, b"late", deadline=SOON)
        flushing = asyncio.create_task(producer.flush())
        await failure(late)
        assert not flushing.done()
        cluster.release()
        await flushing
        assert values(cluster) == [b"first", b"in flight", b"stays"]


async def test_a_withdrawn_record_gives_its_bytes_back() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, ONE_REQUEST, buffer_memory=10_000) as producer,
    ):
        await sent_and_silent(cluster, producer)
        free = producer.metrics()["buffer_available_bytes"]
        late = [producer.send_nowait(TOPIC, bytes(500), deadline=SOON) for _ in range(5)]
        assert producer.metrics()["buffer_available_bytes"] < free - 2_500
        for delivery in late:
            await failure(delivery)
        assert producer.metrics()["buffer_available_bytes"] == free
        cluster.release()


async def test_a_timeout_beside_a_deadline_waits_for_what_was_sent() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce", stored=True)
        storing = asyncio.create_task(
            producer.send_and_wait(TOPIC, b"42", deadline=SOON, timeout=LATE)
        )
        await asyncio.sleep(2 * SOON)
        assert not storing.done()
        cluster.release()
        assert (await storing).offset == 1


async def test_a_timeout_before_the_deadline_ends_only_the_wait() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, ONE_REQUEST) as producer,
    ):
        await sent_and_silent(cluster, producer)
        with pytest.raises(KafkaTimeoutError, match="timeout of the call") as caught:
            await producer.send_and_wait(TOPIC, b"goes on", timeout=SOON, deadline=LATE)
        assert caught.value.is_pending
        cluster.release()
        await producer.flush()
        assert values(cluster) == [b"first", b"in flight", b"goes on"]


async def test_a_wait_that_is_over_can_be_told_in_every_way_of_waiting() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, ONE_REQUEST) as producer,
    ):
        await sent_and_silent(cluster, producer)
        waits: list[Callable[[], Any]] = [
            lambda: producer.send_and_wait(TOPIC, b"goes on", timeout=SOON),
            lambda: asyncio.create_task(producer.send_and_wait(TOPIC, b"goes on", timeout=SOON)),
            lambda: asyncio.gather(producer.send_and_wait(TOPIC, b"goes on", timeout=SOON)),
            lambda: asyncio.wait_for(producer.send_and_wait(TOPIC, b"goes on", timeout=SOON), LATE),
        ]
        for wait in waits:
            with pytest.raises(KafkaTimeoutError, match="timeout of the call"):
                await wait()
        # Begun when it is over.
        late = producer.send_and_wait(TOPIC, b"goes on", timeout=SOON)
        await asyncio.sleep(3 * SOON)
        with pytest.raises(KafkaTimeoutError, match="timeout of the call"):
            await late
        cluster.release()
        await producer.flush()
        assert values(cluster).count(b"goes on") == 5


async def test_records_that_are_stored_in_time_leave_no_timer_and_no_entry() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        sender = sender_of(producer)
        deadlines = sender.accumulator.deadlines
        for _ in range(30):
            await asyncio.gather(
                *(producer.send_and_wait(TOPIC, b"42", deadline=LATE) for _ in range(100))
            )
        assert deadlines.entry_count <= 1_300
        assert producer.metrics()["record_delivered_total"] == 3_000


async def test_a_deadline_is_checked_before_the_record_is_taken() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        wrong: list[Any] = [0, -1, "2", True, float("nan")]
        for deadline in wrong:
            with pytest.raises(ValueError, match="deadline is a number of seconds"):
                producer.send_nowait(TOPIC, b"42", deadline=deadline)
        with pytest.raises(ValueError, match="timeout is a number of seconds"):
            await producer.send_and_wait(TOPIC, b"42", timeout=-1)
        assert producer.metrics()["record_accepted_total"] == 0
        await producer.send_and_wait(TOPIC, b"42", deadline=float("inf"))


async def test_no_record_that_is_called_not_stored_is_stored_after_an_outage() -> None:
    """What a client of a web route may rely on when it is answered 503 and tries again."""
    async with (
        FakeCluster(topics={TOPIC: 3}, brokers=2) as cluster,
        producing(cluster, delivery_timeout_ms=5_000) as producer,
    ):
        await asyncio.gather(*(prove(producer, partition) for partition in range(3)))
        await cluster.stop_broker(0, move_leaders=False)
        await cluster.stop_broker(1, move_leaders=False)

        async def route(number: int) -> RecordMetadata | KafkaError:
            try:
                return await producer.send_and_wait(
                    TOPIC, b"%d" % number, partition=number % 3, deadline=SOON
                )
            except KafkaError as error:
                return error

        results = await asyncio.gather(*(route(number) for number in range(200)))
        await cluster.start_broker(0)
        await cluster.start_broker(1)
        await producer.flush()
        stored = set(values(cluster))
        for number, result in enumerate(results):
            if isinstance(result, RecordMetadata) or not result.safe_to_resend:
                continue
            assert b"%d" % number not in stored
        assert sum(isinstance(result, KafkaError) for result in results) == 200
        assert sum(result.safe_to_resend for result in results if isinstance(result, KafkaError))


# ---- fail_fast


async def test_fail_fast_refuses_a_record_while_its_brokers_are_down() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}, brokers=2) as cluster,
        producing(cluster, fail_fast=True) as producer,
    ):
        await asyncio.gather(*(prove(producer, partition) for partition in range(2)))
        await cluster.stop_broker(0, move_leaders=False)
        await cluster.stop_broker(1, move_leaders=False)
        waiting = [
            asyncio.ensure_future(outcome(producer.send_nowait(TOPIC, b"waits", partition=each)))
            for each in range(2)
        ]

        def is_refused() -> KafkaConnectionError | None:
            try:
                producer.send_nowait(TOPIC, b"probe", deadline=0.001)
            except KafkaConnectionError as error:
                return error
            return None

        await until(is_refused)
        error = is_refused()
        assert error is not None
        assert error.safe_to_resend
        assert "every broker that it needs is down" in str(error)
        assert "refused" in str(error)
        with pytest.raises(KafkaConnectionError, match="fail_fast"):
            await producer.send_and_wait(TOPIC, b"refused")
        await cluster.start_broker(0)
        await cluster.start_broker(1)
        await asyncio.gather(*waiting)
        assert (await producer.send_and_wait(TOPIC, b"again")).offset >= 1
        assert b"refused" not in values(cluster)


async def test_fail_fast_heals_although_it_accepts_nothing_meanwhile() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, fail_fast=True) as producer,
    ):
        await prove(producer)
        await cluster.stop_broker(0, move_leaders=False)

        def is_refused() -> bool:
            try:
                producer.send_nowait(TOPIC, b"probe", deadline=0.001)
            except KafkaConnectionError:
                return True
            return False

        await until(is_refused)
        await cluster.start_broker(0)
        # The refused calls alone keep it trying.
        await until(lambda: not is_refused())
        await producer.send_and_wait(TOPIC, b"again")


async def test_fail_fast_accepts_records_for_the_brokers_that_are_up() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}, brokers=2) as cluster,
        producing(cluster, fail_fast=True) as producer,
    ):
        await asyncio.gather(*(prove(producer, partition) for partition in range(2)))
        await cluster.stop_broker(1, move_leaders=False)

        def is_refused() -> bool:
            try:
                producer.send_nowait(TOPIC, b"probe", partition=1, deadline=0.001)
            except KafkaConnectionError:
                return True
            return False

        await until(is_refused)
        await producer.send_and_wait(TOPIC, b"here", partition=0)
        # Until then a record without key may go to the broker that is down, and waits for it.
        topic = sender_of(producer).topics.by_name[TOPIC]
        await until(lambda: 1 not in topic.available)
        await producer.send_and_wait(TOPIC, b"anywhere", deadline=LATE)
        await cluster.start_broker(1)
        await until(lambda: not is_refused())


async def test_without_fail_fast_a_record_waits_for_its_broker() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        await cluster.stop_broker(0, move_leaders=False)
        sender = sender_of(producer)
        waiting = producer.send_nowait(TOPIC, b"waits")
        await until(lambda: sender.reachability.error_if_down(TOPIC))
        later = producer.send_nowait(TOPIC, b"waits, too")
        await cluster.start_broker(0)
        await asyncio.gather(waiting, later)


async def test_fail_fast_refuses_topics_that_are_not_known_while_all_brokers_are_down() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1, "new": 1}) as cluster,
        producing(cluster, fail_fast=True) as producer,
    ):
        await prove(producer)
        await cluster.stop_broker(0, move_leaders=False)

        def is_refused() -> bool:
            try:
                producer.send_nowait("new", b"probe", deadline=0.001)
            except KafkaConnectionError:
                return True
            return False

        await until(is_refused)
        await cluster.start_broker(0)
        await until(lambda: not is_refused())
        await producer.send_and_wait("new", b"again")
