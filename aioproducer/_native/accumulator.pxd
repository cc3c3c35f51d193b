from libc.stdint cimport int64_t

from aioproducer._native.record_batch cimport BlockPool, Delivery, Field, RecordBatch


cdef class BufferShare:
    cdef readonly int64_t held_bytes


cdef class WaitingRecords:
    cdef readonly TopicQueue topic
    cdef readonly RecordBatch batch
    cdef list records          # (delivery, record, charged bytes), the first ones routed
    cdef Py_ssize_t routed_count


cdef class TopicQueue:
    cdef readonly str name
    cdef list partitions
    cdef readonly object available
    cdef object partition_ids
    cdef readonly object waiting   # a deque of WaitingRecords, oldest first
    cdef bint is_open              # the partitions are known, and nothing waits for them
    cdef PartitionQueue sticky
    cdef int64_t sticky_bytes
    cdef readonly BufferShare anywhere   # holds nothing: who waits for it fits no partition's share
    cdef int tried_for_room              # the partition of `available` that was tried last
    cdef readonly int partition_count


cdef class PartitionQueue:
    cdef readonly TopicQueue topic
    cdef readonly int partition
    cdef readonly RecordBatch open
    cdef readonly object closed
    cdef public Py_ssize_t batch_limit   # bytes; a larger record gets a batch of its own
    cdef public BufferShare share        # that of the broker which leads it
    cdef bint is_touched
    cdef bint fills_batches


cdef class RecordAccumulator:
    cdef readonly object loop
    cdef readonly int64_t buffer_used
    cdef readonly int64_t buffer_memory
    cdef readonly int64_t accepted_count
    cdef readonly int64_t refused_bytes
    cdef readonly object refused_line    # whose order the refused record keeps; see `Admissions`
    cdef readonly BufferShare refused_share   # what had no room for it; None for the buffer itself
    cdef public bint has_blocked         # somebody waits for room
    cdef public bint is_full             # and somebody of them for the buffer itself
    cdef public bint has_brokers         # there are several
    cdef bint has_queues                 # some partition got a record
    cdef readonly dict lines             # for which partitions and topics callers wait; how many
    cdef readonly BufferShare unrouted   # records of topics that are not known yet
    cdef bint is_admitting
    cdef Py_ssize_t batch_size
    cdef Py_ssize_t max_request_size
    cdef dict topics
    cdef TopicQueue last_topic
    cdef object events
    cdef object topic_events
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
    cdef bint _has_room(self, BufferShare share, Py_ssize_t size) noexcept
    cdef PartitionQueue _find_room(
        self, TopicQueue topic, PartitionQueue queue, bint is_sticky, Py_ssize_t size
    )
    cdef int _refuse(self, object line, BufferShare share, Py_ssize_t size) except -1
    cdef TopicQueue _topic(self, str name)
    cdef PartitionQueue _choose(self, TopicQueue topic, object key, object partition)
    cdef PartitionQueue _queue(self, TopicQueue topic, int partition)
    cdef int _route_one(self, TopicQueue topic, Delivery delivery, tuple record) except -1
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
    cdef int _charge(self, RecordBatch batch, BufferShare share, Py_ssize_t size) except -1
    cdef bint takes_turn(self)
