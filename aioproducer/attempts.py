"""What becomes of a batch after an attempt: delivered, retried, split or failed.

Part of the sender, which sends and hears the answers. Here the answer meets the batch: retry.py
decides, the lane keeps the order and the numbers, the counters count, and what is done is collected
in an `Outcome`. Nobody is told and nothing is sent from here: that comes once the whole answer is
settled.

Invariants
* A batch that is done and that no request carries has given its bytes back.
* A batch that expired in flight was told to its callers already; its late answer only settles the
  lane's numbers.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.record_batch import BATCH_HEADER_SIZE, RecordBatch
from aioproducer.batch_compressor import BatchCompressor
from aioproducer.cluster import Cluster
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    InvalidProducerEpochError,
    KafkaError,
    MessageTooLargeError,
    OutOfOrderSequenceNumberError,
    UnknownProducerIdError,
)
from aioproducer.explaining import delivery_timeout_error, record_errors, with_story
from aioproducer.flushing import Flushes
from aioproducer.lane import PartitionLane
from aioproducer.metadata import NO_LEADER
from aioproducer.protocol.produce import PartitionProduceResponse
from aioproducer.retry import Step, backoff, next_step
from aioproducer.window import SentRequest

__all__ = ["Attempts", "Counters", "Outcome"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What happened since the start, for `Producer.metrics`."""

    records_delivered: int = 0
    records_failed: int = 0
    batches_sent: int = 0
    batches_retried: int = 0
    batches_split: int = 0
    requests_sent: int = 0
    bytes_sent: int = 0
    epochs_bumped: int = 0


@dataclass(slots=True)
class Outcome:
    """What one pass of the sender leaves to do once its own state is settled.

    Attributes:
        done: Batches that were delivered or failed: whoever waits for them is to be told.
        lanes: Lanes that may have become ready.
        failures: Failed attempts, and which one of their batch it was, by what the log says of
            them: its level, the reason and the next step.
    """

    done: list[RecordBatch] = field(default_factory=list[RecordBatch])
    lanes: list[PartitionLane] = field(default_factory=list[PartitionLane])
    failures: dict[tuple[int, str, Step], list[tuple[RecordBatch, int]]] = field(
        default_factory=dict[tuple[int, str, Step], list[tuple[RecordBatch, int]]]
    )


