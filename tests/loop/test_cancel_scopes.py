"""Cancellation is the caller's: it ends exactly the wait that was cancelled, with its message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from aioproducer import Delivery, Producer, RecordMetadata
from aioproducer.testing import FakeCluster
from tests.support.producing import FAST, TOPIC, producing, prove

AnyProducer = Producer[Any, Any]


async def send_and_wait(producer: AnyProducer) -> None:
    await producer.send_and_wait(TOPIC, b"42")


async def send_and_wait_in_time(producer: AnyProducer) -> None:
    await producer.send_and_wait(TOPIC, b"42", timeout=60)


async def send_many(producer: AnyProducer) -> None:
    await producer.send_many(TOPIC, [b"42", b"43"])


async def delivery(producer: AnyProducer) -> None:
    await producer.send_nowait(TOPIC, b"42")


async def gather(producer: AnyProducer) -> None:
    await asyncio.gather(producer.send_nowait(TOPIC, b"42"), producer.send_nowait(TOPIC, b"43"))


async def gather_with_exceptions(producer: AnyProducer) -> None:
    await asyncio.gather(producer.send_nowait(TOPIC, b"42"), return_exceptions=True)


async def shield(producer: AnyProducer) -> None:
    await asyncio.shield(producer.send_nowait(TOPIC, b"42"))


async def wait_for(producer: AnyProducer) -> None:
    await asyncio.wait_for(producer.send_nowait(TOPIC, b"42"), 60)


async def flush(producer: AnyProducer) -> None:
    producer.send_nowait(TOPIC, b"42")
    await producer.flush()


WAITS: dict[str, Callable[[AnyProducer], Coroutine[Any, Any, None]]] = {
    each.__name__: each
    for each in (
        send_and_wait,
        send_and_wait_in_time,
        send_many,
        delivery,
        gather,
        gather_with_exceptions,
        shield,
        wait_for,
        flush,
    )
}
every_wait = pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)


@asynccontextmanager
async def unanswered() -> AsyncGenerator[AnyProducer, None]:
    """Open a producer whose records no broker answers for until the block is over."""
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        try:
            yield producer
        finally:
            cluster.clear_faults()
            cluster.release()


@every_wait
async def test_move_on_after_catches_its_own_cancellation(
    wait: Callable[[AnyProducer], Coroutine[Any, Any, None]],
) -> None:
    async with unanswered() as producer:
        with anyio.move_on_after(0.02) as scope:
            await wait(producer)
        assert scope.cancelled_caught


@every_wait
async def test_fail_after_raises_a_timeout(
    wait: Callable[[AnyProducer], Coroutine[Any, Any, None]],
) -> None:
    async with unanswered() as producer:
        with pytest.raises(TimeoutError), anyio.fail_after(0.02):
            await wait(producer)


@every_wait
async def test_a_task_group_ends_the_waits_of_the_others_when_one_fails(
    wait: Callable[[AnyProducer], Coroutine[Any, Any, None]],
) -> None:
    async def fails() -> None:
        await asyncio.sleep(0.02)
        raise ValueError("mine")

    async with unanswered() as producer:
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(wait, producer)
                group.start_soon(fails)
        assert [str(error) for error in caught.value.exceptions] == ["mine"]


@every_wait
async def test_the_message_of_a_cancellation_arrives(
    wait: Callable[[AnyProducer], Coroutine[Any, Any, None]],
) -> None:
    notified: list[tuple[object, ...]] = []

    async def waits(producer: AnyProducer) -> None:
        try:
            await wait(producer)
        except asyncio.CancelledError as error:
            notified.append(error.args)
            raise

    async with unanswered() as producer:
        task = asyncio.create_task(waits(producer))
        await asyncio.sleep(0.01)
        task.cancel("why")
        await asyncio.wait([task])
        assert task.cancelled()
        assert notified == [("why",)]


async def test_the_message_arrives_while_the_record_waits_for_buffer_space() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=1_000) as producer,
    ):
        await prove(producer)
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"x" * 800)
        for call in (producer.send, producer.send_and_wait):
            with anyio.move_on_after(0.01) as scope:
                await call(TOPIC, b"y" * 800)
            assert scope.cancelled_caught
        cluster.release()


async def test_start_and_close_can_be_given_up_by_a_scope() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.hang("api_versions")
        producer: AnyProducer = Producer(bootstrap_servers=cluster.bootstrap_servers, **FAST)
        with anyio.move_on_after(0.02) as scope:
            await producer.start()
        assert scope.cancelled_caught
        cluster.release()
        await producer.start()
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"42")
        with anyio.move_on_after(0.02) as scope:
            await producer.close()
        assert scope.cancelled_caught
        cluster.release()
        assert not await producer.close()


# ---- two who wait for one record

Other = Callable[[Delivery], Coroutine[Any, Any, RecordMetadata]]


async def awaits(delivery: Delivery) -> RecordMetadata:
    return await delivery


async def gathers(delivery: Delivery) -> RecordMetadata:
    (metadata,) = await asyncio.gather(delivery)
    return metadata


async def shields(delivery: Delivery) -> RecordMetadata:
    return await asyncio.shield(delivery)


async def waits_for(delivery: Delivery) -> RecordMetadata:
    return await asyncio.wait_for(delivery, 60)


async def is_called_back(delivery: Delivery) -> RecordMetadata:
    notified: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
    delivery.add_done_callback(notified.set_result)
    return (await notified).result()


OTHERS: dict[str, Other] = {
    each.__name__: each for each in (awaits, gathers, shields, waits_for, is_called_back)
}


@pytest.mark.parametrize("leaving", [awaits, gathers, shields, waits_for])
@pytest.mark.parametrize("staying", OTHERS.values(), ids=OTHERS)
async def test_the_end_of_one_wait_is_nothing_to_the_other(leaving: Other, staying: Other) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        delivery = producer.send_nowait(TOPIC, b"42")
        other = asyncio.create_task(staying(delivery))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await leaving(delivery)
        assert not other.done()
        cluster.release()
        assert (await other).offset == 1


@pytest.mark.parametrize("again", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("first", [awaits, gathers, shields, waits_for])
async def test_a_record_can_be_waited_for_again_after_a_timeout(first: Other, again: Other) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        delivery = producer.send_nowait(TOPIC, b"42")
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await first(delivery)
        waiting = asyncio.create_task(again(delivery))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        cluster.release()
        assert (await waiting).offset == 1
