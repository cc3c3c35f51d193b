"""After the event loop was blocked, what has arrived is read before anything times out.

The brokers run on a loop of their own, in a thread, and go on while the producer's loop is blocked.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aioproducer import Producer
from aioproducer.testing import FakeCluster
from tests.support.producing import FAST, TOPIC, fast

HELD = 0.5
"""Seconds for which the loop is held; what is bounded takes less, the broker far less."""


class ThreadedCluster:
    """A FakeCluster whose methods are called from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self._loop = loop

    async def call(self, function: Callable[..., Any], *args: object) -> None:
        async def there() -> None:
            result = function(*args)
            if asyncio.iscoroutine(result):
                await result

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), self._loop))


@asynccontextmanager
async def cluster_in_thread() -> AsyncGenerator[ThreadedCluster]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    threaded = ThreadedCluster(loop, FakeCluster(topics={TOPIC: 1}))
    await threaded.call(threaded.cluster.start)
    try:
        yield threaded
    finally:
        await threaded.call(threaded.cluster.aclose)
        loop.call_soon_threadsafe(loop.stop)
        while thread.is_alive():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        loop.close()


def hold_the_loop() -> None:
    """As an import, a debugger or a closed lid does."""
    until = time.monotonic() + HELD
    while time.monotonic() < until:
        pass


async def test_metadata_that_has_arrived_is_read_before_a_record_gives_up() -> None:
    async with cluster_in_thread() as threaded:
        await threaded.call(threaded.cluster.delay, "metadata", 0.05)
        options = fast(max_block_ms=200)
        async with Producer[bytes, bytes](
            bootstrap_servers=threaded.cluster.bootstrap_servers, **options
        ) as producer:
            delivery = producer.send_nowait(TOPIC, b"42")
            await asyncio.sleep(0.01)
            hold_the_loop()
            assert (await delivery).offset == 0


async def test_a_response_that_has_arrived_is_read_before_its_request_times_out() -> None:
    async with cluster_in_thread() as threaded:
        options = fast(request_timeout_ms=200, acks=1, enable_idempotence=False)
        async with Producer[bytes, bytes](
            bootstrap_servers=threaded.cluster.bootstrap_servers,
            **options,
        ) as producer:
            await producer.send_and_wait(TOPIC, b"first")
            await threaded.call(threaded.cluster.delay, "produce", 0.05)
            delivery = producer.send_nowait(TOPIC, b"42")
            await asyncio.sleep(0.01)
            hold_the_loop()
            assert (await delivery).offset == 1
            # The connection is the same one, and nothing was sent again.
            assert producer.metrics()["batch_retry_total"] == 0
            requests = await asyncio.to_thread(threaded.cluster.requests_of, "api_versions")
            assert len(requests) == 1


async def test_a_response_that_has_arrived_is_read_before_its_record_expires() -> None:
    async with cluster_in_thread() as threaded:
        options = fast(request_timeout_ms=200, delivery_timeout_ms=250)
        async with Producer[bytes, bytes](
            bootstrap_servers=threaded.cluster.bootstrap_servers, **options
        ) as producer:
            await producer.send_and_wait(TOPIC, b"first")
            await threaded.call(threaded.cluster.delay, "produce", 0.05)
            delivery = producer.send_nowait(TOPIC, b"42")
            await asyncio.sleep(0.01)
            hold_the_loop()
            assert (await delivery).offset == 1


async def test_a_response_that_has_arrived_is_read_before_the_timeout_of_a_call() -> None:
    async with (
        cluster_in_thread() as threaded,
        Producer[bytes, bytes](
            bootstrap_servers=threaded.cluster.bootstrap_servers, **FAST
        ) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"first")
        await threaded.call(threaded.cluster.delay, "produce", 0.05)
        sending = asyncio.create_task(producer.send_and_wait(TOPIC, b"42", timeout=0.2))
        await asyncio.sleep(0.01)
        hold_the_loop()
        assert (await sending).offset == 1


async def test_buffer_space_that_has_become_free_is_given_before_a_caller_gives_up() -> None:
    async with cluster_in_thread() as threaded:
        options = fast(max_block_ms=200, buffer_memory=1_000)
        async with Producer[bytes, bytes](
            bootstrap_servers=threaded.cluster.bootstrap_servers, **options
        ) as producer:
            await producer.send_and_wait(TOPIC, b"first")
            await threaded.call(threaded.cluster.delay, "produce", 0.05)
            producer.send_nowait(TOPIC, b"x" * 800)
            waiting = asyncio.create_task(producer.send_and_wait(TOPIC, b"y" * 800))
            await asyncio.sleep(0.01)
            hold_the_loop()
            assert (await waiting).offset == 2


async def test_partitions_that_have_arrived_are_returned() -> None:
    async with cluster_in_thread() as threaded:
        await threaded.call(threaded.cluster.delay, "metadata", 0.05)
        options = fast(max_block_ms=200)
        async with Producer[bytes, bytes](
            bootstrap_servers=threaded.cluster.bootstrap_servers, **options
        ) as producer:
            asking = asyncio.create_task(producer.partitions_for(TOPIC))
            await asyncio.sleep(0.01)
            hold_the_loop()
            assert await asking == (0,)
