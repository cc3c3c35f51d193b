from __future__ import annotations

import gc
import struct
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioproducer._native import codec
from aioproducer._native.codec import Plan, decode, encode, encode_frame
from aioproducer.errors import ProtocolError, UnsupportedVersionError

quick = settings(max_examples=50, deadline=None, database=None)


def write(value: object, plan: Plan) -> bytes:
    return b"".join(encode(value, plan))


def read(data: bytes, plan: Plan) -> object:
    value, end = decode(data, plan)
    assert end == len(data)
    return value


def varint(value: int) -> bytes:
    """Encode an unsigned varint, the slow and obvious way."""
    out = bytearray()
    while value > 127:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


class Point(NamedTuple):
    x: int = 0
    y: int = 0


class Shape(NamedTuple):
    name: str | None = ""
    points: tuple[Point, ...] = ()
    color: int = 7


INT8 = Plan(codec.INT8)
POINT = Plan(codec.STRUCT, record=Point, fields=[(INT8, 0, None), (INT8, 1, None)])
FLEXIBLE_POINT = Plan(
    codec.STRUCT, record=Point, fields=[(INT8, 0, None), (INT8, 1, None)], flexible=True
)
SHAPE = Plan(
    codec.STRUCT,
    record=Shape,
    fields=[
        (Plan(codec.STRING, nullable=True, compact=True), 0, None),
        (Plan(codec.ARRAY, compact=True, element=FLEXIBLE_POINT), 1, None),
    ],
    tagged=[(3, INT8, 2)],
    flexible=True,
)
shapes = st.builds(
    Shape,
    st.one_of(st.none(), st.text(max_size=9)),
    st.lists(st.builds(Point, st.integers(-128, 127), st.integers(-128, 127)), max_size=4).map(
        tuple
    ),
    st.integers(-128, 127),
)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        (codec.INT8, ">b"),
        (codec.INT16, ">h"),
        (codec.INT32, ">i"),
        (codec.INT64, ">q"),
        (codec.UINT16, ">H"),
        (codec.UINT32, ">I"),
    ],
)
def test_a_number_is_big_endian_and_stays_in_its_range(kind: int, form: str) -> None:
    bits = struct.calcsize(form) * 8
    low, high = (0, 2**bits - 1) if form.isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    plan = Plan(kind)
    for value in (low, high, 0, 1, high // 3, low // 3):
        assert write(value, plan) == struct.pack(form, value)
        assert read(struct.pack(form, value), plan) == value
    for value in (low - 1, high + 1, 2**70):
        with pytest.raises(OverflowError):
            encode(value, plan)
    with pytest.raises(ProtocolError, match="bytes needed"):
        decode(struct.pack(form, 1)[:-1], plan)


@quick
@given(st.integers(0, 2**32 - 1))
def test_an_unsigned_varint_has_seven_bits_a_byte(value: int) -> None:
    plan = Plan(codec.UNSIGNED_VARINT)
    assert write(value, plan) == varint(value)
    assert read(varint(value), plan) == value


@pytest.mark.parametrize(("kind", "bits"), [(codec.VARINT, 32), (codec.VARLONG, 64)])
def test_a_signed_varint_is_zigzag(kind: int, bits: int) -> None:
    plan = Plan(kind)
    for value in (0, -1, 1, -64, 64, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))):
        zigzag = 2 * value if value >= 0 else -2 * value - 1
        assert write(value, plan) == varint(zigzag)
        assert read(varint(zigzag), plan) == value
    with pytest.raises(OverflowError):
        encode(2 ** (bits - 1), plan)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (codec.UNSIGNED_VARINT, b"\xff\xff\xff\xff\x10"),
        (codec.UNSIGNED_VARINT, b"\x80\x80\x80\x80\x80\x00"),
        (codec.VARINT, b"\xff\xff\xff\xff\xff\x01"),
        (codec.VARLONG, b"\xff" * 9 + b"\x02"),
        (codec.VARLONG, b"\x80" * 10 + b"\x00"),
    ],
)
def test_an_over_long_varint_is_refused(kind: int, data: bytes) -> None:
    with pytest.raises(ProtocolError, match="a varint longer than"):
        decode(data, Plan(kind))


def test_a_varint_without_end_is_refused() -> None:
    with pytest.raises(ProtocolError, match="1 bytes needed but 0 left at byte 1"):
        decode(b"\x80", Plan(codec.UNSIGNED_VARINT))


def test_any_byte_but_zero_is_true() -> None:
    plan = Plan(codec.BOOL)
    assert [read(byte, plan) for byte in (b"\x00", b"\x01", b"\x02")] == [False, True, True]
    assert write(True, plan) + write(False, plan) == b"\x01\x00"


