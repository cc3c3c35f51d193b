"""Calls from other threads: a cluster's state belongs to the thread of its event loop.

A method decorated with `on_loop` may be called from any thread. From another one than the loop's it
runs there, as a callback, while the caller waits; that wait is bounded.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Concatenate, Final, ParamSpec, TypeVar

__all__ = ["LoopBound", "on_loop"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="LoopBound")

LONGEST_WAIT: Final = 10.0
"""Seconds for which a call from another thread waits for the loop."""


class LoopBound:
    """Something that belongs to the event loop on which it was started.

    Before that, and when the loop no longer runs, calls run where they are made.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id: int | None = None

    def _bind_to_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()

    def _on_loop(self, call: Callable[[], R]) -> R:
        loop = self._loop
        if loop is None or not loop.is_running() or threading.get_ident() == self._thread_id:
            return call()
        returned: Future[R] = Future()

        def run() -> None:
            # Not when the caller waits no longer.
            if returned.set_running_or_notify_cancel():
                try:
                    returned.set_result(call())
                except BaseException as error:
                    returned.set_exception(error)

        loop.call_soon_threadsafe(run)
        try:
            return returned.result(LONGEST_WAIT)
        except TimeoutError:
            if not returned.cancel():
                raise
            raise TimeoutError(
                f"the event loop of the FakeCluster did not run for {LONGEST_WAIT:g} s: is it"
                " blocked? FakeCluster.in_thread has a loop of its own"
            ) from None


def on_loop(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Make a method run on the loop, from whatever thread it is called."""

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._on_loop(  # pyright: ignore[reportPrivateUsage]
            functools.partial(method, self, *args, **kwargs)
        )

    return call
