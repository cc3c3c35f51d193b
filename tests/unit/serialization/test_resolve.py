"""One function of whatever was plugged in, and the error of what did not become bytes."""

from __future__ import annotations

import collections
import decimal
import enum
import inspect
import json
from collections.abc import Callable
from typing import Any, cast, get_args

import pytest

from aioproducer._native.serializer_call import SerializerCall
from aioproducer.errors import ConfigError, SerializationError
from aioproducer.hooks import SerializerName, SerializerOption
from aioproducer.records import Header
from aioproducer.serialization import (
    BytesSerializer,
    IntegerSerializer,
    StringSerializer,
    as_function,
    serialization_error,
)


class TopicTagged:
    """A serializer of a user, which looks at the topic."""

    def serialize(self, topic: str, value: str, /) -> bytes:
        return f"{topic}:{value}".encode()


def resolved(serializer: Any) -> SerializerCall:
    function = as_function(serializer)
    assert function is not None
    return function


@pytest.mark.parametrize("serializer", [None, "bytes", BytesSerializer()])
def test_bytes_need_no_function(serializer: SerializerOption | None) -> None:
    assert as_function(serializer) is None


@pytest.mark.parametrize("name", sorted(set(get_args(SerializerName)) - {"bytes"}))
def test_every_name_stands_for_a_serializer(name: SerializerName) -> None:
    assert callable(as_function(name))


def test_a_name_gives_the_ready_serializer() -> None:
    assert resolved("integer")("payments", 1) == b"\0\0\0\1"
    assert resolved("json")("payments", {"a": 1}) == b'{"a":1}'


def test_an_object_with_serialize_sees_the_topic() -> None:
    assert resolved(TopicTagged())("payments", "x") == b"payments:x"


class WithHeaders:
    """A serializer of a user, which looks at the headers."""

    def serialize(self, topic: str, value: str, headers: tuple[Header, ...], /) -> bytes:
        return f"{topic}:{value}:{headers}".encode()


class WithHeadersOrWithout:
    def serialize(self, topic: str, value: str, headers: tuple[Header, ...] = ()) -> bytes:
        return f"{value}:{headers}".encode()


class WithAnOptionOfItsOwn:
    def serialize(self, topic: str, value: str, encoding: str = "utf-8") -> bytes:
        return value.encode(encoding)


class WithAnyArguments:
    def serialize(self, *arguments: str) -> bytes:
        return f"{arguments}".encode()


@pytest.mark.parametrize(
    ("serializer", "expected"),
    [
        (WithHeaders(), b"payments:x:(('h', None),)"),
        (WithHeadersOrWithout(), b"x:(('h', None),)"),
        (WithAnOptionOfItsOwn(), b"x"),
        (WithAnyArguments(), b"('payments', 'x')"),
    ],
    ids=lambda it: type(it).__name__,
)
def test_headers_are_for_who_needs_or_names_them(serializer: Any, expected: bytes) -> None:
    assert resolved(serializer)("payments", "x", (("h", None),)) == expected


def test_the_signature_is_looked_at_once() -> None:
    looks = 0

    class Serialize:
        @property
        def __signature__(self) -> inspect.Signature:
            nonlocal looks
            looks += 1
            return inspect.signature(TopicTagged().serialize)

        def __call__(self, topic: str, value: str) -> bytes:
            return value.encode()

    class Looked:
        serialize = Serialize()

    call = resolved(Looked())
    looks = 0
    assert call("payments", "x") == call("payments", "x") == b"x"
    assert looks == 0


class OfValueAlone:
    def serialize(self, value: str) -> bytes:
        return value.encode()


class OfFour:
    def serialize(self, topic: str, value: str, headers: object, schema: object) -> bytes:
        return value.encode()


@pytest.mark.parametrize("serializer", [OfValueAlone(), OfFour()])
def test_a_serialize_of_anything_else_is_refused_at_once(serializer: Any) -> None:
    with pytest.raises(ConfigError, match="neither with two arguments nor with three") as caught:
        as_function(serializer, option="value_serializer")
    assert caught.value.option == "value_serializer"
    assert "serialize(topic, value, headers)" in caught.value.allowed


def test_a_serialize_without_a_signature_gets_topic_and_value() -> None:
    class Silent:
        @property
        def __signature__(self) -> object:
            raise ValueError("no signature")

        def __call__(self, topic: str, value: str) -> bytes:
            return f"{topic}:{value}".encode()

    class Holder:
        serialize = Silent()

    assert resolved(Holder())("payments", "x", (("h", None),)) == b"payments:x"


def test_a_subclass_of_a_ready_serializer_is_called_as_it_is() -> None:
    class Shouting(StringSerializer):
        def serialize(self, topic: str, value: str, /) -> bytes:
            return super().serialize(topic, value.upper())

    assert resolved(Shouting())("payments", "x") == b"X"
    assert resolved(StringSerializer("latin-1"))("payments", "\xeb") == b"\xeb"


