"""ListOffsets, versions 1 to 7: where a partition begins and ends, for consumers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from aioproducer.testing.apis.base import Api, PlainCall, Turn
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.log import Isolation, PartitionLog
from aioproducer.testing.state import ClusterState
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "ListOffsetsResponse", "ListedOffset"]

_LATEST: Final = -1
_EARLIEST: Final = -2
_MAX_TIMESTAMP: Final = -3


@dataclass(slots=True)
class ListedOffset:
    """One partition in the answer to ListOffsets."""

    topic: str
    partition: int
    error_code: int = 0
    timestamp_ms: int = -1
    offset: int = -1
    leader_epoch: int = -1


@dataclass(slots=True)
class ListOffsetsResponse:
    """The answer to ListOffsets."""

    partitions: list[ListedOffset] = field(default_factory=list[ListedOffset])
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""

        def one_partition(partition: ListedOffset) -> None:
            writer.int32(partition.partition)
            writer.int16(partition.error_code)
            writer.int64(partition.timestamp_ms)
            writer.int64(partition.offset)
            if version >= 4:
                writer.int32(partition.leader_epoch)
            writer.tags()

        def one_topic(entry: tuple[str, list[ListedOffset]]) -> None:
            writer.string(entry[0])
            writer.array(entry[1], one_partition)
            writer.tags()

        by_topic: dict[str, list[ListedOffset]] = {}
        for partition in self.partitions:
            by_topic.setdefault(partition.topic, []).append(partition)
        if version >= 2:
            writer.int32(self.throttle_ms)
        writer.array(by_topic.items(), one_topic)
        writer.tags()


class _Wanted(NamedTuple):
    topic: str
    partition: int
    timestamp_ms: int


class _ListOffsets(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self._wanted: list[_Wanted] = []

        def one_topic() -> None:
            name = reader.string()

            def one_partition() -> None:
                index = reader.int32()
                if version >= 4:
                    reader.int32()  # the leader epoch the consumer knows
                self._wanted.append(_Wanted(name, index, reader.int64()))
                reader.tags()

            reader.array(one_partition)
            reader.tags()

        reader.int32()  # the id of a follower
        is_committed_only = version >= 2 and reader.int8() == 1
        self._isolation: Isolation = "read_committed" if is_committed_only else "read_uncommitted"
        reader.array(one_topic)
        reader.tags()

    def topics(self, state: ClusterState) -> tuple[str, ...] | None:
        return tuple(dict.fromkeys(wanted.topic for wanted in self._wanted))

    def respond(self, turn: Turn) -> ListOffsetsResponse:
        return ListOffsetsResponse(
            [_listed(wanted, self._isolation, turn) for wanted in self._wanted],
            turn.state.throttle_ms,
        )


def _listed(wanted: _Wanted, isolation: Isolation, turn: Turn) -> ListedOffset:
    listed = ListedOffset(wanted.topic, wanted.partition)
    partition = turn.state.find(wanted.topic, wanted.partition)
    if (failure := turn.failure(wanted.topic, wanted.partition)) is not None:
        listed.error_code = failure.code
    elif partition is None:
        listed.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    elif partition.leader != turn.node_id:
        listed.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
    else:
        listed.leader_epoch = partition.leader_epoch
        listed.timestamp_ms, listed.offset = _place(partition.log, wanted.timestamp_ms, isolation)
    return listed


def _place(log: PartitionLog, timestamp_ms: int, isolation: Isolation) -> tuple[int, int]:
    """Return the timestamp and offset that a consumer asks for; -1 where there is none."""
    if timestamp_ms == _LATEST:
        return -1, log.end_offset(isolation)
    if timestamp_ms == _EARLIEST:
        return -1, log.start_offset
    if timestamp_ms == _MAX_TIMESTAMP:
        return max(
            ((record.timestamp_ms, record.offset) for record in log.records()),
            default=(-1, -1),
        )
    for record in log.records():
        if record.timestamp_ms >= timestamp_ms:
            return record.timestamp_ms, record.offset
    return -1, -1


API = Api("list_offsets", 2, 1, 7, 6, _ListOffsets)
