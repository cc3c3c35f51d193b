# cython: language_level=3
"""The deliveries of a batch's records, and the waits for them.

Part of the module record_batch: batch and delivery call each other once per record.

Who waits how
    await delivery, send_and_wait    each await has a `DeliveryWait`; only that is cancelled, with
                                     the message of the cancellation
    asyncio.gather, shield, wait_for asyncio wraps the delivery in a task that awaits it: while it
                                     is pending, `asyncio.isfuture` is False for it
    asyncio.wait, add_done_callback  a callback, called with the delivery
    aioproducer.gather               watches the batches of its deliveries (gathering.pxi)

Invariants
* Cancelling a wait ends that wait; the record, its delivery and all other waits go on.
* Once its waiters are notified, a delivery keeps no exception, task or callback: it takes no part
  in garbage collection, so a reference cycle through it would never be collected.
* What user code raises while it is notified goes to the loop's exception handler. KeyboardInterrupt
  and SystemExit pass, and then the loop notifies the other waiters.
"""

from cpython.exc cimport PyErr_WarnEx
from cpython.ref cimport Py_INCREF

from asyncio import CancelledError, InvalidStateError
from types import GenericAlias

from aioproducer.records import RecordMetadata

include "awaitable.pxi"


cdef extern from "Python.h":
    object PyContext_CopyCurrent()
    object PyContext_Copy(object context)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    void PyTuple_SET_ITEM(object values, Py_ssize_t index, object value) noexcept
    void PyObject_GC_UnTrack(PyObject* container) noexcept
    void PyErr_SetObject(object type, object value) noexcept


cdef extern from *:
    """
    /* Python 3.14 caches a tuple's hash. tp_alloc leaves 0, which would be a hash; -1 is none. */
    #if PY_VERSION_HEX >= 0x030E0000
    #define HAS_NO_HASH_YET(values) (((PyTupleObject*)(values))->ob_hash = -1)
    #else
    #define HAS_NO_HASH_YET(values) ((void)(values))
    #endif

    /* Leave the current context and return it; None if there is none to leave. */
    static PyObject* leave_context(void)
    {
        PyObject *context = PyThreadState_Get()->context;
        if (context == NULL)
            Py_RETURN_NONE;
        Py_INCREF(context);
        if (PyContext_Exit(context) < 0) {
            /* It was never entered: it is the thread's own. */
            PyErr_Clear();
            Py_DECREF(context);
            Py_RETURN_NONE;
        }
        return context;
    }
    """
    void HAS_NO_HASH_YET(object values) noexcept
    object leave_context()


cdef object new_metadata(
    object topic, object partition, object offset, object timestamp_ms, object by_broker
):
    # RecordMetadata(...) without the Python call that a NamedTuple makes.
    cdef PyTypeObject* cls = <PyTypeObject*>RecordMetadata
    cdef object metadata = cls.tp_alloc(cls, 5)
    HAS_NO_HASH_YET(metadata)
    set_item(metadata, 0, topic)
    set_item(metadata, 1, partition)
    set_item(metadata, 2, offset)
    set_item(metadata, 3, timestamp_ms)
    set_item(metadata, 4, by_broker)
    # It holds a str, ints and a bool: no reference cycle goes through it.
    PyObject_GC_UnTrack(<PyObject*>metadata)
    return metadata


# Records that are sent together have the same timestamp, by the millisecond.
cdef int64_t last_timestamp_ms = -1
cdef object last_timestamp = -1


cdef object timestamp_object(int64_t timestamp_ms):
    global last_timestamp_ms, last_timestamp
    if timestamp_ms != last_timestamp_ms:
        last_timestamp = timestamp_ms
        last_timestamp_ms = timestamp_ms
    return last_timestamp


cdef inline void set_item(object metadata, Py_ssize_t index, object value) noexcept:
    Py_INCREF(value)
    PyTuple_SET_ITEM(metadata, index, value)


