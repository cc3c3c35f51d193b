"""The codecs: round trips, Java's framings read by independent decoders, and hostile data."""

from __future__ import annotations

import gzip
import importlib
import random
import struct
import threading
import warnings
from collections.abc import Callable
from typing import Any, cast

import cramjam
import lz4.frame  # pyright: ignore[reportMissingTypeStubs]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.compression import Codec, Data, DecompressionError, codec_for

CODECS = ["gzip", "snappy", "lz4", "zstd"]
LEVELS = [
    *(("gzip", level) for level in (-1, 1, 9)),
    *(("lz4", level) for level in (1, 2, 3, 9, 12, 17)),
    *(("zstd", level) for level in (-131072, -1, 1, 3, 19)),
    ("snappy", None),
]
RECORDS = b'{"card":4929123412341234,"amount":1299,"currency":"EUR"}' * 3000


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what kafka-python imports is not ours to mend
    kafka_codec: Any = importlib.import_module("kafka.codec")


@st.composite
def compressible(draw: st.DrawFn) -> bytes:
    return draw(st.binary(min_size=1, max_size=50)) * draw(st.integers(1, 5000))


def without_first_byte(data: bytes) -> memoryview:
    return memoryview(data)[1:]


def zstd_without_size(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


def codec(name: str, level: int | None = None) -> Codec:
    found = codec_for(name, level)
    assert found is not None
    return found


def test_no_compression_has_no_codec() -> None:
    assert codec_for("none") is None


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="brotli"):
        codec_for("brotli")


def test_a_codec_knows_its_name_and_number() -> None:
    assert [(codec(name).name, codec(name).attributes) for name in CODECS] == [
        ("gzip", 1),
        ("snappy", 2),
        ("lz4", 3),
        ("zstd", 4),
    ]


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_every_level_gives_back_what_it_was_given(name: str, level: int | None) -> None:
    compressed = codec(name, level).compress(RECORDS)
    assert codec(name).decompress(compressed, len(RECORDS)) == RECORDS


@pytest.mark.parametrize("name", CODECS)
def test_records_alike_become_small(name: str) -> None:
    assert len(codec(name).compress(RECORDS)) < len(RECORDS) / 10


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd"])
def test_a_higher_level_makes_it_smaller(name: str) -> None:
    fast, small = {"gzip": (1, 9), "lz4": (1, 12), "zstd": (-5, 19)}[name]
    cards = random.Random(1)
    data = b"".join(b'{"card":%d,"currency":"EUR"}' % cards.getrandbits(50) for _ in range(2000))
    assert len(codec(name, small).compress(data)) < len(codec(name, fast).compress(data))


@pytest.mark.parametrize("name", CODECS)
@given(data=st.binary(max_size=1000) | compressible())
def test_any_data_come_back(name: str, data: bytes) -> None:
    compressed = codec(name).compress(data)
    assert type(compressed) is bytes
    assert codec(name).decompress(compressed, len(data)) == data


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("kind", [bytearray, memoryview, without_first_byte])
def test_any_buffer_is_taken(name: str, kind: Callable[[bytes], Data]) -> None:
    data = kind(RECORDS)
    compressed = codec(name).compress(data)
    assert codec(name).decompress(memoryview(compressed), len(RECORDS)) == bytes(data)


@pytest.mark.parametrize("name", CODECS)
def test_equal_data_give_equal_bytes(name: str) -> None:
    assert codec(name).compress(RECORDS) == codec(name).compress(RECORDS)


