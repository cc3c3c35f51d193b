"""An ASGI application on a real uvicorn, in the test's own loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Unpack

import httpx
import uvicorn

from aioproducer import ProducerConfig
from aioproducer.config import ProducerOptions
from aioproducer.testing import FakeCluster
from tests.support.producing import fast, until

__all__ = ["client_of", "config_for", "logging_kept", "served"]


def config_for(cluster: FakeCluster, **more: Unpack[ProducerOptions]) -> ProducerConfig:
    """Return options for a FakeCluster, with short timeouts."""
    return ProducerConfig(bootstrap_servers=cluster.bootstrap_servers, **fast(**more))


@contextmanager
def logging_kept() -> Generator[None]:
    """Undo what an application does to the root logger, as Litestar does when it is made."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in [one for one in root.handlers if one not in handlers]:
            root.removeHandler(handler)
            handler.close()
        root.handlers[:] = handlers


@asynccontextmanager
async def served(app: Any) -> AsyncGenerator[str]:
    """Serve an application on a free port; yield its URL, and end it in order.

    Raises:
        RuntimeError: It did not come up.
    """
    config = uvicorn.Config(app, port=0, log_config=None, ws="none", lifespan="on")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started or serving.done())
    if not server.started:
        await serving
        raise RuntimeError("the application did not come up")
    (port,) = (one.getsockname()[1] for each in server.servers for one in each.sockets)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def client_of(app: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """Serve an application; yield a client of it."""
    async with served(app) as url, httpx.AsyncClient(base_url=url, timeout=10) as client:
        yield client
