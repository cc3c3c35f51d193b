"""How long to wait after failures in a row (KIP-580)."""

from __future__ import annotations

import random
from typing import Final, NamedTuple, Self

from aioproducer.config import ProducerConfig
from aioproducer.errors import ConcurrentTransactionsError, KafkaError

__all__ = ["Backoff"]


class Backoff(NamedTuple):
    """A delay that doubles from `base_ms` to `maximum_ms`, spread by 20 % either way."""

    base_ms: float
    maximum_ms: float

    @classmethod
    def of_retries(cls, config: ProducerConfig) -> Self:
        """Between two attempts of a request."""
        return cls(config.retry_backoff_ms, config.retry_backoff_max_ms)

    @classmethod
    def of_reconnects(cls, config: ProducerConfig) -> Self:
        """Between two attempts to connect."""
        return cls(config.reconnect_backoff_ms, config.reconnect_backoff_max_ms)

    def after(self, failures: int) -> float:
        """The delay in seconds after so many failures in a row: 1 for the first one."""
        exponential = min(self.maximum_ms, self.base_ms * 2.0 ** min(failures - 1, 30))
        return min(self.maximum_ms, exponential * (0.8 + 0.4 * random.random())) / 1000

    def after_error(self, error: KafkaError, failures: int) -> float:
        """The same, but shorter where nothing failed, and the last transaction only still ends."""
        delay = self.after(failures)
        if isinstance(error, ConcurrentTransactionsError):
            return min(delay, _WHILE_ENDING.after(failures))
        return delay


_WHILE_ENDING: Final = Backoff(1, 20)
"""Markers are written in a few milliseconds, more often in one. Java waits 20 each time."""
