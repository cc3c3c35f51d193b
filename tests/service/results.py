"""Runs as they are stored: JSON for machines, Markdown for people, and the table of a terminal.

Written into `benchmarks/results` beside the benchmarks, which share the machine and the peers.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import short
from benchmarks.results import FOLDER, git_revision, machine
from benchmarks.tables import markdown, plain
from tests.service.runner import SLICE, Outcome
from tests.service.scenarios import Scenario

__all__ = ["LATEST", "Results", "show"]

LATEST = "latest-service"
"""The runs that are not kept in git."""

_COLUMNS: Sequence[tuple[str, Callable[[Sequence[Outcome]], str]]] = (
    ("2xx a second", lambda runs: short(statistics.median(one.rate for one in runs))),
    ("p50 ms", lambda runs: _milliseconds(runs, "p50")),
    ("p99 ms", lambda runs: _milliseconds(runs, "p99")),
    ("longest ms", lambda runs: short(max(one.latency_ms.get("max", 0) for one in runs))),
    ("2xx", lambda runs: _sum(runs, "stored", "accepted")),
    ("lost", lambda runs: _sum(runs, "lost")),
    ("stored twice", lambda runs: _sum(runs, "twice")),
    ("503", lambda runs: _sum(runs, "refused")),
    ("of them stored", lambda runs: _sum(runs, "stored_though_refused")),
    ("unknown", lambda runs: _sum(runs, "unknown")),
    ("of them stored", lambda runs: _sum(runs, "unknown_and_stored")),
    ("202", lambda runs: _sum(runs, "accepted")),
    ("of them lost", lambda runs: _sum(runs, "accepted_and_lost")),
    ("other faults", lambda runs: _sum(runs, "misplaced", "denied", "foreign", "unasked")),
    ("first 2xx after s", lambda runs: _recovered(runs)),
    ("ended after s", lambda runs: f"{statistics.median(one.ended_after for one in runs):.1f}"),
)

_LEGEND = """\
Each row is one application in all rounds: counts are sums, the rate and the percentiles are medians
of the rounds, and the longest is the longest of all. Percentiles are of all requests with a
response, whatever its status.

* *lost*: answered 2xx, and not in Kafka's log.
* *503*: the application says that the record is not stored.
* *unknown*: it cannot say (504), or the connection ended without a response, or the client hung up.
  If the record is stored, a client that tries again stores it twice.
* *202*: clicks, answered before their record is stored; *of them lost*: neither in the log nor
  given back to the application at its end (`on_undelivered`).
* *other faults*: a response with a wrong offset, a record that was given back as surely not stored
  and is in the log, one that nobody sent, another status than these.
* *first 2xx after*: the end of the fault. *ended after*: SIGTERM.
"""


@dataclass(slots=True)
class Results:
    """All that a call of `make service` found.

    Attributes:
        name: The files are `NAME.json`, `NAME.md` and `NAME.png`.
        kafka: The broker's version.
        versions: Of the clients, by application.
        clients: HTTP clients of each run.
        seconds: The length of a scenario.
        scenarios: What happened.
        outcomes: The runs.
    """

    name: str
    kafka: str
    versions: dict[str, str]
    clients: int
    seconds: float
    scenarios: Sequence[Scenario]
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    git_revision: str = field(default_factory=lambda: git_revision())
    machine: dict[str, str] = field(default_factory=lambda: machine())
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    def of(self, scenario: str, app: str) -> list[Outcome]:
        """Return the runs of one application in one scenario."""
        return [one for one in self.outcomes if (one.scenario, one.app) == (scenario, app)]

    def write(self) -> list[Path]:
        """Store all there is; return where."""
        FOLDER.mkdir(exist_ok=True)
        whole, page = FOLDER / f"{self.name}.json", FOLDER / f"{self.name}.md"
        whole.write_text(json.dumps(self._as_json(), indent=1) + "\n")
        page.write_text(self._page())
        return [whole, page]

    def _as_json(self) -> dict[str, Any]:
        whole = {
            name: getattr(self, name)
            for name in ("name", "started_at", "git_revision", "machine", "kafka", "versions")
        }
        return whole | {
            "clients": self.clients,
            "seconds": self.seconds,
            "seconds_of_a_slice": SLICE,
            "scenarios": {one.name: one.what for one in self.scenarios},
            "runs": [asdict(one) | {"broken": one.broken()} for one in self.outcomes],
        }

    def _page(self) -> str:
        machine = self.machine
        versions = "; ".join(f"{name} {version}" for name, version in self.versions.items())
        rounds = len(self.of(self.outcomes[0].scenario, self.outcomes[0].app))
        lines = [
            f"# Web services {self.name}",
            "",
            f"{self.started_at}, revision {self.git_revision}, Kafka {self.kafka}, one broker on"
            f" the same machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory']},"
            f" {machine['system']}, {machine['python']}.",
            "",
            f"{versions}. {self.clients} HTTP clients, records of about 220 bytes, {rounds} rounds"
            f" of about {self.seconds:g} s, the applications in turn.",
            "",
            _LEGEND,
        ]
        for scenario in self.scenarios:
            rows = self._rows(scenario)
            if len(rows) > 1:
                lines += [f"## {scenario.name}: {scenario.what}", "", *markdown(rows), ""]
        return "\n".join(lines).rstrip() + "\n"

    def _rows(self, scenario: Scenario) -> list[list[str]]:
        rows = [["application", *(title for title, _ in _COLUMNS)]]
        for app in self.versions:
            runs = self.of(scenario.name, app)
            rows += [[app, *(cell(runs) for _, cell in _COLUMNS)]] if runs else []
        return rows


def show(outcomes: Sequence[Outcome]) -> str:
    """Return runs as a table for a terminal."""
    rows = [["scenario, application", *(title for title, _ in _COLUMNS)]]
    rows += [
        [f"{one.scenario}, {one.app}", *(cell([one]) for _, cell in _COLUMNS)] for one in outcomes
    ]
    return plain(rows)


def _sum(runs: Sequence[Outcome], *names: str) -> str:
    return f"{sum(int(getattr(one.findings, name)) for one in runs for name in names):,}"


def _milliseconds(runs: Sequence[Outcome], name: str) -> str:
    return short(statistics.median(one.latency_ms.get(name, 0) for one in runs))


def _recovered(runs: Sequence[Outcome]) -> str:
    found = [one.recovered_after for one in runs if one.recovered_after is not None]
    return f"{statistics.median(found):.1f}" if found else ""
