"""Which partition a record goes to: round robin, and the choice of the next sticky partition.

The send path calls a `Partitioner` for each record that names no partition. Without one it hashes
keys itself (`murmur2`, in the native send path), and for records without key asks
`next_sticky_partition` whenever it decides to leave the partition it has been filling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from aioproducer.hooks import Partitioner

__all__ = ["Partitioner", "RoundRobinPartitioner", "next_sticky_partition"]


class RoundRobinPartitioner:
    """Gives each record of a topic to the next partition that has a leader, keys or not.

    Mirrors org.apache.kafka.clients.producer.RoundRobinPartitioner, but is even: Java's skips
    partitions because it is asked again for every new batch (KAFKA-9965), this one is asked once
    per record. One instance belongs to one producer.
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


def next_sticky_partition(
    queue_sizes: Sequence[int],
    available: Sequence[int],
    partition_count: int,
    random: Callable[[], float],
) -> int:
    """Choose the partition that records without key go to from now on (KIP-794).

    Mirrors org.apache.kafka.clients.producer.internals.BuiltInPartitioner (4.3): where batches
    wait, fewer records are sent. The partition in use until now may be chosen again.

    Args:
        queue_sizes: The number of batches that wait for each partition, by partition id. Empty
            when they shall not count: some partition has no queue yet, or
            `partitioner_adaptive_partitioning_enable` is False.
        available: The ids of the partitions that have a leader, ordered; without those that
            `partitioner_availability_timeout_ms` excludes, unless that excludes all.
        partition_count: The number of partitions of the topic, at least 1.
        random: Returns a number from 0 up to and not including 1.
    """
    if not available:
        return int(random() * partition_count)
    if len(queue_sizes) < max(partition_count, 2):
        return available[int(random() * len(available))]
    sizes = [queue_sizes[partition] for partition in available]
    longest = max(sizes)
    # Queues of 0, 3 and 1 batches get the weights 4, 1 and 3; equal queues get equal ones.
    bounds = list(accumulate(longest + 1 - size for size in sizes))
    drawn = int(random() * bounds[-1])
    return next(
        partition for partition, bound in zip(available, bounds, strict=True) if drawn < bound
    )
