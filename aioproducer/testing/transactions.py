"""The transactions of the cluster, as their coordinators keep them. No I/O.

Owns, per transactional id, the producer id and epoch, the state of the transaction, what is in
it, and the timer that aborts it. Mirrors TransactionCoordinator and TransactionMetadata (4.3).
A call carries out a change, or raises `TransactionRefusedError` and changes nothing; only
`init_producer_id` may do both, when it fences a producer.

Transactions v1 and v2 (KIP-890) are told apart by the version of the request: a client says with
it which one it speaks. What the coordinator does by itself (a timeout, fencing) follows the
finalized feature.

Invariants
* A partition or group leaves a transaction when its marker is written, and only then.
* While the state is PrepareCommit or PrepareAbort some marker is missing, or markers are held.
* The timer runs while the state is Ongoing, and never else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.transaction_values import (
    FakeTransaction,
    Marker,
    Pid,
    TransactionRefusedError,
    TransactionState,
)

__all__ = ["MAX_TIMEOUT_MS", "Schedule", "Transactions"]

Schedule: TypeAlias = Callable[[float, Callable[[], None]], Callable[[], None]]
"""Calls a function after some seconds; returns a function that cancels it."""

MAX_TIMEOUT_MS: Final = 900_000
"""A broker's `transaction.max.timeout.ms` by default."""
_LAST_EPOCH: Final = 2**15 - 2
"""The highest epoch that a producer gets; the one after it is for fencing it."""


@dataclass(slots=True)
class _Transaction:
    transactional_id: str
    producer_id: int
    epoch: int = -1
    last_epoch: int = -1
    """The epoch before this one, if the producer that had it may ask for this one again."""
    previous_producer_id: int = -1
    next_producer_id: int = -1
    """The producer id after the end of the transaction, if the epochs of this one are used up."""
    timeout_ms: int = 60_000
    state: TransactionState = "Empty"
    has_v2: bool = False
    """Whether transactions v2 made the last change."""
    partitions: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    groups: set[str] = field(default_factory=set[str])
    cancel_timer: Callable[[], None] | None = None

    @property
    def is_exhausted(self) -> bool:
        return self.epoch >= _LAST_EPOCH

    @property
    def is_ending(self) -> bool:
        return self.state in ("PrepareCommit", "PrepareAbort")

    def stop_timer(self) -> None:
        if self.cancel_timer is not None:
            self.cancel_timer()
            self.cancel_timer = None


def _refuse(code: ErrorCode) -> TransactionRefusedError:
    return TransactionRefusedError(code)


def _never(_seconds: float, _callback: Callable[[], None]) -> Callable[[], None]:
    return lambda: None


