"""Transactions at FakeCluster: as Kafka has them, and what a test can order about them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aioproducer.testing import EndTxnResponse, FakeCluster, FakeTransaction
from tests.loop.testing.test_cluster import address, is_reset
from tests.support.fake_broker import request_class
from tests.support.kio_client import KioClient, connected
from tests.support.producing import until
from tests.support.transaction_cases import CASES, SLOW_CASES, Case, outcomes_of_the_fake, recorded
from tests.support.transactions import NO_PID, Pid, Steps, Where

ALL_CASES = {**CASES, **SLOW_CASES}


@pytest.mark.parametrize("case", ALL_CASES.values(), ids=ALL_CASES)
async def test_a_transaction_goes_as_at_kafka(case: Case) -> None:
    assert await outcomes_of_the_fake(case) == recorded(case)


def steps_of(client: KioClient, topic_id: uuid.UUID, transactional_id: str = "tx") -> Steps:
    return Steps(client, Where("t", topic_id, transactional_id, "g"))


@asynccontextmanager
async def producing(cluster: FakeCluster, node_id: int = 0) -> AsyncGenerator[Steps]:
    """A producer by hand whose coordinators and leaders are one broker."""
    topic_id = cluster.create_topic("t", 2)
    for partition in range(2):
        cluster.move_leader("t", partition, node_id)
    cluster.move_coordinator("tx", node_id)
    cluster.move_coordinator("g", node_id, kind="group")
    async with connected(address(cluster, node_id)) as client:
        yield steps_of(client, topic_id)


def transaction(cluster: FakeCluster) -> FakeTransaction:
    found = cluster.transaction("tx")
    assert found is not None
    return found


def values(cluster: FakeCluster, **more: Any) -> list[bytes | None]:
    return [record.value for record in cluster.records("t", **more)]


async def test_a_test_sees_what_is_in_the_transaction() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        assert cluster.transaction("tx") is None
        pid = await do.init(timeout=30)
        await do.produce(pid, 0, partition=1)
        await do.commit_offsets(pid, {0: 5})
        assert transaction(cluster) == FakeTransaction(
            "tx", pid.id, 0, "Ongoing", (("t", 1),), ("g",), 30_000
        )
        await do.end(pid, commit=True)
        found = transaction(cluster)
        assert (found.state, found.partitions, found.producer_epoch) == ("CompleteCommit", (), 1)
        assert cluster.committed("g") == {("t", 0): 5}
        cluster.expect_clean()


async def test_readers_of_committed_records_see_neither_aborted_nor_open_ones() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)
        pid = await do.end(pid, commit=False)
        await do.produce(pid, 0, 2)
        assert values(cluster) == [b"0", b"0", b"1"]
        assert values(cluster, isolation="read_committed") == []
        assert (cluster.last_stable_offset("t", 0), cluster.next_offset("t", 0)) == (2, 4)
        await do.end(pid, commit=True)
        assert values(cluster, isolation="read_committed") == [b"0", b"1"]
        assert (cluster.last_stable_offset("t", 0), cluster.next_offset("t", 0)) == (5, 5)


async def test_requests_name_the_transaction() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.add(pid, 0)
        await do.add_offsets(pid)
        await do.produce(pid, 0, version=11)
        await do.end(pid, commit=False, version=4)
        (end,) = cluster.requests_of("end_txn")
        named = (end.transactional_id, end.producer_id, end.producer_epoch, end.commit)
        assert named == ("tx", pid.id, 0, False)
        (add,) = cluster.requests_of("add_partitions_to_txn")
        assert (add.topics, add.partitions) == (("t",), (("t", 0),))
        assert cluster.requests_of("add_offsets_to_txn")[0].group == "g"
        assert cluster.requests_of("produce")[0].transactional_id == "tx"
        assert cluster.requests_of("produce")[0].batches[0].transactional


async def test_held_markers_keep_the_transaction_from_its_end() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)
        cluster.hold_markers()
        new = await do.end(pid, commit=True)
        assert new == (pid.id, 1)
        assert transaction(cluster).state == "PrepareCommit"
        assert values(cluster, isolation="read_committed") == []
        await do.init(new)
        await do.add(new, 0)
        await do.produce(new, 0)
        await do.produce(new, 0, partition=1, version=11)
        await do.commit_offsets(new, {0: 1})
        await do.end(pid, commit=True)
        await do.end(pid, commit=False)
        told = "Unable to verify the partition has been added to the transaction. "
        assert do.outcomes[-7:] == [
            ("init", 51, "-", -1),
            ("add", [(0, 51)]),
            ("produce", 51, -1, None),
            ("produce", 19, -1, told + "Underlying error: CONCURRENT_TRANSACTIONS"),
            ("commit_offsets", [51]),
            ("end", 51, "-", -1),
            ("end", 48, "-", -1),
        ]
        cluster.write_markers()
        assert transaction(cluster).state == "CompleteCommit"
        assert values(cluster, isolation="read_committed") == [b"0"]
        assert await do.produce(new, 0) == 0


async def test_a_marker_waits_for_the_leader_of_its_partition() -> None:
    async with FakeCluster(brokers=2) as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)
        cluster.move_leader("t", 0, -1)
        await do.end(pid, commit=True)
        assert transaction(cluster).state == "PrepareCommit"
        cluster.move_leader("t", 0, 1)
        assert transaction(cluster).state == "CompleteCommit"
        assert values(cluster, isolation="read_committed") == [b"0"]


async def test_a_deleted_topic_does_not_keep_a_transaction_from_its_end() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)
        cluster.delete_topic("t")
        await do.end(pid, commit=True)
        assert transaction(cluster).state == "CompleteCommit"


async def test_a_coordinator_that_moved_sends_the_producer_away() -> None:
    async with FakeCluster(brokers=2) as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)
        cluster.move_coordinator("tx", 1, loading=1)
        cluster.move_coordinator("g", 1, kind="group")
        await do.end(pid, commit=True)
        await do.init(pid)
        await do.add(pid, 1)
        await do.add_offsets(pid)
        await do.commit_offsets(pid, {0: 1})
        codes = [outcome[1] for outcome in do.outcomes[-5:]]  # type: ignore[index]  # pyright: ignore
        assert codes == [16, 16, [(1, 16)], 16, [16]]
        async with connected(address(cluster, 1)) as client:
            there = steps_of(client, uuid.UUID(int=1))
            await there.end(pid, commit=True)
            assert (await there.end(pid, commit=True)) == (pid.id, 1)
            assert there.outcomes[0] == ("end", 14, "-", -1)
        assert cluster.coordinator("tx") == cluster.coordinator("g", kind="group") == 1


async def test_a_stopped_coordinator_leaves_its_transactions_to_another_broker() -> None:
    async with FakeCluster(brokers=2) as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)
        await cluster.stop_broker(0)
        assert cluster.coordinator("tx") == 1
        async with connected(address(cluster, 1)) as client:
            await steps_of(client, uuid.UUID(int=1)).end(pid, commit=True)
        assert values(cluster, isolation="read_committed") == [b"0"]


async def test_without_its_broker_there_may_be_no_coordinator() -> None:
    async with FakeCluster(brokers=2) as cluster, producing(cluster) as do:
        pid = await do.init()
        await cluster.stop_broker(0, move_leaders=False)
        assert cluster.coordinator("tx") == -1
        cluster.move_leader("t", 0, 1)
        async with connected(address(cluster, 1)) as client:
            request = request_class("find_coordinator", 6)(key_type=1, coordinator_keys=("tx",))
            (found,) = (await client.ask(request)).coordinators
            assert (found.error_code, found.node_id) == (15, -1)
            there = steps_of(client, do.where.topic_id)
            assert await there.produce(pid, 0) == 19
            assert "COORDINATOR_NOT_AVAILABLE" in str(there.outcomes[-1])


async def test_coordinators_of_both_kinds_are_found() -> None:
    async with FakeCluster(brokers=3) as cluster, connected(address(cluster)) as client:
        cluster.move_coordinator("tx", 2)
        cluster.move_coordinator("tx", 1, kind="group")
        for kind, node_id in ((0, 1), (1, 2)):
            request = request_class("find_coordinator", 6)(key_type=kind, coordinator_keys=("tx",))
            assert (await client.ask(request)).coordinators[0].node_id == node_id
        with pytest.raises(LookupError, match="no broker 7"):
            cluster.move_coordinator("tx", 7)


async def test_an_open_transaction_is_timed_out() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init(timeout=0.05)
        await do.produce(pid, 0)
        await until(lambda: transaction(cluster).state != "Ongoing")
        assert transaction(cluster).state == "CompleteAbort"
        assert await do.produce(pid, 1) == 47
        cluster.expect_clean()


async def test_a_test_may_time_a_transaction_out() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        with pytest.raises(ValueError, match="no open transaction"):
            cluster.time_out_transaction("tx")
        await do.produce(pid, 0)
        cluster.time_out_transaction("tx")
        await do.end(pid, commit=True)
        assert do.outcomes[-1] == ("end", 48, "-", -1)
        assert values(cluster, isolation="read_committed") == []


async def test_a_forgotten_transactional_id_has_no_producer_id() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)
        with pytest.raises(ValueError, match="open transaction"):
            cluster.forget_transactional_id("tx")
        new = await do.end(pid, commit=True)
        cluster.forget_transactional_id("tx")
        assert await do.produce(new, 0) == 49
        assert await do.init() != NO_PID


async def test_members_of_a_group_commit_its_offsets_and_nobody_else() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        cluster.set_group_members("g", 3, {"m": None})
        pid = await do.init()
        await do.commit_offsets(pid, {0: 5}, generation=3, member="m")
        await do.commit_offsets(pid, {0: 6}, generation=2, member="m")
        await do.commit_offsets(pid, {0: 6}, generation=3, member="n")
        assert do.outcomes[-3:] == [
            ("commit_offsets", [0]),
            ("commit_offsets", [22]),
            ("commit_offsets", [25]),
        ]
        await do.end(pid, commit=True)
        assert cluster.committed("g") == {("t", 0): 5}


async def test_a_producer_timed_out_by_v1_has_lost_its_epoch() -> None:
    async with (
        FakeCluster(
            features={"transaction.version": 1}, max_versions={"end_txn": 4, "produce": 11}
        ) as cluster,
        producing(cluster) as do,
    ):
        pid = await do.init()
        await do.add(pid, 0)
        await do.produce(pid, 0, version=11)
        cluster.time_out_transaction("tx")
        await do.init(pid)
        assert do.outcomes[-1] == ("init", 90, "-", -1)
        assert (await do.init()).epoch == 2


# Faults.


async def test_each_request_of_a_transaction_may_fail() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        cluster.fail_next("init_producer_id", "COORDINATOR_LOAD_IN_PROGRESS")
        assert await do.init() == NO_PID
        pid = await do.init()
        cluster.fail_next("add_partitions_to_txn", "CONCURRENT_TRANSACTIONS")
        assert await do.add(pid, 0, 1) == [51, 51]
        cluster.fail_next("add_partitions_to_txn", 29, topic="t", partition=1)
        assert await do.add(pid, 0, 1) == [55, 29]
        assert transaction(cluster).state == "Empty"
        cluster.fail_next("add_offsets_to_txn", "GROUP_AUTHORIZATION_FAILED")
        assert await do.add_offsets(pid) == 30
        cluster.fail_next("txn_offset_commit", 29, topic="t", partition=1)
        await do.commit_offsets(pid, {0: 1, 1: 1})
        assert do.outcomes[-1] == ("commit_offsets", [0, 29])
        cluster.fail_next("end_txn", "UNKNOWN_SERVER_ERROR")
        assert await do.end(pid, commit=True) == NO_PID
        assert transaction(cluster).state == "Ongoing"


async def test_a_fault_waits_for_a_request_that_names_its_partition() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        cluster.fail_next("add_partitions_to_txn", 29, topic="t", partition=1)
        cluster.fail_next("txn_offset_commit", 29, partition=1)
        assert await do.add(pid, 0) == [0]
        assert await do.add(pid, 1) == [29]
        await do.commit_offsets(pid, {0: 1})
        await do.commit_offsets(pid, {1: 1})
        assert do.outcomes[-2:] == [("commit_offsets", [0]), ("commit_offsets", [29])]


async def test_a_request_may_be_carried_out_and_fail_all_the_same() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        cluster.fail_next("init_producer_id", 7, stored=True)
        assert await do.init() == NO_PID
        pid = Pid(transaction(cluster).producer_id, 0)
        cluster.fail_next("add_partitions_to_txn", 7, stored=True)
        assert await do.add(pid, 0) == [7]
        cluster.fail_next("add_offsets_to_txn", 7, stored=True)
        assert await do.add_offsets(pid) == 7
        assert transaction(cluster).partitions == (("t", 0),)
        assert transaction(cluster).groups == ("g",)
        cluster.fail_next("txn_offset_commit", 7, stored=True)
        await do.commit_offsets(pid, {0: 4})
        cluster.fail_next("end_txn", "UNKNOWN_SERVER_ERROR", stored=True)
        assert await do.end(pid, commit=True) == NO_PID
        assert transaction(cluster).state == "CompleteCommit"
        assert cluster.committed("g") == {("t", 0): 4}


@pytest.mark.parametrize(("when", "state"), [("before", "Ongoing"), ("after", "CompleteCommit")])
async def test_a_commit_may_be_cut_before_and_after_it_takes_place(when: Any, state: str) -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)
        cluster.cut_next("end_txn", when=when)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await do.end(pid, commit=True)
        assert transaction(cluster).state == state
        async with connected(address(cluster)) as client:
            again = await steps_of(client, do.where.topic_id).end(pid, commit=True)
        assert again == (pid.id, 1)
        assert values(cluster, isolation="read_committed") == [b"0"]


async def test_a_commit_that_hangs_takes_place_when_released() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)
        cluster.hang("end_txn", count=1)
        commit = asyncio.ensure_future(do.end(pid, commit=True))
        await cluster.received("end_txn")
        assert transaction(cluster).state == "Ongoing"
        cluster.release()
        assert await commit == (pid.id, 1)


async def test_the_response_to_a_commit_may_be_edited() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)

        def edit(response: EndTxnResponse) -> None:
            response.producer_epoch = 7

        cluster.edit_next("end_txn", edit)
        assert (await do.end(pid, commit=True)).epoch == 7


async def test_clear_ends_what_waits_for_markers_and_forgets_offsets() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)
        await do.commit_offsets(pid, {0: 5})
        cluster.hold_markers()
        pid = await do.end(pid, commit=True)
        await cluster.clear()
        assert transaction(cluster).state == "CompleteCommit"
        assert (values(cluster), cluster.committed("g")) == ([], {})
        assert await do.produce(pid, 0) == 0
        await do.end(pid, commit=True)
        assert values(cluster, isolation="read_committed") == [b"0"]
        cluster.expect_clean()


async def test_an_unclean_election_loses_a_marker_and_opens_the_transaction_again() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0, 2)
        await do.end(pid, commit=False)
        cluster.truncate("t", 0, 2)
        assert (cluster.last_stable_offset("t", 0), cluster.next_offset("t", 0)) == (0, 2)


def test_a_cluster_in_a_thread_has_transactions_too() -> None:
    with FakeCluster.in_thread(topics={"t": 1}) as cluster:
        cluster.set_next_epoch("tx", 5)
        with pytest.raises(ValueError, match="between 0 and 32766"):
            cluster.set_next_epoch("tx", 32767)

        async def init() -> Pid:
            async with connected(address(cluster)) as client:  # type: ignore[arg-type]  # pyright: ignore
                return await steps_of(client, uuid.UUID(int=1)).init(timeout=600)

        assert asyncio.run(init()).epoch == 5


# What a correct producer never does.


async def test_a_producer_that_follows_the_rules_is_clean() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        for commit in (True, False):
            await do.produce(pid, 0, 3)
            await do.produce(pid, 3)
            await do.produce(pid, 3)
            pid = await do.end(pid, commit=commit)
        await do.add(pid, 0)
        await do.add_offsets(pid)
        await do.produce(pid, 0, version=11)
        await do.commit_offsets(pid, {0: 1}, version=4)
        await do.end(pid, commit=True, version=4)
        await do.add(pid, 0)
        await do.produce(pid, 1, version=11)
        await do.end(pid, commit=True, version=4)
        cluster.expect_clean()


async def test_a_fenced_producer_is_no_violation() -> None:
    async with FakeCluster() as cluster, producing(cluster) as old:
        pid = await old.init()
        await old.produce(pid, 0)
        async with connected(address(cluster)) as client:
            new = steps_of(client, old.where.topic_id)
            newer = await new.init(until_over=True)
            await new.produce(newer, 0)
            await old.produce(pid, 1)
            await old.end(pid, commit=True)
            await new.end(newer, commit=True)
        cluster.expect_clean()
        assert values(cluster, isolation="read_committed") == [b"0"]


async def test_in_v1_a_partition_is_added_before_it_is_written_to() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.add(pid, 1)
        await do.produce(pid, 0, version=11)
        (found,) = cluster.violations
        assert found.endswith("t-0: the partition was not added to the transaction")


async def test_in_v1_a_group_is_added_before_its_offsets_are_committed() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.commit_offsets(pid, {0: 1}, version=3)
        (found,) = cluster.violations
        assert found.endswith("the group 'g' was not added to the transaction")


async def test_nothing_is_committed_before_its_records_have_their_response() -> None:
    async with FakeCluster(brokers=2) as cluster, producing(cluster) as do:
        cluster.move_leader("t", 0, 1)
        pid = await do.init()
        cluster.hang("produce", stored=True)
        async with connected(address(cluster, 1)) as client:
            there = steps_of(client, do.where.topic_id)
            produced = asyncio.ensure_future(there.produce(pid, 0))
            await cluster.received("produce")
            pid = await do.end(pid, commit=False)
            cluster.expect_clean()
            await do.end(pid, commit=True)
            assert "a commit before the response to 1 Produce requests" in cluster.violations[0]
            cluster.release()
            await produced
            pid = await do.end(pid, commit=True)
            assert len(cluster.violations) == 1


async def test_a_lost_connection_has_no_unanswered_requests() -> None:
    async with FakeCluster(brokers=2) as cluster, producing(cluster) as do:
        cluster.move_leader("t", 0, 1)
        pid = await do.init()
        cluster.cut_next("produce", when="after")
        async with connected(address(cluster, 1)) as client:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await steps_of(client, do.where.topic_id).produce(pid, 0)
            assert await is_reset(client)
        await do.end(pid, commit=True)
        cluster.expect_clean()


async def test_sequences_have_no_gap_within_an_epoch() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0, 2)
        await do.produce(pid, 3)
        assert "sent the sequence 3, but never 2" in cluster.violations[0]
        pid = await do.end(pid, commit=True)
        await do.produce(pid, 2)
        assert "sent the sequence 2, but never 0" in cluster.violations[1]
        assert len(cluster.violations) == 2


async def test_an_epoch_that_was_returned_is_used() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        old = await do.init()
        await do.produce(old, 0)
        new = await do.end(old, commit=True)
        await do.end(old, commit=True)
        await do.produce(old, 1)
        assert [
            f"goes on with epoch 0, and got {new.epoch}" in one for one in cluster.violations
        ] == [
            True,
            True,
        ]


async def test_a_request_and_its_batches_agree_about_the_transaction() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0, named=False)
        await do.produce(pid, 0, transactional=False)
        assert ["disagree" in found for found in cluster.violations] == [True, True]


async def test_v2_is_for_brokers_that_finalized_it() -> None:
    features = {"transaction.version": 0}
    async with FakeCluster(features=features) as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.produce(pid, 0)
        await do.end(pid, commit=True)
        assert ["not finalized" in found for found in cluster.violations] == [True, True]


async def test_the_versions_of_brokers_are_not_for_clients() -> None:
    async with FakeCluster() as cluster, producing(cluster) as do:
        pid = await do.init()
        await do.add_as_a_broker(pid, 0)
        assert "only brokers send this version" in cluster.violations[0]
