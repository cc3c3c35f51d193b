from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import pytest

from aioproducer import (
    BufferExhaustedError,
    ConfigError,
    Delivery,
    InvalidPartitionError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageTooLargeError,
    Producer,
    ProducerClosedError,
    ProducerConfig,
    ProducerNotStartedError,
    ProducerRecord,
    RecordMetadata,
    RecordTooLargeError,
    SerializationError,
    UndeliveredRecord,
    WrongEventLoopError,
)
from aioproducer.errors import NotEnoughReplicasError, error_for_code
from aioproducer.hooks import OnDelivery
from aioproducer.testing import FakeCluster, MockProducer
from tests.support.producing import until


@dataclass(frozen=True)
class Payment:
    card: str
    cents: int


Report: TypeAlias = tuple[RecordMetadata | None, KafkaError | None]


def into(reports: list[Report]) -> OnDelivery:
    def report(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        reports.append((metadata, error))

    return report


def encode(payment: Payment) -> bytes:
    return json.dumps([payment.card, payment.cents]).encode()


def test_a_mock_producer_has_no_transactions() -> None:
    with pytest.raises(ConfigError, match="FakeCluster"):
        MockProducer(transactional_id="transfers-0")


async def test_a_record_is_stored_with_an_offset_that_grows() -> None:
    async with MockProducer(partitions={"payments": 3}) as mock:
        stored = [await mock.send_and_wait("payments", b"1", partition=2) for _ in range(3)]
        other = await mock.send_and_wait("payments", b"1", partition=0)
    assert [(one.partition, one.offset) for one in stored] == [(2, 0), (2, 1), (2, 2)]
    assert (other.partition, other.offset) == (0, 0)
    assert isinstance(other, RecordMetadata)


async def test_what_was_sent_is_kept_as_bytes_and_as_given() -> None:
    mock: MockProducer[str, Payment] = MockProducer(
        key_serializer="string", value_serializer=encode
    )
    payment = Payment("card-1", 1250)
    async with mock:
        metadata = await mock.send_and_wait(
            "payments", payment, key="k", headers={"trace": b"7"}, timestamp_ms=1_700_000_000_000
        )
    (record,) = mock.sent
    assert (record.key, record.value) == (b"k", b'["card-1", 1250]')
    assert (record.given_key, record.given_value) == ("k", payment)
    assert (record.headers, record.timestamp_ms) == ((("trace", b"7"),), 1_700_000_000_000)
    assert (*record.topic_partition, record.offset) == metadata[:3]
    assert metadata.timestamp_ms == 1_700_000_000_000


async def test_a_record_without_key_or_value_is_kept_as_none() -> None:
    async with MockProducer(key_serializer="string", value_serializer="json") as mock:
        await mock.send_and_wait("payments", {"a": 1}, key="k")
        await mock.send_and_wait("payments")
    last = mock.sent[-1]
    assert (last.key, last.value, last.given_key, last.given_value) == (None, None, None, None)


async def test_what_was_given_is_told_of_each_record_whatever_happens_in_between() -> None:
    mock: MockProducer[Any, Any] = MockProducer(
        key_serializer="string", value_serializer="json", buffer_memory=1000, batch_size=0
    )
    async with mock:
        with pytest.raises(SerializationError):
            await mock.send("t", object(), key="bad")
        mock.hold()
        mock.fail_next(MessageTooLargeError)
        failed = await mock.send("t", ["failed"], key="k0")
        await mock.send("t", ["a" * 500], key="k1")
        waiting = [asyncio.create_task(mock.send_and_wait("t", ["b" * 500], key="k2"))]
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(mock.send_and_wait("t", ["c" * 500], key="k3")))
        await asyncio.sleep(0)
        mock.release()
        await asyncio.gather(*waiting)
        assert isinstance(failed.exception(), MessageTooLargeError)
    found = [(one.given_key, one.given_value[0][0]) for one in mock.sent if one.given_value]
    assert found == [("k1", "a"), ("k2", "b"), ("k3", "c")]


