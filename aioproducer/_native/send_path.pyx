# cython: language_level=3, boundscheck=False, wraparound=False
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""The calls that run once per record: `send`, `send_nowait`, `send_and_wait`.

Base class of `Producer`, which adds what happens once per batch or less. A call checks its
arguments, serializes the record, and hands it to the accumulator. If there is buffer space, it
makes no objects but the `Delivery` (and for `send` its `Admission`).
"""

cimport cython
from cpython.exc cimport PyErr_WarnEx
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t

from aioproducer._native.accumulator cimport RecordAccumulator
from aioproducer._native.record_batch cimport Delivery, DeliveryWait, measure_headers
from aioproducer._native.serializer_call cimport SerializerCall, TopicSerializers

from collections.abc import Mapping
from functools import partial
from inspect import Signature, iscoroutinefunction, signature
from types import FunctionType, GenericAlias, MethodType

from aioproducer.records import ProducerRecord, TypedTopic

cdef type ProducerRecordType = ProducerRecord
cdef type TypedTopicType = TypedTopic

cdef extern from "Python.h":
    object PyContext_CopyCurrent()
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1

cdef extern from *:
    """
    #define current_context() (PyThreadState_Get()->context)

    /* The beginning of a Context, the same from Python 3.7 to 3.14: the context it was entered
       from, and its variables, in an immutable mapping. */
    typedef struct {
        PyObject_HEAD
        PyObject *previous;
        PyObject *variables;
    } ContextHead;

    /* Whether the current context has the same variables as a copy of an earlier one. */
    static int is_same_context(PyObject *copy)
    {
    #if PY_VERSION_HEX < 0x030F0000
        PyObject *now = current_context();
        return now != NULL
            && ((ContextHead*)now)->variables == ((ContextHead*)copy)->variables;
    #else
        return 0;
    #endif
    }
    #define FUNCTION_FLAGS(function) \
        (((PyCodeObject*)PyFunction_GET_CODE(function))->co_flags)
    #define SET_CODE(function, code) do { \
            Py_INCREF(code); \
            Py_SETREF(((__pyx_CyFunctionObject*)(function))->func_code, code); \
        } while (0)
    """
    PyObject* current_context() noexcept
    bint is_same_context(PyObject* copy) noexcept
    int FUNCTION_FLAGS(object function) noexcept
    Py_ssize_t Py_REFCNT(object counted) noexcept
    void SET_CODE(object function, object code) noexcept

cdef enum:
    CO_COROUTINE = 0x80
    # A generator, a coroutine, a generator marked as one, an async generator: a call runs none.
    CO_RUNS_LATER = 0x20 | 0x80 | 0x100 | 0x200


include "awaitable.pxi"


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Admission:
    """Returned by `send` when the record was accepted at once; awaiting it gives the Delivery.

    It is a coroutine to asyncio, so that `create_task(producer.send(...))` works.
    """

    cdef Delivery delivery
    cdef bint yields
    cdef bint is_forgotten   # nobody has awaited it so far

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self):
        raise TypeError("an Admission is made by Producer.send")

    def __reduce__(self):
        raise TypeError("a coroutine can be neither copied nor pickled")

    def __dealloc__(self):
        if self.is_forgotten:
            PyErr_WarnEx(
                RuntimeWarning,
                b"coroutine 'Producer.send' was never awaited: its record is sent;"
                b" send_nowait is for fire and forget",
                1,
            )

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        self.is_forgotten = False
        if self.yields:
            self.yields = False
            return None
        raise StopIteration(self.delivery)

    def throw(self, typ, val=None, tb=None):
        self.is_forgotten = False
        raise_thrown(typ, val)

    def close(self):
        self.is_forgotten = False


cdef PySendResult admission_am_send(PyObject* this, PyObject* value, PyObject** result) noexcept:
    cdef Admission admission = <Admission>this
    admission.is_forgotten = False
    if admission.yields:
        admission.yields = False
        Py_INCREF(None)
        result[0] = <PyObject*>None
        return PYGEN_NEXT
    Py_INCREF(admission.delivery)
    result[0] = <PyObject*>admission.delivery
    return PYGEN_RETURN


use_send_slot(Admission, <void*>admission_am_send)
refuse_new(Admission, "an Admission is made by Producer.send")


cdef int64_t MAX_PARTITION = 2**31 - 1
cdef int64_t MAX_TIMESTAMP_MS = 2**62
# In milliseconds, from January to February 1970; in seconds, from 2001 to 2100.
cdef int64_t FIRST_SECOND = 978307200
cdef int64_t LAST_SECOND = 4102444800


cdef bint is_whole(object number, int64_t highest):
    """Whether it is an int, not a bool, from 0 to `highest`."""
    cdef int overflow = 0
    cdef int64_t value
    if type(number) is not int:
        return False
    value = PyLong_AsLongLongAndOverflow(number, &overflow)
    return not overflow and 0 <= value <= highest


cdef double seconds_of(object duration, str name) except? -1:
    """A number of seconds, 0 or more."""
    cdef double seconds = -1
    if isinstance(duration, (int, float)) and type(duration) is not bool:
        seconds = duration
    if not seconds >= 0 or (seconds == 0 and name == "deadline"):
        bound = "more than 0" if name == "deadline" else "0 or more"
        raise ValueError(f"{name} is a number of seconds, {bound}, not {duration!r}")
    return seconds


cdef int check_on_delivery(object on_delivery) except -1:
    """Refuse what cannot be called, and coroutine functions, whose call would run nothing."""
    function = on_delivery
    while True:
        if type(function) is MethodType:
            function = function.__func__
        elif type(function) is partial:
            function = function.func
        else:
            break
    if type(function) is FunctionType:
        if FUNCTION_FLAGS(function) & CO_RUNS_LATER:
            refuse_on_delivery(function)
    elif not callable(function):
        raise TypeError(
            f"on_delivery is a function of (metadata, error), not a {type(function).__name__}"
        )
    elif iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):
        refuse_on_delivery(function)
    return 0


cdef int refuse_on_delivery(object function) except -1:
    name = getattr(function, "__qualname__", type(function).__name__)
    raise TypeError(
        f"on_delivery is called by the loop, and nobody would await {name}: pass a plain function"
        " of (metadata, error), in which asyncio.create_task may start one, or await the Delivery"
    )


cdef class SendPath:
    """The per-record half of `Producer`. Bound to an accumulator while the producer is open."""

    cdef RecordAccumulator accumulator
    cdef SerializerCall serialize_key     # None: keys are bytes already
    cdef SerializerCall serialize_value
    cdef unsigned long thread_id
    cdef bint warned_of_seconds
    cdef bint is_transactional    # a call that fails fails its transaction
    cdef bint fails_fast          # refuse records for brokers that are down
    cdef object checked_context   # the last context in which the loop was checked
    cdef tuple last_callback      # the last `on_delivery` and the context of its call
    cdef tuple refused
    cdef object note_given        # for a MockProducer: see `_note_given`

    __class_getitem__ = classmethod(GenericAlias)

    def _open_path(
        self, RecordAccumulator accumulator, SerializerCall serialize_key,
        SerializerCall serialize_value, bint fails_fast, bint is_transactional=False,
    ):
        self.serialize_key = serialize_key
        self.serialize_value = serialize_value
        self.thread_id = PyThread_get_thread_ident()
        self.checked_context = None
        self.last_callback = None
        self.fails_fast = fails_fast
        self.is_transactional = is_transactional
        self.accumulator = accumulator

    def _note_given(self, note):
        """Call `note(key, value)` with what each record is made of, before it is accepted.

        It returns what was noted before, and gets that again once the record was accepted, or an
        error was raised. A record without buffer space stays noted for who lets it wait.
        """
        self.note_given = note

    def _close_path(self):
        self.accumulator = None
        self.checked_context = None
        self.last_callback = None

    def send(
        self, topic, value=None, *, key=None, partition=None, headers=None, timestamp_ms=None,
        on_delivery=None, deadline=None,
    ):
        """Send a record, without waiting until it is stored.

        Awaiting returns a `Delivery` once the record has buffer space, nearly always at once.
        Await the delivery for the `RecordMetadata`, add done callbacks to it, or drop it.
        While the buffer is full, callers wait in the order of their calls. The order of the calls
        is the order of the records within a partition. The record is taken at the call, even if
        the returned awaitable is never awaited.

        Cancelling the wait for buffer space withdraws the record: it was not accepted. An accepted
        record cannot be withdrawn by its caller, even if it got its space in the same turn of the
        loop as the cancellation: `on_delivery` gets its outcome.

        Args:
            topic: The topic's name; a `Topic`, which has serializers of its own; or a
                `ProducerRecord` that carries everything.
            value: What the value serializer takes: bytes by default. None is a tombstone.
            key: What the key serializer takes: bytes by default. Records with the same key go
                to the same partition, in order.
            partition: The partition, in place of the partitioner's choice.
            headers: `(name, value)` pairs in order; values are bytes or None.
            timestamp_ms: CreateTime in milliseconds since the epoch; now when None.
            on_delivery: `fn(metadata | None, error | None)`, called once by the loop, in order
                per partition; but if the response for a stored batch was lost, the records behind
                it do not wait until a retry has got its offsets.
            deadline: Seconds from the call within which the record must be sent. One that is not
                is taken out and fails with a `KafkaTimeoutError` as not stored, never to be sent.
                One that was sent by then goes on. None: `delivery_timeout_ms` alone bounds it.

        Raises:
            SerializationError: Key, value or headers are of a wrong type; nothing was accepted.
            RecordTooLargeError: Larger than `max_request_size`.
            InvalidTopicError, InvalidPartitionError: There is no such topic or partition.
            BufferExhaustedError: No buffer space within `max_block_ms`, or by the deadline; a
                `KafkaTimeoutError`, too.
            KafkaConnectionError: With `fail_fast`: every broker that the topic needs is down.
            ProducerClosedError, ProducerNotStartedError, WrongEventLoopError: The producer is not
                open, or belongs to another loop.

        Example:
            delivery = await producer.send("payments", b"12.50", key=b"card-1")
            metadata = await delivery
        """
        cdef Admission admission
        cdef double span = 0 if deadline is None else self._seconds_of(deadline, "deadline")
        cdef Delivery delivery = self._accept(
            topic, value, key, partition, headers, timestamp_ms, on_delivery
        )
        if delivery is None:
            return self._send_when_admitted(self._take_refused(), deadline)
        if span and self.accumulator is not None:
            self._set_deadline(span, delivery)
        admission = Admission.__new__(Admission)
        admission.delivery = delivery
        admission.is_forgotten = True
        # A partitioner may have closed the producer.
        admission.yields = self.accumulator is not None and self.accumulator.takes_turn()
        return admission

    def send_nowait(
        self, topic, value=None, *, key=None, partition=None, headers=None, timestamp_ms=None,
        on_delivery=None, deadline=None,
    ):
        """Send a record without waiting for anything; for fire and forget, and sync code.

        Returns a `Delivery` that may be dropped. Must be called in the thread of the producer's
        loop; in another thread there is `producer.from_thread.send`.

        Args:
            topic, value, key, partition, headers, timestamp_ms, on_delivery, deadline: As for
                `send`.

        Raises:
            BufferExhaustedError: There is no buffer space, or other callers wait for it.
            SerializationError, RecordTooLargeError, InvalidTopicError, InvalidPartitionError,
            ProducerClosedError, ProducerNotStartedError, WrongEventLoopError: As for `send`.

        Example:
            producer.send_nowait("clicks", b"/home")
        """
        cdef double span = 0 if deadline is None else self._seconds_of(deadline, "deadline")
        cdef Delivery delivery = self._accept(
            topic, value, key, partition, headers, timestamp_ms, on_delivery
        )
        if delivery is None:
            self._forget_given()
            raise self._no_space_error(self._take_refused()[0])
        if span and self.accumulator is not None:
            self._set_deadline(span, delivery)
        return delivery

    def send_and_wait(
        self, topic, value=None, *, key=None, partition=None, headers=None, timestamp_ms=None,
        timeout=None, deadline=None,
    ):
        """Send a record and wait until it is stored.

        Awaiting returns the `RecordMetadata` when the broker acknowledged the record as `acks`
        asks for. Bounded by `max_block_ms` plus `delivery_timeout_ms`. Cancelling ends the wait,
        not the record; while it waits for buffer space, the record is withdrawn as for `send`.

        With a `deadline` a caller learns in time whether it may try again: a record that was not
        sent by then is never sent (`error.safe_to_resend`). Of one that was sent and has no answer
        yet nobody knows (`error.possibly_persisted`).

        Args:
            topic, value, key, partition, headers, timestamp_ms: As for `send`.
            timeout: Seconds to wait at most; then KafkaTimeoutError is raised. Only the wait
                ends: the error's `is_pending` says that the record goes on.
            deadline: Seconds within which the record must be sent, as for `send`. It ends the wait
                as well, if there is no `timeout`.

        Raises:
            KafkaError: It was not stored, or it is not known whether it was; the error says
                which (`possibly_persisted`), where, and after how many attempts.

        Example:
            metadata = await producer.send_and_wait("payments", b"12.50", key=b"card-1")
        """
        cdef double span = 0 if deadline is None else self._seconds_of(deadline, "deadline")
        cdef double bound = span if timeout is None else self._seconds_of(timeout, "timeout")
        cdef Delivery delivery = self._accept(
            topic, value, key, partition, headers, timestamp_ms, None
        )
        if delivery is None:
            return self._deliver_when_admitted(
                self._send_when_admitted(self._take_refused(), deadline),
                deadline if timeout is None else timeout,
            )
        cdef DeliveryWait wait = DeliveryWait.__new__(DeliveryWait)
        wait.delivery = delivery
        wait.is_forgotten = True
        if self.accumulator is not None:
            if span and timeout is not None:
                self._set_deadline(span, delivery)
            if bound or timeout is not None:
                wait.withdraws = timeout is None
                self._set_deadline(bound, wait)
        return wait

    cdef int _set_deadline(self, double span, object target) except -1:
        cdef RecordAccumulator accumulator = self.accumulator
        return accumulator.deadlines.add(accumulator.clock.now() + span, span, target)

    def _accept_many(
        self, topic, list values, Py_ssize_t start, list deliveries, deadline=None
    ):
        """Accept from `values[start:]` until the end, or until there is no buffer space.

        Appends the deliveries and returns the index of the first value that was not accepted.
        """
        cdef Delivery delivery
        cdef Py_ssize_t position
        cdef double span = 0 if deadline is None else self._seconds_of(deadline, "deadline")
        for position in range(start, len(values)):
            item = values[position]
            if type(item) is ProducerRecordType:
                delivery = self._accept(item, None, None, None, None, None, None)
            else:
                delivery = self._accept(topic, item, None, None, None, None, None)
            if delivery is None:
                self._forget_given()
                self._take_refused()
                return position
            if span and self.accumulator is not None:
                self._set_deadline(span, delivery)
            deliveries.append(delivery)
        return len(values)

    cdef double _seconds_of(self, object duration, str name) except? -1:
        try:
            return seconds_of(duration, name)
        except ValueError as error:
            if self.is_transactional and PyThread_get_thread_ident() == self.thread_id:
                self._failed_at_call(error)
            raise

    cdef Delivery _accept(
        self, topic, value, key, partition, headers, timestamp_ms, on_delivery
    ):
        if not self.is_transactional:
            return self._take_in(topic, value, key, partition, headers, timestamp_ms, on_delivery)
        try:
            return self._take_in(topic, value, key, partition, headers, timestamp_ms, on_delivery)
        except Exception as error:
            self._failed_at_call(error)
            raise

    cdef Delivery _take_in(
        self, topic, value, key, partition, headers, timestamp_ms, on_delivery
    ):
        """Check and serialize a record, and hand it to the accumulator.

        Returns None when there is no buffer space; then `_take_refused` gives the record.
        """
        # First: a MockProducer starts here, and has its serializers from then on.
        if self.accumulator is None or PyThread_get_thread_ident() != self.thread_id:
            self._refuse_call()
        cdef SerializerCall serialize_key = self.serialize_key
        cdef SerializerCall serialize_value = self.serialize_value
        cdef TopicSerializers of_topic
        if type(topic) is not str:
            if type(topic) is ProducerRecordType:
                topic, value, key, partition, headers, timestamp_ms = self._unpack(
                    topic, value, key, partition, headers, timestamp_ms
                )
            of_topic = serializers_of(topic)
            if of_topic is None:
                topic = self._plain_topic(topic)
            else:
                topic = of_topic.name
                if of_topic.key is not None:
                    serialize_key = of_topic.key
                if of_topic.value is not None:
                    serialize_value = of_topic.value
        # Another loop runs in another context. So the running loop is checked once per context:
        # a check for each record would be an eighth of its cost.
        if current_context() != <PyObject*>self.checked_context and self._check_running_loop():
            self._remember_context()
        if self.fails_fast:
            self._refuse_if_down(topic, partition)
        cdef tuple given = None if self.note_given is None else (key, value)
        if on_delivery is not None:
            on_delivery = self._with_context(on_delivery)
        if headers is not None:
            headers = self._check_headers(topic, headers)
        value = bytes_of(self, topic, "value", value, headers, serialize_value)
        key = bytes_of(self, topic, "key", key, headers, serialize_key)
        if partition is not None and not is_whole(partition, MAX_PARTITION):
            self._refuse_partition(topic, partition)
        if timestamp_ms is not None:
            self._check_timestamp(topic, timestamp_ms)
        # A local reference: a partitioner may close the producer.
        cdef RecordAccumulator accumulator = self.accumulator
        if accumulator is None:
            # A serializer has closed the producer, or started a task that does (eagerly).
            self._refuse_call()
        cdef Delivery delivery
        if given is None:
            delivery = accumulator.accept(
                topic, key, value, partition, headers, timestamp_ms, on_delivery
            )
        else:
            delivery = self._accept_as_given(
                given, accumulator, topic, key, value, partition, headers, timestamp_ms, on_delivery
            )
        if delivery is None:
            partition = accumulator.refused_partition(partition)
            self.refused = (topic, key, value, partition, headers, timestamp_ms, on_delivery)
        return delivery

    cdef Delivery _accept_as_given(
        self, tuple given, RecordAccumulator accumulator, str topic, key, value, partition, headers,
        timestamp_ms, on_delivery
    ):
        # A partitioner may send a record of its own meanwhile.
        before = self.note_given(*given)
        try:
            delivery = accumulator.accept(
                topic, key, value, partition, headers, timestamp_ms, on_delivery
            )
        except BaseException:
            self.note_given(*before)
            raise
        if delivery is not None:
            self.note_given(*before)
        return delivery

    cdef int _forget_given(self) except -1:
        if self.note_given is not None:
            self.note_given(None, None)
        return 0

    cdef int _check_timestamp(self, topic, timestamp_ms) except -1:
        if not is_whole(timestamp_ms, MAX_TIMESTAMP_MS):
            self._refuse_timestamp(timestamp_ms)
        if FIRST_SECOND < <int64_t>timestamp_ms < LAST_SECOND and not self.warned_of_seconds:
            self.warned_of_seconds = True
            self._warn_of_seconds(topic, timestamp_ms)
        return 0

    cdef tuple _with_context(self, object on_delivery):
        """A callback and a copy of this call's context, in which it is to run.

        Calls share one copy until a context variable changes: a context for each record would
        keep the garbage collector busy, at five times the cost of the record.
        """
        cdef tuple entry = self.last_callback
        if entry is None or not is_same_context(<PyObject*>entry[1]):
            entry = None
        if entry is not None and entry[0] is on_delivery:
            return entry
        check_on_delivery(on_delivery)
        context = PyContext_CopyCurrent() if entry is None else entry[1]
        self.last_callback = (on_delivery, context)
        return self.last_callback

    cdef int _remember_context(self) except -1:
        cdef PyObject* context = current_context()
        self.checked_context = None if context == NULL else <object>context
        return 0

    cdef tuple _take_refused(self):
        refused = self.refused
        self.refused = None
        return refused

    cdef object _to_bytes(self, topic, field, value, SerializerCall serialize):
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise self._serialization_error(topic, field, value, None, serialize)

    cdef object _serialize(self, topic, field, value, headers, SerializerCall serialize):
        try:
            data = serialize.call(topic, value, headers)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise self._serialization_error(topic, field, value, error, serialize) from error
        if type(data) is not bytes:
            return self._to_bytes(topic, field, data, serialize)
        return data

    cdef object _check_headers(self, topic, headers):
        if type(headers) is not list and type(headers) is not tuple:
            if isinstance(headers, dict) or isinstance(headers, Mapping):
                headers = list(headers.items())
            elif not isinstance(headers, (list, tuple)):
                raise self._serialization_error(topic, "headers", headers, None, None)
        # A copy: headers are measured here and encoded later, and in between (in a partitioner,
        # or while waiting for buffer space) the caller's list may change.
        headers = tuple(headers)
        for header in headers:
            if (
                type(header) is not tuple
                or len(<tuple>header) != 2
                or type((<tuple>header)[0]) is not str
                or not ((<tuple>header)[1] is None or type((<tuple>header)[1]) is bytes)
            ):
                headers = self._plain_headers(topic, headers)
                break
        try:
            measure_headers(headers)
        except UnicodeEncodeError as error:
            raise self._serialization_error(topic, "headers", headers, error, None) from error
        return headers

    cdef tuple _plain_headers(self, topic, tuple headers):
        """Headers without subclasses, such as a NamedTuple for a pair, or a name from a StrEnum."""
        plain = []
        for position, header in enumerate(headers):
            if not isinstance(header, tuple) or len(<tuple>header) != 2:
                raise self._header_error(topic, position, header)
            name, value = (<tuple>header)[0], (<tuple>header)[1]
            if not isinstance(name, str) or not (value is None or isinstance(value, bytes)):
                raise self._header_error(topic, position, header)
            plain.append((str.__str__(name), None if value is None else bytes(value)))
        return tuple(plain)

    cdef tuple _unpack(self, record, value, key, partition, headers, timestamp_ms):
        """The parts of a record given as a `ProducerRecord`."""
        if not (
            value is None and key is None and partition is None and headers is None
            and timestamp_ms is None
        ):
            raise TypeError(
                "pass a ProducerRecord alone: it carries value, key and the rest itself"
            )
        topic = record.typed_topic
        return (
            record.topic if topic is None else topic, record.value, record.key, record.partition,
            record.headers, record.timestamp_ms,
        )

    cdef str _plain_topic(self, topic):
        """The text of a topic, also of a subclass of str, such as a StrEnum's."""
        if type(topic) is str:
            return topic
        if isinstance(topic, str):
            return str.__str__(topic)
        self._refuse_topic(topic)


