"""An aiohttp service that writes to Kafka: one producer, opened and closed with the application.

Run by hand: KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python -m examples.aiohttp_app
"""

from __future__ import annotations

from aiohttp import web

from aioproducer import ProducerConfig
from aioproducer.integrations.aiohttp import (
    PRODUCER,
    kafka_error_middleware,
    producer_ctx,
    readiness_handler,
)


async def pay(request: web.Request) -> web.Response:
    """Answer when the payment is stored, and say where."""
    stored = await request.config_dict[PRODUCER].send_and_wait(
        "payments", await request.read(), key=request.match_info["card"].encode(), deadline=2
    )
    return web.json_response({"partition": stored.partition, "offset": stored.offset})


async def click(request: web.Request) -> web.Response:
    """Answer at once; the click is on its way."""
    request.config_dict[PRODUCER].send_nowait("clicks", await request.read())
    return web.Response(status=202)


def make_app() -> web.Application:
    """Return the application."""
    # 503 with Retry-After where a second try is safe, 504 where it may store a record twice.
    app = web.Application(middlewares=[kafka_error_middleware])
    app.cleanup_ctx.append(
        producer_ctx(ProducerConfig.from_env, start="background", close_timeout=10, drain_seconds=0)
    )
    app.router.add_get("/ready", readiness_handler())
    app.router.add_post("/payments/{card}", pay)
    app.router.add_post("/clicks", click)
    return app


if __name__ == "__main__":
    web.run_app(make_app())
