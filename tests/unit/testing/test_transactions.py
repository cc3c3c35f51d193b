from __future__ import annotations

from collections.abc import Callable

import pytest

from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.transaction_values import Marker, Pid, TransactionRefusedError
from aioproducer.testing.transactions import Transactions

MINUTE_MS = 60_000
PARTITION = ("t", 0)


class Ids:
    """Transactions whose markers and timers the test sees; partition 9 has no leader."""

    def __init__(self, *, v2: bool = True) -> None:
        self.markers: list[tuple[object, ...]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.is_led = False
        self._ids = iter(range(100, 200))
        self.all = Transactions(
            new_producer_id=lambda: next(self._ids),
            write_partition=self._write,
            write_group=lambda group, marker: self._wrote(group, marker),
            has_v2=lambda: v2,
        )
        self.all.schedule = self._schedule

    def _write(self, topic: str, partition: int, marker: Marker) -> bool:
        if partition == 9 and not self.is_led:
            return False
        return self._wrote((topic, partition), marker)

    def _wrote(self, where: object, marker: Marker) -> bool:
        self.markers.append((where, *marker))
        return True

    def _schedule(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        timer = (seconds, callback)
        self.timers.append(timer)
        return lambda: self.timers.remove(timer)

    def init(self, expected: Pid | None = None, *, timeout_ms: int = MINUTE_MS) -> Pid:
        return self.all.init_producer_id("tx", timeout_ms, expected)

    def add(self, pid: Pid, *partitions: int, v2: bool = True) -> None:
        self.all.add("tx", pid, partitions=[("t", n) for n in partitions], v2=v2)

    def end(self, pid: Pid, *, commit: bool = True, v2: bool = True) -> Pid:
        return self.all.end("tx", pid, commit=commit, v2=v2)

    @property
    def state(self) -> str:
        found = self.all.get("tx")
        return "" if found is None else found.state


def refusal(call: Callable[[], object]) -> ErrorCode:
    with pytest.raises(TransactionRefusedError) as caught:
        call()
    return caught.value.code


def test_markers_go_to_what_is_in_the_transaction_and_have_its_last_epoch() -> None:
    ids = Ids()
    pid = ids.init()
    ids.add(pid, 1, 0)
    ids.all.add("tx", pid, groups=["g"], v2=True)
    assert ids.end(pid) == (100, 1)
    assert ids.markers == [(("t", 0), 100, 1, True), (("t", 1), 100, 1, True), ("g", 100, 1, True)]


def test_in_v1_the_epoch_stays() -> None:
    ids = Ids()
    pid = ids.init()
    ids.add(pid, 0, v2=False)
    assert ids.end(pid, commit=False, v2=False) == pid
    assert ids.markers == [(PARTITION, 100, 0, False)]


def test_the_timer_runs_from_the_first_partition_to_the_end() -> None:
    ids = Ids()
    pid = ids.init(timeout_ms=2500)
    assert ids.timers == []
    ids.add(pid, 0)
    ids.add(pid, 1)
    assert [seconds for seconds, _ in ids.timers] == [2.5]
    pid = ids.end(pid)
    assert ids.timers == []
    ids.add(pid, 0)
    ids.all.stop_timers()
    assert ids.timers == []


def test_when_its_time_is_over_a_transaction_is_aborted_in_the_next_epoch() -> None:
    ids = Ids()
    pid = ids.init()
    ids.add(pid, 0)
    ids.timers.pop()[1]()
    assert ids.state == "CompleteAbort"
    assert ids.markers == [(PARTITION, 100, 1, False)]
    assert refusal(lambda: ids.add(pid, 0)) == ErrorCode.PRODUCER_FENCED


@pytest.mark.parametrize(("v2", "next_epoch"), [(True, 1), (False, None)])
def test_only_v2_gives_the_epoch_of_a_timeout_to_the_producer(
    v2: bool, next_epoch: int | None
) -> None:
    ids = Ids(v2=v2)
    pid = ids.init()
    ids.add(pid, 0)
    ids.all.fence("tx")
    if next_epoch is None:
        assert refusal(lambda: ids.init(pid)) == ErrorCode.PRODUCER_FENCED
    else:
        assert ids.init(pid).epoch == next_epoch


def test_a_marker_that_cannot_be_written_keeps_the_transaction_open() -> None:
    ids = Ids()
    pid = ids.init()
    ids.add(pid, 0, 9)
    assert ids.end(pid) == (100, 1)
    assert ids.state == "PrepareCommit"
    assert refusal(ids.init) == ErrorCode.CONCURRENT_TRANSACTIONS
    ids.all.write_markers()
    assert ids.state == "PrepareCommit"
    ids.is_led = True
    ids.all.write_markers()
    assert ids.state == "CompleteCommit"
    assert ids.markers == [(PARTITION, 100, 1, True), (("t", 9), 100, 1, True)]


def test_a_new_producer_aborts_the_transaction_of_the_one_before() -> None:
    ids = Ids()
    pid = ids.init()
    ids.add(pid, 0)
    assert refusal(ids.init) == ErrorCode.CONCURRENT_TRANSACTIONS
    assert ids.markers == [(PARTITION, 100, 1, False)]
    assert ids.init().epoch == 2


def test_the_producer_id_after_the_last_epoch_is_told_before_the_markers_are_written() -> None:
    ids = Ids()
    ids.all.set_next_epoch("tx", 32766)
    last = ids.init()
    ids.add(last, 0)
    ids.all.holds_markers = True
    assert ids.end(last) == (101, 0)
    assert refusal(lambda: ids.end(last)) == ErrorCode.CONCURRENT_TRANSACTIONS
    ids.all.holds_markers = False
    ids.all.write_markers()
    assert ids.markers == [(PARTITION, 100, 32767, True)]
    assert ids.end(last) == (101, 0)


def test_a_transactional_id_is_known_when_it_was_used() -> None:
    ids = Ids()
    pid = Pid(100, 0)
    for call in (
        lambda: ids.add(pid, 0),
        lambda: ids.end(pid),
        lambda: ids.all.check_added("tx", pid, partition=PARTITION),
    ):
        assert refusal(call) == ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert ids.all.get("tx") is None
    with pytest.raises(ValueError, match="no open transaction"):
        ids.all.fence("tx")


def test_an_empty_transactional_id_is_invalid() -> None:
    ids = Ids()
    pid = Pid(100, 0)
    for call in (
        lambda: ids.all.init_producer_id("", MINUTE_MS, None),
        lambda: ids.all.add("", pid, v2=False),
        lambda: ids.all.end("", pid, commit=True, v2=True),
    ):
        assert refusal(call) == ErrorCode.INVALID_REQUEST


def test_only_an_idle_transactional_id_is_set_back_or_forgotten() -> None:
    ids = Ids()
    pid = ids.init()
    ids.add(pid, 0)
    calls: list[Callable[[], None]] = [
        lambda: ids.all.forget("tx"),
        lambda: ids.all.set_next_epoch("tx", 5),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"open transaction \(Ongoing\)"):
            call()
    ids.end(pid)
    ids.all.set_next_epoch("tx", 5)
    assert ids.init().epoch == 5
    ids.all.forget("tx")
    assert ids.init() == (101, 0)
