"""Snapshots of the cluster: what a newer answer changes, and what it must not take back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from aioproducer.metadata import (
    NO_LEADER,
    BrokerAddress,
    ClusterMetadata,
    PartitionLeader,
)
from aioproducer.protocol.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

ID = bytes([1] * 16)
OTHER_ID = bytes([2] * 16)
BROKERS = {1: BrokerAddress(1, "a", 9092), 2: BrokerAddress(2, "b", 9092)}


def answer(
    *topics: MetadataResponseTopic, brokers: Sequence[BrokerAddress] = tuple(BROKERS.values())
) -> MetadataResponse:
    return MetadataResponse(
        brokers=[MetadataResponseBroker(*address) for address in brokers],
        cluster_id="cluster",
        topics=topics,
    )


def topic(
    *leaders: tuple[int, int], name: str | None = "t", topic_id: bytes = ID, error_code: int = 0
) -> MetadataResponseTopic:
    """Answer for a topic with these leaders and epochs, by partition."""
    partitions = [
        MetadataResponsePartition(0, index, leader, epoch)
        for index, (leader, epoch) in enumerate(leaders)
    ]
    return MetadataResponseTopic(error_code, name, topic_id, False, partitions)


def after(*answers: MetadataResponse) -> ClusterMetadata:
    snapshot = ClusterMetadata()
    for its in answers:
        snapshot = snapshot.merged(its)
    return snapshot


def leaders(snapshot: ClusterMetadata, name: str = "t") -> tuple[PartitionLeader, ...]:
    return snapshot.topics[name].leaders


def test_an_answer_tells_brokers_topics_and_leaders() -> None:
    snapshot = after(answer(topic((1, 5), (2, 6))))
    assert snapshot.cluster_id == "cluster"
    assert snapshot.brokers == BROKERS
    assert snapshot.topics["t"].topic_id == ID
    assert leaders(snapshot) == ((1, 5), (2, 6))


def test_a_snapshot_does_not_change() -> None:
    before = after(answer(topic((1, 5))))
    before.merged(answer(topic((2, 6)), brokers=[]))
    assert leaders(before) == ((1, 5),)
    assert before.brokers == BROKERS


def test_topics_that_an_answer_leaves_out_stay() -> None:
    snapshot = after(answer(topic((1, 5))), answer(topic((2, 0), name="other")))
    assert set(snapshot.topics) == {"t", "other"}


def test_brokers_that_an_answer_leaves_out_are_gone() -> None:
    snapshot = after(answer(), answer(brokers=[BROKERS[2]]))
    assert set(snapshot.brokers) == {2}


def test_partitions_are_ordered_by_id_whatever_the_answers_order() -> None:
    shuffled = topic((1, 5), (2, 6), (1, 7))
    shuffled = shuffled._replace(partitions=list(reversed(shuffled.partitions)))
    assert leaders(after(answer(shuffled))) == ((1, 5), (2, 6), (1, 7))


@pytest.mark.parametrize("index", [-1, 1, 2**31 - 1])
def test_a_partition_id_out_of_range_is_left_out(index: int) -> None:
    strange = topic((1, 5))._replace(partitions=[MetadataResponsePartition(0, index, 1, 5)])
    assert leaders(after(answer(strange))) == ((NO_LEADER, -1),)


def test_a_topic_without_name_is_left_out() -> None:
    assert after(answer(topic((1, 5), name=None))).topics == {}


def test_a_newer_leader_epoch_replaces_the_leader() -> None:
    snapshot = after(answer(topic((1, 5))), answer(topic((2, 6))))
    assert leaders(snapshot) == ((2, 6),)


def test_an_older_leader_epoch_is_ignored() -> None:
    snapshot = after(answer(topic((1, 5), (1, 5))), answer(topic((2, 4), (2, 6))))
    assert leaders(snapshot) == ((1, 5), (2, 6))


def test_the_same_epoch_is_taken() -> None:
    snapshot = after(answer(topic((1, 5))), answer(topic((NO_LEADER, 5))))
    assert leaders(snapshot) == ((NO_LEADER, 5),)


def test_brokers_without_epochs_are_believed() -> None:
    snapshot = after(answer(topic((1, -1))), answer(topic((2, -1))))
    assert leaders(snapshot) == ((2, -1),)


def test_a_topic_created_anew_begins_with_its_own_epochs() -> None:
    snapshot = after(answer(topic((1, 5))), answer(topic((2, 0), topic_id=OTHER_ID)))
    assert leaders(snapshot) == ((2, 0),)
    assert snapshot.topics["t"].topic_id == OTHER_ID


def test_without_topic_ids_the_newest_answer_is_believed_whatever_its_epochs() -> None:
    none = bytes(16)
    snapshot = after(
        answer(topic((1, 5), topic_id=none)),
        answer(topic((2, 0), topic_id=none)),
    )
    assert leaders(snapshot) == ((2, 0),)


def test_new_partitions_are_added() -> None:
    snapshot = after(answer(topic((1, 5))), answer(topic((1, 5), (2, 0))))
    assert leaders(snapshot) == ((1, 5), (2, 0))


def test_an_error_leaves_the_leaders_that_are_known() -> None:
    snapshot = after(answer(topic((1, 5))), answer(topic(error_code=3, topic_id=bytes(16))))
    assert leaders(snapshot) == ((1, 5),)
    assert snapshot.topics["t"].error_code == 3
    assert snapshot.topics["t"].topic_id == ID


def test_an_error_of_an_unknown_topic_is_kept() -> None:
    snapshot = after(answer(topic(error_code=3)))
    assert (snapshot.topics["t"].error_code, leaders(snapshot)) == (3, ())


def test_an_error_ends_with_the_next_good_answer() -> None:
    snapshot = after(answer(topic(error_code=3)), answer(topic((1, 0))))
    assert snapshot.topics["t"].error_code == 0


# ---- a leader named in a Produce answer (KIP-951)


def hint(leader: tuple[int, int], *addresses: BrokerAddress) -> ClusterMetadata | None:
    snapshot = after(answer(topic((1, 5), (1, 5))))
    return snapshot.with_leader("t", 1, PartitionLeader(*leader), addresses)


def test_a_newer_leader_moves_its_partition() -> None:
    snapshot = hint((2, 6))
    assert snapshot is not None
    assert leaders(snapshot) == ((1, 5), (2, 6))


@pytest.mark.parametrize("epoch", [4, 5])
def test_a_hint_that_is_not_newer_is_no_news(epoch: int) -> None:
    assert hint((2, epoch)) is None


def test_a_hint_to_an_unknown_broker_is_no_news() -> None:
    assert hint((3, 6)) is None


def test_a_hint_may_bring_the_brokers_address() -> None:
    snapshot = hint((3, 6), BrokerAddress(3, "c", 9092))
    assert snapshot is not None
    assert leaders(snapshot)[1] == (3, 6)
    assert set(snapshot.brokers) == {1, 2, 3}


@pytest.mark.parametrize(("name", "partition"), [("t", 2), ("unknown", 0)])
def test_a_hint_for_an_unknown_partition_is_no_news(name: str, partition: int) -> None:
    snapshot = after(answer(topic((1, 5), (1, 5))))
    assert snapshot.with_leader(name, partition, PartitionLeader(2, 6), ()) is None


# ---- the rest


def test_unused_topics_can_be_dropped() -> None:
    snapshot = after(answer(topic((1, 5)), topic((1, 5), name="other")))
    assert set(snapshot.without_topics(["t", "never known"]).topics) == {"other"}


@pytest.mark.parametrize(
    ("host", "expected"),
    [("broker", "broker:9092"), ("::1", "[::1]:9092"), ("10.0.0.1", "10.0.0.1:9092")],
)
def test_an_address_prints_as_in_bootstrap_servers(host: str, expected: str) -> None:
    assert str(BrokerAddress(1, host, 9092)) == expected
