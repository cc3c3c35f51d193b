"""Work beside a request, and clients who hang up: the record goes on, and the log is quiet."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import Response, StreamingResponse

from aioproducer import KafkaError, KafkaTimeoutError
from aioproducer.integrations.fastapi import ProducerDep, kafka_error_handler, producer_lifespan
from aioproducer.testing import FakeCluster
from tests.support.producing import TOPIC, until, values
from tests.support.web import client_of, config_for

Next = Callable[[Request], Awaitable[Response]]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """See that nothing is logged, not even by the loop's exception handler."""
    with caplog.at_level(logging.WARNING):
        yield
    assert caplog.messages == []


async def passes(request: Request, call_next: Next) -> Response:
    return await call_next(request)


def make_app(cluster: FakeCluster) -> FastAPI:
    app = FastAPI(lifespan=producer_lifespan(config_for(cluster)))
    app.add_exception_handler(KafkaError, kafka_error_handler)

    @app.post("/after")
    async def after(tasks: BackgroundTasks, producer: ProducerDep) -> None:
        tasks.add_task(producer.send, TOPIC, b"send")
        tasks.add_task(producer.send_and_wait, TOPIC, b"send_and_wait")

    @app.post("/group")
    async def group(producer: ProducerDep) -> list[int]:
        async with asyncio.TaskGroup() as tasks:
            waits = [
                tasks.create_task(producer.send_and_wait(TOPIC, b"%d" % one)) for one in range(10)
            ]
        return [wait.result().offset for wait in waits]

    @app.post("/group-that-fails")
    async def group_that_fails(producer: ProducerDep) -> str:
        async def fails() -> None:
            await cluster.received("produce")
            raise LookupError

        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(producer.send_and_wait(TOPIC, b"goes on"))
                tasks.create_task(fails())
        return "failed"

    @app.post("/anyio")
    async def in_anyio(producer: ProducerDep) -> list[int]:
        offsets: list[int] = []

        async def send_one() -> None:
            stored = await producer.send_and_wait(TOPIC, b"42")
            offsets.append(stored.offset)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(send_one)
        return offsets

    @app.post("/anyio-deadline")
    async def anyio_deadline(producer: ProducerDep) -> bool:
        with anyio.move_on_after(0.05) as scope:
            await producer.send_and_wait(TOPIC, b"goes on")
        return scope.cancelled_caught

    @app.post("/waits")
    async def waits(request: Request, producer: ProducerDep) -> None:
        await producer.send_and_wait(TOPIC, await request.body())

    @app.post("/streams")
    async def streams(producer: ProducerDep) -> StreamingResponse:
        async def parts() -> AsyncGenerator[bytes]:
            for number in range(1_000_000):
                stored = await producer.send_and_wait(TOPIC, b"%d" % number)
                yield b"%d\n" % stored.offset

        return StreamingResponse(parts())

    return app


@asynccontextmanager
async def serving(app: Any) -> AsyncGenerator[httpx.AsyncClient]:
    failed: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: failed.append(context))
    async with client_of(app) as client:
        yield client
    assert failed == []


async def hang_up_on(client: httpx.AsyncClient, cluster: FakeCluster, path: str) -> None:
    """Send a request, and hang up when its record is on the way to the broker."""
    calling = asyncio.create_task(client.post(path, content=b"goes on"))
    await cluster.received("produce")
    calling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await calling


async def test_background_tasks_send_after_the_response() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with serving(make_app(cluster)) as client:
            assert (await client.post("/after")).status_code == 200
            await until(lambda: len(values(cluster)) == 2)
        assert values(cluster) == [b"send", b"send_and_wait"]


@pytest.mark.parametrize("path", ["/group", "/anyio"])
async def test_a_group_of_tasks_sends_side_by_side(path: str) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, serving(make_app(cluster)) as client:
        assert sorted((await client.post(path)).json()) == list(range(10))


@pytest.mark.parametrize("path", ["/group-that-fails", "/anyio-deadline"])
async def test_a_wait_that_its_group_or_scope_ends_leaves_the_record_going_on(path: str) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with serving(make_app(cluster)) as client:
            cluster.hang("produce")
            assert (await client.post(path)).status_code == 200
            cluster.release()
            await until(lambda: values(cluster))
        assert values(cluster) == [b"goes on"]


@pytest.mark.parametrize("middlewares", [0, 1, 3])
async def test_a_client_that_hangs_up_leaves_its_record_going_on(middlewares: int) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        app = make_app(cluster)
        for _ in range(middlewares):
            app.add_middleware(BaseHTTPMiddleware, dispatch=passes)
        async with serving(app) as client:
            cluster.hang("produce")
            await hang_up_on(client, cluster, "/waits")
            cluster.release()
            await until(lambda: values(cluster))
            assert (await client.post("/waits", content=b"next")).status_code == 200
        assert values(cluster) == [b"goes on", b"next"]


async def test_a_client_that_hangs_up_in_a_stream_ends_it_and_no_record_is_half_sent() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with serving(make_app(cluster)) as client:
            async with client.stream("POST", "/streams") as answer:
                async for _ in answer.aiter_lines():
                    if len(values(cluster)) > 10:
                        break
            ended = len(values(cluster))
            await client.post("/waits", content=b"last")
        stored = values(cluster)
        stored.remove(b"last")
        assert stored == [b"%d" % number for number in range(len(stored))]
        assert len(stored) < ended + 1_000


async def test_a_timeout_in_a_task_that_nobody_looks_at_is_not_logged_by_the_loop() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        app = make_app(cluster)

        @app.post("/forgets")
        async def forgets(producer: ProducerDep) -> None:
            with contextlib.suppress(KafkaTimeoutError):
                await producer.send_and_wait(TOPIC, b"goes on", timeout=0.01)

        async with serving(app) as client:
            cluster.hang("produce")
            assert (await client.post("/forgets")).status_code == 200
            cluster.release()
            await until(lambda: values(cluster))
