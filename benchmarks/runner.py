"""Runs workloads: round by round, contender by contender, each in a process and topic of its own.

Called by __main__.py. Every measurement is checked against the end offsets of its topic, and a
paced one by reading the log back: a figure of records that are not in the log is worth nothing.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import figures
from benchmarks.broker import Broker
from benchmarks.clients import load
from benchmarks.drivers import PACED_HEADER
from benchmarks.jobs import Job, Measurement, Pattern
from benchmarks.results import ContenderResult, Run, WorkloadResult
from benchmarks.workloads import Contender, Workload
from tools.kafka import find_kafka, start_kafka

__all__ = ["Progress", "WrongLogError", "run"]

_ROOT = Path(__file__).parent.parent
_GRACE = 120.0
"""Seconds beyond its own that a measuring process may take."""
_BROKER_WARM_UP = 3.0
"""A cold JVM answers slowly for some seconds; nobody's figures should show that."""


class WrongLogError(Exception):
    """The log does not hold exactly what was acknowledged."""


class Progress:
    """One line on the terminal that counts measurements; plain lines where there is none."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._started_at = time.monotonic()
        self._is_terminal = sys.stderr.isatty()

    def start(self, what: str) -> None:
        """Tell what runs now."""
        self._done += 1
        spent = time.monotonic() - self._started_at
        left = spent / (self._done - 1) * (self._total - self._done + 1) if self._done > 1 else 0
        line = f"[{self._done}/{self._total}] {what}"
        if left:
            line += f" (about {left / 60:.0f} min to go)" if left > 90 else f" ({left:.0f} s to go)"
        if self._is_terminal:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr)
        print(text, file=sys.stderr, flush=True)


def run(
    name: str, workloads: Sequence[Workload], clients: Sequence[str], rounds: int, seconds: float
) -> Run:
    """Measure all workloads.

    Args:
        name: The run's name.
        workloads: What to measure.
        clients: Only these take part.
        rounds: How often each contender of a workload is measured.
        seconds: How long each measurement sends, where the workload does not say.
    """
    missing = {client: load(client).unavailable() for client in clients}
    plan = [
        (workload, [one for one in workload.contenders if one.client in clients])
        for workload in workloads
    ]
    ready = [one for _, contenders in plan for one in contenders if not missing[one.client]]
    progress = Progress(rounds * len(ready))
    for client, reason in missing.items():
        if reason:
            progress.say(f"{client} is left out: {reason}")
    result = Run(name, rounds, seconds)
    for brokers in sorted({workload.brokers for workload in workloads}):
        with _cluster(brokers) as (broker, version):
            result.kafka = version
            _warm_up(broker)
            for workload, contenders in plan:
                if workload.brokers == brokers:
                    measuring = _Measuring(broker, workload, seconds, progress)
                    row = _measure_all(measuring, contenders, missing, rounds)
                    result.workloads.append(row)
    order = [workload.name for workload in workloads]
    result.workloads.sort(key=lambda row: order.index(row.name))
    return result


def _measure_all(
    measuring: _Measuring,
    contenders: Sequence[Contender],
    missing: Mapping[str, str | None],
    rounds: int,
) -> WorkloadResult:
    workload, progress = measuring.workload, measuring.progress
    row = WorkloadResult.of(workload)
    pairs: list[tuple[Contender, ContenderResult]] = []
    for contender in contenders:
        idiom = load(contender.client).IDIOMS[workload.pattern]
        note = missing[contender.client] or ""
        row.contenders.append(ContenderResult(contender.label, contender.client, idiom, note=note))
        if not note:
            pairs.append((contender, row.contenders[-1]))
    for number in range(rounds):
        # Whoever went first goes last in the next round.
        shift = number % max(1, len(pairs))
        for contender, into in pairs[shift:] + pairs[:shift]:
            progress.start(f"{workload.name}: {contender.label}, round {number + 1}")
            into.rounds.append(measuring.measure(contender, number))
    for _, into in pairs:
        figure = f"{figures.short(row.median(into)):>10} {row.metric}"
        progress.say(f"  {workload.name:<20} {into.label:<42} {figure}")
    return row


@contextmanager
def _cluster(brokers: int) -> Generator[tuple[Broker, str]]:
    with find_kafka() if brokers == 1 else start_kafka(brokers=brokers) as kafka:
        yield Broker(kafka.bootstrap_servers, replicas=brokers), kafka.version


def _warm_up(broker: Broker) -> None:
    topic = f"benchmarks-warm-up-{time.time_ns()}"
    broker.create([topic], 6, None)
    for client in ("aioproducer", "confluent_sync"):
        job = Job(
            bootstrap_servers=broker.bootstrap_servers,
            topic=topic,
            pattern=Pattern.CALL,
            seconds=_BROKER_WARM_UP,
        )
        _in_process(client, job)
    broker.delete([topic])


class _Measuring:
    def __init__(
        self, broker: Broker, workload: Workload, seconds: float, progress: Progress
    ) -> None:
        self.workload = workload
        self.progress = progress
        self._broker = broker
        self._seconds = workload.seconds or seconds

    def measure(self, contender: Contender, number: int) -> Measurement:
        """Make topics, measure, check the log, delete the topics."""
        workload = self.workload
        job = Job(
            bootstrap_servers=self._broker.bootstrap_servers,
            topic=f"benchmarks-{workload.name}-{number}-{time.time_ns()}",
            pattern=workload.pattern,
            topics=workload.topics,
            partitions=workload.partitions,
            payload=workload.payload,
            seconds=self._seconds,
            tasks=workload.tasks,
            rate=workload.rate,
            loop=contender.loop,
            gc_off=contender.gc_off,
            options=contender.options,
        )
        if not load(contender.client).WRITES_TO_KAFKA:
            return _in_process(contender.client, job)
        self._broker.create(job.topic_names, job.partitions, job.max_request_bytes)
        try:
            measurement = _in_process(contender.client, job)
            self._check(contender, job, measurement)
        finally:
            self._broker.delete(job.topic_names)
        return measurement

    def _check(self, contender: Contender, job: Job, measurement: Measurement) -> None:
        who = f"{contender.label} in {self.workload.name}"
        if measurement.failures:
            raise WrongLogError(f"{who}: {measurement.failures} records failed")
        stored = self._broker.record_count(job.topic_names, job.partitions)
        if stored != measurement.stored_records:
            raise WrongLogError(
                f"{who}: the log holds {stored:,} records,"
                f" {measurement.stored_records:,} were acknowledged"
            )
        if job.pattern is Pattern.PACED:
            self.progress.start(f"{self.workload.name}: reading {stored:,} records back")
            audit = self._broker.audit(job.topic, job.partitions, measurement.records, PACED_HEADER)
            if audit.lost or audit.twice:
                raise WrongLogError(f"{who}: {audit.lost} lost, {audit.twice} twice")


def _in_process(client: str, job: Job) -> Measurement:
    command = [sys.executable, "-m", "benchmarks.worker", client, job.to_json()]
    ended = subprocess.run(
        command,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=job.seconds + _GRACE,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{client} failed at {job.pattern}:\n{ended.stderr[-4000:]}")
    return Measurement.from_json(ended.stdout.splitlines()[-1])
