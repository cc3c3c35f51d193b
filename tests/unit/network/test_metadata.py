"""What a newer response changes of a topic's leaders, and what it must not take back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from aioproducer.network.metadata import (
    NO_LEADER,
    NOBODY,
    BrokerAddress,
    PartitionLeader,
    broker_address,
    newer_leaders,
)
from aioproducer.protocol.metadata import MetadataResponsePartition, MetadataResponseTopic
from aioproducer.protocol.schema import NO_TOPIC_ID

ID = bytes([1] * 16)
OTHER_ID = bytes([2] * 16)


def topic_response(*leaders: tuple[int, int], topic_id: bytes = ID) -> MetadataResponseTopic:
    """Answer for a topic with these leaders and epochs, by partition."""
    partitions = [
        MetadataResponsePartition(0, index, leader, epoch)
        for index, (leader, epoch) in enumerate(leaders)
    ]
    return MetadataResponseTopic(0, "t", topic_id, False, partitions)


def after(*topic_responses: MetadataResponseTopic) -> list[PartitionLeader]:
    """Return the leaders that are known after these answers, one behind the other."""
    known: list[PartitionLeader] = []
    topic_id = NO_TOPIC_ID
    for topic in topic_responses:
        known = newer_leaders(known, topic_id, topic)
        topic_id = topic.topic_id
    return known


def test_a_response_gives_the_leaders_by_partition() -> None:
    assert after(topic_response((1, 5), (2, 6))) == [(1, 5), (2, 6)]


def test_what_was_known_does_not_change_itself() -> None:
    before = after(topic_response((1, 5)))
    newer_leaders(before, ID, topic_response((2, 6), (1, 0)))
    assert before == [(1, 5)]


def test_partitions_are_ordered_by_id_whatever_the_responses_order() -> None:
    ordered = topic_response((1, 5), (2, 6), (1, 7))
    shuffled = ordered._replace(partitions=[*reversed(ordered.partitions)])
    assert after(shuffled) == [(1, 5), (2, 6), (1, 7)]


@pytest.mark.parametrize("index", [-1, 1, 2**31 - 1])
def test_a_partition_id_out_of_range_is_left_out(index: int) -> None:
    strange = topic_response((1, 5))._replace(
        partitions=[MetadataResponsePartition(0, index, 1, 5)]
    )
    assert after(strange) == [NOBODY]


def test_of_a_partition_that_is_listed_twice_the_last_entry_counts() -> None:
    partitions = [MetadataResponsePartition(0, 0, leader, 5) for leader in (1, 2)]
    assert after(topic_response()._replace(partitions=partitions)) == [(2, 5), NOBODY]


def test_a_response_without_partitions_gives_no_leaders() -> None:
    assert after(topic_response()) == []


def test_a_newer_leader_epoch_replaces_the_leader() -> None:
    assert after(topic_response((1, 5)), topic_response((2, 6))) == [(2, 6)]


def test_an_older_leader_epoch_is_ignored() -> None:
    assert after(topic_response((1, 5), (1, 5)), topic_response((2, 4), (2, 6))) == [(1, 5), (2, 6)]


def test_the_same_epoch_is_taken() -> None:
    assert after(topic_response((1, 5)), topic_response((NO_LEADER, 5))) == [(NO_LEADER, 5)]


def test_without_leader_epochs_the_newest_response_counts() -> None:
    # As before Metadata 7: each leader comes with epoch -1.
    old = topic_response((1, -1), (2, -1), topic_id=NO_TOPIC_ID)
    new = topic_response((2, -1), (NO_LEADER, -1), topic_id=NO_TOPIC_ID)
    assert after(old) == [(1, -1), (2, -1)]
    assert after(old, new) == [(2, -1), (NO_LEADER, -1)]


def test_a_broker_without_leader_epochs_may_answer_after_one_with_them() -> None:
    assert after(topic_response((1, 5)), topic_response((2, -1))) == [(2, -1)]


def test_a_recreated_topic_begins_with_its_own_epochs() -> None:
    assert after(topic_response((1, 5)), topic_response((2, 0), topic_id=OTHER_ID)) == [(2, 0)]


def test_without_topic_ids_the_newest_response_is_believed_whatever_its_epochs() -> None:
    first, second = (
        topic_response((1, 5), topic_id=NO_TOPIC_ID),
        topic_response((2, 0), topic_id=NO_TOPIC_ID),
    )
    assert after(first, second) == [(2, 0)]


def test_new_partitions_are_added() -> None:
    assert after(topic_response((1, 5)), topic_response((1, 5), (2, 0))) == [(1, 5), (2, 0)]


def test_a_broker_that_has_not_heard_of_new_partitions_takes_none_away() -> None:
    assert after(topic_response((1, 5), (2, 0)), topic_response((1, 6))) == [(1, 6), (2, 0)]


@pytest.mark.parametrize("topic_id", [OTHER_ID, NO_TOPIC_ID])
def test_a_topic_that_may_be_a_recreated_one_may_have_fewer_partitions(topic_id: bytes) -> None:
    known: Sequence[PartitionLeader] = after(topic_response((1, 5), (2, 5)))
    assert newer_leaders(known, topic_id, topic_response((1, 0), topic_id=NO_TOPIC_ID)) == [(1, 0)]
    assert newer_leaders(known, ID, topic_response((1, 0), topic_id=topic_id)) == [(1, 0)]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("broker", "broker:9092"), ("::1", "[::1]:9092"), ("10.0.0.1", "10.0.0.1:9092")],
)
def test_an_address_prints_as_in_bootstrap_servers(host: str, expected: str) -> None:
    assert str(BrokerAddress(1, host, 9092)) == expected


@pytest.mark.parametrize(
    ("host", "known", "shown"),
    [
        ("[::1]", "::1", "[::1]:9092"),
        ("::1", "::1", "[::1]:9092"),
        ("[fe80::1%eth0]", "fe80::1%eth0", "[fe80::1%eth0]:9092"),
        ("kafka.example", "kafka.example", "kafka.example:9092"),
        ("", "", ":9092"),
        ("[", "[", "[:9092"),
    ],
)
def test_a_broker_may_advertise_an_ipv6_address_in_brackets(
    host: str, known: str, shown: str
) -> None:
    address = broker_address(1, host, 9092)
    assert address == (1, known, 9092)
    assert str(address) == shown
