"""How long the first request of a transaction waits for the end of the last one."""

from __future__ import annotations

import pytest

from aioproducer.transactions.settling import Settling

QUICK = 0.002
LATE = 0.024
"""What a request takes that meets the last transaction."""


class Producer:
    """Ends transactions and sends first requests, one after the other."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.settling = Settling()

    def wait(self) -> float:
        """End a transaction; return how long the next one has to wait from then on."""
        self.now += 1
        self.settling.ended(self.now)
        return self.settling.over_at() - self.now

    def send(self, took: float, *, pause: float = 0.0) -> float:
        """End a transaction, send the first request of the next one; return how long that waits."""
        wait = self.wait()
        self.settling.first_answered(self.now + wait + pause, took)
        return wait


def meet_often(producer: Producer) -> None:
    """Meet the last transaction until that is too often for the wait."""
    before = producer.wait()
    for took in (QUICK, LATE, LATE, LATE) * 10:
        producer.send(took)
        if producer.wait() != pytest.approx(before):
            return
    raise AssertionError(f"the wait stayed {before}")


def waits_until_shorter(producer: Producer) -> int:
    """Send until another wait is tried; return how often that took."""
    before = producer.wait()
    count = 1
    while producer.send(QUICK) == pytest.approx(before):
        count += 1
    return count


def waiting_nothing() -> Producer:
    """A producer whose requests have met nothing for a while."""
    producer = Producer()
    waits_until_shorter(producer)
    assert producer.wait() == 0
    return producer


def test_the_first_transactions_wait_the_shortest_time() -> None:
    assert Producer().wait() == pytest.approx(0.001)


def test_the_wait_ends_after_some_transactions_that_met_nothing() -> None:
    producer = Producer()
    waits = [producer.send(QUICK) for _ in range(22)]
    assert waits == pytest.approx([0.001] * 20 + [0, 0])


def test_what_happens_once_in_a_while_changes_nothing() -> None:
    producer = waiting_nothing()
    for _ in range(10):
        assert producer.send(LATE) == 0
        for _ in range(30):
            assert producer.send(QUICK) == 0


def test_where_one_in_a_few_transactions_meets_the_last_one_the_next_ones_wait() -> None:
    producer = waiting_nothing()
    for _ in range(3):
        producer.send(LATE)
        for _ in range(4):
            producer.send(QUICK)
    assert producer.wait() == pytest.approx(0.001)


def test_the_wait_doubles_until_it_would_not_help() -> None:
    producer = waiting_nothing()
    waits = [producer.wait()]
    for _ in range(4):
        meet_often(producer)
        waits.append(producer.wait())
    assert waits == pytest.approx([0, 0.001, 0.002, 0.004, 0])


def test_a_longer_wait_has_to_save_more() -> None:
    producer = Producer()
    meet_often(producer)
    assert producer.wait() == pytest.approx(0.002)
    # One in six would be worth another millisecond, not two.
    for _ in range(3):
        producer.send(LATE)
        for _ in range(5):
            producer.send(QUICK)
    assert producer.wait() == pytest.approx(0.002)


def test_a_long_wait_is_halved_before_it_ends() -> None:
    producer = Producer()
    for _ in range(2):
        meet_often(producer)
    waits = [round(producer.send(QUICK), 6) for _ in range(61)]
    assert list(dict.fromkeys(waits)) == [0.004, 0.002, 0.001, 0]


def test_a_wait_that_was_given_up_too_early_is_kept_for_twice_as_long() -> None:
    producer = waiting_nothing()
    kept: list[int] = []
    for _ in range(9):
        meet_often(producer)
        kept.append(waits_until_shorter(producer) - 1)
    assert kept == [40, 80, 160, 320, 640, 1280, 1280, 1280, 1280]


def test_a_wait_that_was_not_missed_for_long_is_no_longer_kept_for_longer() -> None:
    producer = waiting_nothing()
    for _ in range(3):
        meet_often(producer)
        waits_until_shorter(producer)
    for _ in range(30):
        producer.send(QUICK)
    meet_often(producer)
    assert waits_until_shorter(producer) - 1 == 20


def test_where_every_request_takes_long_nothing_waits() -> None:
    producer = Producer()
    waits = [producer.send(0.3) for _ in range(30)]
    assert waits == pytest.approx([0.001] * 20 + [0] * 10)


def test_a_request_that_came_late_anyway_teaches_nothing() -> None:
    producer = waiting_nothing()
    for _ in range(10):
        producer.send(LATE, pause=0.05)
    assert producer.wait() == 0
