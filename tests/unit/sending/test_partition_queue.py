"""One partition's queue: numbers, retries, gaps; then a broker that does its worst."""

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
WINDOW = 5
LAST = 2**31 - 1


class Its:
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

    def may_take(self, window: int = WINDOW) -> bool:
        return self.queue.may_take(self.now, window, self.id_and_epoch)

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

    def proven(self) -> Its:
        """Have a first batch of one record acknowledged."""
        self.add(1)
        self.acknowledge(*self.take())
        return self

    def numbers(self) -> list[tuple[int, int]]:
        """Return epoch and first number of each batch that waits."""
        return [(batch.producer_epoch, batch.base_sequence) for batch in self.queue.closed]


# ---- what may be taken


def test_an_empty_partition_queue_gives_nothing() -> None:
    its = Its()
    assert its.queue.is_idle
    assert not its.may_take()


def test_the_oldest_closed_batch_is_taken_first() -> None:
    its = Its()
    first, second = its.add(1, 1)
    assert its.take() == [first]
    assert its.queue.head is second


def test_an_open_batch_is_taken_only_when_it_is_due() -> None:
    its = Its()
    its.core.put()
    assert not its.may_take()
    its.queue.open_is_due = True
    assert its.may_take()
    (batch,) = its.take()
    assert batch.record_count == 1
    assert its.queue.open is None
    assert not its.queue.open_is_due


def test_a_taken_batch_is_in_flight_and_its_attempts_are_counted() -> None:
    its = Its()
    its.add(1)
    (batch,) = its.take()
    assert (batch.is_in_flight, batch.attempts) == (True, 1)
    assert [*its.queue.in_flight] == [batch]
    its.retry(batch)
    assert not batch.is_in_flight
    its.take()
    assert batch.attempts == 2


def test_nothing_is_taken_without_a_leader() -> None:
    its = Its()
    its.add(1)
    its.queue.led_by(PartitionLeader(NO_LEADER, 1))
    assert not its.may_take()


def test_nothing_is_taken_before_the_backoff_is_over() -> None:
    its = Its()
    its.add(1)
    its.retry(*its.take(), at=5.0)
    its.now = 4.9
    assert not its.may_take()
    its.now = 5.0
    assert its.may_take()


def test_a_batch_in_compression_holds_back_the_later_ones() -> None:
    its = Its()
    first, _ = its.add(1, 1)
    first.is_compressing = True
    assert not its.may_take()
    first.is_compressing = False
    assert its.may_take()


def test_only_one_batch_is_in_flight_before_the_first_acknowledgement() -> None:
    its = Its()
    its.add(1, 1)
    (first,) = its.take()
    assert not its.may_take()
    its.acknowledge(first)
    assert its.may_take()


def test_several_batches_may_be_in_flight_after_the_first_acknowledgement() -> None:
    its = Its().proven()
    its.add(*[1] * 7)
    its.take(WINDOW)
    assert not its.may_take()


def test_a_limit_of_one_lets_one_batch_be_in_flight() -> None:
    its = Its().proven()
    its.add(1, 1)
    its.take()
    assert not its.may_take(window=1)


def test_without_idempotence_several_batches_may_be_in_flight_from_the_start() -> None:
    its = Its(id_and_epoch=None)
    its.add(*[1] * 7)
    its.take(WINDOW)
    assert not its.may_take()


def test_without_idempotence_no_batch_has_a_sequence() -> None:
    its = Its(id_and_epoch=None)
    its.add(1)
    assert not its.take()[0].has_sequence


def test_the_first_retry_is_taken_only_when_nothing_else_is_in_flight() -> None:
    its = Its().proven()
    its.add(1, 1)
    first, second = its.take(2)
    its.retry(first)
    assert not its.may_take()
    its.retry(second)
    assert its.take() == [first]


def test_the_other_retries_follow_the_first_acknowledged_one_side_by_side() -> None:
    its = Its().proven()
    its.add(1, 1, 1, 1)
    first, second, third = its.take(3)
    its.retry(first, second, third)
    its.take()
    assert not its.may_take()
    its.acknowledge(first)
    assert its.take(2) == [second, third]
    its.take()  # and one that was never sent
    assert len(its.queue.in_flight) == 3


def test_a_retry_that_fails_again_has_the_next_one_go_alone_again() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    first, second, third = its.take(3)
    its.retry(first, second, third)
    its.acknowledge(*its.take())
    its.retry(*its.take(2))
    assert its.take() == [second]
    assert not its.may_take()


def test_a_retry_does_not_go_behind_later_batches_that_are_still_in_flight() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    first, second, third = its.take(3)
    its.retry(first)
    its.acknowledge(second)  # the leader has the first one too: only its answer was lost
    assert its.queue.is_proven
    assert not its.may_take()
    its.acknowledge(third)
    assert its.take() == [first]


