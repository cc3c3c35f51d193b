"""Reads and writes Kafka's primitive types and message headers. Bytes in, bytes out, no I/O.

Used by the `apis` modules and by `broker.py`. It shares nothing with the producer's own codec, on
purpose: a mistake made in both would hide itself. A reader raises `WireError` for whatever does
not fit, and never allocates for a length that the bytes left cannot hold.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeVar

__all__ = ["Reader", "RequestHeader", "WireError", "Writer", "read_varint"]

T = TypeVar("T")

_INT8: Final = struct.Struct(">b")
_INT16: Final = struct.Struct(">h")
_INT32: Final = struct.Struct(">i")
_INT64: Final = struct.Struct(">q")
_HEADER: Final = struct.Struct(">hhi")
_MAX_VARINT_BYTES: Final = 10


class WireError(ValueError):
    """The bytes are not what the protocol says they are."""


class RequestHeader(NamedTuple):
    """What every request begins with."""

    api_key: int
    version: int
    correlation_id: int
    client_id: str | None

    @staticmethod
    def peek(data: memoryview) -> tuple[int, int, int]:
        """Return api key, version and correlation id, which need no knowledge of the API."""
        if len(data) < _HEADER.size:
            raise WireError(f"a request of {len(data)} bytes has no header")
        key, version, correlation_id = _HEADER.unpack_from(data)
        return key, version, correlation_id

    @classmethod
    def read(cls, data: memoryview, *, flexible: bool) -> tuple[RequestHeader, Reader]:
        """Return the header (version 1, or 2 if flexible) and a reader of the body."""
        key, version, correlation_id = cls.peek(data)
        # KIP-482 left the client id in its old form in the flexible header too.
        reader = Reader(data[_HEADER.size :])
        client_id = reader.nullable_string()
        reader.flexible = flexible
        reader.tags()
        return cls(key, version, correlation_id, client_id), reader


class Reader:
    """Takes values off the front of a message; `flexible` chooses the compact forms (KIP-482)."""

    def __init__(self, data: memoryview, *, flexible: bool = False) -> None:
        self._data = data
        self._at = 0
        self.flexible = flexible

    @property
    def left(self) -> int:
        """How many bytes have not been read."""
        return len(self._data) - self._at

    def raw(self, size: int) -> memoryview:
        """Return the next `size` bytes, not copied."""
        if size < 0 or size > self.left:
            raise WireError(f"{size} bytes wanted at byte {self._at}, {self.left} are left")
        self._at += size
        return self._data[self._at - size : self._at]

    def int8(self) -> int:
        """Return a signed byte."""
        return int(_INT8.unpack(self.raw(1))[0])

    def int16(self) -> int:
        """Return a signed 16-bit number."""
        return int(_INT16.unpack(self.raw(2))[0])

    def int32(self) -> int:
        """Return a signed 32-bit number."""
        return int(_INT32.unpack(self.raw(4))[0])

    def int64(self) -> int:
        """Return a signed 64-bit number."""
        return int(_INT64.unpack(self.raw(8))[0])

    def boolean(self) -> bool:
        """Return a byte as a truth value."""
        return self.int8() != 0

    def uuid(self) -> bytes:
        """Return the 16 bytes of a UUID."""
        return bytes(self.raw(16))

    def uvarint(self) -> int:
        """Return an unsigned variable-length number."""
        value, self._at = _read_uvarint(self._data, self._at)
        return value

    def _length(self, fixed: Callable[[], int]) -> int:
        return self.uvarint() - 1 if self.flexible else fixed()

    def nullable_string(self) -> str | None:
        """Return a string, or None."""
        size = self._length(self.int16)
        if size == -1:
            return None
        try:
            return str(self.raw(size), "utf-8")
        except UnicodeDecodeError as error:
            raise WireError(f"a string is not UTF-8: {error.reason}") from None

    def string(self) -> str:
        """Return a string."""
        value = self.nullable_string()
        if value is None:
            raise WireError("a string that may not be null is null")
        return value

    def nullable_bytes(self) -> memoryview | None:
        """Return bytes or records, not copied, or None."""
        size = self._length(self.int32)
        return None if size == -1 else self.raw(size)

    def nullable_array(self, item: Callable[[], T]) -> list[T] | None:
        """Return an array whose elements `item` reads, or None."""
        count = self._length(self.int32)
        if count == -1:
            return None
        if not 0 <= count <= self.left:
            raise WireError(f"an array of {count} elements cannot be in {self.left} bytes")
        return [item() for _ in range(count)]

    def array(self, item: Callable[[], T]) -> list[T]:
        """Return an array whose elements `item` reads."""
        values = self.nullable_array(item)
        if values is None:
            raise WireError("an array that may not be null is null")
        return values

    def tags(self) -> dict[int, memoryview]:
        """Return the tagged fields of a flexible version; none otherwise."""
        found: dict[int, memoryview] = {}
        if self.flexible:
            for _ in range(self.uvarint()):
                tag = self.uvarint()
                if found and tag <= max(found):
                    raise WireError(f"tag {tag} does not come after those before it")
                found[tag] = self.raw(self.uvarint())
        return found

    def end(self) -> None:
        """Raise `WireError` if bytes are left."""
        if self.left:
            raise WireError(f"{self.left} bytes follow the message")


class Writer:
    """Appends values to a message; `flexible` chooses the compact forms."""

    def __init__(self, *, flexible: bool = False) -> None:
        self.data = bytearray()
        self.flexible = flexible

    def raw(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes as they are."""
        self.data += data

    def int8(self, value: int) -> None:
        """Append a signed byte."""
        self.data += _INT8.pack(value)

    def int16(self, value: int) -> None:
        """Append a signed 16-bit number."""
        self.data += _INT16.pack(value)

    def int32(self, value: int) -> None:
        """Append a signed 32-bit number."""
        self.data += _INT32.pack(value)

    def int64(self, value: int) -> None:
        """Append a signed 64-bit number."""
        self.data += _INT64.pack(value)

    def boolean(self, value: bool) -> None:
        """Append a truth value as a byte."""
        self.data.append(1 if value else 0)

    def uuid(self, value: bytes) -> None:
        """Append the 16 bytes of a UUID."""
        if len(value) != 16:
            raise WireError(f"a UUID has 16 bytes, not {len(value)}")
        self.data += value

    def uvarint(self, value: int) -> None:
        """Append an unsigned variable-length number."""
        while value > 0x7F:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)

    def _length(self, value: int, fixed: Callable[[int], None]) -> None:
        if self.flexible:
            self.uvarint(value + 1)
        else:
            fixed(value)

    def string(self, value: str | None) -> None:
        """Append a string, or null."""
        if value is None:
            self._length(-1, self.int16)
            return
        data = value.encode()
        self._length(len(data), self.int16)
        self.data += data

    def bytes_(self, value: bytes | bytearray | memoryview | None) -> None:
        """Append bytes or records with their length, or null."""
        if value is None:
            self._length(-1, self.int32)
            return
        self._length(len(value), self.int32)
        self.data += value

    def array(self, items: Iterable[T] | None, item: Callable[[T], object]) -> None:
        """Append an array whose elements `item` writes, or null."""
        if items is None:
            self._length(-1, self.int32)
            return
        values = list(items)
        self._length(len(values), self.int32)
        for value in values:
            item(value)

    def tags(self, fields: Iterable[tuple[int, bytes | bytearray]] = ()) -> None:
        """Append the tagged fields of a flexible version; nothing otherwise."""
        if not self.flexible:
            return
        present = sorted(fields)
        self.uvarint(len(present))
        for tag, data in present:
            self.uvarint(tag)
            self.uvarint(len(data))
            self.data += data


def _read_uvarint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(at, min(at + _MAX_VARINT_BYTES, len(data))):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    raise WireError(f"the variable-length number at byte {at} does not end")


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the zigzag-encoded number at a position, and the position after it."""
    if at < len(data) and (byte := data[at]) < 0x80:  # most numbers of a record are short
        return (byte >> 1) ^ -(byte & 1), at + 1
    value, at = _read_uvarint(data, at)
    return (value >> 1) ^ -(value & 1), at
