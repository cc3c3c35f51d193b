"""A Litestar application with a producer, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from litestar import Litestar, Request, Response, post

from aioproducer import KafkaConnectionError, KafkaError, Producer
from aioproducer.integrations.litestar import ProducerDep, ProducerPlugin
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import TOPIC, until, values
from tests.support.web import client_of, config_for, logging_kept


@pytest.fixture(autouse=True)
def _keeps_logging() -> Iterator[None]:
    with logging_kept():
        yield


@post("/payments")
async def pay(request: Request[Any, Any, Any], producer: ProducerDep) -> dict[str, int]:
    stored = await producer.send_and_wait(TOPIC, await request.body(), timeout=2)
    return {"offset": stored.offset}


def make_app(source: Any, **options: Any) -> Litestar:
    return Litestar([pay], plugins=[ProducerPlugin(source, readiness_path="/ready", **options)])


async def test_the_producer_lives_as_long_as_the_application() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        app = make_app(config_for(cluster))
        async with client_of(app) as client:
            answer = await client.get("/ready")
            assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
            answer = await client.post("/payments", content=b"42")
            assert answer.json() == {"offset": 0}
        producer: Producer[Any, Any] = app.state.producer
        assert producer.status().state == "closed"
    assert values(cluster) == [b"42"]


async def test_an_application_whose_brokers_do_not_answer_does_not_come_up() -> None:
    async with FakeCluster() as cluster:
        cluster.refuse(0)
        app = make_app(config_for(cluster, max_block_ms=100))
        refused = pytest.RaisesExc(KafkaConnectionError, match="connection refused")
        with pytest.RaisesGroup(refused, flatten_subgroups=True):
            async with app.lifespan():
                pass


async def test_started_in_the_background_it_comes_up_and_is_ready_later() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.refuse(0)
        app = make_app(config_for(cluster, max_block_ms=200), start="background")
        async with client_of(app) as client:
            assert (await client.get("/ready")).json() == {"status": "starting"}
            answer = await client.post("/payments", content=b"42")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            await cluster.accept(0)
            producer: Producer[Any, Any] = app.state.producer
            await until(lambda: producer.status().healthy)
            assert (await client.get("/ready")).status_code == 200


async def test_errors_are_what_http_has_for_them_and_name_no_broker() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with client_of(make_app(config_for(cluster, max_request_size=1_000))) as client:
            too_large = await client.post("/payments", content=b"3" * 6_000)
            cluster.fail_next("produce", ErrorCode.TOPIC_AUTHORIZATION_FAILED)
            denied = await client.post("/payments", content=b"4")
        assert too_large.status_code == 413
        assert too_large.headers["Content-Type"].startswith("application/problem+json")
        assert denied.status_code == 500
        assert "127.0.0.1" not in denied.text


async def test_a_handler_of_the_applications_own_is_kept() -> None:
    def own(request: Request[Any, Any, Any], error: KafkaError) -> Response[str]:
        return Response("own", status_code=418)

    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        plugin = ProducerPlugin(config_for(cluster, max_request_size=1_000))
        app = Litestar([pay], plugins=[plugin], exception_handlers={KafkaError: own})
        async with client_of(app) as client:
            answer = await client.post("/payments", content=b"3" * 6_000)
            assert (answer.status_code, answer.text) == (418, "own")


async def test_several_plugins_give_several_producers_and_own_lifespans_run_inside() -> None:
    states: list[str] = []

    @post("/audited")
    async def audited(producer: ProducerDep, audit: ProducerDep) -> None:
        await producer.send_and_wait(TOPIC, b"42")
        await audit.send_and_wait("audit", b"paid")

    @asynccontextmanager
    async def own(app: Litestar) -> AsyncGenerator[None]:
        states.append(app.state.producer.status().state)
        yield
        states.append(app.state.producer.status().state)

    async with FakeCluster(topics={TOPIC: 1, "audit": 1}) as cluster:
        config = config_for(cluster)
        plugins = [ProducerPlugin(config), ProducerPlugin(config, name="audit")]
        app = Litestar([audited], plugins=plugins, lifespan=[own])
        async with client_of(app) as client:
            assert (await client.post("/audited")).status_code == 201
    assert (values(cluster), values(cluster, "audit")) == ([b"42"], [b"paid"])
    assert states == ["open", "open"]
