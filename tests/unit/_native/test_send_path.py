"""The calls that run once per record: what they check, serialize, and give to be awaited."""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from aioproducer._native.record_batch import Delivery
from aioproducer._native.send_path import SendPath
from aioproducer.records import ProducerRecord, RecordMetadata
from tests.support.core import TOPIC, Core, noting

RECORDS_PER_TURN = 2000


class Refused(Exception):
    """Raised by a hook, with its name and what it was given."""


class Path(SendPath[Any, Any]):
    """The hooks of `Producer`, as stubs that say that they were called."""

    def __init__(
        self,
        core: Core,
        serialize_key: Callable[[str, Any], bytes] | None = None,
        serialize_value: Callable[[str, Any], bytes] | None = None,
    ) -> None:
        self.core = core
        self.blocked: list[tuple[object, ...]] = []
        self._open_path(core.accumulator, serialize_key, serialize_value)

    def _refuse_call(self) -> None:
        raise Refused("call")

    def _refuse_topic(self, topic: object) -> None:
        raise Refused("topic", topic)

    def _check_numbers(self, topic: str, partition: object, timestamp_ms: object) -> None:
        if type(partition) not in (int, type(None)) or type(timestamp_ms) not in (int, type(None)):
            raise Refused("numbers", partition, timestamp_ms)

    def _serialization_error(
        self, topic: str, field: str, value: object, cause: Exception | None
    ) -> Exception:
        return Refused(topic, field, value, cause)

    def _no_room_error(self, topic: str) -> Exception:
        return Refused("room", topic)

    async def _send_when_room(self, *record: object) -> object:
        self.blocked.append(record)
        return "admitted later"

    async def _deliver_when_room(self, admission: Any, topic: str, timeout: float | None) -> object:
        return await admission, topic, timeout

    async def _wait_for_delivery(self, accepted: Any, topic: str, timeout: float | None) -> object:
        return await accepted, topic, timeout


def path(
    *,
    serialize_key: Callable[[str, Any], bytes] | None = None,
    serialize_value: Callable[[str, Any], bytes] | None = None,
) -> Path:
    return Path(Core(), serialize_key, serialize_value)


def sent(its: Path) -> list[object]:
    """Return the records accepted, as (key, value, headers, timestamp)."""
    return [*its.core.take().records()]


def utf8(topic: str, value: str) -> bytes:
    return value.encode()


# ---- what is accepted


def test_key_value_headers_and_timestamp_are_taken() -> None:
    its = path()
    its.send_nowait(TOPIC, b"v", key=b"k", headers=[("h", b"x"), ("h", None)], timestamp_ms=4)
    assert sent(its) == [(b"k", b"v", (("h", b"x"), ("h", None)), 4)]


def test_key_and_value_may_both_be_none() -> None:
    its = path()
    its.send_nowait(TOPIC, timestamp_ms=0)
    assert sent(its) == [(None, None, (), 0)]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_buffers_are_copied(kind: Callable[[bytes], Any]) -> None:
    its = path()
    its.send_nowait(TOPIC, kind(b"v"), key=kind(b"k"), timestamp_ms=0)
    assert sent(its) == [(b"k", b"v", (), 0)]


def test_a_buffer_may_be_reused_after_the_call() -> None:
    its = path()
    value = bytearray(b"1")
    its.send_nowait(TOPIC, value, timestamp_ms=0)
    value[:] = b"2"
    its.send_nowait(TOPIC, value, timestamp_ms=0)
    assert sent(its) == [(None, b"1", (), 0), (None, b"2", (), 0)]


def test_headers_may_be_a_dict() -> None:
    its = path()
    headers: Any = {"a": b"1", "b": None}
    its.send_nowait(TOPIC, b"", headers=headers, timestamp_ms=0)
    assert sent(its) == [(None, b"", (("a", b"1"), ("b", None)), 0)]


@pytest.mark.parametrize("headers", [[], (), {}, None])
def test_no_headers_can_be_said_in_several_ways(headers: Any) -> None:
    its = path()
    its.send_nowait(TOPIC, b"", headers=headers, timestamp_ms=0)
    assert sent(its) == [(None, b"", (), 0)]


def test_a_record_carries_everything_itself() -> None:
    its = path()
    record = ProducerRecord(TOPIC, b"v", b"k", partition=0, headers=(("h", b"x"),), timestamp_ms=4)
    its.send_nowait(record)
    assert sent(its) == [(b"k", b"v", (("h", b"x"),), 4)]


def test_a_records_partition_is_respected() -> None:
    its = Path(Core(partitions=3))
    its.send_nowait(ProducerRecord(TOPIC, b"v", partition=2))
    assert its.core.values(2) == [b"v"]


