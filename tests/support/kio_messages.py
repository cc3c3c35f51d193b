"""Kafka's messages through `kio`, an independent codec: random values, their bytes, their fields.

`values_of` makes random entities of a kio class, `kio_bytes` encodes one, and `plain` turns kio's
entities and our NamedTuples into the same dictionaries, so that they can be compared.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import io
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from typing import Any, cast

from hypothesis import strategies as st
from kio.schema.errors import ErrorCode
from kio.serial import entity_writer

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)
ZERO_UUID = bytes(16)


def _signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


PRIMITIVES: Mapping[str, st.SearchStrategy[object]] = {
    "bool": st.booleans(),
    "int8": _signed(8),
    "int16": _signed(16),
    "int32": _signed(32),
    "int64": _signed(64),
    "string": st.text(max_size=12),
    "bytes": st.binary(max_size=12),
    "records": st.binary(max_size=40),
    "error_code": st.sampled_from(ErrorCode),
    # kio has None for the zero UUID.
    "uuid": st.one_of(st.none(), st.uuids(allow_nil=False)),
    "timedelta_i32": _signed(32).map(lambda ms: ms * MILLISECOND),
    # kio rounds larger ones: it goes by seconds in a float.
    "timedelta_i64": st.integers(-(2**50), 2**50).map(lambda ms: ms * MILLISECOND),
    "datetime_i64": st.integers(0, 2**42).map(lambda ms: EPOCH + ms * MILLISECOND),
}


def kio_class(api: str, version: int, name: str, message: type[Any] | None = None) -> type[Any]:
    """Return kio's class of a message: `kio_class("produce", 9, "ProduceRequest")`.

    `message` is the one it is part of, if it is not a whole one.
    """
    whole = name if message is None else message.__name__
    side = "request" if whole.endswith("Request") else "response"
    module = importlib.import_module(f"kio.schema.{api}.v{version}.{side}")
    return cast("type[Any]", getattr(module, name))


def values_of(entity: type[Any], **fixed: object) -> st.SearchStrategy[Any]:
    """Return a strategy of random entities; fields named in `fixed` always have that value."""
    fields = {
        field.name: st.just(fixed[field.name]) if field.name in fixed else _values(field, fixed)
        for field in dataclasses.fields(entity)
    }
    return st.builds(entity, **fields)


def _values(field: dataclasses.Field[Any], fixed: Mapping[str, object]) -> st.SearchStrategy[Any]:
    kind: Any = field.type
    nullable = False
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        arguments = typing.get_args(kind)
        nullable = types.NoneType in arguments
        kind = next(argument for argument in arguments if argument is not types.NoneType)
    values: st.SearchStrategy[Any]
    if typing.get_origin(kind) is tuple:
        element = typing.get_args(kind)[0]
        items = (
            values_of(cast("type[Any]", element), **fixed)
            if dataclasses.is_dataclass(element)
            else PRIMITIVES[field.metadata["kafka_type"]]
        )
        values = st.lists(items, max_size=3).map(tuple)
    elif dataclasses.is_dataclass(kind):
        values = values_of(cast("type[Any]", kind), **fixed)
    else:
        values = PRIMITIVES[field.metadata["kafka_type"]]
    if field.metadata.get("kafka_type") == "datetime_i64":
        # kio has None for -1, which is "no timestamp"; but it writes that only for a default.
        nullable = field.default is None
    return st.one_of(st.none(), values) if nullable else values


def kio_bytes(entity: Any) -> bytes:
    """Return how kio encodes an entity."""
    buffer = io.BytesIO()
    write: Callable[[io.BytesIO, object], None] = cast("Any", entity_writer)(entity.__class__)
    write(buffer, entity)
    return buffer.getvalue()


def plain_default(field: dataclasses.Field[Any]) -> tuple[str, Any] | None:
    """Return the name and default of a field as they are on the wire; None without default."""
    if field.default is dataclasses.MISSING:
        return None
    return _wire_name(field.name, field.metadata), _plain_value(field, field.default)


def plain(value: Any) -> Any:
    """Return a message as dictionaries, lists and values as they are on the wire."""
    if dataclasses.is_dataclass(value):
        return {
            _wire_name(field.name, field.metadata): _plain_value(field, getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        names: tuple[str, ...] | None = getattr(items, "_fields", None)
        values = [plain(item) for item in items]
        return values if names is None else dict(zip(names, values, strict=True))
    return value


def _wire_name(name: str, metadata: Mapping[Any, Any]) -> str:
    in_ms = metadata.get("kafka_type") in ("timedelta_i32", "timedelta_i64", "datetime_i64")
    return f"{name}_ms" if in_ms else name


def _plain_value(field: dataclasses.Field[Any], value: Any) -> Any:
    if isinstance(value, ErrorCode):
        return int(value)
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, datetime.timedelta):
        return value // MILLISECOND
    if isinstance(value, datetime.datetime):
        return (value - EPOCH) // MILLISECOND
    kind = field.metadata.get("kafka_type")
    if value is None:
        return {"uuid": ZERO_UUID, "datetime_i64": -1}.get(str(kind))
    return [bytes(value)] if kind == "records" else plain(value)
