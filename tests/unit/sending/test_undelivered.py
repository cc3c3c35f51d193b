"""The report of a close that did not deliver everything: a sequence, decoded when looked at."""

from __future__ import annotations

import collections.abc
import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from aioproducer._native.record_batch import RecordBatch, decode_records
from aioproducer.compression import codec_for
from aioproducer.errors import InvalidRecordError, KafkaError, ProducerClosedError
from aioproducer.hooks import UndeliveredRecord
from aioproducer.records import ProducerRecord
from aioproducer.sending import undelivered
from aioproducer.sending.undelivered import UndeliveredRecords
from tests.support.core import TOPIC, Core


def error(text: str = "closed") -> KafkaError:
    return ProducerClosedError(text)


def batch_of(*values: bytes, partition: int = 0) -> RecordBatch:
    core = Core(partitions=partition + 1)
    for index, value in enumerate(values):
        core.put(
            value,
            key=b"key",
            headers=[("name", b"x")],
            timestamp_ms=index,
            partition=partition,
        )
    return core.take(partition)


def report_of(*batches: RecordBatch) -> UndeliveredRecords:
    """Give up on batches as the sender does: the report takes their records, and they fail."""
    report = UndeliveredRecords()
    for batch in batches:
        report.add_batch(batch, error(), None)
        batch.fail(error())
    return report


def values(report: Sequence[UndeliveredRecord]) -> list[object]:
    return [each.record.value for each in report]


def test_a_report_of_nothing_is_empty_and_false() -> None:
    report = UndeliveredRecords()
    assert len(report) == 0
    assert not report
    assert list(report) == []
    assert report == []


def test_a_record_is_reported_as_it_was_to_be_stored() -> None:
    given = error("why")
    report = UndeliveredRecords()
    batch = batch_of(b"value", partition=2)
    report.add_batch(batch, given, None)
    batch.fail(given)
    (found,) = report
    assert found.error is given
    assert found.record == ProducerRecord(
        TOPIC, b"value", b"key", 2, headers=(("name", b"x"),), timestamp_ms=0
    )


def test_records_stand_in_the_order_of_their_batches() -> None:
    report = report_of(batch_of(b"1", b"2"), batch_of(b"3"), batch_of(b"4", b"5", b"6"))
    assert len(report) == 6
    assert values(report) == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_the_records_of_a_compressed_batch_are_decompressed() -> None:
    codec = codec_for("zstd")
    assert codec is not None
    batch = batch_of(*[b"squeeze me" * 10] * 5)
    batch.set_compressed(codec.compress(batch.payload), codec.attributes)
    assert batch.is_compressed
    report = UndeliveredRecords()
    report.add_batch(batch, error(), codec.decompress)
    batch.fail(error())
    assert len(report) == 5
    assert values(report) == [b"squeeze me" * 10] * 5


def test_a_batch_that_was_not_compressed_needs_no_codec() -> None:
    def decompress(payload: object, size: int) -> bytes:
        raise AssertionError

    report = UndeliveredRecords()
    report.add_batch(batch_of(b"1"), error(), decompress)
    assert values(report) == [b"1"]


def test_single_records_of_a_batch_have_their_own_errors() -> None:
    batch = batch_of(b"0", b"1", b"2", b"3")
    report = UndeliveredRecords()
    errors = {1: InvalidRecordError("bad 1"), 3: InvalidRecordError("bad 3")}
    report.add_records(batch, errors)
    assert [(each.record.value, each.error) for each in report] == [
        (b"1", errors[1]),
        (b"3", errors[3]),
    ]
    assert report[1].record.timestamp_ms == 3
    assert report[1].record.partition == 0


def test_records_whose_topic_was_not_known_have_the_partition_that_was_asked_for() -> None:
    core = Core(partitions=0)
    core.put(b"1", key=b"k", headers=[("h", None)], timestamp_ms=5)
    core.put(b"2", partition=7)
    (waiting,) = core.topic().waiting
    report = UndeliveredRecords()
    report.add_waiting(waiting, error())
    core.accumulator.fail_waiting(waiting, error())
    assert [each.record for each in report] == [
        ProducerRecord(TOPIC, b"1", b"k", None, headers=[("h", None)], timestamp_ms=5),
        ProducerRecord(TOPIC, b"2", None, 7, headers=None, timestamp_ms=0),
    ]


def test_records_that_were_routed_already_are_not_reported_as_waiting() -> None:
    core = Core(partitions=0)
    for value in (b"1", b"2", b"3"):
        core.put(value)
    (waiting,) = core.topic().waiting
    core.route(limit=2)
    report = UndeliveredRecords()
    report.add_waiting(waiting, error())
    assert values(report) == [b"3"]


