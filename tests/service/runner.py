"""One run: a server and its clients in processes of their own, a scenario, and the audit.

Owns the two processes and the folder of what they wrote, which stays for a reader when a promise
was broken. The broker is the caller's, and runs again at the end.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.jobs import percentiles
from benchmarks.route.children import child
from tests.service.audit import Findings, HandedOver, audit
from tests.service.calls import Call, read_calls
from tests.service.load import Plan
from tests.service.scenarios import Scenario, Stage
from tests.service.serve import OURS
from tests.support.kafka import StoredRecord, consume, create_topic, end_offsets
from tools.kafka import NodeControl
from tools.kafka_cluster import tail, wait_until

__all__ = ["SLICE", "TOPICS", "Outcome", "create_topics", "run"]

TOPICS = ("payments", "clicks")
"""Where the applications write."""

SLICE = 0.5
"""Seconds of a slice of the series of requests answered 2xx."""

_BACKLOG = 2048
_PADDING = "x" * 200
_READY_TIMEOUT = 60.0
_HEALTHY_TIMEOUT = 15.0
_LONGEST_END = 45.0


@dataclass(slots=True)
class Outcome:
    """What one run of one application showed.

    Attributes:
        app: Which.
        scenario: Its name.
        seconds: From the first request to the last response.
        findings: The audit's.
        latency_ms: Of all requests with a response: p50, p99, max and more, in milliseconds.
        stored_ms: The same of the requests that were answered 2xx.
        recovered_after: Seconds from the end of the fault to the first 2xx after it; None without.
        ended_after: Seconds from SIGTERM to the end of the server.
        series: Requests answered 2xx in each slice of time.
        problems: What the server or the clients did wrong, in words.
        folder: Where logs and requests are; empty when they were deleted.
    """

    app: str
    scenario: str
    seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)
    latency_ms: dict[str, float] = field(default_factory=dict[str, float])
    stored_ms: dict[str, float] = field(default_factory=dict[str, float])
    recovered_after: float | None = None
    ended_after: float = 0.0
    series: list[int] = field(default_factory=list[int])
    problems: list[str] = field(default_factory=list[str])
    folder: str = ""

    @property
    def rate(self) -> float:
        """Requests answered 2xx a second."""
        done = self.findings.stored + self.findings.accepted
        return done / self.seconds if self.seconds else 0.0

    def broken(self) -> dict[str, int]:
        """Return the promises that were broken, each with the number of requests."""
        problems = {problem: 1 for problem in self.problems}
        return self.findings.broken() | problems


def create_topics(kafka: NodeControl) -> None:
    """Create the topics of the applications."""
    for topic in TOPICS:
        create_topic(kafka, name=topic, partitions=6)


def run(
    kafka: NodeControl,
    app: str,
    scenario: Scenario,
    *,
    clients: int,
    seconds: float,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Run one application through one scenario.

    Args:
        kafka: One broker, which has the topics.
        app: One of `serve.APPS`.
        scenario: What happens.
        clients: How many HTTP clients.
        seconds: How long, about.
        say: Gets a line of progress for each step.

    Raises:
        RuntimeError: The server did not come up.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"service-{app}-{scenario.name}-"))
    before = {topic: end_offsets(kafka, topic) for topic in TOPICS}
    outcome = Outcome(app, scenario.name, folder=str(folder))
    nonce = f"{uuid.uuid4().hex[:8]}{_PADDING}"
    with _Service(app, scenario, kafka.bootstrap_servers, folder) as service:
        plan = Plan(
            service.port,
            clients,
            nonce,
            str(folder / "calls.jsonl"),
            impatient=scenario.impatient,
            clicks=scenario.clicks,
        )
        stage = Stage(kafka, seconds, service.terminate, say)
        try:
            with child("-m", "tests.service.load", plan.to_json()) as load:
                _order(load, "")
                started_at = time.monotonic()
                scenario.play(stage)
                _order(load, "end")
        finally:
            kafka.heal()
        if not scenario.ends_server:
            if app in OURS and not wait_until(service.is_ready, _HEALTHY_TIMEOUT):
                outcome.problems.append("not ready after the fault")
            service.terminate()
    outcome.ended_after = service.ended_after
    if service.code not in (0, -15):
        outcome.problems.append(f"the server ended with code {service.code}")
    calls = read_calls(Path(plan.path))
    log = [record for topic in TOPICS for record in _since(kafka, topic, before[topic])]
    outcome.findings = audit(calls, log, _handed_over(service.undelivered), nonce)
    _measure(outcome, calls, started_at, stage)
    if not outcome.broken():
        shutil.rmtree(folder)
        outcome.folder = ""
    return outcome


class _Service:
    """A server's process."""

    def __init__(self, app: str, scenario: Scenario, bootstrap_servers: str, folder: Path) -> None:
        self.undelivered = folder / "undelivered.jsonl"
        self.code: int | None = None
        self.ended_after = 0.0
        self._app = app
        self._log = (folder / "server.log").open("w+")
        inherited = {name: value for name, value in os.environ.items() if name[:6] != "KAFKA_"}
        self._environ = inherited | {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "UNDELIVERED": str(self.undelivered),
            "DRAIN_SECONDS": "0",
            **scenario.environ,
        }

    def __enter__(self) -> _Service:
        with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listening:
            self.port: int = listening.getsockname()[1]
            descriptor = listening.fileno()
            self._child = child(
                *("-m", "tests.service.serve", self._app, str(descriptor)),
                pass_fds=[descriptor],
                log=self._log,
                environ=self._environ,
            )
            self._process = self._child.__enter__()
        if not wait_until(lambda: self.is_ready() or self._has_ended(), _READY_TIMEOUT):
            self._fail("is not ready")
        if self._has_ended():
            self._fail("ended")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._child.__exit__(None, None, None)
        self.code = self._process.returncode
        self._log.close()

    def is_ready(self) -> bool:
        """Whether its readiness probe says so."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def terminate(self) -> None:
        """Send SIGTERM, and return when it has ended."""
        sent_at = time.monotonic()
        self._process.terminate()
        try:
            self._process.wait(_LONGEST_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self.ended_after = time.monotonic() - sent_at

    def _has_ended(self) -> bool:
        return self._process.poll() is not None

    def _fail(self, what: str) -> None:
        self._child.__exit__(None, None, None)
        raise RuntimeError(f"{self._app} {what}:\n{tail(self._log)}")


def _order(load: subprocess.Popen[str], word: str) -> None:
    """Wait until the clients are connected and let them go; or let them end, and wait for it."""
    assert load.stdin is not None
    assert load.stdout is not None
    if word != "end" and load.stdout.readline() != "ready\n":
        raise RuntimeError(f"the clients did not start:\n{load.communicate()[1][-2000:]}")
    load.stdin.write(word + "\n")
    load.stdin.flush()
    if word == "end" and load.wait(_LONGEST_END) != 0:
        raise RuntimeError(f"the clients failed:\n{load.communicate()[1][-2000:]}")


def _since(kafka: NodeControl, topic: str, offsets: Mapping[int, int]) -> Sequence[StoredRecord]:
    records = consume(kafka, topic, timeout=60)
    return [record for record in records if record.offset >= offsets[record.partition]]


def _handed_over(path: Path) -> list[HandedOver]:
    if not path.exists():
        return []
    with path.open() as file:
        lines = [json.loads(line) for line in file]
    return [HandedOver(line["value"].encode(), line["possibly_persisted"]) for line in lines]


def _measure(outcome: Outcome, calls: Sequence[Call], started_at: float, stage: Stage) -> None:
    answered = [call for call in calls if call.is_answered]
    done = [call for call in answered if call.is_stored or call.is_accepted]
    last = max((call.ended_at for call in calls), default=started_at)
    outcome.seconds = last - started_at
    outcome.latency_ms = percentiles([call.ended_at - call.sent_at for call in answered])
    outcome.stored_ms = percentiles([call.ended_at - call.sent_at for call in done])
    after = [call.ended_at for call in done if call.ended_at >= stage.ended_at]
    if stage.ended_at and after:
        outcome.recovered_after = min(after) - stage.ended_at
    outcome.series = [0] * (int(outcome.seconds / SLICE) + 1)
    for call in done:
        outcome.series[int((call.ended_at - started_at) / SLICE)] += 1
