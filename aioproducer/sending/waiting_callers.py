"""Callers who wait for buffer space: first come, first served.

Owned by the sender, which has them admitted each time bytes are given back. Two things may have no
room for a record: the buffer itself, and the share of it that a broker's records may take (or those
of topics that are not known yet).

    refused by        waits                  is admitted
    the buffer        among all              when its record fits, and everybody before it was
                                             admitted who does not wait for a share
    a share           beside the others      when its record fits, and everybody before it was
                                             admitted who waits for the same share

So a finished batch wakes exactly those whom it makes room for, and a broker that is silent keeps
nobody waiting but those who send to it.

Invariants
* A caller whose record is for the same partition as that of an earlier one, or for the same topic
  while that one's partition is open, is admitted later: `BufferSpace.lines` counts callers by
  that, and a new call stands behind them.
* All waiters have the same bound (`max_block_ms`), so of those who wait for the same, the first to
  come is the first to expire, and one timer is enough for all.

No I/O and no clock in here: a waiter's `resolve` and `reject` are given by the caller.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Collection, Iterator
from heapq import merge
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

__all__ = ["BufferSpace", "Waiter", "WaitingCallers"]

T = TypeVar("T")


class BufferSpace(Protocol):
    """The buffer, as those who wait for room in it see it."""

    @property
    def lines(self) -> dict[object, int]:
        """How many callers wait, by the partition or topic whose order they keep."""
        ...

    @property
    def refused_line(self) -> object:
        """The partition or topic of the record that was refused last."""
        ...

    @property
    def refused_share(self) -> object | None:
        """The share that refused it; None for the buffer itself."""
        ...

    @property
    def refused_bytes(self) -> int:
        """The bytes that it needs."""
        ...

    def share_of(self, line: object) -> object | None:
        """The share that records of a partition or topic take."""
        ...


class Waiter(Generic[T]):
    """One caller who waits for room.

    Attributes:
        admit: Tries to accept the record; returns None while there is no room.
        resolve: Called with what `admit` returned.
        reject: Called with the error when the wait is over without success.
        expires_at: When the wait is over, on the loop's clock.
        number: Grows with each caller.
        line: The partition or topic whose order it keeps.
        share: What had no room for it when it was last tried; None for the buffer itself.
        size: The bytes that it needs.
    """

    __slots__ = (
        "admit",
        "expires_at",
        "is_waiting",
        "line",
        "number",
        "reject",
        "resolve",
        "share",
        "size",
    )

    def __init__(
        self,
        admit: Callable[[], T | None],
        resolve: Callable[[T], None],
        reject: Callable[[Exception], None],
        expires_at: float,
    ) -> None:
        self.admit = admit
        self.resolve = resolve
        self.reject = reject
        self.expires_at = expires_at
        self.is_waiting = True
        self.number = 0
        self.line: object = None
        self.share: object | None = None
        self.size = 0


_by_number = attrgetter("number")


class WaitingCallers(Generic[T]):
    """The queues of waiters.

    Args:
        room: What they wait for.
    """

    def __init__(self, room: BufferSpace) -> None:
        self._space = room
        self._lines = room.lines
        self._waiting: deque[Waiter[T]] = deque()
        self._parked: dict[object, deque[Waiter[T]]] = {}
        """Those who wait for a share, by share."""
        self._last_number = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def join(self, waiter: Waiter[T]) -> None:
        """Wait from now on, with the record that was refused last."""
        self._last_number += 1
        waiter.number = self._last_number
        self._count += 1
        self._stand_in_line(waiter)
        share = waiter.share
        queue = self._waiting if share is None else self._parked.setdefault(share, deque())
        queue.append(waiter)

    def withdraw(self, waiter: Waiter[T]) -> None:
        """Leave: the caller was cancelled. O(1); the place is skipped later."""
        if waiter.is_waiting:
            self._leave(waiter)
            # They hold the record, and the place may stay in the queue for `max_block_ms`.
            waiter.admit = waiter.resolve = waiter.reject = _nothing

    def admit(self) -> bool:
        """Admit everybody for whom there is room.

        Returns:
            Whether somebody waits for buffer space itself.
        """
        full: set[object] = set()
        while (queue := self._first_queue(full)) is not None:
            waiter = queue[0]
            share = self._space.share_of(waiter.line)
            if share not in full:
                try:
                    admitted = waiter.admit()
                except Exception as error:
                    queue.popleft()
                    self._leave(waiter).reject(error)
                    continue
                if admitted is not None:
                    queue.popleft()
                    self._leave(waiter).resolve(admitted)
                    continue
                # Its topic may be known by now, or its partition have another leader.
                self._leave_line(waiter)
                self._stand_in_line(waiter)
                share = waiter.share
                if share is None:
                    return True
                full.add(share)
            assert share is not None
            if queue is not self._parked.get(share):
                queue.popleft()
                insort(self._parked.setdefault(share, deque()), waiter, key=_by_number)
        return False

    def unpark(self) -> None:
        """Have those who wait for a share look again what they wait for: leaders have changed."""
        if self._parked:
            self._waiting = deque(merge(self._waiting, *self._parked.values(), key=_by_number))
            self._parked = {}

    def expire(self, now: float, error: Callable[[Waiter[T]], Exception]) -> None:
        """Reject those whose bound is over."""
        for queue in self._queues():
            while queue and queue[0].expires_at <= now:
                waiter = queue.popleft()
                why = error(waiter)
                self._leave(waiter).reject(why)
                self._skip_withdrawn(queue)

    def reject_all(self, error: Callable[[], Exception]) -> None:
        """Reject everybody."""
        self.unpark()
        for waiter in self._take_all():
            self._leave(waiter).reject(error())

    @property
    def next_expiry(self) -> float | None:
        """When the first bound is over."""
        return min((queue[0].expires_at for queue in self._queues()), default=None)

    def _queues(self) -> list[deque[Waiter[T]]]:
        """All queues in which somebody waits."""
        for share, queue in list(self._parked.items()):
            if not self._skip_withdrawn(queue):
                del self._parked[share]
        queues = list(self._parked.values())
        return [self._waiting, *queues] if self._skip_withdrawn(self._waiting) else queues

    def _first_queue(self, full: Collection[object]) -> deque[Waiter[T]] | None:
        """The queue with the first of all callers but those who wait for a share that is full."""
        if not self._parked:
            return self._waiting if self._skip_withdrawn(self._waiting) else None
        queues = [queue for queue in self._queues() if queue is self._waiting] + [
            queue for share, queue in self._parked.items() if share not in full
        ]
        return min(queues, key=lambda queue: queue[0].number, default=None)

    def _skip_withdrawn(self, queue: deque[Waiter[T]]) -> bool:
        """Whether somebody is left in a queue."""
        while queue and not queue[0].is_waiting:
            queue.popleft()
        return bool(queue)

    def _take_all(self) -> Iterator[Waiter[T]]:
        while self._skip_withdrawn(self._waiting):
            yield self._waiting.popleft()

    def _leave(self, waiter: Waiter[T]) -> Waiter[T]:
        waiter.is_waiting = False
        self._count -= 1
        self._leave_line(waiter)
        return waiter

    def _stand_in_line(self, waiter: Waiter[T]) -> None:
        waiter.line = self._space.refused_line
        waiter.share = self._space.refused_share
        waiter.size = self._space.refused_bytes
        self._lines[waiter.line] = self._lines.get(waiter.line, 0) + 1

    def _leave_line(self, waiter: Waiter[T]) -> None:
        left = self._lines[waiter.line] - 1
        if left:
            self._lines[waiter.line] = left
        else:
            del self._lines[waiter.line]


def _nothing(*_: object) -> None:
    """Stand for the functions of a caller who left."""
