"""What transactions are spoken of with: producer ids with epochs, states, markers. Values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from aioproducer.testing.error_codes import ErrorCode

__all__ = ["FakeTransaction", "Marker", "Pid", "TransactionRefusedError", "TransactionState"]

TransactionState: TypeAlias = Literal[
    "Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"
]


class Pid(NamedTuple):
    """A producer id with its epoch."""

    producer_id: int
    epoch: int


class TransactionRefusedError(Exception):
    """The coordinator answers with an error."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass(frozen=True, slots=True)
class FakeTransaction:
    """What the coordinator of a transactional id knows of it."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    state: TransactionState
    partitions: tuple[tuple[str, int], ...]
    """The topics and partitions in the open transaction."""
    groups: tuple[str, ...]
    """The groups whose offsets are in it."""
    timeout_ms: int


class Marker(NamedTuple):
    """What ends a transaction in one partition or group."""

    producer_id: int
    epoch: int
    commit: bool
