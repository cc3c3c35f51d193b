from libc.stdint cimport int64_t

from aioproducer._native.clock cimport Clock
from aioproducer._native.queues cimport BufferShare, CorePartitionQueue, CoreTopic
from aioproducer._native.record_batch cimport (
    BlockPool,
    Delivery,
    DeliveryDeadlines,
    Field,
    RecordBatch,
)


cdef class RecordAccumulator:
    cdef readonly object loop
    cdef readonly int64_t buffer_used
    cdef readonly int64_t buffer_memory
    cdef readonly int64_t accepted_count
    cdef readonly int64_t refused_bytes
    cdef readonly object refused_line    # the key in `WaitingCallers` of the refused record
    cdef readonly BufferShare refused_share   # the share that was full; None: the buffer was
    cdef public bint has_blocked         # some caller waits for buffer space
    cdef public bint is_full             # ... because the buffer itself was full
    cdef public bint has_brokers         # there are several brokers
    cdef bint has_queues                 # a partition got a record
    cdef readonly dict lines             # how many callers wait, by partition or topic
    cdef readonly DeliveryDeadlines deadlines
    cdef readonly BufferShare unrouted   # records of topics that are not known yet
    cdef readonly set full_shares        # of those, who take nothing in this pass of admitting
    cdef readonly bint is_admitting      # the first waiting caller is being tried
    cdef Py_ssize_t batch_size
    cdef Py_ssize_t max_request_size
    cdef dict topics
    cdef CoreTopic last_topic
    cdef object events
    cdef object topic_events
    cdef Clock clock
    cdef BlockPool pool
    cdef object partitioner
    cdef bint ignore_keys
    cdef bint is_turn_scheduled
    cdef bint wants_every_turn           # also a turn that opens no batch
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
    cdef Py_ssize_t measure(
        self, str topic_name, object key, object value, object partition, object headers
    ) except -1
    cdef bint may_have_partition(self, str topic_name, object partition) except -1
    cdef bint _has_space(self, BufferShare share, Py_ssize_t size) noexcept
    cdef bint _takes(self, CorePartitionQueue queue, Py_ssize_t size) except -1
    cdef CorePartitionQueue _find_space(
        self, CoreTopic topic, CorePartitionQueue queue, bint is_sticky, Py_ssize_t size
    )
    cdef int _refuse(self, object line, BufferShare share, Py_ssize_t size) except -1
    cdef CoreTopic _topic(self, str name)
    cdef CorePartitionQueue _choose(self, CoreTopic topic, object key, object partition)
    cdef CorePartitionQueue _queue(self, CoreTopic topic, int partition)
    cdef int _route_one(self, CoreTopic topic, Delivery delivery, tuple record) except -1
    cdef bint _is_sticky(
        self, CoreTopic topic, CorePartitionQueue queue, object key, object partition
    ) noexcept
    cdef Delivery _append(
        self,
        CorePartitionQueue queue,
        bint is_sticky,
        Field key,
        Field value,
        object headers,
        Py_ssize_t headers_size,
        int64_t timestamp_ms,
        object on_delivery,
        Delivery delivery,
    )
    cdef RecordBatch _open(self, CorePartitionQueue queue)
    cpdef list take_touched(self)
    cpdef release(self, RecordBatch batch)
    cdef int _close(self, CorePartitionQueue queue) except -1
    cdef int _charge(self, RecordBatch batch, BufferShare share, Py_ssize_t size) except -1
    cdef bint takes_turn(self)
