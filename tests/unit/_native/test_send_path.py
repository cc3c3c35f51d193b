"""The calls that run once per record: what they check, serialize, and give to be awaited."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import enum
import gc
import inspect
import pickle
import sys
import threading
import types
import warnings
import weakref
from collections import UserDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast
from unittest.mock import AsyncMock, Mock, create_autospec

import pytest

from aioproducer._native.record_batch import Delivery
from aioproducer._native.send_path import SendPath
from aioproducer._native.serializer_call import SerializerCall
from aioproducer.errors import SerializationError
from aioproducer.hooks import OnDelivery
from aioproducer.records import Header, ProducerRecord, RecordMetadata
from aioproducer.topic import Topic
from tests.support.core import TOPIC, Core, append_to, records_of

RECORDS_PER_TURN = 2000

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")


class Refused(Exception):
    """Raised by a hook, with its name and what it was given."""


def called(serialize: Callable[[str, Any], bytes] | None) -> SerializerCall | None:
    return None if serialize is None else SerializerCall("topic", serialize)


class Path(SendPath[Any, Any]):
    """The hooks of `Producer`, as stubs that say that they were called.

    Attributes:
        warned: Timestamps that can only be seconds.
        refusing: The serializers of the keys and values that did not become bytes.
        looked: How often a call looked at which loop runs.
        runs: The loop that is said to run: ours, another one, or none.
    """

    def __init__(
        self,
        core: Core,
        serialize_key: Callable[[str, Any], bytes] | None = None,
        serialize_value: Callable[[str, Any], bytes] | None = None,
        *,
        fails_fast: bool = False,
    ) -> None:
        self.core = core
        self.blocked: list[tuple[object, ...]] = []
        self.warned: list[tuple[str, int]] = []
        self.refusing: list[SerializerCall | None] = []
        self.looked = 0
        self.runs: Literal["ours", "another", "none"] = "ours"
        self.down: list[tuple[str, object]] = []
        self._open_path(
            core.accumulator, called(serialize_key), called(serialize_value), fails_fast=fails_fast
        )

    def _refuse_call(self) -> None:
        raise Refused("call")

    def _refuse_topic(self, topic: object) -> None:
        raise Refused("topic", topic)

    def _refuse_partition(self, topic: str, partition: object) -> None:
        raise Refused("partition", topic, partition)

    def _refuse_timestamp(self, timestamp_ms: object) -> None:
        raise Refused("timestamp", timestamp_ms)

    def _check_running_loop(self) -> bool:
        self.looked += 1
        if self.runs == "another":
            raise Refused("loop")
        return self.runs == "ours"

    def _serialization_error(
        self,
        topic: str,
        field: str,
        value: object,
        cause: Exception | None,
        serializer: SerializerCall | None,
    ) -> Exception:
        self.refusing.append(serializer)
        return Refused(topic, field, value, cause)

    def _header_error(self, topic: str, position: int, header: object) -> Exception:
        return Refused(topic, "header", position, header)

    def _warn_of_seconds(self, topic: str, timestamp_ms: int) -> None:
        self.warned.append((topic, timestamp_ms))

    def _no_space_error(self, topic: str) -> Exception:
        return Refused("room", topic)

    def _refuse_if_down(self, topic: str, partition: object) -> None:
        self.down.append((topic, partition))

    async def _send_when_admitted(
        self, record: tuple[object, ...], deadline: float | None
    ) -> object:
        self.blocked.append(record)
        return "admitted later" if deadline is None else f"admitted within {deadline}"

    async def _deliver_when_admitted(self, admission: Any, timeout: float | None) -> object:
        return await admission, timeout


def path(
    *,
    serialize_key: Callable[[str, Any], bytes] | None = None,
    serialize_value: Callable[[str, Any], bytes] | None = None,
) -> Path:
    return Path(Core(), serialize_key, serialize_value)


def sent(harness: Path) -> list[object]:
    """Return the records accepted, as (key, value, headers, timestamp)."""
    return [*records_of(harness.core.take())]


def utf8(topic: str, value: str) -> bytes:
    return value.encode()


# ---- what is accepted


def test_key_value_headers_and_timestamp_are_taken() -> None:
    harness = path()
    harness.send_nowait(TOPIC, b"v", key=b"k", headers=[("h", b"x"), ("h", None)], timestamp_ms=4)
    assert sent(harness) == [(b"k", b"v", (("h", b"x"), ("h", None)), 4)]


def test_key_and_value_may_both_be_none() -> None:
    harness = path()
    harness.send_nowait(TOPIC, timestamp_ms=0)
    assert sent(harness) == [(None, None, (), 0)]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_buffers_are_copied(kind: Callable[[bytes], Any]) -> None:
    harness = path()
    harness.send_nowait(TOPIC, kind(b"v"), key=kind(b"k"), timestamp_ms=0)
    assert sent(harness) == [(b"k", b"v", (), 0)]


def test_a_buffer_may_be_reused_after_the_call() -> None:
    harness = path()
    value = bytearray(b"1")
    harness.send_nowait(TOPIC, value, timestamp_ms=0)
    value[:] = b"2"
    harness.send_nowait(TOPIC, value, timestamp_ms=0)
    assert sent(harness) == [(None, b"1", (), 0), (None, b"2", (), 0)]


def test_headers_may_be_a_dict() -> None:
    harness = path()
    headers: Any = {"a": b"1", "b": None}
    harness.send_nowait(TOPIC, b"", headers=headers, timestamp_ms=0)
    assert sent(harness) == [(None, b"", (("a", b"1"), ("b", None)), 0)]


class HeaderName(enum.StrEnum):
    A = "a"
    B = "b"


class NamedHeader(NamedTuple):
    name: str
    value: bytes | None


class ListOfHeaders(list[tuple[str, bytes | None]]):
    pass


class BytesOfMine(bytes):
    pass


@pytest.mark.parametrize(
    "headers",
    [
        ListOfHeaders([("a", b"1"), ("b", None)]),
        [("a", b"1"), NamedHeader("b", None)],
        MappingProxyType({"a": b"1", "b": None}),
        UserDict({"a": b"1", "b": None}),
        {HeaderName.A: b"1", HeaderName.B: None},
        ((HeaderName.A, BytesOfMine(b"1")), ("b", None)),
    ],
)
def test_headers_may_be_of_subclasses_and_any_mapping(headers: Any) -> None:
    class Serializer:
        def serialize(self, topic: str, value: str, headers: tuple[Header, ...]) -> bytes:
            seen.append(headers)
            return value.encode()

    seen: list[tuple[Header, ...]] = []
    harness = path()
    harness.send_nowait(Topic(TOPIC, value=Serializer()), "v", headers=headers, timestamp_ms=0)
    plain = (("a", b"1"), ("b", None))
    assert sent(harness) == [(None, b"v", plain, 0)]
    assert seen == [plain]
    assert {type(part) for pair in seen[0] for part in (pair, *pair)} == {
        tuple,
        str,
        bytes,
        type(None),
    }


@pytest.mark.parametrize("headers", [[], (), {}, None])
def test_no_headers_can_be_said_in_several_ways(headers: Any) -> None:
    harness = path()
    harness.send_nowait(TOPIC, b"", headers=headers, timestamp_ms=0)
    assert sent(harness) == [(None, b"", (), 0)]


def test_a_record_carries_everything_itself() -> None:
    harness = path()
    record = ProducerRecord(TOPIC, b"v", b"k", partition=0, headers=(("h", b"x"),), timestamp_ms=4)
    harness.send_nowait(record)
    assert sent(harness) == [(b"k", b"v", (("h", b"x"),), 4)]


def test_a_records_partition_is_respected() -> None:
    harness = Path(Core(partitions=3))
    harness.send_nowait(ProducerRecord(TOPIC, b"v", partition=2))
    assert harness.core.values(2) == [b"v"]


def test_on_delivery_goes_along_with_a_record() -> None:
    harness = path()
    notified: list[object] = []
    harness.send_nowait(ProducerRecord(TOPIC, b"v"), on_delivery=append_to(notified, 1))
    batch = harness.core.take()
    batch.complete(0)
    batch.wake(True)
    assert notified == [1]


@pytest.mark.parametrize("direct", [True, False])
def test_one_function_runs_in_the_context_of_each_of_its_calls(direct: bool) -> None:
    harness = path()
    seen: list[str] = []

    def note(*_: object) -> None:
        seen.append(request_id.get())

    for request in ("a", "a", "b", "a", "b"):
        request_id.set(request)
        harness.send_nowait(TOPIC, b"v", on_delivery=note)
    request_id.set("of whoever opened the connection")
    batch = harness.core.take()
    batch.complete(0)
    batch.wake(direct)
    harness.core.manual.run_once()
    assert seen == ["a", "a", "b", "a", "b"]


@pytest.mark.parametrize("direct", [True, False])
def test_what_an_on_delivery_sets_is_not_seen_by_the_next_one_of_the_same_context(
    direct: bool,
) -> None:
    harness = path()
    seen: list[str] = []

    def note_and_change(*_: object) -> None:
        seen.append(request_id.get())
        request_id.set("changed")

    request_id.set("a")
    for _ in range(3):
        harness.send_nowait(TOPIC, b"v", on_delivery=note_and_change)
    batch = harness.core.take()
    batch.complete(0)
    batch.wake(direct)
    harness.core.manual.run_once()
    assert seen == ["a", "a", "a"]
    assert request_id.get() == "a"


def test_on_delivery_works_in_a_thread_without_any_context() -> None:
    notified: list[int] = []

    def send() -> None:
        harness = path()
        for _ in range(2):
            harness.send_nowait(TOPIC, b"v", on_delivery=append_to(notified, 1))
        batch = harness.core.take()
        batch.complete(0)
        batch.wake(True)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
    assert notified == [1, 1]


@pytest.mark.parametrize("direct", [True, False])
def test_on_delivery_runs_in_the_context_of_the_call(direct: bool) -> None:
    harness = path()
    seen: list[str] = []
    for request in ("a", "b"):
        request_id.set(request)
        harness.send_nowait(
            TOPIC, b"v", on_delivery=lambda metadata, error: seen.append(request_id.get())
        )
    request_id.set("of whoever opened the connection")
    batch = harness.core.take()
    batch.complete(0)
    batch.wake(direct)
    harness.core.manual.run_once()
    assert seen == ["a", "b"]


def test_on_delivery_keeps_the_context_of_the_call_while_the_topic_is_not_known() -> None:
    harness = Path(Core(partitions=0))
    seen: list[str] = []
    request_id.set("a")
    harness.send_nowait(
        TOPIC, b"v", on_delivery=lambda metadata, error: seen.append(request_id.get())
    )
    request_id.set("b")
    harness.core.route()
    batch = harness.core.take()
    batch.complete(0)
    batch.wake(True)
    assert seen == ["a"]


async def test_on_delivery_keeps_the_context_of_the_call_while_the_buffer_is_full() -> None:
    harness = on_this_loop()
    harness.core.accumulator.has_blocked = harness.core.accumulator.is_full = True
    request_id.set("a")
    await harness.send(TOPIC, b"v", on_delivery=print)
    request_id.set("b")
    callback, context = cast("tuple[object, contextvars.Context]", harness.blocked[0][6])
    assert callback is print
    assert context[request_id] == "a"


class CallableObject:
    """A callable object, with a method that is one as well."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: object) -> None:
        self.count += 1

    def method(self, *_: object) -> None:
        self.count += 1


