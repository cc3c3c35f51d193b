"""Makes the parts that send one producer's records, and passes news on to them.

Everything that sends runs in a callback of the loop or inside a call of `send`; the only task is
the one that requests a producer id. News comes here through three protocols:

    Decisions        from native code (broker_queues.pyx): what it leaves to Python
    ClusterListener  from the cluster: connections and metadata
    TopicsListener   from the topics in use: leaders, and records that waited for metadata

Who owns what
    BrokerQueues     the queue of each broker: what is sent next, what is in flight
    Topics           topics, partition queues, records that wait for metadata
    Backpressure     callers who wait for buffer space
    BatchResults     retries, with BatchSplitter;  Epochs: sequences that start over
    Finisher         the end of a batch, with Failures
    PartitionTimers  linger, backoff and expiry
    Withdrawals      records that were not sent by their deadline
    SlowPath         requests and responses that native code does not write or read

Invariants
* A batch is in exactly one place: open or closed in its partition queue, or in one request.
* A batch fails `delivery_timeout_ms` after its creation, wherever it is. One in flight keeps its
  place among the batches in flight until its request is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, cast

import async_timeout

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.broker_queues import BrokerQueues, Counters
from aioproducer._native.produce_response import SentRequest
from aioproducer._native.queues import BrokerQueue, InFlightLimit, WaitingRecords
from aioproducer._native.record_batch import Delivery, RecordBatch
from aioproducer.background import Background, Timer
from aioproducer.config import ProducerConfig
from aioproducer.errors import KafkaError, ProducerClosedError
from aioproducer.network.backoff import Backoff
from aioproducer.network.cluster import Cluster
from aioproducer.network.connection import Connection
from aioproducer.network.metadata import NO_LEADER, PartitionLeader
from aioproducer.protocol.produce import PRODUCE, ProduceResponse
from aioproducer.protocol.versions import produce_version_cap
from aioproducer.sending.backpressure import Backpressure
from aioproducer.sending.batch_errors import (
    about_batch,
    closed_error,
    delivery_timeout_error,
    dropped_error,
)
from aioproducer.sending.batch_results import BatchResults
from aioproducer.sending.compression import BatchCompressor
from aioproducer.sending.epochs import Epochs
from aioproducer.sending.failures import Failures
from aioproducer.sending.finishing import Finished, Finisher
from aioproducer.sending.flush import Flushes
from aioproducer.sending.health import Health
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.partitioner import partitioner_of
from aioproducer.sending.producer_id import ProducerId
from aioproducer.sending.reachability import Reachability
from aioproducer.sending.sequences import ProducerIdAndEpoch
from aioproducer.sending.slow_path import SlowPath
from aioproducer.sending.splitting import BatchSplitter
from aioproducer.sending.timers import PartitionTimers
from aioproducer.sending.topics import TopicInUse, Topics
from aioproducer.sending.undelivered import UndeliveredRecords
from aioproducer.sending.unneeded_responses import UnneededResponses
from aioproducer.sending.withdrawals import Withdrawals
from aioproducer.telemetry.metrics import METRICS
from aioproducer.telemetry.status import ProducerState, ProducerStatus
from aioproducer.transactions.transactions import Transactions

if TYPE_CHECKING:
    from aioproducer._native.queues import WaitingRecord

__all__ = ["Sender"]

_WOKEN_AT_ONCE = 1_000
"""Callers woken in one turn of the loop while the producer closes."""


class Sender:
    """Sends the records of one producer.

    Attributes:
        accumulator: Where the send path puts records.
        backpressure: Callers who wait for buffer space.
        broker_queues: What is sent to each broker.
        cluster: Connections and metadata.
        topics: The topics in use.
        withdrawals: What is over at a deadline.
        reachability: Whether a topic's brokers are down.
        background: The loop that all of it runs on.
    """

    def __init__(self, config: ProducerConfig, background: Background) -> None:
        self._config = config
        self.background = background
        counters = Counters()
        self.cluster = Cluster(config, background, self)
        self.transactions = (
            None
            if config.transactional_id is None
            else Transactions(config, self.cluster, background, self)
        )
        self._compressor = BatchCompressor(config, background.loop, self._compressed)
        self._flushes = Flushes(background.loop)
        self._failures = Failures(
            background,
            counters,
            config.on_error,
            self._compressor.decompress,
            self.transactions,
        )
        self.topics = Topics(config, self.cluster, background, self)
        self._producer_id = ProducerId(
            self.cluster,
            background,
            backoff=Backoff.of_retries(config),
            counters=counters,
            obtained=self._producer_id_obtained,
            refused=self._producer_id_denied,
            is_transactional=self.transactions is not None,
        )
        self.broker_queues = BrokerQueues(
            loop=background.loop,
            clock=background.clock,
            decisions=self,
            producer_id=self._producer_id,
            flushes=self._flushes,
            counters=counters,
            produce_api=PRODUCE,
            config=config,
            compresses=self._compressor.is_active,
        )
        self.accumulator = RecordAccumulator(
            loop=background.loop,
            events=self.broker_queues,
            topic_events=self.topics,
            clock=background.clock,
            batch_size=config.batch_size,
            max_request_size=config.max_request_size,
            buffer_memory=config.buffer_memory,
            partitioner=partitioner_of(config),
            ignore_keys=config.partitioner_ignore_keys,
        )
        self.topics.serve(self.accumulator)
        self.broker_queues.serve(self.accumulator)
        brokers = self.cluster.brokers
        self.backpressure = Backpressure(
            self.accumulator, self.broker_queues, brokers, background.time, self.transactions
        )
        self._finisher = Finisher(self.broker_queues, self._failures, self.backpressure)
        self._results = BatchResults(
            config,
            background,
            topics=self.topics,
            producer_id=self._producer_id,
            splitter=BatchSplitter(
                config,
                background.time,
                self.topics,
                self._compressor,
                self._flushes,
                self.broker_queues,
            ),
            finisher=self._finisher,
            failures=self._failures,
            timeout_error=self._timeout_error,
            transactions=self.transactions,
        )
        self._epochs = Epochs(self._producer_id, self._finisher, self.transactions)
        self._timers = PartitionTimers(background, self._results, self._finisher)
        self.withdrawals = Withdrawals(
            background,
            topics=self.topics,
            results=self._results,
            finisher=self._finisher,
            not_yet=self.not_yet,
            timeout_error=self._timeout_error,
        )
        self.reachability = Reachability(self.cluster, self.topics)
        self._slow_path = SlowPath(
            config,
            background,
            brokers=brokers,
            topics=self.topics,
            results=self._results,
            finisher=self._finisher,
        )
        self._health = Health(
            config,
            background.time,
            cluster=self.cluster,
            broker_queues=self.broker_queues,
            topics=self.topics,
            backpressure=self.backpressure,
            producer_id=self._producer_id,
            failures=self._failures,
            transactions=self.transactions,
        )
        self._unneeded_responses = UnneededResponses(self.topics, self.cluster.refresh)

    # ---- lifecycle

    async def start(self, timeout: float) -> None:
        """Reach the cluster within `timeout` seconds."""
        due_at = self.background.time() + timeout
        await self.cluster.start(self.topics, timeout)
        if self.transactions is None:
            self._reached()
        else:
            await self._start_transactions(self.transactions, timeout, due_at)

    def start_in_background(self) -> None:
        """Try to reach the cluster until it answers; meanwhile records wait for metadata."""
        if self.transactions is not None:
            self.transactions.start_in_background()
        self.cluster.start_in_background(self.topics, self._reached)

    @property
    def is_reached(self) -> bool:
        """Whether the cluster has been reached once."""
        return self.cluster.is_reached

    async def wait_until_reached(self, timeout: float) -> None:
        """Wait `timeout` seconds at most until the cluster is reached."""
        await self.cluster.wait_until_reached(timeout)

    def _reached(self) -> None:
        if self.transactions is not None:
            self._producer_id.needed_since = self.background.time()
            self.transactions.reached.set()
        elif self._config.enable_idempotence:
            self._producer_id.need()

    async def _start_transactions(
        self, transactions: Transactions, timeout: float, due_at: float
    ) -> None:
        try:
            async with async_timeout.timeout_at(due_at):
                await transactions.start()
        except TimeoutError as error:
            if isinstance(error, KafkaError):
                raise
            raise transactions.start_timeout_error(timeout) from None

    async def flush(self) -> None:
        """Wait until every record accepted so far is delivered or failed."""
        remaining: set[RecordBatch] = set()
        for topic in self.topics.by_name.values():
            remaining.update(waiting.batch for waiting in topic.waiting)
        for queue in self.broker_queues.all_active():
            remaining.update(self._close_open(queue))
        self.broker_queues.drain_all()
        await self._flushes.wait_for(remaining)
        if self._config.acks == 0:
            # Their batches were done when the transport took them; it may still hold their bytes.
            with contextlib.suppress(TimeoutError):
                async with async_timeout.timeout(self._config.delivery_timeout_ms / 1000):
                    await self.cluster.drain()

    def begin_close(self) -> UndeliveredRecords:
        """Collect what fails from now on."""
        self._failures.undelivered = UndeliveredRecords()
        return self._failures.undelivered

    async def give_up(self) -> None:
        """Send nothing more, and fail what is not delivered yet: the producer closes.

        The waiters are woken over several turns of the loop: there may be very many.
        """
        self.broker_queues.is_closing = True
        finished = Finished()
        for queue in self.broker_queues.all_active():
            batches = queue.batches()
            queue.forget_waiting()
            for batch in batches:
                self._finisher.fail(batch, closed_error(batch), finished)
        for topic in list(self.topics.by_name.values()):
            self.topics.fail_waiting(
                topic,
                ProducerClosedError(
                    f"The producer was closed before the partitions of topic {topic.name!r}"
                    " were known"
                ),
            )
        self._failures.report()
        woken = 0
        try:
            for batch in finished.batches:
                self._flushes.batch_done(batch)
                woken += batch.waiter_count
                batch.wake(False)
                if woken >= _WOKEN_AT_ONCE:
                    woken = 0
                    await asyncio.sleep(0)
        finally:
            # Also when the loop ends and cancels this: else a waiter would never be woken.
            for batch in finished.batches:
                batch.wake(False)

    # ---- what transactions ask for (TransactionHost)

    @property
    def accepted_count(self) -> int:
        """How many records were accepted since the start."""
        return self.accumulator.accepted_count

    def open_transaction(self, number: int, *, is_v2: bool) -> None:
        """Let records of this transaction be taken from now on."""
        self.broker_queues.transaction = number
        self.broker_queues.adds_partitions = not is_v2
        self.broker_queues.newest_produce = produce_version_cap(
            transactional=True, transactions_v2=is_v2
        )

    def pause_until(self, at: float) -> None:
        """Send nothing before `at`, on the loop's clock; where that has passed, send now."""
        self.broker_queues.pause_until(at)

    def set_producer_id(self, producer_id: int, epoch: int) -> None:
        """Give sequences under this id and epoch from now on."""
        self._producer_id.given(ProducerIdAndEpoch(producer_id, epoch))

    def partitions_added(self, queues: Iterable[PartitionQueue]) -> None:
        """Send the records of these partition queues, which are part of the transaction now."""
        for queue in queues:
            queue.added_to = self.broker_queues.transaction
            self.broker_queues.offer(queue)
        self.broker_queues.drain_offered()

    def drop_unsent(self) -> None:
        """Fail every record that surely is not stored, and every caller who waits for space."""
        assert self.transactions is not None
        cause = self.transactions.state.cause
        self.backpressure.reject_all(partial(dropped_error, cause))
        finished = Finished()
        for queue in self.broker_queues.all_active():
            for batch in queue.batches():
                if batch.is_in_flight or batch.possibly_persisted:
                    continue
                if batch.has_sequence:
                    self.transactions.sequences_lost()
                queue.forget(batch)
                self._finisher.fail(batch, about_batch(dropped_error(cause), batch), finished)
            finished.queues.append(queue)
        for topic in list(self.topics.by_name.values()):
            self.topics.fail_waiting(topic, dropped_error(cause))
        self._finisher.finish(finished, direct=False)
        self.broker_queues.drain_offered()

    def drop_unsent_soon(self) -> None:
        """Do so in the loop's next turn."""
        self.background.call_soon(self.drop_unsent)

    async def deliver_all(self) -> None:
        """Return when every record that was accepted, or waits to be, has its outcome."""
        has_callers = len(self.backpressure) > 0
        await self.flush()
        if has_callers:
            # No more callers come. What these send does not linger, but for that of the last one.
            await self.backpressure.wait_until_empty()
            await self.flush()

    def forget_unused(self) -> None:
        """Forget the topics that nobody has used for long."""
        self.topics.forget_unused()

    async def finish(self) -> None:
        """Wait, after the last `flush`, until brokers have read the requests without response."""
        if self._config.acks == 0:
            await self.cluster.finish()

    async def close(self) -> None:
        """End timers, tasks, threads and connections. If cancelled, do not wait for their end."""
        self.broker_queues.is_closing = True
        try:
            if self.transactions is not None:
                await self.transactions.close()
            await self._producer_id.close()
        finally:
            try:
                await self.cluster.close()
            finally:
                # Last, since responses set timers until the connections are closed.
                self._close_timers()
                await self._compressor.close()

    def leave_behind(self) -> None:
        """Do nothing more in the child of a fork, even if its copy of the loop goes on."""
        self.broker_queues.is_closing = True
        self._close_timers()
        self.cluster.leave_behind()

    def _close_timers(self) -> None:
        self._timers.close()
        self.withdrawals.close()
        self.broker_queues.close()
        self.topics.close()
        self._failures.close()

    # ---- what there is

    async def partitions_for(self, name: str) -> tuple[int, ...]:
        """The ids of a topic's partitions, once they are known."""
        return await self.topics.partitions_for(name)

    def metrics(self) -> dict[str, float]:
        """Counters since the start, and current gauges."""
        counters = self.broker_queues.counters
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
                    self.broker_queues.requests_in_flight,
                    accumulator.buffer_memory,
                    accumulator.buffer_memory - accumulator.buffer_used,
                    len(self.backpressure),
                    self.background.time() - self.cluster.metadata_at,
                ),
                strict=True,
            )
        )

    def status(self, state: ProducerState) -> ProducerStatus:
        """How the producer is, in a state of its lifecycle."""
        return self._health.status(state)

    def look_at_deadlines(self) -> None:
        """End everything that is due now."""
        self.withdrawals.look()

    def error_if_down(self, topic: str, partition: object) -> KafkaError | None:
        """The error for a record of a topic whose brokers are all down; else None."""
        return self.reachability.error_if_down(topic, partition)

    def not_yet(self, delivery: Delivery, waited: float) -> KafkaError:
        """The error of a caller who no longer waits for a record, which goes on."""
        batch = delivery._record_batch()  # pyright: ignore[reportPrivateUsage]
        topic = self.topics.by_name.get(batch.topic)
        if batch.partition < 0 or topic is None:
            error = self.topics.not_yet_known(batch.topic, waited, "timeout of the call")
        else:
            queue = cast("PartitionQueue", topic.queue(batch.partition))
            error = self._timeout_error(queue, batch, waited, "timeout of the call")
            error.possibly_persisted = batch.possibly_persisted or batch.is_in_flight
        hint = "The record goes on until delivery_timeout_ms; only this wait is over."
        error.hint = f"{error.hint} {hint}".strip()
        error.is_pending = True
        return error

    def _timeout_error(
        self,
        queue: PartitionQueue,
        batch: RecordBatch,
        waited: float | None = None,
        bound: str = "delivery_timeout_ms",
    ) -> KafkaError:
        leader = queue.leader.node_id
        if waited is None:
            # Not the option: a blocked loop makes it longer.
            waited = self.background.time() - batch.created_at
        error = delivery_timeout_error(
            batch,
            waited=waited,
            bound=bound,
            broker=None if leader == NO_LEADER else self.cluster.brokers.name(leader),
            broker_said=cast("TopicInUse", queue.topic).error,
            connect_error=self.cluster.last_connect_error(leader),
            producer_id_error=self._producer_id.last_error,
            throttled_for=self.cluster.throttled_for(leader),
        )
        if error.last_connect_error is None:
            # Else the rate is that of before the leader was lost.
            error.suggest_retry_after(self.backpressure.seconds_to_empty())
        return error

    # ---- news from native code (Decisions)

    def prepare_closed(self, queue: PartitionQueue) -> None:
        """Begin to compress a batch that is full."""
        self._compressor.prepare_closed(queue)

    def fit_head(self, queue: PartitionQueue) -> bool:
        """Split or fail a head that is larger than its topic takes; whether the head changed."""
        finished = Finished()
        has_changed = self._results.fit_head(queue, finished)
        if finished.batches:
            self.background.call_soon(self._finish_and_drain, finished)
        return has_changed

    def prepare_head(self, queue: PartitionQueue) -> bool:
        """Whether a queue's head can be sent now; if not, a thread compresses it first."""
        return self._compressor.prepare_head(queue)

    def linger_until(self, queue: PartitionQueue, at: float) -> None:
        """Look at a queue when its open batch has lingered."""
        self._timers.linger_until(queue, at)

    def retry_until(self, queue: PartitionQueue, at: float) -> None:
        """Look at a queue again when its backoff is over."""
        self._timers.retry_until(queue, at)

    def expire_at(self, queue: PartitionQueue, at: float) -> None:
        """Look at a queue when its first batch expires."""
        self._timers.expire_at(queue, at)

    def lacks_leader(self, queue: PartitionQueue) -> None:
        """Ask for the leader of a queue that has something to send."""
        self.topics.refresh(queue.topic)

    def partition_needed(self, queue: PartitionQueue) -> None:
        """Make a partition part of the transaction before something is sent to it."""
        assert self.transactions is not None
        self.transactions.partition_needed(queue)

    def close_gap(self, queue: PartitionQueue) -> None:
        """Close the gap in a queue's sequences, if it is certain by now."""
        self._epochs.close_gap(queue)

    def new_broker_queue(self, node_id: int) -> BrokerQueue:
        """Make the queue of a broker."""
        config = self._config
        most = min(
            config.max_in_flight_requests_per_connection * config.max_request_size,
            max(2 * config.max_request_size, config.buffer_memory // 4),
        )
        # Whether there are others beside it.
        self.accumulator.has_brokers = len(self.broker_queues.by_node) > 0
        return BrokerQueue(
            node_id,
            InFlightLimit(most, config.request_timeout_ms / 1000),
            Timer(self.background, partial(self._drain, node_id)),
        )

    def connection(self, node_id: int) -> Connection | None:
        """The connection to a broker, if it takes requests now; if there is none, make one."""
        return self.cluster.connection(node_id)

    def admit(self) -> None:
        """Admit waiting callers: there is buffer space."""
        self.backpressure.admit()

    def send(self, sent: SentRequest, connection: Connection) -> None:
        """Write a request in a form that native code does not write."""
        self._slow_path.send(sent, connection)

    def not_sent(self, sent: SentRequest, connection: Connection, error: Exception) -> None:
        """End a request that could not be made or written."""
        self._slow_path.not_sent(sent, connection, error)

    def sent_without_response(self, sent: SentRequest) -> None:
        """Complete a request that gets no response (acks=0)."""
        self._slow_path.sent_without_response(sent)

    def handle_response(
        self, sent: SentRequest, response: ProduceResponse | None, error: KafkaError | None
    ) -> None:
        """Take a response that is not a plain success, or the reason why there is none."""
        self._slow_path.handle_response(sent, response, error)

    # ---- news from the cluster (ClusterListener)

    def metadata_changed(self) -> None:
        """Send what waited for a leader; forget the queues of brokers that are gone."""
        self.broker_queues.forget_gone(self.cluster.is_broker)
        self.accumulator.has_brokers = len(self.broker_queues.by_node) > 1
        self.backpressure.shares_changed()
        self.backpressure.admit()
        self.broker_queues.drain_all()

    def cluster_changed(self) -> None:
        """Get another producer id: in the new cluster this one belongs to another producer."""
        self._epochs.cluster_changed(
            [queue for topic in self.topics.by_name.values() for queue in topic.partition_queues]
        )

    def connection_ready(self, node_id: int) -> None:
        """Send what waited for a connection."""
        self._drain(node_id)

    def connection_writable(self, node_id: int) -> None:
        """Send what waited for the transport to take more."""
        self._drain(node_id)

    def wants_connection(self, node_id: int) -> bool:
        """Whether a broker has something to be sent."""
        broker = self.broker_queues.by_node.get(node_id)
        return broker is not None and broker.has_ready and not self.broker_queues.is_closing

    def unneeded_response(self, node_id: int, response: ProduceResponse) -> None:
        """Take a response to records that were sent with acks=0."""
        self._unneeded_responses.take(self.cluster.brokers.name(node_id), response)

    # ---- news from the topics (TopicsListener)

    @property
    def keeps_sequences(self) -> bool:
        """Whether no partition may begin at sequence 0 again now."""
        return self.transactions is not None and self.transactions.keeps_sequences

    def is_stalled(self, node_id: int) -> bool:
        """Whether a broker takes nothing although something waits for it."""
        since = self.broker_queues.of(node_id).stalled_since
        timeout = self._config.partitioner_availability_timeout_ms / 1000
        return since is not None and self.background.time() - since > timeout

    def set_bounds(self, queue: PartitionQueue) -> None:
        """Give a queue the bounds of its topic and of its broker."""
        self.broker_queues.set_bounds(queue)

    def leader_changed(self, queue: PartitionQueue, before: PartitionLeader) -> None:
        """Offer a queue to its new leader."""
        self.backpressure.shares_changed()
        self.broker_queues.leader_changed(queue, before.node_id)

    def waiting_failed(self, waiting: WaitingRecords, error: KafkaError) -> None:
        """Report records that wait for metadata and are about to fail."""
        self._failures.waiting_failed(waiting, error)

    def record_failed(self, topic: str, error: KafkaError, record: WaitingRecord) -> None:
        """Report a record that got no partition."""
        self._failures.record_failed(topic, error, record)

    def waiting_over(self, waiting: WaitingRecords) -> None:
        """Have flushes wait for the batches of records that waited for metadata; admit callers."""
        batch = waiting.batch
        if any(self._flushes.waiting_for(batch)):
            routed: list[RecordBatch] = []
            # Also of a group that failed: many records are routed over several turns, and the
            # last ones may be withdrawn in between. Before its topic is known, none is routed.
            if waiting.topic.is_known:
                for queue in self.broker_queues.all_active():
                    if queue.topic is waiting.topic:
                        routed.extend(self._close_open(queue))
            self._flushes.replace(batch, routed)
        self.backpressure.admit()

    def sequences_forgotten(self, queues: Iterable[PartitionQueue]) -> None:
        """Leave the epoch of queues that are forgotten with their topics."""
        if self.transactions is not None:
            self.transactions.sequences_lost()
            return
        self._producer_id.sequences_forgotten(queues)

    # ---- news from the producer id and the compressor

    def _producer_id_obtained(self) -> None:
        # Queues with sequences first, since they start over: nothing is sent before that.
        for queue in self.broker_queues.active:
            self.broker_queues.offer(queue)
        for queue in self.broker_queues.all_active():
            self.broker_queues.offer(queue)
        self.broker_queues.drain_all()

    def _producer_id_denied(self, error: KafkaError) -> None:
        self._epochs.fail_waiting(self.broker_queues.all_active(), error)
        self.broker_queues.drain_offered()

    def _compressed(self, queue: PartitionQueue) -> None:
        self.broker_queues.offer(queue)
        self.broker_queues.drain_offered()

    # ---- inside

    def _drain(self, node_id: int) -> None:
        self.broker_queues.drain(self.broker_queues.of(node_id))

    def _finish_and_drain(self, finished: Finished) -> None:
        self._finisher.finish(finished, direct=True)
        self.broker_queues.drain_offered()

    def _close_open(self, queue: PartitionQueue) -> list[RecordBatch]:
        """Close a queue's open batch, whatever its age; returns all its batches."""
        if queue.open is not None:
            queue.close_open()
            if self._compressor.is_active:
                self._compressor.prepare_closed(queue)
        self.broker_queues.offer(queue)
        return queue.batches()
