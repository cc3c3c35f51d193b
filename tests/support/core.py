"""The record path without a producer: an accumulator, and stand-ins for the loop and the sender.

Records reach a batch only through an accumulator. `Core` has one whose limits are out of the way
unless a test sets them, and whose topic `clicks` is known; `RecordedEvents` stands for the sender
and `ManualLoop` for a loop that runs its callbacks when told to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context
from itertools import count
from typing import Any, TypeVar, TypeVarTuple, cast

from aioproducer._native.accumulator import PartitionQueue, RecordAccumulator, TopicQueue
from aioproducer._native.record_batch import Delivery, RecordBatch
from aioproducer.errors import InvalidTopicError, KafkaError
from aioproducer.hooks import OnDelivery, Partitioner
from aioproducer.records import Headers, RecordMetadata

TOPIC = "clicks"
NO_LIMIT = 1 << 28

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Outcome = tuple[RecordMetadata | None, KafkaError | None]


def noting(told: list[T], item: T) -> Callable[..., None]:
    """Return a callback that puts `item` on a list, whatever it is called with."""

    def note(*_: object) -> None:
        told.append(item)

    return note


def noting_outcome(told: list[Outcome]) -> OnDelivery:
    """Return an `on_delivery` that puts what it is told on a list."""

    def note(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        told.append((metadata, error))

    return note


class ManualLoop:
    """As much of a loop as deliveries use. Keeps what is given to `call_soon` until `run_once`."""

    def __init__(self) -> None:
        self.reported: list[dict[str, Any]] = []
        self._soon: list[asyncio.Handle] = []

    def get_debug(self) -> bool:
        return False

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self.as_loop(), context)
        self._soon.append(handle)
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.reported.append(context)

    def as_loop(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)

    def run_once(self) -> None:
        """Run what was asked for until now."""
        soon, self._soon = self._soon, []
        for handle in soon:
            handle._run()


class RecordedEvents:
    """The accumulator's events, written down. The sticky partition goes round."""

    def __init__(self, queue_type: type[PartitionQueue] = PartitionQueue) -> None:
        self._queue_type = queue_type
        self._queues: dict[tuple[str, int], PartitionQueue] = {}
        self.turns = 0
        self.closed: list[PartitionQueue] = []
        self.grown: list[int] = []
        self.needed: list[tuple[TopicQueue, RecordBatch]] = []
        self.refused_topics: set[str] = set()
        self._sticky: Iterator[int] = count()

    def schedule_turn(self) -> None:
        self.turns += 1

    def batch_closed(self, queue: PartitionQueue, /) -> None:
        self.closed.append(queue)

    def batch_grew(self, queue: PartitionQueue, /) -> None:
        assert queue.open is not None
        self.grown.append(queue.open.records_size)

    def check_topic_name(self, name: str, /) -> None:
        if name in self.refused_topics:
            raise InvalidTopicError(f"{name!r} is no topic name")

    def topic_needed(self, topic: TopicQueue, room: RecordBatch, /) -> None:
        self.needed.append((topic, room))

    def new_queue(self, topic: TopicQueue, partition: int, /) -> PartitionQueue:
        made = self._queues.get((topic.name, partition))
        if made is None:
            made = self._queues[topic.name, partition] = self._queue_type(topic, partition)
        return made

    def next_sticky_partition(self, topic: TopicQueue, /) -> int:
        return next(self._sticky) % topic.partition_count

    def routing_error(self, topic: TopicQueue, error: Exception, /) -> KafkaError:
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
        queue_type: type[PartitionQueue] = PartitionQueue,
    ) -> None:
        self.now = 100.0
        self.manual = ManualLoop()
        self.loop = loop or self.manual.as_loop()
        self.events = RecordedEvents(queue_type)
        self.accumulator = RecordAccumulator(
            loop=self.loop,
            events=self.events,
            clock=lambda: self.now,
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
        topic = self.topic(name) if name in self.accumulator.topic_queues else None
        if topic is None:
            held = self.accumulator.accept_record(name, None, None, None, None, 0, None)
            assert held is not None
            topic = self.topic(name)
            (room,) = self.accumulator.rooms(topic)
            self.accumulator.fail_room(topic, room, KafkaError("made only to know the topic"))
            self.events.needed.clear()
        self.set_partitions(name, partitions)

    def set_partitions(
        self, name: str, partitions: int, available: tuple[int, ...] | None = None
    ) -> None:
        """Say how many partitions a topic has, and which have a leader: all of them if None."""
        has_leader = tuple(range(partitions)) if available is None else available
        self.topic(name).set_partitions(partitions, has_leader)

    def topic(self, name: str = TOPIC) -> TopicQueue:
        return self.accumulator.topic_queues[name]

    def queue(self, partition: int = 0, name: str = TOPIC) -> PartitionQueue:
        return self.events.new_queue(self.topic(name), partition)

    def offer(
        self,
        value: bytes | None = b"v",
        *,
        topic: str = TOPIC,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = 0,
        on_delivery: OnDelivery | None = None,
    ) -> Delivery | None:
        """Offer one record; None when there is no room."""
        return self.accumulator.accept_record(
            topic, key, value, partition, headers, timestamp_ms, on_delivery
        )

    def put(
        self,
        value: bytes | None = b"v",
        *,
        topic: str = TOPIC,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = 0,
        on_delivery: OnDelivery | None = None,
    ) -> Delivery:
        """Have one record accepted."""
        delivery = self.accumulator.accept_record(
            topic, key, value, partition, headers, timestamp_ms, on_delivery
        )
        assert delivery is not None
        return delivery

    def take(self, partition: int = 0, name: str = TOPIC) -> RecordBatch:
        """Take the oldest batch of a partition, full or not."""
        queue = self.queue(partition, name)
        if not queue.closed:
            queue.close_open()
        return queue.closed.popleft()

    def values(self, partition: int = 0, name: str = TOPIC) -> list[bytes | None]:
        """Return the values that wait for a partition, in order."""
        queue = self.queue(partition, name)
        waiting = [*queue.closed, *([] if queue.open is None else [queue.open])]
        return [value for batch in waiting for _, value, _, _ in batch.records()]