def as_object(notified: CallableObject) -> OnDelivery:
    return notified


def as_method(notified: CallableObject) -> OnDelivery:
    return notified.method


def as_partial(notified: CallableObject) -> OnDelivery:
    return partial(notified.method)


def as_partial_of_a_partial(notified: CallableObject) -> OnDelivery:
    return partial(partial(notified))


def as_function(notified: CallableObject) -> OnDelivery:
    return lambda metadata, error: notified()


@pytest.mark.parametrize(
    "callback_of",
    [as_object, as_method, as_partial, as_partial_of_a_partial, as_function],
)
def test_on_delivery_may_be_anything_that_can_be_called(
    callback_of: Callable[[CallableObject], OnDelivery],
) -> None:
    harness = path()
    notified = CallableObject()
    harness.send_nowait(TOPIC, b"v", on_delivery=callback_of(notified))
    batch = harness.core.take()
    batch.complete(0)
    batch.wake(True)
    assert notified.count == 1


def test_on_delivery_may_be_a_builtin_or_a_mock() -> None:
    harness = path()
    notified: list[object] = []
    noted: list[object] = []
    builtin: Any = noted.append
    harness.send_nowait(TOPIC, b"v", on_delivery=Mock(side_effect=append_to(notified, 1)))
    harness.send_nowait(TOPIC, b"v", on_delivery=builtin)
    batch = harness.core.take()
    batch.complete(0)
    batch.wake(True)
    assert notified == [1]
    # It was called with two arguments.
    assert [type(context["exception"]) for context in harness.core.manual.reported] == [TypeError]


