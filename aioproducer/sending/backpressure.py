"""What happens to a caller who finds no buffer space: it waits, first come, first served, or fails.

Owns the queue of waiting callers (waiting_callers.py), and the accumulator's two flags that send
new callers there. Whoever gives bytes back calls `admit`.

Admission and cancellation, step by step:
    1. `send` finds no space. Its caller joins the queue, holding a `Waiter`; `has_blocked` now
       sends every later call for the same partition or topic behind it.
    2. A request ends and gives bytes back; `admit` appends the records of those who fit, in turn.
       From here on the record is accepted: it will be sent even if its caller goes away.
    3. Cancelled before 2, the caller withdraws and its record is never appended. Cancelled after
       2, but before its task has run, it gets the cancellation and the record goes on.
    4. Either way the space that is free now may fit the next in the queue, so `admit` runs again.
"""

from __future__ import annotations

from collections.abc import Callable

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.broker_queues import BrokerQueues
from aioproducer._native.queues import BufferShare, CoreTopic
from aioproducer._native.record_batch import Delivery
from aioproducer.errors import BufferExhaustedError
from aioproducer.errors.base import seconds
from aioproducer.network.brokers import Brokers
from aioproducer.sending.waiting_callers import Waiter, WaitingCallers

__all__ = ["Backpressure"]


class Backpressure:
    """The callers of one producer who wait for buffer space.

    Args:
        accumulator: The buffer.
        broker_queues: Have what lingers sent when somebody waits.
        brokers: Name brokers in errors.
        clock: The loop's.
    """

    def __init__(
        self,
        accumulator: RecordAccumulator,
        broker_queues: BrokerQueues,
        brokers: Brokers,
        clock: Callable[[], float],
    ) -> None:
        self._accumulator = accumulator
        self._broker_queues = broker_queues
        self._brokers = brokers
        self._clock = clock
        self._callers: WaitingCallers[Delivery] = WaitingCallers(accumulator)

    def __len__(self) -> int:
        return len(self._callers)

    @property
    def accumulator(self) -> RecordAccumulator:
        """The buffer."""
        return self._accumulator

    @property
    def next_expiry(self) -> float | None:
        """When the first caller has waited long enough, on the loop's clock."""
        return self._callers.next_expiry

    def join(self, waiter: Waiter[Delivery]) -> None:
        """Have a caller wait for space: whatever lingers is sent to make some (as in Java)."""
        accumulator = self._accumulator
        self._callers.join(waiter)
        if accumulator.refused_share is None:
            accumulator.is_full = True
        if not accumulator.has_blocked:
            accumulator.has_blocked = True
            self._broker_queues.end_all_lingering()

    def withdraw(self, waiter: Waiter[Delivery]) -> None:
        """A caller no longer waits; those behind it may fit now."""
        self._callers.withdraw(waiter)
        self.admit()

    def expire(self, now: float, error: Callable[[Waiter[Delivery]], Exception]) -> None:
        """Reject callers who have waited long enough; those behind them may fit now."""
        self._callers.expire(now, error)
        self.admit()

    def reject_all(self, error: Callable[[], Exception]) -> None:
        """Reject every caller: the producer closes."""
        self._callers.reject_all(error)

    def shares_changed(self) -> None:
        """Look again at callers whom a broker's share kept out: it may be another share now."""
        self._callers.unpark()

    def admit(self) -> None:
        """Accept the records of those who fit now."""
        accumulator = self._accumulator
        # Not while a caller is being admitted whose partitioner sends: that call goes on here.
        if accumulator.has_blocked and not accumulator.is_admitting:
            accumulator.is_full = self._callers.admit()
            accumulator.has_blocked = len(self._callers) > 0

    # ---- the error of a caller who gets no space

    def no_space_error(
        self,
        waiter: Waiter[Delivery] | None = None,
        *,
        waited: float = 0.0,
        bound: str = "",
        hint: str | None = None,
    ) -> BufferExhaustedError:
        """The error of a caller for whom there is no buffer space.

        It is raised for every record while the buffer is full, so most of its text is made only
        when somebody reads it.

        Args:
            waiter: Who has waited; None for the record that was refused just now.
            waited: How long it waited, in seconds.
            bound: The option that ended the wait; empty for a caller who does not wait.
            hint: What to change.
        """
        accumulator = self._accumulator
        refused = (
            (accumulator.refused_line, accumulator.refused_share)
            if waiter is None
            else (waiter.line, waiter.share)
        )
        return BufferExhaustedError(
            self._full_share(*refused),
            requested_bytes=accumulator.refused_bytes if waiter is None else waiter.size,
            available_bytes=max(0, accumulator.buffer_memory - accumulator.buffer_used),
            total_bytes=accumulator.buffer_memory,
            requests_in_flight=self._broker_queues.requests_in_flight,
            waiting_callers=len(self._callers),
            slowest_broker=self._slowest_broker(),
            waited=waited,
            waiting_for=f"buffer space ({bound})" if bound else "",
            last_connect_error=self._brokers.any_connect_error() if bound else None,
            hint=hint,
        )

    def _full_share(self, line: object, share: object) -> str:
        """Which share of the buffer is full, in words; empty when the whole buffer is."""
        if not isinstance(share, BufferShare):
            return ""
        if isinstance(line, CoreTopic) and share is line.anywhere:
            return (
                f"Each broker with a partition of topic {line.name!r} holds its share of the buffer"
            )
        if share is self._accumulator.unrouted:
            subject = "topics that are not known yet"
        elif share is self._broker_queues.leaderless:
            subject = "partitions without leader"
        else:
            # None of these once the broker is gone, and its queue with it.
            queues = self._broker_queues.by_node
            node_ids = [id_ for id_, queue in queues.items() if queue.share is share]
            names = [self._brokers.name(node_id) for node_id in node_ids]
            subject = f"broker {names[0]}" if names else "a broker that is gone"
        return f"Records for {subject} hold {share.held_bytes} bytes of the buffer"

    def _slowest_broker(self) -> str:
        """The broker that was asked and has been silent longest, or that cannot be asked."""
        queues = self._broker_queues.by_node.values()
        busy = [queue for queue in queues if queue.in_flight or queue.has_ready]
        if not busy:
            return ""
        slowest = min(busy, key=lambda queue: queue.heard_at)
        text = self._brokers.name(slowest.node_id)
        if slowest.in_flight:
            silent_for = self._clock() - slowest.heard_at
            text += f" with {slowest.in_flight} in flight, silent for {seconds(silent_for)}"
        broker = self._brokers.get(slowest.node_id)
        is_connected = broker is not None and broker.is_connected
        return text if is_connected else f"{text}, not connected"
