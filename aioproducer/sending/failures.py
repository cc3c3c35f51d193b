"""Records that failed: counted, logged, given to the `on_error` hook and to the report of `close`.

Owns what was not logged yet. A pass of the sender may fail thousands of batches for one reason:
each is counted, and `report` logs each kind once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from aioproducer._native.broker_queues import Counters
from aioproducer._native.queues import WaitingRecords
from aioproducer._native.record_batch import RecordBatch
from aioproducer.background import Background
from aioproducer.errors import KafkaError, ProducerClosedError
from aioproducer.hooks import OnError
from aioproducer.sending.failure_log import FailureLog
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.retry import Step
from aioproducer.sending.undelivered import UndeliveredRecords

if TYPE_CHECKING:
    from aioproducer._native.queues import WaitingRecord

__all__ = ["Failures"]

logger = logging.getLogger(__name__)


class Failures:
    """The failures of one producer.

    Args:
        background: Where the hook is called.
        counters: Counted up.
        on_error: The user's hook, if there is one.
        decompress: The codec's, for the report of `close`.

    Attributes:
        undelivered: Takes every record that fails from now on, while the producer closes.
        last_error: Of the last failed record or attempt; None if there was none.
        last_error_at: When that was, on the loop's clock.
    """

    def __init__(
        self,
        background: Background,
        counters: Counters,
        on_error: OnError | None,
        decompress: Callable[..., bytes],
    ) -> None:
        self.undelivered: UndeliveredRecords | None = None
        self.last_error: KafkaError | None = None
        self.last_error_at = 0.0
        self._failing_since = 0.0
        self._delivered_before = 0
        self._background = background
        self._counters = counters
        self._on_error = on_error
        self._decompress = decompress
        self._log = FailureLog(background)
        self._records: dict[tuple[str, str], list[tuple[KafkaError, int]]] = {}
        """Failed records not logged yet, by topic and kind of error."""
        self._attempts: dict[tuple[str, Step], list[tuple[RecordBatch, int, KafkaError]]] = {}
        """Failed attempts not logged yet, by kind of error and what comes next."""
        self._recovered: list[PartitionQueue] = []

    @property
    def failing_since(self) -> float | None:
        """When the first failure was that no stored record has followed; None if one has."""
        if self.last_error is None or self._counters.records_delivered > self._delivered_before:
            return None
        return self._failing_since

    def _note(self, error: KafkaError) -> None:
        now = self._background.time()
        if self.failing_since is None:
            self._failing_since = now
        self.last_error = error
        self.last_error_at = now
        # Not its time: a loop's clock may stand still between a failure and a success.
        self._delivered_before = self._counters.records_delivered

    # ---- what failed

    def records_failed(self, topic: str, error: KafkaError, count: int) -> None:
        """Count failed records, and call the hook with them."""
        self._counters.records_failed += count
        if not isinstance(error, ProducerClosedError):
            # `close` has a line of its own for those.
            self._note(error)
            key = (topic, type(error).__name__)
            self._records.setdefault(key, []).append((error, count))
        if self._on_error is not None:
            self._background.call_soon(self._on_error, error, count)

    def batch_failed(self, batch: RecordBatch, error: KafkaError) -> None:
        """Take over the records of a batch that is about to fail."""
        if self.undelivered is not None:
            self.undelivered.add_batch(batch, error, self._decompress)
        self.records_failed(batch.topic, error, batch.record_count)

    def some_refused(self, batch: RecordBatch, refused: Mapping[int, KafkaError]) -> None:
        """Take over single records of a batch, by their index, that are about to fail (KIP-467)."""
        if self.undelivered is not None:
            self.undelivered.add_records(batch, refused)

    def waiting_failed(self, waiting: WaitingRecords, error: KafkaError) -> None:
        """Take over records that wait for metadata and are about to fail."""
        if self.undelivered is not None:
            self.undelivered.add_waiting(waiting, error)
        self.records_failed(waiting.topic.name, error, waiting.count)
        self.report()

    def record_failed(self, topic: str, error: KafkaError, record: WaitingRecord) -> None:
        """Take over a record that got no partition."""
        if self.undelivered is not None:
            self.undelivered.add_record(topic, record, error)
        self.records_failed(topic, error, 1)
        self.report()

    # ---- what is tried again

    def attempt_failed(
        self, queue: PartitionQueue, batch: RecordBatch, error: KafkaError, step: Step
    ) -> None:
        """Count an attempt that failed, and that another one follows."""
        self._note(error)
        queue.failures_logged = True
        key = (type(error).__name__, step)
        self._attempts.setdefault(key, []).append((batch, batch.attempts, error))

    def stored_again(self, queue: PartitionQueue) -> None:
        """Note that a partition stores records; logged if an attempt failed there before."""
        if queue.failures_logged:
            queue.failures_logged = False
            self._recovered.append(queue)

    # ---- reporting

    def report(self) -> None:
        """Log what was counted since the last call, each kind once."""
        # Taken out first: a log handler may send records that fail, or raise.
        records, self._records = self._records, {}
        attempts, self._attempts = self._attempts, {}
        recovered, self._recovered = self._recovered, []
        for (topic, _), failed in records.items():
            error, _ = failed[0]
            self._log.records_failed(topic, error, sum(count for _, count in failed))
        for (_, step), failures in attempts.items():
            batch, attempt, error = failures[0]
            self._log.attempt_failed(
                f"{batch.topic}-{batch.partition}",
                len(failures),
                batch.record_count,
                attempt,
                error,
                step,
            )
        if recovered:
            first = recovered[0]
            others = len(recovered) - 1
            logger.info(
                "%s-%s%s stores records again",
                first.topic.name,
                first.partition,
                f" and {others} more partitions" if others else "",
            )

    def close(self) -> None:
        """Log what was only counted so far."""
        self.report()
        self._log.close()
