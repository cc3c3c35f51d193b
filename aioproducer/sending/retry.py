"""Decides what to do after a failed attempt. Owns no state and does no I/O.

Mirrors the classes of org.apache.kafka.common.protocol.Errors (4.3), which are flags on the error
classes. An unknown code is not retriable: it may mean that the record was stored.
"""

from __future__ import annotations

import enum

from aioproducer.errors import (
    DuplicateSequenceNumberError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    KafkaError,
    MessageTooLargeError,
    OutOfOrderSequenceNumberError,
    UnknownProducerIdError,
)

__all__ = ["Step", "next_step"]


class Step(enum.Enum):
    """What happens to a batch whose attempt failed."""

    COMPLETE = enum.auto()
    """The broker has the batch already: success without an offset."""

    RETRY = enum.auto()
    """Send it again, under the same sequence."""

    RESTART = enum.auto()
    """The broker lost the sequence: send it again from 0 under a new epoch (KIP-360)."""

    NEW_ID = enum.auto()
    """The broker does not take this producer id any more: send it again under another."""

    REFUSE_SOME = enum.auto()
    """The broker named the records that it refuses: fail these, send the others again (KIP-467)."""

    SPLIT = enum.auto()
    """Too large for the broker as a whole: send it in smaller batches (KIP-126)."""

    FAIL = enum.auto()
    """Give up: the caller gets the error."""


def next_step(
    error: KafkaError,
    *,
    is_next_in_sequence: bool,
    is_outcome_unknown: bool,
    is_behind_acknowledged: bool,
    record_count: int,
    names_records: bool,
    refusals_at_zero: int,
    may_retry: bool,
    is_transactional: bool = False,
    must_abort: bool = False,
) -> Step:
    """Choose the step after one failed attempt of one batch.

    Args:
        error: What the broker or the network said.
        is_next_in_sequence: Everything before this batch in its partition was acknowledged. A
            later batch is out of order only because an earlier one is retried.
        is_outcome_unknown: An attempt may have stored the batch under its sequence.
        is_behind_acknowledged: A batch with a higher sequence was acknowledged. A broker stores in
            order of the sequences, so this one is stored if its outcome is unknown; but it
            remembers only the last five batches and calls an earlier one out of order.
        record_count: How many records the batch holds.
        names_records: The broker named the records that it refuses.
        refusals_at_zero: How often in a row a broker has refused sequence 0 of an epoch.
        may_retry: `retries` and `delivery_timeout_ms` allow another attempt.
        is_transactional: A lost sequence ends the transaction, and no epoch is begun for it.
        must_abort: The transaction will be aborted: a batch that the broker surely refused is not
            sent again. One whose outcome is unknown is: it must not arrive after the abort.
    """
    if isinstance(error, DuplicateSequenceNumberError):
        return Step.COMPLETE
    is_refused = isinstance(error, MessageTooLargeError) or (names_records and not error.retriable)
    if is_refused and is_outcome_unknown:
        # A broker checks before it looks for duplicates. If it has the batch, it would not know the
        # parts of it for that.
        return Step.FAIL
    if isinstance(error, MessageTooLargeError):
        return Step.SPLIT if record_count > 1 and may_retry else Step.FAIL
    if is_refused:
        return Step.REFUSE_SOME
    is_sequence_error = isinstance(error, (OutOfOrderSequenceNumberError, UnknownProducerIdError))
    if is_sequence_error and is_outcome_unknown and is_behind_acknowledged:
        return Step.COMPLETE
    if not may_retry or (must_abort and not error.possibly_persisted):
        return Step.FAIL
    if is_sequence_error:
        if not is_next_in_sequence:
            return Step.RETRY
        if is_transactional:
            return Step.FAIL
        # A broker that lost its state may expect anything, and refuse every new epoch of the id.
        return Step.RESTART if refusals_at_zero <= 1 else Step.NEW_ID
    if isinstance(error, (InvalidProducerIdMappingError, InvalidProducerEpochError)):
        # Under another id the broker would store a batch again that it has already.
        return Step.FAIL if is_outcome_unknown or is_transactional else Step.NEW_ID
    return Step.RETRY if error.retriable else Step.FAIL
