"""The result of one attempt: its batch is completed, retried, split or failed.

retry.py decides on the step, and `BatchResults` takes it: the partition queue keeps the order and
the sequences, the splitter makes smaller batches, the finisher ends batches. No task is woken and
nothing is sent here: `Finisher.finish` does that when the whole response is taken.

Invariant: a batch that expired in flight has its outcome already. Its late response only says
whether its sequences were used, and gives its bytes back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from aioproducer._native.record_batch import RecordBatch
from aioproducer.background import Background
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    DuplicateSequenceNumberError,
    KafkaError,
    MessageTooLargeError,
    OutOfOrderSequenceNumberError,
    UnknownProducerIdError,
)
from aioproducer.network.backoff import Backoff
from aioproducer.network.metadata import NO_LEADER
from aioproducer.protocol.produce import PartitionProduceResponse
from aioproducer.sending.batch_errors import about_batch, refused_records, refused_together
from aioproducer.sending.failures import Failures
from aioproducer.sending.finishing import Finished, Finisher
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.producer_id import ProducerId
from aioproducer.sending.retry import Step, next_step
from aioproducer.sending.splitting import BatchSplitter
from aioproducer.sending.topics import Topics
from aioproducer.transactions.transactions import Transactions

__all__ = ["BatchResults"]

logger = logging.getLogger(__name__)

_SILENT_STEPS: Final = (Step.COMPLETE, Step.FAIL, Step.REFUSE_SOME, Step.SPLIT)
"""Not logged as failed attempts: failed records and a topic's limit have lines of their own."""


