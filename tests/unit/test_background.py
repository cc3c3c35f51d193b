"""The producer's own work on the loop: timers that can be moved, in a context that is nobody's."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from functools import partial

import pytest

from aioproducer.background import Background, Threads, Timer
from tests.support.core import ManualLoop, append_to

request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


class Timed:
    """A timer on a loop of its own, and when it went off."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.went_off: list[float] = []
        self.timer = Timer(Background(self.loop.as_loop()), self._note)
        self.begun = self.loop.now

    def _note(self) -> None:
        self.went_off.append(self.loop.now - self.begun)

    def at(self, seconds: float) -> float:
        return self.begun + seconds


# ---- a timer


def test_a_timer_goes_off_once_at_its_time() -> None:
    harness = Timed()
    harness.timer.set(harness.at(3))
    harness.loop.advance(2.9)
    assert harness.went_off == []
    harness.loop.advance(60)
    assert harness.went_off == [3]
    assert harness.timer.at is None


def test_a_timer_that_is_not_set_does_not_go_off() -> None:
    harness = Timed()
    assert harness.timer.at is None
    harness.timer.cancel()
    harness.loop.advance(60)
    assert harness.went_off == []


def test_a_timer_that_is_set_again_goes_off_at_the_new_time_only() -> None:
    harness = Timed()
    for seconds in (5, 2, 7):
        harness.timer.set(harness.at(seconds))
        assert harness.timer.at == harness.at(seconds)
    harness.loop.advance(60)
    assert harness.went_off == [7]


def test_a_timer_that_is_set_by_several_goes_off_at_the_earliest_time() -> None:
    harness = Timed()
    for seconds in (5, 2, 7):
        harness.timer.set_by(harness.at(seconds))
    assert harness.timer.at == harness.at(2)
    harness.loop.advance(60)
    assert harness.went_off == [2]


def test_setting_by_a_later_time_makes_no_other_timer_of_the_loop() -> None:
    harness = Timed()
    harness.timer.set_by(harness.at(1))
    for seconds in range(2, 1_000):
        harness.timer.set_by(harness.at(seconds))
    assert harness.loop.timers == [harness.at(1)]


def test_a_cancelled_timer_does_not_go_off_and_can_be_set_again() -> None:
    harness = Timed()
    harness.timer.set(harness.at(1))
    harness.timer.cancel()
    assert harness.timer.at is None
    assert harness.loop.timers == []
    harness.timer.set_by(harness.at(4))
    harness.loop.advance(60)
    assert harness.went_off == [4]


def test_a_timer_may_be_set_by_what_it_calls() -> None:
    loop = ManualLoop()
    went_off: list[float] = []

    def again() -> None:
        went_off.append(loop.now)
        assert timer.at is None
        if len(went_off) < 3:
            timer.set(loop.now + 2)

    timer = Timer(Background(loop.as_loop()), again)
    timer.set(loop.now)
    begun = loop.now
    loop.advance(60)
    assert went_off == [begun, begun + 2, begun + 4]


def test_a_timer_that_was_due_at_once_goes_off_in_a_turn_of_the_loop() -> None:
    harness = Timed()
    harness.timer.set(harness.at(0))
    assert harness.went_off == []
    harness.loop.turn()
    assert harness.went_off == [0]


# ---- a loop that was held


def test_a_late_timer_lets_the_loop_read_first() -> None:
    harness = Timed()
    harness.timer.set(harness.at(1))
    harness.loop.hold(30)
    turns = 0
    while not harness.went_off and turns < 100:
        harness.loop.turn()
        turns += 1
    # 256 KiB of each connection are read in one turn.
    assert turns > 10
    assert harness.went_off == [30]


def test_a_late_timer_that_what_is_read_cancels_does_not_go_off() -> None:
    harness = Timed()
    harness.timer.set(harness.at(1))
    harness.loop.hold(30)
    harness.loop.turn()
    harness.timer.cancel()
    harness.loop.advance(60)
    assert harness.went_off == []


def test_a_late_timer_that_what_is_read_moves_goes_off_at_the_new_time() -> None:
    harness = Timed()
    harness.timer.set(harness.at(1))
    harness.loop.hold(30)
    harness.loop.turn()
    harness.timer.set(harness.at(50))
    harness.loop.advance(60)
    assert harness.went_off == [50]


def test_a_late_timer_stays_set_for_the_time_at_which_it_was_due() -> None:
    harness = Timed()
    harness.timer.set(harness.at(1))
    harness.loop.hold(30)
    harness.loop.turn()
    assert harness.timer.at == harness.at(1)
    harness.timer.set_by(harness.at(40))
    assert harness.timer.at == harness.at(1)
    harness.loop.run_until_quiet()
    assert harness.went_off == [30]


