# cython: language_level=3
"""`gather`: one wait for many deliveries, and their results in one pass.

A `Gathering` is a coroutine to asyncio and, once begun, the future that its task waits for, as a
`DeliveryWait` is. It watches the batches of its deliveries by `GatheredRange`s:

    1. The first step looks at each delivery. One that is pending puts a range on its batch, or
       makes the last range of that batch longer: n deliveries in b batches make about b ranges.
    2. A batch that ends takes its range off `pending`. The task is woken when none is left, or when
       a batch has failed and the caller wants to hear of it at once.
    3. A batch that is split, or whose records got their partitions, ends its range, too; then the
       deliveries of that range are looked at again.
    4. The woken task builds the list. A delivery that is still pending (it was moved without a
       word) begins a new wait.

Invariant: a wait that is over, also by cancellation, leaves nothing on a batch but an empty range.
"""

from aioproducer.errors import WrongEventLoopError

import asyncio


cdef extern from "Python.h":
    void PyObject_GC_Track(PyObject* container) noexcept

cdef enum GatheringState:
    NOT_BEGUN = 0
    WAITING = 1
    OVER = 2


@cython.final
cdef class GatheredRange(BatchWatcher):
    """The deliveries of one gathering in one batch: they are between `first` and `last`."""

    cdef Gathering gathering   # None: over
    cdef RecordBatch batch
    cdef Py_ssize_t first
    cdef Py_ssize_t last

    cdef int _batch_over(self, RecordBatch batch, bint direct) except -1:
        cdef Gathering gathering = self.gathering
        if gathering is None:
            return 0
        self.gathering = None
        self.batch = None
        gathering.pending -= 1
        if (
            batch.outcome == SPLIT
            or batch.partition < 0   # the records have got their partitions, or some have
            or (batch.outcome == FAILED and gathering.raises_at_once)
        ):
            gathering._watch(self.first, self.last + 1)
        return gathering._wake_if_over(direct)

    cdef int _watch_also(self, RecordBatch batch) except -1:
        if self.gathering is not None:
            self.gathering._watch_range(batch, self.first, self.last)
        return 0

    cdef bint _is_over(self) noexcept:
        return self.gathering is None


