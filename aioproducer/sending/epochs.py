"""When a partition starts over at sequence 0, and what becomes of its batches (KIP-360).

A broker takes the batches of one producer id and epoch only in the order of their sequences,
without a gap. A gap opens when a batch fails whose sequence was given already. Step by step:

    1. Batches 4, 5 and 6 are in flight. The broker refuses 4 for good; 5 and 6 behind it come
       back as out of order.
    2. While another batch before the gap has no outcome, nothing is decided: it may still be
       stored under its sequence.
    3. If the failed batch surely was not stored and nothing behind it was, the others take over
       its sequences (`PartitionQueue.resequence`). Nothing else changes.
    4. Otherwise the producer takes the next epoch, and the partition numbers what waits from 0
       on. Other partitions follow with their next batch. When the epochs of an id are used up,
       another id is asked for.

While there is no id nothing is sent; a denial fails what waits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from aioproducer.errors import KafkaError, NetworkError
from aioproducer.sending.batch_errors import about_batch
from aioproducer.sending.finishing import Finished, Finisher
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.producer_id import ProducerId

__all__ = ["Epochs"]

logger = logging.getLogger(__name__)


class Epochs:
    """Brings the partition queues of one producer into new epochs.

    Args:
        producer_id: Has the id and epoch in use.
        finisher: Ends what cannot be sent any more.
    """

    def __init__(self, producer_id: ProducerId, finisher: Finisher) -> None:
        self._producer_id = producer_id
        self._finisher = finisher

    def close_gap(self, queue: PartitionQueue) -> None:
        """Close the gap in a queue's sequences, if it is known to be one by now."""
        if not queue.close_gap():
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
            # When there is a new id, every queue is offered again.
            self._producer_id.need()
            return
        # Those that follow into the same epoch say nothing new.
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
        """Go on under another producer id: in the other cluster this one is somebody else's."""
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
        """No producer id is to be had: fail what waits for it. The next record asks again."""
        finished = Finished()
        for queue in queues:
            batches = [batch for batch in queue.batches() if not batch.is_in_flight]
            queue.forget_waiting()
            for batch in batches:
                self._finisher.fail(batch, about_batch(error, batch), finished)
            finished.queues.append(queue)
        self._finisher.finish(finished, direct=False)
