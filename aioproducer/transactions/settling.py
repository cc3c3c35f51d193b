"""Keeps the records of a transaction back until the last one is over at its coordinator.

EndTxn is answered before the markers are in the partitions. A Produce request that begins the next
transaction (version 2) and comes before them is kept by its broker, which looks again only
`add.partitions.to.txn.retry.backoff.ms` (20) later; the markers mostly take less than one. So the
coordinator is asked (DescribeTransactions, KIP-664) until they are written, and then the records
leave. Java's client and franz-go do not ask, and are kept.

    the next transaction begins                it
    long after the last one                    does not pause, and asks nothing
    soon; the last ones found the one before   asks; it pauses until the answer is "over", or for
      them still open                            as long as an answer may take
    soon; the last ones did not                does not pause; one in four asks, to see if that is
                                                 still so

To ask costs the time of an answer, each time; not to ask costs 20 ms where the markers are late. So
it is asked while the part of first answers that say "open" is worth that. A coordinator that gives
no answer, three times in a row, is asked no more: it may not be allowed, or a proxy may end the
connection for it.

Invariants
* A pause ends: by an answer, by the failure to get one, by its time, or by the next transaction;
  and `_GIVES_UP` after the end of the last one at the latest.
* It decides nothing. A request that comes too early is only answered later.
* An answer counts for the transaction that asked, and no more when its pause is over: the first
  records have left.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeAlias

from aioproducer.background import Background, Timer

__all__ = ["Answered", "Settling"]

Answered: TypeAlias = Callable[[bool | None], None]
"""Called with whether a transaction is over; None where there is no telling."""

_KEPT: Final = 0.020
"""Seconds for which a broker keeps a request that came before the markers."""

_GIVES_UP: Final = 2 * _KEPT
"""Seconds after the end of a transaction from which on nothing waits for its markers."""

_SHARE_WEIGHT: Final = 1 / 64
"""Of one first answer, in the share of those that say "open": small, because where an answer takes
0.2 ms the share that is worth it is 1 %."""

_ASKS_ONE_IN: Final = 4
"""Of the transactions that do not pause."""

_MOST_FAILURES: Final = 3

_AT_ONCE: Final = 6
"""Answers after which it is asked again at once; after more there is a wait, which doubles."""

_WAIT: Final = 0.001
_MOST_WAIT: Final = 0.008
_LEAST_PAUSE: Final = 0.002
"""Seconds to wait for an answer at least: a loop that is busy reads none."""

_PAUSE: Final = 3
"""Usual times of an answer, for which one is waited for."""

_LEAST_USUAL: Final = 0.0002
"""Seconds; uvloop's clock says that less than a millisecond is nothing."""

_USUAL_WEIGHT: Final = 0.05
"""Of an answer that took longer than usual, in what is usual: that falls at once, and rises slowly,
because a loop that is busy reads an answer late."""


class Coordinating(Protocol):
    """Asks the coordinator."""

    def ask_whether_over(self, answered: Answered) -> bool:
        """Ask whether the last transaction is over; returns False where that cannot be asked now.

        `answered` is called once, later.
        """
        ...


class Settling:
    """The pauses of one producer.

    Args:
        coordination: Asks.
        background: Has the clock.
        pause_until: Called with the time until which the records of the transaction are kept back;
            one that has passed lets them leave.
    """

    def __init__(
        self,
        coordination: Coordinating,
        background: Background,
        pause_until: Callable[[float], None],
    ) -> None:
        self._coordination = coordination
        self._background = background
        self._pause_until = pause_until
        self._again = Timer(background, self._ask)
        self._number = 0
        self._answers = 0
        """To what the current transaction asked."""
        self._pauses = False
        """Whether the current transaction waits for them."""
        self._paused_until = 0.0
        self._ended_at = 0.0
        self._share_open = 1.0
        self._usual = 0.0
        """Seconds that an answer takes; 0: none has come."""
        self._not_asked = 0
        """Transactions since one asked."""
        self._failures = 0
        """Questions without an answer, since the last answer."""

    def ended(self) -> None:
        """The coordinator answered EndTxn."""
        self._ended_at = self._background.time()

    def begin(self, *, is_v2: bool) -> None:
        """Keep the records of a transaction that begins back, if it is worth it."""
        self._again.cancel()
        self._go_on()
        self._number += 1
        self._answers = 0
        self._pauses = False
        may_ask = is_v2 and self._failures < _MOST_FAILURES
        if not may_ask or self._background.time() - self._ended_at >= _KEPT:
            return
        self._pauses = self._share_open * _KEPT >= self._usual
        self._not_asked = 0 if self._pauses else (self._not_asked + 1) % _ASKS_ONE_IN
        if self._not_asked == 0:
            self._ask()

    def close(self) -> None:
        """Keep nothing back any more, and ask nothing."""
        self._number += 1
        self._again.cancel()
        self._go_on()

    def _ask(self) -> None:
        now = self._background.time()
        answered = partial(self._answered, self._number, now)
        is_soon = now - self._ended_at < _GIVES_UP
        is_asked = is_soon and self._coordination.ask_whether_over(answered)
        if not is_asked:
            self._go_on()
        elif self._pauses:
            self._pause(now + max(_LEAST_PAUSE, _PAUSE * self._usual))

    def _answered(self, number: int, asked_at: float, is_over: bool | None) -> None:
        now = self._background.time()
        self._failures = self._failures + 1 if is_over is None else 0
        if number != self._number:
            return
        self._answers += 1
        if self._answers == 1 and is_over is not None:
            self._learn(now - asked_at, is_over)
        if is_over is not False:
            self._go_on()
        elif now >= self._paused_until:
            return
        elif self._answers < _AT_ONCE:
            self._ask()
        else:
            again_at = now + min(_WAIT * 2 ** (self._answers - _AT_ONCE), _MOST_WAIT)
            self._pause(again_at + _LEAST_PAUSE)
            self._again.set(again_at)

    def _learn(self, took: float, is_over: bool) -> None:
        took = max(took, _LEAST_USUAL)
        usual = self._usual or took
        self._usual = min(took, usual + _USUAL_WEIGHT * (took - usual))
        self._share_open += _SHARE_WEIGHT * ((not is_over) - self._share_open)

    def _pause(self, until: float) -> None:
        self._paused_until = min(until, self._ended_at + _GIVES_UP)
        self._pause_until(self._paused_until)

    def _go_on(self) -> None:
        if self._paused_until:
            self._paused_until = 0.0
            self._pause_until(0.0)
