"""Callers who find no buffer space: they wait, first come, first served, or fail.

Owns the queue of waiting callers (waiting_callers.py), and the two flags of the accumulator that
send new callers there. Whoever gives bytes back calls `admit`.

Admission and cancellation, step by step:
    1. `send` finds no space. Its caller joins the queue with a `Waiter`; `has_blocked` makes every
       later call for the same partition or topic wait behind it.
    2. A request ends and gives bytes back; `admit` appends the records that fit, in turn. Such a
       record is accepted: it will be sent even if its caller goes away.
    3. A caller that is cancelled before step 2 withdraws, and its record is never appended. If its
       task has not run since, `admit` finds the future cancelled and skips it.
    4. A caller that is cancelled after step 2, before its task has run, gets the cancellation. Its
       record goes on.
    5. Whoever leaves may have kept others waiting, so `admit` runs again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.queues import BufferShare, CoreTopic
from aioproducer._native.record_batch import Delivery
from aioproducer.errors import BufferExhaustedError, KafkaError
from aioproducer.errors.base import seconds
from aioproducer.sending.waiting_callers import Waiter, WaitingCallers
from aioproducer.transactions.transactions import Transactions

if TYPE_CHECKING:
    from aioproducer._native.queues import BrokerQueue

__all__ = ["Backpressure", "BrokersInErrors", "QueuesOfBrokers"]


class QueuesOfBrokers(Protocol):
    """The queues of all brokers, as far as waiting callers are concerned."""

    @property
    def by_node(self) -> Mapping[int, BrokerQueue]:
        """The queue of each broker."""
        ...

    @property
    def leaderless(self) -> BufferShare:
        """What the records of partitions without leader hold."""
        ...

    @property
    def requests_in_flight(self) -> int:
        """Requests that have no response yet."""
        ...

    def lately_delivered(self) -> tuple[int, float, float]:
        """The bytes that stored records gave back lately, since when, and until when."""
        ...

    def end_all_lingering(self) -> None:
        """Send the batches that wait for more records."""
        ...


class _HasConnection(Protocol):
    @property
    def is_connected(self) -> bool: ...


class BrokersInErrors(Protocol):
    """The brokers, as far as the errors of waiting callers name them."""

    def name(self, node_id: int, /) -> str:
        """A broker's address, or its id."""
        ...

    def get(self, node_id: int, /) -> _HasConnection | None:
        """A broker, if it is known."""
        ...

    def any_connect_error(self) -> KafkaError | None:
        """Why a broker cannot be reached, if one cannot."""
        ...


_RATE_LASTS: Final = 2.0
"""Seconds without a stored record after which the rate before says nothing."""

_LEAST_SPAN: Final = 0.001
"""Seconds that a rate spans at least: a loop's clock may stand still."""


class Backpressure:
    """The callers of one producer who wait for buffer space.

    Args:
        accumulator: The buffer.
        broker_queues: Send lingering batches when somebody waits.
        brokers: Name brokers in errors.
        clock: The loop's.
        transactions: The producer's, if it is transactional: a record without space fails one.
    """

    def __init__(
        self,
        accumulator: RecordAccumulator,
        broker_queues: QueuesOfBrokers,
        brokers: BrokersInErrors,
        clock: Callable[[], float],
        transactions: Transactions | None = None,
    ) -> None:
        self._transactions = transactions
        self._accumulator = accumulator
        self._broker_queues = broker_queues
        self._brokers = brokers
        self._clock = clock
        self._callers: WaitingCallers[Delivery] = WaitingCallers(accumulator)
        self._nobody_waits = asyncio.Event()
        self._nobody_waits.set()

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
        """Let a caller wait. Lingering batches are sent, to free space (as in Java)."""
        accumulator = self._accumulator
        self._callers.join(waiter)
        self._nobody_waits.clear()
        if accumulator.refused_share is None:
            accumulator.is_full = True
        if not accumulator.has_blocked:
            accumulator.has_blocked = True
            self._broker_queues.end_all_lingering()

    def withdraw(self, waiter: Waiter[Delivery]) -> None:
        """Take out a caller who no longer waits; those behind it may fit now."""
        self._callers.withdraw(waiter)
        self.admit()

    def expire(self, now: float, error: Callable[[Waiter[Delivery]], KafkaError]) -> None:
        """Reject callers who have waited long enough; those behind them may fit now."""
        self._callers.expire(now, error)
        self.admit()

    def reject(self, waiter: Waiter[Delivery], error: KafkaError) -> None:
        """Reject one caller, whose own deadline is over; those behind it may fit now."""
        if waiter.is_waiting:
            reject = waiter.reject
            self._callers.withdraw(waiter)
            reject(error)
            self.admit()

    def reject_all(self, error: Callable[[], Exception]) -> None:
        """Reject every caller: the producer closes, or the transaction is aborted."""
        self._callers.reject_all(error)
        self.admit()

    async def wait_until_empty(self) -> None:
        """Wait until every caller was admitted, or has left."""
        await self._nobody_waits.wait()

    def shares_changed(self) -> None:
        """Try callers again whom a share kept out: their records may take another share now."""
        self._callers.unpark()

    def admit(self) -> None:
        """Accept the records of those who fit now."""
        accumulator = self._accumulator
        # Not while a partitioner that this loop called sends a record itself: the loop goes on
        # when that returns.
        if accumulator.has_blocked and not accumulator.is_admitting:
            accumulator.is_full = self._callers.admit()
            accumulator.has_blocked = len(self._callers) > 0
            if not accumulator.has_blocked:
                self._nobody_waits.set()

    # ---- callers who fail

    def failed_late(self, error: Exception) -> None:
        """Fail the transaction of a record that could not be accepted when there was space."""
        if self._transactions is not None:
            self._transactions.call_failed(error)

    def no_space_error(
        self,
        waiter: Waiter[Delivery] | None = None,
        *,
        waited: float = 0.0,
        bound: str = "",
        hint: str | None = None,
    ) -> BufferExhaustedError:
        """Make the error of a caller for whom there is no buffer space; it fails the transaction.

        A full buffer raises it for every record, so its text is made when somebody reads it.

        Args:
            waiter: The caller who waited; None for the record that was refused just now.
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
        error = BufferExhaustedError(
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
        if not isinstance(refused[1], BufferShare):
            error.suggest_retry_after(self.seconds_to_empty())
        if self._transactions is not None:
            self._transactions.record_failed(error)
        return error

    def seconds_to_empty(self) -> float | None:
        """In how many seconds what the buffer holds is stored, at the rate of late.

        None where nothing was stored lately, so that there is no rate.
        """
        delivered, since, until = self._broker_queues.lately_delivered()
        now = self._clock()
        if not delivered or now - until > _RATE_LASTS:
            return None
        return self._accumulator.buffer_used * max(now - since, _LEAST_SPAN) / delivered

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
            # A broker that is gone has no queue any more.
            queues = self._broker_queues.by_node
            node_ids = [id_ for id_, queue in queues.items() if queue.share is share]
            names = [self._brokers.name(node_id) for node_id in node_ids]
            subject = f"broker {names[0]}" if names else "a broker that is gone"
        return f"Records for {subject} hold {share.held_bytes} bytes of the buffer"

    def _slowest_broker(self) -> str:
        """The busy broker that was silent longest, with what it does; empty if none is busy."""
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
