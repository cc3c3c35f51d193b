"""What a test sees of a request: values, made once when the request arrives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["ApiName", "FakeRequest", "SentBatch"]

ApiName: TypeAlias = Literal[
    "produce",
    "fetch",
    "list_offsets",
    "metadata",
    "find_coordinator",
    "api_versions",
    "init_producer_id",
    "add_partitions_to_txn",
    "add_offsets_to_txn",
    "end_txn",
    "txn_offset_commit",
    "describe_transactions",
    "offset_commit",
    "offset_fetch",
    "sasl_handshake",
    "sasl_authenticate",
]
"""A Kafka API that the cluster knows."""


@dataclass(frozen=True, slots=True)
class SentBatch:
    """What a Produce request holds for one partition; the numbers are -1 if it is no batch."""

    topic: str
    """The topic's name, or its id in hex if the cluster does not know the id."""
    partition: int
    size: int
    record_count: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    transactional: bool = False


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """One request as it arrived."""

    api: ApiName
    version: int
    node_id: int
    """The broker that got it."""
    connection: int
    """Which connection it came on: they are counted from 1 as they are made."""
    client_id: str | None
    correlation_id: int
    received_at: float
    """The time of the loop."""
    size: int
    """Bytes of the request, header included."""
    topics: tuple[str, ...] | None = ()
    """The topics it names; None for all (Metadata)."""
    partitions: tuple[tuple[str, int], ...] = ()
    """The topics and partitions it names (AddPartitionsToTxn, TxnOffsetCommit, OffsetCommit)."""
    batches: tuple[SentBatch, ...] = ()
    """What it wants stored (Produce)."""
    acks: int | None = None
    """The acks it asks for (Produce)."""
    transactional_id: str | None = None
    """The transactional id it names."""
    producer_id: int = -1
    """The producer id it names; for Produce see `batches`."""
    producer_epoch: int = -1
    """The epoch that goes with the producer id."""
    group: str | None = None
    """The consumer group it names."""
    commit: bool | None = None
    """Whether it commits or aborts (EndTxn)."""

    def concerns(self, topic: str | None, partition: int | None) -> bool:
        """Return whether it names a topic and partition; None stands for any."""
        named = self.partitions or tuple((one.topic, one.partition) for one in self.batches)
        if partition is not None and named:
            return any(index == partition and topic in (None, name) for name, index in named)
        return topic is None or self.topics is None or topic in self.topics
