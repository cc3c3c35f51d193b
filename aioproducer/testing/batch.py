"""Reads record batches of format v2: the header eagerly, the records when somebody asks.

`log.py` checks and stores what `BatchHeader.read` returns; `records_of` makes the `FakeRecord`s
that a test sees. The bytes of a batch are never copied on the way in.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import lz4.frame  # pyright: ignore[reportMissingTypeStubs]
import snappy  # pyright: ignore[reportMissingTypeStubs]
import zstandard

from aioproducer._native.record_batch import crc32c
from aioproducer.testing.wire import WireError, read_varint

__all__ = [
    "HEADER_SIZE",
    "MAX_SEQUENCE",
    "BatchHeader",
    "Compression",
    "FakeRecord",
    "TimestampType",
    "checksum",
    "is_commit",
    "marker_batch",
    "records_of",
]

Compression: TypeAlias = Literal["none", "gzip", "snappy", "lz4", "zstd"]
TimestampType: TypeAlias = Literal["CreateTime", "LogAppendTime"]

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_CRC_FROM: Final = 21
"""The CRC covers a batch from its attributes, right behind the CRC itself, to its end."""

HEADER_SIZE: Final = _HEADER.size
MAX_SEQUENCE: Final = 2**31 - 1
_COMPRESSIONS: Final[tuple[Compression, ...]] = ("none", "gzip", "snappy", "lz4", "zstd")
_MARKER: Final = struct.Struct(">BbbbBhhBhiB")
"""The one record of a control batch: its length, attributes, deltas of timestamp and offset; the
key with a version and what the marker says; the value with a version and the coordinator's epoch;
no header. The lengths and deltas are varints of a byte."""
_LOG_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
_DELETE_HORIZON: Final = 0x40


@dataclass(frozen=True, slots=True)
class FakeRecord:
    """One record as the cluster holds it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    timestamp_type: TimestampType
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    producer_id: int
    """-1 if the producer was not idempotent; so are its epoch and its sequence."""
    producer_epoch: int
    sequence: int
    batch_index: int
    """Which record of its batch it is, from 0."""
    compression: Compression
    leader_epoch: int
    """The leader epoch in which the record was stored."""


class BatchHeader(NamedTuple):
    """The 61 bytes before the records of a batch, in their order on the wire."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @classmethod
    def read(cls, data: memoryview) -> BatchHeader:
        """Return the header of the batch that `data` begins with."""
        if len(data) < HEADER_SIZE:
            raise WireError(f"{len(data)} bytes are too few for a record batch")
        return cls._make(_HEADER.unpack_from(data))

    @property
    def size(self) -> int:
        """How many bytes the batch has, its header included."""
        return self.length + 12

    @property
    def compression(self) -> Compression | None:
        """The codec of the records; None if the number stands for none."""
        number = self.attributes & 0x07
        return _COMPRESSIONS[number] if number < len(_COMPRESSIONS) else None

    @property
    def timestamp_type(self) -> TimestampType:
        """Who gave the records their timestamps."""
        return "LogAppendTime" if self.attributes & _LOG_APPEND_TIME else "CreateTime"

    @property
    def transactional(self) -> bool:
        """Whether the batch is part of a transaction."""
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def control(self) -> bool:
        """Whether the batch holds a transaction's marker, which no producer writes."""
        return bool(self.attributes & _CONTROL)

    @property
    def has_delete_horizon(self) -> bool:
        """Whether the base timestamp is a delete horizon, which only a log cleaner writes."""
        return bool(self.attributes & _DELETE_HORIZON)

    @property
    def has_unused_attributes(self) -> bool:
        """Whether bits are set that mean nothing."""
        return bool(self.attributes & ~0x7F)

    @property
    def last_sequence(self) -> int:
        """The sequence of the last record; -1 without sequences."""
        return self.sequence(self.last_offset_delta)

    def sequence(self, index: int) -> int:
        """Return the sequence of a record, which is followed by 0 when it is the highest."""
        if self.base_sequence < 0:
            return -1
        return (self.base_sequence + index) % (MAX_SEQUENCE + 1)

    def stamped(
        self, raw: memoryview, *, base_offset: int, leader_epoch: int, append_time_ms: int | None
    ) -> tuple[BatchHeader, bytes]:
        """Return the header as a broker stores it, and its bytes.

        Args:
            raw: The whole batch.
            base_offset: The offset its first record gets.
            leader_epoch: The epoch of the leader that stores it.
            append_time_ms: The time of storing for a topic with LogAppendTime, else None.
        """
        header = self._replace(base_offset=base_offset, leader_epoch=leader_epoch)
        if append_time_ms is not None:
            attributes = self.attributes | _LOG_APPEND_TIME
            header = header._replace(attributes=attributes, max_timestamp_ms=append_time_ms)
        elif self.attributes & _LOG_APPEND_TIME:
            # A producer must not set it; a broker corrects it without a word.
            header = header._replace(attributes=self.attributes & ~_LOG_APPEND_TIME)
        if header.attributes != self.attributes or append_time_ms is not None:
            covered = _HEADER.pack(*header)[_CRC_FROM:]
            header = header._replace(crc=crc32c(raw[HEADER_SIZE:], crc32c(covered)))
        return header, _HEADER.pack(*header)


def checksum(raw: memoryview) -> int:
    """Return the CRC-32C that the header of this batch should hold."""
    return crc32c(raw[_CRC_FROM:])


