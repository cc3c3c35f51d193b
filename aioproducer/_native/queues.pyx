# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""The queues that a record passes: its topic's, its partition's, its broker's.

    CoreTopic           records that wait for the topic's metadata
    CorePartitionQueue  the batches of one partition: those that wait, in order, and those in flight
    BrokerQueue         the partitions that have a batch for the broker's next request, in turn

They hold the data, and do the steps of a batch that succeeds at once: it is taken and gets its
sequence, its response comes, it is acknowledged. Their Python halves (partition_queue.py,
topics.py) decide about all other batches. No clock, no I/O.

Invariants
* A partition queue is in the ready list of at most one broker, at most once.
* A batch gets its sequence when it is first taken, so in the order of `closed` and `open`.
"""

cimport cython
from libc.stdint cimport int64_t

from aioproducer._native.record_batch cimport RecordBatch
from aioproducer._native.wire cimport TOPIC_ID_BYTES

from collections import deque


cdef extern from "Python.h":
    # Of a deque, its length.
    Py_ssize_t Py_SIZE(object sized) noexcept


cdef enum:
    SEQUENCE_MASK = 0x7FFFFFFF
    HALF_OF_THE_SEQUENCES = 0x40000000
    NO_LEADER = -1
    NO_SEQUENCE = -1

# Seconds. A broker forgets a producer after a day, unless it is configured to do so earlier.
cdef double PROOF_LASTS = 3600.0

cdef str NO_GAP = "none"
cdef bytes NO_TOPIC_ID = bytes(TOPIC_ID_BYTES)


cdef class CoreProducerId:
    """The producer id and epoch of new sequences, where native code reads it.

    Extended in producer_id.py, which gets it. `current` is None while there is none.
    """

    def need(self):
        """Get one."""
        raise NotImplementedError


@cython.final
cdef class BufferShare:
    """What the records for one broker hold of the buffer, counted where they were accepted.

    A batch whose partition gets another leader goes on counting for the one that it had.
    """


cdef class CorePartitionQueue:
    """The batches of one partition: `in_flight`, then `closed`, oldest first, then `open`.

    Extended in partition_queue.py, which has the rules.
    """

    def __init__(self, CoreTopic topic, int partition):
        self.topic = topic
        self.partition = partition
        self.closed = deque()
        self.in_flight = []
        self.share = BufferShare()
        self.leader_node = NO_LEADER
        self.in_flight_node = NO_LEADER
        self.last_acknowledged = NO_SEQUENCE
        self.gap = NO_GAP
        self.id_and_epoch = None

    def __repr__(self):
        return f"<{type(self).__name__} {self.topic.name}-{self.partition}>"

    @property
    def leader(self):
        """The broker to send to, and its epoch."""
        return self.leader_and_epoch

    @leader.setter
    def leader(self, leader):
        self.leader_and_epoch = leader
        self.leader_node = leader[0]
        self.broker = None

    @property
    def id_and_epoch(self):
        """The producer id and epoch of the sequences in use; None without idempotence."""
        return self._id_and_epoch

    @id_and_epoch.setter
    def id_and_epoch(self, id_and_epoch):
        self._id_and_epoch = id_and_epoch
        self.producer_id, self.producer_epoch = (-1, -1) if id_and_epoch is None else id_and_epoch

    @property
    def is_idle(self):
        """Nothing waits and nothing is in flight."""
        return self._is_idle()

    cdef bint _is_idle(self) noexcept:
        return self.open is None and not self.in_flight and not Py_SIZE(self.closed)

    @property
    def head(self):
        """The batch that would be taken next, if it may."""
        return self._head()

    cdef RecordBatch _head(self):
        if Py_SIZE(self.closed):
            return <RecordBatch>self.closed[0]
        return self.open if self.open_is_due else None

    # ---- taking

    def may_take(self, double now, Py_ssize_t most_in_flight, id_and_epoch):
        """Whether `take` would give a batch now.

        Args:
            now: The loop's clock.
            most_in_flight: How many batches of one partition may be in flight.
            id_and_epoch: The producer's; None without idempotence.
        """
        return self._may_take(now, most_in_flight, id_and_epoch)

    cdef bint _may_take(self, double now, Py_ssize_t most_in_flight, object id_and_epoch) except -1:
        cdef RecordBatch head = self._head()
        if head is None or now < self.retry_at or self.leader_node == NO_LEADER:
            return False
        if head.is_compressing:
            return False
        if not self.in_flight:
            return True
        if self.in_flight_node != self.leader_node or self.gap != NO_GAP:
            return False
        if head.times_taken and not self._is_behind_all_in_flight(head):
            return False
        if id_and_epoch is not None:
            if id_and_epoch is not self._id_and_epoch and id_and_epoch != self._id_and_epoch:
                return False
            if not self.is_proven or now - self.proven_at > PROOF_LASTS:
                return False
        return len(self.in_flight) < most_in_flight

    cdef bint _is_behind_all_in_flight(self, RecordBatch batch) except -1:
        cdef RecordBatch last = <RecordBatch>self.in_flight[len(self.in_flight) - 1]
        if batch.base_sequence < 0 or last.base_sequence < 0:
            return False
        return self._steps_to(last.base_sequence) < self._steps_to(batch.base_sequence)

    def close_open(self):
        """Move the open batch to the closed ones, so that it can be sent."""
        cdef RecordBatch batch = self.open
        self.open_is_due = False
        if batch is not None:
            self.open = None
            self.fills_batches = False
            batch.close()
            self.closed.append(batch)

    def take(self, id_and_epoch):
        """Move the head to the batches in flight, with a sequence; only after `may_take`."""
        return self._take(id_and_epoch)

    cdef RecordBatch _take(self, object id_and_epoch):
        cdef RecordBatch batch
        if Py_SIZE(self.closed):
            batch = <RecordBatch>self.closed.popleft()
        else:
            batch = self.open
            self.open = None
            self.open_is_due = False
            self.fills_batches = False
            batch.close()
        if id_and_epoch is not None and batch.base_sequence < 0:
            if id_and_epoch is not self._id_and_epoch and id_and_epoch != self._id_and_epoch:
                self.begin_epoch(id_and_epoch)
            self._number(batch)
        batch.attempts += 1
        batch.times_taken += 1
        batch.is_in_flight = True
        self.in_flight.append(batch)
        self.in_flight_node = self.leader_node
        return batch

    def number(self, RecordBatch batch):
        """Give a batch the next sequence."""
        self._number(batch)

    cdef int _number(self, RecordBatch batch) except -1:
        batch.assign_sequence(self.producer_id, self.producer_epoch, <int>self.next_sequence)
        self.next_sequence = (self.next_sequence + batch.record_count) & SEQUENCE_MASK
        return 0

    def begin_epoch(self, id_and_epoch):
        """Give sequences from 0 on, under an id or epoch of which no broker has proven anything."""
        self.id_and_epoch = id_and_epoch
        self.next_sequence = 0
        self.last_acknowledged = NO_SEQUENCE
        self.is_proven = False
        self.gap = NO_GAP

    # ---- responses

    def request_ended(self, RecordBatch batch):
        """The request that carried `batch` is over, whatever came of it."""
        self._request_ended(batch)

    cdef int _request_ended(self, RecordBatch batch) except -1:
        batch.is_in_flight = False
        if self.in_flight and <RecordBatch>self.in_flight[0] is batch:
            del self.in_flight[0]
        else:
            self.in_flight.remove(batch)
        return 0

    def acknowledged(self, RecordBatch batch):
        """The broker has stored `batch`; call after `request_ended`."""
        self._acknowledged(batch)

    cdef int _acknowledged(self, RecordBatch batch) except -1:
        cdef int64_t last
        if self.in_flight_node == self.leader_node != NO_LEADER:
            self.is_proven = True
            self.proven_at = batch.created_at
        self.moves_in_vain = 0
        self.refusals_at_zero = 0
        if batch.base_sequence < 0 or not self._is_current(batch):
            return 0
        last = (<int64_t>batch.base_sequence + batch.record_count - 1) & SEQUENCE_MASK
        if self.last_acknowledged == NO_SEQUENCE or (
            (self.last_acknowledged - last) & SEQUENCE_MASK
        ) >= HALF_OF_THE_SEQUENCES:
            self.last_acknowledged = last
        return 0

    # ---- sequences

    def is_current(self, RecordBatch batch):
        """Whether a batch has its sequence under the id and epoch in use."""
        return self._is_current(batch)

    cdef bint _is_current(self, RecordBatch batch) noexcept:
        return (
            self._id_and_epoch is not None
            and batch.producer_id == self.producer_id
            and batch.producer_epoch == self.producer_epoch
        )

    @property
    def next_expected(self):
        """The sequence behind the highest that was acknowledged."""
        return self._next_expected()

    cdef int64_t _next_expected(self) noexcept:
        if self.last_acknowledged == NO_SEQUENCE:
            return 0
        return (self.last_acknowledged + 1) & SEQUENCE_MASK

    def steps_to(self, int64_t sequence):
        """How far a sequence lies behind `next_expected`: negative for what stands before it.

        So a wrap at 2^31 keeps the order.
        """
        return self._steps_to(sequence)

    cdef int64_t _steps_to(self, int64_t sequence) noexcept:
        return (
            (sequence - self._next_expected() + HALF_OF_THE_SEQUENCES) & SEQUENCE_MASK
        ) - HALF_OF_THE_SEQUENCES


@cython.final
cdef class WaitingRecords:
    """Records of a topic whose partitions are not known yet; they came together, and give up so.

    `batch` has no records: it is where their deliveries look for an outcome until then.
    """

    def __cinit__(self, CoreTopic topic, RecordBatch batch):
        self.topic = topic
        self.batch = batch
        self.records = []

    @property
    def count(self):
        """How many records still wait."""
        return len(self.records) - self.routed_count - self.withdrawn_count

    def left(self):
        """The records that still wait: (key, value, partition, headers, timestamp_ms) each."""
        return [shown(record) for _, record, _ in self._waiting()]

    cdef list _waiting(self):
        return [entry for entry in self.records[self.routed_count:] if entry is not None]

    cdef bint _skip_withdrawn(self) except -1:
        """Pass over withdrawn records that would be routed next; whether no record is left."""
        while (
            self.routed_count < len(self.records) and self.records[self.routed_count] is None
        ):
            self.routed_count += 1
            self.withdrawn_count -= 1
        return self.routed_count == len(self.records)


cpdef tuple shown(tuple record):
    """A record that waited for metadata, without what only the accumulator needs."""
    key, value, partition, headers, _, timestamp_ms = record
    return key, value, partition, headers, timestamp_ms


cdef class CoreTopic:
    """One topic: its partitions by id, and the records that wait to learn them.

    Extended by the owner of the topics in use with what else it knows of one.
    """

    def __init__(self, str name):
        self.name = name
        self.topic_id = NO_TOPIC_ID
        self.partitions = []
        self.available = ()
        self.waiting = deque()
        self.anywhere = BufferShare()

    @property
    def is_known(self):
        return self.partition_count > 0

    @property
    def waiting_count(self):
        """How many records wait to be given a partition."""
        return sum([waiting.count for waiting in self.waiting])

    @property
    def queues(self):
        return [queue for queue in self.partitions if queue is not None]

    def queue(self, int partition):
        """The queue of a partition; None if it got no record, or there is no such partition."""
        if not 0 <= partition < len(self.partitions):
            return None
        return self.partitions[partition]

    def set_partitions(self, int count, tuple available):
        """Take the number of the topic's partitions, and the ids of those that have a leader.

        A partition gets its queue with its first record: of thousands, few may be written to. A
        queue stays when its partition goes, for the topic may be recreated with more.
        """
        self.partitions.extend([None] * (count - len(self.partitions)))
        self.partition_count = count
        self.partition_ids = range(count)
        self.available = available
        self.is_open = count > 0 and not self.waiting
        if self.sticky is not None and self.sticky.partition not in available:
            self.sticky = None


cdef enum:
    MOST_FIRST_BYTES = 1048576
    LEAST_BYTES = 16384
    # Bytes a second that any link is taken to have until it is measured.
    SLOW_LINK = 524288
    # Bytes from which on a request takes as long as its bytes, and not as its round trip.
    TELLS_THE_RATE = 65536

cdef double SHARE_OF_TIMEOUT = 0.25
# Of the newest measurement in the rate.
cdef double WEIGHT = 0.25
# Seconds: a response that comes sooner after another was read with it, and shows no response time.
cdef double READ_TOGETHER = 1e-4


@cython.final
cdef class InFlightLimit:
    """How many bytes may be in flight to one broker, by how fast it responds.

    A request that gets no response within `request_timeout_ms` costs its connection and is sent
    again, and again; and a batch whose outcome is unknown cannot be split. So the size of what is
    sent has to be right before it is too large:

    1. A broker of which nothing is known gets what a slow link takes in the timeout, some hundred
       kilobytes.
    2. Each response to a large request doubles the limit, as in TCP's slow start.
    3. Large requests show the rate. What is in flight is to get its response in a quarter of the
       timeout.
    4. A timeout cuts the limit to a quarter, down to 16 KiB.

    A batch has half of the limit at most, so that it cannot be what takes too long.

    Args:
        most: Bytes that are never exceeded.
        timeout: `request_timeout_ms`, in seconds.
    """

    def __init__(self, int64_t most, double timeout):
        cdef int64_t first = min(<int64_t>MOST_FIRST_BYTES, <int64_t>(SLOW_LINK * timeout))
        self.bytes = min(max(first, <int64_t>LEAST_BYTES), most)
        self.most = most
        self.timeout = timeout

    @property
    def batch_bytes(self):
        """Bytes that a batch may have, its records not compressed."""
        return self.bytes // 2

    cpdef measure(self, int64_t size, double took):
        """Take the response time of a request.

        Args:
            size: Its bytes.
            took: Seconds since it was sent, or since the response to the one before.
        """
        cdef double rate
        cdef int64_t fitting
        if size < min(<int64_t>TELLS_THE_RATE, self.bytes // 2):
            return
        if took < READ_TOGETHER:
            # Its bytes were on the way as long as those of the next one.
            self.untimed += size
            return
        rate = (size + self.untimed) / took
        self.untimed = 0
        self.rate = rate if self.rate == 0 else self.rate + WEIGHT * (rate - self.rate)
        fitting = min(self.most, <int64_t>(self.rate * self.timeout * SHARE_OF_TIMEOUT))
        fitting = max(min(<int64_t>LEAST_BYTES, self.most), fitting)
        self.bytes = min(self.bytes * 2, fitting)

    def timed_out(self):
        """A request got no response in time."""
        self.rate = 0
        self.bytes = max(min(<int64_t>LEAST_BYTES, self.most), self.bytes // 4)


@cython.final
cdef class BrokerQueue:
    """What goes to one broker next, and what is in flight to it.

    Attributes:
        limit: How many bytes may be in flight.
        share: What the records that it leads hold of the buffer.
        in_flight: Requests without a response; `bytes_in_flight` of all their batches.
        responses_due: How many more responses end the wait of small batches that are held back.
        lingering_count: Partitions whose open batch still waits for more records.
        heard_at: When it last ended a request, or was sent one after all had ended.
        stalled_since: When something waited here first without being taken; None while it flows.
        throttle_timer: Set while the broker's pause keeps something waiting (KIP-219), or the
            pause of a transaction (settling.py).
        is_gone: It left the cluster; a broker of that id that comes gets another queue.
    """

    def __init__(self, int node_id, InFlightLimit limit, throttle_timer):
        self.node_id = node_id
        self.limit = limit
        self.share = BufferShare()
        self.throttle_timer = throttle_timer
        self.lingering = []

    def __repr__(self):
        return f"<BrokerQueue {self.node_id} in_flight={self.in_flight}>"

    @property
    def has_ready(self):
        """Whether some partition has a batch for the next request."""
        return self.first is not None

    @property
    def is_idle(self):
        """Nothing is in flight and nothing waits."""
        return not self.in_flight and self.first is None and not self.lingering_count

    def withdraw(self, CorePartitionQueue queue):
        """Have a partition wait no longer for anything here: it has another leader."""
        self.remove(queue)
        self.end_lingering_of(queue)

    # ---- partitions whose open batch waits for more records

    cdef int let_linger(self, CorePartitionQueue queue) except -1:
        if queue.lingers_at is not self:
            queue.lingers_at = self
            self.lingering_count += 1
            self.lingering.append(queue)
        return 0

    cdef void end_lingering_of(self, CorePartitionQueue queue) noexcept:
        if queue.lingers_at is self:
            queue.lingers_at = None
            self.lingering_count -= 1
            if self.lingering_count == 0:
                # Else it would grow while the broker is away, for nothing is taken from it then.
                self.lingering = []

    cdef list take_lingering(self):
        """Those that linger, who do so no longer."""
        cdef list lingering = self.lingering
        cdef list found = []
        cdef CorePartitionQueue queue
        self.lingering = []
        self.lingering_count = 0
        for queue in lingering:
            # Not those that were withdrawn; and once, however often they came back.
            if queue.lingers_at is self:
                queue.lingers_at = None
                found.append(queue)
        return found

    # ---- the ready list, linked through its partitions

    cdef void add(self, CorePartitionQueue queue) noexcept:
        """Let a partition wait for its turn, behind the others; not twice."""
        if queue.ready_at is not None:
            return
        queue.ready_at = self
        if self.last is None:
            self.first = queue
        else:
            self.last.next = queue
            queue.previous = self.last
        self.last = queue

    cdef void add_first(self, CorePartitionQueue queue) noexcept:
        """Give a partition the first turn, back to the one whose turn it was."""
        queue.ready_at = self
        if self.first is None:
            self.last = queue
        else:
            self.first.previous = queue
            queue.next = self.first
        self.first = queue

    cdef CorePartitionQueue take_first(self):
        cdef CorePartitionQueue queue = self.first
        self.remove(queue)
        return queue

    cdef bint remove(self, CorePartitionQueue queue) noexcept:
        if queue.ready_at is not self:
            return False
        if queue.previous is None:
            self.first = queue.next
        else:
            queue.previous.next = queue.next
        if queue.next is None:
            self.last = queue.previous
        else:
            queue.next.previous = queue.previous
        queue.ready_at = queue.previous = queue.next = None
        return True
