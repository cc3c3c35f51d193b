"""The examples against a real Kafka: over real HTTP, or as the programs they are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import httpx
import pytest
from aiohttp.test_utils import TestServer

from examples.aiohttp_app import make_app
from tests.broker.helpers import new_topic_name
from tests.support.kafka import StoredRecord, consume
from tests.support.programs import run, serving
from tools.kafka import Kafka

App: TypeAlias = Callable[[Kafka], AbstractAsyncContextManager[str]]


def stored_where(kafka: Kafka, topic: str, place: Mapping[str, int]) -> StoredRecord:
    """Return the record at the place that a response names."""
    wanted = (place["partition"], place["offset"])
    (found,) = (one for one in consume(kafka, topic) if (one.partition, one.offset) == wanted)
    return found


@asynccontextmanager
async def fastapi_app(kafka: Kafka) -> AsyncGenerator[str]:
    async with serving(
        "examples.fastapi_app:app",
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
        DRAIN_SECONDS="0",
    ) as url:
        yield url


@asynccontextmanager
async def aiohttp_app(kafka: Kafka) -> AsyncGenerator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
        async with TestServer(make_app()) as server:
            yield str(server.make_url(""))


@pytest.mark.parametrize("app", [fastapi_app, aiohttp_app])
async def test_the_response_says_where_the_payment_is_stored(kafka: Kafka, app: App) -> None:
    async with app(kafka) as url, httpx.AsyncClient(base_url=url) as client:
        answers = await asyncio.gather(
            *(client.post(f"/payments/card-{one}", content=b"%d" % one) for one in range(20))
        )
    assert {answer.status_code for answer in answers} == {200}
    places = [answer.json() for answer in answers]
    for number in (0, 19):
        stored = stored_where(kafka, "payments", places[number])
        assert (stored.key, stored.value) == (b"card-%d" % number, b"%d" % number)


@pytest.mark.parametrize("app", [fastapi_app, aiohttp_app])
async def test_clicks_are_delivered_when_the_application_ends(kafka: Kafka, app: App) -> None:
    click = new_topic_name().encode()  # a text of its own
    async with app(kafka) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/clicks", content=click)
    assert answer.status_code == 202
    assert [one.value for one in consume(kafka, "clicks")].count(click) == 1


async def test_card_payments_keeps_its_promise(kafka: Kafka) -> None:
    finished = await run(
        "examples/card_payments.py",
        *("--bootstrap-servers", kafka.bootstrap_servers),
        *("--payments", "8000", "--rate", "1000", "--topic", new_topic_name()),
    )
    audit = dict(re.findall(r"^  (\D+?) +([\d,]+)$", finished.out, re.MULTILINE))
    assert audit == {
        "acknowledged": "8,000",
        "failed": "0",
        "lost": "0",
        "stored twice": "0",
        "out of order": "0",
        "wrong offset or key": "0",
    }
    assert "read back by librdkafka" in finished.out
    # Whether all came within 500 ms is for a machine to say that does nothing else.
    assert finished.code == ("The promise was kept." not in finished.out)


async def test_page_clicks_accounts_for_every_click(kafka: Kafka) -> None:
    finished = await run(
        "examples/page_clicks.py",
        *("--bootstrap-servers", kafka.bootstrap_servers),
        *("--pages", "300", "--topic", new_topic_name()),
    )
    assert finished.code == 0
    assert "clicks dropped because the buffer was full" in finished.out
