"""`producer.from_thread`: plain calls for synchronous code, in any thread but the loop's.

Owns the records that were handed over and wait for buffer space. The hand-over itself is native
(threads.pxi); here is what happens when not all goes well, or when somebody waits.

Invariants
* A call returns when the record is handed over and its bytes count in `buffer_used`, or raises. It
  blocks only while there is no buffer space, `max_block_ms` and a grace at most. A record that
  waits for its broker's share of the buffer after that gives its bytes back until it is accepted.
* A future whose record was handed over gets the record's outcome, also when the producer closes.
  `result()` and `exception()` are bounded without a timeout, too: the loop may be gone.
* No lock is held while user code runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aioproducer._native.record_batch import Delivery
from aioproducer._native.send_path import HandedOver, SendPath, ThreadPath
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    BufferExhaustedError,
    KafkaError,
    KafkaTimeoutError,
    ProducerClosedError,
    WrongEventLoopError,
)
from aioproducer.records import K, RecordMetadata, V
from aioproducer.sending.queued_send import reject_late
from aioproducer.sending.topics import check_topic_name
from aioproducer.sending.waiting_callers import Waiter

if TYPE_CHECKING:
    from aioproducer.sending.record_sender import RecordSender

__all__ = ["DeliveryFuture", "FromThread"]

_GRACE: Final = 0.1
"""Seconds that a thread waits for buffer space beyond `max_block_ms`: the loop's own error knows
what the buffer is full of."""

_LOOK_EVERY: Final = 0.5
"""Seconds after which a thread that waits for an outcome looks whether the loop is still there."""

_LATE: Final = 10.0
"""Seconds beyond all bounds of a record, after which its loop is taken for dead."""


class DeliveryFuture(HandedOver, concurrent.futures.Future[RecordMetadata]):
    """The outcome of a record that a thread handed over: a `concurrent.futures.Future`.

    Most futures are dropped, or looked at when they are done. So what a `Future` needs to be waited
    for (a condition, which costs more than the record) is made when something first asks for it:

        1. `concurrent.futures` reads an attribute that `Future.__init__` makes. It is missing, and
           Python calls `__getattr__`.
        2. That runs `Future.__init__` and tells the loop to complete the future, too. If the
           outcome is known already, it completes the future here.
    """

    def __init__(self) -> None:
        raise TypeError("a DeliveryFuture is made by from_thread.send")

    def __repr__(self) -> str:
        state = "pending"
        if self._is_done:
            error = self._failure()
            state = f"failed {type(error).__name__}" if error else repr(self._metadata())
        return f"<DeliveryFuture {self._topic} {state}>"

    def __getattr__(self, name: str) -> Any:
        with _becoming_awaited:
            if not self._is_awaited:
                concurrent.futures.Future[RecordMetadata].__init__(self)
                if self._begin_awaited():
                    self.complete()
        return object.__getattribute__(self, name)

    def complete(self) -> None:
        """Notify those who wait. Called once, when the outcome is known."""
        # Not if user code has set a result of its own.
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            error = self._failure()
            if error is None:
                self.set_result(self._metadata())
            else:
                self.set_exception(error)

    def cancel(self) -> bool:
        """Return False: a record that was handed over cannot be withdrawn."""
        return False

    def cancelled(self) -> bool:
        """Return False: see `cancel`."""
        return False

    def running(self) -> bool:
        """Whether the record has no outcome yet: it is on its way."""
        return not self._is_done

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._is_done

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """Wait for the `RecordMetadata`.

        Args:
            timeout: Seconds; None for the bounds of the record (`max_block_ms` and
                `delivery_timeout_ms`).

        Raises:
            TimeoutError: There is no outcome yet; the record goes on.
            KafkaError: It was not stored, or it is not known whether it was.
        """
        error = self.exception(timeout)
        if error is None:
            return self._metadata()
        try:
            raise error
        finally:
            # Its traceback holds this frame: without this they would keep each other.
            error = None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the outcome; return the record's error, None if it is stored.

        Args:
            timeout: As for `result`.

        Raises:
            TimeoutError: There is no outcome yet; the record goes on.
        """
        if not self._is_done:
            self._wait(timeout)
        return self._failure()

    def _wait(self, timeout: float | None) -> None:
        path: FromThread[Any, Any] = self._path
        path.refuse_to_wait()
        now = time.monotonic()
        give_up_at = now + (path.longest_wait if timeout is None else timeout)
        while True:
            try:
                super().exception(max(0.0, min(_LOOK_EVERY, give_up_at - now)))
                return
            except TimeoutError:
                now = time.monotonic()
                if self._is_done or path.fail_if_lost(self):
                    return
                if now >= give_up_at and timeout is not None:
                    raise
                if now >= give_up_at:
                    what = f"the outcome of a record for topic {self._topic}"
                    raise _not_yet(path.longest_wait, what) from None


