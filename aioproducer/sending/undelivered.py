"""The report of what was not delivered: the records that `close` gave up on, with their errors.

Filled batch by batch while a producer closes. It holds the encoded records, at most `buffer_memory`
bytes, and decodes them when somebody looks: there may be hundreds of thousands.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast, overload

from aioproducer._native.queues import WaitingRecords
from aioproducer._native.record_batch import RecordBatch, decode_records
from aioproducer.errors import KafkaError
from aioproducer.hooks import UndeliveredRecord
from aioproducer.records import ProducerRecord

if TYPE_CHECKING:
    from aioproducer._native.queues import WaitingRecord

__all__ = ["UndeliveredRecords"]


_Decode: TypeAlias = Callable[[], list[UndeliveredRecord]]


class UndeliveredRecords(Sequence[UndeliveredRecord]):
    """What `close` returns: a sequence of `UndeliveredRecord`s, empty when all is well.

    Its length is known at once. The records are decoded one batch at a time, at access; those of
    the batch accessed last are kept.
    """

    def __init__(self) -> None:
        self._ends: list[int] = []
        self._parts: list[_Decode] = []
        self._decoded_part = -1
        self._records: list[UndeliveredRecord] = []

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int, /) -> UndeliveredRecord: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[UndeliveredRecord]: ...
    def __getitem__(self, index: int | slice, /) -> UndeliveredRecord | list[UndeliveredRecord]:
        if isinstance(index, slice):
            return [self._record(position) for position in range(len(self))[index]]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError("there are not so many undelivered records")
        return self._record(position)

    def _record(self, position: int) -> UndeliveredRecord:
        part = bisect_right(self._ends, position)
        if part != self._decoded_part:
            self._records = self._parts[part]()
            self._decoded_part = part
        return self._records[position - (self._ends[part - 1] if part else 0)]

    def __iter__(self) -> Iterator[UndeliveredRecord]:
        for decode in self._parts:
            yield from decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(cast("Sequence[object]", other))

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<UndeliveredRecords: {len(self)}>"

    # ---- filled by the sender

    def add_batch(
        self, batch: RecordBatch, error: KafkaError, decompress: Callable[..., bytes] | None
    ) -> None:
        """Take over the records of a batch that is about to fail.

        Args:
            batch: The batch, closed.
            error: Why.
            decompress: The codec's, for a compressed payload and the size of its records.
        """
        payload = batch.payload
        size = batch.records_size if batch.is_compressed else None
        self._add(
            batch.record_count,
            partial(
                _decode_batch,
                batch.topic,
                batch.partition,
                payload,
                size,
                decompress,
                batch.record_count,
                batch.base_timestamp_ms,
                error,
            ),
        )

    def add_records(self, batch: RecordBatch, errors: Mapping[int, KafkaError]) -> None:
        """Take over single records of an uncompressed batch, by their index, with their errors."""
        records = decode_records(batch.payload, batch.record_count, batch.base_timestamp_ms)
        for index, error in errors.items():
            key, value, headers, timestamp_ms = records[index]
            waiting = [(key, value, batch.partition, headers, timestamp_ms)]
            self._add(1, partial(_decode_waiting, batch.topic, waiting, error))

    def add_waiting(self, waiting: WaitingRecords, error: KafkaError) -> None:
        """Take over records that wait for metadata and are about to fail."""
        topic = waiting.topic.name
        self._add(waiting.count, partial(_decode_waiting, topic, waiting.left(), error))

    def add_record(self, topic: str, record: WaitingRecord, error: KafkaError) -> None:
        """Take over a record that got no partition."""
        self._add(1, partial(_decode_waiting, topic, [record], error))

    def _add(self, count: int, decode: _Decode) -> None:
        if count:
            self._ends.append(len(self) + count)
            self._parts.append(decode)


def _decode_batch(
    topic: str,
    partition: int,
    payload: bytes | memoryview,
    size: int | None,
    decompress: Callable[..., bytes] | None,
    record_count: int,
    base_timestamp_ms: int,
    error: KafkaError,
) -> list[UndeliveredRecord]:
    records = payload
    if size is not None:
        assert decompress is not None
        records = decompress(payload, size)
    return [
        UndeliveredRecord(
            ProducerRecord(topic, value, key, partition, headers, timestamp_ms), error
        )
        for key, value, headers, timestamp_ms in decode_records(
            records, record_count, base_timestamp_ms
        )
    ]


def _decode_waiting(
    topic: str,
    records: Sequence[WaitingRecord],
    error: KafkaError,
) -> list[UndeliveredRecord]:
    return [
        UndeliveredRecord(
            ProducerRecord(topic, value, key, partition, headers, timestamp_ms), error
        )
        for key, value, partition, headers, timestamp_ms in records
    ]
