"""Watches for what a correct transactional producer never does, whatever the brokers do to it.

Called by `broker.py` with each request as it arrives, before any fault is applied, and with each
response as it is sent. Like `violations.py`, it lists only what no fault can be blamed for: a
producer that was fenced or timed out may not know it yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from aioproducer.testing.apis.end_txn import EndTxnResponse
from aioproducer.testing.apis.init_producer_id import InitProducerIdResponse
from aioproducer.testing.batch import MAX_SEQUENCE
from aioproducer.testing.observed import ApiName, FakeRequest, SentBatch
from aioproducer.testing.state import ClusterState
from aioproducer.testing.transaction_values import FakeTransaction

__all__ = ["TransactionWatch"]

_V2: Final[dict[ApiName, int]] = {"produce": 12, "end_txn": 5, "txn_offset_commit": 5}
"""The version of an API from which on a request belongs to transactions v2 (KIP-890)."""
_OF_BROKERS: Final = 4
"""The first version of AddPartitionsToTxn that only brokers send each other."""


class TransactionWatch:
    """Remembers of each producer what tells a later mistake.

    Args:
        state: The cluster.
        report: Takes where a mistake was made, and what it is.
    """

    def __init__(self, state: ClusterState, report: Callable[[str, str], None]) -> None:
        self._state = state
        self._report = report
        self._unanswered: Counter[str] = Counter()
        """By transactional id, the Produce requests without a response."""
        self._granted: dict[int, dict[int, int]] = {}
        """By connection, the last epoch that was returned on it, by producer id."""
        self._next_sequences: dict[tuple[int, int, str, int], int] = {}
        """By producer id, epoch, topic and partition, the highest sequence sent, plus one."""

    def arrived(self, where: str, request: FakeRequest) -> None:
        """Look at a request."""
        self._epoch(where, request, request.producer_id, request.producer_epoch)
        if request.api == "produce":
            self._produce(where, request)
        if request.transactional_id is None:
            return
        if request.version >= _V2.get(request.api, 99) and not self._has_v2():
            self._report(where, "the brokers have not finalized transactions v2")
        if request.api == "add_partitions_to_txn" and request.version >= _OF_BROKERS:
            self._report(where, "only brokers send this version")
        if request.api == "txn_offset_commit" and request.version < _V2["txn_offset_commit"]:
            transaction = self._open_to(request, request.producer_id, request.producer_epoch)
            if transaction is not None and request.group not in transaction.groups:
                self._report(where, f"the group {request.group!r} was not added to the transaction")
        unanswered = self._unanswered[request.transactional_id]
        if request.api == "end_txn" and request.commit and unanswered:
            self._report(where, f"a commit before the response to {unanswered} Produce requests")

    def answered(self, request: FakeRequest, response: object) -> None:
        """Look at the response to a request, as it is sent; None for one that nobody knows."""
        self.over(request)
        if (
            isinstance(response, InitProducerIdResponse | EndTxnResponse)
            and response.error_code == 0
            and response.producer_id >= 0
        ):
            granted = self._granted.setdefault(request.connection, {})
            granted[response.producer_id] = response.producer_epoch

    def over(self, request: FakeRequest) -> None:
        """A request has its response, or will never have one."""
        if request.api == "produce" and request.transactional_id is not None:
            self._unanswered[request.transactional_id] -= 1

    def closed(self, connection: int) -> None:
        """Forget a connection."""
        self._granted.pop(connection, None)

    def _has_v2(self) -> bool:
        return self._state.features.get("transaction.version", 0) >= 2

    def _produce(self, where: str, request: FakeRequest) -> None:
        if request.transactional_id is not None:
            self._unanswered[request.transactional_id] += 1
        for batch in request.batches:
            place = f"{where}, {batch.topic}-{batch.partition}"
            if batch.transactional != (request.transactional_id is not None):
                self._report(place, "batch and request disagree about being transactional")
            elif batch.transactional:
                self._batch(place, request, batch)

    def _batch(self, place: str, request: FakeRequest, batch: SentBatch) -> None:
        self._epoch(place, request, batch.producer_id, batch.producer_epoch)
        if request.version < _V2["produce"]:
            transaction = self._open_to(request, batch.producer_id, batch.producer_epoch)
            if (
                transaction is not None
                and (batch.topic, batch.partition) not in transaction.partitions
            ):
                self._report(place, "the partition was not added to the transaction")
        if batch.record_count < 1 or batch.base_sequence < 0:
            return
        key = (batch.producer_id, batch.producer_epoch, batch.topic, batch.partition)
        expected = self._next_sequences.get(key, 0)
        ahead = (batch.base_sequence - expected) % (MAX_SEQUENCE + 1)
        if 0 < ahead <= MAX_SEQUENCE // 2:
            self._report(
                place,
                f"producer {batch.producer_id} (epoch {batch.producer_epoch}) sent the sequence "
                f"{batch.base_sequence}, but never {expected}",
            )
        after = (batch.base_sequence + batch.record_count) % (MAX_SEQUENCE + 1)
        if (after - expected) % (MAX_SEQUENCE + 1) <= MAX_SEQUENCE // 2:
            self._next_sequences[key] = after

    def _epoch(self, where: str, request: FakeRequest, producer_id: int, epoch: int) -> None:
        returned = self._granted.get(request.connection, {}).get(producer_id, -1)
        if -1 < epoch < returned:
            self._report(
                where,
                f"producer {producer_id} goes on with epoch {epoch}, and got {returned}",
            )

    def _open_to(
        self, request: FakeRequest, producer_id: int, epoch: int
    ) -> FakeTransaction | None:
        """Return the transaction of a producer, unless it was ended behind the producer's back."""
        transaction = self._state.transactions.get(request.transactional_id or "")
        if transaction is None or transaction.state.startswith("Prepare"):
            return None
        current = (transaction.producer_id, transaction.producer_epoch)
        return transaction if current == (producer_id, epoch) else None
