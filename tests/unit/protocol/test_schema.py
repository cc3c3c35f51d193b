from __future__ import annotations

from typing import NamedTuple

import pytest

from aioproducer._native.codec import decode, encode
from aioproducer.protocol.produce import PRODUCE
from aioproducer.protocol.schema import (
    BOOL,
    INT8,
    INT16,
    INT32,
    STRING,
    Array,
    Field,
    Struct,
    compile_plan,
)


class Inner(NamedTuple):
    number: int = 3


class Outer(NamedTuple):
    old: int = 1
    new: int = 2
    name: str | None = ""
    tagged: tuple[int, ...] = ()


OUTER = Struct(
    Outer,
    Field("old", INT8, until=1),
    Field("new", INT8, since=1, ignorable=True),
    Field("unused", Struct(Inner, Field("number", INT8)), since=1, until=1, skip=True),
    Field("unused_too", Array(INT32), since=1, until=1, skip=True),
    Field("unused_number", INT16, since=1, until=1, skip=True, default=-1),
    Field("unused_text", STRING, since=1, until=1, skip=True),
    Field("name", STRING, nullable_since=2, never_compact=True),
    Field("tagged", Array(INT16), since=2, tag=4),
    Field("unused_tag", BOOL, since=2, tag=5, skip=True),
)


def wire(value: Outer, version: int) -> bytes:
    return b"".join(encode(value, compile_plan(OUTER, version, version >= 2)))


def test_a_field_is_written_in_the_versions_that_have_it() -> None:
    assert wire(Outer(1, 2), 0) == b"\x01" + b"\x00\x00"
    assert wire(Outer(1, 2), 1) == b"\x01\x02" + b"\x03" + bytes(4) + b"\xff\xff" + bytes(4)
    assert wire(Outer(1, 2), 2) == b"\x02" + b"\x00\x00" + b"\x00"


def test_a_field_is_null_only_in_the_versions_that_allow_it() -> None:
    assert wire(Outer(1, 2, None), 2) == b"\x02" + b"\xff\xff" + b"\x00"
    with pytest.raises(TypeError, match="None"):
        wire(Outer(1, 2, None), 1)


def test_a_tagged_field_is_written_if_it_is_not_the_default() -> None:
    assert wire(Outer(1, 2, "", (7,)), 2) == b"\x02\x00\x00" + b"\x01\x04\x03\x02\x00\x07"


def test_what_is_read_over_is_not_in_the_value() -> None:
    data = b"\x05\x06" + b"\x63" + b"\x00\x00\x00\x01\x00\x00\x00\x09"
    data += b"\x00\x07" + b"\x00\x02ab" + b"\x00\x01x"
    assert decode(data, compile_plan(OUTER, 1, False)) == (Outer(5, 6, "x"), len(data))


def test_a_plan_is_compiled_once() -> None:
    assert compile_plan(OUTER, 2, True) is compile_plan(OUTER, 2, True)
    assert PRODUCE.request_plan(9) is PRODUCE.request_plan(9)


def test_a_declaration_names_the_fields_of_its_class_and_no_others() -> None:
    with pytest.raises(TypeError, match="other fields"):
        Struct(Inner, Field("nummer", INT8))
    with pytest.raises(TypeError, match="other fields"):
        Struct(Inner)


def test_a_version_outside_the_range_of_the_api_has_no_plan() -> None:
    with pytest.raises(ValueError, match="7-13"):
        PRODUCE.response_plan(14)
