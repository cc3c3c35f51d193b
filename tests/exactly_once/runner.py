"""One run: the clients in processes of their own, the faults, and the audit.

Owns the proxies, and the folder of ledgers and logs, which stays for a reader when a promise was
broken. The brokers are the caller's.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.audit import Phase, Waits, measure_waits
from tests.chaos.faults import Fault, create_topics
from tests.chaos.playing import ClientProcess, play
from tests.chaos.runner import OURS
from tests.exactly_once.audit import Findings, Found, audit
from tests.exactly_once.clients import Options
from tests.exactly_once.faults import (
    COORDINATED_PARTITIONS,
    STATE_TOPIC,
    WiredField,
    partition_of,
)
from tests.exactly_once.ledger import Ledger
from tests.exactly_once.load import PARTITIONS, PATIENCE, Job
from tests.exactly_once.wires import (
    NO_CUTS,
    Cuts,
    bootstrap_servers_of,
    listeners_for,
    wires_between,
)
from tests.support.kafka import Isolation, consume, end_offsets
from tools.kafka import Kafka
from tools.kafka_java import LocalKafka

__all__ = ["BROKERS", "OURS", "SLICE", "ClientResult", "Run", "run", "three_brokers"]

SLICE = 1.0
"""Seconds of a slice of the series of longest waits."""

BROKERS = {
    # The controller takes a silent broker for dead after 9 s by default.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    "auto.create.topics.enable": "false",
    "transaction.state.log.num.partitions": str(COORDINATED_PARTITIONS),
    # A transaction that nobody ends is aborted a second after its timeout, and not after ten.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}


@dataclass(slots=True)
class ClientResult:
    """What became of one client's transactions.

    Attributes:
        client: Which.
        findings: The audit's.
        waits: From the beginning of a transaction to its outcome.
        cuts: How often its commits and aborts were cut.
        hanging: Partitions in which a transaction stays open: read_committed ends before it.
        crash: What it said at the end if it ended badly; empty if it did not.
    """

    client: str
    findings: Findings
    waits: Waits
    cuts: Cuts = NO_CUTS
    hanging: int = 0
    crash: str = ""

    def broken(self) -> dict[str, int]:
        """Return the promises that were broken, each with how often."""
        broken = self.findings.broken()
        if self.hanging:
            broken["hanging"] = self.hanging
        if self.crash:
            broken["crash"] = 1
        return broken


@dataclass(slots=True)
class Run:
    """One run.

    Attributes:
        kafka: The brokers' version.
        phases: On the clock of the ledgers.
        stalls: The longest time in each phase for which the machine let nobody's short sleep end.
        clients: One result each.
        folder: Where ledgers and logs are; empty when they were deleted.
    """

    kafka: str
    phases: list[Phase]
    stalls: list[float]
    clients: list[ClientResult]
    folder: str = ""

    def broken(self) -> dict[str, int]:
        """Return the promises that aioproducer broke."""
        ours = [one for one in self.clients if one.client == OURS]
        return ours[0].broken() if ours else {}


@dataclass(slots=True)
class _Share:
    """One client's part of a run."""

    job: Job
    process: ClientProcess
    crash: str = ""
    cuts: Cuts = NO_CUTS


def three_brokers(version: str, clients: Iterable[str]) -> LocalKafka:
    """Return brokers for one run, not started."""
    return LocalKafka(
        version,
        3,
        config=BROKERS,
        listeners=listeners_for(clients),
        # They start again and again beside everything else, and run for minutes only.
        jvm_options=["-XX:TieredStopAtLevel=1"],
    )


