"""Kafka's own Java producer, by the perf tool that comes with the broker.

Transactions are measured by a small program in the folder beside this file, for the tool has none
of a given number of records. Of the tool:

The tool takes a number of records, not a time, and does no pattern but its own: a callback per
record. Batches of 128 KiB and its linger of 5 ms were its fastest settings. Processor time and
memory are those of the whole Java process, its start included; the rate is the tool's own figure
of the steady state, after the warm-up records.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.jobs import Job, Measurement, Pattern
from tools.kafka_cluster import DEFAULT_VERSION, HOME

IDIOMS = {
    Pattern.CALL: "ProducerPerformance (a callback per record)",
    Pattern.AWAIT_LATER: "ProducerPerformance (a callback per record)",
    Pattern.CALLBACK: "ProducerPerformance (a callback per record)",
    Pattern.TRANSACTIONS: "beginTransaction(), send() in a loop, commitTransaction()",
}
WRITES_TO_KAFKA = True
_PROGRAM = Path(__file__).parent / "java" / "Transactions.java"
_LIBS: Path = HOME / DEFAULT_VERSION / "libs"
_JVM = ("java", "-Xmx512m", "-cp", str(_LIBS / "*"))
_RECORDS_A_SECOND = 600_000
"""About what it does on two cores: a guess, to turn the seconds of a job into records."""
_WARM_UP_SHARE = 0.5
_SUMMARY = re.compile(r"^(\d+) steady state records sent, ([\d.]+) records/sec", re.MULTILINE)


def unavailable() -> str | None:
    """Say whether Java or the jars are missing."""
    if shutil.which("java") is None:
        return "no Java"
    return None if _LIBS.is_dir() else "no Kafka jars: `make kafka` fetches them"


def measure(job: Job) -> Measurement:
    """Do the job."""
    return _transactions(job) if job.pattern is Pattern.TRANSACTIONS else _perf_tool(job)


def _transactions(job: Job) -> Measurement:
    command = [*_JVM, str(_PROGRAM), job.to_json()]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{_PROGRAM.name} failed:\n{run.stdout}\n{run.stderr}")
    return Measurement.from_json(run.stdout.splitlines()[-1])


def _perf_tool(job: Job) -> Measurement:
    measured = int(_RECORDS_A_SECOND * job.seconds)
    warm_up = int(measured * _WARM_UP_SHARE)
    total = measured + warm_up
    properties = {
        "bootstrap.servers": job.bootstrap_servers,
        "acks": "all",
        "enable.idempotence": "true",
        "compression.type": job.payload.codec,
        "batch.size": "131072",
        "linger.ms": "5",
    }
    command = [
        *_JVM,
        "org.apache.kafka.tools.ProducerPerformance",
        *("--topic", job.topic, "--num-records", str(total)),
        *("--warmup-records", str(warm_up)),
        *("--record-size", str(job.payload.value_bytes), "--throughput", "-1"),
        "--command-property",
        *[f"{name}={value}" for name, value in properties.items()],
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    summary = _SUMMARY.search(run.stdout)
    if run.returncode or summary is None:
        raise RuntimeError(f"ProducerPerformance failed:\n{run.stdout}\n{run.stderr}")
    records, rate = int(summary[1]), float(summary[2])
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    cpu_seconds = (usage.ru_utime + usage.ru_stime) * records / total
    return Measurement(
        records=records,
        stored_records=total,
        seconds=records / rate,
        cpu_seconds=cpu_seconds,
        peak_memory_bytes=peak,
        version=DEFAULT_VERSION,
    )
