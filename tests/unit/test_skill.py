"""The skill for coding agents: it is in the package, runs, and names only what there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import aioproducer
from aioproducer import Delivery, Producer, errors
from aioproducer.testing import FakeClusterInThread, MockProducer

pytest_plugins = ["pytester"]

SKILL = Path(aioproducer.__file__).parent / ".agents/skills/aioproducer/SKILL.md"
TEXT = SKILL.read_text()


def test_it_begins_as_skills_do() -> None:
    _, front, _ = TEXT.split("---\n", 2)
    assert re.match(r"name: aioproducer\ndescription: .{100,1000}\n$", front)


def test_its_code_is_python() -> None:
    snippets = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(snippets) == 3
    for snippet in snippets:
        compile(snippet, "SKILL.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.timeout(60)  # as for docs/testing.md: it starts a Python and a pytest
def test_its_tests_pass_with_nothing_configured(pytester: pytest.Pytester) -> None:
    *_, tests = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    pytester.makepyfile(tests)
    result = pytester.runpytest_subprocess(
        *("-p", "no:asyncio", "-p", "no:anyio", "-p", "no:cacheprovider", "-W", "error"),
        timeout=60,
    )
    result.assert_outcomes(passed=2)


def test_it_names_only_what_there_is() -> None:
    for name in re.findall(r"\bproducer\.(\w+)\(", TEXT):
        assert hasattr(Producer, name)
    for name in re.findall(r"fake_kafka\.(\w+)", TEXT):
        assert hasattr(FakeClusterInThread, name)
    for name in re.findall(r"\bmock_producer\.(\w+)", TEXT):
        assert hasattr(MockProducer, name)
    for name in re.findall(r"\b\w+Error\b", TEXT):
        assert hasattr(errors, name)
    for name in re.findall(r"from aioproducer import (.*)", TEXT):
        assert all(hasattr(aioproducer, each.strip()) for each in name.split(","))
    assert hasattr(aioproducer, "gather")
    assert hasattr(Producer, "from_thread")
    assert hasattr(Delivery, "__await__")


def test_the_options_that_it_names_are_options() -> None:
    options = set(aioproducer.ProducerConfig.__dataclass_fields__)
    theirs = {"request_timeout_ms", "max_batch_size"}
    named = set(re.findall(r"`(\w+_(?:ms|size|context|protocol|serializer))`", TEXT))
    assert named - theirs <= options | {"_ms"}