def given(mock: MockProducer[Any, Any]) -> list[tuple[Any, Any, bytes | None]]:
    """Return key and value of each record as given, and the value as it was stored."""
    return [(record.given_key, record.given_value, record.value) for record in mock.sent]


async def test_what_a_thread_gave_is_told_of_its_own_record() -> None:
    async with MockProducer[Any, Any](key_serializer="string", value_serializer="json") as mock:
        with pytest.raises(RecordTooLargeError):
            mock.send_nowait("t", ["x" * 5_000_000], key="refused")
        send = mock.from_thread.send
        futures = [await asyncio.to_thread(send, "t", [n], key=f"k{n}") for n in range(2)]
        mock.send_nowait("t", ["loop"], key="k2")
        await asyncio.gather(*map(asyncio.wrap_future, futures))
    assert sorted(given(mock)) == [
        ("k0", [0], b"[0]"),
        ("k1", [1], b"[1]"),
        ("k2", ["loop"], b'["loop"]'),
    ]


async def test_what_a_thread_gave_is_told_when_its_record_has_waited_for_space() -> None:
    mock: MockProducer[Any, Any] = MockProducer(
        value_serializer="string", buffer_memory=1_000, batch_size=0
    )
    async with mock:
        mock.hold()
        mock.send_nowait("t", "a" * 600)
        sending = asyncio.create_task(asyncio.to_thread(mock.from_thread.send, "t", "b" * 600))
        await until(lambda: mock.metrics()["waiting_callers"])
        mock.release()
        await asyncio.wrap_future(await sending)
    assert [record.given_value for record in mock.sent] == ["a" * 600, "b" * 600]


@pytest.mark.parametrize("inner", ["stored", "too large", "full"])
async def test_what_was_given_is_told_although_a_partitioner_sends_meanwhile(inner: str) -> None:
    def choose(_topic: str, key: bytes | None, partitions: Sequence[int], _: object) -> int:
        if key == b"outer":
            with contextlib.suppress(RecordTooLargeError, BufferExhaustedError):
                mock.send_nowait("t", sizes[inner] * "i", key="inner")
        return partitions[0]

    sizes = {"stored": 1, "too large": 5_000_000, "full": 900_000}
    mock: MockProducer[Any, Any] = MockProducer(
        key_serializer="string",
        value_serializer="string",
        partitioner=choose,
        buffer_memory=1_000_000,
    )
    async with mock:
        mock.hold()
        mock.send_nowait("t", "f" * 200_000)
        mock.send_nowait("t", "o", key="outer")
        mock.release()
    *_, (key, value, stored) = given(mock)
    assert stored == b"o"
    # A record that finds no space leaves nothing to tell.
    assert (key, value) == ((None, None) if inner == "full" else ("outer", "o"))


async def test_bytes_that_are_no_bytes_object_are_kept_as_given() -> None:
    async with MockProducer() as mock:
        await mock.send_and_wait("t", bytearray(b"1"), key=memoryview(b"k"))
    (record,) = mock.sent
    assert (record.key, record.value) == (b"k", b"1")
    assert (type(record.given_key), type(record.given_value)) == (memoryview, bytearray)


async def test_a_record_counts_as_sent_from_the_call_on() -> None:
    async with MockProducer() as mock:
        mock.send_nowait("payments", b"1")
        assert [record.value for record in mock.sent_to("payments")] == [b"1"]
        assert mock.sent_to("clicks") == []


async def test_a_key_leads_to_the_partition_that_the_cluster_would_have_got() -> None:
    keys = [f"card-{number}".encode() for number in range(50)]
    async with (
        FakeCluster(topics={"payments": 7}) as cluster,
        Producer(bootstrap_servers=cluster.bootstrap_servers) as producer,
        MockProducer(partitions={"payments": 7}) as mock,
    ):
        for key in keys:
            real = await producer.send_and_wait("payments", b"1", key=key)
            assert (await mock.send_and_wait("payments", b"1", key=key)).partition == real.partition


