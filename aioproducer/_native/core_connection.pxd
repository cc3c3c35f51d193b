from libc.stdint cimport int32_t, uint8_t


cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len


cdef class Awaited:
    """A request that waits for its response."""

    cdef readonly int32_t correlation_id
    cdef readonly int version
    cdef readonly double deadline

    cdef bint scan(self, const uint8_t* frame, Py_ssize_t size) except -1
    cdef int complete(self) except -1


cdef class CoreConnection:
    cdef public bint is_open
    cdef public bint is_writable
    cdef public bint is_leaving
    cdef public double throttled_until
    cdef public double last_used_at
    cdef public int produce_version
    cdef readonly object pending
    cdef public int32_t correlation_id      # of the request that was sent last
    cdef public int32_t response_id
    cdef double heard_at
    cdef int fd
    cdef bint has_backlog
    cdef bint has_partial_frame
    cdef double deadline_known
    cdef object time
    cdef readonly object writer
    cdef bytearray memory
    cdef object view

    cdef int32_t next_correlation_id(self) noexcept
    cpdef expect(self, object request, double deadline, double now)
    cdef int send_pieces(self, iovec* pieces, int count, list owners) except -1
    cdef Py_ssize_t _write_now(self, iovec* pieces, int count) except -2
    cdef int _complete_first(self, Awaited request) except -1
    cdef int _take(self, const uint8_t* data, Py_ssize_t size) except -1
