"""What transactional producers do, good and bad, and what Kafka 4.3.1 made of it.

A case takes the steps of a producer by hand (transactions.py). `recorded` returns its outcomes at
Kafka; tests/broker/testing/test_transaction_fidelity.py looks whether they are still the same.
After a change of a case, `python -m tests.support.transaction_cases BOOTSTRAP` records all anew.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from aioproducer.testing import FakeCluster, FakeClusterOptions
from tests.support.kio_client import KioClient, connected
from tests.support.kio_messages import kio_class
from tests.support.transactions import Pid, Steps, Where

__all__ = [
    "CASES",
    "SLOW_CASES",
    "V1_CASES",
    "outcomes_of_kafka",
    "outcomes_of_the_fake",
    "recorded",
    "topic_id_of",
]

Case: TypeAlias = Callable[[Steps], Awaitable[object]]

LAST_EPOCH = 32766
_RECORDED = Path(__file__).with_name("transaction_outcomes.json")


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


async def is_described(do: Steps) -> None:
    pid = await do.init(until_over=True, timeout=30)
    await do.produce(pid, 0)
    await do.describe()
    await do.produce(pid, 0, partition=1)
    await do.describe()
    await do.end(pid, commit=False)
    await do.describe()
    await do.describe("nobody")
    await do.describe("")


async def commits_with_the_last_epoch(do: Steps) -> None:
    pid = await do.init_at(LAST_EPOCH - 1)
    await do.produce(pid, 0)
    last = await do.end(pid, commit=True)
    await do.produce(last, 0)
    pid = await do.end(last, commit=True)
    await do.end(last, commit=True)
    await do.end(last, commit=False)
    await do.init(last)
    await do.produce(pid, 0)
    await do.end(pid, commit=True)
    await do.read()


async def bumps_the_last_epoch(do: Steps) -> None:
    pid = await do.init_at(LAST_EPOCH)
    new = await do.init(pid)
    await do.init(pid)
    await do.init(new)
    await do.init(pid)


async def is_fenced_with_the_last_epoch(do: Steps) -> None:
    pid = await do.init_at(LAST_EPOCH)
    await do.produce(pid, 0)
    new = await do.init(until_over=True)
    await do.over()
    await do.end(pid, commit=False)
    await do.produce(new, 0)
    await do.end(new, commit=True)
    await do.init(pid)
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
        is_described,
    )
}
SLOW_CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        commits_with_the_last_epoch,
        bumps_the_last_epoch,
        is_fenced_with_the_last_epoch,
    )
}
"""A real broker must be brought to the last epoch, one by one."""


V1_CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        commits_in_v1,
        is_not_added_in_v1,
        ends_again_in_v1,
        adds_partitions,
        is_fenced_in_a_transaction_of_v1,
        bumps_its_epoch,
        bumps_its_epoch_after_the_end_in_v1,
        asks_for_impossible_timeouts,
        commits_offsets_in_v1,
        begins_in_the_middle_in_v1,
        adds_offsets_without_committing_any,
        is_fenced_and_nobody_follows_in_v1,
        is_timed_out_in_v1,
    )
}
"""Those that brokers without transactions v2 understand."""


def recorded(case: Case) -> list[object]:
    """Return the outcomes of a case at Kafka 4.3.1."""
    return list(json.loads(_RECORDED.read_text())[case.__name__])


async def outcomes_of_kafka(bootstrap_servers: str, topic: str, case: Case) -> list[object]:
    """Return the outcomes of a case at a real broker, for a new topic of two partitions."""
    async with connected(bootstrap_servers) as client:
        topic_id = await topic_id_of(client, topic)
        where = Where(topic, topic_id, f"tx-{topic}", f"group-{topic}")
        steps = Steps(client, where, is_real=True)
        await steps.find_coordinators()
        await steps.wait_for_leaders(2)
        await case(steps)
    return _plain(steps.outcomes)


async def outcomes_of_the_fake(
    case: Case,
    features: Mapping[str, int] | None = None,
) -> list[object]:
    """Return the outcomes of a case at a fake broker."""
    options: FakeClusterOptions = {} if features is None else {"features": features}
    async with FakeCluster(**options) as cluster:
        topic_id = cluster.create_topic("t", 2)
        async with connected(cluster.bootstrap_servers) as client:
            steps = Steps(client, Where("t", topic_id, "tx", "g"))
            steps.set_next_epoch = cluster.set_next_epoch
            await steps.find_coordinators()
            await case(steps)
    return _plain(steps.outcomes)


def _plain(outcomes: Sequence[object]) -> list[object]:
    """Return outcomes as JSON gives them back: tuples are lists."""
    return list(json.loads(json.dumps(outcomes)))


async def topic_id_of(client: KioClient, topic: str) -> uuid.UUID:
    """Return the id of a topic."""
    whole = kio_class("metadata", 12, "MetadataRequest")
    asked = kio_class("metadata", 12, "MetadataRequestTopic", whole)
    request: Any = whole(
        topics=(asked(topic_id=None, name=topic),),
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=False,
    )
    (found,) = (await client.ask(request)).topics
    assert isinstance(found.topic_id, uuid.UUID)
    return found.topic_id


def main(bootstrap_servers: str) -> None:
    """Record the outcomes of all cases."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    outcomes: dict[str, list[object]] = {}
    for name, case in {**CASES, **SLOW_CASES}.items():
        topic = f"recorded-{uuid.uuid4()}"
        admin.create_topics([NewTopic(topic, 2)])[topic].result()  # pyright: ignore
        outcomes[name] = asyncio.run(outcomes_of_kafka(bootstrap_servers, topic, case))
    lines = (
        f"  {json.dumps(name)}: [\n"
        + ",\n".join(f"    {json.dumps(outcome)}" for outcome in found)
        + "\n  ]"
        for name, found in outcomes.items()
    )
    _RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
