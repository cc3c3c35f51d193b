"""The tests in docs/testing.md pass as they stand there, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import aioproducer.errors
from aioproducer.testing import FakeCluster, FakeClusterInThread, MockProducer
from tools.options_table import PAGE

pytest_plugins = ["pytester"]

# Each starts a Python and a pytest, of which a busy machine runs few at a time.
pytestmark = pytest.mark.timeout(60)

TEXT = Path(PAGE.parent, "testing.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, re.DOTALL))
TESTS = sorted(name for name in FILES if name.startswith("test_"))


def test_each_snippet_is_a_file() -> None:
    assert len(FILES) == TEXT.count("```python")
    assert len(TESTS) == 7


@pytest.mark.parametrize("name", TESTS)
def test_each_test_on_the_page_passes(name: str, pytester: pytest.Pytester) -> None:
    for helper in ("shop.py", "conftest.py", name):
        Path(pytester.path, helper).write_text(FILES[helper])
    result = pytester.runpytest_subprocess(
        *("-p", "no:asyncio", "-p", "no:cacheprovider", "-W", "error", "--strict-markers"),
        *("-o", "pythonpath=."),
        timeout=60,
    )
    result.assert_outcomes(passed=len(re.findall(r"def test_", FILES[name])))


def test_the_cluster_of_the_session_is_cleared_for_each_test(pytester: pytest.Pytester) -> None:
    Path(pytester.path, "conftest.py").write_text(FILES["conftest.py"])
    pytester.makepyfile(
        """
import asyncio
import pytest
from aioproducer import Producer

@pytest.mark.parametrize("number", range(3))
def test_it(kafka, number):
    async def send():
        async with Producer(bootstrap_servers=kafka.bootstrap_servers) as producer:
            return await producer.send_and_wait("orders", b"1", partition=0)
    assert asyncio.run(send()).offset == 0
    kafka.freeze()
"""
    )
    result = pytester.runpytest_subprocess("-p", "no:asyncio", "-W", "error", timeout=60)
    result.assert_outcomes(passed=3)


def test_the_page_names_only_what_there_is() -> None:
    cluster = set(dir(FakeCluster)) & set(dir(FakeClusterInThread))
    called = set(re.findall(r"`(\w+)\(", TEXT.partition("## FakeCluster\n")[2]))
    assert called - {"clear", "FakeCluster"} <= cluster | {"fail_next"}
    assert set(re.findall(r"mock\.(\w+)", TEXT.partition("## MockProducer")[2])) <= set(
        dir(MockProducer)
    ) | {"create_autospec"}
    for error in re.findall(r"\b\w+Error\b", TEXT):
        assert hasattr(aioproducer.errors, error) or error == "TypeError"
