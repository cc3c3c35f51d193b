"""The sender of a `MockProducer`: stores records in memory instead of talking to brokers.

It takes the place of `Sender` behind the real accumulator, so what a call checks, serializes,
partitions and waits for is the product's own. Each record is a batch of its own; it gets its
outcome at the end of the loop's turn, as if a very fast broker had responded.

    MockBroker   what a test sees and orders; shared by the senders of all loops
    MockSender   the records of one loop that have no outcome yet

Invariants
* A record gets its offset, or the error ordered for it, when it is accepted; records of a partition
  end in the order of their offsets.
* `MockBroker.sent` holds the records accepted, without those that failed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias
from weakref import WeakSet

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.broker_queues import Counters
from aioproducer._native.queues import BrokerQueue, BufferShare, CorePartitionQueue, CoreTopic
from aioproducer._native.record_batch import Delivery, RecordBatch, decode_records
from aioproducer.background import Background, Timer
from aioproducer.config import ProducerConfig
from aioproducer.errors import BufferExhaustedError, KafkaError
from aioproducer.records import Header, K, TopicPartition, V
from aioproducer.sending.backpressure import Backpressure
from aioproducer.sending.batch_errors import closed_error, delivery_timeout_error
from aioproducer.sending.failures import Failures
from aioproducer.sending.flush import Flushes
from aioproducer.sending.partitioner import RoundRobinPartitioner
from aioproducer.sending.topics import check_topic_name, routing_error
from aioproducer.sending.undelivered import UndeliveredRecords
from aioproducer.sending.waiting_callers import Waiter
from aioproducer.telemetry.metrics import metrics_of_nothing

if TYPE_CHECKING:
    from aioproducer._native.queues import WaitingRecords

__all__ = ["Given", "MockBroker", "MockSender", "SentRecord"]

Serialized: TypeAlias = bytes | bytearray | memoryview
Serialize: TypeAlias = Callable[[str, Any], Serialized]
Serializers: TypeAlias = tuple[Serialize | None, Serialize | None]

BROKER: Final = "mock"
"""What errors and `status` call the broker that is not there."""


@dataclass(frozen=True, slots=True)
class SentRecord(Generic[K, V]):
    """A record that a `MockProducer` accepted.

    Attributes:
        topic: Where it went.
        partition: The partition that it named, or the partitioner chose.
        offset: Its offset, as the `RecordMetadata` says it.
        key: The serialized key; None if it has none.
        value: The serialized value; None if it is a tombstone.
        headers: `(name, value)` pairs in order.
        timestamp_ms: CreateTime in milliseconds since the epoch.
        given_key: The key before it was serialized.
        given_value: The value before it was serialized.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp_ms: int
    given_key: K | None
    given_value: V | None

    @property
    def topic_partition(self) -> TopicPartition:
        """The topic and partition as one value."""
        return TopicPartition(self.topic, self.partition)


@dataclass(slots=True)
class _Failure:
    """An error for the next records; `left` is None for ever."""

    error: KafkaError
    topic: str | None
    left: int | None


class MockBroker:
    """What a test sees of a `MockProducer`, and what it ordered."""

    def __init__(self, partitions: Mapping[str, int], default_partitions: int) -> None:
        for topic, count in {**partitions, "default_partitions": default_partitions}.items():
            if count < 1:
                raise ValueError(f"a topic has at least one partition, not {count} ({topic})")
        self.sent: list[SentRecord[Any, Any]] = []
        self.is_held = False
        self.is_full = False
        self._partitions = dict(partitions)
        self._default_partitions = default_partitions
        self._failures: list[_Failure] = []
        self._next_offsets: Counter[tuple[str, int]] = Counter()
        self._senders: WeakSet[MockSender] = WeakSet()

    def serve(self, sender: MockSender) -> None:
        """Tell a sender from now on when `hold` and `full` begin and end."""
        self._senders.add(sender)
        sender.space.set_full(self.is_full)

    def partition_count(self, topic: str) -> int:
        """How many partitions a topic has."""
        return self._partitions.get(topic, self._default_partitions)

    def next_offset(self, topic: str, partition: int) -> int:
        """Give out the next offset of a partition."""
        offset = self._next_offsets[topic, partition]
        self._next_offsets[topic, partition] = offset + 1
        return offset

    def forget(self, record: SentRecord[Any, Any]) -> None:
        """Take out a record that failed after it was accepted."""
        self.sent = [other for other in self.sent if other is not record]

    def fail_next(self, error: KafkaError, topic: str | None, count: int | None) -> None:
        """Order an error for records that are accepted from now on."""
        self._failures.append(_Failure(error, topic, count))

    def failure_for(self, topic: str) -> KafkaError | None:
        """The error ordered for a record of this topic, which counts as used."""
        for failure in self._failures:
            if failure.topic in (None, topic):
                if failure.left is not None:
                    failure.left -= 1
                    if not failure.left:
                        self._failures.remove(failure)
                return failure.error
        return None

    def set_held(self, is_held: bool) -> None:
        """Leave records without outcome, or go on with them."""
        self.is_held = is_held
        self._notify(MockSender.schedule_turn)

    def set_full(self, is_full: bool) -> None:
        """Let the buffer refuse every record, or take them again."""
        self.is_full = is_full
        self._notify(lambda sender: sender.space.set_full(is_full))

    def clear(self) -> None:
        """Forget everything; topics keep their numbers of partitions."""
        self.sent = []
        self._failures.clear()
        self._next_offsets.clear()
        self.set_full(False)
        self.set_held(False)

    def _notify(self, news: Callable[[MockSender], object]) -> None:
        for sender in list(self._senders):
            sender.call_on_loop(news)


