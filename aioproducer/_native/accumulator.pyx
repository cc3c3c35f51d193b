# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""Collects serialized records into batches, one open batch per partition.

Owns the open batch of each partition, the records that wait for metadata, and the buffer space.

Invariants
* A partition's records stand in the order of their acceptance: `closed`, then `open`, then those
  that wait for metadata.
* `buffer_used` counts the bytes of all records accepted and not yet released; it never exceeds
  `buffer_memory`.
* Where there are several brokers, the records for one of them hold at most three times the bytes
  that are free: one silent broker leaves a quarter of the buffer to the others, two leave a seventh
  (Choudhury and Hahne's dynamic thresholds). So do records whose topic is not known yet.
* No record overtakes a waiting caller (`WaitingCallers`). If the buffer was full for that caller,
  none is accepted; if a share was, none for the same partition, or the same unknown topic.
* A record that was routed is in a batch or has failed, whatever the partitioner does.
* Work per record is O(1): no loop over topics, partitions or tasks.
* `events` is called once per batch, or per 128 KiB of an open one; `topic_events` makes topics and
  queues, and is called when metadata is needed. None of these calls runs user code.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint32_t

from aioproducer._native.clock cimport Clock
from aioproducer._native.queues cimport (
    BufferShare,
    CorePartitionQueue,
    CoreTopic,
    WaitingRecords,
    shown,
)
from aioproducer._native.record_batch cimport (
    BlockPool,
    Delivery,
    DeliveryDeadlines,
    Field,
    RecordBatch,
    measure_headers,
    moved_on,
    watch_also,
)
from aioproducer._native.wire cimport BATCH_HEADER_BYTES

from operator import index

from aioproducer.errors import InvalidPartitionError, RecordTooLargeError
from aioproducer.records import TopicPartition


cdef extern from *:
    """
    #include <time.h>
    #if defined(CLOCK_REALTIME_COARSE)
    #define RECORD_CLOCK CLOCK_REALTIME_COARSE
    #else
    #define RECORD_CLOCK CLOCK_REALTIME
    #endif
    static long long wall_clock_ms(void)
    {
        struct timespec now;
        clock_gettime(RECORD_CLOCK, &now);
        return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    }
    """
    # The coarse clock ticks every few milliseconds and costs a fifth of the fine one.
    int64_t wall_clock_ms() noexcept

cdef enum:
    # Attributes, the length, two deltas and three counts at their longest.
    RECORD_OVERHEAD = 36
    # Smaller ones the system's allocator keeps at hand itself.
    LEAST_BLOCK = 16384
    # From here on a larger request saves little; a broker that has nothing to do costs more.
    WORTH_A_REQUEST = 131072
    # How many records `await send()` accepts in one turn of the loop before it lets others run.
    RECORDS_PER_TURN = 2000
    # What a topic that is not known yet takes beside its records, so that a stream of names that
    # are used once is bounded by `buffer_memory`, too.
    WAITING_OVERHEAD = 2048

    # A share may hold so many times what is free.
    SHARE_OF_FREE = 3
    # For how many partitions of a topic, in turn, space is looked for at once.
    TRIED_FOR_SPACE = 16

# Seconds for which records that wait for metadata share one bound.
cdef double WAITING_SPAN = 0.1


cpdef uint32_t murmur2(bytes data):
    """Kafka's 32-bit murmur2 (org.apache.kafka.common.utils.Utils.murmur2)."""
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(data)
    cdef uint32_t m = 0x5BD1E995
    cdef uint32_t h = <uint32_t>0x9747B28C ^ <uint32_t>length
    cdef uint32_t k
    while length >= 4:
        k = at[0] | (<uint32_t>at[1] << 8) | (<uint32_t>at[2] << 16) | (<uint32_t>at[3] << 24)
        k *= m
        k ^= k >> 24
        k *= m
        h *= m
        h ^= k
        at += 4
        length -= 4
    if length == 3:
        h ^= <uint32_t>at[2] << 16
    if length >= 2:
        h ^= <uint32_t>at[1] << 8
    if length >= 1:
        h ^= at[0]
        h *= m
    h ^= h >> 13
    h *= m
    h ^= h >> 15
    return h


def pass_on(interrupt):
    """Raise what ends the program from the loop, once all state is consistent."""
    raise interrupt


cdef inline Field field_of(object data) noexcept:
    cdef Field field
    if data is None:
        field.data = NULL
        field.length = -1
    else:
        field.data = PyBytes_AS_STRING(data)
        field.length = PyBytes_GET_SIZE(data)
    return field


@cython.final
cdef class RecordAccumulator:
    """Takes records, hands out batches, counts bytes."""

    def __init__(
        self,
        *,
        loop,
        events,
        topic_events,
        Clock clock,
        Py_ssize_t batch_size,
        Py_ssize_t max_request_size,
        int64_t buffer_memory,
        partitioner=None,
        bint ignore_keys=False,
    ):
        self.loop = loop
        self.events = events
        self.topic_events = topic_events
        self.clock = clock
        self.batch_size = batch_size
        self.pool = BlockPool(batch_size) if batch_size >= LEAST_BLOCK else None
        self.max_request_size = max_request_size
        self.buffer_memory = buffer_memory
        self.partitioner = partitioner
        self.ignore_keys = ignore_keys
        self.topics = {}
        self.touched = []
        self.lines = {}
        self.unrouted = BufferShare()
        self.full_shares = set()
        self.deadlines = DeliveryDeadlines()

    # ---- accepting

    cdef Delivery accept(
        self, str topic_name, object key, object value, object partition, object headers,
        object timestamp_ms, object on_delivery,
    ):
        """Take one serialized record; None when there is no buffer space for it.

        `key` and `value` are bytes or None, `headers` a checked list or tuple or None,
        `on_delivery` None or a function and the context to call it in.
        """
        cdef CoreTopic topic = self.last_topic
        if topic is None or topic.name is not topic_name:
            topic = self._topic(topic_name)
        cdef Field key_field = field_of(key)
        cdef Field value_field = field_of(value)
        cdef Py_ssize_t headers_size = 1 if headers is None else measure_headers(headers)
        cdef Py_ssize_t size = RECORD_OVERHEAD + headers_size
        if key is not None:
            size += key_field.length
        if value is not None:
            size += value_field.length
        if size + BATCH_HEADER_BYTES > self.max_request_size:
            self._refuse_size(topic_name, partition, size + BATCH_HEADER_BYTES)
        size += BATCH_HEADER_BYTES
        if size > self.buffer_memory:
            self._refuse_size(topic_name, partition, size)
        cdef int64_t timestamp = wall_clock_ms() if timestamp_ms is None else timestamp_ms
        if not topic.is_open:
            # Charged with a batch of its own: it may get one.
            if (self.has_blocked or not self._has_space(self.unrouted, size)) and (
                not self._may_wait_for_metadata(topic, size)
            ):
                return None
            return self._wait_for_metadata(
                topic, (key, value, partition, headers, headers_size, timestamp), size, on_delivery
            )
        cdef CorePartitionQueue queue = self._choose(topic, key, partition)
        cdef bint is_sticky = self._is_sticky(topic, queue, key, partition)
        if self.has_blocked or not self._has_space(queue.share, size):
            queue = self._find_space(topic, queue, is_sticky, size)
            if queue is None:
                return None
        return self._append(
            queue, is_sticky, key_field, value_field, headers, headers_size, timestamp,
            on_delivery, None,
        )

    cdef Py_ssize_t measure(
        self, str topic_name, object key, object value, object partition, object headers
    ) except -1:
        """The bytes that a record may take; refused if these are too many. In any thread."""
        cdef Py_ssize_t size = RECORD_OVERHEAD + BATCH_HEADER_BYTES
        size += 1 if headers is None else measure_headers(headers)
        if key is not None:
            size += PyBytes_GET_SIZE(key)
        if value is not None:
            size += PyBytes_GET_SIZE(value)
        if size > self.max_request_size or size > self.buffer_memory:
            self._refuse_size(topic_name, partition, size)
        return size

    cdef bint may_have_partition(self, str topic_name, object partition) except -1:
        """Whether a topic is in use; refused if it has no such partition. In any thread."""
        cdef CoreTopic topic = self.last_topic
        if topic is None or topic.name is not topic_name:
            topic = self.topics.get(topic_name)
            if topic is None:
                return False
        if partition is not None and 0 < topic.partition_count <= <int64_t>partition:
            self._refuse_partition(topic, partition)
        return True

    cdef bint _has_space(self, BufferShare share, Py_ssize_t size) noexcept:
        cdef int64_t free = self.buffer_memory - self.buffer_used
        if size > free or (self.full_shares and share in self.full_shares):
            return False
        if not (self.has_queues if share is self.unrouted else self.has_brokers):
            # There is nobody else to leave anything to.
            return True
        return share.held_bytes + size <= SHARE_OF_FREE * free

    cdef bint _takes(self, CorePartitionQueue queue, Py_ssize_t size) except -1:
        """Whether a record that has its space elsewhere may go to another partition."""
        if self.lines and not self._is_nobody_before(queue):
            return False
        return self._has_space(queue.share, size)

    cdef CorePartitionQueue _find_space(
        self, CoreTopic topic, CorePartitionQueue queue, bint is_sticky, Py_ssize_t size
    ):
        """The queue that a record may go to; None when it has to wait.

        A record that may go to any partition waits for no single broker.
        """
        cdef CorePartitionQueue other
        cdef bint fits = size <= self.buffer_memory - self.buffer_used
        if fits and self._is_nobody_before(topic):
            if self._is_nobody_before(queue) and self._has_space(queue.share, size):
                return queue
            if not is_sticky:
                self._refuse(queue, queue.share, size)
                return None
            for _ in range(min(TRIED_FOR_SPACE, <Py_ssize_t>len(topic.available))):
                topic.tried_for_space = (topic.tried_for_space + 1) % <int>len(topic.available)
                other = self._queue(topic, topic.available[topic.tried_for_space])
                if self._is_nobody_before(other) and self._has_space(other.share, size):
                    topic.sticky = other
                    topic.sticky_bytes = 0
                    return other
            self._refuse(topic, topic.anywhere, size)
            return None
        self._refuse(topic if is_sticky else queue, None, size)
        return None

    def _may_wait_for_metadata(self, CoreTopic topic, Py_ssize_t size):
        cdef bint fits = size <= self.buffer_memory - self.buffer_used
        if fits and self._is_nobody_before(topic) and self._has_space(self.unrouted, size):
            return True
        self._refuse(topic, self.unrouted if fits else None, size)
        return False

    def _is_nobody_before(self, line):
        """Whether no earlier caller waits for space for the same partition, topic, or any."""
        return self.is_admitting or not (self.is_full or line in self.lines)

    cdef int _refuse(self, object line, BufferShare share, Py_ssize_t size) except -1:
        self.refused_line = line
        self.refused_share = None if self.is_full and not self.is_admitting else share
        self.refused_bytes = size
        return 0

    def share_of(self, line):
        """What a caller of a line waits for, if it is no buffer space itself."""
        if isinstance(line, CorePartitionQueue):
            return line.share
        cdef CoreTopic topic = <CoreTopic?>line
        return topic.anywhere if topic.is_open else self.unrouted

    def accept_record(
        self, str topic, key, value, partition, headers, timestamp_ms, on_delivery, deadline=None
    ):
        """`accept` for the first of those who wait for the same space.

        `deadline` is None, or when the record must have been sent, and how long after its call.
        """
        cdef Delivery delivery
        # Nobody else is admitted meanwhile: with acks=0 the record may be done on return, and space
        # for others. And a partitioner may send.
        cdef bint has_blocked = self.has_blocked
        cdef bint was_admitting = self.is_admitting
        self.has_blocked = False
        self.is_admitting = True
        try:
            delivery = self.accept(
                topic, key, value, partition, headers, timestamp_ms, on_delivery
            )
        finally:
            self.is_admitting = was_admitting
            # Or somebody has come to wait meanwhile, called by a partitioner.
            self.has_blocked = self.has_blocked or has_blocked
        if delivery is not None and deadline is not None:
            self.deadlines.add(deadline[0], deadline[1], delivery)
        return delivery

    def refused_partition(self, partition):
        """The partition to keep for the record just refused: a partitioner is asked once."""
        if self.partitioner is None or partition is not None:
            return partition
        if isinstance(self.refused_line, CorePartitionQueue):
            return self.refused_line.partition
        return None

    def _refuse_size(self, topic, partition, size):
        limit, option = self.max_request_size, "max_request_size"
        if self.buffer_memory < limit:
            limit, option = self.buffer_memory, "buffer_memory"
        raise RecordTooLargeError(
            f"the record for topic {topic!r} is {size} bytes when serialized, more than the"
            f" {limit} that {option} allows",
            topic_partition=None if partition is None else TopicPartition(topic, partition),
            size=size,
            limit=limit,
            limit_name=option,
            hint=f"Send it in parts, or raise {option} and the topic's max.message.bytes.",
        )

    cdef CoreTopic _topic(self, str name):
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = self.topic_events.new_topic(name)
        self.last_topic = topic
        return topic

    def _wait_for_metadata(self, CoreTopic topic, tuple record, Py_ssize_t size, on_delivery):
        cdef double now = self.clock.now()
        cdef WaitingRecords waiting = None
        cdef Delivery delivery
        if topic.waiting:
            waiting = topic.waiting[len(topic.waiting) - 1]
        if waiting is None or now - waiting.batch.created_at > WAITING_SPAN:
            waiting = WaitingRecords(topic, RecordBatch(topic.name, -1, self.loop, now))
            topic.waiting.append(waiting)
            topic.is_open = False
            try:
                self.topic_events.metadata_needed(waiting)
            except BaseException:
                # An interrupt: none that has no record may stay, for `route` takes the first.
                topic.waiting.remove(waiting)
                topic.is_open = topic.partition_count > 0 and not topic.waiting
                raise
            # As far as there is space: a small buffer takes records of unknown topics, too.
            size += min(WAITING_OVERHEAD, self.buffer_memory - self.buffer_used - size)
        delivery = Delivery.__new__(Delivery)
        delivery.batch = waiting.batch
        delivery.index = <int32_t>len(waiting.records)
        delivery.timestamp_ms = record[5]
        if on_delivery is not None:
            delivery.on_delivery = on_delivery
            delivery._enrol()
        self.buffer_used += size
        self.unrouted.held_bytes += size
        self.accepted_count += 1
        waiting.records.append((delivery, record, size))
        return delivery

    cdef CorePartitionQueue _choose(self, CoreTopic topic, object key, object partition):
        cdef int32_t chosen
        if partition is not None:
            chosen = partition
        elif self.partitioner is not None:
            chosen = self._ask_partitioner(topic, key)
        elif key is not None and not self.ignore_keys:
            chosen = (murmur2(key) & 0x7FFFFFFF) % topic.partition_count
        else:
            if topic.sticky is None:
                self._switch_sticky(topic)
            return topic.sticky
        if not 0 <= chosen < topic.partition_count:
            self._refuse_partition(topic, chosen)
        return self._queue(topic, chosen)

    def _ask_partitioner(self, CoreTopic topic, key):
        try:
            chosen = self.partitioner(topic.name, key, topic.partition_ids, topic.available)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            wrapped = self.topic_events.routing_error(topic, error)
            if wrapped is error:
                raise
            raise wrapped from error
        try:
            # Not int(): 1.7 is no partition. A numpy integer is one.
            partition = index(chosen)
        except TypeError:
            partition = -1
        if not 0 <= partition < topic.partition_count:
            self._refuse_partition(topic, chosen)
        return partition

    cdef CorePartitionQueue _queue(self, CoreTopic topic, int partition):
        cdef CorePartitionQueue queue
        found = topic.partitions[partition]
        if found is None:
            queue = topic.partitions[partition] = self.topic_events.new_queue(topic, partition)
            if queue.batch_limit == 0:
                queue.batch_limit = self.batch_size
            self.has_queues = True
            return queue
        return <CorePartitionQueue>found

    cdef bint _is_sticky(
        self, CoreTopic topic, CorePartitionQueue queue, object key, object partition
    ) noexcept:
        # Not all that goes to the sticky partition may follow when it changes: a key, or a
        # partition that the caller named, may lead to the same one.
        return (
            queue is topic.sticky and partition is None and (key is None or self.ignore_keys)
        )

    def _refuse_partition(self, CoreTopic topic, chosen):
        raise InvalidPartitionError(
            f"topic {topic.name!r} has {topic.partition_count} partitions, 0 to"
            f" {topic.partition_count - 1}; there is no partition {chosen!r}",
            partition_count=topic.partition_count,
            topic_partition=TopicPartition(topic.name, chosen) if type(chosen) is int else None,
        )

    def _switch_sticky(self, CoreTopic topic):
        topic.sticky = self._queue(topic, self.topic_events.next_sticky_partition(topic))
        topic.sticky_bytes = 0

    cdef Delivery _append(
        self, CorePartitionQueue queue, bint is_sticky, Field key, Field value, object headers,
        Py_ssize_t headers_size, int64_t timestamp_ms, object on_delivery, Delivery delivery,
    ):
        # `delivery` is that of a record that waited for metadata; else one is made.
        cdef RecordBatch batch = queue.open
        cdef CoreTopic topic = queue.topic
        cdef Py_ssize_t taken
        while (
            batch is not None
            and batch.size_with(key, value, headers_size, timestamp_ms) > queue.batch_limit
        ):
            self._close(queue)
            if is_sticky and topic.sticky_bytes >= self.batch_size:
                self._switch_sticky(topic)
                if delivery is None and not self._takes(
                    topic.sticky,
                    RECORD_OVERHEAD + headers_size + max(key.length, 0) + max(value.length, 0)
                    + BATCH_HEADER_BYTES,
                ):
                    # There callers wait, or its broker's share is full: this record has its space
                    # here. The next one is asked anew.
                    is_sticky = False
                else:
                    queue = topic.sticky
            batch = queue.open
        if batch is None:
            batch = self._open(queue)
            topic.sticky_bytes += BATCH_HEADER_BYTES if is_sticky else 0
        elif self.wants_every_turn and not self.is_turn_scheduled:
            self.events.schedule_turn()
            self.is_turn_scheduled = True
        taken = batch.append(key, value, headers, headers_size, timestamp_ms, queue.batch_limit)
        batch.charged_bytes += taken
        (<BufferShare>batch.share).held_bytes += taken
        self.buffer_used += taken
        self.accepted_count += 1
        # Before a full batch is closed: with acks=0 it may be done, and all notified, on return.
        if delivery is None:
            delivery = batch.deliver_last(timestamp_ms, on_delivery)
        else:
            delivery._move_to(batch, batch.record_count - 1)
        if BATCH_HEADER_BYTES + batch.size >= queue.batch_limit:
            self._close(queue)
        elif batch.size >= batch.announce_at:
            batch.announce_at += WORTH_A_REQUEST
            self.events.batch_grew(queue)
        if is_sticky:
            # KIP-794: leave a partition after batch_size bytes, where a batch ends; after twice
            # as many in any case.
            topic.sticky_bytes += taken
            if topic.sticky_bytes >= self.batch_size and (
                queue.open is None or topic.sticky_bytes >= 2 * self.batch_size
            ):
                self._switch_sticky(topic)
        return delivery

    cdef RecordBatch _open(self, CorePartitionQueue queue):
        if not self.is_turn_scheduled:
            self.events.schedule_turn()
            self.is_turn_scheduled = True
        cdef RecordBatch batch = RecordBatch.__new__(RecordBatch)
        batch.begin(queue.topic.name, queue.partition, self.loop, self.clock.now())
        if queue.fills_batches and self.pool is not None and queue.batch_limit == self.batch_size:
            batch.use_block(self.pool)
        batch.announce_at = WORTH_A_REQUEST
        self._charge(batch, queue.share, BATCH_HEADER_BYTES)
        queue.open = batch
        if not queue.is_touched:
            queue.is_touched = True
            self.touched.append(queue)
        return batch

    cdef int _close(self, CorePartitionQueue queue) except -1:
        queue.close_open()
        queue.fills_batches = True
        self.events.batch_closed(queue)
        return 0

    cdef bint takes_turn(self):
        """True when `await send()` should let the rest of the loop run first."""
        self.turn_records += 1
        if self.turn_records < RECORDS_PER_TURN:
            return False
        self.turn_records = 0
        return True

    # ---- for the sender

    cpdef list take_touched(self):
        """The queues in which a batch was opened since the last call; ends the turn."""
        cdef CorePartitionQueue queue
        cdef list touched = self.touched
        self.touched = []
        self.is_turn_scheduled = False
        self.turn_records = 0
        for queue in touched:
            queue.is_touched = False
        return touched

    def route(self, CoreTopic topic, Py_ssize_t limit):
        """Give at most `limit` waiting records of a topic their partition, oldest first.

        Returns the waiting records of which none is left; and of each record that got no partition
        a failed batch, for the caller to wake, and the record.
        """
        cdef WaitingRecords waiting
        cdef Delivery delivery
        cdef Py_ssize_t size
        cdef BaseException interrupt = None
        over = []
        failed = []
        while topic.waiting and topic.partition_count and limit > 0:
            waiting = topic.waiting[0]
            if waiting._skip_withdrawn():
                topic.waiting.popleft()
                waiting.batch.enrolled = None
                moved_on(waiting.batch)
                over.append(waiting)
                continue
            delivery, record, size = waiting.records[waiting.routed_count]
            # First, so that nothing that is raised below leaves the record behind.
            waiting.records[waiting.routed_count] = None
            waiting.routed_count += 1
            limit -= 1
            self.buffer_used -= size
            self.unrouted.held_bytes -= size
            self.accepted_count -= 1   # it is counted again where it is appended
            try:
                self._route_one(topic, delivery, record)
            except BaseException as error:
                if isinstance(error, (KeyboardInterrupt, SystemExit)):
                    interrupt = error
                self.accepted_count += 1
                failed.append((self._refuse_waiting(topic, delivery, record[2], error), record))
            if waiting.routed_count == len(waiting.records):
                topic.waiting.popleft()
                waiting.batch.enrolled = None
                moved_on(waiting.batch)
                over.append(waiting)
        topic.is_open = topic.partition_count > 0 and not topic.waiting
        if interrupt is not None:
            self.loop.call_soon(pass_on, interrupt)
        return over, [(refused, shown(record)) for refused, record in failed]

    cdef int _route_one(self, CoreTopic topic, Delivery delivery, tuple record) except -1:
        key, value, partition, headers, headers_size, timestamp_ms = record
        cdef CorePartitionQueue queue = self._choose(topic, key, partition)
        self._append(
            queue, self._is_sticky(topic, queue, key, partition), field_of(key), field_of(value),
            headers, headers_size, timestamp_ms, None, delivery,
        )
        return 0

    def _refuse_waiting(self, CoreTopic topic, Delivery delivery, partition, error):
        cdef RecordBatch refused = RecordBatch(
            topic.name, -1 if partition is None else partition, self.loop, 0.0
        )
        refused.record_count = 1
        refused.fail(self.topic_events.routing_error(topic, error))
        delivery._move_to(refused, 0)
        return refused

    def withdraw_waiting(self, WaitingRecords waiting, Py_ssize_t position, RecordBatch failed):
        """Give one of the records that wait the outcome of `failed`; returns the record."""
        cdef Delivery delivery
        cdef Py_ssize_t size
        delivery, record, size = waiting.records[position]
        waiting.records[position] = None
        waiting.withdrawn_count += 1
        self.buffer_used -= size
        self.unrouted.held_bytes -= size
        failed.record_count = 1
        # The other records go on waiting.
        watch_also(waiting.batch, failed)
        delivery._move_to(failed, 0)
        return shown(record)

    def fail_waiting(self, WaitingRecords waiting, error):
        """Fail the records that still wait of those that came together; the caller wakes them."""
        cdef Py_ssize_t size
        for _, _, size in waiting._waiting():
            self.buffer_used -= size
            self.unrouted.held_bytes -= size
        waiting.topic.waiting.remove(waiting)
        waiting.topic.is_open = waiting.topic.partition_count > 0 and not waiting.topic.waiting
        waiting.batch.record_count = <int32_t>waiting.count
        waiting.batch.fail(error)
        waiting.records = []
        waiting.routed_count = waiting.withdrawn_count = 0

    cdef int _charge(self, RecordBatch batch, BufferShare share, Py_ssize_t size) except -1:
        batch.share = share
        batch.charged_bytes = size
        if share is not None:
            share.held_bytes += size
        self.buffer_used += size
        return 0

    cpdef release(self, RecordBatch batch):
        """Give the bytes of a finished batch back to the buffer."""
        cdef BufferShare share = batch.share
        if share is not None:
            share.held_bytes -= batch.charged_bytes
        self.buffer_used -= batch.charged_bytes
        batch.charged_bytes = 0

    def recharge(self, RecordBatch parent, list children):
        """Move what a split batch was charged to its children."""
        cdef RecordBatch child
        cdef BufferShare share = parent.share
        # Once for all of them: the headers of the others come on top of what was accepted, and
        # might not fit.
        cdef Py_ssize_t overhead = BATCH_HEADER_BYTES
        self.release(parent)
        for child in children:
            self._charge(child, share, overhead + child.size)
            overhead = 0

    def forget_topic(self, str name):
        """Drop an idle topic."""
        self.topics.pop(name, None)
        if self.last_topic is not None and self.last_topic.name == name:
            self.last_topic = None

    def topic(self, str name):
        """The queue of a topic, made if there is none yet."""
        return self._topic(name)

    @property
    def topics_by_name(self):
        return self.topics
