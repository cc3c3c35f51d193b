"""Every way to send, under eager tasks (Python 3.12): the first step runs inside `create_task`.

A record is taken at the call, so under eager tasks too the order is that of the calls.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from aioproducer import Delivery, KafkaError, Producer, RecordMetadata
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import FAST, TOPIC, failure, producing, prove, values

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")

COUNT = 20


def eager_task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    """As `asyncio.eager_task_factory`, which in Python 3.13.0 refuses an option of uvloop's."""
    options["eager_start"] = True
    return asyncio.Task(work, loop=loop, **options)


@pytest_asyncio.fixture(autouse=True)
async def _eager_tasks() -> AsyncGenerator[None]:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(eager_task)
    yield
    loop.set_task_factory(None)


def numbered(count: int = COUNT) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@pytest.mark.parametrize("known", [True, False], ids=["known topic", "new topic"])
async def test_tasks_that_send_and_wait_keep_the_order_of_their_calls(known: bool) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        if known:
            await prove(producer)
        tasks = [asyncio.create_task(producer.send_and_wait(TOPIC, value)) for value in numbered()]
        stored = await asyncio.gather(*tasks)
        offsets = [metadata.offset for metadata in stored]
        assert offsets == list(range(known, COUNT + known))
        assert values(cluster)[known:] == numbered()


async def test_tasks_that_send_return_their_deliveries() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(producer.send(TOPIC, value)) for value in numbered()]
        deliveries: list[Delivery] = [task.result() for task in tasks]
        stored = await asyncio.gather(*deliveries)
        assert [metadata.offset for metadata in stored] == list(range(COUNT))


async def test_deliveries_of_plain_calls_are_awaited_by_tasks() -> None:
    async def wait_for(delivery: Delivery) -> RecordMetadata:
        return await delivery

    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        deliveries = [producer.send_nowait(TOPIC, value) for value in numbered()]
        stored = await asyncio.gather(*[asyncio.create_task(wait_for(one)) for one in deliveries])
        assert [metadata.offset for metadata in stored] == list(range(COUNT))
        # Now that all are done, a task ends within its creation.
        ended = asyncio.create_task(wait_for(deliveries[3]))
        assert ended.done()
        assert ended.result().offset == 3


async def test_tasks_that_send_many_get_their_own_results() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        tasks = [asyncio.create_task(producer.send_many(TOPIC, numbered())) for _ in range(3)]
        results = await asyncio.gather(*tasks)
        offsets = [metadata.offset for result in results for metadata in result]
        assert offsets == list(range(3 * COUNT))


async def test_a_task_may_send_from_its_callback() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        sent: list[asyncio.Task[RecordMetadata]] = []

        def again(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
            sent.append(asyncio.create_task(producer.send_and_wait(TOPIC, b"again")))

        await asyncio.create_task(producer.send(TOPIC, b"first", on_delivery=again))
        await producer.flush()
        assert [(await task).offset for task in sent] == [1]


async def test_tasks_that_wait_for_buffer_space_are_admitted_in_the_order_of_their_calls() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=2_000, batch_size=200) as producer,
    ):
        await prove(producer)
        payload = [value.ljust(150, b".") for value in numbered(60)]
        tasks = [asyncio.create_task(producer.send_and_wait(TOPIC, value)) for value in payload]
        await asyncio.gather(*tasks)
        assert values(cluster)[1:] == payload


async def test_a_task_that_is_cancelled_ends_its_wait_and_not_the_record() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        task = asyncio.create_task(producer.send_and_wait(TOPIC, b"42"))
        await cluster.received("produce", count=2)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await producer.send_and_wait(TOPIC, b"43")
        cluster.release()
        await producer.flush()
        assert values(cluster)[1:] == [b"42", b"43"]


async def test_a_record_that_is_refused_fails_its_own_task() -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        for partition in range(2):
            await prove(producer, partition)
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION, partition=0)
        tasks = [
            asyncio.create_task(producer.send_and_wait(TOPIC, b"x", partition=partition))
            for partition in range(2)
        ]
        refused, stored = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(refused, KafkaError)
        assert refused.name == "POLICY_VIOLATION"
        assert isinstance(stored, RecordMetadata)


async def test_tasks_may_start_flush_and_close_at_once() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer: Producer[Any, Any] = Producer(bootstrap_servers=cluster.bootstrap_servers, **FAST)
        await asyncio.gather(*[asyncio.create_task(producer.start()) for _ in range(3)])
        delivery = producer.send_nowait(TOPIC, b"42")
        await asyncio.gather(*[asyncio.create_task(producer.flush()) for _ in range(3)])
        assert (await delivery).offset == 0
        given_up = await asyncio.gather(*[asyncio.create_task(producer.close()) for _ in range(3)])
        assert [list(one) for one in given_up] == [[], [], []]
        cluster.expect_clean()


async def test_a_broker_without_producer_ids_fails_each_record_and_not_only_the_first() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}, max_versions={"init_producer_id": -1}) as cluster,
        producing(cluster) as producer,
    ):
        for _ in range(3):
            error = await failure(producer.send_nowait(TOPIC, b"42"))
            assert error.name == "UNSUPPORTED_VERSION"
