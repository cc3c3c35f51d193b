"""Topics that are new, unknown, misnamed, deleted, or grow: what a producer makes of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioproducer import (
    InvalidTopicError,
    KafkaError,
    Producer,
    RecordMetadata,
    UnknownTopicOrPartitionError,
)
from tests.broker.helpers import buffer_used, delete_topic, new_topic_name, producer_for
from tests.support.kafka import consume, create_topic
from tools.kafka import Kafka


async def test_a_topic_is_created_by_its_first_record(broker: Kafka) -> None:
    topic = new_topic_name()
    async with producer_for(broker) as producer:
        metadata = await producer.send_and_wait(topic, b"first")
    (stored,) = consume(broker, topic)
    assert (stored.value, stored.partition, stored.offset) == (b"first", metadata.partition, 0)


async def test_records_for_a_topic_not_known_yet_keep_their_order(kafka: Kafka) -> None:
    topic = new_topic_name()
    async with producer_for(kafka, batch_size=2_000) as producer:
        held = [
            producer.send_nowait(topic, b"%d" % number, key=b"%d" % (number % 7))
            for number in range(2_000)
        ]
        # Known in the middle of it.
        await held[0]
        direct = [
            producer.send_nowait(topic, b"%d" % number, key=b"%d" % (number % 7))
            for number in range(2_000, 3_000)
        ]
        await asyncio.gather(*held, *direct)
        assert buffer_used(producer) == 0
    stored = consume(kafka, topic)
    assert len(stored) == 3_000
    for partition in {record.partition for record in stored}:
        numbers = [int(one.value or b"") for one in stored if one.partition == partition]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("acks", ["all", 0])
async def test_callers_who_wait_for_buffer_space_come_after_records_waiting_for_metadata(
    kafka: Kafka, acks: Any
) -> None:
    topic = create_topic(kafka, partitions=1)
    async with producer_for(kafka, acks=acks, buffer_memory=20_000, batch_size=2_000) as producer:
        waiting = [
            asyncio.ensure_future(producer.send(topic, b"%03d" % number + bytes(500)))
            for number in range(200)
        ]
        async with asyncio.timeout(10):
            await asyncio.gather(*[await one for one in waiting])
    stored = consume(kafka, topic, 200)
    assert [int((one.value or b"")[:3]) for one in stored] == list(range(200))


async def test_an_unknown_topic_fails_within_max_block_ms_and_is_named(broker: Kafka) -> None:
    topic = new_topic_name()
    heard: list[tuple[KafkaError, int]] = []
    loop = asyncio.get_running_loop()
    async with producer_for(
        broker,
        allow_auto_create_topics=False,
        max_block_ms=600,
        on_error=lambda error, count: heard.append((error, count)),
    ) as producer:
        started_at = loop.time()
        deliveries = [producer.send_nowait(topic, b"x") for _ in range(3)]
        results = await asyncio.gather(*deliveries, return_exceptions=True)
        assert 0.5 <= loop.time() - started_at < 2
        await asyncio.sleep(0)
        metrics = producer.metrics()
        assert metrics["record_error_total"] == 3
        assert buffer_used(producer) == 0
    for error in results:
        assert isinstance(error, UnknownTopicOrPartitionError)
        assert topic in str(error)
        assert not error.possibly_persisted
    assert [count for _, count in heard] == [3]


async def test_an_unknown_topic_holds_up_no_other(kafka: Kafka, topic: str) -> None:
    async with producer_for(kafka, allow_auto_create_topics=False, max_block_ms=2_000) as producer:
        lost = producer.send_nowait(new_topic_name(), b"x")
        async with asyncio.timeout(1.5):
            for _ in range(20):
                await producer.send_and_wait(topic, b"x")
        assert not lost.done()
        with pytest.raises(UnknownTopicOrPartitionError):
            await lost


async def test_a_topic_created_while_records_wait_for_it_gets_them(kafka: Kafka) -> None:
    topic = new_topic_name()
    async with producer_for(kafka, allow_auto_create_topics=False, max_block_ms=10_000) as producer:
        held = [producer.send_nowait(topic, b"%d" % number) for number in range(100)]
        await asyncio.sleep(0.3)
        assert not held[0].done()
        await asyncio.to_thread(create_topic, kafka, name=topic, partitions=1)
        metadata: list[RecordMetadata] = await asyncio.gather(*held)
    assert [one.offset for one in metadata] == list(range(100))
    assert [one.value for one in consume(kafka, topic)] == [b"%d" % one for one in range(100)]


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "x" * 250, "straße", "a/b", "a\n"])
async def test_an_impossible_topic_name_is_refused_at_once(
    producer: Producer[bytes, bytes], name: str
) -> None:
    with pytest.raises(InvalidTopicError, match="topic name"):
        producer.send_nowait(name, b"x")
    with pytest.raises(InvalidTopicError):
        await producer.partitions_for(name)
    assert producer.metrics()["record_accepted_total"] == 0


@pytest.mark.parametrize("name", [None, b"topic", 7])
async def test_a_topic_that_is_no_text_is_refused_at_once(
    producer: Producer[bytes, bytes], name: Any
) -> None:
    with pytest.raises(InvalidTopicError, match=type(name).__name__):
        producer.send_nowait(name, b"x")


async def test_names_at_the_limit_are_accepted(kafka: Kafka) -> None:
    name = new_topic_name().ljust(249, "x")
    async with producer_for(kafka) as producer:
        assert (await producer.send_and_wait(name, b"x")).topic == name


async def test_partitions_for_asks_the_cluster(kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=5)
    async with producer_for(kafka) as producer:
        assert await producer.partitions_for(topic) == (0, 1, 2, 3, 4)
        assert len(await producer.partitions_for(new_topic_name())) == 3


async def test_partitions_for_an_unknown_topic_fails_within_max_block_ms(kafka: Kafka) -> None:
    topic = new_topic_name()
    async with producer_for(kafka, allow_auto_create_topics=False, max_block_ms=300) as producer:
        async with asyncio.timeout(2):
            with pytest.raises(UnknownTopicOrPartitionError, match=topic):
                await producer.partitions_for(topic)


@pytest.mark.parametrize("partitions", [3, 1])
@pytest.mark.timeout(40)
async def test_a_topic_may_be_deleted_and_recreated_under_a_running_producer(
    broker: Kafka, partitions: int
) -> None:
    """Records sent meanwhile are stored in the new topic or fail; later ones are stored."""
    topic = create_topic(broker, partitions=3)
    outcomes: list[RecordMetadata | BaseException] = []
    async with producer_for(
        broker,
        allow_auto_create_topics=False,
        request_timeout_ms=3_000,
        delivery_timeout_ms=6_000,
        max_block_ms=6_000,
    ) as producer:
        for number in range(30):
            await producer.send_and_wait(topic, b"old", key=b"%d" % number)
        is_over = asyncio.Event()

        async def keep_sending() -> None:
            number = 0
            while not is_over.is_set():
                number += 1
                try:
                    delivery = await producer.send(topic, b"meanwhile", key=b"%d" % number)
                    outcomes.append(await delivery)
                except KafkaError as error:
                    outcomes.append(error)

        def replace() -> None:
            delete_topic(broker, topic)
            create_topic(broker, partitions=partitions, name=topic)

        async with asyncio.timeout(25), asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(keep_sending())
            await asyncio.to_thread(replace)
            await asyncio.sleep(1)
            is_over.set()
        metadata = [
            await producer.send_and_wait(topic, b"new", key=b"%d" % number) for number in range(30)
        ]
        assert buffer_used(producer) == 0
    assert len({one.partition for one in metadata}) == partitions
    stored = consume(broker, topic)
    assert [one.value for one in stored].count(b"new") == 30
    assert not any(one.value == b"old" for one in stored)
