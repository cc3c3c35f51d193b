"""`producer.from_thread`: plain calls in other threads, with the promises of `send`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import pytest

from aioproducer import (
    BufferExhaustedError,
    InvalidPartitionError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    Producer,
    ProducerClosedError,
    ProducerNotStartedError,
    ProducerRecord,
    RecordMetadata,
    RecordTooLargeError,
    SerializationError,
    Topic,
    WrongEventLoopError,
)
from aioproducer.errors import InvalidRecordError, InvalidTimestampError, PolicyViolationError
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import TOPIC, fast, producing, prove, until, values
from tests.support.programs import run

T = TypeVar("T")
AnyProducer = Producer[Any, Any]
Metadata = Future[RecordMetadata]

in_thread = asyncio.to_thread


def while_the_loop_is_held(function: Callable[[], T]) -> T:
    """Call a function in a thread, while this one, and so the loop, does nothing else."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(10)


def send_all(producer: AnyProducer, texts: Iterable[bytes], **how: Any) -> list[Metadata]:
    return [producer.from_thread.send(TOPIC, text, **how) for text in texts]


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


# ---- the future


async def test_a_record_is_stored_and_its_future_has_the_metadata() -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:

        def work() -> RecordMetadata:
            future = producer.from_thread.send(
                TOPIC, b"42", key=b"k", partition=1, headers=[("to", b"x")], timestamp_ms=1_000
            )
            assert isinstance(future, concurrent.futures.Future)
            return future.result(timeout=5)

        stored = await in_thread(work)
        (record,) = cluster.records(TOPIC)
    assert stored == RecordMetadata(TOPIC, 1, 0, 1_000, False)
    assert (record.key, record.value, record.headers) == (b"k", b"42", (("to", b"x"),))


async def test_a_producer_record_is_sent_from_a_thread() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        record = ProducerRecord[Any, Any](TOPIC, b"42", b"k")
        future = await in_thread(producer.from_thread.send, record)
        assert (await asyncio.wrap_future(future)).offset == 0


async def test_the_tools_of_concurrent_futures_take_the_futures() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:

        def work() -> None:
            futures = send_all(producer, numbers(100))
            done, pending = concurrent.futures.wait(futures, timeout=5)
            assert (len(done), len(pending)) == (100, 0)
            completed = concurrent.futures.as_completed(send_all(producer, numbers(100)), timeout=5)
            assert sorted(future.result().offset for future in completed) == list(range(100, 200))
            assert {future.exception() for future in futures} == {None}

        await in_thread(work)


async def test_asyncio_wraps_a_future_in_the_producers_loop_and_in_another_one() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:

        async def other_loop() -> int:
            stored = await asyncio.wrap_future(producer.from_thread.send(TOPIC, b"42"))
            return stored.offset

        assert await in_thread(asyncio.run, other_loop()) == 0
        (future,) = await in_thread(send_all, producer, [b"43"])
        assert (await asyncio.wrap_future(future)).offset == 1


async def test_a_callback_is_called_once_in_the_loops_thread() -> None:
    called: list[tuple[Metadata, int]] = []
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:

        def note(future: Metadata) -> None:
            called.append((future, threading.get_ident()))

        def work() -> Metadata:
            future = producer.from_thread.send(TOPIC, b"42")
            future.add_done_callback(note)
            return future

        future = while_the_loop_is_held(work)
        await until(lambda: called)
        assert called == [(future, threading.get_ident())]
        future.add_done_callback(note)
        assert len(called) == 2


async def test_a_callback_that_raises_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    called: list[Metadata] = []

    def fail(_: Metadata) -> None:
        raise LookupError("of the callback")

    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:

        def work() -> None:
            futures = send_all(producer, numbers(3))
            futures[0].add_done_callback(fail)
            futures[1].add_done_callback(called.append)

        while_the_loop_is_held(work)
        await until(lambda: called)
    assert "of the callback" in caplog.text


async def test_a_record_that_was_handed_over_cannot_be_withdrawn() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.hang("produce")
        (future,) = await in_thread(send_all, producer, [b"42"])
        assert not future.cancel()
        assert (future.cancelled(), future.running(), future.done()) == (False, True, False)
        wrapped = asyncio.wrap_future(future)
        wrapped.cancel()
        cluster.release()
        assert (await in_thread(future.result, 5)).offset == 0
        assert (future.cancelled(), future.running(), future.done()) == (False, False, True)


