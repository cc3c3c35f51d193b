"""Metadata as values: brokers' addresses and partitions' leaders. No I/O.

Invariant
* A leader is never replaced by one of an older epoch of the same topic, if topics have ids: a
  broker that lags behind may respond last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from aioproducer.protocol.metadata import MetadataResponseTopic
from aioproducer.protocol.schema import NO_TOPIC_ID

__all__ = [
    "NOBODY",
    "NO_LEADER",
    "BrokerAddress",
    "PartitionLeader",
    "broker_address",
    "newer_leaders",
]

NO_LEADER: Final = -1


class BrokerAddress(NamedTuple):
    """Where a broker listens."""

    node_id: int
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def broker_address(node_id: int, host: str, port: int) -> BrokerAddress:
    """Return the address that a broker advertises; an IPv6 address may come in brackets."""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return BrokerAddress(node_id, host, port)


class PartitionLeader(NamedTuple):
    """The leader of one partition; node id -1 when it has none, epoch -1 when none is known."""

    node_id: int
    epoch: int


NOBODY: Final = PartitionLeader(NO_LEADER, -1)


def newer_leaders(
    known: Sequence[PartitionLeader], topic_id: bytes, response: MetadataResponseTopic
) -> list[PartitionLeader]:
    """The leaders of a topic after a metadata response, by partition.

    Args:
        known: The leaders before it.
        topic_id: The topic's id then.
        response: The topic in the response, without an error.
    """
    leaders = [NOBODY] * len(response.partitions)
    # Without an id a recreated topic, whose epochs begin at 0 and which may have fewer partitions,
    # looks like the same one; and brokers before 2.4 may give wrong epochs (KAFKA-9212).
    is_same_topic = response.topic_id == topic_id != NO_TOPIC_ID
    if is_same_topic:
        # A topic never loses partitions: this broker does not know the new ones yet.
        leaders += known[len(leaders) :]
    for partition in response.partitions:
        index = partition.partition_index
        if not 0 <= index < len(leaders):
            continue
        leader = PartitionLeader(partition.leader_id, partition.leader_epoch)
        if is_same_topic and index < len(known) and 0 <= leader.epoch < known[index].epoch:
            leader = known[index]
        leaders[index] = leader
    return leaders