def test_without_sequences_retries_go_one_at_a_time() -> None:
    its = Its(id_and_epoch=None)
    its.add(1, 1, 1)
    first, second = its.take(2)
    its.retry(first, second)
    assert its.take() == [first]
    assert not its.may_take()
    its.acknowledge(first)
    assert its.take() == [second]


def test_a_new_batch_is_not_taken_while_one_is_in_flight_to_an_earlier_leader() -> None:
    its = Its().proven()
    its.add(1, 1)
    (first,) = its.take()
    its.queue.led_by(PartitionLeader(2, 1))
    assert not its.may_take()
    its.acknowledge(first)
    assert its.may_take()


def test_a_response_of_the_earlier_leader_allows_nothing_while_more_are_in_flight_to_it() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    first, _ = its.take(2)
    its.queue.led_by(PartitionLeader(2, 1))
    its.acknowledge(first)
    its.queue.is_proven = True
    assert not its.may_take()


def test_a_response_of_the_earlier_leader_does_not_allow_more_in_flight_to_the_new_one() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    (first,) = its.take()
    its.queue.led_by(PartitionLeader(2, 1))
    its.acknowledge(first)
    its.take()
    assert not its.may_take()


def test_a_new_leader_has_to_acknowledge_one_batch_before_two_are_in_flight() -> None:
    its = Its().proven()
    its.queue.led_by(PartitionLeader(2, 1))
    its.add(1, 1)
    its.take()
    assert not its.may_take()


def test_a_topic_recreated_has_to_acknowledge_one_batch_before_two_are_in_flight() -> None:
    its = Its().proven()
    its.queue.topic_recreated()
    its.add(1, 1)
    its.take()
    assert not its.may_take()


def test_nothing_goes_to_a_topic_recreated_while_the_earlier_one_has_not_answered() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    first, second = its.take(2)
    its.queue.topic_recreated()
    its.acknowledge(first)
    assert not its.may_take()
    its.retry(second)
    assert its.take() == [second]
    assert not its.may_take()


@pytest.mark.parametrize(("silent_for", "pipelines"), [(3_599.0, True), (3_601.0, False)])
def test_a_broker_that_may_have_forgotten_the_producer_has_to_acknowledge_again(
    silent_for: float, pipelines: bool
) -> None:
    its = Its().proven()
    its.now = its.core.now = its.core.now + silent_for
    its.add(1, 1, 1)
    (first,) = its.take()
    assert its.may_take() == pipelines
    its.acknowledge(first)
    its.take(2)


def test_the_sequences_go_on_in_a_recreated_topic() -> None:
    its = Its().proven()
    its.queue.topic_recreated()
    its.add(1)
    (batch,) = its.take()
    assert (batch.producer_epoch, batch.base_sequence) == (0, 1)


def test_the_same_leader_in_a_new_epoch_still_takes_several_batches_in_flight() -> None:
    its = Its().proven()
    its.queue.led_by(PartitionLeader(1, 1))
    its.add(1, 1)
    its.take(2)


@pytest.mark.parametrize("leader", [PartitionLeader(2, 1), PartitionLeader(1, 1)])
def test_news_of_the_leader_ends_the_backoff(leader: PartitionLeader) -> None:
    its = Its()
    its.add(1)
    its.retry(*its.take(), at=5.0)
    its.queue.led_by(leader)
    assert its.may_take()


@pytest.mark.parametrize("leader", [PartitionLeader(1, 0), PartitionLeader(NO_LEADER, 0)])
def test_no_news_of_the_leader_leaves_the_backoff(leader: PartitionLeader) -> None:
    its = Its()
    its.add(1)
    its.retry(*its.take(), at=5.0)
    its.queue.led_by(leader)
    assert its.queue.retry_at == 5.0


def test_leaders_that_name_each_other_do_not_end_the_backoff_until_one_of_them_stores() -> None:
    its = Its()
    its.add(1)
    for epoch in range(1, 9):
        its.retry(*its.take(), at=its.now + 5.0)
        its.queue.led_by(PartitionLeader(1 + epoch % 2, epoch))
        assert its.may_take() == (not its.queue.is_sent_around)
        its.now = its.queue.retry_at
    assert its.queue.is_sent_around
    its.acknowledge(*its.take())
    its.add(1)
    its.retry(*its.take(), at=its.now + 5.0)
    its.queue.led_by(PartitionLeader(2, 9))
    assert its.may_take()


# ---- numbers


def test_sequences_count_records_and_begin_at_zero() -> None:
    its = Its()
    its.add(3, 2, 1)
    found: list[tuple[int, int, int]] = []
    for _ in range(3):
        (batch,) = its.take()
        found.append((batch.producer_id, batch.producer_epoch, batch.base_sequence))
        its.acknowledge(batch)
    assert found == [(7, 0, 0), (7, 0, 3), (7, 0, 5)]


def test_a_batch_gets_its_sequence_when_it_is_taken() -> None:
    its = Its()
    (batch,) = its.add(1)
    assert not batch.has_sequence
    its.take()
    assert batch.has_sequence


