"""The serializer that a type stands for."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import struct
import typing
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import msgspec
import pydantic
import pytest
import typing_extensions

from aioproducer.errors import SerializationError
from aioproducer.serialization.by_type import (
    UnsupportedTypeError,
    call_for_type,
    is_type,
    shown_type,
)

T = TypeVar("T")


class Model(pydantic.BaseModel):
    a: int = 1


class SubModel(Model):
    b: int = 2


class GenericModel(pydantic.BaseModel, Generic[T]):
    item: T


class Struct(msgspec.Struct):
    a: int = 1


@dataclasses.dataclass
class Order:
    a: int = 1


@dataclasses.dataclass
class Page(Generic[T]):
    items: list[T]


class Dict(TypedDict):
    a: int


class OtherDict(typing_extensions.TypedDict):
    a: typing_extensions.Required[int]


class GenericDict(TypedDict, Generic[T]):
    a: T


class Employee(NamedTuple):
    a: int


class Currency(enum.StrEnum):
    EUR = "eur"


class Level(enum.IntEnum):
    HIGH = 3


class Status(enum.Enum):
    PAID = "paid"


CardId = NewType("CardId", str)
Alias = typing_extensions.TypeAliasType("Alias", Order)
Union = typing_extensions.TypeAliasType("Union", Model | Struct)
SOME_ID = uuid.UUID(int=7)


def encoded(kind: object, value: object) -> object:
    return call_for_type(kind, taker="Topic")("orders", value)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (bytes, b"x", b"x"),
        (bytes, bytearray(b"x"), b"x"),
        (bytearray, bytearray(b"x"), b"x"),
        (memoryview, memoryview(b"x"), b"x"),
        (str, "Zo\xeb", b"Zo\xc3\xab"),
        (CardId, CardId("c-1"), b"c-1"),
        (Currency, Currency.EUR, b"eur"),
        (int, -2, struct.pack(">q", -2)),
        (Level, Level.HIGH, struct.pack(">q", 3)),
        (float, 1.5, struct.pack(">d", 1.5)),
        (float, 2, struct.pack(">d", 2)),
        (uuid.UUID, SOME_ID, str(SOME_ID).encode()),
        (str | None, "x", b"x"),
        (Annotated[str, "a note"], "x", b"x"),
    ],
)
def test_single_values_are_written_as_kafkas_own_serializers_do(
    kind: object, value: object, expected: bytes
) -> None:
    assert encoded(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (bool, True, b"true"),
        (Model, Model(), b'{"a":1}'),
        (Model, SubModel(), b'{"a":1,"b":2}'),
        (GenericModel[int], GenericModel[int](item=1), b'{"item":1}'),
        (Struct, Struct(), b'{"a":1}'),
        (Order, Order(), b'{"a":1}'),
        (Page[Order], Page([Order()]), b'{"items":[{"a":1}]}'),
        (Dict, {"a": 1}, b'{"a":1}'),
        (OtherDict, {"a": 1}, b'{"a":1}'),
        (GenericDict[int], {"a": 1}, b'{"a":1}'),
        (Dict | OtherDict, {"a": 1}, b'{"a":1}'),
        (Employee, Employee(1), b"[1]"),
        (Status, Status.PAID, b'"paid"'),
        (decimal.Decimal, decimal.Decimal("1.50"), b'"1.50"'),
        (datetime.date, datetime.date(2024, 1, 2), b'"2024-01-02"'),
        (dict, {"a": [1, None]}, b'{"a":[1,null]}'),
        (list, [1], b"[1]"),
        (tuple, (1,), b"[1]"),
        (set, {1}, b"[1]"),
        (typing.Dict, {"a": 1}, b'{"a":1}'),  # noqa: UP006
        (list[Order], [Order()], b'[{"a":1}]'),
        (list[Model | None], [Model(), None], b'[{"a":1},null]'),
        (dict[str, int], {"a": 1}, b'{"a":1}'),
        (dict[str, Any], {"a": Struct()}, b'{"a":{"a":1}}'),
        (dict[Currency, list[Literal["x"]]], {Currency.EUR: ["x"]}, b'{"eur":["x"]}'),
        (tuple[int, ...], (1, 2), b"[1,2]"),
        (tuple[()], (), b"[]"),
        (Order | Model, Order(), b'{"a":1}'),
        (Order | Model, SubModel(), b'{"a":1,"b":2}'),
        (Model | SubModel, SubModel(), b'{"a":1,"b":2}'),
        (typing.Optional[Order], Order(), b'{"a":1}'),  # noqa: UP045
        (typing.Union[Order, list[int]], [1], b"[1]"),  # noqa: UP007
        (str | int, "x", b'"x"'),
        (str | int, 5, b"5"),
        (float | str, 5, b"5"),
        (Alias, Order(), b'{"a":1}'),
        (Union, Struct(), b'{"a":1}'),
        (Annotated[Order | Struct, "a note"], Struct(), b'{"a":1}'),
    ],
)
def test_all_else_is_json(kind: object, value: object, expected: bytes) -> None:
    assert encoded(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected_type"),
    [
        (bytes, "x", "bytes"),
        (bytearray, b"x", "bytearray"),
        (str, b"x", "str"),
        (Currency, "eur", "Currency"),
        (int, 1.0, "int"),
        (int, True, "int"),
        (float, True, "float"),
        (float, "1", "float"),
        (bool, 1, "bool"),
        (uuid.UUID, str(SOME_ID), "UUID"),
        (Model, Struct(), "Model"),
        (SubModel, Model(), "SubModel"),
        (Model, {"a": 1}, "Model"),
        (Dict, [], "Dict"),
        (list[Order], (Order(),), "list[Order]"),
        (Order | Model, Struct(), "Order | Model"),
        (str | int, True, "str | int"),
        (CardId, 1, "CardId"),
    ],
)
def test_a_value_of_another_type_is_refused(
    kind: object, value: object, expected_type: str
) -> None:
    with pytest.raises(SerializationError) as caught:
        encoded(kind, value)
    error = caught.value
    assert (error.expected_type, error.got_type) == (expected_type, type(value).__name__)
    assert error.message == f"Topic takes {expected_type}, not {type(value).__name__}"


class Opaque:
    pass


class Serializer:
    def serialize(self, topic: str, value: object) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (object, "object has no form in JSON"),
        (Opaque, "Opaque has no form in JSON"),
        (complex, "complex has no form in JSON"),
        (Serializer, r"pass an instance, Serializer\(\.\.\.\)"),
        (None, "None needs none"),
        (type(None), "None needs none"),
        (Any, "Any has no form in JSON"),
        (Literal["x"], r"Literal\['x'\] has no form in JSON"),
        (list[bytes], "JSON has no bytes"),
        (dict[str, list[bytearray]], "JSON has no bytes"),
        (bytes | Order, "JSON has no bytes"),
        (Order | Opaque, "Opaque has no form in JSON"),
        (list[Opaque], "Opaque has no form in JSON"),
        (dict[uuid.UUID, int], "JSON has no keys of type UUID"),
        (type[Order], "has no form in JSON"),
    ],
)
def test_a_type_that_could_never_be_written_is_refused_at_once(kind: object, why: str) -> None:
    with pytest.raises(UnsupportedTypeError, match=why):
        call_for_type(kind, taker="Topic")


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (Order, "Order"),
        (list[Order], "list[Order]"),
        (dict[str, int | None], "dict[str, int | None]"),
        (Page[Order], "Page[Order]"),
        (Order | Model, "Order | Model"),
        (typing.Optional[Order], "Order | None"),  # noqa: UP045
        (CardId, "CardId"),
        (Literal["x"], "Literal['x']"),
        (None, "None"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Any, "Any"),
        (Union, "Union"),
    ],
)
def test_a_type_is_shown_as_it_is_written(kind: object, shown: str) -> None:
    assert shown_type(kind) == shown


def test_a_local_class_is_shown_by_its_own_name() -> None:
    class Local:
        pass

    assert shown_type(list[Local]) == "list[Local]"


@pytest.mark.parametrize("given", [str, Order, list[int], Order | None, CardId, Union, Any])
def test_a_type_is_told_from_a_serializer(given: object) -> None:
    assert is_type(given)


@pytest.mark.parametrize("given", ["json", Serializer(), str.encode, len, 5, None])
def test_a_serializer_is_no_type(given: object) -> None:
    assert not is_type(given)