class Transactions:
    """The transactional ids of a cluster.

    Args:
        new_producer_id: Returns an id that no producer has had.
        write_partition: Writes a marker into a partition; returns False if it has no leader now.
        write_group: The same for a group and its coordinator.
        has_v2: Whether the brokers end transactions by v2 when they do it by themselves.
    """

    def __init__(
        self,
        *,
        new_producer_id: Callable[[], int],
        write_partition: Callable[[str, int, Marker], bool],
        write_group: Callable[[str, Marker], bool],
        has_v2: Callable[[], bool],
    ) -> None:
        self._new_producer_id = new_producer_id
        self._write_partition = write_partition
        self._write_group = write_group
        self._has_v2 = has_v2
        self._by_id: dict[str, _Transaction] = {}
        self.schedule: Schedule = _never
        """Where the timers run; nowhere before the cluster has started."""
        self.holds_markers = False
        """Whether transactions stay in PrepareCommit or PrepareAbort."""

    # What a test sees and does.

    def get(self, transactional_id: str) -> FakeTransaction | None:
        """Return what is known of a transactional id."""
        found = self._by_id.get(transactional_id)
        if found is None:
            return None
        return FakeTransaction(
            transactional_id,
            found.producer_id,
            found.epoch,
            found.state,
            tuple(sorted(found.partitions)),
            tuple(sorted(found.groups)),
            found.timeout_ms,
        )

    def forget(self, transactional_id: str) -> None:
        """Forget a transactional id, as brokers do of those long silent."""
        found = self._by_id.get(transactional_id)
        if found is not None and (found.state == "Ongoing" or found.is_ending):
            raise ValueError(f"{transactional_id!r} has an open transaction ({found.state})")
        self._by_id.pop(transactional_id, None)

    def set_next_epoch(self, transactional_id: str, epoch: int) -> None:
        """Let the next producer of a transactional id get this epoch."""
        if not 0 <= epoch <= _LAST_EPOCH:
            raise ValueError(f"an epoch is between 0 and {_LAST_EPOCH}, {epoch} is not")
        found = self._by_id.get(transactional_id)
        if found is None:
            found = self._create(transactional_id)
        elif found.state == "Ongoing" or found.is_ending:
            raise ValueError(f"{transactional_id!r} has an open transaction ({found.state})")
        found.epoch, found.last_epoch = epoch - 1, -1

    def stop_timers(self) -> None:
        """Time out no transaction any more."""
        for transaction in self._by_id.values():
            transaction.stop_timer()

    def write_markers(self) -> None:
        """Go on with the transactions that wait for their markers."""
        for transaction in tuple(self._by_id.values()):
            if transaction.is_ending:
                self._complete(transaction)

    # What the requests ask for.

    def init_producer_id(self, transactional_id: str, timeout_ms: int, expected: Pid | None) -> Pid:
        """Return the producer id and epoch of a producer that begins, or goes on.

        Args:
            transactional_id: Its transactional id.
            timeout_ms: How long a transaction of it may be open.
            expected: What it has, if it goes on after an error (KIP-360).
        """
        if not transactional_id:
            raise _refuse(ErrorCode.INVALID_REQUEST)
        if not 0 < timeout_ms <= MAX_TIMEOUT_MS:
            raise _refuse(ErrorCode.INVALID_TRANSACTION_TIMEOUT)
        transaction = self._by_id.get(transactional_id) or self._create(transactional_id)
        if expected is not None and not _may_go_on(transaction, expected):
            raise _refuse(ErrorCode.PRODUCER_FENCED)
        if transaction.is_ending:
            raise _refuse(ErrorCode.CONCURRENT_TRANSACTIONS)
        if transaction.state == "Ongoing":
            # The epoch of the abort is given to nobody: whoever asks again gets the one after it.
            self._fence(transaction)
            raise _refuse(ErrorCode.CONCURRENT_TRANSACTIONS)
        self._next_epoch(transaction, expected)
        transaction.timeout_ms = timeout_ms
        transaction.state = "Empty"
        transaction.has_v2 = False
        return _pid_of(transaction)

    def add(
        self,
        transactional_id: str,
        pid: Pid,
        *,
        partitions: Iterable[tuple[str, int]] = (),
        groups: Iterable[str] = (),
        v2: bool,
    ) -> None:
        """Add partitions and groups to the open transaction, or open one with them.

        Args:
            transactional_id: The transactional id.
            pid: What the producer has.
            partitions: The topics and partitions to add.
            groups: The groups to add.
            v2: Whether a broker adds them as part of another request.
        """
        transaction = self._checked(transactional_id, pid)
        if transaction.state != "Ongoing":
            transaction.state = "Ongoing"
            self._start_timer(transaction)
        transaction.has_v2 = v2
        transaction.partitions.update(partitions)
        transaction.groups.update(groups)

    def check_added(
        self, transactional_id: str, pid: Pid, *, partition: tuple[str, int] | str
    ) -> None:
        """Raise unless a partition, or a group, is in the transaction of the producer."""
        transaction = self._checked(transactional_id, pid)
        present: Collection[object] = (
            transaction.groups if isinstance(partition, str) else transaction.partitions
        )
        if partition not in present:
            raise _refuse(ErrorCode.TRANSACTION_ABORTABLE)

    def end(self, transactional_id: str, pid: Pid, *, commit: bool, v2: bool) -> Pid:
        """Commit or abort, and return what the producer has from now on.

        Args:
            transactional_id: The transactional id.
            pid: What the producer has.
            commit: Whether the transaction takes place.
            v2: Whether its end gives the producer another epoch.
        """
        if not transactional_id:
            raise _refuse(ErrorCode.INVALID_REQUEST)
        transaction = self._by_id.get(transactional_id)
        if transaction is None:
            raise _refuse(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if self._is_to_end(transaction, pid, commit=commit, v2=v2):
            self._prepare(transaction, commit=commit, v2=v2)
        if transaction.next_producer_id != -1:
            return Pid(transaction.next_producer_id, 0)
        return _pid_of(transaction)

    def fence(self, transactional_id: str) -> None:
        """Abort the open transaction and give its epoch to nobody, as a timeout does."""
        transaction = self._by_id.get(transactional_id)
        if transaction is None or transaction.state != "Ongoing":
            raise ValueError(f"{transactional_id!r} has no open transaction")
        self._fence(transaction)

    # How it is done.

    def _create(self, transactional_id: str) -> _Transaction:
        transaction = _Transaction(transactional_id, self._new_producer_id())
        self._by_id[transactional_id] = transaction
        return transaction

    def _checked(self, transactional_id: str, pid: Pid) -> _Transaction:
        """Return the transaction that a producer may add to."""
        if not transactional_id:
            raise _refuse(ErrorCode.INVALID_REQUEST)
        transaction = self._by_id.get(transactional_id)
        if transaction is None or transaction.producer_id != pid.producer_id:
            raise _refuse(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if transaction.epoch != pid.epoch:
            raise _refuse(ErrorCode.PRODUCER_FENCED)
        if transaction.is_ending:
            raise _refuse(ErrorCode.CONCURRENT_TRANSACTIONS)
        return transaction

    def _next_epoch(self, transaction: _Transaction, expected: Pid | None) -> None:
        """Give the producer its next epoch, or the one that it got before (a repeated request)."""
        if transaction.is_exhausted and expected in (None, _pid_of(transaction)):
            transaction.last_epoch = -1 if expected is None else transaction.epoch
            transaction.previous_producer_id = transaction.producer_id
            transaction.producer_id = self._new_producer_id()
            transaction.epoch = 0
        elif expected is None:
            transaction.epoch += 1
            transaction.last_epoch = -1
        elif transaction.epoch == -1 or expected.epoch == transaction.epoch:
            transaction.last_epoch = transaction.epoch
            transaction.epoch += 1
        elif expected.epoch != transaction.last_epoch:
            raise _refuse(ErrorCode.PRODUCER_FENCED)

    def _is_to_end(self, transaction: _Transaction, pid: Pid, *, commit: bool, v2: bool) -> bool:
        """Return whether there is something to do; False for a request that is repeated."""
        bumped = transaction.has_v2 and transaction.epoch == pid.epoch + 1
        rotated = (
            transaction.has_v2
            and transaction.previous_producer_id == pid.producer_id
            and pid.epoch == _LAST_EPOCH
            and transaction.epoch == 0
        )
        if transaction.producer_id != pid.producer_id and not (v2 and rotated):
            raise _refuse(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        is_repeated = v2 and (bumped or rotated)
        if not _has_valid_epoch(transaction, pid, is_repeated=is_repeated, v2=v2):
            raise _refuse(ErrorCode.PRODUCER_FENCED)
        state = transaction.state
        if state == "Ongoing":
            return True
        if state in ("PrepareCommit", "PrepareAbort"):
            if commit == (state == "PrepareCommit"):
                raise _refuse(ErrorCode.CONCURRENT_TRANSACTIONS)
        elif state in ("CompleteCommit", "CompleteAbort") and (is_repeated or not v2):
            if commit == (state == "CompleteCommit"):
                return False
        elif v2 and not commit:
            # Its records may all have failed: it cannot know whether a transaction was opened.
            return True
        raise _refuse(ErrorCode.INVALID_TXN_STATE)

    def _prepare(self, transaction: _Transaction, *, commit: bool, v2: bool) -> None:
        if v2:
            if transaction.is_exhausted:
                transaction.next_producer_id = self._new_producer_id()
            transaction.last_epoch = transaction.epoch
            transaction.epoch += 1
        transaction.has_v2 = v2
        transaction.state = "PrepareCommit" if commit else "PrepareAbort"
        transaction.stop_timer()
        self._complete(transaction)

    def _fence(self, transaction: _Transaction) -> None:
        if not self._has_v2():
            # Whoever has the epoch before this one cannot ask for this one: nobody gets it.
            transaction.epoch, transaction.last_epoch = transaction.epoch + 1, -1
        self._prepare(transaction, commit=False, v2=self._has_v2())

    def _complete(self, transaction: _Transaction) -> None:
        """Write the markers that can be written; the transaction is over with the last one."""
        if self.holds_markers:
            return
        commit = transaction.state == "PrepareCommit"
        marker = Marker(transaction.producer_id, transaction.epoch, commit)
        for topic, partition in sorted(transaction.partitions):
            if self._write_partition(topic, partition, marker):
                transaction.partitions.discard((topic, partition))
        for group in sorted(transaction.groups):
            if self._write_group(group, marker):
                transaction.groups.discard(group)
        if transaction.partitions or transaction.groups:
            return
        transaction.state = "CompleteCommit" if commit else "CompleteAbort"
        if transaction.next_producer_id != -1:
            transaction.previous_producer_id = transaction.producer_id
            transaction.producer_id = transaction.next_producer_id
            transaction.next_producer_id = -1
            transaction.epoch = 0

    def _start_timer(self, transaction: _Transaction) -> None:
        def time_is_over() -> None:
            transaction.cancel_timer = None
            if transaction.state == "Ongoing":
                self._fence(transaction)

        seconds = transaction.timeout_ms / 1000
        transaction.cancel_timer = self.schedule(seconds, time_is_over)


def _pid_of(transaction: _Transaction) -> Pid:
    return Pid(transaction.producer_id, transaction.epoch)


def _may_go_on(transaction: _Transaction, expected: Pid) -> bool:
    """Whether this transactional id has the producer id, or had it until its epochs ended."""
    return (
        transaction.epoch == -1
        or expected.producer_id == transaction.producer_id
        or (
            expected.producer_id == transaction.previous_producer_id
            and expected.epoch >= _LAST_EPOCH
        )
    )


def _has_valid_epoch(transaction: _Transaction, pid: Pid, *, is_repeated: bool, v2: bool) -> bool:
    is_current = pid.epoch == transaction.epoch
    if not (v2 and transaction.has_v2):
        return is_current
    if transaction.is_ending:
        # With the same epoch it would be the end of the next transaction.
        return is_repeated
    return is_current or (is_repeated and transaction.state.startswith("Complete"))