async def later(*_: object) -> None:
    """What nobody would await."""


def yields(*_: object) -> Iterator[None]:
    yield


async def yields_later(*_: object) -> AsyncIterator[None]:
    yield


class Awaited:
    """Objects that would have to be awaited, in several ways."""

    async def __call__(self, *_: object) -> None: ...

    async def method(self, *_: object) -> None: ...

    @classmethod
    async def class_method(cls, *_: object) -> None: ...


@pytest.mark.parametrize(
    "on_delivery",
    [
        later,
        yields,
        yields_later,
        types.coroutine(yields),
        partial(later, 1),
        partial(partial(later), 1),
        Awaited(),
        Awaited().method,
        Awaited.class_method,
        partial(Awaited().method),
        AsyncMock(),
    ],
    ids=lambda it: f"{type(it).__name__} {getattr(it, '__name__', '')}",
)
@pytest.mark.parametrize("call", ["send", "send_nowait"])
def test_an_on_delivery_that_would_have_to_be_awaited_is_refused(
    call: str, on_delivery: object
) -> None:
    harness = path()
    with pytest.raises(TypeError, match="pass a plain function"):
        getattr(harness, call)(TOPIC, b"v", on_delivery=on_delivery)
    assert harness.core.queue().open is None


@pytest.mark.parametrize("on_delivery", [3, "text", [print], object()])
def test_an_on_delivery_that_cannot_be_called_is_refused(on_delivery: Any) -> None:
    harness = path()
    with pytest.raises(TypeError, match=f"not a {type(on_delivery).__name__}"):
        harness.send_nowait(TOPIC, b"v", on_delivery=on_delivery)
    assert harness.core.queue().open is None


def test_several_values_are_accepted_in_order() -> None:
    harness = path()
    deliveries: list[Delivery] = []
    values = [b"1", ProducerRecord(TOPIC, b"2"), b"3"]
    assert harness._accept_many(TOPIC, values, 0, deliveries) == 3
    assert harness.core.values() == [b"1", b"2", b"3"]
    assert len(deliveries) == 3


def test_several_values_are_accepted_until_the_buffer_is_full() -> None:
    harness = Path(Core(buffer_memory=400))
    deliveries: list[Delivery] = []
    values: list[Any] = [bytes(100)] * 5
    stopped = harness._accept_many(TOPIC, values, 1, deliveries)
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
    harness = path()
    send: Any = harness.send_nowait
    with pytest.raises(TypeError, match="ProducerRecord alone"):
        send(ProducerRecord(TOPIC, b"v"), **keywords)
    assert harness.core.queue().open is None


@pytest.mark.parametrize("topic", [None, b"clicks", 3])
def test_a_topic_is_a_str(topic: Any) -> None:
    with pytest.raises(Refused) as caught:
        path().send_nowait(topic, b"v")
    assert caught.value.args == ("topic", topic)


@pytest.mark.parametrize("wrong", ["text", 3, 1.5, [b"v"], object])
@pytest.mark.parametrize("field", ["key", "value"])
def test_without_serializer_only_bytes_are_taken(field: str, wrong: object) -> None:
    harness = path()
    record: dict[str, Any] = {"topic": TOPIC, field: wrong}
    with pytest.raises(Refused) as caught:
        harness.send_nowait(**record)
    assert caught.value.args == (TOPIC, field, wrong, None)
    assert harness.core.queue().open is None


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
        NamedHeader("h", cast("bytes", "x")),
        "h",
    ],
)
def test_a_header_is_a_pair_of_str_and_bytes_or_none(header: object) -> None:
    harness = path()
    headers: Any = [("good", b""), header]
    with pytest.raises(Refused) as caught:
        harness.send_nowait(TOPIC, b"v", headers=headers)
    assert caught.value.args == (TOPIC, "header", 1, header)
    assert harness.core.queue().open is None


@pytest.mark.parametrize("headers", ["h", b"h", 3, {"h"}])
def test_headers_are_a_list_or_a_tuple(headers: Any) -> None:
    with pytest.raises(Refused) as caught:
        path().send_nowait(TOPIC, b"v", headers=headers)
    assert caught.value.args == (TOPIC, "headers", headers, None)


@pytest.mark.parametrize("wrong", ["0", 1.0, 1.7, True, -1, 2**31, 2**70, -(2**70)])
@pytest.mark.parametrize("call", ["send", "send_nowait", "send_and_wait"])
def test_a_partition_is_a_whole_number_within_32_bits(call: str, wrong: object) -> None:
    harness = path()
    with pytest.raises(Refused) as caught:
        getattr(harness, call)(TOPIC, b"v", partition=wrong)
    assert caught.value.args == ("partition", TOPIC, wrong)
    assert harness.core.queue().open is None


