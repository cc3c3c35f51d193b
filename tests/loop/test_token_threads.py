"""Token providers that are plain functions: a call has a thread, one that hangs holds one."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from aioproducer import OAuthToken
from aioproducer.network.sasl.tokens import TokenSource


def source_of(provider: object) -> TokenSource:
    return TokenSource(provider, "the provider")  # type: ignore[arg-type]


async def test_a_plain_function_runs_in_a_daemon_thread_and_may_block() -> None:
    threads: list[threading.Thread] = []

    def provider() -> str:
        threads.append(threading.current_thread())
        time.sleep(0.01)
        return "token"

    assert (await source_of(provider).get()).value == "token"
    assert threads[0] is not threading.main_thread()
    assert threads[0].daemon


async def test_a_plain_function_may_return_a_coroutine() -> None:
    async def later() -> OAuthToken:
        return OAuthToken("token")

    assert (await source_of(lambda: later()).get()).value == "token"


async def test_a_function_that_hangs_is_called_once_and_its_late_token_is_used() -> None:
    go_on = threading.Event()
    calls = 0

    def provider() -> OAuthToken:
        nonlocal calls
        calls += 1
        go_on.wait()
        return OAuthToken(f"token-{calls}", time.time() + 3_600)

    source = source_of(provider)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source.get(), 0.01)
    go_on.set()
    assert (await source.get()).value == "token-1"
    assert (await source.get()).value == "token-1"
    assert calls == 1


async def test_a_token_that_comes_when_nobody_waits_any_more_is_kept() -> None:
    go_on = threading.Event()
    calls = 0

    def provider() -> OAuthToken:
        nonlocal calls
        calls += 1
        go_on.wait()
        return OAuthToken("token", time.time() + 3_600)

    source = source_of(provider)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(source.get(), 0.01)
    threads = [it for it in threading.enumerate() if it.name == "aioproducer-token"]
    go_on.set()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)
    assert (await source.get()).value == "token"
    assert calls == 1


async def test_a_late_result_that_is_no_token_is_an_error_for_the_next_caller_only() -> None:
    go_on = threading.Event()
    results: list[object] = [OAuthToken("token", "soon"), OAuthToken("token", 10**400), "token"]  # type: ignore[arg-type]

    def provider() -> object:
        go_on.wait()
        return results.pop(0)

    source = source_of(provider)
    for _ in range(2):
        go_on.clear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source.get(), 0.01)
        threads = [it for it in threading.enumerate() if it.name == "aioproducer-token"]
        go_on.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)
    assert (await source.get()).value == "token"


async def test_a_function_that_failed_when_nobody_waited_is_called_again() -> None:
    go_on = threading.Event()
    calls = 0

    def provider() -> str:
        nonlocal calls
        calls += 1
        go_on.wait()
        if calls == 1:
            raise OSError("no route")
        return "token"

    source = source_of(provider)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(source.get(), 0.01)
    threads = [it for it in threading.enumerate() if it.name == "aioproducer-token"]
    go_on.set()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)
    assert (await source.get()).value == "token"
