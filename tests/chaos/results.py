"""Runs as they are stored: JSON for machines, Markdown for people, and the table of a terminal.

Written into `benchmarks/results` beside the benchmarks, which chaos runs share the machine and the
peers with.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, git_revision, machine
from benchmarks.tables import markdown, plain
from tests.chaos.audit import Findings, Phase
from tests.chaos.clients import Options
from tests.chaos.faults import Fault
from tests.chaos.runner import OURS, SLICE, ClientResult, Run

__all__ = ["LATEST", "Results", "phases_as_json", "rounded", "seconds", "show"]

LATEST = "latest-chaos"
"""The runs that are not kept in git."""

_COLUMNS: Sequence[tuple[str, str]] = (
    ("sent", "sent"),
    ("acknowledged", "acknowledged"),
    ("failed", "failed"),
    ("missing", "missing"),
    ("twice", "twice"),
    ("out_of_order", "out of order"),
    ("misplaced", "wrong offset"),
    ("mistimed", "wrong timestamp"),
    ("unlawful", "stored though reported as not stored"),
    ("unresolved", "no outcome"),
    ("told_twice", "two outcomes"),
)
_RULES = f"""\
All clients sent at the same time to the same three brokers, each to a topic of its own with the \
leaders on the same brokers: one fault hits all alike. *Acknowledged* and *failed* are what the \
client said; the other columns are what an independent reader (librdkafka) found in the log after \
the run: *missing*, acknowledged and not there; *twice*, copies beyond the first; *out of order*, \
behind a later record of the same key in the same partition; *stored though reported as not \
stored*, there although the client said that it cannot be; *no outcome*, none a quarter of a \
minute after the delivery timeout. Waits are from the call of send to the outcome. Records that \
{OURS} sent in a cancelled `send_and_wait` have no outcome to wait for, but must be in the log.
"""


@dataclass(slots=True)
class Results:
    """Several runs of one script.

    Attributes:
        name: Under which they are stored.
        kafka: The brokers' version.
        brokers: Their options, where not the defaults.
        versions: Of the clients.
        options: Of the clients.
        rate: Records a second of each client.
        script: What happened.
        runs: The runs.
    """

    name: str
    kafka: str
    brokers: dict[str, str]
    versions: dict[str, str]
    options: Options
    rate: int
    script: Sequence[Fault]
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    git_revision: str = field(default_factory=lambda: git_revision())
    machine: dict[str, str] = field(default_factory=lambda: machine())
    runs: list[Run] = field(default_factory=list[Run])

    def write(self) -> list[Path]:
        """Store all there is; return where."""
        FOLDER.mkdir(exist_ok=True)
        whole, page = FOLDER / f"{self.name}.json", FOLDER / f"{self.name}.md"
        whole.write_text(json.dumps(self._as_json(), indent=1) + "\n")
        page.write_text(self._page())
        return [whole, page]

    def of(self, client: str) -> list[ClientResult]:
        """Return the results of one client, a run each."""
        return [one for run in self.runs for one in run.clients if one.client == client]

    def _as_json(self) -> dict[str, Any]:
        script = [{"name": fault.name, "what": fault.what} for fault in self.script]
        named = {
            name: getattr(self, name)
            for name in (
                "name", "started_at", "git_revision", "machine", "kafka", "brokers", "versions",
                "rate",
            )
        }  # fmt: skip
        return named | {
            "options": asdict(self.options),
            "script": script,
            "seconds_of_a_slice": SLICE,
            "runs": [_run_as_json(run) for run in self.runs],
        }

    def _page(self) -> str:
        machine = self.machine
        versions = "; ".join(f"{name} {version}" for name, version in self.versions.items())
        brokers = ", ".join(f"{name}={value}" for name, value in self.brokers.items())
        lines = [
            f"# Chaos run {self.name}",
            "",
            f"{self.started_at}, revision {self.git_revision}, Kafka {self.kafka}, three brokers"
            f" on the same machine: {machine['cpu']}, {machine['cores']} cores,"
            f" {machine['memory']}, {machine['system']}, {machine['python']}.",
            "",
            f"{versions}. {self.rate:,} records/s each, 100 keys, 6 partitions, 3 replicas,"
            " min.insync.replicas=2, idempotent, acks=all, delivery timeout"
            f" {self.options.delivery_timeout_ms / 1000:g} s, request timeout"
            f" {self.options.request_timeout_ms / 1000:g} s (aiokafka has one bound for both, set"
            f" to the delivery timeout); all else the defaults. Brokers: {brokers}.",
            "",
            _RULES,
        ]
        if len(self.runs) > 1:
            lines += [f"## All {len(self.runs)} runs", "", *markdown(self._summary()), ""]
        for number, run in enumerate(self.runs, 1):
            lines += [f"## Run {number}", "", *markdown(_main_table(run)), ""]
            if any(one.second.sent for one in run.clients):
                lines += [
                    "The topic that was deleted and recreated; what failed or went with the old"
                    " one is no fault:",
                    "",
                    *markdown(_second_table(run)),
                    "",
                ]
            lines += [
                "Longest wait of the records of each phase (a record is of the phase that it waited"
                " in longest), in seconds; beside it, how late the machine let a thread with"
                " nothing to do have its turn:",
                "",
            ]
            lines += [*markdown(_phase_table(run, self.script)), ""]
            lines += [f"{note}." for note in run.notes]
        return "\n".join(lines).rstrip() + "\n"

    def _summary(self) -> list[list[str]]:
        head = ["client", *(title for _, title in _COLUMNS), "longest wait s (median, worst)"]
        rows: list[list[str]] = [head]
        for client in dict.fromkeys(one.client for run in self.runs for one in run.clients):
            results = self.of(client)
            longest = [one.waits.longest for one in results]
            rows.append(
                [
                    client,
                    *_counts([one.main for one in results]),
                    f"{statistics.median(longest):.1f}, {max(longest):.1f}",
                ]
            )
        return rows


def show(run: Run, script: Sequence[Fault]) -> str:
    """Return the tables of one run for a terminal."""
    parts = [plain(_main_table(run)), plain(_phase_table(run, script))]
    if any(one.second.sent for one in run.clients):
        parts.insert(1, "second topic:\n" + plain(_second_table(run)))
    parts += [
        f"{client.client}, {which} topic: errors {findings.errors}"
        for client in run.clients
        for which, findings in (("first", client.main), ("second", client.second))
        if findings.errors
    ]
    return "\n\n".join(parts)


def _run_as_json(run: Run) -> dict[str, Any]:
    clients: dict[str, Any] = {}
    for one in run.clients:
        whole = asdict(one)
        whole["waits"] = rounded(whole["waits"])
        clients[whole.pop("client")] = whole | {"broken": one.broken()}
    return {
        "phases": phases_as_json(run.phases, run.stalls),
        "clients": clients,
        "notes": run.notes,
    }


def phases_as_json(phases: Sequence[Phase], stalls: Sequence[float]) -> list[dict[str, Any]]:
    """Return the phases of a run, in seconds since its start, for a file."""
    start = phases[0].started_at
    return [
        {
            "name": phase.name,
            "started_at": round(phase.started_at - start, 2),
            "ended_at": round(phase.ended_at - start, 2),
            "machine_stalls": round(stall, 3),
        }
        for phase, stall in zip(phases, stalls, strict=True)
    ]


def rounded(value: Any) -> Any:
    """Return a value with each number in it rounded, for a file."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}  # pyright: ignore
    if isinstance(value, list):
        return [rounded(one) for one in value]  # pyright: ignore
    return value


