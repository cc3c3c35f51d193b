"""Processes that a measurement starts, and that end with it.

Invariants: a child is ended by its own id, never by its name; a child whose parent dies without
ending it sees its standard input close, and ends by itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

__all__ = ["busy_loops", "child", "cpu_seconds", "end_with_parent", "parse_cpu_seconds"]

_ROOT = Path(__file__).parent.parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_TIMEOUT = 20.0


@contextmanager
def child(
    *arguments: str,
    pass_fds: Sequence[int] = (),
    log: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
) -> Generator[subprocess.Popen[str], None, None]:
    """Run `python ARGUMENTS` for as long as the block takes; terminate it at the end.

    Args:
        *arguments: Python's.
        pass_fds: What else it inherits.
        log: Where its standard error goes, if it may say more than a pipe holds.
        environ: Its whole environment; None for ours.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if log is None else log,
        text=True,
        env=environ,
        pass_fds=pass_fds,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            # Not SIGINT, which the children of a background job of a shell ignore.
            process.terminate()
        try:
            # Not `communicate`: it would close the input, which ends a child without ceremony.
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


@contextmanager
def busy_loops(count: int) -> Generator[None, None, None]:
    """Keep so many cores busy."""
    program = "from benchmarks.route.children import spin; spin()"
    if count == 0:
        yield
        return
    with child("-c", program), busy_loops(count - 1):
        yield


def spin() -> None:
    """Use a core until the parent is gone."""
    end_with_parent()
    while True:
        pass


def end_with_parent() -> None:
    """End this process once its standard input is closed."""

    def watch() -> None:
        # Not by `sys.stdin`: its lock, held by this thread, aborts an interpreter that ends.
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process with all its threads, user and system."""
    return parse_cpu_seconds(Path(f"/proc/{pid}/stat").read_text(), _TICKS)


def parse_cpu_seconds(stat: str, ticks: int) -> float:
    """Read it from the text of /proc/PID/stat: the 14th and 15th field, in ticks of the clock."""
    # The second field is the program's name in parentheses and may itself hold spaces.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / ticks