async def test_a_wait_that_is_over_leaves_the_record_on_its_way() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.hang("produce")
        (future,) = await in_thread(send_all, producer, [b"42"])
        for wait in (future.result, future.exception):
            with pytest.raises(TimeoutError):
                await in_thread(wait, 0.01)
        cluster.release()
        assert (await in_thread(future.result, 5)).offset == 0


async def test_a_future_says_what_became_of_its_record() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        (failed,) = while_the_loop_is_held(lambda: send_all(producer, [b"secret"]))
        assert repr(failed) == f"<DeliveryFuture {TOPIC} pending>"
        with pytest.raises(PolicyViolationError):
            await in_thread(failed.result, 5)
        assert repr(failed) == f"<DeliveryFuture {TOPIC} failed PolicyViolationError>"
        first, second = failed.exception(), failed.exception()
        assert first is not second
        assert isinstance(second, PolicyViolationError)


async def test_the_space_of_records_that_get_no_partition_goes_to_who_waits_for_it() -> None:
    def partitioner(topic: str, key: bytes | None, partitions: object, available: object) -> int:
        if key == b"bad":
            raise KeyError
        return 0

    options = fast(buffer_memory=20_000, partitioner=partitioner)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        futures = while_the_loop_is_held(lambda: send_all(producer, [bytes(900)] * 19, key=b"bad"))
        # They fill the buffer until they are taken, which comes after this call.
        await (await producer.send(TOPIC, bytes(2_000)))
        assert all(future.exception(0) is not None for future in futures)


async def test_a_dropped_future_is_freed_before_its_record_is_stored() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")

        def work() -> list[weakref.ref[Metadata]]:
            return [weakref.ref(future) for future in send_all(producer, numbers(10))]

        dropped = while_the_loop_is_held(work)
        await cluster.received("produce", 2)
        assert {future() for future in dropped} == {None}
        cluster.release()
        await producer.flush()
        assert len(values(cluster)) == 11


async def test_a_future_can_be_kept_by_its_callback_alone() -> None:
    called: list[int] = []
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:

        def work() -> None:
            future = producer.from_thread.send(TOPIC, b"42")
            future.add_done_callback(lambda future: called.append(future.result().offset))

        while_the_loop_is_held(work)
        gc.collect()
        await until(lambda: called)
    assert called == [0]


async def test_threads_that_wait_in_all_ways_get_every_outcome_once() -> None:
    threads, records = 4, 200
    called: list[int] = []

    def use(future: Metadata, way: int) -> int:
        match way % 5:
            case 0:
                return future.result(5).offset
            case 1:
                concurrent.futures.wait([future], 5)
                assert future.done()
            case 2:
                future.add_done_callback(lambda future: called.append(future.result().offset))
            case 3:
                with contextlib.suppress(TimeoutError):
                    future.result(0)
            case _:
                assert future.done() in (True, False)
        return -1

    async with FakeCluster(topics={TOPIC: 3}) as cluster, producing(cluster) as producer:

        def work(thread: int) -> list[int]:
            futures: list[Metadata] = []
            for n in range(records):
                futures.append(producer.from_thread.send(TOPIC, b"42", partition=n % 3))
                # Sometimes the record before it, which may have its outcome by now.
                offset = use(futures[-1 - n % 2], n + thread)
                assert offset >= -1
            return [future.result(5).offset for future in futures]

        found = await asyncio.gather(*(in_thread(work, thread) for thread in range(threads)))
        await producer.flush()
        stored = sorted((n % 3, offset) for each in found for n, offset in enumerate(each))
        expected = [(record.partition, record.offset) for record in cluster.records(TOPIC)]
        assert stored == sorted(expected)
        await until(lambda: len(called) == threads * records // 5)


# ---- order, batches


async def test_each_thread_keeps_its_order_while_the_buffer_is_full() -> None:
    threads, records = 4, 500
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, fast(buffer_memory=20_000, batch_size=2_000)) as producer,
    ):
        await asyncio.gather(
            *(
                in_thread(send_all, producer, [b"%d %d" % (thread, n) for n in range(records)])
                for thread in range(threads)
            )
        )
        await producer.flush()
        stored = [value.split() for value in values(cluster)]
    for thread in range(threads):
        assert [int(n) for owner, n in stored if int(owner) == thread] == list(range(records))


