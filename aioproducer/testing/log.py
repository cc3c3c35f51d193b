"""The log of one partition: checks a batch as a 4.3 leader does, stores it, remembers producers.

Called by the Produce, Fetch and ListOffsets handlers and by FakeCluster, on the loop. A batch is
kept as it came, with a new header; its records are parsed when somebody asks. `append` either
stores the whole batch or raises `BatchRefusedError` and changes nothing.

The order of the checks is that of UnifiedLog.analyzeAndValidateRecords, LogValidator and
ProducerAppendInfo (Kafka 4.3).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from aioproducer.testing.batch import (
    HEADER_SIZE,
    BatchHeader,
    FakeRecord,
    TimestampType,
    checksum,
    is_commit,
    marker_batch,
    records_of,
)
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.producer_state import BatchRefusedError, ProducerStates
from aioproducer.testing.transaction_values import Marker
from aioproducer.testing.wire import WireError

__all__ = [
    "Appended",
    "BatchRefusedError",
    "Isolation",
    "LogLimits",
    "PartitionLog",
    "StoredBatch",
]

Isolation: TypeAlias = Literal["read_uncommitted", "read_committed"]
"""What a reader sees of transactions, as a consumer's `isolation.level`."""

_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8
_MAGIC_AT: Final = 16
_MIN_LENGTH: Final = 14
"""The least length that a record or batch of any magic can have."""


@dataclass(frozen=True, slots=True)
class LogLimits:
    """What a topic's configuration says about its batches."""

    message_max_bytes: int = 1_048_588
    timestamp_type: TimestampType = "CreateTime"
    compacted: bool = False
    timestamp_after_max_ms: int = 3_600_000


class StoredBatch(NamedTuple):
    """A batch in the log: the header as stored, its bytes, and the bytes behind it."""

    header: BatchHeader
    header_bytes: bytes
    body: memoryview
    sent_crc: int
    """The CRC as the producer sent it; LogAppendTime changes the one in the header."""

    @property
    def next_offset(self) -> int:
        """The offset after the batch's last record."""
        return self.header.base_offset + self.header.record_count


class Appended(NamedTuple):
    """What a stored batch is answered with."""

    base_offset: int
    log_append_time_ms: int
    """-1 if the records keep the producer's timestamps."""
    duplicate: bool
    reused_sequence: bool = False
    """Whether a duplicate's bytes differ from those stored: records are lost, unseen."""


