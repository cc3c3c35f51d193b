"""What every API of the fake brokers is made of: a call that is read, answered and encoded.

`broker.py` reads a `Call` off the wire when a request arrives and asks for its answer when its
turn has come. A module of this package holds one API: its call, its answer, its `Api` row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.faults import Fail
from aioproducer.testing.observed import ApiName, SentBatch
from aioproducer.testing.sasl import Session
from aioproducer.testing.state import ClusterState
from aioproducer.testing.transaction_values import Pid
from aioproducer.testing.wire import Reader, Writer

__all__ = [
    "Api",
    "Call",
    "CloseConnectionError",
    "Later",
    "PlainCall",
    "ResetError",
    "Response",
    "Turn",
    "fenced_as",
]


class CloseConnectionError(Exception):
    """The broker answers this request by closing the connection."""


class ResetError(CloseConnectionError):
    """The broker answers this request by resetting the connection."""


@dataclass(slots=True)
class Turn:
    """The circumstances in which a call is answered."""

    state: ClusterState
    node_id: int
    version: int
    failures: Sequence[Fail] = field(default_factory=tuple[Fail, ...])
    waited: bool = False
    """Whether the call has asked for time before (Later), and it is over."""
    session: Session = field(default_factory=Session)
    """How far the connection is with logging in."""

    def failure(self, topic: str | None = None, partition: int | None = None) -> Fail | None:
        """Return the error that a test wants for this topic and partition, if any."""
        for fail in self.failures:
            if fail.concerns(topic, partition):
                return fail
        return None


def fenced_as(code: int, version: int, *, told_from: int) -> int:
    """Return a code as a version of a request knows it: PRODUCER_FENCED came late (KIP-588)."""
    if code == ErrorCode.PRODUCER_FENCED and version < told_from:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    return code


class Later(NamedTuple):
    """Ask the call again when records have been stored, and for the last time after a while."""

    seconds: float


class Response(Protocol):
    """What a broker answers; a test may change it before it is encoded."""

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""
        ...


class Call(Protocol):
    """The body of a request."""

    acks: int | None
    """The acks of a Produce request."""

    @property
    def transactional_id(self) -> str | None:
        """The transactional id it names."""
        ...

    @property
    def pid(self) -> Pid:
        """The producer id and epoch it names."""
        ...

    @property
    def group(self) -> str | None:
        """The consumer group it names."""
        ...

    @property
    def commit(self) -> bool | None:
        """Whether an EndTxn request commits."""
        ...

    def topics(self, state: ClusterState) -> tuple[str, ...] | None:
        """Return the names of the topics it is about; None for all."""
        ...

    def partitions(self, state: ClusterState) -> tuple[tuple[str, int], ...]:
        """Return the topics and partitions it names beside those of its batches."""
        ...

    def batches(self, state: ClusterState) -> tuple[SentBatch, ...]:
        """Return what it wants stored."""
        ...

    def records(self) -> list[memoryview]:
        """Return the bytes of each of its batches."""
        ...

    def response_version(self, version: int) -> int:
        """Return the version in which a request of this version is answered."""
        ...

    def respond(self, turn: Turn) -> Response | Later | None:
        """Carry the call out and return its answer; None if nobody expects one."""
        ...


class PlainCall:
    """A call that is about no topic."""

    acks: int | None = None
    transactional_id: str | None = None
    pid: Pid = Pid(-1, -1)
    group: str | None = None
    commit: bool | None = None

    def topics(self, state: ClusterState) -> tuple[str, ...] | None:
        """Return no topic."""
        return ()

    def partitions(self, state: ClusterState) -> tuple[tuple[str, int], ...]:
        """Return no partition."""
        return ()

    def batches(self, state: ClusterState) -> tuple[SentBatch, ...]:
        """Return no batch."""
        return ()

    def records(self) -> list[memoryview]:
        """Return no batch."""
        return []

    def response_version(self, version: int) -> int:
        """Return the version of the request."""
        return version


@dataclass(frozen=True, slots=True)
class Api:
    """One row of the table of APIs."""

    name: ApiName
    key: int
    min_version: int
    max_version: int
    flexible_from: int
    read: Callable[[Reader, int], Call]
    """Reads the body of a request of the given version."""
    flexible_response_header: bool = True
    """False for ApiVersions: who asks does not know yet what the broker can read."""
    advertised_min: int | None = None
    """The lowest version that ApiVersions tells, where that is not the lowest accepted."""

    def flexible(self, version: int) -> bool:
        """Return whether a version has compact lengths and tagged fields."""
        return version >= self.flexible_from
