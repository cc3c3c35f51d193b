"""FindCoordinator, versions 0 to 6: which broker coordinates a group or a transactional id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aioproducer.testing.apis.base import Api, PlainCall, Turn
from aioproducer.testing.coordinators import CoordinatorKind
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.state import Address
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "Coordinator", "FindCoordinatorResponse"]

_NOBODY: Final = Address(-1, "", -1)
_GROUP: Final = 0
_TRANSACTION: Final = 1
_KINDS: Final[Mapping[int, CoordinatorKind]] = {_GROUP: "group", _TRANSACTION: "transaction"}


@dataclass(slots=True)
class Coordinator:
    """The coordinator of one group or transactional id."""

    key: str
    address: Address = _NOBODY
    error_code: int = 0


@dataclass(slots=True)
class FindCoordinatorResponse:
    """The answer to FindCoordinator; versions below 4 have room for one coordinator."""

    coordinators: list[Coordinator] = field(default_factory=list[Coordinator])
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""

        def one_coordinator(coordinator: Coordinator) -> None:
            writer.string(coordinator.key)
            writer.int32(coordinator.address.node_id)
            writer.string(coordinator.address.host)
            writer.int32(coordinator.address.port)
            writer.int16(coordinator.error_code)
            writer.string(None)
            writer.tags()

        if version >= 1:
            writer.int32(self.throttle_ms)
        if version >= 4:
            writer.array(self.coordinators, one_coordinator)
        else:
            (coordinator,) = self.coordinators
            writer.int16(coordinator.error_code)
            if version >= 1:
                writer.string(None)
            writer.int32(coordinator.address.node_id)
            writer.string(coordinator.address.host)
            writer.int32(coordinator.address.port)
        writer.tags()


class _FindCoordinator(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        self._keys = [] if version >= 4 else [reader.string()]
        self._kind = reader.int8() if version >= 1 else _GROUP
        if version >= 4:
            self._keys = reader.array(reader.string)
        reader.tags()
        if len(self._keys) == 1 and self._kind == _TRANSACTION:
            self.transactional_id = self._keys[0]
        elif len(self._keys) == 1:
            self.group = self._keys[0]

    def respond(self, turn: Turn) -> FindCoordinatorResponse:
        return FindCoordinatorResponse(
            [self._found(key, turn) for key in self._keys], turn.state.throttle_ms
        )

    def _found(self, key: str, turn: Turn) -> Coordinator:
        if (failure := turn.failure()) is not None:
            return Coordinator(key, error_code=failure.code)
        if self._kind not in _KINDS:
            return Coordinator(key, error_code=ErrorCode.INVALID_REQUEST)
        node_id = turn.state.coordinators.node_of(_KINDS[self._kind], key)
        if node_id == -1:
            return Coordinator(key, error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE)
        return Coordinator(key, turn.state.addresses[node_id])


API = Api("find_coordinator", 10, 0, 6, 3, _FindCoordinator)
