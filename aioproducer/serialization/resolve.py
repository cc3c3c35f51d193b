"""Makes one function of whatever was given as a serializer, and the error of what it refuses.

Called by the producer: `as_function` once per option when it is made, `serialization_error` when
the send path could not get bytes. No message holds a key, a value, or that of a header.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, Never, TypeAlias, cast

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

__all__ = ["SerializeFunction", "as_function", "header_error", "serialization_error"]

SerializeFunction: TypeAlias = Callable[[str, Any], bytes | bytearray | memoryview]
"""What the send path calls for each key or value that is not None, with topic and value."""

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
    serializer: SerializerOption | None, *, option: str = ""
) -> SerializeFunction | None:
    """Make the function that the send path calls.

    Args:
        serializer: A ready one's name, an object with `serialize(topic, value)`, or a function of
            the value.
        option: The option it was given for, to be named in errors.

    Returns:
        A function of topic and value, or None where the send path takes bytes as they are.

    Raises:
        ConfigError: A plain function does not take exactly the value.
    """
    if serializer is None:
        return None
    chosen = _READY[serializer]() if isinstance(serializer, str) else serializer
    if type(chosen) is BytesSerializer:
        return None
    serialize = getattr(chosen, "serialize", None)
    if serialize is not None:
        return cast("SerializeFunction", serialize)
    function = cast("Callable[[Any], bytes]", chosen)
    _check_takes_the_value(function, option)
    return partial(_of_value, function)


def _of_value(function: Callable[[Any], bytes], topic: str, value: Any) -> bytes:
    return function(value)


def _check_takes_the_value(function: Callable[[Any], bytes], option: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # some built-in functions do not tell theirs
    try:
        signature.bind(None)
    except TypeError:
        raise ConfigError(
            f"it cannot be called with one argument, its signature is {signature}",
            option=option,
            value=function,
            allowed="a function of the value",
            hint="To see the topic too, pass an object with serialize(topic, value).",
        ) from None


def header_error(topic: str, position: int, header: object) -> SerializationError:
    """Make the error for a header that is no pair of a name and bytes.

    Args:
        topic: The record's topic.
        position: Its place among the record's headers, from 0.
        header: The header as it was given.
    """
    got = header
    wrong = f"header {position} is no pair of name and value"
    pair = cast("tuple[object, ...]", header) if isinstance(header, tuple) else ()
    if len(pair) == 2:
        name, got = pair
        wrong = f"the value of header {position}, {name!r}, is not bytes or None"
        if not isinstance(name, str):
            got = name
            wrong = f"the name of header {position} is no str"
    return SerializationError(wrong, topic=topic, field="headers", got_type=type(got).__name__)


def serialization_error(
    topic: str,
    field: Literal["key", "value", "headers"],
    got_type: type,
    cause: BaseException | None,
    configured: SerializerOption | None,
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
    """
    option = f"{field}_serializer"
    got = got_type.__name__
    if field == "headers":
        return SerializationError(topic=topic, field=field, got_type=got)
    if isinstance(cause, SerializationError):
        return SerializationError(
            cause.message,
            topic=topic,
            field=field,
            got_type=got,
            hint=f"Pass what {option}={_shown(configured)} takes, or set another.",
        )
    if cause is not None:
        return SerializationError(
            f"{option}={_shown(configured)} raised {type(cause).__name__}",
            topic=topic,
            field=field,
            got_type=got,
            hint="The cause of this error tells more.",
        )
    if configured is None or configured == "bytes" or type(configured) is BytesSerializer:
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
        f"{option}={_shown(configured)} returned {got} in place of bytes",
        topic=topic,
        field=field,
        hint="Let it return bytes." if got_type is not str else "Let it return text.encode().",
    )


def _shown(configured: SerializerOption | None) -> str:
    if configured is None or isinstance(configured, str):
        return repr(configured)
    return f"<{getattr(configured, '__qualname__', type(configured).__qualname__)}>"
