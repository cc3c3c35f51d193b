"""A run as it is stored: every round of every contender, the machine and the versions.

Written by the runner; read by summary, report and compare.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from benchmarks.jobs import Measurement
from benchmarks.workloads import Metric, Workload

__all__ = [
    "FOLDER",
    "LATEST",
    "ContenderResult",
    "Run",
    "WorkloadResult",
    "git_revision",
    "machine",
    "newest_stored",
]

FOLDER = Path(__file__).parent / "results"
LATEST = "latest"
"""The run that is not kept in git."""

_ROOT = Path(__file__).parent.parent


@dataclass(slots=True)
class ContenderResult:
    """One contender of one workload, with a measurement per round."""

    label: str
    client: str
    idiom: str
    rounds: list[Measurement] = field(default_factory=list[Measurement])
    left_out: str = ""
    """Why it took no part."""
    failure: str = ""
    """What went wrong: then no round of it counts."""

    def values(self, metric: Metric, value_bytes: int) -> list[float]:
        """Return the figure of each round."""
        read: dict[Metric, Callable[[Measurement], float]] = {
            Metric.RATE: lambda one: one.rate,
            Metric.MEGABYTES: lambda one: one.rate * value_bytes / 1e6,
            Metric.TRANSACTIONS: lambda one: one.block_rate,
            Metric.CPU: lambda one: one.cpu_us,
            Metric.P50: lambda one: one.latency_ms["p50"],
            Metric.P99: lambda one: one.latency_ms["p99"],
            Metric.MAX: lambda one: one.latency_ms["max"],
            Metric.SECONDS: lambda one: one.seconds,
        }
        return [read[metric](one) for one in self.rounds]


@dataclass(slots=True)
class WorkloadResult:
    """One workload with its contenders, ours first."""

    name: str
    title: str
    metric: Metric
    chapter: str
    value_bytes: int
    contenders: list[ContenderResult] = field(default_factory=list[ContenderResult])

    @classmethod
    def of(cls, workload: Workload) -> Self:
        """Return an empty result for a workload."""
        return cls(
            workload.name,
            workload.title,
            workload.metric,
            workload.chapter,
            workload.payload.value_bytes,
        )

    def measured(self) -> list[ContenderResult]:
        """The contenders that took part."""
        return [one for one in self.contenders if one.rounds]

    def values(self, contender: ContenderResult) -> list[float]:
        """Return the figure this workload is about, of each round."""
        return contender.values(self.metric, self.value_bytes)

    def median(self, contender: ContenderResult) -> float:
        """Return the median over the rounds."""
        return statistics.median(self.values(contender))

    def ours(self) -> ContenderResult | None:
        """Return this producer with its defaults on asyncio, if it took part."""
        return self.find("aioproducer")

    def find(self, label: str) -> ContenderResult | None:
        """Return a contender that took part."""
        return next((one for one in self.measured() if one.label == label), None)


@dataclass(slots=True)
class Run:
    """A whole run."""

    name: str
    rounds: int
    seconds: float
    kafka: str = ""
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    git_revision: str = field(default_factory=lambda: git_revision())
    machine: dict[str, str] = field(default_factory=lambda: machine())
    workloads: list[WorkloadResult] = field(default_factory=list[WorkloadResult])
    imports: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Processor seconds of each package's import above asyncio, round by round."""

    def failures(self) -> list[tuple[WorkloadResult, ContenderResult]]:
        """Return who failed at what."""
        return [
            (workload, contender)
            for workload in self.workloads
            for contender in workload.contenders
            if contender.failure
        ]

    def versions(self) -> dict[str, str]:
        """Return the version of each client that took part."""
        return {
            contender.client: contender.rounds[0].version
            for workload in self.workloads
            for contender in workload.measured()
        }

    def write(self) -> Path:
        """Store it in `results/`."""
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self) | {"versions": self.versions()}, indent=1) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a stored run."""
        read = json.loads(path.read_text())
        del read["versions"]
        workloads = read.pop("workloads")
        run = cls(**read)
        for workload in workloads:
            contenders = workload.pop("contenders")
            workload["metric"] = Metric(workload["metric"])
            result = WorkloadResult(**workload)
            for contender in contenders:
                rounds = [Measurement(**one) for one in contender.pop("rounds")]
                result.contenders.append(ContenderResult(**contender, rounds=rounds))
            run.workloads.append(result)
        return run


def newest_stored(wanted: Sequence[str] = ()) -> Run | None:
    """Return the newest of the runs that are kept, or None.

    Args:
        wanted: Names of workloads, of which the run must have one; empty for any run.
    """
    # The runs of `make chaos` are stored there too.
    runs = [
        run
        for path in FOLDER.glob("*.json")
        if path.stem != LATEST and "workloads" in json.loads(path.read_text())
        for run in [Run.read(path)]
        if not wanted or any(one.name in wanted for one in run.workloads)
    ]
    return max(runs, key=lambda run: run.started_at, default=None)


def git_revision() -> str:
    """Return the commit that is measured, and whether the package differs from it."""

    def git(*arguments: str) -> str:
        run = subprocess.run(
            ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False
        )
        return run.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "aioproducer")
    return git("rev-parse", "--short", "HEAD") + ("+changes" if changed else "")


def machine() -> dict[str, str]:
    """Return what a reader must know of the machine to judge a figure."""
    kernel = platform.release().partition("-")[0]
    return {
        "cpu": _first("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {kernel}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "bits": str(sys.maxsize.bit_length() + 1),
    }


def _memory() -> str:
    kib = _first("/proc/meminfo", "MemTotal")
    return f"{int(kib.split()[0]) / (1 << 20):.0f} GiB" if kib else ""


def _first(path: str, name: str) -> str:
    try:
        lines: Sequence[str] = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
