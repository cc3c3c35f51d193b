# cython: language_level=3
"""Records that other threads hand over to the producer's loop, and the futures of their outcomes.

Part of the module send_path: a record is checked and serialized in the calling thread, as `send`
does it.

    1. The calling thread checks, serializes, counts the bytes, appends a `HandedOver` to
       `handed_over`, and wakes the loop if nobody has since the last `_drain`.
    2. The loop drains: it accepts the records in order, and groups them by batch (`FutureGroup`).
    3. A batch that ends marks the futures of its group. Only those that somebody waits for by the
       means of concurrent.futures (`is_awaited`) cost more: Python completes them.

The GIL makes this safe without a lock: native code keeps it (freethreading_compatible
is off) as long as it calls nothing in Python. Invariants:

* Whether the producer is open, whether there is space, the count of bytes and the append are one
  step: a record is refused, or it is drained.
* A record whose bytes were counted came before everybody who waits for space, since nobody did at
  its call. If its broker's share is full, it waits as the others do, and holds no bytes.
* `is_scheduled` is cleared before the list is exchanged. So a record is in the list that is being
  drained, or its thread wakes the loop.
* The loop sets `is_done`, then reads `is_awaited`; a thread sets that, then reads `is_done`.
  So exactly one of them completes the future.
* Only the loop touches batches.
"""

from aioproducer._native.record_batch cimport (
    BatchWatcher,
    Outcome,
    RecordBatch,
    last_watcher,
    watch,
)

from contextvars import Context

from aioproducer.errors import KafkaError

cdef enum:
    # Handed-over records that are accepted in one turn of the loop: about a millisecond.
    DRAINED_PER_TURN = 4000
    # At the latest after 256 records that nobody took, a thread looks whether the loop is closed.
    LOOK_MASK = 255


cdef class HandedOver:
    """The native half of `DeliveryFuture`: the record until it is accepted, then its delivery."""

    cdef ThreadPath path
    cdef str topic
    cdef object key
    cdef object value
    cdef object partition
    cdef object headers
    cdef object timestamp_ms
    cdef tuple given                # key and value as given, for a MockProducer
    cdef double span                # its deadline: seconds from the call; 0: none
    cdef double due_at              # ... on the loop's clock
    cdef Py_ssize_t charged         # what it counts in `buffer_used` until it is accepted
    cdef Delivery delivery          # None: not accepted so far
    cdef object error               # why it was not accepted
    cdef object admission           # the threading.Event of a thread that waits for buffer space
    cdef bint is_withdrawn          # ... and no longer does
    cdef bint is_in_line            # its bytes were counted, and it waits for a share
    cdef readonly bint _is_done
    cdef readonly bint _is_awaited

    @property
    def _path(self):
        return self.path

    @property
    def _topic(self):
        return self.topic

    def _begin_awaited(self):
        """Have the loop complete the future, too; True if it has its outcome already."""
        self._is_awaited = True
        return self._is_done

    def _withdraw(self):
        """Take a record back that was not accepted; False if it is too late."""
        if self.delivery is not None or self.error is not None:
            return False
        self.is_withdrawn = True
        return True

    @property
    def _is_withdrawn(self):
        return self.is_withdrawn

    @property
    def _deadline(self):
        """When the record must have been sent, and how long after its call; or None."""
        return (self.due_at, self.span) if self.span else None

    def _refusal(self):
        """Why the record was not accepted; None if it was."""
        return self.error

    def _failure(self):
        """The error of a future that is done; None if the record is stored."""
        if self.error is None:
            return self.delivery.exception()
        # A new instance each time, as a delivery makes it.
        return self.error.again() if isinstance(self.error, KafkaError) else self.error

    def _metadata(self):
        """The result of a future that is done and has no error."""
        return self.delivery.result()

    def _give_up(self, error):
        """Fail here and now: the loop is gone. True if the future has to be completed, too."""
        if self._is_done:
            return False
        self.error = error
        self._is_done = True
        return self._is_awaited

    cdef int _forget_record(self) except -1:
        self.key = self.value = self.headers = self.given = None
        return 0


