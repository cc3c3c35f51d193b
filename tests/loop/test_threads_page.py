"""The code in docs/threads.md runs as it stands there. The brokers run on a loop in a thread."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from aioproducer import Producer
from aioproducer.testing import FakeCluster

PAGE = Path(__file__).parents[2] / "docs" / "threads.md"
FIRST, IN_THREAD, PORTAL, FLASK, CELERY, EXECUTOR = re.findall(
    r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL
)


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            FakeCluster(topics={"payments": 1, "lines": 1})
        ) as cluster,
    ):
        yield cluster
        # No program has left its thread behind.
        assert "kafka-producer" not in {thread.name for thread in threading.enumerate()}


def execute(code: str, cluster: FakeCluster, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a snippet against the cluster; return its names."""
    names = {"__name__": "page"} if names is None else names
    code = code.replace("localhost:9092", cluster.bootstrap_servers)
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def values(cluster: FakeCluster, topic: str = "payments") -> list[bytes | None]:
    return [record.value for record in cluster.records(topic)]


@contextmanager
def with_recipe(cluster: FakeCluster) -> Generator[dict[str, Any]]:
    """The names that the recipe of a loop in a thread defines."""
    names = execute(IN_THREAD, cluster)
    assert values(cluster) == [b"12.50"]
    yield names


def test_a_loop_in_a_thread_serves_a_program(cluster: FakeCluster) -> None:
    with (
        with_recipe(cluster) as names,
        names["producer_in_thread"](bootstrap_servers=cluster.bootstrap_servers) as producer,
    ):
        execute(FIRST, cluster, {"producer": producer})
    assert len(values(cluster)) == 2


def test_a_start_that_fails_ends_the_thread(cluster: FakeCluster) -> None:
    with (
        with_recipe(cluster) as names,
        pytest.raises(Exception, match="localhost:9"),
        names["producer_in_thread"](bootstrap_servers="localhost:9", max_block_ms=100),
    ):
        pass


def test_a_portal_of_anyio_serves_a_program(cluster: FakeCluster) -> None:
    execute(PORTAL, cluster)
    assert values(cluster) == [b"12.50"]


def test_a_flask_application_stores_what_is_posted(cluster: FakeCluster) -> None:
    with with_recipe(cluster) as names:
        execute(FLASK, cluster, names)
        try:
            response = names["app"].test_client().post("/payments/card-1", data=b"7.20")
            assert response.json == {"partition": 0, "offset": 1}
        finally:
            names["atexit"].unregister(names["stack"].close)
            names["stack"].close()
    assert values(cluster)[1:] == [b"7.20"]


def test_a_celery_worker_has_a_producer_from_its_start_to_its_end(cluster: FakeCluster) -> None:
    with with_recipe(cluster) as names:
        execute(CELERY, cluster, names)
        names["worker_process_init"].send(None)
        try:
            assert names["pay"].apply(("card-1", "7.20")).get() == 1
        finally:
            names["worker_process_shutdown"].send(None)
    assert values(cluster)[1:] == [b"7.20"]


async def test_an_executor_of_a_program_with_a_loop_sends(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b"one\ntwo\nthree\n")
    async with Producer[bytes, bytes](bootstrap_servers=cluster.bootstrap_servers) as producer:
        names = execute(EXECUTOR, cluster, {"producer": producer})
        assert await asyncio.wait_for(names["load"](str(lines)), 10) == 3
    stored = await asyncio.to_thread(values, cluster, "lines")
    assert stored == [b"one", b"two", b"three"]
