#!/usr/bin/env python3
"""Checks, before anything else runs, that this machine can build the native modules.

Called by the Makefile with the Python that will make `.venv`. Where something is missing it prints
one sentence with the command that installs it, and ends with code 1. Standard library only.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

__all__ = ["install_command", "main", "missing"]


def missing() -> list[str]:
    """Return what the build needs and this machine has not, in words."""
    found: list[str] = []
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    if not any(shutil.which(one) for one in (compiler, "cc", "gcc", "clang")):
        found.append("a C compiler")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        found.append(f"the headers of Python {sys.version_info.major}.{sys.version_info.minor}")
    # Debian ships `venv` without the pip that it installs.
    if importlib.util.find_spec("ensurepip") is None:
        found.append("Python's venv module")
    return found


def install_command() -> str:
    """Return the command that installs all of it on this platform."""
    if sys.platform == "darwin":
        return "xcode-select --install"
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for tool, command in {
        "apt-get": f"sudo apt-get install -y gcc libc6-dev {python}-dev {python}-venv",
        "dnf": f"sudo dnf install -y gcc {python}-devel",
        "apk": "sudo apk add gcc musl-dev python3-dev",
        "brew": "brew install gcc python",
    }.items():
        if shutil.which(tool):
            return command
    return "your package manager: a C compiler and the development files of Python"


def main() -> int:
    """Tell what is missing; return the exit code."""
    found = missing()
    if not found:
        return 0
    print(f"aioproducer needs {' and '.join(found)}; install with: {install_command()}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
