"""Runs workloads: round by round, contender by contender, each in a process and topic of its own.

Called by __main__.py. Every measurement is checked against the end offsets of its topic, and one
that is paced or has transactions by reading the log back: a figure of records that are not in the
log is worth nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

import trustme
from confluent_kafka import KafkaException
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from benchmarks import figures
from benchmarks.broker import Broker
from benchmarks.clients import load
from benchmarks.drivers import PACED_HEADER
from benchmarks.jobs import Job, Measurement, Pattern
from benchmarks.results import ContenderResult, Run, WorkloadResult
from benchmarks.route import measure as route
from benchmarks.route.measure import RouteError
from benchmarks.workloads import DEFAULT_ROUNDS, Contender, Workload
from tools.kafka import Kafka, KafkaUnavailableError, LocalKafka, find_kafka, start_kafka
from tools.kafka_cluster import HOME, Record
from tools.kafka_java import Listener

__all__ = ["MeasurementError", "Progress", "in_turn", "logs_in_memory", "reason_in", "run"]

_ROOT = Path(__file__).parent.parent
_MEMORY = Path("/dev/shm")
_T = TypeVar("_T")
_GRACE = 120.0
"""Seconds beyond its own that a measuring process may take."""
_MANY_PARTITIONS = 500
_FIRST_RECORDS = 8.0
"""A partition's first record makes its log: no contender's figures should show that."""
# The log of a deleted topic goes at once: before the machine writes it to its disk, and before the
# broker has too many open files.
_BROKER_CONFIG = {"log.segment.delete.delay.ms": "500"}
_BROKER_WARM_UP = 6.0
"""A cold JVM answers slowly for some seconds; nobody's figures should show that."""
_WARM_UP_BLOCK = 10
"""Records of each transaction that a broker is warmed up with."""
_WARM_UP_PART = 10.0
"""The log of a warm-up topic is deleted after so many seconds of records: disks are finite."""
# With a heap of 512 MB, the JVM's garbage collector makes regions of 1 MB, and each request of half
# a region or more takes regions of its own.
_THREE_BROKERS_JAVA = "-XX:+UseG1GC -XX:G1HeapRegionSize=4m"


_ERROR: Final = re.compile(r"[\w.]+(Error|Exception): ")
"""How a line begins that names an error, in Python and in Java."""


class MeasurementError(Exception):
    """A client failed, or the log does not hold exactly what was acknowledged."""


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
        self.show(line)

    def show(self, line: str) -> None:
        """Print a line that the next one replaces."""
        if self._is_terminal:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr)
        print(text, file=sys.stderr, flush=True)


def in_turn(contenders: Sequence[_T], number: int) -> list[_T]:
    """Return who is measured after whom in a round: the other way round in every other one.

    So each pair of contenders is measured in both orders, with the same neighbours.
    """
    return list(contenders if number % 2 == 0 else reversed(contenders))


def run(
    name: str,
    workloads: Sequence[Workload],
    clients: Sequence[str],
    rounds: int | None,
    seconds: float,
    warm_up: float,
) -> Run:
    """Measure all workloads.

    Args:
        name: The run's name.
        workloads: What to measure.
        clients: Only these take part.
        rounds: How often each contender of a workload is measured; None for what each says.
        seconds: How long each measurement sends, where the workload does not say.
        warm_up: How long three brokers get records before the first measurement.
    """
    missing = {client: load(client).unavailable() for client in clients}
    plan = [
        (workload, [one for one in workload.contenders if one.client in clients])
        for workload in workloads
    ]
    progress = Progress(
        sum(
            (rounds or workload.rounds)
            for workload, contenders in plan
            for one in contenders
            if not missing[one.client]
        )
    )
    for client, reason in missing.items():
        if reason:
            progress.say(f"{client} is left out: {reason}")
    result = Run(name, rounds or DEFAULT_ROUNDS, seconds)
    for kind in sorted({_kind(workload) for workload in workloads}):
        with _cluster(*kind) as (broker, version):
            result.kafka = version
            _warm_up(broker, progress, warm_up if kind[0] > 1 else _BROKER_WARM_UP)
            if any(one.chapter == "transactions" for one in workloads):
                _warm_up(broker, progress, _BROKER_WARM_UP, Pattern.TRANSACTIONS)
            for workload, contenders in plan:
                if _kind(workload) == kind:
                    with closing(_Measuring(broker, workload, seconds, progress)) as measuring:
                        row = _measure_all(
                            measuring, contenders, missing, rounds or workload.rounds
                        )
                    result.workloads.append(row)
                    result.write()
    order = [workload.name for workload in workloads]
    result.workloads.sort(key=lambda row: order.index(row.name))
    return result


