from libc.stdint cimport int64_t

from aioproducer._native.accumulator cimport RecordAccumulator
from aioproducer._native.clock cimport Clock
from aioproducer._native.core_connection cimport CoreConnection
from aioproducer._native.produce_request cimport RequestWriter
from aioproducer._native.produce_response cimport RequestOwner, SentRequest
from aioproducer._native.queues cimport (
    BrokerQueue,
    BufferShare,
    CorePartitionQueue,
    CoreProducerId,
)
from aioproducer._native.record_batch cimport RecordBatch


cdef class Counters:
    cdef public int64_t records_delivered
    cdef public int64_t records_failed
    cdef public int64_t batches_sent
    cdef public int64_t batches_retried
    cdef public int64_t batches_split
    cdef public int64_t requests_sent
    cdef public int64_t bytes_sent
    cdef public int64_t epochs_bumped
    cdef readonly int64_t bytes_delivered   # of the buffer, as their batches were charged
    cdef readonly double delivered_at


cdef class BrokerQueues(RequestOwner):
    cdef readonly RecordAccumulator accumulator
    cdef readonly Counters counters
    cdef readonly dict by_node            # by node id
    cdef CorePartitionQueue first_active  # of those with a batch that is not done
    cdef CorePartitionQueue last_active
    cdef readonly BufferShare leaderless      # for records of partitions without leader
    cdef public bint is_closing
    cdef object decisions
    cdef CoreProducerId producer_id
    cdef object flushes
    cdef list flushes_under_way
    cdef object loop
    cdef Clock clock
    cdef object nested_turn
    cdef bint is_draining
    cdef bint is_idempotent
    cdef public bint adds_partitions      # to a transaction, before anything is sent to them
    cdef public int64_t transaction       # the number of the current one; 0: there is none
    cdef public int newest_produce        # the newest version of Produce that may be spoken
    cdef double paused_until              # nothing is sent before
    cdef bint compresses
    cdef bint is_slow
    cdef int acks
    cdef Py_ssize_t most_in_flight
    cdef Py_ssize_t batch_size
    cdef Py_ssize_t max_request_size
    cdef double linger
    cdef double request_timeout
    cdef double delivery_timeout
    cdef bint is_waking
    cdef list offered
    cdef list holding                     # broker queues whose small batches are held back
    cdef int64_t accepted_before
    cdef int quiet_turns                  # turns in a row without a record
    cdef double crowd                     # records recently under way at once
    cdef RequestWriter writer
    cdef double mark_at                   # two looks at what was delivered, for the rate
    cdef int64_t mark_bytes
    cdef double earlier_mark_at
    cdef int64_t earlier_mark_bytes

    cdef bint _must_add(self, CorePartitionQueue queue) noexcept
    cdef bint _lacks_producer_id(self) except -1
    cdef BrokerQueue _broker_of(self, CorePartitionQueue queue)
    cdef int _add_active(self, CorePartitionQueue queue) except -1
    cdef int _remove_active(self, CorePartitionQueue queue) except -1
    cdef int _activate(self, CorePartitionQueue queue) except -1
    cpdef set_batch_limit(self, CorePartitionQueue queue)
    cdef int _make_due(self, CorePartitionQueue queue, double now) except -1
    cdef int _end_lingering(self, BrokerQueue broker, double now) except -1
    cdef int _end_turn(self) except -1
    cdef int _look_at_held(self, double now) except -1
    cdef double _held_until(self, BrokerQueue broker) noexcept
    cdef int64_t _outstanding(self) noexcept
    cdef int _offer(self, CorePartitionQueue queue, double now) except -1
    cdef int _drain(self, BrokerQueue broker) except -1
    cpdef drain_offered(self)
    cdef CoreConnection _free_connection(self, BrokerQueue broker, double now)
    cdef SentRequest _collect(self, BrokerQueue broker, double now)
    cdef bint _is_worth_native(self, SentRequest sent, CoreConnection connection) except -1
    cdef int _send(self, SentRequest sent, CoreConnection connection, double now) except -1
    cdef int _request_over(self, SentRequest sent, double now, bint has_response) except -1
    cdef int _count_delivered(self, RecordBatch batch, double now) except -1
    cdef int _mark(self, double now) except -1
    cpdef request_done(self, BrokerQueue broker, list queues)
    cpdef wake(self, list done, bint direct)
