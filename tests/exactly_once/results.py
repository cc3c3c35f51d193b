"""Runs as they are stored: JSON for machines, Markdown for people, and the table of a terminal."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, git_revision, machine
from benchmarks.tables import markdown, plain
from tests.chaos.faults import Fault
from tests.chaos.results import phases_as_json, rounded, seconds
from tests.exactly_once.audit import BROKEN_PROMISES
from tests.exactly_once.clients import Options
from tests.exactly_once.runner import BROKERS, SLICE, ClientResult, Run

__all__ = ["LATEST", "Results", "show"]

LATEST = "latest-exactly-once"
"""The runs that are not kept in git."""

_TOLD: Sequence[tuple[str, str]] = (
    ("transactions", "transactions"),
    ("committed", "told committed"),
    ("aborted", "told aborted"),
    ("unknown", "outcome unknown"),
    ("unknown_committed", "of them committed"),
    ("unknown_absent", "of them absent"),
    ("made_anew", "producers made anew"),
    ("fenced", "fenced"),
)
_TITLES = {"unresolved": "no outcome", "hung": "calls that hung", "stuck": "ids stuck at the end"}
_RULES = """\
All clients ran at the same time on the same three brokers, under the same script, each with \
topics and connections of its own. Of each, three writers had a transactional id to themselves, \
coordinated by a broker each; two more shared one and took turns: every few seconds one of them \
started and fenced the other, mostly in the middle of a transaction. A transaction has 1 to 6 \
records over two topics of three partitions; one in seven is aborted on purpose. Each client is \
used as its documentation says: what is to be called again is, what is to be aborted is, after any \
other error the producer is closed and another one made; no transaction is tried twice.

*Told committed* and *told aborted* are what the application was told, or may conclude because it \
never asked for a commit. The other columns are what independent readers (librdkafka, \
read_committed and read_uncommitted) found in the log: *lost*, told committed and not whole; \
*ghosts*, told aborted and a record of it visible to read_committed; *torn*, unknown and visible \
in part; *twice*, copies of a record; *disorder*, records behind a later one of their writer in \
the same partition, aborted ones as well; *foreign*, records that nobody wrote; *hanging*, \
partitions in which a transaction stays open after its timeout, so that read_committed reads no \
further. *Calls that hung* did not return within 45 s; *ids stuck at the end* had no commit within \
45 s after the last fault was over.
"""


@dataclass(slots=True)
class Results:
    """Several runs of one script.

    Attributes:
        name: Under which they are stored.
        versions: Of the clients.
        options: Of the clients.
        script: What happened.
        runs: The runs.
    """

    name: str
    versions: dict[str, str]
    options: Options
    script: Sequence[Fault]
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    git_revision: str = field(default_factory=lambda: git_revision())
    machine: dict[str, str] = field(default_factory=lambda: machine())
    runs: list[Run] = field(default_factory=list[Run])

    def by_kafka(self) -> dict[str, list[Run]]:
        """Return the runs of each version of the brokers."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.kafka, []).append(run)
        return found

    def write(self) -> list[Path]:
        """Store all there is; return where."""
        FOLDER.mkdir(exist_ok=True)
        whole, page = FOLDER / f"{self.name}.json", FOLDER / f"{self.name}.md"
        whole.write_text(json.dumps(self._as_json(), indent=1) + "\n")
        page.write_text(self._page())
        return [whole, page]

    def _as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "started_at": self.started_at,
            "git_revision": self.git_revision,
            "machine": self.machine,
            "versions": self.versions,
            "brokers": BROKERS,
            "options": asdict(self.options),
            "script": [{"name": fault.name, "what": fault.what} for fault in self.script],
            "seconds_of_a_slice": SLICE,
            "runs": [_run_as_json(run) for run in self.runs],
        }

    def _page(self) -> str:
        options, machine = self.options, self.machine
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        brokers = ", ".join(f"{name}={value}" for name, value in BROKERS.items())
        lines = [
            f"# Transactions under fire: {self.name}",
            "",
            f"{self.started_at}, revision {self.git_revision}; {machine['cores']} cores of"
            f" {machine['cpu']}, {machine['system']}, {machine['python']}.",
            "",
            f"{versions}. Transaction timeout {options.transaction_timeout_ms / 1000:g} s, delivery"
            f" timeout {options.delivery_timeout_ms / 1000:g} s, request timeout"
            f" {options.request_timeout_ms / 1000:g} s (aiokafka has one bound for both, set to the"
            f" delivery timeout), a call blocks for {options.max_block_ms / 1000:g} s where it has"
            f" a bound; all else the defaults. Three replicas, min.insync.replicas=2. {brokers}.",
            "",
            _RULES,
        ]
        for kafka, runs in self.by_kafka().items():
            protocol = "version 2 of transactions" if kafka >= "4" else "version 1 of transactions"
            count = f"{len(runs)} runs" if len(runs) > 1 else "one run"
            lines += [f"## Kafka {kafka}, {protocol}, {count}", ""]
            lines += _joined(markdown(table) for table in _tables(runs, self.script))
        return "\n".join(lines).rstrip() + "\n"


