# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""Makes requests from batches that are due, and completes batches by plain successes.

Owns the broker queues, the active partition queues, and when a batch leaves. Python decides
everything that is no plain success; it is called through `decisions`.

When a batch leaves
    it is full, or has 128 KiB                 at once, if its broker may be sent another request
    it lingers (`linger_ms`)                   when the time is over, or with what leaves before
    a flush, or a caller that waits for        at the end of the turn
      buffer space
    nothing is in flight to its broker, and    at the end of the turn; while woken tasks run, that
      all callers are here                     is the end of the read callback that wakes them
    nothing is in flight, and some callers     when they are here, or two turns of the loop brought
      are not here                             no record, or half a response time is over
    while a transaction pauses, because the    when the pause is over
      last one is not over (settling.py)
    a response is due                          with it, or when half a response time is over; one
                                               and a half where more than 64 partitions wait

Why: a request has a fixed cost for us and the broker. Callers that each wait for a response (a web
route) come back when they have it. A request that leaves before all are back splits them into
groups that never meet again. Their number is taken to be that of the records recently under way at
once (`crowd`). A lone caller is all callers, and waits for nobody. The bound is a part of the
response time as the loop sees it: long on a busy loop, where a request costs most, a millisecond
elsewhere. The wait itself does not count as response time, so that it cannot grow by itself.

All or nothing per response
    1. `scan` reads it and changes nothing. It returns False for an error, a throttle time, another
       leader, a partition that is missing, unknown or named twice, and for a batch that was sent
       before, expired or failed.
    2. False: Python decodes the frame and handles it (`SlowPath.handle_response`), as if there were
       no native code. With AIOPRODUCER_SLOW_PATH=1, for tests, every response goes there.
    3. True: `complete` completes all batches, releases their buffer space, wakes the waiters, and
       makes the next request. No waiter sees a state in between.

Invariants
* A batch is in exactly one place: open or closed in its partition queue, or in one request.
* Buffer space is released when a batch is done *and* no request carries it.
* A request points into the memory of its batches (memory.pxi says how that is kept).
* Waiters run only after all batches of a response are complete, and directly only from a callback
  of the loop, where no task is running.
