"""The serializer that a type stands for: what `Topic(key=..., value=...)` takes beside serializers.

    bytes, bytearray, memoryview     as they are
    str                              UTF-8
    int                              8 bytes, big-endian, as Java's LongSerializer
    float                            8 bytes, IEEE 754, as Java's DoubleSerializer
    UUID                             its text, as Java's UUIDSerializer
    a subclass of one of these       as that one
    bool, and all else               JSON (models.py)

`None` in a union is the tombstone, or no key, which no serializer sees; a union of several types is
JSON whatever they are. `Annotated`, `NewType` and type aliases stand for what they name.

A value is checked against the class alone, once per record: of `list[Order]` that it is a list, of
a TypedDict that it is a dict. So a type that could never be written is refused here, with what is
inside it.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NewType,
    TypeAlias,
    Union,
    cast,
    get_args,
    get_origin,
)

from aioproducer._native.serializer_call import SerializerCall
from aioproducer.serialization.json import compact_encoder, encode_json
from aioproducer.serialization.models import (
    full_names,
    has_json_form,
    model_encoder,
)
from aioproducer.serialization.primitives import DoubleSerializer, LongSerializer, UUIDSerializer

__all__ = ["TYPES_ALLOWED", "UnsupportedTypeError", "call_for_type", "is_type", "shown_type"]

TYPES_ALLOWED: Final = (
    "bytes, str, int, float, bool, uuid.UUID, a pydantic 2 model, msgspec struct, dataclass,"
    " TypedDict, Enum, dict, list, tuple or set, and what is made of these, such as list[Order] or"
    " Order | Refund"
)

_Class: TypeAlias = type[Any]
_Takes: TypeAlias = Literal["bytes", "text", "value", "topic"]

_BYTES: Final[tuple[_Class, ...]] = (bytes, bytearray, memoryview)
_CONTAINERS: Final[tuple[_Class, ...]] = (dict, list, tuple, set, frozenset)
_JSON_KEYS: Final[tuple[_Class, ...]] = (str, int, float, types.NoneType)


class UnsupportedTypeError(TypeError):
    """A type has no serializer; the text says why."""


def is_type(given: object) -> bool:
    """Whether a class, a generic alias, a union or the like was given, and no serializer."""
    return isinstance(given, (type, types.UnionType, NewType)) or (
        get_origin(given) is not None or hasattr(given, "__value__") or given is Any
    )


def shown_type(given: object) -> str:
    """Return a type as it is written in code, but without the modules."""
    arguments = get_args(given)
    origin = get_origin(given)
    if origin in (Union, types.UnionType):
        return " | ".join(map(shown_type, arguments))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if given in (types.NoneType, Ellipsis):
        return "None" if given is types.NoneType else "..."
    name = getattr(origin or given, "__qualname__", None) or getattr(given, "__name__", None)
    if name is None:
        return repr(given)
    name = name.rpartition("<locals>.")[2]
    return f"{name}[{', '.join(map(shown_type, arguments))}]" if arguments else name


def call_for_type(given: object, *, taker: str) -> SerializerCall:
    """Return how values of a type are serialized.

    Args:
        given: The type.
        taker: Who takes it, for the error of a value that is of another type.

    Raises:
        UnsupportedTypeError: It cannot be a type of keys or values.
    """
    members = _members(given)
    if not members:
        raise UnsupportedTypeError("None needs none")
    expected = shown_type(given)
    if len(members) == 1:
        takes, function, kinds = _alone(members[0])
    else:
        takes, function = "value", _json_encoder(members)
        kinds = tuple(kind for member in members for kind in _json_kinds(member))
    return SerializerCall(takes, function, kinds=kinds, taker=taker, expected=expected)


def _members(given: object) -> list[object]:
    """The types of a union, or the one type, as what they stand for; without None."""
    while True:
        if get_origin(given) is Annotated:
            given = get_args(given)[0]
        elif isinstance(given, NewType):
            given = given.__supertype__
        elif not isinstance(given, type) and hasattr(given, "__value__"):
            # A type alias: `type X = ...`, of typing or of typing_extensions.
            given = cast("Any", given).__value__
        else:
            break
    if get_origin(given) in (Union, types.UnionType):
        return [member for argument in get_args(given) for member in _members(argument)]
    return [] if given in (None, types.NoneType) else [given]


def _alone(given: object) -> tuple[_Takes, Callable[..., Any] | None, tuple[_Class, ...]]:
    kind = _class_of(given)
    kinds: tuple[_Class, ...] = (kind,)
    if issubclass(kind, _BYTES):
        return "bytes", None, _BYTES if kind is bytes else kinds
    if issubclass(kind, str):
        return "text", None, kinds
    if issubclass(kind, int) and kind is not bool:
        return "topic", LongSerializer().serialize, kinds
    if issubclass(kind, float):
        return "topic", DoubleSerializer().serialize, _with_promotion(kind)
    if "uuid.UUID" in full_names(kind):
        return "topic", UUIDSerializer().serialize, kinds
    kinds = _json_kinds(given)
    return "value", _json_encoder([given]), kinds


def _with_promotion(kind: _Class) -> tuple[_Class, ...]:
    # To a type checker an int is a float, too (PEP 484).
    return (float, int) if kind is float else (kind,)


def _json_encoder(members: list[object]) -> Callable[[Any], bytes]:
    """The encoder of a model's library, if it has all of them; else the one that looks for it."""
    encoders = {model_encoder(_class_of(member)) for member in members}
    encoder = encoders.pop()
    if not encoders and encoder is not None:
        return encoder
    compact_encoder()  # here, since at the first record an import would block the loop
    return encode_json


def _class_of(kind: object) -> _Class:
    # A generic class of the user, such as `Page[Order]`, is what it was made from.
    origin: Any = get_origin(kind) or kind
    return origin if isinstance(origin, type) else object


def _json_kinds(kind: object) -> tuple[_Class, ...]:
    """The classes whose instances are values of a type that becomes JSON.

    Raises:
        UnsupportedTypeError: It has no JSON, or something inside it.
    """
    found = _class_of(kind)
    # A TypedDict; also one of typing_extensions, which `typing.is_typeddict` does not know.
    if hasattr(found, "__required_keys__") and hasattr(found, "__total__"):
        return (dict,)
    kinds: tuple[_Class, ...] = (found,)
    if get_origin(kind) in _CONTAINERS:
        _check_inside(kind)
        return kinds
    if issubclass(found, _BYTES):
        raise UnsupportedTypeError("JSON has no bytes")
    if issubclass(found, (bool, str, int, float)):
        return _with_promotion(found)
    if issubclass(found, _CONTAINERS):
        return kinds
    if found is object or not has_json_form(found):
        is_serializer = hasattr(found, "serialize")
        advice = f": pass an instance, {shown_type(kind)}(...)" if is_serializer else ""
        raise UnsupportedTypeError(f"{shown_type(kind)} has no form in JSON{advice}")
    return kinds


def _check_inside(kind: object) -> None:
    arguments: list[object] = [
        argument for argument in get_args(kind) if argument is not Ellipsis and argument != ()
    ]
    if get_origin(kind) is dict and arguments:
        for key in _members(arguments[0]):
            if isinstance(key, type) and not issubclass(cast("_Class", key), _JSON_KEYS):
                raise UnsupportedTypeError(f"JSON has no keys of type {shown_type(key)}")
    for argument in arguments:
        for member in _members(argument):
            # What is no class (Any, a Literal, a type variable) is looked at when it is written.
            if _class_of(member) not in (object, Any):
                _json_kinds(member)
