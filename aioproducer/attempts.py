"""What becomes of a batch after an attempt: delivered, retried, split or failed.

Part of the sender, which sends and gets the responses. Here the response meets the batch: retry.py
decides, the lane keeps the order and the numbers, the counters count, and what is done is collected
in an `Outcome`. Nobody is woken and nothing is sent from here: that comes once the whole response
is taken.

Invariants
* A batch that is done and that no request carries has given its bytes back.
* A batch that expired in flight was reported to its callers already; its late response only settles
  the lane's numbers.
* What a topic refuses as too large bounds its later batches, and so does one that is larger still:
  it is refused here, without the broker. Now and then the bound is tried again.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Final, cast

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.record_batch import BATCH_HEADER_SIZE, RecordBatch
from aioproducer._native.sending import Counters, Sending
from aioproducer.background import Background
from aioproducer.batch_compressor import BatchCompressor
from aioproducer.cluster import Cluster
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    DuplicateSequenceNumberError,
    KafkaError,
    MessageTooLargeError,
    OutOfOrderSequenceNumberError,
    ProducerClosedError,
    UnknownProducerIdError,
)
from aioproducer.explaining import (
    about_batch,
    delivery_timeout_error,
    refused_records,
    refused_together,
)
from aioproducer.failure_log import FailureLog
from aioproducer.flushing import Flushes
from aioproducer.lane import PartitionLane
from aioproducer.metadata import NO_LEADER
from aioproducer.protocol.produce import PartitionProduceResponse
from aioproducer.retry import Step, backoff, next_step
from aioproducer.topics import Topic, Topics
from aioproducer.undelivered import UndeliveredRecords

__all__ = ["Attempts", "Outcome"]

logger = logging.getLogger(__name__)

_PROBE_LIMIT_EVERY: Final = 60.0
"""Seconds after which a topic's learnt bound is doubled again: somebody may have raised it."""


class Outcome:
    """What one pass of the sender leaves to do once its own state is settled.

    Attributes:
        done: Batches that were delivered or failed: whoever waits for them is to be woken.
        lanes: Lanes that may have become ready.
        failures: Failed attempts that are to be followed by others: the first batch of each kind,
            which attempt of it failed, and how many batches there were.
        failed: Records that failed, by topic and kind of error.
        healed: Lanes that failed before and store records again.
    """

    __slots__ = ("done", "failed", "failures", "healed", "lanes")

    def __init__(self) -> None:
        self.done: list[RecordBatch] = []
        self.lanes: list[PartitionLane] = []
        self.failures: dict[tuple[str, Step], list[tuple[RecordBatch, int, KafkaError]]] = {}
        self.failed: dict[tuple[str, str], list[tuple[KafkaError, int]]] = {}
        self.healed: list[PartitionLane] = []


