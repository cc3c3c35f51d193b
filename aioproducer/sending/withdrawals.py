"""Records that were not sent by their deadline, and callers who wait no longer.

Owns no record: native code has the entries (deadlines.pxi), and the timer here looks at what is
due. What then becomes of a record and of its caller:

    the record                                        with deadline=          with timeout= alone
    waits for metadata, or in a batch that waits      withdrawn, not stored   goes on, pending
    waits for a retry, and surely is not stored       withdrawn, not stored   goes on, pending
    waits for a retry, and may be stored              goes on, unknown        goes on, pending
    is in flight                                      goes on, unknown        goes on, pending
    waits for buffer space (queued_send.py)           never accepted          never accepted

Where it goes on, only `send_and_wait` ends, with an error whose `is_pending` is True.

Invariants
* A withdrawn record is never sent: it left its batch before the batch is sealed again. So its error
  can say for certain that it is not stored.
* The others of its batch keep their order, and their sequences follow each other
  (`PartitionQueue.replace_waiting`).
* What is withdrawn costs a copy of its batch. So a pass over many is followed by a pause, ten times
  as long: deadlines come a little late then, and the loop is never held by them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final, TypeAlias, cast

from aioproducer._native.record_batch import Delivery, RecordBatch
from aioproducer.background import Background, Timer
from aioproducer.errors import KafkaError
from aioproducer.sending.batch_errors import never_sent
from aioproducer.sending.batch_results import BatchResults
from aioproducer.sending.finishing import Finished, Finisher
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.topics import Topics

__all__ = ["Withdrawals"]

_PAUSE: Final = 10
"""How many times as long as a pass the pause after it is."""

_LEAST_PAUSE: Final = 0.002
"""Seconds between two passes at least: deadlines that are so close to each other are due as one."""

_BOUND: Final = "deadline of the call"

_Late: TypeAlias = list[tuple[int, float]]
"""The index of each late record in its batch, and its deadline in seconds."""


class Withdrawals:
    """Ends what has a deadline, for one producer.

    Args:
        background: Where the timer runs.
        topics: Have the records that wait for metadata.
        results: Take records out of batches.
        finisher: Ends what was taken out.
        not_yet: Makes the error of a caller whose record goes on.
        timeout_error: Makes the error of a batch that was not stored in time.
    """

    def __init__(
        self,
        background: Background,
        *,
        topics: Topics,
        results: BatchResults,
        finisher: Finisher,
        not_yet: Callable[[Delivery, float], KafkaError],
        timeout_error: Callable[[PartitionQueue, RecordBatch, float, str], KafkaError],
    ) -> None:
        self._background = background
        self._topics = topics
        self._results = results
        self._finisher = finisher
        self._broker_queues = finisher.broker_queues
        self._not_yet = not_yet
        self._timeout_error = timeout_error
        self._timer = Timer(background, self._fire)
        self._deadlines = finisher.broker_queues.accumulator.deadlines
        self._deadlines.serve(self._timer.set_by)

    def close(self) -> None:
        """End the timer."""
        self._timer.cancel()

    def look(self) -> None:
        """End everything that is due now."""
        late: dict[RecordBatch, _Late] = defaultdict(list)
        for delivery, wait, withdraws, span in self._deadlines.pop_due(self._background.time()):
            batch = delivery._record_batch()  # pyright: ignore[reportPrivateUsage]
            if withdraws and not (batch.is_in_flight or batch.possibly_persisted):
                index = delivery._index()  # pyright: ignore[reportPrivateUsage]
                late[batch].append((index, span))
            elif wait is not None:
                wait.expire(self._not_yet(delivery, span))
        if late:
            self._withdraw(late)

    def _fire(self) -> None:
        began_at = self._background.time()
        try:
            self.look()
        finally:
            now = self._background.time()
            pause = max(_PAUSE * (now - began_at), _LEAST_PAUSE)
            self._deadlines.set_timer_again(now + pause)

    def _withdraw(self, late: dict[RecordBatch, _Late]) -> None:
        finished = Finished()
        for batch, records in late.items():
            if batch.partition < 0:
                self._withdraw_waiting(batch, records, finished)
                continue
            topic = self._topics.by_name[batch.topic]
            queue = cast("PartitionQueue", topic.queue(batch.partition))
            errors = {
                index: never_sent(self._timeout_error(queue, batch, span, _BOUND))
                for index, span in records
            }
            self._results.withdraw(queue, batch, errors, finished)
        try:
            self._finisher.finish(finished, direct=False)
        finally:
            self._broker_queues.drain_offered()

    def _withdraw_waiting(self, batch: RecordBatch, records: _Late, finished: Finished) -> None:
        late = [
            (index, never_sent(self._topics.not_yet_known(batch.topic, span, _BOUND)))
            for index, span in records
        ]
        finished.batches.extend(self._topics.withdraw_waiting(batch, late))
