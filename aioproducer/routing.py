"""Where records go: topics that become known, their partitions and leaders.

Part of the sender (sender.py owns it). Turns metadata snapshots into lanes, gives the records
that waited for a topic their partition, and fails them when the topic does not appear within
`max_block_ms`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Callable, Iterable

import async_timeout

from aioproducer._native.accumulator import RecordAccumulator, TopicQueue
from aioproducer._native.record_batch import RecordBatch
from aioproducer.cluster import Cluster
from aioproducer.config import ProducerConfig
from aioproducer.deadlines import Deadlines
from aioproducer.errors import (
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aioproducer.lane import PartitionLane
from aioproducer.metadata import NO_LEADER, PartitionLeader, TopicMetadata
from aioproducer.partitioner import StickyChoice

__all__ = ["TopicRouter"]

logger = logging.getLogger(__name__)

_NOBODY = PartitionLeader(NO_LEADER, -1)
_WEIGHING_PAUSE = 20e-6
"""Seconds, for each partition of a topic, between two looks at how much waits for each: so that
looking takes a small part of the time however many there are."""

_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}\Z")


class TopicRouter:
    """The topics of one producer.

    Args:
        config: The producer's options.
        cluster: Asked for the metadata of topics.
        loop: The producer's loop.
        is_stalled: Whether a broker takes nothing although something waits for it.
        lane_moved: Called for each lane that got a leader, or another one.
        records_failed: Called with the error of records that got no partition, and their number.
        room_ended: Called with a waiting room whose records were routed or failed, and with the
            topic when they were routed.
    """

    def __init__(
        self,
        config: ProducerConfig,
        cluster: Cluster,
        loop: asyncio.AbstractEventLoop,
        *,
        is_stalled: Callable[[int], bool],
        lane_moved: Callable[[PartitionLane, PartitionLeader], None],
        records_failed: Callable[[KafkaError, int], None],
        room_ended: Callable[[RecordBatch, TopicQueue], None],
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._loop = loop
        self._is_stalled = is_stalled
        self._lane_moved = lane_moved
        self._records_failed = records_failed
        self._room_ended = room_ended
        self._rooms: Deadlines[tuple[TopicQueue, RecordBatch]] = Deadlines()
        self._rooms_timer: asyncio.TimerHandle | None = None
        self._used_at: dict[str, float] = {}
        self._idle: set[str] = set()
        self._choices: dict[str, tuple[StickyChoice, float]] = {}
        self._topic_ids: dict[str, bytes] = {}
        self._watchers: dict[str, list[asyncio.Future[None]]] = {}
        self._idle_timer: asyncio.TimerHandle | None = None

    def start(self, accumulator: RecordAccumulator) -> None:
        """Route the records of `accumulator` from now on."""
        self._accumulator = accumulator
        self._schedule_idle_check()

    def close(self) -> None:
        """End the timers."""
        for timer in (self._rooms_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()

    # ---- asked by the accumulator

    def check_topic_name(self, name: str) -> None:
        """Refuse what Kafka takes for no topic name (org.apache.kafka.common.internals.Topic)."""
        if not _TOPIC_NAME.match(name) or name in (".", ".."):
            raise InvalidTopicError(
                f"{name!r} is no topic name",
                hint="A topic name is 1 to 249 letters, digits, '.', '_' and '-', not '.' or '..'.",
            )

    def topic_needed(self, topic: TopicQueue, room: RecordBatch) -> None:
        """Records of `room` wait until `topic` is known, or until `max_block_ms` are over."""
        self._used_at[topic.name] = self._loop.time()
        self._cluster.need_topic(topic.name)
        self._rooms.add((topic, room), room.created_at + self._config.max_block_ms / 1000)
        self._schedule_rooms()

    def next_sticky_partition(self, topic: TopicQueue) -> int:
        """The partition for the next records without key (KIP-794)."""
        now = self._loop.time()
        choice, weigh_again_at = self._choices.get(topic.name, (None, 0.0))
        if choice is None or now >= weigh_again_at:
            choice = self._weigh(topic)
            self._choices[topic.name] = choice, now + topic.partition_count * _WEIGHING_PAUSE
        return choice.draw(random.random)

    def new_lane(self, topic: TopicQueue, partition: int) -> PartitionLane:
        """The lane of a partition that gets its first record."""
        lane = PartitionLane(topic, partition)
        known = self._cluster.metadata.topics.get(topic.name)
        if known is not None and partition < len(known.leaders):
            lane.led_by(known.leaders[partition])
        return lane

    def routing_error(self, topic: TopicQueue, error: Exception) -> KafkaError:
        """The error of a record that could not be given a partition."""
        if isinstance(error, KafkaError):
            return error
        # Not its text, which may show the key.
        wrapped = KafkaError(
            f"The partitioner raised {type(error).__name__} for topic {topic.name!r}",
            hint="The cause of this error tells more.",
        )
        wrapped.__cause__ = error
        return wrapped

    # ---- told by the cluster

    def metadata_changed(self, names: Iterable[str]) -> None:
        """Apply the newest snapshot to the topics it brought news of."""
        for name in names:
            topic = self._accumulator.topic_queues.get(name)
            known = self._cluster.metadata.topics.get(name)
            if known is None or not known.leaders:
                continue
            if topic is not None:
                self._apply(topic, known)
            for seen in self._watchers.get(name, ()):
                if not seen.done():
                    seen.set_result(None)

    def topic_failed(self, topic: str, error: KafkaError) -> None:
        """Fail the records that wait for a topic that will not appear."""
        for seen in self._watchers.get(topic, ()):
            if not seen.done():
                seen.set_exception(_about_topic(error, topic))
        queue = self._accumulator.topic_queues.get(topic)
        if queue is None:
            return
        self.fail_rooms(queue, _about_topic(error, topic))
        # Whoever was admitted to the room that this made waits in the same queue, and asks again.
        if not queue.is_known and not queue.unrouted_count:
            self._forget_topic(topic)

    def fail_rooms(self, topic: TopicQueue, error: KafkaError) -> None:
        """Fail every record that waits for a topic."""
        for room in self._accumulator.rooms(topic):
            self._fail_room(topic, room, error)

    def leader_changed(self, name: str) -> None:
        """Apply a leader that a broker named in a Produce answer (KIP-951)."""
        self.metadata_changed([name])

    async def partitions_for(self, name: str) -> tuple[int, ...]:
        """The ids of a topic's partitions; waits for them up to `max_block_ms`.

        Raises:
            UnknownTopicOrPartitionError, KafkaTimeoutError: They did not become known.
            InvalidTopicError, TopicAuthorizationFailedError: They never will.
        """
        self.check_topic_name(name)
        known = self._cluster.metadata.topics.get(name)
        if known is None or not known.leaders:
            seen: asyncio.Future[None] = self._loop.create_future()
            self._watchers.setdefault(name, []).append(seen)
            self._cluster.need_topic(name)
            try:
                async with async_timeout.timeout(self._config.max_block_ms / 1000):
                    await seen
            except TimeoutError:
                error = self._unknown_topic_error(name)
                self._give_up_on(name)
                raise error from None
            finally:
                self._watchers[name].remove(seen)
            known = self._cluster.metadata.topics[name]
        return tuple(range(len(known.leaders)))

    # ---- told by the sender

    def topic_used(self, name: str, now: float) -> None:
        """A topic got a record."""
        if name in self._idle:
            self._idle.remove(name)
            self._cluster.need_topic(name)
        self._used_at[name] = now

    # ---- inside

    def _weigh(self, topic: TopicQueue) -> StickyChoice:
        available = topic.available
        known = self._cluster.metadata.topics.get(topic.name)
        if self._config.partitioner_availability_timeout_ms and known is not None:
            flowing = tuple(p for p in available if not self._is_stalled(known.leaders[p].node_id))
            available = flowing or available
        sizes: list[int] = []
        if self._config.partitioner_adaptive_partitioning_enable:
            lanes: list[PartitionLane] = topic.queues
            sizes = [len(lane.closed) for lane in lanes if lane.partition < topic.partition_count]
        return StickyChoice(sizes, available, topic.partition_count)

    def _apply(self, topic: TopicQueue, known: TopicMetadata) -> None:
        lanes: list[PartitionLane] = topic.queues
        if self._topic_ids.get(topic.name, known.topic_id) != known.topic_id:
            for lane in lanes:
                lane.topic_made_anew()
        self._topic_ids[topic.name] = known.topic_id
        available = tuple(
            partition
            for partition, leader in enumerate(known.leaders)
            if leader.node_id != NO_LEADER
        )
        rooms = self._accumulator.rooms(topic)
        topic.set_partitions(len(known.leaders), available)
        self._choices.pop(topic.name, None)
        for lane in lanes:
            leader = _NOBODY
            # Fewer than before: the topic was deleted and made again. What the other lanes still
            # hold waits until they are partitions again, or runs into its delivery timeout.
            if lane.partition < len(known.leaders):
                leader = known.leaders[lane.partition]
            if lane.leader != leader:
                before = lane.leader
                lane.led_by(leader)
                self._lane_moved(lane, before)
        if rooms:
            failed = self._route(topic)
            for room in rooms:
                self._room_ended(room, topic)
            for batch in failed:
                assert batch.error is not None
                self._records_failed(batch.error, 1)
                batch.wake(False)

    def _route(self, topic: TopicQueue) -> list[RecordBatch]:
        # With acks=0 a batch that is full is done at once. Those who wait for its room must not
        # be admitted before the last held record stands in its lane: they called later.
        has_blocked = self._accumulator.has_blocked
        self._accumulator.has_blocked = False
        try:
            return self._accumulator.route(topic)
        finally:
            self._accumulator.has_blocked = has_blocked

    def _schedule_rooms(self) -> None:
        at = self._rooms.next_at
        if at is not None and self._rooms_timer is None:
            self._rooms_timer = self._loop.call_at(at, self._expire_rooms)

    def _expire_rooms(self) -> None:
        self._rooms_timer = None
        for topic, room in self._rooms.pop_due(self._loop.time()):
            if room in self._accumulator.rooms(topic):
                self._fail_room(topic, room, self._unknown_topic_error(topic.name))
                self._give_up_on(topic.name)
        self._schedule_rooms()

    def _give_up_on(self, name: str) -> None:
        """Ask no more for a topic that did not appear, unless records still wait for it."""
        topic = self._accumulator.topic_queues.get(name)
        if topic is None:
            self._cluster.forget_topics([name])
        elif not topic.is_known and not topic.unrouted_count:
            self._forget_topic(name)
            self._cluster.forget_topics([name])

    def _forget_topic(self, name: str) -> None:
        self._accumulator.forget_topic(name)
        self._used_at.pop(name, None)
        self._topic_ids.pop(name, None)

    def _fail_room(self, topic: TopicQueue, room: RecordBatch, error: KafkaError) -> None:
        held = topic.unrouted_count
        self._accumulator.fail_room(topic, room, error)
        self._records_failed(error, held - topic.unrouted_count)
        room.wake(False)
        self._room_ended(room, topic)

    def _unknown_topic_error(self, name: str) -> KafkaError:
        waited = self._config.max_block_ms / 1000
        said, connect_error = self._cluster.explain_timeout(name, NO_LEADER)
        if isinstance(said, UnknownTopicOrPartitionError):
            return UnknownTopicOrPartitionError(
                f"Topic {name!r} does not exist, said the broker for {waited:g} s (max_block_ms)",
                broker=said.broker,
                hint=(
                    "Create it, allow auto.create.topics.enable on the broker"
                    + (
                        ""
                        if self._config.allow_auto_create_topics
                        else " and allow_auto_create_topics here"
                    )
                    + ", or check that this client may Describe it."
                ),
            )
        return KafkaTimeoutError(
            waited=waited,
            waiting_for=f"the partitions of topic {name!r} (max_block_ms)",
            last_broker_error=said,
            last_connect_error=connect_error,
        )

    def _schedule_idle_check(self) -> None:
        idle = self._config.metadata_max_idle_ms / 1000
        self._idle_timer = self._loop.call_later(idle / 2, self._forget_idle, idle)

    def _forget_idle(self, idle: float) -> None:
        # Only the metadata goes. The lanes stay: they know the sequence numbers in use.
        now = self._loop.time()
        names = [
            name
            for name, topic in self._accumulator.topic_queues.items()
            if now - self._used_at.get(name, now) >= idle
            and not topic.unrouted_count
            and all(lane.is_idle for lane in topic.queues)
        ]
        self._idle.update(names)
        self._cluster.forget_topics(names)
        self._schedule_idle_check()


def _about_topic(error: KafkaError, name: str) -> KafkaError:
    if isinstance(error, TopicAuthorizationFailedError):
        return TopicAuthorizationFailedError(
            f"This client may not see topic {name!r}", broker=error.broker
        )
    return InvalidTopicError(f"The broker refused the topic name {name!r}", broker=error.broker)
