"""A producer for the life of an aiohttp application.

Needs `pip install "aioproducer[aiohttp]"`. Uses `AppKey`, `cleanup_ctx` and middleware.

Example:
    async def pay(request: web.Request) -> web.Response:
        stored = await request.config_dict[PRODUCER].send_and_wait("payments", await request.read())
        return web.json_response({"offset": stored.offset})

    app = web.Application(middlewares=[kafka_error_middleware])
    app.cleanup_ctx.append(producer_ctx(ProducerConfig.from_env))
    app.router.add_get("/ready", readiness_handler())
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import web

from aioproducer.errors import KafkaError, ProducerNotStartedError
from aioproducer.integrations.web import (
    PROBLEM_JSON,
    HttpError,
    ProducerSource,
    Start,
    http_error,
    open_producer,
    readiness,
)
from aioproducer.producer import Producer

__all__ = [
    "PRODUCER",
    "get_producer",
    "kafka_error_middleware",
    "producer_ctx",
    "readiness_handler",
]

PRODUCER: Final = web.AppKey("aioproducer", Producer[Any, Any])
"""Where an application keeps its producer: `request.config_dict[PRODUCER]`, which also finds that
of an outer application; `request.app[PRODUCER]` is that of the innermost one only. For several
producers make a `web.AppKey` for each."""


def producer_ctx(
    source: ProducerSource,
    *,
    key: web.AppKey[Producer[Any, Any]] = PRODUCER,
    start: Start = "wait",
    close_timeout: float | None = None,
    drain_seconds: float | None = None,
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return what `app.cleanup_ctx` takes: it opens a producer, and closes it at the end.

    aiohttp runs it in the process that serves the application, before the first request, and ends
    it when the requests in progress are over or `shutdown_timeout` is.

    Args:
        source: A config, or a function that returns a config or makes a producer.
        key: Where the application keeps it.
        start: `"wait"`: the application comes up when a broker has answered, and else fails with
            the reason. `"background"`: it comes up at once, and is not ready until then.
        close_timeout: Seconds for the close; None for `close_timeout_ms`.
        drain_seconds: Have readiness say 503 from SIGTERM on. aiohttp's `run_app` gets the signal
            at the same time, whatever the number. None: SIGTERM is the server's alone.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        opening = open_producer(
            source, start=start, close_timeout=close_timeout, drain_seconds=drain_seconds
        )
        async with opening as producer:
            app[key] = producer
            yield

    return context


def get_producer(
    request: web.Request, key: web.AppKey[Producer[Any, Any]] = PRODUCER
) -> Producer[Any, Any]:
    """Return the producer of the request's application, or of one around it.

    Raises:
        ProducerNotStartedError: There is none; the error says how there would be.
    """
    producer = request.config_dict.get(key)
    if producer is None:
        raise ProducerNotStartedError(
            f"The application has no producer under {key!r}",
            hint="Use app.cleanup_ctx.append(producer_ctx(...)).",
        )
    return producer


@web.middleware
async def kafka_error_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer an error of the producer with what HTTP has for it, as `application/problem+json`.

    The table is in `aioproducer.integrations.web.http_error`. What is the service's own fault is
    raised again: a 500, logged with its traceback. The response names no broker and no topic.

    A response that has begun cannot become another one: the error is raised again, and aiohttp cuts
    the connection. A WebSocket is closed before that: 1013 (try again later) for what is a 503, and
    else 1011.
    """
    try:
        return await handler(request)
    except KafkaError as error:
        found = http_error(error)
        if found is None:
            raise
        if _has_begun(request):
            if _is_websocket(request):
                _close_websocket(request, found)
            raise
        return web.json_response(
            found.body, status=found.status, headers=found.headers, content_type=PROBLEM_JSON
        )


def _has_begun(request: web.Request) -> bool:
    """Whether bytes of a response were sent; aiohttp itself asks so."""
    # The writer of a request by aiohttp's make_mocked_request is a mock.
    size = cast("object", request.writer.output_size)
    return isinstance(size, int) and size > 0


def _is_websocket(request: web.Request) -> bool:
    """Whether the response that has begun is a WebSocket: any other has chunks or a length."""
    writer: Any = request.writer
    if writer.chunked or writer.length is not None:
        return False
    return bool(web.WebSocketResponse().can_prepare(request))


def _close_websocket(request: web.Request, found: HttpError) -> None:
    """Write a close frame (RFC 6455, 5.5.1): the handler's WebSocketResponse is out of reach."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return  # The handler or the client has closed it.
    payload = found.close_code.to_bytes(2, "big") + found.title.encode()
    transport.write(bytes([0x88, len(payload)]) + payload)


def readiness_handler(
    *keys: web.AppKey[Producer[Any, Any]], details: bool = False
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler that answers readiness probes: 200 when healthy, 503 when not.

    Args:
        *keys: The producers that have to be healthy; `PRODUCER` if none is given.
        details: Show each producer's status, with broker and topic names: not to the public.
    """

    async def ready(request: web.Request) -> web.Response:
        producers = [get_producer(request, key) for key in keys or (PRODUCER,)]
        status, body = readiness(producers, details=details)
        return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})

    return ready
