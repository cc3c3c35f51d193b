from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.testing.batch import BatchHeader
from aioproducer.testing.log import Appended, BatchRefusedError, LogLimits, PartitionLog
from tests.support.kio_client import batch
from tests.support.reference_batch import crc32c

NOW_MS = 1_700_000_000_000
HIGHEST = 2**31 - 1


def log_of(**limits: Any) -> PartitionLog:
    return PartitionLog("t", 0, LogLimits(**limits))


def append(log: PartitionLog, data: bytes, *, version: int = 13, epoch: int = 0) -> Appended:
    return log.append(memoryview(data), version=version, leader_epoch=epoch, now_ms=NOW_MS)


def refusal(log: PartitionLog, data: bytes, *, version: int = 13) -> BatchRefusedError:
    before = log.next_offset
    with pytest.raises(BatchRefusedError) as caught:
        append(log, data, version=version)
    assert log.next_offset == before
    return caught.value


def sent(sequence: int, count: int = 1, *, epoch: int = 0, producer_id: int = 7) -> bytes:
    values = [b"%d" % n for n in range(count)]
    return batch(*values, producer=(producer_id, epoch, sequence))


def resealed(data: bytes) -> bytes:
    return data[:17] + struct.pack(">I", crc32c(data[21:])) + data[21:]


def test_offsets_go_on_from_batch_to_batch() -> None:
    log = log_of()
    assert append(log, batch(b"a", b"b")).base_offset == 0
    assert append(log, batch(b"c"), epoch=3).base_offset == 2
    assert [(one.offset, one.value, one.leader_epoch) for one in log.records()] == [
        (0, b"a", 0),
        (1, b"b", 0),
        (2, b"c", 3),
    ]
    assert log.next_offset == 3


def test_log_append_time_is_returned_and_stored() -> None:
    log = log_of(timestamp_type="LogAppendTime")
    assert append(log, batch()).log_append_time_ms == NOW_MS
    assert [one.timestamp_ms for one in log.records()] == [NOW_MS]


def test_a_sequence_goes_on_after_its_predecessor() -> None:
    log = log_of()
    append(log, sent(0, 3))
    assert append(log, sent(3)).base_offset == 3
    assert refusal(log, sent(5)).code == 45


def test_a_batch_sent_again_is_answered_with_its_first_offset() -> None:
    log = log_of()
    append(log, sent(0, 2))
    append(log, sent(2))
    again = append(log, sent(0, 2))
    assert (again.base_offset, again.duplicate, again.reused_sequence) == (0, True, False)
    assert log.next_offset == 3


def test_a_duplicate_is_answered_with_the_highest_timestamp_as_append_time() -> None:
    log = log_of()
    append(log, sent(0))
    assert append(log, sent(0)).log_append_time_ms == NOW_MS


def test_other_records_under_a_stored_sequence_are_noticed() -> None:
    log = log_of()
    append(log, batch(b"a", producer=(7, 0, 0)))
    assert append(log, batch(b"b", producer=(7, 0, 0))).reused_sequence


def test_a_duplicate_is_recognised_in_a_log_with_its_own_timestamps() -> None:
    log = log_of(timestamp_type="LogAppendTime")
    append(log, sent(0))
    again = append(log, sent(0))
    assert (again.duplicate, again.reused_sequence) == (True, False)


def test_the_last_five_batches_are_remembered_and_no_more() -> None:
    log = log_of()
    for sequence in range(6):
        append(log, sent(sequence))
    assert append(log, sent(1)).base_offset == 1
    assert refusal(log, sent(0)).code == 45


def test_after_the_highest_sequence_comes_0() -> None:
    log = log_of()
    append(log, sent(HIGHEST - 1))
    append(log, sent(HIGHEST))
    assert append(log, sent(0)).base_offset == 2


def test_a_batch_may_wrap() -> None:
    log = log_of()
    append(log, sent(HIGHEST, 3))
    assert [one.sequence for one in log.records()] == [HIGHEST, 0, 1]
    assert append(log, sent(2)).base_offset == 3


def test_an_unknown_producer_may_begin_anywhere() -> None:
    assert append(log_of(), sent(41)).base_offset == 0


def test_a_new_epoch_begins_at_0() -> None:
    log = log_of()
    append(log, sent(0, 5))
    assert refusal(log, sent(5, epoch=1)).code == 45
    assert append(log, sent(0, epoch=1)).base_offset == 5


def test_an_old_epoch_is_refused_even_for_a_duplicate() -> None:
    log = log_of()
    append(log, sent(0))
    append(log, sent(0, epoch=1))
    assert refusal(log, sent(0)).code == 47


def test_producers_do_not_disturb_each_other() -> None:
    log = log_of()
    append(log, sent(0, producer_id=7))
    append(log, sent(0, producer_id=8))
    append(log, batch())
    assert append(log, sent(1, producer_id=7)).base_offset == 3


def test_a_forgotten_producer_may_begin_anywhere() -> None:
    log = log_of()
    append(log, sent(0))
    log.forget_producers()
    assert append(log, sent(9)).base_offset == 1


