"""What the HTTP clients write down: every request, and what they were answered.

Filled by the load in a process of its own, read by the runner in another. Times are of the system's
monotonic clock, which all processes of a machine share.

Invariants: a client numbers its requests from 0 on; client and number stand in the record that the
request makes, so that each record in the log is one request's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

__all__ = ["HUNG_UP", "NO_ANSWER", "Call", "read_calls", "write_calls"]

NO_ANSWER = 0
"""The connection ended before the response: the server is gone."""

HUNG_UP = -1
"""The client closed the connection, and never learns what became of its request."""


@dataclass(slots=True)
class Call:
    """One request.

    Attributes:
        client: Which client's, by number.
        number: Its place among the requests of that client.
        is_click: It is to be answered 202, before its record is stored.
        sent_at: When it was sent.
        status: Of the response; or `NO_ANSWER`, or `HUNG_UP`.
        ended_at: When the response was there, or was not to come.
        partition: Where the record is stored, said the response.
        offset: Where the record is stored, said the response.
        retry_after: The response's Retry-After in seconds; None without one.
    """

    client: int
    number: int
    is_click: bool
    sent_at: float
    status: int = NO_ANSWER
    ended_at: float = 0.0
    partition: int = -1
    offset: int = -1
    retry_after: int | None = None

    @property
    def is_answered(self) -> bool:
        """Whether there was a response."""
        return self.status > 0

    @property
    def is_stored(self) -> bool:
        """Whether the response said that the record is stored."""
        return 200 <= self.status < 300 and not self.is_click

    @property
    def is_accepted(self) -> bool:
        """Whether the response said that the record is on its way."""
        return 200 <= self.status < 300 and self.is_click

    @property
    def is_refused(self) -> bool:
        """Whether the response said that the record is not stored: sent again, it is no second."""
        return self.status == 503


def write_calls(path: Path, calls: Iterable[Call]) -> None:
    """Write requests down, a line each."""
    with path.open("w") as file:
        file.writelines(json.dumps(astuple(call)) + "\n" for call in calls)


def read_calls(path: Path) -> list[Call]:
    """Return the requests that another process wrote down."""
    with path.open() as file:
        return [Call(*json.loads(line)) for line in file]
