"""Splits batches that are too large, and learns from refusals what a topic takes.

A client learns a topic's limit (`max.message.bytes`) only by a refusal. So the size that a topic
refused bounds its later batches, and a record at least as large fails without a request. After a
minute a larger bound is tried: the limit may have been raised.

Invariant: whatever waits for the records of a replaced batch (their deliveries, a `flush`, the
buffer's count of bytes) waits for its parts instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from aioproducer._native.broker_queues import BrokerQueues
from aioproducer._native.record_batch import BATCH_HEADER_SIZE, RecordBatch
from aioproducer.config import ProducerConfig
from aioproducer.errors import KafkaError
from aioproducer.sending.compression import BatchCompressor
from aioproducer.sending.flush import Flushes
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.topics import TopicInUse, Topics

__all__ = ["BatchSplitter"]

logger = logging.getLogger(__name__)

_TRY_LIMIT_EVERY: Final = 60.0
"""Seconds after which the bound of a topic is doubled, to see whether its limit was raised."""


class BatchSplitter:
    """Replaces batches of one producer by smaller ones.

    Args:
        config: The producer's options.
        clock: The loop's.
        topics: Keep what each topic takes.
        compressor: Restores the records of a compressed batch.
        flushes: Wait for the parts instead.
        broker_queues: Have the accumulator and the counters.
    """

    def __init__(
        self,
        config: ProducerConfig,
        clock: Callable[[], float],
        topics: Topics,
        compressor: BatchCompressor,
        flushes: Flushes,
        broker_queues: BrokerQueues,
    ) -> None:
        self._batch_size = config.batch_size
        self._clock = clock
        self._topics = topics
        self._compressor = compressor
        self._flushes = flushes
        self._accumulator = broker_queues.accumulator
        self._counters = broker_queues.counters

    def split_head(self, queue: PartitionQueue, head: RecordBatch) -> bool:
        """Split the head of a queue if it is larger than its topic is known to take.

        Returns:
            Whether the head is another one now.
        """
        topic = cast("TopicInUse", queue.topic)
        self._try_limit_again(topic)
        if not topic.batch_limit or _size(head) <= topic.batch_limit:
            return False
        queue.close_head()
        queue.split_head(head, self._replace(head, topic.batch_limit))
        return True

    def refused_size(self, queue: PartitionQueue, head: RecordBatch) -> int:
        """The size that the topic refused, if the record of `head` is at least as large; else 0.

        Compressed, a record may be smaller than one that was refused: then the broker decides.
        """
        topic = cast("TopicInUse", queue.topic)
        self._try_limit_again(topic)
        if self._compressor.is_active or not topic.refused_size:
            return 0
        return topic.refused_size if _size(head) >= topic.refused_size else 0

    def split(self, queue: PartitionQueue, batch: RecordBatch) -> None:
        """Replace a batch that the broker refused as too large by smaller ones."""
        self.learn_size(queue, batch)
        limit = cast("TopicInUse", queue.topic).batch_limit
        queue.split(batch, self._replace(batch, min(_half(batch), limit)))

    def take_out(
        self, batch: RecordBatch, refused: Mapping[int, KafkaError]
    ) -> tuple[RecordBatch | None, Sequence[RecordBatch]]:
        """Replace a batch, `restore`d before, by one without the records that the broker refused.

        Args:
            batch: The batch; the broker appended none of it (KIP-467).
            refused: The errors of the refused records, by index.

        Returns:
            The new batch, None if no record is left; and the refused records, a batch each.
        """
        others, failed = batch.refuse(refused)
        if others is None:
            self._accumulator.release(batch)
            self._flushes.replace(batch, [])
        else:
            self._accumulator.recharge(batch, [others])
            self._flushes.replace(batch, [others])
        return others, failed

    def restore(self, batch: RecordBatch) -> None:
        """Decompress the records of a batch."""
        self._compressor.restore(batch)

    def learn_size(self, queue: PartitionQueue, batch: RecordBatch) -> None:
        """Remember that a topic refused a batch of this size."""
        topic = cast("TopicInUse", queue.topic)
        size = _size(batch)
        limit = min(
            topic.batch_limit or self._batch_size,
            _half(batch) if batch.record_count > 1 else size - 1,
        )
        if not topic.batch_limit:
            logger.warning(
                "Topic %s takes no batch of %s bytes (max.message.bytes): smaller ones are sent",
                batch.topic,
                BATCH_HEADER_SIZE + batch.payload_size,
            )
        topic.probe_limit_at = self._clock() + _TRY_LIMIT_EVERY
        self._topics.limit_batches(topic, limit, refused_size=min(size, topic.refused_size or size))

    def _try_limit_again(self, topic: TopicInUse) -> None:
        now = self._clock()
        if topic.batch_limit and now >= topic.probe_limit_at:
            limit = min(topic.batch_limit * 2, self._batch_size)
            self._topics.limit_batches(topic, limit, refused_size=0)
            topic.probe_limit_at = now + _TRY_LIMIT_EVERY

    def _replace(self, batch: RecordBatch, limit: int) -> list[RecordBatch]:
        self._compressor.restore(batch)
        parts = batch.split(limit)
        self._counters.batches_split += 1
        self._accumulator.recharge(batch, parts)
        self._flushes.replace(batch, parts)
        return parts


def _size(batch: RecordBatch) -> int:
    """Bytes of a batch, its records not compressed."""
    return BATCH_HEADER_SIZE + batch.records_size


def _half(batch: RecordBatch) -> int:
    return max(BATCH_HEADER_SIZE + batch.records_size // 2, 1)