@pytest.mark.parametrize("name", CODECS)
def test_several_threads_may_share_a_codec(name: str) -> None:
    shared = codec(name)
    expected = shared.compress(RECORDS)
    results: list[bytes] = []

    def work() -> None:
        results.extend(shared.compress(RECORDS) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 20


# What others read and write. Java's own classes have read every level as well, by hand.

READ_BY_OTHERS: dict[str, list[Callable[[bytes], Any]]] = {
    "gzip": [gzip.decompress, kafka_codec.gzip_decode, cramjam.gzip.decompress],
    "snappy": [kafka_codec.snappy_decode],
    "lz4": [kafka_codec.lz4_decode, cramjam.lz4.decompress],
    "zstd": [kafka_codec.zstd_decode, cramjam.zstd.decompress],
}


@pytest.mark.parametrize("name", CODECS)
@given(data=compressible())
def test_independent_decoders_read_what_we_write(name: str, data: bytes) -> None:
    compressed = codec(name).compress(data)
    for decode in READ_BY_OTHERS[name]:
        assert bytes(decode(compressed)) == data


WRITTEN_BY_OTHERS: dict[str, list[Callable[[bytes], Any]]] = {
    "gzip": [gzip.compress, kafka_codec.gzip_encode],
    "snappy": [kafka_codec.snappy_encode, cramjam.snappy.compress_raw],
    "lz4": [kafka_codec.lz4_encode, cast("Any", lz4.frame).compress],
    "zstd": [
        kafka_codec.zstd_encode,
        zstd_without_size,
    ],
}


@pytest.mark.parametrize("name", CODECS)
def test_we_read_what_others_write(name: str) -> None:
    for encode in WRITTEN_BY_OTHERS[name]:
        assert codec(name).decompress(bytes(encode(RECORDS)), len(RECORDS)) == RECORDS


def test_gzip_stores_no_time() -> None:
    assert codec("gzip").compress(RECORDS)[4:8] == bytes(4)


def test_lz4_has_the_one_shape_that_java_reads() -> None:
    info = cast("Any", lz4.frame).get_frame_info(codec("lz4").compress(RECORDS))
    assert not info["block_linked"]
    assert info["block_size"] == 64 * 1024
    assert not info["block_checksum"]
    assert not info["content_checksum"]


def test_lz4_level_9_is_the_fast_compressor_as_in_java() -> None:
    fast = cast("Any", lz4.frame).compress(
        RECORDS, compression_level=0, block_linked=False, store_size=False
    )
    assert codec("lz4").compress(RECORDS) == codec("lz4", 9).compress(RECORDS) == fast
    assert codec("lz4", 10).compress(RECORDS) != fast


def test_snappy_has_the_framing_of_xerial_in_blocks_of_32_kib() -> None:
    compressed = codec("snappy").compress(RECORDS[: 32 * 1024 + 1])
    assert compressed[:16] == b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    (first,) = struct.unpack_from(">i", compressed, 16)
    (second,) = struct.unpack_from(">i", compressed, 20 + first)
    assert len(compressed) == 24 + first + second
    assert (
        bytes(cramjam.snappy.decompress_raw(compressed[24 + first :])) == RECORDS[32 * 1024 :][:1]
    )


# Data that lie.


@pytest.mark.parametrize("name", CODECS)
def test_no_more_is_made_than_allowed(name: str) -> None:
    bomb = codec(name).compress(bytes(10_000_000))
    with pytest.raises(DecompressionError, match="more than the 1000 bytes"):
        codec(name).decompress(bomb, 1000)


def test_a_zstd_frame_without_its_size_makes_no_more_than_allowed() -> None:
    bomb = zstd_without_size(bytes(10_000_000))
    with pytest.raises(DecompressionError):
        codec("zstd").decompress(bomb, 1000)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff\x0f",  # claims 4 GiB
        b"\xff\xff\xff\xff\xff",  # a length without end
        b"\x82SNAPPY\x00",
        b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + b"\0\0",
        b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, -1),
        b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, 2**31 - 1) + b"abc",
        b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, 0),
    ],
)
def test_snappy_that_lies_about_lengths_is_refused(data: bytes) -> None:
    with pytest.raises(DecompressionError):
        codec("snappy").decompress(data, 1000)


@pytest.mark.parametrize("name", CODECS)
@given(cut=st.integers(1, 40))
def test_data_cut_short_are_refused(name: str, cut: int) -> None:
    compressed = codec(name).compress(RECORDS)
    with pytest.raises(DecompressionError):
        codec(name).decompress(compressed[:-cut], len(RECORDS))


@pytest.mark.parametrize("name", CODECS)
def test_data_with_something_behind_them_are_refused(name: str) -> None:
    with pytest.raises(DecompressionError):
        codec(name).decompress(codec(name).compress(RECORDS) + b"abc", len(RECORDS))


@pytest.mark.parametrize("name", CODECS)
@given(data=st.binary(max_size=200))
def test_garbage_raises_nothing_else(name: str, data: bytes) -> None:
    try:
        result = codec(name).decompress(data, 1000)
    except DecompressionError:
        return
    assert len(result) <= 1000
