"""An aiohttp service that writes to Kafka: one producer, opened and closed with the application.

Run by hand: KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python -m examples.aiohttp_app
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from aioproducer import BufferExhaustedError, KafkaTimeoutError, Producer

PRODUCER = web.AppKey("producer", Producer[bytes, bytes])


async def open_producer(app: web.Application) -> AsyncIterator[None]:
    """Open the producer before the first request; deliver what is left after the last one."""
    async with Producer[bytes, bytes].from_env() as producer:
        app[PRODUCER] = producer
        yield


async def pay(request: web.Request) -> web.Response:
    """Answer when the payment is stored, and say where."""
    key = request.match_info["card"].encode()
    try:
        metadata = await request.app[PRODUCER].send_and_wait(
            "payments", await request.read(), key=key, timeout=2
        )
    except KafkaTimeoutError as error:
        if error.safe_to_resend:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "1"}) from error
        # It may be stored, now or in a while: a second try would be a second payment.
        raise web.HTTPGatewayTimeout(text="ask what became of it before you pay again") from error
    return web.json_response({"partition": metadata.partition, "offset": metadata.offset})


async def click(request: web.Request) -> web.Response:
    """Answer at once; the click is on its way."""
    try:
        request.app[PRODUCER].send_nowait("clicks", await request.read())
    except BufferExhaustedError as error:
        raise web.HTTPServiceUnavailable(headers={"Retry-After": "1"}) from error
    return web.Response(status=202)


def make_app() -> web.Application:
    """Return the application."""
    app = web.Application()
    app.cleanup_ctx.append(open_producer)
    app.router.add_post("/payments/{card}", pay)
    app.router.add_post("/clicks", click)
    return app


if __name__ == "__main__":
    web.run_app(make_app())
