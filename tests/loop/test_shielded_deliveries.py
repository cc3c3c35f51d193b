"""Deliveries under `asyncio.shield` and in the call graph, which Python 3.14 rewrote.

What `shield` cannot wait for itself it wraps in a task, whose error is reported to the loop where
the shield was cancelled, as for a coroutine. From 3.14 on asyncio notes which task waits for which
future.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import pytest

from aioproducer import Delivery, ProducerClosedError, RecordMetadata
from aioproducer.testing import FakeCluster
from tests.support.producing import TOPIC, producing, prove


async def shielded(delivery: Delivery) -> RecordMetadata:
    return await asyncio.shield(delivery)


async def test_a_shielded_delivery_gives_its_result_to_several() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        delivery = producer.send_nowait(TOPIC, b"42")
        stored = await asyncio.gather(*[shielded(delivery) for _ in range(3)])
        assert {metadata.offset for metadata in stored} == {0}


async def test_the_error_of_a_delivery_whose_shield_was_cancelled_is_reported_once() -> None:
    reported: list[Exception] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: reported.append(context["exception"])
    )
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        delivery = producer.send_nowait(TOPIC, b"42")
        task = asyncio.create_task(shielded(delivery))
        await cluster.received("produce", count=2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await producer.close(0)
        with pytest.raises(ProducerClosedError):
            await delivery
    gc.collect()
    assert [type(error) for error in reported] == [ProducerClosedError]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the call graph came with Python 3.14")
async def test_the_call_graph_of_a_task_that_waits_for_a_delivery_can_be_shown() -> None:
    show: Any = getattr(asyncio, "format_call_graph")  # noqa: B009
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        delivery = producer.send_nowait(TOPIC, b"42")
        for waits in (shielded(delivery), asyncio.wait_for(delivery, 5)):
            task = asyncio.create_task(waits)
            await asyncio.sleep(0)
            assert task.get_name() in show(task)
            await task
