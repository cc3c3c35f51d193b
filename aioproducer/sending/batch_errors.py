"""The error that a caller gets for a batch that failed. Pure functions over a batch and its error.

The error of a record has its context: which partition and broker, after how many attempts, and
whether the record may be stored all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from aioproducer._native.record_batch import BATCH_HEADER_SIZE, RecordBatch
from aioproducer.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageTooLargeError,
    ProducerClosedError,
    TransactionAbortedError,
    broker_error,
)
from aioproducer.errors.base import seconds
from aioproducer.protocol.produce import PartitionProduceResponse
from aioproducer.records import TopicPartition

__all__ = [
    "about_batch",
    "closed_error",
    "delivery_timeout_error",
    "dropped_error",
    "never_sent",
    "refused_records",
    "refused_together",
]


def about_batch(error: KafkaError, batch: RecordBatch) -> KafkaError:
    """The error of an attempt, with the context of this batch."""
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
    bound: str,
    broker: str | None,
    broker_said: KafkaError | None,
    connect_error: KafkaError | None,
    producer_id_error: KafkaError | None,
    throttled_for: float,
) -> KafkaTimeoutError:
    """The error of a batch that was not stored in time.

    Args:
        batch: The batch.
        waited: How long it waited, in seconds.
        bound: What ended the wait: an option, or the timeout of a call.
        broker: The partition's leader; None if it has none.
        broker_said: The last error of the topic, for a batch that had no response.
        connect_error: Why the last attempt to connect to the leader failed.
        producer_id_error: Why there is no producer id, if there is none.
        throttled_for: How many seconds more the leader throttles this client.
    """
    if not batch.attempts:
        state = "it was never sent"
    elif batch.is_in_flight:
        state = "it was sent, and not answered yet"
    else:
        state = "it was to be sent again"
    if broker is None:
        state += ", and its partition has no leader"
    if producer_id_error is not None and not batch.attempts:
        state += ", since no producer id could be had"
    throttled = f"The broker throttles this client for {seconds(throttled_for)} more"
    return KafkaTimeoutError(
        throttled if throttled_for else "",
        waited=waited,
        waiting_for=f"the record to be stored ({bound}): {state}",
        last_broker_error=batch.last_error or producer_id_error or broker_said,
        last_connect_error=connect_error,
        topic_partition=TopicPartition(batch.topic, batch.partition),
        broker=broker,
        attempts=batch.attempts,
        possibly_persisted=batch.possibly_persisted,
        hint=None if connect_error is None else connect_error.hint,
    )


def dropped_error(cause: KafkaError | None) -> TransactionAbortedError:
    """The error of a record that was not sent before its transaction was aborted, or failed."""
    why = "" if cause is None else f", which failed: {cause.what().rstrip('. ')}"
    error = TransactionAbortedError(
        f"The record was dropped with its transaction{why}", possibly_persisted=False
    )
    error.__cause__ = cause
    if cause is not None:
        error.requires_abort, error.fatal = cause.requires_abort, cause.fatal
    return error


def never_sent(error: KafkaError) -> KafkaError:
    """Add to the error of a record with a deadline that it was withdrawn."""
    error.hint = f"{error.hint} It will not be sent any more: it can be sent again.".strip()
    return error


def closed_error(batch: RecordBatch) -> ProducerClosedError:
    """The error of a batch that `close` gave up on."""
    return ProducerClosedError(
        "The producer was closed before the record was delivered",
        topic_partition=TopicPartition(batch.topic, batch.partition),
        attempts=batch.attempts,
        possibly_persisted=batch.is_in_flight or batch.possibly_persisted,
    )


def refused_records(
    error: KafkaError, batch: RecordBatch, response: PartitionProduceResponse
) -> dict[int, KafkaError]:
    """The errors of the records that the broker refused, by their index in the batch (KIP-467)."""
    refused: dict[int, KafkaError] = {}
    for entry in response.record_errors:
        index = entry.batch_index
        if not 0 <= index < batch.record_count:
            continue
        own = about_batch(error, batch)
        # Only for its text: `broker_error` bounds what a broker wrote.
        text = broker_error(response.error_code, entry.batch_index_error_message or error.message)
        own.message = f"{text.message or error.what()} (record {index} of its batch)"
        refused[index] = own
    return refused


def refused_together(error: KafkaError, batch: RecordBatch, refused: Sequence[int]) -> KafkaError:
    """The error of the records that could not be sent again without the refused ones."""
    own = about_batch(error, batch)
    listed = ", ".join(str(index) for index in refused[:10])
    own.message = (
        f"The record was refused together with record {listed} of its batch: "
        f"{error.what().rstrip('. ')}"
    )
    return own
