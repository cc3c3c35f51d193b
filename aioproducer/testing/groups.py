"""The offsets that consumer groups have committed, and those of open transactions. No I/O.

Owns the groups; a group is there from its first commit on. Nobody can join one over the wire: a
test says who its members are (`set_members`). Mirrors OffsetMetadataManager and ClassicGroup (Kafka
4.3).

Invariants
* What a transaction commits is seen when the group's marker of the commit is written, not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.transaction_values import Marker, Pid

__all__ = [
    "MAX_METADATA_SIZE",
    "CommittedOffset",
    "Group",
    "GroupRefusedError",
    "Groups",
    "Member",
    "Offsets",
]

MAX_METADATA_SIZE: Final = 4096
"""A broker's `offset.metadata.max.bytes` by default."""


class CommittedOffset(NamedTuple):
    """Where a group goes on reading in a partition."""

    offset: int
    metadata: str | None = None
    leader_epoch: int = -1


Offsets: TypeAlias = Mapping[tuple[str, int], CommittedOffset]
"""By topic and partition."""


class Member(NamedTuple):
    """Who commits offsets: a member of the group (KIP-447), or nobody in particular."""

    generation: int = -1
    member_id: str = ""
    instance_id: str | None = None


class GroupRefusedError(Exception):
    """The group's coordinator answers with an error."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass(slots=True)
class Group:
    """One consumer group."""

    offsets: dict[tuple[str, int], CommittedOffset] = field(
        default_factory=dict[tuple[str, int], CommittedOffset]
    )
    pending: dict[int, dict[tuple[str, int], CommittedOffset]] = field(
        default_factory=dict[int, dict[tuple[str, int], CommittedOffset]]
    )
    """By producer id, what its open transaction commits."""
    epochs: dict[int, int] = field(default_factory=dict[int, int])
    """The highest epoch of each producer id."""
    generation: int = -1
    members: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """The members' ids, and their group.instance.id."""

    def has_open_transaction(self, pid: Pid) -> bool:
        """Return whether the producer has committed offsets in the transaction that is open."""
        return pid.producer_id in self.pending and self.epochs[pid.producer_id] == pid.epoch

    def is_stable(self, partition: tuple[str, int]) -> bool:
        """Return whether no open transaction commits an offset of a partition."""
        return not any(partition in offsets for offsets in self.pending.values())


class Groups:
    """The groups of a cluster."""

    def __init__(self) -> None:
        self._by_id: dict[str, Group] = {}

    def get(self, group_id: str) -> Group:
        """Return a group; one that has committed nothing is empty."""
        return self._by_id.get(group_id) or Group()

    def set_members(
        self, group_id: str, generation: int, members: Mapping[str, str | None]
    ) -> None:
        """Let a group have these members in this generation."""
        group = self._by_id.setdefault(group_id, Group())
        group.generation = generation
        group.members = dict(members)

    def clear(self) -> None:
        """Forget the groups."""
        self._by_id.clear()

    def commit(self, group_id: str, member: Member, offsets: Offsets) -> None:
        """Commit the offsets of a consumer."""
        self._check_member(group_id, member, is_transactional=False)
        self._by_id.setdefault(group_id, Group()).offsets.update(offsets)

    def commit_in_transaction(
        self, group_id: str, pid: Pid, member: Member, offsets: Offsets
    ) -> None:
        """Commit offsets as a part of a producer's open transaction."""
        self._check_member(group_id, member, is_transactional=True)
        group = self._by_id.setdefault(group_id, Group())
        if pid.epoch < group.epochs.get(pid.producer_id, -1):
            raise GroupRefusedError(ErrorCode.INVALID_PRODUCER_EPOCH)
        group.epochs[pid.producer_id] = pid.epoch
        group.pending.setdefault(pid.producer_id, {}).update(offsets)

    def write_marker(self, group_id: str, marker: Marker) -> None:
        """End a producer's transaction."""
        group = self._by_id.setdefault(group_id, Group())
        group.epochs[marker.producer_id] = marker.epoch
        offsets = group.pending.pop(marker.producer_id, {})
        if marker.commit:
            group.offsets.update(offsets)

    def _check_member(self, group_id: str, member: Member, *, is_transactional: bool) -> None:
        """Raise unless whoever commits may: a member, or nobody in particular.

        As ClassicGroup.validateOffsetCommit: without members, offsets come from clients that
        manage themselves; with members, old versions of TxnOffsetCommit name none.
        """
        if not group_id:
            raise GroupRefusedError(ErrorCode.INVALID_GROUP_ID)
        group = self._by_id.get(group_id)
        if group is None:
            if member.generation >= 0:
                raise GroupRefusedError(ErrorCode.ILLEGAL_GENERATION)
            return
        if member.generation < 0 and not group.members:
            return
        if member.generation < 0 and not member.member_id and member.instance_id is None:
            if not is_transactional:
                raise GroupRefusedError(ErrorCode.UNKNOWN_MEMBER_ID)
            return
        if member.instance_id is not None:
            ids = [name for name, own in group.members.items() if own == member.instance_id]
            if ids and ids != [member.member_id]:
                raise GroupRefusedError(ErrorCode.FENCED_INSTANCE_ID)
            if not ids:
                raise GroupRefusedError(ErrorCode.UNKNOWN_MEMBER_ID)
        if member.member_id not in group.members:
            raise GroupRefusedError(ErrorCode.UNKNOWN_MEMBER_ID)
        if member.generation != group.generation:
            raise GroupRefusedError(ErrorCode.ILLEGAL_GENERATION)
