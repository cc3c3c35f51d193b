"""The APIs of transactions and of committed offsets, each version by kio."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.faults import Fail
from aioproducer.testing.groups import CommittedOffset, Member
from aioproducer.testing.state import ClusterState
from aioproducer.testing.transaction_values import Pid
from tests.support.fake_broker import TOPIC, answered, read, request_class, state_of
from tests.support.kio_messages import kio_class

ONE = [Fail(29, topic=TOPIC, partition=1)]


def begun() -> tuple[ClusterState, Pid]:
    """Return a cluster of one broker, and what a transactional producer got of it."""
    state = state_of(brokers=1)
    return state, state.transactions.init_producer_id("tx", 60_000, None)


@pytest.mark.parametrize("version", range(6))
def test_each_version_of_init_producer_id_gives_an_epoch(version: int) -> None:
    state, pid = begun()
    message = request_class("init_producer_id", version)(
        transactional_id="tx", transaction_timeout=timedelta(seconds=9)
    )
    response = answered(state, message)
    assert (response.error_code, response.producer_id) == (0, pid.producer_id)
    assert response.producer_epoch == 1
    assert read(message).transactional_id == "tx"
    found = state.transactions.get("tx")
    assert found is not None and found.timeout_ms == 9000


def add_partitions(version: int, pid: Pid, *partitions: int, only_asks: bool = False) -> Any:
    whole = request_class("add_partitions_to_txn", version)
    of_topic = kio_class("add_partitions_to_txn", version, "AddPartitionsToTxnTopic", whole)
    topics = (of_topic(name=TOPIC, partitions=partitions),)
    if version <= 3:
        return whole(
            v3_and_below_transactional_id="tx",
            v3_and_below_producer_id=pid.producer_id,
            v3_and_below_producer_epoch=pid.epoch,
            v3_and_below_topics=topics,
        )
    of_transaction = kio_class(
        "add_partitions_to_txn", version, "AddPartitionsToTxnTransaction", whole
    )
    one = of_transaction(
        transactional_id="tx",
        producer_id=pid.producer_id,
        producer_epoch=pid.epoch,
        verify_only=only_asks,
        topics=topics,
    )
    return whole(transactions=(one,))


def added(state: ClusterState, message: Any, failures: Sequence[Fail] = ()) -> list[int]:
    response = answered(state, message, failures=failures)
    topics = (
        response.results_by_topic_v3_and_below
        if hasattr(response, "results_by_topic_v3_and_below")
        else response.results_by_transaction[0].topic_results
    )
    return [
        int(found.partition_error_code) for topic in topics for found in topic.results_by_partition
    ]


@pytest.mark.parametrize("version", range(6))
def test_each_version_of_add_partitions_adds_all_or_none(version: int) -> None:
    state, pid = begun()
    assert added(state, add_partitions(version, pid, 0, 1), ONE) == [55, 29]
    assert added(state, add_partitions(version, pid, 0, 7)) == [55, 3]
    assert added(state, add_partitions(version, pid, 0, 1)) == [0, 0]
    found = state.transactions.get("tx")
    assert found is not None and found.partitions == ((TOPIC, 0), (TOPIC, 1))
    call = read(add_partitions(version, pid, 0))
    assert (call.transactional_id, call.pid, call.topics(state)) == ("tx", pid, (TOPIC,))


@pytest.mark.parametrize("version", [4, 5])
def test_a_broker_may_only_ask_whether_partitions_were_added(version: int) -> None:
    state, pid = begun()
    added(state, add_partitions(version, pid, 0))
    assert added(state, add_partitions(version, pid, 0, 1, only_asks=True)) == [0, 120]


@pytest.mark.parametrize("version", range(5))
def test_each_version_of_add_offsets_adds_the_group(version: int) -> None:
    state, pid = begun()
    message = request_class("add_offsets_to_txn", version)(
        transactional_id="tx",
        producer_id=pid.producer_id,
        producer_epoch=pid.epoch,
        group_id="g",
    )
    assert answered(state, message).error_code == 0
    found = state.transactions.get("tx")
    assert found is not None and found.groups == ("g",)
    call = read(message)
    assert (call.transactional_id, call.pid, call.group) == ("tx", pid, "g")


@pytest.mark.parametrize("version", range(6))
def test_each_version_of_end_txn_ends_the_transaction(version: int) -> None:
    state, pid = begun()
    state.transactions.add("tx", pid, partitions=[(TOPIC, 0)], v2=version >= 5)
    message = request_class("end_txn", version)(
        transactional_id="tx",
        producer_id=pid.producer_id,
        producer_epoch=pid.epoch,
        committed=False,
    )
    response = answered(state, message)
    assert response.error_code == 0
    if version >= 5:
        assert (response.producer_id, response.producer_epoch) == (pid.producer_id, 1)
    found = state.transactions.get("tx")
    assert found is not None and found.state == "CompleteAbort"
    assert state.topics[TOPIC].partitions[0].log.next_offset == 1
    assert (read(message).commit, read(message).pid) == (False, pid)


def test_transactions_are_described_as_far_as_they_are() -> None:
    state, pid = begun()
    state.transactions.add("tx", pid, partitions=[(TOPIC, 1), (TOPIC, 0)], v2=True)
    message = request_class("describe_transactions", 0)(transactional_ids=("tx", "unknown", ""))
    found, unknown, none = answered(state, message).transaction_states
    assert (found.error_code, found.transaction_state) == (0, "Ongoing")
    assert (found.producer_id, found.producer_epoch) == pid
    assert [(topic.topic, topic.partitions) for topic in found.topics] == [(TOPIC, (0, 1))]
    assert unknown.error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
    assert none.error_code == ErrorCode.INVALID_REQUEST
    state.transactions.holds_markers = True
    state.transactions.end("tx", Pid(*pid), commit=True, v2=True)
    (found,) = answered(
        state, request_class("describe_transactions", 0)(transactional_ids=("tx",))
    ).transaction_states
    assert found.transaction_state == "PrepareCommit"


def txn_offset_commit(version: int, pid: Pid, *partitions: int, **more: Any) -> Any:
    whole = request_class("txn_offset_commit", version)
    of_topic = kio_class("txn_offset_commit", version, "TxnOffsetCommitRequestTopic", whole)
    of_partition = kio_class("txn_offset_commit", version, "TxnOffsetCommitRequestPartition", whole)
    epoch = {"committed_leader_epoch": 2} if version >= 2 else {}
    parts = tuple(
        of_partition(partition_index=n, committed_offset=5, committed_metadata="m", **epoch)
        for n in partitions
    )
    return whole(
        transactional_id="tx",
        group_id="g",
        producer_id=pid.producer_id,
        producer_epoch=pid.epoch,
        topics=(of_topic(name=TOPIC, partitions=parts),),
        **more,
    )


def codes_of(response: Any) -> list[int]:
    return [int(part.error_code) for topic in response.topics for part in topic.partitions]


@pytest.mark.parametrize("version", range(6))
def test_each_version_of_txn_offset_commit_commits_with_the_transaction(version: int) -> None:
    state, pid = begun()
    state.transactions.add("tx", pid, groups=["g"], v2=False)
    message = txn_offset_commit(version, pid, 0, 1, 7)
    assert codes_of(answered(state, message, failures=ONE)) == [0, 29, 3]
    state.transactions.end("tx", pid, commit=True, v2=False)
    expected = CommittedOffset(5, "m", 2 if version >= 2 else -1)
    assert state.groups.get("g").offsets == {(TOPIC, 0): expected}
    call = read(message)
    assert (call.transactional_id, call.group, call.topics(state)) == ("tx", "g", (TOPIC,))


@pytest.mark.parametrize(("version", "code"), [(1, 15), (2, 14), (5, 14)])
def test_old_producers_do_not_know_that_a_group_may_be_loading(version: int, code: int) -> None:
    state, pid = begun()
    state.coordinators.move("group", "g", 0, 1)
    assert codes_of(answered(state, txn_offset_commit(version, pid, 0))) == [code]


def test_metadata_of_an_offset_has_a_limit() -> None:
    state, pid = begun()
    whole = request_class("txn_offset_commit", 5)
    of_topic = kio_class("txn_offset_commit", 5, "TxnOffsetCommitRequestTopic", whole)
    of_partition = kio_class("txn_offset_commit", 5, "TxnOffsetCommitRequestPartition", whole)
    parts = tuple(
        of_partition(partition_index=n, committed_offset=5, committed_metadata="m" * size)
        for n, size in enumerate((4096, 4097))
    )
    message = whole(
        transactional_id="tx",
        group_id="g",
        producer_id=pid.producer_id,
        producer_epoch=pid.epoch,
        topics=(of_topic(name=TOPIC, partitions=parts),),
    )
    assert codes_of(answered(state, message)) == [0, 12]


@pytest.mark.parametrize("version", range(2, 10))
def test_each_version_of_offset_commit_commits(version: int) -> None:
    state = state_of(brokers=1)
    whole = request_class("offset_commit", version)
    of_topic = kio_class("offset_commit", version, "OffsetCommitRequestTopic", whole)
    of_partition = kio_class("offset_commit", version, "OffsetCommitRequestPartition", whole)
    parts = tuple(
        of_partition(partition_index=n, committed_offset=5, committed_metadata=None)
        for n in (0, 1, 7)
    )
    message = whole(group_id="g", member_id="", topics=(of_topic(name=TOPIC, partitions=parts),))
    assert codes_of(answered(state, message, failures=ONE)) == [0, 29, 3]
    assert {where: one.offset for where, one in state.groups.get("g").offsets.items()} == {
        (TOPIC, 0): 5
    }
    state.groups.set_members("g", 1, {"m": None})
    assert codes_of(answered(state, message)) == [25, 25, 3]
    state.coordinators.move("group", "g", 0, 1)
    assert codes_of(answered(state, message)) == [14, 14, 3]
    assert (read(message).group, read(message).topics(state)) == ("g", (TOPIC,))


def offset_fetch(version: int, partitions: tuple[int, ...] | None, **more: Any) -> Any:
    whole = request_class("offset_fetch", version)
    plural = "s" if version >= 8 else ""
    of_topic = kio_class("offset_fetch", version, f"OffsetFetchRequestTopic{plural}", whole)
    topics = None
    if partitions is not None:
        topics = (of_topic(name=TOPIC, partition_indexes=partitions),)
    if version < 8:
        return whole(group_id="g", topics=topics, **more)
    of_group = kio_class("offset_fetch", version, "OffsetFetchRequestGroup", whole)
    return whole(groups=(of_group(group_id="g", topics=topics),), **more)


def fetched(response: Any) -> tuple[int, list[tuple[int, int, str, int]]]:
    group = response.groups[0] if hasattr(response, "groups") else response
    return int(getattr(group, "error_code", 0)), [
        (part.partition_index, part.committed_offset, part.metadata, int(part.error_code))
        for topic in group.topics
        for part in topic.partitions
    ]


@pytest.mark.parametrize("version", range(1, 10))
def test_each_version_of_offset_fetch_returns_what_was_committed(version: int) -> None:
    state = state_of(brokers=1)
    state.groups.commit("g", Member(), {(TOPIC, 0): CommittedOffset(5, "m", 2)})
    message = offset_fetch(version, (0, 1))
    assert fetched(answered(state, message)) == (0, [(0, 5, "m", 0), (1, -1, "", 0)])
    assert read(message).topics(state) == (TOPIC,)
    if version >= 2:
        everything = offset_fetch(version, None)
        assert fetched(answered(state, everything)) == (0, [(0, 5, "m", 0)])
        assert read(everything).topics(state) is None
    state.coordinators.move("group", "g", 0, 1)
    code, parts = fetched(answered(state, message))
    assert code == 14 or [part[3] for part in parts] == [14, 14]


@pytest.mark.parametrize("version", range(7, 10))
def test_a_consumer_may_want_stable_offsets_only(version: int) -> None:
    state, pid = begun()
    offsets = {(TOPIC, 0): CommittedOffset(5)}
    state.groups.commit_in_transaction("g", pid, Member(), offsets)
    message = offset_fetch(version, (0, 1), require_stable=True)
    assert fetched(answered(state, message))[1] == [(0, -1, "", 88), (1, -1, "", 0)]
    assert fetched(answered(state, offset_fetch(version, (0,))))[1] == [(0, -1, "", 0)]


def test_an_offset_fetch_may_fail() -> None:
    state = state_of(brokers=1)
    whole = answered(state, offset_fetch(8, (0, 1)), failures=[Fail(30)])
    assert fetched(whole) == (30, [])
    in_part = answered(state, offset_fetch(8, (0, 1)), failures=ONE)
    assert fetched(in_part) == (0, [(0, -1, "", 0), (1, -1, "", 29)])


def test_a_feature_of_level_0_is_not_finalized() -> None:
    state = state_of()
    state.features = {"transaction.version": 0}
    message = request_class("api_versions", 4)(
        client_software_name="a", client_software_version="b"
    )
    assert answered(state, message).finalized_features == ()