@cython.final
@cython.no_gc
@cython.freelist(4096)
cdef class Delivery:
    """The result of one record, now or later.

    Await it for the `RecordMetadata`, as often as wanted and from as many tasks. `done()`,
    `result()`, `exception()` and `add_done_callback(fn)` are a future's; `asyncio.gather`,
    `wait`, `wait_for` and `shield` take it.

    The record is on its way already. Cancelling an `await` of a delivery ends that wait at once
    and never the record: it can be awaited again, and `on_delivery` still gets its true outcome.
    A failed delivery that nobody looks at logs nothing; the producer counts it and calls
    `on_error`.

    Raises (when awaited):
        KafkaError: The record was not stored, or it is not known whether it was:
            `error.possibly_persisted` says which.
    """

    def __init__(self):
        raise TypeError("a Delivery is made by Producer.send")

    def __reduce__(self):
        raise TypeError("a Delivery can be neither copied nor pickled: it belongs to one record")

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
        # Move to the last part that begins at or before this record; it may be split, too.
        cdef Py_ssize_t low, high, middle
        while self.batch.outcome == SPLIT:
            low = 0
            high = len(self.batch.parts) - 1
            while low < high:
                middle = (low + high + 1) // 2
                if (<tuple>self.batch.parts[middle])[0] <= self.index:
                    low = middle
                else:
                    high = middle - 1
            start, batch, first_index = self.batch.parts[low]
            self.index = <int32_t>(self.index - start + first_index)
            self.batch = <RecordBatch>batch

    cdef void _enrol(self):
        if not self.is_enrolled:
            self.is_enrolled = True
            if self.batch.enrolled is None:
                self.batch.enrolled = []
            self.batch.enrolled.append(self)

    cdef int _move_to(self, RecordBatch batch, int32_t index) except -1:
        """Follow the record to another batch."""
        if self.batch.watchers is not None and self.batch.partition >= 0:
            # The batch goes on without the record. (One of records that waited for metadata does
            # not: it ends with `moved_on`.)
            watch_also(self.batch, batch)
        self.batch = batch
        self.index = index
        if self.is_enrolled:
            self.is_enrolled = False
            self._enrol()
        return 0

    cdef object _metadata(self):
        cdef RecordBatch batch = self.batch
        cdef bint by_broker = batch.log_append_time_ms >= 0
        return new_metadata(
            batch.topic,
            batch.partition,
            batch.base_offset + self.index if batch.base_offset >= 0 else -1,
            timestamp_object(batch.log_append_time_ms if by_broker else self.timestamp_ms),
            by_broker,
        )

    cdef object _error(self):
        # A new instance each time. Its traceback holds a frame, and the frame this delivery: an
        # instance kept here would close a cycle that is never collected.
        return self.batch.error.again()

    # ---- notifying

    cdef void _add_waiter(self, object waiter):
        if self.waiters is None:
            self.waiters = waiter
            self._enrol()
        elif type(self.waiters) is list:
            (<list>self.waiters).append(waiter)
        else:
            self.waiters = [self.waiters, waiter]

    cdef void _remove_waiter(self, DeliveryWait wait):
        if self.waiters is wait:
            self.waiters = None
        elif type(self.waiters) is list:
            (<list>self.waiters).remove(wait)

    cdef int _notify(self, bint direct) except -1:
        waiters, on_delivery = self.waiters, self.on_delivery
        self.waiters = None
        self.on_delivery = None
        self.is_enrolled = False
        if on_delivery is not None:
            try:
                self._report(on_delivery, direct)
            except BaseException:
                # KeyboardInterrupt or SystemExit: the loop notifies the waiters.
                self._notify_all(waiters, False)
                raise
        return self._notify_all(waiters, direct)

    cdef int _notify_all(self, object waiters, bint direct) except -1:
        cdef Py_ssize_t position = 0
        if waiters is None:
            return 0
        if type(waiters) is not list:
            return self._notify_one(waiters, direct)
        try:
            for position in range(len(<list>waiters)):
                self._notify_one((<list>waiters)[position], direct)
        except BaseException:
            for waiter in (<list>waiters)[position + 1:]:
                self._notify_one(waiter, False)
            raise
        return 0

    cdef int _notify_one(self, object waiter, bint direct) except -1:
        cdef DeliveryWait wait
        if type(waiter) is not DeliveryWait:
            callback, context = <tuple>waiter
            return call_waiter(
                self.batch.loop, callback, self, context, direct, self.batch.topic
            )
        wait = <DeliveryWait>waiter
        callback, context, others = wait.wake_up, wait.context, wait.others
        if callback is None:
            # A waiter that was notified before has cancelled it.
            return 0
        wait.wake_up = wait.context = wait.others = None
        if others is None:
            return call_waiter(
                self.batch.loop, callback, wait, context, direct, self.batch.topic
            )
        for callback, context in [(callback, context), *others]:
            self.batch.loop.call_soon(callback, wait, context=context)
        return 0

    cdef int _report(self, tuple on_delivery, bint direct) except -1:
        callback, context = on_delivery
        # A copy: callbacks of the same context do not see the variables that another one sets.
        context = PyContext_Copy(context)
        if not direct:
            self.batch.loop.call_soon(self._call_on_delivery, callback, context=context)
            return 0
        PyContext_Enter(context)
        try:
            self._call_on_delivery(callback)
        finally:
            PyContext_Exit(context)
        return 0

    def _call_on_delivery(self, callback):
        try:
            if self._outcome() == DELIVERED:
                callback(self._metadata(), None)
            else:
                callback(None, self._error())
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            report_exception(self.batch.loop, self.batch.topic, callback, error)

    # ---- as a future

    def get_loop(self):
        """The loop of the producer that this delivery belongs to."""
        return self.batch.loop

    @property
    def _asyncio_future_blocking(self):
        # This attribute makes an object a future to asyncio, and asyncio cancels a future to end
        # a wait for it. So a pending delivery is none; a done one is, because there is nothing
        # to cancel and `asyncio.gather` needs no task for it.
        return None if self._outcome() == PENDING else False

    def _record_batch(self):
        """The batch that the record is in now."""
        self._outcome()
        return self.batch

    def _index(self):
        """The index of the record in `_record_batch`; of one that waits for metadata, among those
        that came with it."""
        self._outcome()
        return self.index

    def done(self):
        """True when the outcome is known."""
        return self._outcome() != PENDING

    def cancel(self, msg=None):
        """Return False: an accepted record cannot be withdrawn. Cancel the task that waits."""
        return False

    def cancelled(self):
        """Return False: see `cancel`."""
        return False

    def result(self):
        """The `RecordMetadata`; raises the record's error, or InvalidStateError when not done."""
        if self._known_outcome() == FAILED:
            raise self._error()
        return self._metadata()

    def exception(self):
        """The error, or None when the record was stored; InvalidStateError when not done."""
        return self._error() if self._known_outcome() == FAILED else None

    cdef Outcome _known_outcome(self) except *:
        cdef Outcome outcome = self._outcome()
        if outcome == PENDING:
            raise InvalidStateError(
                "the record's outcome is not known yet: await the delivery"
            )
        return outcome

    def add_done_callback(self, fn, *, context=None):
        """Have `fn(delivery)` called by the loop when the outcome is known.

        Args:
            fn: What it raises goes to the loop's exception handler.
            context: The context it runs in; a copy of the caller's when None.
        """
        if context is None:
            context = PyContext_CopyCurrent()
        if self._outcome() != PENDING:
            self.batch.loop.call_soon(fn, self, context=context)
        else:
            self._add_waiter((fn, context))

    def remove_done_callback(self, fn):
        """Remove a callback; returns how many there were."""
        waiters = self.waiters
        if waiters is None:
            return 0
        if type(waiters) is not list:
            waiters = [waiters]
        left = [
            waiter for waiter in <list>waiters
            if type(waiter) is DeliveryWait or waiter[0] != fn
        ]
        self.waiters = left if left else None
        return len(<list>waiters) - len(left)

    # ---- awaiting. There is no send, throw and close: with them it would be a coroutine to
    # asyncio, and asyncio.wait() takes no coroutines.

    def __await__(self):
        cdef DeliveryWait wait = DeliveryWait.__new__(DeliveryWait)
        wait.delivery = self
        return wait


