"""A FastAPI service that writes to Kafka: one producer, opened and closed with the application.

Run by hand: KAFKA_BOOTSTRAP_SERVERS=localhost:9092 uvicorn examples.fastapi_app:app
"""

from __future__ import annotations

import os

from fastapi import FastAPI, Request

from aioproducer import KafkaError, ProducerConfig
from aioproducer.integrations.fastapi import (
    ProducerDep,
    kafka_error_handler,
    producer_lifespan,
    readiness_endpoint,
)

# For some seconds after SIGTERM requests are still served, while /ready turns them away.
app = FastAPI(
    lifespan=producer_lifespan(
        ProducerConfig.from_env,
        start="background",
        close_timeout=10,
        drain_seconds=float(os.environ.get("DRAIN_SECONDS", "5")),
    )
)
# 503 with Retry-After where a second try is safe, 504 where it may store a record twice.
app.add_exception_handler(KafkaError, kafka_error_handler)
app.add_api_route("/ready", readiness_endpoint(), include_in_schema=False)


@app.post("/payments/{card}")
async def pay(card: str, request: Request, producer: ProducerDep) -> dict[str, int]:
    """Answer when the payment is stored, and say where."""
    stored = await producer.send_and_wait(
        "payments", await request.body(), key=card.encode(), deadline=2
    )
    return {"partition": stored.partition, "offset": stored.offset}


@app.post("/clicks", status_code=202)
async def click(request: Request, producer: ProducerDep) -> None:
    """Answer at once; the click is on its way."""
    producer.send_nowait("clicks", await request.body())
