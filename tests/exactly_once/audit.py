"""Compares what a client was told of its transactions with what two readers found in the log.

Pure arithmetic: no I/O, no clock. Every rule counts on its own, and keeps the first few that broke
it for whoever looks for the reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.exactly_once.ledger import Ledger, Outcome, Transaction, read_value
from tests.support.kafka import StoredRecord

__all__ = ["BROKEN_PROMISES", "Findings", "Found", "audit"]

_EXAMPLES = 5

BROKEN_PROMISES = (
    "lost",
    "ghosts",
    "torn",
    "twice",
    "disorder",
    "foreign",
    "unresolved",
    "hung",
    "stuck",
)
"""What must be zero, by the names in `Findings`."""


class Found(NamedTuple):
    """A record that a reader found."""

    topic: str
    record: StoredRecord


@dataclass(slots=True)
class Findings:
    """What one audit of one client found.

    Attributes:
        transactions: How many were begun.
        committed: The application was told that they are committed.
        aborted: The application was told, or may conclude, that they are not.
        unknown: The application was told neither.
        unknown_committed: Those of them that read_committed shows, whole.
        unknown_absent: Those of them of which it shows nothing.
        lost: Told committed, and not whole for either reader.
        ghosts: Told aborted, and read_committed shows a record of them.
        torn: Of unknown outcome, and read_committed shows a part of them.
        twice: Copies of a record beyond the first.
        disorder: Records behind a later one of their writer in the same partition.
        foreign: Records that no writer wrote.
        unresolved: Transactions that had no outcome at the end.
        hung: Calls that did not return in time.
        stuck: Transactional ids with no commit after the end of all faults.
        made_anew: Producers that a writer had beyond its first.
        fenced: The same of the writers that fence each other.
        errors: How often each error was raised, by outcome and name.
        examples: By rule, the first that broke it.
    """

    transactions: int = 0
    committed: int = 0
    aborted: int = 0
    unknown: int = 0
    unknown_committed: int = 0
    unknown_absent: int = 0
    lost: int = 0
    ghosts: int = 0
    torn: int = 0
    twice: int = 0
    disorder: int = 0
    foreign: int = 0
    unresolved: int = 0
    hung: int = 0
    stuck: int = 0
    made_anew: int = 0
    fenced: int = 0
    errors: dict[str, int] = field(default_factory=dict[str, int])
    examples: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def found(self, rule: str, what: object) -> None:
        """Count what broke a rule."""
        setattr(self, rule, getattr(self, rule) + 1)
        examples = self.examples.setdefault(rule, [])
        if len(examples) < _EXAMPLES:
            examples.append(str(what))

    def broken(self) -> dict[str, int]:
        """Return what must be zero and is not."""
        counts = {name: int(getattr(self, name)) for name in BROKEN_PROMISES}
        return {name: count for name, count in counts.items() if count}


Shown = dict[tuple[str, int], set[int]]
"""The records of each transaction that a reader was shown, by writer and number."""


def audit(ledger: Ledger, committed: Iterable[Found], uncommitted: Iterable[Found]) -> Findings:
    """Judge one client.

    Args:
        ledger: What it was told.
        committed: What a read_committed reader found, in order of partition and offset.
        uncommitted: What a read_uncommitted reader found.
    """
    findings = Findings(transactions=len(ledger.transactions))
    known = {(each.writer, each.number): each for each in ledger.transactions}
    stored = _shown(ledger, known, uncommitted, findings)
    visible = _shown(ledger, known, committed, None)
    errors: Counter[str] = Counter()
    for name, transaction in known.items():
        if transaction.error:
            errors[f"{transaction.outcome}: {transaction.error.partition(':')[0]}"] += 1
        _judge(transaction, visible.get(name, set()), stored.get(name, set()), findings)
    for what in ledger.hung:
        findings.found("hung", what)
    ids = {each.transactional_id for each in ledger.transactions}
    alive = {
        each.transactional_id
        for each in ledger.transactions
        if each.outcome is Outcome.COMMITTED and each.called_at >= ledger.over_at > 0
    }
    for transactional_id in sorted(ids - alive):
        findings.found("stuck", transactional_id)
    by_id: defaultdict[str, set[str]] = defaultdict(set)
    for each in ledger.transactions:
        by_id[each.transactional_id].add(each.writer)
    for writers in by_id.values():
        more = sum(max(0, ledger.opened.get(writer, 0) - 1) for writer in writers)
        if len(writers) > 1:
            findings.fenced += more
        else:
            findings.made_anew += more
    findings.errors = dict(errors.most_common())
    return findings


def _shown(
    ledger: Ledger,
    known: dict[tuple[str, int], Transaction],
    records: Iterable[Found],
    findings: Findings | None,
) -> Shown:
    """Return what a reader was shown; with findings, count what no reader may be shown."""
    shown: Shown = defaultdict(set)
    last: dict[tuple[str, str, int], tuple[int, int]] = {}
    for found in records:
        name = read_value(found.record.value, ledger.origin)
        transaction = known.get((name.writer, name.number)) if name else None
        if name is None or transaction is None or name.index >= transaction.count:
            if findings is not None:
                findings.found("foreign", found)
            continue
        indices = shown[name.writer, name.number]
        if findings is not None:
            if name.index in indices:
                findings.found("twice", found)
            place = (name.writer, found.topic, found.record.partition)
            before = last.get(place, (-1, -1))
            if (name.number, name.index) < before:
                findings.found("disorder", f"{found}, behind {before}")
            last[place] = max(before, (name.number, name.index))
        indices.add(name.index)
    return shown


def _judge(
    transaction: Transaction, visible: set[int], stored: set[int], findings: Findings
) -> None:
    what = f"{transaction}, read_committed shows {sorted(visible)}"
    match transaction.outcome:
        case Outcome.COMMITTED:
            findings.committed += 1
            if min(len(visible), len(stored)) < transaction.count:
                findings.found("lost", f"{what}, read_uncommitted {sorted(stored)}")
            return
        case Outcome.ABORTED:
            findings.aborted += 1
            if visible:
                findings.found("ghosts", what)
            return
        case Outcome.UNKNOWN:
            findings.unknown += 1
        case Outcome.PENDING:
            findings.found("unresolved", transaction)
    if len(visible) == transaction.count:
        findings.unknown_committed += 1
    elif not visible:
        findings.unknown_absent += 1
    else:
        findings.found("torn", what)
