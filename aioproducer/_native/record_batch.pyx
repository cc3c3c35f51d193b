# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""A record batch on its way to the log; its records' deliveries are in delivery.pxi.

A batch takes encoded records (magic 2, KIP-98) until it is closed, is sealed once per attempt
with a fresh 61-byte header, and ends exactly once: delivered, failed, or split into children.

Invariants
* The encoded records never change after the batch is closed. Whoever reads them (a socket, a
  compressor in a thread) holds a buffer export, and memory with exports is never freed: a retry
  cannot corrupt an attempt that the transport still writes (KAFKA-19012).
* A `Delivery` knows its batch and its index, nothing else. The batch knows a delivery only once
  somebody waits for it (it is *enrolled*), so a fire-and-forget record costs no completion work.
* A batch leaves PENDING once. Its waiters run after that, in the order they were enrolled.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, int16_t, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy


cdef extern from "crc32c.h":
    void aioproducer_crc32c_init()
    uint32_t aioproducer_crc32c(uint32_t crc, const void* data, size_t length) nogil
    uint32_t aioproducer_crc32c_portable(uint32_t crc, const void* data, size_t length) nogil

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

aioproducer_crc32c_init()

cdef enum:
    HEADER_SIZE = 61
    LENGTH_AND_EPOCH_END = 12   # what batch_length does not count: base offset and itself
    CRC_AT = 17
    CRC_COVERS_FROM = 21
    FIRST_CAPACITY = 1024
    MOST_SPARE_BYTES = 8388608

BATCH_HEADER_SIZE = HEADER_SIZE


def crc32c(data, uint32_t crc=0):
    """The CRC-32C of a buffer, continued from `crc`."""
    cdef const unsigned char[::1] view = data
    if view.shape[0] == 0:
        return crc
    return aioproducer_crc32c(crc, &view[0], view.shape[0])


def crc32c_portable(data, uint32_t crc=0):
    """The same without the processor's instruction; for tests."""
    cdef const unsigned char[::1] view = data
    if view.shape[0] == 0:
        return crc
    return aioproducer_crc32c_portable(crc, &view[0], view.shape[0])


# ---- varints: zigzag, seven bits a byte, as in protocol buffers

cdef inline int varint_size(int64_t value) noexcept nogil:
    cdef uint64_t zigzag = (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)
    cdef int size = 1
    while zigzag >= 0x80:
        zigzag >>= 7
        size += 1
    return size


cdef inline char* put_varint(char* at, int64_t value) noexcept nogil:
    cdef uint64_t zigzag = (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)
    while zigzag >= 0x80:
        at[0] = <char>((zigzag & 0x7F) | 0x80)
        at += 1
        zigzag >>= 7
    at[0] = <char>zigzag
    return at + 1


cdef inline int64_t take_varint(const char** at) noexcept nogil:
    # Only ever reads what put_varint wrote.
    cdef uint64_t zigzag = 0
    cdef int shift = 0
    cdef unsigned char byte
    while True:
        byte = <unsigned char>at[0][0]
        at[0] += 1
        zigzag |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            return <int64_t>(zigzag >> 1) ^ -<int64_t>(zigzag & 1)
        shift += 7


cdef inline char* put_field(char* at, Field field) noexcept nogil:
    at = put_varint(at, field.length)
    if field.length > 0:
        memcpy(at, field.data, field.length)
        at += field.length
    return at


cdef inline Field take_field(const char** at) noexcept nogil:
    cdef Field field
    field.length = take_varint(at)
    field.data = at[0]
    if field.length > 0:
        at[0] += field.length
    return field


cdef inline Py_ssize_t field_size(Field field) noexcept nogil:
    return varint_size(field.length) + (field.length if field.length > 0 else 0)


cdef inline object field_bytes(Field field):
    if field.length < 0:
        return None
    return PyBytes_FromStringAndSize(field.data, field.length)


# ---- big-endian integers of the batch header

cdef inline char* put_int(char* at, int64_t value, int size) noexcept nogil:
    cdef int shift = 8 * (size - 1)
    while shift >= 0:
        at[0] = <char>((value >> shift) & 0xFF)
        at += 1
        shift -= 8
    return at


