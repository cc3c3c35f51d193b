"""What goes in comes out: every codec, serializer, acks and delivery mode, byte for byte.

On the newest release and on 3.9. The reader shares no code with the producer.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from typing import Any

import pytest

from aioproducer import (
    Delivery,
    KafkaError,
    MessageTooLargeError,
    Producer,
    ProducerConfig,
    ProducerRecord,
    RecordMetadata,
    RecordTooLargeError,
    TopicPartition,
)
from aioproducer.config import CompressionType
from aioproducer.hooks import OnDelivery, SerializerOption
from tests.broker.helpers import producer_for, stored_at
from tests.support.kafka import consume, create_topic
from tools.kafka import Kafka

CODECS: tuple[CompressionType, ...] = ("none", "gzip", "snappy", "lz4", "zstd")


# ---- codecs


@pytest.mark.parametrize("codec", CODECS)
async def test_batches_of_every_codec_are_read_back(broker: Kafka, codec: CompressionType) -> None:
    topic = create_topic(broker, partitions=1)
    chance = random.Random(codec)
    small = [b"a", b"bb", b"ccc"]
    large = [b"%06d" % number + b"kafka " * 160 for number in range(600)]
    incompressible = [chance.randbytes(2_000) for _ in range(200)]
    async with producer_for(broker, compression_type=codec) as producer:
        sent = [await producer.send_many(topic, part) for part in (small, large, incompressible)]
    metadata = [one for part in sent for one in part]
    stored = consume(broker, topic)
    assert [record.value for record in stored] == small + large + incompressible
    assert [one.offset for one in metadata] == list(range(803))


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "none"])
async def test_what_compresses_well_is_sent_compressed(
    broker: Kafka, codec: CompressionType
) -> None:
    topic = create_topic(broker, partitions=1)
    values = [b"%06d" % number + b"kafka " * 160 for number in range(600)]
    async with producer_for(broker, compression_type=codec) as producer:
        await producer.send_many(topic, values)
        assert producer.metrics()["outgoing_byte_total"] < sum(map(len, values)) / 5
    assert [record.value for record in consume(broker, topic)] == values


# ---- serializers

IDENTIFIER = uuid.UUID("7a9b0e52-1f7c-4b0e-9a55-0123456789ab")

SERIALIZED: tuple[tuple[SerializerOption, object, bytes], ...] = (
    ("bytes", b"\x00\xff", b"\x00\xff"),
    ("bytes", bytearray(b"array"), b"array"),
    ("bytes", memoryview(b"view"), b"view"),
    ("string", "Grüße, 世界", "Grüße, 世界".encode()),
    ("integer", -2, b"\xff\xff\xff\xfe"),
    ("long", 2**40, b"\x00\x00\x01\x00\x00\x00\x00\x00"),
    ("short", 258, b"\x01\x02"),
    ("float", 1.5, b"\x3f\xc0\x00\x00"),
    ("double", -2.0, b"\xc0\x00\x00\x00\x00\x00\x00\x00"),
    ("uuid", IDENTIFIER, b"7a9b0e52-1f7c-4b0e-9a55-0123456789ab"),
    (lambda number: b"<%d>" % number, 12, b"<12>"),
)


async def test_keys_and_values_of_every_serializer_are_read_back(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    for serializer, value, _ in SERIALIZED:
        async with producer_for(
            broker, key_serializer=serializer, value_serializer=serializer
        ) as producer:
            await producer.send_and_wait(topic, value, key=value)
    expected = [(data, data) for _, _, data in SERIALIZED]
    assert [(record.key, record.value) for record in consume(broker, topic)] == expected


async def test_json_is_read_back_as_the_same_document(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    document = {"card": "4711", "amount": 12.5, "tags": ["ä", None, True]}
    async with producer_for(broker, value_serializer="json") as producer:
        await producer.send_and_wait(topic, document)
        await producer.send_and_wait(topic, None)
    first, tombstone = consume(broker, topic)
    assert json.loads(first.value or b"") == document
    assert tombstone.value is None


# ---- acks


@pytest.mark.parametrize(
    ("acks", "is_idempotent"), [(0, False), (1, False), ("all", False), ("all", True)]
)
async def test_records_of_every_acks_mode_are_stored_in_order(
    broker: Kafka, acks: Any, is_idempotent: bool
) -> None:
    topic = create_topic(broker, partitions=2)
    values = [b"%d" % number for number in range(2_000)]
    async with producer_for(broker) as producer:
        # A broker may refuse the first record of a new topic, which acks=0 never learns.
        for partition in (0, 1):
            await producer.send_and_wait(topic, b"first", partition=partition)
    async with producer_for(
        broker,
        acks=acks,
        enable_idempotence=is_idempotent,
        # Without idempotence a retry may pass what is in flight.
        max_in_flight_requests_per_connection=5 if is_idempotent else 1,
        batch_size=1_000,
    ) as producer:
        deliveries = [
            await producer.send(topic, value, partition=number % 2)
            for number, value in enumerate(values)
        ]
        metadata = [await delivery for delivery in deliveries]
    stored = consume(broker, topic, len(values) + 2)
    for partition in (0, 1):
        found = [record.value for record in stored if record.partition == partition]
        assert found == [b"first", *values[partition::2]]
    if acks == 0:
        assert {one.offset for one in metadata} == {-1}
    else:
        assert [record.value for record in stored_at(stored, metadata)] == values


# ---- delivery modes


async def test_send_and_wait_returns_where_the_record_is(broker: Kafka) -> None:
    topic = create_topic(broker)
    async with producer_for(broker) as producer:
        metadata = [
            await producer.send_and_wait(topic, b"%d" % number, key=b"%d" % number)
            for number in range(20)
        ]
    assert {one.topic for one in metadata} == {topic}
    found = stored_at(consume(broker, topic), metadata)
    assert [record.value for record in found] == [b"%d" % number for number in range(20)]


async def test_awaiting_deliveries_returns_where_the_records_are(broker: Kafka) -> None:
    topic = create_topic(broker)
    values = [b"%d" % number for number in range(500)]
    async with producer_for(broker) as producer:
        deliveries = [await producer.send(topic, value, key=value) for value in values]
        metadata: list[RecordMetadata] = await asyncio.gather(*deliveries)
        assert [delivery.result() for delivery in deliveries] == metadata
        assert all(delivery.done() and delivery.exception() is None for delivery in deliveries)
    found = stored_at(consume(broker, topic), metadata)
    assert [record.value for record in found] == values


async def test_on_delivery_hears_of_each_record_once_and_in_order(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=2)
    heard: list[tuple[int, RecordMetadata | None, KafkaError | None]] = []

    def listener(number: int) -> OnDelivery:
        return lambda metadata, error: heard.append((number, metadata, error))

    async with producer_for(broker, batch_size=2_000) as producer:
        for number in range(400):
            await producer.send(
                topic, b"%d" % number, partition=number % 2, on_delivery=listener(number)
            )
        await producer.flush()
    assert all(error is None for _, _, error in heard)
    for partition in (0, 1):
        numbers = [number for number, _, _ in heard if number % 2 == partition]
        assert numbers == list(range(partition, 400, 2))
    metadata = [one for _, one, _ in heard if one is not None]
    found = stored_at(consume(broker, topic), metadata)
    assert [record.value for record in found] == [b"%d" % number for number, _, _ in heard]


async def test_fire_and_forget_stores_every_record(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    values = [b"%d" % number for number in range(5_000)]
    async with producer_for(broker) as producer:
        for value in values:
            producer.send_nowait(topic, value)
    assert [record.value for record in consume(broker, topic)] == values


async def test_send_many_returns_results_in_the_order_given(broker: Kafka) -> None:
    topic, other = create_topic(broker), create_topic(broker, partitions=1)
    records: list[bytes | ProducerRecord[bytes, bytes]] = [
        b"plain",
        ProducerRecord(topic, b"keyed", b"key"),
        ProducerRecord(other, b"elsewhere", headers=(("a", b"1"),), timestamp_ms=1_000),
        b"last",
    ]
    async with producer_for(broker) as producer:
        results = await producer.send_many(topic, records)
        assert await producer.send_many(topic, []) == []
    assert [one.topic for one in results] == [topic, topic, other, topic]
    here = stored_at(consume(broker, topic), [results[0], results[1], results[3]])
    assert [(one.key, one.value) for one in here] == [
        (None, b"plain"),
        (b"key", b"keyed"),
        (None, b"last"),
    ]
    (there,) = consume(broker, other)
    assert (there.value, there.headers, there.timestamp_ms) == (b"elsewhere", (("a", b"1"),), 1_000)


async def test_send_many_goes_on_when_the_buffer_is_smaller_than_all_records(
    broker: Kafka,
) -> None:
    topic = create_topic(broker, partitions=1)
    values = [b"%05d" % number + bytes(1_000) for number in range(1_000)]
    async with producer_for(broker, buffer_memory=100_000, batch_size=16_384) as producer:
        results = await producer.send_many(topic, values)
    assert [one.offset for one in results] == list(range(1_000))
    assert [record.value for record in consume(broker, topic)] == values


async def test_done_callbacks_get_the_delivery_of_their_record(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    done: list[Delivery] = []
    async with producer_for(broker) as producer:
        deliveries = [producer.send_nowait(topic, b"%d" % number) for number in range(100)]
        for delivery in deliveries:
            delivery.add_done_callback(done.append)
        await producer.flush()
        assert done == deliveries
        late = deliveries[0]
        late.add_done_callback(done.append)
        await asyncio.sleep(0)
        assert done[-1] is late
    assert [delivery.result().offset for delivery in deliveries] == list(range(100))


async def test_a_callback_that_raises_is_reported_and_harms_nothing(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def broken(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        raise RuntimeError("mine")

    async with producer_for(broker) as producer:
        deliveries = [producer.send_nowait(topic, b"x", on_delivery=broken) for _ in range(3)]
        metadata = [await delivery for delivery in deliveries]
        await asyncio.sleep(0.01)
    assert [one.offset for one in metadata] == [0, 1, 2]
    assert [str(context["exception"]) for context in reported] == ["mine"] * 3


# ---- parts of a record


async def test_headers_keep_order_repeats_nulls_and_unicode_names(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    headers = [
        ("trace", b"1"),
        ("трасса", b"2"),
        ("trace", None),
        ("", b""),
        ("trace", b"\x00\xff"),
    ]
    async with producer_for(broker) as producer:
        await producer.send_and_wait(topic, b"some", headers=headers)
        await producer.send_and_wait(topic, b"none", headers=[])
        await producer.send_and_wait(topic, b"many", headers=[("h", b"v" * 100)] * 300)
    some, none, many = consume(broker, topic)
    assert some.headers == tuple(headers)
    assert none.headers == ()
    assert many.headers == (("h", b"v" * 100),) * 300


async def test_null_and_empty_keys_and_values_stay_apart(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    pairs = [(None, None), (None, b""), (b"", None), (b"", b""), (b"key", None), (None, b"value")]
    async with producer_for(broker) as producer:
        for key, value in pairs:
            await producer.send_and_wait(topic, value, key=key)
    assert [(record.key, record.value) for record in consume(broker, topic)] == pairs


async def test_an_explicit_timestamp_is_stored_and_reported(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    # In one batch: an earlier one after a later one, and the epoch itself.
    timestamps = [1_700_000_000_000, 1_600_000_000_123, 1_700_000_000_001, 0]
    async with producer_for(broker) as producer:
        deliveries = [producer.send_nowait(topic, b"x", timestamp_ms=at) for at in timestamps]
        metadata = [await delivery for delivery in deliveries]
    stored = consume(broker, topic)
    assert [record.timestamp_ms for record in stored] == timestamps
    assert {record.timestamp_type for record in stored} == {"CreateTime"}
    assert [one.timestamp_ms for one in metadata] == timestamps
    assert not any(one.is_log_append_time for one in metadata)


async def test_the_default_timestamp_is_the_time_of_the_call(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    async with producer_for(broker) as producer:
        before = time.time() * 1000
        metadata = await producer.send_and_wait(topic, b"x")
        after = time.time() * 1000
    (stored,) = consume(broker, topic)
    assert stored.timestamp_ms == metadata.timestamp_ms
    # The clock in use may be up to ten milliseconds late.
    assert before - 10 <= metadata.timestamp_ms <= after


async def test_log_append_time_is_the_brokers_and_reported_as_such(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1, config={"message.timestamp.type": "LogAppendTime"})
    async with producer_for(broker) as producer:
        first = producer.send_nowait(topic, b"x", timestamp_ms=1_000)
        second = await producer.send_and_wait(topic, b"y")
        metadata = [await first, second]
    stored = consume(broker, topic)
    assert {record.timestamp_type for record in stored} == {"LogAppendTime"}
    assert [one.timestamp_ms for one in metadata] == [record.timestamp_ms for record in stored]
    assert all(one.is_log_append_time for one in metadata)
    assert metadata[0].timestamp_ms > 1_000


async def test_each_record_gets_its_own_true_offset(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=5)
    chance = random.Random(1)
    values = [b"%d" % number + bytes(chance.randrange(500)) for number in range(3_000)]
    async with producer_for(broker, batch_size=4_096) as producer:
        deliveries = [
            await producer.send(topic, value, partition=chance.randrange(5)) for value in values
        ]
        metadata = [await delivery for delivery in deliveries]
    assert [one.value for one in stored_at(consume(broker, topic), metadata)] == values
    assert len({one.topic_partition for one in metadata}) == 5
    assert metadata[0].topic_partition == TopicPartition(topic, metadata[0].partition)


async def test_a_producer_record_carries_everything(broker: Kafka) -> None:
    # Else the broker deletes a record of 1970 whenever it next looks for old ones.
    topic = create_topic(broker, config={"retention.ms": "-1"})
    record = ProducerRecord(topic, b"v", b"k", 2, [("h", b"1"), ("h", None)], 1_234_567)
    async with producer_for(broker) as producer:
        await producer.send_and_wait(record)
        await (await producer.send(record))
        await producer.send_nowait(record)
    stored = consume(broker, topic)
    assert [one.offset for one in stored] == [0, 1, 2]
    for one in stored:
        assert (one.partition, one.key, one.value) == (2, b"k", b"v")
        assert one.headers == (("h", b"1"), ("h", None))
        assert one.timestamp_ms == 1_234_567


async def test_properties_and_a_config_make_the_same_producer(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    servers = broker.bootstrap_servers
    properties = {"bootstrap.servers": servers, "compression.type": "lz4", "acks": "1"}
    by_properties: Producer[bytes, bytes] = Producer.from_properties(properties)
    by_config: Producer[bytes, bytes] = Producer(ProducerConfig(bootstrap_servers=servers))
    for producer in (by_properties, by_config):
        async with producer:
            await producer.send_and_wait(topic, b"x" * 100)
    assert len(consume(broker, topic)) == 2


# ---- sizes


async def test_values_from_one_byte_to_the_largest_a_broker_takes_are_stored(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1)
    chance = random.Random(2)
    largest = 1_048_576 - 100
    sizes = [1, 2, 63, 64, 8_191, 8_192, 131_000, 131_072, 999_900, 1_000_000, largest, 1]
    values = [chance.randbytes(size) for size in sizes]
    async with producer_for(broker) as producer:
        deliveries = [await producer.send(topic, value) for value in values]
        metadata = [await delivery for delivery in deliveries]
    assert [one.offset for one in metadata] == list(range(len(values)))
    assert [record.value for record in consume(broker, topic)] == values


async def test_a_record_larger_than_a_request_is_refused_at_the_call(
    producer: Producer[bytes, bytes], topic: str
) -> None:
    with pytest.raises(RecordTooLargeError, match=f"{topic}.*max_request_size"):
        producer.send_nowait(topic, bytes(4_194_304))
    assert (await producer.send_and_wait(topic, b"small")).offset == 0


@pytest.mark.parametrize("codec", ["none", "lz4"])
async def test_a_batch_too_large_for_its_topic_is_split_and_stored_in_order(
    broker: Kafka, codec: CompressionType
) -> None:
    topic = create_topic(broker, partitions=1, config={"max.message.bytes": "3000"})
    chance = random.Random(3)
    values = [chance.randbytes(200) for _ in range(100)]
    async with producer_for(broker, compression_type=codec) as producer:
        results = await producer.send_many(topic, values)
        assert producer.metrics()["batch_split_total"] > 0
    stored = consume(broker, topic)
    assert [record.value for record in stored] == values
    assert [one.offset for one in results] == list(range(100))


async def test_a_record_too_large_for_its_topic_fails_alone(broker: Kafka) -> None:
    topic = create_topic(broker, partitions=1, config={"max.message.bytes": "3000"})
    async with producer_for(broker) as producer:
        results = await producer.send_many(
            topic, [b"before", bytes(5_000), b"after"], return_exceptions=True
        )
        again = await producer.send_and_wait(topic, b"again")
    assert isinstance(results[1], MessageTooLargeError)
    assert f"{topic}-0" in str(results[1])
    assert not results[1].possibly_persisted
    assert [record.value for record in consume(broker, topic)] == [b"before", b"after", b"again"]
    assert again.offset == 2
