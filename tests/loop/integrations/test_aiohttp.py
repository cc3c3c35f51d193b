"""An aiohttp application with a producer, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientPayloadError, WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from aioproducer import (
    BufferExhaustedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    Producer,
    ProducerClosedError,
)
from aioproducer.integrations.aiohttp import (
    PRODUCER,
    get_producer,
    kafka_error_middleware,
    producer_ctx,
    readiness_handler,
)
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import TOPIC, until, values
from tests.support.web import config_for

AUDIT = web.AppKey("audit", Producer[Any, Any])


async def pay(request: web.Request) -> web.Response:
    stored = await get_producer(request).send_and_wait(TOPIC, await request.read(), timeout=2)
    return web.json_response({"offset": stored.offset})


def make_app(source: Any, **options: Any) -> web.Application:
    app = web.Application(middlewares=[kafka_error_middleware])
    app.cleanup_ctx.append(producer_ctx(source, **options))
    app.router.add_post("/payments", pay)
    app.router.add_get("/ready", readiness_handler())
    return app


@asynccontextmanager
async def client_of(
    app: web.Application,
) -> AsyncGenerator[TestClient[web.Request, web.Application]]:
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_the_producer_lives_as_long_as_the_application() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        app = make_app(config_for(cluster))
        async with client_of(app) as client:
            assert (await client.get("/ready")).status == 200
            answer = await client.post("/payments", data=b"42")
            assert await answer.json() == {"offset": 0}
        assert app[PRODUCER].status().state == "closed"
    assert values(cluster) == [b"42"]


async def test_an_application_whose_brokers_do_not_answer_does_not_come_up() -> None:
    async with FakeCluster() as cluster:
        cluster.refuse(0)
        runner = web.AppRunner(make_app(config_for(cluster, max_block_ms=100)))
        with pytest.raises(KafkaConnectionError, match="connection refused"):
            await runner.setup()
        await runner.cleanup()


async def test_started_in_the_background_it_comes_up_and_is_ready_later() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.refuse(0)
        app = make_app(config_for(cluster, max_block_ms=200), start="background")
        async with client_of(app) as client:
            answer = await client.get("/ready")
            assert (answer.status, await answer.json()) == (503, {"status": "starting"})
            answer = await client.post("/payments", data=b"42")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            await cluster.accept(0)
            await until(lambda: app[PRODUCER].status().healthy)
            assert (await client.get("/ready")).status == 200


async def test_errors_are_what_http_has_for_them_and_name_no_broker() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with client_of(make_app(config_for(cluster, max_request_size=1_000))) as client:
            too_large = await client.post("/payments", data=b"3" * 6_000)
            cluster.fail_next("produce", ErrorCode.TOPIC_AUTHORIZATION_FAILED)
            denied = await client.post("/payments", data=b"4")
            text = await denied.text()
        assert too_large.status == 413
        assert too_large.content_type == "application/problem+json"
        assert denied.status == 500
        assert "127.0.0.1" not in text


def failing_app(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    """Return an application whose one route is not wrapped in a producer's life."""
    app = web.Application(middlewares=[kafka_error_middleware])
    app.router.add_get("/", handler)
    return app


async def download(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "400"})
    await response.prepare(request)
    await response.write(b"1" * 10)
    raise BufferExhaustedError


async def test_a_response_that_has_begun_is_cut_and_gets_no_second_one() -> None:
    async with client_of(failing_app(download)) as client:
        answer = await client.get("/")
        assert answer.status == 200
        with pytest.raises(ClientPayloadError) as caught:
            await answer.read()
    assert "10" in str(caught.value)


async def test_no_close_frame_goes_into_what_is_no_websocket_though_it_could_be_one() -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with client_of(failing_app(download)) as client:
        answer = await client.get("/", headers=upgrade)
        received = b""
        with pytest.raises(ClientPayloadError):
            async for chunk in answer.content.iter_any():
                received += chunk
    assert received == b"1" * 10


async def test_a_response_of_which_nothing_is_sent_yet_becomes_that_of_the_error() -> None:
    async def late(request: web.Request) -> web.StreamResponse:
        await web.Response(text="stored").prepare(request)
        raise BufferExhaustedError

    async with client_of(failing_app(late)) as client:
        assert (await client.get("/")).status == 503


async def test_the_middleware_can_be_tested_with_a_mocked_request() -> None:
    async def late(request: web.Request) -> web.StreamResponse:
        raise BufferExhaustedError

    answer = await kafka_error_middleware(make_mocked_request("GET", "/"), late)
    assert answer.status == 503


@pytest.mark.parametrize(
    ("error", "code"),
    [(BufferExhaustedError(), 1013), (KafkaTimeoutError("late", possibly_persisted=True), 1011)],
)
async def test_a_websocket_is_told_when_to_come_back(error: KafkaError, code: int) -> None:
    async def payments(request: web.Request) -> web.StreamResponse:
        session = web.WebSocketResponse()
        await session.prepare(request)
        await session.receive()
        raise error

    async with client_of(failing_app(payments)) as client, client.ws_connect("/") as session:
        await session.send_str("42")
        message = await session.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, code)


async def test_a_websocket_that_the_handler_has_closed_is_closed_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def payments(request: web.Request) -> web.StreamResponse:
        session = web.WebSocketResponse()
        await session.prepare(request)
        await session.close()
        raise ProducerClosedError

    async with client_of(failing_app(payments)) as client, client.ws_connect("/") as session:
        assert (await session.receive()).data == 1000
    assert [one.exc_info[0] for one in caplog.records if one.exc_info] == [ProducerClosedError]


async def test_a_sub_application_uses_the_producer_of_the_outer_one_beside_its_own() -> None:
    async with FakeCluster(topics={TOPIC: 1, "audit": 1}) as cluster:
        inner = web.Application()
        inner.cleanup_ctx.append(producer_ctx(config_for(cluster), key=AUDIT))

        async def pay_and_audit(request: web.Request) -> web.Response:
            await get_producer(request).send_and_wait(TOPIC, b"42")
            await get_producer(request, AUDIT).send_and_wait("audit", b"paid")
            return web.Response()

        inner.router.add_post("/payments", pay_and_audit)
        inner.router.add_get("/ready", readiness_handler(PRODUCER, AUDIT))
        app = make_app(config_for(cluster))
        app.add_subapp("/v1", inner)
        async with client_of(app) as client:
            assert (await client.post("/v1/payments")).status == 200
            assert (await client.get("/v1/ready")).status == 200
    assert (values(cluster), values(cluster, "audit")) == ([b"42"], [b"paid"])


async def test_an_application_without_a_producer_is_told_what_it_lacks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = web.Application()
    app.router.add_post("/payments", pay)
    async with client_of(app) as client:
        assert (await client.post("/payments")).status == 500
    assert "cleanup_ctx.append(producer_ctx(" in caplog.text


async def test_what_the_application_opens_later_ends_before_the_producer() -> None:
    states: list[str] = []

    async def own(app: web.Application) -> AsyncIterator[None]:
        states.append(app[PRODUCER].status().state)
        yield
        states.append(app[PRODUCER].status().state)

    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        app = make_app(config_for(cluster))
        app.cleanup_ctx.append(own)
        async with client_of(app):
            pass
    assert states == ["open", "open"]
