"""FindCoordinator (10): which broker coordinates a transactional id, or a consumer group."""

from collections.abc import Sequence
from typing import NamedTuple

from aioproducer.protocol.schema import INT8, INT16, INT32, STRING, Api, Array, Field, Struct

__all__ = [
    "FIND_COORDINATOR",
    "GROUP",
    "TRANSACTION",
    "Coordinator",
    "FindCoordinatorRequest",
    "FindCoordinatorResponse",
]

GROUP = 0
TRANSACTION = 1


class FindCoordinatorRequest(NamedTuple):
    """Asks for one `key` up to version 3, for several `coordinator_keys` from 4 on."""

    key: str = ""
    key_type: int = GROUP
    coordinator_keys: Sequence[str] = ()


class Coordinator(NamedTuple):
    """The coordinator of one key, or why there is none."""

    key: str = ""
    node_id: int = -1
    host: str = ""
    port: int = -1
    error_code: int = 0
    error_message: str | None = None


class FindCoordinatorResponse(NamedTuple):
    """The coordinator up to version 3, `coordinators` from 4 on."""

    throttle_time_ms: int = 0
    error_code: int = 0
    error_message: str | None = None
    node_id: int = -1
    host: str = ""
    port: int = -1
    coordinators: Sequence[Coordinator] = ()


FIND_COORDINATOR = Api(
    key=10,
    name="FindCoordinator",
    min_version=1,
    max_version=6,
    flexible_from=3,
    pause_from=2,
    request=Struct(
        FindCoordinatorRequest,
        Field("key", STRING, until=3, ignorable=True),
        Field("key_type", INT8, since=1),
        Field("coordinator_keys", Array(STRING), since=4, ignorable=True),
    ),
    response=Struct(
        FindCoordinatorResponse,
        Field("throttle_time_ms", INT32, since=1, ignorable=True),
        Field("error_code", INT16, until=3, ignorable=True),
        Field("error_message", STRING, since=1, until=3, nullable_since=1, ignorable=True),
        Field("node_id", INT32, until=3, ignorable=True),
        Field("host", STRING, until=3, ignorable=True),
        Field("port", INT32, until=3, ignorable=True),
        Field(
            "coordinators",
            Array(
                Struct(
                    Coordinator,
                    Field("key", STRING),
                    Field("node_id", INT32),
                    Field("host", STRING),
                    Field("port", INT32),
                    Field("error_code", INT16),
                    Field("error_message", STRING, nullable_since=4),
                )
            ),
            since=4,
            ignorable=True,
        ),
    ),
)
