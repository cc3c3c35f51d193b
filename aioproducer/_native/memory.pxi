# cython: language_level=3
"""The memory of a batch's encoded records, and a pool of blocks for it.

Included by record_batch.pyx. Whoever reads the records (a socket, a compressor in a thread, a
report of what was not delivered) holds the `RecordMemory`, by a buffer or by a reference; the
memory is given back when the last of them lets go, never while it is read (KAFKA-19012).
"""

cdef enum:
    MOST_SPARE_BYTES = 8388608


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
@cython.no_gc
@cython.freelist(256)
cdef class RecordMemory:
    """Grows while its batch is open; afterwards it can be read, and never changes."""

    def __dealloc__(self):
        self._give_back()

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.size, 1, flags)

    cdef int use_block(self, BlockPool pool) except -1:
        """Take a whole block at once, for a batch that is likely to get full."""
        self.data = pool.take()
        self.capacity = pool.block_size
        self.pool = pool
        return 0

    cdef int resize(self, Py_ssize_t capacity, Py_ssize_t used) except -1:
        """Have room for `capacity` bytes, of which the first `used` are kept."""
        cdef char* data
        if self.pool is None:
            data = <char*>realloc(self.data, capacity)
            if data is NULL:
                raise MemoryError
        else:
            data = <char*>malloc(capacity)
            if data is NULL:
                raise MemoryError
            memcpy(data, self.data, used)
            self._give_back()
        self.data = data
        self.capacity = capacity
        return 0

    cdef void _give_back(self) noexcept:
        if self.pool is None:
            free(self.data)
        else:
            self.pool.give(self.data)
            self.pool = None
        self.data = NULL
