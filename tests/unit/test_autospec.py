"""`unittest.mock` makes doubles of a producer that take its calls and no others."""

from __future__ import annotations

import inspect
from typing import Any
from unittest.mock import AsyncMock, MagicMock, call, create_autospec

import pytest

from aioproducer import Producer

COROUTINES = ("send", "send_and_wait", "send_many", "flush", "close", "start", "partitions_for")
PLAIN = ("send_nowait", "metrics", "status")


def of_class() -> Any:
    return create_autospec(Producer)


def of_instance() -> Any:
    return create_autospec(Producer, instance=True)


def what_the_class_makes() -> Any:
    return create_autospec(Producer).return_value


def of_a_producer() -> Any:
    return create_autospec(Producer(bootstrap_servers="localhost:9092"))


def sealed() -> Any:
    return create_autospec(Producer, instance=True, spec_set=True)


AUTOSPECS = [of_class, of_instance, what_the_class_makes, of_a_producer, sealed]
SPECS = [lambda: AsyncMock(spec=Producer), lambda: MagicMock(spec=Producer)]


@pytest.mark.parametrize("make", [*AUTOSPECS, *SPECS])
async def test_what_must_be_awaited_is_awaitable_and_nothing_else_is(make: Any) -> None:
    mock = make()
    assert all(isinstance(getattr(mock, name), AsyncMock) for name in COROUTINES)
    assert not any(isinstance(getattr(mock, name), AsyncMock) for name in PLAIN)
    mock.send_and_wait.return_value = 7
    assert await mock.send_and_wait("t", b"1") == 7
    assert not inspect.isawaitable(mock.send_nowait("t", b"1"))


@pytest.mark.parametrize("make", AUTOSPECS)
async def test_a_call_that_a_producer_would_not_take_is_refused(make: Any) -> None:
    mock = make()
    for send in (mock.send, mock.send_and_wait, mock.send_nowait):
        with pytest.raises(TypeError, match="topic"):
            send()
        with pytest.raises(TypeError, match="headrs"):
            send("t", b"1", headrs={})
        with pytest.raises(TypeError, match="positional"):
            send("t", b"1", b"k")
    with pytest.raises(TypeError, match="timeout"):
        mock.send_nowait("t", b"1", timeout=1)
    with pytest.raises(TypeError, match="until"):
        mock.close(until=1)
    await mock.send_and_wait(topic="t", value=b"1", key=b"k", timeout=1)
    with pytest.raises(AttributeError):
        _ = mock.produce


@pytest.mark.parametrize("make", AUTOSPECS)
async def test_calls_are_compared(make: Any) -> None:
    mock = make()
    await mock.send_and_wait("t", b"1", key=b"k")
    mock.send_nowait("t", b"2")
    mock.send_and_wait.assert_awaited_once_with("t", b"1", key=b"k")
    mock.send_nowait.assert_called_once_with("t", b"2")
    assert mock.send_and_wait.await_args_list == [call("t", b"1", key=b"k")]
    with pytest.raises(AssertionError):
        mock.send_and_wait.assert_awaited_once_with("t", b"2", key=b"k")
    with pytest.raises(AssertionError):
        mock.send_nowait.assert_called_once_with("t")


@pytest.mark.parametrize("make", [of_class, of_instance, what_the_class_makes, sealed])
def test_a_double_shows_the_signatures_of_a_producer(make: Any) -> None:
    mock = make()
    for name in (*COROUTINES, *PLAIN):
        (_, *own) = inspect.signature(getattr(Producer, name)).parameters.values()
        assert list(inspect.signature(getattr(mock, name)).parameters.values()) == own, name


@pytest.mark.parametrize("make", [*AUTOSPECS[1:], *SPECS])
async def test_a_double_is_a_producer_that_is_opened_and_closed(make: Any) -> None:
    mock = make()
    assert issubclass(mock.__class__, Producer)
    mock.__aenter__.return_value = mock
    async with mock as opened:
        assert opened is mock
    mock.__aexit__.assert_awaited_once()
    assert hasattr(mock.config, "client_id") or make in SPECS


def test_the_signatures_are_those_of_the_methods_themselves() -> None:
    for name in ("send", "send_and_wait", "send_nowait"):
        method = getattr(Producer, name)
        assert next(iter(inspect.signature(method).parameters)) == "self"
        assert callable(method)
