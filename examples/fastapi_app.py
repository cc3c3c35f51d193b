"""A FastAPI service that writes to Kafka: one producer, opened and closed with the application.

Run by hand: KAFKA_BOOTSTRAP_SERVERS=localhost:9092 uvicorn examples.fastapi_app:app
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from fastapi import Depends, FastAPI, HTTPException, Request

from aioproducer import BufferExhaustedError, KafkaTimeoutError, Producer


class State(TypedDict):
    """What lives as long as the application."""

    producer: Producer[bytes, bytes]


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[State]:
    """Open the producer before the first request; deliver what is left after the last one."""
    async with Producer[bytes, bytes].from_env() as producer:
        yield {"producer": producer}


def get_producer(request: Request) -> Producer[bytes, bytes]:
    """Return the application's producer."""
    producer: Producer[bytes, bytes] = request.state.producer
    return producer


app = FastAPI(lifespan=lifespan)
KafkaProducer = Annotated[Producer[bytes, bytes], Depends(get_producer)]


@app.post("/payments/{card}")
async def pay(card: str, request: Request, producer: KafkaProducer) -> dict[str, int]:
    """Answer when the payment is stored, and say where."""
    try:
        metadata = await producer.send_and_wait(
            "payments", await request.body(), key=card.encode(), timeout=2
        )
    except KafkaTimeoutError as error:
        if error.safe_to_resend:
            raise HTTPException(503, "try again", headers={"Retry-After": "1"}) from error
        # It may be stored, now or in a while: a second try would be a second payment.
        raise HTTPException(504, "ask what became of it before you pay again") from error
    return {"partition": metadata.partition, "offset": metadata.offset}


@app.post("/clicks", status_code=202)
async def click(request: Request, producer: KafkaProducer) -> None:
    """Answer at once; the click is on its way."""
    try:
        producer.send_nowait("clicks", await request.body())
    except BufferExhaustedError as error:
        raise HTTPException(503, "try again", headers={"Retry-After": "1"}) from error
