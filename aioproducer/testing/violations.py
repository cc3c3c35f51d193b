"""Watches for what a correct producer never does, whatever the brokers do to it.

Called by `broker.py` with each request as it arrives, before any fault is applied. Only what
cannot be blamed on a fault counts: a retry, an out-of-date leader or a gap after a failed batch
are all legitimate. Other modules add what only they see (a sequence used twice) to the same list.
"""

from __future__ import annotations

from typing import Final

from aioproducer.testing.batch import HEADER_SIZE, BatchHeader, checksum
from aioproducer.testing.observed import FakeRequest, SentBatch
from aioproducer.testing.state import ClusterState
from aioproducer.testing.transaction_watch import TransactionWatch
from aioproducer.testing.wire import WireError

__all__ = ["MAX_IDEMPOTENT_IN_FLIGHT", "Watch"]

MAX_IDEMPOTENT_IN_FLIGHT: Final = 5


class Watch:
    """Remembers of each producer what tells a later mistake, and lists the mistakes."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self.transactions = TransactionWatch(state, self.request)
        self._epochs: dict[tuple[int, str, int], tuple[int, int]] = {}
        """The highest epoch of a producer in a partition, and the connection that brought it."""

    def request(self, where: str, what: str) -> None:
        """List a mistake."""
        self._state.violations.append(f"{where}: {what}")

    def produce(self, where: str, request: FakeRequest, records: list[memoryview]) -> None:
        """Look at a Produce request; `records` holds the bytes of each of its batches."""
        seen: set[tuple[str, int]] = set()
        if request.acks not in (-1, 0, 1):
            self.request(where, f"acks is {request.acks}")
        if not request.batches:
            self.request(where, "there is nothing in it")
        for batch, raw in zip(request.batches, records, strict=True):
            place = f"{where}, {batch.topic}-{batch.partition}"
            if (batch.topic, batch.partition) in seen:
                self.request(place, "the partition is in the request twice")
            seen.add((batch.topic, batch.partition))
            self._batch(place, request, raw)
            self._producer(place, request, batch)

    def _batch(self, place: str, request: FakeRequest, raw: memoryview) -> None:
        try:
            header = BatchHeader.read(raw)
        except WireError as error:
            self.request(place, str(error))
            return
        if header.magic != 2:
            self.request(place, f"the magic is {header.magic}")
            return
        if header.size != len(raw):
            self.request(place, f"the batch claims {header.size} bytes, {len(raw)} are there")
            return
        if checksum(raw) != header.crc:
            self.request(place, "the CRC is wrong")
        if header.base_offset != 0:
            self.request(place, f"the base offset is {header.base_offset}")
        if header.record_count < 1 or header.last_offset_delta != header.record_count - 1:
            self.request(
                place,
                f"{header.record_count} records, but the last offset delta is "
                f"{header.last_offset_delta}",
            )
        if header.record_count > len(raw) - HEADER_SIZE and header.compression == "none":
            self.request(place, f"{header.record_count} records cannot be in {len(raw)} bytes")
        if (
            header.compression is None
            or header.control
            or header.has_delete_horizon
            or header.has_unused_attributes
            or header.timestamp_type == "LogAppendTime"
        ):
            self.request(place, f"the attributes are {header.attributes:#06x}")
        if header.compression == "zstd" and request.version < 7:
            self.request(place, "zstd needs version 7")

    def _producer(self, place: str, request: FakeRequest, batch: SentBatch) -> None:
        if batch.producer_id < 0:
            return
        if not self._state.gave_out(batch.producer_id):
            self.request(place, f"no producer got the id {batch.producer_id}")
        if batch.base_sequence < 0 or batch.producer_epoch < 0:
            self.request(
                place,
                f"epoch {batch.producer_epoch} and sequence {batch.base_sequence} of producer "
                f"{batch.producer_id}",
            )
        if request.acks != -1:
            self.request(place, f"an idempotent batch with acks={request.acks}")
        key = (batch.producer_id, batch.topic, batch.partition)
        highest, connection = self._epochs.get(key, (-1, -1))
        if batch.producer_epoch > highest:
            self._epochs[key] = batch.producer_epoch, request.connection
        elif batch.producer_epoch < highest and (
            request.connection == connection
            if batch.transactional
            else request.connection >= connection
        ):
            # On an earlier connection it is late, and was sent before the producer went on. With a
            # transactional id, it comes from a producer that was fenced and has not noticed.
            self.request(
                place,
                f"producer {batch.producer_id} went back from epoch {highest} to "
                f"{batch.producer_epoch}",
            )