"""

cimport cython
from libc.stdint cimport int64_t

from aioproducer._native.accumulator cimport RecordAccumulator
from aioproducer._native.clock cimport Clock
from aioproducer._native.core_connection cimport CoreConnection
from aioproducer._native.produce_request cimport RequestWriter
from aioproducer._native.produce_response cimport PlainSuccess, RequestOwner, SentRequest
from aioproducer._native.queues cimport (
    BrokerQueue,
    BufferShare,
    CorePartitionQueue,
    CoreProducerId,
)
from aioproducer._native.record_batch cimport RecordBatch
from aioproducer._native.wire cimport BATCH_HEADER_BYTES, FIRST_WITH_TOPIC_IDS, TOPIC_ID_BYTES

import os
from contextvars import Context

cdef enum:
    REQUEST_OVERHEAD = 256
    PARTITION_OVERHEAD = 64
    NO_LEADER = -1
    FIRST_FLEXIBLE = 9      # the first version of Produce that native code writes and reads
    # Partitions whose batches are held back. From here on the batches of one turn are small, and
    # cost us and the broker far more for each record than large ones.
    MANY_PARTITIONS = 64
    # Turns of the loop without a record that show that nobody is coming: a request of a web server
    # takes one to be read and one to be served.
    QUIET_TURNS = 2
    # Records under way from which on nobody counts how many callers there are.
    MOST_CROWD = 1000

# Seconds after which a turn ends in a loop that runs inside of the loop.
cdef double NESTED_TURN = 0.001
# Seconds that a batch may be held back however fast the broker is.
cdef double LEAST_HOLD = 0.001
# Of a broker's response time, for which a batch is held back at most; and where many are.
cdef double SHARE_OF_RESPONSE = 0.5
cdef double LARGER_SHARE = 1.5
# Seconds that count of a response time at most.
cdef double MOST_RESPONSE = 0.2
# Of the callers that there are, from which on nobody is waited for.
cdef double CROWD_IS_HERE = 0.9
# Of the newest measurement in the means.
cdef double RESPONSE_WEIGHT = 0.1
cdef double CROWD_WEIGHT = 0.05

# Seconds between two looks at what was delivered; the rate is that of one to two such spans.
cdef double MARK_EVERY = 0.25
# Seconds without a request in flight to a broker after which the rate before says nothing.
cdef double MARK_OUTDATED = 1.0

# Seconds for which a broker may owe a response before it is sent no more.
cdef double SILENT_AFTER = 1.0

cdef bytes NO_TOPIC_ID = bytes(TOPIC_ID_BYTES)


@cython.final
cdef class Counters:
    """What happened since the start, for `Producer.metrics`.

    Attributes:
        bytes_delivered: Bytes of the buffer that stored records gave back.
        delivered_at: When the last record was stored, on the loop's clock; 0 if none was.
    """


@cython.final
cdef class BrokerQueues(RequestOwner):
    """The native half of one producer's sender.

    Args:
        loop: The event loop.
        clock: Its clock.
        decisions: Decides what is not a plain success (the sender).
        producer_id: Has the id and epoch of new sequences.
        flushes: Notified of what is done while somebody waits for a flush.
        counters: Counted up.
        produce_api: The Produce API, for the connection.
        config: The producer's options.
        compresses: Whether batches are compressed.
    """

    def __init__(
        self,
        *,
        loop,
        Clock clock,
        decisions,
        CoreProducerId producer_id,
        flushes,
        Counters counters,
        produce_api,
        config,
        bint compresses,
    ):
        self.loop = loop
        self.clock = clock
        self.decisions = decisions
        self.producer_id = producer_id
        self.flushes = flushes
        self.flushes_under_way = flushes.under_way
        self.counters = counters
        self.produce_api = produce_api
        self.compresses = compresses
        self.writer = RequestWriter(
            config.client_id.encode(),
            None if config.transactional_id is None else config.transactional_id.encode(),
            config.acks,
            config.request_timeout_ms,
        )
        self.newest_produce = produce_api.max_version
        self.is_idempotent = config.enable_idempotence
        self.acks = config.acks
        self.most_in_flight = config.max_in_flight_requests_per_connection
        self.batch_size = config.batch_size
        self.max_request_size = config.max_request_size
        self.linger = config.linger_ms / 1000.0
        self.request_timeout = config.request_timeout_ms / 1000.0
        self.delivery_timeout = config.delivery_timeout_ms / 1000.0
        self.is_slow = os.environ.get("AIOPRODUCER_SLOW_PATH") == "1"
        self.by_node = {}
        self.leaderless = BufferShare()
        self.offered = []
        self.holding = []

    def pause_until(self, double at):
        """Send nothing before `at`; where that has passed, send now."""
        self.paused_until = at
        if at <= self.clock.now():
            self.drain_all()

    def serve(self, RecordAccumulator accumulator):
        """Take the batches of an accumulator, whose events come here."""
        self.accumulator = accumulator

    def close(self):
        """Let go of timers, and hold nothing back any more."""
        cdef BrokerQueue broker
        self.is_closing = True
        for broker in self.by_node.values():
            broker.throttle_timer.cancel()
            if broker.hold_timer is not None:
                broker.hold_timer.cancel()
                broker.hold_timer = None
            broker.take_lingering()
        self.holding = []

    # ---- events of the accumulator

    def schedule_turn(self):
        """Have the end of the loop's current turn be noticed."""
        if self.is_waking:
            # `wake` ends the turn when the tasks that it woke have run to their next wait. The
            # timer is for a loop that one of them runs inside of the loop (nest_asyncio). A handle
            # of `call_soon` would, even cancelled, make the loop ask the system once more.
            self.nested_turn = self.loop.call_at(
                self.clock.now() + NESTED_TURN, self.end_of_turn, context=Context()
            )
        else:
            self.loop.call_soon(self.end_of_turn, context=Context())

    def batch_closed(self, CorePartitionQueue queue):
        """A batch is full."""
        self._activate(queue)
        if self.compresses:
            self.decisions.prepare_closed(queue)
        self._offer(queue, self.clock.now())
        self.drain_offered()

    def batch_grew(self, CorePartitionQueue queue):
        """An open batch is worth a request: it leaves if the broker has a free one, or grows on.

        Not where it is to be compressed, which larger ones are better at.
        """
        if self.linger == 0 and not self.compresses:
            self._activate(queue)
            self._make_due(queue, self.clock.now())
            self.drain_offered()

    def end_of_turn(self):
        """Send what was accepted in the loop's turn."""
        self._end_turn()
        self.drain_offered()

    cdef int _end_turn(self) except -1:
        cdef double now = self.clock.now()
        cdef list touched = self.accumulator.take_touched()
        cdef CorePartitionQueue queue
        cdef BrokerQueue broker
        cdef bint is_urgent = self.accumulator.has_blocked or len(self.flushes_under_way) > 0
        for queue in touched:
            # First, so that what is raised below leaves no other without a bound.
            self._activate(queue)
            queue.topic.used_at = now
        for queue in touched:
            if queue.open is None:
                continue
            if is_urgent:
                self._make_due(queue, now)
            elif self.linger != 0:
                self._let_linger(queue)
            elif queue.leader_node == NO_LEADER:
                self._make_due(queue, now)
            else:
                broker = self._broker_of(queue)
                if not broker.lingering_count:
                    broker.held_since = now
                    broker.responses_due = broker.in_flight
                if not broker.is_holding:
                    broker.is_holding = True
                    self.holding.append(broker)
                broker.let_linger(queue)
        self._look_at_held(now)
        return 0

    cdef int _look_at_held(self, double now) except -1:
        """Let go what is held back, as far as nothing speaks for it any more."""
        cdef BrokerQueue broker
        cdef double until
        cdef bint wants_turn = False
        cdef list holding = self.holding
        if not holding:
            return 0
        self.holding = []
        if self.accumulator.accepted_count == self.accepted_before:
            self.quiet_turns += 1
        else:
            self.quiet_turns = 0
            self.accepted_before = self.accumulator.accepted_count
        for broker in holding:
            broker.is_holding = False
        for broker in holding:
            if not broker.lingering_count:
                continue
            until = self._held_until(broker)
            if now >= until:
                self._end_lingering(broker, now)
                continue
            broker.is_holding = True
            self.holding.append(broker)
            if broker.responses_due <= 0:
                wants_turn = True
            elif broker.hold_timer is None:
                broker.hold_timer = self.loop.call_at(
                    until, self._hold_over, broker, context=Context()
                )
        self.accumulator.wants_every_turn = len(self.holding) > 0
        if wants_turn and not self.accumulator.is_turn_scheduled:
            self.accumulator.is_turn_scheduled = True
            self.loop.call_soon(self.end_of_turn, context=Context())
        return 0

    cdef double _held_until(self, BrokerQueue broker) noexcept:
        """When small batches for a broker leave at the latest, for all that is known now."""
        cdef double share = SHARE_OF_RESPONSE
        if broker.responses_due > 0:
            if broker.lingering_count > MANY_PARTITIONS:
                share = LARGER_SHARE
        elif (
            self.quiet_turns >= QUIET_TURNS
            or self._outstanding() >= CROWD_IS_HERE * self.crowd
        ):
            return 0
        return broker.held_since + max(share * broker.response_time, LEAST_HOLD)

    cdef int64_t _outstanding(self) noexcept:
        """Records that were accepted and have no outcome yet."""
        return (
            self.accumulator.accepted_count
            - self.counters.records_delivered - self.counters.records_failed
        )

    def _hold_over(self, BrokerQueue broker):
        broker.hold_timer = None
        self._look_at_held(self.clock.now())
        self.drain_offered()

    def _let_linger(self, CorePartitionQueue queue):
        cdef BrokerQueue broker
        queue.linger_at = queue.open.created_at + self.linger
        if queue.leader_node != NO_LEADER:
            broker = self._broker_of(queue)
            broker.let_linger(queue)
        self.decisions.linger_until(queue, queue.linger_at)

    # ---- queues

    def of(self, int node_id):
        """The queue of a broker, made if there is none yet."""
        found = self.by_node.get(node_id)
        if found is None:
            found = self.by_node[node_id] = self.decisions.new_broker_queue(node_id)
        return found

    cdef BrokerQueue _broker_of(self, CorePartitionQueue queue):
        cdef BrokerQueue broker = queue.broker
        if broker is None or broker.is_gone:
            broker = queue.broker = self.of(queue.leader_node)
        return broker

    cdef int _activate(self, CorePartitionQueue queue) except -1:
        """See to it that what a partition's queue has expires."""
        cdef RecordBatch oldest
        cdef double expires_at
        if queue.is_active:
            return 0
        if queue.in_flight or queue.closed:
            batches = queue.batches()
            if not batches:
                return 0
            oldest = batches[0]
        else:
            oldest = queue.open
            if oldest is None:
                return 0
        self._add_active(queue)
        self.set_batch_limit(queue)
        expires_at = oldest.created_at + self.delivery_timeout
        if queue.expires_at == 0 or expires_at < queue.expires_at:
            # Else the timer that is set for an earlier batch looks at this one, too.
            queue.expires_at = expires_at
            self.decisions.expire_at(queue, expires_at)
        return 0

    cdef int _add_active(self, CorePartitionQueue queue) except -1:
        queue.is_active = True
        queue.previous_active = self.last_active
        if self.last_active is None:
            self.first_active = queue
        else:
            self.last_active.next_active = queue
        self.last_active = queue
        return 0

    cdef int _remove_active(self, CorePartitionQueue queue) except -1:
        if not queue.is_active:
            return 0
        queue.is_active = False
        if queue.previous_active is None:
            self.first_active = queue.next_active
        else:
            queue.previous_active.next_active = queue.next_active
        if queue.next_active is None:
            self.last_active = queue.previous_active
        else:
            queue.next_active.previous_active = queue.previous_active
        queue.previous_active = queue.next_active = None
        return 0

    @property
    def active(self):
        """The partition queues with a batch that is not done."""
        cdef list active = []
        cdef CorePartitionQueue queue = self.first_active
        while queue is not None:
            active.append(queue)
            queue = queue.next_active
        return active

    def expiry_passed(self, CorePartitionQueue queue, double next_expires_at):
        """The timer of a partition went off; 0 says that nothing is left to expire."""
        queue.expires_at = next_expires_at
        if next_expires_at == 0:
            self._remove_active(queue)
        else:
            self.decisions.expire_at(queue, next_expires_at)

    @property
    def requests_in_flight(self):
        """Produce requests without a response."""
        return sum([broker.in_flight for broker in self.by_node.values()])

    def all_active(self):
        """Every partition queue with a batch that is not done."""
        # Those that got a record in this turn are not active yet.
        self.end_of_turn()
        return self.active

    def set_bounds(self, CorePartitionQueue queue):
        """Count a partition for its leader's share of the buffer, and bound its batches."""
        queue.share = (
            self.leaderless if queue.leader_node == NO_LEADER else self._broker_of(queue).share
        )
        self.set_batch_limit(queue)

    cpdef set_batch_limit(self, CorePartitionQueue queue):
        """Have a partition's batches be no larger than its topic and its broker take."""
        cdef Py_ssize_t limit = queue.topic.batch_limit or self.batch_size
        if queue.leader_node != NO_LEADER:
            limit = min(limit, <Py_ssize_t>(self._broker_of(queue).limit.bytes // 2))
        queue.batch_limit = limit

    cdef int _make_due(self, CorePartitionQueue queue, double now) except -1:
        """Let the open batch wait for no more records."""
        queue.open_is_due = True
        return self._offer(queue, now)

    def end_all_lingering(self):
        """Let no batch wait for more records: somebody waits for buffer space."""
        cdef double now = self.clock.now()
        cdef BrokerQueue broker
        for broker in list(self.by_node.values()):
            if broker.lingering_count:
                self._end_lingering(broker, now)
        self.drain_offered()

    def linger_over(self, CorePartitionQueue queue):
        """`linger_ms` is over for the open batch of a partition."""
        if queue.leader_node != NO_LEADER:
            self._broker_of(queue).end_lingering_of(queue)
        self._make_due(queue, self.clock.now())
        self.drain_offered()

    def leader_changed(self, CorePartitionQueue queue, int node_before):
        """Have a partition wait at its new leader, and no longer at the one before."""
        if node_before != queue.leader_node:
            if node_before != NO_LEADER:
                self.of(node_before).withdraw(queue)
            if queue.open is not None and not queue.open_is_due:
                if self.linger == 0:
                    queue.open_is_due = True
                elif queue.leader_node != NO_LEADER:
                    self._broker_of(queue).let_linger(queue)
        self._offer(queue, self.clock.now())

    def forget_gone(self, is_broker):
        """Forget the queues of brokers that are gone and to which nothing is under way."""
        for node_id, broker in list(self.by_node.items()):
            if broker.is_idle and not is_broker(node_id):
                broker.throttle_timer.cancel()
                broker.is_gone = True
                del self.by_node[node_id]

    cdef int _end_lingering(self, BrokerQueue broker, double now) except -1:
        cdef CorePartitionQueue queue
        cdef list lingering = broker.take_lingering()
        if broker.hold_timer is not None:
            broker.hold_timer.cancel()
            broker.hold_timer = None
        for queue in lingering:
            # Due in any case: what is raised by one leaves no other to wait.
            queue.open_is_due = queue.open is not None
        for queue in lingering:
            if queue.open is not None:
                self._offer(queue, now)
        return 0

    def offer(self, CorePartitionQueue queue):
        """Let a partition wait for its broker's next request, if it may send."""
        self._offer(queue, self.clock.now())

    cdef int _offer(self, CorePartitionQueue queue, double now) except -1:
        cdef BrokerQueue broker
        if self.is_closing:
            return 0
        if queue.gap != "none":
            self.decisions.close_gap(queue)
        if queue.ready_at is not None:
            if self._lacks_producer_id():
                # It is there since before its epoch was lost.
                queue.ready_at.remove(queue)
                self.producer_id.need()
                return 0
            if not self._must_add(queue):
                return 0
            # It is there since an earlier transaction, whose records were dropped.
            queue.ready_at.remove(queue)
        if queue._head() is None:
            if queue._is_idle():
                self._remove_active(queue)
            return 0
        if self._must_add(queue):
            self.decisions.partition_needed(queue)
            return 0
        if queue._may_take(now, self.most_in_flight, self.producer_id.current):
            if self._lacks_producer_id():
                self.producer_id.need()
                return 0
            broker = self._broker_of(queue)
            broker.add(queue)
            if not broker.is_offered:
                broker.is_offered = True
                self.offered.append(broker)
        elif now < queue.retry_at:
            self.decisions.retry_until(queue, queue.retry_at)
        elif queue.leader_node == NO_LEADER:
            self.decisions.lacks_leader(queue)
        return 0

    cdef bint _must_add(self, CorePartitionQueue queue) noexcept:
        """Whether a partition is no part of the transaction yet, and has to be added first."""
        return self.adds_partitions and queue.added_to != self.transaction

    cdef bint _lacks_producer_id(self) except -1:
        return self.is_idempotent and self.producer_id.current is None

    # ---- requests

    def drain_all(self):
        """Send to every broker what may be sent."""
        self.drain_offered()
        for broker in list(self.by_node.values()):
            self._drain(broker)
        self.drain_offered()

    cpdef drain_offered(self):
        """Send to the brokers that something was offered to."""
        cdef BrokerQueue broker
        while self.offered and not self.is_draining:
            broker = <BrokerQueue>self.offered.pop()
            broker.is_offered = False
            self._drain(broker)

    def drain(self, BrokerQueue broker):
        """Send to a broker while it may be sent more and there is something to send."""
        self._drain(broker)
        self.drain_offered()

    cdef int _drain(self, BrokerQueue broker) except -1:
        cdef CoreConnection connection
        cdef SentRequest sent
        cdef double now
        if self.is_draining:
            # Called from within, for this broker or another one: the memory in which requests are
            # made is in use. Whoever drains takes it up when the request at hand is sent.
            if not broker.is_offered:
                broker.is_offered = True
                self.offered.append(broker)
            return 0
        self.is_draining = True
        try:
            while broker.first is not None and not (
                self.is_closing or self._lacks_producer_id()
            ):
                now = self.clock.now()
                connection = self._free_connection(broker, now)
                if connection is None:
                    if broker.stalled_since is None:
                        broker.stalled_since = now
                    break
                broker.stalled_since = None
                sent = self._collect(broker, now)
                if sent is None:
                    break
                self._send(sent, connection, now)
        finally:
            self.is_draining = False
        return 0

    cdef CoreConnection _free_connection(self, BrokerQueue broker, double now):
        """The connection to a broker if it may be sent another request now."""
        cdef CoreConnection connection
        if broker.in_flight >= self.most_in_flight:
            return None
        if broker.in_flight and (
            broker.bytes_in_flight >= broker.limit.bytes
            # What it is not sent can still be withdrawn, and goes to another leader in time. It
            # would not be answered sooner: a broker handles a connection's requests in turn.
            or now - broker.heard_at > SILENT_AFTER
        ):
            return None
        connection = <CoreConnection>broker.connection
        if connection is None or not connection.is_open or connection.is_leaving:
            connection = broker.connection = self.decisions.connection(broker.node_id)
            if connection is None:
                return None
        if not connection.is_writable:
            return None
        if self.paused_until > now:
            broker.throttle_timer.set(self.paused_until)
            return None
        if connection.throttled_until > now:
            # KIP-219: the broker asked for a pause; responses go on being read.
            broker.throttle_timer.set(connection.throttled_until)
            return None
        return connection

    cdef SentRequest _collect(self, BrokerQueue broker, double now):
        """Take at most one batch of each ready partition, as many as one request may hold."""
        cdef object id_and_epoch = self.producer_id.current
        cdef int64_t size = REQUEST_OVERHEAD
        cdef int64_t budget = broker.limit.bytes - broker.bytes_in_flight
        cdef SentRequest sent = None
        cdef CorePartitionQueue queue
        cdef RecordBatch batch
        cdef int64_t batch_bytes
        cdef list not_over = None
        if self.linger != 0:
            # Java's piggyback: what lingers goes along with what leaves.
            self._end_lingering(broker, now)
        while broker.first is not None:
            queue = broker.take_first()
            if not queue._may_take(now, self.most_in_flight, id_and_epoch):
                self._offer(queue, now)
                if queue.ready_at is broker:
                    break
                continue
            if self.compresses or queue.topic.batch_limit:
                if self.decisions.fit_head(queue):
                    broker.add_first(queue)
                    continue
                if not self.decisions.prepare_head(queue):
                    continue
            batch = queue._head()
            batch_bytes = BATCH_HEADER_BYTES + batch._payload_size()
            size += batch_bytes + PARTITION_OVERHEAD
            if ((sent is not None or broker.in_flight) and size > budget) or (
                sent is not None and size > self.max_request_size
            ):
                broker.add_first(queue)
                break
            if sent is None:
                sent = SentRequest.__new__(SentRequest)
                sent.owner = self
                sent.broker_queue = broker
                sent.queues = []
                sent.batches = []
            batch = queue._take(id_and_epoch)
            sent.queues.append(queue)
            sent.batches.append(batch)
            sent.size += batch_bytes
            if (queue.closed or queue.open_is_due) and queue._may_take(
                now, self.most_in_flight, id_and_epoch
            ):
                if not_over is None:
                    not_over = []
                not_over.append(queue)
        if not_over is not None:
            for queue in not_over:
                broker.add(queue)
        return sent

    cdef int _send(self, SentRequest sent, CoreConnection connection, double now) except -1:
        cdef BrokerQueue broker = sent.broker_queue
        cdef double outstanding
        sent.sent_at = now
        sent.deadline = now + self.request_timeout
        # Before it is sent: with acks=0 all is over on return.
        if broker.in_flight == 0:
            broker.heard_at = now
            if now - self.mark_at > MARK_OUTDATED:
                self._mark(now)
                self._mark(now)
        broker.in_flight += 1
        broker.bytes_in_flight += sent.size
        try:
            sent._group()
            if self._is_worth_native(sent, connection):
                sent.is_native = True
                sent.version = min(connection.produce_version, self.newest_produce)
                sent.correlation_id = connection.next_correlation_id()
                # First: if half of it leaves, the end of the connection leaves its outcome unknown.
                connection.expect(sent, sent.deadline, now)
                self.writer.write(sent, connection)
            else:
                self.decisions.send(sent, connection)
        except Exception as error:
            self.decisions.not_sent(sent, connection, error)
            return 0
        outstanding = min(self._outstanding(), <int64_t>MOST_CROWD)
        if outstanding > self.crowd:
            self.crowd = outstanding
        else:
            self.crowd += CROWD_WEIGHT * (outstanding - self.crowd)
        self.counters.requests_sent += 1
        self.counters.batches_sent += len(sent.batches)
        self.counters.bytes_sent += sent.size
        if self.acks == 0:
            self.decisions.sent_without_response(sent)
        return 0

    cdef bint _is_worth_native(self, SentRequest sent, CoreConnection connection) except -1:
        if self.acks == 0 or self.is_slow or connection.produce_version < FIRST_FLEXIBLE:
            return False
        return (
            min(connection.produce_version, self.newest_produce) < FIRST_WITH_TOPIC_IDS
            or NO_TOPIC_ID not in sent.topic_ids
        )

    # ---- responses

    def failed(self, sent, response, error):
        """Take a response that is no plain success, or why there is none."""
        self.decisions.handle_response(sent, response, error)

    cdef int complete(self, SentRequest sent) except -1:
        """Take the response that was scanned: every batch is stored."""
        cdef BrokerQueue broker = sent.broker_queue
        cdef CorePartitionQueue queue
        cdef RecordBatch batch
        cdef PlainSuccess* success
        cdef Py_ssize_t position
        cdef double now = self.clock.now()
        cdef list done = [None] * self.successes.count
        cdef list queues = sent.queues
        self._request_over(sent, now, True)
        for position in range(self.successes.count):
            success = self.successes.items + position
            queue = <CorePartitionQueue>success.queue
            batch = <RecordBatch>success.batch
            batch.has_response = False
            batch.sent_in = None
            queue._request_ended(batch)
            queue._acknowledged(batch)
            batch.complete(success.base_offset, success.log_append_time_ms)
            self._count_delivered(batch, now)
            done[position] = batch
        try:
            self.wake(done, True)
        finally:
            self.request_done(broker, queues)
        return 0

    def count_delivered(self, RecordBatch batch):
        """Count the records of a stored batch, and give its bytes back to the buffer."""
        self._count_delivered(batch, self.clock.now())

    cdef int _count_delivered(self, RecordBatch batch, double now) except -1:
        self.counters.records_delivered += batch.record_count
        self.counters.bytes_delivered += batch.charged_bytes
        self.counters.delivered_at = now
        self.accumulator.release(batch)
        if now - self.mark_at >= MARK_EVERY:
            self._mark(now)
        return 0

    cdef int _mark(self, double now) except -1:
        self.earlier_mark_at, self.earlier_mark_bytes = self.mark_at, self.mark_bytes
        self.mark_at, self.mark_bytes = now, self.counters.bytes_delivered
        return 0

    def lately_delivered(self):
        """The bytes of the buffer that stored records gave back lately, since when, and until when.
        """
        return (
            self.counters.bytes_delivered - self.earlier_mark_bytes,
            self.earlier_mark_at,
            self.counters.delivered_at,
        )

    cpdef request_done(self, BrokerQueue broker, list queues):
        """Go on after a response was taken: with its partitions, and with its broker."""
        cdef CorePartitionQueue queue
        cdef double now
        if self.accumulator.has_blocked:
            self.decisions.admit()
        now = self.clock.now()
        for queue in queues:
            self._offer(queue, now)
        broker.responses_due -= 1
        if broker.lingering_count and self.linger == 0:
            if broker.responses_due == 0:
                # Those whom it woke are likely to come back.
                broker.held_since = now
                self.quiet_turns = 0
            self._look_at_held(now)
        self._drain(broker)
        self.drain_offered()

    def request_over(self, SentRequest sent, bint has_response):
        """A request is over: another one may be sent."""
        self._request_over(sent, self.clock.now(), has_response)

    cdef int _request_over(self, SentRequest sent, double now, bint has_response) except -1:
        cdef BrokerQueue broker = sent.broker_queue
        cdef CorePartitionQueue queue
        cdef int64_t before = broker.limit.bytes
        cdef double took
        if has_response:
            # A loop that was held (a debugger, a container's pause) says nothing about the broker.
            took = min(now - sent.sent_at, MOST_RESPONSE)
            if broker.response_time == 0:
                broker.response_time = took
            broker.response_time += RESPONSE_WEIGHT * (took - broker.response_time)
            broker.limit.measure(sent.size, now - max(sent.sent_at, broker.heard_at))
        elif now - sent.sent_at >= self.request_timeout and sent.sent_at > broker.cut_at:
            # Once for all that were in flight at the time.
            broker.cut_at = now
            broker.limit.timed_out()
        broker.in_flight -= 1
        broker.bytes_in_flight -= sent.size
        broker.heard_at = now
        if broker.limit.bytes != before and min(before, broker.limit.bytes) < 2 * self.batch_size:
            queue = self.first_active
            while queue is not None:
                if queue.leader_node == broker.node_id:
                    self.set_batch_limit(queue)
                queue = queue.next_active
        return 0

    cpdef wake(self, list done, bint direct):
        """Wake whoever waits for batches that are done; `direct` only from the loop's callbacks."""
        cdef Py_ssize_t position = 0
        cdef Py_ssize_t count = len(done)
        cdef RecordBatch batch
        cdef bint was_waking = self.is_waking
        if self.flushes_under_way:
            for batch in done:
                self.flushes.batch_done(batch)
        self.is_waking = was_waking or direct
        try:
            while position < count:
                batch = <RecordBatch>done[position]
                position += 1
                if batch.enrolled is not None or batch.watchers is not None:
                    batch.wake(direct)
        finally:
            # Also when a task that was woken exits the program: the loop wakes the others, or what
            # the exit waits for would never end.
            self.is_waking = was_waking
            if self.nested_turn is not None and not was_waking:
                self.nested_turn.cancel()
                self.nested_turn = None
            while position < count:
                (<RecordBatch>done[position]).wake(False)
                position += 1
            if direct and not was_waking and self.accumulator.is_turn_scheduled:
                self._end_turn()
