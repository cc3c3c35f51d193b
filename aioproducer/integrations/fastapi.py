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

from typing import Annotated, Any, TypeAlias

from fastapi import Depends

from aioproducer.integrations.starlette import (
    Lifespan,
    get_producer,
    kafka_error_handler,
    producer_lifespan,
    producer_named,
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

ProducerDep: TypeAlias = Annotated[Producer[Any, Any], Depends(get_producer)]
"""The application's producer, as the parameter of a route, a dependency or a WebSocket.

For a producer of another name: `Annotated[Producer[Any, Any], Depends(producer_named("audit"))]`.
"""
