"""Snappy, in the framing that Java reads."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, cast

import snappy  # pyright: ignore[reportMissingTypeStubs]

from aioproducer.compression.codec import Codec, Data, DecompressionError

__all__ = ["Snappy"]

_compress = cast("Callable[[Data], bytes]", cast("Any", snappy).compress)
_uncompress = cast("Callable[[Data], bytes]", cast("Any", snappy).uncompress)

_XERIAL_HEADER: Final = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
_XERIAL_MAGIC: Final = _XERIAL_HEADER[:8]
_XERIAL_BLOCK: Final = 32 * 1024
_LENGTH: Final = struct.Struct(">i")


class Snappy(Codec):
    """Snappy blocks in the framing of xerial's SnappyOutputStream, the one Java reads.

    The magic bytes, two version numbers, then blocks of at most 32 KiB before compression (Java's
    size), each after its length. librdkafka and others may write one bare block: read, not written.
    """

    name = "snappy"
    attributes = 2

    def compress(self, data: Data, /) -> bytes:
        """Return the data as xerial's blocks."""
        view = memoryview(data).cast("B")
        parts = [_XERIAL_HEADER]
        for start in range(0, len(view), _XERIAL_BLOCK):
            block = _compress(view[start : start + _XERIAL_BLOCK])
            parts += (_LENGTH.pack(len(block)), block)
        return b"".join(parts)

    def decompress(self, data: Data, /, max_size: int) -> bytes:
        """Return what xerial's blocks, or one bare block, hold."""
        view = memoryview(data).cast("B")
        if bytes(view[:8]) != _XERIAL_MAGIC:
            return _uncompress_block(view, max_size)
        if len(view) < len(_XERIAL_HEADER):
            raise DecompressionError("the data are cut short")
        parts: list[bytes] = []
        size = 0
        position = len(_XERIAL_HEADER)
        while position < len(view):
            start = position + _LENGTH.size
            if start > len(view):
                raise DecompressionError("the data are cut short")
            (length,) = _LENGTH.unpack_from(view, position)
            position = start + length
            if length < 0 or position > len(view):
                raise DecompressionError("a block is longer than the data")
            parts.append(_uncompress_block(view[start:position], max_size - size))
            size += len(parts[-1])
        return b"".join(parts)


def _uncompress_block(block: memoryview, max_size: int) -> bytes:
    # The length comes first, as a varint, and would be allocated as it is.
    claimed = 0
    for index, byte in enumerate(block[:5]):
        claimed |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    else:
        raise DecompressionError("the data do not begin with a length")
    if claimed > max_size:
        raise DecompressionError(f"the data hold more than the {max_size} bytes allowed")
    try:
        return _uncompress(block)
    except Exception:  # UncompressError, or whatever the library below lets through
        raise DecompressionError("a snappy block is damaged") from None
