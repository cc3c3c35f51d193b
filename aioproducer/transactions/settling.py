"""Holds the records of a transaction back until the last one is over at its coordinator.

EndTxn is answered before the markers are in the partitions. A Produce request that begins the next
transaction (version 2) and comes before them is kept by its broker, which looks again only
`add.partitions.to.txn.retry.backoff.ms` (20) later; the markers mostly take less than one. So the
coordinator is asked (DescribeTransactions, KIP-664) until they are written, and then the records
leave. Java's client and franz-go do not ask, and are kept.

    the next transaction begins                it
    long after the last one                    holds nothing back, and asks nothing
    soon; the last ones found the one before   asks; it holds until the answer is "over", or for
      them still open                            as long as an answer may take
    soon; the last ones did not                holds nothing back; one in some asks, to see if
                                               that is still so

To ask costs the time of an answer, each time; not to ask costs 20 ms where the markers are late. So
it is asked while the part of first answers that say "open" is worth that.

Invariants
* A hold ends: by an answer, by the failure to get one, or by its time.
* It decides nothing. A request that comes too early is only answered later.
* An answer counts for the transaction that asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from aioproducer.background import Background, Timer

__all__ = ["Settling"]

_KEPT: Final = 0.020
"""Seconds for which a broker keeps a request that came before the markers."""

_GIVES_UP: Final = 2 * _KEPT
"""Seconds after the end of a transaction from which on nothing waits for its markers."""

_SHARE_WEIGHT: Final = 1 / 16
"""Of one first answer, in the share of those that say "open"."""

_ASKS_ONE_IN: Final = 16
"""Of the transactions that hold nothing back."""

_AT_ONCE: Final = 6
"""Answers after which it is asked again at once; after more there is a pause, which doubles."""

_PAUSE: Final = 0.001
_MOST_PAUSE: Final = 0.008
_LEAST_HOLD: Final = 0.002
"""Seconds to wait for an answer at least: a loop that is busy reads none."""

_HOLD: Final = 3
"""Usual times of an answer, for which one is waited for."""

_USUAL_WEIGHT: Final = 0.05
"""Of an answer that took longer than usual, in what is usual: that falls at once, and rises slowly,
because a loop that is busy reads an answer late."""


class Coordinating(Protocol):
    """Asks the coordinator."""

    def ask_whether_over(self, answered: Callable[[bool], None]) -> bool:
        """Ask whether the last transaction is over; returns False where that cannot be asked now.

        `answered` is called once, later: with True also where there is no telling.
        """
        ...


class Settling:
    """The holds of one producer.

    Args:
        coordination: Asks.
        background: Has the clock.
        hold: Called with the time until which the records of the transaction are held back; one
            that has passed lets them leave.
    """

    def __init__(
        self, coordination: Coordinating, background: Background, hold: Callable[[float], None]
    ) -> None:
        self._coordination = coordination
        self._background = background
        self._hold = hold
        self._again = Timer(background, self._ask)
        self._number = 0
        self._answers = 0
        """To what the current transaction asked."""
        self._holds = False
        """Whether the current transaction waits for them."""
        self._ended_at = 0.0
        self._share_open = 1.0
        self._usual = 0.0
        """Seconds that an answer takes; 0: none has come."""
        self._not_asked = 0
        """Transactions since one asked."""

    def ended(self) -> None:
        """The coordinator answered EndTxn."""
        self._ended_at = self._background.time()

    def begin(self) -> None:
        """Hold back the records of a transaction that begins, if it is worth it."""
        self._again.cancel()
        self._number += 1
        self._answers = 0
        if self._background.time() - self._ended_at >= _KEPT:
            return
        self._holds = self._share_open * _KEPT >= self._usual
        self._not_asked = 0 if self._holds else (self._not_asked + 1) % _ASKS_ONE_IN
        if self._not_asked == 0:
            self._ask()

    def close(self) -> None:
        """Hold nothing back any more, and ask nothing."""
        self._number += 1
        self._again.cancel()
        self._hold(0)

    def _ask(self) -> None:
        now = self._background.time()
        answered = partial(self._answered, self._number, now)
        is_soon = now - self._ended_at < _GIVES_UP
        is_asked = is_soon and self._coordination.ask_whether_over(answered)
        if self._holds:
            self._hold(now + max(_LEAST_HOLD, _HOLD * self._usual) if is_asked else 0)

    def _answered(self, number: int, asked_at: float, is_over: bool) -> None:
        if number != self._number:
            return
        now = self._background.time()
        self._answers += 1
        if self._answers == 1:
            self._learn(now - asked_at, is_over)
        if not self._holds:
            return
        if is_over:
            self._hold(0)
        elif self._answers < _AT_ONCE:
            self._ask()
        else:
            pause = min(_PAUSE * 2 ** (self._answers - _AT_ONCE), _MOST_PAUSE)
            self._hold(now + pause + _LEAST_HOLD)
            self._again.set(now + pause)

    def _learn(self, took: float, is_over: bool) -> None:
        usual = self._usual or took
        self._usual = min(took, usual + _USUAL_WEIGHT * (took - usual))
        self._share_open += _SHARE_WEIGHT * ((not is_over) - self._share_open)
