"""How a serializer is called: with what, and which values it is not called with."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest

from aioproducer._native.serializer_call import SerializerCall, TopicSerializers
from aioproducer.errors import SerializationError


def given(*arguments: object) -> Any:
    """Return what a serializer was called with, in place of bytes."""
    return arguments


@pytest.mark.parametrize(
    ("takes", "arguments"),
    [
        ("value", ("v",)),
        ("topic", ("payments", "v")),
        ("headers", ("payments", "v", (("h", b"x"),))),
    ],
)
def test_a_serializer_is_called_with_what_it_takes(
    takes: Any, arguments: tuple[object, ...]
) -> None:
    called: object = SerializerCall(takes, given)("payments", "v", (("h", b"x"),))
    assert called == arguments


def test_no_headers_are_an_empty_tuple() -> None:
    called: object = SerializerCall("headers", given)("payments", "v")
    assert called == ("payments", "v", ())


def test_bytes_are_passed_on_and_what_may_still_change_is_copied() -> None:
    call = SerializerCall("bytes")
    value = b"v"
    assert call("payments", value) is value
    for buffer in (bytearray(b"v"), memoryview(b"v")):
        assert call("payments", buffer) == b"v"
        assert type(call("payments", buffer)) is bytes


def test_text_becomes_utf_8() -> None:
    class Currency(enum.StrEnum):
        EUR = "eur"

    call = SerializerCall("text")
    assert call("payments", "Zo\xeb") == "Zo\xeb".encode()
    assert call("payments", Currency.EUR) == b"eur"


def test_half_a_character_is_refused_without_showing_it() -> None:
    with pytest.raises(SerializationError) as caught:
        SerializerCall("text")("payments", "secret \ud800")
    assert caught.value.message == "the character at 7 has no form in utf-8"
    assert caught.value.__context__ is None


class Base:
    pass


class Derived(Base):
    pass


@pytest.mark.parametrize("kinds", [(Base,), (int, Base)])
def test_an_instance_of_one_of_the_types_or_of_a_subclass_is_taken(
    kinds: tuple[type, ...],
) -> None:
    call: Callable[..., object] = SerializerCall("value", given, kinds=kinds)
    for value in (Base(), Derived()):
        assert call("payments", value) == (value,)


def test_a_value_of_another_type_is_refused_with_both_types() -> None:
    call = SerializerCall("value", given, kinds=(int,), taker="Topic 'x'", expected="int")
    with pytest.raises(SerializationError) as caught:
        call("payments", "4111 1111")
    error = caught.value
    assert error.message == "Topic 'x' takes int, not str"
    assert (error.expected_type, error.got_type) == ("int", "str")


@pytest.mark.parametrize(
    ("kinds", "is_taken"), [((int,), False), ((float, int), False), ((bool,), True), ((), True)]
)
def test_a_bool_counts_as_an_int_only_where_bool_is_named(
    kinds: tuple[type, ...], is_taken: bool
) -> None:
    call: Callable[..., object] = SerializerCall("value", given, kinds=kinds)
    if is_taken:
        assert call("payments", True) == (True,)
    else:
        with pytest.raises(SerializationError):
            call("payments", True)


def test_an_unknown_way_to_call_is_refused() -> None:
    way: Any = "both"
    with pytest.raises(KeyError):
        SerializerCall(way, given)


def test_a_topics_serializers_may_be_left_out() -> None:
    call = SerializerCall("bytes")
    serializers = TopicSerializers("orders", None, call)
    assert (serializers.name, serializers.key, serializers.value) == ("orders", None, call)
