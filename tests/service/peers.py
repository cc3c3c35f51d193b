"""The application of examples/fastapi_app.py, written with aiokafka and with confluent-kafka.

The same routes with the same bound of two seconds, each in the best way its client documents:

* Idempotent, acks=all; all else the client's defaults, but for what is named below.
* What the client did not take within the two seconds, it cannot store: 503. Of what it took and
  has no result for, neither client can say what becomes: 504.
* aiokafka has one bound for a request and for a record, and no size of its buffer.
* confluent-kafka collects records for a second by default, which nobody would have in a route:
  `buffer_timeout` is 10 ms. `delivery.timeout.ms` is those two seconds, so that librdkafka gives up
  on what it has not sent by then.
* At the end each is given ten seconds, as the example gives its own.
"""

# The clients are there for `make service` only, and ship no types.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from fastapi import FastAPI, HTTPException, Request, Response

__all__ = ["aiokafka_app", "confluent_app"]

_DEADLINE = 2.0
_CLOSE_TIMEOUT = 10.0
_BUFFER_TIMEOUT = 0.01


class _Client(Protocol):
    """What the routes need of a client."""

    async def start(self) -> None:
        """Connect."""
        ...

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[Any]:
        """Return when the client took the record, with the future of its outcome."""
        ...

    def place(self, outcome: Any) -> tuple[int, int]:
        """Return partition and offset."""
        ...

    def is_refusal(self, error: Exception) -> bool:
        """Whether the client never took the record, says an error of the future."""
        ...

    async def close(self) -> None:
        """Deliver what is left."""
        ...


class _Aiokafka:
    async def start(self) -> None:
        from aiokafka import AIOKafkaProducer

        self._producer: Any = AIOKafkaProducer(
            bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            acks="all",
            enable_idempotence=True,
        )
        await self._producer.start()

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[Any]:
        delivery: asyncio.Future[Any] = await self._producer.send(topic, value, key=key)
        return delivery

    def place(self, outcome: Any) -> tuple[int, int]:
        return outcome.partition, outcome.offset

    def is_refusal(self, error: Exception) -> bool:
        return False

    async def close(self) -> None:
        await self._producer.stop()


class _Confluent:
    async def start(self) -> None:
        from confluent_kafka.aio import AIOProducer

        options: dict[str, Any] = {
            "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            "acks": "all",
            "enable.idempotence": True,
            "delivery.timeout.ms": int(_DEADLINE * 1000),
        }
        if buffer_memory := os.environ.get("KAFKA_BUFFER_MEMORY"):
            options["queue.buffering.max.kbytes"] = int(buffer_memory) // 1024
        self._producer = AIOProducer(options, buffer_timeout=_BUFFER_TIMEOUT)

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[Any]:
        return await self._producer.produce(topic, value=value, key=key)

    def place(self, outcome: Any) -> tuple[int, int]:
        return outcome.partition(), outcome.offset()

    def is_refusal(self, error: Exception) -> bool:
        from confluent_kafka import KafkaError, KafkaException

        return isinstance(error, KafkaException) and error.args[0].code() == KafkaError._QUEUE_FULL

    async def close(self) -> None:
        await self._producer.close()


def aiokafka_app() -> FastAPI:
    """Make the application with aiokafka."""
    return _make_app(_Aiokafka())


def confluent_app() -> FastAPI:
    """Make the application with confluent-kafka's AIOProducer."""
    return _make_app(_Confluent())


def _make_app(client: _Client) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        await client.start()
        try:
            yield
        finally:
            await asyncio.wait_for(client.close(), _CLOSE_TIMEOUT)

    app = FastAPI(lifespan=lifespan)

    @app.get("/ready")
    async def ready() -> None:
        pass

    @app.post("/payments/{card}")
    async def pay(card: str, request: Request) -> dict[str, int]:
        value = await request.body()
        is_taken = False
        try:
            async with asyncio.timeout(_DEADLINE):
                delivery = await client.send("payments", value, card.encode())
                is_taken = True
                partition, offset = client.place(await delivery)
        except Exception as error:
            if is_taken and not client.is_refusal(error):
                raise HTTPException(504, "It is not known whether it is stored.") from error
            raise HTTPException(503, "It is not stored.", {"Retry-After": "1"}) from error
        return {"partition": partition, "offset": offset}

    @app.post("/clicks")
    async def click(request: Request) -> Response:
        value = await request.body()
        try:
            async with asyncio.timeout(_DEADLINE):
                delivery = await client.send("clicks", value, None)
        except Exception as error:
            raise HTTPException(503, "It is not stored.", {"Retry-After": "1"}) from error
        # Or asyncio logs each that fails: nobody awaits it.
        delivery.add_done_callback(lambda done: done.cancelled() or done.exception())
        return Response(status_code=202)

    return app