@cython.final
cdef class FutureGroup(BatchWatcher):
    """The futures of records that are in one batch."""

    cdef ThreadPath path
    cdef RecordBatch home
    cdef list futures

    cdef int _batch_over(self, RecordBatch batch, bint direct) except -1:
        cdef HandedOver future
        cdef list futures = self.futures
        cdef list awaited = []
        self.futures = []
        for future in futures:
            if future.delivery._outcome() != Outcome.PENDING:
                future._is_done = True
                if future._is_awaited:
                    awaited.append(future)
            elif batch is not self.home and future.delivery.batch is self.home:
                # Others left the batch, which goes on.
                self.futures.append(future)
            else:
                self.path._follow(future)
        if awaited:
            self.path._complete(awaited, direct)
        return 0

    cdef int _watch_also(self, RecordBatch batch) except -1:
        return watch(batch, self)


cdef class ThreadPath:
    """The native half of `FromThread`: the call that runs once per record, and the drain."""

    cdef SendPath path
    cdef RecordAccumulator accumulator   # the path's, also after it was closed
    cdef object future_type
    cdef list handed_over
    cdef list draining
    cdef Py_ssize_t drained
    cdef Py_ssize_t in_line              # records that wait although their bytes were counted
    cdef bint gave_back                  # ... some since space was last offered to others
    cdef bint is_scheduled

    __class_getitem__ = classmethod(GenericAlias)

    def __init__(self, SendPath path, type future_type):
        self.path = path
        self.future_type = future_type
        self.handed_over = []
        self.draining = []

    # ---- in the calling thread

    def send(
        self, topic, value=None, *, key=None, partition=None, headers=None, timestamp_ms=None,
        deadline=None,
    ):
        """Send a record from any thread but the loop's; returns a future of its outcome.

        A plain call: the record is checked and serialized in the calling thread, handed over to the
        producer's event loop, and sent by it. Records of one thread keep their order within a
        partition. While the buffer is full the call blocks, `max_block_ms` at most.

        The future is a `concurrent.futures.Future`: `result(timeout)`, `exception(timeout)`,
        `add_done_callback(fn)`, `concurrent.futures.wait`, `asyncio.wrap_future` work. It may be
        dropped. A record that was handed over cannot be withdrawn: `future.cancel()` returns
        False. Done callbacks run in the loop's thread, so they must be short.

        Args:
            topic, value, key, partition, headers, timestamp_ms, deadline: As for `Producer.send`;
                serializers run in the calling thread.

        Raises:
            BufferExhaustedError: No buffer space within `max_block_ms`, or by the deadline.
            SerializationError, RecordTooLargeError, InvalidTopicError, InvalidPartitionError: As
                for `Producer.send`. What only the loop finds out fails the future.
            ProducerClosedError, ProducerNotStartedError: The producer is not open.
            WrongEventLoopError: The call came from the loop's own thread, or from a child process.

        Example:
            future = producer.from_thread.send("payments", b"12.50", key=b"card-1")
            metadata = future.result(timeout=5)
        """
        cdef SendPath path = self.path
        cdef double span = 0 if deadline is None else seconds_of(deadline, "deadline")
        if path.accumulator is None or PyThread_get_thread_ident() == path.thread_id:
            self._refuse_send()
        cdef SerializerCall serialize_key = path.serialize_key
        cdef SerializerCall serialize_value = path.serialize_value
        cdef TopicSerializers of_topic
        if type(topic) is not str:
            if type(topic) is ProducerRecordType:
                topic, value, key, partition, headers, timestamp_ms = path._unpack(
                    topic, value, key, partition, headers, timestamp_ms
                )
            of_topic = serializers_of(topic)
            if of_topic is None:
                topic = path._plain_topic(topic)
            else:
                topic = of_topic.name
                if of_topic.key is not None:
                    serialize_key = of_topic.key
                if of_topic.value is not None:
                    serialize_value = of_topic.value
        cdef tuple given = None if path.note_given is None else (key, value)
        if headers is not None:
            headers = path._check_headers(topic, headers)
        value = bytes_of(path, topic, "value", value, headers, serialize_value)
        key = bytes_of(path, topic, "key", key, headers, serialize_key)
        if partition is not None and not is_whole(partition, MAX_PARTITION):
            path._refuse_partition(topic, partition)
        if timestamp_ms is not None:
            path._check_timestamp(topic, timestamp_ms)
        cdef RecordAccumulator accumulator = path.accumulator
        if accumulator is None:
            # The producer was closed while a serializer ran.
            self._refuse()
        if not accumulator.may_have_partition(topic, partition):
            self._check_topic(topic)
        cdef Py_ssize_t size = accumulator.measure(topic, key, value, partition, headers)
        cdef PyTypeObject* cls = <PyTypeObject*>self.future_type
        cdef HandedOver future = cls.tp_new(cls, (), NULL)
        future.path = self
        future.topic = topic
        future.key = key
        future.value = value
        future.partition = partition
        future.headers = headers
        future.timestamp_ms = timestamp_ms
        if given is not None:
            future.given = given
        if span:
            future.span = span
            future.due_at = accumulator.clock.now() + span
        if not self._hand_over(future, size, True):
            self._wait_for_space(future, size)
        return future

    cdef bint _hand_over(self, HandedOver future, Py_ssize_t size, bint charge) except -1:
        """Append a record to those that the loop is to take; False if there is no space for it."""
        cdef RecordAccumulator accumulator = self.path.accumulator
        if accumulator is None:
            self._refuse()
        if charge:
            # Not `has_blocked` alone: it is cleared while records are routed or callers admitted,
            # and a partitioner that is called then lets other threads run.
            if (
                accumulator.has_blocked
                or accumulator.lines
                or size > accumulator.buffer_memory - accumulator.buffer_used
            ):
                return False
            accumulator.buffer_used += size
            future.charged = size
        self.accumulator = accumulator
        self.handed_over.append(future)
        cdef Py_ssize_t count = len(self.handed_over)
        if self.is_scheduled and count & (count - 1) and count & LOOK_MASK:
            return True
        try:
            if self.is_scheduled:
                # A loop that ends runs nothing of what was scheduled. So while records pile up,
                # look at it: at the second, fourth, eighth ... record.
                self._check_loop()
            else:
                self.is_scheduled = True
                self._wake_loop()
        except BaseException:
            # The loop is closed, or an interrupt has come.
            self.is_scheduled = False
            future.is_withdrawn = True
            accumulator.buffer_used -= future.charged
            future.charged = 0
            count = len(self.handed_over)
            if count and self.handed_over[count - 1] is future:
                # Nobody would take it from there.
                self.handed_over.pop()
            raise
        return True

    def _hand_over_waiting(self, HandedOver future, admission):
        """Hand over a record whose thread waits for buffer space until `admission` is set."""
        future.admission = admission
        self._hand_over(future, 0, False)

    def _wake_again(self):
        """Have the next record wake the loop, which never does what was scheduled."""
        self.is_scheduled = False

    @property
    def _is_open(self):
        return self.path.accumulator is not None

    @property
    def _thread_id(self):
        return self.path.thread_id

    # ---- in the loop

    def _drain(self):
        """Accept what was handed over; what is too much for one turn, in the next one."""
        cdef HandedOver future
        cdef int left = DRAINED_PER_TURN
        cdef list fresh
        try:
            while left > 0:
                if self.drained == len(self.draining):
                    fresh = []
                    self.drained = 0
                    self.is_scheduled = False
                    self.draining = self.handed_over
                    self.handed_over = fresh
                    if not self.draining:
                        break
                future = <HandedOver>self.draining[self.drained]
                self.draining[self.drained] = None
                self.drained += 1
                left -= 1
                self._take(future)
        finally:
            # Also when a partitioner ends the program.
            if self.drained < len(self.draining) or self.handed_over:
                self._drain_soon()
            if self.gave_back:
                self.gave_back = False
                self._offer_space()

    def _take_all(self):
        """Accept all that was handed over so far."""
        while self._has_handed_over:
            self._drain()

    @property
    def _has_handed_over(self):
        return self.drained < len(self.draining) or len(self.handed_over) > 0

    cdef int _take(self, HandedOver future) except -1:
        if future.is_withdrawn:
            return 0
        cdef RecordAccumulator accumulator = self.accumulator
        cdef Delivery delivery
        cdef bint is_counted = future.charged > 0
        accumulator.buffer_used -= future.charged
        future.charged = 0
        try:
            if self.path.fails_fast:
                self.path._refuse_if_down(future.topic, future.partition)
            if future.given is None:
                delivery = self._accept(accumulator, future, is_counted)
            else:
                delivery = self._accept_as_given(accumulator, future, is_counted)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            # From a partitioner: it ends the loop's program, and is no outcome for a thread.
            self.gave_back |= is_counted
            self._reject(future, KafkaError(f"The partitioner raised {type(interrupt).__name__}"))
            raise
        except BaseException as error:
            self.gave_back |= is_counted
            self._reject(future, error)
            return 0
        if delivery is not None:
            if future.span:
                accumulator.deadlines.add(future.due_at, future.span, delivery)
            return self._accepted(future, delivery)
        future.partition = accumulator.refused_partition(future.partition)
        if is_counted:
            # Whoever waits for the buffer may need its bytes, and it may wait behind them.
            self.gave_back = future.is_in_line = True
            self.in_line += 1
        self._join(future)
        return 0

    cdef Delivery _accept(
        self, RecordAccumulator accumulator, HandedOver future, bint is_counted
    ):
        # 1. Threads hand over so much that the buffer is full.
        # 2. Before the loop drains, a caller in the loop finds no space, and is first in line.
        # 3. The records must not wait behind it: it waits for their bytes.
        # But for those behind others of their own thread that wait for a share.
        if is_counted and accumulator.has_blocked and not self.in_line:
            return accumulator.accept_record(
                future.topic, future.key, future.value, future.partition, future.headers,
                future.timestamp_ms, None,
            )
        return accumulator.accept(
            future.topic, future.key, future.value, future.partition, future.headers,
            future.timestamp_ms, None,
        )

    cdef Delivery _accept_as_given(
        self, RecordAccumulator accumulator, HandedOver future, bint is_counted
    ):
        # As in `SendPath`.
        before = self.path.note_given(*future.given)
        try:
            delivery = self._accept(accumulator, future, is_counted)
        except BaseException:
            self.path.note_given(*before)
            raise
        if delivery is not None:
            self.path.note_given(*before)
        return delivery

    def _admit(self, HandedOver future):
        """Try to accept a record that waits for buffer space; None if there still is none."""
        delivery = self.accumulator.accept_record(
            future.topic, future.key, future.value, future.partition, future.headers,
            future.timestamp_ms, None, future._deadline,
        )
        if delivery is not None:
            # At once: with acks=0 the batch may be done by the time that `resolve` is called.
            self._accepted(future, delivery)
        return delivery

    def _leave_line(self, HandedOver future):
        """Note that a record waits for space no more."""
        if future.is_in_line:
            future.is_in_line = False
            self.in_line -= 1

    cdef int _accepted(self, HandedOver future, Delivery delivery) except -1:
        future.delivery = delivery
        future._forget_record()
        if future.admission is not None:
            future.admission.set()
        elif Py_REFCNT(future) == 1 and not future._is_awaited:
            # The only reference is here: the caller has dropped it.
            return 0
        return self._follow(future)

    def _reject(self, HandedOver future, error):
        """Fail a record that was not accepted."""
        if future._is_done or future.delivery is not None:
            return
        future.error = error
        future._forget_record()
        future._is_done = True
        if future.admission is not None:
            future.admission.set()
        if future._is_awaited:
            self._complete([future], False)

    cdef int _follow(self, HandedOver future) except -1:
        """Watch the batch that a record is in."""
        cdef FutureGroup group
        cdef BatchWatcher watcher
        if future.delivery._outcome() != Outcome.PENDING:
            future._is_done = True
            if future._is_awaited:
                self._complete([future], False)
            return 0
        cdef RecordBatch batch = future.delivery.batch
        watcher = last_watcher(batch)
        if type(watcher) is FutureGroup:
            group = <FutureGroup>watcher
            if group.path is self and group.home is batch:
                group.futures.append(future)
                return 0
        group = FutureGroup.__new__(FutureGroup)
        group.path = self
        group.home = batch
        group.futures = [future]
        return watch(batch, group)

    cdef int _complete(self, list awaited, bint direct) except -1:
        if direct:
            Context().run(self._finish, awaited)
        else:
            self.accumulator.loop.call_soon(self._finish, awaited, context=Context())
        return 0
