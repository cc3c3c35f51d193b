from libc.stdint cimport int64_t

from aioproducer._native.record_batch cimport RecordBatch


cdef class CoreProducerId:
    cdef public object current


cdef class BufferShare:
    cdef readonly int64_t held_bytes


cdef class WaitingRecords:
    cdef readonly CoreTopic topic
    cdef readonly RecordBatch batch
    cdef list records          # (delivery, record, charged bytes), the first ones routed
    cdef Py_ssize_t routed_count
    cdef Py_ssize_t withdrawn_count   # of those that are not routed: None in `records`

    cdef bint _skip_withdrawn(self) except -1
    cdef list _waiting(self)


cpdef tuple shown(tuple record)


cdef class CoreTopic:
    cdef readonly str name
    cdef public bytes topic_id     # zeros while it has none (before Kafka 2.8)
    cdef public double used_at     # when it last got a record
    cdef public Py_ssize_t batch_limit   # learnt from refusals; 0: not known
    cdef list partitions
    cdef readonly object available
    cdef object partition_ids
    cdef readonly object waiting   # a deque of WaitingRecords, oldest first
    cdef bint is_open              # the partitions are known, and no record waits for them
    cdef CorePartitionQueue sticky
    cdef int64_t sticky_bytes
    cdef readonly BufferShare anywhere   # empty: for callers that fit into no partition's share
    cdef int tried_for_space              # the partition of `available` that was tried last
    cdef readonly int partition_count


cdef class CorePartitionQueue:
    cdef readonly CoreTopic topic
    cdef readonly int partition
    # What waits
    cdef readonly RecordBatch open
    cdef readonly object closed          # a deque
    cdef public bint open_is_due         # the open batch need not wait for more records
    cdef public Py_ssize_t batch_limit   # bytes; a larger record gets a batch of its own
    cdef public BufferShare share        # that of the leader's broker queue
    cdef public double linger_at
    cdef public double retry_at          # when the head of `closed` may be retried
    cdef bint is_touched
    cdef bint fills_batches
    # In flight, and the leader
    cdef readonly list in_flight         # oldest first
    cdef public int in_flight_node
    cdef object leader_and_epoch
    cdef readonly int leader_node
    cdef BrokerQueue broker              # the leader's, once it was looked up
    cdef public bint failures_logged
    cdef public int moves_in_vain
    cdef double expires_at               # when its batches are next checked for expiry; 0: never
    cdef BrokerQueue lingers_at          # where its open batch waits for more records
    # The links of the list of active partition queues
    cdef bint is_active
    cdef CorePartitionQueue previous_active
    cdef CorePartitionQueue next_active
    # Sequences
    cdef object _id_and_epoch
    cdef int64_t producer_id
    cdef int producer_epoch
    cdef public int64_t next_sequence
    cdef public int64_t last_acknowledged
    cdef public bint is_proven
    cdef public double proven_at
    cdef public str gap
    cdef public int refusals_at_zero
    # The links of the ready list that it is in
    cdef BrokerQueue ready_at
    cdef CorePartitionQueue previous
    cdef CorePartitionQueue next

    cdef RecordBatch _head(self)
    cdef bint _is_idle(self) noexcept
    # What `def` methods of a similar name show to Python is called from native code directly: a
    # `cpdef` method of a class that Python extends is looked up on each call.
    cdef bint _may_take(self, double now, Py_ssize_t most_in_flight, object id_and_epoch) except -1
    cdef bint _is_behind_all_in_flight(self, RecordBatch batch) except -1
    cdef bint _is_current(self, RecordBatch batch) noexcept
    cdef int64_t _next_expected(self) noexcept
    cdef int64_t _steps_to(self, int64_t sequence) noexcept
    cdef RecordBatch _take(self, object id_and_epoch)
    cdef int _number(self, RecordBatch batch) except -1
    cdef int _request_ended(self, RecordBatch batch) except -1
    cdef int _acknowledged(self, RecordBatch batch) except -1


cdef class InFlightLimit:
    cdef readonly int64_t bytes
    cdef int64_t most
    cdef double timeout
    cdef double rate
    cdef int64_t untimed

    cpdef measure(self, int64_t size, double took)


cdef class BrokerQueue:
    cdef readonly int node_id
    cdef readonly InFlightLimit limit
    cdef readonly BufferShare share
    cdef readonly object throttle_timer
    cdef public int in_flight            # requests without a response
    cdef public int64_t bytes_in_flight  # of all their batches
    cdef public double heard_at
    cdef double cut_at                   # when a timeout last cut the limit
    cdef public object stalled_since
    cdef public int responses_due
    cdef double response_time            # in seconds, as the loop sees it: a mean of the last ones
    cdef double held_since               # when the first of `lingering` was held back
    cdef object hold_timer
    cdef public bint is_gone
    cdef object connection               # the last one used
    cdef bint is_holding                 # small batches are held back
    cdef bint is_offered
    cdef list lingering                  # partitions; those that no longer do stay until it ends
    cdef readonly Py_ssize_t lingering_count
    cdef CorePartitionQueue first
    cdef CorePartitionQueue last

    cdef int let_linger(self, CorePartitionQueue queue) except -1
    cdef void end_lingering_of(self, CorePartitionQueue queue) noexcept
    cdef list take_lingering(self)
    cdef void add(self, CorePartitionQueue queue) noexcept
    cdef void add_first(self, CorePartitionQueue queue) noexcept
    cdef CorePartitionQueue take_first(self)
    cdef bint remove(self, CorePartitionQueue queue) noexcept
