"""Whether the brokers that a record needs can be reached: for `fail_fast`.

    a broker is down        while the last attempt to connect to it failed; not one whose connection
                            merely ended
    a partition is down     while its leader is, or once brokers have said several times in a row
                            that it has none: an election is over sooner
    a topic is down         while all of its partitions are
    an unknown topic is     while every broker is

Invariant: a refused call keeps the producer trying. It asks for the connections that it would have
needed, so the brokers are tried again with the reconnect backoff for as long as callers come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aioproducer.errors import KafkaConnectionError, KafkaError
from aioproducer.network.cluster import Cluster
from aioproducer.network.metadata import NO_LEADER
from aioproducer.sending.topics import TopicInUse, Topics

__all__ = ["Reachability"]

_LEADERLESS_AFTER: Final = 4
"""Responses in a row without a leader: with the retry backoff between them, most of a second."""


class Reachability:
    """Knows of one producer's topics whether they are down.

    Args:
        cluster: Has the brokers.
        topics: Know who leads what.
    """

    def __init__(self, cluster: Cluster, topics: Topics) -> None:
        self._cluster = cluster
        self._topics = topics

    def error_if_down(self, name: str, partition: object = None) -> KafkaError | None:
        """The error for a record of a topic that cannot be sent now; None if it may be.

        Args:
            name: The topic.
            partition: The record's partition, if its caller chose one.
        """
        topic = self._topics.by_name.get(name)
        brokers = self._cluster.brokers
        is_leaderless = topic is not None and topic.failures >= _LEADERLESS_AFTER
        if brokers and not is_leaderless and not any(each.is_down for each in brokers.values()):
            return None
        reasons: dict[str, str] = {}
        if topic is None or not topic.is_known:
            is_down = self._is_cluster_down(reasons)
        else:
            leaders = topic.leaders
            if type(partition) is int and 0 <= partition < len(leaders):
                leaders = leaders[partition : partition + 1]
            node_ids = {leader.node_id for leader in leaders}
            is_down = all(self._is_down(topic, node_id, reasons) for node_id in node_ids)
        if not is_down:
            return None
        self._cluster.refresh()
        return KafkaConnectionError(
            f"The record for topic {name!r} was not accepted: every broker that it needs is down"
            " (fail_fast)",
            reasons=reasons,
            hint="It can be sent again, when a broker is up.",
        )

    def _is_cluster_down(self, reasons: dict[str, str]) -> bool:
        brokers = self._cluster.brokers
        if brokers:
            return all(self._is_broker_down(node_id, reasons) for node_id in brokers)
        error = self._cluster.last_metadata_error
        if error is not None:
            reasons.update(_reasons(error, "the cluster"))
        return error is not None

    def _is_down(self, topic: TopicInUse, leader: int, reasons: dict[str, str]) -> bool:
        if leader != NO_LEADER:
            return self._is_broker_down(leader, reasons)
        reasons["the brokers"] = "they name no leader"
        return topic.failures >= _LEADERLESS_AFTER

    def _is_broker_down(self, node_id: int, reasons: dict[str, str]) -> bool:
        broker = self._cluster.brokers.get(node_id)
        if broker is None or not broker.is_down:
            return False
        self._cluster.connection(node_id)
        reasons.update(_reasons(broker.last_error, self._cluster.brokers.name(node_id)))
        return True


def _reasons(error: KafkaError | None, name: str) -> Mapping[str, str]:
    if isinstance(error, KafkaConnectionError) and error.reasons:
        return error.reasons
    return {name: "not connected" if error is None else error.what()}
