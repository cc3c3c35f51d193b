"""Which partition a record goes to, against a real broker and the other clients' partitioner."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import pytest
from confluent_kafka import Message
from confluent_kafka import Producer as ConfluentProducer

from aioproducer import InvalidPartitionError, KafkaError, Producer
from tests.broker.helpers import add_partitions, producer_for
from tests.support.kafka import consume, create_topic
from tools.kafka import Kafka


def partitions_by_librdkafka(kafka: Kafka, topic: str, keys: Sequence[bytes]) -> list[int | None]:
    producer = ConfluentProducer(
        {"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"}
    )
    delivered: list[int | None] = []

    def on_delivery(error: object, message: Message) -> None:
        assert error is None
        delivered.append(message.partition())

    for key in keys:
        producer.produce(topic, b"", key, on_delivery=on_delivery)
        producer.flush(10)
    return delivered


async def test_a_key_goes_where_the_other_clients_put_it(kafka: Kafka) -> None:
    chance = random.Random(11)
    keys = [chance.randbytes(chance.randrange(1, 40)) for _ in range(150)]
    expected = partitions_by_librdkafka(kafka, create_topic(kafka, partitions=7), keys)
    topic = create_topic(kafka, partitions=7)
    async with producer_for(kafka) as producer:
        deliveries = [await producer.send(topic, b"", key=key) for key in keys]
        found = [(await delivery).partition for delivery in deliveries]
    assert found == expected
    assert len(set(found)) == 7


async def test_records_without_key_stick_for_a_batch_and_spread_over_all_partitions(
    kafka: Kafka,
) -> None:
    topic = create_topic(kafka, partitions=4)
    async with producer_for(kafka, batch_size=10_000) as producer:
        metadata = await producer.send_many(topic, [bytes(1_000)] * 3_000)
    partitions = [one.partition for one in metadata]
    runs = [len(list(run)) for _, run in groupby(partitions)]
    assert min(Counter(partitions).values()) > 200
    # A batch holds nine; neighbours may be the same partition again.
    assert min(runs[:-1]) >= 9


async def test_an_explicit_partition_wins_over_key_and_partitioner(kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=3)
    async with producer_for(kafka, partitioner="round_robin") as producer:
        for partition in (2, 0, 1, 2):
            metadata = await producer.send_and_wait(topic, b"x", key=b"k", partition=partition)
            assert metadata.partition == partition
    assert Counter(one.partition for one in consume(kafka, topic)) == {0: 1, 1: 1, 2: 2}


async def test_a_partition_out_of_range_is_refused_with_the_count(
    producer: Producer[bytes, bytes], topic: str
) -> None:
    await producer.partitions_for(topic)
    # The first may find the topic unknown to the accumulator, the second finds it known.
    for _ in range(2):
        with pytest.raises(InvalidPartitionError, match=f"{topic}.*3 partitions.*no partition 3"):
            await producer.send_and_wait(topic, b"x", partition=3)
    assert (await producer.send_and_wait(topic, b"x", partition=2)).offset == 0


async def test_a_bad_partition_among_records_for_an_unknown_topic_fails_alone(
    producer: Producer[bytes, bytes], kafka: Kafka, topic: str
) -> None:
    before = producer.send_nowait(topic, b"before", partition=1)
    bad = producer.send_nowait(topic, b"bad", partition=7)
    after = producer.send_nowait(topic, b"after", partition=1)
    assert ((await before).offset, (await after).offset) == (0, 1)
    with pytest.raises(InvalidPartitionError, match="3 partitions"):
        await bad
    assert [record.value for record in consume(kafka, topic)] == [b"before", b"after"]


async def test_round_robin_is_even(kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=3)
    async with producer_for(kafka, partitioner="round_robin", batch_size=500) as producer:
        await producer.send_many(topic, [b"x" * 50] * 300)
    assert Counter(one.partition for one in consume(kafka, topic)) == {0: 100, 1: 100, 2: 100}


async def test_a_partitioner_of_your_own_is_asked_for_every_record(kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=4)
    asked: list[tuple[str, bytes | None, list[int], list[int]]] = []

    def by_last_byte(
        topic: str, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        asked.append((topic, key, list(partitions), list(available)))
        return 3 if key is None else key[-1] % len(partitions)

    async with producer_for(kafka, partitioner=by_last_byte) as producer:
        found = [
            (await producer.send_and_wait(topic, b"x", key=key)).partition
            for key in (b"\x01", b"\x06", None)
        ]
    assert found == [1, 2, 3]
    every = [0, 1, 2, 3]
    assert asked == [(topic, key, every, every) for key in (b"\x01", b"\x06", None)]


async def test_a_partitioner_that_fails_fails_its_record_alone(kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=2)

    def picky(
        topic: str, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        return {b"raise": 0, b"far": 9}.get(key or b"", 1) or 1 // 0

    async with producer_for(kafka, partitioner=picky) as producer:
        held = [producer.send_nowait(topic, b"x", key=key) for key in (b"raise", b"far", b"ok")]
        with pytest.raises(KafkaError, match=f"raised ZeroDivisionError.*{topic}"):
            await held[0]
        with pytest.raises(InvalidPartitionError, match="2 partitions"):
            await held[1]
        assert (await held[2]).partition == 1
        with pytest.raises(KafkaError, match=f"raised ZeroDivisionError.*{topic}") as caught:
            producer.send_nowait(topic, b"x", key=b"raise")
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.raises(InvalidPartitionError, match="2 partitions"):
            producer.send_nowait(topic, b"x", key=b"far")
        assert (await producer.send_and_wait(topic, b"x", key=b"ok")).offset == 1


async def test_keys_may_be_ignored(kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=4)
    async with producer_for(kafka, partitioner_ignore_keys=True, batch_size=2_000) as producer:
        deliveries = [producer.send_nowait(topic, bytes(500), key=b"one") for _ in range(400)]
        found = {(await delivery).partition for delivery in deliveries}
    assert found == {0, 1, 2, 3}


async def test_new_partitions_are_used_once_metadata_is_old_enough(kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=1)
    async with producer_for(kafka, metadata_max_age_ms=200, partitioner="round_robin") as producer:
        assert (await producer.send_and_wait(topic, b"x")).partition == 0
        # In a thread: what follows an await of a delivery runs inside the read callback.
        await asyncio.to_thread(add_partitions, kafka, topic, 3)
        async with asyncio.timeout(10):
            while len(await producer.partitions_for(topic)) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        found = {(await producer.send_and_wait(topic, b"x")).partition for _ in range(3)}
    assert found == {0, 1, 2}