async def test_a_burst_of_calls_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        wake = type(producer.from_thread)._wake_loop  # pyright: ignore[reportPrivateUsage]
        wakes: list[int] = []

        def count(this: Any) -> None:
            wakes.append(len(wakes))
            wake(this)

        monkeypatch.setattr(type(producer.from_thread), "_wake_loop", count)
        while_the_loop_is_held(lambda: send_all(producer, numbers(20_000)))
        assert wakes == [0]
        await in_thread(producer.from_thread.flush, 10)
        assert len(values(cluster)) == 20_000


async def test_the_loop_takes_a_large_burst_in_several_turns() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        while_the_loop_is_held(lambda: send_all(producer, numbers(20_000)))
        await asyncio.sleep(0)
        assert producer.metrics()["record_accepted_total"] < 20_000
        await in_thread(producer.from_thread.flush, 10)
        assert values(cluster) == numbers(20_000)


async def test_futures_follow_their_records_through_splits_and_refusals() -> None:
    bad = {3, 70, 71}
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, compacted=True, message_max_bytes=1_000)
        async with producing(cluster) as producer:

            def work() -> list[BaseException | None]:
                futures = [
                    producer.from_thread.send(TOPIC, b"x" * 100, key=None if n in bad else b"k")
                    for n in range(100)
                ]
                return [future.exception(5) for future in futures]

            errors = await in_thread(work)
    assert {n for n, error in enumerate(errors) if error is not None} == bad
    assert {type(errors[n]) for n in bad} == {InvalidRecordError}


async def test_records_of_a_new_topic_are_followed_to_their_partitions() -> None:
    async with FakeCluster(topics={TOPIC: 3}) as cluster, producing(cluster) as producer:

        def work() -> list[tuple[int, int]]:
            futures = [
                producer.from_thread.send(TOPIC, b"%d" % n, partition=n % 3) for n in range(30)
            ]
            return [(future.result(5).partition, future.result(5).offset) for future in futures]

        found = await in_thread(work)
    assert found == [(n % 3, n // 3) for n in range(30)]


async def test_records_without_acknowledgement_are_done_when_they_are_written() -> None:
    options = fast(acks=0, enable_idempotence=False)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:

        def work() -> list[int]:
            return [future.result(5).offset for future in send_all(producer, numbers(10))]

        assert await in_thread(work) == [-1] * 10


# ---- errors of the call


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"topic": ".."}, InvalidTopicError),
        ({"topic": "no topic"}, InvalidTopicError),
        ({"topic": 42}, InvalidTopicError),
        ({"partition": 1}, InvalidPartitionError),
        ({"partition": -1}, InvalidPartitionError),
        ({"partition": True}, InvalidPartitionError),
        ({"timestamp_ms": -1}, InvalidTimestampError),
        ({"value": "text"}, SerializationError),
        ({"key": 42}, SerializationError),
        ({"headers": [("name", 42)]}, SerializationError),
        ({"value": bytes(5_000_000)}, RecordTooLargeError),
    ],
)
async def test_what_is_wrong_with_a_record_is_raised_at_the_call(
    how: dict[str, Any], error: type[KafkaError]
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        arguments: dict[str, Any] = {"topic": TOPIC, "value": b"42", **how}
        with pytest.raises(error):
            while_the_loop_is_held(lambda: producer.from_thread.send(**arguments))
        assert producer.metrics()["buffer_available_bytes"] == 33_554_432
        assert values(cluster) == [b"first"]


async def test_serializers_run_in_the_calling_thread() -> None:
    seen: list[int] = []

    def serialize(value: str) -> bytes:
        seen.append(threading.get_ident())
        return value.encode()

    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, value_serializer=serialize, key_serializer="string") as producer,
    ):

        def work() -> int:
            producer.from_thread.send(TOPIC, "42", key="k").result(5)
            return threading.get_ident()

        caller = await in_thread(work)
        assert seen == [caller]
        assert caller != threading.get_ident()
        assert values(cluster) == [b"42"]


