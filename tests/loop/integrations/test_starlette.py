"""A Starlette or FastAPI application with a producer, over real HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi import Request as FastAPIRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from aioproducer import (
    BufferExhaustedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    Producer,
    ProducerConfig,
    ProducerNotStartedError,
)
from aioproducer.integrations import starlette
from aioproducer.integrations.fastapi import (
    ProducerDep,
    get_producer,
    kafka_error_handler,
    producer_lifespan,
    producer_named,
    readiness_endpoint,
    readiness_route,
)
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import TOPIC, producing, values
from tests.support.web import client_of, config_for


async def pay(request: Request) -> JSONResponse:
    producer = starlette.get_producer(request)
    stored = await producer.send_and_wait(TOPIC, await request.body(), timeout=2)
    return JSONResponse({"offset": stored.offset})


def starlette_app(source: Any, **options: Any) -> Starlette:
    return Starlette(
        routes=[Route("/payments", pay, methods=["POST"]), readiness_route()],
        lifespan=producer_lifespan(source, **options),
        exception_handlers={KafkaError: kafka_error_handler},
    )


def fastapi_app(source: Any, **options: Any) -> FastAPI:
    app = FastAPI(lifespan=producer_lifespan(source, **options))
    app.add_exception_handler(KafkaError, kafka_error_handler)
    app.add_api_route("/ready", readiness_endpoint(), include_in_schema=False)

    @app.post("/payments")
    async def pay(request: FastAPIRequest, producer: ProducerDep) -> dict[str, int]:
        stored = await producer.send_and_wait(TOPIC, await request.body(), timeout=2)
        return {"offset": stored.offset}

    return app


both = pytest.mark.parametrize("make", [starlette_app, fastapi_app])
Make = Callable[..., Any]


@both
async def test_the_producer_lives_as_long_as_the_application(make: Make) -> None:
    made: list[Producer[Any, Any]] = []

    def source() -> Producer[Any, Any]:
        made.append(Producer(config_for(cluster)))
        return made[-1]

    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        app = make(source)
        for offset in range(2):
            async with client_of(app) as client:
                answer = await client.post("/payments", content=b"42")
                assert answer.json() == {"offset": offset}
        assert [one.status().state for one in made] == ["closed", "closed"]
    assert values(cluster) == [b"42", b"42"]


@both
async def test_an_application_whose_brokers_do_not_answer_does_not_come_up(make: Make) -> None:
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    async with FakeCluster() as cluster:
        cluster.refuse(0)
        app = make(config_for(cluster, max_block_ms=100))
        with pytest.raises(KafkaConnectionError):
            await app({"type": "lifespan", "state": {}}, receive, send)
    (message,) = said
    assert message["type"] == "lifespan.startup.failed"
    assert "connection refused" in message["message"]


@both
async def test_started_in_the_background_it_comes_up_and_is_ready_later(make: Make) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.refuse(0)
        app = make(config_for(cluster, max_block_ms=200), start="background")
        async with client_of(app) as client:
            answer = await client.get("/ready")
            assert (answer.status_code, answer.json()) == (503, {"status": "starting"})
            answer = await client.post("/payments", content=b"42")
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "5"
            await cluster.accept(0)
            while (await client.get("/ready")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            assert (await client.post("/payments", content=b"42")).status_code == 200
    assert values(cluster) == [b"42"]


@both
async def test_errors_are_what_http_has_for_them_and_name_no_broker(make: Make) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        app = make(config_for(cluster, buffer_memory=5_000, max_block_ms=100))
        async with client_of(app) as client:
            too_large = await client.post("/payments", content=b"3" * 6_000)
            cluster.fail_next("produce", ErrorCode.INVALID_RECORD)
            invalid = await client.post("/payments", content=b"4")
            cluster.hang("produce", stored=True)
            paying = asyncio.create_task(client.post("/payments", content=b"1" * 4_000))
            await cluster.received("produce", 2)
            full = await client.post("/payments", content=b"2" * 4_000)
            unknown = await paying
            cluster.release()
        assert full.status_code == 503
        assert int(full.headers["Retry-After"]) >= 1
        assert unknown.status_code == 504
        assert "Retry-After" not in unknown.headers
        assert too_large.status_code == 413
        assert invalid.status_code == 422
        for answer in (full, unknown, too_large, invalid):
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["status"] == answer.status_code
            assert "127.0.0.1" not in answer.text


@both
async def test_a_missing_right_is_a_500_that_is_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.fail_next("produce", ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        async with client_of(make(config_for(cluster))) as client:
            answer = await client.post("/payments", content=b"42")
            assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert any(one.name == "uvicorn.error" and one.exc_info is not None for one in caplog.records)


Audit = Annotated[Producer[Any, Any], Depends(producer_named("audit"))]


class OwnState(TypedDict):
    events: list[str]


async def test_it_composes_with_the_users_own_lifespan_and_is_open_all_through_it() -> None:
    events: list[str] = []
    producers: list[Producer[Any, Any]] = []

    def source() -> Producer[Any, Any]:
        producers.append(Producer(config_for(cluster)))
        return producers[-1]

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncGenerator[OwnState]:
        assert isinstance(app, FastAPI)
        events.append(f"begins: {producers[0].status().state}")
        yield {"events": events}
        events.append(f"ends: {producers[0].status().state}")

    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        app = FastAPI(lifespan=producer_lifespan(source, lifespan=own))

        @app.post("/payments")
        async def pay(request: FastAPIRequest, producer: ProducerDep) -> None:
            request.state.events.append("serves")
            await producer.send_and_wait(TOPIC, b"42")

        async with client_of(app) as client:
            assert (await client.post("/payments")).status_code == 200
        assert events == ["begins: open", "serves", "ends: open"]
        assert producers[0].status().state == "closed"


async def test_several_producers_have_names_and_are_ready_together() -> None:
    async with FakeCluster(topics={TOPIC: 1, "audit": 1}) as cluster:
        config = config_for(cluster)
        app = FastAPI(
            lifespan=producer_lifespan(
                config.replace(client_id="audit"), name="audit", lifespan=producer_lifespan(config)
            )
        )
        app.add_api_route("/ready", readiness_endpoint("producer", "audit"))

        @app.post("/payments")
        async def pay(producer: ProducerDep, audit: Audit) -> list[str]:
            await producer.send(TOPIC, b"42")
            await audit.send("audit", b"paid")
            return [producer.config.client_id, audit.config.client_id]

        async with client_of(app) as client:
            assert (await client.get("/ready")).status_code == 200
            assert (await client.post("/payments")).json() == ["aioproducer", "audit"]
    assert values(cluster, "audit") == [b"paid"]


async def test_two_producers_of_one_name_are_refused() -> None:
    async with FakeCluster() as cluster:
        config = config_for(cluster)
        lifespan = producer_lifespan(config, lifespan=producer_lifespan(config))
        with pytest.raises(ValueError, match="another name"):
            async with lifespan(None):
                pass


async def test_a_mounted_application_uses_the_producer_of_the_outer_one() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        inner = FastAPI()

        @inner.post("/payments")
        async def pay(producer: ProducerDep) -> None:
            await producer.send_and_wait(TOPIC, b"42")

        outer = Starlette(
            routes=[Mount("/v1", inner)], lifespan=producer_lifespan(config_for(cluster))
        )
        async with client_of(outer) as client:
            assert (await client.post("/v1/payments")).status_code == 200
    assert values(cluster) == [b"42"]


def test_without_a_lifespan_the_error_says_what_to_do() -> None:
    client = TestClient(fastapi_app(ProducerConfig(bootstrap_servers="localhost:9092")))
    with pytest.raises(ProducerNotStartedError, match="as a context manager"):
        client.post("/payments", content=b"42")


async def test_the_dependency_costs_no_thread() -> None:
    # FastAPI runs dependencies that are plain functions in a pool of threads.
    app = FastAPI()

    @app.post("/payments")
    async def pay_twice(_producer: ProducerDep, _audit: Audit) -> None:
        pass

    producer = Producer[Any, Any](bootstrap_servers="localhost:9092")

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": {"producer": producer, "audit": producer}}, receive, send)

    before = set(threading.enumerate())
    transport = httpx.ASGITransport(with_state)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.post("/payments")).status_code == 200
    assert set(threading.enumerate()) <= before


async def test_a_dependency_override_gives_the_routes_another_producer() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster) as another,
    ):
        app = fastapi_app(ProducerConfig(bootstrap_servers="localhost:9092"))
        app.dependency_overrides[get_producer] = lambda: another
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.post("/payments", content=b"42")).status_code == 200
        assert values(cluster) == [b"42"]


def test_a_websocket_gets_the_producer_and_is_told_when_to_come_back() -> None:
    app = FastAPI()
    app.add_exception_handler(KafkaError, kafka_error_handler)
    asked: list[object] = []

    @app.websocket("/payments")
    async def payments(websocket: WebSocket, producer: ProducerDep) -> None:
        asked.append(producer)
        await websocket.accept()
        await websocket.receive_bytes()
        producer.send_nowait(TOPIC, b"42")

    class Full:
        def send_nowait(self, topic: str, value: bytes) -> None:
            raise errors.pop()

    errors: list[KafkaError] = [
        KafkaTimeoutError("late", possibly_persisted=True),
        BufferExhaustedError(),
    ]
    app.dependency_overrides[get_producer] = Full
    client = TestClient(app)
    for code in (1013, 1011):
        with client.websocket_connect("/payments") as session:
            session.send_bytes(b"42")
            with pytest.raises(WebSocketDisconnect) as raised:
                session.receive_bytes()
            assert raised.value.code == code


@pytest.mark.parametrize("who", ["the route", "the client", "the network"])
async def test_a_websocket_that_is_closed_already_ends_with_the_error_itself(who: str) -> None:
    received = iter(["connect", "disconnect"])
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": f"websocket.{next(received)}"}

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if who == "the network" and message["type"] == "websocket.close":
            raise ConnectionResetError

    websocket = WebSocket({"type": "websocket"}, receive, send)
    await websocket.accept()
    if who == "the route":
        await websocket.close()
    if who == "the client":
        await websocket.receive()
    with pytest.raises(BufferExhaustedError):
        await kafka_error_handler(websocket, BufferExhaustedError())
    assert sent.count("websocket.close") == (0 if who == "the client" else 1)


async def test_details_are_shown_where_they_are_asked_for() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        app = Starlette(
            routes=[readiness_route("/internal/ready", details=True)],
            lifespan=producer_lifespan(config_for(cluster)),
        )
        async with client_of(app) as client:
            answer = await client.get("/internal/ready")
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.json()["producers"][0]["state"] == "open"


@pytest.mark.parametrize("fail_fast", [False, True])
async def test_what_was_answered_503_during_an_outage_is_stored_once_when_sent_again(
    fail_fast: bool,
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        app = FastAPI(lifespan=producer_lifespan(config_for(cluster, fail_fast=fail_fast)))
        app.add_exception_handler(KafkaError, kafka_error_handler)
        app.add_api_route("/ready", readiness_endpoint(details=True))

        @app.post("/payments")
        async def pay(request: FastAPIRequest, producer: ProducerDep) -> None:
            await producer.send_and_wait(TOPIC, await request.body(), deadline=0.2)

        async with client_of(app) as client:
            assert (await client.post("/payments", content=b"before")).status_code == 200
            cluster.refuse(0)
            cluster.cut(0)
            statuses: set[int] = set()
            while "unreachable" not in (await client.get("/ready")).text:
                # The connection may have been lost with this one on it: a 504.
                await client.post("/payments", content=b"lost with the connection")
            for number in range(10):
                answer = await client.post("/payments", content=b"%d" % number)
                statuses.add(answer.status_code)
                assert answer.headers["Retry-After"] == "5"
            assert statuses == {503}
            await cluster.accept(0)
            while '"connected"' not in (await client.get("/ready")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            for number in range(10):
                answer = await client.post("/payments", content=b"%d" % number)
                assert answer.status_code == 200
        stored = [value for value in values(cluster) if value.isdigit()]
        assert stored == [b"%d" % number for number in range(10)]
