"""One partition's queue: sequences, retries, gaps; then a broker that does its worst."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aioproducer._native.record_batch import BATCH_HEADER_SIZE, RecordBatch
from aioproducer.errors import (
    InvalidRecordError,
    KafkaError,
    KafkaTimeoutError,
    MessageTooLargeError,
    NetworkError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OutOfOrderSequenceNumberError,
)
from aioproducer.network.metadata import NO_LEADER, PartitionLeader
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.retry import Step, next_step
from aioproducer.sending.sequences import ProducerIdAndEpoch, advance_sequence
from tests.support.core import Core, records_of

ME = ProducerIdAndEpoch(7, 0)
MAX_IN_FLIGHT = 5
LAST = 2**31 - 1


class QueueHarness:
    """A queue whose batches are called by the value of their first record."""

    def __init__(self, id_and_epoch: ProducerIdAndEpoch | None = ME) -> None:
        self.core = Core(queue_type=PartitionQueue)
        queue = self.core.queue()
        assert isinstance(queue, PartitionQueue)
        self.queue = queue
        self.queue.led_by(PartitionLeader(1, 0))
        self.id_and_epoch = id_and_epoch
        self.now = 0.0

    def add(self, *sizes: int) -> list[RecordBatch]:
        """Close a batch of so many records, for each size."""
        for size in sizes:
            for _ in range(size):
                self.core.put()
            self.queue.close_open()
        return [*self.queue.closed]

    def may_take(self, max_in_flight: int = MAX_IN_FLIGHT) -> bool:
        return self.queue.may_take(self.now, max_in_flight, self.id_and_epoch)

    def take(self, count: int = 1) -> list[RecordBatch]:
        taken: list[RecordBatch] = []
        for _ in range(count):
            assert self.may_take()
            taken.append(self.queue.take(self.id_and_epoch))
        return taken

    def acknowledge(self, *batches: RecordBatch) -> None:
        for batch in batches:
            self.queue.request_ended(batch)
            self.queue.acknowledged(batch)
            batch.complete(0)

    def retry(self, *batches: RecordBatch, at: float = 0.0) -> None:
        for batch in batches:
            self.queue.request_ended(batch)
            self.queue.requeue(batch, at)

    def refuse(self, batch: RecordBatch) -> None:
        self.queue.request_ended(batch)
        self.queue.refused(batch)
        batch.fail(InvalidRecordError())

    def proven(self) -> QueueHarness:
        """Have a first batch of one record acknowledged."""
        self.add(1)
        self.acknowledge(*self.take())
        return self

    def epochs_and_sequences(self) -> list[tuple[int, int]]:
        """Return epoch and first sequence of each batch that waits."""
        return [(batch.producer_epoch, batch.base_sequence) for batch in self.queue.closed]


# ---- what may be taken


def test_an_empty_partition_queue_gives_nothing() -> None:
    harness = QueueHarness()
    assert harness.queue.is_idle
    assert not harness.may_take()


def test_the_oldest_closed_batch_is_taken_first() -> None:
    harness = QueueHarness()
    first, second = harness.add(1, 1)
    assert harness.take() == [first]
    assert harness.queue.head is second


def test_an_open_batch_is_taken_only_when_it_is_due() -> None:
    harness = QueueHarness()
    harness.core.put()
    assert not harness.may_take()
    harness.queue.open_is_due = True
    assert harness.may_take()
    (batch,) = harness.take()
    assert batch.record_count == 1
    assert harness.queue.open is None
    assert not harness.queue.open_is_due


def test_a_taken_batch_is_in_flight_and_its_attempts_are_counted() -> None:
    harness = QueueHarness()
    harness.add(1)
    (batch,) = harness.take()
    assert (batch.is_in_flight, batch.attempts) == (True, 1)
    assert [*harness.queue.in_flight] == [batch]
    harness.retry(batch)
    assert not batch.is_in_flight
    harness.take()
    assert batch.attempts == 2


def test_nothing_is_taken_without_a_leader() -> None:
    harness = QueueHarness()
    harness.add(1)
    harness.queue.led_by(PartitionLeader(NO_LEADER, 1))
    assert not harness.may_take()


def test_nothing_is_taken_before_the_backoff_is_over() -> None:
    harness = QueueHarness()
    harness.add(1)
    harness.retry(*harness.take(), at=5.0)
    harness.now = 4.9
    assert not harness.may_take()
    harness.now = 5.0
    assert harness.may_take()


def test_a_batch_in_compression_holds_back_the_later_ones() -> None:
    harness = QueueHarness()
    first, _ = harness.add(1, 1)
    first.is_compressing = True
    assert not harness.may_take()
    first.is_compressing = False
    assert harness.may_take()


def test_only_one_batch_is_in_flight_before_the_first_acknowledgement() -> None:
    harness = QueueHarness()
    harness.add(1, 1)
    (first,) = harness.take()
    assert not harness.may_take()
    harness.acknowledge(first)
    assert harness.may_take()


def test_several_batches_may_be_in_flight_after_the_first_acknowledgement() -> None:
    harness = QueueHarness().proven()
    harness.add(*[1] * 7)
    harness.take(MAX_IN_FLIGHT)
    assert not harness.may_take()


def test_a_limit_of_one_lets_one_batch_be_in_flight() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    harness.take()
    assert not harness.may_take(max_in_flight=1)


def test_without_idempotence_several_batches_may_be_in_flight_from_the_start() -> None:
    harness = QueueHarness(id_and_epoch=None)
    harness.add(*[1] * 7)
    harness.take(MAX_IN_FLIGHT)
    assert not harness.may_take()


def test_without_idempotence_no_batch_has_a_sequence() -> None:
    harness = QueueHarness(id_and_epoch=None)
    harness.add(1)
    assert not harness.take()[0].has_sequence


def test_the_first_retry_is_taken_only_when_nothing_else_is_in_flight() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    first, second = harness.take(2)
    harness.retry(first)
    assert not harness.may_take()
    harness.retry(second)
    assert harness.take() == [first]


def test_the_other_retries_follow_the_first_acknowledged_one_side_by_side() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1, 1)
    first, second, third = harness.take(3)
    harness.retry(first, second, third)
    harness.take()
    assert not harness.may_take()
    harness.acknowledge(first)
    assert harness.take(2) == [second, third]
    harness.take()  # and one that was never sent
    assert len(harness.queue.in_flight) == 3


def test_a_retry_that_fails_again_has_the_next_one_go_alone_again() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    first, second, third = harness.take(3)
    harness.retry(first, second, third)
    harness.acknowledge(*harness.take())
    harness.retry(*harness.take(2))
    assert harness.take() == [second]
    assert not harness.may_take()


def test_a_retry_does_not_go_behind_later_batches_that_are_still_in_flight() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    first, second, third = harness.take(3)
    harness.retry(first)
    harness.acknowledge(second)  # the leader has the first one too: only its response was lost
    assert harness.queue.is_proven
    assert not harness.may_take()
    harness.acknowledge(third)
    assert harness.take() == [first]


def test_without_sequences_retries_go_one_at_a_time() -> None:
    harness = QueueHarness(id_and_epoch=None)
    harness.add(1, 1, 1)
    first, second = harness.take(2)
    harness.retry(first, second)
    assert harness.take() == [first]
    assert not harness.may_take()
    harness.acknowledge(first)
    assert harness.take() == [second]


def test_a_new_batch_is_not_taken_while_one_is_in_flight_to_an_earlier_leader() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    (first,) = harness.take()
    harness.queue.led_by(PartitionLeader(2, 1))
    assert not harness.may_take()
    harness.acknowledge(first)
    assert harness.may_take()


def test_a_response_of_the_earlier_leader_allows_nothing_while_more_are_in_flight_to_it() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    first, _ = harness.take(2)
    harness.queue.led_by(PartitionLeader(2, 1))
    harness.acknowledge(first)
    harness.queue.is_proven = True
    assert not harness.may_take()


def test_a_response_of_the_earlier_leader_does_not_allow_more_in_flight_to_the_new_one() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    (first,) = harness.take()
    harness.queue.led_by(PartitionLeader(2, 1))
    harness.acknowledge(first)
    harness.take()
    assert not harness.may_take()


def test_a_new_leader_has_to_acknowledge_one_batch_before_two_are_in_flight() -> None:
    harness = QueueHarness().proven()
    harness.queue.led_by(PartitionLeader(2, 1))
    harness.add(1, 1)
    harness.take()
    assert not harness.may_take()


def test_a_topic_recreated_has_to_acknowledge_one_batch_before_two_are_in_flight() -> None:
    harness = QueueHarness().proven()
    harness.queue.topic_recreated()
    harness.add(1, 1)
    harness.take()
    assert not harness.may_take()


def test_nothing_goes_to_a_topic_recreated_while_the_earlier_one_has_not_answered() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    first, second = harness.take(2)
    harness.queue.topic_recreated()
    harness.acknowledge(first)
    assert not harness.may_take()
    harness.retry(second)
    assert harness.take() == [second]
    assert not harness.may_take()


@pytest.mark.parametrize(("silent_for", "pipelines"), [(3_599.0, True), (3_601.0, False)])
def test_a_broker_that_may_have_forgotten_the_producer_has_to_acknowledge_again(
    silent_for: float, pipelines: bool
) -> None:
    harness = QueueHarness().proven()
    harness.now = harness.core.now = harness.core.now + silent_for
    harness.add(1, 1, 1)
    (first,) = harness.take()
    assert harness.may_take() == pipelines
    harness.acknowledge(first)
    harness.take(2)


def test_the_sequences_go_on_in_a_recreated_topic() -> None:
    harness = QueueHarness().proven()
    harness.queue.topic_recreated()
    harness.add(1)
    (batch,) = harness.take()
    assert (batch.producer_epoch, batch.base_sequence) == (0, 1)


def test_the_same_leader_in_a_new_epoch_still_takes_several_batches_in_flight() -> None:
    harness = QueueHarness().proven()
    harness.queue.led_by(PartitionLeader(1, 1))
    harness.add(1, 1)
    harness.take(2)


@pytest.mark.parametrize("leader", [PartitionLeader(2, 1), PartitionLeader(1, 1)])
def test_news_of_the_leader_ends_the_backoff(leader: PartitionLeader) -> None:
    harness = QueueHarness()
    harness.add(1)
    harness.retry(*harness.take(), at=5.0)
    harness.queue.led_by(leader)
    assert harness.may_take()


@pytest.mark.parametrize("leader", [PartitionLeader(1, 0), PartitionLeader(NO_LEADER, 0)])
def test_no_news_of_the_leader_leaves_the_backoff(leader: PartitionLeader) -> None:
    harness = QueueHarness()
    harness.add(1)
    harness.retry(*harness.take(), at=5.0)
    harness.queue.led_by(leader)
    assert harness.queue.retry_at == 5.0


def test_leaders_that_name_each_other_do_not_end_the_backoff_until_one_of_them_stores() -> None:
    harness = QueueHarness()
    harness.add(1)
    for epoch in range(1, 9):
        harness.retry(*harness.take(), at=harness.now + 5.0)
        harness.queue.led_by(PartitionLeader(1 + epoch % 2, epoch))
        assert harness.may_take() == (not harness.queue.is_sent_around)
        harness.now = harness.queue.retry_at
    assert harness.queue.is_sent_around
    harness.acknowledge(*harness.take())
    harness.add(1)
    harness.retry(*harness.take(), at=harness.now + 5.0)
    harness.queue.led_by(PartitionLeader(2, 9))
    assert harness.may_take()


# ---- sequences


def test_sequences_count_records_and_begin_at_zero() -> None:
    harness = QueueHarness()
    harness.add(3, 2, 1)
    found: list[tuple[int, int, int]] = []
    for _ in range(3):
        (batch,) = harness.take()
        found.append((batch.producer_id, batch.producer_epoch, batch.base_sequence))
        harness.acknowledge(batch)
    assert found == [(7, 0, 0), (7, 0, 3), (7, 0, 5)]


def test_a_batch_gets_its_sequence_when_it_is_taken() -> None:
    harness = QueueHarness()
    (batch,) = harness.add(1)
    assert not batch.has_sequence
    harness.take()
    assert batch.has_sequence


def test_a_retry_keeps_its_sequence() -> None:
    harness = QueueHarness().proven()
    harness.add(2)
    (batch,) = harness.take()
    harness.retry(batch)
    harness.take()
    assert batch.base_sequence == 1


def near_the_end(distance: int) -> QueueHarness:
    """Return a queue whose next number is so many before the wrap."""
    harness = QueueHarness().proven()
    harness.queue.next_sequence = LAST + 1 - distance
    harness.queue.last_acknowledged = LAST - distance
    return harness


def test_the_last_sequence_is_followed_by_zero() -> None:
    harness = near_the_end(1)
    harness.add(1, 1)
    assert [batch.base_sequence for batch in harness.take(2)] == [LAST, 0]


def test_a_batch_may_lie_across_the_wrap() -> None:
    harness = near_the_end(2)
    harness.add(5, 1)
    assert [batch.base_sequence for batch in harness.take(2)] == [LAST - 1, 3]


def test_retries_keep_their_order_across_the_wrap() -> None:
    harness = near_the_end(2)
    harness.add(1, 1, 1, 1)
    batches = harness.take(4)
    harness.retry(*reversed(batches))
    assert [*harness.queue.closed] == batches
    assert [number for _, number in harness.epochs_and_sequences()] == [LAST - 1, LAST, 0, 1]


def test_the_last_acknowledged_sequence_does_not_go_back_across_the_wrap() -> None:
    harness = near_the_end(1)
    harness.add(1, 1)
    last, zero = harness.take(2)
    harness.acknowledge(zero)
    harness.acknowledge(last)
    assert harness.queue.last_acknowledged == 0


def test_another_producer_id_begins_at_sequence_zero() -> None:
    harness = QueueHarness().proven()
    harness.id_and_epoch = ME.bumped()
    harness.add(1)
    (batch,) = harness.take()
    assert (batch.producer_epoch, batch.base_sequence) == (1, 0)


def test_another_producer_id_waits_until_the_sequences_in_flight_are_answered() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    (first,) = harness.take()
    harness.id_and_epoch = ME.bumped()
    assert not harness.may_take()
    harness.acknowledge(first)
    assert harness.may_take()


def test_a_retry_keeps_its_epoch_also_when_there_is_another_producer_id() -> None:
    harness = QueueHarness().proven()
    harness.add(1)
    (batch,) = harness.take()
    harness.retry(batch)
    harness.id_and_epoch = ME.bumped()
    harness.take()
    assert (batch.producer_epoch, batch.base_sequence) == (0, 1)


# ---- retries


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_retries_stand_in_the_order_of_their_sequences(order: Sequence[int]) -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1, 1)
    batches = harness.take(3)
    for index in order:
        harness.retry(batches[index])
    assert [*harness.queue.closed][:3] == batches


def test_a_retry_that_a_later_acknowledgement_overtook_stands_first_and_is_known_as_stored() -> (
    None
):
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    stored_unanswered, acknowledged, refused = harness.take(3)
    stored_unanswered.possibly_persisted = True
    harness.retry(stored_unanswered)
    harness.acknowledge(acknowledged)
    harness.retry(refused)
    assert list(harness.queue.closed) == [stored_unanswered, refused]
    assert harness.queue.take_stored() == [stored_unanswered]
    assert list(harness.queue.closed) == [refused]


def test_a_refused_batch_is_not_taken_for_stored_because_a_later_one_was_acknowledged() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    refused, acknowledged = harness.take(2)
    harness.retry(refused)
    harness.acknowledge(acknowledged)
    assert harness.queue.take_stored() == []
    assert list(harness.queue.closed) == [refused]


def test_a_retry_stands_before_batches_that_were_never_sent() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    (first,) = harness.take()
    harness.retry(first)
    assert harness.queue.head is first


def test_without_sequences_batches_that_fail_together_keep_their_order() -> None:
    harness = QueueHarness(id_and_epoch=None)
    batches = harness.add(1, 1, 1, 1)
    harness.retry(*harness.take(3))
    assert [*harness.queue.closed] == batches


def test_without_sequences_a_batch_that_fails_again_stays_the_first() -> None:
    harness = QueueHarness(id_and_epoch=None)
    batches = harness.add(1, 1, 1)
    harness.retry(*harness.take(3))
    harness.retry(*harness.take())
    assert [*harness.queue.closed] == batches


def test_a_shorter_backoff_does_not_cut_a_longer_one() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    first, second = harness.take(2)
    harness.retry(first, at=5.0)
    harness.retry(second, at=3.0)
    assert harness.queue.retry_at == 5.0


def test_a_batch_is_behind_what_was_acknowledged_when_a_later_one_was() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    first, second, third = harness.take(3)
    harness.acknowledge(second)
    assert harness.queue.is_behind_acknowledged(first)
    assert not harness.queue.is_behind_acknowledged(third)


def test_a_batch_of_another_epoch_is_not_behind_what_was_acknowledged() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    (old,) = harness.take()
    harness.queue.request_ended(old)
    harness.id_and_epoch = ME.bumped()
    harness.queue.restart(harness.id_and_epoch)
    harness.acknowledge(*harness.take())
    assert not harness.queue.is_behind_acknowledged(old)


def test_refusals_of_the_first_sequence_are_forgotten_with_the_next_acknowledgement() -> None:
    harness = QueueHarness()
    harness.queue.refusals_at_zero = 3
    harness.proven()
    assert harness.queue.refusals_at_zero == 0


def test_a_batch_is_next_when_no_earlier_sequence_is_in_flight() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    first, second = harness.take(2)
    assert harness.queue.is_next_in_sequence(first)
    assert not harness.queue.is_next_in_sequence(second)
    harness.retry(first)
    harness.queue.request_ended(second)
    assert not harness.queue.is_next_in_sequence(second)
    harness.take()
    harness.acknowledge(first)
    assert harness.queue.is_next_in_sequence(second)


# ---- splits


@pytest.mark.parametrize("id_and_epoch", [ME, None])
def test_the_parts_of_a_split_take_the_batchs_place(
    id_and_epoch: ProducerIdAndEpoch | None,
) -> None:
    harness = QueueHarness(id_and_epoch)
    harness.add(3, 1)
    (batch,) = harness.take()
    behind = harness.queue.closed[0]
    harness.queue.request_ended(batch)
    parts = batch.split(1)
    harness.queue.split(batch, parts)
    assert [*harness.queue.closed] == [*parts, behind]


def test_the_parts_of_a_split_batch_share_its_sequences() -> None:
    harness = QueueHarness().proven()
    harness.add(3)
    (batch,) = harness.take()
    harness.queue.request_ended(batch)
    harness.queue.split(batch, batch.split(1))
    assert harness.epochs_and_sequences() == [(0, 1), (0, 2), (0, 3)]


def test_the_parts_of_a_split_stand_before_later_retries() -> None:
    harness = QueueHarness().proven()
    harness.add(2, 1)
    batch, later = harness.take(2)
    harness.retry(later)
    harness.queue.request_ended(batch)
    parts = batch.split(1)
    harness.queue.split(batch, parts)
    assert [*harness.queue.closed] == [*parts, later]


def test_without_sequences_the_parts_of_a_split_retry_stand_before_later_retries() -> None:
    harness = QueueHarness(id_and_epoch=None)
    harness.add(2, 1)
    batch, later = harness.take(2)
    harness.retry(batch, later)
    harness.take()
    harness.queue.request_ended(batch)
    parts = batch.split(1)
    harness.queue.split(batch, parts)
    assert [*harness.queue.closed] == [*parts, later]


# ---- what is left of a waiting batch of which records were withdrawn


def withdraw_first(harness: QueueHarness, batch: RecordBatch) -> RecordBatch | None:
    others, _ = batch.refuse({0: KafkaTimeoutError()})
    harness.queue.replace_waiting(batch, others)
    return others


def test_what_is_left_of_a_batch_that_waits_takes_its_place() -> None:
    harness = QueueHarness()
    before, batch, behind = harness.add(1, 3, 1)
    others = withdraw_first(harness, batch)
    assert [*harness.queue.closed] == [before, others, behind]
    assert others is not None
    assert others.record_count == 2
    assert not others.has_sequence


def test_a_batch_of_which_nothing_is_left_is_gone() -> None:
    harness = QueueHarness()
    before, batch, behind = harness.add(1, 1, 1)
    assert withdraw_first(harness, batch) is None
    assert [*harness.queue.closed] == [before, behind]


def test_what_is_left_of_the_open_batch_takes_no_more_records() -> None:
    harness = QueueHarness()
    harness.core.put()
    harness.core.put()
    batch = harness.queue.open
    assert batch is not None
    harness.queue.close_open()
    others = withdraw_first(harness, batch)
    assert harness.queue.open is None
    assert [*harness.queue.closed] == [others]


def test_what_is_left_of_a_batch_that_was_sent_keeps_its_sequence_and_attempts() -> None:
    harness = QueueHarness().proven()
    harness.add(3, 1)
    first, second = harness.take(2)
    harness.retry(first, second)
    others = withdraw_first(harness, first)
    assert others is not None
    assert (others.base_sequence, others.attempts) == (1, 1)
    # The one behind it cannot be accepted under its sequence any more.
    assert harness.queue.close_gap()
    assert harness.queue.may_resequence
    harness.queue.resequence()
    assert harness.epochs_and_sequences() == [(0, 1), (0, 3)]


def test_the_sequences_of_a_batch_that_is_withdrawn_are_given_again() -> None:
    harness = QueueHarness().proven()
    harness.add(1)
    (batch,) = harness.take()
    harness.retry(batch, at=5.0)
    withdraw_first(harness, batch)
    harness.add(1)
    # The backoff was that of the batch.
    (following,) = harness.take()
    assert following.base_sequence == 1


# ---- what is left of a batch that had records refused (KIP-467)


def refuse_first(harness: QueueHarness, batch: RecordBatch, *, at: float = 0.0) -> RecordBatch:
    """Refuse the first record of a batch that was sent; return what is left of it."""
    harness.queue.request_ended(batch)
    others, _ = batch.refuse({0: InvalidRecordError()})
    assert others is not None
    harness.queue.put_others(batch, others, at)
    return others


def test_what_is_left_of_a_refused_batch_takes_its_place_and_first_sequence() -> None:
    harness = QueueHarness().proven()
    harness.add(3, 1)
    (batch,) = harness.take()
    behind = harness.queue.closed[0]
    others = refuse_first(harness, batch)
    assert [*harness.queue.closed] == [others, behind]
    assert (others.producer_epoch, others.base_sequence) == (0, 1)


def test_the_sequences_of_refused_records_go_to_the_next_batch_when_theirs_was_the_last() -> None:
    harness = QueueHarness().proven()
    harness.add(3, 1)
    (batch,) = harness.take()
    refuse_first(harness, batch)
    assert not harness.queue.close_gap()
    (others,) = harness.take()
    harness.acknowledge(others)
    assert [batch.base_sequence for batch in harness.take()] == [1 + 2]


def test_refused_records_before_other_batches_need_a_new_epoch() -> None:
    harness = QueueHarness().proven()
    harness.add(3, 1)
    batch, later = harness.take(2)
    others = refuse_first(harness, batch)
    assert not harness.queue.close_gap()  # one is in flight yet
    harness.retry(later)
    assert harness.queue.close_gap()
    harness.id_and_epoch = ME.bumped()
    harness.queue.restart(harness.id_and_epoch)
    assert [*harness.queue.closed] == [others, later]
    assert harness.epochs_and_sequences() == [(1, 0), (1, 2)]


def test_what_is_left_of_a_refused_batch_goes_alone_and_not_before_its_time() -> None:
    harness = QueueHarness().proven()
    harness.add(3, 1)
    (batch,) = harness.take()
    refuse_first(harness, batch, at=5.0)
    assert not harness.may_take()
    harness.now = 5.0
    harness.take()
    assert not harness.may_take()


def test_what_is_left_of_a_refused_batch_stands_before_later_retries() -> None:
    harness = QueueHarness().proven()
    harness.add(2, 1)
    batch, later = harness.take(2)
    harness.retry(later)
    others = refuse_first(harness, batch)
    assert [*harness.queue.closed] == [others, later]


def test_without_sequences_what_is_left_of_a_refused_retry_stands_before_later_retries() -> None:
    harness = QueueHarness(id_and_epoch=None)
    harness.add(2, 1)
    batch, later = harness.take(2)
    harness.retry(batch, later)
    harness.take()
    others = refuse_first(harness, batch)
    assert [*harness.queue.closed] == [others, later]


def test_without_sequences_what_is_left_of_a_refused_batch_stands_behind_earlier_retries() -> None:
    harness = QueueHarness(id_and_epoch=None)
    harness.add(1, 2, 1)
    first, batch = harness.take(2)
    harness.retry(first)
    others = refuse_first(harness, batch)
    assert [*harness.queue.closed][:2] == [first, others]


# ---- gaps


def test_the_sequences_of_a_refused_batch_go_to_the_next_when_it_was_the_last() -> None:
    harness = QueueHarness().proven()
    harness.add(2, 1)
    (refused,) = harness.take()
    harness.refuse(refused)
    assert not harness.queue.close_gap()
    assert harness.take()[0].base_sequence == refused.base_sequence


def test_a_refused_batch_before_others_leaves_a_gap_to_close() -> None:
    harness = QueueHarness().proven()
    harness.add(2, 1)
    refused, later = harness.take(2)
    harness.refuse(refused)
    assert not harness.queue.close_gap()  # one is in flight yet
    harness.retry(later)
    assert harness.queue.close_gap()


def test_the_gap_of_a_refused_batch_is_closed_by_the_sequences_that_the_broker_expects() -> None:
    harness = QueueHarness().proven()
    harness.add(2, 1, 3, 1)
    refused, *later = harness.take(3)
    harness.refuse(refused)
    harness.retry(*later)
    assert harness.queue.close_gap()
    assert harness.queue.may_resequence
    harness.queue.resequence()
    assert harness.epochs_and_sequences() == [(0, 1), (0, 2), (-1, -1)]
    assert not harness.queue.close_gap()
    harness.acknowledge(*harness.take())
    harness.acknowledge(*harness.take(2))
    assert harness.queue.last_acknowledged == 5


def test_a_gap_across_the_wrap_is_closed_too() -> None:
    harness = near_the_end(2)
    harness.add(1, 1, 1)
    refused, *later = harness.take(3)
    harness.refuse(refused)
    harness.retry(*later)
    assert harness.queue.close_gap()
    harness.queue.resequence()
    assert harness.epochs_and_sequences() == [(0, LAST - 1), (0, LAST)]


def test_a_gap_before_a_batch_of_unknown_outcome_needs_a_new_epoch() -> None:
    # A request with its number may still lie in a socket.
    harness = QueueHarness().proven()
    harness.add(1, 1)
    refused, doubtful = harness.take(2)
    harness.refuse(refused)
    doubtful.possibly_persisted = True
    harness.retry(doubtful)
    assert harness.queue.close_gap()
    assert not harness.queue.may_resequence


def test_a_gap_beside_a_batch_of_unknown_outcome_needs_a_new_epoch() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    refused, lost, later = harness.take(3)
    harness.refuse(refused)
    harness.queue.request_ended(lost)
    harness.queue.outcome_unknown(lost)
    harness.retry(later)
    assert harness.queue.close_gap()
    assert not harness.queue.may_resequence


def test_a_sequence_that_a_broker_lost_track_of_needs_a_new_epoch() -> None:
    harness = QueueHarness().proven()
    harness.add(1)
    (batch,) = harness.take()
    harness.queue.request_ended(batch)
    harness.queue.must_start_over(batch)
    harness.queue.requeue(batch, 0.0)
    assert harness.queue.close_gap()
    assert not harness.queue.may_resequence
    harness.id_and_epoch = ME.bumped()
    harness.queue.restart(harness.id_and_epoch)
    assert harness.epochs_and_sequences() == [(1, 0)]
    assert not harness.queue.needs_epoch


def test_a_batch_behind_a_gap_is_not_the_next_in_sequence() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    refused, later = harness.take(2)
    harness.refuse(refused)
    assert not harness.queue.is_next_in_sequence(later)


# ---- another cluster behind the same addresses


def test_nothing_is_sent_under_sequences_that_another_batch_has_by_now() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    first, second = harness.take(2)
    harness.retry(second)
    harness.queue.disown_epoch()
    assert harness.queue.has_disowned(first)
    assert harness.queue.has_disowned(second)
    assert not harness.may_take()  # one is in flight yet
    harness.retry(first)
    assert harness.queue.close_gap()
    assert not harness.queue.may_resequence
    harness.id_and_epoch = ProducerIdAndEpoch(8, 0)
    harness.queue.restart(harness.id_and_epoch)
    assert [(b.producer_id, b.base_sequence) for b in harness.queue.closed] == [
        (8, 0),
        (8, 1),
        (-1, -1),
    ]
    assert not harness.queue.has_disowned(first)


def test_what_had_no_sequence_yet_gets_one_under_the_new_producer_id() -> None:
    harness = QueueHarness().proven()
    harness.add(1)
    harness.queue.disown_epoch()
    harness.id_and_epoch = ProducerIdAndEpoch(8, 0)
    assert not harness.queue.close_gap()
    (batch,) = harness.take()
    assert (batch.producer_id, batch.base_sequence) == (8, 0)
    assert not harness.queue.has_disowned(batch)


def test_a_partition_queue_without_sequences_has_none_to_give_up() -> None:
    harness = QueueHarness(id_and_epoch=None)
    harness.add(1)
    harness.queue.disown_epoch()
    assert harness.may_take()


def test_the_waiting_batches_of_unknown_outcome_are_taken_out() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    doubtful, other = harness.take(2)
    doubtful.possibly_persisted = True
    harness.retry(doubtful, other)
    assert harness.queue.take_outcome_unknown() == [doubtful]
    assert doubtful not in harness.queue.closed
    assert harness.queue.head is other


# ---- a batch that is cut before it is sent


@pytest.mark.parametrize("sent_before", [False, True])
def test_the_parts_of_the_first_batch_take_its_place_and_sequences(sent_before: bool) -> None:
    harness = QueueHarness().proven()
    harness.add(3, 1)
    if sent_before:
        harness.retry(*harness.take())
    head = harness.queue.head
    assert head is not None
    parts = head.split(1)
    harness.queue.split_head(head, parts)
    assert [*harness.queue.closed][:3] == parts
    expected = [(0, 1), (0, 2), (0, 3)] if sent_before else [(-1, -1)] * 3
    assert harness.epochs_and_sequences()[:3] == expected
    for number in (1, 2, 3):
        (part,) = harness.take()
        assert part.base_sequence == number
        harness.acknowledge(part)


def test_nothing_new_is_taken_behind_a_gap() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    refused, _ = harness.take(2)
    harness.refuse(refused)
    assert not harness.may_take()


def test_after_a_new_epoch_sequences_begin_at_zero_again() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 2, 3, 1)
    refused, *later = harness.take(3)
    harness.refuse(refused)
    harness.retry(*later)
    harness.id_and_epoch = ME.bumped()
    harness.queue.restart(harness.id_and_epoch)
    assert harness.epochs_and_sequences() == [(1, 0), (1, 2), (-1, -1)]
    assert not harness.queue.close_gap()


def test_after_a_new_epoch_one_batch_goes_first() -> None:
    harness = QueueHarness().proven()
    harness.queue.restart(ME.bumped())
    harness.id_and_epoch = ME.bumped()
    harness.add(1, 1)
    harness.take()
    assert not harness.may_take()


def test_a_batch_of_unknown_outcome_needs_no_epoch_when_a_later_one_was_stored() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    lost, later = harness.take(2)
    harness.queue.request_ended(lost)
    harness.queue.outcome_unknown(lost)
    harness.acknowledge(later)
    assert not harness.queue.close_gap()
    harness.add(1)
    assert harness.take()[0].base_sequence == 3


def test_a_batch_of_unknown_outcome_needs_an_epoch_when_nothing_settles_it() -> None:
    harness = QueueHarness().proven()
    harness.add(1)
    (lost,) = harness.take()
    harness.queue.request_ended(lost)
    harness.queue.outcome_unknown(lost)
    assert harness.queue.close_gap()


def test_a_later_batch_on_its_way_again_is_waited_for_before_an_epoch() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    lost, later = harness.take(2)
    harness.queue.request_ended(lost)
    harness.queue.outcome_unknown(lost)
    harness.retry(later)
    assert not harness.queue.close_gap()
    assert harness.take() == [later]
    harness.acknowledge(later)
    assert not harness.queue.close_gap()


def test_a_refused_batch_that_may_have_been_stored_leaves_a_gap() -> None:
    harness = QueueHarness().proven()
    harness.add(1)
    (batch,) = harness.take()
    batch.possibly_persisted = True
    harness.refuse(batch)
    assert harness.queue.close_gap()


def test_a_later_batch_decides_whether_a_refused_one_was_stored() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    batch, later = harness.take(2)
    batch.possibly_persisted = True
    harness.refuse(batch)
    harness.retry(later)
    assert not harness.queue.close_gap()
    harness.acknowledge(*harness.take())
    assert not harness.queue.close_gap()


def test_what_has_no_known_outcome_before_a_gap_is_first_retried_under_its_old_sequence() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    doubtful, refused, behind = harness.take(3)
    doubtful.possibly_persisted = True
    harness.retry(doubtful)
    harness.refuse(refused)
    harness.retry(behind)
    number = doubtful.base_sequence
    assert not harness.queue.close_gap()
    assert harness.take() == [doubtful]
    assert doubtful.base_sequence == number
    harness.acknowledge(doubtful)
    assert harness.queue.close_gap()


def test_what_has_no_known_outcome_behind_a_gap_cannot_have_been_stored() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    refused, doubtful = harness.take(2)
    doubtful.possibly_persisted = True
    harness.refuse(refused)
    harness.retry(doubtful)
    assert harness.queue.close_gap()


def test_batches_of_an_earlier_epoch_do_not_touch_the_sequences() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    (old,) = harness.take()
    harness.queue.request_ended(old)
    harness.queue.restart(ME.bumped())
    harness.queue.refused(old)
    harness.queue.outcome_unknown(old)
    harness.queue.acknowledged(old)
    assert (harness.queue.gap, harness.queue.next_sequence, harness.queue.last_acknowledged) == (
        "none",
        0,
        -1,
    )


def test_an_expired_batch_that_was_never_sent_leaves_the_sequences_alone() -> None:
    harness = QueueHarness().proven()
    expired, kept = harness.add(1, 1)
    harness.queue.forget(expired)
    harness.queue.refused(expired)
    harness.queue.outcome_unknown(expired)
    assert not harness.queue.close_gap()
    assert harness.take() == [kept]
    assert kept.base_sequence == 1


# ---- what there is


def test_batches_are_listed_oldest_first_without_those_that_are_done() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1, 1)
    first, second = harness.take(2)
    harness.core.put()
    waiting = [*harness.queue.closed]
    first.fail(KafkaTimeoutError())
    assert harness.queue.batches() == [second, *waiting, harness.queue.open]


def test_a_partition_queue_with_anything_under_way_is_not_idle() -> None:
    harness = QueueHarness()
    harness.core.put()
    assert not harness.queue.is_idle
    harness.queue.close_open()
    assert not harness.queue.is_idle
    (batch,) = harness.take()
    assert not harness.queue.is_idle
    harness.acknowledge(batch)
    assert harness.queue.is_idle


def test_the_open_batch_can_be_forgotten() -> None:
    harness = QueueHarness()
    harness.core.put()
    batch = harness.queue.open
    assert batch is not None
    harness.queue.open_is_due = True
    harness.queue.forget(batch)
    assert harness.queue.is_idle
    assert not harness.queue.open_is_due


def test_a_batch_in_flight_is_not_forgotten_before_its_response() -> None:
    harness = QueueHarness()
    harness.add(1)
    (batch,) = harness.take()
    harness.queue.forget(batch)
    assert [*harness.queue.in_flight] == [batch]


def test_everything_that_waits_can_be_forgotten() -> None:
    harness = QueueHarness()
    harness.add(1, 1)
    harness.core.put()
    (batch,) = harness.take()
    harness.queue.forget_waiting()
    assert harness.queue.batches() == [batch]


# ---- a broker that does its worst


@dataclass(eq=False)
class Request:
    """A batch as it was when it was sent, and what the broker says to it."""

    batch: RecordBatch
    node: int
    id_and_epoch: ProducerIdAndEpoch
    base: int
    values: list[bytes | None]
    response: KafkaError | int | None = None
    refused: tuple[int, ...] = ()


@dataclass
class Broker:
    """The log of one partition, and what a broker checks before it appends (KIP-98, KIP-360)."""

    log: list[bytes | None] = field(default_factory=list[bytes | None])
    id_and_epoch: ProducerIdAndEpoch | None = None
    last: int = -1
    recent: deque[tuple[int, int, int]] = field(
        default_factory=lambda: deque[tuple[int, int, int]](maxlen=5)
    )

    def append(self, request: Request) -> KafkaError | int:
        """Return the offset, or why it was not appended."""
        count = len(request.values)
        if request.id_and_epoch == self.id_and_epoch:
            for base, length, offset in self.recent:
                if (base, length) == (request.base, count):
                    return offset
            if request.base != advance_sequence(self.last, 1):
                return OutOfOrderSequenceNumberError()
        elif self.id_and_epoch is not None:
            assert request.id_and_epoch > self.id_and_epoch, "an old epoch after a new one"
            if request.base != 0:
                return OutOfOrderSequenceNumberError()
        if request.id_and_epoch != self.id_and_epoch:
            self.recent.clear()
        self.id_and_epoch = request.id_and_epoch
        self.last = advance_sequence(request.base, count - 1)
        self.recent.append((request.base, count, len(self.log)))
        self.log += request.values
        return len(self.log) - count


class HostileBroker(RuleBasedStateMachine):
    """One queue, driven as sender.py drives it, against `Broker`."""

    timeout = 4.0

    @initialize(start=st.sampled_from([0, 0, LAST - 3, LAST]))
    def begin(self, start: int) -> None:
        self.harness = QueueHarness()
        self.queue = self.harness.queue
        self.broker = Broker()
        self.leader = PartitionLeader(1, 0)
        self.wire: deque[Request] = deque()
        self.batches: list[RecordBatch] = []
        self.values: dict[RecordBatch, list[bytes | None]] = {}
        self.withdrawn: set[bytes | None] = set()
        self.count = 0
        self.harness.core.now = 0.0
        if start:
            # As after 2^31 records: the broker knows us, and so do we.
            self.queue.id_and_epoch = self.broker.id_and_epoch = ME
            self.queue.next_sequence = start
            self.queue.last_acknowledged = self.broker.last = start - 1
            self.queue.is_proven = True

    # -- what may happen

    @rule(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4))
    def send(self, sizes: list[int]) -> None:
        for size in sizes:
            for _ in range(size):
                self.harness.core.put(b"%06d" % self.count)
                self.count += 1
            self.queue.close_open()
            self.note(self.queue.closed[-1])
        self.pump()

    @precondition(lambda self: any(request.response is None for request in self.wire))
    @rule(
        outcome=st.sampled_from(
            [None] * 4 + [NotEnoughReplicasError, InvalidRecordError, MessageTooLargeError]
        )
    )
    def broker_takes_the_next(self, outcome: type[KafkaError] | None) -> None:
        request = next(request for request in self.wire if request.response is None)
        if request.node != self.leader.node_id:
            request.response = NotLeaderOrFollowerError()
        elif outcome is None or request.values[0] in self.broker.log:
            # What a broker has stored it does not refuse later.
            request.response = self.broker.append(request)
        else:
            request.response = outcome()

    @precondition(lambda self: any(request.response is None for request in self.wire))
    @rule(first=st.integers(0, 2), step=st.integers(1, 3))
    def broker_refuses_some_records(self, first: int, step: int) -> None:
        request = next(request for request in self.wire if request.response is None)
        self.broker_takes_the_next(InvalidRecordError)
        if isinstance(request.response, InvalidRecordError):
            request.refused = tuple(range(len(request.values)))[first::step]

    @precondition(lambda self: any(request.response is None for request in self.wire))
    @rule()
    def broker_appends_and_complains(self) -> None:
        request = next(request for request in self.wire if request.response is None)
        if request is not self.wire[-1]:
            # Those behind it would be acknowledged first; then a later refusal makes a second
            # copy of this one, in Java's client as well.
            self.broker_takes_the_next(None)
            return
        self.broker_takes_the_next(None)
        if isinstance(request.response, int):
            request.response = NotEnoughReplicasAfterAppendError()

    @precondition(lambda self: self.wire and self.wire[0].response is not None)
    @rule()
    def response_arrives(self) -> None:
        self.handle(self.wire.popleft())
        self.pump()

    @precondition(lambda self: self.wire)
    @rule(more=st.integers(0, 5))
    def connection_breaks(self, more: int) -> None:
        for request in [request for request in self.wire if request.response is None][:more]:
            if request.node == self.leader.node_id:
                self.broker.append(request)
        lost, self.wire = self.wire, deque()
        for request in lost:
            request.response = NetworkError(possibly_persisted=True)
            self.handle(request)
        self.pump()

    @rule(node=st.sampled_from([1, 2]))
    def leader_moves(self, node: int) -> None:
        self.leader = PartitionLeader(node, self.leader.epoch + 1)
        self.queue.led_by(self.leader)
        self.pump()

    @rule(seconds=st.sampled_from([0.1, 0.1, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.harness.core.now += seconds
        for batch in self.queue.batches():
            if self.harness.core.now < batch.created_at + self.timeout:
                break
            self.queue.forget(batch)
            if batch.is_in_flight:
                batch.possibly_persisted = True
            elif batch.attempts and batch.possibly_persisted:
                self.queue.outcome_unknown(batch)
            elif batch.attempts:
                self.queue.refused(batch)
            batch.fail(KafkaTimeoutError())
        self.pump()

    @rule(place=st.integers(0, 3), which=st.integers(1, 7))
    def a_deadline_is_over(self, place: int, which: int) -> None:
        waiting = [batch for batch in self.queue.closed if not batch.possibly_persisted]
        if place < len(waiting):
            batch = waiting[place]
            late = [index for index in range(batch.record_count) if which & 1 << index]
            self.withdrawn.update(self.values[batch][index] for index in late)
            others, _ = batch.refuse({index: KafkaTimeoutError() for index in late})
            self.queue.replace_waiting(batch, others)
            if others is not None:
                self.note(others)
            self.pump()

    # -- the sender's part

    def note(self, batch: RecordBatch) -> None:
        self.batches.append(batch)
        self.values[batch] = [value for _, value, _, _ in records_of(batch)]

    def pump(self) -> None:
        if self.queue.close_gap() and self.queue.may_resequence:
            self.queue.resequence()
        elif self.queue.close_gap():
            assert self.harness.id_and_epoch is not None
            for batch in self.queue.take_stored():
                batch.complete(-1)
            if self.queue.id_and_epoch == self.harness.id_and_epoch:
                self.harness.id_and_epoch = self.harness.id_and_epoch.bumped()
            self.queue.restart(self.harness.id_and_epoch)
        while self.queue.may_take(self.harness.core.now, MAX_IN_FLIGHT, self.harness.id_and_epoch):
            batch = self.queue.take(self.harness.id_and_epoch)
            id_and_epoch = ProducerIdAndEpoch(batch.producer_id, batch.producer_epoch)
            self.wire.append(
                Request(
                    batch,
                    self.leader.node_id,
                    id_and_epoch,
                    batch.base_sequence,
                    self.values[batch],
                )
            )

    def handle(self, request: Request) -> None:
        batch, response = request.batch, request.response
        assert response is not None
        self.queue.request_ended(batch)
        if isinstance(response, int):
            self.queue.acknowledged(batch)
            if not batch.is_done:
                batch.complete(response)
            return
        if batch.is_done:
            if response.possibly_persisted:
                self.queue.outcome_unknown(batch)
            else:
                self.queue.refused(batch)
            return
        was_outcome_unknown = batch.possibly_persisted
        if response.possibly_persisted:
            batch.possibly_persisted = True
        if isinstance(response, OutOfOrderSequenceNumberError) and batch.base_sequence == 0:
            self.queue.refusals_at_zero += 1
        is_over = self.harness.core.now >= batch.created_at + self.timeout
        step = next_step(
            response,
            is_next_in_sequence=self.queue.is_next_in_sequence(batch),
            is_outcome_unknown=was_outcome_unknown,
            is_behind_acknowledged=self.queue.is_behind_acknowledged(batch),
            record_count=batch.record_count,
            names_records=bool(request.refused),
            refusals_at_zero=self.queue.refusals_at_zero,
            may_retry=not is_over,
        )
        if step is Step.COMPLETE:
            self.queue.acknowledged(batch)
            batch.complete(-1)
        elif step is Step.REFUSE_SOME:
            others, _ = batch.refuse({index: response for index in request.refused})
            if others is None:
                self.queue.refused(batch)
                return
            self.note(others)
            if is_over:
                self.queue.refused(batch)
                others.fail(response)
                return
            self.queue.put_others(batch, others, self.harness.core.now)
        elif step is Step.SPLIT:
            children = batch.split(BATCH_HEADER_SIZE + batch.records_size // 2)
            for child in children:
                self.note(child)
            self.queue.split(batch, children)
        elif step is Step.FAIL:
            if batch.possibly_persisted:
                self.queue.outcome_unknown(batch)
            else:
                self.queue.refused(batch)
            batch.fail(response)
        else:
            assert step in (Step.RETRY, Step.RESTART)
            if step is Step.RESTART:
                self.queue.refused(batch)
                self.queue.must_start_over(batch)
            self.queue.requeue(batch, self.harness.core.now + 0.1)

    # -- what must hold

    @invariant()
    def the_log_has_nothing_twice_and_all_in_order(self) -> None:
        if hasattr(self, "broker"):
            log = [value or b"" for value in self.broker.log]
            assert log == sorted(set(log))

    @invariant()
    def nothing_that_was_withdrawn_is_stored(self) -> None:
        if hasattr(self, "broker"):
            assert not self.withdrawn & set(self.broker.log)

    @invariant()
    def sequenced_batches_stand_first_in_order(self) -> None:
        if not hasattr(self, "queue"):
            return
        sequenced = [batch.has_sequence for batch in self.queue.closed]
        assert sequenced == sorted(sequenced, reverse=True)
        values = [self.values[batch] for batch in self.queue.closed]
        assert values == sorted(values, key=str)

    @invariant()
    def the_limit_in_flight_is_kept(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue.in_flight) <= MAX_IN_FLIGHT
            assert [request.batch for request in self.wire] == [*self.queue.in_flight]

    @invariant()
    def what_was_acknowledged_is_where_it_was_said_to_be(self) -> None:
        for batch in getattr(self, "batches", ()):
            if batch.is_delivered and batch.base_offset < 0:
                assert set(self.values[batch]) <= set(self.broker.log)
            elif batch.is_delivered:
                stored = self.broker.log[batch.base_offset :][: batch.record_count]
                assert stored == self.values[batch]

    def teardown(self) -> None:
        """Let everything arrive that can, without a new fault."""
        if not hasattr(self, "queue"):
            return
        for _ in range(20 + 20 * len(self.batches)):
            if self.queue.is_idle:
                break
            if self.wire:
                self.broker_takes_the_next(None) if self.wire[0].response is None else None
                self.response_arrives()
            else:
                self.harness.core.now = max(self.harness.core.now, self.queue.retry_at)
                self.pump()
        assert self.queue.is_idle
        self.the_log_has_nothing_twice_and_all_in_order()
        self.what_was_acknowledged_is_where_it_was_said_to_be()
        assert all(batch.is_done for batch in self.batches)


# The time is for showing what it finds: the shortest program that breaks a rule.
TestHostileBroker = pytest.mark.timeout(300)(HostileBroker.TestCase)
TestHostileBroker.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, database=None, print_blob=True
)


# ---- without sequences


def without_sequences() -> tuple[QueueHarness, RecordBatch, RecordBatch]:
    """Two batches of two records, both in flight."""
    harness = QueueHarness(id_and_epoch=None)
    harness.add(2, 2)
    first, second = harness.take(2)
    return harness, first, second


def test_the_parts_of_a_split_batch_wait_until_nothing_is_in_flight() -> None:
    harness, first, _ = without_sequences()
    harness.queue.request_ended(first)
    harness.queue.split(first, first.split(1))
    assert not harness.may_take()


def test_batches_that_are_split_one_after_the_other_keep_their_order() -> None:
    harness, first, second = without_sequences()
    parts: list[RecordBatch] = []
    for batch in (first, second):
        harness.queue.request_ended(batch)
        children = batch.split(1)
        harness.queue.split(batch, children)
        parts.extend(children)
    assert [*harness.queue.closed] == parts


def test_a_gap_that_turns_out_to_be_none_needs_no_epoch_later() -> None:
    harness = QueueHarness().proven()
    harness.add(1, 1)
    lost, later = harness.take(2)
    harness.queue.request_ended(lost)
    harness.queue.outcome_unknown(lost)
    harness.acknowledge(later)
    assert not harness.queue.close_gap()
    harness.add(1, 1)
    refused, _ = harness.take(2)
    harness.refuse(refused)
    assert harness.queue.may_resequence
