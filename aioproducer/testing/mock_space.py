"""The buffer space of a `MockProducer`, which a test may declare full.

The waiting itself is the product's own (`Backpressure`).
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Final

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.queues import BrokerQueue, BufferShare
from aioproducer._native.record_batch import Delivery
from aioproducer.background import Background
from aioproducer.errors import BufferExhaustedError
from aioproducer.sending.backpressure import Backpressure
from aioproducer.sending.waiting_callers import Waiter
from aioproducer.testing.mock_broker import Given

__all__ = ["BROKER", "MockSpace"]

BROKER: Final = "mock"
"""What errors and `status` call the broker that is not there."""


class _NoBrokers:
    """The queues and brokers that `Backpressure` asks about: there are none.

    Args:
        pending: The records without outcome.
    """

    def __init__(self, pending: Sized) -> None:
        self._pending = pending
        self.by_node: dict[int, BrokerQueue] = {}
        self.leaderless = BufferShare()

    @property
    def requests_in_flight(self) -> int:
        return len(self._pending)

    def lately_delivered(self) -> tuple[int, float, float]:
        return 0, 0.0, 0.0

    def end_all_lingering(self) -> None:
        """Nothing lingers."""

    def name(self, node_id: int) -> str:
        return BROKER

    def get(self, node_id: int) -> None:
        return None

    def any_connect_error(self) -> None:
        return None


class MockSpace(Backpressure):
    """The buffer space, which a test may declare full.

    Args:
        accumulator: The buffer.
        pending: The records without outcome.
        background: The loop.
        given: What the record was made of that is about to wait.
    """

    def __init__(
        self,
        accumulator: RecordAccumulator,
        pending: Sized,
        background: Background,
        given: Given,
    ) -> None:
        nobody = _NoBrokers(pending)
        super().__init__(accumulator, nobody, nobody, background.time)
        self._background = background
        self._given = given
        self._is_full = False

    def set_full(self, is_full: bool) -> None:
        """Refuse every record from now on, or no longer."""
        self._is_full = is_full
        if is_full:
            self.accumulator.is_full = self.accumulator.has_blocked = True
        else:
            self.admit()

    def join(self, waiter: Waiter[Delivery]) -> None:
        """Let a caller wait; while a test says that the buffer is full, for a turn only."""
        admit, (key, value) = waiter.admit, self._given.take()

        def admit_as_given() -> Delivery | None:
            before = self._given.note(key, value)
            try:
                return admit()
            finally:
                self._given.note(*before)

        waiter.admit = admit_as_given
        super().join(waiter)
        if self._is_full:
            self._background.call_soon(self._reject, waiter)

    def admit(self) -> None:
        """Accept the records of those who fit now."""
        if not self._is_full:
            super().admit()

    def no_space_error(
        self,
        waiter: Waiter[Delivery] | None = None,
        *,
        waited: float = 0.0,
        bound: str = "",
        hint: str | None = None,
    ) -> BufferExhaustedError:
        """The error of a caller for whom there is no buffer space."""
        error = super().no_space_error(waiter, waited=waited, bound=bound, hint=hint)
        if self._is_full:
            error.available_bytes = 0
        return error

    def _reject(self, waiter: Waiter[Delivery]) -> None:
        if waiter.is_waiting and self._is_full:
            error = self.no_space_error(waiter, bound="max_block_ms, by MockProducer.full")
            self.reject(waiter, error)
