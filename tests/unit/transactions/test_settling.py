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


def test_the_wait_shrinks_while_it_is_long_enough_and_comes_to_its_end() -> None:
    producer = Producer()
    producer.send(QUICK)
    producer.send(LATE)
    waits = [producer.send(QUICK) for _ in range(300)]
    assert waits == sorted(waits, reverse=True)
    assert waits[-1] == 0


def test_where_every_request_takes_long_nothing_waits() -> None:
    producer = Producer()
    assert [producer.send(0.3) for _ in range(20)] == [0] * 20


def test_a_request_that_came_late_anyway_teaches_nothing() -> None:
    producer = Producer()
    producer.send(QUICK)
    producer.send(LATE, pause=0.05)
    assert producer.wait() == 0
