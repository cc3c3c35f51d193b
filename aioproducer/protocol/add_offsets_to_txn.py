"""AddOffsetsToTxn (25): makes a consumer group part of a transaction, before transactions v2."""

from typing import NamedTuple

from aioproducer.protocol.schema import INT16, INT32, INT64, STRING, Api, Field, Struct

__all__ = ["ADD_OFFSETS_TO_TXN", "AddOffsetsToTxnRequest", "AddOffsetsToTxnResponse"]


class AddOffsetsToTxnRequest(NamedTuple):
    """The group to add."""

    transactional_id: str = ""
    producer_id: int = -1
    producer_epoch: int = -1
    group_id: str = ""


class AddOffsetsToTxnResponse(NamedTuple):
    """Whether it was added."""

    throttle_time_ms: int = 0
    error_code: int = 0


ADD_OFFSETS_TO_TXN = Api(
    key=25,
    name="AddOffsetsToTxn",
    min_version=0,
    max_version=4,
    flexible_from=3,
    pause_from=1,
    request=Struct(
        AddOffsetsToTxnRequest,
        Field("transactional_id", STRING),
        Field("producer_id", INT64),
        Field("producer_epoch", INT16),
        Field("group_id", STRING),
    ),
    response=Struct(
        AddOffsetsToTxnResponse,
        Field("throttle_time_ms", INT32, ignorable=True),
        Field("error_code", INT16),
    ),
)
