"""Makes one function of whatever was given as a serializer, and the error of what it refuses.

Called by the producer and by Topics: `as_function` once per option when they are made,
`serialization_error` when the send path could not get bytes. No message holds a key, a value, or
that of a header.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Never, cast

from aioproducer._native.serializer_call import SerializerCall
from aioproducer.errors import ConfigError, SerializationError
from aioproducer.hooks import Serializer, SerializerName, SerializerOption
from aioproducer.serialization.json import JsonSerializer
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

__all__ = ["as_function", "header_error", "is_bytes", "serialization_error", "shown_serializer"]

# Made when they are asked for: two of them need modules that many programs do without.
_READY: Final[Mapping[str, Callable[[], Serializer[Never]]]] = {
    "bytes": BytesSerializer,
    "string": StringSerializer,
    "json": JsonSerializer,
    "integer": IntegerSerializer,
    "long": LongSerializer,
    "short": ShortSerializer,
    "float": FloatSerializer,
    "double": DoubleSerializer,
    "uuid": UUIDSerializer,
}

_SUGGESTED: Final[Mapping[str, SerializerName]] = {
    "str": "string",
    "int": "long",
    "float": "double",
    "UUID": "uuid",
    "bool": "json",
    "dict": "json",
    "list": "json",
    "tuple": "json",
}
"""By the name of the value's type."""


def as_function(
    serializer: SerializerOption | None, *, option: str = "", taker: str = ""
) -> SerializerCall | None:
    """Make the function that the send path calls.

    Args:
        serializer: A ready one's name, an object with `serialize(topic, value)` or with
            `serialize(topic, value, headers)`, or a function of the value.
        option: The option it was given for, to be named in errors.
        taker: Who calls it, for the errors of a `Topic`.

    Returns:
        A function of topic, value and headers, or None where bytes are taken as they are.

    Raises:
        ConfigError: A plain function does not take exactly the value, or `serialize` takes neither
            two arguments nor three.
    """
    if serializer is None or is_bytes(serializer):
        return None
    chosen = _READY[serializer]() if isinstance(serializer, str) else serializer
    if _is_utf_8(chosen):
        taker = taker or "StringSerializer"
        return SerializerCall("text", kinds=(str,), taker=taker, expected="str")
    serialize = getattr(chosen, "serialize", None)
    if serialize is not None:
        return SerializerCall(_arguments_of(serialize, option), serialize, taker=taker)
    function = cast("Callable[[Any], bytes]", chosen)
    if not _can_take(_signature(function), 1):
        raise ConfigError(
            f"it cannot be called with one argument, its signature is {_signature(function)}",
            option=option,
            value=function,
            allowed="a function of the value",
            hint="To see the topic too, pass an object with serialize(topic, value).",
        )
    return SerializerCall("value", function, taker=taker)


def is_bytes(serializer: SerializerOption | None) -> bool:
    """Whether it is the one that passes bytes on, by name or as an object."""
    return serializer == "bytes" or type(serializer) is BytesSerializer


def _is_utf_8(serializer: object) -> bool:
    return type(serializer) is StringSerializer and serializer.is_utf_8


def _arguments_of(serialize: Callable[..., Any], option: str) -> Literal["topic", "headers"]:
    """What a method `serialize` is called with beside the value."""
    signature = _signature(serialize)
    names = list(signature.parameters) if signature is not None else []
    if _can_take(signature, 2) and names[2:3] != ["headers"]:
        return "topic"
    if not _can_take(signature, 3):
        raise ConfigError(
            f"its serialize can be called neither with two arguments nor with three, its signature"
            f" is {signature}",
            option=option,
            value=serialize,
            allowed="an object with serialize(topic, value) or serialize(topic, value, headers)",
        )
    return "headers"


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None  # some built-in functions do not tell theirs


def _can_take(signature: inspect.Signature | None, count: int) -> bool:
    try:
        if signature is not None:
            signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def header_error(topic: str, position: int, header: object) -> SerializationError:
    """Make the error for a header that is no pair of a name and bytes.

    Args:
        topic: The record's topic.
        position: Its place among the record's headers, from 0.
        header: The header as it was given.
    """
    got = header
    if not isinstance(header, tuple):
        wrong = f"header {position} is no tuple of name and value"
    elif len(pair := cast("tuple[object, ...]", header)) != 2:
        wrong = f"header {position} is no pair of name and value"
    elif not isinstance(pair[0], str):
        got = pair[0]
        wrong = f"the name of header {position} is no str"
    else:
        name, got = pair
        wrong = f"the value of header {position}, {name!r}, is not bytes or None"
    return SerializationError(wrong, topic=topic, field="headers", got_type=type(got).__name__)


def serialization_error(
    topic: str,
    field: Literal["key", "value", "headers"],
    got_type: type,
    cause: BaseException | None,
    configured: SerializerOption | None,
    taker: str = "",
) -> SerializationError:
    """Make the error for a part of a record that did not become bytes.

    Args:
        topic: The record's topic.
        field: The part of the record.
        got_type: The type of what was given; or, if the serializer raised nothing and still gave
            no bytes, of what it returned.
        cause: What the serializer raised. Its text is repeated only if it is a
            `SerializationError`: others may show the value. To be chained by the caller.
        configured: The serializer as it was given in the options.
        taker: How a serializer is called that does not come from the options: the `Topic` and its
            argument.
    """
    option = f"{field}_serializer"
    serializer = taker or f"{option}={shown_serializer(configured)}"
    got = got_type.__name__
    if field == "headers":
        if cause is not None:
            return SerializationError("a name has no form in UTF-8", topic=topic, field=field)
        return SerializationError(
            "they are no list, tuple or mapping",
            topic=topic,
            field=field,
            got_type=got,
            hint="Give a list of (str, bytes or None) tuples, or a mapping.",
        )
    if isinstance(cause, SerializationError):
        return SerializationError(
            cause.message,
            topic=topic,
            field=field,
            got_type=got,
            expected_type=cause.expected_type,
            hint=f"Pass what {serializer} takes, or set another.",
        )
    if cause is not None:
        return SerializationError(
            f"{serializer} raised {type(cause).__name__}",
            topic=topic,
            field=field,
            got_type=got,
            hint="The cause of this error tells more.",
        )
    if not taker and (configured is None or is_bytes(configured)):
        names = (_SUGGESTED.get(base.__name__) for base in got_type.__mro__)
        ready = next(filter(None, names), None)
        suggestion = f"={ready!r}" if ready else " to a function that returns bytes"
        return SerializationError(
            f"no {option} is set" if configured is None else f"{option} passes bytes on",
            topic=topic,
            field=field,
            got_type=got,
            hint=f"Pass bytes, or set {option}{suggestion}.",
        )
    return SerializationError(
        f"{serializer} returned {got} in place of bytes",
        topic=topic,
        field=field,
        hint="Let it return bytes." if got_type is not str else "Let it return text.encode().",
    )


def shown_serializer(configured: SerializerOption | None) -> str:
    """Return a serializer as an error names it."""
    if configured is None or isinstance(configured, str):
        return repr(configured)
    return f"<{getattr(configured, '__qualname__', type(configured).__qualname__)}>"
