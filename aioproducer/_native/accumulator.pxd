from libc.stdint cimport int64_t

from aioproducer._native.record_batch cimport BlockPool, Delivery, Field, RecordBatch


cdef class TopicQueue:
    cdef readonly str name
    cdef list partitions
    cdef readonly object available
    cdef object partition_ids
    cdef object unrouted
    cdef readonly RecordBatch waiting_room
    cdef PartitionQueue sticky
    cdef int64_t sticky_bytes
    cdef readonly int partition_count


cdef class PartitionQueue:
    cdef readonly TopicQueue topic
    cdef readonly int partition
    cdef readonly RecordBatch open
    cdef readonly object closed
    cdef bint is_touched
    cdef bint fills_batches


cdef class RecordAccumulator:
    cdef readonly object loop
    cdef readonly int64_t buffer_used
    cdef readonly int64_t buffer_memory
    cdef readonly int64_t accepted_count
    cdef readonly int64_t refused_bytes
    cdef public bint has_blocked
    cdef Py_ssize_t batch_size
    cdef Py_ssize_t max_request_size
    cdef dict topics
    cdef TopicQueue last_topic
    cdef object events
    cdef object clock
    cdef BlockPool pool
    cdef object partitioner
    cdef bint ignore_keys
    cdef bint is_turn_scheduled
    cdef int turn_records
    cdef list touched

    cdef Delivery accept(
        self,
        str topic_name,
        object key,
        object value,
        object partition,
        object headers,
        object timestamp_ms,
        object on_delivery,
    )
    cdef TopicQueue _topic(self, str name)
    cdef PartitionQueue _choose(self, TopicQueue topic, object key, object partition)
    cdef PartitionQueue _queue(self, TopicQueue topic, int partition)
    cdef bint _is_sticky(
        self, TopicQueue topic, PartitionQueue queue, object key, object partition
    ) noexcept
    cdef Delivery _append(
        self,
        PartitionQueue queue,
        bint is_sticky,
        Field key,
        Field value,
        object headers,
        Py_ssize_t headers_size,
        int64_t timestamp_ms,
        object on_delivery,
        Delivery delivery,
    )
    cdef RecordBatch _open(self, PartitionQueue queue)
    cdef int _close(self, PartitionQueue queue) except -1
    cdef bint takes_turn(self)