def test_a_retry_keeps_its_sequence() -> None:
    its = Its().proven()
    its.add(2)
    (batch,) = its.take()
    its.retry(batch)
    its.take()
    assert batch.base_sequence == 1


def near_the_end(distance: int) -> Its:
    """Return a queue whose next number is so many before the wrap."""
    its = Its().proven()
    its.queue.next_sequence = LAST + 1 - distance
    its.queue.last_acknowledged = LAST - distance
    return its


def test_the_last_sequence_is_followed_by_zero() -> None:
    its = near_the_end(1)
    its.add(1, 1)
    assert [batch.base_sequence for batch in its.take(2)] == [LAST, 0]


def test_a_batch_may_lie_across_the_wrap() -> None:
    its = near_the_end(2)
    its.add(5, 1)
    assert [batch.base_sequence for batch in its.take(2)] == [LAST - 1, 3]


def test_retries_keep_their_order_across_the_wrap() -> None:
    its = near_the_end(2)
    its.add(1, 1, 1, 1)
    batches = its.take(4)
    its.retry(*reversed(batches))
    assert [*its.queue.closed] == batches
    assert [number for _, number in its.numbers()] == [LAST - 1, LAST, 0, 1]


def test_the_last_acknowledged_sequence_does_not_go_back_across_the_wrap() -> None:
    its = near_the_end(1)
    its.add(1, 1)
    last, zero = its.take(2)
    its.acknowledge(zero)
    its.acknowledge(last)
    assert its.queue.last_acknowledged == 0


def test_another_producer_id_begins_at_sequence_zero() -> None:
    its = Its().proven()
    its.id_and_epoch = ME.bumped()
    its.add(1)
    (batch,) = its.take()
    assert (batch.producer_epoch, batch.base_sequence) == (1, 0)


def test_another_producer_id_waits_until_the_sequences_in_flight_are_answered() -> None:
    its = Its().proven()
    its.add(1, 1)
    (first,) = its.take()
    its.id_and_epoch = ME.bumped()
    assert not its.may_take()
    its.acknowledge(first)
    assert its.may_take()


def test_a_retry_keeps_its_epoch_also_when_there_is_another_producer_id() -> None:
    its = Its().proven()
    its.add(1)
    (batch,) = its.take()
    its.retry(batch)
    its.id_and_epoch = ME.bumped()
    its.take()
    assert (batch.producer_epoch, batch.base_sequence) == (0, 1)


# ---- retries


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_retries_stand_in_the_order_of_their_sequences(order: Sequence[int]) -> None:
    its = Its().proven()
    its.add(1, 1, 1, 1)
    batches = its.take(3)
    for index in order:
        its.retry(batches[index])
    assert [*its.queue.closed][:3] == batches


def test_a_retry_that_a_later_acknowledgement_overtook_stands_first_and_is_known_as_stored() -> (
    None
):
    its = Its().proven()
    its.add(1, 1, 1)
    stored_unanswered, acknowledged, refused = its.take(3)
    stored_unanswered.possibly_persisted = True
    its.retry(stored_unanswered)
    its.acknowledge(acknowledged)
    its.retry(refused)
    assert list(its.queue.closed) == [stored_unanswered, refused]
    assert its.queue.take_stored() == [stored_unanswered]
    assert list(its.queue.closed) == [refused]


def test_a_refused_batch_is_not_taken_for_stored_because_a_later_one_was_acknowledged() -> None:
    its = Its().proven()
    its.add(1, 1)
    refused, acknowledged = its.take(2)
    its.retry(refused)
    its.acknowledge(acknowledged)
    assert its.queue.take_stored() == []
    assert list(its.queue.closed) == [refused]


def test_a_retry_stands_before_batches_that_were_never_sent() -> None:
    its = Its().proven()
    its.add(1, 1)
    (first,) = its.take()
    its.retry(first)
    assert its.queue.head is first


def test_without_sequences_batches_that_fail_together_keep_their_order() -> None:
    its = Its(id_and_epoch=None)
    batches = its.add(1, 1, 1, 1)
    its.retry(*its.take(3))
    assert [*its.queue.closed] == batches


def test_without_sequences_a_batch_that_fails_again_stays_the_first() -> None:
    its = Its(id_and_epoch=None)
    batches = its.add(1, 1, 1)
    its.retry(*its.take(3))
    its.retry(*its.take())
    assert [*its.queue.closed] == batches


def test_a_shorter_backoff_does_not_cut_a_longer_one() -> None:
    its = Its().proven()
    its.add(1, 1)
    first, second = its.take(2)
    its.retry(first, at=5.0)
    its.retry(second, at=3.0)
    assert its.queue.retry_at == 5.0


def test_a_batch_is_behind_what_was_acknowledged_when_a_later_one_was() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    first, second, third = its.take(3)
    its.acknowledge(second)
    assert its.queue.is_behind_acknowledged(first)
    assert not its.queue.is_behind_acknowledged(third)


