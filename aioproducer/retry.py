"""Decides what to do after a failed attempt. Owns no state and does no I/O.

Called by sender.py once per failed batch, and by cluster.py for the delay before the next
connection or metadata request. Mirrors the classes of org.apache.kafka.common.protocol.Errors
(4.3), which stand as flags on the error classes. A code we do not know is not retriable: it may
mean that the record was written.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from aioproducer.errors import (
    DuplicateSequenceNumberError,
    InvalidProducerEpochError,
    KafkaError,
    MessageTooLargeError,
    OutOfOrderSequenceNumberError,
    UnknownProducerIdError,
)

__all__ = ["Step", "backoff", "next_step"]


class Step(enum.Enum):
    """What happens to a batch whose attempt failed."""

    COMPLETE = enum.auto()
    """The broker has the batch already: success without an offset."""

    RETRY = enum.auto()
    """Send it again, under the same sequence number."""

    RESTART = enum.auto()
    """The broker lost track of the sequence: a new epoch, then send it again from 0 (KIP-360)."""

    SPLIT = enum.auto()
    """Too large for the broker as a whole: send it in smaller batches (KIP-126)."""

    FAIL = enum.auto()
    """Give up and tell the caller."""


def next_step(
    error: KafkaError, *, is_next_in_sequence: bool, record_count: int, may_retry: bool
) -> Step:
    """Choose the step after one failed attempt of one batch.

    Args:
        error: What the broker or the network said.
        is_next_in_sequence: Everything before this batch in its partition was acknowledged. A
            later batch is out of order only because an earlier one is on its way again.
        record_count: How many records the batch holds.
        may_retry: `retries` and `delivery_timeout_ms` leave room for another attempt.
    """
    if isinstance(error, DuplicateSequenceNumberError):
        return Step.COMPLETE
    if isinstance(error, MessageTooLargeError):
        return Step.SPLIT if record_count > 1 and may_retry else Step.FAIL
    if not may_retry:
        return Step.FAIL
    if isinstance(error, (OutOfOrderSequenceNumberError, UnknownProducerIdError)):
        return Step.RESTART if is_next_in_sequence else Step.RETRY
    if isinstance(error, InvalidProducerEpochError):
        return Step.FAIL
    return Step.RETRY if error.retriable else Step.FAIL


def backoff(failures: int, *, base: float, maximum: float, random: Callable[[], float]) -> float:
    """The delay after `failures` failures in a row (KIP-580).

    Args:
        failures: 1 for the first failure.
        base: The first delay.
        maximum: The longest delay.
        random: Returns a number in [0, 1); spreads the delay by 20 % either way.

    Returns:
        The delay, in the unit of `base`.
    """
    exponential = base * 2.0 ** min(failures - 1, 30)
    return min(maximum, min(maximum, exponential) * (0.8 + 0.4 * random()))
