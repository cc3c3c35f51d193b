"""docs/conformance.md is complete, and every test that it names exists. Imports none of them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "conformance.md").read_text()
POINTS = 67

_ROW = re.compile(r"\|(.+)\|\Z")
_NODE_ID = re.compile(r"`(tests/[\w/.]+\.py)::(\w+)`")
_REASONS: set[str] = set()


def rows() -> list[list[str]]:
    """Return the cells of every row of every table, without the heads."""
    found = [_ROW.match(line) for line in PAGE.splitlines()]
    cells = [[cell.strip() for cell in row[1].split(" | ")] for row in found if row]
    return [row for row in cells if row[-1] != "tests" and not row[0].startswith("---")]


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of the tests of a file."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )


def test_the_checklist_has_every_point_once_and_in_order() -> None:
    points = [int(row[0]) for row in rows() if row[0].isdigit()]
    assert points == list(range(1, POINTS + 1))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_a_rule_has_a_test_or_a_reason(row: list[str]) -> None:
    assert len(row[-2]) > 10
    assert _NODE_ID.search(row[-1]) or row[-1] in _REASONS


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_nothing_but_node_ids_stands_among_the_tests(row: list[str]) -> None:
    if row[-1] not in _REASONS:
        assert not _NODE_ID.sub("", row[-1]).replace("<br>", "").strip()


@pytest.mark.parametrize(
    ("path", "name"), sorted(set(_NODE_ID.findall(PAGE))), ids=lambda part: part[-60:]
)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file()
    assert name in names_in(path)
