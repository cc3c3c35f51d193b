"""What a command tells on standard error while it runs and when it ends: counts, never payloads.

Used by line_sender.py. `Tally` counts, and the functions turn counts into text.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from dataclasses import dataclass, field

from aioproducer.errors import KafkaError

__all__ = ["Tally", "failures", "progress", "say", "summary"]

_MOST_ERRORS = 3


@dataclass(slots=True)
class Tally:
    """The records of one run.

    Attributes:
        sent: Accepted by the producer.
        sent_bytes: The size of their lines.
        acknowledged: Stored, said the broker.
        refused: Not accepted by the producer.
        errors: How many failed, by the error's class.
        examples: The first error of each class.
    """

    sent: int = 0
    sent_bytes: int = 0
    acknowledged: int = 0
    refused: int = 0
    errors: Counter[type[KafkaError]] = field(default_factory=Counter[type[KafkaError]])
    examples: dict[type[KafkaError], KafkaError] = field(
        default_factory=dict[type[KafkaError], KafkaError]
    )

    @property
    def failed(self) -> int:
        """How many are not stored, or not known to be, once the run is over."""
        return self.refused + self.sent - self.acknowledged

    def refuse(self, error: KafkaError) -> None:
        """Count a record that the producer did not take."""
        self.refused += 1
        self.note(error, 1)

    def note(self, error: KafkaError, count: int) -> None:
        """Remember why records failed; the shape of the `on_error` option."""
        self.errors[type(error)] += count
        self.examples.setdefault(type(error), error)


def progress(tally: Tally, seconds: float) -> str:
    """Return the line that shows how far a run is."""
    return (
        f"{tally.sent:,} sent, {tally.acknowledged:,} acknowledged, "
        f"{tally.errors.total():,} failed, {_rate(tally, seconds):,} records/s"
    )


def summary(tally: Tally, seconds: float) -> str:
    """Return the line that ends a run."""
    return (
        f"{tally.acknowledged:,} records acknowledged, {tally.failed:,} failed; "
        f"{tally.sent_bytes:,} bytes in {seconds:.2f} s, {_rate(tally, seconds):,} records/s"
    )


def failures(tally: Tally) -> list[str]:
    """Return a line for each kind of error, the most frequent first, and only a few."""
    kinds = tally.errors.most_common()
    lines = [
        f"{count:,} x {kind.__name__}: {tally.examples[kind]}"
        for kind, count in kinds[:_MOST_ERRORS]
    ]
    if len(kinds) > _MOST_ERRORS:
        lines.append(f"and {len(kinds) - _MOST_ERRORS} more kinds")
    return lines


def say(text: str, *, end: str = "\n") -> None:
    """Write to standard error; if nobody is there to read it, that is no reason to stop."""
    try:
        print(text, end=end, file=sys.stderr, flush=True)
    except ValueError:
        # It is closed.
        return
    except OSError:
        # What is left in its buffer could not be written at the end, either, and Python would make
        # the exit code 120 of it.
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stderr.fileno())


def _rate(tally: Tally, seconds: float) -> int:
    return round(tally.acknowledged / seconds) if seconds > 0 else 0