async def test_what_only_the_loop_finds_out_fails_the_future() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        (future,) = while_the_loop_is_held(lambda: send_all(producer, [b"42"], partition=7))
        error = await in_thread(future.exception, 5)
        assert isinstance(error, InvalidPartitionError)


async def test_a_partitioner_that_raises_fails_the_future() -> None:
    def refuse(*_: object) -> int:
        raise LookupError

    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, partitioner=refuse) as producer,
    ):
        await prove(producer)
        (future,) = await in_thread(send_all, producer, [b"42"])
        error = await in_thread(future.exception, 5)
        assert isinstance(error, KafkaError)
        assert isinstance(error.__cause__, LookupError)


def test_a_partitioner_that_exits_fails_its_own_record_and_the_loop_takes_the_others() -> None:
    def exit_at_once(
        _topic: str, key: bytes | None, partitions: Sequence[int], _: Sequence[int]
    ) -> int:
        if key == b"exit":
            raise SystemExit
        return partitions[0]

    async def begin() -> tuple[AnyProducer, FakeCluster]:
        cluster = await stack.enter_async_context(FakeCluster(topics={TOPIC: 1}))
        options = fast(partitioner=exit_at_once)
        producer = await stack.enter_async_context(producing(cluster, options))
        await prove(producer)
        return producer, cluster

    async def hand_over() -> None:
        futures.extend(
            while_the_loop_is_held(
                lambda: [
                    *send_all(producer, [b"42"], key=b"exit"),
                    *send_all(producer, [b"43"], key=b"other"),
                ]
            )
        )
        await asyncio.sleep(5)

    async def end() -> None:
        assert await in_thread(futures[1].exception, 5) is None
        await stack.aclose()

    futures: list[Metadata] = []
    stack = contextlib.AsyncExitStack()
    with asyncio.Runner() as runner:
        producer, cluster = runner.run(begin())
        with pytest.raises(SystemExit):
            runner.run(hand_over())
        runner.run(end())
    assert "The partitioner raised SystemExit" in str(futures[0].exception())
    assert values(cluster) == [b"first", b"43"]


# ---- buffer space


async def test_what_was_handed_over_counts_as_buffered() -> None:
    options = fast(buffer_memory=50_000, max_block_ms=100)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        futures: list[Metadata] = []

        def fill() -> float:
            began_at = time.monotonic()
            with pytest.raises(BufferExhaustedError) as caught:
                while True:
                    futures.append(producer.from_thread.send(TOPIC, bytes(1_000)))
            error = caught.value
            assert error.total_bytes == 50_000
            assert error.requested_bytes > error.available_bytes
            assert not error.possibly_persisted
            return time.monotonic() - began_at

        spent = while_the_loop_is_held(fill)
        assert spent >= 0.1
        assert 40 <= len(futures) <= 50
        assert 0 <= producer.metrics()["buffer_available_bytes"] < 1_200
        await in_thread(producer.from_thread.flush, 5)
        assert {future.exception() for future in futures} == {None}
        assert len(values(cluster)) == 1 + len(futures)


async def test_a_call_waits_for_buffer_space_and_goes_on_when_there_is_some() -> None:
    options = fast(buffer_memory=20_000, batch_size=5_000)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        cluster.hang("produce")
        sending = asyncio.create_task(in_thread(send_all, producer, [bytes(1_000)] * 40))
        await until(lambda: producer.metrics()["waiting_callers"])
        assert not sending.done()
        cluster.release()
        futures = await sending
        await in_thread(producer.from_thread.flush, 5)
        assert [future.result().offset for future in futures] == list(range(1, 41))


async def test_a_call_that_finds_no_space_in_time_says_what_the_buffer_is_full_of() -> None:
    options = fast(buffer_memory=20_000, batch_size=5_000, max_block_ms=200)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        cluster.hang("produce")
        with pytest.raises(BufferExhaustedError, match="in flight") as caught:
            await in_thread(send_all, producer, [bytes(1_000)] * 40)
        assert caught.value.waited >= 0.2
        cluster.release()