@cython.final
@cython.freelist(16)
cdef class Gathering:
    """Returned by `aioproducer.gather`; awaiting it gives the results."""

    cdef object loop           # None: there are no deliveries
    cdef list deliveries
    cdef list ranges
    cdef Py_ssize_t pending    # ranges of batches that go on
    cdef Py_ssize_t failed_at  # the delivery whose failure ends the wait; -1: none so far
    cdef bint raises
    cdef bint raises_at_once
    cdef GatheringState state
    cdef list callbacks        # (callback, context) each
    cdef object cancel_message
    cdef bint is_cancelled
    cdef bint is_forgotten
    cdef public object _asyncio_future_blocking

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self):
        raise TypeError("a Gathering is made by aioproducer.gather")

    def __reduce__(self):
        raise TypeError("a coroutine can be neither copied nor pickled")

    def __dealloc__(self):
        if self.is_forgotten:
            PyErr_WarnEx(
                RuntimeWarning,
                b"coroutine 'aioproducer.gather' was never awaited: the records go on, and nobody"
                b" looks at their outcomes",
                1,
            )

    # ---- watching

    cdef int _watch(self, Py_ssize_t first, Py_ssize_t end) except -1:
        """Watch the batches of the deliveries from `first` to `end`; note the first that failed."""
        cdef Py_ssize_t position
        cdef Delivery delivery
        cdef RecordBatch batch = None
        cdef GatheredRange latest = None
        cdef Outcome outcome
        for position in range(first, end):
            delivery = <Delivery>self.deliveries[position]
            outcome = delivery._outcome()
            if outcome == PENDING:
                if delivery.batch is batch:
                    latest.last = max(latest.last, position)
                else:
                    batch = delivery.batch
                    latest = self._watch_range(batch, position, position)
            elif outcome == FAILED and self.raises_at_once:
                self.failed_at = position
                break
        return 0

    cdef GatheredRange _watch_range(self, RecordBatch batch, Py_ssize_t first, Py_ssize_t last):
        cdef GatheredRange latest
        cdef BatchWatcher watcher = last_watcher(batch)
        if type(watcher) is GatheredRange:
            latest = <GatheredRange>watcher
            if latest.gathering is self:
                latest.first = min(latest.first, first)
                latest.last = max(latest.last, last)
                return latest
        latest = GatheredRange.__new__(GatheredRange)
        latest.gathering = self
        latest.batch = batch
        latest.first = first
        latest.last = last
        watch(batch, latest)
        if self.ranges is None:
            self.ranges = [latest]
        else:
            self.ranges.append(latest)
        self.pending += 1
        return latest

    cdef int _wake_if_over(self, bint direct) except -1:
        cdef list callbacks = self.callbacks
        if self._is_pending() or not callbacks:
            return 0
        self.callbacks = None
        if len(callbacks) > 1:
            direct = False
        for callback, context in callbacks:
            call_waiter(
                self.loop, callback, self, context, direct,
                (<Delivery>self.deliveries[0]).batch.topic,
            )
        return 0

    cdef bint _is_pending(self) noexcept:
        return self.pending > 0 and self.failed_at < 0

    cdef int _leave(self) except -1:
        """End the wait, and give up what it holds."""
        cdef GatheredRange watched
        cdef RecordBatch batch
        cdef list ranges = self.ranges
        self.is_forgotten = False
        self.state = OVER
        self.ranges = self.deliveries = self.callbacks = None
        if ranges is not None:
            for watched in ranges:
                if watched.gathering is not None:
                    batch = watched.batch
                    watched.gathering = None
                    watched.batch = None
                    unwatch(batch)
        return 0

    # ---- the coroutine

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Begin to wait, or end with the results, as a coroutine does."""
        results = self._step()
        if results is not None:
            raise StopIteration(results)
        return self

    def throw(self, typ, val=None, tb=None):
        """End the wait with an exception: the caller was cancelled."""
        self._leave()
        raise_thrown(typ, val)

    def close(self):
        """End the wait without an outcome."""
        self._leave()

    cdef list _step(self):
        """The results; None while some are pending."""
        if self.state == OVER:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if self.state == NOT_BEGUN:
            self.is_forgotten = False
            if self.loop is not None and asyncio.get_running_loop() is not self.loop:
                self._leave()
                raise wrong_loop("is awaited in another event loop than theirs")
            self.state = WAITING
            self._watch(0, len(self.deliveries))
        elif self._is_pending():
            raise RuntimeError("coroutine is being awaited already")
        while not self._is_pending():
            results = self._results()
            if results is not None:
                self._leave()
                return results
        self._asyncio_future_blocking = True
        return None

    cdef list _results(self):
        """All results; None if a record was moved and is still pending."""
        cdef Py_ssize_t position
        cdef Delivery delivery
        cdef Outcome outcome
        if self.failed_at >= 0:
            self._raise_error(self.failed_at)
        cdef Py_ssize_t count = len(self.deliveries)
        cdef list results = [None] * count
        # A collection would look at each of what may be a million results and find no reference.
        PyObject_GC_UnTrack(<PyObject*>results)
        for position in range(count):
            delivery = <Delivery>self.deliveries[position]
            outcome = delivery._outcome()
            if outcome == DELIVERED:
                results[position] = delivery._metadata()
            elif outcome == PENDING:
                self._watch(position, count)
                return None
            elif self.raises:
                self._raise_error(position)
            else:
                results[position] = delivery._error()
        PyObject_GC_Track(<PyObject*>results)
        return results

    cdef int _raise_error(self, Py_ssize_t position) except -1:
        error = (<Delivery>self.deliveries[position])._error()
        self._leave()
        raise error

    # ---- the future that a task waits for

    def get_loop(self):
        """The loop of the producers."""
        return self.loop

    def add_done_callback(self, fn, *, context=None):
        """Have `fn` called once, when the wait is over; it wakes the task."""
        if context is None:
            context = PyContext_CopyCurrent()
        if self.done():
            self.loop.call_soon(fn, self, context=context)
        elif self.callbacks is None:
            self.callbacks = [(fn, context)]
        else:
            self.callbacks.append((fn, context))

    def cancel(self, msg=None):
        """End this wait; False when it is over already."""
        cdef list callbacks = self.callbacks
        if self.done() or callbacks is None:
            return False
        loop = self.loop
        self._leave()
        self.is_cancelled = True
        self.cancel_message = msg
        for callback, context in callbacks:
            loop.call_soon(callback, self, context=context)
        return True

    def cancelled(self):
        """Whether this wait was cancelled."""
        return self.is_cancelled

    def done(self):
        """Whether this wait is over."""
        return self.state == OVER or (self.state == WAITING and not self._is_pending())

    def result(self):
        """Raise the cancellation if there is one; the results come from the next `send`."""
        if self.is_cancelled:
            message = self.cancel_message
            raise CancelledError() if message is None else CancelledError(message)


refuse_new(Gathering, "a Gathering is made by aioproducer.gather")


def gather_deliveries(deliveries, bint raises, bint raises_at_once):
    """Make the one wait for many deliveries.

    `raises`: the first failure in order is raised once all have an outcome; with
    `raises_at_once`, too, the first to happen is, at once. Without, errors stand among the results.
    """
    if type(deliveries) is not list and not hasattr(deliveries, "__iter__"):
        raise TypeError(
            f"gather takes an iterable of deliveries, not a {type(deliveries).__name__}:"
            " gather([delivery, ...])"
        )
    cdef Gathering gathering = Gathering.__new__(Gathering)
    cdef list own = list(deliveries)
    cdef object loop = None
    for item in own:
        if type(item) is not Delivery:
            raise TypeError(
                "gather takes the deliveries that `await producer.send(...)` and send_nowait"
                f" return, not a {type(item).__name__}: await send() first; for coroutines such as"
                " send_and_wait(...) there is asyncio.gather"
            )
        if (<Delivery>item).batch.loop is not loop:
            if loop is not None:
                raise wrong_loop("got deliveries of different event loops")
            loop = (<Delivery>item).batch.loop
    # Deliveries take no part in garbage collection.
    PyObject_GC_UnTrack(<PyObject*>own)
    gathering.deliveries = own
    gathering.loop = loop
    gathering.failed_at = -1
    gathering.raises = raises
    gathering.raises_at_once = raises and raises_at_once
    gathering.is_forgotten = True
    return gathering


cdef object wrong_loop(str what):
    return WrongEventLoopError(
        f"gather {what}",
        hint="Gather the deliveries of one loop's producers, in that loop.",
    )


cdef PySendResult gathering_am_send(PyObject* this, PyObject* value, PyObject** result) noexcept:
    # The slot am_send: `await` without raising and catching a StopIteration.
    cdef Gathering gathering = <Gathering>this
    try:
        results = gathering._step()
        if results is None:
            Py_INCREF(gathering)
            result[0] = this
            return PYGEN_NEXT
        Py_INCREF(results)
        result[0] = <PyObject*>results
        return PYGEN_RETURN
    except BaseException as error:
        set_raised(error)
        result[0] = NULL
        return PYGEN_ERROR


use_send_slot(Gathering, <void*>gathering_am_send)
