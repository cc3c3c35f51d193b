"""The one timer of all lanes: batches that linger, retries that wait, deliveries that expire.

Part of the sender. However many lanes there are, the loop holds one timer, for the earliest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aioproducer.deadlines import Deadlines
from aioproducer.lane import PartitionLane

__all__ = ["LaneTimers"]


class LaneTimers:
    """When to look at which lane again.

    Args:
        loop: The producer's loop.
        time_passed: Called when some lane is due; it takes what is due from the three queues.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, time_passed: Callable[[], None]) -> None:
        self.lingering: Deadlines[PartitionLane] = Deadlines()
        self.retrying: Deadlines[PartitionLane] = Deadlines()
        self.expiring: Deadlines[PartitionLane] = Deadlines()
        self._loop = loop
        self._time_passed = time_passed
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def schedule(self, queue: Deadlines[PartitionLane], lane: PartitionLane, at: float) -> None:
        """Have a lane come up in one of the three queues at `at`."""
        queue.add(lane, at)
        self._wake_at(at)

    def close(self) -> None:
        """Let the timer go."""
        if self._timer is not None:
            self._timer.cancel()

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            if at >= self._timer_at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        try:
            self._time_passed()
        finally:
            # Also when a task that it woke has exited the program: what is closed then still
            # counts on its bounds.
            for queue in (self.lingering, self.retrying, self.expiring):
                if queue.next_at is not None:
                    self._wake_at(queue.next_at)