def test_a_uuid_is_its_16_bytes() -> None:
    plan = Plan(codec.UUID)
    assert write(bytes(range(16)), plan) == bytes(range(16))
    assert read(bytes(range(16)), plan) == bytes(range(16))
    with pytest.raises(ValueError, match="16 bytes"):
        encode(b"short", plan)


@pytest.mark.parametrize(
    ("kind", "value", "old", "compact"),
    [
        (codec.STRING, "h\u00e9", b"\x00\x03h\xc3\xa9", b"\x04h\xc3\xa9"),
        (codec.STRING, "", b"\x00\x00", b"\x01"),
        (codec.STRING, None, b"\xff\xff", b"\x00"),
        (codec.BYTES, b"ab", b"\x00\x00\x00\x02ab", b"\x03ab"),
        (codec.BYTES, b"", b"\x00\x00\x00\x00", b"\x01"),
        (codec.BYTES, None, b"\xff\xff\xff\xff", b"\x00"),
        (codec.RECORDS, (b"ab",), b"\x00\x00\x00\x02ab", b"\x03ab"),
        (codec.RECORDS, None, b"\xff\xff\xff\xff", b"\x00"),
    ],
)
def test_a_block_is_its_length_and_its_bytes(
    kind: int, value: object, old: bytes, compact: bytes
) -> None:
    for is_compact, data in ((False, old), (True, compact)):
        plan = Plan(kind, nullable=True, compact=is_compact)
        assert write(value, plan) == data
        assert read(data, plan) == value
        if value is None:
            strict = Plan(kind, compact=is_compact)
            with pytest.raises(ProtocolError, match="null"):
                decode(data, strict)
            with pytest.raises(TypeError, match="None"):
                encode(None, strict)


@pytest.mark.parametrize("compact", [False, True])
def test_a_string_has_at_most_32767_bytes(compact: bool) -> None:
    plan = Plan(codec.STRING, compact=compact)
    assert read(write("x" * 32767, plan), plan) == "x" * 32767
    with pytest.raises(ValueError, match="32767"):
        encode("x" * 32768, plan)


def test_a_longer_compact_string_from_the_broker_is_refused() -> None:
    data = write(b"x" * 32768, Plan(codec.BYTES, compact=True))
    with pytest.raises(ProtocolError, match="a string of 32768 bytes"):
        decode(data, Plan(codec.STRING, compact=True))


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ProtocolError, match="not UTF-8 at byte 2"):
        decode(b"\x00\x02\xff\xfe", Plan(codec.STRING))
    with pytest.raises(UnicodeEncodeError):
        encode("\ud800", Plan(codec.STRING))


@pytest.mark.parametrize("value", [b"bytes", 5, None])
def test_a_string_field_takes_strings_only(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value, Plan(codec.STRING))


@pytest.mark.parametrize("data", [b"\x80\x00\x00\x00", b"\xff\xff\xff\xfe", b"\xff\xff\xff\xff"])
@pytest.mark.parametrize("kind", [codec.BYTES, codec.RECORDS, codec.ARRAY])
def test_a_negative_length_is_refused(kind: int, data: bytes) -> None:
    element = INT8 if kind == codec.ARRAY else None
    with pytest.raises(ProtocolError):
        decode(data + bytes(20), Plan(kind, element=element))


@pytest.mark.parametrize("kind", [codec.STRING, codec.BYTES, codec.RECORDS])
def test_a_length_beyond_the_data_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match="bytes needed but 3 left"):
        decode(b"\xff\xff\xff\xff\x0fabc", Plan(kind, compact=True))


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_a_count_that_cannot_fit_is_refused_before_memory_is_taken(size: int) -> None:
    kinds = {1: codec.BOOL, 2: codec.INT16, 4: codec.INT32, 8: codec.INT64, 16: codec.UUID}
    plan = Plan(codec.ARRAY, element=Plan(kinds[size]))
    fits = b"\x00\x00\x00\x02" + bytes(2 * size)
    assert len(tuple(decode(fits, plan)[0])) == 2  # type: ignore[arg-type]  # pyright: ignore
    for count in (3, 2**31 - 1):
        with pytest.raises(ProtocolError, match=f"{count} elements announced"):
            decode(count.to_bytes(4, "big") + bytes(2 * size), plan)


def test_an_array_is_a_tuple_and_any_sequence_is_taken() -> None:
    plan = Plan(codec.ARRAY, element=Plan(codec.INT16), nullable=True)
    assert read(b"\x00\x00\x00\x02\x00\x01\xff\xff", plan) == (1, -1)
    assert write([1, -1], plan) == write((1, -1), plan) == b"\x00\x00\x00\x02\x00\x01\xff\xff"
    assert write(None, plan) == b"\xff\xff\xff\xff"
    assert read(b"\xff\xff\xff\xff", plan) is None
    with pytest.raises(TypeError):
        encode(5, plan)


