"""A producer for the life of a Starlette application; for FastAPI, see fastapi.py.

Needs `pip install "aioproducer[starlette]"`. Uses lifespan state and nothing else of Starlette's:
what a lifespan yields is in `request.state`, also in mounted applications and for WebSockets.

Example:
    app = Starlette(
        routes=[Route("/payments", pay, methods=["POST"]), readiness_route()],
        lifespan=producer_lifespan(ProducerConfig.from_env),
        exception_handlers={KafkaError: kafka_error_handler},
    )

    async def pay(request: Request) -> JSONResponse:
        stored = await get_producer(request).send_and_wait("payments", await request.body())
        return JSONResponse({"offset": stored.offset})
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeAlias, cast

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from aioproducer.errors import KafkaError, ProducerNotStartedError
from aioproducer.integrations.web import (
    PROBLEM_JSON,
    ProducerSource,
    Start,
    http_error,
    open_producer,
    readiness,
)
from aioproducer.producer import Producer

__all__ = [
    "Lifespan",
    "get_producer",
    "kafka_error_handler",
    "producer_lifespan",
    "producer_named",
    "readiness_endpoint",
    "readiness_route",
]

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]
"""Takes the application; what it yields becomes the state of every request."""

_NAME: Final = "producer"


def producer_lifespan(
    source: ProducerSource,
    *,
    name: str = _NAME,
    lifespan: Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]] | None = None,
    start: Start = "wait",
    close_timeout: float | None = None,
    drain_seconds: float | None = None,
) -> Lifespan:
    """Return a lifespan: a producer opens before the first request and closes after the last.

    The producer is `request.state.producer` (or another `name`), also in mounted applications,
    which have no lifespan of their own. Each start of the application makes a new one, in the
    process that serves it.

    Args:
        source: A config, or a function that returns a config or makes a producer.
        name: The state's key. For several producers give each lifespan but one another one as its
            `lifespan`, with another name.
        lifespan: Your own lifespan: it begins when the producer is open and ends before it is
            closed; the state that it yields is kept beside the producer.
        start: `"wait"`: the application comes up when a broker has answered, and else fails with
            the reason. `"background"`: it comes up at once, records wait for `max_block_ms`, and
            readiness says no until a broker has answered.
        close_timeout: Seconds for the close; None for `close_timeout_ms`. Keep it below the grace
            period of the platform.
        drain_seconds: How long requests are still served after SIGTERM while readiness says 503;
            see `aioproducer.integrations.web.drain_on_sigterm`. Give it to one lifespan only. None:
            SIGTERM is the server's alone.

    Raises:
        ValueError: When the application starts, if both lifespans yield the same name.
    """

    @asynccontextmanager
    async def with_producer(app: Any) -> AsyncGenerator[Mapping[str, Any]]:
        opening = open_producer(
            source, start=start, close_timeout=close_timeout, drain_seconds=drain_seconds
        )
        async with opening as producer:
            if lifespan is None:
                yield {name: producer}
                return
            async with lifespan(app) as state:
                if state is not None and name in state:
                    raise ValueError(
                        f"two lifespans yield {name!r}: give producer_lifespan another name"
                    )
                yield {**(state or {}), name: producer}

    return with_producer


def get_producer(connection: HTTPConnection) -> Producer[Any, Any]:
    """Return the application's producer: of a request or a WebSocket.

    Raises:
        ProducerNotStartedError: There is none; the error says how there would be.
    """
    return _of(connection, _NAME)


def producer_named(name: str) -> Callable[[HTTPConnection], Producer[Any, Any]]:
    """Return a `get_producer` for the producer of another name."""

    def get_named_producer(connection: HTTPConnection) -> Producer[Any, Any]:
        return _of(connection, name)

    return get_named_producer


def _of(connection: HTTPConnection, name: str) -> Producer[Any, Any]:
    producer: object = getattr(connection.state, name, None)
    if producer is None:
        raise ProducerNotStartedError(
            f"The application has no producer {name!r}",
            hint="Give the outermost application lifespan=producer_lifespan(...), and in tests use"
            " TestClient as a context manager, or else the lifespan does not run.",
        )
    return cast("Producer[Any, Any]", producer)


async def kafka_error_handler(connection: HTTPConnection, error: Exception) -> Response:
    """Answer an error of the producer with what HTTP has for it, as `application/problem+json`.

    The table is in `aioproducer.integrations.web.http_error`. What is the service's own fault is
    raised again: a 500, logged with its traceback, as without this handler. The response names no
    broker and no topic. A WebSocket is closed: 1013 (try again later) for what is a 503, and else
    1011. If it is closed already, nobody is there to be told, and the error is raised again.

    Example:
        app.add_exception_handler(KafkaError, kafka_error_handler)
    """
    found = http_error(error) if isinstance(error, KafkaError) else None
    if found is None:
        raise error
    if isinstance(connection, WebSocket):
        if not _is_open(connection):
            raise error
        try:
            await connection.close(found.close_code, found.title)
        except WebSocketDisconnect:
            raise error from None
    return JSONResponse(found.body, found.status, found.headers, PROBLEM_JSON)


def _is_open(websocket: WebSocket) -> bool:
    return websocket.client_state != WebSocketState.DISCONNECTED and (
        websocket.application_state in (WebSocketState.CONNECTING, WebSocketState.CONNECTED)
    )


def readiness_endpoint(
    *names: str, details: bool = False
) -> Callable[[Request], Awaitable[JSONResponse]]:
    """Return an endpoint that answers readiness probes: 200 when healthy, 503 when not.

    Args:
        *names: The producers that have to be healthy; `"producer"` if none is given.
        details: Show each producer's status, with broker and topic names: not to the public.
    """

    async def ready(request: Request) -> JSONResponse:
        producers = [_of(request, name) for name in names or (_NAME,)]
        status, body = readiness(producers, details=details)
        return JSONResponse(body, status, {"Cache-Control": "no-store"})

    return ready


def readiness_route(path: str = "/ready", *names: str, details: bool = False) -> Route:
    """Return a route for `readiness_endpoint`."""
    return Route(path, readiness_endpoint(*names, details=details), name="ready")
