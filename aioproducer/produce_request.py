"""Makes a Produce request of what native code took, where that does not write it itself.

For brokers that speak no flexible version, for acks=0, and for tests of the slow path.
"""

from __future__ import annotations

from aioproducer._native.produce_response import SentRequest
from aioproducer.protocol.produce import PartitionProduceData, ProduceRequest, TopicProduceData

__all__ = ["make_request"]


def make_request(sent: SentRequest, *, acks: int, timeout_ms: int) -> ProduceRequest:
    """Seal each batch for this attempt and put all of them into one request."""
    topics = [
        TopicProduceData(
            topic.name,
            topic_id,
            [
                PartitionProduceData(batch.partition, (batch.seal(), batch.payload))
                for _, batch in taken
            ],
        )
        for topic, topic_id, taken in sent.by_topic
    ]
    return ProduceRequest(None, acks, timeout_ms, topics)
