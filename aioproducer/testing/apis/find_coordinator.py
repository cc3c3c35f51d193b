"""FindCoordinator, versions 0 to 6: names the broker with the lowest node id that is up.

Nothing can be done with a coordinator yet. But librdkafka compresses with lz4 only for brokers
that offer this, and its consumer asks for one whatever it is used for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aioproducer.testing.apis.base import Api, PlainCall, Turn
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.state import Address
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "Coordinator", "FindCoordinatorResponse"]

_NOBODY = Address(-1, "", -1)


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
        if version >= 1:
            reader.int8()  # a group, or a transactional id
        if version >= 4:
            self._keys = reader.array(reader.string)
        reader.tags()

    def respond(self, turn: Turn) -> FindCoordinatorResponse:
        failure = turn.failure()
        living = turn.state.living()
        code = failure.code if failure else 0 if living else ErrorCode.COORDINATOR_NOT_AVAILABLE
        address = living[0] if living and not code else _NOBODY
        return FindCoordinatorResponse(
            [Coordinator(key, address, code) for key in self._keys], turn.state.throttle_ms
        )


API = Api("find_coordinator", 10, 0, 6, 3, _FindCoordinator)
