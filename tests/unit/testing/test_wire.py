from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.testing.wire import Reader, RequestHeader, WireError, Writer, read_varint
from tests.support.reference_batch import varint


def written(write: Callable[[Writer], object], *, flexible: bool = False) -> Reader:
    writer = Writer(flexible=flexible)
    write(writer)
    return Reader(memoryview(writer.data), flexible=flexible)


@given(st.integers(0, 2**70 - 1))
def test_an_unsigned_varint_is_read_as_written(value: int) -> None:
    reader = written(lambda writer: writer.uvarint(value))
    assert reader.uvarint() == value
    reader.end()


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_signed_varint_is_read_as_the_guide_writes_it(value: int) -> None:
    data = varint(value)
    assert read_varint(memoryview(b"x" + data), 1) == (value, 1 + len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 11])
def test_a_varint_that_does_not_end_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError, match="does not end"):
        read_varint(memoryview(data), 0)


@pytest.mark.parametrize("flexible", [False, True])
@pytest.mark.parametrize("value", [None, "", "käse"])
def test_strings_have_two_forms(value: str | None, flexible: bool) -> None:
    reader = written(lambda writer: writer.string(value), flexible=flexible)
    assert reader.nullable_string() == value
    reader.end()


@pytest.mark.parametrize("flexible", [False, True])
@pytest.mark.parametrize("value", [None, b"", b"abc"])
def test_bytes_have_two_forms(value: bytes | None, flexible: bool) -> None:
    reader = written(lambda writer: writer.bytes_(value), flexible=flexible)
    found = reader.nullable_bytes()
    assert (None if found is None else bytes(found)) == value


@pytest.mark.parametrize("flexible", [False, True])
@pytest.mark.parametrize("value", [None, [], [1, -2, 3]])
def test_arrays_have_two_forms(value: list[int] | None, flexible: bool) -> None:
    reader = written(lambda writer: writer.array(value, writer.int64), flexible=flexible)
    assert reader.nullable_array(reader.int64) == value


@pytest.mark.parametrize("flexible", [False, True])
def test_a_null_where_none_may_be_is_an_error(flexible: bool) -> None:
    with pytest.raises(WireError, match="null"):
        written(lambda writer: writer.string(None), flexible=flexible).string()
    reader = written(lambda writer: writer.array(None, writer.int8), flexible=flexible)
    with pytest.raises(WireError, match="null"):
        reader.array(reader.int8)


def test_numbers_of_all_sizes_are_read_as_written() -> None:
    def write(writer: Writer) -> None:
        writer.int8(-1)
        writer.int16(-2)
        writer.int32(-3)
        writer.int64(-4)
        writer.boolean(True)
        writer.uuid(bytes(range(16)))
        writer.raw(b"rest")

    reader = written(write)
    assert (reader.int8(), reader.int16(), reader.int32(), reader.int64()) == (-1, -2, -3, -4)
    assert reader.boolean()
    assert reader.uuid() == bytes(range(16))
    assert reader.left == 4


def test_a_uuid_has_16_bytes() -> None:
    with pytest.raises(WireError, match="16"):
        Writer().uuid(b"short")


def test_tags_are_read_as_written_and_sorted() -> None:
    reader = written(lambda writer: writer.tags([(3, b"c"), (1, b"")]), flexible=True)
    assert {tag: bytes(data) for tag, data in reader.tags().items()} == {1: b"", 3: b"c"}


def test_versions_that_are_not_flexible_have_no_tags() -> None:
    reader = written(lambda writer: writer.tags([(1, b"a")]))
    assert reader.left == 0
    assert reader.tags() == {}


def test_a_tag_that_comes_twice_is_an_error() -> None:
    with pytest.raises(WireError, match="tag 1"):
        Reader(memoryview(b"\2\1\0\1\0"), flexible=True).tags()


def test_a_length_beyond_the_end_is_an_error_and_takes_no_memory() -> None:
    with pytest.raises(WireError):
        Reader(memoryview(b"\x7f\xff\xff\xff")).nullable_bytes()
    reader = Reader(memoryview(b"\x7f\xff\xff\xff"))
    with pytest.raises(WireError, match="array"):
        reader.array(reader.int8)


def test_a_negative_length_other_than_null_is_an_error() -> None:
    with pytest.raises(WireError):
        Reader(memoryview(b"\xff\xff\xff\xfe")).nullable_bytes()


def test_text_that_is_not_utf8_is_an_error() -> None:
    with pytest.raises(WireError, match="UTF-8"):
        Reader(memoryview(b"\0\1\xff")).string()


def test_bytes_that_are_left_are_an_error() -> None:
    with pytest.raises(WireError, match="1 bytes follow"):
        Reader(memoryview(b"x")).end()


@pytest.mark.parametrize("flexible", [False, True])
def test_the_client_id_has_its_old_form_in_both_headers(flexible: bool) -> None:
    data = b"\0\3\0\1\0\0\0\7\0\1c" + (b"\0" if flexible else b"") + b"body"
    header, reader = RequestHeader.read(memoryview(data), flexible=flexible)
    assert header == (3, 1, 7, "c")
    assert bytes(reader.raw(reader.left)) == b"body"


def test_a_request_shorter_than_its_header_is_an_error() -> None:
    with pytest.raises(WireError, match="no header"):
        RequestHeader.peek(memoryview(b"\0\3"))