# ---- headers: `headers` is a list or tuple of (str, bytes | None), checked by the caller

cdef Field header_value(object value) noexcept:
    cdef Field field
    if value is None:
        field.data = NULL
        field.length = -1
    else:
        field.data = PyBytes_AS_STRING(value)
        field.length = PyBytes_GET_SIZE(value)
    return field


cdef Py_ssize_t measure_headers(object headers) except -1:
    cdef Field name
    cdef Py_ssize_t size = 0
    if headers is None:
        return varint_size(0)
    for header in headers:
        name.data = PyUnicode_AsUTF8AndSize((<tuple>header)[0], &name.length)
        size += field_size(name) + field_size(header_value((<tuple>header)[1]))
    return size + varint_size(len(headers))


cdef char* put_headers(char* at, object headers) except NULL:
    cdef Field name
    if headers is None:
        return put_varint(at, 0)
    at = put_varint(at, len(headers))
    for header in headers:
        name.data = PyUnicode_AsUTF8AndSize((<tuple>header)[0], &name.length)
        at = put_field(at, name)
        at = put_field(at, header_value((<tuple>header)[1]))
    return at


# ---- memory

@cython.final
cdef class BlockPool:
    """Keeps the memory of full batches for the next ones.

    The system takes large blocks back at once when they are freed, and clears each page anew when
    it gives them out: a good part of what a record costs.
    """

    def __cinit__(self, Py_ssize_t block_size):
        self.block_size = block_size
        self.limit = min(MOST_SPARE_BLOCKS, MOST_SPARE_BYTES // block_size)

    def __dealloc__(self):
        while self.count:
            self.count -= 1
            free(self.blocks[self.count])

    cdef char* take(self) except NULL:
        if self.count:
            self.count -= 1
            return self.blocks[self.count]
        cdef char* block = <char*>malloc(self.block_size)
        if block is NULL:
            raise MemoryError
        return block

    cdef void give(self, char* block) noexcept:
        if self.count >= self.limit:
            free(block)
            return
        self.blocks[self.count] = block
        self.count += 1


@cython.final
cdef class RecordBatch:
    """Records of one partition that travel, succeed or fail together."""

    def __cinit__(self, str topic, int partition, object loop, double created_at):
        self.topic = topic
        self.partition = partition
        self.loop = loop
        self.created_at = created_at
        self.base_offset = -1
        self.log_append_time_ms = -1
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = -1

    def __dealloc__(self):
        self._free_memory()

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
        return HEADER_SIZE + self.size + varint_size(body) + body

    cdef Py_ssize_t append(
        self,
        Field key,
        Field value,
        object headers,
        Py_ssize_t headers_size,
        int64_t timestamp_ms,
        Py_ssize_t limit,
    ) except -1:
        """Encode one record at the end; return the bytes it took. The caller checked the room."""
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
        if self.size + taken > self.capacity:
            self._reserve(self.size + taken, limit)
        cdef char* at = self.memory + self.size
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
        """Take a whole block at once, for a batch that is likely to get full."""
        self.memory = pool.take()
        self.capacity = pool.block_size
        self.pool = pool
        return 0

    cdef int _reserve(self, Py_ssize_t needed, Py_ssize_t limit) except -1:
        # Doubling up to the batch size: an idle partition holds a kilobyte, not a full batch.
        cdef Py_ssize_t capacity = self.capacity * 2 if self.capacity else FIRST_CAPACITY
        if capacity > limit:
            capacity = limit
        if capacity < needed:
            capacity = needed
        if self._resize(capacity) is NULL:
            raise MemoryError
        return 0

    cdef char* _resize(self, Py_ssize_t capacity) noexcept:
        cdef char* memory
        if self.pool is None:
            memory = <char*>realloc(self.memory, capacity)
        else:
            memory = <char*>malloc(capacity)
            if memory is not NULL:
                memcpy(memory, self.memory, self.size)
                self._free_memory()
        if memory is not NULL:
            self.memory = memory
            self.capacity = capacity
        return memory

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

    def close(self):
        """Take no more records; give back the memory that was reserved beyond the last one."""
        # A block from the pool may go on as it is when it is nearly full.
        cdef Py_ssize_t spare = 0 if self.pool is None else self.capacity // 16
        if self.size and self.size + spare < self.capacity:
            self._resize(self.size)

    # ---- sealing

    @property
    def payload_size(self):
        """Bytes of the records as they go over the wire."""
        if self.compressed is not None:
            return PyBytes_GET_SIZE(self.compressed)
        return self.size

    @property
    def records_size(self):
        """Bytes of the encoded records before compression."""
        return self.size

    @property
    def is_compressed(self):
        return self.compressed is not None

    def set_compressed(self, bytes payload, int codec_attributes):
        """Keep `payload` in place of the records when it is smaller; free the larger one."""
        if PyBytes_GET_SIZE(payload) < self.size:
            self.compressed = payload
            self.codec_attributes = codec_attributes
            if self.exports == 0:
                self._free_memory()

    def restore_records(self, bytes records):
        """Undo `set_compressed`, given the decompressed records (before a split or a report)."""
        if PyBytes_GET_SIZE(records) != self.size:
            raise ValueError(f"the records have {self.size} bytes, not {len(records)}")
        if self.memory is NULL:
            # Else somebody still reads them: they are here, and must not move.
            self._reserve(self.size, self.size)
            memcpy(self.memory, PyBytes_AS_STRING(records), self.size)
        self.compressed = None
        self.codec_attributes = 0

    @property
    def payload(self):
        """The records as they go over the wire, without a copy."""
        return self.compressed if self.compressed is not None else memoryview(self)

    def assign_sequence(self, int64_t producer_id, int16_t producer_epoch, int32_t base_sequence):
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.base_sequence = base_sequence

    @property
    def has_sequence(self):
        return self.base_sequence >= 0

    def seal(self, bint is_transactional=False):
        """Build the 61-byte header for this attempt.

        Returns a new object each time: an earlier attempt may still be in a transport's buffer.
        """
        cdef object payload = self.payload
        cdef const unsigned char[::1] records = payload
        cdef Py_ssize_t length = records.shape[0]
        cdef object header = PyBytes_FromStringAndSize(NULL, HEADER_SIZE)
        cdef char* start = PyBytes_AS_STRING(header)
        cdef int attributes = self.codec_attributes | (0x10 if is_transactional else 0)
        cdef char* at = put_int(start, 0, 8)            # base offset: the broker's to set
        at = put_int(at, HEADER_SIZE - LENGTH_AND_EPOCH_END + length, 4)
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
            0, start + CRC_COVERS_FROM, HEADER_SIZE - CRC_COVERS_FROM
        )
        if length:
            crc = aioproducer_crc32c(crc, &records[0], length)
        put_int(start + CRC_AT, crc, 4)
        return header

    # ---- buffer protocol: the encoded records, read-only

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.memory, self.size if self.memory else 0, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exports -= 1
        if self.exports == 0 and (
            self.outcome == DELIVERED or self.outcome == SPLIT or self.compressed is not None
        ):
            self._free_memory()

    cdef void _free_memory(self) noexcept:
        # `size` stays: it is what the records measured.
        if self.pool is None:
            free(self.memory)
        else:
            self.pool.give(self.memory)
            self.pool = None
        self.memory = NULL
        self.capacity = 0

    # ---- reading back

    def records(self):
        """Decode the records: a list of (key, value, headers, timestamp_ms)."""
        cdef const char* at = self.memory
        cdef int64_t timestamp_ms, header_count
        cdef Field key, value, name
        found = []
        if self.memory is NULL:
            return found
        for _ in range(self.record_count):
            take_varint(&at)
            at += 1
            timestamp_ms = self.base_timestamp_ms + take_varint(&at)
            take_varint(&at)
            key = take_field(&at)
            value = take_field(&at)
            header_count = take_varint(&at)
            headers = []
            while header_count > 0:
                name = take_field(&at)
                headers.append((field_bytes(name).decode(), field_bytes(take_field(&at))))
                header_count -= 1
            found.append((field_bytes(key), field_bytes(value), tuple(headers), timestamp_ms))
        return found

    # ---- ending

    @property
    def is_done(self):
        return self.outcome != PENDING

    @property
    def is_delivered(self):
        return self.outcome == DELIVERED

    def complete(self, int64_t base_offset, int64_t log_append_time_ms=-1):
        """The broker stored the records from `base_offset` on (-1: it did not say where)."""
        assert self.outcome == PENDING
        self.outcome = DELIVERED
        # An offset that has no room for the last record behind it is not where they are stored.
        self.base_offset = base_offset if base_offset <= INT64_MAX - self.record_count + 1 else -1
        self.log_append_time_ms = log_append_time_ms
        if self.exports == 0:
            self._free_memory()

    def fail(self, error, dict record_errors=None):
        """No record of this batch is known to be stored. `record_errors` says more of some.

        The encoded records are kept for whoever reports them; they go with the last reference.
        """
        assert self.outcome == PENDING
        self.outcome = FAILED
        self.error = error
        self.record_errors = record_errors

    def split(self, Py_ssize_t limit):
        """Move the records to new batches of at most `limit` bytes each (KIP-126).

        Deliveries, waiters and creation time go along. A record larger than `limit` gets a
        batch of its own.
        """
        assert self.outcome == PENDING
        if self.compressed is not None:
            raise ValueError("restore the records before a split")
        cdef const char* at = self.memory
        cdef const char* end
        cdef int32_t index
        cdef int64_t timestamp_ms
        cdef Py_ssize_t headers_size, needed
        cdef Field key, value
        cdef RecordBatch child = None
        cdef Delivery delivery
        children = []
        for index in range(self.record_count):
            end = at
            needed = take_varint(&end)
            end += needed
            take_varint(&at)
            at += 1
            timestamp_ms = self.base_timestamp_ms + take_varint(&at)
            take_varint(&at)
            key = take_field(&at)
            value = take_field(&at)
            headers_size = end - at
            if (
                child is not None
                and child.size_with(key, value, headers_size, timestamp_ms) > limit
            ):
                child.close()
                child = None
            if child is None:
                child = RecordBatch(self.topic, self.partition, self.loop, self.created_at)
                # A split is no attempt: nothing was tried in the size that is sent next.
                child.attempts = max(self.attempts - 1, 0)
                child.last_error = self.last_error
                child.possibly_persisted = self.possibly_persisted
                children.append((index, child))
            # The encoded headers (count and all) are copied as they are, over append's empty
            # list: one byte is reserved by it, the rest here.
            child.append(key, value, None, headers_size, timestamp_ms, limit)
            memcpy(child.memory + child.size - headers_size, at, headers_size)
            at = end
        if child is not None:
            child.close()
        self.outcome = SPLIT
        self.children = children
        enrolled = self.enrolled
        self.enrolled = None
        if enrolled is not None:
            for delivery in enrolled:
                delivery.is_enrolled = False
                delivery._outcome()
                delivery._enrol()
        if self.exports == 0:
            self._free_memory()
        return [child for _, child in children]

    def wake(self, bint direct):
        """Run whoever waits for a record of this batch.

        `direct` runs them here and now, which is only legal where no task is running: from the
        loop's own callbacks, never from inside a caller's `send`. Otherwise the loop is asked to.
        """
        cdef Delivery delivery
        cdef Py_ssize_t position = 0
        enrolled = self.enrolled
        if enrolled is None:
            return
        self.enrolled = None
        try:
            for position in range(len(enrolled)):
                delivery = <Delivery>enrolled[position]
                delivery._notify(direct)
        except BaseException:
            # KeyboardInterrupt or SystemExit from a task: the others still get their result.
            for position in range(position + 1, len(enrolled)):
                delivery = <Delivery>enrolled[position]
                delivery._notify(False)
            raise

    @property
    def waiter_count(self):
        return 0 if self.enrolled is None else len(self.enrolled)


include "delivery.pxi"
