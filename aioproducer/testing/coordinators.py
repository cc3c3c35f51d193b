"""Which broker coordinates which group and which transactional id. No I/O.

Owns that choice. A coordinator is chosen when somebody first asks, by a hash as in Kafka, and stays
until its broker stops or a test moves it.
"""

from __future__ import annotations

import zlib
from collections.abc import Set as AbstractSet
from typing import Literal, TypeAlias

from aioproducer.testing.error_codes import ErrorCode

__all__ = ["CoordinatorKind", "Coordinators"]

CoordinatorKind: TypeAlias = Literal["group", "transaction"]


class Coordinators:
    """The coordinators of a cluster.

    Args:
        alive: The brokers that are up, always.
    """

    def __init__(self, alive: AbstractSet[int]) -> None:
        self._alive = alive
        self._nodes: dict[tuple[CoordinatorKind, str], int] = {}
        self._loading: dict[tuple[CoordinatorKind, str], int] = {}

    def node_of(self, kind: CoordinatorKind, key: str) -> int:
        """Return the coordinator's node id; -1 if there is none that is up."""
        node = self._nodes.get((kind, key))
        if node is None:
            node = self._nodes[kind, key] = self._choose(key)
        return node if node in self._alive else -1

    def error_at(self, node_id: int, kind: CoordinatorKind, key: str) -> ErrorCode | None:
        """Return why a broker does not serve a group or transactional id, if it does not."""
        if self.node_of(kind, key) != node_id:
            return ErrorCode.NOT_COORDINATOR
        if loading := self._loading.get((kind, key), 0):
            self._loading[kind, key] = loading - 1
            return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        return None

    def move(self, kind: CoordinatorKind, key: str, node_id: int, loading: int) -> None:
        """Make a broker the coordinator, which for some requests is still loading."""
        self._nodes[kind, key] = node_id
        self._loading[kind, key] = loading

    def elect(self) -> None:
        """Give what a broker coordinated that is down to another one."""
        for (kind, key), node in tuple(self._nodes.items()):
            if node not in self._alive:
                self._nodes[kind, key] = self._choose(key)

    def _choose(self, key: str) -> int:
        living = sorted(self._alive)
        return living[zlib.crc32(key.encode()) % len(living)] if living else -1
