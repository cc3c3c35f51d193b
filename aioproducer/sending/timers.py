"""The one timer of all partition queues: for batches that linger, wait for a retry, or expire.

However many queues there are, the loop holds one timer, for the earliest deadline.
"""

from __future__ import annotations

from aioproducer.background import Background, Timer
from aioproducer.sending.batch_results import BatchResults
from aioproducer.sending.deadlines import Deadlines
from aioproducer.sending.finishing import Finished, Finisher
from aioproducer.sending.partition_queue import PartitionQueue

__all__ = ["PartitionTimers"]


class PartitionTimers:
    """Looks at partition queues when their time has come.

    Args:
        background: Where the timer runs.
        results: Expires batches.
        finisher: Ends what has expired.
    """

    def __init__(self, background: Background, results: BatchResults, finisher: Finisher) -> None:
        self._background = background
        self._results = results
        self._finisher = finisher
        self._broker_queues = finisher.broker_queues
        self._lingering: Deadlines[PartitionQueue] = Deadlines()
        self._retrying: Deadlines[PartitionQueue] = Deadlines()
        self._expiring: Deadlines[PartitionQueue] = Deadlines()
        self._timer = Timer(background, self._fire)

    def linger_until(self, queue: PartitionQueue, at: float) -> None:
        """Look at a queue when its open batch has lingered."""
        self._lingering.add(queue, at)
        self._timer.set_by(at)

    def retry_until(self, queue: PartitionQueue, at: float) -> None:
        """Look at a queue again when its backoff is over."""
        self._retrying.add(queue, at)
        self._timer.set_by(at)

    def expire_at(self, queue: PartitionQueue, at: float) -> None:
        """Look at a queue when its first batch expires."""
        self._expiring.add(queue, at)
        self._timer.set_by(at)

    def close(self) -> None:
        """End the timer."""
        self._timer.cancel()

    def _fire(self) -> None:
        try:
            self._look_at_due()
        finally:
            # Also when a woken task raises SystemExit: closing the producer still needs the
            # timeouts.
            for deadlines in (self._lingering, self._retrying, self._expiring):
                if deadlines.next_at is not None:
                    self._timer.set_by(deadlines.next_at)

    def _look_at_due(self) -> None:
        now = self._background.time()
        for queue in self._lingering.pop_due(now):
            if queue.open is not None:
                if now < queue.linger_at:
                    # The batch of this deadline was sent; a later one lingers now.
                    self.linger_until(queue, queue.linger_at)
                else:
                    self._broker_queues.linger_over(queue)
        for queue in self._retrying.pop_due(now):
            self._broker_queues.offer(queue)
        self._broker_queues.drain_offered()
        finished = Finished()
        for queue in self._expiring.pop_due(now):
            next_expires_at = self._results.expire(queue, now, finished)
            self._broker_queues.expiry_passed(queue, next_expires_at or 0.0)
        try:
            self._finisher.finish(finished, direct=True)
        finally:
            self._broker_queues.drain_offered()