async def test_records_without_key_fill_one_partition_after_the_other() -> None:
    async with MockProducer(partitions={"clicks": 3}, batch_size=500) as mock:
        for _ in range(12):
            mock.send_nowait("clicks", b"x" * 180)
    found = [record.partition for record in mock.sent]
    assert set(found) == {0, 1, 2}
    assert sum(a != b for a, b in pairwise(found)) < 8


async def test_your_own_partitioner_is_asked() -> None:
    def last(topic: str, key: bytes | None, partitions: Any, available: Any) -> int:
        return len(partitions) - 1

    async with MockProducer(partitions={"payments": 4}, partitioner=last) as mock:
        assert (await mock.send_and_wait("payments", b"1", key=b"k")).partition == 3


async def test_topics_that_nobody_named_have_the_default_number_of_partitions() -> None:
    async with MockProducer(partitions={"payments": 3}, default_partitions=2) as mock:
        assert await mock.partitions_for("payments") == (0, 1, 2)
        assert await mock.partitions_for("clicks") == (0, 1)


@pytest.mark.parametrize("partitions", [{"t": 0}, {"t": -1}])
def test_a_topic_has_at_least_one_partition(partitions: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        MockProducer(partitions=partitions)


async def test_every_way_to_send_works() -> None:
    reported: list[Report] = []
    async with MockProducer() as mock:
        delivery = await mock.send("t", b"0", on_delivery=into(reported))
        assert isinstance(delivery, Delivery)
        assert not delivery.done()
        await mock.send_and_wait(ProducerRecord("t", b"1"))
        mock.send_nowait("t", b"2")
        many = await mock.send_many("t", [b"3", ProducerRecord("t", b"4")])
        assert (await delivery).offset == 0
    assert [one.offset for one in many] == [3, 4]
    assert [record.value for record in mock.sent] == [b"0", b"1", b"2", b"3", b"4"]
    assert reported == [(delivery.result(), None)]


async def test_a_call_is_refused_as_by_a_producer() -> None:
    async with MockProducer(value_serializer="json", max_request_size=1000) as mock:
        with pytest.raises(SerializationError):
            await mock.send("t", object())
        with pytest.raises(InvalidTopicError):
            await mock.send("no topic", 1)
        with pytest.raises(InvalidPartitionError):
            await mock.send("t", 1, partition=1)
        with pytest.raises(RecordTooLargeError):
            await mock.send("t", "x" * 1000)
        assert mock.sent == []
        await mock.send_and_wait("t", 2)
        assert [record.given_value for record in mock.sent] == [2]


async def test_it_is_a_producer_with_all_its_states() -> None:
    mock: MockProducer[Any, Any] = MockProducer()
    assert isinstance(mock, Producer)
    with pytest.raises(ProducerNotStartedError):
        mock.send_nowait("t", b"1")
    with pytest.raises(ProducerNotStartedError):
        await mock.flush()
    await mock.start()
    mock.send_nowait("t", b"1")
    assert list(await mock.close()) == []
    with pytest.raises(ProducerClosedError):
        mock.send_nowait("t", b"2")
    with pytest.raises(ProducerClosedError):
        await mock.start()
    assert [record.value for record in mock.sent] == [b"1"]


async def test_it_takes_a_config_and_the_classmethods_of_a_producer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "somewhere:9092")
    monkeypatch.setenv("KAFKA_CLIENT_ID", "shop")
    assert MockProducer.from_env().config.client_id == "shop"
    config = ProducerConfig(bootstrap_servers="somewhere:9092", acks=0)
    async with MockProducer(config, partitions={"t": 2}) as mock:
        assert (await mock.send_and_wait("t", b"1", partition=1)).offset == -1
    assert [record.offset for record in mock.sent] == [0]


