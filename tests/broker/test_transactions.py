"""Transactions on a real Kafka: version 2 on the newest release, version 1 on 3.9.

The readers are librdkafka's: read_committed sees what is promised, read_uncommitted what is there.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterable
from typing import Any, Unpack

import confluent_kafka
import pytest

from aioproducer import Delivery, KafkaError, Producer
from aioproducer.config import ProducerOptions
from aioproducer.errors import (
    BufferExhaustedError,
    ConfigError,
    InvalidTransactionTimeoutError,
    ProducerClosedError,
    ProducerFencedError,
    RecordTooLargeError,
    SerializationError,
    TransactionAbortedError,
    TransactionFailedError,
    TransactionStateError,
)
from aioproducer.transactions.offsets import ConsumerGroupMetadata
from examples import transfer
from tests.broker.helpers import producer_for
from tests.support.kafka import consume, create_topic, end_offsets
from tests.support.producing import sender_of
from tools.kafka import Kafka


def transactional(kafka: Kafka, **options: Unpack[ProducerOptions]) -> Producer[Any, Any]:
    """Return a producer, not started, with a transactional id of its own."""
    with_id: ProducerOptions = {"transactional_id": f"txn-{uuid.uuid4().hex[:12]}", **options}
    return producer_for(kafka, **with_id)


def committed(kafka: Kafka, topic: str) -> list[bytes | None]:
    """What readers of committed transactions see, once the markers of all are written.

    A commit returns when it is decided; the coordinator writes the markers after that.
    """
    give_up_at = time.monotonic() + 15
    while end_offsets(kafka, topic, isolation="read_committed") != end_offsets(kafka, topic):
        assert time.monotonic() < give_up_at, f"a transaction is open in {topic}"
        time.sleep(0.02)
    return visible(kafka, topic)


def visible(kafka: Kafka, topic: str) -> list[bytes | None]:
    """What readers of committed transactions see at this moment."""
    return [record.value for record in consume(kafka, topic, isolation="read_committed")]


def stored(kafka: Kafka, topic: str) -> list[bytes | None]:
    return [record.value for record in consume(kafka, topic)]


async def in_thread(function: Any, *arguments: Any) -> Any:
    return await asyncio.to_thread(function, *arguments)


async def test_a_transaction_is_visible_as_a_whole_when_it_is_committed(broker: Kafka) -> None:
    debits, credits = create_topic(broker, partitions=2), create_topic(broker, partitions=2)
    async with transactional(broker) as producer:
        await producer.begin_transaction()
        for number in range(20):
            await producer.send(debits, b"%d" % number, partition=number % 2)
            await producer.send(credits, b"%d" % number, partition=number % 2)
        await producer.flush()
        assert len(await in_thread(stored, broker, debits)) == 20
        assert await in_thread(visible, broker, debits) == []
        await producer.commit_transaction()
        for topic in (debits, credits):
            assert sorted(await in_thread(committed, broker, topic)) == sorted(
                b"%d" % number for number in range(20)
            )


async def test_an_aborted_transaction_is_never_visible(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted")
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send(topic, b"committed")
        assert await in_thread(committed, broker, topic) == [b"committed"]
        assert await in_thread(stored, broker, topic) == [b"aborted", b"committed"]


async def test_an_abort_drops_what_was_not_sent(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker, linger_ms=10_000) as producer:
        await producer.begin_transaction()
        lingering = await producer.send(topic, b"lingers")
        await producer.abort_transaction()
        with pytest.raises(TransactionAbortedError):
            await lingering
        async with producer.transaction():
            await producer.send(topic, b"next")
        assert await in_thread(stored, broker, topic) == [b"next"]


async def test_a_commit_waits_for_everything_and_lingers_for_nothing(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=3)
    async with transactional(broker, linger_ms=60_000) as producer:
        async with asyncio.timeout(15):
            async with producer.transaction():
                deliveries = [
                    await producer.send(topic, b"%d" % number, partition=number % 3)
                    for number in range(300)
                ]
        assert all(delivery.done() for delivery in deliveries)
        assert len(await in_thread(committed, broker, topic)) == 300


async def test_many_transactions_one_after_the_other(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=3)
    async with transactional(broker) as producer:
        for number in range(60):
            try:
                async with producer.transaction():
                    for partition in range(1 + number % 3):
                        await producer.send(topic, b"%d" % number, partition=partition)
                    if number % 4 == 3:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                assert number % 4 == 3
    expected: list[bytes | None] = [
        b"%d" % number for number in range(60) if number % 4 != 3 for _ in range(1 + number % 3)
    ]
    assert sorted(await in_thread(committed, broker, topic), key=str) == sorted(expected, key=str)


async def test_a_transaction_without_records_asks_the_coordinator_for_nothing(
    broker: Kafka,
) -> None:
    async with transactional(broker) as producer:
        async with producer.transaction():
            pass
        await producer.begin_transaction()
        await producer.abort_transaction()
        assert producer.metrics()["epoch_bump_total"] == 0


# ---- failures


async def test_a_record_that_failed_fails_the_commit_although_nobody_awaited_it(
    broker: Kafka,
) -> None:
    topic = create_topic(broker, partitions=1, config={"max.message.bytes": "1000"})
    async with transactional(broker) as producer:
        with pytest.raises(TransactionFailedError, match="larger than the broker accepts") as got:
            async with producer.transaction():
                await producer.send(topic, b"before")
                await producer.send(topic, bytes(2_000))
        assert got.value.requires_abort
        assert not got.value.fatal
        assert isinstance(got.value.__cause__, RecordTooLargeError)
        async with producer.transaction():
            await producer.send(topic, b"next")
        assert await in_thread(committed, broker, topic) == [b"next"]


async def test_a_record_that_failed_at_its_call_fails_the_commit(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker) as producer:
        with pytest.raises(TransactionFailedError) as caught:
            async with producer.transaction():
                await producer.send(topic, b"before")
                with pytest.raises(SerializationError):
                    await producer.send(topic, 12)
                with pytest.raises(TransactionFailedError):
                    await producer.send(topic, b"after")
        assert isinstance(caught.value.__cause__, SerializationError)
        async with producer.transaction():
            await producer.send(topic, b"next")
        assert await in_thread(committed, broker, topic) == [b"next"]


async def test_a_record_without_buffer_space_fails_the_commit(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker, buffer_memory=5_000) as producer:
        with pytest.raises(TransactionFailedError) as caught:
            async with producer.transaction():
                for _ in range(10):
                    try:
                        producer.send_nowait(topic, bytes(1_000))
                    except KafkaError:
                        break
        assert isinstance(caught.value.__cause__, BufferExhaustedError)
        async with producer.transaction():
            await producer.send(topic, b"next")
        assert await in_thread(committed, broker, topic) == [b"next"]


async def test_a_commit_takes_along_callers_who_wait_for_buffer_space(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker, buffer_memory=5_000) as producer:
        await producer.begin_transaction()
        sends = [
            asyncio.create_task(producer.send(topic, b"%03d" % number + bytes(1_000)))
            for number in range(20)
        ]
        await asyncio.sleep(0)
        await producer.commit_transaction()
        assert [(await send).done() for send in sends] == [True] * 20
        values = await in_thread(committed, broker, topic)
        assert [value[:3] for value in values if value] == [b"%03d" % n for n in range(20)]


async def test_a_connection_cut_with_batches_in_flight_leaves_each_transaction_whole(
    broker: Kafka,
) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker, batch_size=0, retry_backoff_ms=10) as producer:
        expected: list[bytes] = []
        for transaction in range(8):
            async with producer.transaction():
                deliveries: list[Delivery] = []
                for number in range(40):
                    expected.append(b"%d-%d" % (transaction, number))
                    deliveries.append(await producer.send(topic, expected[-1]))
                if transaction % 2:
                    # From then on several are in flight.
                    await deliveries[0]
                await asyncio.sleep(0)
                for connection in sender_of(producer).cluster.brokers.open_connections():
                    transport = connection._transport  # pyright: ignore[reportPrivateUsage]
                    assert transport is not None
                    transport.abort()
        assert await in_thread(committed, broker, topic) == expected


async def test_what_the_block_raises_comes_out_of_it(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker) as producer:
        with pytest.raises(ZeroDivisionError):
            async with producer.transaction():
                await producer.send_and_wait(topic, b"aborted")
                raise ZeroDivisionError
        assert await in_thread(committed, broker, topic) == []


async def test_a_cancelled_block_aborts(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker) as producer:
        entered = asyncio.Event()

        async def transfer() -> None:
            async with producer.transaction():
                await producer.send_and_wait(topic, b"aborted")
                entered.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(transfer())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with producer.transaction():
            await producer.send(topic, b"next")
        assert await in_thread(committed, broker, topic) == [b"next"]


async def test_a_commit_whose_caller_is_cancelled_goes_on(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker) as producer:
        await producer.begin_transaction()
        await producer.send(topic, b"committed")
        committing = asyncio.create_task(producer.commit_transaction())
        await asyncio.sleep(0)
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        # Waits for the commit.
        async with producer.transaction():
            await producer.send(topic, b"next")
        assert await in_thread(committed, broker, topic) == [b"committed", b"next"]


async def test_a_commit_whose_caller_is_cancelled_can_be_joined(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker) as producer:
        await producer.begin_transaction()
        await producer.send(topic, b"committed")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(producer.commit_transaction(), 0)
        await producer.commit_transaction()
        assert await in_thread(committed, broker, topic) == [b"committed"]


# ---- who may do what


async def test_calls_outside_of_a_transaction_are_refused(kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=1)
    async with transactional(kafka) as producer:
        with pytest.raises(TransactionStateError, match=r"begin_transaction\(\) first"):
            await producer.send(topic, b"x")
        with pytest.raises(TransactionStateError):
            producer.send_nowait(topic, b"x")
        with pytest.raises(TransactionStateError):
            await producer.commit_transaction()
        with pytest.raises(TransactionStateError):
            await producer.abort_transaction()
        with pytest.raises(TransactionStateError):
            await producer.send_offsets_to_transaction({(topic, 0): 1}, "group")
        async with producer.transaction():
            with pytest.raises(TransactionStateError, match="one transaction at a time"):
                await producer.begin_transaction()
            await producer.send(topic, b"x")
        assert await in_thread(committed, kafka, topic) == [b"x"]
    with pytest.raises(ProducerClosedError):
        await producer.begin_transaction()


async def test_a_producer_without_a_transactional_id_has_no_transactions(kafka: Kafka) -> None:
    async with producer_for(kafka) as producer:
        with pytest.raises(TransactionStateError, match="Set a transactional_id"):
            await producer.begin_transaction()


def test_transactions_need_idempotence() -> None:
    excluding: list[ProducerOptions] = [{"enable_idempotence": False}, {"acks": 1}, {"retries": 0}]
    for options in excluding:
        with pytest.raises(ConfigError):
            with_id: ProducerOptions = {"transactional_id": "t", **options}
            Producer(bootstrap_servers="x:1", **with_id)


async def test_a_timeout_that_the_broker_does_not_allow_is_said_at_the_start(kafka: Kafka) -> None:
    producer = transactional(kafka, transaction_timeout_ms=2_000_000_000)
    with pytest.raises(InvalidTransactionTimeoutError, match="transaction_timeout_ms"):
        await producer.start()
    await producer.close()


async def test_a_producer_with_the_same_id_fences_the_one_before(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    own = f"txn-{uuid.uuid4().hex[:12]}"
    async with transactional(broker, transactional_id=own) as zombie:
        await zombie.begin_transaction()
        await zombie.send_and_wait(topic, b"left open")
        async with transactional(broker, transactional_id=own) as successor:
            async with successor.transaction():
                await successor.send(topic, b"successor")
            with pytest.raises(ProducerFencedError, match=own) as caught:
                await zombie.commit_transaction()
            assert caught.value.fatal
            with pytest.raises(ProducerFencedError):
                await zombie.begin_transaction()
            with pytest.raises(ProducerFencedError):
                zombie.send_nowait(topic, b"x")
            async with successor.transaction():
                await successor.send(topic, b"goes on")
    assert await in_thread(committed, broker, topic) == [b"successor", b"goes on"]


async def outlive_the_coordinators_patience(
    broker: Kafka, producer: Producer[Any, Any], topic: str
) -> None:
    """Leave a transaction open until its coordinator aborts it; then try to commit it."""
    async with producer.transaction():
        await producer.send_and_wait(topic, b"too late")
        # The coordinator looks for such transactions every ten seconds by default.
        async with asyncio.timeout(15):
            while await in_thread(_is_open, broker, topic):  # noqa: ASYNC110
                await asyncio.sleep(0.2)


@pytest.mark.slow
async def test_after_a_transaction_that_its_coordinator_timed_out_the_next_one_works(
    kafka: Kafka,
) -> None:
    topic = create_topic(kafka, partitions=1)
    async with transactional(kafka, transaction_timeout_ms=300) as producer:
        with pytest.raises(TransactionFailedError, match="transaction_timeout_ms") as caught:
            await outlive_the_coordinators_patience(kafka, producer, topic)
        assert caught.value.requires_abort
        async with producer.transaction():
            await producer.send(topic, b"next")
        assert await in_thread(committed, kafka, topic) == [b"next"]


@pytest.mark.slow
async def test_before_kafka_4_a_transaction_that_was_timed_out_looks_like_a_fenced_one(
    kafka39: Kafka,
) -> None:
    topic = create_topic(kafka39, partitions=1)
    async with transactional(kafka39, transaction_timeout_ms=300) as producer:
        with pytest.raises(ProducerFencedError, match="transaction_timeout_ms") as caught:
            await outlive_the_coordinators_patience(kafka39, producer, topic)
        assert caught.value.fatal
    assert await in_thread(committed, kafka39, topic) == []


def _is_open(kafka: Kafka, topic: str) -> bool:
    """Whether a transaction keeps readers from the end of a topic's first partition."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": "looks",
            "isolation.level": "read_committed",
        }
    )
    try:
        place = confluent_kafka.TopicPartition(topic, 0)
        stable = consumer.get_watermark_offsets(place, timeout=5, cached=False)[1]
    finally:
        consumer.close()
    return stable < 2