def test_a_truncated_log_has_lost_records_and_sequences() -> None:
    log = log_of()
    for sequence in range(3):
        append(log, sent(sequence))
    log.truncate(1)
    assert log.next_offset == 1
    assert refusal(log, sent(2)).code == 45
    assert append(log, sent(1)).base_offset == 1


def test_a_log_truncated_to_nothing_begins_again() -> None:
    log = log_of()
    append(log, sent(0))
    log.truncate(0)
    assert (log.next_offset, list(log.records())) == (0, [])


def test_a_trimmed_log_begins_later_and_knows_its_producers() -> None:
    log = log_of()
    append(log, sent(0, 2))
    append(log, sent(2))
    log.trim(1)
    assert [one.offset for one in log.records()] == [1, 2]
    assert (log.start_offset, append(log, sent(3)).base_offset) == (1, 3)
    log.trim(99)
    assert (log.start_offset, list(log.records())) == (4, [])


def test_whole_batches_are_read_from_the_one_that_holds_the_offset() -> None:
    log = log_of()
    for value in (b"a", b"b", b"c"):
        append(log, batch(value, value))
    size = len(batch(b"a", b"a"))
    assert log.read(0, 10_000)[0] == b"".join(one.header_bytes + one.body for one in log.batches)
    assert BatchHeader.read(memoryview(log.read(3, size)[0])).base_offset == 2
    assert len(log.read(3, 1)[0]) == size
    assert len(log.read(1, 2 * size)[0]) == 2 * size
    assert log.read(6, 10_000) == (b"", 6)


def test_a_batch_too_large_is_refused() -> None:
    size = len(batch(b"a"))
    append(log_of(message_max_bytes=size), batch(b"a"))
    assert refusal(log_of(message_max_bytes=size - 1), batch(b"a")).code == 10


@pytest.mark.parametrize("place", [61, 65, 40, 17])
def test_a_changed_byte_is_noticed(place: int) -> None:
    data = bytearray(batch())
    data[place] ^= 0x40
    assert refusal(log_of(), bytes(data)).code == 2


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", 87),
        (batch()[:16], 87),
        (batch()[:-1], 87),
        (batch() * 2, 87),
        (b"\0" * 7 + b"\1" + batch()[8:], 87),
        (batch()[:16] + b"\1" + batch()[17:], 87),
        (batch()[:16] + b"\3" + batch()[17:], 2),
        (batch()[:8] + b"\0\0\0\5" + batch()[12:], 2),
        (batch()[:8] + b"\0\0\0\x0e" + batch()[12:26], 2),
        (batch()[:8] + b"\0\0\0\x30" + batch()[12:60], 2),
    ],
)
def test_what_is_not_one_batch_is_refused(data: bytes, code: int) -> None:
    assert refusal(log_of(), data).code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (batch(attributes=0x20), 87),
        (batch(attributes=0x05), -1),
        (sent(-1), 87),
        (resealed(batch()[:57] + struct.pack(">i", 2) + batch()[61:]), 87),
        (resealed(batch()[:57] + struct.pack(">i", 0) + batch()[61:]), 87),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(data: bytes, code: int) -> None:
    assert refusal(log_of(), data).code == code


def test_zstd_needs_version_7() -> None:
    assert refusal(log_of(), batch(attributes=4), version=6).code == 76


def test_a_timestamp_too_far_ahead_is_refused_record_by_record() -> None:
    error = refusal(log_of(), batch(b"a", b"b", timestamp_ms=NOW_MS + 3_600_001))
    assert (error.code, sorted(error.record_errors), error.told) == (32, [0, 1], True)
    append(log_of(), batch(timestamp_ms=NOW_MS + 3_600_000))
    append(log_of(timestamp_type="LogAppendTime"), batch(timestamp_ms=NOW_MS * 2))


def test_a_compacted_topic_needs_keys() -> None:
    log = log_of(compacted=True)
    append(log, batch(key=b""))
    error = refusal(log, batch(b"a", b"b", key=None))
    assert (error.code, sorted(error.record_errors)) == (87, [0, 1])
    assert "2 record errors" in error.reason


def test_records_that_cannot_be_read_are_refused_where_they_must_be_read() -> None:
    data = batch(payload=b"nonsense")
    append(log_of(), data)
    assert refusal(log_of(compacted=True), data).code == 87


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(1, 2)), max_size=25))
def test_whatever_is_sent_each_epoch_stays_gapless(sends: list[tuple[int, int, int]]) -> None:
    log = log_of()
    append(log, sent(0))
    for epoch, sequence, count in sends:
        try:
            append(log, sent(sequence, count, epoch=epoch))
        except BatchRefusedError as error:
            assert error.code in (45, 47)
    by_epoch: dict[int, list[int]] = {}
    for record in log.records():
        by_epoch.setdefault(record.producer_epoch, []).append(record.sequence)
    for sequences in by_epoch.values():
        assert sequences == list(range(len(sequences)))
