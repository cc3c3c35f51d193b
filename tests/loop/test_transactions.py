"""Transactions against FakeCluster of both protocols: what brokers, coordinators and networks do.

Each test ends with what a read_committed reader sees, and with `expect_clean`: no request that a
correct transactional producer never sends.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Unpack

import pytest

from aioproducer import KafkaError, KafkaTimeoutError, Producer, ProducerRecord
from aioproducer.config import ProducerOptions
from aioproducer.errors import (
    ProducerClosedError,
    ProducerFencedError,
    TopicAuthorizationFailedError,
    TransactionAbortedError,
    TransactionalIdAuthorizationFailedError,
    TransactionFailedError,
    TransactionStateError,
    WrongEventLoopError,
)
from aioproducer.integrations.web import readiness
from aioproducer.testing import ApiName, ErrorCode, FakeCluster
from tests.support.memory_network import MemoryNetworkLoop
from tests.support.producing import TOPIC, fast, producing, sender_of, until
from tests.support.virtual_time import run

ID: Final = "transfer-1"
PROTOCOLS: Final[Mapping[str, Mapping[str, int]]] = {"v2": {"transaction.version": 2}, "v1": {}}


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> Mapping[str, int]:
    """The features of a cluster of each protocol."""
    return PROTOCOLS[request.param]


def transacting(
    cluster: FakeCluster, **options: Unpack[ProducerOptions]
) -> AbstractAsyncContextManager[Producer[Any, Any]]:
    """Open a producer with transactions; close it and see that it left nothing behind."""
    return producing(cluster, fast(**options), transactional_id=ID)


def not_started(cluster: FakeCluster) -> Producer[Any, Any]:
    return Producer(bootstrap_servers=cluster.bootstrap_servers, **fast(transactional_id=ID))


def cluster_of(features: Mapping[str, int], **options: Any) -> FakeCluster:
    return FakeCluster(topics={TOPIC: 2, "audit": 1}, features=features, **options)


def committed(cluster: FakeCluster, topic: str = TOPIC) -> list[bytes]:
    return [record.value or b"" for record in cluster.records(topic, isolation="read_committed")]


def stored(cluster: FakeCluster, topic: str = TOPIC) -> list[bytes]:
    return [record.value or b"" for record in cluster.records(topic)]


async def transfer(producer: Producer[Any, Any], value: bytes) -> None:
    async with producer.transaction():
        await producer.send(TOPIC, value, partition=0)
        await producer.send(TOPIC, value, partition=1)
        await producer.send("audit", value)


async def test_all_or_nothing(protocol: Mapping[str, int]) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        await transfer(producer, b"1")
        with pytest.raises(ZeroDivisionError):
            async with producer.transaction():
                await producer.send_and_wait(TOPIC, b"never")
                raise ZeroDivisionError
        await transfer(producer, b"2")
        assert committed(cluster) == [b"1", b"2", b"1", b"2"]
        assert committed(cluster, "audit") == [b"1", b"2"]
        assert b"never" in stored(cluster)


CUTS: Final[list[tuple[ApiName, str]]] = [
    ("end_txn", "before"),
    ("end_txn", "after"),
    ("produce", "before"),
    ("produce", "after"),
    ("find_coordinator", "before"),
    ("init_producer_id", "after"),
]


@pytest.mark.parametrize(("api", "when"), CUTS)
@pytest.mark.parametrize("is_commit", [True, False], ids=["commit", "abort"])
async def test_a_connection_cut_at_any_request_leaves_a_transaction_whole(
    protocol: Mapping[str, int], api: ApiName, when: Any, is_commit: bool
) -> None:
    async with cluster_of(protocol, brokers=2) as cluster, transacting(cluster) as producer:
        await transfer(producer, b"1")
        cluster.cut_next(api, when=when)
        try:
            async with producer.transaction():
                await producer.send(TOPIC, b"2", partition=0)
                await producer.send(TOPIC, b"2", partition=1)
                await producer.flush()
                if not is_commit:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert not is_commit
        await transfer(producer, b"3")
        middle = [b"2"] if is_commit else []
        assert committed(cluster) == [b"1", *middle, b"3", b"1", *middle, b"3"]


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.UNKNOWN_SERVER_ERROR,
    ],
    ids=lambda code: code.name,
)
@pytest.mark.parametrize("api", ["end_txn", "init_producer_id"])
async def test_what_passes_is_asked_again(
    protocol: Mapping[str, int], api: ApiName, code: ErrorCode
) -> None:
    async with cluster_of(protocol) as cluster:
        if api == "init_producer_id":
            cluster.fail_next(api, code, count=2)
        async with transacting(cluster) as producer:
            if api == "end_txn":
                cluster.fail_next(api, code, count=2)
            await transfer(producer, b"1")
            assert committed(cluster) == [b"1", b"1"]


async def test_a_commit_that_is_carried_out_late_commits_nothing_of_the_next_transaction(
    protocol: Mapping[str, int],
) -> None:
    async with (
        cluster_of(protocol) as cluster,
        transacting(cluster, request_timeout_ms=200) as producer,
    ):
        cluster.hang("end_txn", count=1)
        await transfer(producer, b"1")
        await producer.begin_transaction()
        await producer.send_and_wait(TOPIC, b"aborted", partition=0)
        cluster.release()
        await cluster.received("end_txn", 2)
        await asyncio.sleep(0.01)
        await producer.abort_transaction()
        await transfer(producer, b"2")
        assert committed(cluster) == [b"1", b"2", b"1", b"2"]


async def test_a_coordinator_that_moves_is_found_again(protocol: Mapping[str, int]) -> None:
    async with cluster_of(protocol, brokers=3) as cluster, transacting(cluster) as producer:
        for number in range(4):
            before = cluster.coordinator(ID)
            async with producer.transaction():
                await producer.send(TOPIC, b"%d" % number, partition=0)
                await producer.flush()
                cluster.move_coordinator(ID, (before + 1) % 3, loading=number)
        assert committed(cluster) == [b"0", b"1", b"2", b"3"]


async def test_a_coordinator_that_dies_is_found_again(protocol: Mapping[str, int]) -> None:
    async with cluster_of(protocol, brokers=3) as cluster, transacting(cluster) as producer:
        await transfer(producer, b"1")
        await producer.begin_transaction()
        await producer.send(TOPIC, b"2", partition=0)
        await producer.flush()
        gone = cluster.coordinator(ID)
        await cluster.stop_broker(gone)
        await producer.commit_transaction()
        await cluster.start_broker(gone)
        assert committed(cluster) == [b"1", b"2", b"1"]


def test_a_commit_waits_for_callers_without_a_timer(protocol: Mapping[str, int]) -> None:
    async def commit_with_callers() -> None:
        async with (
            cluster_of(protocol) as cluster,
            transacting(cluster, buffer_memory=1_000, linger_ms=2_500) as producer,
        ):
            await transfer(producer, b"first")
            # By then the markers are written: nothing waits for those (settling.py).
            await asyncio.sleep(1)
            await producer.begin_transaction()
            sends = [
                asyncio.ensure_future(producer.send(TOPIC, b"%d" % index + bytes(300), partition=0))
                for index in range(40)
            ]
            await asyncio.sleep(0)
            before = asyncio.get_running_loop().time()
            await producer.commit_transaction()
            # The clock stands still while something can happen, and jumps to the next timer.
            assert asyncio.get_running_loop().time() == before
            assert all(send.result().done() for send in sends)
            assert len(committed(cluster)) == 42

    run(commit_with_callers(), MemoryNetworkLoop)


# ---- the end of the last transaction (settling.py)


def in_virtual_time(
    work: Callable[[FakeCluster, Producer[Any, Any]], Coroutine[Any, Any, None]],
    protocol: str = "v2",
    **options: Any,
) -> None:
    """Run work with a producer that has just committed; the time stands still while it can."""

    async def run_it() -> None:
        async with (
            cluster_of(PROTOCOLS[protocol], **options) as cluster,
            transacting(cluster) as producer,
        ):
            await transfer(producer, b"1")
            await work(cluster, producer)

    run(run_it(), MemoryNetworkLoop)


def now() -> float:
    return asyncio.get_running_loop().time()


def produced(cluster: FakeCluster) -> int:
    return len(cluster.requests_of("produce"))


async def commit_without_markers(
    cluster: FakeCluster, producer: Producer[Any, Any]
) -> tuple[int, float]:
    """Commit a transaction that is not over; return the Produce requests until then, and when."""
    cluster.hold_markers()
    await transfer(producer, b"2")
    return produced(cluster), now()


def test_records_leave_when_the_last_transaction_is_over() -> None:
    async def work(cluster: FakeCluster, producer: Producer[Any, Any]) -> None:
        before, ended_at = await commit_without_markers(cluster, producer)
        await producer.begin_transaction()
        delivery = await producer.send(TOPIC, b"3", partition=0)
        while now() < ended_at + 0.005:
            await asyncio.sleep(0.0005)
            assert produced(cluster) == before
        asked = len(cluster.requests_of("describe_transactions"))
        assert asked > 6
        cluster.write_markers()
        await delivery
        await producer.commit_transaction()
        # Sent once: a request that came too early would have been refused, and sent again.
        assert produced(cluster) == before + 1
        assert len(cluster.requests_of("describe_transactions")) == asked + 1
        assert committed(cluster) == [b"1", b"2", b"3", b"1", b"2"]

    in_virtual_time(work)


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_nobody_is_asked_before_the_first_transaction_or_in_version_1(protocol: str) -> None:
    async def work(cluster: FakeCluster, producer: Producer[Any, Any]) -> None:
        assert not cluster.requests_of("describe_transactions")
        await transfer(producer, b"2")
        assert len(cluster.requests_of("describe_transactions")) == (protocol == "v2")

    in_virtual_time(work, protocol)


def test_who_begins_late_asks_nobody() -> None:
    async def work(cluster: FakeCluster, producer: Producer[Any, Any]) -> None:
        await asyncio.sleep(0.021)
        await transfer(producer, b"2")
        assert not cluster.requests_of("describe_transactions")

    in_virtual_time(work)


def test_a_broker_that_cannot_tell_is_not_asked() -> None:
    async def work(cluster: FakeCluster, producer: Producer[Any, Any]) -> None:
        before = now()
        await transfer(producer, b"2")
        assert now() == before
        assert committed(cluster) == [b"1", b"2", b"1", b"2"]

    in_virtual_time(work, max_versions={"describe_transactions": -1})


def test_a_broker_that_may_not_tell_is_not_waited_for_and_soon_asked_no_more() -> None:
    async def work(cluster: FakeCluster, producer: Producer[Any, Any]) -> None:
        code = "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"
        cluster.fail_next("describe_transactions", code, count=None)
        before = now()
        for value in (b"2", b"3", b"4", b"5", b"6"):
            await transfer(producer, value)
        assert now() == before
        assert len(cluster.requests_of("describe_transactions")) == 3

    in_virtual_time(work)


def test_a_proxy_that_ends_the_connection_at_the_question_costs_three_of_them() -> None:
    async def work(cluster: FakeCluster, producer: Producer[Any, Any]) -> None:
        cluster.cut_next("describe_transactions", when="before", count=None)
        for number in range(2, 9):
            await transfer(producer, b"%d" % number)
        assert len(cluster.requests_of("describe_transactions")) == 3
        assert len(committed(cluster)) == 16

    in_virtual_time(work)


def test_a_coordinator_that_asked_for_a_pause_is_asked_nothing() -> None:
    async def work(cluster: FakeCluster, producer: Producer[Any, Any]) -> None:
        await transfer(producer, b"2")
        assert not cluster.requests_of("describe_transactions")
        assert committed(cluster) == [b"1", b"2", b"1", b"2"]

    in_virtual_time(work, throttle_ms=10)


@pytest.mark.parametrize("how", ["hangs", "is cut"])
def test_records_leave_when_the_answer_does_not_come(how: str) -> None:
    async def work(cluster: FakeCluster, producer: Producer[Any, Any]) -> None:
        if how == "hangs":
            cluster.hang("describe_transactions")
        else:
            cluster.cut_next("describe_transactions", when="before")
        before = now()
        await producer.begin_transaction()
        await producer.send(TOPIC, b"2", partition=0)
        # On another connection than the question, which nothing passes.
        await producer.send(TOPIC, b"2", partition=1)
        await cluster.received("produce", 4)
        assert now() <= before + 0.05
        cluster.release()
        await producer.commit_transaction()
        assert committed(cluster) == [b"1", b"2", b"1", b"2"]

    in_virtual_time(work, brokers=2)


def test_records_leave_when_the_last_transaction_is_not_over_for_long() -> None:
    async def work(cluster: FakeCluster, producer: Producer[Any, Any]) -> None:
        before, ended_at = await commit_without_markers(cluster, producer)
        await producer.begin_transaction()
        delivery = await producer.send(TOPIC, b"3", partition=0)
        await cluster.received("produce", before + 1)
        assert now() == pytest.approx(ended_at + 0.05, abs=0.02)
        cluster.write_markers()
        await delivery
        await producer.commit_transaction()
        assert committed(cluster) == [b"1", b"2", b"3", b"1", b"2"]

    in_virtual_time(work)


def test_a_producer_that_closes_asks_no_more() -> None:
    async def work(cluster: FakeCluster, producer: Producer[Any, Any]) -> None:
        await commit_without_markers(cluster, producer)
        await producer.begin_transaction()
        await producer.send(TOPIC, b"never", partition=0)
        await asyncio.sleep(0.005)
        asyncio.get_running_loop().call_later(0.5, cluster.write_markers)
        await producer.close()
        asked = len(cluster.requests_of("describe_transactions"))
        await asyncio.sleep(1)
        assert len(cluster.requests_of("describe_transactions")) == asked
        assert committed(cluster) == [b"1", b"2", b"1", b"2"]

    in_virtual_time(work)


# ---- several batches of a partition in flight


async def test_a_transaction_has_one_batch_of_a_partition_in_flight_until_its_epoch_is_proven(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster, batch_size=0) as producer:
        await transfer(producer, b"first")
        before = len(cluster.requests_of("produce"))
        await producer.begin_transaction()
        cluster.hang("produce", count=1)
        for index in range(6):
            await producer.send(TOPIC, b"%d" % index, partition=0)
        await cluster.received("produce", before + 1)
        # Version 1 has the same epoch in each transaction.
        is_proven = "transaction.version" not in protocol
        await until(lambda: producer.metrics()["requests_in_flight"] == (5 if is_proven else 1))
        cluster.hang("produce")
        cluster.release()
        cluster.clear_faults()
        await producer.commit_transaction()
        assert committed(cluster)[1:-1] == [b"%d" % index for index in range(6)]


FAILURES: Final[list[ErrorCode]] = [
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.CONCURRENT_TRANSACTIONS,
]


@pytest.mark.parametrize("stored_before", [0, 1], ids=["first", "later"])
@pytest.mark.parametrize("failure", [*FAILURES, "lost", "unanswered", "moved"], ids=str)
async def test_a_batch_that_fails_with_others_behind_it_leaves_the_transaction_in_order(
    protocol: Mapping[str, int], failure: ErrorCode | str, stored_before: int
) -> None:
    """The first batch of the transaction fails, or one that has four others behind it in flight."""
    async with (
        cluster_of(protocol, brokers=2) as cluster,
        transacting(cluster, batch_size=0) as producer,
    ):
        await transfer(producer, b"first")
        async with producer.transaction():
            if stored_before:
                await producer.send_and_wait(TOPIC, b"0", partition=0)
            match failure:
                case "lost":
                    cluster.cut_next("produce", when="before")
                case "unanswered":
                    cluster.cut_next("produce", when="after")
                case "moved":
                    cluster.move_leader(TOPIC, 0, 1 - cluster.leader(TOPIC, 0))
                case ErrorCode():
                    cluster.fail_next("produce", failure)
                case _:
                    raise AssertionError(failure)
            for index in range(stored_before, 9):
                await producer.send(TOPIC, b"%d" % index, partition=0)
        await transfer(producer, b"last")
        in_order = [b"first", *(b"%d" % index for index in range(9)), b"last"]
        assert [
            record.value for record in cluster.records(TOPIC, 0, isolation="read_committed")
        ] == in_order


# ---- a record that failed


async def test_a_failed_record_fails_the_commit_and_drops_the_rest(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        await producer.begin_transaction()
        cluster.fail_next("produce", ErrorCode.INVALID_RECORD)
        refused = await producer.send(TOPIC, b"refused", partition=0)
        with pytest.raises(KafkaError) as of_record:
            await refused
        assert of_record.value.requires_abort
        with pytest.raises(TransactionFailedError):
            await producer.send(TOPIC, b"late")
        with pytest.raises(TransactionFailedError) as caught:
            await producer.commit_transaction()
        assert caught.value.requires_abort
        assert caught.value.__cause__ is not None
        with pytest.raises(TransactionFailedError):
            await producer.begin_transaction()
        await producer.abort_transaction()
        await transfer(producer, b"next")
        assert committed(cluster) == [b"next", b"next"]


@pytest.mark.parametrize("failing", ["commit", "send"])
async def test_the_error_of_a_block_says_that_the_transaction_was_aborted(
    protocol: Mapping[str, int], failing: str
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.INVALID_RECORD)
        with pytest.raises(TransactionFailedError) as caught:
            async with producer.transaction():
                refused = await producer.send(TOPIC, b"refused", partition=0)
                if failing == "send":
                    with pytest.raises(KafkaError):
                        await refused
                    await producer.send(TOPIC, b"late")
        assert caught.value.hint == "The transaction was aborted: begin another one."
        await transfer(producer, b"next")


async def test_the_error_of_a_block_whose_abort_failed_says_to_abort() -> None:
    async with (
        cluster_of(PROTOCOLS["v2"]) as cluster,
        transacting(cluster, max_block_ms=400) as producer,
    ):
        cluster.fail_next("produce", ErrorCode.INVALID_RECORD, partition=0)
        cluster.delay("end_txn", 0.6, count=1)
        with pytest.raises(TransactionFailedError, match="Call abort_transaction") as caught:
            async with producer.transaction():
                await producer.send_and_wait(TOPIC, b"1", partition=1)
                await producer.send(TOPIC, b"refused", partition=0)
        assert "could not be aborted" in caught.value.__notes__[0]
        await transfer(producer, b"next")


BAD_ARGUMENTS: Final[list[dict[str, Any]]] = [
    {"deadline": -1},
    {"deadline": "1"},
    {"timeout": "1"},
    {"on_delivery": 5},
    {"records": b"one"},
    {"value": 5},
    {"key": 5},
    {"headers": 5},
    {"partition": -1},
    {"timestamp_ms": "now"},
    {"topic": "no topic"},
]
OF_SOME_CALLS: Final = {
    "timeout": ["send_and_wait"],
    "on_delivery": ["send", "send_nowait"],
    "records": ["send_many"],
}


@pytest.mark.parametrize("is_slow", ["0", "1"], ids=["native", "slow"])
@pytest.mark.parametrize("call", ["send", "send_and_wait", "send_nowait", "send_many"])
@pytest.mark.parametrize("bad", BAD_ARGUMENTS, ids=str)
async def test_a_call_that_raises_fails_the_commit(
    bad: dict[str, Any], call: str, is_slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = bad
    if call not in OF_SOME_CALLS.get(name, [call]):
        pytest.skip(f"{call} has no such argument")
    monkeypatch.setenv("AIOPRODUCER_SLOW_PATH", is_slow)
    async with cluster_of(PROTOCOLS["v2"]) as cluster, transacting(cluster) as producer:
        await producer.begin_transaction()
        with pytest.raises((ValueError, TypeError, KafkaError)) as caught:
            await called(producer, call, **bad)
        with pytest.raises(TransactionFailedError) as failed:
            await producer.commit_transaction()
        await producer.abort_transaction()
        cause: BaseException | None = failed.value.__cause__
        assert cause is caught.value or (cause and cause.__cause__ is caught.value)
        await transfer(producer, b"next")
        assert committed(cluster) == [b"next"] * 2


async def called(
    producer: Producer[Any, Any], call: str, *, topic: str = TOPIC, **given: Any
) -> None:
    """Send a record by one of the ways to send."""
    value = given.pop("value", b"1")
    if call == "send_nowait":
        producer.send_nowait(topic, value, **given)
    elif call == "send_many":
        records = given.pop("records", None)
        deadline = given.pop("deadline", None)
        record = ProducerRecord(topic, value, **given)
        await producer.send_many(topic, records or [record], deadline=deadline)
    else:
        await getattr(producer, call)(topic, value, **given)


@pytest.mark.parametrize("way", ["nowait", "max_block_ms", "timeout", "deadline", "partitioner"])
async def test_a_record_that_gets_no_buffer_space_fails_the_commit(way: str) -> None:
    def partitioner(
        topic: str, key: bytes | None, partitions: Sequence[int], available: Sequence[int], /
    ) -> int:
        raise ZeroDivisionError

    options: ProducerOptions = {"buffer_memory": 1_000}
    if way == "partitioner":
        options["partitioner"] = partitioner
    async with cluster_of(PROTOCOLS["v2"]) as cluster, transacting(cluster, **options) as producer:
        async with producer.transaction():
            await producer.send_and_wait(TOPIC, b"first", partition=0)
        await producer.begin_transaction()
        # Where a topic is not known yet, the partitioner is called when there is space.
        topic = "audit" if way == "partitioner" else TOPIC
        cluster.hang("metadata" if way == "partitioner" else "produce")
        await producer.send(topic, bytes(700), partition=0)
        value = bytes(500)
        with pytest.raises(KafkaError) as caught:
            match way:
                case "nowait":
                    producer.send_nowait(TOPIC, value, partition=0)
                case "timeout":
                    await producer.send_and_wait(TOPIC, value, partition=0, timeout=0.02)
                case "deadline":
                    await producer.send(TOPIC, value, partition=0, deadline=0.02)
                case "max_block_ms":
                    await producer.send(TOPIC, value, partition=0)
                case _:
                    asyncio.get_running_loop().call_later(0.02, cluster.release)
                    await producer.send(topic, value)
        cluster.release()
        with pytest.raises(TransactionFailedError) as failed:
            await producer.commit_transaction()
        cause = failed.value.__cause__
        assert cause is not None
        assert str(cause) == str(caught.value)
        await producer.abort_transaction()


async def test_a_call_with_a_bad_argument_in_another_thread_fails_no_transaction() -> None:
    async with cluster_of(PROTOCOLS["v2"]) as cluster, transacting(cluster) as producer:
        async with producer.transaction():
            await producer.send(TOPIC, b"1", partition=0)
            with pytest.raises(ValueError, match="deadline"):
                await asyncio.to_thread(producer.send_nowait, TOPIC, b"2", deadline=-1)
        assert committed(cluster) == [b"1"]


async def test_what_waits_is_dropped_when_the_transaction_fails(
    protocol: Mapping[str, int],
) -> None:
    async with (
        cluster_of(protocol) as cluster,
        transacting(cluster, linger_ms=2_500) as producer,
    ):
        await producer.begin_transaction()
        lingering = await producer.send(TOPIC, b"lingers", partition=0)
        with pytest.raises(KafkaError) as of_call:
            await producer.send(TOPIC, 5)
        with pytest.raises(TransactionAbortedError, match="which failed") as of_record:
            await lingering
        assert of_call.value.requires_abort
        assert of_record.value.requires_abort
        await producer.abort_transaction()
        assert stored(cluster) == []


async def test_a_record_whose_deadline_is_over_fails_the_commit(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        await transfer(producer, b"1")
        await producer.begin_transaction()
        cluster.hang("metadata")
        late = await producer.send("unknown", b"late", deadline=0.02)
        with pytest.raises(KafkaTimeoutError):
            await late
        with pytest.raises(TransactionFailedError, match="deadline of the call"):
            await producer.commit_transaction()
        cluster.release()
        await producer.abort_transaction()
        await transfer(producer, b"2")


async def test_a_batch_out_of_order_fails_the_transaction_and_the_next_one_works(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        await transfer(producer, b"1")
        cluster.fail_next("produce", ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, partition=0)
        with pytest.raises(TransactionFailedError):
            async with producer.transaction():
                await producer.send(TOPIC, b"2", partition=0)
        await transfer(producer, b"3")
        assert committed(cluster) == [b"1", b"3", b"1", b"3"]


@pytest.mark.parametrize(
    "code", [ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.INVALID_TXN_STATE], ids=lambda c: c.name
)
async def test_what_says_that_the_transaction_is_over_fails_it_and_the_next_one_works(
    protocol: Mapping[str, int], code: ErrorCode
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        await transfer(producer, b"1")
        cluster.fail_next("produce", code)
        with pytest.raises(TransactionFailedError):
            async with producer.transaction():
                await producer.send(TOPIC, b"2", partition=0)
        await transfer(producer, b"3")
        assert committed(cluster) == [b"1", b"3", b"1", b"3"]


async def test_a_partition_that_may_not_be_written_fails_the_transaction() -> None:
    async with cluster_of(PROTOCOLS["v1"]) as cluster, transacting(cluster) as producer:
        cluster.fail_next("add_partitions_to_txn", ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        with pytest.raises(TransactionFailedError) as caught:
            await transfer(producer, b"1")
        assert isinstance(caught.value.__cause__, TopicAuthorizationFailedError)
        await transfer(producer, b"2")
        assert committed(cluster) == [b"2", b"2"]


async def test_several_partitions_are_added_by_one_request() -> None:
    async with cluster_of(PROTOCOLS["v1"]) as cluster, transacting(cluster) as producer:
        await transfer(producer, b"1")
        cluster.delay("add_partitions_to_txn", 0.02)
        before = len(cluster.requests_of("add_partitions_to_txn"))
        await transfer(producer, b"2")
        assert len(cluster.requests_of("add_partitions_to_txn")) - before <= 2


async def test_version_two_adds_nothing_by_requests_of_its_own() -> None:
    async with cluster_of(PROTOCOLS["v2"]) as cluster, transacting(cluster) as producer:
        for number in range(3):
            await transfer(producer, b"%d" % number)
        assert cluster.requests_of("add_partitions_to_txn") == []
        assert len(cluster.requests_of("init_producer_id")) == 1
        assert producer.metrics()["epoch_bump_total"] == 3


# ---- other producers, and brokers that end transactions


async def test_a_fenced_producer_can_do_nothing_more(protocol: Mapping[str, int]) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as zombie:
        await zombie.begin_transaction()
        await zombie.send(TOPIC, b"left open", partition=0)
        await zombie.flush()
        async with transacting(cluster) as successor:
            await transfer(successor, b"1")
            with pytest.raises(ProducerFencedError, match=ID) as caught:
                await zombie.commit_transaction()
            assert caught.value.fatal
            for call in (zombie.begin_transaction, zombie.abort_transaction):
                with pytest.raises(ProducerFencedError):
                    await call()
            status = zombie.status()
            assert not status.healthy
            assert status.reason.startswith("No transaction can begin: Another producer has")
            assert readiness([zombie]).status == 503
            assert readiness([successor]).status == 200
            await transfer(successor, b"2")
        assert committed(cluster) == [b"1", b"2", b"1", b"2"]


@pytest.mark.parametrize("sends_more", [True, False])
async def test_a_fenced_producer_does_not_end_the_transaction_of_its_successor(
    protocol: Mapping[str, int], sends_more: bool
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as zombie:
        await transfer(zombie, b"1")
        await zombie.begin_transaction()
        await zombie.send(TOPIC, b"left open", partition=0)
        await zombie.flush()
        async with transacting(cluster) as successor, successor.transaction():
            await successor.send_and_wait(TOPIC, b"2", partition=0)
            if sends_more:
                await zombie.send(TOPIC, b"too late", partition=1)
            with pytest.raises(KafkaError):
                await zombie.commit_transaction()
            with pytest.raises(ProducerFencedError):
                await zombie.abort_transaction()
            await successor.send(TOPIC, b"2", partition=1)
        assert committed(cluster) == [b"1", b"2", b"1", b"2"]


async def test_a_producer_whose_id_was_forgotten_does_not_fence_its_successor(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as zombie:
        await transfer(zombie, b"1")
        cluster.forget_transactional_id(ID)
        async with transacting(cluster) as successor, successor.transaction():
            await successor.send_and_wait(TOPIC, b"2", partition=0)
            with pytest.raises(KafkaError):
                await transfer(zombie, b"late")
            with pytest.raises(ProducerFencedError):
                await zombie.begin_transaction()
            await successor.send(TOPIC, b"2", partition=1)
        assert committed(cluster) == [b"1", b"2", b"1", b"2"]


async def test_a_transaction_that_was_timed_out_is_aborted_and_the_next_one_works() -> None:
    async with cluster_of(PROTOCOLS["v2"]) as cluster, transacting(cluster) as producer:
        with pytest.raises(TransactionFailedError, match="transaction_timeout_ms"):
            async with producer.transaction():
                await producer.send(TOPIC, b"late", partition=0)
                await producer.flush()
                cluster.time_out_transaction(ID)
        await transfer(producer, b"next")
        assert committed(cluster) == [b"next", b"next"]


async def test_an_id_that_the_brokers_have_forgotten_is_gotten_again(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        await transfer(producer, b"1")
        cluster.forget_transactional_id(ID)
        with pytest.raises(TransactionFailedError):
            await transfer(producer, b"2")
        await transfer(producer, b"3")
        assert committed(cluster) == [b"1", b"3", b"1", b"3"]


async def test_a_producer_goes_on_when_its_epochs_are_used_up(protocol: Mapping[str, int]) -> None:
    async with cluster_of(protocol) as cluster:
        async with transacting(cluster) as producer:
            await transfer(producer, b"0")
        cluster.set_next_epoch(ID, 32_764)
        async with transacting(cluster) as producer:
            for number in range(1, 6):
                await transfer(producer, b"%d" % number)
        assert committed(cluster, "audit") == [b"%d" % number for number in range(6)]


async def test_markers_that_are_written_late_delay_the_next_transaction(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        cluster.hold_markers()
        await transfer(producer, b"1")
        next_one = asyncio.create_task(transfer(producer, b"2"))
        await until(lambda: len(stored(cluster, "audit")) >= 1)
        cluster.write_markers()
        await next_one
        assert committed(cluster, "audit") == [b"1", b"2"]


# ---- timeouts


@pytest.mark.parametrize("end", ["commit", "abort"])
async def test_an_end_that_timed_out_is_joined_by_the_same_call_again(
    protocol: Mapping[str, int], end: str
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster, max_block_ms=400) as producer:
        call = producer.commit_transaction if end == "commit" else producer.abort_transaction
        await producer.begin_transaction()
        await producer.send_and_wait(TOPIC, b"1", partition=0)
        cluster.hang("end_txn")
        with pytest.raises(KafkaTimeoutError, match=f"{end}_transaction\\(\\) again"):
            await call()
        # After a commit the caller has to learn how it ended; an abort is only waited for.
        refusal = TransactionStateError if end == "commit" else KafkaTimeoutError
        with pytest.raises(refusal, match=r"timed out|begin_transaction\(\) again"):
            await producer.begin_transaction()
        cluster.release()
        await call()
        assert committed(cluster) == ([b"1"] if end == "commit" else [])
        await producer.begin_transaction()
        await producer.abort_transaction()


async def test_a_block_whose_abort_timed_out_does_not_bar_the_next_one(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster, max_block_ms=400) as producer:
        await producer.flush()
        cluster.delay("end_txn", 0.6, count=1)
        with pytest.raises(ZeroDivisionError) as caught:
            async with producer.transaction():
                await (await producer.send(TOPIC, b"lost", partition=0))
                raise ZeroDivisionError
        assert "could not be aborted: Waited " in caught.value.__notes__[0]
        await transfer(producer, b"next")
        assert committed(cluster) == [b"next"] * 2


async def test_a_block_that_was_cancelled_in_a_commit_that_fails_does_not_bar_the_next_one(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        cluster.delay("produce", 0.05)
        cluster.fail_next("produce", ErrorCode.INVALID_RECORD)
        task = asyncio.create_task(transfer(producer, b"lost"))
        await cluster.received("produce")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await transfer(producer, b"next")
        assert committed(cluster) == [b"next"] * 2


async def test_a_block_does_not_take_over_the_failed_transaction_of_another_task(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        with pytest.raises(TransactionFailedError):
            async with producer.transaction():
                cluster.fail_next("produce", ErrorCode.INVALID_RECORD)
                with pytest.raises(KafkaError):
                    await producer.send_and_wait(TOPIC, b"refused", partition=0)
                with pytest.raises(TransactionFailedError):
                    await asyncio.create_task(transfer(producer, b"another"))
                with pytest.raises(TransactionFailedError):
                    await producer.send(TOPIC, b"late", partition=0)
        await transfer(producer, b"next")
        assert committed(cluster) == [b"next"] * 2


async def test_who_waits_for_a_commit_that_fails_aborts_it_and_nobody_else(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        await producer.begin_transaction()
        cluster.delay("produce", 0.05)
        cluster.fail_next("produce", ErrorCode.INVALID_RECORD)
        await producer.send(TOPIC, b"refused", partition=0)
        committing = asyncio.create_task(producer.commit_transaction())
        await cluster.received("produce")
        with pytest.raises(TransactionFailedError):
            await producer.begin_transaction()
        with pytest.raises(TransactionFailedError):
            await committing
        await producer.abort_transaction()
        await transfer(producer, b"next")
        assert committed(cluster) == [b"next"] * 2


async def test_a_start_without_an_answering_coordinator_times_out() -> None:
    async with cluster_of(PROTOCOLS["v2"]) as cluster:
        cluster.fail_next("find_coordinator", ErrorCode.COORDINATOR_NOT_AVAILABLE, count=None)
        producer = not_started(cluster)
        with pytest.raises(KafkaTimeoutError, match="transaction coordinator") as caught:
            await producer.start(timeout=0.1)
        assert "COORDINATOR_NOT_AVAILABLE" in str(caught.value)
        cluster.clear_faults()
        await producer.start()
        await transfer(producer, b"1")
        await producer.close()


async def test_a_transactional_id_that_may_not_be_used_is_said_at_the_start() -> None:
    async with cluster_of(PROTOCOLS["v2"]) as cluster:
        cluster.fail_next("init_producer_id", ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        producer = not_started(cluster)
        with pytest.raises(TransactionalIdAuthorizationFailedError):
            await producer.start()
        # Granted meanwhile.
        await producer.start()
        await transfer(producer, b"1")
        await producer.close()


async def test_a_producer_that_starts_in_the_background_waits_with_its_first_transaction() -> None:
    async with cluster_of(PROTOCOLS["v2"]) as cluster:
        producer = not_started(cluster)
        await producer.start(wait=False)
        await transfer(producer, b"1")
        assert producer.status().healthy
        await producer.close()
        assert committed(cluster) == [b"1", b"1"]


async def test_a_right_that_is_granted_after_a_start_in_the_background_is_used(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster:
        cluster.fail_next("init_producer_id", ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        producer = not_started(cluster)
        await producer.start(wait=False)
        await cluster.received("init_producer_id")
        with pytest.raises(TransactionalIdAuthorizationFailedError):
            await producer.begin_transaction()
        await transfer(producer, b"1")
        await producer.close()
        assert committed(cluster) == [b"1", b"1"]


async def test_tasks_that_begin_at_once_ask_for_one_epoch(protocol: Mapping[str, int]) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        transactions = sender_of(producer).transactions
        assert transactions is not None
        transactions.sequences_lost()
        results = await asyncio.gather(
            *(producer.begin_transaction() for _ in range(3)), return_exceptions=True
        )
        assert [type(result) for result in results].count(TransactionStateError) == 2
        await producer.send(TOPIC, b"1", partition=0)
        await producer.commit_transaction()
        assert committed(cluster) == [b"1"]
        assert len([one for one in cluster.requests if one.api == "init_producer_id"]) == 2


async def test_a_transactional_id_that_is_refused_in_the_background_makes_it_unhealthy() -> None:
    async with cluster_of(PROTOCOLS["v2"]) as cluster:
        producer = not_started(cluster)
        cluster.fail_next("init_producer_id", ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        await producer.start(wait=False)
        with pytest.raises(TransactionalIdAuthorizationFailedError):
            await producer.begin_transaction()
        assert "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" in producer.status().reason
        await producer.close()


async def test_an_abort_that_is_refused_is_fatal(protocol: Mapping[str, int]) -> None:
    async with cluster_of(protocol) as cluster:
        producer = not_started(cluster)
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(TOPIC, b"1")
        cluster.fail_next("end_txn", ErrorCode.INVALID_REQUEST)
        with pytest.raises(KafkaError):
            await producer.abort_transaction()
        with pytest.raises(KafkaError):
            await producer.begin_transaction()
        await producer.close()


@pytest.mark.parametrize("call", ["commit_transaction", "abort_transaction"])
@pytest.mark.parametrize(
    "api",
    ["add_partitions_to_txn", "add_offsets_to_txn", "txn_offset_commit", "produce", "end_txn"],
)
@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_PRODUCER_ID_MAPPING,
        ErrorCode.PRODUCER_FENCED,
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ErrorCode.TRANSACTION_ABORTABLE,
    ],
)
async def test_an_error_of_any_call_says_what_to_do(
    protocol: Mapping[str, int], code: ErrorCode, api: ApiName, call: str
) -> None:
    async with cluster_of(protocol) as cluster:
        producer = not_started(cluster)
        await producer.start()
        await producer.begin_transaction()
        cluster.fail_next(api, code)
        try:
            await producer.send(TOPIC, b"1", partition=0)
            await producer.send_offsets_to_transaction({(TOPIC, 0): 1}, "group")
            await getattr(producer, call)()
        except KafkaError as error:
            assert error.fatal != error.requires_abort
            if error.fatal:
                with pytest.raises(type(error)):
                    await producer.begin_transaction()
                await producer.close()
                return
            await producer.abort_transaction()
        await transfer(producer, b"next")
        assert committed(cluster)[-2:] == [b"next"] * 2
        await producer.close()


# ---- offsets


async def test_offsets_are_committed_with_the_records_or_not_at_all(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol, brokers=2) as cluster, transacting(cluster) as producer:
        async with producer.transaction():
            await producer.send(TOPIC, b"1", partition=0)
            await producer.send_offsets_to_transaction({("audit", 0): 5}, "readers")
            assert cluster.committed("readers") == {}
        assert cluster.committed("readers") == {("audit", 0): 5}
        with pytest.raises(ZeroDivisionError):
            async with producer.transaction():
                await producer.send_offsets_to_transaction({("audit", 0): 9}, "readers")
                raise ZeroDivisionError
        assert cluster.committed("readers") == {("audit", 0): 5}


async def test_several_groups_commit_in_one_transaction(protocol: Mapping[str, int]) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        async with producer.transaction():
            await producer.send_offsets_to_transaction({("audit", 0): 5}, "a")
            await producer.send_offsets_to_transaction({("audit", 0): 7}, "b")
        assert cluster.committed("a") == {("audit", 0): 5}
        assert cluster.committed("b") == {("audit", 0): 7}


async def test_a_group_coordinator_that_moves_is_found_again(protocol: Mapping[str, int]) -> None:
    async with cluster_of(protocol, brokers=3) as cluster, transacting(cluster) as producer:
        for offset in range(3):
            async with producer.transaction():
                await producer.send_offsets_to_transaction({("audit", 0): offset}, "readers")
            before = cluster.coordinator("readers", kind="group")
            cluster.move_coordinator("readers", (before + 1) % 3, kind="group")
        assert cluster.committed("readers") == {("audit", 0): 2}


async def test_offsets_that_the_group_refuses_fail_the_transaction(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        cluster.fail_next("txn_offset_commit", ErrorCode.ILLEGAL_GENERATION)
        with pytest.raises(KafkaError, match="ILLEGAL_GENERATION"):
            async with producer.transaction():
                await producer.send_offsets_to_transaction({("audit", 0): 5}, "readers")
        await transfer(producer, b"next")
        assert cluster.committed("readers") == {}


async def test_a_commit_waits_for_offsets_whose_caller_is_gone(protocol: Mapping[str, int]) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        async with producer.transaction():
            cluster.delay("txn_offset_commit", 0.05)
            sending = asyncio.create_task(
                producer.send_offsets_to_transaction({("audit", 0): 5}, "readers")
            )
            await cluster.received("txn_offset_commit")
            sending.cancel()
        assert cluster.committed("readers") == {("audit", 0): 5}


@pytest.mark.parametrize("end", ["commit", "abort"])
async def test_a_call_that_is_refused_while_another_task_ends_the_transaction_changes_nothing(
    protocol: Mapping[str, int], end: str
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(TOPIC, b"1", partition=0)
        cluster.delay("end_txn", 0.1, count=1)
        ending = asyncio.create_task(
            producer.commit_transaction() if end == "commit" else producer.abort_transaction()
        )
        await cluster.received("end_txn")
        for value in (b"2", 12):
            with pytest.raises(TransactionStateError, match=f"{end}_transaction"):
                producer.send_nowait(TOPIC, value)
            with pytest.raises(TransactionStateError, match=f"{end}_transaction"):
                await producer.send(TOPIC, value)
        await ending
        assert committed(cluster) == ([b"1"] if end == "commit" else [])
        await transfer(producer, b"next")


async def test_a_call_from_another_thread_is_refused_and_fails_no_transaction(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        async with producer.transaction():
            await producer.send(TOPIC, b"1", partition=0)
            with pytest.raises(WrongEventLoopError):
                await asyncio.to_thread(producer.send_nowait, TOPIC, b"2")
        assert committed(cluster) == [b"1"]


async def test_a_thread_cannot_send_in_a_transaction() -> None:
    async with cluster_of({}) as cluster, transacting(cluster) as producer:
        with pytest.raises(TransactionStateError, match="run_coroutine_threadsafe"):
            _ = producer.from_thread


async def test_a_thread_can_have_a_whole_transaction_done(protocol: Mapping[str, int]) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        loop = asyncio.get_running_loop()

        def transfer_in_loop() -> None:
            asyncio.run_coroutine_threadsafe(transfer(producer, b"12.50"), loop).result(5)

        await asyncio.to_thread(transfer_in_loop)
        assert committed(cluster) == [b"12.50"] * 2


async def test_the_block_of_the_page_runs() -> None:
    page = (Path(__file__).parents[2] / "docs/transactions.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    async with FakeCluster(topics={"debits": 1, "credits": 1}) as cluster:
        names: dict[str, Any] = {"Producer": Producer}
        body = textwrap.indent(code.replace("localhost:9092", cluster.bootstrap_servers), "    ")
        exec(compile(f"async def snippet():\n{body}", "transactions.md", "exec"), names)
        await names["snippet"]()
        assert committed(cluster, "debits") == committed(cluster, "credits") == [b"12.50"]


# ---- nothing of a transaction is left out, and nothing of it comes twice


async def _write_seldom(features: Mapping[str, int]) -> None:
    """Write to one topic every minute, and to another one six minutes later in a transaction."""
    async with (
        cluster_of(features) as cluster,
        Producer[bytes, bytes](
            bootstrap_servers=cluster.bootstrap_servers,
            transactional_id=ID,
            metadata_max_idle_ms=60_000,
            transaction_timeout_ms=900_000,
        ) as producer,
    ):
        for number in range(3):
            async with producer.transaction():
                await producer.send_and_wait("audit", b"a%d" % number)
                for minute in range(6):
                    await producer.send_and_wait(TOPIC, b"%d" % minute, partition=0)
                    await asyncio.sleep(60)
                await producer.send_and_wait("audit", b"b%d" % number)
        names = [b"%s%d" % (letter, number) for number in range(3) for letter in (b"a", b"b")]
        assert committed(cluster, "audit") == names
        cluster.expect_clean()


def test_a_topic_is_not_forgotten_while_its_transaction_is_open(
    protocol: Mapping[str, int],
) -> None:
    run(_write_seldom(protocol), MemoryNetworkLoop)


async def _write_names_once(features: Mapping[str, int]) -> None:
    async with (
        FakeCluster(features=features) as cluster,
        Producer[bytes, bytes](
            bootstrap_servers=cluster.bootstrap_servers,
            transactional_id=ID,
            metadata_max_idle_ms=60_000,
        ) as producer,
    ):
        for number in range(60):
            async with producer.transaction():
                await producer.send(f"once-{number}", b"x")
                await asyncio.sleep(10)
        assert len(sender_of(producer).topics.by_name) < 20
        cluster.expect_clean()


def test_topics_are_forgotten_between_transactions_that_follow_each_other_at_once(
    protocol: Mapping[str, int],
) -> None:
    run(_write_names_once(protocol), MemoryNetworkLoop)


@pytest.mark.parametrize("linger_ms", [0, 50])
async def test_a_commit_has_the_record_of_a_caller_who_gets_space_while_it_flushes(
    protocol: Mapping[str, int], linger_ms: int
) -> None:
    async with (
        cluster_of(protocol) as cluster,
        transacting(cluster, buffer_memory=1_000, linger_ms=linger_ms) as producer,
    ):
        await producer.begin_transaction()
        cluster.hang("produce", count=1)
        await producer.send(TOPIC, bytes(600), partition=0)
        waiting = asyncio.create_task(producer.send(TOPIC, b"waited" + bytes(600), partition=0))
        await until(lambda: producer.metrics()["waiting_callers"] == 1)
        committing = asyncio.create_task(producer.commit_transaction())
        await cluster.received("produce")
        cluster.release()
        await committing
        assert [value[:6] for value in committed(cluster)] == [bytes(6), b"waited"]
        await (await waiting)


async def test_a_commit_without_an_answer_says_that_its_records_may_be_stored(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster, max_block_ms=300) as producer:
        await producer.begin_transaction()
        await producer.send(TOPIC, b"1", partition=0)
        cluster.hang("end_txn", stored=True, count=1)
        with pytest.raises(KafkaTimeoutError) as caught:
            await producer.commit_transaction()
        assert committed(cluster) == [b"1"]
        assert caught.value.possibly_persisted
        assert caught.value.is_pending
        assert not caught.value.safe_to_resend
        joining = asyncio.create_task(producer.commit_transaction())
        await asyncio.sleep(0)
        await producer.close(0)
        with pytest.raises(ProducerClosedError) as closed:
            await joining
        assert closed.value.possibly_persisted
        assert not closed.value.safe_to_resend
        cluster.release()


async def test_an_abort_without_an_answer_says_that_its_records_are_not_stored(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster, max_block_ms=300) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(TOPIC, b"1", partition=0)
        cluster.hang("end_txn", count=1)
        with pytest.raises(KafkaTimeoutError) as caught:
            await producer.abort_transaction()
        assert not caught.value.possibly_persisted
        cluster.release()
        await producer.abort_transaction()


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_offsets_are_committed_in_the_order_of_the_calls(
    protocol: Mapping[str, int], is_cancelled: bool
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        await producer.begin_transaction()
        cluster.fail_next("txn_offset_commit", ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, count=3)
        first = asyncio.create_task(
            producer.send_offsets_to_transaction({(TOPIC, 0): 10}, "readers")
        )
        await cluster.received("txn_offset_commit")
        if is_cancelled:
            first.cancel()
        await producer.send_offsets_to_transaction({(TOPIC, 0): 20}, "readers")
        await asyncio.wait([first])
        await producer.commit_transaction()
        assert cluster.committed("readers") == {(TOPIC, 0): 20}


async def test_offsets_that_are_committed_late_do_not_set_back_those_of_the_next_transaction(
    protocol: Mapping[str, int],
) -> None:
    async with (
        cluster_of(protocol, brokers=2) as cluster,
        transacting(cluster, request_timeout_ms=200) as producer,
    ):
        cluster.move_coordinator(ID, 1)
        cluster.move_coordinator("readers", 0, kind="group")
        cluster.hang("txn_offset_commit", count=1)
        for number, offset in ((b"1", 10), (b"2", 20)):
            async with producer.transaction():
                await producer.send(TOPIC, number, partition=0)
                await producer.send_offsets_to_transaction({(TOPIC, 0): offset}, "readers")
                if offset == 20:
                    cluster.release()
        assert cluster.committed("readers") == {(TOPIC, 0): 20}


@pytest.mark.parametrize(
    ("offsets", "group"),
    [
        ({(TOPIC, 0): 2**63}, "readers"),
        ({(TOPIC, 2**31): 1}, "readers"),
        ({("t" * 40_000, 0): 1}, "readers"),
        ({(TOPIC, 0): -1}, "readers"),
        ({(TOPIC, 0): 1}, "\ud800"),
        ({(TOPIC, 0): 1}, ""),
        ({(TOPIC, 0): "1"}, "readers"),
    ],
    ids=["offset", "partition", "topic", "negative", "group", "empty group", "text"],
)
async def test_offsets_that_cannot_be_committed_fail_the_transaction(
    offsets: Mapping[Any, Any], group: str
) -> None:
    async with cluster_of(PROTOCOLS["v2"]) as cluster, transacting(cluster) as producer:
        await producer.begin_transaction()
        await producer.send(TOPIC, b"1", partition=0)
        with pytest.raises((TypeError, ValueError)):
            await producer.send_offsets_to_transaction(offsets, group)
        with pytest.raises(TransactionFailedError):
            await producer.commit_transaction()
        await producer.abort_transaction()
        assert committed(cluster) == []
        await transfer(producer, b"2")


# ---- ends that others wait for, or that somebody gave up


async def test_one_who_joined_a_commit_leaves_the_next_one_alone(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster, max_block_ms=300) as producer:
        await producer.begin_transaction()
        await producer.send(TOPIC, b"1", partition=0)
        cluster.hang("end_txn", count=2)

        async def go_on() -> None:
            await producer.commit_transaction()
            await producer.begin_transaction()
            await producer.send(TOPIC, b"2", partition=0)
            with pytest.raises(KafkaTimeoutError):
                await producer.commit_transaction()

        going_on = asyncio.create_task(go_on())
        joining = asyncio.create_task(producer.commit_transaction())
        await cluster.received("end_txn")
        cluster.release()
        cluster.hang("end_txn", count=1)
        await joining
        await going_on
        cluster.release()
        await producer.commit_transaction()
        assert committed(cluster) == [b"1", b"2"]


async def cancel_a_commit(producer: Producer[Any, Any], once: Awaitable[object]) -> None:
    """Call commit, and cancel that caller once the commit has got somewhere."""
    committing = asyncio.create_task(producer.commit_transaction())
    await once
    committing.cancel()
    await asyncio.wait([committing])


async def test_no_transaction_begins_while_the_producer_closes(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        await producer.begin_transaction()
        await producer.send(TOPIC, b"1", partition=0)
        cluster.hang("end_txn", count=1)
        await cancel_a_commit(producer, cluster.received("end_txn"))
        beginning = asyncio.create_task(producer.begin_transaction())
        await asyncio.sleep(0)
        closing = asyncio.create_task(producer.close(5))
        await asyncio.sleep(0)
        cluster.release()
        with pytest.raises(ProducerClosedError):
            await beginning
        await closing
        assert committed(cluster) == [b"1"]
        assert cluster.last_stable_offset(TOPIC, 0) == cluster.next_offset(TOPIC, 0)


async def test_a_commit_fails_with_the_callers_whom_a_close_rejects(
    protocol: Mapping[str, int],
) -> None:
    async with (
        cluster_of(protocol) as cluster,
        transacting(cluster, buffer_memory=1_000) as producer,
    ):
        await producer.begin_transaction()
        cluster.hang("produce", count=1)
        await producer.send(TOPIC, bytes(600), partition=0)
        waiting = asyncio.create_task(producer.send(TOPIC, bytes(600), partition=0))
        await until(lambda: producer.metrics()["waiting_callers"] == 1)
        committing = asyncio.create_task(producer.commit_transaction())
        await cluster.received("produce")
        closing = asyncio.create_task(producer.close(5))
        with pytest.raises(ProducerClosedError):
            await waiting
        cluster.release()
        with pytest.raises(TransactionFailedError) as caught:
            await committing
        assert isinstance(caught.value.__cause__, ProducerClosedError)
        await closing
        assert committed(cluster) == []


@pytest.mark.parametrize("what", ["offsets", "record"])
async def test_a_topic_that_was_deleted_does_not_keep_an_abort_from_its_end(
    protocol: Mapping[str, int], what: str
) -> None:
    async with (
        cluster_of(protocol, auto_create_topics=False) as cluster,
        transacting(cluster, max_block_ms=400) as producer,
    ):
        cluster.create_topic("deleted", 1)
        await producer.partitions_for("deleted")
        await producer.begin_transaction()
        await producer.send(TOPIC, b"1", partition=0)
        cluster.delete_topic("deleted")
        if what == "offsets":
            with pytest.raises(KafkaTimeoutError, match="UNKNOWN_TOPIC_OR_PARTITION"):
                await producer.send_offsets_to_transaction({("deleted", 0): 1}, "readers")
        else:
            await producer.send("deleted", b"1", partition=0)
        await producer.abort_transaction()
        await transfer(producer, b"2")
        assert committed(cluster) == [b"2", b"2"]


async def test_a_commit_does_not_wait_for_ever_for_offsets_that_are_refused(
    protocol: Mapping[str, int],
) -> None:
    async with (
        cluster_of(protocol, auto_create_topics=False) as cluster,
        transacting(
            cluster, max_block_ms=200, request_timeout_ms=600, delivery_timeout_ms=600
        ) as producer,
    ):
        await producer.begin_transaction()
        await producer.send(TOPIC, b"1", partition=0)
        with pytest.raises(KafkaTimeoutError, match="max_block_ms"):
            await producer.send_offsets_to_transaction({("deleted", 0): 1}, "readers")
        with pytest.raises(TransactionFailedError, match=r"offsets to be taken \(delivery_timeout"):
            while True:
                try:
                    await producer.commit_transaction()
                except KafkaTimeoutError:
                    continue
        await producer.abort_transaction()
        await transfer(producer, b"2")
        assert committed(cluster) == [b"2", b"2"]


async def test_a_partition_whose_broker_took_nothing_is_added_to_each_transaction(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        async with producer.transaction():
            await producer.send_and_wait(TOPIC, b"1", partition=0)
            cluster.throttle_ms = 300
        cluster.throttle_ms = 0
        await producer.begin_transaction()
        dropped = await producer.send(TOPIC, b"dropped", partition=0)
        # By now its partition is ready, for a broker that takes nothing.
        await asyncio.sleep(0.05)
        await producer.abort_transaction()
        with pytest.raises(TransactionAbortedError):
            await dropped
        async with producer.transaction():
            await producer.send_and_wait(TOPIC, b"2", partition=0)
        assert committed(cluster) == [b"1", b"2"]


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.UNKNOWN_SERVER_ERROR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.REQUEST_TIMED_OUT,
    ],
    ids=lambda code: code.name,
)
@pytest.mark.parametrize("api", ["add_partitions_to_txn", "add_offsets_to_txn"])
async def test_what_may_have_been_added_is_aborted_at_the_coordinator(
    api: Any, code: ErrorCode
) -> None:
    def say(answer: Any) -> None:
        if api == "add_partitions_to_txn":
            for each in answer.partitions:
                each.error_code = int(code)
        else:
            answer.error_code = int(code)

    async with (
        cluster_of(PROTOCOLS["v1"]) as cluster,
        transacting(cluster, retry_backoff_ms=500, retry_backoff_max_ms=500) as producer,
    ):
        await producer.begin_transaction()
        # It is carried out, whatever the answer says.
        cluster.edit_next(api, say)
        if api == "add_partitions_to_txn":
            await producer.send(TOPIC, b"1", partition=0)
            sending = None
        else:
            sending = asyncio.create_task(
                producer.send_offsets_to_transaction({(TOPIC, 0): 1}, "readers")
            )
        await cluster.received(api)
        await asyncio.sleep(0.05)
        await producer.abort_transaction()
        assert len(cluster.requests_of("end_txn")) == 1
        if sending is not None:
            with pytest.raises(KafkaError):
                await sending
        known = cluster.transaction(ID)
        assert known is not None and known.state != "Ongoing"
        await transfer(producer, b"2")
        assert committed(cluster) == [b"2", b"2"]


async def test_offsets_that_wait_for_their_turn_are_not_sent_once_the_transaction_is_aborted(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster, transacting(cluster) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(TOPIC, b"1", partition=0)
        cluster.hang("txn_offset_commit", count=1)
        sending = [
            asyncio.create_task(
                producer.send_offsets_to_transaction({(TOPIC, 0): offset}, "readers")
            )
            for offset in range(20)
        ]
        await cluster.received("txn_offset_commit")
        aborting = asyncio.create_task(producer.abort_transaction())
        await asyncio.sleep(0)
        cluster.release()
        await aborting
        results = await asyncio.gather(*sending, return_exceptions=True)
        assert {type(result) for result in results[1:]} == {TransactionAbortedError}
        assert len(cluster.requests_of("txn_offset_commit")) == 1
        assert cluster.committed("readers") == {}


async def test_one_doubt_about_offsets_costs_one_epoch() -> None:
    async with (
        cluster_of(PROTOCOLS["v1"]) as cluster,
        transacting(cluster, request_timeout_ms=200) as producer,
    ):
        cluster.hang("txn_offset_commit", count=1)
        for number in range(4):
            async with producer.transaction():
                await producer.send(TOPIC, b"%d" % number, partition=0)
                await producer.send_offsets_to_transaction({(TOPIC, 0): number}, "readers")
        assert len(cluster.requests_of("init_producer_id")) == 2
        cluster.release()


async def test_a_close_waits_for_the_abort_that_a_waiting_begin_has_begun(
    protocol: Mapping[str, int],
) -> None:
    async with cluster_of(protocol) as cluster:
        producer = not_started(cluster)
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(TOPIC, b"1", partition=0)
        cluster.delay("produce", 0.1, count=1, when="before")
        cluster.fail_next("produce", ErrorCode.INVALID_RECORD)
        await producer.send(TOPIC, b"2", partition=0)
        await cancel_a_commit(producer, cluster.received("produce", 2))
        beginning = asyncio.create_task(producer.begin_transaction())
        await asyncio.sleep(0)
        await producer.close(5)
        with pytest.raises(ProducerClosedError):
            await beginning
        assert cluster.last_stable_offset(TOPIC, 0) == cluster.next_offset(TOPIC, 0)
        assert committed(cluster) == []
        cluster.expect_clean()


async def _write_seldom_to_an_old_broker() -> None:
    async with (
        cluster_of({}, max_versions={"init_producer_id": 2}) as cluster,
        Producer[bytes, bytes](
            bootstrap_servers=cluster.bootstrap_servers, transactional_id=ID
        ) as producer,
    ):
        for number in range(3):
            async with producer.transaction():
                await producer.send("audit", b"%d" % number)
            await asyncio.sleep(400)
        assert committed(cluster, "audit") == [b"0", b"1", b"2"]
        cluster.expect_clean()


def test_before_kafka_2_5_no_topic_is_forgotten() -> None:
    run(_write_seldom_to_an_old_broker(), MemoryNetworkLoop)
