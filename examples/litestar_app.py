"""A Litestar service that writes to Kafka: one producer, opened and closed with the application.

Run by hand: KAFKA_BOOTSTRAP_SERVERS=localhost:9092 uvicorn examples.litestar_app:app
"""

from __future__ import annotations

import os
from typing import Any

from litestar import Litestar, Request, post

from aioproducer import ProducerConfig
from aioproducer.integrations.litestar import ProducerDep, ProducerPlugin


@post("/payments/{card:str}")
async def pay(card: str, request: Request[Any, Any, Any], producer: ProducerDep) -> dict[str, int]:
    """Answer when the payment is stored, and say where."""
    stored = await producer.send_and_wait(
        "payments", await request.body(), key=card.encode(), deadline=2
    )
    return {"partition": stored.partition, "offset": stored.offset}


@post("/clicks", status_code=202)
async def click(request: Request[Any, Any, Any], producer: ProducerDep) -> None:
    """Answer at once; the click is on its way."""
    producer.send_nowait("clicks", await request.body())


# It answers 503 with Retry-After where a second try is safe, 504 where it may store a record twice.
app = Litestar(
    [pay, click],
    plugins=[
        ProducerPlugin(
            ProducerConfig.from_env,
            start="background",
            close_timeout=10,
            drain_seconds=float(os.environ.get("DRAIN_SECONDS", "5")),
            readiness_path="/ready",
        )
    ],
)
