"""DescribeTransactions, version 0: how far transactions are (KIP-664)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from aioproducer.testing.apis.base import Api, PlainCall, Turn
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.transaction_values import FakeTransaction
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "DescribeTransactionsResponse", "DescribedTransaction"]

_NO_START = 0
"""When a transaction began is not kept."""


@dataclass(slots=True)
class DescribedTransaction:
    """What is told of one transactional id; `found` is None where nothing is."""

    transactional_id: str
    found: FakeTransaction | None = None
    error_code: int = 0


@dataclass(slots=True)
class DescribeTransactionsResponse:
    """The answer to DescribeTransactions."""

    transactions: list[DescribedTransaction] = field(default_factory=list[DescribedTransaction])
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""

        def one_topic(topic: tuple[str, list[int]]) -> None:
            writer.string(topic[0])
            writer.array(topic[1], writer.int32)
            writer.tags()

        def one_transaction(described: DescribedTransaction) -> None:
            found = described.found
            writer.int16(described.error_code)
            writer.string(described.transactional_id)
            writer.string("" if found is None else found.state)
            writer.int32(0 if found is None else found.timeout_ms)
            writer.int64(_NO_START)
            writer.int64(0 if found is None else found.producer_id)
            writer.int16(0 if found is None else found.producer_epoch)
            partitions = () if found is None else found.partitions
            topics = groupby(partitions, key=itemgetter(0))
            writer.array([(name, [p for _, p in each]) for name, each in topics], one_topic)
            writer.tags()

        writer.int32(self.throttle_ms)
        writer.array(self.transactions, one_transaction)
        writer.tags()


class _DescribeTransactions(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self._ids = reader.array(reader.string)
        reader.tags()
        if len(self._ids) == 1:
            self.transactional_id = self._ids[0]

    def respond(self, turn: Turn) -> DescribeTransactionsResponse:
        described = [self._described(each, turn) for each in self._ids]
        return DescribeTransactionsResponse(described, turn.state.throttle_ms)

    def _described(self, transactional_id: str, turn: Turn) -> DescribedTransaction:
        failure = turn.failure()
        if failure is not None:
            return DescribedTransaction(transactional_id, error_code=failure.code)
        if not transactional_id:
            return DescribedTransaction("", error_code=ErrorCode.INVALID_REQUEST)
        error = turn.state.coordinators.error_at(turn.node_id, "transaction", transactional_id)
        if error is not None:
            return DescribedTransaction(transactional_id, error_code=error)
        found = turn.state.transactions.get(transactional_id)
        code = ErrorCode.TRANSACTIONAL_ID_NOT_FOUND if found is None else 0
        return DescribedTransaction(transactional_id, found, code)


API = Api("describe_transactions", 65, 0, 0, 0, _DescribeTransactions)
