# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""Writes Produce requests (versions 9 to 13) without copying large batches.

Owns the scratch memory that all requests share. A request is a list of pieces: small parts are
written into the scratch, large records are pointed to in their batch's memory.

Invariant
* Nothing reads the scratch or the pieces once `CoreConnection.send_pieces` has returned. What the
  socket did not take of the scratch was copied; the records' memory is kept by its owner.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from aioproducer._native.core_connection cimport CoreConnection, iovec
from aioproducer._native.produce_response cimport SentRequest
from aioproducer._native.queues cimport CoreTopic
from aioproducer._native.record_batch cimport RecordBatch
from aioproducer._native.wire cimport (
    BATCH_HEADER_BYTES,
    FIRST_WITH_TOPIC_IDS,
    TOPIC_ID_BYTES,
    put_int,
    put_uvarint,
)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    # Up to so many bytes of records are copied into the scratch: cheaper than a piece.
    WORTH_COPYING = 2048
    TRANSACTIONAL = 0x10


@cython.final
cdef class RequestWriter:
    """Writes the requests of one producer.

    Args:
        client_id: The producer's `client_id`.
        transactional_id: The producer's, whose batches are then transactional; or None.
        acks: The producer's `acks`; -1 for all.
        timeout_ms: Milliseconds that the broker may wait for its replicas.
    """

    def __cinit__(self, bytes client_id, bytes transactional_id, int acks, int timeout_ms):
        self.client_id = client_id
        self.transactional_id = transactional_id
        self.attributes = 0 if transactional_id is None else TRANSACTIONAL
        self.acks = acks
        self.timeout_ms = timeout_ms
        self.scratch_size = 4096
        self.scratch = <char*>malloc(self.scratch_size)
        self.most_pieces = 64
        self.pieces = <iovec*>malloc(self.most_pieces * sizeof(iovec))
        if self.scratch is NULL or self.pieces is NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.scratch)
        free(self.pieces)

    cdef int write(self, SentRequest sent, CoreConnection connection) except -1:
        """Write a request to its connection."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(self.client_id)
        cdef Py_ssize_t position = 0
        cdef Py_ssize_t topic_at
        cdef Py_ssize_t left
        cdef Py_ssize_t count = 0
        cdef Py_ssize_t external = 0       # bytes outside the scratch
        cdef CoreTopic topic
        cdef RecordBatch batch
        cdef const char* records
        cdef list owners = []
        cdef char* at = self._reserve(self.scratch, 64 + length)
        cdef Py_ssize_t used = 0           # bytes of the scratch that a piece covers
        at = put_int(at, 0, 4)                       # the size, below
        at = put_int(at, 0, 2)                       # Produce
        at = put_int(at, sent.version, 2)
        at = put_int(at, sent.correlation_id, 4)
        at = put_int(at, length, 2)
        memcpy(at, PyBytes_AS_STRING(self.client_id), length)
        at += length
        at = put_int(at, 0, 1)                       # no tags
        if self.transactional_id is None:
            at = put_int(at, 0, 1)
        else:
            length = PyBytes_GET_SIZE(self.transactional_id)
            at = self._reserve(at, 64 + length)
            at = put_uvarint(at, length + 1)
            memcpy(at, PyBytes_AS_STRING(self.transactional_id), length)
            at += length
        at = put_int(at, self.acks, 2)
        at = put_int(at, self.timeout_ms, 4)
        at = put_uvarint(at, len(sent.topics) + 1)
        for topic_at in range(len(sent.topics)):
            topic = <CoreTopic>sent.topics[topic_at]
            if sent.version >= FIRST_WITH_TOPIC_IDS:
                at = self._reserve(at, 32)
                memcpy(at, PyBytes_AS_STRING(<bytes>sent.topic_ids[topic_at]), TOPIC_ID_BYTES)
                at += TOPIC_ID_BYTES
            else:
                records = PyUnicode_AsUTF8AndSize(topic.name, &length)
                at = self._reserve(at, 32 + length)
                at = put_uvarint(at, length + 1)
                memcpy(at, records, length)
                at += length
            left = <Py_ssize_t>sent.counts[topic_at]
            at = put_uvarint(at, left + 1)
            while left:
                left -= 1
                batch = <RecordBatch>sent.batches[position]
                batch.sent_in = sent
                position += 1
                records = batch._payload()
                length = batch._payload_size()
                at = self._reserve(at, 96 + (length if length <= WORTH_COPYING else 0))
                at = put_int(at, batch.partition, 4)
                at = put_uvarint(at, BATCH_HEADER_BYTES + length + 1)
                at = batch.put_header(
                    at, records, length, batch.codec_attributes | self.attributes
                )
                if length <= WORTH_COPYING:
                    memcpy(at, records, length)
                    at += length
                else:
                    # NULL stands for the scratch, which `_reserve` may still move.
                    self._add_piece(count, NULL, at - self.scratch - used)
                    self._add_piece(count + 1, records, length)
                    count += 2
                    used = at - self.scratch
                    external += length
                    owners.append(None)
                    owners.append(
                        batch.memory if batch.compressed is None else batch.compressed
                    )
                at = put_int(at, 0, 1)               # no tags of the partition
            at = put_int(self._reserve(at, 2), 0, 1)   # ... of the topic
        at = put_int(self._reserve(at, 2), 0, 1)       # ... of the request
        self._add_piece(count, NULL, at - self.scratch - used)
        count += 1
        owners.append(None)
        put_int(self.scratch, at - self.scratch + external - 4, 4)
        at = self.scratch
        for position in range(count):
            if self.pieces[position].iov_base is NULL:
                self.pieces[position].iov_base = at
                at += self.pieces[position].iov_len
        connection.send_pieces(self.pieces, <int>count, owners)
        return 0

    cdef char* _reserve(self, char* at, Py_ssize_t more) except NULL:
        """Provide `more` bytes behind `at`; returns the new `at`, as the scratch may move."""
        cdef Py_ssize_t used = at - self.scratch
        cdef char* memory
        if used + more > self.scratch_size:
            memory = <char*>realloc(self.scratch, 2 * (used + more))
            if memory is NULL:
                raise MemoryError
            self.scratch_size = 2 * (used + more)
            self.scratch = memory
        return self.scratch + used

    cdef int _add_piece(self, Py_ssize_t place, const char* data, Py_ssize_t size) except -1:
        cdef iovec* pieces
        if place == self.most_pieces:
            pieces = <iovec*>realloc(self.pieces, 2 * self.most_pieces * sizeof(iovec))
            if pieces is NULL:
                raise MemoryError
            self.most_pieces *= 2
            self.pieces = pieces
        self.pieces[place].iov_base = <void*>data
        self.pieces[place].iov_len = size
        return 0
