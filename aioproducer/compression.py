"""The codecs of a record batch: bytes in, bytes out, in the framings that Java's reader accepts.

The sender gets a codec from `codec_for` once and calls `compress` once per batch, on the loop or
in a worker thread. A codec may be used by several threads at once, and releases the GIL while it
compresses. `decompress` is for a batch that has to be split; it never makes more than `max_size`
bytes, whatever the data claim.

Cost of 128 KiB of JSON, measured: snappy and lz4 75 us, zstd 160 us, gzip 1500 us.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, cast

import lz4.frame  # pyright: ignore[reportMissingTypeStubs]
import snappy  # pyright: ignore[reportMissingTypeStubs]
import zstandard

__all__ = ["Codec", "Data", "DecompressionError", "codec_for"]

Data: TypeAlias = bytes | bytearray | memoryview
"""What is compressed: contiguous bytes, read and never kept."""


class DecompressionError(ValueError):
    """The data are not in the codec's format, are cut short, or would become too large."""


class Codec(Protocol):
    """Compresses the records of a batch. Without state: share it, also between threads."""

    @property
    def name(self) -> str:
        """The codec's name in `compression_type`."""
        ...

    @property
    def attributes(self) -> int:
        """The codec's number, in the lowest three bits of a batch's attributes."""
        ...

    def compress(self, data: Data, /) -> bytes:
        """Return the data compressed; the same data give the same bytes."""
        ...

    def decompress(self, data: Data, /, max_size: int) -> bytes:
        """Return what was compressed.

        Raises:
            DecompressionError: The data are damaged, or hold more than `max_size` bytes.
        """
        ...


def codec_for(compression_type: str, level: int | None = None) -> Codec | None:
    """Return the codec of a `compression_type`; None for `"none"`.

    Args:
        compression_type: `"none"`, `"gzip"`, `"snappy"`, `"lz4"` or `"zstd"`.
        level: As in the option `compression_<type>_level`; None for its default.
    """
    match compression_type:
        case "none":
            return None
        case "gzip":
            return _Gzip() if level is None else _Gzip(level)
        case "snappy":
            return _Snappy()
        case "lz4":
            return _Lz4() if level is None else _Lz4(level)
        case "zstd":
            return _Zstd() if level is None else _Zstd(level)
        case _:
            raise ValueError(f"no codec is called {compression_type!r}")


def _bounded(data: bytes, whole: bool, max_size: int) -> bytes:
    if len(data) > max_size:
        raise DecompressionError(f"the data hold more than the {max_size} bytes allowed")
    if not whole:
        raise DecompressionError("the data are cut short, or more follows them")
    return data


@dataclass(frozen=True, slots=True)
class _Gzip:
    """RFC 1952. zlib writes no file name and no time, so equal data give equal bytes."""

    level: int = -1
    name: str = "gzip"
    attributes: int = 1

    def compress(self, data: Data, /) -> bytes:
        return zlib.compress(data, self.level, _GZIP_WINDOW)

    def decompress(self, data: Data, /, max_size: int) -> bytes:
        stream = zlib.decompressobj(_GZIP_WINDOW)
        try:
            result = stream.decompress(data, max_size + 1)
        except zlib.error as error:
            raise DecompressionError(str(error)) from None
        return _bounded(result, stream.eof and not stream.unused_data, max_size)


_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
"""16 asks zlib for the gzip framing."""


_snappy_compress = cast("Callable[[Data], bytes]", cast("Any", snappy).compress)
_snappy_uncompress = cast("Callable[[Data], bytes]", cast("Any", snappy).uncompress)

_XERIAL_HEADER: Final = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
_XERIAL_MAGIC: Final = _XERIAL_HEADER[:8]
_XERIAL_BLOCK: Final = 32 * 1024
_LENGTH: Final = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class _Snappy:
    """Snappy blocks in the framing of xerial's SnappyOutputStream, the one Java reads.

    The magic bytes, two version numbers, then blocks of at most 32 KiB before compression (Java's
    size), each after its length. librdkafka and others may write one bare block: read, not written.
    """

    name: str = "snappy"
    attributes: int = 2

    def compress(self, data: Data, /) -> bytes:
        view = memoryview(data).cast("B")
        parts = [_XERIAL_HEADER]
        for start in range(0, len(view), _XERIAL_BLOCK):
            block = _snappy_compress(view[start : start + _XERIAL_BLOCK])
            parts += (_LENGTH.pack(len(block)), block)
        return b"".join(parts)

    def decompress(self, data: Data, /, max_size: int) -> bytes:
        view = memoryview(data).cast("B")
        if bytes(view[:8]) != _XERIAL_MAGIC:
            return _snappy_block(view, max_size)
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
            parts.append(_snappy_block(view[start:position], max_size - size))
            size += len(parts[-1])
        return b"".join(parts)


def _snappy_block(block: memoryview, max_size: int) -> bytes:
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
        return _snappy_uncompress(block)
    except Exception:  # UncompressError, or whatever the library below lets through
        raise DecompressionError("a snappy block is damaged") from None


_lz4 = cast("Any", lz4.frame)
_LZ4_FAST_LEVEL: Final = 9


@dataclass(frozen=True, slots=True)
class _Lz4:
    """The lz4 frame format, in the one shape that Java's Lz4BlockInputStream is made for.

    Independent blocks (it refuses linked ones) of 64 KiB (a reader allocates one block, so larger
    ones would cost every consumer) and no checksums (the batch has its CRC-32C). Java's default
    level, 9, is its fast compressor and not a high-compression level; so it is here.
    """

    level: int = _LZ4_FAST_LEVEL
    name: str = "lz4"
    attributes: int = 3

    def compress(self, data: Data, /) -> bytes:
        compressed: bytes = _lz4.compress(
            data,
            compression_level=0 if self.level == _LZ4_FAST_LEVEL else self.level,
            block_size=_lz4.BLOCKSIZE_MAX64KB,
            block_linked=False,
            content_checksum=False,
            block_checksum=False,
            store_size=False,
        )
        return compressed

    def decompress(self, data: Data, /, max_size: int) -> bytes:
        stream = _lz4.LZ4FrameDecompressor()
        try:
            result: bytes = stream.decompress(data, max_length=max_size + 1)
        except RuntimeError as error:
            raise DecompressionError(str(error)) from None
        return _bounded(result, stream.eof and not stream.unused_data, max_size)


@dataclass(frozen=True, slots=True)
class _Zstd:
    """RFC 8878, one frame that tells its content size.

    A ZstdCompressor is not thread-safe, and making one costs more than a small batch does (10 of
    15 us for 2 KB, 55 of 215 us for 128 KiB): each thread keeps one.
    """

    level: int = 3
    name: str = "zstd"
    attributes: int = 4
    _of_thread: threading.local = field(
        default_factory=threading.local, init=False, repr=False, compare=False
    )

    def compress(self, data: Data, /) -> bytes:
        try:
            compressor: zstandard.ZstdCompressor = self._of_thread.compressor
        except AttributeError:
            compressor = zstandard.ZstdCompressor(level=self.level)
            self._of_thread.compressor = compressor
        return compressor.compress(data)

    def decompress(self, data: Data, /, max_size: int) -> bytes:
        try:
            # The size a frame claims would be allocated as it is, whatever max_output_size says.
            if zstandard.frame_content_size(data) > max_size:
                raise DecompressionError(f"the data hold more than the {max_size} bytes allowed")
            result = zstandard.ZstdDecompressor().decompress(
                data, max_output_size=max(max_size, 1), allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise DecompressionError(str(error)) from None
        return _bounded(result, True, max_size)