def of_value(value: str, *, encoding: str = "utf-8") -> bytes:
    return value.encode(encoding)


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [(of_value, "x", b"x"), (str.encode, "x", b"x"), (bytes, [1, 2], b"\1\2")],
)
def test_a_plain_function_takes_the_value_alone(
    function: Callable[[Any], bytes], value: object, expected: bytes
) -> None:
    assert resolved(function)("payments", value) == expected


def of_nothing() -> bytes:
    return b""


def of_topic_and_value(topic: str, value: str) -> bytes:
    return f"{topic}{value}".encode()


def of_value_and_a_keyword(value: str, *, encoding: str) -> bytes:
    return value.encode(encoding)


@pytest.mark.parametrize("function", [of_nothing, of_topic_and_value, of_value_and_a_keyword])
def test_a_plain_function_of_anything_else_is_refused_at_once(function: object) -> None:
    with pytest.raises(ConfigError, match="pass an object with serialize") as caught:
        as_function(cast("Any", function), option="key_serializer")
    assert caught.value.option == "key_serializer"


def test_a_function_without_a_signature_is_taken_as_it_is() -> None:
    class Silent:
        @property
        def __signature__(self) -> object:
            raise ValueError("no signature")

        def __call__(self, value: str) -> bytes:
            return value.encode()

    assert resolved(Silent())("payments", "x") == b"x"


@pytest.mark.parametrize(
    ("got_type", "hint"),
    [
        (str, "set value_serializer='string'."),
        (dict, "set value_serializer='json'."),
        (collections.OrderedDict, "set value_serializer='json'."),
        (int, "set value_serializer='long'."),
        (enum.IntEnum, "set value_serializer='long'."),
        (bool, "set value_serializer='json'."),
        (float, "set value_serializer='double'."),
        (decimal.Decimal, "set value_serializer to a function that returns bytes."),
    ],
)
def test_without_a_serializer_the_error_says_which_one_to_set(got_type: type, hint: str) -> None:
    error = serialization_error("payments", "value", got_type, None, None)
    assert error.hint == f"Pass bytes, or {hint}"
    assert "no value_serializer is set" in str(error)


def test_an_error_names_topic_field_and_type() -> None:
    error = serialization_error("payments", "key", dict, None, None)
    assert (error.topic, error.field, error.got_type) == ("payments", "key", "dict")
    assert "'payments'" in str(error)
    assert "key" in str(error)
    assert "dict" in str(error)


def test_bytes_asked_for_are_not_no_serializer() -> None:
    for configured in cast("list[SerializerOption]", ["bytes", BytesSerializer()]):
        error = serialization_error("payments", "value", str, None, configured)
        assert "value_serializer passes bytes on" in str(error)


def test_what_a_ready_serializer_says_is_repeated() -> None:
    cause = SerializationError("StringSerializer takes str, not int")
    error = serialization_error("payments", "value", int, cause, "string")
    assert error.message == cause.message
    assert "value_serializer='string'" in error.hint


def test_what_another_serializer_says_is_not_as_it_may_show_the_value() -> None:
    cause = ValueError("cannot encode 4929 1234")
    error = serialization_error("payments", "value", str, cause, cast("Any", json.dumps))
    assert "4929" not in str(error)
    assert "value_serializer=<dumps> raised ValueError" in str(error)


def test_a_serializer_that_returns_no_bytes_gets_an_error_with_what_to_return() -> None:
    error = serialization_error("payments", "value", str, None, cast("Any", json.dumps))
    assert "value_serializer=<dumps> returned str in place of bytes" in str(error)
    assert error.hint == "Let it return text.encode()."
    error = serialization_error("payments", "value", dict, None, TopicTagged())
    assert "<TopicTagged> returned dict" in str(error)


def test_headers_have_an_error_of_their_own() -> None:
    error = serialization_error("payments", "headers", set, None, None)
    assert (error.field, error.got_type) == ("headers", "set")
    assert "serializer" not in str(error)


def test_the_ready_serializers_fit_the_option_they_are_made_for() -> None:
    options: list[SerializerOption] = [
        StringSerializer(),
        IntegerSerializer(),
        TopicTagged(),
        WithHeaders(),
    ]
    assert all(as_function(option) for option in options)


def test_the_error_of_a_topics_serializer_names_the_topic_and_its_argument() -> None:
    taker = "Topic('payments', value=Order)"
    wrong = SerializationError(f"{taker} takes Order, not dict", expected_type="Order")
    error = serialization_error("payments", "value", dict, wrong, None, taker)
    assert error.expected_type == "Order"
    assert error.hint == f"Pass what {taker} takes, or set another."
    raised = serialization_error("payments", "value", dict, ValueError("4929"), None, taker)
    assert raised.message == f"{taker} raised ValueError"
    returned = serialization_error("payments", "value", str, None, None, taker)
    assert returned.message == f"{taker} returned str in place of bytes"
