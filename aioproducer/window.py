"""One broker's window: the requests in flight to it, and the lanes that wait to be in the next.

Part of the sender, which owns one per broker. Data, and the making of a Produce request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

from aioproducer._native.accumulator import BufferShare
from aioproducer._native.record_batch import BATCH_HEADER_SIZE, RecordBatch
from aioproducer.background import Timer
from aioproducer.in_flight_limit import InFlightLimit
from aioproducer.lane import PartitionLane
from aioproducer.protocol.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from aioproducer.protocol.schema import NO_TOPIC_ID
from aioproducer.protocol.versions import produce_version_cap
from aioproducer.topics import Topic

__all__ = ["BrokerWindow", "SentRequest", "Taken", "make_request"]

Taken = tuple[PartitionLane, RecordBatch]


class BrokerWindow:
    """The requests in flight to one broker, and what waits for the next one.

    Attributes:
        in_flight: Requests without a response.
        bytes_in_flight: Of all their batches.
        limit: How many these may be.
        cut_at: When a timeout last cut the limit.
        share: What the records that it leads hold of the buffer.
        answers_due: How many more responses end the wait of small batches that are held back.
        is_pumping: A request to it is being made.
        ready: Lanes that may send, in turn.
        lingering: Lanes whose open batch still waits for more records.
        heard_at: When it last ended a request, or was sent one after all had ended.
        stalled_since: When something waited here first without being taken; None while it flows.
        throttle_timer: Set while the broker's pause keeps something waiting (KIP-219).
    """

    __slots__ = (
        "answers_due",
        "bytes_in_flight",
        "cut_at",
        "heard_at",
        "in_flight",
        "is_pumping",
        "limit",
        "lingering",
        "node_id",
        "ready",
        "share",
        "stalled_since",
        "throttle_timer",
    )

    def __init__(self, node_id: int, limit: InFlightLimit, throttle_timer: Timer) -> None:
        self.node_id = node_id
        self.limit = limit
        self.share = BufferShare()
        self.in_flight = 0
        self.bytes_in_flight = 0
        self.cut_at = 0.0
        self.answers_due = 0
        self.heard_at = 0.0
        self.is_pumping = False
        self.ready: OrderedDict[PartitionLane, None] = OrderedDict()
        self.lingering: OrderedDict[PartitionLane, None] = OrderedDict()
        self.stalled_since: float | None = None
        self.throttle_timer = throttle_timer

    @property
    def is_idle(self) -> bool:
        """Nothing is in flight and nothing waits."""
        return not (self.in_flight or self.ready or self.lingering)


class SentRequest:
    """One Produce request in flight.

    Attributes:
        window: The broker's.
        broker: The broker, for the reader of an error.
        sent_at: When, on the loop's clock.
        batches: What it carries, by topic and partition; those without a response yet.
        names_by_id: The topics by the ids they had when it was sent.
        size: Bytes of all batches.
    """

    __slots__ = ("batches", "broker", "names_by_id", "sent_at", "size", "window")

    def __init__(
        self, window: BrokerWindow, broker: str, sent_at: float, taken: Sequence[Taken]
    ) -> None:
        self.window = window
        self.broker = broker
        self.sent_at = sent_at
        self.batches = {(batch.topic, batch.partition): (lane, batch) for lane, batch in taken}
        self.names_by_id: dict[bytes, str] = {}
        self.size = sum(BATCH_HEADER_SIZE + batch.payload_size for _, batch in taken)

    @property
    def version_cap(self) -> int:
        """The newest version of Produce that can say what it says."""
        return produce_version_cap(topic_ids=NO_TOPIC_ID not in self.names_by_id)


def make_request(sent: SentRequest, *, acks: int, timeout_ms: int) -> ProduceRequest:
    """Seal each batch for this attempt and put all of them into one request."""
    by_topic: dict[str, list[PartitionProduceData]] = {}
    topic_ids: dict[str, bytes] = {}
    for lane, batch in sent.batches.values():
        data = PartitionProduceData(lane.partition, (batch.seal(), batch.payload))
        by_topic.setdefault(batch.topic, []).append(data)
        topic_ids[batch.topic] = cast("Topic", lane.topic).topic_id
    topics: list[TopicProduceData] = []
    for name, partitions in by_topic.items():
        sent.names_by_id[topic_ids[name]] = name
        topics.append(TopicProduceData(name, topic_ids[name], partitions))
    return ProduceRequest(None, acks, timeout_ms, topics)
