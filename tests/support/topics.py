"""The topics in use, with an accumulator and a cluster that the test plays.

`TopicsInUse` plays the sender, which hears of queues that move and of records that fail, and the
cluster, which asks what is due and brings the responses. Time passes when a test says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.queues import WaitingRecords
from aioproducer._native.record_batch import Delivery
from aioproducer.background import Background
from aioproducer.config import ProducerConfig
from aioproducer.errors import KafkaError
from aioproducer.hooks import OnDelivery, Partitioner
from aioproducer.network.cluster import Cluster
from aioproducer.network.metadata import PartitionLeader
from aioproducer.protocol.metadata import MetadataResponsePartition, MetadataResponseTopic
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.topics import TopicInUse, Topics
from tests.support.core import NO_LIMIT, ManualLoop, RecordedEvents

ID = bytes([1] * 16)
OTHER_ID = bytes([2] * 16)
BROKER = "1 at b:9092"


def topic_response(
    *leaders: tuple[int, int], name: str | None = "t", topic_id: bytes = ID, error_code: int = 0
) -> MetadataResponseTopic:
    """Answer for a topic with these leaders and epochs, by partition."""
    partitions = [
        MetadataResponsePartition(0, index, leader, epoch)
        for index, (leader, epoch) in enumerate(leaders)
    ]
    return MetadataResponseTopic(error_code, name, topic_id, False, partitions)


class _Cluster:
    """As much of a cluster as the topics use."""

    def __init__(self) -> None:
        self.brokers = {1, 2}
        self.connect_error: KafkaError | None = None

    def topic_due(self) -> None:
        """Nobody asks by itself here."""

    def is_broker(self, node_id: int) -> bool:
        return node_id in self.brokers

    def last_connect_error(self, node_id: int) -> KafkaError | None:
        return self.connect_error


class TopicsInUse:
    """The topics of one producer, and who is around them.

    Attributes:
        cluster: The brokers that there are; told when some topic is due.
        moved: Topic, partition, and the leaders before and after, of each queue that moved.
        failed: Topic, kind of error and count of records that failed before they had a queue.
        over: Groups of records that no longer wait for metadata.
        forgotten: Topic and partition of queues that went with their topics.
        stalled: Brokers that take nothing.
        broker_limit: Bytes that brokers allow in a batch.
    """

    def __init__(
        self,
        loop: ManualLoop | None = None,
        *,
        partitioner: Partitioner | None = None,
        batch_size: int = 1_000_000,
        **options: Any,
    ) -> None:
        self.loop = loop or ManualLoop()
        self.cluster = _Cluster()
        self.moved: list[tuple[str, int, PartitionLeader, PartitionLeader]] = []
        self.failed: list[tuple[str, str, int]] = []
        self.over: list[WaitingRecords] = []
        self.forgotten: list[tuple[str, int]] = []
        self.stalled: set[int] = set()
        self.broker_limit = batch_size
        self.config = ProducerConfig(bootstrap_servers="b:9092", batch_size=batch_size, **options)
        background = Background(self.loop.as_loop())
        self.topics = Topics(
            self.config,
            cast("Cluster", self.cluster),
            background,
            self,
        )
        self.accumulator = RecordAccumulator(
            loop=self.loop.as_loop(),
            events=RecordedEvents(),
            topic_events=self.topics,
            clock=background.clock,
            batch_size=batch_size,
            max_request_size=NO_LIMIT,
            buffer_memory=NO_LIMIT,
            partitioner=partitioner,
        )
        self.topics.serve(self.accumulator)

    # ---- the caller's part

    def put(
        self,
        name: str = "t",
        value: bytes = b"v",
        *,
        partition: int | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> Delivery:
        """Have one record accepted."""
        delivery = self.accumulator.accept_record(name, None, value, partition, None, 0, None)
        assert delivery is not None
        if on_delivery is not None:
            delivery.add_done_callback(lambda it: on_delivery(None, it.exception()))
        return delivery

    # ---- the cluster's part

    def ask(self) -> list[str]:
        """Take the topics to ask about now."""
        return self.topics.take_due()

    def answer(self, *answers: MetadataResponseTopic, asked: Sequence[str] | None = None) -> bool:
        """Answer about topics; `asked` are by default those of the responses."""
        names = [answer.name or "" for answer in answers] if asked is None else asked
        return self.topics.take_metadata(names, answers, BROKER)

    def know(self, *leaders: tuple[int, int], name: str = "t", topic_id: bytes = ID) -> TopicInUse:
        """Make a topic known that got no record yet."""
        self.accumulator.topic(name)
        self.answer(topic_response(*leaders, name=name, topic_id=topic_id))
        return self.topic(name)

    # ---- the sender's part

    def end_all(self, name: str = "t") -> None:
        """Have every record of a topic be delivered."""
        for queue in self.topic(name).partition_queues:
            queue.close_open()
            while queue.closed:
                batch = queue.closed.popleft()
                batch.complete(0)
                batch.wake(False)
        self.loop.run_until_quiet()

    def is_stalled(self, node_id: int) -> bool:
        return node_id in self.stalled

    def waiting_over(self, waiting: WaitingRecords) -> None:
        self.over.append(waiting)

    def leader_changed(self, queue: PartitionQueue, before: PartitionLeader) -> None:
        self.moved.append((queue.topic.name, queue.partition, before, queue.leader))

    def set_bounds(self, queue: PartitionQueue) -> None:
        limit = cast("TopicInUse", queue.topic).batch_limit
        queue.batch_limit = min(self.broker_limit, limit) if limit else self.broker_limit

    def waiting_failed(self, waiting: WaitingRecords, error: KafkaError) -> None:
        self.failed.append((waiting.topic.name, type(error).__name__, waiting.count))

    def record_failed(self, topic: str, error: KafkaError, record: object) -> None:
        self.failed.append((topic, type(error).__name__, 1))

    @property
    def keeps_sequences(self) -> bool:
        return False

    def sequences_forgotten(self, queues: Iterable[PartitionQueue]) -> None:
        self.forgotten.extend((queue.topic.name, queue.partition) for queue in queues)

    # ---- looking

    def topic(self, name: str = "t") -> TopicInUse:
        return self.topics.by_name[name]

    def queue(self, partition: int = 0, name: str = "t") -> PartitionQueue:
        queue = self.topic(name).queue(partition)
        assert isinstance(queue, PartitionQueue)
        return queue

    def counts(self, name: str = "t") -> dict[int, int]:
        """Return how many records wait in each queue that got any."""
        found: dict[int, int] = {}
        for queue in self.topic(name).partition_queues:
            waiting = [*queue.closed, *([] if queue.open is None else [queue.open])]
            found[queue.partition] = sum(batch.record_count for batch in waiting)
        return found
