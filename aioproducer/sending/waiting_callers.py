"""The queues of callers who wait for buffer space: first come, first served.

Two things may have no space for a record: the buffer itself, and the share of it that a broker's
records may take (or those of topics that are not known yet).

    refused by        waits                  is admitted
    the buffer        among all              when its record fits, and every earlier caller was
                                             admitted who does not wait for a share
    a share           beside the others      when its record fits, and every earlier caller was
                                             admitted who waits for the same share

So a finished batch wakes exactly those who fit, and a silent broker blocks only those who send to
it.

Invariants
* A caller is admitted after every earlier one whose record is for the same partition, or for the
  same topic while that one's partition is not chosen. `BufferSpace.lines` counts callers by that.
* All waiters have the same bound (`max_block_ms`). So in each queue the first to come expires
  first, and one timer is enough.
* No I/O and no clock.
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
    """The buffer, as its waiting callers see it."""

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

    @property
    def full_shares(self) -> set[object]:
        """The shares that take nothing now: they refused an earlier caller of the same pass."""
        ...

    def share_of(self, line: object) -> object | None:
        """The share that records of a partition or topic take."""
        ...


class Waiter(Generic[T]):
    """One caller who waits for buffer space.

    Attributes:
        admit: Tries to accept the record; returns None while there is no space.
        resolve: Called with what `admit` returned.
        reject: Called with the error when the wait is over without success.
        expires_at: When the wait is over, on the loop's clock.
        number: Grows with each caller.
        line: The partition or topic whose order it keeps.
        share: The share that refused it when it was last tried; None for the buffer itself.
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
        space: What they wait for.
    """

    def __init__(self, space: BufferSpace) -> None:
        self._space = space
        self._lines = space.lines
        self._waiting: deque[Waiter[T]] = deque()
        self._parked: dict[object, deque[Waiter[T]]] = {}
        """Those who wait for a share, by share."""
        self._last_number = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def join(self, waiter: Waiter[T]) -> None:
        """Add a caller, whose record is the one that was refused last."""
        self._last_number += 1
        waiter.number = self._last_number
        self._count += 1
        self._stand_in_line(waiter)
        share = waiter.share
        queue = self._waiting if share is None else self._parked.setdefault(share, deque())
        queue.append(waiter)

    def withdraw(self, waiter: Waiter[T]) -> None:
        """Take out a caller who was cancelled. O(1): its place is skipped later."""
        if waiter.is_waiting:
            self._leave(waiter)
            # These hold the record, and the waiter may stay in its deque for `max_block_ms`.
            waiter.admit = waiter.resolve = waiter.reject = _nothing

    def admit(self) -> bool:
        """Admit everybody who fits.

        A share that refuses one takes nothing of the others in this pass, also of callers who learn
        only now which share theirs is:
            1. Callers 5 and 6 wait for space while their topic is not known; 6 has less to send.
            2. The topic is known now. The share of the broker has no space for 5.
            3. It would have some for 6, whose record may go to the same partition.

        Returns:
            Whether somebody waits for buffer space itself.
        """
        full = self._space.full_shares
        try:
            return self._admit(full)
        finally:
            full.clear()

    def _admit(self, full: set[object]) -> bool:
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
                # By now its topic may be known, or its partition have another leader.
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
        """Forget which share each caller waits for, since leaders changed; `admit` finds out."""
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
        """The queue whose first caller came first, leaving out the shares that are full."""
        if not self._parked:
            return self._waiting if self._skip_withdrawn(self._waiting) else None
        queues = [queue for queue in self._queues() if queue is self._waiting] + [
            queue for share, queue in self._parked.items() if share not in full
        ]
        return min(queues, key=lambda queue: queue[0].number, default=None)

    def _skip_withdrawn(self, queue: deque[Waiter[T]]) -> bool:
        """Drop withdrawn callers from the front; whether somebody is left."""
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
    """Replace the functions of a caller who left."""
