"""The examples without a real Kafka: against the FakeCluster, and what they answer in trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import httpx
import pytest
from aiohttp.test_utils import TestServer

from aioproducer import Producer
from aioproducer.testing import FakeCluster
from examples.aiohttp_app import make_app
from examples.card_payments import Audit, PaymentService, StoredRecord, audit
from tests.support.programs import run, serving


def environ(cluster: FakeCluster) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
        "KAFKA_BUFFER_MEMORY": "1000",
        "DRAIN_SECONDS": "0",
    }


App: TypeAlias = Callable[[FakeCluster], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def fastapi_app(cluster: FakeCluster) -> AsyncGenerator[str]:
    async with serving("examples.fastapi_app:app", **environ(cluster)) as url:
        yield url


@asynccontextmanager
async def litestar_app(cluster: FakeCluster) -> AsyncGenerator[str]:
    async with serving("examples.litestar_app:app", **environ(cluster)) as url:
        yield url


@asynccontextmanager
async def aiohttp_app(cluster: FakeCluster) -> AsyncGenerator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ(cluster).items():
            patch.setenv(name, value)
        async with TestServer(make_app()) as server:
            yield str(server.make_url(""))


@pytest.mark.parametrize("app", [fastapi_app, aiohttp_app, litestar_app])
async def test_a_payment_is_to_be_tried_again_only_where_it_cannot_be_stored_twice(
    app: App,
) -> None:
    async with FakeCluster() as cluster:
        async with app(cluster) as url, httpx.AsyncClient(base_url=url) as client:
            cluster.hang("produce", stored=True)
            paying = asyncio.create_task(client.post("/payments/card-1", content=b"1" * 600))
            await cluster.received("produce")
            without_room = await client.post("/payments/card-2", content=b"2" * 600)
            in_doubt = await paying
            cluster.release()
        assert without_room.status_code == 503
        assert without_room.headers["Retry-After"] == "5"
        assert in_doubt.status_code == 504
        assert "Retry-After" not in in_doubt.headers
        assert [one.value for one in cluster.records("payments")] == [b"1" * 600]


@pytest.mark.parametrize("app", [fastapi_app, aiohttp_app, litestar_app])
async def test_a_click_that_finds_no_buffer_space_is_answered_at_once(app: App) -> None:
    async with FakeCluster() as cluster:
        async with app(cluster) as url, httpx.AsyncClient(base_url=url) as client:
            cluster.hang("produce")
            answers = [await client.post("/clicks", content=b"x" * 600) for _ in range(2)]
            cluster.release()
        assert [answer.status_code for answer in answers] == [202, 503]
        assert answers[1].headers["Retry-After"] == "5"
        assert len(cluster.records("clicks")) == 1


@pytest.mark.parametrize("app", [fastapi_app, aiohttp_app, litestar_app])
async def test_an_application_is_ready_while_its_brokers_answer(app: App) -> None:
    async with (
        FakeCluster() as cluster,
        app(cluster) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        while (ready := await client.get("/ready")).status_code != 200:
            assert ready.json() == {"status": "starting"}
            await asyncio.sleep(0.01)
        assert ready.json() == {"status": "ready"}


async def test_card_payments_runs_without_a_real_kafka_and_says_so() -> None:
    options = ("--payments", "3000", "--rate", "1000")
    finished = await run("examples/card_payments.py", "--bootstrap-servers", "fake", *options)
    assert "No real Kafka" in finished.out
    assert "The promise was kept." in finished.out
    assert finished.code == 0


async def test_page_clicks_runs_without_a_real_kafka_and_says_so() -> None:
    finished = await run("examples/page_clicks.py", "--bootstrap-servers", "fake", "--pages", "300")
    assert "No real Kafka" in finished.out
    assert finished.code == 0


@pytest.mark.parametrize("example", ["card_payments", "page_clicks"])
def test_a_broker_that_is_not_there_is_no_traceback(example: str) -> None:
    finished = asyncio.run(run(f"examples/{example}.py", "--bootstrap-servers", "127.0.0.1:1"))
    assert finished.code == 1
    assert "127.0.0.1:1: connection refused" in finished.err
    assert "Traceback" not in finished.err


async def log_of_payments(cards: int) -> tuple[PaymentService, list[StoredRecord]]:
    """Return a service after some payments, and what they left in the log."""
    async with FakeCluster(topics={"payments": 1}) as cluster:
        producer: Producer[str, dict[str, str | int]] = Producer(
            bootstrap_servers=cluster.bootstrap_servers,
            key_serializer="string",
            value_serializer="json",
        )
        async with producer:
            service = PaymentService(producer, "payments", ["card-1"])
            for _ in range(cards):
                await service.pay()
    log = [
        StoredRecord(one.partition, one.offset, one.key, one.value)
        for one in cluster.records("payments")
    ]
    return service, log


async def test_the_audit_finds_nothing_wrong_in_a_log_as_it_was_acknowledged() -> None:
    service, log = await log_of_payments(5)
    assert audit(service, log) == Audit(acknowledged=5)
    assert audit(service, log).is_clean


async def test_the_audit_finds_a_lost_payment() -> None:
    service, log = await log_of_payments(5)
    found = audit(service, log[:-1])
    assert (found.lost, found.is_clean) == (1, False)


async def test_the_audit_finds_a_payment_stored_twice() -> None:
    service, log = await log_of_payments(5)
    found = audit(service, [*log, log[-1]._replace(offset=5)])
    assert (found.stored_twice, found.is_clean) == (1, False)


async def test_the_audit_finds_a_payment_out_of_order() -> None:
    service, log = await log_of_payments(5)
    found = audit(service, [log[0], log[2], log[1], *log[3:]])
    assert (found.out_of_order, found.is_clean) == (1, False)


async def test_the_audit_finds_a_wrong_offset() -> None:
    service, log = await log_of_payments(5)
    found = audit(service, [log[0]._replace(offset=17), *log[1:]])
    assert (found.wrong_offset_or_key, found.is_clean) == (1, False)


async def test_the_audit_looks_only_at_its_own_run() -> None:
    _, earlier = await log_of_payments(3)
    service, log = await log_of_payments(2)
    assert audit(service, [*earlier, *log]).is_clean
