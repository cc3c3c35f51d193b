"""From full and due batches to acknowledged ones: requests, responses, retries, timeouts.

Owned by the producer. Its native half (sending.pyx) makes the requests, and settles the responses
that are plain successes; what is to be decided otherwise is decided here. It hears from that half,
from the compressor and from the cluster; everything it does happens in a callback of the loop or
inside a call of `send`, never in a task of its own, except to get a producer id.

A `BrokerQueue` per broker holds the lanes that have something to send to it. `Sending.offer` puts a
lane there after anything that can let it send: a batch closed or came due, a response arrived, a
backoff ended, a leader or an identity came. `Sending.drain` then sends, while the broker may be
sent more: at most one batch of each lane in one request, the lanes in turn.

Invariants
* A batch is in exactly one place: open or closed in its lane, or in flight in one request.
* Every batch has a bound: `delivery_timeout_ms` after its creation it is failed wherever it is.
  One in flight then keeps its place among the batches in flight until its request is over.
* Bytes are given back when a batch is done *and* no request carries it.
* Waiters run only after all the state of a response is settled, and directly only from a callback
  of the loop, where no task is running.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, cast

import async_timeout

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.produce_response import SentRequest
from aioproducer._native.queues import (
    BrokerQueue,
    BufferShare,
    InFlightLimit,
    TopicQueue,
    WaitingRecords,
)
from aioproducer._native.record_batch import Delivery, RecordBatch
from aioproducer._native.sending import Counters, Sending
from aioproducer.admission import Admissions, Waiter
from aioproducer.attempts import Attempts, Outcome
from aioproducer.background import Background, Timer
from aioproducer.batch_compressor import BatchCompressor
from aioproducer.cluster import Cluster
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    BufferExhaustedError,
    KafkaError,
    NetworkError,
    ProducerClosedError,
    broker_error,
)
from aioproducer.errors.base import seconds
from aioproducer.explaining import about_batch, closed_error
from aioproducer.failure_log import FailureLog
from aioproducer.flushing import Flushes
from aioproducer.lane import PartitionLane
from aioproducer.lane_timers import LaneTimers
from aioproducer.metadata import NO_LEADER, PartitionLeader, broker_address
from aioproducer.metrics import METRICS
from aioproducer.partitioner import RoundRobinPartitioner
from aioproducer.produce_request import make_request
from aioproducer.producer_id import ProducerId
from aioproducer.protocol.produce import PRODUCE, PartitionProduceResponse, ProduceResponse
from aioproducer.protocol.schema import NO_TOPIC_ID
from aioproducer.protocol.versions import produce_version_cap
from aioproducer.topics import Topic, Topics
from aioproducer.transport import Connection
from aioproducer.undelivered import UndeliveredRecords
from aioproducer.unneeded_answers import UnneededAnswers

if TYPE_CHECKING:
    from aioproducer._native.queues import WaitingRecord

__all__ = ["Sender"]

logger = logging.getLogger(__name__)

_WOKEN_AT_ONCE = 1_000
"""Callers that are woken in one turn of the loop while the producer closes."""


class Sender:
    """Drives the lanes of all partitions.

    Attributes:
        accumulator: Where the send path puts records.
        admissions: Callers who wait for room in the accumulator.
        cluster: Connections and metadata.
        topics: The topics in use.
        counters: What happened so far.
        background: The loop that all of it runs on.
    """

    def __init__(self, config: ProducerConfig, background: Background) -> None:
        self.counters = Counters()
        self.cluster = Cluster(config, background, self)
        self._config = config
        self.background = background
        self._linger = config.linger_ms / 1000
        self._leaderless = BufferShare()
        self._failure_log = FailureLog(background)
        self._compressor = BatchCompressor(config, background.loop, self._compressed)
        self._flushes = Flushes(background.loop)
        self.topics = Topics(
            config,
            self.cluster,
            background,
            is_stalled=self._is_stalled,
            lane_moved=self._lane_moved,
            set_bounds=self._set_bounds,
            waiting_failed=self._waiting_failed,
            record_failed=self._record_failed,
            waiting_over=self._waiting_over,
            sequences_forgotten=self._sequences_forgotten,
        )
        self._attempts = Attempts(
            config,
            background,
            self.cluster,
            self.topics,
            self._compressor,
            self._flushes,
            self.counters,
            self._failure_log,
            producer_id_lost=self._producer_id_lost,
            producer_id_error=self._producer_id_error,
        )
        self._producer_id = ProducerId(
            self.cluster,
            background,
            retry_delay=self._attempts.retry_delay,
            obtained=self._offer_all,
            refused=self._fail_waiting,
        )
        self._timers = LaneTimers(background, self._time_passed)
        self._unneeded_answers = UnneededAnswers(self.topics, self.cluster.refresh)
        self.sending = Sending(
            loop=background.loop,
            time=background.time,
            decisions=self,
            producer_id=self._producer_id,
            flushes=self._flushes,
            counters=self.counters,
            produce_api=PRODUCE,
            config=config,
            compresses=self._compressor.is_active,
        )
        self.accumulator = RecordAccumulator(
            loop=background.loop,
            events=self.sending,
            topic_events=self.topics,
            clock=background.time,
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
        self.topics.serve(self.accumulator)
        self.sending.serve(self.accumulator)
        self._attempts.serve(self.sending)
        self.admissions: Admissions[Delivery] = Admissions(self.accumulator)

    # ---- lifecycle

    async def start(self, timeout: float) -> None:
        """Reach the cluster within `timeout` seconds."""
        await self.cluster.start(self.topics, timeout)
        if self._config.enable_idempotence:
            self._producer_id.need()

    async def flush(self) -> None:
        """Wait until every record accepted so far is delivered or failed."""
        remaining: set[RecordBatch] = set()
        for topic in self.topics.by_name.values():
            remaining.update(waiting.batch for waiting in topic.waiting)
        for lane in self._all_lanes():
            remaining.update(self._close_open(lane))
        self.sending.drain_all()
        await self._flushes.wait_for(remaining)
        if self._config.acks == 0:
            # Done means handed to the transport: a connection closed now would lose the rest.
            with contextlib.suppress(TimeoutError):
                async with async_timeout.timeout(self._config.delivery_timeout_ms / 1000):
                    await self.cluster.drain()

    def begin_close(self) -> UndeliveredRecords:
        """Report what fails from now on."""
        self._attempts.undelivered = UndeliveredRecords()
        return self._attempts.undelivered

    async def give_up(self) -> None:
        """Send nothing more, and fail what is not delivered yet, because the producer closes.

        Whoever waits is woken in turns of the loop, not all at once: there may be very many.
        """
        self.sending.is_closing = True
        outcome = Outcome()
        for lane in self._all_lanes():
            batches = lane.batches()
            lane.forget_waiting()
            for batch in batches:
                self._attempts.fail(batch, closed_error(batch), outcome)
        for topic in list(self.topics.by_name.values()):
            self.topics.fail_waiting(
                topic,
                ProducerClosedError(
                    f"The producer was closed before the partitions of topic {topic.name!r}"
                    " were known"
                ),
            )
        self._attempts.tell(outcome)
        woken = 0
        try:
            for batch in outcome.done:
                self._flushes.batch_done(batch)
                woken += batch.waiter_count
                batch.wake(False)
                if woken >= _WOKEN_AT_ONCE:
                    woken = 0
                    await asyncio.sleep(0)
        finally:
            # Also when the loop ends and cancels this: nobody must wait for what never comes.
            for batch in outcome.done:
                batch.wake(False)

    async def finish(self) -> None:
        """After the last `flush`: wait until brokers have read what they need not answer."""
        if self._config.acks == 0:
            await self.cluster.finish()

    async def close(self) -> None:
        """End timers, tasks, threads and connections; cancelled, without waiting for their end."""
        self.sending.is_closing = True
        try:
            await self._producer_id.close()
        finally:
            try:
                await self.cluster.close()
            finally:
                # Last: until the connections are closed, responses come and set timers.
                self._timers.close()
                self.sending.close()
                self.topics.close()
                self._failure_log.close()
                await self._compressor.close()

    def leave_behind(self) -> None:
        """In the child of a fork: do nothing more, even if the copy of the loop goes on."""
        self.sending.is_closing = True
        self._timers.close()
        self.sending.close()
        self.topics.close()
        self._failure_log.close()
        self.cluster.leave_behind()

    # ---- what there is

    @property
    def requests_in_flight(self) -> int:
        """Produce requests without an answer."""
        return sum(queue.in_flight for queue in self.sending.broker_queues.values())

    async def partitions_for(self, name: str) -> tuple[int, ...]:
        """The ids of a topic's partitions, once they are known."""
        return await self.topics.partitions_for(name)

    def metrics(self) -> dict[str, float]:
        """Counters since the start, and gauges of now."""
        counters = self.counters
        accumulator = self.accumulator
        return dict(
            zip(
                METRICS,
                (
                    accumulator.accepted_count,
                    counters.records_delivered,
                    counters.records_failed,
                    counters.batches_sent,
                    counters.batches_retried,
                    counters.batches_split,
                    counters.requests_sent,
                    counters.bytes_sent,
                    counters.epochs_bumped,
                    self.requests_in_flight,
                    accumulator.buffer_memory,
                    accumulator.buffer_memory - accumulator.buffer_used,
                    len(self.admissions),
                    self.background.time() - self.cluster.metadata_at,
                ),
                strict=True,
            )
        )

    def not_yet(self, delivery: Delivery, waited: float) -> KafkaError:
        """Why a record has no outcome yet, for a caller who waits no longer for it."""
        batch = delivery._record_batch()  # pyright: ignore[reportPrivateUsage]
        topic = self.topics.by_name.get(batch.topic)
        hint = "The record goes on until delivery_timeout_ms; only this wait is over."
        if batch.partition < 0 or topic is None:
            error = self.topics.not_yet_known(batch.topic, waited)
        else:
            lane = cast("PartitionLane", topic.queue(batch.partition))
            error = self._attempts.not_yet(lane, batch, waited)
        error.hint = f"{error.hint} {hint}".strip()
        error.is_pending = True
        return error

    def status(self) -> dict[str, object]:
        """What a health check wants to know."""
        cluster = self.cluster
        last_error = cluster.last_metadata_error or cluster.brokers.any_connect_error()
        identity = self._producer_id.current
        return {
            "cluster_id": cluster.cluster_id,
            "brokers": {
                cluster.brokers.name(node_id): (
                    "connected" if broker.is_connected else "not connected"
                )
                for node_id, broker in cluster.brokers.items()
            },
            "producer_id": None if identity is None else identity.producer_id,
            "buffer_used_ratio": self.accumulator.buffer_used / self.accumulator.buffer_memory,
            "requests_in_flight": self.requests_in_flight,
            "waiting_callers": len(self.admissions),
            "last_error": None if last_error is None else str(last_error),
        }

    # ---- told by the native half

    def prepare_closed(self, lane: PartitionLane) -> None:
        """Begin to compress a batch that is full."""
        self._compressor.prepare_closed(lane)

    def fit_head(self, lane: PartitionLane) -> bool:
        """Have a lane's head be no larger than its topic takes; whether it is another one now."""
        outcome = Outcome()
        has_changed = self._attempts.fit_head(lane, outcome)
        if outcome.done:
            self.background.call_soon(self._settle_later, outcome)
        return has_changed

    def prepare_head(self, lane: PartitionLane) -> bool:
        """Whether a lane's head can be sent as it is; else it comes back from a thread."""
        return self._compressor.prepare_head(lane)

    def linger_until(self, lane: PartitionLane, at: float) -> None:
        """Have the lane's open batch wait for more records until then."""
        self._timers.schedule(self._timers.lingering, lane, at)

    def retry_until(self, lane: PartitionLane, at: float) -> None:
        """Look at a lane again when its backoff is over."""
        self._timers.schedule(self._timers.retrying, lane, at)

    def expire_at(self, lane: PartitionLane, at: float) -> None:
        """Look then at which batches of a lane have expired."""
        self._timers.schedule(self._timers.expiring, lane, at)

    def lacks_leader(self, lane: PartitionLane) -> None:
        """A lane has something to send, and nobody to send it to."""
        self.topics.refresh(lane.topic)

    def settle_gap(self, lane: PartitionLane) -> None:
        """Close the gap in a lane's numbers, if it is known to be one."""
        if lane.settle_gap():
            self._start_over(lane)

    def new_broker_queue(self, node_id: int) -> BrokerQueue:
        """Make the queue of a broker."""
        config = self._config
        most = min(
            config.max_in_flight_requests_per_connection * config.max_request_size,
            max(2 * config.max_request_size, config.buffer_memory // 4),
        )
        # Beside those that there are.
        self.accumulator.has_brokers = len(self.sending.broker_queues) > 0
        return BrokerQueue(
            node_id,
            InFlightLimit(most, config.request_timeout_ms / 1000),
            Timer(self.background, partial(self._unthrottle, node_id)),
        )

    def connection(self, node_id: int) -> Connection | None:
        """The connection to a broker that requests may be begun on; None has one be made."""
        return self.cluster.connection(node_id)

    def admit(self) -> None:
        """There is room in the buffer."""
        self._admit()

    # ---- told by the compressor

    def _compressed(self, lane: PartitionLane) -> None:
        """A batch of the lane was compressed in a thread."""
        self.sending.offer(lane)
        self.sending.drain_offered()

    # ---- told by the cluster

    def metadata_changed(self) -> None:
        """Send what waited for a leader; forget the queues of brokers that are gone."""
        queues = self.sending.broker_queues
        for node_id, queue in list(queues.items()):
            if queue.is_idle and not self.cluster.is_broker(node_id):
                queue.throttle_timer.cancel()
                queue.is_gone = True
                del queues[node_id]
        self.accumulator.has_brokers = len(queues) > 1
        self.admissions.unpark()
        self._admit()
        self.sending.drain_all()

    def cluster_changed(self) -> None:
        """Go on under another producer id: the one in use is somebody else's there."""
        self._producer_id.discard()
        outcome = Outcome()
        for lane in self._all_lanes():
            for batch in lane.take_doubtful():
                error = batch.last_error or NetworkError("The cluster was replaced")
                self._attempts.fail(batch, about_batch(error, batch), outcome)
            lane.disown_identity()
            outcome.lanes.append(lane)
        self._settle(outcome, direct=False)

    def connection_ready(self, node_id: int) -> None:
        """Send what waited for a connection."""
        self.sending.drain(self.sending.broker_queue(node_id))

    def connection_writable(self, node_id: int) -> None:
        """Send what waited for room in the transport."""
        self.sending.drain(self.sending.broker_queue(node_id))

    def wants_connection(self, node_id: int) -> bool:
        """Whether something waits to be sent to a broker."""
        queue = self.sending.broker_queues.get(node_id)
        return queue is not None and queue.has_ready and not self.sending.is_closing

    def unneeded_answer(self, node_id: int, response: ProduceResponse) -> None:
        """A broker answered records that were sent with acks=0."""
        self._unneeded_answers.take(self.cluster.brokers.name(node_id), response)

    # ---- lanes and broker queues

    def _all_lanes(self) -> list[PartitionLane]:
        # The lanes touched in this turn are not active yet.
        self.sending.end_of_turn()
        return list(self.sending.active)

    def _set_bounds(self, lane: PartitionLane) -> None:
        node_id = lane.leader.node_id
        if node_id == NO_LEADER:
            lane.share = self._leaderless
        else:
            lane.share = self.sending.broker_queue(node_id).share
        self.sending.set_batch_limit(lane)

    def _close_open(self, lane: PartitionLane) -> list[RecordBatch]:
        """Close the lane's open batch, whatever its age; returns all its batches."""
        if lane.open is not None:
            lane.close_open()
            if self._compressor.is_active:
                self._compressor.prepare_closed(lane)
        self.sending.offer(lane)
        return lane.batches()

    def _lane_moved(self, lane: PartitionLane, before: PartitionLeader) -> None:
        self.admissions.unpark()
        if before.node_id != lane.leader.node_id:
            if before.node_id != NO_LEADER:
                self.sending.broker_queue(before.node_id).withdraw(lane)
            if lane.open is not None and not lane.open_is_due:
                if not self._linger:
                    lane.open_is_due = True
                elif lane.leader.node_id != NO_LEADER:
                    self.sending.broker_queue(lane.leader.node_id).lingering[lane] = None
        self.sending.offer(lane)

    def _is_stalled(self, node_id: int) -> bool:
        since = self.sending.broker_queue(node_id).stalled_since
        timeout = self._config.partitioner_availability_timeout_ms / 1000
        return since is not None and self.background.time() - since > timeout

    def _settle_later(self, outcome: Outcome) -> None:
        self._settle(outcome, direct=True)
        self.sending.drain_offered()

    # ---- requests that native code leaves to Python

    def send(self, sent: SentRequest, connection: Connection) -> None:
        """Send a request in a form that native code does not write."""
        request = make_request(
            sent, acks=self._config.acks, timeout_ms=self._config.request_timeout_ms
        )
        at_most = produce_version_cap(topic_ids=NO_TOPIC_ID not in sent.names_by_id)
        version = connection.version_for(PRODUCE, at_most=at_most)
        if self._config.acks == 0:
            connection.send(PRODUCE, version, request, timeout=0.0, on_answer=None)
            return
        correlation_id = connection.send_chunks(PRODUCE, version, request, sent.sent_at)
        sent.send_as(version, correlation_id)
        connection.expect(sent, sent.deadline, sent.sent_at)

    def not_sent(self, sent: SentRequest, connection: Connection, error: Exception) -> None:
        """A request could not be made or written: it ends in the loop, like one answered."""
        why = _request_error(error)
        if sent in connection.pending:
            # A part of it may have left: with the connection it ends, in doubt.
            why.possibly_persisted = True
            connection.abort(why)
        else:
            self.background.call_soon(sent.on_answer, None, why)

    def sent_unanswered(self, sent: SentRequest) -> None:
        """With acks=0, handed to the socket is all there is to know; offsets are -1."""
        self.sending.request_over(sent, False)
        outcome = Outcome()
        for lane, batch in zip(sent.queues, sent.batches, strict=True):
            lane.answered(batch)
            self._attempts.complete(batch, -1, -1, outcome)
            outcome.lanes.append(lane)
        self._settle(outcome, direct=False)

    # ---- responses that are no plain success

    def answered(
        self, sent: SentRequest, response: ProduceResponse | None, error: KafkaError | None
    ) -> None:
        """Take the response to a request, or why there is none."""
        self.sending.request_over(sent, response is not None)
        outcome = Outcome()
        left = sent.by_partition
        if response is not None:
            self._take_response(sent, left, response, outcome)
            error = NetworkError(
                "The broker's answer leaves this partition out", possibly_persisted=True
            )
        assert error is not None
        for lane, batch in left.values():
            self._attempts.failed(lane, batch, error, sent.broker_queue.node_id, outcome)
        try:
            self._settle(outcome, direct=True)
        finally:
            # Also a lane that moved while its batch was in flight: ready at another broker now.
            self.sending.request_settled(sent.broker_queue, outcome.lanes)

    def _take_response(
        self,
        sent: SentRequest,
        left: dict[tuple[str, int], tuple[PartitionLane, RecordBatch]],
        response: ProduceResponse,
        outcome: Outcome,
    ) -> None:
        """Take each partition's answer; what stays in `left` got none."""
        strangers: list[tuple[str, int]] = []
        names_by_id = sent.names_by_id
        for topic in response.responses:
            name = topic.name or names_by_id.get(topic.topic_id, "")
            for answer in topic.partition_responses:
                entry = left.pop((name, answer.index), None)
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
                    sent.broker_queue.node_id,
                    outcome,
                    answer,
                )
                # Recreated since the request: the epochs of the two topics have nothing to do
                # with each other.
                if topic.topic_id in (NO_TOPIC_ID, cast("Topic", lane.topic).topic_id):
                    self._take_leader_hint(lane, answer, response)
        if strangers:
            # One line, however many there are: the broker may name millions.
            logger.warning(
                "Broker %s answered %s times for a partition that it was not asked about, or"
                " again; the first was %r",
                self.cluster.brokers.name(sent.broker_queue.node_id),
                len(strangers),
                strangers[0],
            )

    def _take_leader_hint(
        self, lane: PartitionLane, answer: PartitionProduceResponse, response: ProduceResponse
    ) -> None:
        hint = answer.current_leader
        if hint.leader_id < 0 or hint.leader_epoch < 0:
            return
        self.cluster.brokers.learn(
            broker_address(endpoint.node_id, endpoint.host, endpoint.port)
            for endpoint in response.node_endpoints
        )
        leader = PartitionLeader(hint.leader_id, hint.leader_epoch)
        if self.cluster.is_broker(leader.node_id) and self.topics.take_leader_hint(lane, leader):
            self.sending.drain_offered()

    def _unthrottle(self, node_id: int) -> None:
        self.sending.drain(self.sending.broker_queue(node_id))

    # ---- settling

    def _settle(self, outcome: Outcome, *, direct: bool) -> None:
        """Wake whoever waits, admit whom there is room for, offer the lanes again."""
        self._attempts.tell(outcome)
        try:
            self.sending.wake(outcome.done, direct)
        finally:
            # Also when a task that was woken exits the program: the lanes go on, or what the exit
            # waits for would never end.
            self._admit()
            for lane in outcome.lanes:
                self.sending.offer(lane)

    def _waiting_over(self, waiting: WaitingRecords) -> None:
        """Records that waited for metadata were routed, or failed."""
        batch = waiting.batch
        if any(self._flushes.waiting_for(batch)):
            routed: list[RecordBatch] = []
            if not batch.is_done:
                for lane in self._all_lanes():
                    if lane.topic is waiting.topic:
                        routed.extend(self._close_open(lane))
            self._flushes.replace(batch, routed)
        self._admit()

    def _waiting_failed(self, waiting: WaitingRecords, error: KafkaError) -> None:
        if self._attempts.undelivered is not None:
            self._attempts.undelivered.add_waiting(waiting, error)
        self._attempts.records_failed(waiting.topic.name, error, waiting.count)

    def _record_failed(self, topic: str, error: KafkaError, record: WaitingRecord) -> None:
        if self._attempts.undelivered is not None:
            self._attempts.undelivered.add_record(topic, record, error)
        self._attempts.records_failed(topic, error, 1)

    # ---- room in the buffer

    def wait_for_room(self, waiter: Waiter[Delivery]) -> None:
        """Have a caller wait for room: whatever lingers makes some (as in Java)."""
        self.admissions.join(waiter)
        if self.accumulator.refused_share is None:
            self.accumulator.is_full = True
        if not self.accumulator.has_blocked:
            self.accumulator.has_blocked = True
            for queue in list(self.sending.broker_queues.values()):
                if queue.lingering:
                    self.sending.end_lingering(queue)
            self.sending.drain_offered()

    def withdraw(self, waiter: Waiter[Delivery]) -> None:
        """A caller no longer waits for room; those behind may fit now."""
        self.admissions.withdraw(waiter)
        self._admit()

    def expire_admissions(self, now: float, error: Callable[[Waiter[Delivery]], Exception]) -> None:
        """Reject callers who waited for room long enough; those behind them may fit now."""
        self.admissions.expire(now, error)
        self._admit()

    def _admit(self) -> None:
        # Not while a caller is being admitted, whose partitioner sends: who admits him goes on.
        if self.accumulator.has_blocked and not self.accumulator.is_admitting:
            self.accumulator.is_full = self.admissions.admit()
            self.accumulator.has_blocked = len(self.admissions) > 0

    def no_room_error(
        self,
        waiter: Waiter[Delivery] | None = None,
        *,
        waited: float = 0.0,
        bound: str = "",
        hint: str | None = None,
    ) -> BufferExhaustedError:
        """The error of a caller for whom there is no room.

        It is raised for every record while the buffer is full, so most of its text is left until
        somebody wants to read it.

        Args:
            waiter: Who has waited; None for the record that was refused just now.
            waited: How long room was waited for, in seconds.
            bound: What sets that; empty for who does not wait.
            hint: What to change, where waiting is over.
        """
        accumulator = self.accumulator
        refused = (
            (accumulator.refused_line, accumulator.refused_share)
            if waiter is None
            else (waiter.line, waiter.share)
        )
        return BufferExhaustedError(
            self._full_share(*refused),
            requested_bytes=accumulator.refused_bytes if waiter is None else waiter.size,
            available_bytes=max(0, accumulator.buffer_memory - accumulator.buffer_used),
            total_bytes=accumulator.buffer_memory,
            requests_in_flight=self.requests_in_flight,
            waiting_callers=len(self.admissions),
            slowest_broker=self._slowest_broker(),
            waited=waited,
            waiting_for=f"room in the buffer ({bound})" if bound else "",
            last_connect_error=self.cluster.brokers.any_connect_error() if bound else None,
            hint=hint,
        )

    def _full_share(self, line: object, share: object) -> str:
        """What has taken so much of the buffer that a record finds no room."""
        if not isinstance(share, BufferShare):
            return ""
        if isinstance(line, TopicQueue) and share is line.anywhere:
            return (
                f"Each broker with a partition of topic {line.name!r} holds its share of the buffer"
            )
        if share is self.accumulator.unrouted:
            subject = "topics that are not known yet"
        elif share is self._leaderless:
            subject = "partitions without leader"
        else:
            # None of these once the broker is gone, and its queue with it.
            queues = self.sending.broker_queues
            node_ids = [id_ for id_, queue in queues.items() if queue.share is share]
            names = [self.cluster.brokers.name(node_id) for node_id in node_ids]
            subject = f"broker {names[0]}" if names else "a broker that is gone"
        return f"Records for {subject} hold {share.held_bytes} bytes of the buffer"

    def _slowest_broker(self) -> str:
        """The broker that has been silent longest although it was asked, or cannot be asked."""
        queues = self.sending.broker_queues.values()
        busy = [queue for queue in queues if queue.in_flight or queue.has_ready]
        if not busy:
            return ""
        slowest = min(busy, key=lambda queue: queue.heard_at)
        text = self.cluster.brokers.name(slowest.node_id)
        if slowest.in_flight:
            silent_for = self.background.time() - slowest.heard_at
            text += f" with {slowest.in_flight} in flight, silent for {seconds(silent_for)}"
        broker = self.cluster.brokers.get(slowest.node_id)
        is_connected = broker is not None and broker.is_connected
        return text if is_connected else f"{text}, not connected"

    # ---- producer id and epochs

    def _fail_waiting(self, error: KafkaError) -> None:
        """No producer id is to be had: fail what waits for it. The next record asks again."""
        outcome = Outcome()
        for lane in self._all_lanes():
            batches = [batch for batch in lane.batches() if not batch.is_in_flight]
            lane.forget_waiting()
            for batch in batches:
                self._attempts.fail(batch, about_batch(error, batch), outcome)
            outcome.lanes.append(lane)
        self._settle(outcome, direct=False)
        self.sending.drain_offered()

    def _producer_id_error(self) -> KafkaError | None:
        return self._producer_id.last_error

    def _producer_id_lost(self, lane: PartitionLane) -> None:
        """A broker does not take a lane's producer id any more."""
        current, own = self._producer_id.current, lane.identity
        if current is None or own is None or current.producer_id != own.producer_id:
            return
        logger.warning(
            "%s-%s: the broker does not take producer id %s any more: getting another one",
            lane.topic.name,
            lane.partition,
            current.producer_id,
        )
        self._producer_id.discard()

    def _sequences_forgotten(self, lanes: Iterable[PartitionLane]) -> None:
        """Numbers in use went with forgotten topics: they must not begin anew in this epoch."""
        identity = self._producer_id.current
        if identity is not None and any(lane.identity == identity for lane in lanes):
            self.counters.epochs_bumped += 1
            self._producer_id.bump()

    def _start_over(self, lane: PartitionLane) -> None:
        """Close the gap in a lane's numbers; by a new epoch where needed (KIP-360)."""
        if lane.may_renumber:
            lane.renumber()
            return
        identity = self._producer_id.current
        is_first = identity is not None and lane.identity == identity
        if is_first:
            self.counters.epochs_bumped += 1
            identity = self._producer_id.bump()
        if identity is None:
            # Its epochs are used up. When there is a new id, every lane is offered again.
            self._producer_id.need()
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
        # Those that have numbers first, before the end of the turn sends anything: they are to be
        # numbered anew.
        for lane in list(self.sending.active):
            self.sending.offer(lane)
        for lane in self._all_lanes():
            self.sending.offer(lane)
        self.sending.drain_all()

    # ---- time

    def _time_passed(self) -> None:
        now = self.background.time()
        outcome = Outcome()
        for lane in self._timers.lingering.pop_due(now):
            self._linger_over(lane, now)
        for lane in self._timers.retrying.pop_due(now):
            self.sending.offer(lane)
        self.sending.drain_offered()
        for lane in self._timers.expiring.pop_due(now):
            self.sending.expiry_passed(lane, self._attempts.expire(lane, now, outcome) or 0.0)
        try:
            self._settle(outcome, direct=True)
        finally:
            self.sending.drain_offered()

    def _linger_over(self, lane: PartitionLane, now: float) -> None:
        if lane.open is None:
            return
        if now < lane.linger_at:
            self._timers.schedule(self._timers.lingering, lane, lane.linger_at)
            return
        if lane.leader.node_id != NO_LEADER:
            self.sending.broker_queue(lane.leader.node_id).lingering.pop(lane, None)
        self.sending.make_due(lane)
        self.sending.drain_offered()


def _request_error(error: Exception) -> KafkaError:
    """Why a request could not be sent; a defect of ours fails its records and nothing else."""
    if isinstance(error, KafkaError):
        return error
    logger.error("A Produce request could not be made", exc_info=error)
    defect = KafkaError(f"The request could not be made ({type(error).__name__})")
    defect.__cause__ = error
    return defect
