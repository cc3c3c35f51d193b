"""`Topic`: what may be named, and that it is a value."""

from __future__ import annotations

import copy
import enum
import pickle
from dataclasses import dataclass, replace
from typing import Any

import pytest

from aioproducer import ConfigError, ProducerRecord, Topic
from aioproducer.serialization import StringSerializer


@dataclass
class Order:
    amount: int


class Tagged:
    """A serializer of a user."""

    def serialize(self, topic: str, value: Order, /) -> bytes:
        return f"{topic}:{value.amount}".encode()

    __hash__: Any = None


def of_value(value: Order) -> bytes:
    return str(value.amount).encode()


def of_two(topic: str, value: Order) -> bytes:
    return b""


async def later(value: Order) -> bytes:
    return b""


ORDERS = Topic("orders", key=str, value=Order)


def test_a_topic_has_its_name_and_its_types() -> None:
    assert (ORDERS.name, ORDERS.key, ORDERS.value) == ("orders", str, Order)


@pytest.mark.parametrize(
    ("topic", "shown"),
    [
        (Topic("orders"), "Topic('orders')"),
        (ORDERS, "Topic('orders', key=str, value=Order)"),
        (Topic("orders", value=list[Order]), "Topic('orders', value=list[Order])"),
        (
            Topic("orders", key="long", value=of_value),
            "Topic('orders', key='long', value=<of_value>)",
        ),
        (Topic("orders", value=Tagged()), "Topic('orders', value=<Tagged>)"),
    ],
)
def test_a_topic_is_shown_as_it_is_written(topic: Topic[Any, Any], shown: str) -> None:
    assert repr(topic) == shown


def test_topics_with_the_same_name_and_types_are_equal() -> None:
    assert Topic("orders", key=str, value=Order) == ORDERS
    assert len({ORDERS, Topic("orders", key=str, value=Order)}) == 1
    for other in (Topic("orders"), Topic("audit", key=str, value=Order), "orders"):
        assert other != ORDERS


def test_a_topic_has_a_hash_whatever_its_serializers_are() -> None:
    topic = Topic("orders", value=Tagged())
    assert {topic: 1}[topic] == 1


def test_a_topic_cannot_be_changed() -> None:
    for name in ("name", "key", "value", "another"):
        with pytest.raises(AttributeError, match="make another one"):
            setattr(ORDERS, name, "x")
    with pytest.raises(AttributeError, match="make another one"):
        del ORDERS.key
    assert (ORDERS.name, ORDERS.key) == ("orders", str)


def test_a_topic_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(ORDERS)) == ORDERS
    assert copy.deepcopy(ORDERS) == ORDERS


def test_a_topic_may_name_its_types_twice() -> None:
    assert Topic[str, Order]("orders", key=str, value=Order) == ORDERS


def test_a_member_of_a_str_enum_is_a_name() -> None:
    class Topics(enum.StrEnum):
        ORDERS = "orders"

    name = Topic(Topics.ORDERS).name
    assert name == "orders"
    assert type(name) is str


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a b", "x" * 250, "\xfcmlaut", "new\n", None, b"orders", 5]
)
def test_a_name_that_kafka_does_not_have_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="1 to 249 letters") as caught:
        Topic(name)
    assert caught.value.option == "name"


def test_the_longest_name_is_taken() -> None:
    assert Topic("x" * 249).name == "x" * 249


@pytest.mark.parametrize("field", ["key", "value"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (object, "no serializer for object: object has no form in JSON"),
        (list[bytes], r"no serializer for list\[bytes\]: JSON has no bytes"),
        (Tagged, r"pass an instance, Tagged\(\.\.\.\)"),
        (5, "not allowed; allowed: None, 'bytes', 'string'"),
        ("Order", "not allowed; allowed: None, 'bytes', 'string'"),
        (later, "A coroutine function cannot be used"),
        (of_two, "cannot be called with one argument"),
    ],
)
def test_what_cannot_be_a_type_of_keys_or_values_is_refused_with_what_can(
    field: str, given: Any, said: str
) -> None:
    options: dict[str, Any] = {field: given}
    with pytest.raises(ConfigError, match=said) as caught:
        Topic("orders", **options)
    assert caught.value.option == field
    assert caught.value.allowed


def test_a_record_for_a_topic_has_its_name_and_its_serializers() -> None:
    record = ProducerRecord(ORDERS, Order(1), "c-1")
    assert (record.topic, record.typed_topic) == ("orders", ORDERS)
    assert pickle.loads(pickle.dumps(record)) == record
    assert record != ProducerRecord("orders", Order(1), "c-1")
    assert "typed_topic" not in repr(record)


def test_a_changed_record_keeps_its_serializers_unless_it_goes_elsewhere() -> None:
    record = ProducerRecord(ORDERS, Order(1), "c-1")
    assert replace(record, value=Order(2)).typed_topic is ORDERS
    assert replace(record, topic="orders.dlq").typed_topic is None
    other: Any = Topic("audit", value=StringSerializer())
    moved = replace(record, topic=other)
    assert (moved.topic, moved.typed_topic) == ("audit", other)


def test_a_record_for_a_name_has_no_typed_topic() -> None:
    assert ProducerRecord("orders", b"1").typed_topic is None
