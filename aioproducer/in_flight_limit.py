"""How many bytes may be in flight to one broker, by how fast it answers. No clock, no I/O.

Part of the sender, which has one for each broker. A request that cannot be answered within
`request_timeout_ms` costs its connection and is sent again, and again; and what is in doubt cannot
be cut into smaller pieces. So the size of what is sent has to be right before it is too large:

1. A broker of which nothing is known gets what a slow link takes in the timeout, some hundred
   kilobytes.
2. Each response to a large request doubles the limit, as in TCP's slow start.
3. Large requests tell the rate. What is in flight is to be answered in a quarter of the timeout.
4. A timeout cuts the limit to a quarter, down to `LEAST_BYTES`.

A batch has half of the limit at most, so that it cannot be what takes too long.
"""

from __future__ import annotations

from typing import Final

__all__ = ["InFlightLimit"]

MOST_FIRST_BYTES: Final = 1_048_576
LEAST_BYTES: Final = 16_384
_SLOW_LINK: Final = 524_288
"""Bytes a second that any link is taken to have until it is measured."""
_TELLS_THE_RATE: Final = 65_536
"""Bytes from which on a request takes as long as its bytes, and not as its round trip."""
_SHARE_OF_TIMEOUT: Final = 0.25
_READ_TOGETHER: Final = 1e-4
"""Seconds: a response that comes sooner after another was read with it, and tells no time."""
_WEIGHT: Final = 0.25
"""Of the newest measurement in the rate."""


class InFlightLimit:
    """The limit of one broker.

    Args:
        most: Bytes that are never exceeded.
        timeout: `request_timeout_ms`, in seconds.

    Attributes:
        bytes: The limit.
    """

    __slots__ = ("_most", "_rate", "_timeout", "_untimed", "bytes")

    def __init__(self, most: int, timeout: float) -> None:
        first = min(MOST_FIRST_BYTES, int(_SLOW_LINK * timeout))
        self.bytes = min(max(first, LEAST_BYTES), most)
        self._most = most
        self._timeout = timeout
        self._rate = 0.0
        self._untimed = 0

    @property
    def batch_bytes(self) -> int:
        """Bytes that a batch may have, its records not compressed."""
        return self.bytes // 2

    def answered(self, size: int, took: float) -> None:
        """A request was answered.

        Args:
            size: Its bytes.
            took: Seconds since it was sent, or since the one before was answered.
        """
        if size < min(_TELLS_THE_RATE, self.bytes // 2):
            return
        if took < _READ_TOGETHER:
            # Its bytes were on the way as long as those of the next one.
            self._untimed += size
            return
        rate = (size + self._untimed) / took
        self._untimed = 0
        self._rate = rate if not self._rate else self._rate + _WEIGHT * (rate - self._rate)
        in_time = int(self._rate * self._timeout * _SHARE_OF_TIMEOUT)
        fitting = max(min(LEAST_BYTES, self._most), min(self._most, in_time))
        self.bytes = min(self.bytes * 2, fitting)

    def timed_out(self) -> None:
        """A request was not answered in time."""
        self._rate = 0.0
        self.bytes = max(min(LEAST_BYTES, self._most), self.bytes // 4)