def test_on_delivery_goes_along_with_a_record() -> None:
    its = path()
    told: list[object] = []
    its.send_nowait(ProducerRecord(TOPIC, b"v"), on_delivery=noting(told, 1))
    batch = its.core.take()
    batch.complete(0)
    batch.wake(True)
    assert told == [1]


def test_several_values_are_accepted_in_order() -> None:
    its = path()
    deliveries: list[Delivery] = []
    values = [b"1", ProducerRecord(TOPIC, b"2"), b"3"]
    assert its._accept_many(TOPIC, values, 0, deliveries) == 3
    assert its.core.values() == [b"1", b"2", b"3"]
    assert len(deliveries) == 3


def test_several_values_are_accepted_until_there_is_no_room() -> None:
    its = Path(Core(buffer_memory=400))
    deliveries: list[Delivery] = []
    values: list[Any] = [bytes(100)] * 5
    stopped = its._accept_many(TOPIC, values, 1, deliveries)
    assert 1 < stopped < 5
    assert len(deliveries) == stopped - 1


# ---- what is refused


@pytest.mark.parametrize(
    "keywords",
    [
        {"key": b"k"},
        {"partition": 0},
        {"headers": ()},
        {"timestamp_ms": 0},
        {"value": b"v"},
    ],
)
def test_a_record_with_keywords_beside_it_is_refused(keywords: dict[str, Any]) -> None:
    its = path()
    send: Any = its.send_nowait
    with pytest.raises(TypeError, match="ProducerRecord alone"):
        send(ProducerRecord(TOPIC, b"v"), **keywords)
    assert its.core.queue().open is None


@pytest.mark.parametrize("topic", [None, b"clicks", 3])
def test_a_topic_is_a_str(topic: Any) -> None:
    with pytest.raises(Refused) as caught:
        path().send_nowait(topic, b"v")
    assert caught.value.args == ("topic", topic)


@pytest.mark.parametrize("wrong", ["text", 3, 1.5, [b"v"], object])
@pytest.mark.parametrize("field", ["key", "value"])
def test_without_serializer_only_bytes_are_taken(field: str, wrong: object) -> None:
    its = path()
    record: dict[str, Any] = {"topic": TOPIC, field: wrong}
    with pytest.raises(Refused) as caught:
        its.send_nowait(**record)
    assert caught.value.args == (TOPIC, field, wrong, None)
    assert its.core.queue().open is None


@pytest.mark.parametrize(
    "header",
    [
        ["h", b"x"],
        ("h",),
        ("h", b"x", b"y"),
        (b"h", b"x"),
        (None, b"x"),
        ("h", "x"),
        ("h", bytearray(b"x")),
        "h",
    ],
)
def test_a_header_is_a_pair_of_str_and_bytes_or_none(header: object) -> None:
    its = path()
    headers: Any = [("good", b""), header]
    with pytest.raises(Refused) as caught:
        its.send_nowait(TOPIC, b"v", headers=headers)
    assert caught.value.args == (TOPIC, "headers", header, None)
    assert its.core.queue().open is None


@pytest.mark.parametrize("headers", ["h", b"h", 3, {"h"}])
def test_headers_are_a_list_or_a_tuple(headers: Any) -> None:
    with pytest.raises(Refused) as caught:
        path().send_nowait(TOPIC, b"v", headers=headers)
    assert caught.value.args == (TOPIC, "headers", headers, None)


@pytest.mark.parametrize("numbers", [{"partition": "0"}, {"timestamp_ms": 1.5}])
def test_partition_and_timestamp_are_checked(numbers: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="numbers"):
        path().send_nowait(TOPIC, b"v", **numbers)


def test_a_call_from_another_thread_is_refused() -> None:
    its = path()
    caught: list[BaseException] = []

    def call() -> None:
        try:
            its.send_nowait(TOPIC, b"v")
        except Refused as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert [error.args for error in caught] == [("call",)]
    assert its.core.queue().open is None


def test_a_call_after_the_close_is_refused() -> None:
    its = path()
    its._close_path()
    with pytest.raises(Refused, match="call"):
        its.send_nowait(TOPIC, b"v")


def test_without_room_send_nowait_raises() -> None:
    its = Path(Core(buffer_memory=300))
    its.send_nowait(TOPIC, bytes(150))
    with pytest.raises(Refused, match="room"):
        its.send_nowait(TOPIC, bytes(150))


def test_nobody_passes_a_caller_who_waits_for_room() -> None:
    its = path()
    its.core.accumulator.has_blocked = True
    with pytest.raises(Refused, match="room"):
        its.send_nowait(TOPIC, b"v")
    assert its.core.queue().open is None


# ---- serializers


