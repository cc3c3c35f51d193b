"""Record batches: bytes against a reference encoder and foreign readers, memory, splitting."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.records.readers import read_batch

from aioproducer._native.record_batch import (
    BATCH_HEADER_SIZE,
    Delivery,
    RecordBatch,
    crc32c,
    crc32c_portable,
    decode_records,
)
from aioproducer.errors import KafkaError, NetworkError
from tests.support import kafka_python, reference_batch
from tests.support.core import Core, Outcome, append_outcome_to, records_of
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
    assert records_of(batch_of(records)) == [tuple(record) for record in records]


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
    assert records_of(batch_of(records)) == [tuple(record) for record in records]
    base, newest = struct.unpack_from(">qq", wire_bytes(batch_of(records)), 27)
    assert (base, newest) == (2**62, 2**62)


def test_a_large_record_takes_varints_of_four_bytes() -> None:
    records = [Record(b"k" * 3_000_000, b"v" * 3_000_000, (("h", b"x" * 2_100_000),), 7)]
    batch = batch_of(records)
    assert bytes(batch.payload) == b"".join(encode_records(records))


def test_a_timestamp_left_out_is_now() -> None:
    core = Core()
    core.put(b"v", timestamp_ms=None)
    ((_, _, _, timestamp_ms),) = records_of(core.take())
    assert timestamp_ms > 1_700_000_000_000


def test_producer_id_epoch_and_sequence_go_into_the_header() -> None:
    records = [Record(b"k", b"v", (), 9)]
    batch = batch_of(records)
    batch.assign_sequence(2**62, 2**15 - 1, 2**31 - 1)
    expected = encode_batch(records, producer=(2**62, 2**15 - 1, 2**31 - 1))
    assert wire_bytes(batch) == expected


def test_a_transactional_batch_says_so_in_its_attributes() -> None:
    records = [Record(None, b"v", (), 9)]
    batch = batch_of(records)
    assert batch.seal(True) + batch.payload == encode_batch(records, attributes=0x10)


def test_sealing_again_under_another_producer_id_changes_the_header_only() -> None:
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


def readable(batch: RecordBatch) -> bool:
    """Whether the batch still has its records."""
    try:
        return len(batch.payload) > 0
    except TypeError:
        return False


def test_the_payload_is_the_batchs_own_memory() -> None:
    batch = some_batch()
    first, second = batch.payload, batch.payload
    assert isinstance(first, memoryview)
    assert isinstance(second, memoryview)
    assert first.obj is second.obj
    assert first.readonly
    assert first == second


def test_memory_that_is_read_stays_when_the_batch_is_delivered() -> None:
    batch = some_batch(100)
    view = batch.payload
    expected = bytes(view)
    batch.complete(0)
    junk = [bytes(len(expected)) for _ in range(20)]
    assert view == expected
    del junk


def test_memory_that_is_read_stays_when_the_batch_fails() -> None:
    batch = some_batch(100)
    view = batch.payload
    expected = bytes(view)
    batch.fail(NetworkError())
    junk = [bytes(len(expected)) for _ in range(20)]
    assert view == expected
    del junk


def test_memory_that_is_read_stays_when_a_compressed_payload_takes_its_place() -> None:
    batch = some_batch(100)
    view = batch.payload
    expected = bytes(view)
    batch.set_compressed(b"small", 4)
    junk = [bytes(len(expected)) for _ in range(20)]
    assert view == expected
    del junk


def test_memory_that_is_read_stays_when_the_batch_is_split() -> None:
    batch = some_batch(100)
    view = batch.payload
    expected = bytes(view)
    batch.split(200)
    junk = [bytes(len(expected)) for _ in range(20)]
    assert view == expected
    del junk


def test_memory_that_is_read_outlives_the_batch() -> None:
    batch = some_batch(100)
    view = batch.payload
    expected = bytes(view)
    del batch
    junk = [bytes(len(expected)) for _ in range(20)]
    assert view == expected
    del junk


@pytest.mark.parametrize("end", ["complete", "fail", "split", "refuse"])
def test_a_batch_that_is_done_lets_go_of_its_records(end: str) -> None:
    batch = some_batch()
    assert readable(batch)
    ends: dict[str, Callable[[], object]] = {
        "complete": lambda: batch.complete(0),
        "fail": lambda: batch.fail(NetworkError()),
        "split": lambda: batch.split(1),
        "refuse": lambda: batch.refuse({0: KafkaError("bad")}),
    }
    ends[end]()
    assert not readable(batch)
    assert batch.records_size > 0


@pytest.mark.parametrize("end", ["complete", "fail"])
def test_a_compressed_batch_that_is_done_lets_go_of_its_payload(end: str) -> None:
    batch = some_batch(100)
    payload = b"squeezed" * 2
    kept = sys.getrefcount(payload)
    batch.set_compressed(payload, 4)
    if end == "complete":
        batch.complete(0)
    else:
        batch.fail(NetworkError())
    assert sys.getrefcount(payload) == kept


def test_closing_a_batch_trims_its_memory_to_its_records() -> None:
    batch = some_batch()
    size = batch.records_size
    assert 0 < size < 1024  # what the first record reserves
    batch.close()
    assert len(batch.payload) == size
    assert len(records_of(batch)) == 3


def test_closing_a_batch_twice_changes_nothing() -> None:
    batch = some_batch()
    view = batch.payload
    expected = bytes(view)
    batch.close()
    assert view == expected == batch.payload


def test_a_batch_without_records_has_none_to_seal_or_split() -> None:
    batch = RecordBatch("clicks", 0, Core().loop, 0.0)
    for act in (batch.seal, lambda: batch.split(1), lambda: batch.refuse({})):
        with pytest.raises(ValueError, match="no records"):
            act()


def test_a_batch_that_has_let_go_of_its_records_cannot_be_sealed() -> None:
    batch = some_batch()
    batch.complete(0)
    with pytest.raises(ValueError, match="has let go of them"):
        batch.seal()


def test_the_payload_of_an_open_batch_is_not_decoded() -> None:
    core = Core()
    core.put()
    batch = core.queue().open
    assert batch is not None
    with pytest.raises(ValueError, match="the batch is open"):
        records_of(batch)


def test_no_records_decode_to_none() -> None:
    assert decode_records(b"", 0, 0) == []


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
    assert batch.payload == b"squeezed"
    batch.restore_records(original)
    assert wire_bytes(batch) == encode_batch(records)
    assert records_of(batch) == [tuple(record) for record in records]


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
    view = batch.payload
    expected = bytes(view)
    batch.set_compressed(b"squeezed", 3)
    batch.restore_records(b"x" * batch.records_size)
    assert view == expected
    assert batch.payload == b"x" * batch.records_size


def test_a_compressed_batch_is_split_only_when_its_records_are_restored() -> None:
    batch = some_batch()
    batch.set_compressed(b"squeezed", 3)
    with pytest.raises(AssertionError):
        batch.split(1)
    assert not batch.is_done


# ---- splitting


@quick
@given(lists_of_records, st.integers(1, 400))
def test_a_split_keeps_every_record_in_order(records: list[Record], limit: int) -> None:
    children = batch_of(records).split(limit)
    assert [r for child in children for r in records_of(child)] == [tuple(r) for r in records]


@quick
@given(lists_of_records, st.integers(1, 400))
def test_the_parts_of_a_split_have_the_bytes_of_batches_of_their_own(
    records: list[Record], limit: int
) -> None:
    children = batch_of(records).split(limit)
    for child in children:
        own = [Record(*fields) for fields in records_of(child)]
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
    notified: list[Outcome] = []
    core = Core()
    for index in range(4):
        core.put(b"x" * 40, timestamp_ms=index, on_delivery=append_outcome_to(notified))
    batch = core.take()
    first, second = batch.split(BATCH_HEADER_SIZE + 100)
    assert (batch.waiter_count, first.waiter_count, second.waiter_count) == (0, 2, 2)
    second.complete(7)
    second.wake(True)
    first.complete(1)
    first.wake(True)
    offsets = [(m.timestamp_ms, m.offset) for m, _ in notified if m is not None]
    assert offsets == [(2, 7), (3, 8), (0, 1), (1, 2)]


def test_a_split_batch_is_done_and_not_delivered() -> None:
    batch = some_batch()
    batch.split(1)
    assert batch.is_done
    assert not batch.is_delivered


# ---- refusing some records (KIP-467)


def refusing(count: int, *refused: int) -> tuple[list[Delivery], RecordBatch | None]:
    """Refuse these of so many records; return all deliveries and the batch of the others."""
    core = Core()
    deliveries = [core.put(b"value %d" % index, timestamp_ms=index) for index in range(count)]
    others, failed = core.take().refuse({index: KafkaError(f"bad {index}") for index in refused})
    assert [batch.record_count for batch in failed] == [1] * len(refused)
    assert all(batch.is_done and not batch.is_delivered for batch in failed)
    return deliveries, others


@quick
@given(lists_of_records, st.sets(st.integers(0, 11)))
def test_the_records_that_are_not_refused_make_a_batch_of_their_own(
    records: list[Record], refused: set[int]
) -> None:
    others, _ = batch_of(records).refuse({index: KafkaError() for index in refused})
    left = [record for index, record in enumerate(records) if index not in refused]
    if others is None:
        assert left == []
    else:
        assert wire_bytes(others) == encode_batch(left)


def test_a_refused_record_fails_with_its_own_error() -> None:
    deliveries, _ = refusing(4, 1, 3)
    said = [str(delivery.exception()) for delivery in deliveries if delivery.done()]
    assert said == ["bad 1.", "bad 3."]
    assert [delivery.done() for delivery in deliveries] == [False, True, False, True]


def test_the_records_that_are_not_refused_get_the_offsets_of_their_new_batch() -> None:
    deliveries, others = refusing(6, 0, 3, 4)
    assert others is not None
    others.complete(50)
    found = [(m.offset, m.timestamp_ms) for m in (deliveries[n].result() for n in (1, 2, 5))]
    assert found == [(50, 1), (51, 2), (52, 5)]


def test_when_every_record_is_refused_no_batch_is_left() -> None:
    deliveries, others = refusing(2, 0, 1)
    assert others is None
    assert all(delivery.exception() is not None for delivery in deliveries)


def test_refusing_none_moves_all_records_to_the_new_batch() -> None:
    deliveries, others = refusing(3)
    assert others is not None
    others.complete(7)
    assert [delivery.result().offset for delivery in deliveries] == [7, 8, 9]


def test_who_waits_for_a_refused_record_is_notified_with_the_refused_batches() -> None:
    notified: list[Outcome] = []
    core = Core()
    for index in range(3):
        core.put(timestamp_ms=index, on_delivery=append_outcome_to(notified))
    batch = core.take()
    others, (refused,) = batch.refuse({1: KafkaError("bad")})
    assert others is not None
    assert (batch.waiter_count, others.waiter_count, refused.waiter_count) == (0, 2, 1)
    refused.wake(True)
    assert [(metadata, str(error)) for metadata, error in notified] == [(None, "bad.")]
    others.complete(7)
    others.wake(True)
    assert [m.timestamp_ms for m, _ in notified if m is not None] == [0, 2]


def test_what_is_left_after_a_refusal_can_be_refused_and_split_again() -> None:
    core = Core()
    deliveries = [core.put(b"x" * 40, timestamp_ms=index) for index in range(6)]
    others, _ = core.take().refuse({0: KafkaError("first")})
    assert others is not None
    rest, _ = others.refuse({1: KafkaError("second")})
    assert rest is not None
    for offset, part in enumerate(rest.split(1)):
        part.complete(100 * offset)
    errors = [str(delivery.exception()) for delivery in (deliveries[0], deliveries[2])]
    assert errors == ["first.", "second."]
    left = [deliveries[index].result().offset for index in (1, 3, 4, 5)]
    assert left == [0, 100, 200, 300]


def test_what_is_left_after_a_refusal_keeps_the_creation_time_and_an_unknown_outcome() -> None:
    core = Core()
    core.now = 42.0
    core.put()
    core.put()
    batch = core.take()
    batch.attempts = 3
    batch.possibly_persisted = True
    batch.last_error = NetworkError("gone")
    others, _ = batch.refuse({0: KafkaError()})
    assert others is not None
    assert (others.created_at, others.attempts, others.possibly_persisted) == (42.0, 2, True)
    assert others.last_error is batch.last_error


def test_a_batch_with_refused_records_is_done_and_not_delivered() -> None:
    batch = some_batch()
    batch.refuse({0: KafkaError()})
    assert batch.is_done
    assert not batch.is_delivered


def test_a_compressed_batch_is_refused_only_when_its_records_are_restored() -> None:
    batch = some_batch()
    batch.set_compressed(b"squeezed", 3)
    with pytest.raises(AssertionError):
        batch.refuse({0: KafkaError()})
    assert not batch.is_done


# ---- ending


def test_a_batch_that_ended_is_done() -> None:
    delivered, failed = some_batch(), some_batch()
    assert not delivered.is_done
    delivered.complete(4)
    failed.fail(NetworkError())
    assert (delivered.is_done, delivered.is_delivered, delivered.base_offset) == (True, True, 4)
    assert (failed.is_done, failed.is_delivered) == (True, False)


@pytest.mark.parametrize("end", ["complete", "fail", "split", "refuse"])
@pytest.mark.parametrize("again", ["complete", "fail", "split", "refuse"])
def test_a_batch_ends_once(end: str, again: str) -> None:
    batch = some_batch()
    actions: dict[str, Callable[[], object]] = {
        "complete": lambda: batch.complete(0),
        "fail": lambda: batch.fail(NetworkError()),
        "split": lambda: batch.split(1),
        "refuse": lambda: batch.refuse({0: KafkaError()}),
    }
    actions[end]()
    with pytest.raises(AssertionError):
        actions[again]()


def test_every_record_of_a_failed_batch_has_the_error_of_the_batch() -> None:
    core = Core()
    deliveries = [core.put() for _ in range(3)]
    core.take().fail(KafkaError("went down"))
    assert [str(delivery.exception()) for delivery in deliveries] == ["went down."] * 3


def test_a_repr_shows_no_payload() -> None:
    core = Core()
    delivery = core.put(b"secret", key=b"hidden")
    batch = core.take()
    assert repr(batch) == "<RecordBatch clicks-0 records=1 base_sequence=-1 attempts=0>"
    assert repr(delivery) == "<Delivery clicks-0 pending>"
    batch.complete(3)
    assert repr(delivery) == "<Delivery clicks-0 offset=3>"
