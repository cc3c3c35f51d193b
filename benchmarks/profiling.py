"""`make profile`: shows in which functions this producer spends the time of a record.

`perf` sees the native modules and CPython itself; where it cannot run, py-spy draws a flame graph.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.broker import Broker
from benchmarks.jobs import Job, Measurement, Pattern
from benchmarks.results import FOLDER
from benchmarks.workloads import FULL, Workload
from tools.kafka import find_kafka

_ROOT = Path(__file__).parent.parent
_SECONDS = 5.0
_SHARE_SHOWN = 0.7
_NO_VALUE = " -"
_ADVICE = "neither perf nor py-spy runs here: install linux-perf, or `pip install py-spy`"


def main(argv: Sequence[str] | None = None) -> int:
    """Profile one workload; return the exit code."""
    table = {
        workload.name: workload
        for workload in FULL
        if workload.contenders[0].client == "aioproducer" and workload.pattern is not Pattern.PACED
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=__doc__)
    parser.add_argument("workload", nargs="?", default="send_nowait", choices=table)
    workload = table[parser.parse_args(argv).workload]
    profile = next((one for one in (_perf, _py_spy) if one.__name__[1:] in _profilers()), None)
    if profile is None:
        print(_ADVICE, file=sys.stderr)
        return 1
    with find_kafka() as kafka:
        broker = Broker(kafka.bootstrap_servers, 1)
        job = _job(workload, kafka.bootstrap_servers)
        broker.create(job.topic_names, job.partitions, job.max_request_bytes)
        try:
            profile(job)
        finally:
            broker.delete(job.topic_names)
    return 0


def _profilers() -> set[str]:
    found: set[str] = set()
    if shutil.which("perf"):
        tried = subprocess.run(
            ["perf", "record", "-o", "/dev/null", "true"], capture_output=True, check=False
        )
        if tried.returncode == 0:
            found.add("perf")
    if shutil.which("py-spy"):
        found.add("py_spy")
    return found


def _job(workload: Workload, bootstrap_servers: str) -> Job:
    return Job(
        bootstrap_servers=bootstrap_servers,
        topic=f"profile-{workload.name}-{time.time_ns()}",
        pattern=workload.pattern,
        topics=workload.topics,
        partitions=workload.partitions,
        payload=workload.payload,
        seconds=_SECONDS,
        tasks=workload.tasks,
    )


def _worker(job: Job) -> list[str]:
    # With it, perf sees the names of Python functions, too.
    options = ["-X", "perf"] if sys.version_info >= (3, 12) else []
    return [sys.executable, *options, "-m", "benchmarks.worker", "aioproducer", job.to_json()]


def _perf(job: Job) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/perf.data"
        record = ["perf", "record", "-q", "-F", "4999", "-o", data, "--", *_worker(job)]
        run = subprocess.run(record, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
        measurement = Measurement.from_json(run.stdout.splitlines()[-1])
        report = ["perf", "report", "-q", "--stdio", "-i", data, "--sort", "dso,symbol"]
        report += ["--percent-limit", str(_SHARE_SHOWN)]
        shown = subprocess.run(report, capture_output=True, text=True, check=True).stdout
    print(
        f"{job.pattern}: {measurement.rate:,.0f} records/s while profiled,"
        f" {measurement.cpu_us * 1000:.0f} ns of processor time each\n\n  ns/record"
    )
    for line in filter(None, shown.splitlines()):
        share, _, where = line.strip().partition("%")
        nanoseconds = measurement.cpu_us * 1000 * float(share) / 100
        print(f"  {nanoseconds:8.1f}  {share:>6} %  {where.strip(_NO_VALUE)}")


def _py_spy(job: Job) -> None:
    FOLDER.mkdir(exist_ok=True)
    picture = FOLDER / "latest.svg"
    command = ["py-spy", "record", "--native", "-o", str(picture), "--", *_worker(job)]
    subprocess.run(command, cwd=_ROOT, check=True)
    print(f"flame graph: {picture.relative_to(_ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