async def test_metrics_and_status_are_those_of_a_producer() -> None:
    async with FakeCluster() as cluster:
        producer: Producer[Any, Any] = Producer(bootstrap_servers=cluster.bootstrap_servers)
        async with producer, MockProducer() as mock:
            await producer.send_and_wait("t", b"1")
            await mock.send_and_wait("t", b"1")
            mock.fail_next(MessageTooLargeError)
            await mock.send_many("t", [b"2"], return_exceptions=True)
            assert list(mock.metrics()) == list(producer.metrics())
            assert mock.status().healthy == producer.status().healthy
            assert mock.status().oldest_record_age is None
            mock.hold()
            held = await mock.send("t", b"3")
            assert mock.status().oldest_record_age is not None
            mock.release()
            await held
            found = mock.metrics()
    assert found["record_accepted_total"] == 3
    assert found["record_delivered_total"] == 2
    assert found["record_error_total"] == 1
    assert found["buffer_available_bytes"] == found["buffer_total_bytes"]


# ---- fail_next


@pytest.mark.parametrize(
    "error",
    [NotEnoughReplicasError, NotEnoughReplicasError("two of three"), "NOT_ENOUGH_REPLICAS", 19],
)
async def test_the_next_record_fails_with_the_error_ordered(error: Any) -> None:
    async with MockProducer() as mock:
        mock.fail_next(error)
        with pytest.raises(NotEnoughReplicasError) as failed:
            await mock.send_and_wait("t", b"1")
        await mock.send_and_wait("t", b"2")
    assert str(failed.value.topic_partition) == "t-0"
    assert failed.value.attempts == 1
    assert ("two of three" in str(failed.value)) == isinstance(error, KafkaError)
    assert [(record.value, record.offset) for record in mock.sent] == [(b"2", 0)]


async def test_the_failure_reaches_deliveries_callbacks_and_hooks() -> None:
    reported: list[Report] = []
    hooked: list[int] = []
    async with MockProducer(on_error=lambda error, count: hooked.append(count)) as mock:
        mock.fail_next(MessageTooLargeError)
        delivery = mock.send_nowait("t", b"1", on_delivery=into(reported))
        await mock.flush()
        error = delivery.exception()
    assert isinstance(error, MessageTooLargeError)
    ((metadata, told),) = reported
    assert metadata is None
    assert isinstance(told, MessageTooLargeError)
    assert hooked == [1]


async def test_a_failure_is_for_a_topic_and_a_number_of_records() -> None:
    async with MockProducer() as mock:
        mock.fail_next(MessageTooLargeError, topic="b", count=2)
        mock.fail_next(NotEnoughReplicasError, topic="c", count=None)
        results = [
            await mock.send_many(topic, [b"1"] * 3, return_exceptions=True) for topic in "abc"
        ]
    kinds = [[type(one) for one in result] for result in results]
    assert kinds == [
        [RecordMetadata] * 3,
        [MessageTooLargeError] * 2 + [RecordMetadata],
        [NotEnoughReplicasError] * 3,
    ]
    assert [record.topic for record in mock.sent] == ["a"] * 3 + ["b"]


async def test_each_record_has_an_error_of_its_own() -> None:
    error = KafkaTimeoutError("gone", possibly_persisted=True)
    async with MockProducer() as mock:
        mock.fail_next(error, count=2)
        first, second = await mock.send_many("t", [b"1", b"2"], return_exceptions=True)
    assert isinstance(first, KafkaTimeoutError)
    assert first.possibly_persisted
    assert first is not second
    assert error.topic_partition is None


@pytest.mark.parametrize("error", ["NO_SUCH_ERROR", "", 0, BufferExhaustedError])
def test_an_error_that_no_record_can_have_is_refused(error: Any) -> None:
    with pytest.raises(ValueError):
        MockProducer().fail_next(error)


