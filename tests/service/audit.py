"""Compares what HTTP clients were answered with what Kafka has. Pure arithmetic: no I/O, no clock.

Every rule counts on its own, and keeps the first few requests that broke it for whoever looks for
the reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.chaos.ledger import read_value
from tests.service.calls import HUNG_UP, NO_ANSWER, Call
from tests.support.kafka import StoredRecord

__all__ = ["BROKEN_PROMISES", "Findings", "HandedOver", "audit"]

_EXAMPLES = 5

BROKEN_PROMISES = (
    "lost",
    "twice",
    "misplaced",
    "stored_though_refused",
    "accepted_and_lost",
    "denied",
    "foreign",
    "unasked",
)
"""What must be zero, by the names in `Findings`."""


class HandedOver(NamedTuple):
    """A record that the application got back because it could not be delivered.

    Attributes:
        value: The record's.
        possibly_persisted: Whether it may be stored, said its error.
    """

    value: bytes
    possibly_persisted: bool


@dataclass(slots=True)
class Findings:
    """What one audit found, in requests.

    Attributes:
        stored: Answered 2xx: stored, said the response.
        accepted: Answered 202: on its way, said the response.
        refused: Answered 503: not stored, said the response.
        unknown: All else: any other status, no response, or the client hung up.
        unknown_and_stored: Those of them that are stored.
        handed_over: Records that the application got back at its end.
        lost: Answered 2xx, and not in the log.
        twice: Copies beyond the first.
        misplaced: Answered with a partition or offset that is not theirs.
        stored_though_refused: Answered 503, and in the log.
        accepted_and_lost: Answered 202, and neither in the log nor handed over.
        denied: Handed over as surely not stored, and in the log.
        foreign: Records in the log that nobody asked for.
        unasked: Answered with a status that is neither 2xx nor 503 nor 504.
        without_retry_after: Answered 503 without saying when to try again.
        statuses: How often each status was answered, by its number, or `no answer`, `hung up`.
        examples: By rule, the first that broke it.
    """

    stored: int = 0
    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    unknown_and_stored: int = 0
    handed_over: int = 0
    lost: int = 0
    twice: int = 0
    misplaced: int = 0
    stored_though_refused: int = 0
    accepted_and_lost: int = 0
    denied: int = 0
    foreign: int = 0
    unasked: int = 0
    without_retry_after: int = 0
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    examples: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def broken(self) -> dict[str, int]:
        """Return what must be zero and is not."""
        counts = {name: int(getattr(self, name)) for name in BROKEN_PROMISES}
        return {name: count for name, count in counts.items() if count}


def audit(
    calls: Sequence[Call],
    log: Iterable[StoredRecord],
    handed_over: Sequence[HandedOver],
    nonce: str,
) -> Findings:
    """Judge one run of one application.

    Args:
        calls: What the clients wrote down.
        log: The records of all topics that the application writes to.
        handed_over: What the application got back.
        nonce: The run's: records with another one are not looked at.
    """
    findings = Findings(handed_over=len(handed_over))
    examples: defaultdict[str, list[str]] = defaultdict(list)

    def found(rule: str, what: object) -> None:
        setattr(findings, rule, getattr(findings, rule) + 1)
        if len(examples[rule]) < _EXAMPLES:
            examples[rule].append(str(what))

    places = _places(log, nonce)
    returned = {read_value(one.value, nonce): one for one in handed_over}
    asked = {(call.client, call.number) for call in calls}
    for name, records in places.items():
        if name not in asked:
            found("foreign", records[0])
        for copy in records[1:]:
            found("twice", f"{copy}, first {records[0]}")
        if name in returned and not returned[name].possibly_persisted:
            found("denied", records[0])
    for call in calls:
        there = places.get((call.client, call.number), ())
        if call.is_stored:
            findings.stored += 1
            if not there:
                found("lost", call)
            elif all((one.partition, one.offset) != (call.partition, call.offset) for one in there):
                found("misplaced", f"{call}, stored {there}")
        elif call.is_accepted:
            findings.accepted += 1
            if not there and (call.client, call.number) not in returned:
                found("accepted_and_lost", call)
        elif call.is_refused:
            findings.refused += 1
            findings.without_retry_after += call.retry_after is None
            if there:
                found("stored_though_refused", f"{call}, stored {there}")
        else:
            findings.unknown += 1
            findings.unknown_and_stored += bool(there)
            if call.is_answered and call.status != 504:
                found("unasked", call)
    findings.statuses = _statuses(calls)
    findings.examples = dict(examples)
    return findings


def _places(
    log: Iterable[StoredRecord], nonce: str
) -> Mapping[tuple[int, int], list[StoredRecord]]:
    places: defaultdict[tuple[int, int], list[StoredRecord]] = defaultdict(list)
    for record in log:
        name = read_value(record.value, nonce)
        if name is not None:
            places[name].append(record)
    return places


def _statuses(calls: Iterable[Call]) -> dict[str, int]:
    words = {NO_ANSWER: "no answer", HUNG_UP: "hung up"}
    counts = Counter(words.get(call.status, str(call.status)) for call in calls)
    return dict(sorted(counts.items()))
