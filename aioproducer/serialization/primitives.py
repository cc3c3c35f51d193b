"""Single values to the bytes that Java's serializers of the same name make.

Called once per record, on the loop. None never gets here. What a serializer refuses it refuses
with a `SerializationError` that tells types and limits and never the value; resolve.py adds the
topic and the field.
"""

from __future__ import annotations

import codecs
import struct
from types import UnionType
from typing import TYPE_CHECKING

from aioproducer.errors import ConfigError, SerializationError

if TYPE_CHECKING:
    import uuid

__all__ = [
    "BytesSerializer",
    "DoubleSerializer",
    "FloatSerializer",
    "IntegerSerializer",
    "LongSerializer",
    "ShortSerializer",
    "StringSerializer",
    "UUIDSerializer",
]


def _refusal(serializer: object, takes: str, value: object) -> SerializationError:
    name, got = type(serializer).__name__, type(value).__name__
    return SerializationError(f"{name} takes {takes}, not {got}")


def _require(serializer: object, kind: type | UnionType, takes: str, value: object) -> None:
    # A bool is an int to Python, and a mistake here.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _refusal(serializer, takes, value)


class BytesSerializer:
    """Passes bytes on; Java's ByteArraySerializer. What a producer does without a serializer."""

    __slots__ = ()

    def serialize(self, topic: str, value: bytes | bytearray | memoryview, /) -> bytes:
        """Return the bytes themselves, or a copy of what may still change."""
        _require(self, bytes | bytearray | memoryview, "bytes, bytearray or memoryview", value)
        return bytes(value)


class StringSerializer:
    """Encodes text; Java's StringSerializer.

    Args:
        encoding: Any text encoding that Python knows.
    """

    __slots__ = ("_encode", "encoding", "is_utf_8")

    def __init__(self, encoding: str = "utf-8") -> None:
        try:
            "".encode(encoding)
            self._encode = codecs.getencoder(encoding)
        except LookupError:
            raise ConfigError(
                option="encoding", value=encoding, allowed="a text encoding that Python knows"
            ) from None
        self.encoding = encoding
        self.is_utf_8 = codecs.lookup(encoding).name == "utf-8"

    def serialize(self, topic: str, value: str, /) -> bytes:
        """Return the text in this encoding."""
        try:
            return self._encode(value)[0]
        except TypeError:
            raise _refusal(self, "str", value) from None
        except UnicodeEncodeError as error:
            # The error itself would show what it could not encode.
            raise SerializationError(
                f"the character at {error.start} has no form in {self.encoding}"
            ) from None


class _WholeNumberSerializer:
    """A signed integer of a fixed size, big-endian."""

    __slots__ = ()
    _size = 0

    def serialize(self, topic: str, value: int, /) -> bytes:
        """Return the number as a signed big-endian integer of this size."""
        _require(self, int, "int", value)
        try:
            return value.to_bytes(self._size, "big", signed=True)
        except OverflowError:
            bits = 8 * self._size - 1
            raise SerializationError(
                f"{type(self).__name__} takes numbers from -2^{bits} to 2^{bits} - 1"
            ) from None


class ShortSerializer(_WholeNumberSerializer):
    """Two bytes, big-endian, signed; Java's ShortSerializer."""

    __slots__ = ()
    _size = 2


class IntegerSerializer(_WholeNumberSerializer):
    """Four bytes, big-endian, signed; Java's IntegerSerializer."""

    __slots__ = ()
    _size = 4


class LongSerializer(_WholeNumberSerializer):
    """Eight bytes, big-endian, signed; Java's LongSerializer."""

    __slots__ = ()
    _size = 8


class _FractionSerializer:
    """An IEEE 754 number, big-endian."""

    __slots__ = ()
    _layout = struct.Struct(">d")

    def serialize(self, topic: str, value: float, /) -> bytes:
        """Return the number in this precision; nan and the infinities are numbers too."""
        _require(self, float | int, "float", value)
        try:
            return self._layout.pack(value)
        except (OverflowError, struct.error):
            raise SerializationError(f"the number is too large for {type(self).__name__}") from None


class FloatSerializer(_FractionSerializer):
    """Four bytes, IEEE 754, big-endian; Java's FloatSerializer."""

    __slots__ = ()
    _layout = struct.Struct(">f")


class DoubleSerializer(_FractionSerializer):
    """Eight bytes, IEEE 754, big-endian; Java's DoubleSerializer."""

    __slots__ = ()


class UUIDSerializer:
    """The usual text of a UUID, such as `7a9b0e52-...`; Java's UUIDSerializer."""

    __slots__ = ("_takes",)

    def __init__(self) -> None:
        from uuid import UUID

        self._takes = UUID

    def serialize(self, topic: str, value: uuid.UUID, /) -> bytes:
        """Return the 36 characters of the UUID."""
        _require(self, self._takes, "uuid.UUID", value)
        return str(value).encode("ascii")