class Attempts:
    """Settles the attempts of one producer's batches.

    Args:
        config: The producer's options.
        loop: The producer's loop.
        cluster: Told when its metadata is stale; explains timeouts.
        accumulator: Given back the bytes of what is done.
        compressor: Restores the records of a batch that is split.
        flushes: Told of batches that are split.
        counters: Counted up.

    Attributes:
        is_closing: Nothing is tried again.
    """

    def __init__(
        self,
        config: ProducerConfig,
        loop: asyncio.AbstractEventLoop,
        cluster: Cluster,
        accumulator: RecordAccumulator,
        compressor: BatchCompressor,
        flushes: Flushes,
        counters: Counters,
    ) -> None:
        self.is_closing = False
        self.counters = counters
        self._config = config
        self._loop = loop
        self._cluster = cluster
        self._accumulator = accumulator
        self._compressor = compressor
        self._flushes = flushes
        self._delivery_timeout = config.delivery_timeout_ms / 1000

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
            self._release(batch)
            return
        if lane.failures_logged:
            lane.failures_logged = False
            logger.info("%s-%s accepts records again", batch.topic, batch.partition)
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
        sent: SentRequest,
        outcome: Outcome,
        answer: PartitionProduceResponse | None = None,
    ) -> None:
        """An attempt failed, by the broker's answer or because there was none."""
        lane.answered(batch)
        outcome.lanes.append(lane)
        if error.refreshes_metadata:
            self._cluster.refresh()
        if batch.is_done:
            # It expired meanwhile and was told; only the numbers are left to look after.
            if error.possibly_persisted:
                lane.lost_sight_of(batch)
            else:
                lane.refused(batch)
            self._release(batch)
            return
        error.broker = sent.broker
        batch.last_error = error
        if error.possibly_persisted:
            batch.possibly_persisted = True
        now = self._loop.time()
        is_over = now >= batch.created_at + self._delivery_timeout
        may_retry = (
            not self.is_closing
            # A split is no retry: nothing of the batch was tried in the size it is sent in next.
            and (batch.attempts <= self._config.retries or isinstance(error, MessageTooLargeError))
            and not is_over
        )
        step = next_step(
            error,
            is_next_in_sequence=lane.is_next_in_sequence(batch),
            record_count=batch.record_count,
            may_retry=may_retry,
        )
        self._note_failure(lane, batch, error, step, outcome)
        if step is Step.COMPLETE:
            lane.acknowledged(batch)
            self.complete(batch, -1, -1, outcome)
        elif step is Step.SPLIT:
            self._split(lane, batch)
        elif step is Step.FAIL:
            if batch.possibly_persisted:
                lane.lost_sight_of(batch)
            else:
                lane.refused(batch)
            if isinstance(error, InvalidProducerEpochError):
                # Under this epoch the broker would refuse whatever comes next, too.
                lane.must_start_over(batch)
            if is_over and error.retriable:
                self.fail(batch, self._timeout_error(lane, batch), outcome)
            else:
                self.fail(batch, with_story(error, batch), outcome, answer)
        else:
            if step is Step.RESTART:
                lane.refused(batch)
                lane.must_start_over(batch)
            self.counters.batches_retried += 1
            has_moved = (
                lane.leader.node_id not in (NO_LEADER, sent.window.node_id)
                and not lane.is_sent_around
            )
            # Metadata was faster than the answer: the new leader has not failed (KIP-951).
            delay = 0.0 if has_moved else self.retry_delay(batch.attempts)
            lane.requeue(batch, now + delay)

    def expire(self, lane: PartitionLane, now: float, outcome: Outcome) -> float | None:
        """Fail the batches of a lane whose delivery timeout is over.

        Returns when the next one of the lane expires, if there is one.
        """
        outcome.lanes.append(lane)
        for batch in lane.batches():
            expires_at = batch.created_at + self._delivery_timeout
            if now < expires_at:
                return expires_at
            lane.forget(batch)
            if batch.is_in_flight:
                batch.possibly_persisted = True
            elif batch.attempts and batch.possibly_persisted:
                lane.lost_sight_of(batch)
            elif batch.attempts:
                lane.refused(batch)
            self.fail(batch, self._timeout_error(lane, batch), outcome)
        return None

    def _timeout_error(self, lane: PartitionLane, batch: RecordBatch) -> KafkaError:
        leader = lane.leader.node_id
        broker_said, connect_error = self._cluster.explain_timeout(batch.topic, leader)
        return delivery_timeout_error(
            batch,
            waited=self._delivery_timeout,
            broker=None if leader == NO_LEADER else self._cluster.broker_name(leader),
            broker_said=broker_said,
            connect_error=connect_error,
            throttled_for=self._cluster.throttled_for(leader),
        )

    def complete(
        self, batch: RecordBatch, base_offset: int, log_append_time_ms: int, outcome: Outcome
    ) -> None:
        """End a batch as delivered; its bytes are free."""
        batch.complete(base_offset, log_append_time_ms)
        self.counters.records_delivered += batch.record_count
        self._release(batch)
        outcome.done.append(batch)

    def fail(
        self,
        batch: RecordBatch,
        error: KafkaError,
        outcome: Outcome,
        answer: PartitionProduceResponse | None = None,
    ) -> None:
        """End a batch as failed; its bytes are free unless a request still carries it."""
        batch.fail(error, record_errors(error, answer))
        self.records_failed(error, batch.record_count)
        if not batch.is_in_flight:
            self._release(batch)
        outcome.done.append(batch)

    def records_failed(self, error: KafkaError, count: int) -> None:
        """Count lost records and tell the `on_error` hook, once for all of them."""
        self.counters.records_failed += count
        on_error = self._config.on_error
        if on_error is not None:
            self._loop.call_soon(on_error, error, count)

    def _split(self, lane: PartitionLane, batch: RecordBatch) -> None:
        self._compressor.restore(batch)
        limit = max(BATCH_HEADER_SIZE + batch.records_size // 2, 1)
        children = batch.split(limit)
        self.counters.batches_split += 1
        self._accumulator.recharge(batch, children)
        lane.split(batch, children)
        self._flushes.replace(batch, children)

    def retry_delay(self, failures: int) -> float:
        """The wait after so many failures in a row, in seconds (KIP-580)."""
        return backoff(
            failures,
            base=self._config.retry_backoff_ms / 1000,
            maximum=self._config.retry_backoff_max_ms / 1000,
            random=random.random,
        )

    def _release(self, batch: RecordBatch) -> None:
        self._accumulator.release(batch)

    def _note_failure(
        self,
        lane: PartitionLane,
        batch: RecordBatch,
        error: KafkaError,
        step: Step,
        outcome: Outcome,
    ) -> None:
        if isinstance(error, (OutOfOrderSequenceNumberError, UnknownProducerIdError)):
            level = logging.WARNING if step is Step.RESTART else logging.DEBUG
        elif lane.failures_logged:
            level = logging.DEBUG
        else:
            lane.failures_logged = True
            level = logging.WARNING
        if logger.isEnabledFor(level):
            failures = outcome.failures.setdefault((level, str(error), step), [])
            failures.append((batch, batch.attempts))

    def log_failures(self, outcome: Outcome) -> None:
        """Write one line for all batches that failed in one pass for the same reason."""
        for (level, reason, step), failures in outcome.failures.items():
            batch, attempts = failures[0]
            others = f" and {len(failures) - 1} more batches" if len(failures) > 1 else ""
            logger.log(
                level,
                "%s-%s: attempt %s of a batch of %s records%s failed (%s), next: %s",
                batch.topic,
                batch.partition,
                attempts,
                batch.record_count,
                others,
                reason,
                step.name.lower(),
            )
        outcome.failures.clear()
