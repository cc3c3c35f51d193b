"""The producer's own work on the event loop, in a context that is nobody's.

A task, a timer or a reader of a socket runs in a copy of the context of whoever made it. What the
producer does for all its callers would so carry the request id and the span of the one request in
which it happened to begin, and keep them alive. So everything is begun through a `Background`.

Timers come late on a loop that was held (a debugger, an import, a closed lid), and what they would
expire may be answered: the answer lies in the socket, and nobody has read it. So a `Timer` that is
late lets the loop read first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar, TypeVarTuple

from aioproducer._native.clock import Clock

__all__ = ["Background", "Timer"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LATE: Final = 0.05
"""Seconds by which a timer may be late without a doubt that the loop was held."""

_CATCH_UP_TURNS: Final = 12
"""Turns of the loop in which it reads what has arrived: 256 KiB of each connection in one turn,
and then a turn or two until those who waited for it have run."""


class Background:
    """A loop as the producer uses it.

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
        is_monotonic = getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time
        self.clock = Clock(loop.time, is_monotonic)
        self.create_future = loop.create_future

    def create_task(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run a coroutine as a task, from the next turn on: not by a factory of eager tasks."""
        return asyncio.Task(work, loop=self.loop, name=name, context=Context())

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.Handle:
        """Have a callback run in the loop's next turn."""
        return self.loop.call_soon(callback, *args, context=Context())

    def call_at(
        self, at: float, callback: Callable[[*Ts], object], *args: *Ts
    ) -> asyncio.TimerHandle:
        """Have a callback run at a time of the loop's clock."""
        return self.loop.call_at(at, callback, *args, context=Context())

    async def catch_up(self, due_at: float) -> None:
        """Return at once, or if it is late for what was due, once the loop has read."""
        if self.time() - due_at > _LATE:
            for _ in range(_CATCH_UP_TURNS):
                await asyncio.sleep(0)


class Timer:
    """Calls something at a time that can be moved.

    Args:
        background: Where it runs.
        callback: Called when the time has come; the timer is not set any more then.

    Attributes:
        at: When it goes off; None while it is not set.
    """

    __slots__ = ("_background", "_callback", "_handle", "at")

    def __init__(self, background: Background, callback: Callable[[], object]) -> None:
        self.at: float | None = None
        self._background = background
        self._callback = callback
        self._handle: asyncio.Handle | None = None

    def set_by(self, at: float) -> None:
        """Have it go off at `at`, or earlier if it is set for earlier."""
        if self.at is None or at < self.at:
            self.set(at)

    def set(self, at: float) -> None:
        """Have it go off at `at`, whatever it was set for."""
        self.cancel()
        self.at = at
        self._handle = self._background.call_at(at, self._due, _CATCH_UP_TURNS)

    def cancel(self) -> None:
        """Have it not go off."""
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
