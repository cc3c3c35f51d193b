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
    cdef public double retry_at
    cdef public double last_sent_at
    cdef public object last_error
    cdef public bint possibly_persisted
    cdef public bint is_in_flight
    cdef public bint is_compressing
    cdef public bint is_prepared
    cdef Outcome outcome
    cdef int64_t log_append_time_ms
    cdef dict record_errors
    cdef list children
    cdef list enrolled
    cdef BlockPool pool      # where `memory` came from; None: from the system
    cdef char* memory
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef Py_ssize_t exports
    cdef Py_ssize_t told_at   # the size at which the sender is told next that it has grown
    cdef bytes compressed
    cdef int codec_attributes
    cdef int64_t base_timestamp_ms
    cdef readonly int64_t max_timestamp_ms

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
    cdef int _reserve(self, Py_ssize_t needed, Py_ssize_t limit) except -1
    cdef char* _resize(self, Py_ssize_t capacity) noexcept
    cdef void _free_memory(self) noexcept


cdef class Delivery:
    cdef RecordBatch batch
    cdef object callbacks
    cdef object on_delivery
    cdef object metadata
    cdef int64_t timestamp_ms
    cdef int32_t index
    cdef public bint _asyncio_future_blocking
    cdef bint is_enrolled
    cdef bint is_detached    # cancel() was called, and nobody has waited since
    cdef bint was_detached   # cancel() was called at some time
    cdef bint is_releasing   # those who waited then are being told

    cdef Outcome _outcome(self) noexcept
    cdef void _follow_split(self)
    cdef void _enrol(self)
    cdef void _move_to(self, RecordBatch batch, int32_t index)
    cdef object _metadata(self)
    cdef object _error(self)
    cdef int _notify(self, bint direct) except -1
    cdef int _run_callbacks(self, list callbacks, bint direct) except -1
    cdef Outcome _known_outcome(self) except *


cdef class DeliveryWait:
    cdef Delivery delivery


cdef Py_ssize_t measure_headers(object headers) except -1