refuse_new(Delivery, "a Delivery is made by Producer.send")


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class DeliveryWait:
    """One await of one record: what `send_and_wait` returns, and `Delivery.__await__`.

    It is a coroutine to asyncio, so that `create_task(producer.send_and_wait(...))` works. Once
    begun, it is also the future that its task waits for.
    """

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self):
        raise TypeError("a DeliveryWait is made by Producer.send_and_wait")

    def __reduce__(self):
        raise TypeError("a coroutine can be neither copied nor pickled")

    def __dealloc__(self):
        if self.is_forgotten:
            PyErr_WarnEx(
                RuntimeWarning,
                b"coroutine 'Producer.send_and_wait' was never awaited: its record is sent, and"
                b" nobody looks at the outcome; send_nowait is for fire and forget",
                1,
            )

    # ---- the coroutine

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Begin to wait, or end with the outcome, as a coroutine does."""
        cdef Outcome outcome = self._begin()
        if outcome == DELIVERED:
            raise StopIteration(self.delivery._metadata())
        if outcome == FAILED:
            raise self.delivery._error()
        return self

    def throw(self, typ, val=None, tb=None):
        """End the wait with an exception: the caller was cancelled."""
        self._leave()
        raise_thrown(typ, val)

    def close(self):
        """End the wait without an outcome."""
        self._leave()

    cdef Outcome _begin(self) except *:
        self.is_forgotten = False
        cdef Outcome outcome = self.delivery._outcome()
        if outcome == PENDING:
            if self.wake_up is not None:
                raise RuntimeError("coroutine is being awaited already")
            if self.error is not None:
                raise self.error.again()
            self.is_cancelled = False
            self._asyncio_future_blocking = True
        return outcome

    cdef void _leave(self):
        self.is_forgotten = False
        if self.wake_up is not None:
            self.wake_up = self.context = self.others = None
            self.delivery._remove_waiter(self)

    # ---- the future that a task waits for

    def get_loop(self):
        """The loop of the producer."""
        return self.delivery.batch.loop

    def add_done_callback(self, fn, *, context=None):
        """Have `fn` called once, at the outcome or a cancellation; it wakes the task."""
        if context is None:
            context = PyContext_CopyCurrent()
        if self.done():
            self.delivery.batch.loop.call_soon(fn, self, context=context)
        elif self.wake_up is None:
            self.wake_up = fn
            self.context = context
            self.delivery._add_waiter(self)
        elif self.others is None:
            self.others = [(fn, context)]
        else:
            self.others.append((fn, context))

    def cancel(self, msg=None):
        """End this wait; False when it is over already."""
        wake_up, context, others = self.wake_up, self.context, self.others
        if wake_up is None:
            return False
        self._leave()
        self.is_cancelled = True
        self.cancel_message = msg
        for callback, its_context in [(wake_up, context), *(others or ())]:
            self.delivery.batch.loop.call_soon(callback, self, context=its_context)
        return True

    def expire(self, error):
        """End this wait with an error, since its time is over; the record goes on."""
        wake_up, context, others = self.wake_up, self.context, self.others
        self.error = error
        if wake_up is None:
            # Not begun, and then it ends when it begins; or cancelled.
            return
        self._leave()
        for callback, its_context in [(wake_up, context), *(others or ())]:
            self.delivery.batch.loop.call_soon(callback, self, context=its_context)

    def cancelled(self):
        """Whether this wait was cancelled."""
        return self.is_cancelled

    def done(self):
        """Whether this wait is over."""
        return (
            self.is_cancelled or self.error is not None or self.delivery._outcome() != PENDING
        )

    def result(self):
        """Raise the cancellation if there is one; the outcome comes from the next `send`."""
        if self.is_cancelled:
            message = self.cancel_message
            raise CancelledError() if message is None else CancelledError(message)


refuse_new(DeliveryWait, "a DeliveryWait is made by Producer.send_and_wait")


cdef int call_waiter(
    object loop, object callback, object argument, object context, bint direct, str topic
) except -1:
    """Call what waits for a record of `topic`: here, if `direct`, or by the loop."""
    if not direct or not enter(context):
        loop.call_soon(callback, argument, context=context)
        return 0
    try:
        callback(argument)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        report_exception(loop, topic, callback, error)
    finally:
        PyContext_Exit(context)
    return 0


cdef int report_exception(object loop, str topic, object callback, object error) except -1:
    loop.call_exception_handler({
        "message": f"callback {callback!r} of a record for {topic} raised",
        "exception": error,
    })
    return 0


cdef bint enter(object context) except -1:
    """Enter a context; False if it is entered already, by a loop that a task runs inside itself."""
    try:
        PyContext_Enter(context)
    except RuntimeError:
        return False
    return True


cdef void set_raised(error) noexcept:
    # `noexcept`: the interpreter, which called the slot, takes this error; Cython must not.
    PyErr_SetObject(type(error), error)


cdef PySendResult wait_am_send(PyObject* this, PyObject* value, PyObject** result) noexcept:
    # The slot am_send: `await` without raising and catching a StopIteration.
    cdef DeliveryWait wait = <DeliveryWait>this
    cdef Outcome outcome
    try:
        outcome = wait._begin()
        if outcome == DELIVERED:
            metadata = wait.delivery._metadata()
            Py_INCREF(metadata)
            result[0] = <PyObject*>metadata
            return PYGEN_RETURN
        if outcome == FAILED:
            set_raised(wait.delivery._error())
            result[0] = NULL
            return PYGEN_ERROR
        Py_INCREF(wait)
        result[0] = this
        return PYGEN_NEXT
    except BaseException as error:
        set_raised(error)
        result[0] = NULL
        return PYGEN_ERROR


use_send_slot(DeliveryWait, <void*>wait_am_send)
