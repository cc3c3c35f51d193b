"""gzip, by the zlib of the standard library."""

from __future__ import annotations

import zlib
from typing import Final

from aioproducer.compression.codec import Codec, Data, DecompressionError, bounded

__all__ = ["Gzip"]

_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
"""16 asks zlib for the gzip framing."""


class Gzip(Codec):
    """RFC 1952. zlib writes no file name and no time, so equal data give equal bytes."""

    name = "gzip"
    attributes = 1

    def __init__(self, level: int = -1) -> None:
        self.level = level

    def compress(self, data: Data, /) -> bytes:
        """Return one gzip member."""
        return zlib.compress(data, self.level, _GZIP_WINDOW)

    def decompress(self, data: Data, /, max_size: int) -> bytes:
        """Return what one gzip member holds."""
        stream = zlib.decompressobj(_GZIP_WINDOW)
        try:
            result = stream.decompress(data, max_size + 1)
        except zlib.error as error:
            raise DecompressionError(str(error)) from None
        return bounded(result, stream.eof and not stream.unused_data, max_size)
