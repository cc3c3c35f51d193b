"""A `Topic` sends what its types say, by every way to send, and refuses the rest at the call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import pydantic
import pytest

from aioproducer import Producer, ProducerRecord, SerializationError, Topic
from aioproducer.records import Header
from aioproducer.testing import FakeCluster
from tests.support.producing import TOPIC, producing, until, values

AnyProducer: TypeAlias = Producer[Any, Any]


class Order(pydantic.BaseModel):
    card: str
    cents: int


class Refund(msgspec.Struct):
    cents: int


@dataclass
class Click:
    page: str


ORDERS = Topic(TOPIC, key=str, value=Order)
ORDER = Order(card="c-1", cents=1250)
STORED = (b"c-1", b'{"card":"c-1","cents":1250}')


async def send(producer: AnyProducer) -> None:
    await (await producer.send(ORDERS, ORDER, key="c-1"))


async def send_nowait(producer: AnyProducer) -> None:
    await producer.send_nowait(ORDERS, ORDER, key="c-1")


async def send_and_wait(producer: AnyProducer) -> None:
    metadata = await producer.send_and_wait(ORDERS, ORDER, key="c-1")
    assert metadata.topic == TOPIC


async def send_and_wait_with_a_timeout(producer: AnyProducer) -> None:
    await producer.send_and_wait(ORDERS, ORDER, key="c-1", timeout=5)


async def send_a_record(producer: AnyProducer) -> None:
    await producer.send_and_wait(ProducerRecord(ORDERS, ORDER, "c-1"))


async def send_many_records(producer: AnyProducer) -> None:
    await producer.send_many(ORDERS, [ProducerRecord(ORDERS, ORDER, key="c-1")])


async def send_from_a_thread(producer: AnyProducer) -> None:
    send_there = producer.from_thread.send
    await asyncio.wrap_future(await asyncio.to_thread(send_there, ORDERS, ORDER, key="c-1"))


async def send_a_record_from_a_thread(producer: AnyProducer) -> None:
    record = ProducerRecord(ORDERS, ORDER, "c-1")
    await asyncio.wrap_future(await asyncio.to_thread(producer.from_thread.send, record))


@pytest.mark.parametrize(
    "way",
    [
        send_from_a_thread,
        send_a_record_from_a_thread,
        send,
        send_nowait,
        send_and_wait,
        send_and_wait_with_a_timeout,
        send_a_record,
        send_many_records,
    ],
)
async def test_every_way_to_send_takes_a_topic(
    way: Callable[[AnyProducer], Awaitable[None]],
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await way(producer)
        assert [(record.key, record.value) for record in cluster.records(TOPIC)] == [STORED]


async def test_many_values_of_a_topic_are_sent_and_each_is_checked() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        wrong: Any = {"card": "c-1"}
        await producer.send_many(ORDERS, [ORDER, ORDER])
        with pytest.raises(SerializationError):
            await producer.send_many(ORDERS, [ORDER, wrong])
        await producer.flush()
        assert values(cluster) == [STORED[1]] * 3


async def test_partition_headers_and_timestamp_are_as_ever() -> None:
    async with FakeCluster(topics={TOPIC: 3}) as cluster, producing(cluster) as producer:
        metadata = await producer.send_and_wait(
            ORDERS,
            ORDER,
            key="c-1",
            partition=2,
            headers={"h": b"x"},
            timestamp_ms=1_700_000_000_000,
        )
        assert (metadata.partition, metadata.timestamp_ms) == (2, 1_700_000_000_000)
        assert list(cluster.records(TOPIC)[0].headers) == [("h", b"x")]


async def test_none_is_a_tombstone_and_no_key() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await producer.send_and_wait(ORDERS, None, key="c-1")
        await producer.send_and_wait(ORDERS, ORDER)
        stored = [(record.key, record.value) for record in cluster.records(TOPIC)]
        assert stored == [(b"c-1", None), (None, STORED[1])]


async def test_one_producer_serves_topics_of_all_types_and_names() -> None:
    topics = {TOPIC: 1, "clicks": 1, "refunds": 1, "raw": 1}
    async with (
        FakeCluster(topics=topics) as cluster,
        producing(cluster, value_serializer="string") as producer,
    ):
        await producer.send_and_wait(Topic("clicks", key=int, value=Click), Click("/"), key=1)
        await producer.send_and_wait(Topic("refunds", value=Refund | Order), Refund(5))
        await producer.send_and_wait(Topic("raw", key="long"), "text", key=1)
        await producer.send_and_wait(TOPIC, "text")
        stored = {name: cluster.records(name)[0] for name in topics}
        assert {name: record.value for name, record in stored.items()} == {
            "clicks": b'{"page":"/"}',
            "refunds": b'{"cents":5}',
            "raw": b"text",
            TOPIC: b"text",
        }
        assert stored["clicks"].key == stored["raw"].key == (1).to_bytes(8, "big")


async def test_records_of_a_topic_that_wait_for_buffer_space_are_sent_in_order() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=1_000) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"first")
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"x" * 700)
        waiting = asyncio.create_task(producer.send_many(Topic(TOPIC, value=str), list("abc" * 9)))
        await until(lambda: producer.metrics()["waiting_callers"] > 0)
        cluster.release()
        await waiting
        assert values(cluster)[2:] == [letter.encode() for letter in "abc" * 9]


async def test_a_value_of_another_type_is_refused_at_the_call_without_being_shown() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        wrong: Any = {"card": "4111 1111"}
        with pytest.raises(SerializationError) as caught:
            producer.send_nowait(ORDERS, wrong, key="c-1")
        error = caught.value
        assert (error.topic, error.field) == (TOPIC, "value")
        assert (error.expected_type, error.got_type) == ("Order", "dict")
        assert str(error) == (
            f"The value of a record for topic '{TOPIC}' cannot be serialized (type dict): "
            f"Topic('{TOPIC}', value=Order) takes Order, not dict. "
            f"Pass what Topic('{TOPIC}', value=Order) takes, or set another."
        )
        with pytest.raises(SerializationError, match="takes str, not int") as of_key:
            producer.send_nowait(ORDERS, ORDER, key=wrong["card"].count("1"))
        assert of_key.value.field == "key"
        assert producer.metrics()["record_accepted_total"] == 0


async def test_a_topics_own_serializer_that_raises_is_named() -> None:
    def refuses(value: object) -> bytes:
        raise ValueError("4111 1111")

    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        topic = Topic(TOPIC, value=refuses)
        with pytest.raises(SerializationError) as caught:
            producer.send_nowait(topic, "x")
        assert "refuses>) raised ValueError" in str(caught.value)
        assert "4111" not in str(caught.value)
        wrong: Any = Topic(TOPIC, value=str.upper)  # type: ignore[arg-type]
        with pytest.raises(SerializationError, match="returned str in place of bytes"):
            producer.send_nowait(wrong, "x")


async def test_the_serializers_of_a_producer_see_the_headers_too() -> None:
    class ByContentType:
        """As text or as JSON, as the header says."""

        def serialize(self, topic: str, value: str, headers: tuple[Header, ...], /) -> bytes:
            is_json = ("content-type", b"application/json") in headers
            return f'"{value}"'.encode() if is_json else value.encode()

    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, value_serializer=ByContentType()) as producer,
    ):
        await producer.send_and_wait(TOPIC, "a", headers={"content-type": b"application/json"})
        await producer.send_and_wait(TOPIC, "b", headers=[("content-type", b"text/plain")])
        await producer.send_and_wait(TOPIC, "c")
        assert values(cluster) == [b'"a"', b"b", b"c"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ORDER, STORED[1]),
        (Refund(5), b'{"cents":5}'),
        (Click("/"), b'{"page":"/"}'),
        ([ORDER, {"click": Click("/")}], b"[" + STORED[1] + b',{"click":{"page":"/"}}]'),
    ],
)
async def test_the_json_serializer_takes_models(value: object, expected: bytes) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, value_serializer="json") as producer,
    ):
        await producer.send_and_wait(TOPIC, value)
        assert values(cluster) == [expected]


async def test_the_partitions_of_a_topic_are_told() -> None:
    async with FakeCluster(topics={TOPIC: 3}) as cluster, producing(cluster) as producer:
        assert await producer.partitions_for(ORDERS) == (0, 1, 2)
