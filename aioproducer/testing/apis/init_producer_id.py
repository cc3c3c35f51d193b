"""InitProducerId, versions 0 to 5: an id for an idempotent producer. No transactions yet."""

from __future__ import annotations

from dataclasses import dataclass

from aioproducer.testing.apis.base import Api, PlainCall, Turn
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "InitProducerIdResponse"]


@dataclass(slots=True)
class InitProducerIdResponse:
    """The answer to InitProducerId."""

    producer_id: int = -1
    producer_epoch: int = -1
    error_code: int = 0
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""
        writer.int32(self.throttle_ms)
        writer.int16(self.error_code)
        writer.int64(self.producer_id)
        writer.int16(self.producer_epoch)
        writer.tags()


class _InitProducerId(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self.transactional_id = reader.nullable_string()
        self.transaction_timeout_ms = reader.int32()
        self.producer_id = reader.int64() if version >= 3 else -1
        self.producer_epoch = reader.int16() if version >= 3 else -1
        reader.tags()

    def respond(self, turn: Turn) -> InitProducerIdResponse:
        throttle_ms = turn.state.throttle_ms
        if (failure := turn.failure()) is not None:
            return InitProducerIdResponse(error_code=failure.code, throttle_ms=throttle_ms)
        if self.transactional_id is not None:
            return InitProducerIdResponse(
                error_code=ErrorCode.INVALID_REQUEST, throttle_ms=throttle_ms
            )
        # Without a transactional id a broker gives a new id, whatever the producer had before.
        return InitProducerIdResponse(turn.state.new_producer_id(), 0, throttle_ms=throttle_ms)


API = Api("init_producer_id", 22, 0, 5, 2, _InitProducerId)
