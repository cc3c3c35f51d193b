# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""A Produce request in flight, and the scan of its response (versions 9 to 13).

A plain success says of each batch of the request, once, that it was stored, and nothing else: no
error, no throttle time, no other leader.

Invariants
* The scan reads within the bounds of the frame.
* If the response is anything else than a plain success, the scan changes nothing, and the generic
  codec decodes the frame.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp

from aioproducer._native.core_connection cimport Awaited
from aioproducer._native.queues cimport CorePartitionQueue, CoreTopic
from aioproducer._native.record_batch cimport PENDING, RecordBatch
from aioproducer._native.wire cimport (
    FIRST_WITH_TOPIC_IDS,
    TOPIC_ID_BYTES,
    get_uint16,
    get_uint32,
    get_uint64,
)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    LEAST_PARTITION = 33    # the least bytes of a partition in a response


# Each `take` function moves `at` behind what it read. It returns False if a plain success has
# something else there, or if the frame ends.

cdef inline bint take_uvarint(
    const uint8_t** at, const uint8_t* end, uint32_t* value
) noexcept nogil:
    cdef int shift = 0
    value[0] = 0
    while at[0] < end and shift < 35:
        value[0] |= <uint32_t>(at[0][0] & 0x7F) << shift
        at[0] += 1
        if (at[0] - 1)[0] < 0x80:
            return True
        shift += 7
    return False


cdef inline bint take_count(const uint8_t** at, const uint8_t* end, uint32_t* count) noexcept nogil:
    """The length of an array or a string that is not null."""
    if not take_uvarint(at, end, count) or count[0] == 0:
        return False
    count[0] -= 1
    return True


cdef inline bint take_empty(const uint8_t** at, const uint8_t* end) noexcept nogil:
    """An array without elements, or null."""
    cdef uint32_t count
    return take_uvarint(at, end, &count) and count <= 1


cdef inline bint take_text(const uint8_t** at, const uint8_t* end) noexcept nogil:
    """A string, or null."""
    cdef uint32_t size
    if not take_uvarint(at, end, &size):
        return False
    if size <= 1:
        return True
    if end - at[0] < <Py_ssize_t>size - 1:
        return False
    at[0] += size - 1
    return True


cdef inline bint take_no_tags(const uint8_t** at, const uint8_t* end) noexcept nogil:
    if at[0] >= end or at[0][0] != 0:
        return False
    at[0] += 1
    return True


@cython.final
cdef class SuccessList:
    """The successes in the response that was scanned last."""

    def __dealloc__(self):
        free(self.items)

    cdef int clear(self, Py_ssize_t most) except -1:
        """Empty the list, and provide space for `most` successes."""
        cdef PlainSuccess* items
        self.count = 0
        if most > self.capacity:
            items = <PlainSuccess*>realloc(self.items, 2 * most * sizeof(PlainSuccess))
            if items is NULL:
                raise MemoryError
            self.capacity = 2 * most
            self.items = items
        return 0


cdef class RequestOwner:
    """Takes the outcomes of requests."""

    def __cinit__(self, *_, **__):
        self.successes = SuccessList()

    cdef int complete(self, SentRequest sent) except -1:
        """Complete a request by the plain success that was scanned last."""
        return 0

    def failed(self, sent, response, error):
        """Take any other response, or the error in its place."""