class Attempts:
    """Ends, or goes on with, the attempts of one producer's batches.

    Args:
        config: The producer's options.
        background: Its clock, and where hooks are called.
        cluster: Explains timeouts.
        topics: Told of stale leaders, and of what a topic takes.
        compressor: Restores the records of a batch that is split.
        flushes: Told of batches that are split.
        counters: Counted up.
        failure_log: Told of what fails.
        producer_id_lost: Called when brokers do not take a lane's producer id any more.
        producer_id_error: Tells why there is no producer id, if there is none.

    Attributes:
        undelivered: Takes what fails from now on, if there is one.
    """

    def __init__(
        self,
        config: ProducerConfig,
        background: Background,
        cluster: Cluster,
        topics: Topics,
        compressor: BatchCompressor,
        flushes: Flushes,
        counters: Counters,
        failure_log: FailureLog,
        producer_id_lost: Callable[[PartitionLane], None],
        producer_id_error: Callable[[], KafkaError | None],
    ) -> None:
        self.undelivered: UndeliveredRecords | None = None
        self.counters = counters
        self._config = config
        self._background = background
        self._cluster = cluster
        self._topics = topics
        self._sending: Sending
        self._accumulator: RecordAccumulator
        self._compressor = compressor
        self._flushes = flushes
        self._failure_log = failure_log
        self._producer_id_lost = producer_id_lost
        self._producer_id_error = producer_id_error
        self._delivery_timeout = config.delivery_timeout_ms / 1000

    def serve(self, sending: Sending) -> None:
        """Work for what sends: nothing is tried again once that closes."""
        self._sending = sending
        self._accumulator = sending.accumulator

    # ---- one attempt

    def succeeded(
        self,
        lane: PartitionLane,
        batch: RecordBatch,
        answer: PartitionProduceResponse,
        outcome: Outcome,
    ) -> None:
        """The broker stored the batch."""
        lane.answered(batch)
        lane.acknowledged(batch)
        outcome.lanes.append(lane)
        if batch.is_done:
            # It expired while the broker was at it; the caller was told that it may be stored.
            logger.info(
                "A batch of %s-%s was stored after it expired", batch.topic, batch.partition
            )
            self._accumulator.release(batch)
            return
        if lane.failures_logged:
            lane.failures_logged = False
            outcome.healed.append(lane)
        log_append_time_ms = answer.log_append_time_ms
        if batch.attempts > 1 and log_append_time_ms == batch.max_timestamp_ms:
            # The broker had it from an earlier attempt, and for a duplicate it tells the batch's
            # own highest timestamp, whatever kind of timestamps the topic has.
            log_append_time_ms = -1
        self.complete(batch, answer.base_offset, log_append_time_ms, outcome)

    def failed(
        self,
        lane: PartitionLane,
        batch: RecordBatch,
        error: KafkaError,
        node_id: int,
        outcome: Outcome,
        answer: PartitionProduceResponse | None = None,
    ) -> None:
        """An attempt failed, by the broker's response or because there was none."""
        lane.answered(batch)
        outcome.lanes.append(lane)
        if error.refreshes_metadata:
            self._topics.refresh(lane.topic)
        if batch.is_done:
            # It expired meanwhile and was reported; only the numbers are left to look after.
            if isinstance(error, DuplicateSequenceNumberError):
                lane.acknowledged(batch)
            elif error.possibly_persisted:
                lane.lost_sight_of(batch)
            else:
                lane.refused(batch)
            self._accumulator.release(batch)
            return
        error.broker = self._cluster.brokers.name(node_id)
        batch.last_error = error
        was_in_doubt = batch.possibly_persisted
        if error.possibly_persisted:
            batch.possibly_persisted = True
        is_over = self._background.time() >= batch.created_at + self._delivery_timeout
        is_lost_track = isinstance(error, (OutOfOrderSequenceNumberError, UnknownProducerIdError))
        if is_lost_track and batch.base_sequence == 0:
            lane.refusals_at_zero += 1
        refused = {} if answer is None else refused_records(error, batch, answer)
        step = next_step(
            error,
            is_next_in_sequence=lane.is_next_in_sequence(batch),
            is_in_doubt=was_in_doubt,
            is_behind_acknowledged=lane.is_behind_acknowledged(batch),
            record_count=batch.record_count,
            names_records=bool(refused),
            refusals_at_zero=lane.refusals_at_zero,
            may_retry=self._may_retry(lane, batch, error, is_over=is_over),
        )
        self._note(lane, batch, error, step, outcome)
        if step is Step.COMPLETE:
            lane.acknowledged(batch)
            self.complete(batch, -1, -1, outcome)
        elif step is Step.SPLIT:
            self._split(lane, batch)
        elif step is Step.REFUSE_SOME:
            self._refuse(lane, batch, refused, error, outcome, is_over=is_over)
        elif step is Step.FAIL:
            self._give_up(lane, batch, error, outcome, is_over=is_over)
        else:
            self._try_again(lane, batch, step, node_id)

    def _may_retry(
        self, lane: PartitionLane, batch: RecordBatch, error: KafkaError, *, is_over: bool
    ) -> bool:
        if (
            is_over
            or self._sending.is_closing
            or (batch.possibly_persisted and lane.has_disowned(batch))
        ):
            return False
        # A split is no retry: nothing of the batch was tried in the size it is sent in next.
        return batch.attempts <= self._config.retries or isinstance(error, MessageTooLargeError)

    def _try_again(self, lane: PartitionLane, batch: RecordBatch, step: Step, node_id: int) -> None:
        if step in (Step.RESTART, Step.NEW_ID):
            lane.refused(batch)
            lane.must_start_over(batch)
        if step is Step.NEW_ID:
            self._producer_id_lost(lane)
        self.counters.batches_retried += 1
        has_moved = lane.leader.node_id not in (NO_LEADER, node_id) and not lane.is_sent_around
        # Metadata was faster than the response: the new leader has not failed (KIP-951).
        delay = 0.0 if has_moved else self.retry_delay(batch.attempts)
        lane.requeue(batch, self._background.time() + delay)

    def _give_up(
        self,
        lane: PartitionLane,
        batch: RecordBatch,
        error: KafkaError,
        outcome: Outcome,
        *,
        is_over: bool,
    ) -> None:
        if batch.possibly_persisted:
            lane.lost_sight_of(batch)
        else:
            lane.refused(batch)
        if is_over and error.retriable:
            self.fail(batch, self._timeout_error(lane, batch), outcome)
            return
        if isinstance(error, MessageTooLargeError):
            self._learn_size(lane, batch)
        self.fail(batch, about_batch(error, batch), outcome)

    def _refuse(
        self,
        lane: PartitionLane,
        batch: RecordBatch,
        refused: dict[int, KafkaError],
        error: KafkaError,
        outcome: Outcome,
        *,
        is_over: bool,
    ) -> None:
        """Fail the records that the broker named; it appended none of the batch (KIP-467)."""
        self._compressor.restore(batch)
        if self.undelivered is not None:
            self.undelivered.add_records(batch, refused)
        others, failed = batch.refuse(refused)
        if failed and failed[0].error is not None:
            # Once for all of them: they have the code of the response in common.
            self._count_failed(batch.topic, failed[0].error, len(failed), outcome)
        outcome.done.extend(failed)
        if others is None:
            lane.refused(batch)
            self._accumulator.release(batch)
            self._flushes.replace(batch, [])
            return
        self._accumulator.recharge(batch, [others])
        self._flushes.replace(batch, [others])
        if is_over or self._sending.is_closing:
            lane.refused(batch)
            self.fail(others, refused_together(error, batch, sorted(refused)), outcome)
            return
        lane.put_others(batch, others, self._background.time())

    # ---- without an attempt

    def expire(self, lane: PartitionLane, now: float, outcome: Outcome) -> float | None:
        """Fail the batches of a lane whose delivery timeout is over.

        Returns when the next one of the lane expires, if there is one.
        """
        outcome.lanes.append(lane)
        next_expires_at: float | None = None
        for batch in lane.batches():
            expires_at = batch.created_at + self._delivery_timeout
            if now < expires_at:
                # Not the last one: behind those in flight an older one may wait for its retry.
                next_expires_at = min(next_expires_at or expires_at, expires_at)
                continue
            lane.forget(batch)
            is_waiting = not batch.is_in_flight
            if is_waiting and batch.possibly_persisted and lane.is_behind_acknowledged(batch):
                # See `PartitionLane.take_stored`.
                self.complete(batch, -1, -1, outcome)
                continue
            error = self._timeout_error(lane, batch)
            if batch.is_in_flight:
                error.possibly_persisted = True
            elif batch.possibly_persisted:
                lane.lost_sight_of(batch)
            else:
                lane.refused(batch)
            self.fail(batch, error, outcome)
        return next_expires_at

    def fit_head(self, lane: PartitionLane, outcome: Outcome) -> bool:
        """Have a lane's head be no larger than its topic is known to take, before it is sent.

        Returns:
            Whether the head is another one now, or gone.
        """
        topic = cast("Topic", lane.topic)
        head = lane.head
        if head is None or not topic.batch_limit or head.is_compressing or head.possibly_persisted:
            return False
        if self._background.time() >= topic.probe_limit_at:
            self._topics.limit_batches(
                topic, min(topic.batch_limit * 2, self._config.batch_size), refused_size=0
            )
            topic.probe_limit_at = self._background.time() + _PROBE_LIMIT_EVERY
        size = BATCH_HEADER_SIZE + head.records_size
        if head.record_count > 1 and size > topic.batch_limit:
            lane.close_head()
            self._compressor.restore(head)
            parts = head.split(topic.batch_limit)
            self.counters.batches_split += 1
            self._accumulator.recharge(head, parts)
            self._flushes.replace(head, parts)
            lane.split_head(head, parts)
            return True
        is_too_large = topic.refused_size and size >= topic.refused_size
        if head.record_count == 1 and is_too_large and not self._compressor.is_active:
            lane.forget(head)
            lane.refused(head)
            error = MessageTooLargeError(
                f"The topic refused {topic.refused_size} bytes a moment ago, and this record has"
                " no fewer"
            )
            self.fail(head, about_batch(error, head), outcome)
            outcome.lanes.append(lane)
            return True
        return False

    def complete(
        self, batch: RecordBatch, base_offset: int, log_append_time_ms: int, outcome: Outcome
    ) -> None:
        """End a batch as delivered; its bytes are free."""
        batch.complete(base_offset, log_append_time_ms)
        self.counters.records_delivered += batch.record_count
        self._accumulator.release(batch)
        outcome.done.append(batch)

    def fail(self, batch: RecordBatch, error: KafkaError, outcome: Outcome) -> None:
        """End a batch as failed; its bytes are free unless a request still carries it."""
        if self.undelivered is not None:
            self.undelivered.add_batch(batch, error, self._compressor.decompress)
        batch.fail(error)
        self._count_failed(batch.topic, error, batch.record_count, outcome)
        if not batch.is_in_flight:
            self._accumulator.release(batch)
        outcome.done.append(batch)

    # ---- telling

    def records_failed(self, topic: str, error: KafkaError, count: int) -> None:
        """Count lost records, log them, and tell the `on_error` hook, once for all of them."""
        outcome = Outcome()
        self._count_failed(topic, error, count, outcome)
        self.tell(outcome)

    def tell(self, outcome: Outcome) -> None:
        """Write to the log what one pass has brought, each kind once."""
        for (topic, _), failed in outcome.failed.items():
            error, _ = failed[0]
            self._failure_log.records_failed(topic, error, sum(count for _, count in failed))
        for (_, step), failures in outcome.failures.items():
            batch, attempt, error = failures[0]
            self._failure_log.attempt_failed(
                f"{batch.topic}-{batch.partition}",
                len(failures),
                batch.record_count,
                attempt,
                error,
                step,
            )
        if outcome.healed:
            first = outcome.healed[0]
            others = len(outcome.healed) - 1
            logger.info(
                "%s-%s%s stores records again",
                first.topic.name,
                first.partition,
                f" and {others} more partitions" if others else "",
            )
        outcome.failed.clear()
        outcome.failures.clear()
        outcome.healed.clear()

    def retry_delay(self, failures: int) -> float:
        """The wait after so many failures in a row, in seconds (KIP-580)."""
        return backoff(
            failures,
            base=self._config.retry_backoff_ms / 1000,
            maximum=self._config.retry_backoff_max_ms / 1000,
            random=random.random,
        )

    # ---- inside

    def _count_failed(self, topic: str, error: KafkaError, count: int, outcome: Outcome) -> None:
        self.counters.records_failed += count
        if not isinstance(error, ProducerClosedError):
            # `close` has a line of its own for those.
            key = (topic, type(error).__name__)
            outcome.failed.setdefault(key, []).append((error, count))
        on_error = self._config.on_error
        if on_error is not None:
            self._background.call_soon(on_error, error, count)

    def _note(
        self,
        lane: PartitionLane,
        batch: RecordBatch,
        error: KafkaError,
        step: Step,
        outcome: Outcome,
    ) -> None:
        if step in (Step.COMPLETE, Step.FAIL, Step.REFUSE_SOME, Step.SPLIT):
            # What fails is told as such, and what a topic takes once for the topic.
            return
        if step is Step.RETRY and isinstance(
            error, (OutOfOrderSequenceNumberError, UnknownProducerIdError)
        ):
            # An earlier batch is on its way again: no news.
            return
        lane.failures_logged = True
        key = (type(error).__name__, step)
        outcome.failures.setdefault(key, []).append((batch, batch.attempts, error))

    def not_yet(self, lane: PartitionLane, batch: RecordBatch, waited: float) -> KafkaError:
        """Why a batch has no outcome yet, for a caller who waits no longer for it."""
        error = self._timeout_error(lane, batch, waited, "timeout of the call")
        error.possibly_persisted = batch.possibly_persisted or batch.is_in_flight
        return error

    def _timeout_error(
        self,
        lane: PartitionLane,
        batch: RecordBatch,
        waited: float | None = None,
        bound: str = "delivery_timeout_ms",
    ) -> KafkaError:
        leader = lane.leader.node_id
        if waited is None:
            # Not what was allowed: the loop may have been held.
            waited = self._background.time() - batch.created_at
        return delivery_timeout_error(
            batch,
            waited=waited,
            bound=bound,
            broker=None if leader == NO_LEADER else self._cluster.brokers.name(leader),
            broker_said=cast("Topic", lane.topic).error,
            connect_error=self._cluster.last_connect_error(leader),
            producer_id_error=self._producer_id_error(),
            throttled_for=self._cluster.throttled_for(leader),
        )

    def _split(self, lane: PartitionLane, batch: RecordBatch) -> None:
        self._learn_size(lane, batch)
        self._compressor.restore(batch)
        limit = cast("Topic", lane.topic).batch_limit
        children = batch.split(min(self._part_size(batch), limit))
        self.counters.batches_split += 1
        self._accumulator.recharge(batch, children)
        lane.split(batch, children)
        self._flushes.replace(batch, children)

    def _part_size(self, batch: RecordBatch) -> int:
        return max(BATCH_HEADER_SIZE + batch.records_size // 2, 1)

    def _learn_size(self, lane: PartitionLane, batch: RecordBatch) -> None:
        """Remember that a topic refused a batch of this size."""
        topic = cast("Topic", lane.topic)
        size = BATCH_HEADER_SIZE + batch.records_size
        refused = min(size, topic.refused_size or size)
        limit = min(
            topic.batch_limit or self._config.batch_size,
            self._part_size(batch) if batch.record_count > 1 else size - 1,
        )
        if not topic.batch_limit:
            logger.warning(
                "Topic %s takes no batch of %s bytes (max.message.bytes): smaller ones are sent",
                batch.topic,
                BATCH_HEADER_SIZE + batch.payload_size,
            )
        topic.probe_limit_at = self._background.time() + _PROBE_LIMIT_EVERY
        self._topics.limit_batches(topic, limit, refused_size=refused)
