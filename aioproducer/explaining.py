"""What a caller is told of a batch that failed. Pure functions over a batch and its error.

Called by sender.py once per failed batch. The error that a record raises carries the record's own
story: where, at which broker, after how many attempts, and whether it may be stored all the same.
"""

from __future__ import annotations

from aioproducer._native.record_batch import BATCH_HEADER_SIZE, RecordBatch
from aioproducer.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageTooLargeError,
    ProducerClosedError,
    broker_error,
)
from aioproducer.protocol.produce import PartitionProduceResponse
from aioproducer.records import TopicPartition

__all__ = ["closed_error", "delivery_timeout_error", "record_errors", "with_story"]


def with_story(error: KafkaError, batch: RecordBatch) -> KafkaError:
    """The error of an attempt, as the error of this batch."""
    own = error.again()
    own.topic_partition = TopicPartition(batch.topic, batch.partition)
    own.attempts = batch.attempts
    own.possibly_persisted = batch.possibly_persisted
    if isinstance(own, MessageTooLargeError):
        own.size = BATCH_HEADER_SIZE + batch.records_size
        if batch.is_compressed:
            own.compressed_size = BATCH_HEADER_SIZE + batch.payload_size
    return own


def delivery_timeout_error(
    batch: RecordBatch,
    *,
    waited: float,
    broker: str | None,
    broker_said: KafkaError | None,
    connect_error: KafkaError | None,
    throttled_for: float,
) -> KafkaTimeoutError:
    """The error of a batch whose `delivery_timeout_ms` are over.

    Args:
        batch: The batch.
        waited: The timeout in seconds.
        broker: The partition's leader; None if it has none.
        broker_said: What a broker said of the topic last, where the batch had no answer.
        connect_error: Why the leader could not be reached last.
        throttled_for: How many seconds more the leader wants nothing from this client.
    """
    if not batch.attempts:
        state = "it was never sent"
    elif batch.is_in_flight:
        state = "it was sent, and not answered yet"
    else:
        state = "it was to be sent again"
    if broker is None:
        state += ", and its partition has no leader"
    throttled = f"The broker throttles this client for {throttled_for:.3g} s more"
    return KafkaTimeoutError(
        throttled if throttled_for else "",
        waited=waited,
        waiting_for=f"the record to be stored (delivery_timeout_ms): {state}",
        last_broker_error=batch.last_error or broker_said,
        last_connect_error=connect_error,
        topic_partition=TopicPartition(batch.topic, batch.partition),
        broker=broker,
        attempts=batch.attempts,
        possibly_persisted=batch.possibly_persisted,
    )


def closed_error(batch: RecordBatch) -> ProducerClosedError:
    """The error of a batch that `close` gave up on."""
    return ProducerClosedError(
        "The producer was closed before the record was delivered",
        topic_partition=TopicPartition(batch.topic, batch.partition),
        attempts=batch.attempts,
        possibly_persisted=batch.is_in_flight or batch.possibly_persisted,
    )


def record_errors(
    error: KafkaError, answer: PartitionProduceResponse | None
) -> dict[int, KafkaError] | None:
    """Tell the refused records of a batch from those that went down with it (KIP-467).

    Returns the errors of the refused ones by index, and makes `error` name them to the others.
    """
    if answer is None or not answer.record_errors:
        return None
    guilty = {entry.batch_index: entry.batch_index_error_message for entry in answer.record_errors}
    named: dict[int, KafkaError] = {}
    for index, message in guilty.items():
        own = error.again()
        # Through this for its bounds: it is a text of the broker's, too.
        said = broker_error(answer.error_code, message or error.message).message
        own.message = f"{said or error.what()} (record {index} of its batch)"
        named[index] = own
    listed = ", ".join(str(index) for index in sorted(guilty)[:10])
    error.message = (
        f"The record was refused together with record {listed} of its batch: "
        f"{error.what().rstrip('. ')}"
    )
    return named
