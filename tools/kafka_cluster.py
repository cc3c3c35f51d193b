"""What every way of running a Kafka shares: the record of who runs, and the end of leftovers.

Owns the ignored folder `.kafka/`: `<version>/` holds jars, `run/<name>/` one running cluster. Used
by the modules beside it.

Invariants: a process is signalled only while both its pid and its birth are the recorded ones, so
a reused pid is never killed; a cluster whose owner has died is stopped by the next start.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

__all__ = [
    "DEFAULT_VERSION",
    "HOME",
    "ROOT",
    "Kafka",
    "KafkaStartError",
    "KafkaUnavailableError",
    "NodeControl",
    "Process",
    "Record",
    "free_ports",
    "report",
    "run_with_progress",
    "stop_leftovers",
    "tail",
    "wait_until",
]

DEFAULT_VERSION = "4.3.1"
ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".kafka"


class KafkaUnavailableError(Exception):
    """There is no way to get a Kafka on this machine; the message says why and what to do."""


class KafkaStartError(Exception):
    """A broker was started and did not come up; the message ends with the tail of its log."""


class Kafka(ABC):
    """A running Kafka, whatever runs it."""

    version: str
    bootstrap_servers: str

    @abstractmethod
    def start(self) -> Self:
        """Start every broker and return when all of them serve; harmless twice."""

    @abstractmethod
    def stop(self) -> None:
        """Stop every broker and delete its data; harmless when stopped."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


class NodeControl(Kafka):
    """A Kafka whose brokers are ours to break. Nodes are numbered from 1."""

    @abstractmethod
    def kill(self, node: int) -> None:
        """End a broker at once, as a crash would."""

    @abstractmethod
    def stop_node(self, node: int) -> None:
        """Shut a broker down in order: it hands its leaders over first."""

    @abstractmethod
    def start_node(self, node: int) -> None:
        """Start a killed or stopped broker again, with its data; returns when it serves."""

    @abstractmethod
    def pause(self, node: int) -> None:
        """Freeze a broker: connections stay open, nothing is answered."""

    @abstractmethod
    def resume(self, node: int) -> None:
        """Let a paused broker go on."""

    @abstractmethod
    def heal(self) -> None:
        """Resume and start whatever a test left paused, stopped or dead."""


def report(text: str) -> None:
    """Print one line of progress; standard output stays free for answers."""
    print(f"kafka: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Process:
    """A process by pid and birth, so that a reused pid is not taken for it."""

    pid: int
    born: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return the identity of a process that is running now."""
        return cls(pid, _born(pid) or "gone")

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return _born(self.pid) == self.born

    def send(self, sig: signal.Signals) -> None:
        """Signal the process if it is still the same one."""
        if self.is_alive():
            os.kill(self.pid, sig)


def _born(pid: int) -> str | None:
    """When a process started, in whatever unit the system has; None when gone or a zombie."""
    try:
        # The second field is the program's name in parentheses and may itself hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, born = answer.stdout.strip().partition(" ")
    return None if not born or state.startswith("Z") else born.strip()


@dataclass(frozen=True, slots=True)
class Record:
    """What `.kafka/run/<name>/cluster.json` says of one running cluster."""

    directory: Path
    version: str
    bootstrap_servers: str
    owner: Process | None
    brokers: Mapping[int, Process]
    stop_command: Sequence[str] = ()

    def write(self) -> None:
        """Put it where the next start finds it, whole or not at all."""
        text = json.dumps(
            {
                "version": self.version,
                "bootstrap_servers": self.bootstrap_servers,
                "owner": [self.owner.pid, self.owner.born] if self.owner else None,
                "brokers": {node: [one.pid, one.born] for node, one in self.brokers.items()},
                "stop_command": list(self.stop_command),
            },
            indent=2,
        )
        whole = self.directory / "cluster.json.new"
        whole.write_text(text)
        whole.replace(self.directory / "cluster.json")

    @classmethod
    def read_all(cls, home: Path) -> list[Record]:
        """Return what is recorded of every cluster."""
        records: list[Record] = []
        for path in sorted(home.glob("run/*/cluster.json")):
            try:
                found = json.loads(path.read_text())
            except FileNotFoundError:  # its owner stopped it while we looked
                continue
            records.append(
                cls(
                    directory=path.parent,
                    version=found["version"],
                    bootstrap_servers=found["bootstrap_servers"],
                    owner=Process(*found["owner"]) if found["owner"] else None,
                    brokers={int(n): Process(*one) for n, one in found["brokers"].items()},
                    stop_command=tuple(found["stop_command"]),
                )
            )
        return records

    def is_alive(self) -> bool:
        """Whether something of it may run; what only a command can tell counts as running."""
        return bool(self.stop_command) or any(one.is_alive() for one in self.brokers.values())

    @property
    def shape(self) -> tuple[str, int]:
        """Which Kafka it is: the version and the number of addresses."""
        return self.version, len(self.bootstrap_servers.split(","))

    def destroy(self) -> None:
        """Stop the brokers without ceremony: the data goes with them."""
        if self.stop_command:
            subprocess.run(self.stop_command, capture_output=True, check=False)
        for one in self.brokers.values():
            one.send(signal.SIGKILL)
        wait_until(lambda: not any(one.is_alive() for one in self.brokers.values()), timeout=10)
        shutil.rmtree(self.directory, ignore_errors=True)


def stop_leftovers(home: Path = HOME) -> int:
    """Stop the clusters whose owner died before it could; return how many there were."""
    leftovers = [one for one in Record.read_all(home) if one.owner and not one.owner.is_alive()]
    for one in leftovers:
        pids = " ".join(str(broker.pid) for broker in one.brokers.values())
        report(f"stopping Kafka {one.version} left behind by an aborted run (pids {pids})")
        one.destroy()
    return len(leftovers)


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Ask until it is so; return False when `timeout` seconds did not bring it."""
    give_up_at = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.05)
    return True


def run_with_progress(
    what: str, command: Sequence[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> None:
    """Run a long step, telling every 5 s that it still runs."""
    report(what)
    started_at = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        while True:
            try:
                code = process.wait(timeout=5)
                break
            except subprocess.TimeoutExpired:
                report(f"{what}: {time.monotonic() - started_at:.0f} s")
            except BaseException:
                process.kill()
                process.wait()
                raise
        if code:
            raise KafkaUnavailableError(f"{' '.join(command)} failed:\n{tail(output)}")


def tail(text: TextIO, lines: int = 25) -> str:
    """Return the last lines of an open log."""
    text.seek(0)
    return "\n".join(text.read().splitlines()[-lines:])


def free_ports(count: int, first: int | None = None) -> list[int]:
    """Return ports nobody listens on, below the range that the system gives to clients.

    A killed broker's port must stay free until the broker is back. From the clients' range, any
    outgoing connection may take it; even the very one that tries to reach the dead broker, which
    then talks to itself.
    """
    candidates = random.sample(range(20_000, 32_000), k=count + 200)
    ports: list[int] = []
    for port in [first, *candidates] if first else candidates:
        with socket.socket() as probe:
            # As Java binds: connections in TIME_WAIT are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise KafkaStartError(f"no {count} free ports between 20000 and 32000")
