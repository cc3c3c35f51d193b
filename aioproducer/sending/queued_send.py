"""What a caller holds while its record waits for buffer space.

`send` and `send_and_wait` join the queue of backpressure.py at the call, not at the await, and then
return an object from here, which asyncio takes for a coroutine.

Invariant: a caller who leaves gives its place in the queue back. Step by step:
    1. Awaited and cancelled: the generator's `finally` withdraws the waiter.
    2. Wrapped in a task that is cancelled before its first step: a coroutine would run nothing, so
       `throw` withdraws the waiter before it begins the generator.
    3. Dropped without being awaited: `__del__` withdraws it, with a warning.
    4. Admitted before any of these: there is no place to give back, and the record goes on.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aioproducer._native.record_batch import Delivery
from aioproducer.background import Background, Timer
from aioproducer.errors import KafkaError
from aioproducer.hooks import OnDelivery
from aioproducer.records import Header, RecordMetadata
from aioproducer.sending.waiting_callers import Waiter

if TYPE_CHECKING:
    from aioproducer.sending.backpressure import Backpressure

__all__ = ["QueuedAdmission", "QueuedDelivery", "SerializedRecord", "reject_late", "wait_for_space"]

SerializedRecord: TypeAlias = tuple[
    str,
    bytes | None,
    bytes | None,
    int | None,
    Sequence[Header] | None,
    int | None,
    tuple[OnDelivery, Context] | None,
]
"""What `RecordAccumulator.accept_record` takes, but for the deadline."""

_HINT: Final = "The record was not accepted. Send slower, or raise buffer_memory."


def wait_for_space(
    backpressure: Backpressure,
    background: Background,
    expires_at: float,
    record: SerializedRecord,
    deadline: float | None,
) -> QueuedAdmission:
    """Join the queue for buffer space.

    Args:
        backpressure: The queue.
        background: The loop.
        expires_at: When `max_block_ms` is over, on the loop's clock.
        record: The record.
        deadline: Seconds within which the record must be sent; None for no bound of its own.
    """
    admitted: asyncio.Future[Delivery] = background.create_future()
    due = None if deadline is None else (background.time() + deadline, deadline)
    accept = partial(backpressure.accumulator.accept_record, *record, due)
    waiter = Waiter(
        admit=partial(_accept, backpressure, background.loop, admitted, accept),
        resolve=partial(_resolve, admitted),
        reject=partial(_reject, admitted),
        expires_at=expires_at,
    )
    backpressure.join(waiter)
    if due is not None and due[0] < expires_at:
        # A timer of its own: the one of the queue relies on all waiting equally long.
        timer = Timer(background, partial(reject_late, backpressure, waiter, due[1]))
        timer.set(due[0])
        admitted.add_done_callback(lambda _: timer.cancel())
    return QueuedAdmission(backpressure, waiter, admitted)


def reject_late(backpressure: Backpressure, waiter: Waiter[Delivery], deadline: float) -> None:
    """End the wait of a caller whose deadline, in seconds, is over."""
    if not waiter.is_waiting:
        return
    error = backpressure.no_space_error(
        waiter, waited=deadline, bound="deadline of the call", hint=_HINT
    )
    backpressure.reject(waiter, error)


class QueuedAdmission(Coroutine[Any, Any, Delivery]):
    """What `send` returns while there is no buffer space; awaiting it gives the Delivery.

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
        # A generator of its own for its reference to `self`: the caller holds nothing else, and
        # `__del__` would withdraw the waiter.
        return (yield from _until_admitted(self._backpressure, self.waiter, self._admitted))

    def _leave(self) -> None:
        if self.waiter.is_waiting:
            self._backpressure.withdraw(self.waiter)

    def send(self, value: Any) -> Any:
        """Take the next step, as a coroutine does."""
        if self._inner is None:
            # Without `self`: a reference cycle would leave `__del__` to the garbage collector, in
            # any thread.
            self._inner = _until_admitted(self._backpressure, self.waiter, self._admitted)
        return self._inner.send(value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        """Raise an exception at the await: the caller was cancelled."""
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
    """What `send_and_wait` returns while there is no buffer space; awaiting it gives the metadata.

    It makes the coroutine that waits at the first step. One that was cancelled before that would
    run nothing to give the place back, and its frame would keep the admission.
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
        """Take the next step, as a coroutine does."""
        if self._inner is None:
            self._inner = self._begin()
        return self._inner.send(value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        """Raise an exception at the await: the caller was cancelled."""
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
    backpressure: Backpressure,
    loop: asyncio.AbstractEventLoop,
    admitted: asyncio.Future[Delivery],
    accept: Callable[[], Delivery | None],
) -> Delivery | None:
    if admitted.cancelled():
        raise _NotWantedError
    try:
        return accept()
    except (KeyboardInterrupt, SystemExit) as interrupt:
        # From a partitioner: raised in the loop, after the callers behind this one were admitted.
        loop.call_soon(_raise, interrupt)
        error = KafkaError(f"The partitioner raised {type(interrupt).__name__}")
        backpressure.failed_late(error)
        raise error from interrupt
    except Exception as error:
        backpressure.failed_late(error)
        raise


def _raise(error: BaseException) -> None:
    raise error


def _resolve(admitted: asyncio.Future[Delivery], delivery: Delivery) -> None:
    if not admitted.done():
        admitted.set_result(delivery)


def _reject(admitted: asyncio.Future[Delivery], error: Exception) -> None:
    if not admitted.done():
        admitted.set_exception(error)
        # The caller may be gone: marks the exception as retrieved.
        admitted.exception()
