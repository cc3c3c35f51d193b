"""AddOffsetsToTxn, versions 0 to 4: adds a consumer group to a transaction (v1)."""

from __future__ import annotations

from dataclasses import dataclass

from aioproducer.testing.apis.base import Api, PlainCall, Turn, fenced_as
from aioproducer.testing.transaction_values import Pid, TransactionRefusedError
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "AddOffsetsToTxnResponse"]


@dataclass(slots=True)
class AddOffsetsToTxnResponse:
    """The answer to AddOffsetsToTxn."""

    error_code: int = 0
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""
        writer.int32(self.throttle_ms)
        writer.int16(self.error_code)
        writer.tags()


class _AddOffsetsToTxn(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self._id = self.transactional_id = reader.string()
        self.pid = Pid(reader.int64(), reader.int16())
        self._group = self.group = reader.string()
        reader.tags()

    def respond(self, turn: Turn) -> AddOffsetsToTxnResponse:
        failure = turn.failure()
        code: int = 0
        if failure is None or failure.stored:
            try:
                self._add(turn)
            except TransactionRefusedError as error:
                code = fenced_as(error.code, turn.version, told_from=2)
        if failure is not None:
            code = failure.code
        return AddOffsetsToTxnResponse(code, turn.state.throttle_ms)

    def _add(self, turn: Turn) -> None:
        error = turn.state.coordinators.error_at(turn.node_id, "transaction", self._id)
        if error is not None:
            raise TransactionRefusedError(error)
        turn.state.transactions.add(self._id, self.pid, groups=[self._group], v2=False)


API = Api("add_offsets_to_txn", 25, 0, 4, 3, _AddOffsetsToTxn)