def test_a_batch_of_another_epoch_is_not_behind_what_was_acknowledged() -> None:
    its = Its().proven()
    its.add(1, 1)
    (old,) = its.take()
    its.queue.request_ended(old)
    its.id_and_epoch = ME.bumped()
    its.queue.restart(its.id_and_epoch)
    its.acknowledge(*its.take())
    assert not its.queue.is_behind_acknowledged(old)


def test_refusals_of_the_first_sequence_are_forgotten_with_the_next_acknowledgement() -> None:
    its = Its()
    its.queue.refusals_at_zero = 3
    its.proven()
    assert its.queue.refusals_at_zero == 0


def test_a_batch_is_next_when_no_earlier_sequence_is_in_flight() -> None:
    its = Its().proven()
    its.add(1, 1)
    first, second = its.take(2)
    assert its.queue.is_next_in_sequence(first)
    assert not its.queue.is_next_in_sequence(second)
    its.retry(first)
    its.queue.request_ended(second)
    assert not its.queue.is_next_in_sequence(second)
    its.take()
    its.acknowledge(first)
    assert its.queue.is_next_in_sequence(second)


# ---- splits


@pytest.mark.parametrize("id_and_epoch", [ME, None])
def test_the_parts_of_a_split_take_the_batchs_place(
    id_and_epoch: ProducerIdAndEpoch | None,
) -> None:
    its = Its(id_and_epoch)
    its.add(3, 1)
    (batch,) = its.take()
    behind = its.queue.closed[0]
    its.queue.request_ended(batch)
    parts = batch.split(1)
    its.queue.split(batch, parts)
    assert [*its.queue.closed] == [*parts, behind]


def test_the_parts_of_a_split_batch_share_its_sequences() -> None:
    its = Its().proven()
    its.add(3)
    (batch,) = its.take()
    its.queue.request_ended(batch)
    its.queue.split(batch, batch.split(1))
    assert its.numbers() == [(0, 1), (0, 2), (0, 3)]


def test_the_parts_of_a_split_stand_before_later_retries() -> None:
    its = Its().proven()
    its.add(2, 1)
    batch, later = its.take(2)
    its.retry(later)
    its.queue.request_ended(batch)
    parts = batch.split(1)
    its.queue.split(batch, parts)
    assert [*its.queue.closed] == [*parts, later]


def test_without_sequences_the_parts_of_a_split_retry_stand_before_later_retries() -> None:
    its = Its(id_and_epoch=None)
    its.add(2, 1)
    batch, later = its.take(2)
    its.retry(batch, later)
    its.take()
    its.queue.request_ended(batch)
    parts = batch.split(1)
    its.queue.split(batch, parts)
    assert [*its.queue.closed] == [*parts, later]


# ---- what is left of a batch that had records refused (KIP-467)


def refuse_first(its: Its, batch: RecordBatch, *, at: float = 0.0) -> RecordBatch:
    """Refuse the first record of a batch that was sent; return what is left of it."""
    its.queue.request_ended(batch)
    others, _ = batch.refuse({0: InvalidRecordError()})
    assert others is not None
    its.queue.put_others(batch, others, at)
    return others


def test_what_is_left_of_a_refused_batch_takes_its_place_and_first_sequence() -> None:
    its = Its().proven()
    its.add(3, 1)
    (batch,) = its.take()
    behind = its.queue.closed[0]
    others = refuse_first(its, batch)
    assert [*its.queue.closed] == [others, behind]
    assert (others.producer_epoch, others.base_sequence) == (0, 1)


def test_the_sequences_of_refused_records_go_to_the_next_batch_when_theirs_was_the_last() -> None:
    its = Its().proven()
    its.add(3, 1)
    (batch,) = its.take()
    refuse_first(its, batch)
    assert not its.queue.close_gap()
    (others,) = its.take()
    its.acknowledge(others)
    assert [batch.base_sequence for batch in its.take()] == [1 + 2]


def test_refused_records_before_other_batches_need_a_new_epoch() -> None:
    its = Its().proven()
    its.add(3, 1)
    batch, later = its.take(2)
    others = refuse_first(its, batch)
    assert not its.queue.close_gap()  # one is in flight yet
    its.retry(later)
    assert its.queue.close_gap()
    its.id_and_epoch = ME.bumped()
    its.queue.restart(its.id_and_epoch)
    assert [*its.queue.closed] == [others, later]
    assert its.numbers() == [(1, 0), (1, 2)]


def test_what_is_left_of_a_refused_batch_goes_alone_and_not_before_its_time() -> None:
    its = Its().proven()
    its.add(3, 1)
    (batch,) = its.take()
    refuse_first(its, batch, at=5.0)
    assert not its.may_take()
    its.now = 5.0
    its.take()
    assert not its.may_take()


def test_what_is_left_of_a_refused_batch_stands_before_later_retries() -> None:
    its = Its().proven()
    its.add(2, 1)
    batch, later = its.take(2)
    its.retry(later)
    others = refuse_first(its, batch)
    assert [*its.queue.closed] == [others, later]


