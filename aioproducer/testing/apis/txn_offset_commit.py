"""TxnOffsetCommit, versions 0 to 5: the offsets that a transaction commits for a consumer group."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from aioproducer.testing.apis.base import Api, PlainCall, Turn
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.groups import (
    MAX_METADATA_SIZE,
    CommittedOffset,
    GroupRefusedError,
    Member,
)
from aioproducer.testing.state import ClusterState
from aioproducer.testing.transaction_values import Pid, TransactionRefusedError
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "CommittedPartition", "TxnOffsetCommitResponse"]

_V2: Final = 5
"""From this version on the group's coordinator adds the group to the transaction."""


@dataclass(slots=True)
class CommittedPartition:
    """One partition in the answer to a commit of offsets."""

    topic: str
    partition: int
    error_code: int = 0


@dataclass(slots=True)
class TxnOffsetCommitResponse:
    """The answer to TxnOffsetCommit; neighbours of the same topic share one entry."""

    partitions: list[CommittedPartition] = field(default_factory=list[CommittedPartition])
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""

        def one_partition(partition: CommittedPartition) -> None:
            writer.int32(partition.partition)
            writer.int16(partition.error_code)
            writer.tags()

        def one_topic(entry: tuple[str, list[CommittedPartition]]) -> None:
            writer.string(entry[0])
            writer.array(entry[1], one_partition)
            writer.tags()

        by_topic = groupby(self.partitions, key=lambda one: one.topic)
        writer.int32(self.throttle_ms)
        writer.array([(topic, list(own)) for topic, own in by_topic], one_topic)
        writer.tags()


class _TxnOffsetCommit(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self._offsets: list[tuple[tuple[str, int], CommittedOffset]] = []

        def one_topic() -> None:
            name = reader.string()

            def one_partition() -> None:
                index = reader.int32()
                offset = reader.int64()
                leader_epoch = reader.int32() if version >= 2 else -1
                committed = CommittedOffset(offset, reader.nullable_string(), leader_epoch)
                self._offsets.append(((name, index), committed))
                reader.tags()

            reader.array(one_partition)
            reader.tags()

        self._id = self.transactional_id = reader.string()
        self._group = self.group = reader.string()
        self.pid = Pid(reader.int64(), reader.int16())
        self._member = Member()
        if version >= 3:
            self._member = Member(reader.int32(), reader.string(), reader.nullable_string())
        reader.array(one_topic)
        reader.tags()

    def topics(self, state: ClusterState) -> tuple[str, ...] | None:
        """Return the names of its topics."""
        return tuple(dict.fromkeys(topic for (topic, _), _ in self._offsets))

    def partitions(self, state: ClusterState) -> tuple[tuple[str, int], ...]:
        """Return its topics and partitions."""
        return tuple(where for where, _ in self._offsets)

    def respond(self, turn: Turn) -> TxnOffsetCommitResponse:
        codes: dict[tuple[str, int], int] = {}
        taken: dict[tuple[str, int], CommittedOffset] = {}
        for where, committed in self._offsets:
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
            [CommittedPartition(*where, codes[where]) for where, _ in self._offsets],
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