async def test_a_thread_waits_behind_the_callers_who_came_before() -> None:
    options = fast(buffer_memory=20_000, batch_size=5_000)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        cluster.hang("produce")
        with contextlib.suppress(BufferExhaustedError):
            while True:
                producer.send_nowait(TOPIC, b"full" + bytes(1_000))
        before = asyncio.create_task(producer.send(TOPIC, b"before" + bytes(1_000)))
        await until(lambda: producer.metrics()["waiting_callers"] == 1)
        sending = asyncio.create_task(in_thread(send_all, producer, [b"thread"]))
        await until(lambda: producer.metrics()["waiting_callers"] == 2)
        cluster.release()
        await before
        await asyncio.wrap_future((await sending)[0])
        stored = [value.rstrip(b"\0") for value in values(cluster)]
    assert stored.index(b"thread") == stored.index(b"before") + 1


async def test_records_that_have_their_space_do_not_wait_for_a_caller_who_has_none() -> None:
    options = fast(buffer_memory=20_000)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        futures = while_the_loop_is_held(lambda: send_all(producer, [bytes(900)] * 19))
        # Before the loop takes them, it finds no space for a record of its own.
        delivery = await producer.send(TOPIC, b"of the loop" + bytes(2_000))
        assert (await delivery).offset == 20
        await in_thread(producer.from_thread.flush, 5)
        assert [future.result().offset for future in futures] == list(range(1, 20))


async def test_records_that_wait_for_a_share_hold_no_bytes_and_keep_their_order() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, fast(buffer_memory=20_000)) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        # More than the share of a broker; the small ones would fit when the large ones do not.
        texts = [b"%d " % n + bytes(10 if n % 3 == 2 else 1_000) for n in range(25)]
        futures = while_the_loop_is_held(lambda: send_all(producer, texts, partition=1))
        # What is left when the share is used up is too little for this.
        delivery = await producer.send(TOPIC, bytes(18_000), partition=0)
        assert (await delivery).offset == 1
        await in_thread(producer.from_thread.flush, 5)
        assert {future.exception() for future in futures} == {None}
        assert values(cluster, partition=1) == [b"first", *texts]


async def test_space_that_records_in_line_give_back_is_offered_to_others() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, fast(buffer_memory=20_000)) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        silent = cluster.leader(TOPIC, 1)
        cluster.freeze(silent)
        futures = while_the_loop_is_held(
            lambda: send_all(producer, [bytes(1_000)] * 17, partition=1)
        )
        delivery = await producer.send(TOPIC, bytes(3_000), partition=0)
        assert (await delivery).offset == 1
        assert producer.metrics()["waiting_callers"] > 0
        cluster.thaw(silent)
        await in_thread(producer.from_thread.flush, 5)
        assert [future.result().offset for future in futures] == list(range(1, 18))


# ---- the life of the producer


async def test_a_call_to_a_producer_that_is_not_open_is_refused() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer: AnyProducer = Producer(bootstrap_servers=cluster.bootstrap_servers)
        calls: list[Callable[[], object]] = [
            lambda: producer.from_thread.send(TOPIC, b"42"),
            lambda: producer.from_thread.flush(),
        ]
        for call in calls:
            with pytest.raises(ProducerNotStartedError):
                await in_thread(call)
        await producer.start()
        await prove(producer)
        await producer.close()
        for call in calls:
            with pytest.raises(ProducerClosedError):
                await in_thread(call)


async def test_a_call_in_the_loops_own_thread_says_what_to_call_there() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        with pytest.raises(WrongEventLoopError, match=r"producer.send\(.*send_nowait"):
            producer.from_thread.send(TOPIC, b"42")
        with pytest.raises(WrongEventLoopError, match=r"await producer.flush"):
            producer.from_thread.flush()
        (future,) = while_the_loop_is_held(lambda: send_all(producer, [b"42"]))
        with pytest.raises(WrongEventLoopError, match=r"asyncio.wrap_future"):
            future.result()
        assert await asyncio.wrap_future(future) == future.result()


async def test_other_calls_from_a_thread_say_that_there_is_from_thread() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        with pytest.raises(WrongEventLoopError, match=r"producer.from_thread.send"):
            await in_thread(producer.send_nowait, TOPIC, b"42")


async def test_what_was_handed_over_before_the_close_is_delivered() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        futures = while_the_loop_is_held(lambda: send_all(producer, numbers(10_000)))
        assert not await producer.close()
        assert [future.result().offset for future in futures] == list(range(10_000))


