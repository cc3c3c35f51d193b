"""Single values, byte for byte as Java's serializers write them."""

from __future__ import annotations

import struct
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.errors import ConfigError, SerializationError
from aioproducer.serialization.primitives import (
    BytesSerializer,
    DoubleSerializer,
    FloatSerializer,
    IntegerSerializer,
    LongSerializer,
    ShortSerializer,
    StringSerializer,
    UUIDSerializer,
)


def serialized(serializer: Any, value: object) -> bytes:
    """Serialize anything, also what the types forbid."""
    result = serializer.serialize("payments", value)
    assert type(result) is bytes
    return result


def refusal(serializer: object, value: object) -> str:
    with pytest.raises(SerializationError) as caught:
        serialized(serializer, value)
    return caught.value.message


@pytest.mark.parametrize(
    ("serializer", "value", "java"),
    [
        (ShortSerializer(), 1, "0001"),
        (ShortSerializer(), -32768, "8000"),
        (IntegerSerializer(), 1, "00000001"),
        (IntegerSerializer(), -1, "ffffffff"),
        (IntegerSerializer(), 2147483647, "7fffffff"),
        (LongSerializer(), 1, "0000000000000001"),
        (LongSerializer(), -(2**63), "8000000000000000"),
        (FloatSerializer(), 1.5, "3fc00000"),
        (FloatSerializer(), float("inf"), "7f800000"),
        (DoubleSerializer(), 1.5, "3ff8000000000000"),
        (DoubleSerializer(), 2, "4000000000000000"),
        (StringSerializer(), "\N{EURO SIGN}", "e282ac"),
        (StringSerializer(), "", ""),
        (StringSerializer("utf-16-be"), "a", "0061"),
    ],
)
def test_a_value_has_javas_bytes(serializer: object, value: object, java: str) -> None:
    assert serialized(serializer, value).hex() == java


def test_a_uuid_is_its_text() -> None:
    text = "7a9b0e52-3c1d-4f7e-9d51-0f2b8a6c4e13"
    assert serialized(UUIDSerializer(), uuid.UUID(text)) == text.encode()


@pytest.mark.parametrize("value", [b"abc", bytearray(b"abc"), memoryview(b"xabc")[1:]])
def test_bytes_of_any_kind_become_bytes(value: object) -> None:
    assert serialized(BytesSerializer(), value) == b"abc"


@pytest.mark.parametrize(
    ("serializer", "bits"),
    [(ShortSerializer(), 15), (IntegerSerializer(), 31), (LongSerializer(), 63)],
)
def test_a_whole_number_out_of_range_is_refused_without_showing_it(
    serializer: object, bits: int
) -> None:
    for value in (2**bits, -(2**bits) - 1):
        message = refusal(serializer, value)
        assert (
            message == f"{type(serializer).__name__} takes numbers from -2^{bits} to 2^{bits} - 1"
        )


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_whole_number_in_range_can_be_read_back(value: int) -> None:
    assert struct.unpack(">q", serialized(LongSerializer(), value)) == (value,)


@given(st.floats(width=32, allow_nan=False))
def test_a_float_can_be_read_back(value: float) -> None:
    assert struct.unpack(">f", serialized(FloatSerializer(), value)) == (value,)


@pytest.mark.parametrize(
    ("serializer", "value"), [(FloatSerializer(), 1e300), (DoubleSerializer(), 10**400)]
)
def test_a_fraction_too_large_is_refused(serializer: object, value: object) -> None:
    assert "too large" in refusal(serializer, value)


@given(st.text())
def test_any_text_without_half_characters_is_its_utf_8(value: str) -> None:
    assert serialized(StringSerializer(), value) == value.encode()


def test_a_character_the_encoding_does_not_have_is_named_by_its_position() -> None:
    assert refusal(StringSerializer(), "ab\ud800") == "the character at 2 has no form in utf-8"
    assert "at 0 has no form in ascii" in refusal(StringSerializer("ascii"), "\xe9")


def test_what_could_not_be_encoded_is_in_no_traceback_either() -> None:
    with pytest.raises(SerializationError) as caught:
        serialized(StringSerializer("ascii"), "\xe9")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("encoding", ["utf-9", "hex"])
def test_an_unknown_encoding_is_refused_at_once(encoding: str) -> None:
    with pytest.raises(ConfigError, match=f"encoding='{encoding}'"):
        StringSerializer(encoding)


@pytest.mark.parametrize(
    ("serializer", "takes"),
    [
        (BytesSerializer(), "bytes, bytearray or memoryview"),
        (StringSerializer(), "str"),
        (ShortSerializer(), "int"),
        (IntegerSerializer(), "int"),
        (LongSerializer(), "int"),
        (FloatSerializer(), "float"),
        (DoubleSerializer(), "float"),
        (UUIDSerializer(), "uuid.UUID"),
    ],
)
@pytest.mark.parametrize("value", [True, {}, None])
def test_another_type_is_refused_by_its_name(serializer: object, takes: str, value: object) -> None:
    name = type(serializer).__name__
    assert refusal(serializer, value) == f"{name} takes {takes}, not {type(value).__name__}"
