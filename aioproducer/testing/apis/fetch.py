"""Fetch, versions 4 to 12: record batches as they are stored, for consumers. No sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from aioproducer.testing.apis.base import Api, Later, PlainCall, Turn
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.log import Isolation
from aioproducer.testing.producer_state import Aborted
from aioproducer.testing.state import ClusterState
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "FetchResponse", "FetchedPartition"]


@dataclass(slots=True)
class FetchedPartition:
    """One partition in the answer to Fetch."""

    topic: str
    partition: int
    error_code: int = 0
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    aborted: list[Aborted] | None = None
    """The aborted transactions whose records a reader of committed ones must leave out."""
    records: bytes = b""


@dataclass(slots=True)
class FetchResponse:
    """The answer to Fetch."""

    partitions: list[FetchedPartition] = field(default_factory=list[FetchedPartition])
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""

        def one_partition(partition: FetchedPartition) -> None:
            writer.int32(partition.partition)
            writer.int16(partition.error_code)
            writer.int64(partition.high_watermark)
            writer.int64(partition.last_stable_offset)
            if version >= 5:
                writer.int64(partition.log_start_offset)
            writer.array(partition.aborted, one_aborted)
            if version >= 11:
                writer.int32(-1)  # read from the leader
            writer.bytes_(partition.records)
            writer.tags()

        def one_aborted(aborted: Aborted) -> None:
            writer.int64(aborted.producer_id)
            writer.int64(aborted.first_offset)
            writer.tags()

        def one_topic(entry: tuple[str, list[FetchedPartition]]) -> None:
            writer.string(entry[0])
            writer.array(entry[1], one_partition)
            writer.tags()

        by_topic: dict[str, list[FetchedPartition]] = {}
        for partition in self.partitions:
            by_topic.setdefault(partition.topic, []).append(partition)
        writer.int32(self.throttle_ms)
        if version >= 7:
            writer.int16(0)
            writer.int32(0)  # no session: each request names all its partitions
        writer.array(by_topic.items(), one_topic)
        writer.tags()


class _Wanted(NamedTuple):
    topic: str
    partition: int
    offset: int
    max_bytes: int


class _Fetch(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self._wanted: list[_Wanted] = []

        def one_topic() -> None:
            name = reader.string()

            def one_partition() -> None:
                index = reader.int32()
                if version >= 9:
                    reader.int32()  # the leader epoch the consumer knows
                offset = reader.int64()
                if version >= 12:
                    reader.int32()  # the epoch of the last record it has
                if version >= 5:
                    reader.int64()  # the log start of a follower
                self._wanted.append(_Wanted(name, index, offset, reader.int32()))
                reader.tags()

            reader.array(one_partition)
            reader.tags()

        def one_forgotten_topic() -> None:
            reader.string()
            reader.array(reader.int32)
            reader.tags()

        reader.int32()  # the id of a follower
        self._max_wait_ms = reader.int32()
        self._min_bytes = reader.int32()
        self._max_bytes = reader.int32()
        is_committed_only = reader.int8() == 1
        self._isolation: Isolation = "read_committed" if is_committed_only else "read_uncommitted"
        if version >= 7:
            reader.int32()  # session id
            reader.int32()  # session epoch
        reader.array(one_topic)
        if version >= 7:
            reader.array(one_forgotten_topic)
        if version >= 11:
            reader.string()  # the consumer's rack
        reader.tags()

    def topics(self, state: ClusterState) -> tuple[str, ...] | None:
        return tuple(dict.fromkeys(wanted.topic for wanted in self._wanted))

    def respond(self, turn: Turn) -> FetchResponse | Later:
        answer = FetchResponse(throttle_ms=turn.state.throttle_ms)
        left = self._max_bytes
        for wanted in self._wanted:
            fetched = _fetched(wanted, left, self._isolation, turn)
            left -= len(fetched.records)
            answer.partitions.append(fetched)
        enough = self._max_bytes - left >= self._min_bytes
        failed = any(fetched.error_code for fetched in answer.partitions)
        if enough or failed or turn.waited or self._max_wait_ms <= 0:
            return answer
        return Later(self._max_wait_ms / 1000)


def _fetched(wanted: _Wanted, left: int, isolation: Isolation, turn: Turn) -> FetchedPartition:
    fetched = FetchedPartition(wanted.topic, wanted.partition)
    partition = turn.state.find(wanted.topic, wanted.partition)
    if (failure := turn.failure(wanted.topic, wanted.partition)) is not None:
        fetched.error_code = failure.code
        return fetched
    if partition is None:
        fetched.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return fetched
    if partition.leader != turn.node_id:
        fetched.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
        return fetched
    log = partition.log
    if not log.start_offset <= wanted.offset <= log.next_offset:
        fetched.error_code = ErrorCode.OFFSET_OUT_OF_RANGE
        return fetched
    fetched.high_watermark = log.next_offset
    fetched.last_stable_offset = log.last_stable_offset
    fetched.log_start_offset = log.start_offset
    if left > 0:
        fetched.records, end = log.read(wanted.offset, min(left, wanted.max_bytes), isolation)
        if isolation == "read_committed":
            fetched.aborted = log.producers.aborted(wanted.offset, end)
    elif isolation == "read_committed":
        fetched.aborted = []
    return fetched


API = Api("fetch", 1, 4, 12, 12, _Fetch)
