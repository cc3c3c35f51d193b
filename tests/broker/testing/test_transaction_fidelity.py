"""FakeCluster against Kafka: the same steps of transactions have the same outcomes.

Each case is a transactional producer by hand (tests/support/transactions.py), which writes down
what each request is answered with, and what a reader finds in the log at the end.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from aioproducer.testing import FakeCluster
from tests.broker.testing.test_fidelity import topic_id_of
from tests.support.kafka import create_topic
from tests.support.kio_client import connected
from tests.support.transactions import Pid, Steps, Where
from tools.kafka import Kafka

Case: TypeAlias = Callable[[Steps], Awaitable[object]]

LAST_EPOCH = 32766


async def commits_in_v2(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.produce(pid, 0, 3)
    await do.produce(pid, 3)
    await do.read()
    await do.offsets_at(0)
    await do.offsets_at(1)
    pid = await do.end(pid, commit=True)
    await do.read()
    await do.offsets_at(1)
    await do.produce(pid, 0, 2)
    await do.end(pid, commit=True)
    await do.read()


async def aborts_in_v2(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.produce(pid, 0, 2)
    pid = await do.end(pid, commit=False)
    await do.produce(pid, 0)
    await do.read()
    pid = await do.end(pid, commit=True)
    await do.produce(pid, 0, 2)
    pid = await do.end(pid, commit=False)
    await do.read()
    await do.read(offset=4)


async def two_partitions_in_v2(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.produce(pid, 0)
    await do.produce(pid, 0, 2, partition=1)
    await do.end(pid, commit=False)
    await do.read()
    await do.read(1)


async def ends_nothing_in_v2(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.end(pid, commit=True)
    pid = await do.end(pid, commit=False)
    pid = await do.end(pid, commit=False)
    await do.end(pid, commit=True)
    await do.produce(pid, 0)
    pid = await do.end(pid, commit=True)
    await do.end(pid, commit=True)
    pid = await do.end(pid, commit=False)
    await do.read()


async def ends_again_in_v2(do: Steps) -> None:
    old = await do.init(until_over=True)
    await do.produce(old, 0)
    new = await do.end(old, commit=True)
    await do.end(old, commit=True)
    await do.end(old, commit=False)
    await do.end(Pid(new.id, new.epoch + 1), commit=True)
    await do.produce(new, 0)
    newer = await do.end(new, commit=False)
    await do.end(new, commit=False)
    await do.end(new, commit=True)
    await do.end(old, commit=False)
    await do.end(Pid(newer.id + 1000, 0), commit=False)


async def sequences_in_v2(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.produce(pid, 1)
    await do.produce(pid, 0)
    await do.produce(pid, 2)
    await do.produce(pid, 1)
    await do.produce(pid, 1)
    pid = await do.end(pid, commit=True)
    await do.produce(pid, 2)
    await do.produce(pid, 0)
    await do.produce(Pid(pid.id, pid.epoch - 1), 2)
    await do.produce(Pid(pid.id, pid.epoch - 1), 1)
    await do.produce(Pid(pid.id, pid.epoch + 1), 0)
    await do.read()


async def records_outside_of_the_transaction(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.produce(pid, 0, named=False)
    await do.produce(pid, 0)
    await do.produce(pid, 1, transactional=False)
    await do.produce(pid, 1, named=False)
    await do.end(pid, commit=True)
    await do.produce(pid, 0, named=False)
    await do.read()


async def the_producer_of_nobody(do: Steps) -> None:
    await do.init(until_over=True, transactional_id="other-" + do.where.transactional_id)
    stranger = Pid(999_999, 0)
    await do.produce(stranger, 0)
    await do.produce(stranger, 0, version=11)
    await do.add(stranger, 0)
    await do.add_offsets(stranger)
    await do.commit_offsets(stranger, {0: 1})
    await do.commit_offsets(stranger, {0: 1}, version=4)
    await do.end(stranger, commit=True)
    await do.end(stranger, commit=True, version=4)
    await do.init(stranger)
    await do.init(stranger)


async def commits_in_v1(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.add(pid, 0, 1)
    await do.produce(pid, 0, 3, version=11)
    await do.produce(pid, 3, version=9)
    await do.end(pid, commit=True, version=4)
    await do.add(pid, 0)
    await do.produce(pid, 4, version=11)
    await do.end(pid, commit=False, version=4)
    await do.read()
    await do.read(1)


async def is_not_added_in_v1(do: Steps) -> None:
    pid = await do.init(until_over=True)
    for version in (3, 7, 10, 11):
        await do.produce(pid, 0, version=version)
    await do.add(pid, 1)
    await do.produce(pid, 0, version=11)
    await do.produce(pid, 0, version=10)
    await do.produce(pid, 0, partition=1, version=10)
    await do.end(pid, commit=True, version=4)
    await do.produce(pid, 1, partition=1, version=11)
    await do.read()


async def ends_again_in_v1(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.end(pid, commit=True, version=4)
    await do.end(pid, commit=False, version=4)
    await do.add(pid, 0)
    await do.end(pid, commit=True, version=4)
    await do.end(pid, commit=True, version=4)
    await do.end(pid, commit=False, version=4)
    await do.add(pid, 0)
    await do.end(pid, commit=False, version=0)
    await do.end(pid, commit=False, version=1)
    await do.end(pid, commit=True, version=2)
    for version in range(5):
        await do.end(Pid(pid.id, pid.epoch + 1), commit=True, version=version)
    await do.end(Pid(pid.id + 1000, pid.epoch), commit=True, version=4)


async def adds_partitions(do: Steps) -> None:
    pid = await do.init(until_over=True)
    for version in range(4):
        await do.add(pid, 0, version=version)
        await do.add(Pid(pid.id, pid.epoch + 1), 0, version=version)
        await do.add(Pid(pid.id + 1000, pid.epoch), 0, version=version)
    await do.add(pid, 0, 9)
    await do.add(pid, 0, topic="no-such-topic")
    for version in range(5):
        await do.add_offsets(pid, version=version)
        await do.add_offsets(Pid(pid.id, pid.epoch + 1), version=version)
    await do.end(pid, commit=False, version=4)


async def is_fenced_while_idle(do: Steps) -> None:
    old = await do.init(until_over=True)
    new = await do.init(until_over=True)
    await do.produce(old, 0)
    await do.produce(old, 0, version=11)
    await do.add(old, 0)
    await do.add(old, 0, version=1)
    await do.add_offsets(old)
    await do.add_offsets(old, version=1)
    await do.commit_offsets(old, {0: 1})
    await do.commit_offsets(old, {0: 1}, version=3)
    await do.end(old, commit=True)
    await do.end(old, commit=True, version=1)
    for version in range(3, 6):
        await do.init(old, version=version)
    await do.init(new)


async def is_fenced_in_a_transaction_of_v2(do: Steps) -> None:
    old = await do.init(until_over=True)
    await do.produce(old, 0, 2)
    new = await do.init(until_over=True)
    await do.over()
    await do.produce(old, 2)
    await do.end(old, commit=True)
    await do.end(old, commit=False)
    await do.produce(new, 0)
    await do.end(new, commit=True)
    await do.read()


async def is_fenced_in_a_transaction_of_v1(do: Steps) -> None:
    old = await do.init(until_over=True)
    await do.add(old, 0)
    await do.produce(old, 0, 2, version=11)
    await do.init()
    await do.over()
    new = await do.init(until_over=True)
    await do.produce(old, 2, version=11)
    await do.produce(old, 2, version=10)
    await do.end(old, commit=True, version=4)
    await do.end(old, commit=False, version=4)
    await do.add(new, 0)
    await do.produce(new, 0, version=11)
    await do.end(new, commit=True, version=4)
    await do.read()


async def bumps_its_epoch(do: Steps) -> None:
    pid = await do.init(until_over=True)
    newer = await do.init(pid)
    again = await do.init(pid)
    await do.init(newer)
    await do.init(pid)
    await do.init(again)
    await do.init(Pid(pid.id, -1))
    await do.init(Pid(-1, 0))


async def bumps_its_epoch_in_a_transaction(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.produce(pid, 0)
    newer = await do.init(pid, until_over=True)
    await do.over()
    await do.init(newer)
    await do.init(newer)
    await do.read()


async def bumps_its_epoch_after_the_end_in_v1(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.add(pid, 0)
    await do.produce(pid, 0, version=11)
    await do.end(pid, commit=False, version=4)
    pid = await do.init(pid, until_over=True)
    await do.add(pid, 0)
    await do.produce(pid, 1, version=11)
    await do.produce(pid, 0, version=11)
    await do.end(pid, commit=True, version=4)
    await do.read()


async def asks_for_impossible_timeouts(do: Steps) -> None:
    await do.init(until_over=True, timeout=900)
    await do.init(timeout=900.001)
    await do.init(timeout=0)
    await do.init(timeout=-1)
    await do.init(transactional_id="")


async def commits_offsets_in_v2(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.committed(0, 1)
    await do.commit_offsets(pid, {0: 5, 1: 7})
    await do.committed(0, 1)
    await do.committed(0, 1, stable=True)
    pid = await do.end(pid, commit=True)
    await do.committed(0, 1, stable=True)
    await do.commit_offsets(pid, {0: 6})
    await do.commit_offsets(pid, {0: 8})
    pid = await do.end(pid, commit=False)
    await do.committed(0, 1)
    await do.commit_offsets(pid, {0: 9, 7: 1})
    await do.commit_offsets(Pid(pid.id, pid.epoch - 1), {0: 10})
    await do.commit_offsets(pid, {0: 9}, generation=3, member="nobody")
    await do.commit_offsets(pid, {0: 9}, member="nobody")
    await do.end(pid, commit=True)
    await do.committed(0, 1)


async def commits_offsets_in_v1(do: Steps) -> None:
    pid = await do.init(until_over=True)
    for version in range(5):
        await do.commit_offsets(pid, {0: 5}, version=version)
    await do.add_offsets(pid)
    for version in range(5):
        await do.commit_offsets(pid, {0: 5 + version}, version=version)
    await do.committed(0)
    await do.end(pid, commit=True, version=4)
    await do.committed(0)
    await do.add_offsets(pid)
    await do.commit_offsets(pid, {0: 1}, version=3)
    await do.end(pid, commit=False, version=4)
    await do.committed(0)
    await do.commit_offsets(pid, {0: 1}, version=4)


async def switches_from_v1_to_v2(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.add(pid, 0)
    await do.produce(pid, 0, version=11)
    await do.end(pid, commit=True, version=4)
    await do.produce(pid, 1)
    pid = await do.end(pid, commit=True)
    await do.produce(pid, 0)
    pid = await do.end(pid, commit=True)
    await do.add(pid, 0)
    await do.produce(pid, 0, version=11)
    await do.end(pid, commit=True, version=4)
    await do.read()


async def mixes_v1_and_v2(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.produce(pid, 0)
    await do.end(pid, commit=True, version=4)
    await do.add(pid, 0)
    await do.produce(pid, 1, version=11)
    pid = await do.end(pid, commit=True)
    await do.produce(pid, 0)
    await do.end(pid, commit=True, version=4)
    await do.read()


async def is_answered_late_by_the_first_partition(do: Steps) -> None:
    """A transaction opened by records that are not stored is open all the same."""
    pid = await do.init(until_over=True)
    await do.produce(pid, 5)
    pid = await do.end(pid, commit=False)
    await do.produce(pid, 0)
    await do.end(pid, commit=True)
    await do.read()


async def begins_in_the_middle_in_v1(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.produce(pid, 3, version=11)
    await do.produce(pid, 5, version=11)
    await do.add(pid, 0)
    await do.produce(pid, 5, version=11)
    await do.produce(pid, 4, version=11)
    await do.produce(pid, 3, version=11)
    await do.produce(pid, 5, version=11)
    await do.produce(pid, 4, version=11)
    await do.end(pid, commit=True, version=4)
    await do.add(pid, 0)
    await do.produce(pid, 7, version=11)
    await do.produce(pid, 5, version=11)
    await do.end(pid, commit=True, version=4)
    await do.read()


async def has_a_stale_sequence_in_v2(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.produce(pid, 0)
    await do.produce(pid, 0, partition=1)
    pid = await do.end(pid, commit=True)
    await do.produce(pid, 1)
    await do.produce(pid, 2, partition=1)
    await do.produce(pid, 0, partition=1)
    await do.produce(pid, 1)
    await do.end(pid, commit=True)
    await do.read()
    await do.read(1)


async def commits_offsets_of_a_fenced_producer(do: Steps) -> None:
    old = await do.init(until_over=True)
    await do.commit_offsets(old, {0: 5})
    new = await do.init(until_over=True)
    await do.over()
    await do.commit_offsets(old, {0: 6})
    await do.committed(0, stable=True)
    await do.commit_offsets(new, {0: 7})
    await do.end(old, commit=True)
    await do.end(new, commit=True)
    await do.committed(0)


async def adds_offsets_without_committing_any(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.add_offsets(pid)
    await do.end(pid, commit=True, version=4)
    await do.committed(0)
    await do.add_offsets(pid)
    await do.add(pid, 0)
    await do.end(pid, commit=False, version=4)
    await do.read()


async def has_no_producer_id(do: Steps) -> None:
    nobody = Pid(-1, -1)
    await do.init(until_over=True)
    await do.produce(nobody, -1)
    await do.produce(nobody, -1, transactional=False)
    await do.produce(nobody, -1, named=False)
    await do.read()


async def is_fenced_and_nobody_follows_in_v2(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.produce(pid, 0)
    await do.init()
    await do.over()
    await do.produce(pid, 1)
    await do.end(pid, commit=True)
    await do.end(pid, commit=False)
    await do.init(pid)
    await do.read()


async def is_fenced_and_nobody_follows_in_v1(do: Steps) -> None:
    pid = await do.init(until_over=True)
    await do.add(pid, 0)
    await do.produce(pid, 0, version=11)
    await do.init()
    await do.over()
    await do.produce(pid, 1, version=11)
    await do.add(pid, 0)
    await do.end(pid, commit=True, version=4)
    await do.end(pid, commit=False, version=4)
    await do.init(pid)
    await do.read()


async def is_timed_out_in_v2(do: Steps) -> None:
    pid = await do.init(until_over=True, timeout=0.2)
    await do.produce(pid, 0)
    await do.commit_offsets(pid, {0: 5})
    await do.ongoing(False)
    await do.over()
    await do.produce(pid, 1)
    await do.commit_offsets(pid, {0: 6})
    await do.end(pid, commit=True)
    await do.end(pid, commit=False)
    await do.committed(0)
    pid = await do.init(pid)
    await do.produce(pid, 0)
    await do.end(pid, commit=True)
    await do.read()


async def is_timed_out_in_v1(do: Steps) -> None:
    pid = await do.init(until_over=True, timeout=0.2)
    await do.add(pid, 0)
    await do.produce(pid, 0, version=11)
    await do.ongoing(False)
    await do.over()
    await do.produce(pid, 1, version=11)
    await do.add(pid, 0)
    await do.end(pid, commit=True, version=4)
    await do.end(pid, commit=False, version=4)
    pid = await do.init(pid)
    await do.add(pid, 0)
    await do.read()


async def bumps_an_epoch_that_is_over(do: Steps) -> None:
    old = await do.init(until_over=True)
    await do.produce(old, 0)
    new = await do.end(old, commit=True)
    await do.init(old)
    await do.init(new)
    await do.init(new)
    await do.init(old)


async def bumps_an_old_epoch_in_a_transaction_of_another(do: Steps) -> None:
    old = await do.init(until_over=True)
    new = await do.init(until_over=True)
    await do.produce(new, 0)
    await do.init(old)
    await do.over()
    await do.init(old)
    await do.end(new, commit=True)
    await do.read()


async def two_producers_take_turns(do: Steps) -> None:
    first = await do.init(until_over=True)
    await do.produce(first, 0)
    await do.end(first, commit=True)
    second = await do.init(until_over=True)
    await do.produce(second, 0)
    await do.end(second, commit=False)
    third = await do.init(until_over=True)
    await do.produce(third, 0)
    await do.produce(second, 1)
    await do.produce(third, 1)
    await do.end(third, commit=True)
    await do.read()


async def is_idempotent_beside_a_transaction(do: Steps) -> None:
    pid = await do.init(until_over=True)
    plain = Pid(888_888, 0)
    await do.produce(plain, 0, transactional=False, named=False)
    await do.produce(pid, 0)
    await do.produce(plain, 1, transactional=False, named=False)
    await do.read()
    await do.read(offset=1)
    await do.read(offset=2)
    await do.end(pid, commit=True)
    await do.produce(pid, 0, transactional=False, named=False)
    await do.produce(Pid(pid.id, pid.epoch + 1), 0, transactional=False, named=False)
    await do.read()


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        commits_in_v2,
        aborts_in_v2,
        two_partitions_in_v2,
        ends_nothing_in_v2,
        ends_again_in_v2,
        sequences_in_v2,
        records_outside_of_the_transaction,
        the_producer_of_nobody,
        commits_in_v1,
        is_not_added_in_v1,
        ends_again_in_v1,
        adds_partitions,
        is_fenced_while_idle,
        is_fenced_in_a_transaction_of_v2,
        is_fenced_in_a_transaction_of_v1,
        bumps_its_epoch,
        bumps_its_epoch_in_a_transaction,
        bumps_its_epoch_after_the_end_in_v1,
        asks_for_impossible_timeouts,
        commits_offsets_in_v2,
        commits_offsets_in_v1,
        switches_from_v1_to_v2,
        mixes_v1_and_v2,
        is_answered_late_by_the_first_partition,
        begins_in_the_middle_in_v1,
        has_a_stale_sequence_in_v2,
        commits_offsets_of_a_fenced_producer,
        adds_offsets_without_committing_any,
        has_no_producer_id,
        is_fenced_and_nobody_follows_in_v2,
        is_fenced_and_nobody_follows_in_v1,
        is_timed_out_in_v2,
        is_timed_out_in_v1,
        bumps_an_epoch_that_is_over,
        bumps_an_old_epoch_in_a_transaction_of_another,
        two_producers_take_turns,
        is_idempotent_beside_a_transaction,
    )
}


async def outcomes_of_kafka(kafka: Kafka, case: Case) -> list[object]:
    topic = create_topic(kafka, partitions=2)
    async with connected(kafka.bootstrap_servers) as client:
        topic_id = await topic_id_of(client, topic)
        where = Where(topic, topic_id, f"tx-{topic}", f"group-{topic}")
        steps = Steps(client, where)
        await steps.find_coordinators()
        await steps.wait_for_leaders(2)
        await case(steps)
    return steps.outcomes


def state_of(cluster: FakeCluster) -> str:
    transaction = cluster.transaction("tx")
    return "Empty" if transaction is None else transaction.state


async def outcomes_of_the_fake(case: Case) -> list[object]:
    topic = f"t-{uuid.uuid4()}"
    async with FakeCluster(auto_create_topics=False) as cluster:
        topic_id = cluster.create_topic(topic, 2)
        async with connected(cluster.bootstrap_servers) as client:
            steps = Steps(client, Where(topic, topic_id, "tx", "g"), lambda: state_of(cluster))
            await steps.find_coordinators()
            await case(steps)
    return steps.outcomes


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_transaction_goes_as_at_kafka(case: Case, kafka: Kafka) -> None:
    assert await outcomes_of_the_fake(case) == await outcomes_of_kafka(kafka, case)
