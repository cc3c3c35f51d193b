"""The code in docs/serialization.md runs as it stands there, and stores what the page says."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from aioproducer import Producer
from aioproducer.testing import FakeCluster

PAGE = Path(__file__).parent.parent.parent / "docs" / "serialization.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
STORED = re.compile(r"^ *# (\w+): (\S+) (.*)$", re.MULTILINE)
PRINTED = re.compile(r"print\(.*\)  # (.*)$", re.MULTILINE)


async def run(code: str, names: dict[str, Any]) -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    coroutine = eval(compile(code, str(PAGE), "exec", flags=flags), names)
    if coroutine is not None:
        await coroutine


async def test_the_snippets_run_one_after_the_other_and_store_what_the_page_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    topics = {"orders": 1, "events": 1, "exports": 1, "visits": 1}
    async with (
        FakeCluster(topics=topics) as cluster,
        Producer(bootstrap_servers=cluster.bootstrap_servers) as producer,
    ):
        names: dict[str, Any] = {"producer": producer}
        said: list[tuple[str, str, str]] = []
        for code in SNIPPETS:
            await run(code.replace("localhost:9092", cluster.bootstrap_servers), names)
            for topic, key, value in STORED.findall(code):
                record = cluster.records(topic)[-1]
                assert record.value is not None
                assert (str(record.key and record.key.decode()), record.value.decode()) == (
                    key,
                    value,
                )
                said.append((topic, key, value))
            assert capsys.readouterr().out.splitlines() == PRINTED.findall(code)
        assert len(said) == sum(len(cluster.records(topic)) for topic in topics) == 6
