"""OffsetCommit, versions 2 to 9: the offsets that a consumer commits outside of transactions."""

from __future__ import annotations

from dataclasses import dataclass, field

from aioproducer.testing.apis.base import Api, PlainCall, Turn
from aioproducer.testing.apis.txn_offset_commit import (
    CommittedPartition,
    TxnOffsetCommitResponse,
)
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.groups import CommittedOffset, GroupRefusedError, Member
from aioproducer.testing.state import ClusterState
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "OffsetCommitResponse"]


@dataclass(slots=True)
class OffsetCommitResponse:
    """The answer to OffsetCommit."""

    partitions: list[CommittedPartition] = field(default_factory=list[CommittedPartition])
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""
        whole = Writer(flexible=writer.flexible)
        TxnOffsetCommitResponse(self.partitions, self.throttle_ms).encode(whole, version)
        # It is that of TxnOffsetCommit, whose throttle time every version has.
        writer.raw(whole.data if version >= 3 else whole.data[4:])


class _OffsetCommit(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self._offsets: list[tuple[tuple[str, int], CommittedOffset]] = []

        def one_topic() -> None:
            name = reader.string()

            def one_partition() -> None:
                index = reader.int32()
                offset = reader.int64()
                leader_epoch = reader.int32() if version >= 6 else -1
                committed = CommittedOffset(offset, reader.nullable_string(), leader_epoch)
                self._offsets.append(((name, index), committed))
                reader.tags()

            reader.array(one_partition)
            reader.tags()

        self._group = self.group = reader.string()
        generation, member_id = reader.int32(), reader.string()
        instance_id = reader.nullable_string() if version >= 7 else None
        self._member = Member(generation, member_id, instance_id)
        if version <= 4:
            reader.int64()  # how long to keep them
        reader.array(one_topic)
        reader.tags()

    def topics(self, state: ClusterState) -> tuple[str, ...] | None:
        """Return the names of its topics."""
        return tuple(dict.fromkeys(topic for (topic, _), _ in self._offsets))

    def partitions(self, state: ClusterState) -> tuple[tuple[str, int], ...]:
        """Return its topics and partitions."""
        return tuple(where for where, _ in self._offsets)

    def respond(self, turn: Turn) -> OffsetCommitResponse:
        codes: dict[tuple[str, int], int] = {}
        for where, _ in self._offsets:
            if (failure := turn.failure(*where)) is not None:
                codes[where] = failure.code
            elif turn.state.find(*where) is None:
                codes[where] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        taken = {where: one for where, one in self._offsets if where not in codes}
        if taken:
            codes |= dict.fromkeys(taken, self._commit(taken, turn))
        return OffsetCommitResponse(
            [CommittedPartition(*where, codes[where]) for where, _ in self._offsets],
            turn.state.throttle_ms,
        )

    def _commit(self, taken: dict[tuple[str, int], CommittedOffset], turn: Turn) -> int:
        error = turn.state.coordinators.error_at(turn.node_id, "group", self._group)
        if error is not None:
            return error
        try:
            turn.state.groups.commit(self._group, self._member, taken)
        except GroupRefusedError as refusal:
            return refusal.code
        return 0


API = Api("offset_commit", 8, 2, 9, 8, _OffsetCommit)