_becoming_awaited = threading.RLock()


class FromThread(ThreadPath[K, V]):
    """Sends records of one producer from other threads than its loop's: `producer.from_thread`.

    Args:
        path: Checks and serializes records: the producer.
        config: The producer's options.
        refuse: Raises the reason why a producer that is not open takes no call.
        sender: Returns the sender of a producer that was started, also after its close.
        expire_waiters_by: Has callers who wait for buffer space looked at by a time of the loop's
            clock.

    Attributes:
        longest_wait: Seconds in which any record has its outcome, if its loop runs.
        is_left_behind: Whether this is the copy in the child of a fork.
    """

    def __init__(
        self,
        path: SendPath[K, V],
        config: ProducerConfig,
        refuse: Callable[[], None],
        sender: Callable[[], RecordSender],
        expire_waiters_by: Callable[[float], None],
    ) -> None:
        super().__init__(path, DeliveryFuture)
        self._refuse = refuse
        self._sender = sender
        self._expire_waiters_by = expire_waiters_by
        self._waiting: dict[HandedOver, asyncio.Future[None]] = {}
        """Records that wait for buffer space, with what a flush waits for. Only for the loop."""
        self._max_block = config.max_block_ms / 1000
        self.longest_wait = self._max_block + config.delivery_timeout_ms / 1000 + _LATE
        self.is_left_behind = False

    def flush(self, timeout: float | None = None) -> None:
        """Block until every record handed over so far is stored or has failed.

        Never raises for a record: look at its future.

        Args:
            timeout: Seconds; None for the bounds of the records.

        Raises:
            KafkaTimeoutError: It takes longer; the records go on.
            ProducerClosedError, ProducerNotStartedError: The producer is not open.
            WrongEventLoopError: The call came from the loop's own thread.
        """
        self._check_open()
        self._refuse_loops_thread("flush()", "await producer.flush()")
        loop = self._sender().background.loop
        coroutine = self._flush()
        try:
            flushed = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:
            coroutine.close()
            raise self._loop_is_gone() from None
        seconds = self.longest_wait if timeout is None else timeout
        give_up_at = time.monotonic() + seconds
        while True:
            left = max(0.0, give_up_at - time.monotonic())
            try:
                flushed.result(min(_LOOK_EVERY, left))
                return
            except TimeoutError:
                if loop.is_closed():
                    raise self._loop_is_gone() from None
                if left == 0.0:
                    flushed.cancel()
                    raise _not_yet(seconds, "from_thread.flush()") from None
            except concurrent.futures.CancelledError:
                raise self._loop_is_gone() from None

    # ---- in the calling thread

    def refuse_to_wait(self) -> None:
        """Refuse to block the loop until something happens in the loop, or in another process."""
        self._check_process()
        self._refuse_loops_thread(
            "result() of a record that has no outcome yet", "await asyncio.wrap_future(future)"
        )

    def fail_if_lost(self, future: DeliveryFuture) -> bool:
        """Fail a record whose loop is gone; return whether it is."""
        self._check_process()
        if not self._sender().background.loop.is_closed():
            return False
        if future._give_up(self._loop_is_gone()):
            future.complete()
        return True

    def _refuse_send(self) -> None:
        self._check_open()
        self._refuse_loops_thread(
            "send()", "await producer.send(...), or call producer.send_nowait(...)"
        )

    def _check_open(self) -> None:
        if not self._is_open:
            self._refuse()

    def _refuse_loops_thread(self, call: str, instead: str) -> None:
        if threading.get_ident() == self._thread_id:
            raise WrongEventLoopError(
                f"from_thread: {call} was called in the thread of the producer's own event loop,"
                " which it would block",
                hint=f"In there, {instead}.",
            )

    def _check_process(self) -> None:
        if self.is_left_behind:
            self._refuse()

    def _check_topic(self, topic: str) -> None:
        check_topic_name(topic)

    def _wake_loop(self) -> None:
        loop = self._sender().background.loop
        try:
            loop.call_soon_threadsafe(self._drain, context=Context())
        except RuntimeError:
            raise self._loop_is_gone() from None

    def _check_loop(self) -> None:
        if self._sender().background.loop.is_closed():
            self._wake_again()
            raise self._loop_is_gone()

    def _loop_is_gone(self) -> ProducerClosedError:
        return ProducerClosedError(
            "The event loop of the producer was closed, and the producer was not",
            possibly_persisted=True,
            hint="Close the producer before its loop ends.",
        )

    def _wait_for_space(self, future: HandedOver, size: int) -> None:
        """Block until a record is accepted, of whose size there was no space."""
        self._check_loop()
        admission = threading.Event()
        began_at = time.monotonic()
        deadline = future._deadline
        bound = self._max_block if deadline is None else min(self._max_block, deadline[1])
        self._hand_over_waiting(future, admission)
        try:
            is_settled = admission.wait(bound + _GRACE)
        except BaseException:
            # An interrupt, of the main thread.
            future._withdraw()
            raise
        if not is_settled and future._withdraw():
            self._check_loop()
            accumulator = self._sender().accumulator
            raise BufferExhaustedError(
                requested_bytes=size,
                available_bytes=max(0, accumulator.buffer_memory - accumulator.buffer_used),
                total_bytes=accumulator.buffer_memory,
                waited=time.monotonic() - began_at,
                waiting_for=f"buffer space ({_bound_name(bound, self._max_block)})",
                hint="Send slower, or raise buffer_memory or max_block_ms.",
            )
        refusal = future._refusal()
        if refusal is not None:
            raise refusal

    # ---- in the loop

    def _drain_soon(self) -> None:
        loop = self._sender().background.loop
        loop.call_soon(self._drain, context=Context())

    def _offer_space(self) -> None:
        """Admit those who wait: records gave bytes back."""
        self._sender().backpressure.admit()

    def _join(self, future: HandedOver) -> None:
        """Let a record wait for buffer space, behind the callers who came before it."""
        sender = self._sender()
        loop = sender.background.loop
        expires_at = loop.time() + self._max_block
        self._waiting[future] = loop.create_future()
        waiter: Waiter[Delivery] = Waiter(
            admit=partial(self._try_again, loop, future),
            resolve=partial(self._settled, future),
            reject=partial(self._not_admitted, future),
            expires_at=expires_at,
        )
        sender.backpressure.join(waiter)
        self._expire_waiters_by(expires_at)
        deadline = future._deadline
        if deadline is not None and deadline[0] < expires_at:
            # As in queued_send.py, but that a deadline is rare here: its timer is not cancelled.
            at, span = deadline
            sender.background.call_at(at, reject_late, sender.backpressure, waiter, span)

    def _try_again(self, loop: asyncio.AbstractEventLoop, future: HandedOver) -> Delivery | None:
        if future._is_withdrawn:
            # Its thread waits no longer.
            raise BufferExhaustedError
        try:
            return self._admit(future)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            # From a partitioner: raised in the loop, after the callers behind this one.
            loop.call_soon(_raise, interrupt)
            raise KafkaError(f"The partitioner raised {type(interrupt).__name__}") from interrupt

    def _not_admitted(self, future: HandedOver, error: Exception) -> None:
        self._reject(future, error)
        self._settled(future, None)

    def _settled(self, future: HandedOver, _: object) -> None:
        self._leave_line(future)
        admitted = self._waiting.pop(future)
        if not admitted.done():
            admitted.set_result(None)

    def _finish(self, futures: list[DeliveryFuture]) -> None:
        """Complete futures that somebody waits for."""
        for position, future in enumerate(futures):
            try:
                future.complete()
            except BaseException:
                # KeyboardInterrupt or SystemExit from a done callback: the others are not its own.
                loop = self._sender().background.loop
                loop.call_soon(self._finish, futures[position + 1 :], context=Context())
                raise

    async def finish(self) -> None:
        """Accept what was handed over before the producer was closed."""
        try:
            while self._has_handed_over:
                self._drain()
                await asyncio.sleep(0)
        finally:
            # Also when the loop ends and cancels this: the records fail, and with them the futures.
            self._take_all()

    async def _flush(self) -> None:
        while self._has_handed_over:
            self._drain()
            await asyncio.sleep(0)
        waiting = list(self._waiting.values())
        if waiting:
            await asyncio.wait(waiting)
        await self._sender().flush()


def _bound_name(bound: float, max_block: float) -> str:
    return "max_block_ms" if bound == max_block else "deadline of the call"


def _not_yet(waited: float, waiting_for: str) -> KafkaTimeoutError:
    error = KafkaTimeoutError(
        waited=waited,
        waiting_for=waiting_for,
        possibly_persisted=True,
        hint="The records go on, if the producer's event loop runs and is not blocked.",
    )
    error.is_pending = True
    return error


def _raise(error: BaseException) -> None:
    raise error