@pytest.mark.parametrize("wrong", ["0", 1.0, 1.7, True, -1, 2**62 + 1, 2**70, -(2**70)])
@pytest.mark.parametrize("call", ["send", "send_nowait", "send_and_wait"])
def test_a_timestamp_is_a_whole_number_within_64_bits(call: str, wrong: object) -> None:
    harness = path()
    with pytest.raises(Refused) as caught:
        getattr(harness, call)(TOPIC, b"v", timestamp_ms=wrong)
    assert caught.value.args == ("timestamp", wrong)
    assert harness.core.queue().open is None


@pytest.mark.parametrize("timestamp_ms", [0, 1, 2**31, 2**62])
def test_timestamps_up_to_the_highest_are_taken(timestamp_ms: int) -> None:
    harness = path()
    harness.send_nowait(TOPIC, b"v", timestamp_ms=timestamp_ms)
    assert sent(harness) == [(None, b"v", (), timestamp_ms)]


@pytest.mark.parametrize("timestamp_ms", [1_000_000_000, 1_767_225_600, 4_000_000_000])
def test_timestamps_that_can_only_be_seconds_are_warned_of_once(timestamp_ms: int) -> None:
    harness = path()
    for _ in range(3):
        harness.send_nowait(TOPIC, b"v", timestamp_ms=timestamp_ms)
        harness.send_nowait(ProducerRecord(TOPIC, b"v", timestamp_ms=timestamp_ms))
    assert harness.warned == [(TOPIC, timestamp_ms)]
    assert harness.core.count() == 6


@pytest.mark.parametrize("timestamp_ms", [None, 0, 5, 978_307_200, 1_767_225_600_000, 2**62])
def test_timestamps_that_may_be_milliseconds_are_not_warned_of(timestamp_ms: int | None) -> None:
    harness = path()
    harness.send_nowait(TOPIC, b"v", timestamp_ms=timestamp_ms)
    assert harness.warned == []


def test_the_highest_partition_is_taken_for_a_topic_that_is_not_known_yet() -> None:
    harness = Path(Core(partitions=0))
    harness.send_nowait(TOPIC, b"v", partition=2**31 - 1)
    assert harness.core.topic().waiting_count == 1


def test_a_call_from_another_thread_is_refused() -> None:
    harness = path()
    caught: list[BaseException] = []

    def call() -> None:
        try:
            harness.send_nowait(TOPIC, b"v")
        except Refused as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert [error.args for error in caught] == [("call",)]
    assert harness.core.queue().open is None


async def test_a_call_looks_at_the_running_loop_once_per_context() -> None:
    harness = on_this_loop()

    async def send_twice() -> None:
        harness.send_nowait(TOPIC, b"v")
        await asyncio.sleep(0)
        harness.send_nowait(TOPIC, b"v")

    for task_count in (1, 2):
        await asyncio.create_task(send_twice())
        assert harness.looked == task_count


@pytest.mark.parametrize("call", ["send", "send_nowait", "send_and_wait"])
def test_a_call_from_another_loop_is_refused(call: str) -> None:
    harness = path()
    harness.runs = "another"
    with pytest.raises(Refused, match="loop"):
        getattr(harness, call)(TOPIC, b"v")
    assert harness.core.queue().open is None


def test_a_call_from_another_loop_is_refused_for_a_topic_that_is_not_known_yet() -> None:
    harness = Path(Core(partitions=0))
    harness.runs = "another"
    with pytest.raises(Refused, match="loop"):
        harness.send_nowait(TOPIC, b"v")
    assert harness.core.accumulator.topics_by_name == {}


def test_a_call_from_another_loop_is_refused_after_one_from_its_own() -> None:
    harness = path()
    contextvars.copy_context().run(harness.send_nowait, TOPIC, b"ours")
    harness.runs = "another"
    with pytest.raises(Refused, match="loop"):
        contextvars.copy_context().run(harness.send_nowait, TOPIC, b"another's")
    assert harness.core.values() == [b"ours"]


def test_without_a_running_loop_each_call_looks_again() -> None:
    harness = path()
    harness.runs = "none"
    harness.send_nowait(TOPIC, b"1")
    harness.send_nowait(TOPIC, b"2")
    assert harness.looked == 2
    harness.runs = "another"
    with pytest.raises(Refused, match="loop"):
        harness.send_nowait(TOPIC, b"3")


@pytest.mark.parametrize("on_delivery", [None, append_to([], 1)])
def test_contexts_of_calls_are_forgotten_when_the_path_is_closed(
    on_delivery: OnDelivery | None,
) -> None:
    class Canary:
        """Something that a context holds."""

    variable: contextvars.ContextVar[Canary] = contextvars.ContextVar("variable")
    harness = path()

    def send() -> weakref.ref[Canary]:
        canary = Canary()
        variable.set(canary)
        harness.send_nowait(TOPIC, b"v", on_delivery=on_delivery)
        return weakref.ref(canary)

    gone = contextvars.copy_context().run(send)
    batch = harness.core.take()
    batch.complete(0)
    batch.wake(True)
    harness._close_path()
    gc.collect()
    assert gone() is None


def test_a_call_after_the_close_is_refused() -> None:
    harness = path()
    harness._close_path()
    with pytest.raises(Refused, match="call"):
        harness.send_nowait(TOPIC, b"v")


def test_without_buffer_space_send_nowait_raises() -> None:
    harness = Path(Core(buffer_memory=300))
    harness.send_nowait(TOPIC, bytes(150))
    with pytest.raises(Refused, match="room"):
        harness.send_nowait(TOPIC, bytes(150))