class PartitionLog:
    """The batches of one partition and the state of the producers that wrote them."""

    def __init__(self, topic: str, partition: int, limits: LogLimits) -> None:
        self.topic = topic
        self.partition = partition
        self.limits = limits
        self.start_offset = 0
        self.next_offset = 0
        self.producers = ProducerStates(f"{topic}-{partition}")
        self._batches: list[StoredBatch] = []

    @property
    def batches(self) -> list[StoredBatch]:
        """The batches in the order of their offsets."""
        return list(self._batches)

    @property
    def last_stable_offset(self) -> int:
        """Where a reader of committed records ends: at the first open transaction."""
        unstable = self.producers.first_unstable_offset
        return self.next_offset if unstable is None else unstable

    def records(self, isolation: Isolation = "read_uncommitted") -> Iterator[FakeRecord]:
        """Yield the records in the order of their offsets; markers are none."""
        end = self.end_offset(isolation)
        for batch in self._batches:
            if batch.header.control or batch.header.base_offset >= end:
                continue
            if isolation == "read_committed" and self.producers.is_aborted(batch.header):
                continue
            for record in records_of(
                batch.header, batch.body, topic=self.topic, partition=self.partition
            ):
                if record.offset >= self.start_offset:
                    yield record

    def end_offset(self, isolation: Isolation) -> int:
        """Return where a reader ends."""
        return self.last_stable_offset if isolation == "read_committed" else self.next_offset

    def read(
        self, offset: int, max_bytes: int, isolation: Isolation = "read_uncommitted"
    ) -> tuple[bytes, int]:
        """Return whole batches from the one that holds `offset`, and the offset after them.

        There is one even if it is too large. Aborted batches are among them at either isolation: a
        reader leaves them out.
        """
        end = self.end_offset(isolation)
        first = bisect_right(self._batches, offset, key=lambda batch: batch.next_offset)
        data = bytearray()
        for batch in self._batches[first:]:
            if batch.header.base_offset >= end:
                break
            if data and len(data) + batch.header.size > max_bytes:
                break
            data += batch.header_bytes
            data += batch.body
            offset = batch.next_offset
        return bytes(data), offset

    def append(self, raw: memoryview, *, version: int, leader_epoch: int, now_ms: int) -> Appended:
        """Store a batch, or know it again.

        Args:
            raw: What the Produce request holds for this partition.
            version: The version of the request.
            leader_epoch: The epoch in which this is stored.
            now_ms: The time that LogAppendTime records get.

        Raises:
            BatchRefusedError: It was not stored.
        """
        header = self._checked(raw, version, now_ms)
        if (known := self.producers.duplicate_of(header)) is not None:
            # UnifiedLog answers a duplicate with the batch's highest timestamp as its append
            # time, also for CreateTime topics.
            return Appended(
                known.base_offset, known.timestamp_ms, True, reused_sequence=known.crc != header.crc
            )
        self.producers.check(header)
        append_time_ms = now_ms if self.limits.timestamp_type == "LogAppendTime" else None
        stored, header_bytes = header.stamped(
            raw,
            base_offset=self.next_offset,
            leader_epoch=leader_epoch,
            append_time_ms=append_time_ms,
        )
        self._store(StoredBatch(stored, header_bytes, raw[HEADER_SIZE:], header.crc))
        return Appended(stored.base_offset, -1 if append_time_ms is None else append_time_ms, False)

    def write_marker(self, marker: Marker, *, leader_epoch: int, now_ms: int) -> None:
        """Store the marker that ends a producer's transaction; it takes an offset."""
        raw = memoryview(
            marker_batch(
                self.next_offset,
                leader_epoch=leader_epoch,
                producer_id=marker.producer_id,
                producer_epoch=marker.epoch,
                commit=marker.commit,
                timestamp_ms=now_ms,
            )
        )
        header = BatchHeader.read(raw)
        self._store(StoredBatch(header, bytes(raw[:HEADER_SIZE]), raw[HEADER_SIZE:], header.crc))

    def truncate(self, next_offset: int) -> None:
        """Forget every batch that reaches beyond an offset, and what its producer did."""
        kept = [batch for batch in self._batches if batch.next_offset <= next_offset]
        self._batches = []
        self.producers.clear()
        self.next_offset = min(self.start_offset, next_offset)
        for batch in kept:
            self._store(batch)
        self.start_offset = min(self.start_offset, self.next_offset)

    def trim(self, start_offset: int) -> None:
        """Move the log's start forward, as retention does; producers are remembered."""
        self.start_offset = max(self.start_offset, min(start_offset, self.next_offset))
        self._batches = [batch for batch in self._batches if batch.next_offset > self.start_offset]

    def clear(self) -> None:
        """Forget the batches and the producers; offsets begin at 0 again."""
        self.start_offset = self.next_offset = 0
        self._batches = []
        self.producers.clear()

    def forget_producers(self) -> None:
        """Forget every producer, as a broker does after `producer.id.expiration.ms`."""
        self.producers.forget_producers()

    def _store(self, batch: StoredBatch) -> None:
        self._batches.append(batch)
        self.next_offset = batch.next_offset
        if batch.header.control:
            self.producers.ended(batch.header, commit=is_commit(batch.body))
        else:
            self.producers.stored(batch.header, batch.sent_crc)

    def _checked(self, raw: memoryview, version: int, now_ms: int) -> BatchHeader:
        header = _only_batch(raw)
        if header.compression == "zstd" and version < 7:
            raise BatchRefusedError(
                ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
                f"Produce requests with version {version} are not allowed to use ZStandard",
                reached_log=False,
            )
        if header.base_offset != 0:
            raise BatchRefusedError(
                ErrorCode.INVALID_RECORD,
                f"the base offset of a batch is {header.base_offset}, and must be 0",
            )
        if header.size > self.limits.message_max_bytes:
            raise BatchRefusedError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"the record batch has {header.size} bytes, {self.limits.message_max_bytes} are "
                f"allowed in {self.topic}-{self.partition}",
                reached_log=False,
            )
        if checksum(raw) != header.crc:
            raise BatchRefusedError(
                ErrorCode.CORRUPT_MESSAGE, "the record batch has a wrong CRC", reached_log=False
            )
        self._check_header(header)
        self._check_records(header, raw, now_ms)
        return header

    def _check_header(self, header: BatchHeader) -> None:
        if header.record_count <= 0 or header.last_offset_delta != header.record_count - 1:
            raise BatchRefusedError(
                ErrorCode.INVALID_RECORD,
                f"the batch claims {header.record_count} records and the last offset delta "
                f"{header.last_offset_delta}",
            )
        if header.control:
            raise BatchRefusedError(ErrorCode.INVALID_RECORD, "a client may not write markers")
        if header.compression is None:
            raise BatchRefusedError(ErrorCode.UNKNOWN_SERVER_ERROR, "no codec has this number")
        if header.producer_id >= 0 and header.base_sequence < 0:
            raise BatchRefusedError(
                ErrorCode.INVALID_RECORD,
                f"a batch of producer {header.producer_id} has the base sequence "
                f"{header.base_sequence}",
            )

    def _check_records(self, header: BatchHeader, raw: memoryview, now_ms: int) -> None:
        """Look into the records only where the header cannot rule out that one is refused."""
        latest_ms = now_ms + self.limits.timestamp_after_max_ms
        appended = self.limits.timestamp_type == "LogAppendTime"
        too_late = not appended and header.max_timestamp_ms > latest_ms
        if not too_late and not self.limits.compacted:
            return
        code = ErrorCode.INVALID_RECORD
        refused: dict[int, str | None] = {}
        try:
            for record in records_of(
                header, raw[HEADER_SIZE:], topic=self.topic, partition=self.partition
            ):
                if self.limits.compacted and record.key is None:
                    refused[record.batch_index] = (
                        "Compacted topic cannot accept message without key in topic partition "
                        f"{self.topic}-{self.partition}"
                    )
                elif not appended and record.timestamp_ms > latest_ms:
                    code = ErrorCode.INVALID_TIMESTAMP
                    refused[record.batch_index] = (
                        f"Timestamp {record.timestamp_ms} of message with offset "
                        f"{record.batch_index} is out of range."
                    )
        except WireError as error:
            raise BatchRefusedError(ErrorCode.INVALID_RECORD, str(error)) from error
        if refused:
            raise BatchRefusedError(code, _summary(code, refused), record_errors=refused, told=True)


