"""A task that exits the program when its record completes harms nobody else's.

On asyncio's own loop: uvloop takes the exit for a fault of the connection and closes that.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioproducer import Producer, RecordMetadata
from aioproducer.testing import FakeCluster
from tests.support.producing import FAST, TOPIC


async def exits(producer: Producer[Any, Any], partition: int) -> None:
    await producer.send_and_wait(TOPIC, b"42", partition=partition)
    raise SystemExit(3)


async def waits(producer: Producer[Any, Any], partition: int) -> RecordMetadata:
    return await producer.send_and_wait(TOPIC, b"42", partition=partition)


async def open_both() -> tuple[FakeCluster, Producer[Any, Any]]:
    cluster = FakeCluster(topics={TOPIC: 2})
    await cluster.start()
    producer: Producer[Any, Any] = Producer(bootstrap_servers=cluster.bootstrap_servers, **FAST)
    await producer.start()
    # Both partitions in one request: the topic must be known.
    await producer.send_many(TOPIC, [b"first"])
    return cluster, producer


def test_a_task_that_exits_does_not_stop_the_other_batches_of_a_response() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        cluster, producer = loop.run_until_complete(open_both())
        exiting = loop.create_task(exits(producer, 0))
        waiting = loop.create_task(waits(producer, 1))
        with pytest.raises(SystemExit):
            loop.run_until_complete(asyncio.wait([exiting, waiting]))
        metadata = loop.run_until_complete(asyncio.wait_for(waiting, 5))
        assert metadata.partition == 1
        with pytest.raises(SystemExit):
            exiting.result()
        assert loop.run_until_complete(producer.close(5)) == ()
        loop.run_until_complete(cluster.aclose())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
