"""One run: the clients in processes of their own, the faults, and the audit of what is left.

Owns the folder of the clients' ledgers and logs, which stays for a reader when a promise was
broken. The brokers are the caller's.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.audit import Findings, Phase, Waits, audit, measure_waits
from tests.chaos.clients import Job, Options
from tests.chaos.faults import Fault, Field, create_topics
from tests.chaos.ledger import Entry, Ledger
from tests.chaos.playing import ClientProcess, play
from tests.support.kafka import consume
from tools.kafka import NodeControl

__all__ = ["OURS", "ClientResult", "Run", "run"]

OURS = "aioproducer"
SLICE = 0.25
"""Seconds of a slice of the series of longest waits."""


@dataclass(slots=True)
class ClientResult:
    """What became of one client's records.

    Attributes:
        client: Which.
        main: Of its topic.
        second: Of the topic that was deleted and recreated.
        waits: Of the records of its topic.
        crash: What it said at the end if it ended badly; empty if it did not.
    """

    client: str
    main: Findings
    second: Findings
    waits: Waits
    crash: str = ""

    def broken(self) -> dict[str, int]:
        """Return the promises that were broken, each with the number of records."""
        broken = self.main.broken()
        # Records fail while their topic does not exist.
        for name, count in self.second.broken(but=["failed"]).items():
            broken[f"second topic: {name}"] = count
        if self.crash:
            broken["crash"] = 1
        return broken


@dataclass(slots=True)
class Run:
    """One run.

    Attributes:
        phases: On the clock of the ledgers.
        stalls: The longest time in each phase for which the machine let nobody's short sleep end:
            below it, waits say nothing of a client.
        clients: One result each.
        notes: What a reader should know.
        folder: Where ledgers and logs are; empty when they were deleted.
    """

    phases: list[Phase]
    stalls: list[float]
    clients: list[ClientResult]
    notes: list[str] = field(default_factory=list[str])
    folder: str = ""

    def broken(self) -> dict[str, int]:
        """Return the promises that aioproducer broke."""
        ours = [one for one in self.clients if one.client == OURS]
        return ours[0].broken() if ours else {}


def run(
    kafka: NodeControl,
    script: Sequence[Fault],
    clients: Iterable[str],
    *,
    rate: int,
    loop: str = "asyncio",
    options: Options | None = None,
    say: Callable[[str], None] = lambda line: None,
    folder_in: Path | None = None,
) -> Run:
    """Run a script once.

    Args:
        kafka: Three brokers to break; they run again at the end.
        script: What happens to them.
        clients: Who sends meanwhile.
        rate: Records a second of each.
        loop: aioproducer's event loop.
        options: The clients'.
        say: Gets a line of progress for each phase.
        folder_in: Where ledgers and logs are kept; without, they are kept only if a promise was
            broken.

    Raises:
        RuntimeError: A client did not start.
        TimeoutError: The cluster did not come to rest.
    """
    nonce = uuid.uuid4().hex[:8]
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{nonce}-", dir=folder_in))
    jobs = {
        client: Job(
            bootstrap_servers=kafka.bootstrap_servers,
            topic=f"chaos-{nonce}-{client}",
            second_topic=f"chaos-{nonce}-{client}-second",
            nonce=nonce,
            ledger=str(folder / f"{client}.jsonl"),
            rate=rate,
            options=options or Options(),
            loop=loop if client == OURS else "asyncio",
        )
        for client in clients
    }
    topics = [job.topic for job in jobs.values()]
    second_topics = [job.second_topic for job in jobs.values()]
    create_topics(kafka, [*topics, *second_topics])
    with ExitStack() as stack:
        running: list[ClientProcess] = []
        for name, job in jobs.items():
            running.append(
                ClientProcess(
                    name,
                    "tests.chaos.clients",
                    job.to_json(),
                    folder,
                    patience=job.options.delivery_timeout_ms / 1000 + 60,
                )
            )
            stack.callback(running[-1].close)

        def order(word: str) -> None:
            for client in running:
                client.order(word)

        battle = Field(kafka, topics, second_topics, order)
        for client in running:
            client.wait_until_ready()
        order("go")
        phases, stalls = play(battle, script, say)
        order("end")
        crashes = {client.name: client.wait() for client in running}
    say("reading the log back")
    results = [
        _judge(kafka, client, job, crashes[client], phases, battle.remade_at)
        for client, job in jobs.items()
    ]
    result = Run(phases, stalls, results, battle.notes, str(folder))
    if folder_in is None and not result.broken():
        shutil.rmtree(folder)
        result.folder = ""
    return result


def _judge(
    kafka: NodeControl,
    client: str,
    job: Job,
    crash: str,
    phases: Sequence[Phase],
    remade_at: float | None,
) -> ClientResult:
    path = Path(job.ledger)
    entries: Mapping[str, list[Entry]] = {job.topic: [], job.second_topic: []}
    for entry in Ledger.read(path) if path.exists() else ():
        entries[entry.topic].append(entry)
    main, second = (
        audit(
            entries[topic],
            consume(kafka, topic, timeout=60),
            job.nonce,
            remade_at=remade_at if topic == job.second_topic else None,
        )
        for topic in (job.topic, job.second_topic)
    )
    waits = measure_waits(entries[job.topic], phases, slice_of=SLICE)
    return ClientResult(client, main, second, waits, crash)
