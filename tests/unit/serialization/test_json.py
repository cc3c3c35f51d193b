"""Values to JSON."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.errors import SerializationError
from aioproducer.serialization.json import JsonSerializer

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Half a surrogate pair has no form in UTF-8.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=10,
)


def refusal(value: object) -> SerializationError:
    with pytest.raises(SerializationError) as caught:
        JsonSerializer().serialize("payments", value)
    return caught.value


def test_json_is_compact_and_readable_utf_8() -> None:
    value = {"amount": 12, "name": "Zo\xeb", "tags": [1, None]}
    expected = '{"amount":12,"name":"Zo\xeb","tags":[1,null]}'.encode()
    assert JsonSerializer().serialize("payments", value) == expected


@given(values)
def test_what_is_written_can_be_read_back(value: object) -> None:
    assert json.loads(JsonSerializer().serialize("payments", value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_numbers_that_json_does_not_have_are_refused(value: object) -> None:
    assert "JSON compliant" in refusal(value).message


def test_a_type_that_json_does_not_have_is_named_without_its_value() -> None:
    message = refusal({"amount": 12.34j}).message
    assert "complex" in message
    assert "12.34" not in message


def test_a_circle_is_refused() -> None:
    circle: list[object] = []
    circle.append(circle)
    assert "Circular" in refusal(circle).message


def test_a_value_nested_too_deeply_is_refused() -> None:
    value: object = 0
    for _ in range(200_000):
        value = [value]
    assert refusal(value).message == "it is nested too deeply"


def test_half_a_character_is_refused_without_showing_it() -> None:
    error = refusal({"name": "\ud800"})
    assert error.message == "a text in it holds half a surrogate pair"
    assert error.__suppress_context__


def test_another_function_may_write_the_json() -> None:
    assert JsonSerializer(dumps=repr).serialize("payments", [1, 2]) == b"[1, 2]"
    assert JsonSerializer(dumps=pickle.dumps).serialize("payments", 1) == pickle.dumps(1)


def test_what_another_function_raises_is_left_as_it_is() -> None:
    def dumps(value: object) -> str:
        raise ValueError(f"{value} is not for me")

    with pytest.raises(ValueError, match="is not for me"):
        JsonSerializer(dumps=dumps).serialize("payments", 1)
