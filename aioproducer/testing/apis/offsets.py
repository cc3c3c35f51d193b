"""What the two requests that commit a consumer group's offsets have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from aioproducer.testing.apis.base import PlainCall
from aioproducer.testing.groups import CommittedOffset
from aioproducer.testing.state import ClusterState
from aioproducer.testing.wire import Reader, Writer

__all__ = ["CommittedPartition", "OffsetsCall", "write_partitions"]


@dataclass(slots=True)
class CommittedPartition:
    """One partition in the answer to a commit of offsets."""

    topic: str
    partition: int
    error_code: int = 0


def write_partitions(writer: Writer, partitions: Sequence[CommittedPartition]) -> None:
    """Write partitions; neighbours of the same topic share one entry."""

    def one_partition(partition: CommittedPartition) -> None:
        writer.int32(partition.partition)
        writer.int16(partition.error_code)
        writer.tags()

    def one_topic(entry: tuple[str, list[CommittedPartition]]) -> None:
        writer.string(entry[0])
        writer.array(entry[1], one_partition)
        writer.tags()

    by_topic = groupby(partitions, key=lambda one: one.topic)
    writer.array([(topic, list(own)) for topic, own in by_topic], one_topic)


class OffsetsCall(PlainCall):
    """A request with offsets.

    Attributes:
        offsets: What is to be committed, by topic and partition, as it was sent.
    """

    offsets: list[tuple[tuple[str, int], CommittedOffset]]

    def read_offsets(self, reader: Reader, *, has_leader_epoch: bool) -> None:
        """Read `offsets`."""
        self.offsets = []

        def one_topic() -> None:
            name = reader.string()

            def one_partition() -> None:
                index = reader.int32()
                offset = reader.int64()
                leader_epoch = reader.int32() if has_leader_epoch else -1
                committed = CommittedOffset(offset, reader.nullable_string(), leader_epoch)
                self.offsets.append(((name, index), committed))
                reader.tags()

            reader.array(one_partition)
            reader.tags()

        reader.array(one_topic)

    def topics(self, state: ClusterState) -> tuple[str, ...] | None:
        """Return the names of its topics."""
        return tuple(dict.fromkeys(topic for (topic, _), _ in self.offsets))

    def partitions(self, state: ClusterState) -> tuple[tuple[str, int], ...]:
        """Return its topics and partitions."""
        return tuple(where for where, _ in self.offsets)
