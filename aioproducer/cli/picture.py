"""Draws the way to the brokers while it is walked: a line for each step, with what it found.

kafka-1:9093, a bootstrap server
ok    name       10.0.0.1, 10.0.0.2                                      2.1 ms
ok    TCP        10.0.0.1                                                0.4 ms
FAIL  TLS        The broker's certificate has expired
-> Renew it, or set this machine's clock.
-     versions
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Final

from aioproducer.errors import KafkaError
from aioproducer.network.diagnosis import reason_of

__all__ = ["Picture", "StepFailedError"]

_WIDTH: Final = 96
_LABEL: Final = 10
_TIME: Final = 10
_INDENT: Final = 2 + 6 + _LABEL + 1


class StepFailedError(Exception):
    """A step failed, and the picture says so: what follows it cannot be walked."""


class _Step:
    """A step that is being walked."""

    def __init__(self) -> None:
        self.found = ""
        """What it found, for one line."""
        self.more: list[str] = []
        """Further lines."""


class Picture:
    """The steps walked so far.

    Args:
        write: Takes each line.
        clock: Seconds, for how long a step took.

    Attributes:
        failures: How many steps failed.
    """

    def __init__(
        self, write: Callable[[str], object], *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.failures = 0
        self._write = write
        self._clock = clock

    def title(self, text: str) -> None:
        """Begin with a place."""
        self._write("")
        self._write(text)

    @contextmanager
    def step(self, label: str) -> Generator[_Step]:
        """Walk one step; it is drawn when it ends.

        Raises:
            StepFailedError: It failed with a `KafkaError`.
        """
        step = _Step()
        started_at = self._clock()
        try:
            yield step
        except KafkaError as error:
            self._failed(label, error, step)
            raise StepFailedError from error
        took = f"{(self._clock() - started_at) * 1_000:,.1f} ms"
        self._line("ok", label, step.found, took)
        self._lines(step.more)

    def skipped(self, labels: Iterable[str]) -> None:
        """Draw the steps that could not be walked."""
        for label in labels:
            self._line("-", label, "not reached", "")

    def note(self, text: str) -> None:
        """Add to the last step."""
        self._lines([text])

    def _failed(self, label: str, error: KafkaError, step: _Step) -> None:
        self.failures += 1
        first, *rest = textwrap.wrap(_sentence(reason_of(error)), _WIDTH - _INDENT)
        self._line("FAIL", label, first, "")
        self._lines(rest)
        self._lines(step.more)
        if error.hint:
            self._lines(textwrap.wrap(f"-> {error.hint}", _WIDTH - _INDENT))

    def _line(self, mark: str, label: str, text: str, took: str) -> None:
        line = f"  {mark:<6}{label:<{_LABEL}} {text}"
        space = _WIDTH - _TIME
        if took and len(line) >= space:
            self._write(line)
            line = ""
        self._write(f"{line:<{space}}{took:>{_TIME}}".rstrip())

    def _lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._write(f"{'':<{_INDENT}}{line}")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
