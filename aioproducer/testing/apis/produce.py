"""Produce, versions 3 to 13: checks, stores and acknowledges record batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from aioproducer.testing.apis.base import Api, CloseConnectionError, PlainCall, Turn
from aioproducer.testing.apis.verification import verify
from aioproducer.testing.batch import BatchHeader
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.faults import Fail
from aioproducer.testing.log import Appended, BatchRefusedError
from aioproducer.testing.observed import SentBatch
from aioproducer.testing.state import Address, ClusterState, TopicState
from aioproducer.testing.wire import Reader, WireError, Writer

__all__ = ["API", "ProduceResponse", "ProducedPartition"]

_ZERO_UUID = bytes(16)
_LEADER_ERRORS = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)


@dataclass(slots=True)
class ProducedPartition:
    """One partition in the answer to Produce."""

    topic: str
    """The topic's name; sent up to version 12."""
    topic_id: bytes
    """The topic's id; sent from version 13 on."""
    partition: int
    error_code: int = 0
    base_offset: int = -1
    log_append_time_ms: int = -1
    log_start_offset: int = -1
    record_errors: list[tuple[int, str | None]] = field(
        default_factory=list[tuple[int, str | None]]
    )
    error_message: str | None = None
    current_leader: tuple[int, int] | None = None
    """The id and epoch of the leader (KIP-951)."""


@dataclass(slots=True)
class ProduceResponse:
    """The answer to Produce; neighbours of the same topic share one entry of the response."""

    partitions: list[ProducedPartition]
    node_endpoints: list[Address] = field(default_factory=list[Address])
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""

        def one_partition(partition: ProducedPartition) -> None:
            writer.int32(partition.partition)
            writer.int16(partition.error_code)
            writer.int64(partition.base_offset)
            writer.int64(partition.log_append_time_ms)
            if version >= 5:
                writer.int64(partition.log_start_offset)
            if version >= 8:
                writer.array(partition.record_errors, one_record_error)
                writer.string(partition.error_message)
            writer.tags(_leader_tag(partition) if version >= 10 else ())

        def one_record_error(error: tuple[int, str | None]) -> None:
            writer.int32(error[0])
            writer.string(error[1])
            writer.tags()

        def one_topic(entry: tuple[tuple[str, bytes], list[ProducedPartition]]) -> None:
            (name, topic_id), partitions = entry
            if version >= 13:
                writer.uuid(topic_id)
            else:
                writer.string(name)
            writer.array(partitions, one_partition)
            writer.tags()

        by_topic = groupby(self.partitions, key=lambda part: (part.topic, part.topic_id))
        writer.array([(topic, list(partitions)) for topic, partitions in by_topic], one_topic)
        writer.int32(self.throttle_ms)
        writer.tags(self._endpoints_tag() if version >= 10 else ())

    def _endpoints_tag(self) -> list[tuple[int, bytearray]]:
        if not self.node_endpoints:
            return []
        part = Writer(flexible=True)

        def one_endpoint(address: Address) -> None:
            part.int32(address.node_id)
            part.string(address.host)
            part.int32(address.port)
            part.string(None)  # the rack
            part.tags()

        part.array(self.node_endpoints, one_endpoint)
        return [(0, part.data)]


def _leader_tag(partition: ProducedPartition) -> list[tuple[int, bytearray]]:
    if partition.current_leader is None:
        return []
    part = Writer(flexible=True)
    leader_id, leader_epoch = partition.current_leader
    part.int32(leader_id)
    part.int32(leader_epoch)
    part.tags()
    return [(0, part.data)]


class _Part(NamedTuple):
    """What the request holds for one partition."""

    topic: str | None
    topic_id: bytes
    partition: int
    records: memoryview | None
    header: BatchHeader | None
    """The header of the batch, if there is one."""

    def find(self, state: ClusterState) -> TopicState | None:
        if self.topic is None:
            return state.topic_of_id(self.topic_id)
        return state.topics.get(self.topic)


