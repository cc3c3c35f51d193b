"""Clients that share no code with us: transactional producers, and readers of what they wrote.

librdkafka, kafka-python and aiokafka speak transactions v1. The Java producer, which speaks v2 as
well, is in tests/broker/testing/test_java_producer.py.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from aioproducer.testing import FakeCluster

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what these import is not ours to mend
    aiokafka: Any = importlib.import_module("aiokafka")
    kafka: Any = importlib.import_module("kafka")
    kafka_structs: Any = importlib.import_module("kafka.structs")
    aiokafka_errors: Any = importlib.import_module("aiokafka.errors")
    kafka_errors: Any = importlib.import_module("kafka.errors")

Client: TypeAlias = Callable[[str], Awaitable[None] | None]
Reader: TypeAlias = Callable[[str, str, int], Awaitable[list[bytes]] | list[bytes]]

PLAN = (("a", True), ("b", False), ("c", True))
"""Three transactions of four records, and whether each is committed; the last has an offset too."""
COMMITTED = sorted(b"%c%d" % (name, n) for name in b"ac" for n in range(4))
ALL = sorted(b"%c%d" % (name, n) for name in b"abc" for n in range(4))
READ_LIMIT = 10.0


def values_of(name: str) -> list[tuple[int, bytes]]:
    return [(n % 2, f"{name}{n}".encode()) for n in range(4)]


# Producers.


def librdkafka(servers: str, **more: Any) -> Producer:
    return Producer(
        {"bootstrap.servers": servers, "transactional.id": "tx", "linger.ms": 0, **more}
    )


def produce_with_librdkafka(servers: str) -> None:
    producer = librdkafka(servers)
    producer.init_transactions(10)
    for name, is_committed in PLAN:
        producer.begin_transaction()
        for partition, value in values_of(name):
            producer.produce("t", value, partition=partition)
        if name == "c":
            consumer = Consumer({"bootstrap.servers": servers, "group.id": "g"})
            metadata = consumer.consumer_group_metadata()
            consumer.close()
            producer.send_offsets_to_transaction([TopicPartition("t", 0, 7)], metadata, 10)
        producer.flush(10)
        if is_committed:
            producer.commit_transaction(10)
        else:
            producer.abort_transaction(10)


def produce_with_kafka_python(servers: str) -> None:
    producer = kafka.KafkaProducer(bootstrap_servers=servers, transactional_id="tx")
    try:
        producer.init_transactions()
        for name, is_committed in PLAN:
            producer.begin_transaction()
            for partition, value in values_of(name):
                producer.send("t", value, partition=partition)
            if name == "c":
                offset = kafka_structs.OffsetAndMetadata(7, "", -1)
                offsets = {kafka_structs.TopicPartition("t", 0): offset}
                group = kafka_structs.ConsumerGroupMetadata("g", -1, "", None)
                producer.send_offsets_to_transaction(offsets, group)
            producer.flush()
            if is_committed:
                producer.commit_transaction()
            else:
                producer.abort_transaction()
    finally:
        producer.close()


async def produce_with_aiokafka(servers: str) -> None:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=servers, transactional_id="tx")
    await producer.start()
    try:
        for name, is_committed in PLAN:
            await producer.begin_transaction()
            for partition, value in values_of(name):
                await producer.send_and_wait("t", value, partition=partition)
            if name == "c":
                offsets = {aiokafka.TopicPartition("t", 0): 7}
                await producer.send_offsets_to_transaction(offsets, "g")
            if is_committed:
                await producer.commit_transaction()
            else:
                await producer.abort_transaction()
    finally:
        await producer.stop()


PRODUCERS = [produce_with_librdkafka, produce_with_kafka_python, produce_with_aiokafka]


# Readers.


def read_with_librdkafka(servers: str, isolation: str, count: int) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "reader", "isolation.level": isolation}
    )
    found: list[bytes] = []
    try:
        consumer.assign([TopicPartition("t", index, 0) for index in range(2)])
        while len(found) < count and (message := consumer.poll(READ_LIMIT)) is not None:
            assert message.error() is None
            value = message.value()
            assert isinstance(value, bytes)
            found.append(value)
    finally:
        consumer.close()
    return found


def read_with_kafka_python(servers: str, isolation: str, count: int) -> list[bytes]:
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=servers,
        isolation_level=isolation,
        auto_offset_reset="earliest",
        consumer_timeout_ms=READ_LIMIT * 1000,
    )
    found: list[bytes] = []
    try:
        consumer.assign([kafka_structs.TopicPartition("t", index) for index in range(2)])
        while len(found) < count and (record := next(consumer, None)) is not None:
            found.append(record.value)
    finally:
        consumer.close()
    return found


async def read_with_aiokafka(servers: str, isolation: str, count: int) -> list[bytes]:
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=servers, isolation_level=isolation, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: list[bytes] = []
    try:
        consumer.assign([aiokafka.TopicPartition("t", index) for index in range(2)])
        async with asyncio.timeout(READ_LIMIT):
            while len(found) < count:
                found.append((await consumer.getone()).value)
    finally:
        await consumer.stop()
    return found


READERS = [read_with_librdkafka, read_with_kafka_python, read_with_aiokafka]


async def run(call: Callable[..., Any], *arguments: object) -> Any:
    """Call what blocks in a thread, and await what does not."""
    if inspect.iscoroutinefunction(call):
        return await call(*arguments)
    return await asyncio.to_thread(call, *arguments)


@pytest.mark.parametrize("produce", PRODUCERS)
async def test_a_client_commits_and_aborts(produce: Client) -> None:
    async with FakeCluster(brokers=2, topics={"t": 2}) as cluster:
        await run(produce, cluster.bootstrap_servers)
        stored = cluster.records("t", isolation="read_committed")
        assert sorted(record.value or b"" for record in stored) == COMMITTED
        assert len(cluster.records("t")) == len(ALL)
        assert cluster.committed("g") == {("t", 0): 7}
        cluster.expect_clean()


@pytest.mark.parametrize("produce", PRODUCERS)
async def test_a_client_goes_on_when_its_coordinator_falters(produce: Client) -> None:
    async with FakeCluster(brokers=2, topics={"t": 2}) as cluster:
        cluster.move_coordinator("tx", 1, loading=1)
        cluster.fail_next("add_partitions_to_txn", "CONCURRENT_TRANSACTIONS")
        cluster.fail_next("end_txn", "COORDINATOR_NOT_AVAILABLE")
        cluster.fail_next("add_offsets_to_txn", "NOT_COORDINATOR")
        await run(produce, cluster.bootstrap_servers)
        stored = cluster.records("t", isolation="read_committed")
        assert sorted(record.value or b"" for record in stored) == COMMITTED
        cluster.expect_clean()


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
@pytest.mark.parametrize("read", READERS)
async def test_a_consumer_reads_at_its_isolation_level(read: Reader, isolation: str) -> None:
    async with FakeCluster(brokers=2, topics={"t": 2}) as cluster:
        await run(produce_with_librdkafka, cluster.bootstrap_servers)
        expected = COMMITTED if isolation == "read_committed" else ALL
        found = await run(read, cluster.bootstrap_servers, isolation, len(expected))
        assert sorted(found) == expected


async def test_a_consumer_of_committed_records_waits_for_the_end_of_a_transaction() -> None:
    async with FakeCluster(topics={"t": 2}) as cluster:
        cluster.hold_markers()
        producer = librdkafka(cluster.bootstrap_servers)

        def commit() -> None:
            producer.init_transactions(10)
            producer.begin_transaction()
            producer.produce("t", b"v", partition=0)
            producer.commit_transaction(10)

        await asyncio.to_thread(commit)
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=cluster.bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            consumer.assign([aiokafka.TopicPartition("t", 0)])
            record = asyncio.ensure_future(consumer.getone())
            await cluster.received("fetch", 2)
            assert not record.done()
            cluster.write_markers()
            async with asyncio.timeout(READ_LIMIT):
                assert (await record).value == b"v"
        finally:
            await consumer.stop()


async def test_a_consumer_sees_the_offsets_of_a_transaction_when_it_is_committed() -> None:
    async with FakeCluster(topics={"t": 2}) as cluster:
        await run(produce_with_librdkafka, cluster.bootstrap_servers)
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=cluster.bootstrap_servers, group_id="g", enable_auto_commit=False
        )
        await consumer.start()
        try:
            partitions = [aiokafka.TopicPartition("t", index) for index in range(2)]
            consumer.assign(partitions)
            assert await consumer.committed(partitions[0]) == 7
            assert await consumer.committed(partitions[1]) is None
            await consumer.commit({partitions[1]: 3})
            assert await consumer.committed(partitions[1]) == 3
        finally:
            await consumer.stop()
        assert cluster.committed("g") == {("t", 0): 7, ("t", 1): 3}


async def test_librdkafka_is_fenced_by_a_producer_of_the_same_id() -> None:
    def fence(servers: str) -> bool:
        old, new = librdkafka(servers), librdkafka(servers)
        old.init_transactions(10)
        old.begin_transaction()
        old.produce("t", b"old", partition=0)
        old.flush(10)
        new.init_transactions(10)
        new.begin_transaction()
        new.produce("t", b"new", partition=0)
        new.commit_transaction(10)
        with pytest.raises(KafkaException) as caught:
            old.commit_transaction(10)
        return bool(caught.value.args[0].fatal())

    async with FakeCluster(topics={"t": 2}) as cluster:
        assert await asyncio.to_thread(fence, cluster.bootstrap_servers)
        found = [record.value for record in cluster.records("t", isolation="read_committed")]
        assert found == [b"new"]
        cluster.expect_clean()


async def test_kafka_python_is_fenced_by_a_producer_of_the_same_id() -> None:
    def fence(servers: str) -> None:
        def producer() -> Any:
            return kafka.KafkaProducer(bootstrap_servers=servers, transactional_id="tx")

        old, new = producer(), producer()
        try:
            old.init_transactions()
            old.begin_transaction()
            old.send("t", b"old", partition=0).get(10)
            new.init_transactions()
            new.begin_transaction()
            new.send("t", b"new", partition=0)
            new.commit_transaction()
            with pytest.raises(kafka_errors.KafkaError):
                old.commit_transaction()
        finally:
            old.close(1)
            new.close()

    async with FakeCluster(topics={"t": 2}) as cluster:
        await asyncio.to_thread(fence, cluster.bootstrap_servers)
        found = [record.value for record in cluster.records("t", isolation="read_committed")]
        assert found == [b"new"]
        cluster.expect_clean()


async def test_aiokafka_is_fenced_by_a_producer_of_the_same_id() -> None:
    async with FakeCluster(topics={"t": 2}) as cluster:

        def producer() -> Any:
            return aiokafka.AIOKafkaProducer(
                bootstrap_servers=cluster.bootstrap_servers, transactional_id="tx"
            )

        old, new = producer(), producer()
        try:
            await old.start()
            await old.begin_transaction()
            await old.send_and_wait("t", b"old", partition=0)
            await new.start()
            async with new.transaction():
                await new.send_and_wait("t", b"new", partition=0)
            with pytest.raises(aiokafka_errors.ProducerFenced):
                await old.commit_transaction()
        finally:
            await new.stop()
            await old.stop()
        found = [record.value for record in cluster.records("t", isolation="read_committed")]
        assert found == [b"new"]
        cluster.expect_clean()
