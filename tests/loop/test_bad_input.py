"""Bad input is refused at the call, with nothing queued, and the producer goes on."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest

from aioproducer import KafkaError, Producer, ProducerConfig, ProducerRecord
from aioproducer.errors import (
    InvalidPartitionError,
    InvalidTimestampError,
    InvalidTopicError,
    RecordTooLargeError,
    SerializationError,
)
from aioproducer.testing import FakeCluster
from tests.support.producing import TOPIC, failure, producing, prove


@pytest.mark.parametrize(
    ("topic", "options", "kind"),
    [
        ("", {}, InvalidTopicError),
        (".", {}, InvalidTopicError),
        ("..", {}, InvalidTopicError),
        ("a b", {}, InvalidTopicError),
        ("new\n", {}, InvalidTopicError),
        ("x" * 250, {}, InvalidTopicError),
        ("ümlaut", {}, InvalidTopicError),
        (None, {}, InvalidTopicError),
        (b"bytes", {}, InvalidTopicError),
        (TOPIC, {"partition": -1}, InvalidPartitionError),
        (TOPIC, {"partition": 1}, InvalidPartitionError),
        (TOPIC, {"partition": 2**40}, InvalidPartitionError),
        (TOPIC, {"partition": "0"}, InvalidPartitionError),
        (TOPIC, {"partition": True}, InvalidPartitionError),
        (TOPIC, {"timestamp_ms": -1}, InvalidTimestampError),
        (TOPIC, {"timestamp_ms": 1.5}, InvalidTimestampError),
        (TOPIC, {"timestamp_ms": 2**63}, InvalidTimestampError),
        (TOPIC, {"headers": "h"}, SerializationError),
        (TOPIC, {"headers": [("h",)]}, SerializationError),
        (TOPIC, {"headers": [(b"h", b"v")]}, SerializationError),
        (TOPIC, {"headers": [("h", "v")]}, SerializationError),
        (TOPIC, {"headers": {"h": 1}}, SerializationError),
        (TOPIC, {"headers": [("\ud800", b"v")]}, SerializationError),
        (TOPIC, {"key": "text"}, SerializationError),
        (TOPIC, {"value": "text"}, SerializationError),
        (TOPIC, {"value": 42}, SerializationError),
        (TOPIC, {"value": b"x" * 5_000_000}, RecordTooLargeError),
    ],
)
async def test_it_is_refused_at_the_call_and_nothing_is_queued(
    topic: Any, options: dict[str, Any], kind: type[KafkaError]
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        with pytest.raises(kind):
            producer.send_nowait(topic, **options)
        assert producer.metrics()["record_accepted_total"] == 1
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1


async def test_key_and_value_may_both_be_none_and_an_empty_key_is_a_key() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await producer.send_and_wait(TOPIC)
        await producer.send_and_wait(TOPIC, b"", key=b"")
        assert [(record.key, record.value) for record in cluster.records(TOPIC)] == [
            (None, None),
            (b"", b""),
        ]


async def test_a_serializer_that_raises_fails_the_call_and_shows_no_payload() -> None:
    def refuse(value: object) -> bytes:
        raise ValueError("secret payload")

    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, value_serializer=refuse) as producer,
    ):
        with pytest.raises(SerializationError) as caught:
            producer.send_nowait(TOPIC, "secret payload")
        assert "secret" not in str(caught.value)
        assert isinstance(caught.value.__cause__, ValueError)


async def test_a_partition_out_of_range_fails_once_the_topic_is_known() -> None:
    async with FakeCluster(topics={TOPIC: 3}) as cluster, producing(cluster) as producer:
        good = producer.send_nowait(TOPIC, b"42", partition=2)
        bad = producer.send_nowait(TOPIC, b"42", partition=9)
        error = await failure(bad)
        assert isinstance(error, InvalidPartitionError)
        assert "3 partitions" in str(error)
        assert (await good).partition == 2


@pytest.mark.parametrize("chosen", [7, -1, None, "0", 2**40])
async def test_a_partitioner_that_chooses_nonsense_fails_its_record_only(chosen: Any) -> None:
    answers = iter([chosen, chosen])

    def chooses(*_: object) -> Any:
        return next(answers, 0)

    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, partitioner=chooses) as producer,
    ):
        assert isinstance(await failure(producer.send_nowait(TOPIC, b"held")), KafkaError)
        with pytest.raises(KafkaError):
            producer.send_nowait(TOPIC, b"known")
        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0


async def test_the_error_of_a_partitioner_that_raises_does_not_show_the_key() -> None:
    def chooses(topic: str, key: bytes | None, *_: object) -> int:
        raise KeyError(key)

    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, partitioner=chooses) as producer,
    ):
        error = await failure(producer.send_nowait(TOPIC, b"42", key=b"4111 1111"))
        assert "KeyError" in str(error)
        assert "4111" not in str(error)
        assert isinstance(error.__cause__, KeyError)


def test_an_address_without_its_name_is_refused_with_the_way_to_give_it() -> None:
    with pytest.raises(TypeError, match=r"Producer\(bootstrap_servers='localhost:9092'\)"):
        Producer("localhost:9092")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not both"):
        Producer(ProducerConfig(bootstrap_servers="localhost:9092"), linger_ms=5)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([("a", b"1"), ("b", "2")], "the value of header 1, 'b', is not bytes or None"),
        ([("a", b"1"), (b"b", b"2")], "the name of header 1 is no str"),
        ([("a", b"1"), ("b",)], "header 1 is no pair of name and value"),
        ({"a": b"1", "b": 2}, "the value of header 1, 'b', is not bytes or None"),
        ([["a", b"1"]], "header 0 is no tuple of name and value"),
        ("ab", "they are no list, tuple or mapping. Give a list"),
    ],
)
async def test_a_wrong_header_is_named_by_position_name_and_type(headers: Any, said: str) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        with pytest.raises(SerializationError, match=re.escape(said)) as caught:
            producer.send_nowait(TOPIC, b"x", headers=headers)
        assert caught.value.field == "headers"
        assert f"type {caught.value.got_type}" in str(caught.value)


async def test_a_name_that_utf_8_does_not_have_is_told_of() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        with pytest.raises(SerializationError, match="serialized: a name has no form in UTF-8"):
            producer.send_nowait(TOPIC, b"x", headers=[("\ud800", b"1")])


@pytest.mark.parametrize(
    "records", ["abc", b"abc", bytearray(b"abc"), {"a": b"1"}, ProducerRecord(TOPIC, b"1")]
)
async def test_one_record_is_no_list_of_records(records: Any) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        with pytest.raises(TypeError, match="send_and_wait takes one"):
            await producer.send_many(TOPIC, records)
        assert producer.metrics()["record_accepted_total"] == 0


@pytest.mark.parametrize("callback", ["print", 42, object()])
async def test_a_callback_that_cannot_be_called_is_refused_at_the_call(callback: Any) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        for send in (producer.send_nowait, producer.send):
            with pytest.raises(TypeError, match="on_delivery"):
                send(TOPIC, b"x", on_delivery=callback)
        assert producer.metrics()["record_accepted_total"] == 0


async def test_a_coroutine_function_as_callback_is_refused_with_the_way_to_do_it() -> None:
    async def tell(metadata: object, error: object) -> None:
        """Never called."""

    class Told:
        async def __call__(self, metadata: object, error: object) -> None:
            """Never called."""

    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        for callback in (tell, functools.partial(tell), Told()):
            with pytest.raises(TypeError, match="create_task"):
                producer.send_nowait(TOPIC, b"x", on_delivery=callback)
        assert producer.metrics()["record_accepted_total"] == 0
