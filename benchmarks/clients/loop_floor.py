"""What the event loop allows: bare futures, resolved in batches by one callback, and no Kafka.

A producer that lets tasks wait for their records cannot be faster than tasks that wait for
futures which somebody resolves one turn of the loop later.
"""

from __future__ import annotations

import asyncio
import platform

from benchmarks import drivers
from benchmarks.jobs import Job, Measurement, Pattern

IDIOMS = {
    Pattern.TAKE_TURNS: "await a bare future",
    Pattern.TASK_PER_RECORD: "await a bare future",
}
WRITES_TO_KAFKA = False


def unavailable() -> str | None:
    """It needs nothing."""
    return None


def measure(job: Job) -> Measurement:
    """Do the job."""
    return drivers.run_on_loop(job, _measure)


async def _measure(job: Job) -> Measurement:
    floor = _Floor(asyncio.get_running_loop())
    driver = drivers.take_turns
    if job.pattern is Pattern.TASK_PER_RECORD:
        driver = drivers.task_per_record
    return await driver(job, floor.wait, platform.python_version())


class _Floor:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    def wait(self, _topic: str, _value: bytes) -> asyncio.Future[None]:
        """Return a future that is resolved with all others of this turn of the loop."""
        future = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._resolve)
        self._waiting.append(future)
        return future

    def _resolve(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)
