# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""A record batch: its encoded records, its header, and its outcome.

A batch takes encoded records (magic 2, KIP-98) until it is closed, gets a fresh 61-byte header
for each attempt, and ends exactly once: delivered, failed, or split into parts.

Invariants
* The encoded records never change after the batch is closed: a retry cannot corrupt an attempt
  that the transport still writes. A batch that is done drops its reference to them; memory.pxi
  says when they are freed.
* A `Delivery` knows its batch and its index. The batch knows a delivery only once somebody waits
  for it (it is *enrolled*), so a fire-and-forget record costs nothing at the end of its batch.
  Who waits for many deliveries watches their batches instead (watching.pxi).
* A batch leaves PENDING once. Its waiters run after that, in the order they were enrolled, and
  then its watchers.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, int16_t, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from aioproducer._native.wire cimport BATCH_HEADER_BYTES, put_int


cdef extern from "crc32c.h":
    void aioproducer_crc32c_init()
    uint32_t aioproducer_crc32c(uint32_t crc, const void* data, size_t length) nogil
    uint32_t aioproducer_crc32c_portable(uint32_t crc, const void* data, size_t length) nogil

aioproducer_crc32c_init()

cdef enum:
    LENGTH_AND_EPOCH_END = 12   # what batch_length does not count: base offset and itself
    CRC_AT = 17
    CRC_COVERS_FROM = 21
    FIRST_CAPACITY = 1024

BATCH_HEADER_SIZE = BATCH_HEADER_BYTES


def crc32c(data, uint32_t crc=0):
    """The CRC-32C of a buffer, continued from `crc`."""
    cdef const unsigned char[::1] view = data
    if view.shape[0] == 0:
        return crc
    return aioproducer_crc32c(crc, &view[0], view.shape[0])


def crc32c_portable(data, uint32_t crc=0):
    """The same without the processor's CRC instruction; for tests."""
    cdef const unsigned char[::1] view = data
    if view.shape[0] == 0:
        return crc
    return aioproducer_crc32c_portable(crc, &view[0], view.shape[0])


include "encoding.pxi"
include "memory.pxi"


