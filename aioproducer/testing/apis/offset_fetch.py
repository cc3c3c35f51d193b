"""OffsetFetch, versions 1 to 9: what consumer groups have committed."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from aioproducer.testing.apis.base import Api, PlainCall, Turn
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.groups import CommittedOffset
from aioproducer.testing.state import ClusterState
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "FetchedGroup", "FetchedOffset", "OffsetFetchResponse"]

_NOTHING = CommittedOffset(-1, "")


@dataclass(slots=True)
class FetchedOffset:
    """One partition in the answer to OffsetFetch."""

    topic: str
    partition: int
    offset: int = -1
    leader_epoch: int = -1
    metadata: str | None = ""
    error_code: int = 0


@dataclass(slots=True)
class FetchedGroup:
    """One group in the answer to OffsetFetch."""

    group: str
    offsets: list[FetchedOffset] = field(default_factory=list[FetchedOffset])
    error_code: int = 0


@dataclass(slots=True)
class OffsetFetchResponse:
    """The answer to OffsetFetch; versions below 8 have room for one group."""

    groups: list[FetchedGroup] = field(default_factory=list[FetchedGroup])
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""

        def one_partition(offset: FetchedOffset) -> None:
            writer.int32(offset.partition)
            writer.int64(offset.offset)
            if version >= 5:
                writer.int32(offset.leader_epoch)
            writer.string(offset.metadata)
            writer.int16(offset.error_code)
            writer.tags()

        def one_topic(entry: tuple[str, list[FetchedOffset]]) -> None:
            writer.string(entry[0])
            writer.array(entry[1], one_partition)
            writer.tags()

        def topics(group: FetchedGroup) -> list[tuple[str, list[FetchedOffset]]]:
            by_topic = groupby(group.offsets, key=lambda one: one.topic)
            return [(topic, list(own)) for topic, own in by_topic]

        def one_group(group: FetchedGroup) -> None:
            writer.string(group.group)
            writer.array(topics(group), one_topic)
            writer.int16(group.error_code)
            writer.tags()

        if version >= 3:
            writer.int32(self.throttle_ms)
        if version >= 8:
            writer.array(self.groups, one_group)
        else:
            (group,) = self.groups
            writer.array(topics(group), one_topic)
            if version >= 2:
                writer.int16(group.error_code)
        writer.tags()


class _Wanted(NamedTuple):
    group: str
    partitions: list[tuple[str, int]] | None
    """None for all that were committed."""


class _OffsetFetch(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        def one_topic() -> list[tuple[str, int]]:
            name = reader.string()
            partitions = [(name, index) for index in reader.array(reader.int32)]
            reader.tags()
            return partitions

        def one_group() -> _Wanted:
            group = reader.string()
            if version >= 9:
                reader.nullable_string()  # the member
                reader.int32()  # and its epoch (KIP-848)
            topics = reader.array(one_topic) if version == 1 else reader.nullable_array(one_topic)
            if version >= 8:
                reader.tags()
            return _Wanted(
                group, None if topics is None else [where for topic in topics for where in topic]
            )

        self._wanted = reader.array(one_group) if version >= 8 else [one_group()]
        self._wants_stable = reader.boolean() if version >= 7 else False
        reader.tags()
        if len(self._wanted) == 1:
            self.group = self._wanted[0].group

    def topics(self, state: ClusterState) -> tuple[str, ...] | None:
        """Return the names of its topics; None for all."""
        names: dict[str, None] = {}
        for wanted in self._wanted:
            if wanted.partitions is None:
                return None
            names |= dict.fromkeys(topic for topic, _ in wanted.partitions)
        return tuple(names)

    def respond(self, turn: Turn) -> OffsetFetchResponse:
        answer = OffsetFetchResponse(throttle_ms=turn.state.throttle_ms)
        for wanted in self._wanted:
            error = turn.state.coordinators.error_at(turn.node_id, "group", wanted.group)
            failure = turn.failure()
            if failure is not None or error is not None:
                code = failure.code if failure is not None else int(error or 0)
                fetched = FetchedGroup(wanted.group, error_code=code)
                if turn.version == 1:  # which has no error but those of partitions
                    fetched.offsets = [
                        FetchedOffset(*where, error_code=code) for where in wanted.partitions or ()
                    ]
                answer.groups.append(fetched)
                continue
            answer.groups.append(self._fetched(wanted, turn))
        return answer

    def _fetched(self, wanted: _Wanted, turn: Turn) -> FetchedGroup:
        group = turn.state.groups.get(wanted.group)
        fetched = FetchedGroup(wanted.group)
        partitions = sorted(group.offsets) if wanted.partitions is None else wanted.partitions
        for where in partitions:
            if (failure := turn.failure(*where)) is not None:
                fetched.offsets.append(FetchedOffset(*where, error_code=failure.code))
            elif self._wants_stable and not group.is_stable(where):
                code = ErrorCode.UNSTABLE_OFFSET_COMMIT
                fetched.offsets.append(FetchedOffset(*where, error_code=code))
            else:
                offset, metadata, leader_epoch = group.offsets.get(where, _NOTHING)
                fetched.offsets.append(FetchedOffset(*where, offset, leader_epoch, metadata))
        return fetched


API = Api("offset_fetch", 9, 1, 9, 6, _OffsetFetch)
