"""OffsetCommit, versions 2 to 9: the offsets that a consumer commits outside of transactions."""

from __future__ import annotations

from dataclasses import dataclass, field

from aioproducer.testing.apis.base import Api, Turn
from aioproducer.testing.apis.offsets import CommittedPartition, OffsetsCall, write_partitions
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.groups import CommittedOffset, GroupRefusedError, Member
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "OffsetCommitResponse"]


@dataclass(slots=True)
class OffsetCommitResponse:
    """The answer to OffsetCommit."""

    partitions: list[CommittedPartition] = field(default_factory=list[CommittedPartition])
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""
        if version >= 3:
            writer.int32(self.throttle_ms)
        write_partitions(writer, self.partitions)
        writer.tags()


class _OffsetCommit(OffsetsCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self._group = self.group = reader.string()
        generation, member_id = reader.int32(), reader.string()
        instance_id = reader.nullable_string() if version >= 7 else None
        self._member = Member(generation, member_id, instance_id)
        if version <= 4:
            reader.int64()  # how long to keep them
        self.read_offsets(reader, has_leader_epoch=version >= 6)
        reader.tags()

    def respond(self, turn: Turn) -> OffsetCommitResponse:
        codes: dict[tuple[str, int], int] = {}
        for where, _ in self.offsets:
            if (failure := turn.failure(*where)) is not None:
                codes[where] = failure.code
            elif turn.state.find(*where) is None:
                codes[where] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        taken = {where: one for where, one in self.offsets if where not in codes}
        if taken:
            codes |= dict.fromkeys(taken, self._commit(taken, turn))
        return OffsetCommitResponse(
            [CommittedPartition(*where, codes[where]) for where, _ in self.offsets],
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
