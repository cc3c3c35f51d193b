"""How long the first request of a transaction waits for the last one to be over at its coordinator.

EndTxn is answered before the markers are in the partitions. A Produce request that begins the next
transaction (version 2) and comes before them is kept by its broker, which looks again only
`add.partitions.to.txn.retry.backoff.ms` (20) later; the markers take one or two. So that request
waits here. For how long is learned from how long it is answered in: nobody tells when the markers
are written.

    requests meet the last transaction often   the wait doubles, from 1 ms on
    hardly any does for some transactions      half of it is tried, in the end none
    some do after the longest wait             no wait: the markers take longer than the broker's
                                               look, or something else takes the time

To meet it once costs 20 ms. So a wait is made longer only where that happens so often that the
longer wait costs half of it at most: from a wait of 1 ms, or none, where one in ten transactions
does, from 2 ms where two in ten do. Half a wait is tried after 20 transactions; and where that is
too short within 20, only after twice as many the next time. The first transactions wait 1 ms.

Invariants
* The wait counts from the answer to EndTxn: who begins later than that waits less, or not at all.
* It bounds nothing and decides nothing. A request that comes too early is only answered later.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Settling"]

_SHORTEST: Final = 0.001
"""As short as the timers of event loops are."""

_LONGEST: Final = 0.004
_LEAST_KEPT: Final = 20
_MOST_KEPT: Final = 1_280

_COSTS: Final = 0.020
"""Seconds that a request takes longer which met the last transaction."""

_SHARE_WEIGHT: Final = 0.05
"""Of one transaction, in the share of those that met the last one."""

_LOOKS_AGAIN_AFTER: Final = 0.015
"""Seconds beyond the usual that a request takes which met the last transaction: a little less than
a broker takes to look again."""

_USUAL_WEIGHT: Final = 0.02
"""Of a request that took longer than usual, in what is usual: that falls at once, and rises slowly,
so that the requests that met the last transaction hardly count."""


class Settling:
    """The wait of one producer. Times are seconds on one clock."""

    def __init__(self) -> None:
        self._wait = _SHORTEST
        self._kept = _LEAST_KEPT
        """For how many transactions a wait is kept before half of it is tried."""
        self._left = _LEAST_KEPT
        """How many of them are still to come."""
        self._share = 0.0
        """Of the transactions with this wait, how many met the last one: late ones weigh more."""
        self._tried: int | None = None
        """How many transactions have begun well with half of it; None: it is not tried."""
        self._ended_at = 0.0
        self._usual: float | None = None

    def ended(self, now: float) -> None:
        """The coordinator answered EndTxn."""
        self._ended_at = now

    def over_at(self) -> float:
        """When the next transaction may send its first request."""
        return self._ended_at + self._wait

    def first_answered(self, sent_at: float, took: float) -> None:
        """The first request of a transaction was answered."""
        if sent_at > self._ended_at + _LONGEST + _LOOKS_AGAIN_AFTER:
            return  # It came so late that it says nothing.
        usual = took if self._usual is None else self._usual
        self._usual = min(took, usual + _USUAL_WEIGHT * (took - usual))
        has_met = took - usual >= _LOOKS_AGAIN_AFTER
        self._share += _SHARE_WEIGHT * (has_met - self._share)
        if self._share * _COSTS > 2 * max(self._wait, _SHORTEST):
            self._wait_longer()
        elif not has_met:
            self._wait_shorter()

    def _wait_longer(self) -> None:
        if self._tried is not None:
            was_soon = self._tried < _LEAST_KEPT
            self._kept = min(2 * self._kept, _MOST_KEPT) if was_soon else _LEAST_KEPT
            self._tried = None
        self._wait = 0.0 if self._wait >= _LONGEST else max(_SHORTEST, 2 * self._wait)
        self._left = self._kept
        self._share = 0.0

    def _wait_shorter(self) -> None:
        if self._tried is not None:
            self._tried += 1
        if not self._wait:
            return
        self._left -= 1
        if self._left <= 0:
            self._wait = 0.0 if self._wait <= _SHORTEST else self._wait / 2
            self._left = self._kept
            self._share = 0.0
            self._tried = 0
