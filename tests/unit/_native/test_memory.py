"""The record path gives all memory back, whatever becomes of the records.

Counted are the blocks of Python's allocator and the bytes of the C library's, where the encoded
records are: a figure that stays the same to the block, unlike the size of the process.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

import pytest

from aioproducer._native.record_batch import Delivery, RecordBatch
from aioproducer.errors import KafkaError, NetworkError
from tests.support.core import NO_LIMIT, Core, append_to, records_of
from tests.support.deliveries import begin

# Each counts thousands of records, after collections that look at all that other tests left.
pytestmark = pytest.mark.timeout(120)

RECORDS = 500
ROUNDS = 60
"""One block, or a kilobyte, that each round leaves behind is found; a round has one batch."""


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks"),
            *("uordblks", "fordblks", "keepcost"),
        )
    ]
    uordblks: int
    hblkhd: int


def _malloc_bytes() -> int:
    """Return what is allocated from glibc; 0 where the C library is another."""
    info = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if info is None:
        return 0
    info.restype = _MallInfo
    found: _MallInfo = info()
    return found.uordblks + found.hblkhd


def _filled(core: Core) -> tuple[RecordBatch, list[Delivery]]:
    deliveries = [core.put(b"v" * 40, key=b"k", headers=[("h", b"1")]) for _ in range(RECORDS)]
    return core.take(), deliveries


def _deliver(core: Core) -> None:
    batch, deliveries = _filled(core)
    batch.complete(7)
    assert {delivery.result().timestamp_ms for delivery in deliveries} == {0}


def _deliver_unseen(core: Core) -> None:
    batch, deliveries = _filled(core)
    deliveries.clear()
    batch.complete(7)


def _call_back(core: Core) -> None:
    notified: list[int] = []
    for number in range(RECORDS):
        delivery = core.put(on_delivery=append_to(notified, number))
        delivery.add_done_callback(append_to(notified, number))
        delivery.add_done_callback(append_to(notified, number))
    batch = core.take()
    batch.complete(7)
    batch.wake(False)
    core.manual.run_once()
    assert len(notified) == 3 * RECORDS


def _fail(core: Core) -> None:
    batch, deliveries = _filled(core)
    batch.fail(NetworkError("gone"))
    assert all(delivery.exception() for delivery in deliveries)


def _wait(core: Core) -> None:
    batch, deliveries = _filled(core)
    notified: list[int] = []
    for number, delivery in enumerate(deliveries):
        for _ in range(2):
            begin(delivery).add_done_callback(append_to(notified, number))
    batch.complete(7)
    batch.wake(True)
    assert len(notified) == 2 * RECORDS


def _cancel(core: Core) -> None:
    batch, deliveries = _filled(core)
    notified: list[int] = []
    for number, delivery in enumerate(deliveries):
        for is_cancelled in (True, False):
            wait = begin(delivery)
            wait.add_done_callback(append_to(notified, number))
            if is_cancelled:
                wait.cancel("why")
    core.manual.run_once()
    batch.complete(7)
    batch.wake(True)
    assert len(notified) == 2 * RECORDS


def _leave(core: Core) -> None:
    batch, deliveries = _filled(core)
    for delivery in deliveries:
        wait = begin(delivery)
        wait.add_done_callback(append_to([], 0))
        wait.close()
    batch.complete(7)
    batch.wake(True)


def _refuse(core: Core) -> None:
    batch, deliveries = _filled(core)
    others, _ = batch.refuse({number: KafkaError("bad") for number in range(0, RECORDS, 5)})
    assert others is not None
    others.complete(7)
    assert all(delivery.done() for delivery in deliveries)


def _split(core: Core) -> None:
    batch, deliveries = _filled(core)
    for child in batch.split(2_000):
        for grandchild in child.split(500):
            grandchild.complete(7)
    assert all(delivery.result() for delivery in deliveries)


def _compress_and_restore(core: Core) -> None:
    batch, _ = _filled(core)
    view = batch.payload
    records = bytes(view)
    batch.seal()
    batch.set_compressed(b"squeezed", 3)
    del view
    batch.restore_records(records)
    batch.set_compressed(b"squeezed", 3)
    batch.restore_records(records)
    assert len(records_of(batch)) == RECORDS


def _read_after_the_end(core: Core) -> None:
    for fails in (False, True):
        batch, _ = _filled(core)
        view = batch.payload
        if fails:
            batch.fail(NetworkError("gone"))
        else:
            batch.complete(7)
        assert len(view) == batch.records_size


def _wait_for_metadata(core: Core) -> None:
    for number in range(3):
        name = f"new-{number}"
        deliveries = [core.put(topic=name) for _ in range(RECORDS)]
        topic = core.topic(name)
        if number:
            core.set_partitions(name, 1)
            core.accumulator.route(topic, RECORDS // number)
            core.take(name=name).complete(7)
        if topic.waiting:
            core.accumulator.fail_waiting(topic.waiting[0], NetworkError("unknown"))
        assert all(delivery.done() for delivery in deliveries)
        core.accumulator.forget_topic(name)
    core.topics.forget()
    core.accumulator.take_touched()


@pytest.mark.parametrize(
    "use",
    [
        _deliver,
        _deliver_unseen,
        _call_back,
        _fail,
        _wait,
        _cancel,
        _leave,
        _split,
        _refuse,
        _compress_and_restore,
        _read_after_the_end,
        _wait_for_metadata,
    ],
)
def test_a_record_leaves_no_memory_behind_whatever_becomes_of_it(
    use: Callable[[Core], None],
) -> None:
    core = Core()
    # As often as it is counted, so that the most that waits for a collection was there before.
    for _ in range(ROUNDS):
        use(core)
    gc.collect()
    blocks, in_c = sys.getallocatedblocks(), _malloc_bytes()
    for _ in range(ROUNDS):
        use(core)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < ROUNDS / 2
    assert _malloc_bytes() - in_c < 500 * ROUNDS


# ---- the blocks of full batches go on to the next ones

BLOCK = 32_768
MOST_SPARE = 8 << 20


def _full_batch(core: Core, value: bytes) -> RecordBatch:
    """Fill a batch; the record that did not fit begins the next one."""
    while not core.queue().closed:
        core.put(value)
    return core.take()


def _values(batch: RecordBatch) -> list[bytes | None]:
    return [value for _, value, _, _ in records_of(batch)]


def test_a_batch_in_the_memory_of_an_earlier_one_has_its_own_records() -> None:
    core = Core(batch_size=BLOCK)
    before = None
    for number in range(20):
        value = b"%03d" % number * 20
        batch = _full_batch(core, value)
        values = _values(batch)
        assert len(values) == batch.record_count > 400
        assert values[0] == before or number == 0
        assert set(values[1:]) == {value}
        batch.complete(0)
        before = value


@pytest.mark.parametrize("end", ["delivered", "failed", "compressed", "split"])
def test_memory_that_somebody_reads_is_not_given_to_the_next_batch(end: str) -> None:
    core = Core(batch_size=BLOCK)
    _full_batch(core, b"a" * 50).complete(0)
    batch = _full_batch(core, b"b" * 50)
    view = batch.payload
    expected = bytes(view)
    if end == "delivered":
        batch.complete(0)
    elif end == "failed":
        batch.fail(NetworkError("gone"))
    elif end == "compressed":
        batch.set_compressed(b"small", 4)
    else:
        batch.split(10_000)
    following = [_full_batch(core, b"c" * 50) for _ in range(5)]
    assert view == expected
    del view
    following.append(_full_batch(core, b"d" * 50))
    assert [_values(batch)[1] for batch in following] == [b"c" * 50] * 5 + [b"d" * 50]


@pytest.mark.parametrize("size", [1, 20_000, 100_000])
def test_a_batch_that_did_not_get_full_after_one_that_did_keeps_only_its_records(size: int) -> None:
    core = Core(batch_size=BLOCK)
    full = [_full_batch(core, b"a" * 50) for _ in range(3)]
    core.put(b"x" * size)
    rest = [core.take() for _ in range(2 if size > BLOCK else 1)]
    for batch in rest:
        assert len(batch.payload) == batch.records_size
    assert [value for batch in rest for value in _values(batch)] == [b"a" * 50, b"x" * size]
    for batch in full:
        assert set(_values(batch)) == {b"a" * 50}


def test_the_memory_of_many_full_batches_is_kept_only_in_part() -> None:
    core = Core(batch_size=BLOCK)
    _full_batch(core, b"a" * 500).complete(0)
    gc.collect()
    before = _malloc_bytes()
    batches = [_full_batch(core, b"a" * 500) for _ in range(1_000)]
    for batch in batches:
        batch.complete(0)
    batches.clear()
    assert _malloc_bytes() - before < MOST_SPARE + BLOCK
    for _ in range(2_000):
        _full_batch(core, b"a" * 500).complete(0)
    assert _malloc_bytes() - before < MOST_SPARE + BLOCK
    del core
    gc.collect()
    assert _malloc_bytes() - before < BLOCK


# ---- what is done lets go


def _kept_by(end: Callable[[RecordBatch], object]) -> int:
    """Return the bytes that deliveries of ended batches keep from the C library's allocator."""
    core = Core(batch_size=NO_LIMIT)
    batches: list[RecordBatch] = []
    deliveries: list[Delivery] = []
    gc.collect()
    before = _malloc_bytes()
    for _ in range(20):
        deliveries.append(core.put(b"v" * 1_000_000))
        batch = core.take()
        end(batch)
        batches.append(batch)
    kept = _malloc_bytes() - before
    assert all(delivery.done() for delivery in deliveries)
    return kept


