# cython: language_level=3
"""The deliveries of a batch's records: the future protocol over a batch and an index.

Included by record_batch.pyx, in whose module it is compiled: a batch makes deliveries and a
delivery asks its batch, once per record each.

Invariants
* Nothing here keeps an exception, a task or a callback once the outcome was told: a delivery takes
  no part in garbage collection, so a circle through it would never be found.
* `cancel()` touches those who wait, never the record.
"""

from cpython.ref cimport Py_INCREF

from asyncio import CancelledError, InvalidStateError, Task
from contextvars import copy_context
from types import GenericAlias

from aioproducer.records import RecordMetadata

include "send_slot.pxi"


cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    void PyTuple_SET_ITEM(object values, Py_ssize_t index, object value) noexcept
    void PyObject_GC_UnTrack(PyObject* container) noexcept
    void PyErr_SetObject(object type, object value) noexcept


cdef extern from *:
    """
    /* Python 3.14 caches the hash of a tuple, where tp_alloc leaves 0: a hash that was found. */
    #if PY_VERSION_HEX >= 0x030E0000
    #define HAS_NO_HASH_YET(values) (((PyTupleObject*)(values))->ob_hash = -1)
    #else
    #define HAS_NO_HASH_YET(values) ((void)(values))
    #endif
    """
    void HAS_NO_HASH_YET(object values) noexcept


cdef object new_metadata(
    object topic, object partition, object offset, object timestamp_ms, object by_broker
):
    # What RecordMetadata(...) does, without the Python function that a NamedTuple has for it.
    cdef PyTypeObject* cls = <PyTypeObject*>RecordMetadata
    cdef object metadata = cls.tp_alloc(cls, 5)
    HAS_NO_HASH_YET(metadata)
    set_item(metadata, 0, topic)
    set_item(metadata, 1, partition)
    set_item(metadata, 2, offset)
    set_item(metadata, 3, timestamp_ms)
    set_item(metadata, 4, by_broker)
    # A str, numbers and a bool: no circle goes through it, so the collector need not look.
    PyObject_GC_UnTrack(<PyObject*>metadata)
    return metadata


cdef inline void set_item(object metadata, Py_ssize_t index, object value) noexcept:
    Py_INCREF(value)
    PyTuple_SET_ITEM(metadata, index, value)


