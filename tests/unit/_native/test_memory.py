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