def test_serializers_make_the_bytes() -> None:
    its = path(serialize_key=utf8, serialize_value=utf8)
    its.send_nowait(TOPIC, "välue", key="köy", timestamp_ms=0)
    assert sent(its) == [("köy".encode(), "välue".encode(), (), 0)]


def test_a_serializer_gets_the_topic() -> None:
    its = path(serialize_value=lambda topic, value: f"{topic}:{value}".encode())
    its.send_nowait(TOPIC, 3, timestamp_ms=0)
    assert sent(its) == [(None, b"clicks:3", (), 0)]


def test_none_bypasses_the_serializers() -> None:
    def never(topic: str, value: object) -> bytes:
        raise AssertionError

    its = path(serialize_key=never, serialize_value=never)
    its.send_nowait(TOPIC, timestamp_ms=0)
    assert sent(its) == [(None, None, (), 0)]


def test_a_serializer_may_return_another_buffer() -> None:
    def to_buffer(topic: str, value: bytes) -> Any:
        return bytearray(value)

    its = path(serialize_value=to_buffer)
    its.send_nowait(TOPIC, b"v", timestamp_ms=0)
    assert sent(its) == [(None, b"v", (), 0)]


@pytest.mark.parametrize("field", ["key", "value"])
def test_a_serializer_that_raises_fails_the_call_and_is_its_cause(field: str) -> None:
    its = path(serialize_key=utf8, serialize_value=utf8)
    record: dict[str, Any] = {"topic": TOPIC, field: 3}
    with pytest.raises(Refused) as caught:
        its.send_nowait(**record)
    topic, name, given, cause = caught.value.args
    assert (topic, name, given) == (TOPIC, field, 3)
    assert isinstance(cause, AttributeError)
    assert caught.value.__cause__ is cause
    assert its.core.queue().open is None


def test_what_a_serializer_returns_is_checked() -> None:
    def to_text(topic: str, value: object) -> Any:
        return "text"

    its = path(serialize_value=to_text)
    with pytest.raises(Refused) as caught:
        its.send_nowait(TOPIC, 3)
    assert caught.value.args[:3] == (TOPIC, "value", "text")


# ---- what is awaited


async def finish(its: Path) -> None:
    batch = its.core.take()
    batch.complete(7)
    batch.wake(False)


def on_this_loop() -> Path:
    return Path(Core(asyncio.get_running_loop()))


STORED = RecordMetadata(TOPIC, 0, 7, 0)


async def test_send_takes_the_record_at_the_call() -> None:
    its = on_this_loop()
    admission = its.send(TOPIC, b"v")
    assert its.core.values() == [b"v"]
    assert isinstance(await admission, Delivery)


async def test_send_never_awaited_is_no_mistake() -> None:
    its = on_this_loop()
    _ = its.send(TOPIC, b"v")
    assert its.core.values() == [b"v"]


async def test_an_admission_gives_the_delivery_without_suspending() -> None:
    its = on_this_loop()
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    delivery = await its.send(TOPIC, b"v", timestamp_ms=0)
    assert turns == []
    await finish(its)
    assert await delivery == STORED


async def test_an_admission_is_a_coroutine_to_create_task() -> None:
    its = on_this_loop()
    delivery = await asyncio.create_task(its.send(TOPIC, b"v", timestamp_ms=0))
    await finish(its)
    assert await delivery == STORED


async def test_admissions_can_be_gathered() -> None:
    its = on_this_loop()
    deliveries = await asyncio.gather(*(its.send(TOPIC, b"%d" % index) for index in range(3)))
    assert its.core.values() == [b"0", b"1", b"2"]
    await finish(its)
    assert [(await delivery).offset for delivery in deliveries] == [7, 8, 9]


