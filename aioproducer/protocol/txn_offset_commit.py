"""TxnOffsetCommit (28): commits a consumer group's offsets with a transaction (KIP-447)."""

from collections.abc import Sequence
from typing import NamedTuple

from aioproducer.protocol.schema import (
    INT16,
    INT32,
    INT64,
    NO_TOPIC_ID,
    STRING,
    UUID,
    Api,
    Array,
    Field,
    Struct,
)

__all__ = [
    "TXN_OFFSET_COMMIT",
    "TxnOffsetCommitRequest",
    "TxnOffsetCommitRequestPartition",
    "TxnOffsetCommitRequestTopic",
    "TxnOffsetCommitResponse",
    "TxnOffsetCommitResponsePartition",
    "TxnOffsetCommitResponseTopic",
]


class TxnOffsetCommitRequestPartition(NamedTuple):
    """The offset of the next record that the group reads of one partition."""

    partition_index: int = 0
    committed_offset: int = 0
    committed_leader_epoch: int = -1
    committed_metadata: str | None = ""


class TxnOffsetCommitRequestTopic(NamedTuple):
    """The offsets of one topic; the name up to version 5, the id from 6 on (KIP-1319)."""

    name: str = ""
    topic_id: bytes = NO_TOPIC_ID
    partitions: Sequence[TxnOffsetCommitRequestPartition] = ()


class TxnOffsetCommitRequest(NamedTuple):
    """The offsets, and from version 3 on who commits them: a group member of a generation."""

    transactional_id: str = ""
    group_id: str = ""
    producer_id: int = -1
    producer_epoch: int = -1
    generation_id: int = -1
    member_id: str = ""
    group_instance_id: str | None = None
    topics: Sequence[TxnOffsetCommitRequestTopic] = ()


class TxnOffsetCommitResponsePartition(NamedTuple):
    """The outcome for one partition."""

    partition_index: int = 0
    error_code: int = 0


class TxnOffsetCommitResponseTopic(NamedTuple):
    """The outcomes for one topic's partitions."""

    name: str = ""
    topic_id: bytes = NO_TOPIC_ID
    partitions: Sequence[TxnOffsetCommitResponsePartition] = ()


class TxnOffsetCommitResponse(NamedTuple):
    """The outcome for each partition."""

    throttle_time_ms: int = 0
    topics: Sequence[TxnOffsetCommitResponseTopic] = ()


TXN_OFFSET_COMMIT = Api(
    key=28,
    name="TxnOffsetCommit",
    min_version=0,
    max_version=5,
    flexible_from=3,
    pause_from=1,
    request=Struct(
        TxnOffsetCommitRequest,
        Field("transactional_id", STRING),
        Field("group_id", STRING),
        Field("producer_id", INT64),
        Field("producer_epoch", INT16),
        Field("generation_id", INT32, since=3, ignorable=True),
        Field("member_id", STRING, since=3, ignorable=True),
        Field("group_instance_id", STRING, since=3, nullable_since=3, ignorable=True),
        Field(
            "topics",
            Array(
                Struct(
                    TxnOffsetCommitRequestTopic,
                    Field("name", STRING, until=5, ignorable=True),
                    Field("topic_id", UUID, since=6, ignorable=True),
                    Field(
                        "partitions",
                        Array(
                            Struct(
                                TxnOffsetCommitRequestPartition,
                                Field("partition_index", INT32),
                                Field("committed_offset", INT64),
                                Field("committed_leader_epoch", INT32, since=2, ignorable=True),
                                Field("committed_metadata", STRING, nullable_since=0),
                            )
                        ),
                    ),
                )
            ),
        ),
    ),
    response=Struct(
        TxnOffsetCommitResponse,
        Field("throttle_time_ms", INT32, ignorable=True),
        Field(
            "topics",
            Array(
                Struct(
                    TxnOffsetCommitResponseTopic,
                    Field("name", STRING, until=5, ignorable=True),
                    Field("topic_id", UUID, since=6, ignorable=True),
                    Field(
                        "partitions",
                        Array(
                            Struct(
                                TxnOffsetCommitResponsePartition,
                                Field("partition_index", INT32),
                                Field("error_code", INT16),
                            )
                        ),
                    ),
                )
            ),
        ),
    ),
)
