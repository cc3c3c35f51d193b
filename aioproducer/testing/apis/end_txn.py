"""EndTxn, versions 0 to 5: commits or aborts a transaction; since 5 it gives a new epoch."""

from __future__ import annotations

from dataclasses import dataclass

from aioproducer.testing.apis.base import Api, PlainCall, Turn, fenced_as
from aioproducer.testing.transaction_values import Pid, TransactionRefusedError
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "EndTxnResponse"]


@dataclass(slots=True)
class EndTxnResponse:
    """The answer to EndTxn."""

    error_code: int = 0
    producer_id: int = -1
    """The producer id from now on; sent from version 5 on, as is the epoch."""
    producer_epoch: int = -1
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""
        writer.int32(self.throttle_ms)
        writer.int16(self.error_code)
        if version >= 5:
            writer.int64(self.producer_id)
            writer.int16(self.producer_epoch)
        writer.tags()


class _EndTxn(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self._id = self.transactional_id = reader.string()
        self.pid = Pid(reader.int64(), reader.int16())
        self._commit = self.commit = reader.boolean()
        reader.tags()

    def respond(self, turn: Turn) -> EndTxnResponse:
        failure = turn.failure()
        code: int = 0
        pid = Pid(-1, -1)
        if failure is None or failure.stored:
            try:
                pid = self._end(turn)
            except TransactionRefusedError as error:
                code = fenced_as(error.code, turn.version, told_from=2)
        if failure is not None:
            code, pid = failure.code, Pid(-1, -1)
        return EndTxnResponse(code, *pid, turn.state.throttle_ms)

    def _end(self, turn: Turn) -> Pid:
        error = turn.state.coordinators.error_at(turn.node_id, "transaction", self._id)
        if error is not None:
            raise TransactionRefusedError(error)
        return turn.state.transactions.end(
            self._id, self.pid, commit=self._commit, v2=turn.version >= 5
        )


API = Api("end_txn", 26, 0, 5, 3, _EndTxn)
