"""How batches end: completed or failed, then everybody concerned is notified, in this order.

    1. The batch gets its outcome, the counters count it, its bytes are free (`complete`, `fail`).
    2. Failures are logged, and given to the report of `close` and the hook (`Failures`).
    3. Tasks that wait for a record are woken; then callers who wait for buffer space are admitted.
    4. The partition queues are offered to their brokers again.

A pass over a response, or over expired batches, collects in a `Finished` and ends with `finish`: no
woken task sees a response of which half is taken.

Invariant: the bytes of a batch are given back when it has its outcome and no request carries it.
"""

from __future__ import annotations

from aioproducer._native.broker_queues import BrokerQueues
from aioproducer._native.record_batch import RecordBatch
from aioproducer.errors import KafkaError
from aioproducer.sending.backpressure import Backpressure
from aioproducer.sending.failures import Failures
from aioproducer.sending.partition_queue import PartitionQueue

__all__ = ["Finished", "Finisher"]


class Finished:
    """What one pass of the sender has finished.

    Attributes:
        batches: Batches that were completed or failed, and whose waiters are to be woken.
        queues: Partition queues that may have become ready.
    """

    __slots__ = ("batches", "queues")

    def __init__(self) -> None:
        self.batches: list[RecordBatch] = []
        self.queues: list[PartitionQueue] = []


class Finisher:
    """Ends the batches of one producer.

    Args:
        broker_queues: Wake tasks, and are offered partition queues again.
        failures: Count and log what fails.
        backpressure: Admits callers when space is free.
    """

    def __init__(
        self, broker_queues: BrokerQueues, failures: Failures, backpressure: Backpressure
    ) -> None:
        self.broker_queues = broker_queues
        self._accumulator = broker_queues.accumulator
        self._failures = failures
        self._backpressure = backpressure

    def complete(
        self, batch: RecordBatch, base_offset: int, log_append_time_ms: int, finished: Finished
    ) -> None:
        """End a batch as stored.

        Args:
            batch: The batch.
            base_offset: The offset of its first record; -1 if it is not known.
            log_append_time_ms: When the broker appended it, if it said so; else -1.
            finished: Takes the batch.
        """
        batch.complete(base_offset, log_append_time_ms)
        self.broker_queues.count_delivered(batch)
        finished.batches.append(batch)

    def fail(self, batch: RecordBatch, error: KafkaError, finished: Finished) -> None:
        """End a batch as failed; its bytes are free unless a request still carries it."""
        self._failures.batch_failed(batch, error)
        batch.fail(error)
        if not batch.is_in_flight:
            self._accumulator.release(batch)
        finished.batches.append(batch)

    def release(self, batch: RecordBatch) -> None:
        """Give back the bytes of a batch whose request is over and which ended before."""
        self._accumulator.release(batch)

    def finish(self, finished: Finished, *, direct: bool) -> None:
        """End a pass.

        Args:
            finished: What the pass has finished.
            direct: Whether tasks may be woken at once: only from a callback of the loop.
        """
        try:
            self._failures.report()
        finally:
            # Also when a log filter raises.
            self._wake_and_go_on(finished, direct=direct)

    def _wake_and_go_on(self, finished: Finished, *, direct: bool) -> None:
        try:
            self.broker_queues.wake(finished.batches, direct)
        finally:
            # Also when a woken task raises SystemExit: closing the producer still needs the queues
            # to go on.
            self._backpressure.admit()
            for queue in finished.queues:
                self.broker_queues.offer(queue)
