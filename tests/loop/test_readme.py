"""The code in README and docs runs as it stands there, and the table of options is the config's."""

from __future__ import annotations

import re
import textwrap
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from aioproducer import KafkaError, Producer, RecordMetadata
from aioproducer.testing import FakeCluster
from tools.options_table import PAGE, with_table

ROOT = PAGE.parent.parent


def _snippets(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", Path(ROOT, page).read_text(), re.DOTALL)


PROGRAM, ROUTE, *PARTS = _snippets("README.md") + _snippets("docs/errors.md")


def _as_coroutine(code: str, names: dict[str, Any]) -> Any:
    """Wrap statements that await into a coroutine function over `names`."""
    source = f"async def snippet():\n{textwrap.indent(code, '    ')}"
    exec(compile(source, "README.md", "exec"), names)
    return names["snippet"]


def test_the_table_of_options_is_the_config() -> None:
    page = PAGE.read_text()

    assert with_table(page) == page


async def test_the_first_program_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with FakeCluster(topics={"payments": 1}) as cluster:
        code = PROGRAM.replace("localhost:9092", cluster.bootstrap_servers)
        names: dict[str, Any] = {}
        exec(compile(code.replace("asyncio.run(main())", ""), "README.md", "exec"), names)
        await names["main"]()

    assert capsys.readouterr().out == "stored in partition 0 at offset 0\n"


async def test_the_route_of_a_service_stores_what_is_posted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeCluster(topics={"payments": 1}) as cluster:
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", cluster.bootstrap_servers)
        names: dict[str, Any] = {
            "asynccontextmanager": asynccontextmanager,
            "FastAPI": FastAPI,
            "Producer": Producer,
            "Request": Request,
        }
        exec(compile(ROUTE, "README.md", "exec"), names)
        app = names["app"]
        async with app.router.lifespan_context(app) as state:

            async def with_state(scope: Any, receive: Any, send: Any) -> None:
                await app({**scope, "state": dict(state)}, receive, send)

            transport = httpx.ASGITransport(with_state)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                answer = await client.post("/payments/card-1", content=b"12.50")
        assert answer.json() == {"partition": 0, "offset": 0}
        assert [record.key for record in cluster.records("payments")] == [b"card-1"]


def test_the_readme_is_read_in_a_minute() -> None:
    assert len(Path(ROOT, "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("code", PARTS, ids=[str(index) for index in range(len(PARTS))])
async def test_each_snippet_runs(code: str) -> None:
    reports: list[KafkaError | None] = []

    def report(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        reports.append(error)

    async with (
        FakeCluster(topics={"payments": 1, "clicks": 1}) as cluster,
        Producer(bootstrap_servers=cluster.bootstrap_servers) as producer,
    ):
        names: dict[str, Any] = {
            "KafkaError": KafkaError,
            "Producer": Producer,
            "producer": producer,
            "report": report,
        }
        await _as_coroutine(code, names)()
        await producer.flush()

        if "FakeCluster" not in code:
            assert cluster.records("payments") or cluster.records("clicks")
        if "on_delivery" in code:
            assert reports == [None]