def _kind(workload: Workload) -> tuple[int, bool, bool]:
    """The cluster that a workload needs: how many brokers, logs in memory, a TLS listener."""
    return workload.brokers, workload.logs_in_memory, workload.chapter == "tls"


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
        idiom = load(contender.client).IDIOMS[contender.pattern or workload.pattern]
        into = ContenderResult(contender.label, contender.client, idiom)
        into.left_out = missing[contender.client] or ""
        row.contenders.append(into)
        if not into.left_out:
            pairs.append((contender, into))
    for number in range(rounds):
        for contender, into in in_turn(pairs, number):
            progress.start(f"{workload.name}: {contender.label}, round {number + 1}")
            if into.failure:
                continue
            try:
                into.rounds.append(measuring.measure(contender, number))
            except (MeasurementError, KafkaException) as error:
                into.failure = reason_in(str(error))
                into.rounds.clear()
                progress.say(f"  {workload.name}: {contender.label}: {error}")
    for into in row.measured():
        figure = f"{figures.short(row.median(into)):>10} {row.metric}"
        progress.say(f"  {workload.name:<20} {into.label:<42} {figure}")
    return row


@contextmanager
def _cluster(brokers: int, in_memory: bool, tls: bool) -> Generator[tuple[Broker, str]]:
    with ExitStack() as stack:
        ca_location = ""
        if tls:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            cluster: Kafka = _with_tls(folder)
            ca_location = str(folder / "authority.pem")
        elif brokers == 1 and os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            cluster = find_kafka()
        else:
            in_memory_logs = stack.enter_context(logs_in_memory()) if in_memory else {}
            cluster = _start(brokers, in_memory_logs)
        kafka = stack.enter_context(cluster)
        pids = [
            process.pid
            for record in Record.read_all(HOME)
            if record.bootstrap_servers == kafka.bootstrap_servers
            for process in record.brokers.values()
        ]
        tls_servers = kafka.addresses["SSL"] if isinstance(kafka, LocalKafka) and tls else ""
        yield (
            Broker(kafka.bootstrap_servers, brokers, pids, tls_servers, ca_location),
            kafka.version,
        )