@cython.final
cdef class RecordBatch:
    """Records of one partition that are sent, delivered or failed together."""

    def __init__(self, str topic, int partition, loop, double created_at):
        self.begin(topic, partition, loop, created_at)

    cdef void begin(self, str topic, int partition, object loop, double created_at) noexcept:
        """`__init__`, for native code: batches may have few records, and are many then."""
        self.topic = topic
        self.partition = partition
        self.loop = loop
        self.created_at = created_at
        self.base_offset = -1
        self.log_append_time_ms = -1
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = -1

    def __repr__(self):
        return (
            f"<RecordBatch {self.topic}-{self.partition} records={self.record_count}"
            f" base_sequence={self.base_sequence} attempts={self.attempts}>"
        )

    # ---- filling

    cdef Py_ssize_t size_with(
        self, Field key, Field value, Py_ssize_t headers_size, int64_t timestamp_ms
    ) noexcept:
        """The size of the whole batch if this record were appended."""
        cdef int64_t timestamp_delta = 0
        if self.record_count:
            timestamp_delta = timestamp_ms - self.base_timestamp_ms
        cdef Py_ssize_t body = (
            1 + varint_size(timestamp_delta) + varint_size(self.record_count)
            + field_size(key) + field_size(value) + headers_size
        )
        return BATCH_HEADER_BYTES + self.size + varint_size(body) + body

    cdef Py_ssize_t append(
        self,
        Field key,
        Field value,
        object headers,
        Py_ssize_t headers_size,
        int64_t timestamp_ms,
        Py_ssize_t limit,
    ) except -1:
        """Encode one record at the end; return its size. The caller checks the limit."""
        if self.record_count == 0:
            self.base_timestamp_ms = timestamp_ms
            self.max_timestamp_ms = timestamp_ms
        elif timestamp_ms > self.max_timestamp_ms:
            self.max_timestamp_ms = timestamp_ms
        cdef int64_t timestamp_delta = timestamp_ms - self.base_timestamp_ms
        cdef Py_ssize_t body = (
            1 + varint_size(timestamp_delta) + varint_size(self.record_count)
            + field_size(key) + field_size(value) + headers_size
        )
        cdef Py_ssize_t taken = varint_size(body) + body
        if self.memory is None or self.size + taken > self.memory.capacity:
            self._reserve(self.size + taken, limit)
        cdef char* at = self.memory.data + self.size
        at = put_varint(at, body)
        at[0] = 0   # record attributes: none are defined
        at = put_varint(at + 1, timestamp_delta)
        at = put_varint(at, self.record_count)
        at = put_field(at, key)
        at = put_field(at, value)
        if headers is None:
            at[0] = 0
        else:
            put_headers(at, headers)
        self.size += taken
        self.record_count += 1
        return taken

    cdef int use_block(self, BlockPool pool) except -1:
        self.memory = RecordMemory.__new__(RecordMemory)
        return self.memory.use_block(pool)

    cdef int _reserve(self, Py_ssize_t needed, Py_ssize_t limit) except -1:
        # Double up to the batch size: a partition with few records takes a kilobyte.
        cdef Py_ssize_t capacity = FIRST_CAPACITY
        if self.memory is None:
            self.memory = RecordMemory.__new__(RecordMemory)
        else:
            capacity = self.memory.capacity * 2
        if capacity > limit:
            capacity = limit
        if capacity < needed:
            capacity = needed
        return self.memory.resize(capacity, self.size)

    cdef Delivery deliver_last(self, int64_t timestamp_ms, object on_delivery):
        """The delivery of the record appended last."""
        cdef Delivery delivery = Delivery.__new__(Delivery)
        delivery.batch = self
        delivery.index = self.record_count - 1
        delivery.timestamp_ms = timestamp_ms
        if on_delivery is not None:
            delivery.on_delivery = on_delivery
            delivery._enrol()
        return delivery

    cpdef close(self):
        """Take no more records, and give back the unused memory. From here on it can be read."""
        cdef RecordMemory memory = self.memory
        if memory is None:
            return
        # A nearly full block from the pool stays as it is: no copy.
        cdef Py_ssize_t spare = 0 if memory.pool is None else memory.capacity // 16
        if memory.capacity > FIRST_CAPACITY and self.size + spare < memory.capacity:
            memory.resize(self.size, self.size)
        memory.size = self.size

    # ---- sealing

    @property
    def payload_size(self):
        """Bytes of the records as they are sent."""
        return self._payload_size()

    cdef Py_ssize_t _payload_size(self) noexcept:
        return self.size if self.compressed is None else PyBytes_GET_SIZE(self.compressed)

    cdef const char* _payload(self) except NULL:
        return self._records() if self.compressed is None else PyBytes_AS_STRING(self.compressed)

    @property
    def records_size(self):
        """Bytes of the encoded records before compression."""
        return self.size

    @property
    def is_compressed(self):
        return self.compressed is not None

    def set_compressed(self, bytes payload, int codec_attributes):
        """Replace the records by `payload` if it is smaller."""
        if PyBytes_GET_SIZE(payload) < self.size:
            self.compressed = payload
            self.codec_attributes = codec_attributes
            self.memory = None

    def restore_records(self, bytes records):
        """Undo `set_compressed`, given the decompressed records (before a split)."""
        if PyBytes_GET_SIZE(records) != self.size:
            raise ValueError(f"the records have {self.size} bytes, not {len(records)}")
        self._reserve(self.size, self.size)
        memcpy(self.memory.data, PyBytes_AS_STRING(records), self.size)
        self.memory.size = self.size
        self.compressed = None
        self.codec_attributes = 0

    cdef const char* _records(self) except NULL:
        if self.memory is None:
            raise ValueError("the batch has no records, or has let go of them")
        return self.memory.data

    @property
    def payload(self):
        """The records of a closed batch as they are sent, without a copy."""
        return self.compressed if self.compressed is not None else memoryview(self.memory)

    cpdef assign_sequence(
        self, int64_t producer_id, int16_t producer_epoch, int32_t base_sequence
    ):
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.base_sequence = base_sequence

    @property
    def has_sequence(self):
        return self.base_sequence >= 0

    def seal(self, bint is_transactional=False):
        """Build the 61-byte header for this attempt.

        Returns a new object each time: the transport may still be writing an earlier attempt.
        """
        cdef const char* records = self._payload()
        cdef object header = PyBytes_FromStringAndSize(NULL, BATCH_HEADER_BYTES)
        cdef int attributes = self.codec_attributes | (0x10 if is_transactional else 0)
        self.put_header(PyBytes_AS_STRING(header), records, self._payload_size(), attributes)
        return header

    cdef char* put_header(
        self, char* start, const char* records, Py_ssize_t length, int attributes
    ) noexcept:
        """Write the header for the `length` bytes of records that are sent; return its end."""
        cdef char* at = put_int(start, 0, 8)            # base offset: the broker sets it
        at = put_int(at, BATCH_HEADER_BYTES - LENGTH_AND_EPOCH_END + length, 4)
        at = put_int(at, -1, 4)                         # partition leader epoch
        at = put_int(at, 2, 1)                          # magic
        at = put_int(at, 0, 4)                          # CRC, below
        at = put_int(at, attributes, 2)
        at = put_int(at, self.record_count - 1, 4)      # last offset delta
        at = put_int(at, self.base_timestamp_ms, 8)
        at = put_int(at, self.max_timestamp_ms, 8)
        at = put_int(at, self.producer_id, 8)
        at = put_int(at, self.producer_epoch, 2)
        at = put_int(at, self.base_sequence, 4)
        at = put_int(at, self.record_count, 4)
        cdef uint32_t crc = aioproducer_crc32c(
            0, start + CRC_COVERS_FROM, BATCH_HEADER_BYTES - CRC_COVERS_FROM
        )
        crc = aioproducer_crc32c(crc, records, length)
        put_int(start + CRC_AT, crc, 4)
        return at

    # ---- ending

    @property
    def is_done(self):
        return self.outcome != PENDING

    @property
    def is_delivered(self):
        return self.outcome == DELIVERED

    cpdef complete(self, int64_t base_offset, int64_t log_append_time_ms=-1):
        """The broker stored the records from `base_offset` on; -1: it gave no offset."""
        assert self.outcome == PENDING
        self.outcome = DELIVERED
        # An offset that would overflow at the last record is no offset.
        self.base_offset = base_offset if base_offset <= INT64_MAX - self.record_count + 1 else -1
        self.log_append_time_ms = log_append_time_ms
        self.memory = None
        self.compressed = None

    def fail(self, error):
        """Fail all records: none of them is known to be stored."""
        assert self.outcome == PENDING
        self.outcome = FAILED
        self.error = error
        self.memory = None
        self.compressed = None

    def split(self, Py_ssize_t limit):
        """Move the records to new batches of at most `limit` bytes each (KIP-126).

        Deliveries, waiters and creation time move with them. A record larger than `limit` gets
        a batch of its own. Returns the new batches in order.
        """
        return split_batch(self, limit)

    def refuse(self, errors):
        """Fail the records that the broker refused by index; move the others to a new batch.

        The broker stored none of them (KIP-467). Returns the new batch, None if no record is
        left, and the failed batches, of one record each, which the caller wakes.
        """
        return refuse_records(self, errors)

    cpdef wake(self, bint direct):
        """Notify all who wait for a record of this batch.

        With `direct` the waiters run inside this call. That is only legal where no task is
        running: in the loop's own callbacks, never inside a caller's `send`. Otherwise the loop
        calls them later.
        """
        cdef Py_ssize_t position = 0
        cdef list waiting = self.enrolled
        if self.watchers is not None:
            waiting = self.watchers if waiting is None else waiting + self.watchers
        if waiting is None:
            return
        self.enrolled = self.watchers = None
        # 1. asyncio runs the socket's reader, and so this method, in the reader's context.
        # 2. A woken task runs a loop inside itself (nest_asyncio), which runs the reader again.
        # 3. It enters the same context, which fails while we are in it. So we leave it first.
        outer = leave_context() if direct else None
        try:
            for position in range(len(waiting)):
                self._notify(waiting[position], direct)
        except BaseException:
            # KeyboardInterrupt or SystemExit from a task: the loop notifies the others.
            for position in range(position + 1, len(waiting)):
                self._notify(waiting[position], False)
            raise
        finally:
            if outer is not None:
                PyContext_Enter(outer)

    cdef int _notify(self, object waiting, bint direct) except -1:
        if type(waiting) is not Delivery:
            return (<BatchWatcher>waiting)._batch_over(self, direct)
        # Otherwise the record waited for metadata here, and is in another batch now.
        if (<Delivery>waiting).batch is self:
            return (<Delivery>waiting)._notify(direct)
        return 0

    @property
    def waiter_count(self):
        cdef Py_ssize_t count = 0 if self.enrolled is None else len(self.enrolled)
        return count if self.watchers is None else count + len(self.watchers)


include "splitting.pxi"
include "delivery.pxi"
include "deadlines.pxi"
include "watching.pxi"
include "gathering.pxi"
