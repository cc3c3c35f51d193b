"""EndTxn (26): commits or aborts a transaction."""

from typing import NamedTuple

from aioproducer.protocol.schema import BOOL, INT16, INT32, INT64, STRING, Api, Field, Struct

__all__ = ["END_TXN", "EndTxnRequest", "EndTxnResponse"]


class EndTxnRequest(NamedTuple):
    """`committed`: whether to commit, not to abort."""

    transactional_id: str = ""
    producer_id: int = -1
    producer_epoch: int = -1
    committed: bool = False


class EndTxnResponse(NamedTuple):
    """From version 5 on, the id and epoch of the next transaction (KIP-890); -1 in others."""

    throttle_time_ms: int = 0
    error_code: int = 0
    producer_id: int = -1
    producer_epoch: int = -1


END_TXN = Api(
    key=26,
    name="EndTxn",
    min_version=0,
    max_version=5,
    flexible_from=3,
    pause_from=1,
    request=Struct(
        EndTxnRequest,
        Field("transactional_id", STRING),
        Field("producer_id", INT64),
        Field("producer_epoch", INT16),
        Field("committed", BOOL),
    ),
    response=Struct(
        EndTxnResponse,
        Field("throttle_time_ms", INT32, ignorable=True),
        Field("error_code", INT16),
        Field("producer_id", INT64, since=5, ignorable=True),
        Field("producer_epoch", INT16, since=5, ignorable=True),
    ),
)
