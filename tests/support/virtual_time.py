"""An event loop whose clock jumps to the next timer as soon as nothing else can happen.

For tests that run a producer and a FakeCluster with the timeouts of real life: a program that
waits for minutes takes milliseconds. Sockets and threads are real; only `loop.time()` is not.

The clock stands still while a callback is ready, a socket can be read or written, or a job in a
thread is not over. Loopback delivers nearly at once but not within the call that
sends, so a quiet loop looks a second time, a moment later, before the clock moves. If there is
no timer either, nobody is left who could wake the loop: `StuckError` says so instead of hanging.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Final, TypeVar, cast

__all__ = ["StuckError", "VirtualTimeLoop", "run"]

T = TypeVar("T")

_SETTLE: Final = 0.0003
"""Real seconds after which what was sent over loopback has arrived."""
_START: Final = 1_000.0
"""Not 0, which a forgotten timestamp is equal to."""


class StuckError(RuntimeError):
    """Everybody waits for somebody else: no timer, no socket and no thread will wake the loop."""


class _Selector(selectors.DefaultSelector):
    """Looks at the sockets, and moves the clock in place of waiting."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self.loop.jobs:
            # A job's end is told through the loop's own socket.
            return super().select(None)
        if len(self.get_map()) > 1:
            # Not by the selector's own timeout: epoll counts in whole milliseconds.
            time.sleep(_SETTLE)
            if events := super().select(0):
                return events
        if timeout is None:
            raise StuckError("nothing is left that could wake the loop")
        self.loop.advance(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop with a clock of its own.

    Attributes:
        jobs: How many calls run in a thread, or wait for one.
    """

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self._watching = selector
        self.jobs = 0
        self._now = _START
        super().__init__(selector)

    def time(self) -> float:
        """The virtual time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock; the selector calls it when nothing else can happen."""
        self._now += seconds

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run `func` in a thread; the clock stands still until its result is there."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self.jobs += 1
        future.add_done_callback(self._job_over)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        """End the loop's threads; a thread tells when they are gone."""
        self.jobs += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self.jobs -= 1

    def _job_over(self, _: asyncio.Future[Any]) -> None:
        self.jobs -= 1

    def pending_timers(self) -> list[asyncio.TimerHandle]:
        """The timers that are still to fire."""
        scheduled: list[asyncio.TimerHandle] = cast(Any, self)._scheduled
        return [timer for timer in scheduled if not timer.cancelled()]

    def open_sockets(self) -> list[int]:
        """The descriptors that the loop watches, without its own."""
        own: int = cast(Any, self)._ssock.fileno()
        return [key.fd for key in self._watching.get_map().values() if key.fd != own]


def run(
    main: Coroutine[Any, Any, T], loop_factory: Callable[[], VirtualTimeLoop] = VirtualTimeLoop
) -> T:
    """Run a coroutine on a loop of its own, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main)
