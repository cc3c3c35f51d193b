"""When a partition starts over at sequence 0, and what becomes of its batches (KIP-360).

A broker takes the batches of one producer id and epoch only in order of their sequences, without a
gap. A gap opens when a batch fails that already has a sequence. Step by step:

    1. Batches 4, 5 and 6 are in flight. The broker refuses 4 for good, and 5 and 6 as out of order.
    2. While the outcome of a batch before the gap is unknown, nothing is decided: that batch is
       first sent again under its old sequence (`PartitionQueue.close_gap`).
    3. If 4 surely was not stored, and nothing behind it can be, 5 and 6 take over its sequences
       (`PartitionQueue.resequence`). The epoch stays.
    4. A transactional producer has failed its transaction by then, and does neither: the next
       transaction begins in another epoch.
    5. Otherwise the producer takes the next epoch, and the partition gives its waiting batches
       sequences from 0 on. Other partitions follow with their next batch. When all epochs of an id
       are used up, the producer gets another id.

Without a producer id nothing is sent; a denial fails the waiting batches.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from aioproducer.errors import KafkaError, NetworkError
from aioproducer.sending.batch_errors import about_batch
from aioproducer.sending.finishing import Finished, Finisher
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.producer_id import ProducerId
from aioproducer.transactions.transactions import Transactions

__all__ = ["Epochs"]

logger = logging.getLogger(__name__)


class Epochs:
    """Moves the partition queues of one producer to new epochs.

    Args:
        producer_id: Has the id and epoch in use.
        finisher: Ends batches.
        transactions: The producer's, if it is transactional: its epochs end with a transaction.
    """

    def __init__(
        self,
        producer_id: ProducerId,
        finisher: Finisher,
        transactions: Transactions | None = None,
    ) -> None:
        self._producer_id = producer_id
        self._transactions = transactions
        self._finisher = finisher

    def close_gap(self, queue: PartitionQueue) -> None:
        """Close the gap in a queue's sequences, if it is certain by now."""
        if not queue.close_gap():
            return
        if self._transactions is not None:
            # The record that left the gap has failed the transaction: nothing new is sent in it.
            self._transactions.sequences_lost()
            return
        if queue.may_resequence:
            queue.resequence()
        else:
            self._start_over(queue)

    def _start_over(self, queue: PartitionQueue) -> None:
        id_and_epoch = self._producer_id.current
        is_first = id_and_epoch is not None and queue.id_and_epoch == id_and_epoch
        if is_first:
            id_and_epoch = self._producer_id.bump()
        if id_and_epoch is None:
            # `_producer_id_obtained` offers every queue again.
            self._producer_id.need()
            return
        # The queues that follow into the same epoch are no news.
        logger.log(
            logging.WARNING if is_first else logging.DEBUG,
            "%s-%s starts over at sequence 0 under epoch %s of producer id %s",
            queue.topic.name,
            queue.partition,
            id_and_epoch.epoch,
            id_and_epoch.producer_id,
        )
        finished = Finished()
        for batch in queue.take_stored():
            self._finisher.complete(batch, -1, -1, finished)
        queue.restart(id_and_epoch)
        self._finisher.finish(finished, direct=False)

    def cluster_changed(self, queues: Iterable[PartitionQueue]) -> None:
        """Get another producer id: in the new cluster this one belongs to another producer."""
        if self._transactions is not None:
            self._transactions.cluster_changed()
            for queue in queues:
                queue.forget_epoch()
            return
        self._producer_id.discard()
        finished = Finished()
        for queue in queues:
            for batch in queue.take_outcome_unknown():
                error = batch.last_error or NetworkError("The cluster was replaced")
                self._finisher.fail(batch, about_batch(error, batch), finished)
            queue.disown_epoch()
            finished.queues.append(queue)
        self._finisher.finish(finished, direct=False)

    def fail_waiting(self, queues: Iterable[PartitionQueue], error: KafkaError) -> None:
        """Fail the batches that wait for a producer id. The next record asks for one again."""
        finished = Finished()
        for queue in queues:
            batches = [batch for batch in queue.batches() if not batch.is_in_flight]
            queue.forget_waiting()
            for batch in batches:
                self._finisher.fail(batch, about_batch(error, batch), finished)
            finished.queues.append(queue)
        self._finisher.finish(finished, direct=False)
