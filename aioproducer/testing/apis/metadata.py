"""Metadata, versions 0 to 13: brokers, topics, leaders; makes topics where that is allowed."""

from __future__ import annotations

from dataclasses import dataclass, field

from aioproducer.testing.apis.base import Api, PlainCall, Turn
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.state import Address, ClusterState, TopicState
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "MetadataResponse", "PartitionMetadata", "TopicMetadata"]

_NOT_ASKED = -(2**31)
"""The operations a client may do, when it did not ask for them."""
_ZERO_UUID = bytes(16)


@dataclass(slots=True)
class PartitionMetadata:
    """One partition in the answer to Metadata."""

    partition: int
    leader_id: int
    leader_epoch: int
    replicas: list[int]
    in_sync: list[int]
    offline: list[int]
    error_code: int = 0


@dataclass(slots=True)
class TopicMetadata:
    """One topic in the answer to Metadata."""

    name: str | None
    topic_id: bytes = _ZERO_UUID
    error_code: int = 0
    partitions: list[PartitionMetadata] = field(default_factory=list[PartitionMetadata])


@dataclass(slots=True)
class MetadataResponse:
    """The answer to Metadata."""

    brokers: list[Address]
    topics: list[TopicMetadata]
    cluster_id: str | None
    controller_id: int
    error_code: int = 0
    """Of the whole answer; sent from version 13 on."""
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""

        def one_broker(broker: Address) -> None:
            writer.int32(broker.node_id)
            writer.string(broker.host)
            writer.int32(broker.port)
            if version >= 1:
                writer.string(None)  # the rack
            writer.tags()

        def one_topic(topic: TopicMetadata) -> None:
            writer.int16(topic.error_code)
            writer.string(topic.name if version >= 12 else topic.name or "")
            if version >= 10:
                writer.uuid(topic.topic_id)
            if version >= 1:
                writer.boolean(False)  # not internal
            writer.array(topic.partitions, one_partition)
            if version >= 8:
                writer.int32(_NOT_ASKED)
            writer.tags()

        def one_partition(partition: PartitionMetadata) -> None:
            writer.int16(partition.error_code)
            writer.int32(partition.partition)
            writer.int32(partition.leader_id)
            if version >= 7:
                writer.int32(partition.leader_epoch)
            writer.array(partition.replicas, writer.int32)
            writer.array(partition.in_sync, writer.int32)
            if version >= 5:
                writer.array(partition.offline, writer.int32)
            writer.tags()

        if version >= 3:
            writer.int32(self.throttle_ms)
        writer.array(self.brokers, one_broker)
        if version >= 2:
            writer.string(self.cluster_id)
        if version >= 1:
            writer.int32(self.controller_id)
        writer.array(self.topics, one_topic)
        if 8 <= version <= 10:
            writer.int32(_NOT_ASKED)
        if version >= 13:
            writer.int16(self.error_code)
        writer.tags()


class _Metadata(PlainCall):
    """A Metadata request: names and ids of topics, None for all of them."""

    def __init__(self, reader: Reader, version: int) -> None:
        def one_topic() -> tuple[bytes, str | None]:
            topic_id = reader.uuid() if version >= 10 else _ZERO_UUID
            name = reader.nullable_string() if version >= 10 else reader.string()
            reader.tags()
            return topic_id, name

        asked = reader.nullable_array(one_topic) if version >= 1 else reader.array(one_topic)
        # Version 0 has no null: there an empty list stands for all.
        self._asked = None if version == 0 and not asked else asked
        self._may_create = reader.boolean() if version >= 4 else True
        if 8 <= version <= 10:
            reader.boolean()  # operations on the cluster
        if version >= 8:
            reader.boolean()  # operations on topics
        reader.tags()

    def topics(self, state: ClusterState) -> tuple[str, ...] | None:
        """Return the names of the topics it asks for, an unknown id in hex; None for all."""
        if self._asked is None:
            return None
        names: list[str] = []
        for topic_id, name in self._asked:
            known = state.topic_of_id(topic_id)
            names.append(name if name is not None else known.name if known else topic_id.hex())
        return tuple(names)

    def respond(self, turn: Turn) -> MetadataResponse:
        """Return the cluster as it is now."""
        state = turn.state
        if self._asked is None or (not self._asked and state.habits.tells_of_all_topics):
            topics = [_described(topic, turn) for topic in state.topics.values()]
        else:
            topics = [self._find(topic_id, name, turn) for topic_id, name in self._asked]
        answer = MetadataResponse(
            brokers=state.living(),
            topics=topics,
            cluster_id=state.cluster_id,
            controller_id=min(state.alive, default=-1),
            throttle_ms=state.throttle_ms,
        )
        failure = turn.failure()
        if failure is not None and failure.code == ErrorCode.REBOOTSTRAP_REQUIRED:
            answer.error_code = failure.code
            answer.brokers, answer.topics = [], []
        return answer

    def _find(self, topic_id: bytes, name: str | None, turn: Turn) -> TopicMetadata:
        state = turn.state
        if name is None:
            by_id = state.topic_of_id(topic_id)
            if by_id is None:
                return TopicMetadata(None, topic_id, ErrorCode.UNKNOWN_TOPIC_ID)
            return _described(by_id, turn)
        if (topic := state.topics.get(name)) is not None:
            return _described(topic, turn)
        if (failure := turn.failure(name)) is not None and failure.partition is None:
            return TopicMetadata(name, error_code=failure.code)
        if not state.legal(name):
            return TopicMetadata(name, error_code=ErrorCode.INVALID_TOPIC_EXCEPTION)
        if state.auto_create_topics and self._may_create:
            state.create_topic(name, state.default_partitions, state.limits_of_new_topic())
        # A KRaft broker asks the controller to make the topic and answers before that is done.
        return TopicMetadata(name, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


def _described(topic: TopicState, turn: Turn) -> TopicMetadata:
    failure = turn.failure(topic.name)
    if failure is not None and failure.code == ErrorCode.REBOOTSTRAP_REQUIRED:
        failure = None
    if failure is not None and failure.partition is None:
        return TopicMetadata(topic.name, topic.topic_id, failure.code)
    alive = turn.state.alive
    described = TopicMetadata(topic.name, topic.topic_id)
    for partition in topic.partitions:
        leader = partition.leader if partition.leader in alive else -1
        failure = turn.failure(topic.name, partition.index)
        code = failure.code if failure and failure.partition is not None else 0
        described.partitions.append(
            PartitionMetadata(
                partition.index,
                leader,
                partition.leader_epoch,
                list(partition.replicas),
                [node for node in partition.replicas if node in alive],
                [node for node in partition.replicas if node not in alive],
                code or (ErrorCode.LEADER_NOT_AVAILABLE if leader < 0 else 0),
            )
        )
    return described


API = Api("metadata", 3, 0, 13, 9, _Metadata)
