"""SIGTERM to a uvicorn that serves, as a process of its own: nothing that was answered is lost."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx
import pytest

from aioproducer.testing import FakeCluster
from tests.support.producing import until
from tests.support.programs import finish, running
from tools.kafka_cluster import free_ports


async def up(client: httpx.AsyncClient) -> None:
    """Wait until the application is ready."""
    while True:
        try:
            if (await client.get("/ready")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.02)


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("app", ["fastapi_app", "litestar_app"])
async def test_readiness_says_no_while_requests_are_served_and_nothing_is_lost(app: str) -> None:
    (port,) = free_ports(1)
    arguments = ("-m", "uvicorn", f"examples.{app}:app", "--port", str(port))
    paid: list[dict[str, Any]] = []
    refused: list[object] = []

    async def pay_on_and_on(client: httpx.AsyncClient, card: int) -> None:
        for number in range(10_000):
            try:
                answer = await client.post(f"/payments/card-{card}", content=b"%d" % number)
            except httpx.TransportError as error:
                refused.append(error)
                return
            assert answer.is_success, answer.text
            paid.append(answer.json())

    async with (
        FakeCluster(topics={"payments": 3}) as cluster,
        running(
            *arguments,
            KAFKA_BOOTSTRAP_SERVERS=cluster.bootstrap_servers,
            # Clients that share two processors with the rest need some time to see it.
            DRAIN_SECONDS="3",
        ) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
    ):
        await up(client)
        async with asyncio.TaskGroup() as group:
            for card in range(10):
                group.create_task(pay_on_and_on(client, card))
            await until(lambda: len(paid) > 100)
            process.send_signal(signal.SIGTERM)
            while (ready := await client.get("/ready")).status_code == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            assert ready.json() == {"status": "draining"}
            paid_before = len(paid)
        finished = await finish(process)
        # Requests were served after readiness had said no, until the server stopped listening.
        assert len(paid) > paid_before
        assert len(refused) == 10
        assert finished.code in (0, -signal.SIGTERM)
        assert "Traceback" not in finished.err
        stored = {(one.partition, one.offset) for one in cluster.records("payments")}
        assert {(one["partition"], one["offset"]) for one in paid} <= stored
