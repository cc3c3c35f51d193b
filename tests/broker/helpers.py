"""What the tests against a real Kafka share: producers, topics' leaders, and what is in the log."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Unpack

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from aioproducer import BufferExhaustedError, Producer, RecordMetadata
from aioproducer.config import ProducerOptions
from tests.support.kafka import StoredRecord
from tools.kafka import Kafka

__all__ = [
    "add_partitions",
    "buffer_used",
    "delete_topic",
    "fill_buffer",
    "leader_of",
    "new_topic_name",
    "producer_for",
    "stored_at",
    "until",
    "wait_for_brokers",
]


def producer_for(kafka: Kafka, **options: Unpack[ProducerOptions]) -> Producer[Any, Any]:
    """Return a producer, not started, for a Kafka."""
    return Producer(bootstrap_servers=kafka.bootstrap_servers, **options)


def new_topic_name() -> str:
    """Return the name of a topic that does not exist."""
    return f"test-{uuid.uuid4().hex[:12]}"


def buffer_used(producer: Producer[Any, Any]) -> float:
    """Return how many bytes of the record buffer are taken."""
    metrics = producer.metrics()
    return metrics["buffer_total_bytes"] - metrics["buffer_available_bytes"]


def stored_at(
    stored: Iterable[StoredRecord], metadata: Iterable[RecordMetadata]
) -> list[StoredRecord]:
    """Return the stored record that each acknowledgement points to.

    Raises:
        KeyError: There is none at that partition and offset.
    """
    by_place = {(record.partition, record.offset): record for record in stored}
    return [by_place[one.partition, one.offset] for one in metadata]


def fill_buffer(producer: Producer[Any, Any], topic: str, value: bytes, partition: int) -> int:
    """Send without waiting until the buffer is full; return how many records that took."""
    count = 0
    while True:
        try:
            producer.send_nowait(topic, value, partition=partition)
        except BufferExhaustedError:
            return count
        count += 1


async def until(condition: Callable[[], bool], *, within: float) -> None:
    """Wait for a condition that nothing announces.

    Raises:
        TimeoutError: It did not come true within the bound, in seconds.
    """
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def leader_of(kafka: Kafka, topic: str, partition: int = 0) -> int:
    """Return the node that leads a partition now; -1 for none."""
    found = _admin(kafka).list_topics(topic, timeout=10).topics[topic].partitions
    return found[partition].leader


def wait_for_brokers(kafka: Kafka, count: int, *, timeout: float = 30) -> None:
    """Return when the controller takes `count` brokers for alive.

    Raises:
        TimeoutError: It does not within the bound, in seconds.
    """
    admin = _admin(kafka)
    give_up_at = time.monotonic() + timeout
    while len(admin.list_topics(timeout=timeout).brokers) < count:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"no {count} brokers after {timeout} s")
        time.sleep(0.1)


def add_partitions(kafka: Kafka, topic: str, total: int) -> None:
    """Raise the number of a topic's partitions."""
    admin = _admin(kafka)
    created: Mapping[str, Future[None]] = admin.create_partitions(  # pyright: ignore
        [NewPartitions(topic, total)]
    )
    created[topic].result(timeout=10)


def delete_topic(kafka: Kafka, topic: str) -> None:
    """Delete a topic and return when the broker has forgotten its name."""
    admin = _admin(kafka)
    deleted: Mapping[str, Future[None]] = admin.delete_topics([topic])  # pyright: ignore
    deleted[topic].result(timeout=10)
    give_up_at = time.monotonic() + 10
    while topic in admin.list_topics(timeout=10).topics:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"topic {topic} is still there")
        time.sleep(0.02)


def _admin(kafka: Kafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