@cython.final
cdef class SentRequest(Awaited):
    """One Produce request in flight.

    Attributes:
        broker_queue: The queue of its broker.
        sent_at: When it was sent, on the loop's clock.
        size: Bytes of all batches.
        queues: The partitions; `batches` in the same order.
    """

    @property
    def api(self):
        """The `Api` of Produce."""
        return self.owner.produce_api

    @property
    def timeout(self):
        """Seconds that the broker may take."""
        return self.deadline - self.sent_at

    @property
    def names_by_id(self):
        """The topics' names by the ids that they had when it was sent."""
        return {
            topic_id: (<CoreTopic>topic).name
            for topic, topic_id in zip(self.topics, self.topic_ids)
        }

    @property
    def by_partition(self):
        """Queue and batch of each partition, by topic and partition."""
        return {
            (batch.topic, batch.partition): (queue, batch)
            for queue, batch in zip(self.queues, self.batches)
        }

    @property
    def by_topic(self):
        """The topics in the order of the request: (topic, its id, queues and batches) each."""
        pairs = iter(zip(self.queues, self.batches))
        return [
            (topic, topic_id, [next(pairs) for _ in range(count)])
            for topic, topic_id, count in zip(self.topics, self.topic_ids, self.counts)
        ]

    def send_as(self, int version, int32_t correlation_id):
        """Note the version and correlation id with which Python sent it."""
        self.version = version
        self.correlation_id = correlation_id

    def on_response(self, response, error):
        """Take the response, or the error in its place (called by the connection)."""
        cdef RecordBatch batch
        for batch in self.batches:
            batch.sent_in = None
        self.owner.failed(self, response, error)

    cdef int _group(self) except -1:
        """Put the batches of one topic side by side, as the request has them."""
        cdef CorePartitionQueue queue
        cdef CoreTopic topic
        cdef Py_ssize_t position
        cdef Py_ssize_t count = len(self.queues)
        cdef dict groups
        topic = (<CorePartitionQueue>self.queues[0]).topic
        for position in range(1, count):
            if (<CorePartitionQueue>self.queues[position]).topic is not topic:
                break
        else:
            self.topics = [topic]
            self.topic_ids = [topic.topic_id]
            self.counts = [count]
            return 0
        groups = {}
        for position in range(count):
            queue = <CorePartitionQueue>self.queues[position]
            groups.setdefault(queue.topic, []).append((queue, self.batches[position]))
        self.topics = list(groups)
        self.topic_ids = [(<CoreTopic>topic).topic_id for topic in groups]
        self.counts = [len(pairs) for pairs in groups.values()]
        self.queues = [queue for pairs in groups.values() for queue, _ in pairs]
        self.batches = [batch for pairs in groups.values() for _, batch in pairs]
        return 0

    # ---- the response

    cdef bint scan(self, const uint8_t* frame, Py_ssize_t size) except -1:
        cdef SuccessList successes = self.owner.successes
        cdef const uint8_t* at = frame + 4
        cdef const uint8_t* end = frame + size
        cdef Py_ssize_t position
        cdef bint is_plain
        if not self.is_native or at >= end or at[0] != 0:
            # Unknown tags in the header.
            return False
        at += 1
        successes.clear(len(self.batches))
        is_plain = self._scan_topics(&at, end) and (
            successes.count == len(self.batches)
            # No throttle time, and no tagged field, which would name addresses of new leaders.
            and end - at >= 5 and get_uint32(at) == 0 and at[4] == 0
        )
        if not is_plain:
            for position in range(successes.count):
                (<RecordBatch>successes.items[position].batch).has_response = False
        return is_plain

    cdef bint _scan_topics(self, const uint8_t** at, const uint8_t* end) except -1:
        cdef uint32_t topics
        cdef uint32_t partitions
        cdef uint32_t size
        cdef CoreTopic topic
        cdef Py_ssize_t place = 0
        if not take_count(at, end, &topics):
            return False
        while topics:
            topics -= 1
            if self.version >= FIRST_WITH_TOPIC_IDS:
                size = TOPIC_ID_BYTES
            elif not take_count(at, end, &size):
                return False
            if end - at[0] < <Py_ssize_t>size:
                return False
            topic = self._topic(place, at[0], size)
            if topic is None:
                return False
            at[0] += size
            place += 1
            if not take_count(at, end, &partitions):
                return False
            while partitions:
                partitions -= 1
                if not self._scan_partition(topic, at, end):
                    return False
            if not take_no_tags(at, end):
                return False
        return True

    cdef bint _scan_partition(
        self, CoreTopic topic, const uint8_t** at, const uint8_t* end
    ) except -1:
        """Read one partition of the response; False if it is no plain success."""
        cdef SuccessList successes = self.owner.successes
        cdef Py_ssize_t place = successes.count
        cdef PlainSuccess* success
        cdef CorePartitionQueue queue
        cdef RecordBatch batch
        cdef const uint8_t* start = at[0]
        cdef int32_t index
        if place == len(self.batches) or end - start < LEAST_PARTITION:
            return False
        index = <int32_t>get_uint32(start)
        if get_uint16(start + 4) != 0 or not 0 <= index < len(topic.partitions):
            return False
        # A broker keeps the order of the request most of the time.
        queue = <CorePartitionQueue>self.queues[place]
        if queue.partition == index and queue.topic is topic:
            batch = <RecordBatch>self.batches[place]
        else:
            if topic.partitions[index] is None:
                return False
            queue = <CorePartitionQueue>topic.partitions[index]
            batch = self._batch_of(queue)
        if (
            batch is None or batch.has_response or batch.sent_in is not self
            or batch.outcome != PENDING or batch.attempts != 1 or queue.failures_logged
        ):
            return False
        # Index, error code, base offset, log append time, log start offset: 4, 2, 8, 8, 8 bytes.
        at[0] = start + 30
        if not take_empty(at, end) or not take_text(at, end) or not take_no_tags(at, end):
            # Refused records, an error message, or another leader (KIP-951).
            return False
        success = successes.items + place
        success.queue = <void*>queue
        success.batch = <void*>batch
        success.base_offset = <int64_t>get_uint64(start + 6)
        success.log_append_time_ms = <int64_t>get_uint64(start + 14)
        batch.has_response = True
        successes.count += 1
        return True

    cdef CoreTopic _topic(self, Py_ssize_t place, const uint8_t* name, Py_ssize_t size):
        """The topic with this id or name; most of the time that at `place` in the request."""
        cdef CoreTopic topic
        cdef bytes topic_id
        cdef const char* text
        cdef Py_ssize_t text_size
        if place < len(self.topics):
            topic = <CoreTopic>self.topics[place]
            if size == TOPIC_ID_BYTES and self.version >= FIRST_WITH_TOPIC_IDS:
                topic_id = <bytes>self.topic_ids[place]
                if memcmp(PyBytes_AS_STRING(topic_id), name, size) == 0:
                    return topic
            else:
                text = PyUnicode_AsUTF8AndSize(topic.name, &text_size)
                if text_size == size and memcmp(text, name, size) == 0:
                    return topic
        if self.topics_by_id is None:
            self.topics_by_id = dict(zip(self.topic_ids, self.topics))
            if self.version < FIRST_WITH_TOPIC_IDS:
                self.topics_by_id = {
                    (<CoreTopic>one).name.encode(): one for one in self.topics
                }
        return self.topics_by_id.get((<const char*>name)[:size])

    cdef RecordBatch _batch_of(self, CorePartitionQueue queue):
        cdef RecordBatch batch
        for batch in queue.in_flight:
            if batch.sent_in is self:
                return batch
        return None

    cdef int complete(self) except -1:
        return self.owner.complete(self)
