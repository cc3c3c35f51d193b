"""Builds and tests on every Python that we claim and that is here: `python -m tools.pythons`.

What follows is given to pytest in place of the selection, as in `tests/loop/test_acks.py -x`.

CPython 3.11 to 3.14 are looked for on the PATH and among pyenv's versions. `.venv` stands for its
own version; each other one gets an environment in build/pythons with what the tests need. The
native modules are built in place: their names carry the version, so they lie side by side. As many
versions are tested at a time as there are processors.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Interpreter", "find", "main"]

ROOT: Final = Path(__file__).parent.parent
SUPPORTED: Final = ("3.11", "3.12", "3.13", "3.14")
LEAST_IN_CI: Final = 3

_RUNS: Final[Sequence[Sequence[str]]] = (
    ("tests/unit", "tests/loop", "--loop=asyncio"),
    (
        "tests/loop/test_delivery_modes.py",
        "tests/loop/test_eager_tasks.py",
        "tests/loop/test_shielded_deliveries.py",
        "--loop=uvloop",
    ),
)
"""What differs between versions is asyncio. All tests on uvloop are run by `make test`."""
_ASK: Final = """
import sys, sysconfig
if sys.implementation.name == "cpython" and sys.version_info.releaselevel == "final":
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        print(*sys.version_info[:3], sep=".")
"""
_BUILD: Final = "from setuptools import setup; setup()"
_building = threading.Lock()
"""One build at a time: all of them use the same C files, and both processors."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python.

    Attributes:
        path: Its program.
        version: Such as `3.12.1`.
    """

    path: Path
    version: str

    @property
    def minor(self) -> str:
        """Such as `3.12`."""
        return self.version.rpartition(".")[0]

    @property
    def is_ours(self) -> bool:
        """Whether it is the one that runs this, and has everything."""
        return self.path == Path(sys.executable)


class _StepFailed(Exception):
    """What a program said that failed."""


def find(environ: Mapping[str, str] = os.environ) -> list[Interpreter]:
    """Return the newest release of each supported version, and ours for its own."""
    ours = Interpreter(Path(sys.executable), ".".join(map(str, sys.version_info[:3])))
    found = {ours.minor: ours}
    for path in _candidates(environ):
        one = _ask(path)
        if one is None or one.minor not in SUPPORTED or one.minor == ours.minor:
            continue
        if one.minor not in found or _release(one) > _release(found[one.minor]):
            found[one.minor] = one
    return sorted(found.values(), key=_release)


def _release(one: Interpreter) -> tuple[int, ...]:
    return tuple(map(int, one.version.split(".")))


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    for version in SUPPORTED:
        on_path = shutil.which(f"python{version}", path=environ.get("PATH"))
        if on_path is not None:
            yield Path(on_path)
    for root in _pyenv_roots(environ):
        for version in SUPPORTED:
            yield from sorted(root.glob(f"versions/{version}.*/bin/python"))


def _pyenv_roots(environ: Mapping[str, str]) -> set[Path]:
    roots = {environ.get("PYENV_ROOT", ""), str(Path(environ.get("HOME", "~"), ".pyenv"))}
    if pyenv := shutil.which("pyenv", path=environ.get("PATH")):
        told = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False)
        roots.add(told.stdout.strip())
        # Where it is installed: it looks in the home directory, which may be another one in CI.
        roots.add(str(Path(pyenv).resolve().parents[1]))
    return {Path(root) for root in roots if root}


def _ask(path: Path) -> Interpreter | None:
    """Return what a program is; None for no Python, as pyenv's place-holders, or an unusual one."""
    try:
        told = subprocess.run(
            [path, "-I", "-c", _ASK], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = told.stdout.strip()
    return Interpreter(path, version) if told.returncode == 0 and version else None


def _run(*command: str | Path) -> str:
    # The examples and the command line run as programs: they find the package by this path.
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise _StepFailed(done.stdout)
    return done.stdout


def _environment(one: Interpreter) -> Path:
    """Return the Python of an interpreter's environment, which is made if it is not up to date."""
    if one.is_ours:
        return one.path
    folder = ROOT / "build" / "pythons" / one.minor
    python, made = folder / "bin" / "python", folder / "made"
    project = ROOT / "pyproject.toml"
    if (
        not made.exists()
        or made.read_text() != one.version
        or made.stat().st_mtime < project.stat().st_mtime
    ):
        _run(one.path, "-m", "venv", "--clear", folder)
        install = (python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
        _run(*install, "--upgrade", "pip>=25.1")
        # Not the package itself: an installation would build it from the beginning.
        needs = tomllib.loads(project.read_text())["project"]["dependencies"]
        _run(*install, "--group", "dev", *needs)
        made.write_text(one.version)
    with _building:
        _run(python, "-W", "ignore", "-c", _BUILD, "--quiet", "build_ext", "--inplace", "-j2")
    return python


def _test(one: Interpreter, runs: Sequence[Sequence[str]]) -> str:
    """Return the last line of each run of its tests."""
    pytest = (_environment(one), "-m", "pytest", "-q", "-p", "no:cacheprovider")
    told = [_run(*pytest, *arguments) for arguments in runs]
    return "; ".join(text.rstrip().rpartition("\n")[2] for text in told)


def main(argv: Sequence[str] | None = None) -> int:
    """Test on all of them; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.pythons",
        description=__doc__,
        epilog="Other arguments are for pytest.",
    )
    parser.add_argument(
        "--others", action="store_true", help="leave out the version of .venv, tested elsewhere"
    )
    arguments, for_pytest = parser.parse_known_args(argv)
    found = find()
    names = [f"{one.version}{' (.venv)' if one.is_ours else ''}" for one in found]
    print(f"pythons: found {', '.join(names)}", flush=True)
    if os.environ.get("CI") and len(found) < LEAST_IN_CI:
        print(
            f"pythons: CI needs {LEAST_IN_CI} of {', '.join(SUPPORTED)}, on the PATH or by pyenv",
            flush=True,
        )
        return 1
    chosen = [one for one in found if not (one.is_ours and arguments.others)]
    print(f"pythons: testing {', '.join(one.version for one in chosen)}", flush=True)
    runs = [for_pytest] if for_pytest else _RUNS
    failed = False
    started = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(_test, one, runs): one for one in chosen}
        for done in as_completed(running):
            version = running[done].version
            try:
                print(f"pythons: {version}: {done.result()}", flush=True)
            except _StepFailed as error:
                failed = True
                print(f"pythons: {version} failed:\n{error}", flush=True)
    print(f"pythons: {time.monotonic() - started:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
