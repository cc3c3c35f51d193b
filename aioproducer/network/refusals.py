"""The addresses that refused us, or that we do not trust, and until when they are left alone.

A broker locks a user out after too many wrong passwords, and logs each of them. So attempts within
an address's pause fail at once, with the error of the last real one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from aioproducer.errors import AuthenticationError
from aioproducer.network.backoff import Backoff
from aioproducer.network.metadata import BrokerAddress

__all__ = ["PAUSE", "Refusals"]

PAUSE: Final = Backoff(1_000, 10_000)
"""The pauses after refusals in a row."""


class _Refusal(NamedTuple):
    error: AuthenticationError
    times: int
    until: float


class Refusals:
    """The refusals of one producer's addresses."""

    def __init__(self) -> None:
        self._by_address: dict[tuple[str, int], _Refusal] = {}

    def check(self, address: BrokerAddress, now: float) -> None:
        """Raise the error with which an address refused us, if its pause is not over."""
        refusal = self._by_address.get(_place(address))
        if refusal is not None and now < refusal.until:
            raise refusal.error.again()

    def add(self, address: BrokerAddress, error: AuthenticationError, now: float) -> None:
        """An address refused us."""
        known = self._by_address.get(_place(address))
        times = 1 if known is None else known.times + 1
        self._by_address[_place(address)] = _Refusal(error, times, now + PAUSE.after(times))

    def forget(self, address: BrokerAddress) -> None:
        """An address took us."""
        self._by_address.pop(_place(address), None)


def _place(address: BrokerAddress) -> tuple[str, int]:
    return address.host, address.port
