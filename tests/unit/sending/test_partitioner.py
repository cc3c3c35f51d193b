"""Round robin, and the choice of the next sticky partition as in Java's BuiltInPartitioner."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from aioproducer.sending.partitioner import Partitioner, RoundRobinPartitioner, StickyChoice


def shares(queue_sizes: list[int], available: list[int], count: int) -> dict[int, int]:
    """Ask with 1000 evenly spread random numbers; how often is each partition chosen?"""
    choice = StickyChoice(queue_sizes, available, count)
    numbers = iter(range(1000))
    return Counter(choice.draw(lambda: next(numbers) / 1000) for _ in range(1000))


def test_round_robin_takes_the_partitions_in_turn() -> None:
    choose: Partitioner = RoundRobinPartitioner()
    chosen = [choose("clicks", None, [0, 1, 2], [0, 1, 2]) for _ in range(7)]
    assert chosen == [0, 1, 2, 0, 1, 2, 0]


def test_round_robin_does_not_look_at_keys() -> None:
    choose = RoundRobinPartitioner()
    assert [choose("clicks", b"same", [0, 1], [0, 1]) for _ in range(4)] == [0, 1, 0, 1]


def test_round_robin_counts_each_topic_for_itself() -> None:
    choose = RoundRobinPartitioner()
    topics = ["clicks", "views", "clicks", "views"]
    assert [choose(topic, None, [0, 1], [0, 1]) for topic in topics] == [0, 0, 1, 1]


def test_round_robin_leaves_out_partitions_without_a_leader() -> None:
    choose = RoundRobinPartitioner()
    assert [choose("clicks", None, [0, 1, 2], [0, 2]) for _ in range(4)] == [0, 2, 0, 2]


def test_round_robin_takes_them_all_when_none_has_a_leader() -> None:
    choose = RoundRobinPartitioner()
    assert [choose("clicks", None, [0, 1], []) for _ in range(4)] == [0, 1, 0, 1]


def test_a_longer_queue_gets_fewer_records() -> None:
    # The example in Java's source: queues of 0, 3 and 1 get the weights 4, 1 and 3.
    assert shares([0, 3, 1], [0, 1, 2], 3) == {0: 500, 1: 125, 2: 375}


def test_only_the_queues_of_available_partitions_count() -> None:
    assert shares([0, 100, 1], [0, 2], 3) == {0: 667, 2: 333}


def test_equal_queues_get_equal_shares() -> None:
    assert shares([4, 4, 4, 4], [0, 1, 2, 3], 4) == {0: 250, 1: 250, 2: 250, 3: 250}


def test_queues_that_are_not_known_do_not_count() -> None:
    assert shares([], [0, 2], 3) == {0: 500, 2: 500}
    assert shares([0, 9], [0, 2], 3) == {0: 500, 2: 500}


def test_without_available_partitions_all_are_equal() -> None:
    assert shares([0, 3, 1, 9], [], 4) == {0: 250, 1: 250, 2: 250, 3: 250}


def test_a_single_partition_is_always_chosen() -> None:
    assert shares([7], [0], 1) == {0: 1000}


@given(st.data())
def test_the_choice_is_always_one_of_the_available(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 20))
    queue_sizes = data.draw(
        st.just([]) | st.lists(st.integers(0, 1000), min_size=count, max_size=count)
    )
    available = sorted(data.draw(st.sets(st.integers(0, count - 1))))
    drawn = data.draw(st.floats(0, 1, exclude_max=True))
    chosen = StickyChoice(queue_sizes, available, count).draw(lambda: drawn)
    assert chosen in (available or range(count))


@given(st.lists(st.integers(0, 10), min_size=2, max_size=6), st.integers())
def test_the_shares_are_the_weights(queue_sizes: list[int], seed: int) -> None:
    count = len(queue_sizes)
    weights = [max(queue_sizes) + 1 - size for size in queue_sizes]
    drawn = random.Random(seed).random()
    partition = StickyChoice(queue_sizes, range(count), count).draw(lambda: drawn)
    below = sum(weights[:partition]) / sum(weights)
    assert below <= drawn < below + weights[partition] / sum(weights) + 1e-9
