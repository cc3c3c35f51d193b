"""InitProducerId, versions 0 to 5: id and epoch of a transactional or idempotent producer."""

from __future__ import annotations

from dataclasses import dataclass

from aioproducer.testing.apis.base import Api, PlainCall, Turn, fenced_as
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.transaction_values import Pid, TransactionRefusedError
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
        if version >= 3:
            self.pid = Pid(reader.int64(), reader.int16())
        reader.tags()

    def respond(self, turn: Turn) -> InitProducerIdResponse:
        failure = turn.failure()
        code: int = 0
        pid = Pid(-1, -1)
        if failure is None or failure.stored:
            try:
                pid = self._init(turn)
            except TransactionRefusedError as error:
                code = fenced_as(error.code, turn.version, told_from=4)
        if failure is not None:
            code, pid = failure.code, Pid(-1, -1)
        return InitProducerIdResponse(*pid, code, turn.state.throttle_ms)

    def _init(self, turn: Turn) -> Pid:
        if -1 in self.pid and self.pid != (-1, -1):
            raise TransactionRefusedError(ErrorCode.INVALID_REQUEST)
        if self.transactional_id is None:
            # A broker gives a new id, whatever the producer had before.
            return Pid(turn.state.new_producer_id(), 0)
        if not self.transactional_id:
            raise TransactionRefusedError(ErrorCode.INVALID_REQUEST)
        error = turn.state.coordinators.error_at(turn.node_id, "transaction", self.transactional_id)
        if error is not None:
            raise TransactionRefusedError(error)
        return turn.state.transactions.init_producer_id(
            self.transactional_id,
            self.transaction_timeout_ms,
            None if self.pid == (-1, -1) else self.pid,
        )


API = Api("init_producer_id", 22, 0, 5, 2, _InitProducerId)
