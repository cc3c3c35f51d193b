"""Record batches: bytes against a reference encoder and foreign readers, memory, splitting."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.records.readers import read_batch

from aioproducer._native.record_batch import (
    BATCH_HEADER_SIZE,
    RecordBatch,
    crc32c,
    crc32c_portable,
)
from aioproducer.errors import KafkaError, NetworkError
from tests.support import kafka_python, reference_batch
from tests.support.core import Core, Outcome, noting_outcome
from tests.support.reference_batch import Record, encode_batch, encode_records

quick = settings(max_examples=60, deadline=None, database=None)

data = st.one_of(
    st.none(),
    st.binary(max_size=10),
    # Around the lengths at which a varint takes another byte.
    st.sampled_from([b"x" * size for size in (63, 64, 65, 8191, 8192, 8193)]),
)
headers = st.lists(st.tuples(st.text(max_size=5), data), max_size=3).map(tuple)
near = st.integers(1_700_000_000_000, 1_700_000_000_100)
timestamps = st.one_of(near, near, st.integers(0, 2**62))
lists_of_records = st.lists(
    st.builds(Record, data, data, headers, timestamps), min_size=1, max_size=12
)


def batch_of(records: Sequence[Record]) -> RecordBatch:
    core = Core()
    for key, value, its_headers, timestamp_ms in records:
        core.put(value, key=key, headers=its_headers, timestamp_ms=timestamp_ms)
    return core.take()


def some_batch(count: int = 3) -> RecordBatch:
    return batch_of([Record(None, b"value %d" % n, (), n) for n in range(count)])


def wire_bytes(batch: RecordBatch) -> bytes:
    return batch.seal() + batch.payload


# ---- encoding


@quick
@given(lists_of_records)
def test_a_batch_has_the_bytes_of_the_reference_encoder(records: list[Record]) -> None:
    assert wire_bytes(batch_of(records)) == encode_batch(records)


@quick
@given(lists_of_records)
def test_a_batch_decodes_to_the_records_put_in(records: list[Record]) -> None:
    assert batch_of(records).records() == [tuple(record) for record in records]


@quick
@given(lists_of_records)
def test_kafka_python_reads_the_records_put_in(records: list[Record]) -> None:
    foreign = kafka_python.records.DefaultRecordBatch(wire_bytes(batch_of(records)))
    assert foreign.validate_crc()
    read = [
        Record(found.key, found.value, tuple(found.headers), found.timestamp) for found in foreign
    ]
    assert read == records


@quick
@given(st.lists(st.builds(Record, data, data, headers, near), min_size=1, max_size=8))
def test_kio_reads_the_records_put_in(records: list[Record]) -> None:
    encoded = wire_bytes(batch_of(records))
    foreign, size = read_batch(encoded, 0)
    assert size == len(encoded)
    read = [
        (
            found.key,
            found.value,
            tuple(((header.key or b"").decode(), header.value) for header in found.headers),
        )
        for found in foreign.records
    ]
    assert read == [record[:3] for record in records]


def test_the_first_timestamp_is_the_base_also_when_later_ones_are_earlier() -> None:
    records = [Record(None, b"", (), at) for at in (2**62, 5, 0, 2**62, 2**41)]
    assert batch_of(records).records() == [tuple(record) for record in records]
    base, newest = struct.unpack_from(">qq", wire_bytes(batch_of(records)), 27)
    assert (base, newest) == (2**62, 2**62)


def test_a_large_record_takes_varints_of_four_bytes() -> None:
    records = [Record(b"k" * 3_000_000, b"v" * 3_000_000, (("h", b"x" * 2_100_000),), 7)]
    batch = batch_of(records)
    assert bytes(batch.payload) == b"".join(encode_records(records))


def test_a_timestamp_left_out_is_now() -> None:
    core = Core()
    core.put(b"v", timestamp_ms=None)
    ((_, _, _, timestamp_ms),) = core.take().records()
    assert timestamp_ms > 1_700_000_000_000


def test_identity_and_sequence_go_into_the_header() -> None:
    records = [Record(b"k", b"v", (), 9)]
    batch = batch_of(records)
    batch.assign_sequence(2**62, 2**15 - 1, 2**31 - 1)
    expected = encode_batch(records, producer=(2**62, 2**15 - 1, 2**31 - 1))
    assert wire_bytes(batch) == expected


def test_a_transactional_batch_says_so_in_its_attributes() -> None:
    records = [Record(None, b"v", (), 9)]
    batch = batch_of(records)
    assert batch.seal(True) + batch.payload == encode_batch(records, attributes=0x10)


def test_sealing_again_under_another_identity_changes_the_header_only() -> None:
    batch = some_batch()
    batch.assign_sequence(7, 0, 0)
    first, payload = batch.seal(), bytes(batch.payload)
    batch.assign_sequence(8, 1, 5)
    second = batch.seal()
    assert bytes(batch.payload) == payload
    assert first[:17] + first[21:43] == second[:17] + second[21:43]
    assert second[43:57] == struct.pack(">qhi", 8, 1, 5)
    assert int.from_bytes(second[17:21], "big") == reference_batch.crc32c(second[21:] + payload)


def test_sealing_again_leaves_the_earlier_header_as_it_was() -> None:
    batch = some_batch()
    first = batch.seal()
    kept = bytes(bytearray(first))
    batch.assign_sequence(8, 1, 5)
    assert batch.seal() is not first
    assert first == kept


def test_a_batch_without_sequence_says_so() -> None:
    batch = some_batch()
    assert (batch.has_sequence, batch.producer_id, batch.base_sequence) == (False, -1, -1)
    batch.assign_sequence(1, 0, 0)
    assert batch.has_sequence


# ---- CRC-32C

CRC_VECTORS = [
    (b"", 0),
    (b"a", 0xC1D04330),
    (b"123456789", 0xE3069283),
    # RFC 3720, B.4
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(reversed(range(32))), 0x113FDB5C),
]


@pytest.mark.parametrize(("given", "expected"), CRC_VECTORS)
def test_crc32c_matches_the_published_vectors(given: bytes, expected: int) -> None:
    assert crc32c(given) == expected
    assert crc32c_portable(given) == expected
    assert reference_batch.crc32c(given) == expected


def test_crc32c_of_both_paths_is_equal_at_every_length_around_a_stripe() -> None:
    source = random.Random(1).randbytes(3 * 3072 + 64)
    lengths = [*range(72)]
    for stripes in (1024, 2048, 3072, 6144, 9216):
        lengths += range(stripes - 9, stripes + 10)
    for length in lengths:
        for start in (0, 1, 5):
            part = memoryview(source)[start : start + length]
            assert crc32c(part) == crc32c_portable(part), (start, length)


def test_crc32c_of_long_data_matches_the_bit_by_bit_division() -> None:
    source = random.Random(2).randbytes(2 * 3072 + 13)
    assert crc32c(source) == reference_batch.crc32c(source)


@quick
@given(st.binary(max_size=4000), st.integers(0, 4000))
def test_crc32c_is_continued_from_an_earlier_part(source: bytes, cut: int) -> None:
    for function in (crc32c, crc32c_portable):
        assert function(source[cut:], function(source[:cut])) == crc32c_portable(source)


# ---- memory


def test_the_payload_is_the_batchs_own_memory() -> None:
    batch = some_batch()
    with memoryview(batch) as first, memoryview(batch) as second:
        assert first.obj is batch
        assert first.readonly
        assert first == second


def test_exported_memory_stays_when_the_batch_is_delivered() -> None:
    batch = some_batch(100)
    expected = bytes(batch.payload)
    view = memoryview(batch)
    batch.complete(0)
    junk = [bytes(len(expected)) for _ in range(20)]
    assert view == expected
    view.release()
    del junk


def test_exported_memory_stays_when_a_compressed_payload_takes_its_place() -> None:
    batch = some_batch(100)
    expected = bytes(batch.payload)
    view = memoryview(batch)
    batch.set_compressed(b"small", 4)
    junk = [bytes(len(expected)) for _ in range(20)]
    assert view == expected
    view.release()
    del junk


def test_exported_memory_stays_when_the_batch_is_split() -> None:
    batch = some_batch(100)
    expected = bytes(batch.payload)
    view = memoryview(batch)
    batch.split(200)
    junk = [bytes(len(expected)) for _ in range(20)]
    assert view == expected
    view.release()
    del junk


def test_the_memory_of_a_delivered_batch_is_given_back() -> None:
    batch = some_batch()
    batch.complete(0)
    assert batch.records() == []
    assert batch.records_size > 0


def test_the_memory_of_a_delivered_batch_is_given_back_by_its_last_reader() -> None:
    batch = some_batch()
    first, second = memoryview(batch), memoryview(batch)
    batch.complete(0)
    first.release()
    assert len(batch.records()) == 3
    second.release()
    assert batch.records() == []


def test_a_failed_batch_keeps_its_records_for_the_report() -> None:
    batch = some_batch()
    batch.fail(NetworkError())
    assert [value for _, value, _, _ in batch.records()] == [b"value 0", b"value 1", b"value 2"]


def test_a_failed_batch_keeps_its_records_also_when_a_request_carried_it() -> None:
    batch = some_batch()
    view = memoryview(batch)
    batch.fail(NetworkError())
    view.release()
    assert [value for _, value, _, _ in batch.records()] == [b"value 0", b"value 1", b"value 2"]


def test_closing_a_batch_trims_its_memory_to_its_records() -> None:
    batch = some_batch()
    size = batch.records_size
    assert 0 < size < 1024  # what the first record reserves
    batch.close()
    with memoryview(batch) as view:
        assert view.nbytes == size
    assert len(batch.records()) == 3


# ---- compression


def test_a_smaller_payload_takes_the_place_of_the_records() -> None:
    records = [Record(None, b"v" * 100, (), 3)]
    batch = batch_of(records)
    batch.set_compressed(b"squeezed", 3)
    assert batch.is_compressed
    assert batch.payload_size == 8
    assert wire_bytes(batch) == encode_batch(records, payload=b"squeezed", attributes=3)


def test_a_payload_that_is_not_smaller_is_not_used() -> None:
    records = [Record(None, b"v", (), 3)]
    batch = batch_of(records)
    batch.set_compressed(b"x" * batch.records_size, 3)
    assert not batch.is_compressed
    assert wire_bytes(batch) == encode_batch(records)


def test_restored_records_are_sent_and_read_as_before() -> None:
    records = [Record(b"k", b"v" * 50, (("h", None),), 3), Record(None, None, (), 1)]
    batch = batch_of(records)
    original = bytes(batch.payload)
    batch.set_compressed(b"squeezed", 3)
    assert batch.records() == []
    batch.restore_records(original)
    assert wire_bytes(batch) == encode_batch(records)
    assert batch.records() == [tuple(record) for record in records]


@pytest.mark.parametrize("change", [-1, 1])
def test_only_all_the_records_can_be_restored(change: int) -> None:
    batch = some_batch()
    batch.set_compressed(b"squeezed", 3)
    with pytest.raises(ValueError, match="bytes"):
        batch.restore_records(b"x" * (batch.records_size + change))
    with pytest.raises(ValueError, match="bytes"):
        batch.restore_records(b"")
    assert batch.is_compressed


def test_restoring_writes_nothing_over_memory_that_somebody_reads() -> None:
    batch = some_batch()
    records = batch.records()
    with memoryview(batch) as view:
        batch.set_compressed(b"squeezed", 3)
        batch.restore_records(b"x" * batch.records_size)
        assert batch.payload == view
    assert batch.records() == records


def test_a_compressed_batch_is_split_only_when_its_records_are_restored() -> None:
    batch = some_batch()
    batch.set_compressed(b"squeezed", 3)
    with pytest.raises(ValueError, match="restore"):
        batch.split(1)
    assert not batch.is_done


# ---- splitting


@quick
@given(lists_of_records, st.integers(1, 400))
def test_a_split_keeps_every_record_in_order(records: list[Record], limit: int) -> None:
    children = batch_of(records).split(limit)
    assert [r for child in children for r in child.records()] == [tuple(r) for r in records]


@quick
@given(lists_of_records, st.integers(1, 400))
def test_the_parts_of_a_split_have_the_bytes_of_batches_of_their_own(
    records: list[Record], limit: int
) -> None:
    children = batch_of(records).split(limit)
    for child in children:
        own = [Record(*fields) for fields in child.records()]
        assert wire_bytes(child) == encode_batch(own)


@quick
@given(lists_of_records, st.integers(1, 9000))
def test_the_parts_of_a_split_are_within_the_limit_unless_one_record_is_larger(
    records: list[Record], limit: int
) -> None:
    for child in batch_of(records).split(limit):
        assert child.record_count == 1 or BATCH_HEADER_SIZE + child.records_size <= limit


def test_the_deliveries_of_a_split_batch_get_the_offsets_of_their_parts() -> None:
    core = Core()
    deliveries = [core.put(b"x" * 40) for _ in range(5)]
    children = core.take().split(BATCH_HEADER_SIZE + 100)
    assert [child.record_count for child in children] == [2, 2, 1]
    for base_offset, child in zip((10, 50, 70), children, strict=True):
        child.complete(base_offset)
    assert [delivery.result().offset for delivery in deliveries] == [10, 11, 50, 51, 70]


def test_the_deliveries_of_a_batch_split_twice_get_the_offsets_of_the_smallest_parts() -> None:
    core = Core()
    deliveries = [core.put(b"x" * 40) for _ in range(6)]
    halves = core.take().split(BATCH_HEADER_SIZE + 150)
    parts = [part for half in halves for part in half.split(1)]
    for index, part in enumerate(parts):
        part.complete(100 * index)
    assert [delivery.result().offset for delivery in deliveries] == [0, 100, 200, 300, 400, 500]


def test_the_parts_of_a_split_keep_the_creation_time_and_the_attempts_but_the_last() -> None:
    core = Core()
    core.now = 42.0
    core.put()
    core.put()
    batch = core.take()
    batch.attempts = 3
    children = batch.split(1)
    assert [(child.created_at, child.attempts) for child in children] == [(42.0, 2)] * 2


def test_who_waits_for_a_record_waits_for_its_part_after_a_split() -> None:
    told: list[Outcome] = []
    core = Core()
    for index in range(4):
        core.put(b"x" * 40, timestamp_ms=index, on_delivery=noting_outcome(told))
    batch = core.take()
    first, second = batch.split(BATCH_HEADER_SIZE + 100)
    assert (batch.waiter_count, first.waiter_count, second.waiter_count) == (0, 2, 2)
    second.complete(7)
    second.wake(True)
    first.complete(1)
    first.wake(True)
    offsets = [(m.timestamp_ms, m.offset) for m, _ in told if m is not None]
    assert offsets == [(2, 7), (3, 8), (0, 1), (1, 2)]


def test_a_split_batch_is_done_and_its_memory_given_back() -> None:
    batch = some_batch()
    batch.split(1)
    assert batch.is_done
    assert not batch.is_delivered
    assert batch.records() == []


# ---- ending


def test_a_batch_that_ended_is_done() -> None:
    delivered, failed = some_batch(), some_batch()
    assert not delivered.is_done
    delivered.complete(4)
    failed.fail(NetworkError())
    assert (delivered.is_done, delivered.is_delivered, delivered.base_offset) == (True, True, 4)
    assert (failed.is_done, failed.is_delivered) == (True, False)


@pytest.mark.parametrize("end", ["complete", "fail", "split"])
@pytest.mark.parametrize("again", ["complete", "fail", "split"])
def test_a_batch_ends_once(end: str, again: str) -> None:
    batch = some_batch()
    actions: dict[str, Callable[[], object]] = {
        "complete": lambda: batch.complete(0),
        "fail": lambda: batch.fail(NetworkError()),
        "split": lambda: batch.split(1),
    }
    actions[end]()
    with pytest.raises(AssertionError):
        actions[again]()


def test_the_error_of_one_record_stands_for_itself_and_the_batchs_for_the_rest() -> None:
    core = Core()
    deliveries = [core.put() for _ in range(3)]
    core.take().fail(KafkaError("went down with it"), {1: KafkaError("is bad")})
    said = [str(delivery.exception()) for delivery in deliveries]
    assert said == ["went down with it.", "is bad.", "went down with it."]


def test_a_repr_shows_no_payload() -> None:
    core = Core()
    delivery = core.put(b"secret", key=b"hidden")
    batch = core.take()
    assert repr(batch) == "<RecordBatch clicks-0 records=1 base_sequence=-1 attempts=0>"
    assert repr(delivery) == "<Delivery clicks-0 pending>"
    batch.complete(3)
    assert repr(delivery) == "<Delivery clicks-0 offset=3>"
