"""The batches of one partition: which may be sent next, and under which sequence.

`PartitionQueue` extends the native `CorePartitionQueue` (queues.pyx), which has the batches, their
sequences, and the steps of a batch that succeeds. It does no I/O and reads no clock.

    open -> closed -> in flight -> done (delivered, failed, split)
                 ^________|  retry: back into `closed`, before every batch that was never sent

Invariants
* A batch gets its sequence when it is first taken and keeps it through retries: the first attempt
  may have stored it. Batches with a sequence stand first in `closed`, in order of their sequences.
* At most one batch is in flight until the leader acknowledged one of this epoch (`is_proven`):
  brokers accept *any* first sequence of a producer they do not know, so a second batch must not
  reach one before the first. The proof holds for an hour, since brokers forget a silent producer
  (`producer.id.expiration.ms`). A failed attempt ends it: the first retry goes alone, the others
  follow side by side. So an outage costs a slow broker two round trips, as in franz-go (Java: one
  for each batch).
* Transactions v2 have an epoch each, so that holds in each anew. There a broker takes no first
  sequence but 0, so no order is at stake. But it may refuse the first batch, while it still ends
  the transaction before (CONCURRENT_TRANSACTIONS), and with it all that are behind. To wait costs
  nothing: 10,000 records take as long with that round trip as without.
* A retry never overtakes: it waits for the batches of lower sequences. Without sequences, by which
  a broker could refuse an overtaker, it waits until nothing is in flight.
* No batch is taken while another is in flight to an earlier leader, or to an earlier topic of the
  same name: a recreated topic knows no producer, like a new leader that lost its log.
* `gap` is "refused" when a batch was refused for good, so that brokers take nothing from `gap_at`
  on; "unknown" when a batch failed and its outcome is unknown; else "none". `close_gap` says when
  it is certain, epochs.py what then happens.
"""

from __future__ import annotations

from bisect import bisect_left

from aioproducer._native.queues import CorePartitionQueue, CoreTopic
from aioproducer._native.record_batch import RecordBatch
from aioproducer.network.metadata import NO_LEADER, NOBODY, PartitionLeader
from aioproducer.sending.sequences import ProducerIdAndEpoch, advance_sequence

__all__ = ["PartitionQueue"]

_MOVES_AT_ONCE = 5
"""How often a partition may move without a success before a new leader no longer ends a backoff."""


