from libc.stdint cimport int64_t, uint8_t

from aioproducer._native.core_connection cimport Awaited
from aioproducer._native.queues cimport BrokerQueue, CorePartitionQueue, CoreTopic
from aioproducer._native.record_batch cimport RecordBatch


cdef struct PlainSuccess:
    # The success of one batch; queue and batch are borrowed from the scanned request.
    void* queue
    void* batch
    int64_t base_offset
    int64_t log_append_time_ms


cdef class SuccessList:
    cdef PlainSuccess* items
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity

    cdef int clear(self, Py_ssize_t most) except -1


cdef class RequestOwner:
    cdef readonly object produce_api
    cdef SuccessList successes

    cdef int complete(self, SentRequest sent) except -1


cdef class SentRequest(Awaited):
    cdef RequestOwner owner
    cdef readonly BrokerQueue broker_queue
    cdef readonly double sent_at
    cdef readonly int64_t size
    cdef readonly list queues        # the partitions; `batches` in the same order
    cdef readonly list batches
    cdef readonly list topics        # in the order of the request
    cdef list topic_ids              # as they were when it was sent
    cdef list counts                 # how many batches of each topic
    cdef dict topics_by_id
    cdef bint is_native              # written by native code, which can scan its response

    cdef int _group(self) except -1
    cdef bint _scan_topics(self, const uint8_t** at, const uint8_t* end) except -1
    cdef bint _scan_partition(
        self, CoreTopic topic, const uint8_t** at, const uint8_t* end
    ) except -1
    cdef CoreTopic _topic(self, Py_ssize_t place, const uint8_t* name, Py_ssize_t size)
    cdef RecordBatch _batch_of(self, CorePartitionQueue queue)
