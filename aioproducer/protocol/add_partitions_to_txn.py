"""AddPartitionsToTxn (24): makes partitions part of a transaction, before transactions v2.

From version 4 on it is for brokers only (KIP-890).
"""

from collections.abc import Sequence
from typing import NamedTuple

from aioproducer.protocol.schema import INT16, INT32, INT64, STRING, Api, Array, Field, Struct

__all__ = [
    "ADD_PARTITIONS_TO_TXN",
    "AddPartitionsToTxnPartitionResult",
    "AddPartitionsToTxnRequest",
    "AddPartitionsToTxnResponse",
    "AddPartitionsToTxnTopic",
    "AddPartitionsToTxnTopicResult",
]


class AddPartitionsToTxnTopic(NamedTuple):
    """Partitions of one topic."""

    name: str = ""
    partitions: Sequence[int] = ()


class AddPartitionsToTxnRequest(NamedTuple):
    """The partitions to add."""

    v3_and_below_transactional_id: str = ""
    v3_and_below_producer_id: int = -1
    v3_and_below_producer_epoch: int = -1
    v3_and_below_topics: Sequence[AddPartitionsToTxnTopic] = ()


class AddPartitionsToTxnPartitionResult(NamedTuple):
    """The outcome for one partition."""

    partition_index: int = 0
    partition_error_code: int = 0


class AddPartitionsToTxnTopicResult(NamedTuple):
    """The outcomes for one topic's partitions."""

    name: str = ""
    results_by_partition: Sequence[AddPartitionsToTxnPartitionResult] = ()


class AddPartitionsToTxnResponse(NamedTuple):
    """The outcome for each partition; where one failed, none was added."""

    throttle_time_ms: int = 0
    results_by_topic_v3_and_below: Sequence[AddPartitionsToTxnTopicResult] = ()


ADD_PARTITIONS_TO_TXN = Api(
    key=24,
    name="AddPartitionsToTxn",
    min_version=0,
    max_version=3,
    flexible_from=3,
    pause_from=1,
    request=Struct(
        AddPartitionsToTxnRequest,
        Field("v3_and_below_transactional_id", STRING),
        Field("v3_and_below_producer_id", INT64),
        Field("v3_and_below_producer_epoch", INT16),
        Field(
            "v3_and_below_topics",
            Array(
                Struct(
                    AddPartitionsToTxnTopic,
                    Field("name", STRING),
                    Field("partitions", Array(INT32)),
                )
            ),
        ),
    ),
    response=Struct(
        AddPartitionsToTxnResponse,
        Field("throttle_time_ms", INT32, ignorable=True),
        Field(
            "results_by_topic_v3_and_below",
            Array(
                Struct(
                    AddPartitionsToTxnTopicResult,
                    Field("name", STRING),
                    Field(
                        "results_by_partition",
                        Array(
                            Struct(
                                AddPartitionsToTxnPartitionResult,
                                Field("partition_index", INT32),
                                Field("partition_error_code", INT16),
                            )
                        ),
                    ),
                )
            ),
        ),
    ),
)