class PartitionQueue(CorePartitionQueue):
    """The batches of one partition, waiting and in flight.

    Attributes:
        leader: The broker to send to, and its epoch.
        in_flight: Sent and not answered yet, oldest first. A batch that expired stays here until
            its response comes or its connection ends: the broker may still read it.
        retry_at: When the head of `closed` may be tried again.
        open_is_due: The open batch need not wait for more records.
        id_and_epoch: The producer id and epoch of the sequences in use; None without idempotence.
        moves_in_vain: How often the leader changed since a broker acknowledged something.
        refusals_at_zero: How often since then a broker refused sequence 0 of an epoch, as if it
            expected another.
        failures_logged: The log says that the partition fails, and must say when that is over.
    """

    __slots__ = ("disowned", "gap_at", "needs_epoch")

    def __init__(self, topic: CoreTopic, partition: int) -> None:
        super().__init__(topic, partition)
        self.leader = NOBODY
        self.disowned: ProducerIdAndEpoch | None = None
        self.gap_at = 0
        self.needs_epoch = False

    # ---- what there is

    def batches(self) -> list[RecordBatch]:
        """Every batch that is not done, oldest first."""
        waiting = [*self.closed] if self.open is None else [*self.closed, self.open]
        return [batch for batch in self.in_flight if not batch.is_done] + waiting

    def oldest_batches(self) -> list[RecordBatch]:
        """Batches among which the oldest is: those in flight that are not done, and the head."""
        head = self.head
        in_flight = [batch for batch in self.in_flight if not batch.is_done]
        return in_flight if head is None else [*in_flight, head]

    @property
    def is_sent_around(self) -> bool:
        """Whether brokers name each other as the leader, so that a new one ends no backoff."""
        return self.moves_in_vain > _MOVES_AT_ONCE

    # ---- taking

    def close_head(self) -> None:
        """Close the open batch if it is the head, so that it takes no more records."""
        if not self.closed:
            self.close_open()

    def begin_epoch(self, id_and_epoch: ProducerIdAndEpoch) -> None:
        """Begin at sequence 0 under another producer id and epoch."""
        super().begin_epoch(id_and_epoch)
        self.needs_epoch = False

    def forget(self, batch: RecordBatch) -> None:
        """Take out a waiting batch; one in flight stays until its request is over."""
        if batch is self.open:
            self.close_open()
        if not batch.is_in_flight:
            self.closed.remove(batch)
            # The backoff was this batch's.
            self.retry_at = 0.0

    def forget_waiting(self) -> None:
        """Take out every batch that waits."""
        self.close_open()
        self.closed.clear()
        self.retry_at = 0.0

    # ---- responses

    def is_next_in_sequence(self, batch: RecordBatch) -> bool:
        """Whether a broker that calls `batch` out of order has lost sequences before it.

        It has not if a lower sequence is still to be stored, or was refused and left a gap.
        """
        distance = self._distance(batch)
        if self.gap == "refused" and self.steps_to(self.gap_at) < distance:
            return False
        outstanding = [*self.in_flight, *self.closed]
        return not any(
            other.has_sequence and other is not batch and self._distance(other) < distance
            for other in outstanding
        )

    def is_behind_acknowledged(self, batch: RecordBatch) -> bool:
        """Whether a batch with a higher sequence of the same epoch was acknowledged."""
        return batch.has_sequence and self.is_current(batch) and self._distance(batch) < 0

    def requeue(self, batch: RecordBatch, retry_at: float) -> None:
        """Put a batch back for another attempt; call after `request_ended`."""
        self.is_proven = False
        self.retry_at = max(self.retry_at, retry_at)
        self.closed.insert(self._place_of(batch), batch)

    def _place_of(self, batch: RecordBatch) -> int:
        """The index in `closed` of a batch that was taken and comes back."""
        if batch.has_sequence:
            distances = [self._distance(waiting) for waiting in self.closed if waiting.has_sequence]
            return bisect_left(distances, self._distance(batch))
        if batch.times_taken > 1:
            # It was a retry, taken from the head when nothing else was in flight: every waiting
            # batch was behind it then, or was taken after it.
            return 0
        return sum(1 for waiting in self.closed if waiting.times_taken)

    def refused(self, batch: RecordBatch) -> None:
        """The broker refused `batch` for good: its sequences were never used.

        The next batch gets them if no later ones were given; otherwise the batches behind it can
        never be accepted under this epoch. If an earlier attempt may have stored `batch`, its
        outcome is unknown: those behind it may be stored, too, and a new epoch at once would store
        them twice.
        """
        if batch.possibly_persisted:
            self.outcome_unknown(batch)
            return
        if not batch.has_sequence or not self.is_current(batch):
            return
        following = advance_sequence(batch.base_sequence, batch.record_count)
        if following == self.next_sequence:
            self.next_sequence = batch.base_sequence
        else:
            self._open_gap(batch)

    def must_start_over(self, batch: RecordBatch) -> None:
        """Nothing from the sequence of `batch` on can be stored under this epoch."""
        if batch.has_sequence and self.is_current(batch):
            self._open_gap(batch)
            self.needs_epoch = True

    def outcome_unknown(self, batch: RecordBatch) -> None:
        """`batch` failed, and it is not known whether an attempt stored it."""
        if batch.has_sequence and self.is_current(batch):
            self.needs_epoch = True
            if self.gap == "none":
                self.gap = "unknown"

    def _open_gap(self, batch: RecordBatch) -> None:
        sequence = batch.base_sequence
        if self.gap != "refused" or self.steps_to(sequence) < self.steps_to(self.gap_at):
            self.gap_at = sequence
        self.gap = "refused"

    @property
    def may_resequence(self) -> bool:
        """Whether the gap can be closed under the same epoch; valid once `close_gap` is True.

        1. Batches 4, 5 and 6 are in flight. The broker refuses 4 for good, then 5 and 6 as out of
           order. It still expects 4, and no request is left that could bring it anything.
        2. So 5 takes the sequence of 4, and 6 that of 5.
        3. Not if the outcome of 5 or 6 is unknown: its first request may still lie in a socket,
           and the broker would take it for the batch that now has its sequence.
        """
        return (
            self.gap == "refused"
            and not self.needs_epoch
            and not any(batch.possibly_persisted for batch in self.closed if batch.has_sequence)
        )

    def resequence(self) -> None:
        """Close the gap: the waiting batches get the sequences that the broker expects."""
        assert not self.in_flight
        self.gap = "none"
        self.next_sequence = self.next_expected
        self._sequence_waiting()

    def close_gap(self) -> bool:
        """Whether the gap is certain: nothing can be sent until `resequence` or `restart`.

        A batch was refused, and the outcome of one before it is unknown:
            1. Batches 4 and 5 are in flight. The response to 4 says that it may be stored, and it
               waits for its retry. 5 is refused for good, so the gap is at 5.
            2. 4 is sent again under its old sequence: if the broker has it, it knows it by that
               as a duplicate. Under a new epoch it would store it twice.
            3. Once no outcome before the gap is unknown, the gap is certain.

        The outcome of the failed batch is unknown itself:
            1. The connection ends with 4 and 5 in flight. 4 expires; 5 is sent again.
            2. The broker accepts 5: it had stored 4, and there is no gap.
            3. Or it calls 5 out of order: it lacks 4, and the gap is certain (`must_start_over`).
            4. If no batch with a sequence is left to show it, a gap is assumed.
        """
        if self.gap == "none" or self.in_flight:
            return False
        if self.gap == "refused":
            return not any(
                batch.possibly_persisted and self._distance(batch) < self.steps_to(self.gap_at)
                for batch in self.closed
                if batch.has_sequence
            )
        if any(batch.has_sequence for batch in self.closed):
            return False
        if self.next_expected == self.next_sequence:
            self.gap = "none"
            self.needs_epoch = False
            return False
        return True

    def take_stored(self) -> list[RecordBatch]:
        """Take out the batches that wait for a retry although the broker must have stored them.

        1. Batches 4 and 5 are in flight. The broker stores 4, but the response is lost.
        2. 5 is acknowledged. Brokers store in order of the sequences, so this one has 4.
        3. A retry of 4 under its old sequence would bring its offset; a new epoch begins first,
           and under that it would be stored twice. So 4 counts as stored, without an offset.

        This needs an unknown outcome: a broker that surely refused 4 and then took 5 had forgotten
        this producer.
        """
        stored = [
            batch
            for batch in self.closed
            if batch.possibly_persisted and self.is_behind_acknowledged(batch)
        ]
        for batch in stored:
            self.closed.remove(batch)
        return stored

    def restart(self, id_and_epoch: ProducerIdAndEpoch) -> None:
        """Begin a new epoch at sequence 0; only with nothing in flight."""
        assert not self.in_flight
        self.begin_epoch(id_and_epoch)
        self._sequence_waiting()

    def _sequence_waiting(self) -> None:
        for batch in self.closed:
            if not batch.has_sequence:
                break
            self.number(batch)

    def split(self, batch: RecordBatch, children: list[RecordBatch]) -> None:
        """Put the children of a split batch in its place, under its sequences."""
        sequence = batch.base_sequence
        for child in children:
            if batch.has_sequence:
                child.assign_sequence(batch.producer_id, batch.producer_epoch, sequence)
                sequence = advance_sequence(sequence, child.record_count)
        place = self._place_of(batch)
        for child in reversed(children):
            self.closed.insert(place, child)

    def put_others(self, batch: RecordBatch, others: RecordBatch, retry_at: float) -> None:
        """Put what is left of a refused batch in its place, after some of its records failed.

        The broker appended nothing of `batch`, so its sequences are free. But the batches behind
        it got theirs by its full count of records, so what is left leaves a gap before them.
        """
        self.is_proven = False
        self.retry_at = max(self.retry_at, retry_at)
        if batch.has_sequence:
            self._shorten(batch, others)
        self.closed.insert(self._place_of(batch), others)

    def replace_waiting(self, batch: RecordBatch, others: RecordBatch | None) -> None:
        """Put what is left of a waiting batch in its place, after some records were withdrawn.

        No attempt may have stored it. If it has sequences, those of the records withdrawn are as
        if the broker had refused them: the batches behind it may have to be sequenced again.
        """
        if batch is self.open:
            self.close_open()
        place = self.closed.index(batch)
        del self.closed[place]
        if others is None:
            # The backoff was this batch's.
            self.retry_at = 0.0
            self.refused(batch)
            return
        others.attempts = batch.attempts
        self.closed.insert(place, others)
        if batch.has_sequence:
            self._shorten(batch, others)

    def _shorten(self, batch: RecordBatch, others: RecordBatch) -> None:
        """Give `others`, what is left of `batch`, its sequence; the count of records is smaller."""
        others.assign_sequence(batch.producer_id, batch.producer_epoch, batch.base_sequence)
        if self.is_current(batch):
            following = advance_sequence(batch.base_sequence, batch.record_count)
            if following == self.next_sequence:
                self.next_sequence = advance_sequence(batch.base_sequence, others.record_count)
            else:
                self._open_gap(others)

    def split_head(self, head: RecordBatch, parts: list[RecordBatch]) -> None:
        """Put the parts of the head in its place; no attempt may have stored it."""
        assert self.closed[0] is head
        self.closed.popleft()
        if head.has_sequence:
            self.split(head, parts)
        else:
            self.closed.extendleft(reversed(parts))

    def take_outcome_unknown(self) -> list[RecordBatch]:
        """Take out the batches that wait for a retry and may be stored already."""
        unknown = [batch for batch in self.closed if batch.possibly_persisted]
        for batch in unknown:
            self.closed.remove(batch)
        return unknown

    def disown_epoch(self) -> None:
        """Send nothing more under the producer id and epoch in use: another producer has them.

        The waiting batches get new sequences once nothing is in flight.
        """
        self.is_proven = False
        self.disowned = self.id_and_epoch
        sequenced = [batch for batch in (*self.in_flight, *self.closed) if batch.has_sequence]
        if sequenced:
            self.gap = "refused"
            self.gap_at = min(sequenced, key=self._distance).base_sequence
            self.needs_epoch = True

    def forget_epoch(self) -> None:
        """Begin an epoch with the next batch, also one of the same number: it is another's."""
        self.is_proven = False
        self.id_and_epoch = None

    def has_disowned(self, batch: RecordBatch) -> bool:
        """Whether another producer has the producer id and epoch of a batch by now."""
        return batch.has_sequence and self.disowned == (batch.producer_id, batch.producer_epoch)

    def led_by(self, leader: PartitionLeader) -> None:
        """Send to another broker from now on."""
        if leader.node_id != self.leader.node_id:
            self.is_proven = False
        if leader != self.leader and leader.node_id != NO_LEADER:
            self.moves_in_vain += 1
            if not self.is_sent_around:
                self.retry_at = 0.0
        self.leader = leader

    def topic_recreated(self) -> None:
        """The topic was deleted and recreated: what is in flight went to the earlier one.

        The sequences go on, since the new topic takes any first one.
        """
        self.is_proven = False
        self.in_flight_node = NO_LEADER

    def _distance(self, batch: RecordBatch) -> int:
        return self.steps_to(batch.base_sequence)