def marker_batch(
    base_offset: int,
    *,
    leader_epoch: int,
    producer_id: int,
    producer_epoch: int,
    commit: bool,
    timestamp_ms: int,
) -> bytes:
    """Return the control batch that ends a transaction, as a broker stores it."""
    record = _MARKER.pack(
        _MARKER.size - 1 << 1, 0, 0, 0, 4 << 1, 0, 1 if commit else 0, 6 << 1, 0, 0, 0
    )
    length = HEADER_SIZE - 12 + len(record)
    fields = (
        base_offset, length, leader_epoch, 2, 0, _TRANSACTIONAL | _CONTROL, 0, timestamp_ms,
        timestamp_ms, producer_id, producer_epoch, -1, 1,
    )  # fmt: skip
    header = BatchHeader._make(fields)
    header = header._replace(crc=crc32c(record, crc32c(_HEADER.pack(*header)[_CRC_FROM:])))
    return _HEADER.pack(*header) + record


def is_commit(body: memoryview) -> bool:
    """Return whether the records of a control batch say that a transaction was committed."""
    return bool(_MARKER.unpack_from(body)[6])


def records_of(
    header: BatchHeader, body: memoryview, *, topic: str, partition: int
) -> Iterator[FakeRecord]:
    """Yield the records of a batch.

    Args:
        header: The header of the batch.
        body: The bytes behind the header.
        topic: The topic it is stored in.
        partition: The partition it is stored in.

    Raises:
        WireError: The records are not what the header promises, or what the format allows.
    """
    codec = header.compression
    if codec is None:
        raise WireError(f"{header.attributes & 0x07} is the number of no codec")
    data = body if codec == "none" else memoryview(_decompressed(codec, body))
    at = 0
    for index in range(header.record_count):
        size, at = read_varint(data, at)
        end = at + size
        if not at < end <= len(data):
            raise WireError(f"record {index} claims {size} bytes, {len(data) - at} are left")
        yield _record(data[at:end], index, header, codec, topic, partition)
        at = end
    if at != len(data):
        raise WireError(f"{len(data) - at} bytes follow the last record")


def _record(
    data: memoryview,
    index: int,
    header: BatchHeader,
    codec: Compression,
    topic: str,
    partition: int,
) -> FakeRecord:
    if data[0] != 0:
        raise WireError(f"record {index} has attributes, and none are defined")
    timestamp_delta, at = read_varint(data, 1)
    offset_delta, at = read_varint(data, at)
    if offset_delta != index:
        raise WireError(f"record {index} has the offset delta {offset_delta}")
    key, at = _nullable(data, at)
    value, at = _nullable(data, at)
    header_count, at = read_varint(data, at)
    if not 0 <= header_count <= len(data):
        raise WireError(f"record {index} claims {header_count} headers")
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(header_count):
        name, at = _nullable(data, at)
        if name is None:
            raise WireError(f"record {index} has a header without a name")
        header_value, at = _nullable(data, at)
        try:
            headers.append((name.decode(), header_value))
        except UnicodeDecodeError:
            raise WireError(f"record {index} has a header whose name is not UTF-8") from None
    if at != len(data):
        raise WireError(f"{len(data) - at} bytes follow record {index} inside its length")
    appended = header.timestamp_type == "LogAppendTime"
    return FakeRecord(
        topic=topic,
        partition=partition,
        offset=header.base_offset + index,
        timestamp_ms=(
            header.max_timestamp_ms if appended else header.base_timestamp_ms + timestamp_delta
        ),
        timestamp_type=header.timestamp_type,
        key=key,
        value=value,
        headers=tuple(headers),
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        sequence=header.sequence(index),
        batch_index=index,
        compression=codec,
        leader_epoch=header.leader_epoch,
    )


def _nullable(data: memoryview, at: int) -> tuple[bytes | None, int]:
    size, at = read_varint(data, at)
    if size == -1:
        return None, at
    end = at + size
    if not at <= end <= len(data):
        raise WireError(f"{size} bytes are claimed, {len(data) - at} are left")
    return bytes(data[at:end]), end


_lz4_decompress = cast("Callable[[memoryview], bytes]", cast("Any", lz4.frame).decompress)
_snappy_decompress = cast("Callable[[memoryview], bytes]", cast("Any", snappy).uncompress)
_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_SIZE: Final = 16


def _decompressed(codec: Compression, data: memoryview) -> bytes:
    try:
        match codec:
            case "gzip":
                return zlib.decompress(data, 16 + zlib.MAX_WBITS)
            case "lz4":
                return _lz4_decompress(data)
            case "zstd":
                # Streamed: the frame's header need not tell the size, which decompress() wants.
                return zstandard.ZstdDecompressor().decompressobj().decompress(data)
            case _:
                return _unsnapped(data)
    except Exception as error:
        # Each library has its own errors, and lz4 a bare RuntimeError.
        raise WireError(f"the records are not {codec}: {type(error).__name__}") from error


def _unsnapped(data: memoryview) -> bytes:
    """Return what was compressed with snappy, in the framing of snappy-java or without any."""
    if bytes(data[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        return _snappy_decompress(data)
    chunks: list[bytes] = []
    at = _XERIAL_HEADER_SIZE
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        at += 4
        if not 0 < size <= len(data) - at:
            raise WireError(f"a snappy block claims {size} bytes, {len(data) - at} are left")
        chunks.append(_snappy_decompress(data[at : at + size]))
        at += size
    return b"".join(chunks)