@quick
@given(shapes)
def test_a_struct_comes_back_as_its_class(shape: Shape) -> None:
    back = read(write(shape, SHAPE), SHAPE)
    assert back == shape
    assert isinstance(back, Shape)
    assert all(type(point) is Point for point in back.points)
    assert hash(back) == hash(shape)


def test_a_tagged_field_is_written_unless_it_is_its_default() -> None:
    assert write(Shape("", (), 7), SHAPE) == b"\x01\x01\x00"
    assert write(Shape("", (), 8), SHAPE) == b"\x01\x01\x01\x03\x01\x08"


def test_an_unknown_tagged_field_is_read_over() -> None:
    data = b"\x01\x01" + b"\x03" + b"\x02\x02ab" + b"\x03\x01\x08" + b"\xff\x01\x00"
    assert read(data, SHAPE) == Shape("", (), 8)


@pytest.mark.parametrize(
    "tags",
    [
        b"\x01\x03\x02\x08\x00",  # a byte too many for an int8
        b"\x01\x03\x00",  # none
        b"\x01\x03\x05\x08",  # longer than the data
        b"\x7f\x03\x01\x08",  # too many
        b"\x01\x03",
        b"",
    ],
)
def test_a_tagged_field_of_wrong_size_is_refused(tags: bytes) -> None:
    with pytest.raises(ProtocolError, match="Shape"):
        decode(b"\x01\x01" + tags, SHAPE)


def test_a_large_tagged_field_gets_a_long_size() -> None:
    class Tagged(NamedTuple):
        text: bytes = b""

    plan = Plan(
        codec.STRUCT,
        record=Tagged,
        tagged=[(200, Plan(codec.BYTES, compact=True), 0)],
        flexible=True,
    )
    for size in (1, 125, 126, 127, 128, 20000):
        value = Tagged(b"x" * size)
        payload = varint(size + 1) + value.text
        assert write(value, plan) == b"\x01" + varint(200) + varint(len(payload)) + payload
        assert read(write(value, plan), plan) == value


def test_a_field_that_the_version_lacks_is_its_default() -> None:
    plan = Plan(codec.STRUCT, record=Point, fields=[(INT8, 1, None)], strict=[0])
    assert read(b"\x05", plan) == Point(0, 5)
    assert write(Point(0, 5), plan) == b"\x05"
    with pytest.raises(UnsupportedVersionError, match=r"Point\.x"):
        encode(Point(1, 5), plan)


class Skipping(NamedTuple):
    last: int = 0


SKIPPED = [
    (Plan(codec.STRING, compact=True), "ab", b"\x03ab"),
    (Plan(codec.BYTES, nullable=True), None, b"\xff\xff\xff\xff"),
    (Plan(codec.INT64), 1, bytes(7) + b"\x01"),
    (Plan(codec.VARLONG), -1, b"\x01"),
    (Plan(codec.VARINT), 64, b"\x80\x01"),
    (Plan(codec.ARRAY, element=Plan(codec.INT16)), (1, 2), b"\x00\x00\x00\x02\x00\x01\x00\x02"),
    (
        Plan(codec.ARRAY, compact=True, element=Plan(codec.STRING, compact=True)),
        ("a", ""),
        b"\x03\x02a\x01",
    ),
    (POINT, Point(1, 2), b"\x01\x02"),
    (SHAPE, Shape("a", (Point(1, 2),), 8), b"\x02a\x02\x01\x02\x00\x01\x03\x01\x08"),
]


@pytest.mark.parametrize(("plan", "default", "data"), SKIPPED)
def test_a_skipped_field_is_read_over_and_written_as_its_default(
    plan: Plan, default: object, data: bytes
) -> None:
    skipping = Plan(codec.STRUCT, record=Skipping, fields=[(plan, -1, default), (INT8, 0, None)])
    assert write(Skipping(9), skipping) == data + b"\x09"
    assert read(data + b"\x09", skipping) == Skipping(9)
    for size in range(len(data)):
        with pytest.raises(ProtocolError):
            decode(data[:size], skipping)


def test_an_error_names_the_path_of_the_field() -> None:
    text = Plan(codec.STRING, compact=True)
    line = Plan(codec.STRUCT, record=Point, fields=[(text, 1, None)])
    lines = Plan(codec.ARRAY, compact=True, element=line)
    plan = Plan(codec.STRUCT, record=Shape, fields=[(text, 0, None), (lines, 1, None)])
    with pytest.raises(
        ProtocolError, match=r"4 bytes needed but 0 left at byte 3, in Shape\.po"
    ) as e:
        decode(b"\x01\x02\x05", plan)
    assert str(e.value).endswith("in Shape.points.y.")


