"""An address that leads somewhere else: to a port that may change, as fast as it is allowed to.

For what a `Proxy` does not do: other brokers behind an address that stays, and a slow uplink.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import TracebackType
from typing import Self

__all__ = ["Forwarder", "closed_port"]

_PIECE = 16_384


class Forwarder:
    """Passes every connection on to another port of this machine.

    Args:
        target: As the attribute.
        port: Where to listen; 0 for a free port.
        bytes_per_second: As the attribute.

    Attributes:
        target: The port that new connections lead to.
        port: Where it listens.
        accepted: How many connections there were.
        bytes_per_second: How fast it passes on what clients send; None for at once.
    """

    def __init__(self, target: int, *, port: int = 0, bytes_per_second: int | None = None) -> None:
        self.target = target
        self.port = port
        self.accepted = 0
        self.bytes_per_second = bytes_per_second
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give the port up and end all connections."""
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, other_writer}
        for work in (
            self._pump(reader, other_writer, self.bytes_per_second),
            self._pump(other_reader, writer, None),
        ):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: int | None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                if rate is not None:
                    await asyncio.sleep(len(data) / rate)
                writer.write(data)
                await writer.drain()
        writer.close()


def closed_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
