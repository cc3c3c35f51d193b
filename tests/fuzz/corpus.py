"""Nasty inputs that each have a reason, by the name of the reason.

Spaces part the fields. Those of `REFUSED` must be refused, those of `TAKEN` read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["REFUSED", "TAKEN", "Case"]


class Case(NamedTuple):
    """Which target gets which bytes."""

    target: str
    hex: str


REFUSED: Final[Mapping[str, Case]] = {
    # Counts and lengths that the bytes left cannot hold.
    "2147483647 topics in four bytes": Case("produce-v7", "00000007 7fffffff"),
    "4294967294 brokers in five bytes": Case("metadata-v9", "00000007 00 00000000 ffffffff0f"),
    "4294967295 tagged fields": Case(
        "init_producer_id-v5", "00000007 00 00000000 0000 0000000000000001 0000 ffffffff0f"
    ),
    "a tag of the header longer than the frame": Case("produce-v9", "00000007 01 00 ffffffff07"),
    "as many elements as bytes are left, each of them larger": Case(
        "api_versions-v0", "00000007 0000 00000006 000000000000"
    ),
    "an array that is read over and claims 2147483647 replicas": Case(
        "metadata-v7",
        "00000007 00000000 00000000 ffff ffffffff 00000001 0000 0001 74 00 00000001"
        " 0000 00000000 00000000 00000000 7fffffff",
    ),
    "a string of 32767 bytes that are not there": Case(
        "metadata-v7", "00000007 00000000 00000001 00000000 7fff 68"
    ),
    # Negative ones.
    "minus two topics": Case("produce-v7", "00000007 fffffffe"),
    "the smallest int32 as a count": Case("produce-v7", "00000007 80000000"),
    "minus two as the length of a nullable string": Case(
        "metadata-v7", "00000007 00000000 00000000 fffe"
    ),
    "null topics where null is not allowed": Case("produce-v7", "00000007 ffffffff"),
    "null compact brokers where null is not allowed": Case(
        "metadata-v9", "00000007 00 00000000 00"
    ),
    "a null host": Case("metadata-v7", "00000007 00000000 00000001 00000000 ffff"),
    # Varints.
    "a varint of 33 bits": Case("produce-v9", "00000007 ffffffff1f"),
    "a varint of six bytes, the last ones zero": Case("produce-v9", "00000007 808080808000"),
    "a varint that the frame ends in": Case("produce-v9", "00000007 ffffff"),
    # Logins.
    "2147483647 mechanisms": Case("sasl_handshake-v1", "00000007 0000 7fffffff"),
    "a challenge of 2147483647 bytes": Case("sasl_authenticate-v0", "00000007 0000 ffff 7fffffff"),
    "a compact challenge that is null": Case(
        "sasl_authenticate-v2", "00000007 00 0000 00 00 0000000000000000 00"
    ),
    "iterations that keep a core busy for minutes": Case(
        "scram", b"r=noncex,s=c2FsdA==,i=999999999".hex()
    ),
    # Text.
    "a UTF-8 surrogate as host": Case(
        "metadata-v7", "00000007 00000000 00000001 00000000 0003 eda080 00002384 ffff"
    ),
    "an over-long UTF-8 slash as topic": Case(
        "produce-v7", "00000007 00000001 0002 c0af 00000000 00000000"
    ),
    # Tagged fields.
    "a known tag with a byte too many": Case(
        "produce-v10", "00000007 00 01 00000000 01 00 02 0100"
    ),
    "a known tag with a byte too few": Case(
        "api_versions-v3", "00000007 0000 01 00000000 01 03 00"
    ),
    "a tagged array that ends behind its field": Case(
        "api_versions-v3", "00000007 0000 01 00000000 01 00 02 0201 61 0000 0001 00"
    ),
    # Frames and headers.
    "a response shorter than a correlation id": Case("produce-v7", "000000"),
    "a frame of zero bytes": Case("frames", "00000000"),
    "a frame of minus one byte": Case("frames", "ffffffff"),
    "a frame one byte above the limit": Case("frames", "00000041"),
    "a good frame before a bad one": Case("frames", "00000004 00000007 7fffffff"),
    # Compressed data that would grow without bound.
    "64 MB in a snappy block of six bytes": Case("snappy", "80808020 0000"),
    "2^62 bytes in the header of a zstd frame": Case("zstd", "28b52ffd e0 0000000000000040 010000"),
}

TAKEN: Final[Mapping[str, Case]] = {
    "a varint of zero in five bytes, which Kafka reads, too": Case(
        "produce-v9", "00000007 00 8180808000 00000000 00"
    ),
    "bytes behind the response": Case("produce-v7", "00000007 00000000 00000000 deadbeef"),
    "unknown tags of header and body": Case(
        "produce-v9", "00000007 01 05 02 ffff 01 00000000 02 07 00 ffffffff0f 01 00"
    ),
    "the same tag twice, of which the last counts": Case(
        "api_versions-v3", "00000007 0000 01 00000000 02 03 01 00 03 01 01"
    ),
    "a topic name that no topic can have": Case(
        "produce-v7", "00000007 00000001 0001 00 00000000 00000000"
    ),
    "UNSUPPORTED_VERSION and nothing behind it": Case("api_versions-v4", "00000007 0023"),
    "the refusal of librdkafka's mock cluster": Case(
        "api_versions-v4", "00000007 0023 01 0012 0000 0002 00000000"
    ),
    "frames of four bytes, the smallest there are": Case("frames", "00000004 00000001" * 9),
}