def test_a_timer_that_is_a_little_late_goes_off_at_once() -> None:
    harness = Timed()
    harness.timer.set(harness.at(1))
    harness.loop.hold(1.04)
    harness.loop.turn()
    assert harness.went_off == [pytest.approx(1.04)]


# ---- whose context


def test_a_timer_does_not_run_in_the_context_of_who_set_it() -> None:
    loop = ManualLoop()
    seen: list[str] = []
    timer = Timer(Background(loop.as_loop()), lambda: seen.append(request.get()))
    request.set("a")
    timer.set(loop.now + 1)
    loop.hold(30)  # late, so that it is passed on from turn to turn
    loop.turn()
    loop.run_until_quiet()
    assert seen == ["none"]


def test_a_callback_does_not_run_in_the_context_of_who_asked_for_it() -> None:
    loop = ManualLoop()
    background = Background(loop.as_loop())
    seen: list[str] = []
    request.set("a")
    background.call_soon(lambda word: seen.append(f"{word} {request.get()}"), "soon")
    background.call_at(loop.now + 1, lambda word: seen.append(f"{word} {request.get()}"), "later")
    loop.advance(2)
    assert seen == ["soon none", "later none"]


async def test_a_task_does_not_run_in_the_context_of_who_began_it() -> None:
    background = Background(asyncio.get_running_loop())
    request.set("a")

    async def work() -> str:
        await asyncio.sleep(0)
        return request.get()

    task = background.create_task(work(), name="its name")
    assert task.get_name() == "its name"
    assert await task == "none"


def test_what_one_callback_sets_is_not_seen_by_another() -> None:
    loop = ManualLoop()
    background = Background(loop.as_loop())
    seen: list[str] = []
    background.call_soon(request.set, "a")
    background.call_soon(lambda: seen.append(request.get()))
    loop.run_once()
    assert seen == ["none"]


def test_a_callback_that_was_cancelled_does_not_run() -> None:
    loop = ManualLoop()
    background = Background(loop.as_loop())
    notified: list[int] = []
    background.call_soon(append_to(notified, 1)).cancel()
    background.call_at(loop.now + 1, append_to(notified, 2)).cancel()
    loop.advance(60)
    assert notified == []


def test_the_clock_is_that_of_the_loop() -> None:
    loop = ManualLoop()
    background = Background(loop.as_loop())
    loop.hold(5)
    assert background.time() == loop.now


# ---- catching up


async def turns_to_catch_up(late: float) -> int:
    loop = asyncio.get_running_loop()
    background = Background(loop)
    counted: list[asyncio.Handle] = []

    def count() -> None:
        counted.append(loop.call_soon(count))

    count()
    await background.catch_up(loop.time() - late)
    counted[-1].cancel()
    return len(counted) - 1


async def test_who_is_late_lets_the_loop_read_first() -> None:
    assert await turns_to_catch_up(late=30.0) > 10


async def test_who_is_in_time_goes_on_at_once() -> None:
    assert await turns_to_catch_up(late=0.0) == 0


# ---- threads


async def test_calls_in_threads_return_what_the_function_returns_or_raises() -> None:
    threads = Threads(1, name="test-threads")
    assert await threads.call(lambda: threading.current_thread().name) == "test-threads"
    with pytest.raises(ZeroDivisionError):
        await threads.call(lambda: 1 // 0)
    assert await threads.call(lambda: "free again") == "free again"


async def test_calls_that_hang_hold_so_many_threads_and_no_more() -> None:
    threads = Threads(2, name="test-hanging")
    goes_on = threading.Event()
    begun: list[int] = []

    def hang(number: int) -> int:
        begun.append(number)
        goes_on.wait(10)
        return number

    calls = [asyncio.create_task(threads.call(partial(hang, number))) for number in range(4)]
    while len(begun) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    # Their callers leave, and the threads stay.
    for call in calls[:2]:
        call.cancel()
    await asyncio.wait(calls[:2])
    await asyncio.sleep(0.01)
    assert sorted(begun) == [0, 1]
    goes_on.set()
    assert await asyncio.gather(*calls[2:]) == [2, 3]


async def test_a_call_that_was_cancelled_while_it_waited_takes_no_place() -> None:
    threads = Threads(1, name="test-waiting")
    goes_on = threading.Event()
    first = asyncio.create_task(threads.call(lambda: goes_on.wait(10)))
    waits = asyncio.create_task(threads.call(lambda: pytest.fail("was cancelled")))
    await asyncio.sleep(0.01)
    waits.cancel()
    await asyncio.wait([waits])
    goes_on.set()
    assert await first
    assert await threads.call(lambda: "free again") == "free again"
