"""The topics in use, and the records that wait for metadata. Owns both; nobody keeps a copy.

Says which topics to ask brokers about, takes the metadata, and makes the partition queues.

    a topic is   when                                    is asked about
    unknown      no partitions are known yet             at once; then with the backoff, while
                                                         anybody waits
    known        every partition's leader is a broker    with every full refresh
    troubled     a broker answered with an error, or     with the backoff, and with every full
                 some partition has no leader            refresh

A troubled topic that was known keeps its leaders, and its records go on to them: one broker that
does not know it says nothing of the others. An unknown one that is denied or has an invalid name
fails its waiting records at once; the next ones wait for the backoff, so that a loop of sends does
not become a loop of requests.

Invariants
* Records wait `max_block_ms` at most for metadata; those that came together end together.
* A topic that nobody uses is forgotten with its queues: an unknown one after seconds, a known one
  after `metadata_max_idle_ms`. The queues have sequences in use, so the producer then goes on under
  the next epoch.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, cast

import async_timeout

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.queues import CoreTopic, WaitingRecords
from aioproducer._native.record_batch import RecordBatch
from aioproducer.background import Background, Timer
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    broker_error,
)
from aioproducer.errors.base import seconds
from aioproducer.network.backoff import Backoff
from aioproducer.network.cluster import Cluster
from aioproducer.network.metadata import NO_LEADER, NOBODY, PartitionLeader, newer_leaders
from aioproducer.protocol.metadata import MetadataResponseTopic
from aioproducer.protocol.schema import NO_TOPIC_ID
from aioproducer.records import TOPIC_NAMES, is_topic_name
from aioproducer.sending.deadlines import Deadlines
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.partitioner import StickyChoice

if TYPE_CHECKING:
    from aioproducer._native.queues import WaitingRecord

__all__ = ["TopicInUse", "Topics", "TopicsListener", "check_topic_name", "routing_error"]

logger = logging.getLogger(__name__)

_WEIGHING_PAUSE: Final = 20e-6
"""Seconds, for each partition of a topic, between two looks at its queues: however many there are,
looking takes a small part of the time."""

_ROUTED_AT_ONCE: Final = 4_000
"""Waiting records that get their partitions in one turn of the loop: some milliseconds."""

_UNKNOWN_FOR: Final = 3.0
"""Seconds for which an unused unknown topic is kept, for its backoff: longer than any."""

_FORGET_EVERY: Final = 1.0
"""Seconds between two looks for topics that nobody uses."""

_IDLE_STEPS: Final = 4
"""How often known topics are forgotten within `metadata_max_idle_ms`. Many at once, since each time
costs every partition a new epoch."""


class TopicInUse(CoreTopic):
    """One topic in use.

    Attributes:
        topic_id: Its id; zero while it has none (before Kafka 2.8).
        leaders: The leader of each partition, by partition.
        error: The error in the last metadata response; None if that had its partitions.
        failures: How many responses in a row left a leader unknown.
        responded_at: When the last response came.
        ask_at: When to ask about it next, beside the full refreshes.
        used_at: When it last got a record.
        watchers: Callers who wait for its partitions.
        batch_limit: Bytes that its batches may have, learnt from refusals; 0 while there was none.
        refused_size: The size of the smallest batch that it refused.
        probe_limit_at: When to try larger ones again.
    """

    __slots__ = (
        "ask_at",
        "choice",
        "error",
        "failures",
        "leaders",
        "probe_limit_at",
        "refused_size",
        "responded_at",
        "watchers",
        "weigh_again_at",
    )

    def __init__(self, name: str, now: float) -> None:
        super().__init__(name)
        self.leaders: list[PartitionLeader] = []
        self.error: KafkaError | None = None
        self.failures = 0
        self.responded_at = -math.inf
        self.ask_at = now
        self.used_at = now
        self.watchers: list[asyncio.Future[None]] = []
        self.refused_size = 0
        self.probe_limit_at = 0.0
        self.choice: StickyChoice | None = None
        self.weigh_again_at = 0.0

    @property
    def partition_queues(self) -> list[PartitionQueue]:
        """The queues of the partitions that got a record."""
        return cast("list[PartitionQueue]", self.queues)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody needs its metadata."""
        return self.is_known or bool(self.waiting) or bool(self.watchers)

    @property
    def is_idle(self) -> bool:
        """Whether no record or caller of it is left."""
        return (
            not self.waiting and not self.watchers and all(queue.is_idle for queue in self.queues)
        )