class BatchResults:
    """Takes the results of one producer's attempts.

    Args:
        config: The producer's options.
        background: Has the clock.
        topics: Refresh stale leaders.
        producer_id: Replaced when a broker does not take it any more.
        splitter: Makes smaller batches.
        finisher: Ends batches.
        failures: Log attempts that failed.
        timeout_error: Makes the error of a batch that was not stored in time.
        transactions: The producer's, if it is transactional.
    """

    def __init__(
        self,
        config: ProducerConfig,
        background: Background,
        *,
        topics: Topics,
        producer_id: ProducerId,
        splitter: BatchSplitter,
        finisher: Finisher,
        failures: Failures,
        timeout_error: Callable[[PartitionQueue, RecordBatch], KafkaError],
        transactions: Transactions | None = None,
    ) -> None:
        self._transactions = transactions
        self._most_retries = config.retries
        self._delivery_timeout = config.delivery_timeout_ms / 1000
        self._retry_backoff = Backoff.of_retries(config)
        self._background = background
        self._topics = topics
        self._producer_id = producer_id
        self._splitter = splitter
        self._finisher = finisher
        self._failures = failures
        self._broker_queues = finisher.broker_queues
        self._timeout_error = timeout_error

    # ---- one attempt

    def handle_success(
        self,
        queue: PartitionQueue,
        batch: RecordBatch,
        result: PartitionProduceResponse,
        finished: Finished,
    ) -> None:
        """The broker stored the batch."""
        queue.request_ended(batch)
        queue.acknowledged(batch)
        finished.queues.append(queue)
        if batch.is_done:
            # It expired in flight, and failed with an error that says it may be stored.
            logger.info(
                "A batch of %s-%s was stored after it expired", batch.topic, batch.partition
            )
            self._finisher.release(batch)
            return
        self._failures.stored_again(queue)
        log_append_time_ms = result.log_append_time_ms
        if batch.attempts > 1 and log_append_time_ms == batch.max_timestamp_ms:
            # A duplicate of an earlier attempt: for those the broker returns the batch's own
            # highest timestamp, whatever kind of timestamps the topic has.
            log_append_time_ms = -1
        self._finisher.complete(batch, result.base_offset, log_append_time_ms, finished)

    def handle_error(
        self,
        queue: PartitionQueue,
        batch: RecordBatch,
        error: KafkaError,
        node_id: int,
        finished: Finished,
        result: PartitionProduceResponse | None = None,
    ) -> None:
        """An attempt failed, by the broker's response or because there was none.

        Args:
            queue: The batch's partition queue.
            batch: The batch.
            error: Why, with the broker's name.
            node_id: The broker.
            finished: Takes what is over.
            result: The broker's response, if there was one.
        """
        queue.request_ended(batch)
        finished.queues.append(queue)
        if error.refreshes_metadata:
            self._topics.refresh(queue.topic)
        if batch.is_done:
            # It expired in flight and has its outcome; only its sequences still matter.
            if isinstance(error, DuplicateSequenceNumberError):
                queue.acknowledged(batch)
            elif error.possibly_persisted:
                queue.outcome_unknown(batch)
            else:
                queue.refused(batch)
            self._finisher.release(batch)
            return
        batch.last_error = error
        was_outcome_unknown = batch.possibly_persisted
        if error.possibly_persisted:
            batch.possibly_persisted = True
        is_over = self._background.time() >= batch.created_at + self._delivery_timeout
        is_sequence_error = isinstance(
            error, (OutOfOrderSequenceNumberError, UnknownProducerIdError)
        )
        if is_sequence_error and batch.base_sequence == 0:
            queue.refusals_at_zero += 1
        refused = {} if result is None else refused_records(error, batch, result)
        step = next_step(
            error,
            is_next_in_sequence=queue.is_next_in_sequence(batch),
            is_outcome_unknown=was_outcome_unknown and batch.has_sequence,
            is_behind_acknowledged=queue.is_behind_acknowledged(batch),
            record_count=batch.record_count,
            names_records=bool(refused),
            refusals_at_zero=queue.refusals_at_zero,
            may_retry=self._may_retry(queue, batch, error, is_over=is_over),
            is_transactional=self._transactions is not None,
            must_abort=self._transactions is not None and self._transactions.state.must_abort,
        )
        # Out of order behind an earlier batch, which is logged itself.
        if step not in _SILENT_STEPS and not (step is Step.RETRY and is_sequence_error):
            self._failures.attempt_failed(queue, batch, error, step)
        if step is Step.COMPLETE:
            queue.acknowledged(batch)
            self._finisher.complete(batch, -1, -1, finished)
        elif step is Step.SPLIT:
            self._splitter.split(queue, batch)
        elif step is Step.REFUSE_SOME:
            self._fail_refused(queue, batch, refused, error, finished, is_over=is_over)
        elif step is Step.FAIL:
            self._give_up(queue, batch, error, finished, is_over=is_over)
        else:
            self._try_again(queue, batch, error, step, node_id)

    def _may_retry(
        self, queue: PartitionQueue, batch: RecordBatch, error: KafkaError, *, is_over: bool
    ) -> bool:
        if (
            is_over
            or self._broker_queues.is_closing
            or (batch.possibly_persisted and queue.has_disowned(batch))
        ):
            return False
        # A split is no retry: its parts were never sent.
        return batch.attempts <= self._most_retries or isinstance(error, MessageTooLargeError)

    def _try_again(
        self,
        queue: PartitionQueue,
        batch: RecordBatch,
        error: KafkaError,
        step: Step,
        node_id: int,
    ) -> None:
        if step in (Step.RESTART, Step.NEW_ID):
            queue.refused(batch)
            queue.must_start_over(batch)
        if step is Step.NEW_ID:
            self._producer_id.refused_for(queue)
        self._broker_queues.counters.batches_retried += 1
        has_moved = queue.leader.node_id not in (NO_LEADER, node_id) and not queue.is_sent_around
        # No backoff if metadata was faster than the response: the new leader has not failed.
        delay = 0.0 if has_moved else self._retry_backoff.after_error(error, batch.attempts)
        queue.requeue(batch, self._background.time() + delay)

    def _give_up(
        self,
        queue: PartitionQueue,
        batch: RecordBatch,
        error: KafkaError,
        finished: Finished,
        *,
        is_over: bool,
    ) -> None:
        if batch.possibly_persisted:
            queue.outcome_unknown(batch)
        else:
            queue.refused(batch)
        if is_over and error.retriable:
            self._finisher.fail(batch, self._timeout_error(queue, batch), finished)
            return
        if isinstance(error, MessageTooLargeError):
            self._splitter.learn_size(queue, batch)
        self._finisher.fail(batch, about_batch(error, batch), finished)

    def _fail_refused(
        self,
        queue: PartitionQueue,
        batch: RecordBatch,
        refused: dict[int, KafkaError],
        error: KafkaError,
        finished: Finished,
        *,
        is_over: bool,
    ) -> None:
        """Fail the records that the broker named, and send the others again (KIP-467)."""
        others = self._take_out(batch, refused, finished)
        if others is None:
            queue.refused(batch)
        elif is_over or self._broker_queues.is_closing:
            queue.refused(batch)
            together = refused_together(error, batch, sorted(refused))
            self._finisher.fail(others, together, finished)
        else:
            queue.put_others(batch, others, self._background.time())

    def _take_out(
        self, batch: RecordBatch, errors: Mapping[int, KafkaError], finished: Finished
    ) -> RecordBatch | None:
        """Fail some records of a batch, by their index; returns what is left, if anything."""
        self._splitter.restore(batch)
        self._failures.some_refused(batch, errors)
        others, failed = self._splitter.take_out(batch, errors)
        if failed and failed[0].error is not None:
            # Counted as one failure: they have one cause.
            self._failures.records_failed(batch.topic, failed[0].error, len(failed))
        finished.batches.extend(failed)
        return others

    # ---- without an attempt

    def withdraw(
        self,
        queue: PartitionQueue,
        batch: RecordBatch,
        errors: Mapping[int, KafkaError],
        finished: Finished,
    ) -> None:
        """Fail some records of a batch that waits and that no attempt may have stored."""
        if batch is queue.open:
            queue.close_open()
        others = self._take_out(batch, errors, finished)
        queue.replace_waiting(batch, others)
        finished.queues.append(queue)

    def expire(self, queue: PartitionQueue, now: float, finished: Finished) -> float | None:
        """Fail the batches of a queue whose delivery timeout is over.

        Returns:
            When the next one of the queue expires, if there is one.
        """
        finished.queues.append(queue)
        next_expires_at: float | None = None
        for batch in queue.batches():
            expires_at = batch.created_at + self._delivery_timeout
            if now < expires_at:
                # No end of the search: an older batch may wait for its retry behind newer ones in
                # flight.
                next_expires_at = min(next_expires_at or expires_at, expires_at)
                continue
            queue.forget(batch)
            is_waiting = not batch.is_in_flight
            if is_waiting and batch.possibly_persisted and queue.is_behind_acknowledged(batch):
                # See `PartitionQueue.take_stored`.
                self._finisher.complete(batch, -1, -1, finished)
                continue
            error = self._timeout_error(queue, batch)
            if batch.is_in_flight:
                error.possibly_persisted = True
            elif batch.possibly_persisted:
                queue.outcome_unknown(batch)
            else:
                queue.refused(batch)
            self._finisher.fail(batch, error, finished)
        return next_expires_at

    def fit_head(self, queue: PartitionQueue, finished: Finished) -> bool:
        """Split or fail the head of a queue if it is larger than its topic takes.

        Returns:
            Whether the head is another one now, or gone.
        """
        head = queue.head
        if head is None or head.is_compressing or head.possibly_persisted:
            return False
        if head.record_count > 1:
            return self._splitter.split_head(queue, head)
        refused_size = self._splitter.refused_size(queue, head)
        if not refused_size:
            return False
        queue.forget(head)
        queue.refused(head)
        error = MessageTooLargeError(
            f"The topic refused {refused_size} bytes a moment ago, and this record has no fewer"
        )
        self._finisher.fail(head, about_batch(error, head), finished)
        finished.queues.append(queue)
        return True