@cython.final
@cython.no_gc
@cython.freelist(4096)
cdef class Delivery:
    """The result of one record, now or later.

    Await it for the `RecordMetadata`, or use it as a future: `done()`, `result()`,
    `exception()`, `add_done_callback(fn)`. `asyncio.gather`, `wait`, `wait_for` and `shield`
    take it as it is; no task and no future is made for it.

    The record is on its way already. Cancelling an `await` of a delivery, or calling `cancel()`,
    ends the wait at once and never the record: it can be awaited again, and `on_delivery` still
    gets its true outcome. A failed delivery that nobody looks at logs nothing; the producer
    counts it and tells `on_error`.

    Raises (when awaited):
        KafkaError: The record was not stored, or it is not known whether it was:
            `error.possibly_persisted` tells which.
    """

    def __init__(self):
        # Only `__new__` makes them, for a batch: without one every method would read through NULL.
        raise TypeError("a Delivery is made by Producer.send")

    def __repr__(self):
        outcome = self._outcome()
        if outcome == DELIVERED:
            state = f"offset={self._metadata().offset}"
        elif outcome == FAILED:
            state = f"failed {type(self._error()).__name__}"
        else:
            state = "pending"
        if self.batch.partition < 0:
            return f"<Delivery {self.batch.topic} {state}>"
        return f"<Delivery {self.batch.topic}-{self.batch.partition} {state}>"

    __class_getitem__ = classmethod(GenericAlias)

    cdef Outcome _outcome(self) noexcept:
        if self.batch.outcome == SPLIT:
            self._follow_split()
        return self.batch.outcome

    cdef void _follow_split(self):
        # To the last child that begins at or before this record; it may have been split again.
        while self.batch.outcome == SPLIT:
            position = len(self.batch.children) - 1
            while self.batch.children[position][0] > self.index:
                position -= 1
            start, child = self.batch.children[position]
            self.index -= <int32_t>start
            self.batch = <RecordBatch>child

    cdef void _enrol(self):
        if not self.is_enrolled:
            self.is_enrolled = True
            if self.batch.enrolled is None:
                self.batch.enrolled = []
            self.batch.enrolled.append(self)

    cdef void _move_to(self, RecordBatch batch, int32_t index):
        self.batch = batch
        self.index = index
        if self.is_enrolled:
            self.is_enrolled = False
            self._enrol()

    cdef object _metadata(self):
        # Made when somebody looks, and once: a task that awaits looks twice.
        cdef RecordBatch batch = self.batch
        cdef bint by_broker = batch.log_append_time_ms >= 0
        if self.metadata is None:
            self.metadata = new_metadata(
                batch.topic,
                batch.partition,
                batch.base_offset + self.index if batch.base_offset >= 0 else -1,
                batch.log_append_time_ms if by_broker else self.timestamp_ms,
                by_broker,
            )
        return self.metadata

    cdef object _error(self):
        # A fresh instance for whoever looks. One kept here would hold, by its traceback, the
        # frame that holds this delivery, and no garbage collector would see the circle.
        template = self.batch.error
        if self.batch.record_errors is not None:
            template = self.batch.record_errors.get(self.index, template)
        return template.again()

    cdef int _notify(self, bint direct) except -1:
        callbacks = self.callbacks
        on_delivery = self.on_delivery
        self.callbacks = None
        self.on_delivery = None
        self.is_enrolled = False
        if type(callbacks) is not list:
            callbacks = [] if callbacks is None else [callbacks]
        if on_delivery is not None:
            try:
                if direct:
                    self._run_on_delivery(on_delivery)
                else:
                    self.batch.loop.call_soon(self._run_on_delivery, on_delivery)
            except BaseException:
                # KeyboardInterrupt or SystemExit from the callback: the loop runs the others.
                self._run_callbacks(callbacks, False)
                raise
        return self._run_callbacks(callbacks, direct)

    cdef int _run_callbacks(self, list callbacks, bint direct) except -1:
        cdef Py_ssize_t position = 0
        try:
            for position in range(len(callbacks)):
                entry = callbacks[position]
                run_callback(self, entry[0], entry[1], direct)
        except BaseException:
            # KeyboardInterrupt or SystemExit from one of them: the loop runs the others.
            for entry in callbacks[position + 1:]:
                run_callback(self, entry[0], entry[1], False)
            raise
        return 0

    def _run_on_delivery(self, on_delivery):
        try:
            if self._outcome() == DELIVERED:
                on_delivery(self._metadata(), None)
            else:
                on_delivery(None, self._error())
        except Exception as error:
            self.batch.loop.call_exception_handler({
                "message": f"on_delivery callback for {self.batch.topic} raised",
                "exception": error,
            })

    # ---- the future protocol

    def get_loop(self):
        """The loop of the producer that this delivery belongs to."""
        return self.batch.loop

    @property
    def _loop(self):
        return self.batch.loop

    def done(self):
        """True when the outcome is known, or the wait was cancelled."""
        return self._outcome() != PENDING or self.is_detached

    def cancelled(self):
        """True after `cancel()`, until it is awaited again or the record's outcome is known."""
        return self.is_releasing or (self.is_detached and self._outcome() == PENDING)

    def _make_cancelled_error(self):
        return CancelledError()

    @property
    def _cancel_message(self):
        return None

    def cancel(self, msg=None):
        """Detach whoever waits; the record goes on. Returns False when there is nothing to end.

        A task that awaits this delivery and is not itself being cancelled goes on waiting.
        """
        if self._outcome() != PENDING:
            return False
        callbacks = self.callbacks
        if type(callbacks) is not list:
            callbacks = [] if callbacks is None else [callbacks]
        staying = [entry for entry in callbacks if is_uncancelled_task(entry)]
        leaving = [entry for entry in callbacks if not is_uncancelled_task(entry)]
        if not leaving and (staying or self.is_detached):
            return False
        self.callbacks = staying if staying else None
        self.is_detached = True
        self.was_detached = True
        self.batch.loop.call_soon(self._release, leaving)
        return True

    def _release(self, leaving):
        # A task reads its outcome from result(), and must find the cancellation there even when
        # the broker's answer came between cancel() and now.
        self.is_releasing = True
        try:
            self._run_callbacks(leaving, True)
        finally:
            self.is_releasing = False

    def result(self):
        """The `RecordMetadata`; raises what went wrong, or InvalidStateError when not done."""
        if self._known_outcome() == FAILED:
            raise self._error()
        return self._metadata()

    def exception(self):
        """The error, or None when the record was stored; InvalidStateError when not done."""
        return self._error() if self._known_outcome() == FAILED else None

    cdef Outcome _known_outcome(self) except *:
        cdef Outcome outcome = self._outcome()
        if self.is_releasing or (outcome == PENDING and self.was_detached):
            raise CancelledError
        if outcome == PENDING:
            raise InvalidStateError(
                "the record's outcome is not known yet: await the delivery"
            )
        return outcome

    def add_done_callback(self, fn, *, context=None):
        """Have `fn(delivery)` called by the loop when the outcome is known."""
        if context is None:
            context = copy_context()
        if self._outcome() != PENDING:
            self.batch.loop.call_soon(fn, self, context=context)
            return
        self.is_detached = False
        if self.callbacks is None:
            self.callbacks = (fn, context)
            self._enrol()
        elif type(self.callbacks) is list:
            (<list>self.callbacks).append((fn, context, cancel_count(fn)))
        else:
            # Two wait: from now on it matters who of them is cancelled.
            first, first_context = self.callbacks
            self.callbacks = [
                (first, first_context, cancel_count(first)), (fn, context, cancel_count(fn))
            ]

    def remove_done_callback(self, fn):
        """Take back a callback; returns how many were removed."""
        callbacks = self.callbacks
        if callbacks is None:
            return 0
        if type(callbacks) is not list:
            callbacks = [callbacks]
        left = [entry for entry in <list>callbacks if entry[0] != fn]
        self.callbacks = left if left else None
        return len(callbacks) - len(left)

    # ---- awaiting. No send, throw and close: with them it would be a coroutine to asyncio, and
    # asyncio.wait() takes futures only.

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef Outcome outcome = self._outcome()
        if outcome == DELIVERED:
            raise StopIteration(self._metadata())
        if outcome == FAILED:
            raise self._error()
        self._asyncio_future_blocking = True
        return self


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class DeliveryWait:
    """What `send_and_wait` returns: awaiting it gives the `RecordMetadata`.

    A coroutine to asyncio, so that `create_task(producer.send_and_wait(...))` works.
    """

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self):
        raise TypeError("a DeliveryWait is made by Producer.send_and_wait")

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.delivery.__next__()

    def send(self, value):
        return self.delivery.__next__()

    def throw(self, typ, val=None, tb=None):
        raise_thrown(typ, val)

    def close(self):
        pass