def test_without_sequences_what_is_left_of_a_refused_retry_stands_before_later_retries() -> None:
    its = Its(id_and_epoch=None)
    its.add(2, 1)
    batch, later = its.take(2)
    its.retry(batch, later)
    its.take()
    others = refuse_first(its, batch)
    assert [*its.queue.closed] == [others, later]


def test_without_sequences_what_is_left_of_a_refused_batch_stands_behind_earlier_retries() -> None:
    its = Its(id_and_epoch=None)
    its.add(1, 2, 1)
    first, batch = its.take(2)
    its.retry(first)
    others = refuse_first(its, batch)
    assert [*its.queue.closed][:2] == [first, others]


# ---- gaps


def test_the_sequences_of_a_refused_batch_go_to_the_next_when_it_was_the_last() -> None:
    its = Its().proven()
    its.add(2, 1)
    (refused,) = its.take()
    its.refuse(refused)
    assert not its.queue.close_gap()
    assert its.take()[0].base_sequence == refused.base_sequence


def test_a_refused_batch_before_others_leaves_a_gap_to_close() -> None:
    its = Its().proven()
    its.add(2, 1)
    refused, later = its.take(2)
    its.refuse(refused)
    assert not its.queue.close_gap()  # one is in flight yet
    its.retry(later)
    assert its.queue.close_gap()


def test_the_gap_of_a_refused_batch_is_closed_by_the_sequences_that_the_broker_expects() -> None:
    its = Its().proven()
    its.add(2, 1, 3, 1)
    refused, *later = its.take(3)
    its.refuse(refused)
    its.retry(*later)
    assert its.queue.close_gap()
    assert its.queue.may_resequence
    its.queue.resequence()
    assert its.numbers() == [(0, 1), (0, 2), (-1, -1)]
    assert not its.queue.close_gap()
    its.acknowledge(*its.take())
    its.acknowledge(*its.take(2))
    assert its.queue.last_acknowledged == 5


def test_a_gap_across_the_wrap_is_closed_too() -> None:
    its = near_the_end(2)
    its.add(1, 1, 1)
    refused, *later = its.take(3)
    its.refuse(refused)
    its.retry(*later)
    assert its.queue.close_gap()
    its.queue.resequence()
    assert its.numbers() == [(0, LAST - 1), (0, LAST)]


def test_a_gap_before_a_batch_of_unknown_outcome_needs_a_new_epoch() -> None:
    # A request with its number may still lie in a socket.
    its = Its().proven()
    its.add(1, 1)
    refused, doubtful = its.take(2)
    its.refuse(refused)
    doubtful.possibly_persisted = True
    its.retry(doubtful)
    assert its.queue.close_gap()
    assert not its.queue.may_resequence


def test_a_gap_beside_a_batch_of_unknown_outcome_needs_a_new_epoch() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    refused, lost, later = its.take(3)
    its.refuse(refused)
    its.queue.request_ended(lost)
    its.queue.outcome_unknown(lost)
    its.retry(later)
    assert its.queue.close_gap()
    assert not its.queue.may_resequence


def test_a_sequence_that_a_broker_lost_track_of_needs_a_new_epoch() -> None:
    its = Its().proven()
    its.add(1)
    (batch,) = its.take()
    its.queue.request_ended(batch)
    its.queue.must_start_over(batch)
    its.queue.requeue(batch, 0.0)
    assert its.queue.close_gap()
    assert not its.queue.may_resequence
    its.id_and_epoch = ME.bumped()
    its.queue.restart(its.id_and_epoch)
    assert its.numbers() == [(1, 0)]
    assert not its.queue.needs_epoch


def test_a_batch_behind_a_gap_is_not_the_next_in_sequence() -> None:
    its = Its().proven()
    its.add(1, 1)
    refused, later = its.take(2)
    its.refuse(refused)
    assert not its.queue.is_next_in_sequence(later)


# ---- another cluster behind the same addresses


def test_nothing_is_sent_under_sequences_that_another_batch_has_by_now() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    first, second = its.take(2)
    its.retry(second)
    its.queue.disown_epoch()
    assert its.queue.has_disowned(first)
    assert its.queue.has_disowned(second)
    assert not its.may_take()  # one is in flight yet
    its.retry(first)
    assert its.queue.close_gap()
    assert not its.queue.may_resequence
    its.id_and_epoch = ProducerIdAndEpoch(8, 0)
    its.queue.restart(its.id_and_epoch)
    assert [(b.producer_id, b.base_sequence) for b in its.queue.closed] == [
        (8, 0),
        (8, 1),
        (-1, -1),
    ]
    assert not its.queue.has_disowned(first)


def test_what_had_no_sequence_yet_gets_one_under_the_new_producer_id() -> None:
    its = Its().proven()
    its.add(1)
    its.queue.disown_epoch()
    its.id_and_epoch = ProducerIdAndEpoch(8, 0)
    assert not its.queue.close_gap()
    (batch,) = its.take()
    assert (batch.producer_id, batch.base_sequence) == (8, 0)
    assert not its.queue.has_disowned(batch)


