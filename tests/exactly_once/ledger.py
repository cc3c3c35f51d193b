"""What one client writes down of every transaction: what was wanted, and what it was told.

Filled by the load (load.py) in the client's own process, read by the audit in another. Times are
of the system's monotonic clock, which all processes of a machine share.

Invariants: a writer gives a number once, in the order of its transactions, and never tries a
number again; an entry is never taken out.
"""

from __future__ import annotations

import enum
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

__all__ = ["Ledger", "Outcome", "RecordName", "Transaction", "read_value"]


class Outcome(enum.StrEnum):
    """What the application was told of a transaction."""

    PENDING = "pending"
    """Nothing, up to the end."""

    COMMITTED = "committed"

    ABORTED = "aborted"
    """The abort succeeded, the commit failed for good, or no commit was ever asked for."""

    UNKNOWN = "unknown"
    """A commit was asked for, and its error did not say whether it was done."""


@dataclass(slots=True)
class Transaction:
    """One transaction.

    Attributes:
        writer: Who made it.
        transactional_id: The writer's; two writers that fence each other share one.
        number: Its place among the writer's, from 0 on.
        count: How many records it has.
        wants_abort: Whether the application aborts it on purpose.
        called_at: When it was begun.
        outcome: What the application was told.
        ended_at: When it was told.
        error: The first error, for a reader.
    """

    writer: str
    transactional_id: str
    number: int
    count: int
    wants_abort: bool
    called_at: float
    outcome: Outcome = Outcome.PENDING
    ended_at: float = 0.0
    error: str = ""

    @property
    def wait(self) -> float | None:
        """Seconds from the beginning to the outcome; None where there was none."""
        return None if self.outcome is Outcome.PENDING else self.ended_at - self.called_at

    def told(self, outcome: Outcome) -> None:
        """The application has the outcome."""
        self.outcome = outcome
        self.ended_at = time.monotonic()


@dataclass(frozen=True, slots=True)
class RecordName:
    """What the value of a record says.

    Attributes:
        writer: Who wrote it.
        number: In which of the writer's transactions.
        index: Which of the transaction's records, from 0 on.
        count: How many the transaction has.
    """

    writer: str
    number: int
    index: int
    count: int


@dataclass(slots=True)
class Ledger:
    """All transactions of one client.

    Attributes:
        origin: The run and the client. It stands in every value, so that no other's record is
            taken for one of this client's.
        transactions: In the order of their beginnings.
        opened: How many producers each writer had.
        hung: The calls that did not return in time.
        over_at: When the faults were over for good: each transactional id has to commit once more.
    """

    origin: str
    transactions: list[Transaction] = field(default_factory=list[Transaction])
    opened: dict[str, int] = field(default_factory=dict[str, int])
    hung: list[str] = field(default_factory=list[str])
    over_at: float = 0.0

    def value(self, transaction: Transaction, index: int) -> bytes:
        """Return the value of a transaction's record."""
        name = (transaction.writer, transaction.number, index, transaction.count)
        return " ".join(str(word) for word in (self.origin, *name)).encode()

    def write(self, path: Path) -> None:
        """Write everything down."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return a ledger that another process wrote."""
        read = json.loads(path.read_text())
        transactions = [Transaction(**each) for each in read["transactions"]]
        for each in transactions:
            each.outcome = Outcome(each.outcome)
        return cls(read["origin"], transactions, read["opened"], read["hung"], read["over_at"])


def read_value(value: bytes | None, origin: str) -> RecordName | None:
    """Return what a stored record is; None for one that no writer of this client wrote."""
    words = (value or b"").decode(errors="replace").split(" ")
    if len(words) != 5 or words[0] != origin or not all(word.isdecimal() for word in words[2:]):
        return None
    return RecordName(words[1], *map(int, words[2:]))
