"""TxnOffsetCommit, versions 0 to 5: the offsets that a transaction commits for a consumer group."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from aioproducer.testing.apis.base import Api, Turn
from aioproducer.testing.apis.offsets import CommittedPartition, OffsetsCall, write_partitions
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.groups import (
    MAX_METADATA_SIZE,
    CommittedOffset,
    GroupRefusedError,
    Member,
)
from aioproducer.testing.transaction_values import Pid, TransactionRefusedError
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "TxnOffsetCommitResponse"]

_V2: Final = 5
"""From this version on the group's coordinator adds the group to the transaction."""


@dataclass(slots=True)
class TxnOffsetCommitResponse:
    """The answer to TxnOffsetCommit; neighbours of the same topic share one entry."""

    partitions: list[CommittedPartition] = field(default_factory=list[CommittedPartition])
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""
        writer.int32(self.throttle_ms)
        write_partitions(writer, self.partitions)
        writer.tags()


class _TxnOffsetCommit(OffsetsCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self._id = self.transactional_id = reader.string()
        self._group = self.group = reader.string()
        self.pid = Pid(reader.int64(), reader.int16())
        self._member = Member()
        if version >= 3:
            self._member = Member(reader.int32(), reader.string(), reader.nullable_string())
        self.read_offsets(reader, has_leader_epoch=version >= 2)
        reader.tags()

    def respond(self, turn: Turn) -> TxnOffsetCommitResponse:
        codes: dict[tuple[str, int], int] = {}
        taken: dict[tuple[str, int], CommittedOffset] = {}
        for where, committed in self.offsets:
            failure = turn.failure(*where)
            if failure is not None and not failure.stored:
                codes[where] = failure.code
            elif turn.state.find(*where) is None:
                codes[where] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                taken[where] = committed
        if taken:
            codes |= self._commit(taken, turn)
        for where in taken:
            if (failure := turn.failure(*where)) is not None:
                codes[where] = failure.code
        return TxnOffsetCommitResponse(
            [CommittedPartition(*where, codes[where]) for where, _ in self.offsets],
            turn.state.throttle_ms,
        )

    def _commit(
        self, taken: dict[tuple[str, int], CommittedOffset], turn: Turn
    ) -> dict[tuple[str, int], int]:
        if not self._group:
            return dict.fromkeys(taken, ErrorCode.INVALID_GROUP_ID)
        error = turn.state.coordinators.error_at(turn.node_id, "group", self._group)
        if error is not None:
            return dict.fromkeys(taken, _loading_as(error, turn.version))
        too_large = {
            where: int(ErrorCode.OFFSET_METADATA_TOO_LARGE)
            for where, committed in taken.items()
            if len(committed.metadata or "") > MAX_METADATA_SIZE
        }
        offsets = {where: one for where, one in taken.items() if where not in too_large}
        try:
            self._verify(turn)
            turn.state.groups.commit_in_transaction(self._group, self.pid, self._member, offsets)
        except (GroupRefusedError, TransactionRefusedError) as refusal:
            return dict.fromkeys(taken, refusal.code)
        return dict.fromkeys(offsets, 0) | too_large

    def _verify(self, turn: Turn) -> None:
        """Ask the coordinator of the transaction whether the group is in it, or add it (v2)."""
        if turn.state.groups.get(self._group).has_open_transaction(self.pid):
            return
        if not self._id:
            raise TransactionRefusedError(ErrorCode.INVALID_TXN_STATE)
        if turn.state.coordinators.node_of("transaction", self._id) == -1:
            raise TransactionRefusedError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        transactions = turn.state.transactions
        try:
            if turn.version >= _V2:
                transactions.add(self._id, self.pid, groups=[self._group], v2=True)
            else:
                transactions.check_added(self._id, self.pid, partition=self._group)
        except TransactionRefusedError as error:
            if error.code == ErrorCode.PRODUCER_FENCED:
                raise TransactionRefusedError(ErrorCode.INVALID_PRODUCER_EPOCH) from None
            if error.code == ErrorCode.TRANSACTION_ABORTABLE and turn.version < 4:
                raise TransactionRefusedError(ErrorCode.INVALID_TXN_STATE) from None
            raise


def _loading_as(code: ErrorCode, version: int) -> ErrorCode:
    # Clients before 2.0 do not know that a group's coordinator may be loading (KAFKA-7296).
    if code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS and version < 2:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    return code


API = Api("txn_offset_commit", 28, 0, 5, 3, _TxnOffsetCommit)
