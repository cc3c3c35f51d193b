"""InitProducerId (22): the producer id and epoch that make sends idempotent."""

from typing import NamedTuple

from aioproducer.protocol.schema import INT16, INT32, INT64, STRING, Api, Field, Struct

__all__ = ["INIT_PRODUCER_ID", "InitProducerIdRequest", "InitProducerIdResponse"]


class InitProducerIdRequest(NamedTuple):
    """Asks for a producer id; from version 3 on also for the next epoch of a given one."""

    transactional_id: str | None = ""
    transaction_timeout_ms: int = 0
    producer_id: int = -1
    producer_epoch: int = -1


class InitProducerIdResponse(NamedTuple):
    """The producer id and epoch to write with."""

    throttle_time_ms: int = 0
    error_code: int = 0
    producer_id: int = -1
    producer_epoch: int = 0


INIT_PRODUCER_ID = Api(
    key=22,
    name="InitProducerId",
    min_version=0,
    max_version=5,
    flexible_from=2,
    pause_from=1,
    request=Struct(
        InitProducerIdRequest,
        Field("transactional_id", STRING, nullable_since=0),
        Field("transaction_timeout_ms", INT32),
        Field("producer_id", INT64, since=3),
        Field("producer_epoch", INT16, since=3),
    ),
    response=Struct(
        InitProducerIdResponse,
        Field("throttle_time_ms", INT32, ignorable=True),
        Field("error_code", INT16),
        Field("producer_id", INT64),
        Field("producer_epoch", INT16),
    ),
)
