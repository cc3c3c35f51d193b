"""Logs failures: the first of a cause at once, the others as a count.

Every failed record and attempt is logged here and nowhere else. A cause is a topic or a broker with
the kind of error; while it lasts, one line a minute counts what failed since the last. So an outage
is one line, not one for each batch.

Invariants
* Every failed record is in a line at WARNING, or in the count of a later one: at the end of the
  minute, or when the producer closes.
* At most some twenty lines a minute, however many topics fail; the others share one count.
"""

from __future__ import annotations

import logging
from typing import Final, TypeVar

from aioproducer.background import Background, Timer
from aioproducer.errors import KafkaError
from aioproducer.sending.retry import Step

__all__ = ["FailureLog"]

logger = logging.getLogger(__name__)

Key = TypeVar("Key")

_QUIET_FOR: Final = 60.0
"""Seconds between two lines of one cause."""

_MOST_CAUSES: Final = 20
"""Causes that have lines of their own at a time."""


class _Cause:
    __slots__ = ("logged_at", "subject", "unlogged")

    def __init__(self, logged_at: float, subject: str) -> None:
        self.logged_at = logged_at
        self.subject = subject
        self.unlogged = 0
        """Records, or attempts, since the last line."""


class FailureLog:
    """The failures of one producer.

    Args:
        background: Where the timer runs.
    """

    def __init__(self, background: Background) -> None:
        self._background = background
        self._records: dict[tuple[str, str], _Cause] = {}
        self._attempts: dict[tuple[str, str, Step], _Cause] = {}
        self._other_records = 0
        self._other_topics: set[str] = set()
        self._timer = Timer(background, self._log_counts)

    def records_failed(self, topic: str, error: KafkaError, count: int) -> None:
        """Log or count records of a topic that failed.

        Args:
            topic: Their topic.
            error: Why.
            count: How many.
        """
        key = (topic, type(error).__name__)
        cause = self._records.get(key)
        now = self._background.time()
        if cause is not None:
            cause.unlogged += count
        elif len(self._records) >= _MOST_CAUSES:
            self._other_records += count
            if len(self._other_topics) < 10_000:
                self._other_topics.add(topic)
        else:
            self._records[key] = _Cause(now, f"for topic {topic} ({type(error).__name__})")
            logger.warning("%s failed for topic %s: %s", _counted(count, "record"), topic, error)
        self._timer.set_by(now + _QUIET_FOR)

    def attempt_failed(
        self, where: str, count: int, record_count: int, attempt: int, error: KafkaError, step: Step
    ) -> None:
        """Log or count batches that are sent again, or split, after one failure.

        Args:
            where: The first one's topic and partition.
            count: How many batches.
            record_count: How many records the first one holds.
            attempt: Which one of its attempts failed.
            error: Why.
            step: What happens to them next.
        """
        key = (error.broker or "", type(error).__name__, step)
        cause = self._attempts.get(key)
        if cause is not None:
            cause.unlogged += count
            return
        now = self._background.time()
        if len(self._attempts) >= _MOST_CAUSES:
            return
        self._attempts[key] = _Cause(now, f"by {error.name or type(error).__name__}")
        others = f" and {_counted(count - 1, 'more batch')}" if count > 1 else ""
        logger.warning(
            "%s: attempt %s of a batch of %s%s failed (%s), next: %s",
            where,
            attempt,
            _counted(record_count, "record"),
            others,
            error,
            step.name.lower().replace("_", " "),
        )
        self._timer.set_by(now + _QUIET_FOR)

    def close(self) -> None:
        """Log the records that were only counted."""
        self._attempts.clear()
        self._log_counts()
        self._timer.cancel()

    def _log_counts(self) -> None:
        now = self._background.time()
        _log_repeats(self._records, "more record", now)
        _log_repeats(self._attempts, "more attempt", now)
        if self._other_records:
            logger.warning(
                "%s failed for %s",
                _counted(self._other_records, "record"),
                _counted(len(self._other_topics), "other topic"),
            )
            self._other_records = 0
            self._other_topics.clear()
        if self._records or self._attempts:
            self._timer.set_by(now + _QUIET_FOR)


def _log_repeats(causes: dict[Key, _Cause], noun: str, now: float) -> None:
    """Log what each cause counted since its last line; forget causes that are over."""
    for key, cause in list(causes.items()):
        if cause.unlogged:
            logger.warning(
                "%s failed %s in the last %.0f s",
                _counted(cause.unlogged, noun),
                cause.subject,
                now - cause.logged_at,
            )
            cause.unlogged = 0
            cause.logged_at = now
        elif now - cause.logged_at >= _QUIET_FOR:
            del causes[key]


def _counted(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