def test_no_record_can_fail_zero_times() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        MockProducer().fail_next(MessageTooLargeError, count=0)


# ---- full


async def test_a_full_buffer_refuses_every_way_to_send_at_once() -> None:
    async with MockProducer() as mock:
        mock.full()
        with pytest.raises(BufferExhaustedError) as refused:
            mock.send_nowait("t", b"1")
        for call in (mock.send("t", b"1"), mock.send_and_wait("t", b"1")):
            with pytest.raises(BufferExhaustedError):
                await call
        with pytest.raises(BufferExhaustedError):
            await mock.send_many("t", [b"1"])
        mock.full(False)
        assert (await mock.send_and_wait("t", b"2")).offset == 0
    assert refused.value.available_bytes == 0
    assert [record.value for record in mock.sent] == [b"2"]


async def test_a_buffer_may_be_full_before_the_start() -> None:
    mock: MockProducer[Any, Any] = MockProducer()
    mock.full()
    async with mock:
        with pytest.raises(BufferExhaustedError):
            mock.send_nowait("t", b"1")


async def test_a_buffer_that_is_really_full_makes_callers_wait() -> None:
    mock: MockProducer[Any, Any] = MockProducer(
        value_serializer="string", buffer_memory=1000, batch_size=0
    )
    async with mock:
        mock.hold()
        first = await mock.send("t", "a" * 600)
        waiting = asyncio.create_task(mock.send_and_wait("t", "b" * 600))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert mock.metrics()["waiting_callers"] == 1
        mock.release()
        await first
        assert (await waiting).offset == 1
    assert [record.given_value[0] for record in mock.sent if record.given_value] == ["a", "b"]


# ---- hold and release


async def test_records_that_are_held_have_no_outcome_until_released() -> None:
    async with MockProducer() as mock:
        mock.hold()
        delivery = mock.send_nowait("t", b"1")
        with pytest.raises(KafkaTimeoutError) as timed_out:
            await mock.send_and_wait("t", b"2", timeout=0.01)
        assert timed_out.value.is_pending
        assert timed_out.value.possibly_persisted
        assert not delivery.done()
        assert len(mock.sent) == 2
        mock.release()
        assert (await delivery).offset == 0
        await mock.flush()


async def test_a_failure_ordered_for_a_held_record_comes_when_it_is_released() -> None:
    async with MockProducer() as mock:
        mock.hold()
        mock.fail_next(MessageTooLargeError)
        delivery = mock.send_nowait("t", b"1")
        await asyncio.sleep(0)
        assert not delivery.done()
        mock.release()
        with pytest.raises(MessageTooLargeError):
            await delivery


async def test_the_deadline_of_a_held_record_ends_the_wait_and_not_the_record() -> None:
    async with MockProducer() as mock:
        mock.hold()
        delivery = mock.send_nowait("t", b"1", deadline=0.01)
        with pytest.raises(KafkaTimeoutError) as late:
            await mock.send_and_wait("t", b"2", deadline=0.01)
        assert late.value.possibly_persisted
        assert not late.value.safe_to_resend
        assert not delivery.done()
        mock.release()
        assert (await delivery).offset == 0


async def test_a_caller_with_a_deadline_waits_no_longer_for_buffer_space() -> None:
    async with MockProducer(buffer_memory=1000, batch_size=0) as mock:
        mock.hold()
        await mock.send("t", b"a" * 600)
        with pytest.raises(BufferExhaustedError):
            await mock.send_and_wait("t", b"b" * 600, deadline=0.01)
        mock.release()
        await mock.flush()
        assert len(mock.sent) == 1


async def test_fail_fast_finds_no_broker_down() -> None:
    async with MockProducer(fail_fast=True) as mock:
        await mock.send_and_wait("t", b"1")