cdef TopicSerializers serializers_of(object topic):
    """The serializers of a `Topic`; None of a name."""
    return topic._serializers if isinstance(topic, TypedTopicType) else None


cdef inline object bytes_of(
    SendPath path, topic, str field, value, headers, SerializerCall serialize
):
    """A key or value as it is to be stored; None for none."""
    if serialize is None:
        if type(value) is bytes or value is None:
            return value
        return path._to_bytes(topic, field, value, None)
    return None if value is None else path._serialize(topic, field, value, headers, serialize)


include "threads.pxi"


def _mark_coroutine_functions():
    """Have `inspect.iscoroutinefunction` return True for what has to be awaited.

    Otherwise Starlette's background tasks would call it in a thread, and mocks with a spec could
    not be awaited. Every supported Python looks at this flag of the function's code.
    """
    for function in (SendPath.send, SendPath.send_and_wait):
        code = function.__code__
        SET_CODE(function, code.replace(co_flags=code.co_flags | CO_COROUTINE))


_mark_coroutine_functions()


class _SignatureOfCall(Signature):
    """A signature without `self`, and from which mock therefore must not take away an argument."""

    def bind_partial(self, /, *args, **kwargs):
        raise TypeError("self is left out already")


def _show_signatures_to_mocks():
    """Have `unittest.mock.create_autospec(Producer)` check the arguments of a call.

    It knows Python's own functions only. Of any other callable it takes the signature of
    `__call__`, which for a compiled function is `(*args, **kwargs)`. It checks calls by that, and
    compares them by what is left without the first argument, if that can be had.
    """
    for function in (SendPath.send, SendPath.send_nowait, SendPath.send_and_wait):
        shown = partial(function)
        own = list(signature(function).parameters.values())
        shown.__signature__ = _SignatureOfCall(own[1:])
        function.__call__ = shown


_show_signatures_to_mocks()