def test_nobody_passes_a_caller_who_waits_for_buffer_space_for_the_same_partition() -> None:
    harness = Path(Core(partitions=2))
    for partition in (0, 1):
        harness.send_nowait(TOPIC, b"v", partition=partition)
    accumulator = harness.core.accumulator
    accumulator.has_blocked = True
    accumulator.lines[harness.core.queue(0)] = 1
    with pytest.raises(Refused, match="room"):
        harness.send_nowait(TOPIC, b"v", partition=0)
    assert accumulator.refused_line is harness.core.queue(0)
    harness.send_nowait(TOPIC, b"v", partition=1)
    assert harness.core.count(1) == 2


def test_nobody_passes_a_caller_who_waits_for_buffer_space_for_the_same_unknown_topic() -> None:
    harness = Path(Core(partitions=0))
    for topic in (TOPIC, "other"):
        harness.send_nowait(topic, b"v")
    accumulator = harness.core.accumulator
    accumulator.has_blocked = True
    accumulator.lines[harness.core.topic()] = 1
    with pytest.raises(Refused, match="room"):
        harness.send_nowait(TOPIC, b"v")
    harness.send_nowait("other", b"v")
    assert harness.core.topic("other").waiting_count == 2


@pytest.mark.parametrize("partition", [None, 0, 1])
def test_nobody_passes_a_caller_who_waits_for_the_buffer_itself(partition: int | None) -> None:
    harness = Path(Core(partitions=2))
    harness.core.accumulator.has_blocked = harness.core.accumulator.is_full = True
    with pytest.raises(Refused, match="room"):
        harness.send_nowait(TOPIC, b"v", partition=partition)
    assert harness.core.accumulator.refused_share is None


async def test_a_partitioner_is_asked_once_for_a_record_that_has_to_wait() -> None:
    asked: list[int] = []

    def choose(*_: object) -> int:
        asked.append(1)
        return 1

    harness = Path(Core(asyncio.get_running_loop(), partitions=2, partitioner=choose))
    harness.core.accumulator.has_blocked = harness.core.accumulator.is_full = True
    await harness.send(TOPIC, b"v")
    harness.core.accumulator.has_blocked = harness.core.accumulator.is_full = False
    ((_, _, _, partition, *_),) = harness.blocked
    assert (partition, asked) == (1, [1])


def test_nobody_passes_a_caller_who_waits_for_buffer_space() -> None:
    harness = path()
    harness.core.accumulator.has_blocked = harness.core.accumulator.is_full = True
    with pytest.raises(Refused, match="room"):
        harness.send_nowait(TOPIC, b"v")
    assert harness.core.queue().open is None


# ---- serializers


def test_serializers_make_the_bytes() -> None:
    harness = path(serialize_key=utf8, serialize_value=utf8)
    harness.send_nowait(TOPIC, "välue", key="köy", timestamp_ms=0)
    assert sent(harness) == [("köy".encode(), "välue".encode(), (), 0)]


def test_a_serializer_gets_the_topic() -> None:
    harness = path(serialize_value=lambda topic, value: f"{topic}:{value}".encode())
    harness.send_nowait(TOPIC, 3, timestamp_ms=0)
    assert sent(harness) == [(None, b"clicks:3", (), 0)]


def test_none_bypasses_the_serializers() -> None:
    def never(topic: str, value: object) -> bytes:
        raise AssertionError

    harness = path(serialize_key=never, serialize_value=never)
    harness.send_nowait(TOPIC, timestamp_ms=0)
    assert sent(harness) == [(None, None, (), 0)]


def test_a_serializer_may_return_another_buffer() -> None:
    def to_buffer(topic: str, value: bytes) -> Any:
        return bytearray(value)

    harness = path(serialize_value=to_buffer)
    harness.send_nowait(TOPIC, b"v", timestamp_ms=0)
    assert sent(harness) == [(None, b"v", (), 0)]


@pytest.mark.parametrize("field", ["key", "value"])
def test_a_serializer_that_raises_fails_the_call_and_is_its_cause(field: str) -> None:
    harness = path(serialize_key=utf8, serialize_value=utf8)
    record: dict[str, Any] = {"topic": TOPIC, field: 3}
    with pytest.raises(Refused) as caught:
        harness.send_nowait(**record)
    topic, name, given, cause = caught.value.args
    assert (topic, name, given) == (TOPIC, field, 3)
    assert isinstance(cause, AttributeError)
    assert caught.value.__cause__ is cause
    assert harness.core.queue().open is None


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit, BaseException])
def test_whatever_a_serializer_raises_is_the_cause_of_one_refusal(
    kind: type[BaseException],
) -> None:
    def breaks(topic: str, value: object) -> bytes:
        raise kind("mine")

    harness = path(serialize_value=breaks)
    with pytest.raises(Refused) as caught:
        harness.send_nowait(TOPIC, 3)
    assert type(caught.value.__cause__) is kind
    assert harness.core.queue().open is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_of_a_serializer_passes_and_nothing_is_accepted(
    kind: type[BaseException],
) -> None:
    def interrupts(topic: str, value: object) -> bytes:
        raise kind

    harness = path(serialize_value=interrupts)
    with pytest.raises(kind):
        harness.send_nowait(TOPIC, 3)
    assert harness.core.queue().open is None


def test_what_a_serializer_returns_is_checked() -> None:
    def to_text(topic: str, value: object) -> Any:
        return "text"

    harness = path(serialize_value=to_text)
    with pytest.raises(Refused) as caught:
        harness.send_nowait(TOPIC, 3)
    assert caught.value.args[:3] == (TOPIC, "value", "text")


# ---- what is awaited


async def finish(harness: Path) -> None:
    batch = harness.core.take()
    batch.complete(7)
    batch.wake(False)


def on_this_loop() -> Path:
    return Path(Core(asyncio.get_running_loop()))


STORED = RecordMetadata(TOPIC, 0, 7, 0)


async def test_send_takes_the_record_at_the_call() -> None:
    harness = on_this_loop()
    admission = harness.send(TOPIC, b"v")
    assert harness.core.values() == [b"v"]
    assert isinstance(await admission, Delivery)