def test_a_partition_queue_without_sequences_has_none_to_give_up() -> None:
    its = Its(id_and_epoch=None)
    its.add(1)
    its.queue.disown_epoch()
    assert its.may_take()


def test_the_waiting_batches_of_unknown_outcome_are_taken_out() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    doubtful, other = its.take(2)
    doubtful.possibly_persisted = True
    its.retry(doubtful, other)
    assert its.queue.take_outcome_unknown() == [doubtful]
    assert doubtful not in its.queue.closed
    assert its.queue.head is other


# ---- a batch that is cut before it is sent


@pytest.mark.parametrize("sent_before", [False, True])
def test_the_parts_of_the_first_batch_take_its_place_and_sequences(sent_before: bool) -> None:
    its = Its().proven()
    its.add(3, 1)
    if sent_before:
        its.retry(*its.take())
    head = its.queue.head
    assert head is not None
    parts = head.split(1)
    its.queue.split_head(head, parts)
    assert [*its.queue.closed][:3] == parts
    expected = [(0, 1), (0, 2), (0, 3)] if sent_before else [(-1, -1)] * 3
    assert its.numbers()[:3] == expected
    for number in (1, 2, 3):
        (part,) = its.take()
        assert part.base_sequence == number
        its.acknowledge(part)


def test_nothing_new_is_taken_behind_a_gap() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    refused, _ = its.take(2)
    its.refuse(refused)
    assert not its.may_take()


def test_after_a_new_epoch_sequences_begin_at_zero_again() -> None:
    its = Its().proven()
    its.add(1, 2, 3, 1)
    refused, *later = its.take(3)
    its.refuse(refused)
    its.retry(*later)
    its.id_and_epoch = ME.bumped()
    its.queue.restart(its.id_and_epoch)
    assert its.numbers() == [(1, 0), (1, 2), (-1, -1)]
    assert not its.queue.close_gap()


def test_after_a_new_epoch_one_batch_goes_first() -> None:
    its = Its().proven()
    its.queue.restart(ME.bumped())
    its.id_and_epoch = ME.bumped()
    its.add(1, 1)
    its.take()
    assert not its.may_take()


def test_a_batch_of_unknown_outcome_needs_no_epoch_when_a_later_one_was_stored() -> None:
    its = Its().proven()
    its.add(1, 1)
    lost, later = its.take(2)
    its.queue.request_ended(lost)
    its.queue.outcome_unknown(lost)
    its.acknowledge(later)
    assert not its.queue.close_gap()
    its.add(1)
    assert its.take()[0].base_sequence == 3


def test_a_batch_of_unknown_outcome_needs_an_epoch_when_nothing_settles_it() -> None:
    its = Its().proven()
    its.add(1)
    (lost,) = its.take()
    its.queue.request_ended(lost)
    its.queue.outcome_unknown(lost)
    assert its.queue.close_gap()


def test_a_later_batch_on_its_way_again_is_waited_for_before_an_epoch() -> None:
    its = Its().proven()
    its.add(1, 1)
    lost, later = its.take(2)
    its.queue.request_ended(lost)
    its.queue.outcome_unknown(lost)
    its.retry(later)
    assert not its.queue.close_gap()
    assert its.take() == [later]
    its.acknowledge(later)
    assert not its.queue.close_gap()


def test_a_refused_batch_that_may_have_been_stored_leaves_a_gap() -> None:
    its = Its().proven()
    its.add(1)
    (batch,) = its.take()
    batch.possibly_persisted = True
    its.refuse(batch)
    assert its.queue.close_gap()


def test_a_later_batch_decides_whether_a_refused_one_was_stored() -> None:
    its = Its().proven()
    its.add(1, 1)
    batch, later = its.take(2)
    batch.possibly_persisted = True
    its.refuse(batch)
    its.retry(later)
    assert not its.queue.close_gap()
    its.acknowledge(*its.take())
    assert not its.queue.close_gap()


def test_what_has_no_known_outcome_before_a_gap_is_first_retried_under_its_old_sequence() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    doubtful, refused, behind = its.take(3)
    doubtful.possibly_persisted = True
    its.retry(doubtful)
    its.refuse(refused)
    its.retry(behind)
    number = doubtful.base_sequence
    assert not its.queue.close_gap()
    assert its.take() == [doubtful]
    assert doubtful.base_sequence == number
    its.acknowledge(doubtful)
    assert its.queue.close_gap()


def test_what_has_no_known_outcome_behind_a_gap_cannot_have_been_stored() -> None:
    its = Its().proven()
    its.add(1, 1)
    refused, doubtful = its.take(2)
    doubtful.possibly_persisted = True
    its.refuse(refused)
    its.retry(doubtful)
    assert its.queue.close_gap()


