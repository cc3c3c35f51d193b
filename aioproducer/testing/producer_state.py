"""What one partition remembers of the producers that wrote to it. No I/O.

Owns the last batches of each producer id, its open transaction, and the index of aborted ones.
A check raises `BatchRefusedError` and changes nothing. Mirrors ProducerStateManager,
ProducerAppendInfo and TransactionIndex (Kafka 4.3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from aioproducer.testing.batch import MAX_SEQUENCE, BatchHeader
from aioproducer.testing.error_codes import ErrorCode

__all__ = ["BATCHES_REMEMBERED", "Aborted", "BatchRefusedError", "ProducerStates", "Remembered"]

BATCHES_REMEMBERED: Final = 5
"""How many batches of a producer a broker knows again; thus how many may be in flight."""


class BatchRefusedError(Exception):
    """A batch was not stored; carries what the answer says about it."""

    def __init__(
        self,
        code: ErrorCode,
        reason: str,
        *,
        record_errors: Mapping[int, str | None] | None = None,
        told: bool = False,
        reached_log: bool = True,
    ) -> None:
        """Describe the refusal.

        Args:
            code: The error code.
            reason: What is wrong.
            record_errors: What is wrong with single records, by index.
            told: Whether the broker tells the reason; most of the time it tells the code alone.
            reached_log: Whether the batch got as far as the log, so that the answer tells where
                the log starts.
        """
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.record_errors: Mapping[int, str | None] = record_errors or {}
        self.told = told
        self.reached_log = reached_log


class Remembered(NamedTuple):
    """A stored batch, as it is known again."""

    base_sequence: int
    last_sequence: int
    base_offset: int
    timestamp_ms: int
    crc: int


class Aborted(NamedTuple):
    """A transaction in this partition that was aborted."""

    producer_id: int
    first_offset: int
    last_offset: int
    """That of its marker."""


@dataclass(slots=True)
class _Producer:
    epoch: int
    batches: deque[Remembered] = field(
        default_factory=lambda: deque[Remembered](maxlen=BATCHES_REMEMBERED)
    )
    first_offset: int | None = None
    """Where its open transaction begins in this partition."""

    def move_to(self, epoch: int) -> None:
        if self.epoch != epoch:
            self.epoch = epoch
            self.batches.clear()


class _Verification(NamedTuple):
    """What was asked of a producer's transaction before its first batch was stored."""

    epoch: int
    lowest_sequence: int
    v2: bool


class ProducerStates:
    """The producers of one partition."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._producers: dict[int, _Producer] = {}
        self._verifications: dict[int, _Verification] = {}
        self._aborted: list[Aborted] = []

    def clear(self) -> None:
        """Forget everything."""
        self.forget_producers()
        self._aborted = []

    def forget_producers(self) -> None:
        """Forget the producers; an open one's transaction is forgotten with it."""
        self._producers = {}
        self._verifications = {}

    # Transactions.

    @property
    def first_unstable_offset(self) -> int | None:
        """Where the oldest open transaction begins."""
        begun = [producer.first_offset for producer in self._producers.values()]
        return min((offset for offset in begun if offset is not None), default=None)

    def has_open_transaction(self, producer_id: int, epoch: int) -> bool:
        """Return whether a producer has written to this partition in its open transaction."""
        producer = self._producers.get(producer_id)
        return (
            producer is not None and producer.first_offset is not None and producer.epoch == epoch
        )

    def aborted(self, from_offset: int, to_offset: int) -> list[Aborted]:
        """Return the aborted transactions that concern a reader of these offsets."""
        return [
            one
            for one in self._aborted
            if one.last_offset >= from_offset and one.first_offset < to_offset
        ]

    def is_aborted(self, header: BatchHeader) -> bool:
        """Return whether a stored batch is part of an aborted transaction."""
        return header.transactional and any(
            one.producer_id == header.producer_id
            and one.first_offset <= header.base_offset <= one.last_offset
            for one in self._aborted
        )

    def verify(self, header: BatchHeader, *, v2: bool) -> None:
        """Remember that the coordinator is asked about a batch's transaction.

        If it refuses, what follows that batch must not be stored before it (KIP-890).
        """
        known = self._verifications.get(header.producer_id)
        lowest = header.base_sequence
        if known is not None and known.epoch >= header.producer_epoch:
            if known.epoch > header.producer_epoch:
                return
            lowest = min(lowest, known.lowest_sequence)
        self._verifications[header.producer_id] = _Verification(header.producer_epoch, lowest, v2)

    # Batches.

    def duplicate_of(self, header: BatchHeader) -> Remembered | None:
        """Return the stored batch that this one repeats."""
        producer = self._producers.get(header.producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            return None
        wanted = (header.base_sequence, header.last_sequence)
        for known in producer.batches:
            if (known.base_sequence, known.last_sequence) == wanted:
                return known
        return None

    def check(self, header: BatchHeader) -> None:
        """Raise unless a new batch is what its producer must send next."""
        if header.producer_id < 0:
            return
        producer = self._producers.get(header.producer_id)
        if producer is not None and header.producer_epoch < producer.epoch:
            raise BatchRefusedError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"the epoch {header.producer_epoch} of producer {header.producer_id} is behind "
                f"{producer.epoch}, its last one in {self._where}",
            )
        expected = self._expected_sequence(header, producer)
        if expected is not None and header.base_sequence != expected:
            raise BatchRefusedError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {header.producer_id} (epoch {header.producer_epoch}) sent the sequence "
                f"{header.base_sequence} to {self._where}, expected {expected}",
            )
        if producer is not None and producer.first_offset is not None and not header.transactional:
            raise BatchRefusedError(
                ErrorCode.INVALID_TXN_STATE,
                f"producer {header.producer_id} has an open transaction in {self._where}",
            )

    def _expected_sequence(self, header: BatchHeader, producer: _Producer | None) -> int | None:
        """Return the sequence that must come next; None for any."""
        verification = self._verifications.get(header.producer_id)
        if header.transactional and verification is not None:
            if header.base_sequence > verification.lowest_sequence:
                return verification.lowest_sequence
            if producer is None and verification.v2:
                return 0
        if producer is None:
            return None  # A producer that the broker does not know may begin anywhere.
        if header.producer_epoch > producer.epoch or not producer.batches:
            return 0
        last = producer.batches[-1].last_sequence
        return 0 if last == MAX_SEQUENCE else last + 1

    def stored(self, header: BatchHeader, sent_crc: int) -> None:
        """Remember a batch of records that was stored."""
        if header.producer_id < 0:
            return
        producer = self._producers.setdefault(header.producer_id, _Producer(header.producer_epoch))
        producer.move_to(header.producer_epoch)
        producer.batches.append(
            Remembered(
                header.base_sequence,
                header.last_sequence,
                header.base_offset,
                header.max_timestamp_ms,
                sent_crc,
            )
        )
        self._verifications.pop(header.producer_id, None)
        if header.transactional and producer.first_offset is None:
            producer.first_offset = header.base_offset

    def ended(self, header: BatchHeader, *, commit: bool) -> None:
        """Remember the marker that ends a producer's transaction."""
        producer = self._producers.setdefault(header.producer_id, _Producer(header.producer_epoch))
        producer.move_to(header.producer_epoch)
        self._verifications.pop(header.producer_id, None)
        first_offset, producer.first_offset = producer.first_offset, None
        if first_offset is not None and not commit:
            self._aborted.append(Aborted(header.producer_id, first_offset, header.base_offset))
