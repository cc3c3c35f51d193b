"""Produce (0): record batches for the partitions of one leader, and their offsets."""

from collections.abc import Sequence
from typing import NamedTuple

from aioproducer.protocol.schema import (
    INT16,
    INT32,
    INT64,
    NO_TOPIC_ID,
    RECORDS,
    STRING,
    UUID,
    Api,
    Array,
    Buffer,
    Field,
    Struct,
)

__all__ = [
    "PRODUCE",
    "BatchIndexAndErrorMessage",
    "LeaderIdAndEpoch",
    "NodeEndpoint",
    "PartitionProduceData",
    "PartitionProduceResponse",
    "ProduceRequest",
    "ProduceResponse",
    "TopicProduceData",
    "TopicProduceResponse",
]


class PartitionProduceData(NamedTuple):
    """One record batch for one partition, as chunks; none is copied."""

    index: int = 0  # type: ignore[assignment]  # Kafka's name hides tuple.index
    records: Sequence[Buffer] | None = ()


class TopicProduceData(NamedTuple):
    """The batches for one topic; the name up to version 12, the id from 13 on."""

    name: str = ""
    topic_id: bytes = NO_TOPIC_ID
    partition_data: Sequence[PartitionProduceData] = ()


class ProduceRequest(NamedTuple):
    """Stores batches; `acks` is -1 for all. With acks=0 no response comes."""

    transactional_id: str | None = None
    acks: int = 0
    timeout_ms: int = 0
    topic_data: Sequence[TopicProduceData] = ()


class BatchIndexAndErrorMessage(NamedTuple):
    """A record for which the broker refused the whole batch (KIP-467)."""

    batch_index: int = 0
    batch_index_error_message: str | None = None


class LeaderIdAndEpoch(NamedTuple):
    """The partition's leader as the broker knows it (KIP-951); -1 if it does not."""

    leader_id: int = -1
    leader_epoch: int = -1


class PartitionProduceResponse(NamedTuple):
    """The outcome of one batch. `log_append_time_ms` is -1 for CreateTime."""

    index: int = 0  # type: ignore[assignment]  # Kafka's name hides tuple.index
    error_code: int = 0
    base_offset: int = 0
    log_append_time_ms: int = -1
    log_start_offset: int = -1
    record_errors: Sequence[BatchIndexAndErrorMessage] = ()
    error_message: str | None = None
    current_leader: LeaderIdAndEpoch = LeaderIdAndEpoch()


class TopicProduceResponse(NamedTuple):
    """The outcomes of one topic's batches; the name up to version 12, the id from 13 on."""

    name: str = ""
    topic_id: bytes = NO_TOPIC_ID
    partition_responses: Sequence[PartitionProduceResponse] = ()


class NodeEndpoint(NamedTuple):
    """Where a leader named in the response listens (KIP-951)."""

    node_id: int = 0
    host: str = ""
    port: int = 0
    rack: str | None = None


class ProduceResponse(NamedTuple):
    """The outcome of each batch of the request."""

    responses: Sequence[TopicProduceResponse] = ()
    throttle_time_ms: int = 0
    node_endpoints: Sequence[NodeEndpoint] = ()


_REQUEST = Struct(
    ProduceRequest,
    Field("transactional_id", STRING, nullable_since=3),
    Field("acks", INT16),
    Field("timeout_ms", INT32),
    Field(
        "topic_data",
        Array(
            Struct(
                TopicProduceData,
                Field("name", STRING, until=12, ignorable=True),
                Field("topic_id", UUID, since=13, ignorable=True),
                Field(
                    "partition_data",
                    Array(
                        Struct(
                            PartitionProduceData,
                            Field("index", INT32),
                            Field("records", RECORDS, nullable_since=0),
                        )
                    ),
                ),
            )
        ),
    ),
)

_PARTITION_RESPONSE = Struct(
    PartitionProduceResponse,
    Field("index", INT32),
    Field("error_code", INT16),
    Field("base_offset", INT64),
    Field("log_append_time_ms", INT64, since=2, ignorable=True),
    Field("log_start_offset", INT64, since=5, ignorable=True),
    Field(
        "record_errors",
        Array(
            Struct(
                BatchIndexAndErrorMessage,
                Field("batch_index", INT32),
                Field("batch_index_error_message", STRING, nullable_since=8),
            )
        ),
        since=8,
        ignorable=True,
    ),
    Field("error_message", STRING, since=8, nullable_since=8, ignorable=True),
    Field(
        "current_leader",
        Struct(LeaderIdAndEpoch, Field("leader_id", INT32), Field("leader_epoch", INT32)),
        since=10,
        tag=0,
        ignorable=True,
    ),
)

_RESPONSE = Struct(
    ProduceResponse,
    Field(
        "responses",
        Array(
            Struct(
                TopicProduceResponse,
                Field("name", STRING, until=12, ignorable=True),
                Field("topic_id", UUID, since=13, ignorable=True),
                Field("partition_responses", Array(_PARTITION_RESPONSE)),
            )
        ),
    ),
    Field("throttle_time_ms", INT32, since=1, ignorable=True),
    Field(
        "node_endpoints",
        Array(
            Struct(
                NodeEndpoint,
                Field("node_id", INT32),
                Field("host", STRING),
                Field("port", INT32),
                Field("rack", STRING, nullable_since=10),
            )
        ),
        since=10,
        tag=0,
        ignorable=True,
    ),
)

# Version 7 is the first that carries zstd, and the oldest that Kafka 2.1 and 4.x share.
PRODUCE = Api(
    key=0,
    name="Produce",
    min_version=7,
    max_version=13,
    flexible_from=9,
    pause_from=6,
    request=_REQUEST,
    response=_RESPONSE,
)