async def test_closing_aborts_an_open_transaction(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open")
    assert await in_thread(_is_open, broker, topic) is False
    assert await in_thread(committed, broker, topic) == []


async def test_closing_finishes_a_commit_that_has_begun(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with transactional(broker) as producer:
        await producer.begin_transaction()
        await producer.send(topic, b"committed")
        committing = asyncio.create_task(producer.commit_transaction())
        await asyncio.sleep(0)
    await committing
    assert await in_thread(committed, broker, topic) == [b"committed"]


# ---- offsets


def offsets_of(kafka: Kafka, group: str, topic: str) -> dict[int, int]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": kafka.bootstrap_servers, "group.id": group}
    )
    try:
        places = [confluent_kafka.TopicPartition(topic, partition) for partition in range(3)]
        found: Iterable[confluent_kafka.TopicPartition] = consumer.committed(places, timeout=10)
        return {one.partition: one.offset for one in found if one.offset >= 0}
    finally:
        consumer.close()


async def test_offsets_are_committed_with_the_transaction(broker: Kafka) -> None:
    source, target = create_topic(broker), create_topic(broker, partitions=1)
    group = f"group-{uuid.uuid4().hex[:12]}"
    async with transactional(broker) as producer:
        async with producer.transaction():
            await producer.send(target, b"made of it")
            await producer.send_offsets_to_transaction({(source, 0): 7, (source, 2): 3}, group)
        assert await in_thread(offsets_of, broker, group, source) == {0: 7, 2: 3}
        with pytest.raises(ZeroDivisionError):
            async with producer.transaction():
                await producer.send_offsets_to_transaction({(source, 0): 99}, group)
                raise ZeroDivisionError
        assert await in_thread(offsets_of, broker, group, source) == {0: 7, 2: 3}
        # Offsets alone.
        async with producer.transaction():
            await producer.send_offsets_to_transaction(
                [confluent_kafka.TopicPartition(source, 1, 5)], group
            )
        assert await in_thread(offsets_of, broker, group, source) == {0: 7, 1: 5, 2: 3}


async def test_a_consumer_that_is_no_member_any_more_cannot_commit(broker: Kafka) -> None:
    source = create_topic(broker)
    group = f"group-{uuid.uuid4().hex[:12]}"
    async with transactional(broker) as producer:
        stale = ConsumerGroupMetadata(group, 3, "nobody")
        with pytest.raises(KafkaError) as caught:
            async with producer.transaction():
                await producer.send_offsets_to_transaction({(source, 0): 1}, stale)
        assert caught.value.name in ("UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION")
        async with producer.transaction():
            await producer.send_offsets_to_transaction({(source, 0): 2}, group)
        assert await in_thread(offsets_of, broker, group, source) == {0: 2}


async def test_group_metadata_of_a_confluent_consumer_is_understood(broker: Kafka) -> None:
    source = create_topic(broker, partitions=1)
    group = f"group-{uuid.uuid4().hex[:12]}"
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": group,
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([source])
    try:
        async with asyncio.timeout(15):
            while not consumer.assignment():
                await in_thread(consumer.poll, 0.1)
        metadata = consumer.consumer_group_metadata()
        async with transactional(broker) as producer, producer.transaction():
            await producer.send_offsets_to_transaction({(source, 0): 4}, metadata)
    finally:
        await in_thread(consumer.close)
    assert await in_thread(offsets_of, broker, group, source) == {0: 4}


async def test_each_transfer_of_the_example_is_there_as_a_whole_or_not_at_all(
    broker: Kafka,
) -> None:
    debits, credits = create_topic(broker), create_topic(broker)
    made = await transfer.run(broker.bootstrap_servers, debits, credits, 60)
    debited = [json.loads(value or b"") for value in await in_thread(committed, broker, debits)]
    credited = [json.loads(value or b"") for value in await in_thread(committed, broker, credits)]
    assert 0 < made < 60
    assert len(debited) == made
    assert sorted(debited, key=str) == sorted(credited, key=str)
    # Of a transfer that was not made, the debit may stand in the log all the same.
    assert len(await in_thread(stored, broker, debits)) >= made