@pytest.mark.parametrize("end", ["complete", "fail", "refuse"])
def test_deliveries_that_are_kept_keep_no_records(end: str) -> None:
    ends: dict[str, Callable[[RecordBatch], object]] = {
        "complete": lambda batch: batch.complete(7),
        "fail": lambda batch: batch.fail(NetworkError("gone")),
        "refuse": lambda batch: batch.refuse({0: KafkaError("bad")}),
    }
    assert _kept_by(ends[end]) < 1_000_000


def test_the_last_reader_of_a_failed_batch_gives_its_memory_back() -> None:
    core = Core(batch_size=NO_LIMIT)
    core.put(b"v" * 10_000_000)
    batch = core.take()
    gc.collect()
    before = _malloc_bytes()
    request = batch.payload
    batch.fail(NetworkError("gone"))
    assert before - _malloc_bytes() < 1_000_000
    del request
    assert before - _malloc_bytes() > 9_000_000 or not before


def test_a_block_of_a_failed_batch_goes_on_to_the_next_one() -> None:
    core = Core(batch_size=BLOCK)
    _full_batch(core, b"a" * 500).complete(0)
    gc.collect()
    before = _malloc_bytes()
    for _ in range(200):
        _full_batch(core, b"a" * 500).fail(NetworkError("gone"))
    assert _malloc_bytes() - before < 2 * BLOCK