def _summary(code: ErrorCode, refused: Mapping[int, str | None]) -> str:
    """Return what a broker says of a batch with bad records."""
    if code == ErrorCode.INVALID_TIMESTAMP:
        return "One or more records have been rejected due to invalid timestamp"
    shown = ", ".join(
        f"RecordError(batchIndex={index}, message='{message}')"
        for index, message in list(refused.items())[:3]
    )
    return (
        f"One or more records have been rejected due to {len(refused)} record errors in total, "
        f"and only showing the first three errors at most: [{shown}]"
    )


def _only_batch(raw: memoryview) -> BatchHeader:
    """Return the header of the one batch that a partition's part of a request must be.

    A batch that is not all there counts as none, as in MemoryRecords.
    """

    def refuse(code: ErrorCode, reason: str, *, told: bool = False) -> BatchRefusedError:
        return BatchRefusedError(code, reason, told=told, reached_log=False)

    if len(raw) < _MAGIC_AT + 1:
        raise refuse(ErrorCode.INVALID_RECORD, "there is no record batch")
    (length,) = _LENGTH.unpack_from(raw, _LENGTH_AT)
    if length < _MIN_LENGTH:
        raise refuse(
            ErrorCode.CORRUPT_MESSAGE,
            f"Record size {length} is less than the minimum record overhead ({_MIN_LENGTH})",
            told=True,
        )
    if raw[_MAGIC_AT] > 2:
        raise refuse(
            ErrorCode.CORRUPT_MESSAGE,
            f"Invalid magic found in record: {raw[_MAGIC_AT]}",
            told=True,
        )
    if length > len(raw) - _LENGTH_AT - _LENGTH.size:
        raise refuse(ErrorCode.INVALID_RECORD, "the record batch is not all there")
    if raw[_MAGIC_AT] != 2:
        raise refuse(ErrorCode.INVALID_RECORD, "only magic 2 is allowed")
    try:
        header = BatchHeader.read(raw)
    except WireError as error:
        raise refuse(ErrorCode.CORRUPT_MESSAGE, str(error)) from error
    if header.size < len(raw):
        raise refuse(ErrorCode.INVALID_RECORD, "there is more than one record batch")
    if header.size < HEADER_SIZE:
        raise refuse(ErrorCode.CORRUPT_MESSAGE, "the record batch is shorter than its header")
    return header
