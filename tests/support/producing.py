"""A producer against FakeCluster, with short timeouts, and what must hold after every test.

`producing` opens it and, when the test is over, checks that nothing is left in its buffer and that
the brokers saw nothing a correct producer never does. The other functions read what the cluster
has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Unpack

from aioproducer import Delivery, KafkaError, Producer, RecordMetadata
from aioproducer.config import ProducerOptions
from aioproducer.sending.sender import Sender
from aioproducer.testing import FakeCluster, FakeRequest, SentBatch

TOPIC: Final = "payments"

FAST: Final[ProducerOptions] = {
    "max_block_ms": 2_000,
    "request_timeout_ms": 2_000,
    "delivery_timeout_ms": 5_000,
    "retry_backoff_ms": 4,
    "retry_backoff_max_ms": 16,
    "reconnect_backoff_ms": 4,
    "reconnect_backoff_max_ms": 16,
}


def fast(**more: Unpack[ProducerOptions]) -> ProducerOptions:
    """Return `FAST` with more options, or others."""
    return {**FAST, **more}


RECORD_BY_RECORD: Final[ProducerOptions] = {**FAST, "batch_size": 0}
"""Each record is a batch of its own, and so a request."""


@asynccontextmanager
async def producing(
    cluster: FakeCluster, options: ProducerOptions = FAST, **more: Unpack[ProducerOptions]
) -> AsyncGenerator[Producer[Any, Any], None]:
    """Open a producer; close it and see that it left nothing behind."""
    merged: ProducerOptions = {**options, **more}
    producer: Producer[Any, Any] = Producer(bootstrap_servers=cluster.bootstrap_servers, **merged)
    await producer.start()
    try:
        yield producer
    except BaseException:
        await producer.close(0)
        raise
    await producer.close(5)
    expect_nothing_left(producer)
    cluster.expect_clean()


def expect_nothing_left(producer: Producer[Any, Any]) -> None:
    """See that a closed producer gave all memory back and keeps nobody waiting."""
    left = sender_of(producer).metrics()
    assert left["buffer_available_bytes"] == left["buffer_total_bytes"]
    assert left["requests_in_flight"] == 0
    assert left["waiting_callers"] == 0
    finished = left["record_delivered_total"] + left["record_error_total"]
    assert finished == left["record_accepted_total"]


def sender_of(producer: Producer[Any, Any]) -> Sender:
    """Return what sends the records of a producer that was started."""
    sender = producer._sender  # pyright: ignore[reportPrivateUsage]
    assert isinstance(sender, Sender)
    return sender


async def prove(producer: Producer[Any, Any], partition: int = 0, topic: str = TOPIC) -> None:
    """Have one record stored, so that the partition's leader is known and pipelining begins."""
    await producer.send_and_wait(topic, b"first", partition=partition)


def values(cluster: FakeCluster, topic: str = TOPIC, partition: int | None = None) -> list[bytes]:
    """Return the values that are stored, in the order of their offsets."""
    return [record.value or b"" for record in cluster.records(topic, partition)]


def sent(cluster: FakeCluster, partition: int = 0, topic: str = TOPIC) -> list[SentBatch]:
    """Return the batches of one partition in the order in which the brokers got them."""
    return [
        batch
        for request in cluster.requests_of("produce")
        for batch in request.batches
        if (batch.topic, batch.partition) == (topic, partition)
    ]


def sequences(cluster: FakeCluster, partition: int = 0) -> list[tuple[int, int]]:
    """Return epoch and base sequence of each batch of one partition, as the brokers got them."""
    return [(batch.producer_epoch, batch.base_sequence) for batch in sent(cluster, partition)]


def watch_in_flight(cluster: FakeCluster, producer: Producer[Any, Any]) -> list[int]:
    """Write down how many requests are unanswered each time a broker turns to one."""
    seen: list[int] = []

    def look(request: FakeRequest) -> None:
        if request.api == "produce":
            seen.append(int(producer.metrics()["requests_in_flight"]))

    cluster.on_request(look)
    return seen


async def outcome(delivery: Delivery) -> RecordMetadata | KafkaError:
    """Return what became of a record, the error too."""
    try:
        metadata: RecordMetadata = await delivery
    except KafkaError as error:
        return error
    return metadata


async def failure(delivery: Delivery) -> KafkaError:
    """Return the error of a record that must fail."""
    result = await outcome(delivery)
    assert isinstance(result, KafkaError), result
    return result


async def until(condition: Callable[[], object]) -> None:
    """Wait for what nothing announces; the test's own time limit bounds it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
