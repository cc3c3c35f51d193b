"""The README's code runs as it stands there, and its table of options is the config's."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from aioproducer import KafkaError, Producer, RecordMetadata
from aioproducer.testing import FakeCluster
from tools.options_table import README, with_table

SNIPPETS = re.findall(r"```python\n(.*?)```", Path(README).read_text(), re.DOTALL)
PROGRAM, *PARTS = SNIPPETS


def _as_coroutine(code: str, names: dict[str, Any]) -> Any:
    """Wrap statements that await into a coroutine function over `names`."""
    source = f"async def snippet():\n{textwrap.indent(code, '    ')}"
    exec(compile(source, "README.md", "exec"), names)
    return names["snippet"]


def test_the_table_of_options_is_the_config() -> None:
    readme = README.read_text()

    assert with_table(readme) == readme


async def test_the_first_program_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with FakeCluster(topics={"payments": 1}) as cluster:
        code = PROGRAM.replace("localhost:9092", cluster.bootstrap_servers)
        names: dict[str, Any] = {}
        exec(compile(code.replace("asyncio.run(main())", ""), "README.md", "exec"), names)
        await names["main"]()

    assert capsys.readouterr().out == "stored in partition 0 at offset 0\n"


@pytest.mark.parametrize("code", PARTS, ids=[str(index) for index in range(len(PARTS))])
async def test_each_snippet_runs(code: str) -> None:
    reports: list[KafkaError | None] = []

    def report(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        reports.append(error)

    async with (
        FakeCluster(topics={"payments": 1, "clicks": 1}) as cluster,
        Producer(bootstrap_servers=cluster.bootstrap_servers) as producer,
    ):
        names: dict[str, Any] = {"producer": producer, "Producer": Producer, "report": report}
        await _as_coroutine(code, names)()
        await producer.flush()

        if "FakeCluster" not in code:
            assert cluster.records("payments") or cluster.records("clicks")
        if "on_delivery" in code:
            assert reports == [None]
