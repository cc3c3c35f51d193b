"""A producer for the life of a FastAPI application, and as a dependency of its routes.

Needs `pip install "aioproducer[fastapi]"`. Uses lifespan state, `Depends` and exception handlers,
and nothing that FastAPI does not document.

Example:
    app = FastAPI(lifespan=producer_lifespan(ProducerConfig.from_env))
    app.add_exception_handler(KafkaError, kafka_error_handler)
    app.add_api_route("/ready", readiness_endpoint(), include_in_schema=False)

    @app.post("/payments/{card}")
    async def pay(card: str, request: Request, producer: ProducerDep) -> dict[str, int]:
        stored = await producer.send_and_wait("payments", await request.body(), key=card.encode())
        return {"partition": stored.partition, "offset": stored.offset}

In tests, `app.dependency_overrides[get_producer] = lambda: another` gives the routes another
producer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias

from fastapi import Depends
from fastapi.requests import HTTPConnection

from aioproducer.integrations import starlette
from aioproducer.integrations.starlette import (
    Lifespan,
    kafka_error_handler,
    producer_lifespan,
    readiness_endpoint,
    readiness_route,
)
from aioproducer.producer import Producer

__all__ = [
    "Lifespan",
    "ProducerDep",
    "get_producer",
    "kafka_error_handler",
    "producer_lifespan",
    "producer_named",
    "readiness_endpoint",
    "readiness_route",
]


async def get_producer(connection: HTTPConnection) -> Producer[Any, Any]:
    """Return the application's producer: a dependency, of a route or a WebSocket.

    Raises:
        ProducerNotStartedError: There is none; the error says how there would be.
    """
    # A coroutine function, here and below: FastAPI runs a plain one in a thread, each time.
    return starlette.get_producer(connection)


def producer_named(name: str) -> Callable[[HTTPConnection], Awaitable[Producer[Any, Any]]]:
    """Return a `get_producer` for the producer of another name."""
    get = starlette.producer_named(name)

    async def get_named_producer(connection: HTTPConnection) -> Producer[Any, Any]:
        return get(connection)

    return get_named_producer


ProducerDep: TypeAlias = Annotated[Producer[Any, Any], Depends(get_producer)]
"""The application's producer, as the parameter of a route, a dependency or a WebSocket.

For a producer of another name: `Annotated[Producer[Any, Any], Depends(producer_named("audit"))]`.
"""