def show(runs: Sequence[Run], script: Sequence[Fault]) -> str:
    """Return the tables of some runs for a terminal."""
    return "\n\n".join(plain(table) for table in _tables(runs, script))


def _joined(tables: Iterable[list[str]]) -> list[str]:
    return [line for table in tables for line in (*table, "")]


def _tables(runs: Sequence[Run], script: Sequence[Fault]) -> list[list[list[str]]]:
    """Return what was told, what was found, the longest waits, and the errors."""
    clients: dict[str, list[ClientResult]] = {}
    for run in runs:
        for one in run.clients:
            clients.setdefault(one.client, []).append(one)
    told = [["client", *(title for _, title in _TOLD), "EndTxn cut before", "and after"]]
    found = [["client", *(_TITLES.get(name, name) for name in BROKEN_PROMISES), "hanging"]]
    found[0] += ["crashed", "longest wait s (median, worst)"]
    errors = [["client", "errors told, by outcome"]]
    for client, results in clients.items():
        findings = [one.findings for one in results]
        longest = [one.waits.longest for one in results]
        told.append([client, *(_sum(findings, name) for name, _ in _TOLD)])
        cuts = [one.cuts for one in results]
        told[-1] += [_sum(cuts, "before"), _sum(cuts, "after")]
        found.append([client, *(_sum(findings, name) for name in BROKEN_PROMISES)])
        found[-1] += [_sum(results, "hanging"), str(sum(bool(one.crash) for one in results))]
        found[-1].append(f"{statistics.median(longest):.1f}, {max(longest):.1f}")
        raised: Counter[str] = Counter()
        for each in findings:
            raised.update(each.errors)
        said = ", ".join(f"{name} {count:,}" for name, count in raised.most_common())
        errors.append([client, said or "none"])
    return [told, found, _phase_table(runs, clients, script), errors]


def _phase_table(
    runs: Sequence[Run], clients: dict[str, list[ClientResult]], script: Sequence[Fault]
) -> list[list[str]]:
    which = "longest wait s" if len(runs) == 1 else "longest wait s, median of the runs"
    head = ["phase", "what happens", "takes s", "machine stalls s"]
    rows = [[*head, *(f"{client}: {which}" for client in clients)]]
    for place, fault in enumerate(script):
        phases = [run.phases[place] for run in runs]
        row = [
            fault.name,
            fault.what,
            f"{statistics.median(one.ended_at - one.started_at for one in phases):.0f}",
            seconds(max(run.stalls[place] for run in runs)),
        ]
        for results in clients.values():
            waits = [one.waits.by_phase[fault.name] for one in results]
            row.append(seconds(statistics.median(waits)))
        rows.append(row)
    return rows


def _sum(each: Sequence[object], name: str) -> str:
    return f"{sum(int(getattr(one, name)) for one in each):,}"


def _run_as_json(run: Run) -> dict[str, Any]:
    clients: dict[str, Any] = {}
    for one in run.clients:
        whole = asdict(one)
        whole["waits"] = rounded(whole["waits"])
        whole["cuts"] = one.cuts._asdict()
        clients[whole.pop("client")] = whole | {"broken": one.broken()}
    return {
        "kafka": run.kafka,
        "phases": phases_as_json(run.phases, run.stalls),
        "clients": clients,
    }
