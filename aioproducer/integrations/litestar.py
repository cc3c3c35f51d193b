"""A producer for the life of a Litestar application, and as a dependency of its handlers.

Needs `pip install "aioproducer[litestar]"`. A plugin that adds a lifespan, a dependency, an
exception handler and a readiness route.

Example:
    @post("/payments")
    async def pay(request: Request, producer: ProducerDep) -> dict[str, int]:
        stored = await producer.send_and_wait("payments", await request.body())
        return {"offset": stored.offset}

    app = Litestar([pay], plugins=[ProducerPlugin(ProducerConfig.from_env)])
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

from litestar import Litestar, Request, Response, get
from litestar.config.app import AppConfig
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.plugins import InitPlugin

from aioproducer.errors import KafkaError
from aioproducer.integrations.web import (
    PROBLEM_JSON,
    ProducerSource,
    Start,
    http_error,
    open_producer,
    readiness,
)
from aioproducer.producer import Producer

__all__ = ["ProducerDep", "ProducerPlugin", "kafka_error_handler"]

ProducerDep: TypeAlias = NamedDependency[Producer[Any, Any]]
"""The type of a handler's parameter `producer`, or of that of another plugin's name."""

_NAME: Final = "producer"


class ProducerPlugin(InitPlugin):
    """Opens a producer with the application, closes it at the end, and gives it to handlers.

    A handler gets it as its parameter `producer: ProducerDep`, other code as `app.state.producer`.
    For several producers use several plugins with other names.

    Args:
        source: A config, or a function that returns a config or makes a producer.
        name: The dependency's name.
        start: `"wait"`: the application comes up when a broker has answered, and else fails with
            the reason. `"background"`: it comes up at once, and is not ready until then.
        close_timeout: Seconds for the close; None for `close_timeout_ms`.
        drain_seconds: How long requests are still served after SIGTERM while readiness says 503;
            see `aioproducer.integrations.web.drain_on_sigterm`. None: SIGTERM is the server's
            alone.
        handle_errors: Add `kafka_error_handler`, unless the application has one for `KafkaError`.
        readiness_path: The path of a readiness route: 200 when healthy, 503 when not. None: no
            route.
    """

    __slots__ = (
        "_close_timeout",
        "_drain_seconds",
        "_handle_errors",
        "_name",
        "_readiness_path",
        "_source",
        "_start",
    )

    def __init__(
        self,
        source: ProducerSource,
        *,
        name: str = _NAME,
        start: Start = "wait",
        close_timeout: float | None = None,
        drain_seconds: float | None = None,
        handle_errors: bool = True,
        readiness_path: str | None = None,
    ) -> None:
        self._source = source
        self._name = name
        self._start: Start = start
        self._close_timeout = close_timeout
        self._drain_seconds = drain_seconds
        self._handle_errors = handle_errors
        self._readiness_path = readiness_path

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add what the application needs; Litestar calls this."""
        # Litestar leaves parts of these types open, which a strict checker refuses.
        config: Any = app_config
        # First, so that the application's own lifespans begin when the producer is open and end
        # before it is closed.
        config.lifespan = [self._lifespan, *config.lifespan]
        config.dependencies[self._name] = Provide(self._provide)
        if self._handle_errors:
            config.exception_handlers = {
                KafkaError: kafka_error_handler,
                **config.exception_handlers,
            }
        if self._readiness_path is not None:
            app_config.route_handlers.append(self._readiness_route(self._readiness_path))
        return app_config

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncGenerator[None]:
        opening = open_producer(
            self._source,
            start=self._start,
            close_timeout=self._close_timeout,
            drain_seconds=self._drain_seconds,
        )
        async with opening as producer:
            app.state[self._name] = producer
            yield

    async def _provide(self, state: State) -> Producer[Any, Any]:
        return self._of(state)

    def _of(self, state: State) -> Producer[Any, Any]:
        producer: Producer[Any, Any] = state[self._name]
        return producer

    def _readiness_route(self, path: str) -> Any:
        @get(path, include_in_schema=False, name=f"{self._name}-ready")
        async def ready(state: State) -> Response[Mapping[str, Any]]:
            status, body = readiness([self._of(state)])
            return Response(body, status_code=status, headers={"Cache-Control": "no-store"})

        return ready


def kafka_error_handler(
    request: Request[Any, Any, Any], error: KafkaError
) -> Response[Mapping[str, Any]]:
    """Answer an error of the producer with what HTTP has for it, as `application/problem+json`.

    The table is in `aioproducer.integrations.web.http_error`. What is the service's own fault is
    raised again: a 500. The response names no broker and no topic.
    """
    found = http_error(error)
    if found is None:
        raise error
    return Response(
        found.body, status_code=found.status, headers=found.headers, media_type=PROBLEM_JSON
    )
