from libc.stdint cimport int16_t, int32_t, int64_t


cdef enum Outcome:
    PENDING = 0
    DELIVERED = 1
    FAILED = 2
    SPLIT = 3


cdef struct Field:
    # A key, a value or a header's value: `length` is -1 for null.
    const char* data
    Py_ssize_t length


cdef enum:
    MOST_SPARE_BLOCKS = 64


cdef class BlockPool:
    cdef Py_ssize_t block_size
    cdef char* blocks[MOST_SPARE_BLOCKS]
    cdef int count
    cdef int limit

    cdef char* take(self) except NULL
    cdef void give(self, char* block) noexcept


cdef class RecordMemory:
    cdef char* data
    cdef Py_ssize_t size       # what a reader sees: 0 until the batch is closed
    cdef Py_ssize_t capacity
    cdef BlockPool pool        # where `data` came from; None: from malloc

    cdef int use_block(self, BlockPool pool) except -1
    cdef int resize(self, Py_ssize_t capacity, Py_ssize_t used) except -1
    cdef void _give_back(self) noexcept


cdef class RecordBatch:
    cdef readonly str topic
    cdef readonly int partition
    cdef readonly object loop
    cdef readonly double created_at
    cdef readonly int32_t record_count
    cdef readonly int64_t base_offset
    cdef readonly object error
    cdef readonly int64_t producer_id
    cdef readonly int16_t producer_epoch
    cdef readonly int32_t base_sequence
    cdef public Py_ssize_t charged_bytes
    cdef public int attempts
    cdef public int times_taken   # `attempts`, with those of the batch that it was split from
    cdef public object last_error
    cdef public bint possibly_persisted
    cdef public bint is_in_flight
    cdef public bint is_compressing
    cdef public bint is_prepared
    cdef Outcome outcome
    cdef int64_t log_append_time_ms
    cdef list parts            # after a split: (first index, batch, first index there)
    cdef list enrolled         # deliveries that somebody waits for
    cdef list watchers         # BatchWatchers: they wait for many deliveries at once
    cdef Py_ssize_t watchers_over
    cdef object share          # the BufferShare that its bytes are charged to
    cdef RecordMemory memory   # None when the batch is empty, done or compressed
    cdef Py_ssize_t size
    cdef Py_ssize_t announce_at   # the size at which the sender is notified next that it has grown
    cdef bytes compressed
    cdef int codec_attributes
    cdef readonly int64_t base_timestamp_ms
    cdef readonly int64_t max_timestamp_ms
    cdef object sent_in        # the request that carries it, until its response is handled
    cdef bint has_response      # only while the response is scanned

    cdef void begin(self, str topic, int partition, object loop, double created_at) noexcept
    cpdef close(self)
    cdef char* put_header(
        self, char* at, const char* records, Py_ssize_t length, int attributes
    ) noexcept
    cpdef assign_sequence(self, int64_t producer_id, int16_t producer_epoch, int32_t base_sequence)
    cpdef complete(self, int64_t base_offset, int64_t log_append_time_ms=*)
    cpdef wake(self, bint direct)
    cdef int _notify(self, object waiting, bint direct) except -1

    cdef Py_ssize_t size_with(
        self, Field key, Field value, Py_ssize_t headers_size, int64_t timestamp_ms
    ) noexcept
    cdef Py_ssize_t append(
        self,
        Field key,
        Field value,
        object headers,
        Py_ssize_t headers_size,
        int64_t timestamp_ms,
        Py_ssize_t limit,
    ) except -1
    cdef Delivery deliver_last(self, int64_t timestamp_ms, object on_delivery)
    cdef int use_block(self, BlockPool pool) except -1
    cdef const char* _records(self) except NULL
    cdef Py_ssize_t _payload_size(self) noexcept
    cdef const char* _payload(self) except NULL
    cdef int _reserve(self, Py_ssize_t needed, Py_ssize_t limit) except -1


cdef class Delivery:
    cdef RecordBatch batch
    cdef object waiters        # None, a DeliveryWait, a (callback, context), or a list of these
    cdef object on_delivery    # None or (callback, context)
    cdef int64_t timestamp_ms
    cdef int32_t index
    cdef bint is_enrolled

    cdef Outcome _outcome(self) noexcept
    cdef void _follow_split(self)
    cdef void _enrol(self)
    cdef int _move_to(self, RecordBatch batch, int32_t index) except -1
    cdef object _metadata(self)
    cdef object _error(self)
    cdef void _add_waiter(self, object waiter)
    cdef void _remove_waiter(self, DeliveryWait wait)
    cdef int _notify(self, bint direct) except -1
    cdef int _notify_all(self, object waiters, bint direct) except -1
    cdef int _notify_one(self, object waiter, bint direct) except -1
    cdef int _report(self, tuple on_delivery, bint direct) except -1
    cdef Outcome _known_outcome(self) except *


cdef class DeliveryWait:
    cdef Delivery delivery
    cdef object wake_up        # steps the task that waits; None while no task waits
    cdef object context
    cdef list others           # further callbacks: (callback, context) each
    cdef object cancel_message
    cdef bint is_cancelled
    cdef bint is_forgotten     # made by `send_and_wait` and not awaited so far
    cdef bint withdraws        # its deadline is the record's, too
    cdef object error          # ends the wait: its time is over
    cdef public object _asyncio_future_blocking

    cdef Outcome _begin(self) except *
    cdef void _leave(self)


cdef class DeliveryDeadlines:
    cdef list heap
    cdef object set_timer
    cdef double armed_at
    cdef int64_t count
    cdef Py_ssize_t crowded_from

    cdef int add(self, double at, double span, object target) except -1
    cdef int _drop_over(self) except -1


cdef class BatchWatcher:
    cdef int _batch_over(self, RecordBatch batch, bint direct) except -1
    cdef int _watch_also(self, RecordBatch batch) except -1
    cdef bint _is_over(self) noexcept


cdef int watch(RecordBatch batch, BatchWatcher watcher) except -1
cdef BatchWatcher last_watcher(RecordBatch batch)
cdef int moved_on(RecordBatch batch) except -1
cdef int watch_also(RecordBatch before, RecordBatch batch) except -1
cdef Py_ssize_t measure_headers(object headers) except -1