def test_waiting_records_of_which_none_is_left_are_not_reported() -> None:
    core = Core(partitions=0)
    core.put()
    (waiting,) = core.topic().waiting
    core.route()
    report = UndeliveredRecords()
    report.add_waiting(waiting, error())
    assert not report


# ---- a sequence


def three_batches() -> UndeliveredRecords:
    return report_of(batch_of(b"0", b"1"), batch_of(b"2"), batch_of(b"3", b"4", b"5"))


@pytest.mark.parametrize("index", range(-6, 6))
def test_a_record_is_found_by_its_place(index: int) -> None:
    assert three_batches()[index].record.value == b"%d" % (index % 6)


@pytest.mark.parametrize("index", [6, -7, 100])
def test_there_is_nothing_beyond_the_last_record(index: int) -> None:
    with pytest.raises(IndexError):
        three_batches()[index]


@pytest.mark.parametrize(
    "part",
    [
        slice(None),
        slice(2),
        slice(2, 5),
        slice(-2, None),
        slice(None, None, 2),
        slice(1, 100, 3),
        slice(4, 2),
        slice(None, None, -1),
        slice(4, 0, -2),
        slice(2, 5, -1),
    ],
)
def test_a_slice_has_what_that_of_a_list_has(part: slice) -> None:
    report = three_batches()
    expected = [b"%d" % index for index in range(6)][part]
    assert values(report[part]) == expected


def test_a_report_is_a_sequence() -> None:
    report = three_batches()
    assert issubclass(UndeliveredRecords, collections.abc.Sequence)
    assert values([*reversed(report)]) == [b"5", b"4", b"3", b"2", b"1", b"0"]
    assert report[2] in report
    assert report.index(report[3]) == 3
    assert report.count(report[3]) == 1


def test_reports_and_lists_of_the_same_records_are_equal() -> None:
    given = error()
    batch = batch_of(b"1", b"2")
    first, second = UndeliveredRecords(), UndeliveredRecords()
    first.add_batch(batch, given, None)
    second.add_batch(batch, given, None)
    assert first == second
    assert first == list(second)
    assert first != list(second)[:1]
    assert first != 2


def test_a_repr_says_how_many_and_shows_no_payload() -> None:
    assert repr(report_of(batch_of(b"secret", b"hidden"))) == "<UndeliveredRecords: 2>"


# ---- made lazily


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of how many records each decoding had."""
    counts: list[int] = []
    decode = decode_records

    def counting(payload: Any, count: int, base: int) -> Any:
        counts.append(count)
        return decode(payload, count, base)

    monkeypatch.setattr(undelivered, "decode_records", counting)
    return counts


def test_nothing_is_decoded_before_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = decoded(monkeypatch)
    report = three_batches()
    assert len(report) == 6
    assert report
    assert repr(report)
    assert counts == []


def test_looking_at_one_record_decodes_its_batch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = decoded(monkeypatch)
    assert three_batches()[2].record.value == b"2"
    assert counts == [1]


def test_walking_decodes_one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = decoded(monkeypatch)
    walk = iter(three_batches())
    next(walk)
    assert counts == [2]
    assert values([*walk]) == [b"1", b"2", b"3", b"4", b"5"]
    assert counts == [2, 1, 3]


def test_looking_at_records_one_by_one_decodes_each_batch_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = decoded(monkeypatch)
    report = three_batches()
    assert [report[index].record.value for index in range(6)] == values(report[:])
    assert counts == [2, 1, 3, 2, 1, 3]
    assert values([*reversed(report)]) == values(report[::-1])
    assert counts[6:] == [1, 2, 3, 1, 2]


def test_the_last_records_are_had_without_decoding_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = decoded(monkeypatch)
    assert values(three_batches()[-2:]) == [b"4", b"5"]
    assert counts == [3]


def test_the_first_records_are_had_without_decoding_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = decoded(monkeypatch)
    assert values(three_batches()[:2]) == [b"0", b"1"]
    assert counts == [2]


def test_the_records_stay_readable_after_their_batch_and_its_memory_are_given_up() -> None:
    core = Core(batch_size=32_768)
    while not core.queue().closed:
        core.put(b"a" * 50)
    batch = core.take()
    count = batch.record_count
    report = report_of(batch)
    gone = weakref.ref(report)
    core.accumulator.release(batch)
    del batch
    # The block must not go to the next batches while the report holds it.
    for _ in range(3):
        while not core.queue().closed:
            core.put(b"b" * 50)
        core.take().complete(0)
    assert values(report) == [b"a" * 50] * count
    del report
    gc.collect()
    assert gone() is None
