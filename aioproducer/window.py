"""One broker's window: the requests in flight to it, and the lanes that wait to be in the next.

Part of the sender, which owns one per broker. Data, and the making of a Produce request.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from aioproducer._native.record_batch import BATCH_HEADER_SIZE, RecordBatch
from aioproducer.lane import PartitionLane
from aioproducer.metadata import ClusterMetadata
from aioproducer.protocol.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from aioproducer.protocol.schema import NO_TOPIC_ID
from aioproducer.protocol.versions import produce_version_cap

__all__ = ["BrokerWindow", "SentRequest", "Taken", "make_request"]

Taken = tuple[PartitionLane, RecordBatch]


class BrokerWindow:
    """The requests in flight to one broker, and what waits for the next one.

    Attributes:
        in_flight: Requests without an answer.
        answers_due: How many more answers end the wait of small batches that are held back.
        is_pumping: A request to it is being made.
        ready: Lanes that may send, in turn.
        lingering: Lanes whose open batch still waits for more records.
        heard_at: When it last ended a request, or was sent one after all had ended.
        stalled_since: When something waited here first without being taken; None while it flows.
        throttle_timer: Runs while the broker's pause keeps something waiting (KIP-219).
    """

    __slots__ = (
        "answers_due",
        "heard_at",
        "in_flight",
        "is_pumping",
        "lingering",
        "node_id",
        "ready",
        "stalled_since",
        "throttle_timer",
    )

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.in_flight = 0
        self.answers_due = 0
        self.heard_at = 0.0
        self.is_pumping = False
        self.ready: OrderedDict[PartitionLane, None] = OrderedDict()
        self.lingering: OrderedDict[PartitionLane, None] = OrderedDict()
        self.stalled_since: float | None = None
        self.throttle_timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class SentRequest:
    """One Produce request in flight.

    Attributes:
        window: The broker's.
        broker: The broker, for the reader of an error.
        batches: What it carries, by topic and partition; those without an answer yet.
        names_by_id: The topics by the ids they had when it was sent.
        size: Bytes of all batches.
    """

    window: BrokerWindow
    broker: str
    batches: dict[tuple[str, int], Taken]
    names_by_id: dict[bytes, str]
    size: int

    @property
    def version_cap(self) -> int:
        """The newest version of Produce that can say what it says."""
        return produce_version_cap(topic_ids=NO_TOPIC_ID not in self.names_by_id)


def make_request(
    taken: Sequence[Taken],
    window: BrokerWindow,
    broker: str,
    metadata: ClusterMetadata,
    *,
    acks: int,
    timeout_ms: int,
) -> tuple[ProduceRequest, SentRequest]:
    """Seal each batch for this attempt and put all of them into one request."""
    by_topic: dict[str, list[PartitionProduceData]] = {}
    sent = SentRequest(window, broker, {}, {}, 0)
    for lane, batch in taken:
        data = PartitionProduceData(lane.partition, (batch.seal(), batch.payload))
        by_topic.setdefault(batch.topic, []).append(data)
        sent.batches[batch.topic, batch.partition] = (lane, batch)
        sent.size += BATCH_HEADER_SIZE + batch.payload_size
    topics: list[TopicProduceData] = []
    for name, partitions in by_topic.items():
        known = metadata.topics.get(name)
        topic_id = NO_TOPIC_ID if known is None else known.topic_id
        sent.names_by_id[topic_id] = name
        topics.append(TopicProduceData(name, topic_id, partitions))
    return ProduceRequest(None, acks, timeout_ms, topics), sent
