"""JSON of the values that the json module does not know: models, dataclasses, dates and the like.

A model is written by the library that it comes from: pydantic's models and dataclasses as
`model_dump_json()` writes them, msgspec's structs as `msgspec.json.encode` does. So it is the class
of the value that counts, a subclass is written with all of its fields, and aliases, tags and the
like are those of the model's configuration. Neither library is imported before the user did.

What pydantic would warn of, a field that is not of its declared type, is written as it is: the
warning would show the value.

Everything else is by this table, by the first class of the value's `__mro__` that is in it:

    dataclass                   object of its fields
    Enum                        its value
    datetime, date, time        text, ISO 8601
    UUID, Decimal               text
    set, frozenset              array

Bytes are refused: JSON has none, and which text they should become is for the user to say.

No error shows a value. Those of the libraries may: they are replaced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from operator import attrgetter, methodcaller
from typing import Any, Final, TypeAlias, TypeVar, cast

from aioproducer.errors import SerializationError

__all__ = ["NotInJsonError", "as_builtin", "full_names", "has_json_form", "model_encoder"]

T = TypeVar("T")
Encoder: TypeAlias = Callable[[Any], bytes]

_CONVERSIONS: Final[Mapping[str, Callable[[Any], object]]] = {
    "datetime.datetime": methodcaller("isoformat"),
    "datetime.date": methodcaller("isoformat"),
    "datetime.time": methodcaller("isoformat"),
    "decimal.Decimal": str,
    "enum.Enum": attrgetter("value"),
    "uuid.UUID": str,
    "builtins.set": list,
    "builtins.frozenset": list,
}
"""By name: their modules take long to import, and many producers never need them."""


class NotInJsonError(TypeError):
    """There is no JSON for a value; the text shows no value, only its type."""


def remembered(of_class: Callable[[type], T]) -> Callable[[type], T]:
    """Call a function once for each class; for programs that make classes, of the last 1,000."""
    return lru_cache(1_000)(of_class)


def full_names(kind: type) -> list[str]:
    """Return module and name of a class and of those it extends, itself first."""
    return [f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__]


def is_pydantic(kind: type) -> bool:
    """Whether it is a model or a dataclass of pydantic 2."""
    return hasattr(kind, "__pydantic_serializer__")


def is_struct(kind: type) -> bool:
    """Whether it is a struct of msgspec."""
    return hasattr(kind, "__struct_config__")


def has_json_form(kind: type) -> bool:
    """Whether instances of a class that the json module does not know can become JSON."""
    return is_pydantic(kind) or is_struct(kind) or _conversion(kind) is not None


@remembered
def model_encoder(kind: type) -> Encoder | None:
    """Return what the library of a model has to encode it, and None for any other class."""
    if is_pydantic(kind):
        return _pydantic_json
    return _struct_json() if is_struct(kind) else None


@remembered
def _conversion(kind: type) -> Callable[[Any], object] | None:
    if is_pydantic(kind):
        return _pydantic_builtin
    if is_struct(kind):
        return _struct_builtin()
    known = [_CONVERSIONS[name] for name in full_names(kind) if name in _CONVERSIONS]
    if dataclasses.is_dataclass(kind):
        fields = tuple(field.name for field in dataclasses.fields(kind))
        return lambda value: {name: getattr(value, name) for name in fields}
    return known[0] if known else None


def as_builtin(value: object) -> object:
    """Return a value in terms that the json module knows, or that this function does.

    Raises:
        NotInJsonError: There is no JSON for it.
    """
    convert = _conversion(type(value))
    if convert is not None:
        return convert(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise NotInJsonError("JSON has no bytes: put them in as text, such as base64")
    raise NotInJsonError(f"a value in it is of type {type(value).__name__}, which JSON has not")


# ---- pydantic: `__pydantic_serializer__` is a documented attribute of its classes


def _pydantic_json(value: Any) -> bytes:
    try:
        return cast("bytes", value.__pydantic_serializer__.to_json(value, warnings=False))
    except Exception as error:
        raise SerializationError(_pydantic_refusal(value, error)) from None


def _pydantic_builtin(value: Any) -> object:
    try:
        return value.__pydantic_serializer__.to_python(value, mode="json", warnings=False)
    except Exception as error:
        raise NotInJsonError(_pydantic_refusal(value, error)) from None


def _pydantic_refusal(value: object, error: Exception) -> str:
    name = type(value).__name__
    return f"pydantic cannot write the {name} ({type(error).__name__}); model_dump_json() shows why"


# ---- msgspec


@cache
def _struct_json() -> Encoder:
    import msgspec

    encode = msgspec.json.Encoder(enc_hook=as_builtin).encode

    def struct_json(value: object) -> bytes:
        try:
            return encode(value)
        except Exception as error:
            raise SerializationError(_struct_refusal(value, error)) from None

    return struct_json


@cache
def _struct_builtin() -> Callable[[object], object]:
    import msgspec

    def struct_builtin(value: object) -> object:
        try:
            return cast("object", msgspec.to_builtins(value, str_keys=True, enc_hook=as_builtin))
        except Exception as error:
            raise NotInJsonError(_struct_refusal(value, error)) from None

    return struct_builtin


def _struct_refusal(value: object, error: Exception) -> str:
    if isinstance(error, NotInJsonError):
        return str(error)
    return f"msgspec cannot write the {type(value).__name__} ({type(error).__name__})"
