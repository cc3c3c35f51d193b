# cython: language_level=3
"""The memory of a batch's encoded records, and a pool of blocks for it.

Invariants
* Only its batch writes to a `RecordMemory` or moves it, and only before anybody can read it: until
  `close`, or within `restore_records`. After that it never changes.
* A reader (a socket, a compressor in a thread, the report of undelivered records) holds the
  `RecordMemory`, by a reference or a buffer. `__dealloc__` alone frees the memory or gives it back
  to the pool: after the batch and the last reader have dropped it.

Why the batch cannot give its memory back itself (KAFKA-19012):
1. The socket takes half of a request. For the other half, the transport keeps a view of the memory.
2. The batch expires, fails, and drops its reference.
3. The next batch takes a block from the pool. It is another block: the view keeps this one.
4. The transport writes the other half and drops the view. Now the block goes to the pool.
Java gave the block back at step 2 and wrote the records of step 3, at step 4, to a wrong topic.
"""

cdef enum:
    MOST_SPARE_BYTES = 8388608


@cython.final
cdef class BlockPool:
    """Keeps the memory of full batches for the next ones.

    The C library returns a large block to the system when it is freed, and the system clears each
    page of the next one: a good part of a record's cost.
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
    """The encoded records of one batch: see the module's invariants."""

    def __dealloc__(self):
        self._give_back()

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.size, 1, flags)

    cdef int use_block(self, BlockPool pool) except -1:
        """Take a whole block from the pool, for a batch that is likely to get full."""
        self.data = pool.take()
        self.capacity = pool.block_size
        self.pool = pool
        return 0

    cdef int resize(self, Py_ssize_t capacity, Py_ssize_t used) except -1:
        """Provide `capacity` bytes, and keep the first `used`. Nobody else may read them yet."""
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
