"""Transactions in one partition; sequences and duplicates are tested in test_log.py."""

from __future__ import annotations

from aioproducer.testing.batch import BatchHeader
from aioproducer.testing.log import PartitionLog
from aioproducer.testing.producer_state import Aborted
from aioproducer.testing.transaction_values import Marker
from tests.support.kio_client import batch
from tests.support.reference_batch import crc32c
from tests.unit.testing.test_log import NOW_MS, append, log_of, refusal

TRANSACTIONAL = 0x10


def sent(producer_id: int, sequence: int, *, epoch: int = 0, count: int = 1) -> bytes:
    values = [b"%d-%d" % (producer_id, sequence + n) for n in range(count)]
    return batch(*values, producer=(producer_id, epoch, sequence), attributes=TRANSACTIONAL)


def end(log: PartitionLog, producer_id: int, *, commit: bool, epoch: int = 0) -> None:
    log.write_marker(Marker(producer_id, epoch, commit), leader_epoch=4, now_ms=NOW_MS)


def committed(log: PartitionLog) -> list[bytes | None]:
    return [record.value for record in log.records("read_committed")]


def test_the_last_stable_offset_is_where_the_oldest_open_transaction_begins() -> None:
    log = log_of()
    append(log, batch())
    append(log, sent(7, 0))
    append(log, sent(8, 0))
    assert log.last_stable_offset == 1
    end(log, 7, commit=True)
    assert log.last_stable_offset == 2
    end(log, 8, commit=False)
    assert log.last_stable_offset == log.next_offset == 5


def test_transactions_are_told_apart_by_their_producers() -> None:
    log = log_of()
    append(log, sent(7, 0))
    append(log, sent(8, 0))
    append(log, sent(7, 1))
    end(log, 7, commit=False)
    assert committed(log) == []
    end(log, 8, commit=True)
    append(log, sent(7, 2))
    end(log, 7, commit=True)
    assert committed(log) == [b"8-0", b"7-2"]
    assert len(list(log.records())) == 4


def test_a_reader_is_told_of_the_aborted_transactions_that_concern_it() -> None:
    log = log_of()
    append(log, sent(7, 0, count=2))
    end(log, 7, commit=False)
    append(log, sent(7, 2))
    end(log, 7, commit=False)
    first, second = Aborted(7, 0, 2), Aborted(7, 3, 4)
    assert log.producers.aborted(0, 5) == [first, second]
    assert log.producers.aborted(2, 3) == [first]
    assert log.producers.aborted(3, 5) == [second]
    assert log.producers.aborted(5, 9) == []


def test_a_marker_is_a_control_batch_with_a_checksum() -> None:
    log = log_of()
    end(log, 7, commit=True, epoch=3)
    data, after = log.read(0, 1000)
    header = BatchHeader.read(memoryview(data))
    assert (header.control, header.transactional, header.record_count) == (True, True, 1)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (7, 3, -1)
    assert (header.leader_epoch, header.base_timestamp_ms, header.size) == (4, NOW_MS, len(data))
    assert header.crc == crc32c(data[21:])
    assert (after, log.next_offset) == (1, 1)


def test_a_marker_without_records_aborts_nothing() -> None:
    log = log_of()
    end(log, 7, commit=False)
    assert log.producers.aborted(0, 9) == []


def test_a_transaction_is_open_to_its_epoch_only() -> None:
    log = log_of()
    append(log, sent(7, 0))
    assert log.producers.has_open_transaction(7, 0)
    assert not log.producers.has_open_transaction(7, 1)
    assert not log.producers.has_open_transaction(8, 0)


def test_inside_a_transaction_a_producer_writes_nothing_else() -> None:
    log = log_of()
    append(log, sent(7, 0))
    assert refusal(log, batch(producer=(7, 0, 1))).code == 48


def test_a_reader_of_committed_records_gets_whole_batches_up_to_the_stable_offset() -> None:
    log = log_of()
    append(log, batch())
    append(log, sent(7, 0))
    data, after = log.read(0, 10_000, "read_committed")
    assert (BatchHeader.read(memoryview(data)).size, after) == (len(data), 1)
    assert log.read(1, 10_000, "read_committed") == (b"", 1)
    assert log.read(1, 10_000)[1] == 2


def test_after_the_loss_of_a_marker_the_transaction_is_open_again() -> None:
    log = log_of()
    append(log, sent(7, 0))
    end(log, 7, commit=False)
    log.truncate(1)
    assert (log.last_stable_offset, log.producers.aborted(0, 9)) == (0, [])
    end(log, 7, commit=True)
    assert committed(log) == [b"7-0"]


def test_what_a_refused_batch_was_to_begin_with_is_what_comes_first() -> None:
    log = log_of()
    states = log.producers

    def verify(sequence: int, epoch: int = 0) -> None:
        states.verify(BatchHeader.read(memoryview(sent(7, sequence, epoch=epoch))), v2=False)

    verify(3)
    verify(5)
    assert refusal(log, sent(7, 5)).code == 45
    verify(2)
    assert refusal(log, sent(7, 3)).code == 45
    append(log, sent(7, 2))
    append(log, sent(7, 3))
    verify(9, epoch=1)
    verify(4, epoch=0)
    assert refusal(log, sent(7, 9, epoch=1)).code == 45
