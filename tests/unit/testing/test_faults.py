from __future__ import annotations

from typing import Any

import pytest

from aioproducer.testing.faults import (
    Action,
    Cut,
    Delay,
    Edit,
    Fail,
    FakeResponse,
    FaultPlan,
    Hang,
    Mutate,
    Rule,
)
from aioproducer.testing.observed import FakeRequest, SentBatch

FIELDS: dict[str, Any] = {
    "api": "produce",
    "version": 9,
    "node_id": 0,
    "connection": 1,
    "client_id": None,
    "correlation_id": 1,
    "received_at": 0.0,
    "size": 1,
    "topics": ("t",),
    "batches": (SentBatch("t", 0, 1, 1, -1, -1, -1), SentBatch("t", 1, 1, 1, -1, -1, -1)),
}


def request(**fields: Any) -> FakeRequest:
    return FakeRequest(**{**FIELDS, **fields})


def plan_of(*rules: Rule) -> FaultPlan:
    plan = FaultPlan()
    for rule in rules:
        plan.add(rule)
    return plan


def test_a_rule_is_used_up() -> None:
    plan = plan_of(Rule("produce", Fail(6), 2))
    assert [bool(plan.for_request(request()).failures) for _ in range(3)] == [True, True, False]


def test_a_rule_without_count_goes_on_until_cleared() -> None:
    plan = plan_of(Rule("produce", Fail(6), None))
    assert all(plan.for_request(request()).failures for _ in range(5))
    plan.clear()
    assert not plan.for_request(request()).failures


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_1_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        plan_of(Rule("produce", Cut(), count))


@pytest.mark.parametrize(
    ("rule", "fields", "matches"),
    [
        (Rule("any", Cut()), {"api": "metadata"}, True),
        (Rule("produce", Cut()), {"api": "metadata"}, False),
        (Rule("any", Cut(), node_id=1), {}, False),
        (Rule("any", Cut(), node_id=0), {}, True),
        (Rule("any", Cut(), topic="t"), {}, True),
        (Rule("any", Cut(), topic="x"), {}, False),
        (Rule("any", Cut(), topic="x"), {"topics": None}, True),
        (Rule("any", Cut(), topic="t", partition=1), {}, True),
        (Rule("any", Cut(), topic="t", partition=2), {}, False),
        (Rule("any", Cut(), partition=1), {}, True),
        (Rule("any", Cut(), topic="t", partition=2), {"batches": ()}, True),
    ],
)
def test_a_rule_is_about_an_api_a_node_a_topic_and_a_partition(
    rule: Rule, fields: dict[str, Any], matches: bool
) -> None:
    assert rule.matches(request(**fields)) is matches


def test_faults_of_the_same_kind_take_turns() -> None:
    plan = plan_of(Rule("produce", Fail(6)), Rule("produce", Fail(7)))
    codes = [plan.for_request(request()).failures[0].code for _ in range(2)]
    assert codes == [6, 7]


def test_failures_of_different_partitions_come_together() -> None:
    plan = plan_of(
        Rule("produce", Fail(6, topic="t", partition=0), 1, None, "t", 0),
        Rule("produce", Fail(7, topic="t", partition=1), 1, None, "t", 1),
        Rule("produce", Fail(8, topic="t", partition=1), 1, None, "t", 1),
    )
    assert [fail.code for fail in plan.for_request(request()).failures] == [6, 7]
    assert [fail.code for fail in plan.for_request(request()).failures] == [8]


def test_delays_add_up_beside_a_failure() -> None:
    plan = plan_of(
        Rule("any", Delay(1.0)),
        Rule("any", Delay(0.5, "before")),
        Rule("any", Delay(2.0)),
        Rule("any", Fail(6)),
    )
    treatment = plan.for_request(request())
    assert (treatment.delay_before, treatment.delay_after) == (0.5, 3.0)
    assert treatment.failures


@pytest.mark.parametrize("action", [Cut(), Hang(), FakeResponse(b""), Fail(6)])
def test_what_ends_a_request_waits_for_one_of_its_own(action: Action) -> None:
    plan = plan_of(Rule("any", Cut()), Rule("any", action))
    first = plan.for_request(request())
    assert first.cut
    assert not (first.hang or first.response or first.failures)
    second = plan.for_request(request())
    assert second.cut or second.hang or second.response or second.failures


def test_changes_of_the_response_are_all_made() -> None:
    mutate, edit = Mutate(lambda data: data), Edit(lambda answer: None)
    plan = plan_of(Rule("any", mutate), Rule("any", edit), Rule("any", mutate))
    treatment = plan.for_request(request())
    assert (treatment.mutations, treatment.edits) == ([mutate, mutate], [edit])


def test_a_hook_sees_each_request_until_it_is_removed() -> None:
    seen: list[int] = []
    plan = FaultPlan()
    remove = plan.add_hook(lambda request: seen.append(request.correlation_id))
    plan.for_request(request(correlation_id=5))
    remove()
    remove()
    plan.for_request(request(correlation_id=6))
    assert seen == [5]


def test_a_hook_comes_before_the_rules() -> None:
    plan = plan_of(Rule("any", Fail(6)))
    remove = plan.add_hook(lambda request: Cut())
    assert plan.for_request(request()).cut
    remove()
    assert plan.for_request(request()).failures


def test_hooks_that_disagree_are_refused() -> None:
    plan = FaultPlan()
    plan.add_hook(lambda request: Cut())
    plan.add_hook(lambda request: Hang())
    with pytest.raises(ValueError, match="disagree"):
        plan.for_request(request())


def test_hangs_alone_can_be_removed() -> None:
    plan = plan_of(Rule("any", Hang(), None), Rule("any", Delay(1.0), None))
    plan.remove_hangs()
    treatment = plan.for_request(request())
    assert treatment.hang is None
    assert treatment.delay_after == 1.0