async def test_held_records_expire() -> None:
    async with MockProducer(delivery_timeout_ms=20, request_timeout_ms=10, linger_ms=0) as mock:
        mock.hold()
        with pytest.raises(KafkaTimeoutError, match="delivery_timeout_ms") as expired:
            await mock.send_and_wait("t", b"1")
        assert expired.value.possibly_persisted
        assert not expired.value.is_pending
        assert mock.sent == []


async def test_close_gives_up_what_is_held_and_hands_it_over() -> None:
    handed: list[UndeliveredRecord] = []
    mock: MockProducer[Any, Any] = MockProducer(on_undelivered=handed.extend)
    await mock.start()
    mock.hold()
    delivery = mock.send_nowait("t", b"1", key=b"k")
    undelivered = await mock.close(0.01)
    assert [(one.record.key, one.record.value) for one in undelivered] == [(b"k", b"1")]
    assert handed == list(undelivered)
    assert isinstance(delivery.exception(), ProducerClosedError)
    assert mock.sent == []


async def test_clear_forgets_records_and_orders() -> None:
    async with MockProducer(partitions={"t": 3}) as mock:
        mock.hold()
        mock.full()
        mock.fail_next(MessageTooLargeError)
        mock.clear()
        await mock.send_and_wait("t", b"1", partition=2)
        mock.fail_next(MessageTooLargeError, count=None)
        mock.clear()
        assert mock.sent == []
        assert (await mock.send_and_wait("t", b"2", partition=2)).offset == 0


async def test_a_cancelled_wait_leaves_the_record() -> None:
    async with MockProducer() as mock:
        mock.hold()
        waiting = asyncio.create_task(mock.send_and_wait("t", b"1"))
        await asyncio.sleep(0)
        waiting.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await waiting
        mock.release()
        await mock.flush()
        assert len(mock.sent) == 1


# ---- the loop


async def test_a_started_one_belongs_to_its_loop() -> None:
    async with MockProducer() as mock:

        async def elsewhere() -> None:
            with pytest.raises(WrongEventLoopError):
                mock.send_nowait("t", b"1")

        await asyncio.to_thread(asyncio.run, elsewhere())


def test_one_that_starts_by_itself_follows_the_loops_that_call_it() -> None:
    mock: MockProducer[Any, Any] = MockProducer(auto_start=True)

    async def send(value: bytes) -> RecordMetadata:
        return await mock.send_and_wait("t", value)

    assert [asyncio.run(send(value)).offset for value in (b"1", b"2")] == [0, 1]
    asyncio.run(mock.flush())
    assert list(asyncio.run(mock.close())) == []
    with pytest.raises(ProducerClosedError):
        asyncio.run(send(b"3"))
    assert [record.value for record in mock.sent] == [b"1", b"2"]


def test_one_that_starts_by_itself_still_needs_a_loop() -> None:
    with pytest.raises(ProducerNotStartedError):
        MockProducer(auto_start=True).send_nowait("t", b"1")


async def test_orders_from_another_thread_hold() -> None:
    async with MockProducer() as mock:
        await asyncio.to_thread(mock.hold)
        delivery = mock.send_nowait("t", b"1")
        await asyncio.to_thread(mock.full)
        await asyncio.sleep(0)
        with pytest.raises(BufferExhaustedError):
            mock.send_nowait("t", b"2")
        assert not delivery.done()
        await asyncio.to_thread(mock.clear)
        await delivery


async def test_ten_thousand_records_at_once_are_stored_in_order() -> None:
    async with MockProducer() as mock:
        stored = await mock.send_many("t", [b"%d" % number for number in range(10_000)])
    assert [one.offset for one in stored] == list(range(10_000))
    assert [record.value for record in mock.sent] == [b"%d" % number for number in range(10_000)]


def test_every_error_of_kafka_can_be_ordered_by_its_name() -> None:
    mock: MockProducer[Any, Any] = MockProducer()
    for code in (-1, *range(1, 134)):
        mock.fail_next(error_for_code(code).name or code)
