"""The APIs of FakeCluster without sockets: kio encodes a request, kio decodes its response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from aioproducer.testing.apis import APIS, supported_apis
from aioproducer.testing.apis.base import Call, Later, Turn
from aioproducer.testing.faults import Fail
from aioproducer.testing.log import LogLimits
from aioproducer.testing.state import Address, ClusterState
from aioproducer.testing.wire import RequestHeader, Writer
from tests.support.kio_client import decode, request_frame, response_class
from tests.support.kio_messages import kio_class

NOW_MS = 1_700_000_000_000
TOPIC = "t"


def state_of(
    *,
    brokers: int = 2,
    topics: dict[str, int] | None = None,
    limits: LogLimits | None = None,
    auto_create_topics: bool = False,
    throttle_ms: int = 0,
) -> ClusterState:
    """Return the state of a cluster of which all brokers are up."""
    state = ClusterState(
        auto_create_topics=auto_create_topics,
        default_partitions=1,
        limits=limits or LogLimits(),
        throttle_ms=throttle_ms,
        features={"transaction.version": 2},
        supported=supported_apis({}),
        wall_clock=lambda: NOW_MS / 1000,
    )
    for node_id in range(brokers):
        state.addresses[node_id] = Address(node_id, "127.0.0.1", 9000 + node_id)
        state.alive.add(node_id)
    for name, partitions in (topics or {TOPIC: 2}).items():
        state.create_topic(name, partitions, state.limits)
    return state


def read(message: Any) -> Call:
    """Return a request of kio's as the fake brokers read it."""
    kind = cast("Any", type(message))
    api = APIS[kind.__api_key__]
    frame = memoryview(request_frame(message))[4:]
    header, reader = RequestHeader.read(frame, flexible=api.flexible(kind.__version__))
    assert header == (kind.__api_key__, kind.__version__, 1, "kio")
    call = api.read(reader, kind.__version__)
    reader.end()
    return call


def answered(
    state: ClusterState,
    message: Any,
    *,
    node_id: int = 0,
    failures: Sequence[Fail] = (),
    waited: bool = False,
) -> Any:
    """Return kio's reading of what a broker answers; None or Later as they are."""
    kind = cast("Any", type(message))
    version: int = kind.__version__
    answer = read(message).respond(Turn(state, node_id, version, failures, waited))
    if answer is None or isinstance(answer, Later):
        return answer
    writer = Writer(flexible=APIS[kind.__api_key__].flexible(version))
    answer.encode(writer, version)
    response, rest = decode(response_class(message), bytes(writer.data))
    assert rest == b""
    return response


def request_class(api: str, version: int) -> type[Any]:
    """Return kio's class of a request."""
    return kio_class(api, version, "".join(part.title() for part in api.split("_")) + "Request")
