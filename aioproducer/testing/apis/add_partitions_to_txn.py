"""AddPartitionsToTxn, versions 0 to 5: adds partitions to a transaction (v1).

Versions 4 and 5 are those of brokers among each other, who add for many producers at once, or only
ask whether partitions were added. Brokers offer them to clients too, who must not use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from aioproducer.testing.apis.base import Api, PlainCall, Turn, fenced_as
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.state import ClusterState
from aioproducer.testing.transaction_values import Pid, TransactionRefusedError
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "AddPartitionsToTxnResponse", "AddedPartition"]


@dataclass(slots=True)
class AddedPartition:
    """One partition in the answer to AddPartitionsToTxn."""

    topic: str
    partition: int
    error_code: int = 0
    transactional_id: str = ""
    """Of the transaction; sent from version 4 on."""


@dataclass(slots=True)
class AddPartitionsToTxnResponse:
    """The answer to AddPartitionsToTxn; neighbours of the same topic share one entry."""

    partitions: list[AddedPartition] = field(default_factory=list[AddedPartition])
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""

        def one_partition(partition: AddedPartition) -> None:
            writer.int32(partition.partition)
            writer.int16(partition.error_code)
            writer.tags()

        def one_topic(entry: tuple[str, list[AddedPartition]]) -> None:
            writer.string(entry[0])
            writer.array(entry[1], one_partition)
            writer.tags()

        def topics(partitions: Sequence[AddedPartition]) -> list[tuple[str, list[AddedPartition]]]:
            return [(name, list(own)) for name, own in groupby(partitions, lambda one: one.topic)]

        def one_transaction(entry: tuple[str, list[AddedPartition]]) -> None:
            writer.string(entry[0])
            writer.array(topics(entry[1]), one_topic)
            writer.tags()

        writer.int32(self.throttle_ms)
        if version <= 3:
            writer.array(topics(self.partitions), one_topic)
        else:
            writer.int16(0)
            by_id = groupby(self.partitions, lambda one: one.transactional_id)
            writer.array([(name, list(own)) for name, own in by_id], one_transaction)
        writer.tags()


class _Transaction(NamedTuple):
    transactional_id: str
    pid: Pid
    only_asks: bool
    partitions: list[tuple[str, int]]


class _AddPartitionsToTxn(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self._transactions: list[_Transaction] = []

        def one_transaction() -> None:
            partitions: list[tuple[str, int]] = []

            def one_topic() -> None:
                name = reader.string()
                partitions.extend((name, index) for index in reader.array(reader.int32))
                reader.tags()

            transactional_id = reader.string()
            pid = Pid(reader.int64(), reader.int16())
            only_asks = reader.boolean() if version >= 4 else False
            reader.array(one_topic)
            reader.tags()
            self._transactions.append(_Transaction(transactional_id, pid, only_asks, partitions))

        if version <= 3:
            one_transaction()
        else:
            reader.array(one_transaction)
            reader.tags()
        if len(self._transactions) == 1:
            self.transactional_id = self._transactions[0].transactional_id
            self.pid = self._transactions[0].pid

    def topics(self, state: ClusterState) -> tuple[str, ...] | None:
        """Return the names of its topics."""
        names = (name for one in self._transactions for name, _ in one.partitions)
        return tuple(dict.fromkeys(names))

    def partitions(self, state: ClusterState) -> tuple[tuple[str, int], ...]:
        """Return its topics and partitions."""
        return tuple(where for one in self._transactions for where in one.partitions)

    def respond(self, turn: Turn) -> AddPartitionsToTxnResponse:
        answer = AddPartitionsToTxnResponse(throttle_ms=turn.state.throttle_ms)
        for transaction in self._transactions:
            codes = _add(transaction, turn)
            answer.partitions += [
                AddedPartition(topic, index, codes[topic, index], transaction.transactional_id)
                for topic, index in transaction.partitions
            ]
        return answer


def _add(transaction: _Transaction, turn: Turn) -> dict[tuple[str, int], int]:
    """Add all partitions or none, and return the error code of each."""
    partitions = transaction.partitions
    failures = {where: turn.failure(*where) for where in partitions}
    refused: dict[tuple[str, int], int] = {}
    for where, failure in failures.items():
        if failure is not None and not failure.stored:
            refused[where] = failure.code
        elif turn.state.find(*where) is None:
            refused[where] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if refused:
        return {
            where: refused.get(where, ErrorCode.OPERATION_NOT_ATTEMPTED) for where in partitions
        }
    try:
        codes = _carry_out(transaction, turn)
    except TransactionRefusedError as error:
        code = fenced_as(error.code, turn.version, told_from=2)
        codes = dict.fromkeys(partitions, code)
    for where, failure in failures.items():
        if failure is not None:
            codes[where] = failure.code
    return codes


def _carry_out(transaction: _Transaction, turn: Turn) -> dict[tuple[str, int], int]:
    transactional_id, pid, only_asks, partitions = transaction
    transactions = turn.state.transactions
    error = turn.state.coordinators.error_at(turn.node_id, "transaction", transactional_id)
    if error is not None:
        raise TransactionRefusedError(error)
    codes: dict[tuple[str, int], int] = dict.fromkeys(partitions, 0)
    if not only_asks:
        transactions.add(transactional_id, pid, partitions=partitions, v2=turn.version >= 4)
        return codes
    for where in partitions:
        try:
            transactions.check_added(transactional_id, pid, partition=where)
        except TransactionRefusedError as refusal:
            codes[where] = refusal.code
    return codes


API = Api("add_partitions_to_txn", 24, 0, 5, 3, _AddPartitionsToTxn)
