"""The applications in the pages on web frameworks run as they stand there, over real HTTP."""

from __future__ import annotations

import itertools
import json
import re
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import httpx
import pytest
from aiohttp.test_utils import TestServer
from fastapi import Request

from aioproducer import KafkaConnectionError, KafkaError, Producer
from aioproducer.hooks import UndeliveredRecord
from aioproducer.records import ProducerRecord
from aioproducer.telemetry.status import BrokerStatus
from aioproducer.testing import FakeCluster
from tests.support.producing import producing, values
from tests.support.web import client_of, logging_kept
from tools.options_table import PAGE

DOCS = PAGE.parent
NUMBERS = itertools.count()


def text_of(page: str) -> str:
    return Path(DOCS, page).read_text()


def snippets(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def section(page: str, heading: str) -> str:
    (found,) = re.findall(
        rf"^## {heading}\n(.*?)(?=^## |\Z)", text_of(page), re.DOTALL | re.MULTILINE
    )
    return str(found)


def run(code: str, names: dict[str, Any], page: str) -> dict[str, Any]:
    # Not under the name of a file: Sanic looks for its source.
    exec(compile(code, f"<docs/{page}>", "exec", dont_inherit=True), names)
    return names


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment, in which a test names its cluster."""
    for name, value in {"KAFKA_MAX_BLOCK_MS": "2000", "KAFKA_CLIENT_ID": "docs"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def use(environment: pytest.MonkeyPatch, cluster: FakeCluster) -> None:
    environment.setenv("KAFKA_BOOTSTRAP_SERVERS", cluster.bootstrap_servers)


# ---- FastAPI, Starlette

FASTAPI = snippets(text_of("fastapi.md"))


def fastapi_app(index: int) -> Any:
    """Return the application of a snippet, which builds on those before it."""
    names: dict[str, Any] = {"__name__": "docs"}
    for code in FASTAPI[: index + 1]:
        run(code, names, "fastapi.md")
    return names["app"]


async def test_fastapi_the_first_application(environment: pytest.MonkeyPatch) -> None:
    async with FakeCluster(topics={"payments": 1}) as cluster:
        use(environment, cluster)
        async with client_of(fastapi_app(0)) as client:
            assert (await client.get("/ready")).json() == {"status": "ready"}
            answer = await client.post("/payments/card-1", content=b"12.50")
            assert answer.json() == {"partition": 0, "offset": 0}
        assert [one.key for one in cluster.records("payments")] == [b"card-1"]


async def test_fastapi_ones_own_lifespan(environment: pytest.MonkeyPatch) -> None:
    async with FakeCluster() as cluster:
        use(environment, cluster)
        app = fastapi_app(1)

        async def prices(request: Request) -> object:
            prices: object = request.state.prices
            return prices

        app.add_api_route("/prices", prices)
        async with client_of(app) as client:
            assert (await client.get("/prices")).json() == {"coffee": 3}


async def test_fastapi_several_producers(environment: pytest.MonkeyPatch) -> None:
    async with FakeCluster(topics={"audit": 1, "orders": 1}) as cluster:
        use(environment, cluster)
        async with client_of(fastapi_app(2)) as client:
            assert (await client.get("/ready")).status_code == 200
            assert (await client.post("/orders", content=b"1")).status_code == 200
        assert (values(cluster, "audit"), values(cluster, "orders")) == ([b"an order"], [b"1"])


async def test_fastapi_work_beside_the_request(environment: pytest.MonkeyPatch) -> None:
    async with FakeCluster(topics={"visits": 1}) as cluster:
        use(environment, cluster)
        async with client_of(fastapi_app(3)) as client:
            assert (await client.post("/visits")).status_code == 202
        assert values(cluster, "visits") == [b"somebody"]


async def test_starlette(environment: pytest.MonkeyPatch) -> None:
    async with FakeCluster(topics={"parcels": 1}) as cluster:
        use(environment, cluster)
        async with client_of(fastapi_app(4)) as client:
            assert (await client.post("/parcels", content=b"1")).json() == {"offset": 0}
            assert (await client.get("/ready")).status_code == 200


def test_every_snippet_on_fastapi_has_a_test() -> None:
    assert len(FASTAPI) == 5


# ---- aiohttp

AIOHTTP = snippets(text_of("aiohttp.md"))


@pytest.mark.parametrize(
    ("index", "path", "topic", "status"),
    [(0, "/payments/card-1", "payments", 200), (1, "/orders", "orders", 201)],
)
async def test_aiohttp(
    environment: pytest.MonkeyPatch, index: int, path: str, topic: str, status: int
) -> None:
    assert len(AIOHTTP) == 2
    names: dict[str, Any] = {"__name__": "docs"}
    for code in AIOHTTP[: index + 1]:
        run(code, names, "aiohttp.md")
    async with FakeCluster(topics={topic: 1, "audit": 1}) as cluster:
        use(environment, cluster)
        async with (
            TestServer(names["app"]) as server,
            httpx.AsyncClient(base_url=str(server.make_url(""))) as client,
        ):
            assert (await client.get("/ready")).status_code == 200
            assert (await client.post(path, content=b"1")).status_code == status
        assert values(cluster, topic) == [b"1"]


# ---- the others


@pytest.fixture(params=["Litestar", "Quart", "Sanic", "BlackSheep", "Django"])
def framework(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The application in a section of docs/frameworks.md."""
    name: str = request.param
    (code,) = snippets(section("frameworks.md", name))
    # An application of Sanic has a name that is its own in the process.
    code = code.replace('Sanic("payments")', f'Sanic("payments{next(NUMBERS)}")')
    names: dict[str, Any] = {"__name__": "docs_application"}
    module = sys.modules["docs_application"] = ModuleType("docs_application")
    with warnings.catch_warnings(), logging_kept():
        if name == "Sanic":
            # That a listener runs a little later under ASGI than under Sanic's own server.
            warnings.simplefilter("ignore")
        if name == "Django":
            configure_django()
        run(code, names, "frameworks.md")
        if name == "Django":
            # By name: Django ships no types.
            path: Any = import_module("django.urls").path
            module.urlpatterns = [  # type: ignore[attr-defined]
                path("payments", names["pay"]),
                path("ready", names["ready"]),
            ]
        vars(module).update(names)
        yield names["app"]
    del sys.modules["docs_application"]


def configure_django() -> None:
    settings: Any = import_module("django.conf").settings
    if not settings.configured:
        settings.configure(
            ROOT_URLCONF="docs_application", ALLOWED_HOSTS=["*"], SECRET_KEY="canary", USE_TZ=True
        )


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_another_framework(environment: pytest.MonkeyPatch, framework: Any) -> None:
    async with FakeCluster(topics={"payments": 1}) as cluster:
        use(environment, cluster)
        environment.setenv("KAFKA_MAX_REQUEST_SIZE", "1000")
        async with client_of(framework) as client:
            ready = await client.get("/ready")
            assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
            stored = await client.post("/payments", content=b"42")
            assert stored.json() == {"offset": 0}
            too_large = await client.post("/payments", content=b"4" * 2_000)
            assert too_large.status_code == 413
            assert too_large.json()["title"] == "Content Too Large"
        assert values(cluster, "payments") == [b"42"]


# The other frameworks answer the lifespan by themselves.
@pytest.mark.parametrize("framework", ["Django"], indirect=True)
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_an_application_of_django_says_why_it_does_not_come_up(
    environment: pytest.MonkeyPatch, framework: Any
) -> None:
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    async with FakeCluster() as cluster:
        use(environment, cluster)
        environment.setenv("KAFKA_MAX_BLOCK_MS", "100")
        cluster.refuse(0)
        # A server that got no answer takes what is raised for a lifespan that the application
        # does not have, and serves it without one.
        with pytest.raises(KafkaConnectionError):
            await framework({"type": "lifespan"}, receive, send)
    (message,) = said
    assert message["type"] == "lifespan.startup.failed"
    assert "connection refused" in message["message"]


def test_every_framework_on_the_page_has_a_test() -> None:
    assert len(snippets(text_of("frameworks.md"))) == 5


# ---- back-pressure


async def test_overload_and_readiness(capsys: pytest.CaptureFixture[str]) -> None:
    overload, ready, _ = snippets(text_of("back-pressure.md"))
    async with FakeCluster(topics={"payments": 1}) as cluster, producing(cluster) as producer:
        names: dict[str, Any] = {"producer": producer}
        body = "".join(f"    {line}\n" for line in overload.splitlines())
        run(f"async def snippet():\n{body}    return locals()\n", names, "back-pressure.md")
        assert "answer" not in await names["snippet"]()
        assert values(cluster, "payments") == [b"12.50"]
        run(ready, names, "back-pressure.md")
    assert capsys.readouterr().out.splitlines() == ["True ", "1 of 1 None"]


def test_what_is_undelivered_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    *_, code = snippets(text_of("back-pressure.md"))
    names = run(code, {}, "back-pressure.md")
    producer: Producer[bytes, bytes] = names["producer"]
    keep: Any = names["keep"]
    assert producer.config.on_undelivered == keep
    left = [UndeliveredRecord(ProducerRecord("payments", b"\x01"), KafkaError("late"))]
    keep(left)
    line = json.loads(Path("undelivered.jsonl").read_text())
    assert line == {"topic": "payments", "value": "01"}


def test_the_page_on_back_pressure_has_each_word_for_a_broker() -> None:
    table = section("back-pressure.md", "Readiness")
    assert set(re.findall(r"^\| `([a-z ]+)`", table, re.MULTILINE)) == set(get_args(BrokerStatus))