class _NoBrokers:
    """The queues and brokers that `Backpressure` asks about: there are none."""

    def __init__(self, pending: deque[_Pending]) -> None:
        self._pending = pending
        self.by_node: dict[int, BrokerQueue] = {}
        self.leaderless = BufferShare()

    @property
    def requests_in_flight(self) -> int:
        return len(self._pending)

    def end_all_lingering(self) -> None:
        """Nothing lingers."""

    def name(self, node_id: int) -> str:
        return BROKER

    def get(self, node_id: int) -> None:
        return None

    def any_connect_error(self) -> None:
        return None


class _Space(Backpressure):
    """The buffer space, which a test may declare full."""

    def __init__(
        self, accumulator: RecordAccumulator, brokers: _NoBrokers, background: Background
    ) -> None:
        super().__init__(accumulator, brokers, brokers, background.time)
        self._background = background
        self._is_full = False
        self.take_given: Callable[[], Callable[[], None]] = lambda: lambda: None

    def set_full(self, is_full: bool) -> None:
        """Refuse every record from now on, or no longer."""
        self._is_full = is_full
        if is_full:
            self.accumulator.is_full = self.accumulator.has_blocked = True
        else:
            self.admit()

    def join(self, waiter: Waiter[Delivery]) -> None:
        """Let a caller wait; while a test says that the buffer is full, for a turn only."""
        admit, note_given = waiter.admit, self.take_given()

        def admit_as_given() -> Delivery | None:
            note_given()
            return admit()

        waiter.admit = admit_as_given
        super().join(waiter)
        if self._is_full:
            self._background.call_soon(self._reject, waiter)

    def admit(self) -> None:
        """Accept the records of those who fit now."""
        if not self._is_full:
            super().admit()

    def no_space_error(
        self,
        waiter: Waiter[Delivery] | None = None,
        *,
        waited: float = 0.0,
        bound: str = "",
        hint: str | None = None,
    ) -> BufferExhaustedError:
        """The error of a caller for whom there is no buffer space."""
        error = super().no_space_error(waiter, waited=waited, bound=bound, hint=hint)
        if self._is_full:
            error.available_bytes = 0
        return error

    def _reject(self, waiter: Waiter[Delivery]) -> None:
        if waiter.is_waiting and self._is_full:
            reject = waiter.reject
            error = self.no_space_error(waiter, bound="max_block_ms, by MockProducer.full")
            self.withdraw(waiter)
            reject(error)


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
            partitioner=(
                RoundRobinPartitioner()
                if config.partitioner == "round_robin"
                else config.partitioner
            ),
            ignore_keys=config.partitioner_ignore_keys,
        )
        self.space = _Space(self.accumulator, _NoBrokers(self._pending), background)
        self.space.take_given = given.keep
        broker.serve(self)

    # ---- what the producer asks for (RecordSender)

    @property
    def backpressure(self) -> Backpressure:
        """Callers who wait for buffer space."""
        return self.space

    async def start(self, timeout: float) -> None:
        """Start at once."""

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

    def status(self) -> dict[str, object]:
        """What a producer whose only broker is well tells a health check."""
        return {
            "cluster_id": BROKER,
            "brokers": {BROKER: "connected"},
            "producer_id": 0 if self._config.enable_idempotence else None,
            "buffer_used_ratio": self.accumulator.buffer_used / self.accumulator.buffer_memory,
            "requests_in_flight": len(self._pending),
            "waiting_callers": len(self.space),
            "last_error": None,
        }

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
            self.background.call_soon(self.end_turn)

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

    # ---- news from the test (MockBroker)

    def call_on_loop(self, news: Callable[[MockSender], object]) -> None:
        """Take news in the loop's thread: a test may be in another one."""
        loop = self.background.loop
        try:
            is_here = asyncio.get_running_loop() is loop
        except RuntimeError:
            is_here = False
        if is_here:
            news(self)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(partial(news, self))

    def end_turn(self) -> None:
        """Give each record its outcome, unless they are held."""
        self._is_turn_scheduled = False
        self.accumulator.take_touched()
        if not self._broker.is_held:
            self._finish([(one, _ordered(one)) for one in self._take_pending()], direct=True)

    # ---- inside

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
            *self._given.of(key, value),
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


class Given:
    """The keys and values as they were given, noted where they are serialized.

    The serializers run before the accumulator takes the record, in the same call.
    """

    def __init__(self) -> None:
        self._key: tuple[object, Serialized | None] = (None, None)
        self._value: tuple[object, Serialized | None] = (None, None)

    def noting(self, serializers: Serializers) -> Serializers:
        """Return the serializers, extended so that they note what they are given."""
        key, value = serializers
        return (
            None if key is None else partial(self._serialize_key, key),
            None if value is None else partial(self._serialize_value, value),
        )

    def of(self, key: bytes | None, value: bytes | None) -> tuple[Any, Any]:
        """The key and value that were serialized to these bytes; the bytes if none were."""
        given_key, key_bytes = self._key
        given_value, value_bytes = self._value
        return (
            given_key if key is not None and key == key_bytes else key,
            given_value if value is not None and value == value_bytes else value,
        )

    def keep(self) -> Callable[[], None]:
        """Keep what was noted last, for a record that has to wait; returns how to note it again."""
        key, value = self._key, self._value

        def note_again() -> None:
            self._key, self._value = key, value

        return note_again

    def _serialize_key(self, serialize: Serialize, topic: str, key: Any) -> Serialized:
        data = serialize(topic, key)
        self._key = (key, data)
        return data

    def _serialize_value(self, serialize: Serialize, topic: str, value: Any) -> Serialized:
        data = serialize(topic, value)
        self._value = (value, data)
        return data


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
