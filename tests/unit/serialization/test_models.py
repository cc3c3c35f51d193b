"""JSON of models, dataclasses, dates and the like."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import re
import subprocess
import sys
import uuid
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass

from aioproducer.errors import SerializationError
from aioproducer.serialization import JsonSerializer
from aioproducer.serialization.models import has_json_form, model_encoder


class Card(pydantic.BaseModel):
    card_id: str
    name: str = "Zo\xeb"


class CreditCard(Card):
    limit: int


class Camel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=to_camel, serialize_by_alias=True)
    card_id: str = pydantic.Field(default="c-1")


class Struct(msgspec.Struct, rename="camel", tag="card", omit_defaults=True):
    card_id: str
    limit: int = 0


class SubStruct(Struct, tag="card"):
    extra: int = 0


@pydantic_dataclass
class Checked:
    amount: decimal.Decimal


class Status(enum.Enum):
    PAID = "paid"


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass(slots=True)
class Line:
    sku: str
    at: datetime.datetime


@dataclasses.dataclass
class Order:
    line: Line
    card: Card
    struct: Struct
    status: Status
    points: tuple[Point, ...] = ()
    extra: object = None


def as_json(value: object) -> bytes:
    return JsonSerializer().serialize("orders", value)


def refusal(value: object) -> SerializationError:
    with pytest.raises(SerializationError) as caught:
        as_json(value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


LINE = Line("a", datetime.datetime(2024, 1, 2, 3, tzinfo=datetime.UTC))
ORDER = Order(LINE, Card(card_id="c"), Struct("s"), Status.PAID, (Point(1, 2),))


def test_a_pydantic_model_is_written_as_model_dump_json_does() -> None:
    card = Card(card_id="c-1")
    assert (
        as_json(card)
        == card.model_dump_json().encode()
        == '{"card_id":"c-1","name":"Zo\xeb"}'.encode()
    )


def test_the_configuration_of_a_pydantic_model_counts() -> None:
    assert as_json(Camel()) == b'{"cardId":"c-1"}'
    assert as_json([Camel()]) == b'[{"cardId":"c-1"}]'


def test_a_pydantic_dataclass_is_written_by_pydantic() -> None:
    assert as_json(Checked(decimal.Decimal("1.50"))) == b'{"amount":"1.50"}'


def test_a_struct_is_written_as_msgspec_does() -> None:
    struct = Struct("c-1")
    assert as_json(struct) == msgspec.json.encode(struct) == b'{"type":"card","cardId":"c-1"}'
    assert as_json([struct]) == b'[{"type":"card","cardId":"c-1"}]'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (CreditCard(card_id="c", name="n", limit=5), {"card_id": "c", "name": "n", "limit": 5}),
        (SubStruct("c", extra=5), {"type": "card", "cardId": "c", "extra": 5}),
    ],
)
def test_a_subclass_is_written_with_all_of_its_fields(value: object, expected: object) -> None:
    assert json.loads(as_json(value)) == expected
    assert json.loads(as_json({"in": value})) == {"in": expected}


def test_a_dataclass_is_written_with_all_that_is_in_it() -> None:
    assert json.loads(as_json(ORDER)) == {
        "line": {"sku": "a", "at": "2024-01-02T03:00:00+00:00"},
        "card": {"card_id": "c", "name": "Zo\xeb"},
        "struct": {"type": "card", "cardId": "s"},
        "status": "paid",
        "points": [[1, 2]],
        "extra": None,
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime.datetime(2024, 1, 2, 3, 4, 5), b'"2024-01-02T03:04:05"'),
        (datetime.date(2024, 1, 2), b'"2024-01-02"'),
        (datetime.time(3, 4, 5), b'"03:04:05"'),
        (decimal.Decimal("12.50"), b'"12.50"'),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Status.PAID, b'"paid"'),
        ({1}, b"[1]"),
        (frozenset({1}), b"[1]"),
        ((1, "a"), b'[1,"a"]'),
    ],
)
def test_values_that_the_json_module_does_not_know(value: object, expected: bytes) -> None:
    assert as_json(value) == expected
    assert as_json(dataclasses.replace(ORDER, extra=value)).endswith(expected + b"}")


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_bytes_are_refused_with_what_to_do(value: object) -> None:
    message = "JSON has no bytes: put them in as text, such as base64"
    assert refusal(value).message == message
    assert refusal(dataclasses.replace(ORDER, extra=value)).message == message


def test_a_field_of_a_type_without_json_is_named_by_its_type() -> None:
    message = refusal(dataclasses.replace(ORDER, extra=object())).message
    assert message == "a value in it is of type object, which JSON has not"


def test_a_circle_of_dataclasses_is_refused() -> None:
    order = dataclasses.replace(ORDER)
    order.extra = order
    assert "Circular" in refusal(order).message


def test_a_field_that_pydantic_would_warn_of_is_written_without_showing_it() -> None:
    # A warning is an error in these tests.
    wrong: Any = ["4111 1111"]
    assert as_json(Card.model_construct(card_id=wrong, name="n")) == (
        b'{"card_id":["4111 1111"],"name":"n"}'
    )
    assert as_json([Card.model_construct(card_id=wrong, name="n")]) == (
        b'[{"card_id":["4111 1111"],"name":"n"}]'
    )


class Unwritable(pydantic.BaseModel):
    secret: str = "4111 1111"

    @pydantic.field_serializer("secret")
    def refuse(self, value: str) -> str:
        raise ValueError(f"{value} is not for others")


class Hidden:
    """No type of JSON, with the secret in its repr."""

    def __repr__(self) -> str:
        return "4111 1111"


@pytest.mark.parametrize("is_inside", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        Unwritable(),
        Card.model_construct(card_id=Hidden()),
        Struct(Hidden()),  # type: ignore[arg-type]
        Struct("4111 1111\ud800"),
    ],
    ids=["serializer that raises", "model", "struct", "half a character"],
)
def test_what_a_library_refuses_is_told_without_the_value(value: object, is_inside: bool) -> None:
    error = refusal([value] if is_inside else value)
    assert "1111" not in str(error)
    assert re.search("Unwritable|Card|Hidden|Struct|half a surrogate", error.message)


def test_a_model_inside_a_struct_is_written_by_pydantic() -> None:
    class Holder(msgspec.Struct):
        card: Any

    assert as_json(Holder(Camel())) == b'{"card":{"cardId":"c-1"}}'


def test_each_library_encodes_only_its_own_models() -> None:
    assert model_encoder(Card) is model_encoder(Checked) is not None
    assert model_encoder(Struct) is not None
    assert model_encoder(Order) is None
    assert model_encoder(dict) is None


def test_what_has_a_form_in_json_beside_what_the_json_module_knows() -> None:
    for kind in (Card, Checked, Struct, Order, Status, uuid.UUID, datetime.date, set):
        assert has_json_form(kind)
    for other in (object, complex, Hidden, bytes):
        assert not has_json_form(other)


def test_no_library_is_imported_for_a_dataclass() -> None:
    program = """if True:
        import dataclasses, sys
        import aioproducer
        @dataclasses.dataclass
        class Order:
            amount: int
        aioproducer.Topic("orders", key=str, value=Order)._serializers.value("orders", Order(1))
        print(*({"pydantic", "msgspec", "uuid", "decimal"} & set(sys.modules)))
        """
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=15
    )
    assert ran.stdout.split() == []
