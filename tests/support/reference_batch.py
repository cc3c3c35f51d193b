"""A record batch (magic 2, KIP-98) written the slow and obvious way, from the protocol guide.

The oracle of the native encoder: bytes are joined in the order in which the guide lists the
fields, and the CRC comes from a bit by bit division.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple


class Record(NamedTuple):
    """What a batch says of one record, with the absolute timestamp."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int


def encode_batch(
    records: Sequence[Record],
    *,
    payload: bytes | None = None,
    attributes: int = 0,
    producer: tuple[int, int, int] = (-1, -1, -1),
) -> bytes:
    """Encode header and records; `payload` stands in for records that were compressed."""
    if payload is None:
        payload = b"".join(encode_records(records))
    base = records[0].timestamp_ms
    newest = max(record.timestamp_ms for record in records)
    count = len(records)
    checked = struct.pack(">hiqqqhii", attributes, count - 1, base, newest, *producer, count)
    checked += payload
    rest = struct.pack(">ibI", -1, 2, crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(rest)) + rest


def encode_records(records: Sequence[Record]) -> list[bytes]:
    """Encode each record with its length, as deltas to the first."""
    encoded: list[bytes] = []
    for index, record in enumerate(records):
        body = b"\0" + varint(record.timestamp_ms - records[0].timestamp_ms) + varint(index)
        body += field(record.key) + field(record.value) + varint(len(record.headers))
        for name, value in record.headers:
            body += field(name.encode()) + field(value)
        encoded.append(varint(len(body)) + body)
    return encoded


def field(data: bytes | None) -> bytes:
    """Encode bytes after their length; None has the length -1."""
    return varint(-1) if data is None else varint(len(data)) + data


def varint(value: int) -> bytes:
    """Encode a signed varint: 0, -1, 1, -2... as 0, 1, 2, 3..., seven bits a byte, low first."""
    value = value * 2 if value >= 0 else -value * 2 - 1
    out = bytearray()
    while value > 127:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def crc32c(data: bytes) -> int:
    """Divide by the Castagnoli polynomial, one bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
