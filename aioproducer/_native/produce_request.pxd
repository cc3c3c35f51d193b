from aioproducer._native.core_connection cimport CoreConnection, iovec
from aioproducer._native.produce_response cimport SentRequest


cdef class RequestWriter:
    cdef bytes client_id
    cdef bytes transactional_id
    cdef int attributes        # of every batch, beside its codec
    cdef int acks
    cdef int timeout_ms
    cdef char* scratch
    cdef Py_ssize_t scratch_size
    cdef iovec* pieces
    cdef Py_ssize_t most_pieces

    cdef int write(self, SentRequest sent, CoreConnection connection) except -1
    cdef char* _reserve(self, char* at, Py_ssize_t more) except NULL
    cdef int _add_piece(self, Py_ssize_t place, const char* data, Py_ssize_t size) except -1
