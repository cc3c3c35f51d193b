"""For how long the records of a transaction are kept back, and when the coordinator is asked."""

from __future__ import annotations

from itertools import pairwise

import pytest

from aioproducer.background import Background
from aioproducer.transactions.settling import Answered, Settling
from tests.support.core import ManualLoop


class Coordinator:
    """Ends transactions and begins others; answers when it is told to."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.can_be_asked = True
        self.questions: list[Answered] = []
        self.paused_until = 0.0
        self.ended_at = 0.0
        self.settling = Settling(self, Background(self.loop.as_loop()), self._pause)

    def ask_whether_over(self, answered: Answered) -> bool:
        if self.can_be_asked:
            self.questions.append(answered)
        return self.can_be_asked

    def _pause(self, until: float) -> None:
        self.paused_until = until

    @property
    def paused(self) -> float:
        """Seconds for which records are kept back from now on."""
        return max(0.0, self.paused_until - self.loop.now)

    def next(self, *, after: float = 0.0, is_v2: bool = True) -> bool:
        """End a transaction and begin the next one; return whether that asks."""
        self.loop.advance(1)
        self.settling.ended()
        self.ended_at = self.loop.now
        self.loop.advance(after)
        self.questions.clear()
        self.settling.begin(is_v2=is_v2)
        return bool(self.questions)

    def answer(self, *, is_over: bool | None, took: float = 0.0) -> None:
        self.loop.advance(took)
        self.questions.pop()(is_over)

    def begin_many(self, count: int, *, is_over: bool, took: float) -> int:
        """Begin some transactions; return how many of them asked."""
        asked = 0
        for _ in range(count):
            if self.next():
                asked += 1
                self.answer(is_over=is_over, took=took)
                while self.questions:
                    self.answer(is_over=True)
        return asked


def test_records_are_kept_back_until_the_last_transaction_is_over() -> None:
    coordinator = Coordinator()
    assert coordinator.next()
    assert coordinator.paused == pytest.approx(0.002)
    coordinator.answer(is_over=False, took=0.001)
    assert coordinator.paused == pytest.approx(0.003)
    coordinator.answer(is_over=True)
    assert coordinator.paused == 0
    assert not coordinator.questions


def test_who_begins_late_waits_for_nothing() -> None:
    coordinator = Coordinator()
    assert not coordinator.next(after=0.021)
    assert coordinator.paused == 0
    assert coordinator.next(after=0.019)


def test_a_coordinator_that_cannot_be_asked_is_not_waited_for() -> None:
    coordinator = Coordinator()
    coordinator.can_be_asked = False
    assert not coordinator.next()
    assert coordinator.paused == 0


def test_a_coordinator_that_can_be_asked_no_longer_is_not_waited_for() -> None:
    coordinator = Coordinator()
    coordinator.next()
    coordinator.can_be_asked = False
    coordinator.answer(is_over=False)
    assert coordinator.paused == 0


def test_markers_that_take_long_are_asked_for_less_and_less_often_and_then_given_up() -> None:
    coordinator = Coordinator()
    coordinator.next()
    for _ in range(5):
        coordinator.answer(is_over=False, took=0.0005)
    asked_at = [coordinator.loop.now]
    while coordinator.paused:
        coordinator.answer(is_over=False, took=0.0005)
        assert coordinator.paused > 0
        while not coordinator.questions and coordinator.paused:
            coordinator.loop.advance(0.0005)
        asked_at.append(coordinator.loop.now)
    pauses = [later - earlier for earlier, later in pairwise(asked_at)]
    assert pauses == pytest.approx([0.0015, 0.0025, 0.0045, *[0.0085] * 3, 0.002], abs=0.0006)
    assert coordinator.loop.now - coordinator.ended_at == pytest.approx(0.04, abs=0.0006)


def test_an_answer_that_does_not_come_is_waited_for_three_usual_times() -> None:
    coordinator = Coordinator()
    coordinator.begin_many(3, is_over=False, took=0.01)
    coordinator.next()
    assert coordinator.paused == pytest.approx(0.03)


def test_a_loop_that_reads_an_answer_late_hardly_changes_what_is_usual() -> None:
    coordinator = Coordinator()
    coordinator.begin_many(3, is_over=False, took=0.001)
    coordinator.begin_many(1, is_over=False, took=0.011)
    coordinator.next()
    assert coordinator.paused == pytest.approx(0.0045)


def test_nothing_is_kept_back_for_longer_than_it_could_save() -> None:
    coordinator = Coordinator()
    coordinator.begin_many(1, is_over=False, took=0.015)
    coordinator.next(after=0.019)
    assert coordinator.paused == pytest.approx(0.021)


def test_an_answer_that_comes_when_the_records_have_left_asks_no_more() -> None:
    coordinator = Coordinator()
    coordinator.next()
    coordinator.answer(is_over=False, took=0.003)
    assert coordinator.paused == 0
    assert not coordinator.questions


def test_a_transaction_does_not_wait_for_what_an_earlier_one_asked() -> None:
    coordinator = Coordinator()
    coordinator.begin_many(1, is_over=False, took=0.01)
    coordinator.next()
    assert coordinator.paused == pytest.approx(0.03)
    coordinator.loop.advance(0.021)
    coordinator.settling.begin(is_v2=True)
    assert coordinator.paused == 0
    coordinator.next()
    coordinator.settling.begin(is_v2=False)
    assert coordinator.paused == 0


def test_version_1_asks_nothing() -> None:
    assert not Coordinator().next(is_v2=False)


def test_a_question_without_an_answer_ends_the_pause_and_teaches_nothing() -> None:
    coordinator = Coordinator()
    coordinator.begin_many(3, is_over=False, took=0.01)
    for _ in range(2):
        coordinator.next()
        assert coordinator.paused == pytest.approx(0.03)
        coordinator.answer(is_over=None, took=0.0001)
        assert coordinator.paused == 0
    assert coordinator.begin_many(5, is_over=False, took=0.01) == 5


def test_a_coordinator_that_does_not_answer_three_times_in_a_row_is_asked_no_more() -> None:
    coordinator = Coordinator()
    for is_over in (None, None, True, None, None, None):
        assert coordinator.next()
        coordinator.answer(is_over=is_over)
    for _ in range(100):
        assert not coordinator.next()
        assert coordinator.paused == 0


def test_an_answer_counts_for_the_transaction_that_asked() -> None:
    coordinator = Coordinator()
    coordinator.next()
    late = coordinator.questions.pop()
    coordinator.next()
    paused = coordinator.paused
    late(False)
    late(True)
    assert coordinator.paused == paused
    assert len(coordinator.questions) == 1


def test_each_transaction_asks_while_the_last_one_is_found_open() -> None:
    assert Coordinator().begin_many(100, is_over=False, took=0.001) == 100


def test_where_the_last_one_is_found_over_one_in_some_asks_and_none_waits() -> None:
    coordinator = Coordinator()
    coordinator.begin_many(200, is_over=True, took=0.001)
    assert coordinator.begin_many(40, is_over=True, took=0.001) == 10
    while not coordinator.next():
        assert coordinator.paused == 0
    assert coordinator.paused == 0
    coordinator.answer(is_over=False, took=0.001)
    assert coordinator.paused == 0
    assert not coordinator.questions


@pytest.mark.parametrize(("took", "asks"), [(0.0, 293), (0.001, 191), (0.01, 45)])
def test_what_is_quickly_answered_is_asked_for_longer(took: float, asks: int) -> None:
    coordinator = Coordinator()
    asked = 0
    while coordinator.begin_many(1, is_over=True, took=took):
        asked += 1
    assert asked == asks


def test_one_that_is_found_open_lets_each_of_the_next_ones_ask_and_wait() -> None:
    coordinator = Coordinator()
    coordinator.begin_many(200, is_over=True, took=0.001)
    while not coordinator.next():
        pass
    coordinator.answer(is_over=False, took=0.001)
    assert coordinator.next()
    assert coordinator.paused > 0
    coordinator.answer(is_over=True, took=0.001)
    assert coordinator.begin_many(5, is_over=False, took=0.001) == 5


def test_answers_that_take_longer_than_a_broker_keeps_a_request_are_not_waited_for() -> None:
    coordinator = Coordinator()
    coordinator.begin_many(1, is_over=False, took=0.1)
    for _ in range(100):
        if coordinator.next():
            coordinator.answer(is_over=False, took=0.1)
        assert coordinator.paused == 0


def test_closing_ends_the_pause_and_the_questions() -> None:
    coordinator = Coordinator()
    coordinator.next()
    for _ in range(6):
        coordinator.answer(is_over=False)
    assert coordinator.loop.timers
    coordinator.settling.close()
    assert coordinator.paused == 0
    assert not coordinator.loop.timers