def run(
    kafka: LocalKafka,
    script: Sequence[Fault],
    clients: Iterable[str],
    *,
    options: Options | None = None,
    say: Callable[[str], None] = lambda line: None,
    folder_in: Path | None = None,
) -> Run:
    """Run a script once.

    Args:
        kafka: Brokers that no run has broken yet, from `three_brokers`; they run at the end.
        script: What happens to them, and to the connections.
        clients: Who makes transactions meanwhile.
        options: The clients'.
        say: Gets a line of progress for each phase.
        folder_in: Where ledgers and logs are kept; without, they are kept only if a promise was
            broken.

    Raises:
        RuntimeError: A client did not start.
        TimeoutError: The cluster did not come to rest.
    """
    names = list(clients)
    nonce = uuid.uuid4().hex[:8]
    folder = Path(tempfile.mkdtemp(prefix=f"exactly-once-{nonce}-", dir=folder_in))
    jobs = {client: _job(client, nonce, kafka, folder, options) for client in names}
    create_topics(kafka, [one for job in jobs.values() for one in job.topics], PARTITIONS)
    shares, phases, stalls = _battle(kafka, script, jobs, folder, say)
    say("reading the log back")
    results = [_judge(kafka, client, one, phases) for client, one in shares.items()]
    result = Run(kafka.version, phases, stalls, results, str(folder))
    if folder_in is None and not result.broken():
        shutil.rmtree(folder)
        result.folder = ""
    return result


def _job(client: str, nonce: str, kafka: LocalKafka, folder: Path, options: Options | None) -> Job:
    return Job(
        bootstrap_servers=bootstrap_servers_of(kafka, client),
        topics=[f"{client}-{nonce}-{which}" for which in ("debits", "credits")],
        origin=f"{nonce}/{client}",
        ledger=str(folder / f"{client}.json"),
        # Each broker coordinates one of them, of each client the same.
        ids=[_id_of(f"{client}-alone", place) for place in range(COORDINATED_PARTITIONS)],
        shared_ids=[_id_of(f"{client}-turns", 0)],
        options=options or Options(),
    )


def _id_of(name: str, partition: int) -> str:
    """Return a transactional id that belongs to a partition of the coordinators' topic."""
    ids = (f"{name}-{partition}-{number}" for number in itertools.count())
    return next(one for one in ids if partition_of(one) == partition)


def _battle(
    kafka: LocalKafka,
    script: Sequence[Fault],
    jobs: dict[str, Job],
    folder: Path,
    say: Callable[[str], None],
) -> tuple[dict[str, _Share], list[Phase], list[float]]:
    """Play the script before the clients; return what is left of both."""
    shares: dict[str, _Share] = {}
    with ExitStack() as stack:
        wires = stack.enter_context(wires_between(jobs, kafka))
        for client, job in jobs.items():
            process = ClientProcess(
                client, "tests.exactly_once.load", job.to_json(), folder, patience=5 * PATIENCE
            )
            stack.callback(process.close)
            shares[client] = _Share(job, process)

        def order(word: str) -> None:
            for one in shares.values():
                one.process.order(word)

        for one in shares.values():
            one.process.wait_until_ready()
        topics = [topic for job in jobs.values() for topic in job.topics]
        field = WiredField(kafka, [*topics, STATE_TOPIC], [], order, wires=wires)
        order("go")
        phases, stalls = play(field, script, say)
        order("end")
        for client, one in shares.items():
            one.crash = one.process.wait()
            one.cuts = wires.cuts()[client]
    return shares, phases, stalls


def _judge(kafka: Kafka, client: str, share: _Share, phases: Sequence[Phase]) -> ClientResult:
    job = share.job
    path = Path(job.ledger)
    ledger = Ledger.read(path) if path.exists() else Ledger(job.origin)
    patience = job.options.transaction_timeout_ms / 1000 + 10
    hanging = sum(_count_hanging(kafka, topic, patience) for topic in job.topics)

    def read(isolation: Isolation) -> list[Found]:
        return [
            Found(topic, record)
            for topic in job.topics
            for record in consume(kafka, topic, timeout=60, isolation=isolation)
        ]

    findings = audit(ledger, read("read_committed"), read("read_uncommitted"))
    waits = measure_waits(ledger.transactions, phases, slice_of=SLICE)
    return ClientResult(client, findings, waits, share.cuts, hanging, share.crash)


def _count_hanging(kafka: Kafka, topic: str, patience: float) -> int:
    """Return in how many partitions a transaction stays open, though its timeout is over."""
    give_up_at = time.monotonic() + patience
    while True:
        ends = end_offsets(kafka, topic)
        stable = end_offsets(kafka, topic, isolation="read_committed")
        hanging = sum(stable[partition] < end for partition, end in ends.items())
        if not hanging or time.monotonic() > give_up_at:
            return hanging
        time.sleep(0.5)
