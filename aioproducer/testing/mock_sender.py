"""The sender of a `MockProducer`: stores records in memory instead of talking to brokers.

It takes the place of `Sender` behind the real accumulator, so what a call checks, serializes,
partitions and waits for is the product's own. Each record is a batch of its own; it gets its
outcome at the end of the loop's turn, as if a very fast broker had responded.

Invariant: a record gets its offset, or the error ordered for it, when it is accepted; records of a
partition end in the order of their offsets.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.broker_queues import Counters
from aioproducer._native.queues import CorePartitionQueue, CoreTopic
from aioproducer._native.record_batch import Delivery, RecordBatch, decode_records
from aioproducer.background import Background, Timer
from aioproducer.config import ProducerConfig
from aioproducer.errors import KafkaError
from aioproducer.records import TopicPartition
from aioproducer.sending.backpressure import Backpressure
from aioproducer.sending.batch_errors import closed_error, delivery_timeout_error
from aioproducer.sending.failures import Failures
from aioproducer.sending.flush import Flushes
from aioproducer.sending.partitioner import partitioner_of
from aioproducer.sending.topics import check_topic_name, routing_error
from aioproducer.sending.undelivered import UndeliveredRecords
from aioproducer.telemetry.metrics import metrics_of_nothing
from aioproducer.telemetry.status import ProducerState, ProducerStatus, why_unhealthy
from aioproducer.testing.mock_broker import Given, MockBroker, SentRecord
from aioproducer.testing.mock_space import BROKER, MockSpace

if TYPE_CHECKING:
    from aioproducer._native.queues import WaitingRecords

__all__ = ["MockSender"]


@dataclass(slots=True, eq=False)
class _Pending:
    """A record without outcome."""

    batch: RecordBatch
    queue: CorePartitionQueue
    record: SentRecord[Any, Any] | None
    """None if it is to fail."""
    error: KafkaError | None


class MockSender:
    """Ends the records of one loop: a `RecordSender`, and the accumulator's listener.

    Args:
        config: The producer's options.
        background: The loop.
        broker: What the test sees and orders.
        given: Tells the key and value of the record that was serialized last.
    """

    def __init__(
        self, config: ProducerConfig, background: Background, broker: MockBroker, given: Given
    ) -> None:
        self.background = background
        self._config = config
        self._broker = broker
        self._given = given
        self._counters = Counters()
        self._flushes = Flushes(background.loop)
        self._failures = Failures(background, self._counters, config.on_error, _not_compressed)
        self._pending: deque[_Pending] = deque()
        self._expiry = Timer(background, self._expire)
        self._deadline_timer = Timer(background, self.look_at_deadlines)
        self._is_turn_scheduled = False
        self._sticky: Counter[str] = Counter()
        self.accumulator = RecordAccumulator(
            loop=background.loop,
            events=self,
            topic_events=self,
            clock=background.clock,
            batch_size=config.batch_size,
            max_request_size=config.max_request_size,
            buffer_memory=config.buffer_memory,
            partitioner=partitioner_of(config),
            ignore_keys=config.partitioner_ignore_keys,
        )
        self.accumulator.deadlines.serve(self._deadline_timer.set_by)
        self.space = MockSpace(self.accumulator, self._pending, background, given)
        self.space.set_full(broker.is_full)
        broker.serve(self)

    # ---- what the producer asks for (RecordSender)

    @property
    def transactions(self) -> None:
        """A mock has none."""
        return None

    @property
    def backpressure(self) -> Backpressure:
        """Callers who wait for buffer space."""
        return self.space

    async def start(self, timeout: float) -> None:
        """Start at once."""

    def start_in_background(self) -> None:
        """Nothing is to be reached."""

    @property
    def is_reached(self) -> bool:
        """Nothing is to be reached."""
        return True

    async def wait_until_reached(self, timeout: float) -> None:
        """Nothing is to be reached."""

    async def flush(self) -> None:
        """Wait until every record accepted so far is delivered or failed."""
        await self._flushes.wait_for([pending.batch for pending in self._pending])

    def begin_close(self) -> UndeliveredRecords:
        """Collect what fails from now on."""
        self._failures.undelivered = UndeliveredRecords()
        return self._failures.undelivered

    async def finish(self) -> None:
        """Wait for nothing: no connection holds requests."""

    async def give_up(self) -> None:
        """Fail what is not delivered yet."""
        left = [(pending, closed_error(pending.batch)) for pending in self._take_pending()]
        self._finish(left, direct=False)

    async def close(self) -> None:
        """End the timer."""
        self.leave_behind()
        self._failures.close()

    def leave_behind(self) -> None:
        """Do nothing more."""
        self._expiry.cancel()
        self._deadline_timer.cancel()

    async def partitions_for(self, name: str) -> tuple[int, ...]:
        """The ids of a topic's partitions."""
        return tuple(range(self.accumulator.topic(name).partition_count))

    def metrics(self) -> dict[str, float]:
        """Counters since the start, and current gauges."""
        counters, accumulator = self._counters, self.accumulator
        return metrics_of_nothing(self._config) | {
            "record_accepted_total": accumulator.accepted_count,
            "record_delivered_total": counters.records_delivered,
            "record_error_total": counters.records_failed,
            "batch_sent_total": counters.batches_sent,
            "request_total": counters.requests_sent,
            "outgoing_byte_total": counters.bytes_sent,
            "requests_in_flight": len(self._pending),
            "buffer_available_bytes": accumulator.buffer_memory - accumulator.buffer_used,
            "waiting_callers": len(self.space),
        }

    def status(self, state: ProducerState) -> ProducerStatus:
        """What a producer whose only broker is well tells a health check."""
        reason = why_unhealthy(state)
        oldest = self._pending[0].batch.created_at if self._pending else None
        return ProducerStatus(
            healthy=not reason,
            reason=reason,
            state=state,
            client_id=self._config.client_id,
            cluster_id=BROKER,
            brokers={BROKER: "connected"},
            brokers_connected=1,
            brokers_known=1,
            producer_id=0 if self._config.enable_idempotence else None,
            oldest_record_age=None if oldest is None else self.background.time() - oldest,
            buffer_used_ratio=self.accumulator.buffer_used / self.accumulator.buffer_memory,
            requests_in_flight=len(self._pending),
            waiting_callers=len(self.space),
        )

    def look_at_deadlines(self) -> None:
        """End the waits that are due now; records are sent in the turn of their call, in time."""
        deadlines, now = self.accumulator.deadlines, self.background.time()
        for delivery, wait, _, span in deadlines.pop_due(now):
            if wait is not None:
                wait.expire(self.not_yet(delivery, span))
        deadlines.set_timer_again(now)

    def error_if_down(self, topic: str, partition: object) -> None:
        """No broker is ever down."""

    def not_yet(self, delivery: Delivery, waited: float) -> KafkaError:
        """The error of a caller who no longer waits for a record, which goes on."""
        batch = delivery._record_batch()  # pyright: ignore[reportPrivateUsage]
        error = _timeout_error(batch, waited, "timeout of the call")
        error.hint = "The record goes on until delivery_timeout_ms; only this wait is over."
        error.is_pending = True
        return error

    # ---- news from the accumulator (AccumulatorEvents, TopicEvents)

    def schedule_turn(self) -> None:
        """End the records accepted in this turn of the loop when it is over."""
        if not self._is_turn_scheduled:
            self._is_turn_scheduled = True
            self.background.call_soon(self._end_turn)

    def batch_closed(self, queue: CorePartitionQueue) -> None:
        """Take a record: it is the only one of its batch."""
        batch = queue.take(None)
        self._counters.batches_sent += 1
        self._counters.requests_sent += 1
        self._counters.bytes_sent += batch.payload_size
        error = self._broker.failure_for(batch.topic)
        record = None
        if error is None:
            record = self._sent(batch)
            self._broker.sent.append(record)
        self._pending.append(_Pending(batch, queue, record, error))
        self._expiry.set_by(self._expires_at(batch))

    def batch_grew(self, queue: CorePartitionQueue) -> None:
        """Nothing to do: a batch is closed with its first record."""

    def new_topic(self, name: str) -> CoreTopic:
        """Make a topic that gets its first record.

        Raises:
            InvalidTopicError: Kafka has no such names.
        """
        check_topic_name(name)
        topic = CoreTopic(name)
        count = self._broker.partition_count(name)
        topic.set_partitions(count, tuple(range(count)))
        return topic

    def new_queue(self, topic: CoreTopic, partition: int) -> CorePartitionQueue:
        """Make the queue of a partition, in which each record is a batch of its own."""
        queue = CorePartitionQueue(topic, partition)
        queue.batch_limit = 1
        return queue

    def metadata_needed(self, waiting: WaitingRecords) -> None:
        """Never called: partitions are known from the beginning."""
        raise NotImplementedError

    def next_sticky_partition(self, topic: CoreTopic) -> int:
        """The partition for the next records without key: one after the other, from 0 on."""
        number = self._sticky[topic.name]
        self._sticky[topic.name] = number + 1
        return number % topic.partition_count

    def routing_error(self, topic: CoreTopic, error: BaseException) -> KafkaError:
        """The error of a record that got no partition."""
        return routing_error(topic.name, error)

    # ---- news from the test (MockBrokerListener)

    def held_changed(self) -> None:
        """End the records that were held, in the next turn."""
        self._call_on_loop(self.schedule_turn)

    def full_changed(self) -> None:
        """Refuse records, or take them again."""
        self._call_on_loop(lambda: self.space.set_full(self._broker.is_full))

    # ---- inside

    def _end_turn(self) -> None:
        """Give each record its outcome, unless they are held."""
        self._is_turn_scheduled = False
        self.accumulator.take_touched()
        if not self._broker.is_held:
            self._finish([(one, _ordered(one)) for one in self._take_pending()], direct=True)

    def _call_on_loop(self, news: Callable[[], object]) -> None:
        loop = self.background.loop
        try:
            is_here = asyncio.get_running_loop() is loop
        except RuntimeError:
            is_here = False
        if is_here:
            news()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(news)

    def _sent(self, batch: RecordBatch) -> SentRecord[Any, Any]:
        ((key, value, headers, timestamp_ms),) = decode_records(
            batch.payload, batch.record_count, batch.base_timestamp_ms
        )
        return SentRecord(
            batch.topic,
            batch.partition,
            self._broker.next_offset(batch.topic, batch.partition),
            key,
            value,
            headers,
            timestamp_ms,
            *self._given.take(),
        )

    def _take_pending(self) -> list[_Pending]:
        taken = list(self._pending)
        self._pending.clear()
        self._expiry.cancel()
        return taken

    def _finish(
        self, outcomes: Iterable[tuple[_Pending, KafkaError | None]], *, direct: bool
    ) -> None:
        """End records, each with success or an error, and wake whoever waits."""
        done: list[RecordBatch] = []
        for pending, error in outcomes:
            batch = pending.batch
            pending.queue.request_ended(batch)
            if error is not None:
                self._fail(pending, error)
            else:
                assert pending.record is not None
                batch.complete(-1 if self._config.acks == 0 else pending.record.offset)
                self._counters.records_delivered += 1
            self.accumulator.release(batch)
            done.append(batch)
        self._failures.report()
        for batch in done:
            self._flushes.batch_done(batch)
        woken = iter(done)
        try:
            for batch in woken:
                batch.wake(direct)
        finally:
            # Also when a task that was woken ends the program.
            for batch in woken:
                batch.wake(False)
            self.space.admit()

    def _fail(self, pending: _Pending, error: KafkaError) -> None:
        if pending.record is not None:
            self._broker.forget(pending.record)
        self._failures.batch_failed(pending.batch, error)
        pending.batch.fail(error)

    def _expires_at(self, batch: RecordBatch) -> float:
        return batch.created_at + self._config.delivery_timeout_ms / 1000

    def _expire(self) -> None:
        """Fail the records that were held for too long."""
        now = self.background.time()
        expired: list[tuple[_Pending, KafkaError | None]] = []
        while self._pending and self._expires_at(self._pending[0].batch) <= now:
            pending = self._pending.popleft()
            waited = now - pending.batch.created_at
            error = _timeout_error(pending.batch, waited, "delivery_timeout_ms")
            expired.append((pending, error))
        if self._pending:
            self._expiry.set_by(self._expires_at(self._pending[0].batch))
        self._finish(expired, direct=True)


def _ordered(pending: _Pending) -> KafkaError | None:
    """The error that a test ordered for a record, with the context of that record."""
    if pending.error is None:
        return None
    error = pending.error.again()
    error.topic_partition = TopicPartition(pending.batch.topic, pending.batch.partition)
    error.attempts = error.attempts or pending.batch.attempts
    return error


def _timeout_error(batch: RecordBatch, waited: float, bound: str) -> KafkaError:
    error = delivery_timeout_error(
        batch,
        waited=waited,
        bound=bound,
        broker=BROKER,
        broker_said=None,
        connect_error=None,
        producer_id_error=None,
        throttled_for=0.0,
    )
    error.possibly_persisted = True  # A broker that does not respond may have stored it.
    return error


def _not_compressed(*_: object) -> bytes:
    raise NotImplementedError("a mock producer compresses nothing")
