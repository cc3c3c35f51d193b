"""The producer's own work on the event loop, in an empty context.

A task, timer or socket reader runs in a copy of the context in which it was made. The producer
works for all its callers, so it would keep and show the request id or span of the one request in
which that work began. So all of it begins through a `Background`.

Timers come late on a blocked loop (a debugger, an import, a closed lid). What they would expire may
be answered, and the response unread in the socket. So a late `Timer` lets the loop read first.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar, TypeVarTuple, cast

from aioproducer._native.clock import Clock

__all__ = ["Background", "Threads", "Timer", "in_thread", "start_in_thread"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LATE: Final = 0.05
"""Seconds by which a timer may be late before the loop counts as blocked."""

_CATCH_UP_TURNS: Final = 12
"""Turns of the loop in which it reads what has arrived: 256 KiB of each connection in a turn, and
then a turn or two until the waiting tasks have run."""

_ASYNCIO_TIME: Final = asyncio.BaseEventLoop.time
"""What calls `time.monotonic`; somebody may replace it later."""


class Background:
    """The event loop as the producer uses it.

    Attributes:
        loop: The event loop itself.
        time: Its clock.
        clock: The same, for native code.
        create_future: As the loop's.
    """

    __slots__ = ("clock", "create_future", "loop", "time")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.time = loop.time
        is_monotonic = getattr(loop.time, "__func__", None) is _ASYNCIO_TIME
        self.clock = Clock(loop.time, is_monotonic)
        self.create_future = loop.create_future

    def create_task(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run a coroutine as a task, from the next turn on, even if the loop makes eager tasks."""
        return asyncio.Task(work, loop=self.loop, name=name, context=Context())

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.Handle:
        """Run a callback in the loop's next turn."""
        return self.loop.call_soon(callback, *args, context=Context())

    def call_at(
        self, at: float, callback: Callable[[*Ts], object], *args: *Ts
    ) -> asyncio.TimerHandle:
        """Run a callback at a time of the loop's clock."""
        return self.loop.call_at(at, callback, *args, context=Context())

    async def catch_up(self, due_at: float) -> None:
        """Let the loop read what has arrived, if it is late for something due at `due_at`."""
        if self.time() - due_at > _LATE:
            for _ in range(_CATCH_UP_TURNS):
                await asyncio.sleep(0)


class Timer:
    """Calls something at a time that can be moved.

    Args:
        background: Where it runs.
        callback: Called at that time, when the timer is no longer set.

    Attributes:
        at: When it fires; None while it is not set.
    """

    __slots__ = ("_background", "_callback", "_handle", "at")

    def __init__(self, background: Background, callback: Callable[[], object]) -> None:
        self.at: float | None = None
        self._background = background
        self._callback = callback
        self._handle: asyncio.Handle | None = None

    def set_by(self, at: float) -> None:
        """Fire at `at`, unless it is set for earlier."""
        if self.at is None or at < self.at:
            self.set(at)

    def set(self, at: float) -> None:
        """Fire at `at`, whatever it was set for."""
        self.cancel()
        self.at = at
        self._handle = self._background.call_at(at, self._due, _CATCH_UP_TURNS)

    def cancel(self) -> None:
        """Do not fire."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self.at = None

    def _due(self, turns: int) -> None:
        assert self.at is not None
        if turns and self._background.time() - self.at > _LATE:
            self._handle = self._background.call_soon(self._due, turns - 1)
            return
        self._handle = None
        self.at = None
        self._callback()


class Threads:
    """Calls functions that may block in threads, so many at once and no more.

    A call whose caller is cancelled holds its place until it returns: functions that hang make
    later calls wait, and not threads pile up.

    Args:
        most: How many run at once.
        name: Of each thread.
    """

    __slots__ = ("_free", "_name")

    def __init__(self, most: int, *, name: str) -> None:
        self._free = asyncio.Semaphore(most)
        self._name = name

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function, and wait for what it returns."""
        await self._free.acquire()
        try:
            call = start_in_thread(function, name=self._name)
        except BaseException:
            self._free.release()
            raise
        call.add_done_callback(self._returned)
        # By `wait` the call is not over when this coroutine is cancelled.
        await asyncio.wait([call])
        return call.result()

    def _returned(self, call: asyncio.Future[Any]) -> None:
        self._free.release()
        if not call.cancelled():
            call.exception()  # Its caller may have left.


async def in_thread(function: Callable[[], T], *, name: str) -> T:
    """Call a function as `start_in_thread` does, and wait for what it returns.

    When the wait is cancelled the thread goes on, for nobody.
    """
    return await start_in_thread(function, name=name)


def start_in_thread(function: Callable[[], T], *, name: str) -> asyncio.Future[T]:
    """Call a function that may block in a thread of its own; returns the future of its result.

    Not in the loop's executor: a call that hangs would take a place there from everybody, and would
    keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    returned: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if returned.done():
            return
        if isinstance(error, StopIteration):
            returned.set_exception(RuntimeError("StopIteration"))  # A future takes none.
        elif error is not None:
            returned.set_exception(error)
        else:
            returned.set_result(cast(T, result))

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = function()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile.
            loop.call_soon_threadsafe(finish, result, error, context=Context())

    threading.Thread(target=run, name=name, daemon=True).start()
    return returned
