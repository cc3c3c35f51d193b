"""What `import aioproducer` offers, and what it does without."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

import aioproducer
from aioproducer import errors

SELDOM_NEEDED = (
    "concurrent.futures.thread",
    "difflib",
    "email",
    "importlib.metadata",
    "json",
    "lz4",
    "platform",
    "snappy",
    "typing_extensions",
    "uuid",
    "zstandard",
)
"""Modules that take long to import, and that most producers, or many, never need."""


def run(program: str) -> list[str]:
    """Run a program in a fresh interpreter and return the words that it prints."""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        text=True,
    )
    return finished.stdout.split()


def test_the_package_offers_the_errors_that_a_producer_raises_and_few_other_names() -> None:
    offered = {name for name in aioproducer.__all__ if name.endswith("Error")}
    assert offered < set(errors.__all__)
    assert all(getattr(aioproducer, name) is getattr(errors, name) for name in offered)
    assert len(aioproducer.__all__) <= 44


def test_every_error_of_the_client_is_offered() -> None:
    clients = {name for name in errors.client.__all__ if name.endswith("Error")}
    assert clients | {"KafkaError"} <= set(aioproducer.__all__)


def test_the_package_says_its_version_without_installed_metadata() -> None:
    program = """if True:
        import sys
        sys.modules["importlib.metadata"] = None
        import aioproducer
        aioproducer.Producer(bootstrap_servers="localhost:9092")
        print(aioproducer.__version__)
        """
    assert run(program) == [aioproducer.__version__]
    assert re.fullmatch(r"\d+\.\d+\.\d+\w*", aioproducer.__version__)


def test_the_import_brings_no_module_that_is_seldom_needed() -> None:
    program = """if True:
        import asyncio, sys
        before = set(sys.modules)
        import aioproducer
        print(*(set(sys.modules) - before))
        """
    brought = run(program)
    assert "aioproducer.producer" in brought
    assert not set(SELDOM_NEEDED) & set(brought)


def test_the_import_makes_few_of_the_classes_of_kafkas_codes() -> None:
    program = "import aioproducer; print(len(aioproducer.KafkaError.__subclasses__()))"
    assert int(run(program)[0]) < 50


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_codecs_library_is_imported_when_a_producer_is_made_and_not_when_it_starts(
    codec: str,
) -> None:
    program = f"""if True:
        import sys
        import aioproducer
        aioproducer.Producer(bootstrap_servers="localhost:9092", compression_type="{codec}")
        print(*sys.modules)
        """
    assert f"aioproducer.compression.{codec}" in run(program)
