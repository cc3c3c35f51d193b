"""The clients' processes, and the script that is played before them.

Owns what both have of the system: pipes, logs, and the watch that tells how busy the machine was.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from tests.chaos.audit import Phase
from tests.chaos.faults import Fault, Field
from tools.kafka_cluster import ROOT, tail

__all__ = ["ClientProcess", "play"]

_BREATH = 1.0
_GLANCE = 0.01


class _StallWatch:
    """Measures how late a thread with nothing to do gets its turn."""

    def __init__(self) -> None:
        self._longest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def take(self) -> float:
        """Return the longest delay since the last call, in seconds."""
        longest, self._longest = self._longest, 0.0
        return longest

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(_GLANCE):
            now = time.monotonic()
            self._longest = max(self._longest, now - before - _GLANCE)
            before = now


class ClientProcess:
    """A client's process.

    Args:
        name: The client.
        module: What it runs, with `name` and `job` as arguments.
        job: What it is to do.
        folder: Where its log goes.
        patience: Seconds that it may take to end after the order to.
    """

    def __init__(self, name: str, module: str, job: str, folder: Path, *, patience: float) -> None:
        self.name = name
        self._patience = patience
        self._log = (folder / f"{name}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, name, job],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def wait_until_ready(self) -> None:
        """Return when it has a connection.

        Raises:
            RuntimeError: It ended instead.
        """
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{self.name} did not start:\n{tail(self._log)}")

    def order(self, word: str) -> None:
        """Give an order; one that has crashed does not hear it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass

    def wait(self) -> str:
        """Wait for its end; return what it said if it was not a good one."""
        try:
            code = self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            return f"did not end within {self._patience:.0f} s"
        return f"ended with code {code}:\n{tail(self._log)}" if code else ""

    def close(self) -> None:
        """Let everything of it go."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def play(
    field: Field, script: Sequence[Fault], say: Callable[[str], None]
) -> tuple[list[Phase], list[float]]:
    """Play a script; return its phases, and the longest stall of the machine in each."""
    phases: list[Phase] = []
    stalls: list[float] = []
    with closing(_StallWatch()) as watch:
        for fault in script:
            started_at = time.monotonic()
            watch.take()
            # Those called before have their outcome by then: each fault is told from the next.
            time.sleep(_BREATH)
            fault.do(field)
            field.come_to_rest()
            ended_at = time.monotonic()
            phases.append(Phase(fault.name, started_at, ended_at))
            stalls.append(watch.take())
            since = started_at - phases[0].started_at
            say(f"{since:6.1f} s  {fault.name} ({fault.what}): {ended_at - started_at:.1f} s")
    return phases, stalls
