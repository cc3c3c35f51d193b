"""What one client writes down of every record: the call, and what it was told of the outcome.

Filled by the load (clients.py) in the client's own process, read by the audit in another. Times are
of the system's monotonic clock, which all processes of a machine share.

Invariants: a number is given once, in the order of the calls; an entry is never taken out; a second
outcome of one record does not replace the first but is counted.
"""

from __future__ import annotations

import enum
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

__all__ = ["Entry", "Ledger", "Outcome", "read_value"]


class Outcome(enum.StrEnum):
    """What the client said of a record."""

    PENDING = "pending"
    """Nothing yet."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"

    REFUSED = "refused"
    """The call itself said that the buffer is full."""

    ABANDONED = "abandoned"
    """The only wait for it was cancelled: the log alone can tell."""


@dataclass(slots=True)
class Entry:
    """One record.

    Attributes:
        topic: Where it was sent.
        key: Which key, as a number.
        number: Its place among the records of that topic and key, in order of the calls.
        how: By which call.
        called_at: When `send` was called.
        outcome: What the client said.
        ended_at: When it said so.
        partition: Where it was acknowledged.
        offset: Where it was acknowledged.
        timestamp_ms: The timestamp it was acknowledged with.
        error: The class of the error, for a reader.
        possibly_persisted: Whether it may be stored although it failed; None if not told.
        times_told: How many outcomes there were; more than one is a defect.
    """

    topic: str
    key: int
    number: int
    how: str
    called_at: float
    outcome: Outcome = Outcome.PENDING
    ended_at: float = 0.0
    partition: int = -1
    offset: int = -1
    timestamp_ms: int = -1
    error: str = ""
    possibly_persisted: bool | None = None
    times_told: int = 0

    def acknowledged(self, partition: int, offset: int, timestamp_ms: int) -> None:
        """The broker has it, said the client."""
        if self._told(Outcome.ACKNOWLEDGED):
            self.partition, self.offset, self.timestamp_ms = partition, offset, timestamp_ms

    def failed(self, error: object, possibly_persisted: bool | None = None) -> None:
        """It was given up on, said the client."""
        if self._told(Outcome.FAILED):
            self.error = f"{type(error).__name__}: {error}"[:300]
            self.possibly_persisted = possibly_persisted

    def refused(self, error: object) -> None:
        """The call did not take it."""
        if self._told(Outcome.REFUSED):
            self.error = type(error).__name__

    def abandoned(self) -> None:
        """Nobody waits for it any more."""
        self._told(Outcome.ABANDONED)

    @property
    def wait(self) -> float | None:
        """Seconds from the call to the outcome; None where nobody waited for one."""
        if self.outcome in (Outcome.ACKNOWLEDGED, Outcome.FAILED):
            return self.ended_at - self.called_at
        return None

    def _told(self, outcome: Outcome) -> bool:
        self.times_told += 1
        if self.times_told > 1:
            return False
        self.outcome = outcome
        self.ended_at = time.monotonic()
        return True


class Ledger:
    """All records of one client.

    Args:
        nonce: Stands in every value, so that no other run's record is taken for one of this.
    """

    def __init__(self, nonce: str) -> None:
        self.entries: list[Entry] = []
        self._nonce = nonce
        self._next_number: defaultdict[tuple[str, int], int] = defaultdict(int)

    def call(self, topic: str, key: int, how: str) -> tuple[Entry, bytes, bytes]:
        """Give the next record of a key its number; to be sent in the same breath.

        Returns:
            The entry, and the record's key and value.
        """
        number = self._next_number[topic, key]
        self._next_number[topic, key] = number + 1
        entry = Entry(topic, key, number, how, time.monotonic())
        self.entries.append(entry)
        return entry, b"key-%d" % key, f"{self._nonce} {key} {number}".encode()

    def write(self, path: Path) -> None:
        """Write everything down, a line per record."""
        with path.open("w") as file:
            file.writelines(json.dumps(astuple(entry)) + "\n" for entry in self.entries)

    @staticmethod
    def read(path: Path) -> list[Entry]:
        """Return the entries of a ledger that another process wrote."""
        with path.open() as file:
            return [_entry(line) for line in file]


def read_value(value: bytes | None, nonce: str) -> tuple[int, int] | None:
    """Return key and number of a stored record; None for one that is not of this run."""
    words = (value or b"").decode(errors="replace").split(" ")
    if len(words) != 3 or words[0] != nonce:
        return None
    return int(words[1]), int(words[2])


def _entry(line: str) -> Entry:
    fields: Iterable[object] = json.loads(line)
    entry = Entry(*fields)  # type: ignore[arg-type]  # pyright: ignore
    entry.outcome = Outcome(entry.outcome)
    return entry