class TopicsListener(Protocol):
    """Is notified of what changes in the topics in use."""

    def is_stalled(self, node_id: int) -> bool:
        """Whether a broker takes nothing although something waits for it."""
        ...

    def set_bounds(self, queue: PartitionQueue) -> None:
        """Give a queue the bounds of its topic and of its broker."""

    def leader_changed(self, queue: PartitionQueue, before: PartitionLeader) -> None:
        """A queue has a new leader, or its first."""

    def waiting_failed(self, waiting: WaitingRecords, error: KafkaError) -> None:
        """Records that wait for metadata are about to fail."""

    def record_failed(self, topic: str, error: KafkaError, record: WaitingRecord) -> None:
        """A record got no partition."""

    def waiting_over(self, waiting: WaitingRecords) -> None:
        """Records no longer wait for metadata: they were routed, or failed."""

    @property
    def keeps_sequences(self) -> bool:
        """Whether no partition may begin at sequence 0 again now."""
        ...

    def sequences_forgotten(self, queues: Iterable[PartitionQueue]) -> None:
        """Queues that may have sequences in use are forgotten with their topics."""


class Topics:
    """The topics of one producer.

    Args:
        config: The producer's options.
        cluster: Requests metadata; knows why there is none.
        background: Where timers run.
        listener: Is notified of what changes.
    """

    def __init__(
        self,
        config: ProducerConfig,
        cluster: Cluster,
        background: Background,
        listener: TopicsListener,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._background = background
        self._listener = listener
        self._retry_backoff = Backoff.of_retries(config)
        self._asking: Deadlines[TopicInUse] = Deadlines()
        self._giving_up: Deadlines[WaitingRecords] = Deadlines()
        self._giving_up_timer = Timer(background, self._give_up_waiting)
        self._unused: Deadlines[TopicInUse] = Deadlines()
        self._unused_timer = Timer(background, self.forget_unused)

    def serve(self, accumulator: RecordAccumulator) -> None:
        """Route the records of `accumulator` from now on."""
        self._accumulator = accumulator

    def close(self) -> None:
        """End the timers."""
        self._giving_up_timer.cancel()
        self._unused_timer.cancel()

    @property
    def by_name(self) -> Mapping[str, TopicInUse]:
        """All topics in use."""
        return cast("Mapping[str, TopicInUse]", self._accumulator.topics_by_name)

    # ---- called by the accumulator

    def new_topic(self, name: str) -> TopicInUse:
        """Make a topic that gets its first record.

        Raises:
            InvalidTopicError: It is no name of a topic.
        """
        check_topic_name(name)
        topic = TopicInUse(name, self._background.time())
        self._forget_at(topic, topic.used_at + _UNKNOWN_FOR)
        return topic

    def metadata_needed(self, waiting: WaitingRecords) -> None:
        """Let records wait until their topic is known, or until `max_block_ms` is over."""
        topic = cast("TopicInUse", waiting.topic)
        topic.used_at = self._background.time()
        if not topic.is_known:
            self._ask(topic, topic.ask_at)
        at = waiting.batch.created_at + self._config.max_block_ms / 1000
        self._giving_up.add(waiting, at)
        self._giving_up_timer.set_by(at)

    def next_sticky_partition(self, queue: CoreTopic) -> int:
        """The partition for the next records without key (KIP-794)."""
        topic = cast("TopicInUse", queue)
        now = self._background.time()
        if topic.choice is None or now >= topic.weigh_again_at:
            topic.choice = self._weigh(topic)
            topic.weigh_again_at = now + topic.partition_count * _WEIGHING_PAUSE
        return topic.choice.draw(random.random)

    def new_queue(self, topic: CoreTopic, partition: int) -> PartitionQueue:
        """Make the queue of a partition that gets its first record."""
        assert isinstance(topic, TopicInUse)
        queue = PartitionQueue(topic, partition)
        if partition < len(topic.leaders):
            queue.led_by(topic.leaders[partition])
        self._listener.set_bounds(queue)
        return queue

    def routing_error(self, topic: CoreTopic, error: BaseException) -> KafkaError:
        """The error of a record that got no partition."""
        return routing_error(topic.name, error)

    # ---- called by the cluster

    def all_names(self) -> list[str]:
        """The topics of a full refresh."""
        return [name for name, topic in self.by_name.items() if topic.is_wanted]

    @property
    def next_due_at(self) -> float:
        """When some topic is to be asked about, beside the full refreshes."""
        at = self._asking.next_at
        return math.inf if at is None else at

    def take_due(self) -> list[str]:
        """Take out the topics to ask about now."""
        now = self._background.time()
        names: list[str] = []
        for topic in self._asking.pop_due(now):
            if topic.ask_at > now:
                # A topic that is known by now is not due, and must not be kept here for ever.
                if topic.ask_at < math.inf:
                    self._asking.add(topic, topic.ask_at)
            elif topic.is_wanted:
                names.append(topic.name)
        return names

    def metadata_missed(self, asked: Iterable[str]) -> None:
        """No broker answered: the topics are due again."""
        for name in asked:
            topic = self.by_name.get(name)
            if topic is not None and topic.ask_at < math.inf:
                self._asking.add(topic, topic.ask_at)

    def take_metadata(
        self, asked: Sequence[str], responses: Iterable[MetadataResponseTopic], broker: str
    ) -> bool:
        """Take a metadata response; what it says of topics not in use is dropped.

        Returns:
            Whether any leader has changed.
        """
        is_news = False
        left_out = set(asked)
        for response in responses:
            # A name may be null, or not asked about (Tansu names all topics).
            topic = None if response.name is None else self.by_name.get(response.name)
            if topic is None:
                continue
            left_out.discard(topic.name)
            if response.error_code:
                self._take_error(topic, broker_error(response.error_code, broker=broker))
            else:
                is_news |= self._take_leaders(topic, response)
        for name in left_out:
            topic = self.by_name.get(name)
            if topic is not None:
                self._ask_again(topic)
        return is_news

    def cluster_changed(self) -> None:
        """Forget all leaders: another cluster has replaced this one."""
        for topic in self.by_name.values():
            if topic.is_known:
                self._apply(topic, [NOBODY] * topic.partition_count, NO_TOPIC_ID)

    def take_leader_hint(self, queue: PartitionQueue, leader: PartitionLeader) -> bool:
        """Take a leader from a Produce response (KIP-951); False if it is not newer."""
        topic = cast("TopicInUse", queue.topic)
        index = queue.partition
        if index >= len(topic.leaders) or leader.epoch <= topic.leaders[index].epoch:
            return False
        had_none = topic.leaders[index].node_id == NO_LEADER
        topic.leaders[index] = leader
        if had_none:
            self._set_partitions(topic)
        self._move(queue, leader)
        return True

    # ---- called by the sender

    def refresh(self, topic: CoreTopic) -> None:
        """Ask about a topic soon: its leaders seem to have changed."""
        known = cast("TopicInUse", topic)
        if known.ask_at == math.inf:
            self._ask(known, self._paced(known))

    def limit_batches(self, topic: TopicInUse, limit: int, *, refused_size: int) -> None:
        """Limit the batches of a topic to `limit` bytes."""
        topic.batch_limit = limit
        topic.refused_size = refused_size
        for queue in topic.partition_queues:
            self._listener.set_bounds(queue)

    def fail_waiting(self, topic: CoreTopic, error: KafkaError) -> None:
        """Fail every record, and every other caller, that waits for a topic's metadata."""
        for waiting in list(topic.waiting):
            self._fail(waiting, error)
        for watcher in cast("TopicInUse", topic).watchers:
            if not watcher.done():
                watcher.set_exception(error.again())

    def withdraw_waiting(
        self, batch: RecordBatch, late: Iterable[tuple[int, KafkaError]]
    ) -> list[RecordBatch]:
        """Fail some of the records that came together and wait for metadata.

        Args:
            batch: Where their deliveries look for an outcome.
            late: The index of each, and its error.

        Returns:
            A failed batch for each, whose waiters are to be woken.
        """
        topic = self.by_name[batch.topic]
        waiting = next(waiting for waiting in topic.waiting if waiting.batch is batch)
        failed: list[RecordBatch] = []
        for index, error in late:
            alone = RecordBatch(batch.topic, -1, batch.loop, batch.created_at)
            alone.fail(error)
            record = self._accumulator.withdraw_waiting(waiting, index, alone)
            self._listener.record_failed(topic.name, error, record)
            failed.append(alone)
        if not waiting.count:
            # Each of its records was reported on its own, so there is nothing to report.
            self._end(waiting, KafkaTimeoutError())
        return failed

    async def partitions_for(self, name: str) -> tuple[int, ...]:
        """The ids of a topic's partitions; waits for them up to `max_block_ms`.

        Raises:
            UnknownTopicOrPartitionError, KafkaTimeoutError: They did not become known.
            InvalidTopicError, TopicAuthorizationFailedError: They never will.
        """
        topic = cast("TopicInUse", self._accumulator.topic(name))
        topic.used_at = self._background.time()
        if not topic.is_known:
            seen: asyncio.Future[None] = self._background.create_future()
            topic.watchers.append(seen)
            self._ask(topic, topic.ask_at)
            asked_at = topic.used_at
            due_at = asked_at + self._config.max_block_ms / 1000
            try:
                async with async_timeout.timeout_at(due_at):
                    await seen
            except TimeoutError:
                await self._background.catch_up(due_at)
                if not topic.is_known:
                    raise self._unknown_topic_error(topic, asked_at) from None
            finally:
                topic.watchers.remove(seen)
        return tuple(range(topic.partition_count))

    def not_yet_known(self, name: str, waited: float, bound: str) -> KafkaError:
        """Why a record waits for a topic's metadata, for a caller who waits no longer for it."""
        topic = self.by_name.get(name) or TopicInUse(name, self._background.time())
        return self._not_known(topic, waited, bound)

    # ---- asking about topics

    def _ask(self, topic: TopicInUse, at: float) -> None:
        topic.ask_at = at
        self._asking.add(topic, at)
        self._cluster.topic_due()

    def _ask_again(self, topic: TopicInUse) -> None:
        """Ask again, after a longer pause: the last response left a leader unknown."""
        topic.failures += 1
        topic.responded_at = self._background.time()
        topic.ask_at = self._paced(topic)
        if topic.is_wanted:
            self._ask(topic, topic.ask_at)

    def _paced(self, topic: TopicInUse) -> float:
        """When the topic may be asked about again: its backoff after the last response."""
        pause = self._retry_backoff.after(max(topic.failures, 1))
        return max(self._background.time(), topic.responded_at + pause)

    # ---- what brokers say

    def _take_error(self, topic: TopicInUse, error: KafkaError) -> None:
        is_final = isinstance(error, (InvalidTopicError, TopicAuthorizationFailedError))
        if topic.is_known and type(topic.error) is not type(error):
            logger.warning(
                "Brokers name no leaders of topic %s (%s): records go on to those known; it is"
                " asked about again",
                topic.name,
                error.what().rstrip(". "),
            )
        topic.error = error
        self._ask_again(topic)
        if is_final and not topic.is_known:
            about_topic = _about_topic(error, topic.name)
            for seen in topic.watchers:
                if not seen.done():
                    seen.set_exception(about_topic.again())
            self.fail_waiting(topic, about_topic)

    def _take_leaders(self, topic: TopicInUse, response: MetadataResponseTopic) -> bool:
        if topic.error is not None and topic.is_known:
            logger.info("Brokers name the leaders of topic %s again", topic.name)
        topic.error = None
        leaders = newer_leaders(topic.leaders, topic.topic_id, response)
        if not leaders:
            self._ask_again(topic)
            return False
        is_news = leaders != topic.leaders
        self._apply(topic, leaders, response.topic_id)
        topic.responded_at = self._background.time()
        if all(self._cluster.is_broker(leader.node_id) for leader in leaders):
            topic.failures = 0
            topic.ask_at = math.inf
        else:
            # With the backoff: some leader is not among the brokers, and may stay so for long.
            self._ask_again(topic)
        return is_news

    def _apply(self, topic: TopicInUse, leaders: list[PartitionLeader], topic_id: bytes) -> None:
        queues = topic.partition_queues
        was_known = topic.is_known
        if was_known and topic.topic_id != topic_id:
            for queue in queues:
                queue.topic_recreated()
            self.limit_batches(topic, 0, refused_size=0)
        topic.topic_id = topic_id
        topic.leaders = leaders
        self._set_partitions(topic)
        for queue in queues:
            # A topic may be recreated with fewer partitions. The batches of the others wait until
            # those exist again, or until their delivery timeout.
            leader = leaders[queue.partition] if queue.partition < len(leaders) else NOBODY
            self._move(queue, leader)
        for seen in topic.watchers:
            if not seen.done():
                seen.set_result(None)
        if not was_known:
            self._forget_at(topic, self._unused_at(topic))
        if topic.waiting:
            self._route(topic)

    def _set_partitions(self, topic: TopicInUse) -> None:
        available = tuple(
            partition
            for partition, leader in enumerate(topic.leaders)
            if leader.node_id != NO_LEADER
        )
        topic.set_partitions(len(topic.leaders), available)
        topic.choice = None

    def _move(self, queue: PartitionQueue, leader: PartitionLeader) -> None:
        if queue.leader != leader:
            before = queue.leader
            queue.led_by(leader)
            self._listener.set_bounds(queue)
            self._listener.leader_changed(queue, before)

    def _route(self, topic: TopicInUse) -> None:
        # With acks=0 a full batch is done at once and gives its bytes back. Clearing `has_blocked`
        # keeps `admit` from using them before the last waiting record is in its queue: callers who
        # wait for buffer space came later.
        accumulator = self._accumulator
        has_blocked, accumulator.has_blocked = accumulator.has_blocked, False
        try:
            over, failed = accumulator.route(topic, _ROUTED_AT_ONCE)
        finally:
            # True, too, if a partitioner called `send` meanwhile and found no space.
            accumulator.has_blocked = accumulator.has_blocked or has_blocked
        if topic.waiting:
            self._background.call_soon(self._route, topic)
        for batch, record in failed:
            assert batch.error is not None
            self._listener.record_failed(topic.name, batch.error, record)
            batch.wake(False)
        for waiting in over:
            self._listener.waiting_over(waiting)

    # ---- giving up

    def _give_up_waiting(self) -> None:
        for waiting in self._giving_up.pop_due(self._background.time()):
            topic = cast("TopicInUse", waiting.topic)
            if waiting.count and not topic.is_known:
                since = waiting.batch.created_at
                self._fail(waiting, self._unknown_topic_error(topic, since))
        if self._giving_up.next_at is not None:
            self._giving_up_timer.set_by(self._giving_up.next_at)

    def _fail(self, waiting: WaitingRecords, error: KafkaError) -> None:
        self._listener.waiting_failed(waiting, error)
        self._end(waiting, error)

    def _end(self, waiting: WaitingRecords, error: KafkaError) -> None:
        self._accumulator.fail_waiting(waiting, error)
        waiting.batch.wake(False)
        self._listener.waiting_over(waiting)

    def _unknown_topic_error(self, topic: TopicInUse, since: float) -> KafkaError:
        return self._not_known(topic, self._background.time() - since, "max_block_ms")

    def _not_known(self, topic: TopicInUse, waited: float, bound: str) -> KafkaError:
        if isinstance(topic.error, UnknownTopicOrPartitionError):
            return UnknownTopicOrPartitionError(
                f"Topic {topic.name!r} does not exist, said the broker for {seconds(waited)}"
                f" ({bound})",
                broker=topic.error.broker,
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
            waiting_for=f"the partitions of topic {topic.name!r} ({bound})",
            last_broker_error=topic.error,
            last_connect_error=self._cluster.last_connect_error(NO_LEADER),
        )

    # ---- forgetting

    def _forget_at(self, topic: TopicInUse, at: float) -> None:
        self._unused.add(topic, at)
        self._unused_timer.set_by(max(at, self._background.time() + _FORGET_EVERY))

    def _unused_at(self, topic: TopicInUse) -> float:
        """When a topic is to be forgotten, if it is not used again."""
        if not topic.is_known:
            return topic.used_at + _UNKNOWN_FOR
        idle_after = self._config.metadata_max_idle_ms / 1000
        step = idle_after / _IDLE_STEPS
        return math.ceil((topic.used_at + idle_after) / step) * step

    def forget_unused(self) -> None:
        """Forget the topics that nobody has used for long, but where sequences must be kept."""
        now = self._background.time()
        keeps_known = self._listener.keeps_sequences
        forgotten: list[PartitionQueue] = []
        for topic in self._unused.pop_due(now):
            unused_at = self._unused_at(topic)
            if self.by_name.get(topic.name) is not topic:
                continue
            if unused_at <= now and topic.is_known and keeps_known:
                self._unused.add(topic, unused_at)
            elif unused_at <= now and topic.is_idle:
                self._accumulator.forget_topic(topic.name)
                forgotten.extend(topic.partition_queues)
            else:
                self._unused.add(topic, max(unused_at, now + _FORGET_EVERY))
        if forgotten:
            self._listener.sequences_forgotten(forgotten)
        if self._unused.next_at is not None:
            self._unused_timer.set(max(self._unused.next_at, now + _FORGET_EVERY))

    # ---- inside

    def _weigh(self, topic: TopicInUse) -> StickyChoice:
        available = topic.available
        if self._config.partitioner_availability_timeout_ms:
            flowing = tuple(
                partition
                for partition in available
                if not self._listener.is_stalled(topic.leaders[partition].node_id)
            )
            available = flowing or available
        sizes: list[int] = []
        if self._config.partitioner_adaptive_partitioning_enable:
            sizes = [
                len(queue.closed)
                for queue in topic.partition_queues
                if queue.partition < topic.partition_count
            ]
        return StickyChoice(sizes, available, topic.partition_count)


def _about_topic(error: KafkaError, name: str) -> KafkaError:
    if isinstance(error, TopicAuthorizationFailedError):
        return TopicAuthorizationFailedError(
            f"This client may not see topic {name!r}",
            broker=error.broker,
            # A topic that does not exist is refused in the same way to who may not create it.
            hint=f"Grant it Describe and Write on topic {name!r}, and Create if there is no such"
            " topic yet.",
        )
    return InvalidTopicError(
        f"The broker refused the topic name {name!r}",
        broker=error.broker,
        hint="Kafka takes no name that differs from another topic's only in '.' and '_'.",
    )


def check_topic_name(name: str) -> None:
    """Refuse what is no topic name (org.apache.kafka.common.internals.Topic).

    Raises:
        InvalidTopicError: Kafka has no such names.
    """
    if not is_topic_name(name):
        raise InvalidTopicError(
            f"{name!r} is no topic name", hint=f"A topic name is {TOPIC_NAMES}."
        )


def routing_error(topic: str, error: BaseException) -> KafkaError:
    """The error of a record that got no partition, since the partitioner raised `error`."""
    if isinstance(error, KafkaError):
        return error
    # Without its text, which may show the key.
    wrapped = KafkaError(
        f"The partitioner raised {type(error).__name__} for topic {topic!r}",
        hint="The cause of this error says more.",
    )
    wrapped.__cause__ = error
    return wrapped
