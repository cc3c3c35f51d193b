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


def test_nothing_waits_while_no_request_has_met_the_last_transaction() -> None:
    producer = Producer()
    assert [producer.send(QUICK) for _ in range(3)] == [0, 0, 0]


def test_after_a_request_that_met_the_last_transaction_the_next_one_waits() -> None:
    producer = Producer()
    producer.send(QUICK)
    assert producer.send(LATE) == 0
    assert producer.wait() == pytest.approx(0.001)


def test_the_wait_doubles_until_the_last_transaction_is_over() -> None:
    producer = Producer()
    producer.send(QUICK)
    waits = [producer.send(LATE) for _ in range(5)]
    assert waits == pytest.approx([0, 0.001, 0.002, 0.004, 0.008])


def test_a_wait_that_does_not_help_ends() -> None:
    producer = Producer()
    producer.send(QUICK)
    for _ in range(6):
        producer.send(LATE)
    assert producer.wait() == 0


def test_the_wait_ends_after_some_transactions_that_met_nothing() -> None:
    producer = Producer()
    producer.send(QUICK)
    producer.send(LATE)
    waits = [producer.send(QUICK) for _ in range(22)]
    assert waits == pytest.approx([0.001] * 20 + [0, 0])


def test_a_long_wait_is_halved_before_it_ends() -> None:
    producer = Producer()
    producer.send(QUICK)
    for _ in range(3):
        producer.send(LATE)
    waits = [round(producer.send(QUICK), 6) for _ in range(61)]
    assert list(dict.fromkeys(waits)) == [0.004, 0.002, 0.001, 0]


def waits_until_shorter(producer: Producer) -> int:
    """Send until another wait is tried; return how often that took."""
    before = producer.wait()
    count = 1
    while producer.send(QUICK) == pytest.approx(before):
        count += 1
    return count


def test_a_wait_that_was_given_up_too_early_is_kept_for_twice_as_long() -> None:
    producer = Producer()
    producer.send(QUICK)
    kept: list[int] = []
    for _ in range(9):
        producer.send(LATE)
        kept.append(waits_until_shorter(producer) - 1)
    assert kept == [20, 40, 80, 160, 320, 640, 1280, 1280, 1280]


def test_a_wait_that_was_not_missed_for_long_is_no_longer_kept_for_longer() -> None:
    producer = Producer()
    producer.send(QUICK)
    for _ in range(3):
        producer.send(LATE)
        waits_until_shorter(producer)
    for _ in range(30):
        producer.send(QUICK)
    producer.send(LATE)
    assert waits_until_shorter(producer) - 1 == 20


def test_where_every_request_takes_long_nothing_waits() -> None:
    producer = Producer()
    assert [producer.send(0.3) for _ in range(20)] == [0] * 20


def test_a_request_that_came_late_anyway_teaches_nothing() -> None:
    producer = Producer()
    producer.send(QUICK)
    producer.send(LATE, pause=0.05)
    assert producer.wait() == 0
