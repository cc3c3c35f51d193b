"""What type checkers say of typed topics: `make types` reads this file, and nobody runs it.

A line that ends in `# type: ignore[...]` has to be an error: mypy (`warn_unused_ignores`) and
pyright (the setting below) each refuse a comment that ignores nothing. All others have to be right.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, NewType, TypedDict, assert_type

import msgspec
import pydantic

from aioproducer import (
    Delivery,
    KafkaError,
    Producer,
    ProducerRecord,
    RecordMetadata,
    Topic,
)
from aioproducer.records import Header


class Order(pydantic.BaseModel):
    cents: int


class RushOrder(Order):
    by: str


class Refund(msgspec.Struct):
    cents: int


@dataclass
class Click:
    page: str


class Visit(TypedDict):
    page: str


CardId = NewType("CardId", str)


class OrderSerializer:
    def serialize(self, topic: str, value: Order, /) -> bytes:
        return topic.encode()


class OrderSerializerWithHeaders:
    def serialize(self, topic: str, value: Order, headers: tuple[Header, ...], /) -> bytes:
        return topic.encode()


def order_bytes(order: Order) -> bytes:
    return order.model_dump_json().encode()


def order_text(order: Order) -> str:
    return order.model_dump_json()


orders = Topic("orders", key=str, value=Order)


def what_a_topic_may_name() -> None:
    assert_type(orders, Topic[str, Order])
    assert_type(Topic("refunds", key=CardId, value=Refund), Topic[CardId, Refund])
    assert_type(Topic("clicks", key=uuid.UUID, value=Click), Topic[uuid.UUID, Click])
    assert_type(Topic("visits", key=int, value=Visit), Topic[int, Visit])
    assert_type(Topic("raw", key=bytes, value=bytes), Topic[bytes, bytes])
    assert_type(Topic("lists", key=str, value=list[Order]), Topic[str, list[Order]])
    assert_type(Topic("maps", key=str, value=dict[str, int]), Topic[str, dict[str, int]])
    assert_type(Topic("both", key=str, value=Order | Refund), Topic[str, Order | Refund])
    assert_type(Topic("noted", key=str, value=Annotated[Order, 1]), Topic[str, Order])
    assert_type(Topic("own", value=OrderSerializer()), Topic[Any, Order])
    assert_type(Topic("own", value=OrderSerializerWithHeaders()), Topic[Any, Order])
    assert_type(Topic("own", key=int, value=order_bytes), Topic[int, Order])
    assert_type(Topic("named", key="long", value="json"), Topic[Any, Any])
    assert_type(Topic("values", value=Order), Topic[Any, Order])
    assert_type(Topic("keys", key=str), Topic[str, Any])
    assert_type(Topic("plain"), Topic[Any, Any])
    assert_type(Topic[str, Order]("orders", key=str, value=Order), Topic[str, Order])


def what_a_topic_may_not_name() -> None:
    Topic("orders", value=5)  # type: ignore[call-overload]
    Topic("orders", value="jsn")  # type: ignore[call-overload]
    Topic("orders", value=order_text)  # type: ignore[arg-type]
    Topic("orders", str, Order)  # type: ignore[call-overload]
    Topic(b"orders", key=str, value=Order)  # type: ignore[call-overload]
    Topic[str, Refund]("orders", key=str, value=Order)  # type: ignore[arg-type]
    orders.name = "refunds"  # type: ignore[misc]


async def what_is_sent(producer: Producer[Any, Any], order: Order) -> None:
    assert_type(await producer.send(orders, order, key="c-1"), Delivery)
    sending: Coroutine[Any, Any, Delivery] = producer.send(orders, order)
    await sending
    assert_type(producer.send_nowait(orders, order, key="c-1", headers={"h": b""}), Delivery)
    assert_type(await producer.send_and_wait(orders, order, deadline=2), RecordMetadata)
    assert_type(await producer.send_many(orders, [order]), list[RecordMetadata])
    results = await producer.send_many(orders, [order], return_exceptions=True)
    assert_type(results, list[RecordMetadata | KafkaError])
    await producer.send(orders, RushOrder(cents=1, by="now"), partition=1, timestamp_ms=1)
    await producer.send(orders, None, key="c-1", deadline=2)
    await producer.send(orders)
    await producer.send(ProducerRecord(orders, order, key="c-1"))
    mixed: list[Order | ProducerRecord] = [order, ProducerRecord("audit", b"2")]
    await producer.send_many(orders, mixed)
    await producer.send(Topic("keys", key=str), b"anything", key="c-1")
    await producer.send(Topic("both", value=Order | Refund), Refund(1))
    await producer.partitions_for(orders)
    producer.from_thread.send(orders, order, key="c-1").result(timeout=2)


async def what_is_refused(producer: Producer[Any, Any], order: Order) -> None:
    await producer.send(orders, {"cents": 1}, key="c-1")  # type: ignore[misc]
    await producer.send(orders, order, key=b"c-1")  # type: ignore[misc]
    await producer.send(orders, Refund(1))  # type: ignore[misc]
    await producer.send(orders, order, topic_key="c-1")  # type: ignore[call-overload]
    producer.send_nowait(orders, order, key=1)  # type: ignore[misc]
    producer.send_nowait(orders, "order")  # type: ignore[misc]
    await producer.send_and_wait(orders, order.cents)  # type: ignore[misc]
    await producer.send_and_wait(orders, order, key=uuid.uuid4())  # type: ignore[misc]
    await producer.send_many(orders, [b"order"])  # type: ignore[misc]
    await producer.send_many(orders, [order, 5], return_exceptions=True)  # type: ignore[misc]
    producer.from_thread.send(orders, b"order")  # type: ignore[misc]
    ProducerRecord(orders, b"order")  # type: ignore[misc]
    ProducerRecord(orders, order, key=1)  # type: ignore[misc]
    await producer.send(Topic("both", value=Order | Refund), Click("/"))  # type: ignore[misc]


async def what_goes_to_a_producer_with_types(
    producer: Producer[bytes, bytes], order: Order
) -> None:
    await producer.send(orders, order, key="c-1")
    await producer.send(ProducerRecord(orders, order, key="c-1"))
    await producer.send_many(orders, [order])
    await producer.send("orders", b"order", key=b"c-1")
    await producer.send("orders", order)  # type: ignore[call-overload]
    await producer.send(orders, b"order")  # type: ignore[misc]
