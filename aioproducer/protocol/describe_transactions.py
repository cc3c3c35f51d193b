"""DescribeTransactions (65): how far transactions are at their coordinator (KIP-664)."""

from collections.abc import Sequence
from typing import NamedTuple

from aioproducer.protocol.schema import INT16, INT32, INT64, STRING, Api, Array, Field, Struct

__all__ = [
    "DESCRIBE_TRANSACTIONS",
    "DescribeTransactionsRequest",
    "DescribeTransactionsResponse",
    "TopicData",
    "TransactionState",
]


class DescribeTransactionsRequest(NamedTuple):
    """The transactional ids to tell of."""

    transactional_ids: Sequence[str] = ()


class TopicData(NamedTuple):
    """The partitions of one topic that are part of a transaction."""

    topic: str = ""
    partitions: Sequence[int] = ()


class TransactionState(NamedTuple):
    """One transaction; `transaction_state` is a name, such as `PrepareCommit`."""

    error_code: int = 0
    transactional_id: str = ""
    transaction_state: str = ""
    transaction_timeout_ms: int = 0
    transaction_start_time_ms: int = 0
    producer_id: int = 0
    producer_epoch: int = 0
    topics: Sequence[TopicData] = ()


class DescribeTransactionsResponse(NamedTuple):
    """What there is to tell of each."""

    throttle_time_ms: int = 0
    transaction_states: Sequence[TransactionState] = ()


DESCRIBE_TRANSACTIONS = Api(
    key=65,
    name="DescribeTransactions",
    min_version=0,
    max_version=0,
    flexible_from=0,
    pause_from=0,
    request=Struct(
        DescribeTransactionsRequest,
        Field("transactional_ids", Array(STRING)),
    ),
    response=Struct(
        DescribeTransactionsResponse,
        Field("throttle_time_ms", INT32),
        Field(
            "transaction_states",
            Array(
                Struct(
                    TransactionState,
                    Field("error_code", INT16),
                    Field("transactional_id", STRING),
                    Field("transaction_state", STRING),
                    Field("transaction_timeout_ms", INT32),
                    Field("transaction_start_time_ms", INT64),
                    Field("producer_id", INT64),
                    Field("producer_epoch", INT16),
                    Field(
                        "topics",
                        Array(
                            Struct(
                                TopicData,
                                Field("topic", STRING),
                                Field("partitions", Array(INT32)),
                            )
                        ),
                    ),
                )
            ),
        ),
    ),
)
