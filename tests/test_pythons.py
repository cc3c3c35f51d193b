"""`make test-pythons`: which interpreters it finds, and what it says of them."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from tools import pythons
from tools.pythons import ROOT, SUPPORTED, Interpreter, find

OURS = Interpreter(Path(sys.executable), ".".join(map(str, sys.version_info[:3])))
OTHER, ANOTHER = [version for version in SUPPORTED if version != OURS.minor][:2]


def program(path: Path, *, says: str = "", code: int = 0) -> Path:
    """Put a program where a Python is looked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {says}\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing is found but what a test puts there."""
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}


def test_the_versions_are_those_that_the_package_claims() -> None:
    project = tomllib.loads(Path(ROOT, "pyproject.toml").read_text())
    claims = [text.rpartition(" ")[2] for text in project["project"]["classifiers"]]
    assert [text for text in claims if text.startswith("3.")] == list(SUPPORTED)
    wheels = project["tool"]["cibuildwheel"]["build"].split()
    assert wheels == [f"cp{version.replace('.', '')}-*" for version in SUPPORTED]


def test_our_own_python_is_found_without_any_other(environ: dict[str, str]) -> None:
    assert find(environ) == [OURS]


def test_the_newest_release_of_each_version_is_found_wherever_it_is(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    versions = tmp_path / "pyenv" / "versions"
    program(tmp_path / "bin" / f"python{OTHER}", says=f"{OTHER}.2")
    newest = program(versions / f"{OTHER}.10" / "bin" / "python", says=f"{OTHER}.10")
    program(versions / f"{OTHER}.9" / "bin" / "python", says=f"{OTHER}.9")
    at_home = program(
        tmp_path / "home" / ".pyenv" / "versions" / f"{ANOTHER}.1" / "bin" / "python",
        says=f"{ANOTHER}.1",
    )
    found = find({**environ, "PYENV_ROOT": str(tmp_path / "pyenv")})
    assert Interpreter(newest, f"{OTHER}.10") in found
    assert Interpreter(at_home, f"{ANOTHER}.1") in found
    assert len(found) == 3


def test_pyenv_is_asked_where_its_versions_are(tmp_path: Path, environ: dict[str, str]) -> None:
    program(tmp_path / "bin" / "pyenv", says=str(tmp_path / "elsewhere"))
    path = program(
        tmp_path / "elsewhere" / "versions" / f"{OTHER}.0" / "bin" / "python", says=f"{OTHER}.0"
    )
    assert Interpreter(path, f"{OTHER}.0") in find(environ)


def test_versions_beside_pyenv_itself_are_found_whatever_the_home_directory(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    program(tmp_path / "bin" / "pyenv", says=str(tmp_path / "nothing" / "there"))
    path = program(tmp_path / "versions" / f"{OTHER}.0" / "bin" / "python", says=f"{OTHER}.0")
    assert Interpreter(path, f"{OTHER}.0") in find(environ)


def test_what_is_no_python_of_its_name_is_passed_over(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    # As pyenv's place-holder of a version that is not chosen, and a build without the GIL.
    program(tmp_path / "bin" / f"python{OTHER}", says="not chosen", code=127)
    program(tmp_path / "bin" / f"python{ANOTHER}", says="")
    assert find(environ) == [OURS]


def test_an_older_python_and_a_second_one_of_our_version_are_left_out(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    versions = tmp_path / "home" / ".pyenv" / "versions"
    program(versions / "3.10.13" / "bin" / "python", says="3.10.13")
    program(versions / f"{OURS.minor}.99" / "bin" / "python", says=f"{OURS.minor}.99")
    assert find(environ) == [OURS]


def test_ci_fails_with_fewer_than_three(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pythons, "find", lambda: [OURS])
    monkeypatch.setenv("CI", "true")
    assert pythons.main(["--version"]) == 1
    assert "needs 3 of 3.11, 3.12, 3.13, 3.14" in capsys.readouterr().out


@pytest.mark.parametrize(("argument", "code"), [("--version", 0), ("--no-such-option", 1)])
def test_each_python_is_listed_with_the_result_of_its_tests(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argument: str,
    code: int,
) -> None:
    monkeypatch.setattr(pythons, "find", lambda: [OURS])
    monkeypatch.delenv("CI", raising=False)
    assert pythons.main([argument]) == code
    out = capsys.readouterr().out
    assert f"found {OURS.version} (.venv)" in out
    assert ("pytest 9" if code == 0 else "unrecognized arguments") in out
