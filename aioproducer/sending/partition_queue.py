"""One partition's way to the log: which batch may go next, and under which sequence number.

A queue extends the native `CorePartitionQueue`, which has the batches, the sequence numbers and the
steps of a batch that simply succeeds (queues.pyx), by what to do about all others. It does no I/O
and reads no clock; sender.py drives it.

States of a batch:
    open -> closed -> in flight -> done (delivered, failed, split)
                 ^________|  retry: back to `closed`, before every batch that was never sent

Rules
* A batch is numbered when it is first taken, and keeps its number through retries: the first
  attempt may have landed. Numbered batches stand first in `closed`, in order of their numbers.
* A batch is taken while fewer than `most_in_flight` are in flight; no more than 1 until a broker
  acknowledged something under this epoch and leader. Brokers accept *any* first sequence
  number of a producer they do not know, so a second batch must not reach one before the first.
  They forget one that is silent (`producer.id.expiration.ms`), so the proof holds for an hour.
* After a failed attempt it is 1 again until the next acknowledgement. So the first retry
  goes alone, and the others follow it side by side, as in franz-go: after an outage the batches
  that were in flight cost two round trips to a broker that is slow to get going, not one for each
  (Java: one for each).
* A retry never overtakes: it is taken only behind batches of lower numbers, and without numbers,
  which are what the broker tells an overtaker by, only when nothing is in flight.
* A batch is never taken while another is in flight to an earlier leader, or to an earlier topic
  of the same name: a topic made anew knows no producer, like a new leader that lost its log.
* `gap` says that the numbers have one that no retry closes: a batch was refused for
  good, or its fate was never learnt. The queue then waits until nothing is in flight and starts
  over at 0 under a new epoch (KIP-360). A gap of unknown fate turns out to be none when a later
  batch was acknowledged. What is in doubt before a gap is first tried again under its old number:
  if the broker has it, a new number would store it twice.
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
        in_flight: Sent and unanswered, oldest first. A batch that expired meanwhile stays here
            until its answer, or the end of its connection, tells that the broker is done with it.
        retry_at: When the head of `closed` may be tried again.
        open_is_due: The open batch need not wait for more records.
        id_and_epoch: The producer id and epoch of the numbers in use; None without idempotence.
        moves_in_vain: How often the leader changed since a broker acknowledged something.
        refusals_at_zero: How often a broker refused the first number of an epoch since then, as if
            it expected another.
        failures_logged: The log says that it fails, and is to say when that is over.
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

    @property
    def is_sent_around(self) -> bool:
        """Whether brokers name each other as the leader: the next one is no reason to hurry."""
        return self.moves_in_vain > _MOVES_AT_ONCE

    # ---- taking

    def close_head(self) -> None:
        """Close the open batch if it is the head, so that it takes no more records."""
        if not self.closed:
            self.close_open()

    def begin_epoch(self, id_and_epoch: ProducerIdAndEpoch) -> None:
        """Number from 0 on under another id_and_epoch."""
        super().begin_epoch(id_and_epoch)
        self.needs_epoch = False

    def forget(self, batch: RecordBatch) -> None:
        """Take out a batch that waits; one in flight stays until its request is over."""
        if batch is self.open:
            self.close_open()
        if not batch.is_in_flight:
            self.closed.remove(batch)
            # The backoff was for its sake.
            self.retry_at = 0.0

    def forget_waiting(self) -> None:
        """Take out every batch that waits."""
        self.close_open()
        self.closed.clear()
        self.retry_at = 0.0

    # ---- answers

    def is_next_in_sequence(self, batch: RecordBatch) -> bool:
        """Whether a broker that calls `batch` out of order has lost numbers before it.

        It has not if an earlier number is still on its way, or was refused and leaves a gap.
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
        """Whether a batch with a higher number of the same epoch was acknowledged."""
        return batch.has_sequence and self.is_current(batch) and self._distance(batch) < 0

    def requeue(self, batch: RecordBatch, retry_at: float) -> None:
        """Put a batch back for another attempt; call after `request_ended`."""
        self.is_proven = False
        self.retry_at = max(self.retry_at, retry_at)
        self.closed.insert(self._place_of(batch), batch)

    def _place_of(self, batch: RecordBatch) -> int:
        """Where in `closed` a batch stands that was taken and comes back."""
        if batch.has_sequence:
            numbers = [self._distance(waiting) for waiting in self.closed if waiting.has_sequence]
            return bisect_left(numbers, self._distance(batch))
        if batch.times_taken > 1:
            # It was a retry, taken from the head when nothing else was in flight: whatever waits
            # was behind it then, or was taken after it.
            return 0
        return sum(1 for waiting in self.closed if waiting.times_taken)

    def refused(self, batch: RecordBatch) -> None:
        """The broker refused `batch` for good: its numbers were never used.

        When it was the last one numbered they are given to the next batch; otherwise those
        behind it can never be accepted under this epoch. A batch of which an earlier attempt may
        have been stored is one of unknown fate: a new epoch at once would store those behind it
        again if they, too, were stored before.
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
        """Nothing from the number of `batch` on can be stored under this epoch."""
        if batch.has_sequence and self.is_current(batch):
            self._open_gap(batch)
            self.needs_epoch = True

    def outcome_unknown(self, batch: RecordBatch) -> None:
        """`batch` failed after an attempt, and it is not known whether it was stored."""
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
        """Whether a gap can be closed under the same epoch; only after `close_gap` said so.

        1. The broker refused batch 4. 2. It refused 5 and 6, which were on their way, as out of
        order. So it still expects 4, and nothing with a number from 4 on can turn up any more:
        each has its answer. 5 becomes 4, and 6 becomes 5. With a batch in doubt among them a
        request may still lie in a socket, and would be taken for the one that got its number.
        """
        return (
            self.gap == "refused"
            and not self.needs_epoch
            and not any(batch.possibly_persisted for batch in self.closed if batch.has_sequence)
        )

    def resequence(self) -> None:
        """Close the gap: what was numbered gets the numbers that the broker expects."""
        assert not self.in_flight
        self.gap = "none"
        self.next_sequence = self.next_expected
        self._sequence_waiting()

    def close_gap(self) -> bool:
        """Whether a new epoch is needed before anything can be sent.

        A gap of unknown fate is looked at once nothing numbered is left to tell, any other once
        nothing before it is in doubt.
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
            # What is on its way again will tell: accepted, there was no gap.
            return False
        if self.next_expected == self.next_sequence:
            self.gap = "none"
            self.needs_epoch = False
            return False
        return True

    def take_stored(self) -> list[RecordBatch]:
        """Take out the batches that wait for a retry although a later one was acknowledged.

        The broker stores in the order of the numbers, so it has them: only the answer was lost.
        A retry would tell their offsets; under a new epoch it would store them twice. One that was
        refused without doubt is not among them: the broker then took the later one because it had
        forgotten this producer.
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
        """Renumber what was numbered, from 0 under a new epoch; only with nothing in flight."""
        assert not self.in_flight
        self.begin_epoch(id_and_epoch)
        self._sequence_waiting()

    def _sequence_waiting(self) -> None:
        for batch in self.closed:
            if not batch.has_sequence:
                break
            self.number(batch)

    def split(self, batch: RecordBatch, children: list[RecordBatch]) -> None:
        """Put the children of a split batch in its place, under its numbers."""
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

        The broker appended nothing of `batch`, so its numbers are free; but those behind it were
        given for all of its records.
        """
        self.is_proven = False
        self.retry_at = max(self.retry_at, retry_at)
        if batch.has_sequence:
            others.assign_sequence(batch.producer_id, batch.producer_epoch, batch.base_sequence)
            if self.is_current(batch):
                following = advance_sequence(batch.base_sequence, batch.record_count)
                if following == self.next_sequence:
                    self.next_sequence = advance_sequence(batch.base_sequence, others.record_count)
                else:
                    self._open_gap(others)
        self.closed.insert(self._place_of(batch), others)

    def split_head(self, head: RecordBatch, parts: list[RecordBatch]) -> None:
        """Put the parts of the head in its place; no attempt of it is in doubt."""
        assert self.closed[0] is head
        self.closed.popleft()
        if head.has_sequence:
            self.split(head, parts)
        else:
            self.closed.extendleft(reversed(parts))

    def take_outcome_unknown(self) -> list[RecordBatch]:
        """Take out the batches that wait for a retry and may be stored already."""
        doubtful = [batch for batch in self.closed if batch.possibly_persisted]
        for batch in doubtful:
            self.closed.remove(batch)
        return doubtful

    def disown_epoch(self) -> None:
        """Have nothing be sent under the numbers in use: they are somebody else's by now.

        What was numbered and waits is numbered again, once nothing is in flight.
        """
        self.is_proven = False
        self.disowned = self.id_and_epoch
        numbered = [batch for batch in (*self.in_flight, *self.closed) if batch.has_sequence]
        if numbered:
            self.gap = "refused"
            self.gap_at = min(numbered, key=self._distance).base_sequence
            self.needs_epoch = True

    def has_disowned(self, batch: RecordBatch) -> bool:
        """Whether the numbers of a batch are somebody else's by now."""
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

        The numbers go on: the new topic takes any first one.
        """
        self.is_proven = False
        self.in_flight_node = NO_LEADER

    def _distance(self, batch: RecordBatch) -> int:
        return self.steps_to(batch.base_sequence)
