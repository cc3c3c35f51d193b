"""The public names of `aioproducer.testing`, which are imported at their first use."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import aioproducer.testing


def test_every_public_name_is_there_and_listed() -> None:
    for name in aioproducer.testing.__all__:
        assert getattr(aioproducer.testing, name) is not None
    assert set(aioproducer.testing.__all__) <= set(dir(aioproducer.testing))
    with pytest.raises(AttributeError, match="NoSuchThing"):
        _ = aioproducer.testing.NoSuchThing  # pyright: ignore


def test_what_a_type_checker_reads_is_what_is_imported() -> None:
    file = Path(aioproducer.testing.__file__)
    declared = {
        (node.module, alias.name)
        for block in ast.parse(file.read_text()).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {name for _, name in declared} == set(aioproducer.testing.__all__)
    for module, name in declared:
        assert module is not None
        assert getattr(aioproducer.testing, name) is getattr(import_module(module), name)


def test_no_public_name_speaks_of_answers() -> None:
    assert not [name for name in aioproducer.testing.__all__ if "nswer" in name]
    assert not [name for name in dir(aioproducer.testing.FakeCluster) if "answer" in name]


def test_the_package_imports_none_of_them_by_itself() -> None:
    program = (
        "import sys, aioproducer.testing;"
        "print(*(name for name in sys.modules if name.startswith('aioproducer.testing.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == []
