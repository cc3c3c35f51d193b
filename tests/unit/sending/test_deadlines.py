"""Deadlines against a dictionary that is sorted each time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aioproducer.sending.deadlines import Deadlines

times = st.integers(0, 20).map(float)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abcdef"), times),
        st.tuples(st.just("pop"), st.just(""), times),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None, database=None)
@given(steps)
def test_what_is_due_comes_out_as_from_a_sorted_list(steps: list[tuple[str, str, float]]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    model: dict[str, tuple[float, int]] = {}
    for count, (action, item, at) in enumerate(steps):
        if action == "add":
            deadlines.add(item, at)
            if item not in model or at < model[item][0]:
                model[item] = (at, count)
        else:
            due = sorted((place, item) for item, place in model.items() if place[0] <= at)
            assert deadlines.pop_due(at) == [item for _, item in due]
            for _, item in due:
                del model[item]
        assert len(deadlines) == len(model)
        assert deadlines.next_at == min((place[0] for place in model.values()), default=None)


def test_nothing_is_due_when_nothing_was_added() -> None:
    deadlines: Deadlines[str] = Deadlines()
    assert deadlines.next_at is None
    assert deadlines.pop_due(1e9) == []


def test_what_is_due_now_comes_out() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.add("a", 1.0)
    assert deadlines.pop_due(0.999) == []
    assert deadlines.pop_due(1.0) == ["a"]
    assert len(deadlines) == 0


def test_an_earlier_time_replaces_a_later_one() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.add("a", 5.0)
    deadlines.add("a", 3.0)
    assert deadlines.next_at == 3.0
    assert deadlines.pop_due(9.0) == ["a"]


def test_a_later_time_does_not_replace_an_earlier_one() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.add("a", 3.0)
    deadlines.add("a", 5.0)
    assert deadlines.pop_due(3.0) == ["a"]
    assert deadlines.next_at is None


def test_items_of_one_time_come_out_in_the_order_in_which_they_came() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for item in "cab":
        deadlines.add(item, 1.0)
    assert deadlines.pop_due(1.0) == ["c", "a", "b"]


def test_items_need_no_order_of_their_own() -> None:
    deadlines: Deadlines[object] = Deadlines()
    items = [object(), object()]
    for item in items:
        deadlines.add(item, 1.0)
    assert deadlines.pop_due(1.0) == items