async def test_what_a_close_gives_up_fails_its_future() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        futures = while_the_loop_is_held(lambda: send_all(producer, numbers(100)))
        waiting = asyncio.create_task(in_thread(futures[0].exception, 5))
        undelivered = await producer.close(0)
        assert len(undelivered) == 100
        assert isinstance(await waiting, ProducerClosedError)
        assert {type(future.exception()) for future in futures} == {ProducerClosedError}
        cluster.release()


async def test_a_close_ends_the_wait_of_threads_for_buffer_space() -> None:
    options = fast(buffer_memory=20_000, max_block_ms=60_000)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        cluster.hang("produce")
        sending = asyncio.create_task(in_thread(send_all, producer, [bytes(1_000)] * 40))
        await until(lambda: producer.metrics()["waiting_callers"])
        await producer.close(0)
        with pytest.raises(ProducerClosedError):
            await sending
        cluster.release()


async def test_from_thread_is_the_same_for_all_threads() -> None:
    producer: AnyProducer = Producer(bootstrap_servers="localhost:9")
    barrier = threading.Barrier(4)

    def take() -> object:
        barrier.wait(5)
        return producer.from_thread

    taken = await asyncio.gather(*(in_thread(take) for _ in range(4)))
    assert set(taken) == {producer.from_thread}


# ---- flush


async def test_a_flush_waits_for_all_that_was_handed_over() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, fast(linger_ms=60_000, delivery_timeout_ms=120_000)) as producer,
    ):

        def work() -> bool:
            futures = send_all(producer, numbers(100))
            producer.from_thread.flush(5)
            return all(future.done() for future in futures)

        assert await in_thread(work)


async def test_a_flush_waits_for_records_that_wait_for_buffer_space() -> None:
    options = fast(buffer_memory=20_000, batch_size=5_000)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        cluster.hang("produce")
        # Handed over while there was space, which the loop's own records then take.
        futures = while_the_loop_is_held(lambda: send_all(producer, [bytes(1_000)] * 8))
        with contextlib.suppress(BufferExhaustedError):
            while True:
                producer.send_nowait(TOPIC, bytes(1_000))
        flushing = asyncio.create_task(in_thread(producer.from_thread.flush, 5))
        await cluster.received("produce", 2)
        assert not flushing.done()
        cluster.release()
        await flushing
        assert all(future.done() for future in futures)


async def test_a_flush_that_takes_too_long_leaves_the_records_on_their_way() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.hang("produce")
        futures = await in_thread(send_all, producer, [b"42"])
        with pytest.raises(KafkaTimeoutError, match="flush") as caught:
            await in_thread(producer.from_thread.flush, 0.05)
        assert caught.value.is_pending
        cluster.release()
        assert (await in_thread(futures[0].result, 5)).offset == 0


# ---- loops and processes that end


async def test_a_loop_that_is_closed_fails_who_waits_for_it() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        program = "-W", "ignore::ResourceWarning", "-m", "tests.support.lost_loop"
        finished = await run(*program, cluster.bootstrap_servers)
    assert finished.code == 0, finished.err
    said = json.loads(finished.out)
    assert [each.partition(":")[0] for each in said] == ["ProducerClosedError"] * 4
    assert all("loop of the producer was closed" in each for each in said)


async def test_a_loop_that_was_closed_before_it_took_a_record_refuses_the_next_ones() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        program = "-W", "ignore::ResourceWarning", "-m", "tests.support.lost_wake_up"
        finished = await run(*program, cluster.bootstrap_servers)
    assert finished.code == 0, finished.err
    said = json.loads(finished.out)
    assert said["accepted"] == "nothing"
    refused = [said["waiting"], *said["later"]]
    assert [each.partition(":")[0] for each in refused] == ["ProducerClosedError"] * 21
    assert all("loop of the producer was closed" in each for each in refused)
    assert said["kept"] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
