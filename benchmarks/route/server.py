"""The server: `python -m benchmarks.route.server CLIENT JOB FD`.

Serves `POST /records`, which awaits its record by the client that the command line names, and
`GET /counters` for the harness. FD is a socket that listens already.
"""

from __future__ import annotations

import platform
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from benchmarks.jobs import Job
from benchmarks.route.children import end_with_parent

__all__ = ["make_app"]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A client that is connected.

    Attributes:
        send_and_wait: What the route awaits; None for nothing.
        version: The client's.
        metrics: This producer's counters, where it is this producer.
    """

    send_and_wait: Callable[[str, bytes], Awaitable[Any]] | None
    version: str
    metrics: Callable[[], dict[str, float]] = field(default=dict[str, float])


@asynccontextmanager
async def _aioproducer(job: Job) -> AsyncGenerator[_Opened, None]:
    from aioproducer import Producer

    async with Producer(bootstrap_servers=job.bootstrap_servers, **job.options) as producer:
        yield _Opened(producer.send_and_wait, version("aioproducer"), producer.metrics)


@asynccontextmanager
async def _aiokafka(job: Job) -> AsyncGenerator[_Opened, None]:
    from aiokafka import AIOKafkaProducer

    producer: Any = AIOKafkaProducer(
        bootstrap_servers=job.bootstrap_servers, acks="all", enable_idempotence=True
    )
    async with producer:
        yield _Opened(producer.send_and_wait, version("aiokafka"))


@asynccontextmanager
async def _no_kafka(_job: Job) -> AsyncGenerator[_Opened, None]:
    yield _Opened(None, platform.python_version())


_CLIENTS: dict[str, Callable[[Job], AbstractAsyncContextManager[_Opened]]] = {
    "aioproducer": _aioproducer,
    "aiokafka": _aiokafka,
    "no_kafka": _no_kafka,
}


def make_app(client: str, job: Job) -> FastAPI:
    """Return the application; its routes are there once the client is connected."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with _CLIENTS[client](job) as opened:
            _add_routes(app, job.topic, opened)
            yield

    return FastAPI(lifespan=lifespan)


def _add_routes(app: FastAPI, topic: str, opened: _Opened) -> None:
    send_and_wait = opened.send_and_wait

    async def post(request: Request) -> dict[str, int]:
        value = await request.body()
        if send_and_wait is None:
            return {"offset": len(value)}
        return {"offset": (await send_and_wait(topic, value)).offset}

    async def counters() -> dict[str, Any]:
        return {"version": opened.version, "metrics": opened.metrics()}

    app.add_api_route("/records", post, methods=["POST"])
    app.add_api_route("/counters", counters)


def main() -> None:
    """Serve until terminated."""
    client, text, descriptor = sys.argv[1:]
    end_with_parent()
    job = Job.from_json(text)
    config = uvicorn.Config(
        make_app(client, job), log_level="error", access_log=False, loop=job.loop
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main()