@pytest.mark.parametrize("call", ["send", "send_and_wait"])
async def test_a_call_that_is_never_awaited_warns_and_the_record_goes_on(call: str) -> None:
    harness = on_this_loop()
    name = f"coroutine 'Producer.{call}' was never awaited: its record is sent"
    with pytest.warns(RuntimeWarning, match=name):
        getattr(harness, call)(TOPIC, b"v")
    assert harness.core.values() == [b"v"]


@pytest.mark.parametrize("call", ["send", "send_and_wait"])
async def test_a_warning_of_a_call_that_is_never_awaited_names_the_line_that_drops_it(
    call: str,
) -> None:
    harness = on_this_loop()
    with pytest.warns(RuntimeWarning) as caught:
        getattr(harness, call)(TOPIC, b"v")
    assert caught[0].filename == __file__


@pytest.mark.parametrize("call", ["send", "send_and_wait"])
@pytest.mark.parametrize("how", ["await", "task", "close", "throw", "cancelled task"])
async def test_a_call_that_somebody_looked_after_does_not_warn(call: str, how: str) -> None:
    harness = on_this_loop()
    coroutine: Any = getattr(harness, call)(TOPIC, b"v")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if how == "await":
            await finish(harness)
            await coroutine
        elif how == "task":
            await finish(harness)
            await asyncio.create_task(coroutine)
        elif how == "close":
            coroutine.close()
        elif how == "throw":
            with pytest.raises(KeyError):
                coroutine.throw(KeyError())
        else:
            task = asyncio.create_task(coroutine)
            task.cancel()
            await asyncio.wait([task])
        del coroutine
    assert len(harness.core.topic().queues) == 1


@pytest.mark.parametrize("call", ["send", "send_and_wait"])
async def test_a_never_awaited_warning_that_is_an_error_leaves_what_was_raised(call: str) -> None:
    harness = on_this_loop()
    unraisable: list[Any] = []

    def drops_it() -> None:
        coroutine: Any = getattr(harness, call)(TOPIC, b"v")
        assert coroutine
        raise KeyError("mine")

    hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(KeyError, match="mine") as caught:
                drops_it()
            caught.value.__traceback__ = None
            del caught
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert [type(each.exc_value) for each in unraisable] == [RuntimeWarning]


def test_a_call_that_is_refused_warns_of_nothing() -> None:
    harness = path()
    wrong: Any = "text"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in (harness.send, harness.send_and_wait):
            with pytest.raises(Refused):
                call(TOPIC, wrong)


@pytest.mark.parametrize("name", ["send", "send_and_wait"])
@pytest.mark.parametrize("of", ["class", "instance", "subclass", "partial"])
def test_what_is_to_be_awaited_counts_as_a_coroutine_function(name: str, of: str) -> None:
    harness = path()
    found: dict[str, Any] = {
        "class": getattr(SendPath, name),
        "subclass": getattr(Path, name),
        "instance": getattr(harness, name),
        "partial": partial(getattr(harness, name), TOPIC),
    }
    assert inspect.iscoroutinefunction(found[of])
    # Starlette's and others' test, until Python 3.16.
    assert asyncio.iscoroutinefunction(found[of])  # pyright: ignore[reportDeprecated]


def test_what_is_not_to_be_awaited_does_not_count_as_a_coroutine_function() -> None:
    assert not inspect.iscoroutinefunction(path().send_nowait)


@pytest.mark.parametrize(
    "make", [partial(create_autospec, SendPath, instance=True), partial(AsyncMock, spec=SendPath)]
)
async def test_mocks_that_are_made_by_the_spec_can_be_awaited_like_the_path(
    make: Callable[[], Any],
) -> None:
    mock = make()
    for name in ("send", "send_and_wait", "send_nowait"):
        getattr(mock, name).return_value = "stored"
    assert await mock.send(TOPIC, b"v") == "stored"
    assert await mock.send_and_wait(TOPIC, b"v") == "stored"
    assert mock.send_nowait(TOPIC, b"v") == "stored"


def test_an_admission_cannot_be_made_without_a_record() -> None:
    admission = path().send(TOPIC, b"v")
    kind: Any = type(admission)
    with pytest.raises(TypeError, match=r"is made by Producer\.send"):
        kind()
    with pytest.raises(TypeError, match=r"is made by Producer\.send"):
        kind.__new__(kind)
    admission.close()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_an_admission_cannot_be_copied(duplicate: Callable[[object], object]) -> None:
    admission = path().send(TOPIC, b"v")
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        duplicate(admission)
    admission.close()


async def test_the_message_of_a_cancellation_reaches_who_awaits_a_send_and_wait() -> None:
    harness = on_this_loop()

    async def sends() -> None:
        await harness.send_and_wait(TOPIC, b"v")

    task = asyncio.create_task(sends())
    await asyncio.sleep(0)
    task.cancel("why")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("why",)


async def test_an_admission_is_a_coroutine_to_create_task() -> None:
    harness = on_this_loop()
    delivery = await asyncio.create_task(harness.send(TOPIC, b"v", timestamp_ms=0))
    await finish(harness)
    assert await delivery == STORED


async def test_admissions_can_be_gathered() -> None:
    harness = on_this_loop()
    deliveries = await asyncio.gather(*(harness.send(TOPIC, b"%d" % index) for index in range(3)))
    assert harness.core.values() == [b"0", b"1", b"2"]
    await finish(harness)
    assert [(await delivery).offset for delivery in deliveries] == [7, 8, 9]


