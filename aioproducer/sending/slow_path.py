"""The requests and responses that native code leaves to Python.

    a request goes this way   to brokers before Produce v9, for acks=0, and in tests of this path
    a response goes this way  unless it says of every batch of its request, once, that it was
                              stored, and nothing else

It is complete by itself: with AIOPRODUCER_SLOW_PATH=1 (in tests only) everything goes this way.

The hand-over, step by step:
    1. Native code takes at most one batch of each ready partition, up to the size of a request.
       They are in flight from here on.
    2. If it does not write such a request it calls `send`. An exception there comes to `not_sent`,
       since batches in flight must get an outcome.
    3. A response, or the reason why there is none, comes to `handle_response` exactly once. Native
       code has changed nothing by then: it scans a response first, then completes all or nothing.
    4. Each batch gets its result (batch_results.py). A batch that the response leaves out gets a
       network error, its outcome unknown.
    5. `Finisher.finish` wakes the waiters; then the broker is sent the next request.
"""

from __future__ import annotations

import logging
from typing import cast

from aioproducer._native.produce_response import SentRequest
from aioproducer._native.record_batch import RecordBatch
from aioproducer.background import Background
from aioproducer.config import ProducerConfig
from aioproducer.errors import KafkaError, NetworkError, broker_error
from aioproducer.network.brokers import Brokers
from aioproducer.network.connection import Connection
from aioproducer.network.metadata import PartitionLeader, broker_address
from aioproducer.protocol.produce import (
    PRODUCE,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from aioproducer.protocol.schema import NO_TOPIC_ID
from aioproducer.protocol.versions import produce_version_cap
from aioproducer.sending.batch_results import BatchResults
from aioproducer.sending.finishing import Finished, Finisher
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.topics import TopicInUse, Topics

__all__ = ["SlowPath"]

logger = logging.getLogger(__name__)


class SlowPath:
    """Sends requests and takes responses by the generic codec of the protocol.

    Args:
        config: The producer's options.
        background: Ends a request that could not be sent, in the loop.
        brokers: Name brokers, and learn the addresses of new leaders.
        topics: Learn leaders.
        results: Take each batch's result.
        finisher: Ends the pass over a response.
    """

    def __init__(
        self,
        config: ProducerConfig,
        background: Background,
        *,
        brokers: Brokers,
        topics: Topics,
        results: BatchResults,
        finisher: Finisher,
    ) -> None:
        self._acks = config.acks
        self._request_timeout_ms = config.request_timeout_ms
        self._background = background
        self._brokers = brokers
        self._topics = topics
        self._results = results
        self._finisher = finisher
        self._broker_queues = finisher.broker_queues

    # ---- requests

    def send(self, sent: SentRequest, connection: Connection) -> None:
        """Write a request in a form that native code does not write."""
        request = self._make_request(sent)
        at_most = produce_version_cap(topic_ids=NO_TOPIC_ID not in sent.names_by_id)
        version = connection.version_for(PRODUCE, at_most=at_most)
        if self._acks == 0:
            connection.send(PRODUCE, version, request, timeout=0.0, on_response=None)
            return
        correlation_id = connection.send_chunks(PRODUCE, version, request, sent.sent_at)
        sent.send_as(version, correlation_id)
        connection.expect(sent, sent.deadline, sent.sent_at)

    def not_sent(self, sent: SentRequest, connection: Connection, error: Exception) -> None:
        """End a request that could not be made or written; in the loop, as a response would."""
        why = _request_error(error)
        if sent in connection.pending:
            # A part of it may have been sent, so the connection is useless.
            why.possibly_persisted = True
            connection.abort(why)
        else:
            self._background.call_soon(sent.on_response, None, why)

    def sent_without_response(self, sent: SentRequest) -> None:
        """Complete a request with acks=0, handed to the socket; offsets are -1."""
        self._broker_queues.request_over(sent, False)
        finished = Finished()
        for queue, batch in zip(sent.queues, sent.batches, strict=True):
            queue.request_ended(batch)
            self._finisher.complete(batch, -1, -1, finished)
            finished.queues.append(queue)
        self._finisher.finish(finished, direct=False)

    def _make_request(self, sent: SentRequest) -> ProduceRequest:
        """Seal each batch for this attempt and put all of them into one request."""
        topics = [
            TopicProduceData(
                topic.name,
                topic_id,
                [
                    PartitionProduceData(batch.partition, (batch.seal(), batch.payload))
                    for _, batch in taken
                ],
            )
            for topic, topic_id, taken in sent.by_topic
        ]
        return ProduceRequest(None, self._acks, self._request_timeout_ms, topics)

    # ---- responses

    def handle_response(
        self, sent: SentRequest, response: ProduceResponse | None, error: KafkaError | None
    ) -> None:
        """Take the response to a request, or the reason why there is none."""
        self._broker_queues.request_over(sent, response is not None)
        finished = Finished()
        left = sent.by_partition
        if response is not None:
            self._take_response(sent, left, response, finished)
            error = NetworkError(
                "The broker's response leaves this partition out", possibly_persisted=True
            )
        assert error is not None
        node_id = sent.broker_queue.node_id
        error.broker = self._brokers.name(node_id)
        for queue, batch in left.values():
            self._results.handle_error(queue, batch, error, node_id, finished)
        try:
            self._finisher.finish(finished, direct=True)
        finally:
            # All queues: one that moved while its batch was in flight is ready at another broker.
            self._broker_queues.request_done(sent.broker_queue, finished.queues)

    def _take_response(
        self,
        sent: SentRequest,
        left: dict[tuple[str, int], tuple[PartitionQueue, RecordBatch]],
        response: ProduceResponse,
        finished: Finished,
    ) -> None:
        """Take each partition's result; those without one stay in `left`."""
        unexpected: list[tuple[str, int]] = []
        names_by_id = sent.names_by_id
        for topic in response.responses:
            name = topic.name or names_by_id.get(topic.topic_id, "")
            for result in topic.partition_responses:
                entry = left.pop((name, result.index), None)
                if entry is None:
                    unexpected.append((name or topic.topic_id.hex(), result.index))
                    continue
                queue, batch = entry
                if result.error_code == 0:
                    self._results.handle_success(queue, batch, result, finished)
                    continue
                node_id = sent.broker_queue.node_id
                error = broker_error(result.error_code, result.error_message)
                error.broker = self._brokers.name(node_id)
                self._results.handle_error(queue, batch, error, node_id, finished, result)
                # Not if the topic was recreated since the request: the leader epochs of the two
                # topics cannot be compared.
                if topic.topic_id in (NO_TOPIC_ID, cast("TopicInUse", queue.topic).topic_id):
                    self._take_leader_hint(queue, result, response)
        if unexpected:
            # One line: the broker may name millions.
            logger.warning(
                "Broker %s answered %s times for a partition that it was not asked about, or"
                " again; the first was %r",
                self._brokers.name(sent.broker_queue.node_id),
                len(unexpected),
                unexpected[0],
            )

    def _take_leader_hint(
        self, queue: PartitionQueue, result: PartitionProduceResponse, response: ProduceResponse
    ) -> None:
        hint = result.current_leader
        if hint.leader_id < 0 or hint.leader_epoch < 0:
            return
        self._brokers.learn(
            broker_address(endpoint.node_id, endpoint.host, endpoint.port)
            for endpoint in response.node_endpoints
        )
        leader = PartitionLeader(hint.leader_id, hint.leader_epoch)
        if leader.node_id in self._brokers and self._topics.take_leader_hint(queue, leader):
            self._broker_queues.drain_offered()


def _request_error(error: Exception) -> KafkaError:
    """Why a request could not be sent; a bug of ours fails its records and nothing else."""
    if isinstance(error, KafkaError):
        return error
    logger.error("A Produce request could not be made", exc_info=error)
    failure = KafkaError(f"The request could not be made ({type(error).__name__})")
    failure.__cause__ = error
    return failure
