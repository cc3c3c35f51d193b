"""How long the first request of a transaction waits for the last one to be over at its coordinator.

EndTxn is answered before the markers are in the partitions. A Produce request that begins the next
transaction (version 2) and comes before them is kept by its broker, which looks again only
`add.partitions.to.txn.retry.backoff.ms` (20) later; the markers take one or two. So that request
waits here. For how long is learned from how long it is answered in: nobody tells when the markers
are written.

    a request that met the last transaction    the wait doubles, from 1 ms on
    one that did not                           the wait shrinks by a hundredth
    one that met it after the longest wait     no wait: the markers take longer than the broker's
                                               look, or something else takes the time

Invariants
* The wait counts from the answer to EndTxn: who begins later than that waits less, or not at all.
* It bounds nothing and decides nothing. A request that comes too early is only answered later.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Settling"]

_FIRST: Final = 0.001
_LONGEST: Final = 0.016
_SHRINKS_TO: Final = 0.99
_NEGLIGIBLE: Final = 0.0001

_LOOKS_AGAIN_AFTER: Final = 0.015
"""Seconds beyond the usual that a request takes which met the last transaction: a little less than
a broker takes to look again."""

_USUAL_WEIGHT: Final = 0.02
"""Of a request that took longer than usual, in what is usual: that falls at once, and rises slowly,
so that the requests that met the last transaction hardly count."""


class Settling:
    """The wait of one producer. Times are seconds on one clock."""

    def __init__(self) -> None:
        self._wait = 0.0
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
        if took - usual < _LOOKS_AGAIN_AFTER:
            self._wait *= _SHRINKS_TO
            if self._wait < _NEGLIGIBLE:
                self._wait = 0.0
        elif self._wait < _LONGEST:
            self._wait = max(_FIRST, 2 * self._wait)
            self._wait = min(self._wait, _LONGEST)
        else:
            self._wait = 0.0
