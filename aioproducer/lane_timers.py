"""The one timer of all lanes: batches that linger, retries that wait, deliveries that expire.

Part of the sender. However many lanes there are, the loop holds one timer, for the earliest.
"""

from __future__ import annotations

from collections.abc import Callable

from aioproducer.background import Background, Timer
from aioproducer.deadlines import Deadlines
from aioproducer.lane import PartitionLane

__all__ = ["LaneTimers"]


class LaneTimers:
    """When to look at which lane again.

    Args:
        background: Where the timer runs.
        time_passed: Called when some lane is due; it takes what is due from the three queues.
    """

    def __init__(self, background: Background, time_passed: Callable[[], None]) -> None:
        self.lingering: Deadlines[PartitionLane] = Deadlines()
        self.retrying: Deadlines[PartitionLane] = Deadlines()
        self.expiring: Deadlines[PartitionLane] = Deadlines()
        self._time_passed = time_passed
        self._timer = Timer(background, self._fire)

    def schedule(self, queue: Deadlines[PartitionLane], lane: PartitionLane, at: float) -> None:
        """Have a lane come up in one of the three queues at `at`."""
        queue.add(lane, at)
        self._timer.set_by(at)

    def close(self) -> None:
        """Let the timer go."""
        self._timer.cancel()

    def _fire(self) -> None:
        try:
            self._time_passed()
        finally:
            # Also when a task that it woke has exited the program: what is closed then still
            # counts on its bounds.
            for queue in (self.lingering, self.retrying, self.expiring):
                if queue.next_at is not None:
                    self._timer.set_by(queue.next_at)
