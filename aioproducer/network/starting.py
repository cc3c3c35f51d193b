"""Decides what follows a failed attempt to reach the bootstrap servers. No I/O, no clock.

the error says                            `start(wait=True)`   `start(wait=False)`
nobody answers (yet)                      tries again          tries again
this is another kind of listener          raises: at once if   tries again
certain, else after
some seconds
a refusal: login, trust, rights, version  raises               tries again, after the pause
of refusals.py
"""

from __future__ import annotations

from typing import Final

from aioproducer.config import ProducerConfig
from aioproducer.errors import KafkaError, ListenerMismatchError, RebootstrapRequiredError
from aioproducer.network.backoff import Backoff
from aioproducer.network.refusals import PAUSE

__all__ = ["Attempts"]

_MISMATCHED_FOR: Final = 3.0
"""Seconds of hanging up after which a listener is taken for one of another security protocol, and
no longer for one that is about to come up."""


class Attempts:
    """The failed attempts of one start.

    Attributes:
        failures: How many there were.
    """

    def __init__(self, config: ProducerConfig) -> None:
        self.failures = 0
        self._reconnect_backoff = Backoff.of_reconnects(config)
        self._mismatch_since: float | None = None

    def failed(self, error: BaseException, now: float) -> bool:
        """Take the error of an attempt; returns whether waiting cannot mend it."""
        self.failures += 1
        if not isinstance(error, ListenerMismatchError):
            self._mismatch_since = None
            return is_refusal(error)
        if self._mismatch_since is None:
            self._mismatch_since = now
        return error.is_certain or now - self._mismatch_since >= _MISMATCHED_FOR

    def pause(self, *, is_hopeless: bool) -> float:
        """The seconds until the next attempt."""
        backoff = PAUSE if is_hopeless else self._reconnect_backoff
        return backoff.after(self.failures)


def is_refusal(error: BaseException) -> bool:
    """Whether an error is an answer, which will be the same next time."""
    return isinstance(error, KafkaError) and not (
        error.retriable or isinstance(error, RebootstrapRequiredError)
    )
