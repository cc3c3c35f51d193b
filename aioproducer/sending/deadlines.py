"""Items by the time at which they are due, the earliest first. A heap; no clock, no I/O.

For what may happen to many partitions but concerns few at a time: a batch that lingers, a retry
that waits, a delivery that expires. An item is due at most once: of two times the earlier counts.
To move an item to a later time costs nothing: its owner adds it again when it is due too early.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Items and the time at which each is due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._times: dict[T, float] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._times)

    def add(self, item: T, at: float) -> None:
        """Make `item` due at `at`, unless it is due earlier."""
        known = self._times.get(item)
        if known is not None and known <= at:
            return
        self._times[item] = at
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, item))

    def pop_due(self, now: float) -> list[T]:
        """Take out what is due, the earliest first."""
        due: list[T] = []
        while self._heap and self._heap[0][0] <= now:
            at, _, item = heapq.heappop(self._heap)
            if self._times.get(item) == at:
                del self._times[item]
                due.append(item)
        return due

    @property
    def next_at(self) -> float | None:
        """When the next item is due."""
        while self._heap and self._times.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
