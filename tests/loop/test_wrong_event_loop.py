"""A producer belongs to the loop that started it.

Every call from another one is refused, in every state, and stores nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from aioproducer import Producer, WrongEventLoopError
from aioproducer.testing import FakeCluster
from tests.conftest import LOOPS
from tests.support.producing import TOPIC, prove, values

AnyProducer = Producer[Any, Any]

CALLS: Final[dict[str, Callable[[AnyProducer], Any]]] = {
    "send": lambda producer: producer.send(TOPIC, b"other"),
    "send_nowait": lambda producer: producer.send_nowait(TOPIC, b"other"),
    "send_nowait, unknown topic": lambda producer: producer.send_nowait("new", b"other"),
    "send_and_wait": lambda producer: producer.send_and_wait(TOPIC, b"other"),
    "send_many": lambda producer: producer.send_many(TOPIC, [b"other"]),
    "flush": lambda producer: producer.flush(),
    "partitions_for": lambda producer: producer.partitions_for(TOPIC),
    "start": lambda producer: producer.start(),
    "close": lambda producer: producer.close(),
}


async def idle(producer: AnyProducer, cluster: FakeCluster) -> None:
    """Nothing is going on."""


async def records_wait_for_metadata(producer: AnyProducer, cluster: FakeCluster) -> None:
    cluster.hang("metadata")
    producer.send_nowait("new", b"own")


async def records_linger(producer: AnyProducer, cluster: FakeCluster) -> None:
    producer.send_nowait(TOPIC, b"own")


async def a_flush_is_under_way(producer: AnyProducer, cluster: FakeCluster) -> None:
    cluster.hang("produce")
    producer.send_nowait(TOPIC, b"own")
    flushing = asyncio.create_task(producer.flush())
    producer.flushing = flushing  # type: ignore[attr-defined]  # pyright: ignore
    await cluster.received("produce", 2)


async def the_buffer_is_full(producer: AnyProducer, cluster: FakeCluster) -> None:
    cluster.hang("produce")
    while producer.metrics()["buffer_available_bytes"] > 2_000:
        producer.send_nowait(TOPIC, b"x" * 1_000)


@pytest.fixture(params=list(LOOPS))
def loops(request: pytest.FixtureRequest) -> Iterator[tuple[asyncio.Runner, asyncio.Runner]]:
    factory = LOOPS[request.param]
    with asyncio.Runner(loop_factory=factory) as own, asyncio.Runner(loop_factory=factory) as other:
        yield own, other


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "state",
    [
        idle,
        records_wait_for_metadata,
        records_linger,
        a_flush_is_under_way,
        the_buffer_is_full,
    ],
)
def test_another_loop_is_refused(
    loops: tuple[asyncio.Runner, asyncio.Runner],
    state: Callable[[AnyProducer, FakeCluster], Any],
    call: Callable[[AnyProducer], Any],
) -> None:
    own, other = loops
    stack = AsyncExitStack()

    async def begin() -> tuple[AnyProducer, FakeCluster]:
        cluster = await stack.enter_async_context(FakeCluster(topics={TOPIC: 1}))
        producer: AnyProducer = Producer(
            bootstrap_servers=cluster.bootstrap_servers,
            buffer_memory=50_000,
            batch_size=16_000,
            linger_ms=60_000,
        )
        await stack.enter_async_context(producer)
        await asyncio.gather(prove(producer), producer.flush())
        await state(producer, cluster)
        return producer, cluster

    producer, cluster = own.run(begin())
    accepted = producer.metrics()["record_accepted_total"]

    async def use() -> None:
        with pytest.raises(WrongEventLoopError, match="one producer per loop"):
            result = call(producer)
            if not isinstance(result, asyncio.Future):
                await result

    other.run(use())

    async def end() -> None:
        cluster.release()
        assert producer.metrics()["record_accepted_total"] == accepted
        await stack.aclose()
        assert b"other" not in values(cluster)

    own.run(end())
