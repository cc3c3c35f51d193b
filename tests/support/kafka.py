"""Topics on a real Kafka, and an independent reader of its log.

Called by the broker tests. The reader is librdkafka, which shares no code with the producer: what
it returns is what the broker stored. It joins no group and commits nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tools.kafka import Kafka

__all__ = ["StoredRecord", "TimestampType", "consume", "create_all", "create_topic", "end_offsets"]

TimestampType = Literal["CreateTime", "LogAppendTime"]
Isolation = Literal["read_uncommitted", "read_committed"]
_STARTING = (KafkaError.NOT_CONTROLLER, KafkaError.INVALID_REPLICA_ASSIGNMENT)
"""Said of new topics while a controller is elected, or a broker is not yet let in by it."""
_LAST_OF_BROKERS = KafkaError.UNKNOWN
"""Codes below are librdkafka's own: no broker answered, as its client understood it."""
_TIMESTAMP_TYPES: Mapping[int, TimestampType] = {
    TIMESTAMP_CREATE_TIME: "CreateTime",
    TIMESTAMP_LOG_APPEND_TIME: "LogAppendTime",
}


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it stands in the log."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int
    timestamp_type: TimestampType | None


def create_all(kafka: Kafka, new: Sequence[NewTopic], *, timeout: float) -> AdminClient:
    """Create topics; a cluster that has just started is asked again until it can.

    Raises:
        KafkaException: The broker refused.
        TimeoutError: They could not be created within the bound.
    """
    give_up_at = time.monotonic() + timeout
    left = {one.topic: one for one in new}
    is_first = True
    while True:
        # One that asked a broker without a controller goes on asking it: each try has its own.
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        # Its stub names `Future` without saying of what.
        created: Mapping[str, Future[None]] = admin.create_topics(  # pyright: ignore
            list(left.values()), request_timeout=timeout / 3
        )
        for topic in list(left):
            try:
                created[topic].result()
            except KafkaException as error:
                code = error.args[0].code()
                if code in _STARTING or code < _LAST_OF_BROKERS:
                    continue
                # An earlier try that had no answer was carried out all the same.
                if is_first or code != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            del left[topic]
        if not left:
            return admin
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{', '.join(left)} could not be created within {timeout} s")
        is_first = False
        time.sleep(0.1)


def _has_answered(kafka: Kafka, topic: str, *, timeout: float) -> bool:
    """Whether every leader knows that it is one; the metadata says so some milliseconds before."""
    try:
        end_offsets(kafka, topic, timeout=timeout)
    except KafkaException:
        return False
    return True


def create_topic(
    kafka: Kafka,
    *,
    partitions: int = 3,
    config: Mapping[str, str] | None = None,
    replication_factor: int = -1,
    name: str | None = None,
    timeout: float = 15,
) -> str:
    """Create a topic with a name of its own and return the name once every leader answers.

    Args:
        kafka: Where.
        partitions: How many.
        config: Topic options by Kafka's names. Nothing is deleted by its age: a broker looks 30 s
            after its start, and with a segment it forgets the producers that wrote to it.
        replication_factor: -1 is the broker's default: 1 alone, 3 on three brokers.
        name: A name instead of a made-up one.
        timeout: The bound of the whole call, in seconds.

    Raises:
        KafkaException: The broker refused.
        TimeoutError: No leader within the bound.
    """
    topic = name or f"test-{uuid.uuid4().hex[:12]}"
    give_up_at = time.monotonic() + timeout
    options = {"retention.ms": "-1", **(config or {})}
    new = NewTopic(topic, partitions, replication_factor, config=options)
    admin = create_all(kafka, [new], timeout=timeout)
    while True:
        found = admin.list_topics(topic, timeout=timeout).topics[topic].partitions
        if (
            len(found) == partitions
            and all(one.leader >= 0 for one in found.values())
            and _has_answered(kafka, topic, timeout=timeout)
        ):
            return topic
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"topic {topic} has no leaders after {timeout} s")
        time.sleep(0.02)


def end_offsets(
    kafka: Kafka, topic: str, *, timeout: float = 15, isolation: Isolation = "read_uncommitted"
) -> dict[int, int]:
    """Return the offset after the last record of each partition, by partition.

    For `read_committed`, that is the first record of the oldest open transaction, if there is one.
    """
    with _consumer(kafka, isolation=isolation) as consumer:
        offsets: dict[int, int] = {}
        for partition in _partitions(consumer, topic, timeout):
            _, offsets[partition] = consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=timeout, cached=False
            )
        return offsets


def consume(
    kafka: Kafka,
    topic: str,
    count: int | None = None,
    *,
    timeout: float = 15,
    isolation: Isolation = "read_uncommitted",
) -> list[StoredRecord]:
    """Read a topic from its start, in order of partition and offset.

    Args:
        kafka: Where.
        topic: What.
        count: Wait for this many records at least; None reads to the present end. To be given
            after a broker was away: until its followers have caught up, a new leader (or an old
            one that has not heard of it) says that the end is earlier than it is.
        timeout: The bound of the whole call, in seconds.
        isolation: `read_committed` leaves out aborted and open transactions.

    Raises:
        TimeoutError: The end, or `count`, was not reached within the bound.
    """
    give_up_at = time.monotonic() + timeout
    records: list[StoredRecord] = []
    with _consumer(kafka, isolation=isolation) as consumer:
        unread = set(_partitions(consumer, topic, timeout))
        consumer.assign([TopicPartition(topic, one, OFFSET_BEGINNING) for one in unread])
        while unread if count is None else len(records) < count:
            if time.monotonic() > give_up_at:
                raise TimeoutError(
                    f"read {len(records)} records of {topic} in {timeout} s, "
                    f"wanted {'all' if count is None else count}"
                )
            for message in consumer.consume(10_000, timeout=0.05):
                error = message.error()
                if error is None:
                    records.append(_stored(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(_known(message.partition()))
                else:
                    raise KafkaException(error)
    return sorted(records, key=lambda record: (record.partition, record.offset))


@contextmanager
def _consumer(kafka: Kafka, isolation: Isolation = "read_uncommitted") -> Generator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": "reader-without-a-group",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": isolation,
            "allow.auto.create.topics": False,
            "check.crcs": True,
            "fetch.wait.max.ms": 20,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _partitions(consumer: Consumer, topic: str, timeout: float) -> list[int]:
    found = consumer.list_topics(topic, timeout=timeout).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return list(found.partitions)


def _stored(message: Message) -> StoredRecord:
    timestamp_type, timestamp_ms = message.timestamp()
    return StoredRecord(
        partition=_known(message.partition()),
        offset=_known(message.offset()),
        key=message.key(),
        value=message.value(),
        headers=_headers(message),
        timestamp_ms=timestamp_ms,
        timestamp_type=_TIMESTAMP_TYPES.get(timestamp_type),
    )


def _headers(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    # Typed for what a producer may give as well: a dict, and str values.
    found = message.headers() or []
    assert not isinstance(found, dict)
    return tuple((name, None if value is None else _raw(value)) for name, value in found)


def _raw(value: str | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def _known(number: int | None) -> int:
    assert number is not None
    return number
