"""Callers who wait for room: first come, first served, and each error to whom it belongs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial

import pytest

from aioproducer.admission import Admissions, Waiter
from aioproducer.errors import BufferExhaustedError, KafkaTimeoutError


class Room:
    """Room for some records; admits while there is any."""

    def __init__(self, free: int = 0) -> None:
        self.free = free
        self.queue: Admissions[str] = Admissions()
        self.told: list[str] = []

    def join(
        self, name: str, *, expires_at: float = 60.0, admit: Callable[[], str | None] | None = None
    ) -> Waiter[str]:
        def take() -> str | None:
            if not self.free:
                return None
            self.free -= 1
            return name

        waiter = Waiter(
            admit=admit or take,
            resolve=lambda admitted: self.told.append(f"{admitted} in"),
            reject=lambda error: self.told.append(f"{name} {type(error).__name__}"),
            expires_at=expires_at,
        )
        self.queue.join(waiter)
        return waiter

    def let_in(self, free: int) -> None:
        self.free += free
        self.queue.admit()


def finds_no_room(record: object) -> str | None:
    return None


def test_nobody_is_admitted_without_room() -> None:
    room = Room()
    room.join("a")
    room.let_in(0)
    assert room.told == []
    assert len(room.queue) == 1


def test_the_first_to_come_is_the_first_to_be_admitted() -> None:
    room = Room()
    for name in "abc":
        room.join(name)
    room.let_in(2)
    assert room.told == ["a in", "b in"]
    room.let_in(1)
    assert room.told == ["a in", "b in", "c in"]
    assert len(room.queue) == 0


def test_a_small_record_does_not_pass_a_large_one() -> None:
    room = Room()
    room.join("large", admit=lambda: None)
    room.join("small")
    room.let_in(1)
    assert room.told == []


def test_those_without_room_are_not_asked() -> None:
    asked: list[str] = []
    room = Room()
    room.join("a", admit=lambda: asked.append("a"))
    room.join("b", admit=lambda: asked.append("b"))
    room.queue.admit()
    assert asked == ["a"]


def test_who_withdrew_is_passed_over() -> None:
    room = Room()
    waiters = [room.join(name) for name in "abc"]
    room.queue.withdraw(waiters[0])
    room.queue.withdraw(waiters[1])
    assert len(room.queue) == 1
    room.let_in(3)
    assert room.told == ["c in"]
    assert room.free == 2


def test_who_withdrew_leaves_no_record_behind_who_still_waits() -> None:
    class Record:
        """What a caller wants to send."""

    room = Room()
    room.join("a")
    record = Record()
    alive = weakref.ref(record)
    waiter = room.join("b", admit=partial(finds_no_room, record))
    del record
    room.queue.withdraw(waiter)
    assert alive() is None


def test_the_record_is_not_in_the_repr() -> None:
    waiter = Room().join("a", admit=partial(finds_no_room, "4111 1111"))
    assert "4111" not in repr(waiter)


def test_withdrawing_twice_counts_once() -> None:
    room = Room()
    waiter = room.join("a")
    room.join("b")
    room.queue.withdraw(waiter)
    room.queue.withdraw(waiter)
    assert len(room.queue) == 1


def test_withdrawing_after_the_admission_changes_nothing() -> None:
    room = Room()
    waiter = room.join("a")
    room.join("b")
    room.let_in(1)
    room.queue.withdraw(waiter)
    assert len(room.queue) == 1
    room.let_in(1)
    assert room.told == ["a in", "b in"]


def test_the_work_of_many_withdrawals_is_done_once() -> None:
    room = Room()
    waiters = [room.join(str(index)) for index in range(20_000)]
    for waiter in reversed(waiters):
        room.queue.withdraw(waiter)
    assert len(room.queue) == 0
    assert room.queue.next_expiry is None


@pytest.mark.parametrize("length", [100, 10_000])
def test_an_admission_asks_two_however_long_the_queue_is(length: int) -> None:
    room = Room()
    asked = 0

    def take() -> str | None:
        nonlocal asked
        asked += 1
        if not room.free:
            return None
        room.free -= 1
        return "one"

    waiters = [room.join("one", admit=take) for _ in range(length)]
    for waiter in waiters[50::2]:
        room.queue.withdraw(waiter)
    for _ in range(50):
        room.let_in(1)
    # The one who is let in, and the one behind who finds no room.
    assert asked == 100
    assert room.told == ["one in"] * 50


def test_an_error_rejects_the_one_caller_and_the_next_is_admitted() -> None:
    def refuse() -> None:
        raise ValueError

    room = Room()
    room.join("a", admit=refuse)
    room.join("b")
    room.let_in(1)
    assert room.told == ["a ValueError", "b in"]


def test_those_whose_time_is_over_are_rejected() -> None:
    room = Room()
    for name, at in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        room.join(name, expires_at=at)
    room.queue.expire(2.0, KafkaTimeoutError)
    assert room.told == ["a KafkaTimeoutError", "b KafkaTimeoutError"]
    assert len(room.queue) == 1


def test_each_rejected_caller_gets_an_error_of_his_own() -> None:
    errors: list[Exception] = []
    queue: Admissions[str] = Admissions()
    for _ in range(2):
        queue.join(Waiter(lambda: None, print, errors.append, expires_at=0.0))
    queue.expire(0.0, BufferExhaustedError)
    assert errors[0] is not errors[1]


def test_the_next_expiry_is_that_of_the_first_who_still_waits() -> None:
    room = Room()
    found = [room.queue.next_expiry]
    first = room.join("a", expires_at=1.0)
    room.join("b", expires_at=2.0)
    found.append(room.queue.next_expiry)
    room.queue.withdraw(first)
    found.append(room.queue.next_expiry)
    assert found == [None, 1.0, 2.0]


def test_everybody_can_be_rejected() -> None:
    room = Room(free=1)
    withdrawn = room.join("a")
    room.join("b")
    room.join("c")
    room.queue.withdraw(withdrawn)
    room.queue.reject_all(BufferExhaustedError)
    assert room.told == ["b BufferExhaustedError", "c BufferExhaustedError"]
    assert len(room.queue) == 0


@pytest.mark.parametrize("ending", ["admitted", "expired", "rejected"])
def test_who_left_the_queue_no_longer_waits(ending: str) -> None:
    room = Room()
    waiter = room.join("a", expires_at=0.0)
    if ending == "admitted":
        room.let_in(1)
    elif ending == "expired":
        room.queue.expire(0.0, KafkaTimeoutError)
    else:
        room.queue.reject_all(KafkaTimeoutError)
    assert not waiter.is_waiting
