"""What a codec is, and what all of them have in common."""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["Codec", "Data", "DecompressionError", "bounded"]

Data: TypeAlias = bytes | bytearray | memoryview
"""What is compressed: contiguous bytes, read and never kept."""


class DecompressionError(ValueError):
    """The data are not in the codec's format, are cut short, or would become too large."""


class Codec:
    """Compresses the records of a batch. Without state: share it, also between threads."""

    name: str
    """The codec's name in `compression_type`."""

    attributes: int
    """The codec's number, in the lowest three bits of a batch's attributes."""

    def compress(self, data: Data, /) -> bytes:
        """Return the data compressed; the same data give the same bytes."""
        raise NotImplementedError

    def decompress(self, data: Data, /, max_size: int) -> bytes:
        """Return what was compressed.

        Raises:
            DecompressionError: The data are damaged, or hold more than `max_size` bytes.
        """
        raise NotImplementedError


def bounded(data: bytes, whole: bool, max_size: int) -> bytes:
    """Return decompressed data if they are within bounds and all there.

    Raises:
        DecompressionError: They are not.
    """
    if len(data) > max_size:
        raise DecompressionError(f"the data hold more than the {max_size} bytes allowed")
    if not whole:
        raise DecompressionError("the data are cut short, or more follows them")
    return data
