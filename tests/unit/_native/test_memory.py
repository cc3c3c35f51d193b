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
from aioproducer.errors import NetworkError
from tests.support.core import Core, noting

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
    told: list[int] = []
    for number in range(RECORDS):
        delivery = core.put(on_delivery=noting(told, number))
        delivery.add_done_callback(noting(told, number))
        delivery.add_done_callback(noting(told, number))
    batch = core.take()
    batch.complete(7)
    batch.wake(False)
    core.manual.run_once()
    assert len(told) == 3 * RECORDS


def _fail(core: Core) -> None:
    batch, deliveries = _filled(core)
    batch.fail(NetworkError("gone"), {1: NetworkError("this one")})
    assert all(delivery.exception() for delivery in deliveries)


def _cancel(core: Core) -> None:
    batch, deliveries = _filled(core)
    for delivery in deliveries:
        delivery.add_done_callback(noting([], 0))
        delivery.cancel()
    core.manual.run_once()
    batch.complete(7)
    batch.wake(True)


def _split(core: Core) -> None:
    batch, deliveries = _filled(core)
    for child in batch.split(2_000):
        for grandchild in child.split(500):
            grandchild.complete(7)
    assert all(delivery.result() for delivery in deliveries)


def _compress_and_restore(core: Core) -> None:
    batch, _ = _filled(core)
    with memoryview(batch) as view:
        records = bytes(view)
        batch.seal()
        batch.set_compressed(b"squeezed", 3)
    batch.restore_records(records)
    batch.set_compressed(b"squeezed", 3)
    batch.restore_records(records)
    assert len(batch.records()) == RECORDS


def _read_after_the_end(core: Core) -> None:
    batch, _ = _filled(core)
    view = memoryview(batch)
    batch.complete(7)
    assert view.nbytes == batch.records_size


def _hold(core: Core) -> None:
    for number in range(2):
        name = f"new-{number}"
        held = [core.offer(topic=name) for _ in range(RECORDS)]
        topic = core.topic(name)
        if number:
            core.set_partitions(name, 1)
            core.accumulator.route(topic)
            core.take(name=name).complete(7)
        else:
            (room,) = core.accumulator.rooms(topic)
            core.accumulator.fail_room(topic, room, NetworkError("unknown"))
        assert all(delivery is not None and delivery.done() for delivery in held)
        core.accumulator.forget_topic(name)
    core.events.needed.clear()
    core.accumulator.take_touched()


@pytest.mark.parametrize(
    "fate",
    [
        _deliver,
        _deliver_unseen,
        _call_back,
        _fail,
        _cancel,
        _split,
        _compress_and_restore,
        _read_after_the_end,
        _hold,
    ],
)
def test_a_record_leaves_no_memory_behind_whatever_becomes_of_it(
    fate: Callable[[Core], None],
) -> None:
    core = Core()
    for _ in range(3):
        fate(core)
    gc.collect()
    blocks, in_c = sys.getallocatedblocks(), _malloc_bytes()
    for _ in range(ROUNDS):
        fate(core)
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
    return [value for _, value, _, _ in batch.records()]


def test_a_batch_in_the_memory_of_an_earlier_one_has_its_own_records() -> None:
    core = Core(batch_size=BLOCK)
    before = None
    for number in range(20):
        value = b"%03d" % number * 20
        batch = _full_batch(core, value)
        assert len(_values(batch)) == batch.record_count > 400
        assert _values(batch)[0] == before or number == 0
        assert set(_values(batch)[1:]) == {value}
        batch.complete(0)
        before = value


@pytest.mark.parametrize("end", ["delivered", "compressed", "split"])
def test_memory_that_somebody_reads_is_not_given_to_the_next_batch(end: str) -> None:
    core = Core(batch_size=BLOCK)
    _full_batch(core, b"a" * 50).complete(0)
    batch = _full_batch(core, b"b" * 50)
    view = memoryview(batch)
    expected = bytes(view)
    if end == "delivered":
        batch.complete(0)
    elif end == "compressed":
        batch.set_compressed(b"small", 4)
    else:
        batch.split(10_000)
    following = [_full_batch(core, b"c" * 50) for _ in range(5)]
    assert view == expected
    view.release()
    following.append(_full_batch(core, b"d" * 50))
    assert [_values(batch)[1] for batch in following] == [b"c" * 50] * 5 + [b"d" * 50]


@pytest.mark.parametrize("size", [1, 20_000, 100_000])
def test_a_batch_that_did_not_get_full_after_one_that_did_keeps_only_its_records(size: int) -> None:
    core = Core(batch_size=BLOCK)
    full = [_full_batch(core, b"a" * 50) for _ in range(3)]
    core.put(b"x" * size)
    rest = [core.take() for _ in range(2 if size > BLOCK else 1)]
    for batch in rest:
        with memoryview(batch) as view:
            assert view.nbytes == batch.records_size
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