def _main_table(run: Run) -> list[list[str]]:
    head = ["client", *(title for _, title in _COLUMNS), "p50 / p99 / p99.9 / longest wait s"]
    rows = [head]
    for one in run.clients:
        waits = one.waits
        times = " / ".join(
            seconds(value) for value in (waits.p50, waits.p99, waits.p999, waits.longest)
        )
        rows.append([one.client, *_counts([one.main]), times])
    return rows


def _second_table(run: Run) -> list[list[str]]:
    rows = [["client", *(title for _, title in _COLUMNS)]]
    return rows + [[one.client, *_counts([one.second])] for one in run.clients]


def _phase_table(run: Run, script: Sequence[Fault]) -> list[list[str]]:
    what = {fault.name: fault.what for fault in script}
    clients = [one.client for one in run.clients]
    rows = [["phase", "what happens", "takes s", "machine stalls s", *clients]]
    for phase, stall in zip(run.phases, run.stalls, strict=True):
        waits = [seconds(one.waits.by_phase[phase.name]) for one in run.clients]
        took = f"{phase.ended_at - phase.started_at:.0f}"
        rows.append([phase.name, what[phase.name], took, seconds(stall), *waits])
    return rows


def _counts(findings: Iterable[Findings]) -> list[str]:
    each = list(findings)
    return [f"{sum(int(getattr(one, name)) for one in each):,}" for name, _ in _COLUMNS]


def seconds(value: float) -> str:
    """Return seconds for a table."""
    return f"{value:.1f}" if value >= 1 else f"{value:.3f}"
