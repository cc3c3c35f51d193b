"""Compares what a client was told with what the brokers have. Pure arithmetic: no I/O, no clock.

Called with a client's ledger and with the log as an independent reader found it. Every rule counts
on its own, and keeps the first few records that broke it for whoever looks for the reason.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.chaos.ledger import Entry, Outcome, read_value
from tests.support.kafka import StoredRecord

__all__ = ["BROKEN_PROMISES", "Findings", "Phase", "Timed", "Waits", "audit", "measure_waits"]

_EXAMPLES = 5

BROKEN_PROMISES = (
    "failed",
    "missing",
    "twice",
    "out_of_order",
    "misplaced",
    "mistimed",
    "unlawful",
    "unresolved",
    "told_twice",
    "foreign",
)
"""What must be zero, by the names in `Findings`."""


class Timed(Protocol):
    """What somebody waited for, by the clock of the ledgers."""

    @property
    def called_at(self) -> float:
        """When it was called for."""
        ...

    @property
    def ended_at(self) -> float:
        """When there was an outcome."""
        ...

    @property
    def wait(self) -> float | None:
        """Seconds between them; None where nobody waited."""
        ...


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the script, on the clock of the ledgers."""

    name: str
    started_at: float
    ended_at: float


@dataclass(slots=True)
class Findings:
    """What one audit of one topic found, in records.

    Attributes:
        sent: Calls of send.
        acknowledged: The client said that they are stored.
        refused: The call said that the buffer is full.
        abandoned: The only wait for them was cancelled.
        failed: The client gave up on them.
        missing: Acknowledged, or abandoned, and not in the log.
        twice: Copies beyond the first.
        out_of_order: They stand behind a later one of their key in the same partition.
        misplaced: Acknowledged with a partition or offset that is not theirs.
        mistimed: Acknowledged with a timestamp that is not theirs.
        unlawful: In the log although the call refused them, or although their error said that
            they cannot be.
        unresolved: The client never gave an outcome.
        told_twice: The client gave more than one outcome.
        foreign: Records in the log that nobody sent.
        errors: How often each error was raised.
        examples: By rule, the first records that broke it.
    """

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    abandoned: int = 0
    failed: int = 0
    missing: int = 0
    twice: int = 0
    out_of_order: int = 0
    misplaced: int = 0
    mistimed: int = 0
    unlawful: int = 0
    unresolved: int = 0
    told_twice: int = 0
    foreign: int = 0
    errors: dict[str, int] = field(default_factory=dict[str, int])
    examples: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def broken(self, *, but: Iterable[str] = ()) -> dict[str, int]:
        """Return what must be zero and is not."""
        counts = {name: int(getattr(self, name)) for name in BROKEN_PROMISES if name not in but}
        return {name: count for name, count in counts.items() if count}


@dataclass(slots=True)
class Waits:
    """How long the records of one client took from the call to the outcome, in seconds.

    Attributes:
        p50: Half of them took no longer.
        p99: 99 % of them took no longer.
        p999: 99.9 % of them took no longer.
        longest: The longest.
        by_phase: The longest among the records of each phase: those that waited in it longer than
            in any other.
        series: The longest among the records called in each slice of time, from the first phase on.
    """

    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    longest: float = 0.0
    by_phase: dict[str, float] = field(default_factory=dict[str, float])
    series: list[float] = field(default_factory=list[float])


def audit(
    entries: Sequence[Entry],
    stored: Sequence[StoredRecord],
    nonce: str,
    *,
    remade_at: float | None = None,
) -> Findings:
    """Judge one topic.

    Args:
        entries: What the client was told of it.
        stored: What it holds, in order of partition and offset.
        nonce: The run's.
        remade_at: When the topic was there again after it was deleted: what was acknowledged, or
            abandoned, before went with the old one and is not looked for.
    """
    findings = Findings(sent=len(entries))
    examples: defaultdict[str, list[str]] = defaultdict(list)

    def found(rule: str, what: object) -> None:
        setattr(findings, rule, getattr(findings, rule) + 1)
        if len(examples[rule]) < _EXAMPLES:
            examples[rule].append(str(what))

    places: defaultdict[tuple[int, int], list[StoredRecord]] = defaultdict(list)
    last: dict[tuple[int, int], int] = {}
    sent = {(entry.key, entry.number) for entry in entries}
    for record in stored:
        name = read_value(record.value, nonce)
        if name is None or name not in sent or record.key != b"key-%d" % name[0]:
            found("foreign", record)
            continue
        key, number = name
        if places[name]:
            found("twice", f"{record}, first {places[name][0]}")
        places[name].append(record)
        before = last.get((key, record.partition), -1)
        if number < before:
            found("out_of_order", f"{record}, behind number {before}")
        last[key, record.partition] = max(before, number)

    errors: Counter[str] = Counter()
    for entry in entries:
        at = places.get((entry.key, entry.number), [])
        is_of_the_old_topic = remade_at is not None and entry.ended_at < remade_at
        if entry.times_told > 1:
            found("told_twice", entry)
        match entry.outcome:
            case Outcome.ACKNOWLEDGED:
                findings.acknowledged += 1
                if is_of_the_old_topic:
                    continue
                if not at:
                    found("missing", entry)
                elif not (there := [record for record in at if _is_at(entry, record)]):
                    found("misplaced", f"{entry}, stored {at}")
                elif entry.timestamp_ms != there[0].timestamp_ms:
                    found("mistimed", f"{entry}, stored {at}")
            case Outcome.ABANDONED:
                findings.abandoned += 1
                if not at and remade_at is None:
                    found("missing", entry)
            case Outcome.FAILED:
                found("failed", entry)
                errors[entry.error.partition(":")[0]] += 1
                if at and entry.possibly_persisted is False:
                    found("unlawful", f"{entry}, stored {at}")
            case Outcome.REFUSED:
                findings.refused += 1
                errors[entry.error] += 1
                if at:
                    found("unlawful", f"{entry}, stored {at}")
            case Outcome.PENDING:
                found("unresolved", entry)
    findings.errors = dict(errors.most_common())
    findings.examples = dict(examples)
    return findings


def measure_waits(entries: Iterable[Timed], phases: Sequence[Phase], *, slice_of: float) -> Waits:
    """Return how long the outcomes took, in all, by phase, and by the slice of the call."""
    waits: list[float] = []
    by_phase = {phase.name: 0.0 for phase in phases}
    started_at = phases[0].started_at
    series = [0.0] * math.ceil((phases[-1].ended_at - started_at) / slice_of)
    for entry in entries:
        wait = entry.wait
        if wait is None:
            continue
        waits.append(wait)
        # One that is called just before a fault waits because of it.
        shares = [
            min(entry.ended_at, phase.ended_at) - max(entry.called_at, phase.started_at)
            for phase in phases
        ]
        most = max(shares)
        if most > 0:
            phase = phases[shares.index(most)]
            by_phase[phase.name] = max(by_phase[phase.name], wait)
        place = int((entry.called_at - started_at) / slice_of)
        if 0 <= place < len(series):
            series[place] = max(series[place], wait)
    waits.sort()
    return Waits(
        p50=_percentile(waits, 0.5),
        p99=_percentile(waits, 0.99),
        p999=_percentile(waits, 0.999),
        longest=waits[-1] if waits else 0.0,
        by_phase=by_phase,
        series=series,
    )


def _is_at(entry: Entry, record: StoredRecord) -> bool:
    return (entry.partition, entry.offset) == (record.partition, record.offset)


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share does not exceed."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
