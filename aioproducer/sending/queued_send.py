"""What the callers hold who wait for buffer space.

Made by the producer, one for each call that finds no room; the queue itself is admission.py, which
the sender serves. Here is what asyncio sees of a place in it: coroutines that were begun by the
call, not by the await.

Invariant: a place is given back by whoever leaves: cancelled at any step, also before the first,
or dropped without being awaited.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from aioproducer._native.record_batch import Delivery
from aioproducer.errors import KafkaError
from aioproducer.hooks import OnDelivery
from aioproducer.records import Header, RecordMetadata
from aioproducer.sending.waiting_callers import Waiter

if TYPE_CHECKING:
    from aioproducer.sending.backpressure import Backpressure

__all__ = ["QueuedAdmission", "QueuedDelivery", "SerializedRecord", "wait_for_space"]

SerializedRecord: TypeAlias = tuple[
    str,
    bytes | None,
    bytes | None,
    int | None,
    Sequence[Header] | None,
    int | None,
    tuple[OnDelivery, Context] | None,
]
"""What `RecordAccumulator.accept_record` takes."""


def wait_for_space(
    backpressure: Backpressure,
    loop: asyncio.AbstractEventLoop,
    expires_at: float,
    record: SerializedRecord,
) -> QueuedAdmission:
    """Take the last place in the queue for room, until `expires_at` on the loop's clock."""
    admitted: asyncio.Future[Delivery] = loop.create_future()
    waiter = Waiter(
        admit=partial(_accept, loop, admitted, backpressure.accumulator.accept_record, record),
        resolve=partial(_resolve, admitted),
        reject=partial(_reject, admitted),
        expires_at=expires_at,
    )
    backpressure.join(waiter)
    return QueuedAdmission(backpressure, waiter, admitted)


class QueuedAdmission(Coroutine[Any, Any, Delivery]):
    """What `send` returns while there is no room; awaiting it gives the Delivery.

    The place in the queue was taken at the call. It is given back when the wait is cancelled, or
    when the caller drops this without awaiting it.

    Attributes:
        waiter: The place in the queue.
    """

    __slots__ = ("_admitted", "_backpressure", "_inner", "waiter")

    def __init__(
        self,
        backpressure: Backpressure,
        waiter: Waiter[Delivery],
        admitted: asyncio.Future[Delivery],
    ) -> None:
        self._backpressure = backpressure
        self.waiter = waiter
        self._admitted = admitted
        self._inner: Generator[Any, Any, Delivery] | None = None

    @property
    def delivery(self) -> Delivery | None:
        """The delivery if the record was accepted, even if the caller has not been notified."""
        admitted = self._admitted
        if admitted.done() and not admitted.cancelled() and admitted.exception() is None:
            return admitted.result()
        return None

    def __await__(self) -> Generator[Any, Any, Delivery]:
        return self._wait()

    def _wait(self) -> Generator[Any, Any, Delivery]:
        # By `self` the place is kept while the caller awaits, who holds nothing else of it.
        return (yield from _until_admitted(self._backpressure, self.waiter, self._admitted))

    def _leave(self) -> None:
        if self.waiter.is_waiting:
            self._backpressure.withdraw(self.waiter)

    def send(self, value: Any) -> Any:
        """Go on, as asyncio has a coroutine do."""
        if self._inner is None:
            # Without `self`: the two would be a circle, and its end left to whichever thread
            # collects garbage.
            self._inner = _until_admitted(self._backpressure, self.waiter, self._admitted)
        return self._inner.send(value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        """Go on with an exception: the caller was cancelled."""
        if self._inner is None:
            # Cancelled before the first step.
            self._leave()
            self._inner = _until_admitted(self._backpressure, self.waiter, self._admitted)
        return self._inner.throw(typ if val is None else val)

    def close(self) -> None:
        """End without an outcome, and give the place back."""
        if self._inner is not None:
            self._inner.close()
        self._leave()

    def __del__(self) -> None:
        if self.waiter.is_waiting:
            self._leave()
            warnings.warn(
                "a send() that found no buffer space was never awaited: its record was not sent",
                RuntimeWarning,
                stacklevel=2,
            )


class QueuedDelivery(Coroutine[Any, Any, RecordMetadata]):
    """What `send_and_wait` returns while there is no room; awaiting it gives the metadata.

    Not the coroutine that waits: cancelled before its first step, that would run nothing which
    gives the place in the queue back, and its frame would keep the place.
    """

    __slots__ = ("_admission", "_begin", "_inner")

    def __init__(
        self, admission: QueuedAdmission, begin: Callable[[], Coroutine[Any, Any, RecordMetadata]]
    ) -> None:
        self._admission = admission
        self._begin = begin
        self._inner: Coroutine[Any, Any, RecordMetadata] | None = None

    def __await__(self) -> Generator[Any, Any, RecordMetadata]:
        return self._begin().__await__()

    def send(self, value: Any) -> Any:
        """Go on, as asyncio has a coroutine do."""
        if self._inner is None:
            self._inner = self._begin()
        return self._inner.send(value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        """Go on with an exception: the caller was cancelled."""
        if self._inner is None:
            # Cancelled before the first step.
            self._admission.close()
            self._inner = self._begin()
        return self._inner.throw(typ if val is None else val)

    def close(self) -> None:
        """End without an outcome, and give the place back."""
        if self._inner is not None:
            self._inner.close()
        self._admission.close()


def _until_admitted(
    backpressure: Backpressure, waiter: Waiter[Delivery], admitted: asyncio.Future[Delivery]
) -> Generator[Any, Any, Delivery]:
    try:
        return (yield from admitted.__await__())
    finally:
        if waiter.is_waiting:
            backpressure.withdraw(waiter)


class _NotWantedError(Exception):
    """A caller was cancelled, and its task has not run since to leave the queue."""


def _accept(
    loop: asyncio.AbstractEventLoop,
    admitted: asyncio.Future[Delivery],
    accept: Callable[..., Delivery | None],
    record: SerializedRecord,
) -> Delivery | None:
    if admitted.cancelled():
        raise _NotWantedError
    try:
        return accept(*record)
    except (KeyboardInterrupt, SystemExit) as interrupt:
        # From a partitioner: it ends the program once those behind this caller are looked after.
        loop.call_soon(_raise, interrupt)
        raise KafkaError(f"The partitioner raised {type(interrupt).__name__}") from interrupt


def _raise(error: BaseException) -> None:
    raise error


def _resolve(admitted: asyncio.Future[Delivery], delivery: Delivery) -> None:
    if not admitted.done():
        admitted.set_result(delivery)


def _reject(admitted: asyncio.Future[Delivery], error: Exception) -> None:
    if not admitted.done():
        admitted.set_exception(error)
        # Not every caller is still there to look.
        admitted.exception()
