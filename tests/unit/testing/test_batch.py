from __future__ import annotations

import contextlib
import gzip
import struct
from typing import Any, cast

import lz4.frame  # pyright: ignore[reportMissingTypeStubs]
import pytest
import snappy  # pyright: ignore[reportMissingTypeStubs]
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.testing.batch import (
    HEADER_SIZE,
    BatchHeader,
    Compression,
    FakeRecord,
    checksum,
    records_of,
)
from aioproducer.testing.wire import WireError
from tests.support.reference_batch import Record, encode_batch, encode_records, field, varint

RECORDS = [
    Record(b"k", b"v", (), 1000),
    Record(None, None, (("h", b"x"), ("h", None), ("", b"")), 1005),
    Record(b"", b"", (), 995),
]
PLAIN = b"".join(encode_records(RECORDS))


def parsed(data: bytes) -> list[FakeRecord]:
    view = memoryview(data)
    header = BatchHeader.read(view)
    assert header.size == len(data)
    assert checksum(view) == header.crc
    return list(records_of(header, view[HEADER_SIZE:], topic="t", partition=3))


def xerial(data: bytes, block: int = 20) -> bytes:
    out = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    for start in range(0, len(data), block):
        packed = cast("bytes", cast("Any", snappy).compress(data[start : start + block]))
        out += struct.pack(">i", len(packed)) + packed
    return out


def test_records_are_read_as_they_were_written() -> None:
    first, second, third = parsed(encode_batch(RECORDS, producer=(7, 1, 2**31 - 2)))
    assert (first.key, first.value, first.headers) == (b"k", b"v", ())
    assert (second.key, second.value) == (None, None)
    assert second.headers == (("h", b"x"), ("h", None), ("", b""))
    assert (third.key, third.value) == (b"", b"")
    assert [record.timestamp_ms for record in (first, second, third)] == [1000, 1005, 995]
    assert [record.batch_index for record in (first, second, third)] == [0, 1, 2]
    assert [record.sequence for record in (first, second, third)] == [2**31 - 2, 2**31 - 1, 0]
    assert (first.topic, first.partition, first.offset) == ("t", 3, 0)
    assert (first.producer_id, first.producer_epoch) == (7, 1)
    assert first.timestamp_type == "CreateTime"


def test_without_a_producer_there_are_no_sequences() -> None:
    assert {record.sequence for record in parsed(encode_batch(RECORDS))} == {-1}


@pytest.mark.parametrize(
    ("number", "name", "payload"),
    [
        (0, "none", PLAIN),
        (1, "gzip", gzip.compress(PLAIN)),
        (2, "snappy", xerial(PLAIN)),
        (2, "snappy", cast("bytes", cast("Any", snappy).compress(PLAIN))),
        (3, "lz4", cast("bytes", cast("Any", lz4.frame).compress(PLAIN))),
        (4, "zstd", zstandard.ZstdCompressor().compress(PLAIN)),
        (4, "zstd", zstandard.ZstdCompressor(write_content_size=False).compress(PLAIN)),
    ],
    ids=["none", "gzip", "xerial snappy", "snappy", "lz4", "zstd", "zstd without size"],
)
def test_each_codec_is_undone(number: int, name: Compression, payload: bytes) -> None:
    found = parsed(encode_batch(RECORDS, payload=payload, attributes=number))
    assert [record.value for record in found] == [b"v", None, b""]
    assert {record.compression for record in found} == {name}


@pytest.mark.parametrize("number", range(1, 5))
def test_data_that_are_not_of_the_codec_are_an_error(number: int) -> None:
    with pytest.raises(WireError):
        parsed(encode_batch(RECORDS, payload=b"nonsense that is long enough", attributes=number))


def test_a_snappy_block_that_is_cut_short_is_an_error() -> None:
    with pytest.raises(WireError):
        parsed(encode_batch(RECORDS, payload=xerial(PLAIN)[:-3], attributes=2))


def test_the_number_of_no_codec_is_an_error() -> None:
    header = BatchHeader.read(memoryview(encode_batch(RECORDS, attributes=6)))
    assert header.compression is None
    with pytest.raises(WireError, match="no codec"):
        list(records_of(header, memoryview(b""), topic="t", partition=0))


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (PLAIN + b"x", "follow the last record"),
        (PLAIN[:-1], "claims"),
        (varint(0), "claims 0 bytes"),
        (varint(4) + b"\1\0\0\1", "has attributes"),
        (varint(4) + b"\0\0\2\1", "offset delta 1"),
        (varint(5) + b"\0\0\0\x14\1", "20|10 bytes are claimed"),
        (varint(8) + b"\0\0\0\1\1" + varint(1) + varint(-1) + b"\0", "without a name"),
        (varint(9) + b"\0\0\0\1\1" + varint(1) + field(b"\xff") + b"\0", "not UTF-8"),
        (varint(6) + b"\0\0\0\1\1" + varint(-1), "claims -1 headers"),
        (varint(7) + b"\0\0\0\1\1\0\0", "inside its length"),
    ],
)
def test_records_that_break_the_format_are_an_error(payload: bytes, words: str) -> None:
    one = [RECORDS[0]] if payload[:1] != PLAIN[:1] else RECORDS
    with pytest.raises(WireError, match=words):
        parsed(encode_batch(one, payload=payload))


def test_fewer_bytes_than_a_header_are_an_error() -> None:
    with pytest.raises(WireError, match="too few"):
        BatchHeader.read(memoryview(bytes(60)))


@given(st.binary(max_size=80))
def test_any_bytes_are_records_or_a_wire_error(payload: bytes) -> None:
    header = BatchHeader.read(memoryview(encode_batch(RECORDS)))
    with contextlib.suppress(WireError):
        list(records_of(header, memoryview(payload), topic="t", partition=0))


def test_each_attribute_has_its_bit() -> None:
    def header(attributes: int) -> BatchHeader:
        return BatchHeader.read(memoryview(encode_batch(RECORDS, attributes=attributes)))

    assert header(0x08).timestamp_type == "LogAppendTime"
    assert header(0x10).transactional
    assert header(0x20).control
    assert header(0x40).has_delete_horizon
    assert header(0x80).has_unused_attributes
    assert not header(0x7F).has_unused_attributes


def stamp(data: bytes, append_time_ms: int | None) -> bytes:
    view = memoryview(data)
    _, head = BatchHeader.read(view).stamped(
        view, base_offset=100, leader_epoch=4, append_time_ms=append_time_ms
    )
    return head + data[HEADER_SIZE:]


def test_storing_changes_offset_and_epoch_and_nothing_the_crc_covers() -> None:
    data = encode_batch(RECORDS)
    stored = stamp(data, None)
    assert stored[16:] == data[16:]
    first, *_ = parsed(stored)
    assert (first.offset, first.leader_epoch) == (100, 4)


def test_log_append_time_replaces_all_timestamps_under_a_new_crc() -> None:
    found = parsed(stamp(encode_batch(RECORDS), 5000))
    assert {record.timestamp_ms for record in found} == {5000}
    assert {record.timestamp_type for record in found} == {"LogAppendTime"}


def test_a_producer_that_sets_log_append_time_is_corrected() -> None:
    found = parsed(stamp(encode_batch(RECORDS, attributes=0x08), None))
    assert [record.timestamp_ms for record in found] == [1000, 1005, 995]
