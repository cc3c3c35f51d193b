"""Cancel any public call at any of its suspensions: the producer and everybody else go on.

`Cancelled` runs a call as its task would and cancels that task at the k-th suspension. The tests
go through k = 0, 1, 2, ... until the call is over before its turn to be cancelled comes; after
each, the producer must be whole.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Literal, get_args

import pytest

from aioproducer import Delivery, Producer, RecordMetadata
from aioproducer.errors import KafkaError, KafkaTimeoutError, ProducerClosedError
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import (
    FAST,
    RECORD_BY_RECORD,
    TOPIC,
    expect_nothing_left,
    failure,
    producing,
    prove,
    until,
    values,
)

SMALL: Final = 1_000
PAD: Final = b"." * 280
"""Makes a record of which two fit into the buffer."""

How = Literal["at once", "next turn", "twice", "with the answer"]
AnyProducer = Producer[Any, Any]


class Cancelled:
    """An awaitable that cancels the task which awaits it, at one of its suspensions.

    Args:
        inner: What is awaited.
        at: Which suspension, from 0.
        how: Inside the step itself; in the loop's next turn; in the next two; or when what is
            waited for has come and the task has not run since.
        first: Called once the loop is free after the first suspension that is let pass.
    """

    def __init__(self, inner: Awaitable[Any], at: int, how: How, first: Callable[[], None]) -> None:
        self.was_reached = False
        self._inner = inner
        self._at = at
        self._how: How = how
        self._first = first

    def __await__(self) -> Generator[Any, Any, Any]:
        # Some have neither send nor throw.
        steps: Any = self._inner.__await__()
        step: Callable[[], Any] = partial(next, steps)
        count = 0
        while True:
            try:
                awaited = step()
            except StopIteration as stop:
                return stop.value
            self._suspended(count, awaited)
            count += 1
            try:
                yield awaited
                step = partial(next, steps)
            except BaseException as error:
                throw: Callable[[BaseException], Any] | None = getattr(steps, "throw", None)
                if throw is None:
                    raise
                step = partial(throw, error)

    def _suspended(self, count: int, awaited: Any) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        if count == 0 and (self._at > 0 or self._how == "with the answer"):
            loop.call_soon(self._first)
        if count != self._at:
            return
        self.was_reached = True
        if self._how == "at once":
            task.cancel()
        elif self._how == "with the answer" and awaited is not None:
            awaited.add_done_callback(partial(_cancel, task))
        else:
            loop.call_soon(task.cancel)
            if self._how == "twice":
                loop.call_soon(lambda: loop.call_soon(task.cancel))


def _cancel(task: asyncio.Task[Any], _: object) -> None:
    task.cancel()


async def send(producer: AnyProducer) -> None:
    delivery: Delivery = await producer.send(TOPIC, b"own" + PAD)
    await delivery


async def send_and_wait(producer: AnyProducer) -> None:
    await producer.send_and_wait(TOPIC, b"own" + PAD)


async def send_and_wait_in_time(producer: AnyProducer) -> None:
    await producer.send_and_wait(TOPIC, b"own" + PAD, timeout=10)


async def send_within_a_timeout(producer: AnyProducer) -> None:
    async with asyncio.timeout(10):
        await (await producer.send(TOPIC, b"own" + PAD))


async def send_many(producer: AnyProducer) -> None:
    await producer.send_many(TOPIC, [b"own" + PAD, b"own" + PAD, b"own" + PAD])


async def send_to_an_unknown_topic(producer: AnyProducer) -> None:
    await producer.send_and_wait("unknown", b"own")


async def flush(producer: AnyProducer) -> None:
    await producer.flush()


async def partitions_for(producer: AnyProducer) -> None:
    await producer.partitions_for("unknown")


async def gather_of_two(producer: AnyProducer) -> None:
    await asyncio.gather(
        producer.send_and_wait(TOPIC, b"own" + PAD), producer.send_and_wait(TOPIC, b"own" + PAD)
    )


async def wait_for(producer: AnyProducer) -> None:
    delivery: Delivery = await producer.send(TOPIC, b"own" + PAD)
    await asyncio.wait_for(delivery, 10)


async def shield(producer: AnyProducer) -> None:
    delivery: Delivery = await producer.send(TOPIC, b"own" + PAD)
    await asyncio.shield(delivery)


async def close(producer: AnyProducer) -> None:
    await producer.close()


async def close_in_time(producer: AnyProducer) -> None:
    await producer.close(10)


CALLS: Final[tuple[Callable[[AnyProducer], Coroutine[Any, Any, None]], ...]] = (
    send,
    send_and_wait,
    send_and_wait_in_time,
    send_within_a_timeout,
    send_many,
    send_to_an_unknown_topic,
    flush,
    partitions_for,
    gather_of_two,
    wait_for,
    shield,
)
every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
every_close = pytest.mark.parametrize("call", [close, close_in_time], ids=lambda c: c.__name__)
every_how = pytest.mark.parametrize("how", get_args(How))


@asynccontextmanager
async def full(cluster: FakeCluster) -> AsyncGenerator[AnyProducer, None]:
    """Open a producer whose buffer is full of records that the broker does not answer."""
    async with producing(cluster, RECORD_BY_RECORD, buffer_memory=SMALL) as producer:
        await prove(producer)
        cluster.hang("produce")
        for name in (b"0", b"1"):
            producer.send_nowait(TOPIC, name + PAD)
        yield producer


async def run_cancelled(cancelled: Cancelled) -> bool:
    """Run it to its end; return whether it was cancelled."""

    async def awaits() -> None:
        await cancelled

    task = asyncio.ensure_future(awaits())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()


@every_how
@every_call
async def test_a_cancelled_call_leaves_the_producer_whole(
    call: Callable[[AnyProducer], Coroutine[Any, Any, None]], how: How
) -> None:
    at = 0
    while await cancelled_call(call, at, how):
        at += 1
    assert at >= 1


async def cancelled_call(
    call: Callable[[AnyProducer], Coroutine[Any, Any, None]], at: int, how: How
) -> bool:
    """Cancel it at one suspension between two bystanders; return whether it came that far."""
    async with (
        FakeCluster(topics={TOPIC: 1}, default_partitions=1) as cluster,
        full(cluster) as producer,
    ):
        tasks = asyncio.all_tasks()
        before = asyncio.ensure_future(producer.send(TOPIC, b"before" + PAD))
        cancelled = Cancelled(call(producer), at, how, cluster.release)
        running = asyncio.ensure_future(run_cancelled(cancelled))
        # Its first step is its call.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        after = asyncio.ensure_future(producer.send(TOPIC, b"after" + PAD))
        async with asyncio.timeout(5):
            was_cancelled = await running
            cluster.release()
            for bystander in (before, after):
                await (await bystander)
            await producer.flush()
            await prove(producer)
        # Before Python 3.12 wait_for() prefers a result to the cancellation of its caller.
        assert was_cancelled or not cancelled.was_reached or call is wait_for

        stored = [value.rstrip(b".") for value in values(cluster)]
        own = stored.count(b"own")
        assert [name for name in stored if name != b"own"] == [
            b"first", b"0", b"1", b"before", b"after", b"first",
        ]  # fmt: skip
        if own:
            assert stored.index(b"own") > stored.index(b"before")
        metrics = producer.metrics()
        assert metrics["record_accepted_total"] == len(stored) + len(values(cluster, "unknown"))
        assert metrics["record_delivered_total"] == metrics["record_accepted_total"]
        assert metrics["buffer_available_bytes"] == SMALL
        assert metrics["waiting_callers"] == 0
        assert asyncio.all_tasks() == tasks
        return cancelled.was_reached


@every_how
@every_close
async def test_a_cancelled_close_goes_on_and_can_be_awaited_again(
    call: Callable[[AnyProducer], Coroutine[Any, Any, None]], how: How
) -> None:
    at = 0
    while await cancelled_close(call, at, how):
        at += 1
    assert at >= 1


async def cancelled_close(
    call: Callable[[AnyProducer], Coroutine[Any, Any, None]], at: int, how: How
) -> bool:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, full(cluster) as producer:
        waiting = asyncio.ensure_future(producer.send(TOPIC, b"waiting" + PAD))
        cancelled = Cancelled(call(producer), at, how, cluster.release)
        async with asyncio.timeout(5):
            was_cancelled = await run_cancelled(cancelled)
            with pytest.raises(ProducerClosedError):
                await producer.send(TOPIC, b"late")
            cluster.release()
            assert await producer.close() == ()
            assert isinstance(await failure_of(waiting), ProducerClosedError)
        assert was_cancelled or not cancelled.was_reached
        assert [value.rstrip(b".") for value in values(cluster)] == [b"first", b"0", b"1"]
        assert producer.status()["state"] == "closed"
        return cancelled.was_reached


async def failure_of(waiting: asyncio.Future[Delivery]) -> BaseException | None:
    """Return the error that a call of `send` ended with."""
    await asyncio.wait([waiting])
    return waiting.exception()


@every_how
@pytest.mark.parametrize("brokers", [1, 3])
async def test_a_cancelled_start_leaves_no_connection_and_can_be_repeated(
    how: How, brokers: int
) -> None:
    at = 0
    is_over = False
    async with FakeCluster(brokers=brokers, topics={TOPIC: 1}) as cluster:
        while not is_over:
            producer: AnyProducer = Producer(bootstrap_servers=cluster.bootstrap_servers, **FAST)
            cancelled = Cancelled(producer.start(), at, how, lambda: None)
            async with asyncio.timeout(5):
                was_cancelled = await run_cancelled(cancelled)
                if was_cancelled:
                    assert producer.status()["state"] == "created"
                    await until(lambda: not any(cluster.connections.values()))
                await producer.start()
                await prove(producer)
                await producer.close()
                await until(lambda: not any(cluster.connections.values()))
            is_over = not cancelled.was_reached
            at += 1
    assert at > 1


@every_how
async def test_a_start_that_is_both_closed_and_cancelled_leaves_no_connection(how: How) -> None:
    at = 0
    is_over = False
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        while not is_over:
            producer: AnyProducer = Producer(bootstrap_servers=cluster.bootstrap_servers, **FAST)
            closing: list[asyncio.Future[Any]] = []

            def close(
                producer: AnyProducer = producer, closing: list[asyncio.Future[Any]] = closing
            ) -> None:
                closing.append(asyncio.ensure_future(producer.close()))

            async def starting(producer: AnyProducer = producer) -> None:
                with pytest.raises(ProducerClosedError):
                    await producer.start()

            cancelled = Cancelled(starting(), at, how, close)
            async with asyncio.timeout(5):
                await run_cancelled(cancelled)
                await asyncio.gather(*closing)
                await until(lambda: not any(cluster.connections.values()))
            is_over = not cancelled.was_reached
            at += 1
    assert at > 1


@every_how
async def test_a_block_cancelled_anywhere_closes_what_it_opened(how: How) -> None:
    at = 0
    is_over = False
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        while not is_over:
            producer: AnyProducer = Producer(bootstrap_servers=cluster.bootstrap_servers, **FAST)

            async def block(producer: AnyProducer = producer) -> None:
                async with producer:
                    await producer.send_and_wait(TOPIC, b"42")

            cancelled = Cancelled(block(), at, how, lambda: None)
            async with asyncio.timeout(5):
                await run_cancelled(cancelled)
                if producer.status()["state"] != "created":
                    assert await producer.close(5) == ()
                    expect_nothing_left(producer)
                await until(lambda: not any(cluster.connections.values()))
            is_over = not cancelled.was_reached
            at += 1
    assert at > 3


# ---- cancelled before the first step


@pytest.mark.parametrize("timeout", [None, 10.0])
async def test_a_send_and_wait_cancelled_before_its_first_step_is_withdrawn(
    timeout: float | None,
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, full(cluster) as producer:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            task = asyncio.ensure_future(
                producer.send_and_wait(TOPIC, b"own" + PAD, timeout=timeout)
            )
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert producer.metrics()["waiting_callers"] == 0
            cluster.release()
            await producer.flush()
            del task
        assert b"own" + PAD not in values(cluster)


async def test_a_send_and_wait_cancelled_with_its_task_not_run_yet_is_not_admitted() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, full(cluster) as producer:
        tasks = [
            asyncio.ensure_future(producer.send_and_wait(TOPIC, b"%d" % number + PAD))
            for number in range(2, 6)
        ]
        tasks[1].cancel()
        tasks[2].cancel()
        await asyncio.wait(tasks[1:3])
        cluster.release()
        await asyncio.wait(tasks)
        assert [value.rstrip(b".") for value in values(cluster)] == [
            b"first", b"0", b"1", b"2", b"5",
        ]  # fmt: skip


async def test_a_send_and_wait_that_is_never_awaited_is_withdrawn_with_a_warning() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, full(cluster) as producer:
        waiting = producer.send_and_wait(TOPIC, b"own" + PAD)
        with pytest.warns(RuntimeWarning, match="never awaited"):
            del waiting
        assert producer.metrics()["waiting_callers"] == 0
        cluster.release()


async def test_a_send_and_wait_closed_before_its_first_step_is_withdrawn() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, full(cluster) as producer:
        waiting = producer.send_and_wait(TOPIC, b"own" + PAD)
        assert isinstance(waiting, Coroutine)
        waiting.close()
        assert producer.metrics()["waiting_callers"] == 0
        cluster.release()


# ---- several who await the same delivery


async def test_a_task_that_swallowed_a_cancellation_goes_on_when_another_is_cancelled() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        delivery = producer.send_nowait(TOPIC, b"42")
        has_swallowed = asyncio.Event()

        async def stubborn() -> RecordMetadata:
            try:
                return await delivery
            except asyncio.CancelledError:
                has_swallowed.set()
            metadata: RecordMetadata = await delivery
            return metadata

        async def other() -> None:
            await delivery

        staying = asyncio.ensure_future(stubborn())
        await asyncio.sleep(0)
        staying.cancel()
        await has_swallowed.wait()
        leaving = asyncio.ensure_future(other())
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled()
        await asyncio.sleep(0)
        assert not staying.done()
        cluster.release()
        assert (await staying).offset == 1


async def test_a_task_that_swallowed_a_cancellation_can_be_cancelled_again() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        delivery = producer.send_nowait(TOPIC, b"42")

        async def stubborn() -> None:
            try:
                await delivery
            except asyncio.CancelledError:
                await delivery

        async def other() -> RecordMetadata:
            metadata: RecordMetadata = await delivery
            return metadata

        for is_first in (True, False):
            leaving = asyncio.ensure_future(stubborn())
            staying = asyncio.ensure_future(other())
            if not is_first:
                # The one who stays was there before.
                await asyncio.sleep(0)
                leaving, staying = asyncio.ensure_future(stubborn()), staying
            for _ in range(2):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                leaving.cancel()
            await asyncio.wait([leaving])
            assert leaving.cancelled()
            assert not staying.done()
        cluster.release()
        assert (await staying).offset == 1


# ---- what asyncio cancels by itself


@pytest.mark.parametrize("has_run", [True, False], ids=["waiting", "not run yet"])
async def test_a_failing_task_group_withdraws_its_waiting_records_alone(has_run: bool) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, full(cluster) as producer:
        before = asyncio.ensure_future(producer.send(TOPIC, b"before" + PAD))
        with pytest.raises(ExceptionGroup, match="unhandled"):
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(producer.send_and_wait(TOPIC, b"own" + PAD))
                if has_run:
                    await asyncio.sleep(0)
                raise RuntimeError("mine")
        assert producer.metrics()["waiting_callers"] == 1
        cluster.release()
        await (await before)
        assert [value.rstrip(b".") for value in values(cluster)] == [
            b"first", b"0", b"1", b"before",
        ]  # fmt: skip


async def test_a_gather_with_one_failing_record_leaves_the_others_on_their_way() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        for partition in (0, 1):
            await prove(producer, partition)
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION, partition=0)
        deliveries = [
            producer.send_nowait(TOPIC, b"%d" % number, partition=number % 2) for number in range(4)
        ]
        with pytest.raises(KafkaError):
            await asyncio.gather(*deliveries)
        await producer.flush()
        outcomes = [delivery.exception() is None for delivery in deliveries]
        assert outcomes == [False, True, True, True]


async def test_a_timeout_withdraws_a_record_without_buffer_space_but_not_an_accepted_one() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, full(cluster) as producer:
        for timed in (asyncio.timeout(0), asyncio.timeout(0.005)):
            with pytest.raises(TimeoutError):
                async with timed:
                    await producer.send_and_wait(TOPIC, b"own" + PAD)
        with pytest.raises(KafkaTimeoutError):
            await producer.send_and_wait(TOPIC, b"own" + PAD, timeout=0)
        assert producer.metrics()["waiting_callers"] == 0
        cluster.release()
        await producer.flush()
        cluster.hang("produce")
        delivery: Delivery = await producer.send(TOPIC, b"accepted")
        for timed in (asyncio.timeout(0), asyncio.timeout(0.005)):
            with pytest.raises(TimeoutError):
                async with timed:
                    await delivery
        cluster.release()
        assert (await delivery).offset == 3
        assert [value.rstrip(b".") for value in values(cluster)] == [
            b"first", b"0", b"1", b"accepted",
        ]  # fmt: skip


async def test_a_loop_that_ends_with_records_on_their_way_leaves_a_clear_error() -> None:
    """As `asyncio.run` does it: every task is cancelled, the producer's own too."""
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer: AnyProducer = Producer(bootstrap_servers=cluster.bootstrap_servers, **FAST)
        own = asyncio.all_tasks()
        await producer.start()
        await prove(producer)
        cluster.hang("produce")
        delivery = producer.send_nowait(TOPIC, b"42")
        waiting = asyncio.ensure_future(producer.send_and_wait(TOPIC, b"43"))
        await cluster.received("produce", 2)
        ending = asyncio.all_tasks() - own
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        assert waiting.cancelled()
        async with asyncio.timeout(5):
            undelivered = await producer.close(0)
        assert [entry.record.value for entry in undelivered] == [b"42", b"43"]
        assert isinstance(await failure(delivery), ProducerClosedError)
        cluster.release()
