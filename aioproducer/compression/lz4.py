"""lz4, in the frames that Java makes and reads."""

from __future__ import annotations

from typing import Any, Final, cast

import lz4.frame  # pyright: ignore[reportMissingTypeStubs]

from aioproducer.compression.codec import Codec, Data, DecompressionError, bounded

__all__ = ["Lz4"]

_lz4 = cast("Any", lz4.frame)
_FAST_LEVEL: Final = 9


class Lz4(Codec):
    """The lz4 frame format, in the one shape that Java's Lz4BlockInputStream is made for.

    Independent blocks (it refuses linked ones) of 64 KiB (a reader allocates one block, so larger
    ones would cost every consumer) and no checksums (the batch has its CRC-32C). Java's default
    level, 9, is its fast compressor and not a high-compression level; so it is here.
    """

    name = "lz4"
    attributes = 3

    def __init__(self, level: int = _FAST_LEVEL) -> None:
        self.level = level

    def compress(self, data: Data, /) -> bytes:
        """Return one lz4 frame."""
        compressed: bytes = _lz4.compress(
            data,
            compression_level=0 if self.level == _FAST_LEVEL else self.level,
            block_size=_lz4.BLOCKSIZE_MAX64KB,
            block_linked=False,
            content_checksum=False,
            block_checksum=False,
            store_size=False,
        )
        return compressed

    def decompress(self, data: Data, /, max_size: int) -> bytes:
        """Return what one lz4 frame holds."""
        stream = _lz4.LZ4FrameDecompressor()
        try:
            result: bytes = stream.decompress(data, max_length=max_size + 1)
        except RuntimeError as error:
            raise DecompressionError(str(error)) from None
        return bounded(result, stream.eof and not stream.unused_data, max_size)
