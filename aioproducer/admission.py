"""Callers who wait for room in the buffer: first come, first served.

Owned by the producer; told by the sender each time bytes are given back. A waiter is admitted
when its record fits and everybody before it was admitted, so a finished batch wakes exactly those
whom it makes room for. All waiters have the same bound (`max_block_ms`), so the first to come is
the first to expire and one timer is enough for all.

No I/O and no clock in here: a waiter's `resolve` and `reject` are given by the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Admissions", "Waiter"]

T = TypeVar("T")


@dataclass(slots=True, eq=False, repr=False)
class Waiter(Generic[T]):
    """One caller who waits for room.

    Attributes:
        admit: Tries to accept the record; returns None while there is no room.
        resolve: Called with what `admit` returned.
        reject: Called with the error when the wait is over without success.
        expires_at: When the wait is over, on the loop's clock.
    """

    admit: Callable[[], T | None]
    resolve: Callable[[T], None]
    reject: Callable[[Exception], None]
    expires_at: float
    is_waiting: bool = True


class Admissions(Generic[T]):
    """The queue of waiters."""

    def __init__(self) -> None:
        self._waiters: deque[Waiter[T]] = deque()
        self._withdrawn = 0

    def __len__(self) -> int:
        return len(self._waiters) - self._withdrawn

    def join(self, waiter: Waiter[T]) -> None:
        """Stand at the end of the queue."""
        self._waiters.append(waiter)

    def withdraw(self, waiter: Waiter[T]) -> None:
        """Leave the queue: the caller was cancelled. O(1); the place is skipped later."""
        if waiter.is_waiting:
            waiter.is_waiting = False
            self._withdrawn += 1
            # They hold the record, and the place may stay in the queue for `max_block_ms`.
            waiter.admit = waiter.resolve = waiter.reject = _nothing

    def admit(self) -> None:
        """Admit from the front while there is room."""
        while (waiter := self._first()) is not None:
            try:
                admitted = waiter.admit()
            except Exception as error:
                self._leave(waiter).reject(error)
                continue
            if admitted is None:
                return
            self._leave(waiter).resolve(admitted)

    def expire(self, now: float, error: Callable[[], Exception]) -> None:
        """Reject those whose bound is over."""
        while (waiter := self._first()) is not None and waiter.expires_at <= now:
            self._leave(waiter).reject(error())

    def reject_all(self, error: Callable[[], Exception]) -> None:
        """Reject everybody."""
        while (waiter := self._first()) is not None:
            self._leave(waiter).reject(error())

    @property
    def next_expiry(self) -> float | None:
        """When the first waiter's bound is over."""
        waiter = self._first()
        return None if waiter is None else waiter.expires_at

    def _first(self) -> Waiter[T] | None:
        while self._waiters:
            if self._waiters[0].is_waiting:
                return self._waiters[0]
            self._waiters.popleft()
            self._withdrawn -= 1
        return None

    def _leave(self, waiter: Waiter[T]) -> Waiter[T]:
        self._waiters.popleft()
        waiter.is_waiting = False
        return waiter


def _nothing(*_: object) -> None:
    """Stand for the functions of a caller who left."""