class _Produce(PlainCall):
    """A Produce request."""

    def __init__(self, reader: Reader, version: int) -> None:
        self._parts: list[_Part] = []

        def one_topic() -> None:
            name = reader.string() if version <= 12 else None
            topic_id = reader.uuid() if version >= 13 else _ZERO_UUID

            def one_partition() -> None:
                index, records = reader.int32(), reader.nullable_bytes()
                self._parts.append(_Part(name, topic_id, index, records, _header_of(records)))
                reader.tags()

            reader.array(one_partition)
            reader.tags()

        self.transactional_id = reader.nullable_string()
        self.acks: int | None = reader.int16()
        self.timeout_ms = reader.int32()
        reader.array(one_topic)
        reader.tags()
        headers = (part.header for part in self._parts if part.header is not None)
        self._has_transaction = any(header.transactional for header in headers)

    def topics(self, state: ClusterState) -> tuple[str, ...] | None:
        """Return the names of its topics, an unknown id in hex."""
        return tuple(dict.fromkeys(batch.topic for batch in self.batches(state)))

    def batches(self, state: ClusterState) -> tuple[SentBatch, ...]:
        """Return what it holds for each partition."""
        found: list[SentBatch] = []
        for part in self._parts:
            name = part.topic
            if name is None:
                topic = part.find(state)
                name = topic.name if topic else part.topic_id.hex()
            size = len(_bytes_of(part))
            header = part.header
            if header is None:
                found.append(SentBatch(name, part.partition, size, -1, -1, -1, -1))
                continue
            found.append(
                SentBatch(
                    name,
                    part.partition,
                    size,
                    header.record_count,
                    header.producer_id,
                    header.producer_epoch,
                    header.base_sequence,
                    header.transactional,
                )
            )
        return tuple(found)

    def records(self) -> list[memoryview]:
        """Return the bytes of each of its batches."""
        return [_bytes_of(part) for part in self._parts]

    def respond(self, turn: Turn) -> ProduceResponse | None:
        """Store what can be stored, and tell what became of each batch."""
        answer = ProduceResponse([], throttle_ms=turn.state.throttle_ms)
        for part in self._parts:
            produced = self._produce(part, turn)
            answer.partitions.append(produced)
            self._hint(produced, answer, turn)
        turn.state.appended()
        if self.acks != 0 or turn.state.habits.responds_to_acks_zero:
            return answer
        if any(produced.error_code for produced in answer.partitions):
            # With acks=0 there is no other way to tell.
            raise CloseConnectionError
        return None

    def _produce(self, part: _Part, turn: Turn) -> ProducedPartition:
        topic = part.find(turn.state)
        name = part.topic if part.topic is not None else topic.name if topic else ""
        produced = ProducedPartition(name, part.topic_id, part.partition)
        failure = turn.failure(name, part.partition)
        if failure is not None and not failure.stored:
            _fail(produced, failure)
            return produced
        try:
            log_start, appended = self._append(part, topic, turn)
        except BatchRefusedError as error:
            produced.error_code = error.code
            produced.record_errors = sorted(error.record_errors.items())
            produced.error_message = error.reason if error.told else None
            partition = topic.partition(part.partition) if topic else None
            if partition is not None and error.reached_log:
                produced.log_start_offset = partition.log.start_offset
            return produced
        if failure is not None:
            _fail(produced, failure)
            return produced
        produced.base_offset = appended.base_offset
        produced.log_append_time_ms = appended.log_append_time_ms
        produced.log_start_offset = log_start
        return produced

    def _append(self, part: _Part, topic: TopicState | None, turn: Turn) -> tuple[int, Appended]:
        def refuse(code: ErrorCode, reason: str) -> BatchRefusedError:
            return BatchRefusedError(code, reason, reached_log=False)

        if self.transactional_id is None and self._has_transaction:
            raise refuse(
                ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "there is no transactional id"
            )
        if self.acks not in (-1, 0, 1):
            raise refuse(ErrorCode.INVALID_REQUIRED_ACKS, f"acks is {self.acks}")
        if topic is None:
            by_name = part.topic is not None
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if by_name else ErrorCode.UNKNOWN_TOPIC_ID
            raise refuse(code, "there is no such topic")
        partition = topic.partition(part.partition)
        if partition is None:
            raise refuse(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such partition")
        if partition.leader != turn.node_id:
            raise refuse(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"the leader is {partition.leader}")
        if part.header is not None and self.transactional_id is not None:
            verify(part.header, self.transactional_id, partition.log, turn)
        appended = partition.log.append(
            _bytes_of(part),
            version=turn.version,
            leader_epoch=partition.leader_epoch,
            now_ms=turn.state.now_ms(),
        )
        if appended.reused_sequence:
            turn.state.violations.append(
                f"{topic.name}-{partition.index}: a sequence already stored at offset "
                f"{appended.base_offset} was used again for other records, which are lost"
            )
        return partition.log.start_offset, appended

    def _hint(self, produced: ProducedPartition, answer: ProduceResponse, turn: Turn) -> None:
        """Tell who leads, with the errors that say that this broker does not (KIP-951)."""
        failure = turn.failure(produced.topic, produced.partition)
        if failure is not None and failure.current_leader is not None:
            produced.current_leader = failure.current_leader
        elif produced.error_code in _LEADER_ERRORS:
            partition = turn.state.find(produced.topic, produced.partition)
            if partition is None:
                return
            produced.current_leader = (partition.leader, partition.leader_epoch)
        if produced.current_leader is None:
            return
        address = turn.state.addresses.get(produced.current_leader[0])
        if address is not None and address not in answer.node_endpoints:
            answer.node_endpoints.append(address)


def _bytes_of(part: _Part) -> memoryview:
    return part.records if part.records is not None else memoryview(b"")


def _header_of(records: memoryview | None) -> BatchHeader | None:
    try:
        return None if records is None else BatchHeader.read(records)
    except WireError:
        return None


def _fail(produced: ProducedPartition, failure: Fail) -> None:
    produced.error_code = failure.code
    produced.error_message = failure.message
    produced.record_errors = sorted(failure.record_errors.items())


# Brokers of 4.x say that they take version 0, for the sake of old librdkafka, and refuse it.
API = Api("produce", 0, 3, 13, 9, _Produce, advertised_min=0)