def test_batches_of_an_earlier_epoch_do_not_touch_the_sequences() -> None:
    its = Its().proven()
    its.add(1, 1)
    (old,) = its.take()
    its.queue.request_ended(old)
    its.queue.restart(ME.bumped())
    its.queue.refused(old)
    its.queue.outcome_unknown(old)
    its.queue.acknowledged(old)
    assert (its.queue.gap, its.queue.next_sequence, its.queue.last_acknowledged) == ("none", 0, -1)


def test_an_expired_batch_that_was_never_sent_leaves_the_sequences_alone() -> None:
    its = Its().proven()
    expired, kept = its.add(1, 1)
    its.queue.forget(expired)
    its.queue.refused(expired)
    its.queue.outcome_unknown(expired)
    assert not its.queue.close_gap()
    assert its.take() == [kept]
    assert kept.base_sequence == 1


# ---- what there is


def test_batches_are_listed_oldest_first_without_those_that_are_done() -> None:
    its = Its().proven()
    its.add(1, 1, 1)
    first, second = its.take(2)
    its.core.put()
    waiting = [*its.queue.closed]
    first.fail(KafkaTimeoutError())
    assert its.queue.batches() == [second, *waiting, its.queue.open]


def test_a_partition_queue_with_anything_under_way_is_not_idle() -> None:
    its = Its()
    its.core.put()
    assert not its.queue.is_idle
    its.queue.close_open()
    assert not its.queue.is_idle
    (batch,) = its.take()
    assert not its.queue.is_idle
    its.acknowledge(batch)
    assert its.queue.is_idle


def test_the_open_batch_can_be_forgotten() -> None:
    its = Its()
    its.core.put()
    batch = its.queue.open
    assert batch is not None
    its.queue.open_is_due = True
    its.queue.forget(batch)
    assert its.queue.is_idle
    assert not its.queue.open_is_due


def test_a_batch_in_flight_is_not_forgotten_before_its_response() -> None:
    its = Its()
    its.add(1)
    (batch,) = its.take()
    its.queue.forget(batch)
    assert [*its.queue.in_flight] == [batch]


def test_everything_that_waits_can_be_forgotten() -> None:
    its = Its()
    its.add(1, 1)
    its.core.put()
    (batch,) = its.take()
    its.queue.forget_waiting()
    assert its.queue.batches() == [batch]


# ---- a broker that does its worst


