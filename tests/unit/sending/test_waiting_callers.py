"""Callers that wait for buffer space: first come, first served; a full share holds up its own."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioproducer.errors import BufferExhaustedError, KafkaTimeoutError
from aioproducer.sending.waiting_callers import Waiter, WaitingCallers

quick = settings(max_examples=200, deadline=None, database=None)


class Buffer:
    """Room for some records, and for some of them at each broker.

    Attributes:
        free: How many records the buffer has space for.
        shares: How many of them each broker's share has space for; no bound where it is not named.
        leaders: The broker of each partition; a partition is led by "broker" if it is not named.
        told: What callers were told, in order.
        asked: Who was asked again, in order.
    """

    def __init__(self, free: int = 0, **shares: int) -> None:
        self.free = free
        self.shares = dict(shares)
        self.leaders: dict[object, str] = {}
        self.lines: dict[object, int] = {}
        self.refused_line: object = None
        self.refused_share: object | None = None
        self.refused_bytes = 0
        self.full_shares: set[object] = set()
        self.queue: WaitingCallers[str] = WaitingCallers(self)
        self.notified: list[str] = []
        self.asked: list[str] = []

    def share_of(self, line: object) -> object | None:
        return self.leaders.get(line, "broker")

    def take(self, name: str, line: object) -> str | None:
        """Take a record, or note what refused it."""
        share = self.leaders.get(line, "broker")
        self.refused_line = line
        if not self.free:
            self.refused_share = None
            return None
        if not self.shares.get(share, 1) or share in self.full_shares:
            self.refused_share = share
            return None
        self.free -= 1
        if share in self.shares:
            self.shares[share] -= 1
        return name

    def join(
        self,
        name: str,
        line: str = "partition",
        *,
        expires_at: float = 60.0,
        admit: Callable[[], str | None] | None = None,
    ) -> Waiter[str]:
        """Have a caller wait whose record was refused just now."""

        def take() -> str | None:
            self.asked.append(name)
            return self.take(name, line)

        waiter = Waiter(
            admit=admit or take,
            resolve=lambda admitted: self.notified.append(f"{admitted} in"),
            reject=lambda error: self.notified.append(f"{name} {type(error).__name__}"),
            expires_at=expires_at,
        )
        assert self.take(name, line) is None
        self.queue.join(waiter)
        return waiter

    def give_back(self, free: int = 0, **shares: int) -> bool:
        """Free space and admit who fits; return whether somebody waits for the buffer itself."""
        self.free += free
        for share, more in shares.items():
            self.shares[share] += more
        self.asked.clear()
        return self.queue.admit()

    def led(self, **leaders: str) -> Buffer:
        self.leaders.update(leaders)
        return self


def does_not_fit(record: object) -> str | None:
    return None


# ---- the buffer itself


def test_nobody_is_admitted_without_buffer_space() -> None:
    buffer = Buffer()
    buffer.join("a")
    assert buffer.give_back()
    assert buffer.notified == []
    assert len(buffer.queue) == 1


def test_the_first_to_come_is_the_first_to_be_admitted() -> None:
    buffer = Buffer()
    for name in "abc":
        buffer.join(name)
    assert buffer.give_back(2)
    assert buffer.notified == ["a in", "b in"]
    assert not buffer.give_back(1)
    assert buffer.notified == ["a in", "b in", "c in"]
    assert len(buffer.queue) == 0


def test_a_small_record_does_not_pass_a_large_one() -> None:
    buffer = Buffer()
    buffer.join("large", admit=lambda: None)
    buffer.join("small", "another partition")
    buffer.give_back(1)
    assert buffer.notified == []


def test_those_without_buffer_space_are_not_asked() -> None:
    buffer = Buffer()
    for name in "abc":
        buffer.join(name, name)
    buffer.give_back()
    assert buffer.asked == ["a"]


def test_who_withdrew_is_passed_over() -> None:
    buffer = Buffer()
    waiters = [buffer.join(name) for name in "abc"]
    buffer.queue.withdraw(waiters[0])
    buffer.queue.withdraw(waiters[1])
    assert len(buffer.queue) == 1
    buffer.give_back(3)
    assert buffer.notified == ["c in"]
    assert buffer.free == 2


def test_who_withdrew_leaves_no_record_behind_who_still_waits() -> None:
    class Record:
        """What a caller wants to send."""

    buffer = Buffer()
    buffer.join("a")
    record = Record()
    alive = weakref.ref(record)
    waiter = buffer.join("b", admit=partial(does_not_fit, record))
    del record
    buffer.queue.withdraw(waiter)
    assert alive() is None


def test_the_record_is_not_in_the_repr() -> None:
    waiter = Buffer().join("a", admit=partial(does_not_fit, "4111 1111"))
    assert "4111" not in repr(waiter)


def test_withdrawing_twice_counts_once() -> None:
    buffer = Buffer()
    waiter = buffer.join("a")
    buffer.join("b")
    buffer.queue.withdraw(waiter)
    buffer.queue.withdraw(waiter)
    assert len(buffer.queue) == 1


def test_withdrawing_after_the_admission_changes_nothing() -> None:
    buffer = Buffer()
    waiter = buffer.join("a")
    buffer.join("b")
    buffer.give_back(1)
    buffer.queue.withdraw(waiter)
    assert len(buffer.queue) == 1
    buffer.give_back(1)
    assert buffer.notified == ["a in", "b in"]


def test_the_work_of_many_withdrawals_is_done_once() -> None:
    buffer = Buffer()
    waiters = [buffer.join(str(index)) for index in range(20_000)]
    for waiter in reversed(waiters):
        buffer.queue.withdraw(waiter)
    assert len(buffer.queue) == 0
    assert buffer.queue.next_expiry is None


@pytest.mark.parametrize("length", [100, 10_000])
def test_an_admission_asks_two_however_long_the_queue_is(length: int) -> None:
    buffer = Buffer()
    waiters = [buffer.join("one") for _ in range(length)]
    for waiter in waiters[50::2]:
        buffer.queue.withdraw(waiter)
    asked = 0
    for _ in range(50):
        buffer.give_back(1)
        asked += len(buffer.asked)
    # The one who is let in, and the one behind who does not fit.
    assert asked == 100
    assert buffer.notified == ["one in"] * 50


def test_an_error_rejects_the_one_caller_and_the_next_is_admitted() -> None:
    def refuse() -> None:
        raise ValueError

    buffer = Buffer()
    buffer.join("a", admit=refuse)
    buffer.join("b")
    buffer.give_back(1)
    assert buffer.notified == ["a ValueError", "b in"]


def test_those_whose_time_is_over_are_rejected() -> None:
    buffer = Buffer()
    for name, at in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        buffer.join(name, expires_at=at)
    buffer.queue.expire(2.0, lambda _: KafkaTimeoutError())
    assert buffer.notified == ["a KafkaTimeoutError", "b KafkaTimeoutError"]
    assert len(buffer.queue) == 1


def test_each_rejected_caller_gets_an_error_of_his_own() -> None:
    errors: list[Exception] = []
    buffer = Buffer()
    for _ in range(2):
        buffer.queue.join(Waiter(lambda: None, print, errors.append, expires_at=0.0))
    buffer.queue.expire(0.0, lambda _: BufferExhaustedError())
    assert errors[0] is not errors[1]


def test_the_next_expiry_is_that_of_the_first_who_still_waits() -> None:
    buffer = Buffer()
    found = [buffer.queue.next_expiry]
    first = buffer.join("a", expires_at=1.0)
    buffer.join("b", expires_at=2.0)
    found.append(buffer.queue.next_expiry)
    buffer.queue.withdraw(first)
    found.append(buffer.queue.next_expiry)
    assert found == [None, 1.0, 2.0]


def test_everybody_can_be_rejected() -> None:
    buffer = Buffer()
    withdrawn = buffer.join("a")
    buffer.join("b")
    buffer.join("c")
    buffer.queue.withdraw(withdrawn)
    buffer.queue.reject_all(BufferExhaustedError)
    assert buffer.notified == ["b BufferExhaustedError", "c BufferExhaustedError"]
    assert len(buffer.queue) == 0


@pytest.mark.parametrize("ending", ["admitted", "expired", "rejected", "withdrawn"])
def test_who_left_the_queue_no_longer_waits_or_stands_in_a_line(ending: str) -> None:
    buffer = Buffer()
    waiter = buffer.join("a", expires_at=0.0)
    assert len(buffer.queue) == 1
    if ending == "admitted":
        buffer.give_back(1)
    elif ending == "expired":
        buffer.queue.expire(0.0, lambda _: KafkaTimeoutError())
    elif ending == "rejected":
        buffer.queue.reject_all(KafkaTimeoutError)
    else:
        buffer.queue.withdraw(waiter)
    assert not waiter.is_waiting
    assert buffer.lines == {}


# ---- the share of a broker


def test_who_waits_for_a_share_keeps_nobody_waiting_for_another() -> None:
    buffer = Buffer(1, silent=0).led(p="silent", q="healthy")
    buffer.join("a", "p")
    buffer.free = 0
    buffer.join("b", "q")
    assert not buffer.give_back(1)
    assert buffer.notified == ["b in"]
    assert len(buffer.queue) == 1


def test_who_waits_for_the_same_share_is_admitted_in_the_order_of_the_calls() -> None:
    buffer = Buffer(10, silent=0).led(p="silent", q="silent")
    for name, line in (("a", "p"), ("b", "q"), ("c", "p")):
        buffer.join(name, line)
    buffer.give_back(silent=2)
    assert buffer.notified == ["a in", "b in"]
    buffer.give_back(silent=1)
    assert buffer.notified == ["a in", "b in", "c in"]


def test_a_full_share_is_asked_once() -> None:
    buffer = Buffer(10, silent=0).led(p="silent")
    for index in range(100):
        buffer.join(str(index), "p")
    buffer.give_back()
    assert buffer.asked == ["0"]
    buffer.give_back(silent=1)
    assert buffer.asked == ["0", "1"]


def test_a_free_share_is_of_no_use_while_the_buffer_is_full() -> None:
    buffer = Buffer(1, silent=0).led(p="silent")
    buffer.join("a", "p")
    buffer.free = 0
    assert buffer.give_back(silent=1)
    assert buffer.notified == []
    assert not buffer.give_back(1)
    assert buffer.notified == ["a in"]


def test_who_waited_for_the_buffer_may_have_to_wait_for_a_share_next() -> None:
    buffer = Buffer(0, silent=0).led(p="silent", q="healthy")
    buffer.join("a", "p")
    buffer.join("b", "q")
    assert not buffer.give_back(1)
    assert buffer.notified == ["b in"]
    buffer.give_back(1, silent=1)
    assert buffer.notified == ["b in", "a in"]


def test_who_waited_longest_is_first_whatever_he_waits_for() -> None:
    buffer = Buffer(10, one=0, two=0).led(p="one", q="two")
    for name, line in (("a", "p"), ("b", "q"), ("c", "p"), ("d", "q")):
        buffer.join(name, line)
    buffer.give_back(one=2, two=2)
    assert buffer.notified == ["a in", "b in", "c in", "d in"]


def test_who_comes_later_to_a_share_stands_behind_those_who_came_to_it_from_the_buffer() -> None:
    buffer = Buffer(0, silent=0).led(p="silent")
    buffer.join("first", "p")
    buffer.give_back(5)
    buffer.join("second", "p")
    buffer.give_back(silent=1)
    assert buffer.notified == ["first in"]


def test_lines_count_who_waits_for_each_partition() -> None:
    buffer = Buffer(1, silent=0).led(p="silent", q="silent")
    waiters = [buffer.join(str(index), line) for index, line in enumerate("ppq")]
    assert buffer.lines == {"p": 2, "q": 1}
    buffer.queue.withdraw(waiters[0])
    assert buffer.lines == {"p": 1, "q": 1}
    buffer.queue.reject_all(KafkaTimeoutError)
    assert buffer.lines == {}


def test_a_partition_that_another_broker_leads_by_now_waits_for_that_ones_share() -> None:
    buffer = Buffer(10, silent=0).led(p="silent")
    buffer.join("a", "p")
    buffer.led(p="healthy")
    buffer.queue.unpark()
    assert not buffer.give_back()
    assert buffer.notified == ["a in"]


def test_when_leaders_change_everybody_keeps_his_place() -> None:
    buffer = Buffer(4, one=0, two=0).led(p="one", q="two", r="three")
    for name, line in (("a", "p"), ("b", "q"), ("c", "p")):
        buffer.join(name, line)
    buffer.free = 0
    buffer.join("d", "r")
    buffer.queue.unpark()
    buffer.give_back(4, one=9, two=9)
    assert buffer.notified == ["a in", "b in", "c in", "d in"]


def test_a_small_record_does_not_pass_a_large_one_of_the_same_share() -> None:
    buffer = Buffer(10, silent=0).led(p="silent", q="silent")

    def finds_too_little() -> str | None:
        # Room for a small one only.
        buffer.refused_line, buffer.refused_share = "p", "silent"
        return None

    large = buffer.join("large", "p", admit=finds_too_little)
    buffer.join("small", "q")
    buffer.give_back(silent=1)
    assert buffer.notified == []
    assert large.is_waiting


def test_those_whose_partitions_moved_to_one_share_keep_their_order() -> None:
    buffer = Buffer(10, one=0, two=0).led(p="one", q="two")
    buffer.join("a", "p")
    buffer.join("b", "q")
    buffer.led(p="two")
    buffer.queue.unpark()
    buffer.give_back()
    buffer.give_back(two=2)
    assert buffer.notified == ["a in", "b in"]


def test_who_waited_for_a_topic_stands_in_the_line_of_his_partition_once_it_is_known() -> None:
    buffer = Buffer(0, silent=0).led(p="silent")
    line = "topic"
    buffer.join("a", line, admit=lambda: buffer.take("a", line))
    assert buffer.lines == {"topic": 1}
    line = "p"
    buffer.give_back(1)
    assert buffer.notified == []
    assert buffer.lines == {"p": 1}


def test_who_withdrew_from_a_share_is_passed_over() -> None:
    buffer = Buffer(10, silent=0).led(p="silent")
    waiters = [buffer.join(name, "p") for name in "abc"]
    buffer.queue.withdraw(waiters[0])
    buffer.give_back(silent=1)
    assert buffer.notified == ["b in"]
    assert len(buffer.queue) == 1


def test_those_who_wait_for_a_share_expire_too() -> None:
    buffer = Buffer(1, silent=0).led(p="silent", q="healthy")
    buffer.join("a", "p", expires_at=1.0)
    buffer.join("b", "p", expires_at=3.0)
    buffer.free = 0
    buffer.join("c", "q", expires_at=2.0)
    assert buffer.queue.next_expiry == 1.0
    buffer.queue.expire(2.0, lambda _: KafkaTimeoutError())
    assert sorted(buffer.notified) == ["a KafkaTimeoutError", "c KafkaTimeoutError"]
    assert buffer.queue.next_expiry == 3.0


def test_those_who_wait_for_a_share_are_rejected_too_in_the_order_of_the_calls() -> None:
    buffer = Buffer(1, silent=0).led(p="silent", q="healthy")
    buffer.join("a", "p")
    buffer.free = 0
    buffer.join("b", "q")
    buffer.free = 1
    buffer.join("c", "p")
    buffer.queue.reject_all(KafkaTimeoutError)
    assert buffer.notified == [f"{name} KafkaTimeoutError" for name in "abc"]


def test_a_share_that_nobody_waits_for_any_more_leaves_nothing_behind() -> None:
    class Share:
        """The share of a broker that is gone later."""

    buffer = Buffer(10)
    share = Share()
    alive = weakref.ref(share)
    buffer.refused_line, buffer.refused_share = "p", share
    waiter: Waiter[str] = Waiter(lambda: None, print, print, expires_at=1.0)
    buffer.queue.join(waiter)
    buffer.refused_share = None
    buffer.queue.withdraw(waiter)
    assert buffer.queue.next_expiry is None
    del share, waiter
    assert alive() is None


PARTITIONS = {"p": "one", "q": "one", "r": "two", "s": "three"}
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from("pqrs")),
        st.tuples(st.just("give back"), st.sampled_from(["one", "two", "three"])),
        st.tuples(st.just("withdraw"), st.integers(0, 5)),
        st.tuples(st.just("move"), st.sampled_from("pqrs")),
    ),
    max_size=60,
)


@quick
@given(st.integers(0, 3), steps)
def test_each_partition_keeps_the_order_of_its_calls_and_no_buffer_space_is_left_unused(
    free: int, actions: list[tuple[str, str | int]]
) -> None:
    buffer = Buffer(free, one=1, two=1, three=1).led(**PARTITIONS)
    waiting: dict[str, Waiter[str]] = {}
    accepted: dict[str, list[int]] = {partition: [] for partition in PARTITIONS}

    def admitted() -> None:
        for line in buffer.notified:
            name = line.removesuffix(" in")
            waiting.pop(name)
            accepted[name[0]].append(int(name[1:]))
        buffer.notified.clear()

    for number, (action, what) in enumerate(actions):
        if action == "send" and isinstance(what, str):
            name = f"{what}{number}"
            # A new call stands behind those who wait for the same, as the accumulator sees to.
            stands_behind = buffer.lines.get(what, 0) > 0
            if stands_behind:
                buffer.refused_line, buffer.refused_share = what, buffer.leaders[what]
            if stands_behind or buffer.take(name, what) is None:
                taking = partial(buffer.take, name, what)
                waiter = Waiter(
                    taking, lambda it: buffer.notified.append(f"{it} in"), print, expires_at=0.0
                )
                buffer.queue.join(waiter)
                waiting[name] = waiter
            else:
                accepted[what].append(number)
        elif action == "give back" and isinstance(what, str):
            buffer.give_back(1, **{what: 1})
        elif action == "move" and isinstance(what, str):
            buffer.leaders[what] = "two"
            buffer.queue.unpark()
            buffer.queue.admit()
        elif isinstance(what, int) and waiting:
            name = [*waiting][what % len(waiting)]
            buffer.queue.withdraw(waiting.pop(name))
            buffer.queue.admit()
        admitted()
    for numbers in accepted.values():
        assert numbers == sorted(numbers)
    assert len(buffer.queue) == len(waiting) == sum(buffer.lines.values())
    buffer.queue.unpark()
    buffer.queue.admit()
    admitted()
    if buffer.free:
        # Whoever still waits finds the share of his broker full.
        assert all(not buffer.shares[buffer.leaders[name[0]]] for name in waiting)