async def test_cancelling_the_task_of_an_admission_leaves_the_record_accepted() -> None:
    harness = on_this_loop()
    task = asyncio.create_task(harness.send(TOPIC, b"v"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert harness.core.values() == [b"v"]


async def test_sending_without_pause_lets_others_run_now_and_then() -> None:
    harness = on_this_loop()
    turns: list[int] = []

    def count() -> None:
        turns.append(harness.core.count())
        asyncio.get_running_loop().call_soon(count) if len(turns) < 3 else None

    asyncio.get_running_loop().call_soon(count)
    for _ in range(2 * RECORDS_PER_TURN + 1):
        await harness.send(TOPIC, b"v", timestamp_ms=0)
    assert turns == [RECORDS_PER_TURN, 2 * RECORDS_PER_TURN]
    await asyncio.sleep(0)


async def test_a_new_turn_of_the_sender_starts_the_count_again() -> None:
    harness = on_this_loop()
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    for _ in range(RECORDS_PER_TURN - 1):
        await harness.send(TOPIC, b"v")
    harness.core.accumulator.take_touched()
    for _ in range(RECORDS_PER_TURN - 1):
        await harness.send(TOPIC, b"v")
    assert turns == []


async def test_without_buffer_space_send_waits_for_it() -> None:
    harness = Path(Core(asyncio.get_running_loop()))
    harness.core.accumulator.has_blocked = harness.core.accumulator.is_full = True
    waiting: Any = harness.send(TOPIC, b"v", key=b"k", partition=0, headers=[("h", None)])
    assert await waiting == "admitted later"
    ((topic, key, value, partition, headers, timestamp_ms, on_delivery),) = harness.blocked
    assert (topic, key, value, partition) == (TOPIC, b"k", b"v", 0)
    assert [*(headers if isinstance(headers, (list, tuple)) else ())] == [("h", None)]
    assert (timestamp_ms, on_delivery) == (None, None)


async def test_send_and_wait_gives_the_metadata() -> None:
    harness = on_this_loop()
    storing = harness.send_and_wait(TOPIC, b"v", timestamp_ms=0)
    await finish(harness)
    assert await storing == STORED


async def test_send_and_wait_is_a_coroutine_to_create_task() -> None:
    harness = on_this_loop()
    task = asyncio.create_task(harness.send_and_wait(TOPIC, b"v", timestamp_ms=0))
    await finish(harness)
    assert await task == STORED


async def test_a_task_of_send_and_wait_can_be_cancelled_and_the_record_goes_on() -> None:
    harness = on_this_loop()
    task = asyncio.create_task(harness.send_and_wait(TOPIC, b"v", timestamp_ms=0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sent(harness) == [(None, b"v", (), 0)]


async def test_send_and_wait_takes_a_record() -> None:
    harness = on_this_loop()
    storing = harness.send_and_wait(ProducerRecord(TOPIC, b"v", timestamp_ms=0))
    await finish(harness)
    assert await storing == STORED


async def test_send_and_wait_with_a_timeout_gives_the_metadata() -> None:
    harness = on_this_loop()
    timers: list[float] = []
    harness.core.accumulator.deadlines.serve(timers.append)
    storing = harness.send_and_wait(TOPIC, b"v", timestamp_ms=0, timeout=3)
    await finish(harness)
    assert await storing == STORED
    assert len(timers) == 1


async def test_the_waits_and_records_that_are_due_are_handed_out() -> None:
    harness = on_this_loop()
    deadlines = harness.core.accumulator.deadlines
    timers: list[float] = []
    deadlines.serve(timers.append)
    later = harness.send_nowait(TOPIC, b"v", deadline=5)
    waits = [
        harness.send_and_wait(TOPIC, b"v", timeout=4),
        harness.send_and_wait(TOPIC, b"v", deadline=3),
    ]
    first_at, second_at, third_at = timers
    assert first_at > second_at > third_at
    assert deadlines.pop_due(third_at - 0.1) == []
    ((_, wait, withdraws, span),) = deadlines.pop_due(third_at)
    assert (wait, withdraws, span) == (waits[1], True, 3)
    ((_, wait, withdraws, span),) = deadlines.pop_due(second_at)
    assert (wait, withdraws, span) == (waits[0], False, 4)
    assert deadlines.pop_due(first_at) == [(later, None, True, 5)]
    for each in waits:
        each.close()


async def test_entries_of_records_that_are_over_are_dropped() -> None:
    harness = on_this_loop()
    deadlines = harness.core.accumulator.deadlines
    timers: list[float] = []
    deadlines.serve(timers.append)
    for _ in range(3):
        harness.send_nowait(TOPIC, b"v", deadline=5)
    await finish(harness)
    pending = harness.send_nowait(TOPIC, b"v", deadline=6)
    (first_at,) = timers
    deadlines.set_timer_again(first_at - 5)
    assert deadlines.entry_count == 1
    assert timers[-1] > first_at
    assert deadlines.pop_due(timers[-1]) == [(pending, None, True, 6)]


async def test_a_path_that_fails_fast_asks_before_each_record() -> None:
    harness = Path(Core(asyncio.get_running_loop()), fails_fast=True)
    harness.send_nowait(TOPIC, b"v")
    harness.send_nowait(TOPIC, b"v", partition=0)
    assert harness.down == [(TOPIC, None), (TOPIC, 0)]


async def test_send_and_wait_without_buffer_space_waits_for_it_first() -> None:
    harness = on_this_loop()
    harness.core.accumulator.has_blocked = harness.core.accumulator.is_full = True
    storing: Any = harness.send_and_wait(TOPIC, b"v")
    assert await storing == ("admitted later", None)
    assert len(harness.blocked) == 1


def test_headers_changed_after_the_call_are_not_sent() -> None:
    harness = Path(Core(partitions=0))
    headers: list[tuple[str, bytes | None]] = [("h", b"as it was")]
    harness.send_nowait(TOPIC, b"v", headers=headers, timestamp_ms=0)
    headers[0] = ("h", b"as it is")
    harness.core.route()
    assert sent(harness) == [(None, b"v", (("h", b"as it was"),), 0)]


def test_a_header_name_that_is_no_unicode_is_refused() -> None:
    harness = path()
    with pytest.raises(Refused) as caught:
        harness.send_nowait(TOPIC, b"v", headers=[("\ud800", b"")])
    assert caught.value.args[:2] == (TOPIC, "headers")


def test_a_partitioner_that_changes_the_headers_changes_nothing() -> None:
    headers: list[tuple[str, bytes | None]] = [("h", b"x")]

    def adds_a_header(*_: object) -> int:
        headers.append(("g", b"y" * 1000))
        return 0

    harness = Path(Core(partitions=1, partitioner=adds_a_header))
    harness.send_nowait(TOPIC, b"v", headers=headers, timestamp_ms=0)
    assert sent(harness) == [(None, b"v", (("h", b"x"),), 0)]


def test_a_topic_may_be_of_a_kind_of_str() -> None:
    class Topics(enum.StrEnum):
        PAYMENTS = TOPIC

    harness = Path(Core())
    harness.send_nowait(Topics.PAYMENTS, b"v", timestamp_ms=0)
    assert sent(harness) == [(None, b"v", (), 0)]


@pytest.mark.parametrize("call", ["send", "send_nowait", "send_and_wait"])
def test_a_serializer_that_closes_the_producer_has_the_call_refused(call: str) -> None:
    def close(topic: str, value: bytes) -> bytes:
        harness._close_path()
        return value

    harness = path(serialize_value=close)
    with pytest.raises(Refused, match="call"):
        getattr(harness, call)(TOPIC, b"v")


async def test_a_partitioner_that_closes_the_producer_leaves_the_record_accepted() -> None:
    def close(
        topic: str, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        harness._close_path()
        return 0

    harness = Path(Core(partitioner=close))
    assert isinstance(await harness.send(TOPIC, b"v"), Delivery)


# ---- typed topics


ORDERS: Topic[str, int] = Topic(TOPIC, key=str, value=int)
LONG_5 = b"\0\0\0\0\0\0\0\5"


def of_producer(topic: str, value: object) -> bytes:
    return f"{topic}:{value}".encode()


@pytest.mark.parametrize("call", ["send", "send_nowait", "send_and_wait"])
def test_a_topic_brings_its_own_serializers(call: str) -> None:
    harness = path(serialize_key=of_producer, serialize_value=of_producer)
    awaitable = getattr(harness, call)(ORDERS, 5, key="k", timestamp_ms=0)
    if call != "send_nowait":
        awaitable.close()
    assert sent(harness) == [(b"k", LONG_5, (), 0)]


def test_what_a_topic_leaves_out_is_serialized_by_the_producer() -> None:
    harness = path(serialize_key=of_producer, serialize_value=of_producer)
    harness.send_nowait(Topic(TOPIC), 5, key="k", timestamp_ms=0)
    harness.send_nowait(Topic(TOPIC, value=int), 5, key="k", timestamp_ms=0)
    tagged = f"{TOPIC}:k".encode()
    assert sent(harness) == [(tagged, f"{TOPIC}:5".encode(), (), 0), (tagged, LONG_5, (), 0)]


def test_a_topics_serializers_are_for_its_own_records_only() -> None:
    harness = path()
    harness.send_nowait(ORDERS, 5, key="k", timestamp_ms=0)
    harness.send_nowait(TOPIC, b"v", key=b"k", timestamp_ms=0)
    assert sent(harness) == [(b"k", LONG_5, (), 0), (b"k", b"v", (), 0)]


def test_a_record_for_a_topic_is_serialized_by_that() -> None:
    harness = path(serialize_value=of_producer)
    harness.send_nowait(ProducerRecord(ORDERS, 5, "k", timestamp_ms=0))
    deliveries: list[Delivery] = []
    records: list[object] = [6, ProducerRecord(TOPIC, "x", timestamp_ms=0)]
    assert harness._accept_many(ORDERS, records, 0, deliveries) == 2
    values = [record[1] for record in records_of(harness.core.take())]
    assert values == [LONG_5, LONG_5[:-1] + b"\6", f"{TOPIC}:x".encode()]


def test_key_and_value_of_none_meet_no_serializer_of_a_topic() -> None:
    harness = path()
    harness.send_nowait(ORDERS, timestamp_ms=0)
    assert sent(harness) == [(None, None, (), 0)]


@pytest.mark.parametrize(
    ("options", "field"), [({"value": "5"}, "value"), ({"value": 5, "key": b"k"}, "key")]
)
def test_a_value_of_another_type_than_the_topics_is_refused_with_its_serializer(
    options: dict[str, Any], field: str
) -> None:
    harness = path()
    with pytest.raises(Refused) as caught:
        harness.send_nowait(ORDERS, **options)
    assert caught.value.args[:3] == (TOPIC, field, options[field])
    assert isinstance(caught.value.__cause__, SerializationError)
    assert harness.refusing[-1] is not None
    assert repr(ORDERS.name) in harness.refusing[-1].taker


def test_a_serializer_sees_the_headers_as_they_will_be_stored() -> None:
    class Serializer:
        def serialize(self, topic: str, value: str, headers: tuple[Header, ...]) -> bytes:
            seen.append((topic, value, headers))
            return value.encode()

    seen: list[object] = []
    harness = path()
    topic = Topic(TOPIC, key=Serializer(), value=Serializer())
    harness.send_nowait(topic, "v", key="k", headers={"h": b"x", "g": None})
    harness.send_nowait(topic, "v")
    pairs = (("h", b"x"), ("g", None))
    assert seen == [(TOPIC, "v", pairs), (TOPIC, "k", pairs), (TOPIC, "v", ())]


def test_no_serializer_is_called_for_a_record_with_wrong_headers() -> None:
    def note(topic: str, value: str) -> bytes:
        serialized.append(value)
        return value.encode()

    serialized: list[str] = []
    harness = path(serialize_value=note)
    headers: Any = [("h", "text")]
    with pytest.raises(Refused):
        harness.send_nowait(TOPIC, "v", headers=headers)
    assert serialized == []
