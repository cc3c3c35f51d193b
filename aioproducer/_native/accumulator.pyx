# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""The record accumulator: serialized records in, batches per partition out.

Called by `SendPath` once per record; drained by sender.py. It owns the open batch of every
partition, the records whose topic is not known yet, and the count of buffered bytes.

Invariants
* The records of a partition stand in the order in which they were accepted: unrouted, then
  `closed` from left to right, then `open`.
* `buffer_used` is the sum of the bytes of all records accepted and not yet released, never more
  than `buffer_memory`. Nothing is accepted past a caller who waits for room (`has_blocked`).
* Work per record is O(1): no walk over topics, partitions or tasks.
* `events` (the sender) hears once per batch: `batch_closed(queue)` when one is full,
  `end_of_turn()` at the end of a loop turn in which a batch was opened; and `batch_grew(queue)`
  each time an open one has grown by 128 KiB. It never runs user code from any of them.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint32_t

from aioproducer._native.record_batch cimport (
    BlockPool,
    Delivery,
    Field,
    RecordBatch,
    measure_headers,
)

from collections import deque

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
    BATCH_OVERHEAD = 61
    # Attributes, the length, two deltas and three counts at their longest.
    RECORD_OVERHEAD = 36
    # Smaller ones the system's allocator keeps at hand itself.
    LEAST_BLOCK = 16384
    # From here on a larger request saves little; a broker that has nothing to do costs more.
    WORTH_A_REQUEST = 131072
    # How many records `await send()` accepts in one turn of the loop before it lets others run.
    RECORDS_PER_TURN = 2000

# Seconds for which records of an unknown topic share one bound.
cdef double ROOM_SPAN = 0.1


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


cdef inline Field field_of(object data) noexcept:
    cdef Field field
    if data is None:
        field.data = NULL
        field.length = -1
    else:
        field.data = PyBytes_AS_STRING(data)
        field.length = PyBytes_GET_SIZE(data)
    return field


cdef class PartitionQueue:
    """The batches of one partition that are not in flight: `closed`, oldest first, then `open`.

    sender.py extends it with what it knows of the partition.
    """

    def __init__(self, TopicQueue topic, int partition):
        self.topic = topic
        self.partition = partition
        self.closed = deque()

    def __repr__(self):
        return f"<{type(self).__name__} {self.topic.name}-{self.partition}>"

    def close_open(self):
        """Move the open batch to the closed ones, so that it can be sent."""
        cdef RecordBatch batch = self.open
        if batch is not None:
            self.open = None
            self.fills_batches = False
            batch.close()
            self.closed.append(batch)


@cython.final
cdef class TopicQueue:
    """One topic: its partitions by id, or the records that wait to learn them."""

    def __init__(self, str name):
        self.name = name
        self.partitions = []
        self.available = ()
        self.unrouted = deque()

    @property
    def is_known(self):
        return self.partition_count > 0

    @property
    def unrouted_count(self):
        return len(self.unrouted)

    @property
    def queues(self):
        return [queue for queue in self.partitions if queue is not None]

    def set_partitions(self, int count, tuple available):
        """Take the number of the topic's partitions, and the ids of those that have a leader.

        A partition gets its queue with its first record: of thousands, few may be written to. A
        queue stays when its partition goes, for the topic may be made again with more.
        """
        self.partitions.extend([None] * (count - len(self.partitions)))
        self.partition_count = count
        self.partition_ids = range(count)
        self.available = available
        if self.sticky is not None and self.sticky.partition not in available:
            self.sticky = None


