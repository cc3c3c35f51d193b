"""From full and due batches to acknowledged ones: requests, answers, retries, timeouts.

Owned by the producer. It is told by the native accumulator (once per batch) and by the cluster;
everything it does happens in a callback of the loop or inside a call of `send`, never in a task
of its own, except to get a producer id.

One `BrokerWindow` per broker holds the lanes that have something to send to it. A lane stands in
`ready` when `lane.may_take` said so; `_offer` puts it there after anything that can change that:
a batch closed or came due, an answer arrived, a backoff ended, a leader or an identity came.
`_pump` then fills the window: at most one batch of each lane in one request, the lanes in turn.

Invariants
* A batch is in exactly one place: open or closed in its lane, or in flight in one request.
* Every batch has a bound: `delivery_timeout_ms` after its creation it is failed wherever it is.
  One in flight then keeps its place among the batches in flight until its request is over.
* Bytes are given back when a batch is done *and* no request carries it.
* Waiters run only after all the state of an answer is settled, and directly only from a callback
  of the loop, where no task is running.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from functools import partial

import async_timeout

from aioproducer._native.accumulator import RecordAccumulator, TopicQueue
from aioproducer._native.record_batch import BATCH_HEADER_SIZE, Delivery, RecordBatch
from aioproducer.admission import Admissions, Waiter
from aioproducer.attempts import Attempts, Counters, Outcome
from aioproducer.batch_compressor import BatchCompressor
from aioproducer.cluster import Cluster
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    BufferExhaustedError,
    KafkaError,
    NetworkError,
    ProducerClosedError,
    WrongEventLoopError,
    broker_error,
)
from aioproducer.explaining import (
    closed_error,
    with_story,
)
from aioproducer.flushing import Flushes
from aioproducer.identity import IdentityKeeper
from aioproducer.lane import PartitionLane
from aioproducer.lane_timers import LaneTimers
from aioproducer.metadata import NO_LEADER, BrokerAddress, PartitionLeader
from aioproducer.partitioner import RoundRobinPartitioner
from aioproducer.protocol.produce import PRODUCE, PartitionProduceResponse, ProduceResponse
from aioproducer.protocol.schema import NO_TOPIC_ID
from aioproducer.routing import TopicRouter
from aioproducer.transport import Connection, ConnectionOptions
from aioproducer.window import BrokerWindow, SentRequest, Taken, make_request

__all__ = ["Sender"]

logger = logging.getLogger(__name__)

_REQUEST_OVERHEAD = 256
_PARTITION_OVERHEAD = 64
_MANY_LANES = 64
"""Partitions that got a record in one turn of the loop. From here on the batches of one turn are
small, and cost us and the broker far more for each record than large ones."""


class Sender:
    """Drives the lanes of all partitions.

    Attributes:
        accumulator: Where the send path puts records.
        admissions: Callers who wait for room in the accumulator.
        cluster: Connections and metadata.
        counters: What happened so far.
    """

    def __init__(
        self,
        config: ProducerConfig,
        options: ConnectionOptions,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.counters = Counters()
        self.admissions: Admissions[Delivery] = Admissions()
        self.cluster = Cluster(config, options, self, loop)
        self.accumulator = RecordAccumulator(
            loop=loop,
            events=self,
            clock=loop.time,
            batch_size=config.batch_size,
            max_request_size=config.max_request_size,
            buffer_memory=config.buffer_memory,
            partitioner=(
                RoundRobinPartitioner()
                if config.partitioner == "round_robin"
                else config.partitioner
            ),
            ignore_keys=config.partitioner_ignore_keys,
        )
        self._compressor = BatchCompressor(config, loop, self._compressed)
        self._flushes = Flushes(loop)
        self._attempts = Attempts(
            config,
            loop,
            self.cluster,
            self.accumulator,
            self._compressor,
            self._flushes,
            self.counters,
        )
        self._router = TopicRouter(
            config,
            self.cluster,
            loop,
            is_stalled=self._is_stalled,
            lane_moved=self._lane_moved,
            records_failed=self._attempts.records_failed,
            room_ended=self._room_ended,
        )
        self.check_topic_name = self._router.check_topic_name
        self.topic_needed = self._router.topic_needed
        self.new_queue = self._router.new_lane
        self.next_sticky_partition = self._router.next_sticky_partition
        self.routing_error = self._router.routing_error
        self.topic_failed = self._router.topic_failed
        self._config = config
        self._loop = loop
        self._in_flight_limit = config.max_in_flight_requests_per_connection
        self._linger = config.linger_ms / 1000
        self._delivery_timeout = config.delivery_timeout_ms / 1000
        self._windows: dict[int, BrokerWindow] = {}
        self._active: set[PartitionLane] = set()
        self._identity = IdentityKeeper(
            self.cluster,
            loop,
            retry_delay=self._attempts.retry_delay,
            obtained=self._offer_all,
            refused=self._fail_waiting,
        )
        self._timers = LaneTimers(loop, self._time_passed)

    # ---- lifecycle

    async def start(self) -> None:
        """Reach the cluster; bounded by `max_block_ms`."""
        await self.cluster.start(self._config.max_block_ms / 1000)
        self._router.start(self.accumulator)
        if self._config.enable_idempotence:
            self._identity.need()

    async def flush(self) -> None:
        """Wait until every record accepted so far is delivered or failed."""
        remaining: set[RecordBatch] = set()
        for topic in self.accumulator.topic_queues.values():
            remaining.update(self.accumulator.rooms(topic))
        for lane in self._all_lanes():
            remaining.update(self._close_open(lane))
        self._pump_all()
        await self._flushes.wait_for(remaining)
        if self._config.acks == 0:
            # Done means handed to the transport: a connection closed now would lose the rest.
            with contextlib.suppress(TimeoutError):
                async with async_timeout.timeout(self._delivery_timeout):
                    await self.cluster.drain()

    def fail_everything(self) -> list[RecordBatch]:
        """Fail what is not delivered yet, because the producer closes. Returns what failed.

        The records held for unknown topics are failed too; ask the accumulator for them first.
        """
        self._attempts.is_closing = True
        outcome = Outcome()
        for lane in self._all_lanes():
            batches = lane.batches()
            lane.forget_waiting()
            for batch in batches:
                self._compressor.restore(batch)
                self._attempts.fail(batch, closed_error(batch), outcome)
        for topic in list(self.accumulator.topic_queues.values()):
            self._router.fail_rooms(
                topic,
                ProducerClosedError(
                    f"The producer was closed before the partitions of topic {topic.name!r}"
                    " were known"
                ),
            )
        self._settle(outcome, direct=False)
        return outcome.done

    async def close(self) -> None:
        """End timers, tasks, threads and connections; cancelled, without waiting for their end."""
        self._attempts.is_closing = True
        self._timers.close()
        for window in self._windows.values():
            if window.throttle_timer is not None:
                window.throttle_timer.cancel()
        self._router.close()
        try:
            await self._identity.close()
        finally:
            try:
                await self.cluster.close()
            finally:
                await self._compressor.close()

    def leave_behind(self) -> None:
        """In the child of a fork: do nothing more, even if the copy of the loop goes on."""
        self._attempts.is_closing = True
        self._timers.close()
        self.cluster.leave_behind()

    # ---- what there is

    @property
    def requests_in_flight(self) -> int:
        """Produce requests without an answer."""
        return sum(window.in_flight for window in self._windows.values())

    async def partitions_for(self, name: str) -> tuple[int, ...]:
        """The ids of a topic's partitions, once they are known."""
        return await self._router.partitions_for(name)

    def metrics(self) -> dict[str, float]:
        """Counters since the start, and gauges of now."""
        counters = self.counters
        accumulator = self.accumulator
        return {
            "record_accepted_total": accumulator.accepted_count,
            "record_delivered_total": counters.records_delivered,
            "record_error_total": counters.records_failed,
            "batch_sent_total": counters.batches_sent,
            "batch_retry_total": counters.batches_retried,
            "batch_split_total": counters.batches_split,
            "request_total": counters.requests_sent,
            "outgoing_byte_total": counters.bytes_sent,
            "epoch_bump_total": counters.epochs_bumped,
            "requests_in_flight": self.requests_in_flight,
            "buffer_total_bytes": accumulator.buffer_memory,
            "buffer_available_bytes": accumulator.buffer_memory - accumulator.buffer_used,
            "waiting_callers": len(self.admissions),
            "metadata_age": self._loop.time() - self.cluster.metadata_at,
        }

    def status(self) -> dict[str, object]:
        """What a health check wants to know."""
        last_error = self.cluster.last_metadata_error or self.cluster.any_connect_error()
        identity = self._identity.current
        return {
            "cluster_id": self.cluster.metadata.cluster_id,
            "brokers": {
                self.cluster.broker_name(node_id): "connected" if connected else "not connected"
                for node_id, connected in self.cluster.nodes().items()
            },
            "producer_id": None if identity is None else identity.producer_id,
            "buffer_used_ratio": self.accumulator.buffer_used / self.accumulator.buffer_memory,
            "requests_in_flight": self.requests_in_flight,
            "waiting_callers": len(self.admissions),
            "last_error": None if last_error is None else str(last_error),
        }

    # ---- told by the accumulator

    def schedule_turn(self) -> None:
        """Have `_end_of_turn` run when the loop's current turn is over."""
        running = asyncio._get_running_loop()  # pyright: ignore[reportPrivateUsage]
        if self._loop.is_closed() or (running is not None and running is not self._loop):
            raise WrongEventLoopError(
                "The producer belongs to another event loop than the one that runs now",
                hint="Make one producer per loop, inside it, and close it there.",
            )
        self._loop.call_soon(self._end_of_turn)

    def batch_closed(self, lane: PartitionLane) -> None:
        """A batch is full."""
        lane.open_is_due = False
        self._activate(lane)
        if self._compressor.is_active:
            self._compressor.prepare_closed(lane)
        self._offer(lane)
        self._pump_leader(lane)

    def batch_grew(self, lane: PartitionLane) -> None:
        """An open batch is worth a request: it leaves if the broker has a free one, or grows on.

        Not where it is to be compressed, which larger ones are better at.
        """
        if not self._linger and not self._compressor.is_active:
            self._activate(lane)
            self._make_due(lane)
            self._pump_leader(lane)

    def _end_of_turn(self) -> None:
        now = self._loop.time()
        lanes = self.accumulator.take_touched()
        for lane in lanes:
            self._activate(lane)
            self._router.topic_used(lane.topic.name, now)
            if lane.open is None:
                continue
            if self._flushes:
                self._make_due(lane)
            elif self._linger:
                self._let_linger(lane)
            elif len(lanes) <= _MANY_LANES or not self._hold_back(lane):
                self._make_due(lane)
        self._pump_leaders(lanes)

    # ---- told by the compressor

    def _compressed(self, lane: PartitionLane) -> None:
        """A batch of the lane was compressed in a thread."""
        self._offer(lane)
        self._pump_leader(lane)

    # ---- told by the cluster

    def metadata_changed(self, topics: Iterable[str]) -> None:
        """Apply news of topics; lanes may have moved."""
        self._router.metadata_changed(topics)
        self._admit()
        self._pump_all()

    def connection_ready(self, node_id: int) -> None:
        """Send what waited for a connection."""
        self._pump(self._window(node_id))

    def connection_writable(self, node_id: int) -> None:
        """Send what waited for room in the transport."""
        self._pump(self._window(node_id))

    def wants_connection(self, node_id: int) -> bool:
        """Whether something waits to be sent to a broker."""
        return bool(self._window(node_id).ready) and not self._attempts.is_closing

    # ---- lanes and windows

    def _all_lanes(self) -> list[PartitionLane]:
        # The lanes touched in this turn are not active yet.
        self._end_of_turn()
        return list(self._active)

    def _window(self, node_id: int) -> BrokerWindow:
        window = self._windows.get(node_id)
        if window is None:
            window = self._windows[node_id] = BrokerWindow(node_id)
        return window

    def _activate(self, lane: PartitionLane) -> None:
        if lane in self._active:
            return
        batches = lane.batches()
        if batches:
            self._active.add(lane)
            self._timers.schedule(
                self._timers.expiring, lane, batches[0].created_at + self._delivery_timeout
            )

    def _close_open(self, lane: PartitionLane) -> list[RecordBatch]:
        """Close the lane's open batch, whatever its age; returns all its batches."""
        if lane.open is not None:
            lane.close_open()
            lane.open_is_due = False
            if self._compressor.is_active:
                self._compressor.prepare_closed(lane)
        self._offer(lane)
        return lane.batches()

    def _make_due(self, lane: PartitionLane) -> None:
        lane.open_is_due = True
        self._offer(lane)

    def _let_linger(self, lane: PartitionLane) -> None:
        assert lane.open is not None
        lane.linger_at = lane.open.created_at + self._linger
        self._window(lane.leader.node_id).lingering[lane] = None
        self._timers.schedule(self._timers.lingering, lane, lane.linger_at)

    def _hold_back(self, lane: PartitionLane) -> bool:
        """Let a small batch grow while the broker is at a request; False if it is at none.

        Until it has answered what it has now, not until it has nothing: one busy partition would
        hold up all the others.
        """
        window = self._window(lane.leader.node_id)
        if not window.in_flight:
            return False
        if not window.lingering:
            window.answers_due = window.in_flight
        window.lingering[lane] = None
        return True

    def _offer(self, lane: PartitionLane) -> None:
        """Make the lane ready if it may send."""
        if lane.gap != "none" and lane.settle_gap():
            self._start_over(lane)
        if lane.head is None:
            if lane.is_idle:
                self._active.discard(lane)
            return
        now = self._loop.time()
        if lane.may_take(now, self._in_flight_limit, self._identity.current):
            if self._lacks_identity():
                self._identity.need()
                return
            self._window(lane.leader.node_id).ready[lane] = None
        elif lane.retry_at > now:
            self._timers.schedule(self._timers.retrying, lane, lane.retry_at)
        elif lane.leader.node_id == NO_LEADER:
            self.cluster.refresh()

    def _lane_moved(self, lane: PartitionLane, before: PartitionLeader) -> None:
        if before.node_id != lane.leader.node_id:
            window = self._window(before.node_id)
            window.ready.pop(lane, None)
            if window.lingering.pop(lane, 0) is None:
                if self._linger:
                    self._window(lane.leader.node_id).lingering[lane] = None
                else:
                    lane.open_is_due = lane.open is not None
        self._offer(lane)

    # ---- sending

    def _pump_all(self) -> None:
        for window in list(self._windows.values()):
            self._pump(window)

    def _pump_leader(self, lane: PartitionLane) -> None:
        if lane.leader.node_id != NO_LEADER:
            self._pump(self._window(lane.leader.node_id))

    def _pump_leaders(self, lanes: Iterable[PartitionLane]) -> None:
        for node_id in {lane.leader.node_id for lane in lanes}:
            if node_id != NO_LEADER:
                self._pump(self._window(node_id))

    def _pump(self, window: BrokerWindow) -> None:
        """Send to a broker while its window is open and there is something to send."""
        if self._lacks_identity() or window.is_pumping:
            # Called from within: what became ready is looked at when the request at hand is sent.
            return
        window.is_pumping = True
        try:
            self._fill(window)
        finally:
            window.is_pumping = False

    def _fill(self, window: BrokerWindow) -> None:
        while window.ready and not self._attempts.is_closing:
            connection = self._open_connection(window)
            if connection is None:
                if window.stalled_since is None:
                    window.stalled_since = self._loop.time()
                return
            window.stalled_since = None
            taken = self._collect(window, self._loop.time())
            if not taken:
                return
            self._send(window, connection, taken)

    def _lacks_identity(self) -> bool:
        return self._config.enable_idempotence and self._identity.current is None

    def _open_connection(self, window: BrokerWindow) -> Connection | None:
        """The connection to a broker if it may be sent another request now."""
        if window.in_flight >= self._in_flight_limit:
            return None
        connection = self.cluster.connection(window.node_id)
        if connection is None or not connection.is_writable:
            return None
        if connection.throttled_until > self._loop.time():
            # KIP-219: the broker asked for a pause; answers go on being read.
            self._pump_at(window, connection.throttled_until)
            return None
        return connection

    def _is_stalled(self, node_id: int) -> bool:
        since = self._window(node_id).stalled_since
        timeout = self._config.partitioner_availability_timeout_ms / 1000
        return since is not None and self._loop.time() - since > timeout

    def _collect(self, window: BrokerWindow, now: float) -> list[Taken]:
        """Take at most one batch of each ready lane, as many as one request may hold."""
        identity = self._identity.current
        size = _REQUEST_OVERHEAD
        taken: list[Taken] = []
        not_over: list[PartitionLane] = []
        if self._linger:
            # Java's piggyback: what lingers goes along with what leaves.
            self._end_lingering(window)
        while window.ready:
            lane, _ = window.ready.popitem(last=False)
            if not lane.may_take(now, self._in_flight_limit, identity):
                self._offer(lane)
                if lane in window.ready:
                    break
                continue
            if not self._compressor.prepare_head(lane):
                continue
            head = lane.head
            assert head is not None
            size += BATCH_HEADER_SIZE + _PARTITION_OVERHEAD + head.payload_size
            if taken and size > self._config.max_request_size:
                window.ready[lane] = None
                window.ready.move_to_end(lane, last=False)
                break
            taken.append((lane, lane.take(identity)))
            if lane.head is not None and lane.may_take(now, self._in_flight_limit, identity):
                not_over.append(lane)
        for lane in not_over:
            window.ready[lane] = None
        return taken

    def _end_lingering(self, window: BrokerWindow) -> None:
        for lane in window.lingering:
            if lane.open is not None:
                self._make_due(lane)
        window.lingering.clear()

    def _send(self, window: BrokerWindow, connection: Connection, taken: list[Taken]) -> None:
        request, sent = make_request(
            taken,
            window,
            self.cluster.broker_name(window.node_id),
            self.cluster.metadata,
            acks=self._config.acks,
            timeout_ms=self._config.request_timeout_ms,
        )
        expects_answer = self._config.acks != 0
        try:
            version = connection.version_for(PRODUCE, at_most=sent.version_cap)
            connection.send(
                PRODUCE,
                version,
                request,
                timeout=self._config.request_timeout_ms / 1000,
                on_answer=partial(self._answered, sent) if expects_answer else None,
            )
        except Exception as error:
            # Nothing left: the loop tells, as if it had been answered.
            window.in_flight += 1
            self._loop.call_soon(self._answered, sent, None, _request_error(error))
            return
        counters = self.counters
        counters.requests_sent += 1
        counters.batches_sent += len(taken)
        counters.bytes_sent += sent.size
        if expects_answer:
            if not window.in_flight:
                window.heard_at = self._loop.time()
            window.in_flight += 1
        else:
            self._complete_unanswered(sent)

    def _complete_unanswered(self, sent: SentRequest) -> None:
        # acks=0: handed to the socket is all there is to know; offsets are -1.
        outcome = Outcome()
        for lane, batch in sent.batches.values():
            lane.answered(batch)
            self._attempts.complete(batch, -1, -1, outcome)
            outcome.lanes.append(lane)
        self._settle(outcome, direct=False)

    # ---- answers

    def _answered(
        self, sent: SentRequest, response: ProduceResponse | None, error: KafkaError | None
    ) -> None:
        sent.window.in_flight -= 1
        sent.window.heard_at = self._loop.time()
        outcome = Outcome()
        if response is not None:
            self._take_response(sent, response, outcome)
            error = NetworkError(
                "The broker's answer leaves this partition out", possibly_persisted=True
            )
        assert error is not None
        for lane, batch in sent.batches.values():
            self._attempts.failed(lane, batch, error, sent, outcome)
        try:
            self._settle(outcome, direct=True)
        finally:
            sent.window.answers_due -= 1
            if not self._linger and sent.window.answers_due <= 0:
                self._end_lingering(sent.window)
            self._pump(sent.window)
            # A lane that moved while its batch was in flight has become ready at another broker.
            self._pump_leaders(outcome.lanes)

    def _take_response(
        self, sent: SentRequest, response: ProduceResponse, outcome: Outcome
    ) -> None:
        """Take each partition's answer; what stays in `sent.batches` got none."""
        strangers: list[tuple[str, int]] = []
        for topic in response.responses:
            name = topic.name or sent.names_by_id.get(topic.topic_id, "")
            for answer in topic.partition_responses:
                entry = sent.batches.pop((name, answer.index), None)
                if entry is None:
                    strangers.append((name or topic.topic_id.hex(), answer.index))
                    continue
                lane, batch = entry
                if answer.error_code == 0:
                    self._attempts.succeeded(lane, batch, answer, outcome)
                    continue
                self._attempts.failed(
                    lane,
                    batch,
                    broker_error(answer.error_code, answer.error_message),
                    sent,
                    outcome,
                    answer,
                )
                if not self._is_earlier_topic(name, topic.topic_id):
                    self._take_leader_hint(lane, answer, response)
        if strangers:
            # One line, however many there are: the broker may name millions.
            logger.warning(
                "Broker %s answered %s times for a partition that it was not asked about, or"
                " again; the first was %r",
                sent.broker,
                len(strangers),
                strangers[0],
            )

    def _is_earlier_topic(self, name: str, topic_id: bytes) -> bool:
        # Made anew since the request: the epochs of the two have nothing to do with each other.
        known = self.cluster.metadata.topics.get(name)
        return topic_id != NO_TOPIC_ID and known is not None and known.topic_id != topic_id

    def _take_leader_hint(
        self, lane: PartitionLane, answer: PartitionProduceResponse, response: ProduceResponse
    ) -> None:
        hint = answer.current_leader
        if hint.leader_id < 0 or hint.leader_epoch < 0:
            return
        addresses = [
            BrokerAddress(endpoint.node_id, endpoint.host, endpoint.port)
            for endpoint in response.node_endpoints
        ]
        if self.cluster.take_leader_hint(
            lane.topic.name,
            lane.partition,
            PartitionLeader(hint.leader_id, hint.leader_epoch),
            addresses,
        ):
            self._router.leader_changed(lane.topic.name)
            self._pump(self._window(hint.leader_id))

    def _pump_at(self, window: BrokerWindow, at: float) -> None:
        timer = window.throttle_timer
        if timer is not None and timer.when() <= at:
            return
        # A timer for later was for an earlier connection, whose pause ended with it.
        if timer is not None:
            timer.cancel()
        window.throttle_timer = self._loop.call_at(at, self._unthrottle, window)

    def _unthrottle(self, window: BrokerWindow) -> None:
        window.throttle_timer = None
        self._pump(window)

    # ---- settling

    def _settle(self, outcome: Outcome, *, direct: bool) -> None:
        """Tell whoever waits, admit whom there is room for, offer the lanes again."""
        self._attempts.log_failures(outcome)
        if self._flushes:
            for batch in outcome.done:
                self._flushes.batch_done(batch)
        done = iter(outcome.done)
        try:
            for batch in done:
                batch.wake(direct)
        finally:
            # Also when a task that was told exits the program: the loop tells the others, and the
            # lanes go on, or what the exit waits for would never end.
            for batch in done:
                batch.wake(False)
            self._admit()
            for lane in outcome.lanes:
                self._offer(lane)

    def _room_ended(self, room: RecordBatch, topic: TopicQueue) -> None:
        """Records that waited for their topic were routed, or failed."""
        if any(self._flushes.waiting_for(room)):
            routed: list[RecordBatch] = []
            for lane in self._all_lanes():
                if lane.topic is topic:
                    routed.extend(self._close_open(lane))
            self._flushes.replace(room, routed)
        self._admit()

    # ---- room in the buffer

    def withdraw(self, waiter: Waiter[Delivery]) -> None:
        """A caller no longer waits for room; those behind may fit now."""
        self.admissions.withdraw(waiter)
        self._admit()

    def expire_admissions(self, now: float, error: Callable[[], Exception]) -> None:
        """Reject callers who waited for room long enough; those behind them may fit now."""
        self.admissions.expire(now, error)
        self._admit()

    def _admit(self) -> None:
        if self.accumulator.has_blocked:
            self.admissions.admit()
            self.accumulator.has_blocked = len(self.admissions) > 0

    def no_room_error(self) -> BufferExhaustedError:
        """The error of the caller who was just refused for lack of room.

        It is raised for every record while the buffer is full, so most of its text is left until
        somebody wants to read it.
        """
        accumulator = self.accumulator
        return BufferExhaustedError(
            requested_bytes=accumulator.refused_bytes,
            available_bytes=max(0, accumulator.buffer_memory - accumulator.buffer_used),
            total_bytes=accumulator.buffer_memory,
            requests_in_flight=self.requests_in_flight,
            waiting_callers=len(self.admissions),
            slowest_broker=self._slowest_broker(),
        )

    def _slowest_broker(self) -> str:
        """The broker that has been silent longest although it was asked, or cannot be asked."""
        busy = [window for window in self._windows.values() if window.in_flight or window.ready]
        if not busy:
            return ""
        slowest = min(busy, key=lambda window: window.heard_at)
        text = self.cluster.broker_name(slowest.node_id)
        if slowest.in_flight:
            silent_for = self._loop.time() - slowest.heard_at
            text += f" with {slowest.in_flight} in flight, silent for {silent_for:.3g} s"
        return text if self.cluster.is_connected(slowest.node_id) else f"{text}, not connected"

    # ---- producer id and epochs

    def _fail_waiting(self, error: KafkaError) -> None:
        """No producer id is to be had: fail what waits for it. The next record asks again."""
        outcome = Outcome()
        for lane in self._all_lanes():
            batches = [batch for batch in lane.batches() if not batch.is_in_flight]
            lane.forget_waiting()
            for batch in batches:
                self._attempts.fail(batch, with_story(error, batch), outcome)
            outcome.lanes.append(lane)
        self._settle(outcome, direct=False)
        self._pump_leaders(outcome.lanes)

    def _start_over(self, lane: PartitionLane) -> None:
        """Give a lane whose numbers have a gap a new epoch (KIP-360)."""
        identity = self._identity.current
        is_first = identity is not None and lane.identity == identity
        if is_first:
            self.counters.epochs_bumped += 1
            identity = self._identity.bump()
        if identity is None:
            # Its epochs are used up. When there is a new id, every lane is offered again.
            self._identity.need()
            return
        # Those that follow into the same epoch say nothing new.
        logger.log(
            logging.WARNING if is_first else logging.DEBUG,
            "%s-%s starts over at sequence 0 under epoch %s of producer id %s",
            lane.topic.name,
            lane.partition,
            identity.epoch,
            identity.producer_id,
        )
        outcome = Outcome()
        for batch in lane.take_stored():
            self._attempts.complete(batch, -1, -1, outcome)
        lane.restart(identity)
        self._settle(outcome, direct=False)

    def _offer_all(self) -> None:
        for lane in self._all_lanes():
            self._offer(lane)
        self._pump_all()

    # ---- time

    def _time_passed(self) -> None:
        now = self._loop.time()
        outcome = Outcome()
        for lane in self._timers.lingering.pop_due(now):
            self._linger_over(lane, now)
        for lane in self._timers.retrying.pop_due(now):
            self._offer(lane)
            self._pump_leader(lane)
        for lane in self._timers.expiring.pop_due(now):
            expires_at = self._attempts.expire(lane, now, outcome)
            if expires_at is None:
                self._active.discard(lane)
            else:
                self._timers.schedule(self._timers.expiring, lane, expires_at)
        try:
            self._settle(outcome, direct=True)
        finally:
            self._pump_leaders(outcome.lanes)

    def _linger_over(self, lane: PartitionLane, now: float) -> None:
        if lane.open is None:
            return
        if now < lane.linger_at:
            self._timers.schedule(self._timers.lingering, lane, lane.linger_at)
            return
        self._window(lane.leader.node_id).lingering.pop(lane, None)
        self._make_due(lane)
        self._pump_leader(lane)


def _request_error(error: Exception) -> KafkaError:
    """Why a request could not be sent; a defect of ours fails its records and nothing else."""
    if isinstance(error, KafkaError):
        return error
    logger.error("A Produce request could not be made", exc_info=error)
    defect = KafkaError(f"The request could not be made ({type(error).__name__})")
    defect.__cause__ = error
    return defect