async def test_cancelling_the_task_of_an_admission_leaves_the_record_accepted() -> None:
    its = on_this_loop()
    task = asyncio.create_task(its.send(TOPIC, b"v"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert its.core.values() == [b"v"]


async def test_sending_without_pause_lets_others_run_now_and_then() -> None:
    its = on_this_loop()
    turns: list[int] = []

    def count() -> None:
        turns.append(len(its.core.values()))
        asyncio.get_running_loop().call_soon(count) if len(turns) < 3 else None

    asyncio.get_running_loop().call_soon(count)
    for _ in range(2 * RECORDS_PER_TURN + 1):
        await its.send(TOPIC, b"v", timestamp_ms=0)
    assert turns == [RECORDS_PER_TURN, 2 * RECORDS_PER_TURN]
    await asyncio.sleep(0)


async def test_a_new_turn_of_the_sender_starts_the_count_again() -> None:
    its = on_this_loop()
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    for _ in range(RECORDS_PER_TURN - 1):
        await its.send(TOPIC, b"v")
    its.core.accumulator.take_touched()
    for _ in range(RECORDS_PER_TURN - 1):
        await its.send(TOPIC, b"v")
    assert turns == []


async def test_without_room_send_waits_for_it() -> None:
    its = Path(Core(asyncio.get_running_loop()))
    its.core.accumulator.has_blocked = True
    waiting: Any = its.send(TOPIC, b"v", key=b"k", partition=0, headers=[("h", None)])
    assert await waiting == "admitted later"
    ((topic, key, value, partition, headers, timestamp_ms, on_delivery),) = its.blocked
    assert (topic, key, value, partition) == (TOPIC, b"k", b"v", 0)
    assert [*(headers if isinstance(headers, (list, tuple)) else ())] == [("h", None)]
    assert (timestamp_ms, on_delivery) == (None, None)


async def test_send_and_wait_gives_the_metadata() -> None:
    its = on_this_loop()
    storing = its.send_and_wait(TOPIC, b"v", timestamp_ms=0)
    await finish(its)
    assert await storing == STORED


async def test_send_and_wait_is_a_coroutine_to_create_task() -> None:
    its = on_this_loop()
    task = asyncio.create_task(its.send_and_wait(TOPIC, b"v", timestamp_ms=0))
    await finish(its)
    assert await task == STORED


async def test_a_task_of_send_and_wait_can_be_cancelled_and_the_record_goes_on() -> None:
    its = on_this_loop()
    task = asyncio.create_task(its.send_and_wait(TOPIC, b"v", timestamp_ms=0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sent(its) == [(None, b"v", (), 0)]


async def test_send_and_wait_takes_a_record() -> None:
    its = on_this_loop()
    storing = its.send_and_wait(ProducerRecord(TOPIC, b"v", timestamp_ms=0))
    await finish(its)
    assert await storing == STORED


async def test_send_and_wait_with_a_timeout_is_left_to_the_producer() -> None:
    its = on_this_loop()
    storing: Any = its.send_and_wait(TOPIC, b"v", timestamp_ms=0, timeout=3)
    await finish(its)
    assert await storing == (STORED, TOPIC, 3)


async def test_send_and_wait_without_room_waits_for_it_first() -> None:
    its = on_this_loop()
    its.core.accumulator.has_blocked = True
    storing: Any = its.send_and_wait(TOPIC, b"v")
    assert await storing == ("admitted later", TOPIC, None)
    assert len(its.blocked) == 1


def test_headers_changed_after_the_call_are_not_sent() -> None:
    its = Path(Core(partitions=0))
    headers: list[tuple[str, bytes | None]] = [("h", b"as it was")]
    its.send_nowait(TOPIC, b"v", headers=headers, timestamp_ms=0)
    headers[0] = ("h", b"as it is")
    its.core.set_partitions(TOPIC, 1)
    its.core.accumulator.route(its.core.topic())
    assert sent(its) == [(None, b"v", (("h", b"as it was"),), 0)]


def test_a_header_name_that_is_no_unicode_is_refused() -> None:
    its = path()
    with pytest.raises(Refused) as caught:
        its.send_nowait(TOPIC, b"v", headers=[("\ud800", b"")])
    assert caught.value.args[:2] == (TOPIC, "headers")


def test_a_partitioner_that_changes_the_headers_changes_nothing() -> None:
    headers: list[tuple[str, bytes | None]] = [("h", b"x")]

    def adds_a_header(*_: object) -> int:
        headers.append(("g", b"y" * 1000))
        return 0

    its = Path(Core(partitions=1, partitioner=adds_a_header))
    its.send_nowait(TOPIC, b"v", headers=headers, timestamp_ms=0)
    assert sent(its) == [(None, b"v", (("h", b"x"),), 0)]


def test_a_topic_may_be_of_a_kind_of_str() -> None:
    class Topics(enum.StrEnum):
        PAYMENTS = TOPIC

    its = Path(Core())
    its.send_nowait(Topics.PAYMENTS, b"v", timestamp_ms=0)
    assert sent(its) == [(None, b"v", (), 0)]


@pytest.mark.parametrize("call", ["send", "send_nowait", "send_and_wait"])
def test_a_serializer_that_closes_the_producer_has_the_call_refused(call: str) -> None:
    def close(topic: str, value: bytes) -> bytes:
        its._close_path()
        return value

    its = path(serialize_value=close)
    with pytest.raises(Refused, match="call"):
        getattr(its, call)(TOPIC, b"v")


async def test_a_partitioner_that_closes_the_producer_leaves_the_record_accepted() -> None:
    def close(
        topic: str, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        its._close_path()
        return 0

    its = Path(Core(partitioner=close))
    assert isinstance(await its.send(TOPIC, b"v"), Delivery)
