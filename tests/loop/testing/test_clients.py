"""Clients that share no code with us produce to FakeCluster, and read back what it holds."""

from __future__ import annotations

import asyncio
import importlib
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from aioproducer.testing import FakeCluster

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what kafka-python imports is not ours to mend
    kafka: Any = importlib.import_module("kafka")

COUNT = 300
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
EXPECTED = sorted((b"k%d" % (n % 7), b"v%d" % n) for n in range(COUNT))


def produce_with_librdkafka(servers: str, config: Mapping[str, Any]) -> list[str]:
    """Return the errors."""
    errors: list[str] = []

    def on_delivery(error: object, message: Message) -> None:
        if error is not None:
            errors.append(str(error))

    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, **config})
    for n in range(COUNT):
        producer.produce("t", b"v%d" % n, key=b"k%d" % (n % 7), on_delivery=on_delivery)
    left = producer.flush(15)
    return [*errors, *(["not flushed"] if left else [])]


def produce_with_kafka_python(servers: str, config: Mapping[str, Any]) -> list[int]:
    """Return the offsets."""
    producer: Any = kafka.KafkaProducer(bootstrap_servers=servers, linger_ms=20, **config)
    try:
        sent = [producer.send("t", b"v%d" % n, key=b"k%d" % (n % 7)) for n in range(COUNT)]
        return [future.get(15).offset for future in sent]
    finally:
        producer.close()


def read_with_librdkafka(servers: str, partitions: int) -> list[tuple[int | None, bytes, bytes]]:
    """Return offset, key and value of all records."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "g"})
    consumer.assign([TopicPartition("t", index, 0) for index in range(partitions)])
    found: list[tuple[int | None, bytes, bytes]] = []
    try:
        while len(found) < COUNT and (message := consumer.poll(10)) is not None:
            assert message.error() is None
            key, value = message.key(), message.value()
            assert isinstance(key, bytes) and isinstance(value, bytes)
            found.append((message.offset(), key, value))
    finally:
        consumer.close()
    return found


def stored(cluster: FakeCluster) -> list[tuple[bytes | None, bytes | None]]:
    return sorted((record.key or b"", record.value or b"") for record in cluster.records("t"))


@pytest.mark.parametrize("codec", CODECS)
async def test_librdkafka_produces_with_each_codec_and_reads_it_back(codec: str) -> None:
    async with FakeCluster(brokers=3, topics={"t": 6}) as cluster:
        servers = cluster.bootstrap_servers
        config = {"compression.type": codec}
        assert await asyncio.to_thread(produce_with_librdkafka, servers, config) == []
        assert stored(cluster) == EXPECTED
        # librdkafka sends a batch as it is that compression would make larger.
        assert codec in {record.compression for record in cluster.records("t")} <= {codec, "none"}
        found = await asyncio.to_thread(read_with_librdkafka, servers, 6)
        assert sorted(found) == sorted(
            (record.offset, record.key or b"", record.value or b"")
            for record in cluster.records("t")
        )
        cluster.expect_clean()


@pytest.mark.parametrize("version", [7, 9, 13])
async def test_librdkafka_produces_as_an_idempotent_producer_under_fire(version: int) -> None:
    async with FakeCluster(
        brokers=2, topics={"t": 2}, max_versions={"produce": version}
    ) as cluster:
        cluster.fail_next("produce", 6, count=2)
        cluster.cut_next("produce", when="after")
        cluster.fail_next("produce", 7, stored=True)
        errors = await asyncio.to_thread(
            produce_with_librdkafka,
            cluster.bootstrap_servers,
            {"enable.idempotence": True, "batch.num.messages": 20, "retry.backoff.ms": 10},
        )
        assert errors == []
        assert stored(cluster) == EXPECTED
        for partition in range(2):
            sequences = [record.sequence for record in cluster.records("t", partition)]
            assert sequences == list(range(len(sequences)))
        cluster.expect_clean()


@pytest.mark.parametrize("codec", CODECS)
async def test_kafka_python_produces_with_each_codec(codec: str) -> None:
    async with FakeCluster(brokers=2, topics={"t": 2}) as cluster:
        config = {"compression_type": None if codec == "none" else codec}
        offsets = await asyncio.to_thread(
            produce_with_kafka_python, cluster.bootstrap_servers, config
        )
        assert sorted(offsets) == sorted(record.offset for record in cluster.records("t"))
        assert stored(cluster) == EXPECTED
        # So does kafka-python: a batch is sent as it is that compression would make larger.
        assert codec in {record.compression for record in cluster.records("t")} <= {codec, "none"}
        cluster.expect_clean()


async def test_a_client_makes_its_topic_by_asking_for_it() -> None:
    async with FakeCluster(default_partitions=4) as cluster:
        errors = await asyncio.to_thread(produce_with_librdkafka, cluster.bootstrap_servers, {})
        assert errors == []
        assert stored(cluster) == EXPECTED
        assert {record.partition for record in cluster.records("t")} <= set(range(4))
