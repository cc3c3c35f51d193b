"""The server: `python -m tests.service.serve APP FD`, started by the runner.

Serves one of the applications on a socket that listens already, as `uvicorn APP
--timeout-graceful-shutdown 10` or aiohttp's `run_app` do, until SIGTERM. All run on plain asyncio.
What the server logs goes to standard error.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping

from benchmarks.route.children import end_with_parent

__all__ = ["APPS", "OURS", "PEERS"]

OURS: Mapping[str, str] = {
    "aioproducer": "examples.fastapi_app:app",
    "aioproducer-aiohttp": "examples.aiohttp_app:make_app",
    "aioproducer-litestar": "examples.litestar_app:app",
}
"""The examples, by the names of the results."""

PEERS: Mapping[str, str] = {
    "aiokafka": "tests.service.peers:aiokafka_app",
    "confluent-kafka": "tests.service.peers:confluent_app",
}
"""The same application with other clients, by the name of the package that it needs."""

APPS: Mapping[str, str] = {**OURS, **PEERS}

_GRACEFUL_SHUTDOWN = 10


def main() -> None:
    """Serve until terminated."""
    name, descriptor = sys.argv[1:]
    # The runner holds the other end: no server outlives it, however it ends.
    end_with_parent()
    listening = socket.socket(fileno=int(descriptor))
    if name == "aioproducer-aiohttp":
        _serve_aiohttp(listening)
    else:
        _serve_uvicorn(name, listening)


def _serve_uvicorn(name: str, listening: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        APPS[name],
        factory=name in PEERS,
        loop="asyncio",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACEFUL_SHUTDOWN,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _serve_aiohttp(listening: socket.socket) -> None:
    from aiohttp import web

    from examples.aiohttp_app import make_app

    web.run_app(
        make_app(),
        sock=listening,
        shutdown_timeout=_GRACEFUL_SHUTDOWN,
        access_log=None,
        print=lambda *_: None,
    )


if __name__ == "__main__":
    main()