async def test_the_child_of_a_fork_is_refused() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.hang("produce")
        (future,) = await in_thread(send_all, producer, [b"42"])

        def in_child(call: Callable[[], object]) -> str:
            try:
                call()
            except WrongEventLoopError as error:
                return str(error)
            return "accepted"

        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            said = [
                in_child(lambda: producer.from_thread.send(TOPIC, b"43")),
                in_child(lambda: producer.from_thread.flush()),
                in_child(lambda: future.result(1)),
            ]
            os.write(writer, json.dumps(said).encode())
            os._exit(0)
        os.close(writer)
        await in_thread(os.waitpid, child, 0)
        with os.fdopen(reader) as output:
            said = json.loads(output.read())
        assert len(said) == 3
        assert all("before this process was forked" in each for each in said)
        cluster.release()
        assert (await in_thread(future.result, 5)).offset == 0


async def test_a_shut_down_of_threads_and_loop_together_hangs_nobody() -> None:
    options = fast(buffer_memory=200_000)
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer: AnyProducer = Producer(bootstrap_servers=cluster.bootstrap_servers, **options)
        await producer.start()
        sent: list[Metadata] = []

        def send_until_refused() -> None:
            with contextlib.suppress(ProducerClosedError):
                while True:
                    sent.append(producer.from_thread.send(TOPIC, b"42"))

        sending = [asyncio.create_task(in_thread(send_until_refused)) for _ in range(3)]
        await cluster.received("produce", 3)
        await producer.close()
        await asyncio.gather(*sending)
        stored = sum(future.exception(5) is None for future in sent)
        assert stored == len(values(cluster)) == len(sent)


# ---- deadlines


async def test_a_record_that_is_not_sent_by_its_deadline_is_never_sent() -> None:
    options = fast(max_in_flight_requests_per_connection=1)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        cluster.hang("produce")
        (first,) = await in_thread(send_all, producer, [b"in flight"])
        await cluster.received("produce", 2)
        (late,) = await in_thread(lambda: send_all(producer, [b"late"], deadline=0.02))
        error = await in_thread(late.exception, 5)
        assert isinstance(error, KafkaTimeoutError)
        assert error.safe_to_resend
        cluster.release()
        assert (await in_thread(first.result, 5)).offset == 1
        await producer.flush()
        assert values(cluster) == [b"first", b"in flight"]


async def test_a_deadline_ends_the_wait_for_buffer_space() -> None:
    options = fast(buffer_memory=20_000, batch_size=5_000, max_block_ms=60_000)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        cluster.hang("produce")
        with contextlib.suppress(BufferExhaustedError):
            while True:
                producer.send_nowait(TOPIC, bytes(1_000))
        with pytest.raises(BufferExhaustedError, match="deadline of the call"):
            await in_thread(lambda: send_all(producer, [bytes(1_000)], deadline=0.02))
        assert producer.metrics()["waiting_callers"] == 0
        cluster.release()


async def test_a_record_that_its_thread_has_given_up_is_not_accepted_later() -> None:
    options = fast(buffer_memory=20_000, batch_size=5_000, max_block_ms=200)
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, options) as producer:
        await prove(producer)
        cluster.hang("produce")
        with contextlib.suppress(BufferExhaustedError):
            while True:
                producer.send_nowait(TOPIC, bytes(1_000))
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send_all, producer, [b"given up" + bytes(1_000)])
            await until(lambda: producer.metrics()["waiting_callers"])
            cluster.release()
            # This holds the loop until the thread gives up. Then the loop finds space.
            with pytest.raises(BufferExhaustedError):
                sending.result(10)
        await producer.flush()
        assert not [value for value in values(cluster) if value.startswith(b"given up")]


@pytest.mark.parametrize("deadline", [0, -1, "soon"])
async def test_a_deadline_that_is_none_is_refused(deadline: Any) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        with pytest.raises(ValueError, match="deadline"):
            await in_thread(lambda: send_all(producer, [b"42"], deadline=deadline))


async def test_a_typed_topic_brings_its_serializers_along() -> None:
    orders = Topic("payments", key=str, value=dict[str, int])
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        future = await in_thread(
            producer.from_thread.send, orders, {"books": 2}, key="c-1", headers={"h": b"x"}
        )
        await asyncio.wrap_future(future)
        (record,) = cluster.records(TOPIC)
        assert (record.key, record.value) == (b"c-1", b'{"books":2}')
        wrong: Any = b"bytes"
        with pytest.raises(SerializationError, match="dict"):
            await in_thread(producer.from_thread.send, orders, wrong)
