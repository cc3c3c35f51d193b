"""How a producer is, for `Producer.status`. Owns nothing: it looks at those who know.

A look costs O(brokers), O(topics in use) and O(partitions with a record that has no outcome). It
may come from any thread, so it goes over copies: the loop may add and remove meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from aioproducer._native.broker_queues import BrokerQueues
from aioproducer.config import ProducerConfig
from aioproducer.errors import KafkaError
from aioproducer.network.brokers import Broker
from aioproducer.network.cluster import Cluster
from aioproducer.sending.backpressure import Backpressure
from aioproducer.sending.failures import Failures
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.producer_id import ProducerId
from aioproducer.sending.topics import Topics
from aioproducer.telemetry.status import BrokerStatus, ProducerState, ProducerStatus, why_unhealthy
from aioproducer.transactions.transactions import Transactions

if TYPE_CHECKING:
    from aioproducer._native.record_batch import RecordBatch

__all__ = ["Health"]

_FROZEN_AFTER: Final = 5.0
"""Seconds for which a broker may owe a response in silence; half of the request timeout, if that is
less."""

_LATE_AFTER: Final = 0.25
"""The part of the delivery timeout after which a record is late."""


class _Failing(NamedTuple):
    error: KafkaError
    at: float
    since: float | None
    """When that began; None when it is over."""


class Health:
    """Looks at the parts of one producer.

    Args:
        config: The producer's options.
        clock: The loop's.
        cluster: Knows the brokers.
        broker_queues: Know the active partitions, and when a record was stored.
        topics: Know the records that wait for metadata.
        backpressure: Knows the callers who wait.
        producer_id: The id.
        failures: Know the last failed record.
    """

    def __init__(
        self,
        config: ProducerConfig,
        clock: Callable[[], float],
        *,
        cluster: Cluster,
        broker_queues: BrokerQueues,
        topics: Topics,
        backpressure: Backpressure,
        producer_id: ProducerId,
        failures: Failures,
        transactions: Transactions | None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._cluster = cluster
        self._broker_queues = broker_queues
        self._topics = topics
        self._backpressure = backpressure
        self._producer_id = producer_id
        self._failures = failures
        self._transactions = transactions
        self._frozen_after = min(_FROZEN_AFTER, config.request_timeout_ms / 2000)
        self._late_after = (config.linger_ms + _LATE_AFTER * config.delivery_timeout_ms) / 1000

    def status(self, state: ProducerState) -> ProducerStatus:
        """How the producer is now, in a state of its lifecycle."""
        now = self._clock()
        cluster, accumulator = self._cluster, self._backpressure.accumulator
        if state == "open" and not cluster.is_reached:
            state = "starting"
        brokers: dict[str, BrokerStatus] = {
            cluster.brokers.name(node_id): broker.status(now, self._frozen_after)
            for node_id, broker in self._known_brokers()
        }
        failing = list(self._failing())
        last = max(failing, key=lambda one: one.at, default=None)
        last_error = None if last is None else str(last.error)
        age = self._oldest_record_age(now)
        current = self._producer_id.current
        needed_since = self._producer_id.needed_since
        transactions = self._transactions
        why_none = None if transactions is None else transactions.failure
        reason = why_unhealthy(
            state,
            down_for=self._down_for(now),
            no_producer_id_for=None if needed_since is None else now - needed_since,
            producer_id_refused=self._producer_id.is_refused,
            no_transaction_because=None if why_none is None else str(why_none),
            oldest_record_age=age,
            stored_ago=self._stored_ago(now),
            late_after=self._late_after,
            last_error=last_error,
        )
        since = [one.since for one in failing if one.since is not None]
        return ProducerStatus(
            healthy=not reason,
            reason=reason,
            state=state,
            client_id=self._config.client_id,
            cluster_id=cluster.cluster_id,
            brokers=brokers,
            brokers_connected=sum(1 for each in brokers.values() if each == "connected"),
            brokers_known=len(brokers),
            producer_id=None if current is None else current.producer_id,
            oldest_record_age=age,
            buffer_used_ratio=accumulator.buffer_used / accumulator.buffer_memory,
            requests_in_flight=self._broker_queues.requests_in_flight,
            waiting_callers=len(self._backpressure),
            last_error=last_error,
            last_error_age=None if last is None else now - last.at,
            failing_for=now - min(since) if since else None,
        )

    def _known_brokers(self) -> list[tuple[int, Broker]]:
        brokers = self._cluster.brokers
        # By `get`: one of them may be left out by now.
        known = ((node_id, brokers.get(node_id)) for node_id in list(brokers))
        return [(node_id, broker) for node_id, broker in known if broker is not None]

    def _stored_ago(self, now: float) -> float | None:
        delivered_at = self._broker_queues.counters.delivered_at
        return now - delivered_at if delivered_at else None

    def _down_for(self, now: float) -> float | None:
        """How long no broker has worked; None while one does, or while nobody tries."""
        brokers = [broker for _, broker in self._known_brokers()]
        if any(broker.status(now, self._frozen_after) == "connected" for broker in brokers):
            return None
        down_since = [broker.down_since_at(now, self._frozen_after) for broker in brokers]
        since = [at for at in down_since if at is not None]
        if brokers and len(since) == len(brokers):
            return now - max(since)
        # Some were not tried. The metadata task tries them all, while no broker answers it.
        silent_since = self._cluster.silent_since
        return None if silent_since is None else now - silent_since

    def _failing(self) -> Iterator[_Failing]:
        """The newest failure of each part that has one."""
        cluster, producer_id, failures = self._cluster, self._producer_id, self._failures
        if cluster.last_metadata_error is not None:
            yield _Failing(
                cluster.last_metadata_error, cluster.metadata_failed_at, cluster.silent_since
            )
        for _, broker in self._known_brokers():
            if broker.down_since is not None and broker.last_error is not None:
                yield _Failing(broker.last_error, broker.failed_at, broker.down_since)
        if producer_id.last_error is not None:
            yield _Failing(producer_id.last_error, producer_id.failed_at, producer_id.needed_since)
        if failures.last_error is not None:
            since = failures.failing_since
            yield _Failing(failures.last_error, failures.last_error_at, since)

    def _oldest_record_age(self, now: float) -> float | None:
        batches = [
            min(batches, key=_created_at)
            for queue in cast("list[PartitionQueue]", self._broker_queues.active)
            if (batches := queue.oldest_batches())
        ]
        batches += [
            topic.waiting[0].batch for topic in list(self._topics.by_name.values()) if topic.waiting
        ]
        return now - min(map(_created_at, batches)) if batches else None


def _created_at(batch: RecordBatch) -> float:
    return batch.created_at
