"""Valid bytes into hostile ones: cut, flipped, stretched, with lengths and counts that lie."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["LIES", "hostile"]

LIES = {
    "the largest int32": b"\x7f\xff\xff\xff",
    "the smallest int32": b"\x80\x00\x00\x00",
    "minus one, null where null is allowed": b"\xff\xff\xff\xff",
    "minus two": b"\xff\xff\xff\xfe",
    "the largest int16": b"\x7f\xff",
    "the smallest int16": b"\x80\x00",
    "no length at all": b"\x00",
    "a varint of 2^31 - 1": b"\xff\xff\xff\xff\x07",
    "a varint of 2^32 - 1": b"\xff\xff\xff\xff\x0f",
    "a varint of 2^62": b"\x80" * 8 + b"\x40",
    "a varint of 2^64 - 1": b"\xff" * 9 + b"\x01",
    "a varint of zero in five bytes": b"\x80\x80\x80\x80\x00",
    "a varint of zero in ten bytes": b"\x80" * 9 + b"\x00",
    "a varint without end": b"\xff" * 12,
    "half a UTF-8 sequence": b"\xe2\x82",
    "a UTF-8 surrogate": b"\xed\xa0\x80",
    "an over-long UTF-8 slash": b"\xc0\xaf",
}

_WAYS = ("cut", "flip", "overwrite", "insert", "delete", "repeat", "append")


def _changed(draw: st.DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    match draw(st.sampled_from(_WAYS)):
        case "cut":
            return data[:at]
        case "flip":
            flipped = bytearray(data)
            if data:
                flipped[at] ^= 1 << draw(st.integers(0, 7))
            return bytes(flipped)
        case "overwrite":
            lie = draw(st.sampled_from(list(LIES.values())))
            return data[:at] + lie + data[at + len(lie) :]
        case "insert":
            return data[:at] + draw(st.sampled_from(list(LIES.values()))) + data[at:]
        case "delete":
            return data[:at] + data[at + draw(st.integers(1, 8)) :]
        case "repeat":
            part = data[at : at + draw(st.integers(1, 40))]
            return data[:at] + part * draw(st.integers(2, 60)) + data[at:]
        case _:
            return data + draw(st.binary(min_size=1, max_size=20))


@st.composite
def _mutated(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    data = draw(valid)
    for _ in range(draw(st.integers(1, 4))):
        data = _changed(draw, data)
    return data


def hostile(valid: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy of valid bytes with one to four faults; sometimes valid, or pure noise."""
    mutated = _mutated(valid)
    return st.one_of(mutated, mutated, mutated, valid, st.binary(max_size=120))
