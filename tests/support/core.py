"""The record path without a producer: an accumulator, and stand-ins for the loop and the sender.

Records reach a batch only through an accumulator. `Core` has one whose limits are out of the way
unless a test sets them, and whose topic `clicks` is known; `RecordedEvents` stands for the sender,
`RecordedTopics` for the owner of the topics, and `ManualLoop` for a loop that runs its callbacks
when asked to, on a clock that a test moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context, copy_context
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.clock import Clock
from aioproducer._native.queues import CorePartitionQueue, CoreTopic, WaitingRecords
from aioproducer._native.record_batch import Delivery, RecordBatch, decode_records
from aioproducer.errors import InvalidTopicError, KafkaError
from aioproducer.hooks import OnDelivery, Partitioner
from aioproducer.records import Header, RecordMetadata

if TYPE_CHECKING:
    from aioproducer._native.accumulator import AccumulatorEvents

TOPIC = "clicks"
NO_LIMIT = 1 << 28

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Outcome = tuple[RecordMetadata | None, KafkaError | None]
DecodedRecord = tuple[bytes | None, bytes | None, tuple[Header, ...], int]
"""Key, value, headers, timestamp in milliseconds."""


def append_to(seen: list[T], item: T) -> Callable[..., None]:
    """Return a callback that puts `item` on a list, whatever it is called with."""

    def note(*_: object) -> None:
        seen.append(item)

    return note


def append_outcome_to(seen: list[Outcome]) -> OnDelivery:
    """Return an `on_delivery` that appends each outcome to a list."""

    def note(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        seen.append((metadata, error))

    return note


def records_of(batch: RecordBatch) -> list[DecodedRecord]:
    """Return the records of a closed batch that is neither done nor compressed."""
    return decode_records(batch.payload, batch.record_count, batch.base_timestamp_ms)


class ManualLoop:
    """As much of a loop as the record path uses. Keeps its callbacks until they are asked for."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.reported: list[dict[str, Any]] = []
        self._soon: list[asyncio.Handle] = []
        self._timers: list[asyncio.TimerHandle] = []

    def get_debug(self) -> bool:
        return False

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self.as_loop())

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self.as_loop(), context)
        self._soon.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self.as_loop(), context)
        self._timers.append(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if handle in self._timers:
            self._timers.remove(handle)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.reported.append(context)

    def as_loop(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)

    @property
    def timers(self) -> list[float]:
        """When the timers that are set go off, the earliest first."""
        return sorted(handle.when() for handle in self._timers)

    def run_once(self) -> None:
        """Run what was asked for until now."""
        soon, self._soon = self._soon, []
        for handle in soon:
            if not handle.cancelled():
                handle._run()

    def run_until_quiet(self) -> None:
        """Run turns until nothing is ready any more."""
        while self._soon:
            self.run_once()

    def turn(self) -> None:
        """Run one turn as a loop does: what is ready, and the timers that are due."""
        due = sorted(
            (handle for handle in self._timers if handle.when() <= self.now),
            key=asyncio.TimerHandle.when,
        )
        for handle in due:
            self._timers.remove(handle)
            self._soon.append(handle)
        self.run_once()

    def advance(self, seconds: float) -> None:
        """Let time pass on a loop that is never held: each timer goes off when its time comes."""
        until = self.now + seconds
        self.run_until_quiet()
        while self._timers and self.timers[0] <= until:
            self.now = max(self.now, self.timers[0])
            self.turn()
            self.run_until_quiet()
        self.now = until

    def hold(self, seconds: float) -> None:
        """Let time pass while nothing runs, as in a debugger."""
        self.now += seconds


class RecordedEvents:
    """What the accumulator tells the sender, written down."""

    def __init__(self) -> None:
        self.turns = 0
        self.closed: list[CorePartitionQueue] = []
        self.grown: list[int] = []

    def schedule_turn(self) -> None:
        self.turns += 1

    def batch_closed(self, queue: CorePartitionQueue, /) -> None:
        self.closed.append(queue)

    def batch_grew(self, queue: CorePartitionQueue, /) -> None:
        assert queue.open is not None
        self.grown.append(queue.open.records_size)


class RecordedTopics:
    """What the accumulator asks and tells the owner of the topics. The sticky partition goes round.

    Attributes:
        needed: The records that wait for metadata, as the accumulator announced them.
        refused: Names that are no topic's.
        batch_limit: Of the queues made from now on; 0 leaves it to the accumulator.
    """

    def __init__(self, queue_type: type[CorePartitionQueue] = CorePartitionQueue) -> None:
        self.needed: list[WaitingRecords] = []
        self.refused: set[str] = set()
        self.batch_limit = 0
        self._queue_type = queue_type
        self._queues: dict[tuple[str, int], CorePartitionQueue] = {}
        self._sticky: Iterator[int] = count()

    def new_topic(self, name: str, /) -> CoreTopic:
        if name in self.refused:
            raise InvalidTopicError(f"{name!r} is no topic name")
        return CoreTopic(name)

    def new_queue(self, topic: CoreTopic, partition: int, /) -> CorePartitionQueue:
        made = self._queues.get((topic.name, partition))
        if made is None:
            made = self._queues[topic.name, partition] = self._queue_type(topic, partition)
            made.batch_limit = self.batch_limit
        return made

    def forget(self) -> None:
        """Keep nothing of topics that the accumulator forgot."""
        self.needed.clear()
        self._queues.clear()

    def metadata_needed(self, waiting: WaitingRecords, /) -> None:
        self.needed.append(waiting)

    def next_sticky_partition(self, topic: CoreTopic, /) -> int:
        return next(self._sticky) % topic.partition_count

    def routing_error(self, topic: CoreTopic, error: BaseException, /) -> KafkaError:
        return error if isinstance(error, KafkaError) else KafkaError(repr(error))


class Core:
    """An accumulator with everything around it.

    Args:
        loop: Of the deliveries; a `ManualLoop` when None.
        partitions: How many the topic `clicks` has; with 0 it stays unknown.
        batch_size: As the option.
        max_request_size: As the option.
        buffer_memory: As the option.
        partitioner: As the option.
        ignore_keys: As the option `partitioner_ignore_keys`.
        queue_type: What stands for a partition.
        events: What hears of batches; written down when None.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        partitions: int = 1,
        batch_size: int = NO_LIMIT,
        max_request_size: int = NO_LIMIT,
        buffer_memory: int = NO_LIMIT,
        partitioner: Partitioner | None = None,
        ignore_keys: bool = False,
        queue_type: type[CorePartitionQueue] = CorePartitionQueue,
        events: AccumulatorEvents | None = None,
    ) -> None:
        self.now = 100.0
        self.manual = ManualLoop()
        self.loop = loop or self.manual.as_loop()
        self.events = RecordedEvents()
        self.topics = RecordedTopics(queue_type)
        self.accumulator = RecordAccumulator(
            loop=self.loop,
            events=events or self.events,
            topic_events=self.topics,
            clock=Clock(lambda: self.now, False),
            batch_size=batch_size,
            max_request_size=max_request_size,
            buffer_memory=buffer_memory,
            partitioner=partitioner,
            ignore_keys=ignore_keys,
        )
        if partitions:
            self.know(TOPIC, partitions)

    def know(self, name: str, partitions: int) -> None:
        """Make a topic known that no record was sent to yet."""
        self.accumulator.topic(name)
        self.set_partitions(name, partitions)

    def set_partitions(
        self, name: str, partitions: int, available: tuple[int, ...] | None = None
    ) -> None:
        """Say how many partitions a topic has, and which have a leader: all of them if None."""
        has_leader = tuple(range(partitions)) if available is None else available
        self.topic(name).set_partitions(partitions, has_leader)

    def topic(self, name: str = TOPIC) -> CoreTopic:
        return self.accumulator.topics_by_name[name]

    def queue(self, partition: int = 0, name: str = TOPIC) -> CorePartitionQueue:
        return self.topics.new_queue(self.topic(name), partition)

    def offer(
        self,
        value: bytes | None = b"v",
        *,
        topic: str = TOPIC,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[Header] | None = None,
        timestamp_ms: int | None = 0,
        on_delivery: OnDelivery | None = None,
    ) -> Delivery | None:
        """Offer one record; None when the buffer is full."""
        return self.accumulator.accept_record(
            topic,
            key,
            value,
            partition,
            headers,
            timestamp_ms,
            None if on_delivery is None else (on_delivery, copy_context()),
        )

    def put(
        self,
        value: bytes | None = b"v",
        *,
        topic: str = TOPIC,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[Header] | None = None,
        timestamp_ms: int | None = 0,
        on_delivery: OnDelivery | None = None,
    ) -> Delivery:
        """Have one record accepted."""
        delivery = self.offer(
            value,
            topic=topic,
            key=key,
            partition=partition,
            headers=headers,
            timestamp_ms=timestamp_ms,
            on_delivery=on_delivery,
        )
        assert delivery is not None
        return delivery

    def take(self, partition: int = 0, name: str = TOPIC) -> RecordBatch:
        """Take the oldest batch of a partition, full or not."""
        queue = self.queue(partition, name)
        if not queue.closed:
            queue.close_open()
        return queue.closed.popleft()

    def count(self, partition: int = 0, name: str = TOPIC) -> int:
        """Return how many records wait for a partition."""
        queue = self.queue(partition, name)
        waiting = [*queue.closed, *([] if queue.open is None else [queue.open])]
        return sum(batch.record_count for batch in waiting)

    def values(self, partition: int = 0, name: str = TOPIC) -> list[bytes | None]:
        """Return the values that wait for a partition, in order; closes its open batch."""
        queue = self.queue(partition, name)
        queue.close_open()
        return [value for batch in queue.closed for _, value, _, _ in records_of(batch)]

    def route(self, partitions: int = 1, *, name: str = TOPIC, limit: int = NO_LIMIT) -> None:
        """Make a topic known, and give the records that wait for that their partitions."""
        self.set_partitions(name, partitions)
        _, failed = self.accumulator.route(self.topic(name), limit)
        assert failed == []