cdef object cancel_count(callback):
    """How often the task that a callback wakes was asked to end; it may have declined."""
    waiter = getattr(callback, "__self__", None)
    return waiter.cancelling() if isinstance(waiter, Task) else 0


cdef bint is_uncancelled_task(tuple entry):
    waiter = getattr(entry[0], "__self__", None)
    if not isinstance(waiter, Task):
        return False
    before = entry[2] if len(entry) == 3 else 0
    # `_must_cancel`: asked within the very step in which it began to wait, so it was counted.
    return waiter.cancelling() <= before and not waiter._must_cancel


cdef int run_callback(Delivery delivery, callback, context, bint direct) except -1:
    if not direct:
        delivery.batch.loop.call_soon(callback, delivery, context=context)
        return 0
    PyContext_Enter(context)
    try:
        callback(delivery)
    except Exception as error:
        delivery.batch.loop.call_exception_handler({
            "message": f"done callback {callback!r} of a delivery raised",
            "exception": error,
        })
    finally:
        PyContext_Exit(context)
    return 0


cdef void set_raised(error) noexcept:
    # `noexcept`: what it sets is for the interpreter, which called the slot, not for us.
    PyErr_SetObject(type(error), error)


cdef PySendResult delivery_am_send(PyObject* this, PyObject* value, PyObject** result) noexcept:
    # `await delivery` without raising and catching a StopIteration (PEP 479's slot, am_send).
    cdef Delivery delivery = <Delivery>this
    cdef Outcome outcome
    try:
        outcome = delivery._outcome()
        if outcome == DELIVERED:
            outcome_value = delivery._metadata()
            Py_INCREF(outcome_value)
            result[0] = <PyObject*>outcome_value
            return PYGEN_RETURN
        if outcome == FAILED:
            set_raised(delivery._error())
            result[0] = NULL
            return PYGEN_ERROR
        delivery._asyncio_future_blocking = True
        Py_INCREF(delivery)
        result[0] = this
        return PYGEN_NEXT
    except BaseException as error:
        set_raised(error)
        result[0] = NULL
        return PYGEN_ERROR

use_send_slot(Delivery, <void*>delivery_am_send)


cdef PySendResult wait_am_send(PyObject* this, PyObject* value, PyObject** result) noexcept:
    return delivery_am_send(<PyObject*>(<DeliveryWait>this).delivery, value, result)

use_send_slot(DeliveryWait, <void*>wait_am_send)
