"""The responses of some brokers to requests with acks=0. Kafka sends none.

Owns which partitions such brokers refuse records of. Those records are lost: they counted as
delivered when they were sent. But an error may mean stale metadata, which is refreshed then, and
each change is logged once.

Invariants
* Only partitions of topics in use are kept, so a broker cannot make us keep more.
* A response without errors costs one look at each of its partitions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from aioproducer.errors import broker_error
from aioproducer.protocol.produce import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from aioproducer.sending.topics import TopicInUse, Topics

__all__ = ["UnneededResponses"]

logger = logging.getLogger(__name__)


class UnneededResponses:
    """Takes the responses to Produce requests with acks=0.

    Args:
        topics: The topics in use.
        refresh: Called when an error means that metadata is stale.
    """

    def __init__(self, topics: Topics, refresh: Callable[[], None]) -> None:
        self._topics = topics
        self._refresh = refresh
        self._refused: dict[str, dict[int, int]] = {}
        """By topic and partition, the error code of the last response."""

    def take(self, broker: str, response: ProduceResponse) -> None:
        """Take the response of a broker, whose name is for the log."""
        for topic, partition in self._changes(response):
            if partition.error_code:
                self._take_error(broker, topic, partition)
            else:
                self._take_success(topic, partition.index)

    def _changes(self, response: ProduceResponse) -> Iterator[tuple[str, PartitionProduceResponse]]:
        """The partitions that are refused, or were before; without those that nobody uses."""
        for of_topic in response.responses:
            partitions = [
                partition
                for partition in of_topic.partition_responses
                if partition.error_code or self._refused
            ]
            if not partitions:
                continue
            topic = self._find(of_topic)
            if topic is None:
                continue
            for partition in partitions:
                if 0 <= partition.index < topic.partition_count:
                    yield topic.name, partition

    def _find(self, response: TopicProduceResponse) -> TopicInUse | None:
        topics = self._topics.by_name
        if response.name:
            return topics.get(response.name)
        return next(
            (topic for topic in topics.values() if topic.topic_id == response.topic_id), None
        )

    def _take_error(self, broker: str, topic: str, partition: PartitionProduceResponse) -> None:
        error = broker_error(partition.error_code, partition.error_message)
        if error.refreshes_metadata:
            self._refresh()
        if topic not in self._refused:
            in_use = self._topics.by_name
            self._refused = {name: codes for name, codes in self._refused.items() if name in in_use}
        codes = self._refused.setdefault(topic, {})
        is_change = partition.error_code not in codes.values()
        codes[partition.index] = partition.error_code
        if is_change:
            logger.warning(
                "Broker %s refuses records of %s-%s that were sent with acks=0: they are lost,"
                " though they count as delivered (%s)",
                broker,
                topic,
                partition.index,
                error,
            )

    def _take_success(self, topic: str, partition: int) -> None:
        codes = self._refused.get(topic, {})
        if codes.pop(partition, None) is not None and not codes:
            del self._refused[topic]
            logger.info("%s accepts records again", topic)