@cython.final
cdef class RecordAccumulator:
    """Takes records, hands out batches, counts bytes."""

    def __init__(
        self,
        *,
        loop,
        events,
        clock,
        Py_ssize_t batch_size,
        Py_ssize_t max_request_size,
        int64_t buffer_memory,
        partitioner=None,
        bint ignore_keys=False,
    ):
        self.loop = loop
        self.events = events
        self.clock = clock
        self.batch_size = batch_size
        self.pool = BlockPool(batch_size) if batch_size >= LEAST_BLOCK else None
        self.max_request_size = max_request_size
        self.buffer_memory = buffer_memory
        self.partitioner = partitioner
        self.ignore_keys = ignore_keys
        self.topics = {}
        self.touched = []

    # ---- accepting

    cdef Delivery accept(
        self, str topic_name, object key, object value, object partition, object headers,
        object timestamp_ms, object on_delivery,
    ):
        """Take one serialized record; None when there is no room for it.

        `key` and `value` are bytes or None, `headers` a checked list or tuple or None.
        """
        cdef TopicQueue topic = self.last_topic
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
        if size + BATCH_OVERHEAD > self.max_request_size:
            self._refuse_size(topic_name, partition, size + BATCH_OVERHEAD)
        if self.has_blocked or self.buffer_used + size + BATCH_OVERHEAD > self.buffer_memory:
            if size + BATCH_OVERHEAD > self.buffer_memory:
                self._refuse_size(topic_name, partition, size + BATCH_OVERHEAD)
            self.refused_bytes = size + BATCH_OVERHEAD
            return None
        cdef int64_t timestamp = wall_clock_ms() if timestamp_ms is None else timestamp_ms
        if topic.partition_count == 0:
            # Charged with a batch of its own: it may get one.
            return self._hold(
                topic,
                (key, value, partition, headers, headers_size, timestamp),
                size + BATCH_OVERHEAD,
                on_delivery,
            )
        cdef PartitionQueue queue = self._choose(topic, key, partition)
        return self._append(
            queue, self._is_sticky(topic, queue, key, partition), key_field, value_field, headers,
            headers_size, timestamp, on_delivery, None,
        )

    def accept_record(
        self, str topic, key, value, partition, headers, timestamp_ms, on_delivery
    ):
        """`accept` for callers who waited for room: passes those who still wait."""
        cdef bint has_blocked = self.has_blocked
        self.has_blocked = False
        try:
            return self.accept(
                topic, key, value, partition, headers, timestamp_ms, on_delivery
            )
        finally:
            self.has_blocked = has_blocked

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

    cdef TopicQueue _topic(self, str name):
        topic = self.topics.get(name)
        if topic is None:
            self.events.check_topic_name(name)
            topic = self.topics[name] = TopicQueue(name)
        self.last_topic = topic
        return topic

    def _hold(self, TopicQueue topic, tuple record, Py_ssize_t size, on_delivery):
        # The topic's partitions are not known: keep the record, in order, until they are.
        cdef double now = self.clock()
        cdef Delivery delivery
        if topic.waiting_room is None or now - topic.waiting_room.created_at > ROOM_SPAN:
            # Records that came at about the same time wait, and give up, together.
            topic.waiting_room = RecordBatch(topic.name, -1, self.loop, now)
            self.events.topic_needed(topic, topic.waiting_room)
        delivery = Delivery.__new__(Delivery)
        delivery.batch = topic.waiting_room
        delivery.timestamp_ms = record[5]
        if on_delivery is not None:
            delivery.on_delivery = on_delivery
            delivery._enrol()
        self.buffer_used += size
        self.accepted_count += 1
        topic.unrouted.append((delivery, record, size))
        return delivery

    cdef PartitionQueue _choose(self, TopicQueue topic, object key, object partition):
        cdef int32_t chosen
        if partition is not None:
            chosen = partition
        elif self.partitioner is not None:
            try:
                chosen = self.partitioner(topic.name, key, topic.partition_ids, topic.available)
            except Exception as error:
                wrapped = self.events.routing_error(topic, error)
                if wrapped is error:
                    raise
                raise wrapped from error
        elif key is not None and not self.ignore_keys:
            chosen = (murmur2(key) & 0x7FFFFFFF) % topic.partition_count
        else:
            if topic.sticky is None:
                self._switch_sticky(topic)
            return topic.sticky
        if not 0 <= chosen < topic.partition_count:
            self._refuse_partition(topic, chosen)
        return self._queue(topic, chosen)

    cdef PartitionQueue _queue(self, TopicQueue topic, int partition):
        queue = topic.partitions[partition]
        if queue is None:
            queue = topic.partitions[partition] = self.events.new_queue(topic, partition)
        return <PartitionQueue>queue

    cdef bint _is_sticky(
        self, TopicQueue topic, PartitionQueue queue, object key, object partition
    ) noexcept:
        # Not all that goes to the sticky partition may follow when it changes: a key, or a
        # partition that the caller named, may lead to the same one.
        return (
            queue is topic.sticky and partition is None and (key is None or self.ignore_keys)
        )

    def _refuse_partition(self, TopicQueue topic, chosen):
        raise InvalidPartitionError(
            f"topic {topic.name!r} has {topic.partition_count} partitions, 0 to"
            f" {topic.partition_count - 1}; there is no partition {chosen}",
            partition_count=topic.partition_count,
            topic_partition=TopicPartition(topic.name, chosen),
        )

    def _switch_sticky(self, TopicQueue topic):
        topic.sticky = self._queue(topic, self.events.next_sticky_partition(topic))
        topic.sticky_bytes = 0

    cdef Delivery _append(
        self, PartitionQueue queue, bint is_sticky, Field key, Field value, object headers,
        Py_ssize_t headers_size, int64_t timestamp_ms, object on_delivery, Delivery delivery,
    ):
        # `delivery` is that of a record that was held; else one is made.
        cdef RecordBatch batch = queue.open
        cdef TopicQueue topic = queue.topic
        cdef Py_ssize_t taken
        while (
            batch is not None
            and batch.size_with(key, value, headers_size, timestamp_ms) > self.batch_size
        ):
            self._close(queue)
            if is_sticky and topic.sticky_bytes >= self.batch_size:
                self._switch_sticky(topic)
                queue = topic.sticky
            batch = queue.open
        if batch is None:
            batch = self._open(queue)
            topic.sticky_bytes += BATCH_OVERHEAD if is_sticky else 0
        taken = batch.append(key, value, headers, headers_size, timestamp_ms, self.batch_size)
        batch.charged_bytes += taken
        self.buffer_used += taken
        self.accepted_count += 1
        # Before a full batch is closed: with acks=0 it may be done, and all told, on return.
        if delivery is None:
            delivery = batch.deliver_last(timestamp_ms, on_delivery)
        else:
            delivery._move_to(batch, batch.record_count - 1)
        if BATCH_OVERHEAD + batch.size >= self.batch_size:
            self._close(queue)
        elif batch.size >= batch.told_at:
            batch.told_at += WORTH_A_REQUEST
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

    cdef RecordBatch _open(self, PartitionQueue queue):
        if not self.is_turn_scheduled:
            self.events.schedule_turn()
            self.is_turn_scheduled = True
        cdef RecordBatch batch = RecordBatch(
            queue.topic.name, queue.partition, self.loop, self.clock()
        )
        if queue.fills_batches and self.pool is not None:
            batch.use_block(self.pool)
        batch.charged_bytes = BATCH_OVERHEAD
        batch.told_at = WORTH_A_REQUEST
        self.buffer_used += BATCH_OVERHEAD
        queue.open = batch
        if not queue.is_touched:
            queue.is_touched = True
            self.touched.append(queue)
        return batch

    cdef int _close(self, PartitionQueue queue) except -1:
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

    def take_touched(self):
        """The queues in which a batch was opened since the last call; ends the turn."""
        cdef PartitionQueue queue
        touched = self.touched
        self.touched = []
        self.is_turn_scheduled = False
        self.turn_records = 0
        for queue in touched:
            queue.is_touched = False
        return touched

    def route(self, TopicQueue topic):
        """Give each held record of a topic its partition, in order.

        Returns the failed batches of records that have none, for the caller to wake.
        """
        cdef Delivery held
        cdef PartitionQueue queue
        cdef RecordBatch refused
        failed = []
        unrouted = topic.unrouted
        topic.unrouted = deque()
        topic.waiting_room = None
        for held, (key, value, partition, headers, headers_size, timestamp_ms), size in unrouted:
            self.buffer_used -= size
            held.batch.enrolled = None
            try:
                queue = self._choose(topic, key, partition)
            except Exception as error:
                refused = RecordBatch(
                    topic.name, -1 if partition is None else partition, self.loop, 0.0
                )
                refused.fail(self.events.routing_error(topic, error))
                held._move_to(refused, 0)
                failed.append(refused)
                continue
            self.accepted_count -= 1   # it was counted when it was held
            self._append(
                queue, self._is_sticky(topic, queue, key, partition), field_of(key),
                field_of(value), headers, headers_size, timestamp_ms, None, held,
            )
        return failed

    def fail_room(self, TopicQueue topic, RecordBatch room, error):
        """Fail the held records of one waiting room, the oldest; the caller wakes it."""
        cdef Delivery delivery
        while topic.unrouted:
            delivery, _, size = topic.unrouted[0]
            if delivery.batch is not room:
                break
            topic.unrouted.popleft()
            self.buffer_used -= size
        if topic.waiting_room is room:
            topic.waiting_room = None
        room.fail(error)

    def rooms(self, TopicQueue topic):
        """The waiting rooms of a topic's held records, oldest first."""
        cdef Delivery delivery
        found = []
        for delivery, _, _ in topic.unrouted:
            if not found or found[len(found) - 1] is not delivery.batch:
                found.append(delivery.batch)
        return found

    def release(self, RecordBatch batch):
        """Give the bytes of a finished batch back to the buffer."""
        self.buffer_used -= batch.charged_bytes
        batch.charged_bytes = 0

    def recharge(self, RecordBatch parent, list children):
        """Move what a split batch was charged to its children."""
        cdef RecordBatch child
        # Once for all of them: the headers of the others come on top of what was accepted, and
        # might not fit.
        cdef Py_ssize_t overhead = BATCH_OVERHEAD
        self.release(parent)
        for child in children:
            child.charged_bytes = overhead + child.size
            self.buffer_used += child.charged_bytes
            overhead = 0

    def forget_topic(self, str name):
        """Drop an idle topic."""
        self.topics.pop(name, None)
        if self.last_topic is not None and self.last_topic.name == name:
            self.last_topic = None

    def held_records(self, TopicQueue topic):
        """The held records of a topic: (key, value, partition, headers, timestamp_ms)."""
        return [
            (key, value, partition, headers, timestamp_ms)
            for _, (key, value, partition, headers, _, timestamp_ms), _ in topic.unrouted
        ]

    @property
    def topic_queues(self):
        return self.topics