@dataclass(eq=False)
class Request:
    """A batch as it was when it was sent, and what the broker says to it."""

    batch: RecordBatch
    node: int
    id_and_epoch: ProducerIdAndEpoch
    base: int
    values: list[bytes | None]
    answer: KafkaError | int | None = None
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
        self.its = Its()
        self.queue = self.its.queue
        self.broker = Broker()
        self.leader = PartitionLeader(1, 0)
        self.wire: deque[Request] = deque()
        self.batches: list[RecordBatch] = []
        self.values: dict[RecordBatch, list[bytes | None]] = {}
        self.count = 0
        self.its.core.now = 0.0
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
                self.its.core.put(b"%06d" % self.count)
                self.count += 1
            self.queue.close_open()
            self.note(self.queue.closed[-1])
        self.pump()

    @precondition(lambda self: any(request.answer is None for request in self.wire))
    @rule(
        outcome=st.sampled_from(
            [None] * 4 + [NotEnoughReplicasError, InvalidRecordError, MessageTooLargeError]
        )
    )
    def broker_takes_the_next(self, outcome: type[KafkaError] | None) -> None:
        request = next(request for request in self.wire if request.answer is None)
        if request.node != self.leader.node_id:
            request.answer = NotLeaderOrFollowerError()
        elif outcome is None or request.values[0] in self.broker.log:
            # What a broker has stored it does not refuse later.
            request.answer = self.broker.append(request)
        else:
            request.answer = outcome()

    @precondition(lambda self: any(request.answer is None for request in self.wire))
    @rule(first=st.integers(0, 2), step=st.integers(1, 3))
    def broker_refuses_some_records(self, first: int, step: int) -> None:
        request = next(request for request in self.wire if request.answer is None)
        self.broker_takes_the_next(InvalidRecordError)
        if isinstance(request.answer, InvalidRecordError):
            request.refused = tuple(range(len(request.values)))[first::step]

    @precondition(lambda self: any(request.answer is None for request in self.wire))
    @rule()
    def broker_appends_and_complains(self) -> None:
        request = next(request for request in self.wire if request.answer is None)
        if request is not self.wire[-1]:
            # Those behind it would be acknowledged first; then a later refusal makes a second
            # copy of this one, in Java's client as well.
            self.broker_takes_the_next(None)
            return
        self.broker_takes_the_next(None)
        if isinstance(request.answer, int):
            request.answer = NotEnoughReplicasAfterAppendError()

    @precondition(lambda self: self.wire and self.wire[0].answer is not None)
    @rule()
    def answer_arrives(self) -> None:
        self.handle(self.wire.popleft())
        self.pump()

    @precondition(lambda self: self.wire)
    @rule(more=st.integers(0, 5))
    def connection_breaks(self, more: int) -> None:
        for request in [request for request in self.wire if request.answer is None][:more]:
            if request.node == self.leader.node_id:
                self.broker.append(request)
        lost, self.wire = self.wire, deque()
        for request in lost:
            request.answer = NetworkError(possibly_persisted=True)
            self.handle(request)
        self.pump()

    @rule(node=st.sampled_from([1, 2]))
    def leader_moves(self, node: int) -> None:
        self.leader = PartitionLeader(node, self.leader.epoch + 1)
        self.queue.led_by(self.leader)
        self.pump()

    @rule(seconds=st.sampled_from([0.1, 0.1, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.its.core.now += seconds
        for batch in self.queue.batches():
            if self.its.core.now < batch.created_at + self.timeout:
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

    # -- the sender's part

    def note(self, batch: RecordBatch) -> None:
        self.batches.append(batch)
        self.values[batch] = [value for _, value, _, _ in records_of(batch)]

    def pump(self) -> None:
        if self.queue.close_gap() and self.queue.may_resequence:
            self.queue.resequence()
        elif self.queue.close_gap():
            assert self.its.id_and_epoch is not None
            for batch in self.queue.take_stored():
                batch.complete(-1)
            if self.queue.id_and_epoch == self.its.id_and_epoch:
                self.its.id_and_epoch = self.its.id_and_epoch.bumped()
            self.queue.restart(self.its.id_and_epoch)
        while self.queue.may_take(self.its.core.now, WINDOW, self.its.id_and_epoch):
            batch = self.queue.take(self.its.id_and_epoch)
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
        batch, answer = request.batch, request.answer
        assert answer is not None
        self.queue.request_ended(batch)
        if isinstance(answer, int):
            self.queue.acknowledged(batch)
            if not batch.is_done:
                batch.complete(answer)
            return
        if batch.is_done:
            if answer.possibly_persisted:
                self.queue.outcome_unknown(batch)
            else:
                self.queue.refused(batch)
            return
        was_outcome_unknown = batch.possibly_persisted
        if answer.possibly_persisted:
            batch.possibly_persisted = True
        if isinstance(answer, OutOfOrderSequenceNumberError) and batch.base_sequence == 0:
            self.queue.refusals_at_zero += 1
        is_over = self.its.core.now >= batch.created_at + self.timeout
        step = next_step(
            answer,
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
            others, _ = batch.refuse({index: answer for index in request.refused})
            if others is None:
                self.queue.refused(batch)
                return
            self.note(others)
            if is_over:
                self.queue.refused(batch)
                others.fail(answer)
                return
            self.queue.put_others(batch, others, self.its.core.now)
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
            batch.fail(answer)
        else:
            assert step in (Step.RETRY, Step.RESTART)
            if step is Step.RESTART:
                self.queue.refused(batch)
                self.queue.must_start_over(batch)
            self.queue.requeue(batch, self.its.core.now + 0.1)

    # -- what must hold

    @invariant()
    def the_log_has_nothing_twice_and_all_in_order(self) -> None:
        if hasattr(self, "broker"):
            log = [value or b"" for value in self.broker.log]
            assert log == sorted(set(log))

    @invariant()
    def numbered_batches_stand_first_in_order(self) -> None:
        if not hasattr(self, "queue"):
            return
        numbered = [batch.has_sequence for batch in self.queue.closed]
        assert numbered == sorted(numbered, reverse=True)
        values = [self.values[batch] for batch in self.queue.closed]
        assert values == sorted(values, key=str)

    @invariant()
    def the_window_is_kept(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue.in_flight) <= WINDOW
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
                self.broker_takes_the_next(None) if self.wire[0].answer is None else None
                self.answer_arrives()
            else:
                self.its.core.now = max(self.its.core.now, self.queue.retry_at)
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


# ---- without numbers


def unnumbered() -> tuple[Its, RecordBatch, RecordBatch]:
    """Two batches of two records, both in flight."""
    its = Its(id_and_epoch=None)
    its.add(2, 2)
    first, second = its.take(2)
    return its, first, second


def test_the_parts_of_a_split_batch_wait_until_nothing_is_in_flight() -> None:
    its, first, _ = unnumbered()
    its.queue.request_ended(first)
    its.queue.split(first, first.split(1))
    assert not its.may_take()


def test_batches_that_are_split_one_after_the_other_keep_their_order() -> None:
    its, first, second = unnumbered()
    parts: list[RecordBatch] = []
    for batch in (first, second):
        its.queue.request_ended(batch)
        children = batch.split(1)
        its.queue.split(batch, children)
        parts.extend(children)
    assert [*its.queue.closed] == parts


def test_a_gap_that_turns_out_to_be_none_needs_no_epoch_later() -> None:
    its = Its().proven()
    its.add(1, 1)
    lost, later = its.take(2)
    its.queue.request_ended(lost)
    its.queue.outcome_unknown(lost)
    its.acknowledge(later)
    assert not its.queue.close_gap()
    its.add(1, 1)
    refused, _ = its.take(2)
    its.refuse(refused)
    assert its.queue.may_resequence
