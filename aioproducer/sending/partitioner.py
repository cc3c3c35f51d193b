"""Which partition a record goes to: round robin, and the choice of the next sticky partition.

A `Partitioner` is called for each record that names no partition. Without one the native send path
hashes keys itself (`murmur2`), and draws from a `StickyChoice` when it leaves the partition that it
fills with records without key.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from aioproducer.config import ProducerConfig
from aioproducer.hooks import Partitioner

__all__ = ["Partitioner", "RoundRobinPartitioner", "StickyChoice", "partitioner_of"]


class RoundRobinPartitioner:
    """Gives each record of a topic to the next partition that has a leader, keys or not.

    Mirrors org.apache.kafka.clients.producer.RoundRobinPartitioner, but is even: Java's is called
    again for every new batch and so skips partitions (KAFKA-9965), this one once per record. One
    instance belongs to one producer.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __call__(
        self, topic: str, key: bytes | None, partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        """Return the next partition."""
        count = self._counts.get(topic, 0)
        self._counts[topic] = count + 1
        choices = available or partitions
        return choices[count % len(choices)]


def partitioner_of(config: ProducerConfig) -> Partitioner | None:
    """Return the partitioner of one producer; None for the native one."""
    if config.partitioner == "round_robin":
        return RoundRobinPartitioner()
    return config.partitioner


class StickyChoice:
    """Where the records without key of a topic may go next, and how likely (KIP-794).

    Mirrors org.apache.kafka.clients.producer.internals.BuiltInPartitioner (4.3): where batches
    wait, fewer records are sent. The current partition may be drawn again. The constructor looks at
    every partition of the topic; a draw does not.

    Args:
        queue_sizes: The number of batches that wait for each partition, by partition id. Empty
            when they shall not count: some partition has no queue yet, or
            `partitioner_adaptive_partitioning_enable` is False.
        available: The ids of the partitions that have a leader, ordered; without those that
            `partitioner_availability_timeout_ms` excludes, unless that excludes all.
        partition_count: The number of partitions of the topic, at least 1.
    """

    __slots__ = ("_bounds", "_partitions")

    def __init__(
        self, queue_sizes: Sequence[int], available: Sequence[int], partition_count: int
    ) -> None:
        self._partitions = available or range(partition_count)
        self._bounds: list[int] = []
        if available and len(queue_sizes) >= max(partition_count, 2):
            sizes = [queue_sizes[partition] for partition in available]
            longest = max(sizes)
            # Queues of 0, 3 and 1 batches get the weights 4, 1 and 3; equal queues equal ones.
            self._bounds = list(accumulate(longest + 1 - size for size in sizes))

    def draw(self, random: Callable[[], float]) -> int:
        """Return a partition id.

        Args:
            random: Returns a number from 0 up to and not including 1.
        """
        if not self._bounds:
            return self._partitions[int(random() * len(self._partitions))]
        drawn = int(random() * self._bounds[-1])
        return self._partitions[bisect_right(self._bounds, drawn)]
