"""Frameworks and mocks that inspect the methods of a producer before they call them.

`send` and `send_and_wait` are native and return awaitables of their own. By inspection they are
coroutine functions, and a forgotten await causes the warning that a coroutine causes.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import warnings
from typing import Any
from unittest import mock

import pytest
import starlette._utils
from starlette.background import BackgroundTasks

from aioproducer import Delivery, Producer
from aioproducer.testing import FakeCluster
from tests.support.producing import TOPIC, producing, values
from tests.support.programs import run

AWAITED = ["send", "send_and_wait", "send_many", "flush", "close", "start", "partitions_for"]
CALLED = ["send_nowait", "metrics", "status"]


@pytest.mark.parametrize(
    "ask",
    [
        inspect.iscoroutinefunction,
        asyncio.iscoroutinefunction,
        starlette._utils.is_async_callable,
    ],
    ids=["inspect", "asyncio", "starlette"],
)
async def test_what_is_awaited_is_a_coroutine_function_and_nothing_else_is(ask: Any) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        for one in (Producer, producer):
            assert [name for name in AWAITED if not ask(getattr(one, name))] == []
            assert [name for name in CALLED if ask(getattr(one, name))] == []


async def test_a_subclass_keeps_coroutine_functions() -> None:
    class Audited(Producer[bytes, bytes]):
        def send_and_wait(self, *args: Any, **options: Any) -> Any:
            return super().send_and_wait(*args, **options)

    assert inspect.iscoroutinefunction(Audited.send)
    assert not inspect.iscoroutinefunction(Audited.send_and_wait)


@pytest.mark.parametrize("name", ["send", "send_and_wait"])
async def test_a_background_task_of_starlette_sends_in_the_loop(name: str) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        tasks = BackgroundTasks()
        tasks.add_task(getattr(producer, name), TOPIC, b"42")
        await tasks()
        await producer.flush()
        assert values(cluster) == [b"42"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: mock.create_autospec(Producer, instance=True),
        lambda: mock.AsyncMock(spec=Producer),
        lambda: mock.MagicMock(spec=Producer),
    ],
    ids=["create_autospec", "AsyncMock", "MagicMock"],
)
async def test_a_mock_is_awaited_where_the_producer_is(make: Any) -> None:
    producer = make()
    for name in ("send", "send_and_wait"):
        getattr(producer, name).return_value = name
        assert await getattr(producer, name)(TOPIC, b"42") == name
    assert not isinstance(producer.send_nowait, mock.AsyncMock)


async def test_a_patched_method_is_awaited() -> None:
    with mock.patch.object(Producer, "send_and_wait") as patched:
        await Producer(bootstrap_servers="localhost:9092").send_and_wait(TOPIC, b"42")
    patched.assert_awaited_once_with(TOPIC, b"42")


# ---- forgotten awaits


async def forget(producer: Producer[Any, Any], name: str) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(producer, name)(TOPIC, b"42")
        gc.collect()
    return [str(each.message) for each in caught if each.category is RuntimeWarning]


@pytest.mark.parametrize("name", ["send", "send_and_wait"])
async def test_a_forgotten_await_is_warned_about_and_the_record_is_stored(name: str) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        (line,) = await forget(producer, name)
        assert f"{name}" in line
        assert "never awaited" in line
        await producer.flush()
        assert values(cluster) == [b"42"]


async def test_what_was_awaited_or_needs_no_await_is_not_warned_about() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            producer.send_nowait(TOPIC, b"1")
            await producer.send(TOPIC, b"2")
            await producer.send_and_wait(TOPIC, b"3")
            await asyncio.gather(producer.send(TOPIC, b"4"), producer.send_and_wait(TOPIC, b"5"))
            task = asyncio.ensure_future(producer.send_and_wait(TOPIC, b"6"))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gc.collect()


# ---- deliveries belong to their producer


async def test_a_delivery_is_neither_made_nor_copied() -> None:
    with pytest.raises(TypeError, match=r"Producer\.send"):
        Delivery()
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        delivery = producer.send_nowait(TOPIC, b"42")
        for again in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="copied"):
                again(delivery)
        await delivery
        with pytest.raises(TypeError, match="copied"):
            copy.copy(delivery)


# ---- a loop inside the loop


async def test_a_loop_that_is_nested_in_a_woken_task_sends() -> None:
    # In a process of its own: it changes asyncio for good.
    finished = await run("-m", "tests.support.nested_loop")
    assert finished.code == 0, finished.err
    assert finished.out == "stored at 1, 0 errors of the loop\n"