@pytest.mark.parametrize(
    "value", [(1, 2), [1, 2], None, Shape(), "xy"], ids=lambda value: type(value).__name__
)
def test_a_struct_takes_its_own_class_only(value: object) -> None:
    with pytest.raises(TypeError, match="Point expected"):
        encode(value, POINT)


# Records.

RECORDS = Plan(codec.RECORDS, nullable=True, compact=True)


def test_the_chunks_of_records_are_passed_on_and_not_copied() -> None:
    batch = bytearray(b"records")
    header = b"header"
    chunks = encode((header, memoryview(batch)[2:5]), RECORDS)
    assert chunks[:2] == [b"\x0a", header]
    assert chunks[1] is header
    assert isinstance(chunks[2], memoryview)
    assert chunks[2].obj is batch
    batch[2:5] = b"XYZ"
    assert b"".join(chunks) == b"\x0aheaderXYZ"


def test_a_chunk_counts_in_bytes_whatever_its_items() -> None:
    wide = memoryview(bytearray(8)).cast("I")
    chunks = encode((wide,), RECORDS)
    assert b"".join(chunks) == b"\x09" + bytes(8)
    assert len(chunks[1]) == 8


def test_an_empty_chunk_is_left_out() -> None:
    assert encode((b"", bytearray(), b"x"), RECORDS) == [b"\x02", b"x"]


@pytest.mark.parametrize("records", [b"bytes", memoryview(b"bytes"), "text", (1,), ("text",)])
def test_records_are_a_sequence_of_buffers(records: object) -> None:
    with pytest.raises(TypeError):
        encode(records, RECORDS)


def test_a_chunk_with_gaps_is_refused() -> None:
    with pytest.raises(TypeError):
        encode((memoryview(bytearray(8))[::2],), RECORDS)


def test_a_frame_starts_with_the_size_of_all_its_chunks() -> None:
    chunks = encode_frame(Point(1, 2), POINT, (b"ab", memoryview(b"cd")), RECORDS)
    assert b"".join(chunks) == b"\x00\x00\x00\x07" + b"\x01\x02" + b"\x05abcd"
    assert chunks[0] == b"\x00\x00\x00\x07\x01\x02\x05"


def test_decoding_starts_at_an_offset_and_returns_where_it_ended() -> None:
    assert decode(b"ab\x01\x02cd", POINT, 2) == (Point(1, 2), 4)
    assert decode(bytearray(b"\x01\x02"), POINT) == decode(memoryview(b"\x01\x02"), POINT)
    for offset in (-1, 3):
        with pytest.raises(ValueError, match="outside"):
            decode(b"ab", INT8, offset)


# Plans.


def test_elements_without_size_are_refused() -> None:
    class Nothing(NamedTuple):
        pass

    nothing = Plan(codec.STRUCT, record=Nothing)
    assert nothing.min_size == 0
    with pytest.raises(ValueError, match="take room"):
        Plan(codec.ARRAY, element=nothing)


def test_plans_are_not_nested_without_bound() -> None:
    plan = INT8

    def nest() -> None:
        nonlocal plan
        plan = Plan(codec.STRUCT, record=Skipping, fields=[(plan, 0, None)])

    for _ in range(15):
        nest()
    with pytest.raises(ValueError, match="too deep"):
        nest()
    assert plan.depth == 15
    with pytest.raises(ProtocolError, match=r"Skipping(\.last){15}"):
        decode(b"", plan)


def test_a_plan_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="no such kind"):
        Plan(99)
    with pytest.raises(ValueError, match="needs an element"):
        Plan(codec.ARRAY)
    with pytest.raises(TypeError, match="NamedTuple"):
        Plan(codec.STRUCT)
    with pytest.raises(ValueError, match="nullable structs"):
        Plan(codec.STRUCT, record=Point, nullable=True)
    with pytest.raises(ValueError, match="declared twice"):
        Plan(codec.STRUCT, record=Point, fields=[(INT8, 0, None), (INT8, 0, None)])
    with pytest.raises(ValueError, match="not in the record"):
        Plan(codec.STRUCT, record=Point, fields=[(INT8, 2, None)])
    with pytest.raises(ValueError, match="flexible"):
        Plan(codec.STRUCT, record=Point, tagged=[(0, INT8, 0)])


def test_a_plan_has_its_minimal_size() -> None:
    assert (POINT.min_size, FLEXIBLE_POINT.min_size, SHAPE.min_size) == (2, 3, 3)


def test_a_failed_decode_leaves_no_object_behind() -> None:
    data = write(Shape("a", (Point(1, 2),) * 50, 8), SHAPE)
    gc.collect()
    before = len(gc.get_objects())
    for size in range(len(data)):
        with pytest.raises(ProtocolError):
            decode(data[:size], SHAPE)
    gc.collect()
    assert len(gc.get_objects()) <= before + 10