def _with_tls(folder: Path) -> LocalKafka:
    """Start a broker with a TLS listener beside its plain one."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    # Java reads keys in PKCS #8 alone.
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    store = folder / "broker.pem"
    store.write_bytes(key + b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    tls = Listener("SSL", {"ssl.keystore.type": "PEM", "ssl.keystore.location": store})
    return LocalKafka(config=_BROKER_CONFIG, listeners={"SSL": tls}).start()


def _start(brokers: int, in_memory_logs: Mapping[str, str]) -> Kafka:
    if in_memory_logs:
        # A container does not see this machine's folders.
        with suppress(KafkaUnavailableError):
            return LocalKafka(config={**_BROKER_CONFIG, **in_memory_logs}).start()
    with _java_options(_THREE_BROKERS_JAVA if brokers > 1 else ""):
        return start_kafka(brokers=brokers, config=_BROKER_CONFIG)


@contextmanager
def logs_in_memory() -> Generator[dict[str, str]]:
    """Return the option that puts the logs of one broker into memory; the end deletes them.

    Where the system has no such folder, there is no option, and they are on disk.
    """
    if not _MEMORY.is_dir():
        yield {}
        return
    for leftover in _MEMORY.glob("aioproducer-benchmarks-*"):
        if not Path(f"/proc/{leftover.name.rpartition('-')[2]}").exists():
            shutil.rmtree(leftover, ignore_errors=True)
    folder = _MEMORY / f"aioproducer-benchmarks-{os.getpid()}"
    folder.mkdir()
    try:
        yield {"log.dirs": str(folder)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _java_options(options: str) -> Generator[None]:
    """Give options to every JVM that starts in here."""
    before = os.environ.get("JAVA_TOOL_OPTIONS")
    if options:
        os.environ["JAVA_TOOL_OPTIONS"] = options
    try:
        yield
    finally:
        os.environ.pop("JAVA_TOOL_OPTIONS", None)
        if before is not None:
            os.environ["JAVA_TOOL_OPTIONS"] = before


def _warm_up(
    broker: Broker, progress: Progress, seconds: float, pattern: Pattern = Pattern.CALL
) -> None:
    """Send for so long, by one client after the other."""
    clients = itertools.cycle(("aioproducer", "confluent_sync"))
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        progress.show(f"warming the broker up, {left:.0f} s to go")
        topic = f"benchmarks-warm-up-{time.time_ns()}"
        broker.create([topic], 6, None)
        job = Job(
            bootstrap_servers=broker.bootstrap_servers,
            topic=topic,
            pattern=pattern,
            block=_WARM_UP_BLOCK,
            seconds=min(_WARM_UP_PART, seconds / 2),
        )
        _in_process(next(clients), job)
        broker.delete([topic])


class _Measuring:
    """One workload on one cluster.

    Its topics are new for each measurement; only where that takes long, the rounds share them.
    """

    def __init__(
        self, broker: Broker, workload: Workload, seconds: float, progress: Progress
    ) -> None:
        self.workload = workload
        self.progress = progress
        self._broker = broker
        self._seconds = workload.seconds or seconds
        self._shared: Job | None = None

    def measure(self, contender: Contender, number: int) -> Measurement:
        """Measure once and check the log."""
        workload = self.workload
        broker = self._broker
        uses_tls = workload.uses_tls
        job = Job(
            bootstrap_servers=broker.tls_servers if uses_tls else broker.bootstrap_servers,
            ca_location=broker.ca_location if uses_tls else "",
            topic=f"benchmarks-{workload.name}-{number}-{time.time_ns()}",
            pattern=contender.pattern or workload.pattern,
            topics=workload.topics,
            partitions=workload.partitions,
            payload=workload.payload,
            seconds=self._seconds,
            tasks=workload.tasks,
            rate=workload.rate,
            block=workload.block,
            loop=contender.loop,
            gc_off=contender.gc_off,
            busy_cores=workload.busy_cores,
            options=contender.options,
        )
        if not load(contender.client).WRITES_TO_KAFKA:
            return self._run(contender.client, job)
        if self._shared is not None:
            job = dataclasses.replace(job, topic=self._shared.topic)
        else:
            self._broker.create(job.topic_names, job.partitions, job.max_request_bytes)
            if job.topics * job.partitions > _MANY_PARTITIONS:
                self._shared = job
                if job.pattern is Pattern.SPREAD and job.topics == 1:
                    _in_process(
                        "aioproducer",
                        dataclasses.replace(job, seconds=_FIRST_RECORDS, loop="asyncio"),
                    )
        try:
            stored = self._broker.record_count(job.topic_names, job.partitions)
            measurement = self._run(contender.client, job)
            self._check(job, measurement, stored)
        finally:
            if self._shared is None:
                self._broker.delete(job.topic_names)
        return measurement

    def _run(self, client: str, job: Job) -> Measurement:
        if job.pattern is not Pattern.ROUTE:
            return _in_process(client, job)
        try:
            return route.measure(client, job, self._broker.pids)
        except RouteError as error:
            raise MeasurementError(str(error)) from error

    def close(self) -> None:
        """Delete the topics that the rounds shared."""
        if self._shared is not None:
            self._broker.delete(self._shared.topic_names)

    def _check(self, job: Job, measurement: Measurement, before: int) -> None:
        if measurement.failures:
            raise MeasurementError(f"{measurement.failures} records failed")
        if job.pattern is Pattern.TRANSACTIONS:
            self.progress.show(f"{self.workload.name}: reading what was committed")
            stored = self._broker.committed_count(job.topic, job.partitions)
        else:
            stored = self._broker.record_count(job.topic_names, job.partitions) - before
        if stored != measurement.stored_records:
            raise MeasurementError(
                f"the log holds {stored:,} records,"
                f" {measurement.stored_records:,} were acknowledged"
            )
        if job.pattern is Pattern.PACED:
            self.progress.show(f"{self.workload.name}: reading {stored:,} records back")
            audit = self._broker.audit(job.topic, job.partitions, measurement.records, PACED_HEADER)
            if audit.lost or audit.twice:
                raise MeasurementError(f"{audit.lost} lost, {audit.twice} twice")


def reason_in(text: str) -> str:
    """The last line that names an error, else the last: a stack trace may follow it."""
    lines = text.strip().split("\n")
    return next((line for line in reversed(lines) if _ERROR.match(line)), lines[-1])


def _in_process(client: str, job: Job) -> Measurement:
    command = [sys.executable, "-m", "benchmarks.worker", client, job.to_json()]
    timeout = job.seconds + _GRACE
    try:
        ended = subprocess.run(
            command, cwd=_ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"took longer than {timeout:.0f} s") from None
    if ended.returncode:
        raise MeasurementError(f"failed:\n{ended.stderr[-2000:]}")
    return Measurement.from_json(ended.stdout.splitlines()[-1])
