from __future__ import annotations

from collections.abc import Callable

import pytest

from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.groups import CommittedOffset, GroupRefusedError, Groups, Member
from aioproducer.testing.transaction_values import Marker, Pid

PARTITION = ("t", 0)
NOBODY = Member()
PID = Pid(7, 0)


def at(offset: int) -> dict[tuple[str, int], CommittedOffset]:
    return {PARTITION: CommittedOffset(offset)}


def offset_of(groups: Groups) -> int | None:
    found = groups.get("g").offsets.get(PARTITION)
    return None if found is None else found.offset


def refusal(call: Callable[[], object]) -> ErrorCode:
    with pytest.raises(GroupRefusedError) as caught:
        call()
    return caught.value.code


def test_what_a_transaction_commits_is_seen_after_its_marker() -> None:
    groups = Groups()
    groups.commit_in_transaction("g", PID, NOBODY, at(5))
    assert offset_of(groups) is None
    assert not groups.get("g").is_stable(PARTITION)
    groups.write_marker("g", Marker(7, 1, True))
    assert offset_of(groups) == 5
    assert groups.get("g").is_stable(PARTITION)


def test_what_an_aborted_transaction_commits_is_forgotten() -> None:
    groups = Groups()
    groups.commit("g", NOBODY, at(3))
    groups.commit_in_transaction("g", PID, NOBODY, at(5))
    groups.write_marker("g", Marker(7, 1, False))
    assert offset_of(groups) == 3


def test_a_transaction_is_that_of_one_producer() -> None:
    groups = Groups()
    groups.commit_in_transaction("g", PID, NOBODY, at(5))
    groups.commit_in_transaction("g", Pid(8, 0), NOBODY, {("t", 1): CommittedOffset(6)})
    groups.write_marker("g", Marker(8, 0, True))
    assert offset_of(groups) is None
    assert groups.get("g").offsets[("t", 1)].offset == 6
    assert groups.get("g").has_open_transaction(PID)
    assert not groups.get("g").has_open_transaction(Pid(8, 0))


def test_an_old_epoch_commits_nothing() -> None:
    groups = Groups()
    groups.commit_in_transaction("g", PID, NOBODY, at(5))
    groups.write_marker("g", Marker(7, 1, False))
    late = refusal(lambda: groups.commit_in_transaction("g", PID, NOBODY, at(6)))
    assert late == ErrorCode.INVALID_PRODUCER_EPOCH


@pytest.mark.parametrize(
    ("member", "code"),
    [
        (Member(3, "m", "i"), None),
        (Member(3, "n"), None),
        (Member(2, "n"), ErrorCode.ILLEGAL_GENERATION),
        (Member(3, "x"), ErrorCode.UNKNOWN_MEMBER_ID),
        (Member(3, "n", "i"), ErrorCode.FENCED_INSTANCE_ID),
        (Member(3, "n", "j"), ErrorCode.UNKNOWN_MEMBER_ID),
        (Member(-1, "x"), ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_a_group_with_members_takes_their_offsets(member: Member, code: ErrorCode | None) -> None:
    groups = Groups()
    groups.set_members("g", 3, {"m": "i", "n": None})
    commits: list[Callable[[], None]] = [
        lambda: groups.commit("g", member, at(1)),
        lambda: groups.commit_in_transaction("g", PID, member, at(1)),
    ]
    for commit in commits:
        if code is None:
            commit()
        else:
            assert refusal(commit) == code


def test_with_members_nobody_in_particular_commits_in_transactions_only() -> None:
    groups = Groups()
    groups.set_members("g", 3, {"m": None})
    assert refusal(lambda: groups.commit("g", NOBODY, at(1))) == ErrorCode.UNKNOWN_MEMBER_ID
    groups.commit_in_transaction("g", PID, NOBODY, at(1))


def test_a_group_that_does_not_exist_has_no_generation() -> None:
    groups = Groups()
    member = Member(0, "m")
    assert refusal(lambda: groups.commit("g", member, at(1))) == ErrorCode.ILLEGAL_GENERATION
    assert refusal(lambda: groups.commit("", NOBODY, at(1))) == ErrorCode.INVALID_GROUP_ID


def test_a_cleared_group_has_committed_nothing() -> None:
    groups = Groups()
    groups.commit("g", NOBODY, at(1))
    groups.clear()
    assert offset_of(groups) is None
