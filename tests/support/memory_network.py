"""A network inside one event loop: connections that neither the system nor the clock delays.

Loopback delivers when the kernel gets to it, which on a busy machine may be later than a timer
that a jumping clock has just passed. Here what is sent arrives in one of the loop's next turns,
so that the same program runs the same way each time. Servers are known by the address that the
socket given to `create_server` is bound to; the socket itself is only kept, so that its port stays
taken.

As over TCP, bytes arrive in other pieces than they were sent in, what was sent before a `close` or
a `write_eof` arrives, and SO_LINGER with 0 seconds turns an `abort` into a reset, which takes along
what has not been read yet.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
from collections import deque
from collections.abc import Callable, Iterable

from tests.support.virtual_time import VirtualTimeLoop

__all__ = ["MemoryNetworkLoop"]

_HIGH_WATER = 64 * 1024


class MemoryNetworkLoop(VirtualTimeLoop):
    """A loop with a jumping clock whose TCP connections live in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[int, _Server] = {}
        self.open_transports: set[_Transport] = set()

    def open_sockets(self) -> list[int]:
        """The descriptors that the loop watches, and the ports of connections and servers."""
        ports = [transport.port for transport in self.open_transports]
        return [*super().open_sockets(), *ports, *self.servers]

    async def create_server(  # type: ignore[override]
        self, factory: Callable[[], asyncio.Protocol], *, sock: socket.socket, ssl: None = None
    ) -> _Server:
        """Accept connections to the port that a socket is bound to."""
        return _Server(self, factory, sock)

    async def create_connection(  # type: ignore[override]
        self,
        factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        ssl: None = None,
        server_hostname: str | None = None,
    ) -> tuple[_Transport, asyncio.Protocol]:
        """Connect to a server of this loop."""
        await asyncio.sleep(0)
        server = self.servers.get(port)
        if server is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        protocol = factory()
        near, far = _Transport(self, port, protocol), _Transport(self, port, server.factory())
        near.peer, far.peer = far, near
        far.begin()
        near.begin()
        await asyncio.sleep(0)
        return near, protocol


class _Server:
    def __init__(
        self,
        loop: MemoryNetworkLoop,
        factory: Callable[[], asyncio.Protocol],
        bound: socket.socket,
    ) -> None:
        self.factory = factory
        self._loop = loop
        self._bound = bound
        self._port: int = bound.getsockname()[1]
        loop.servers[self._port] = self

    def close(self) -> None:
        if self._loop.servers.get(self._port) is self:
            del self._loop.servers[self._port]
        self._bound.close()


class _Socket:
    """What the two sides may ask of a connection's socket."""

    def __init__(self) -> None:
        self.resets = False

    def setsockopt(self, level: int, option: int, value: object) -> None:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self.resets = True

    def fileno(self) -> int:
        return -1


class _Transport(asyncio.Transport):
    peer: _Transport

    def __init__(self, loop: MemoryNetworkLoop, port: int, protocol: asyncio.Protocol) -> None:
        super().__init__({"socket": _Socket()})
        self.port = port
        self._loop = loop
        self._protocol = protocol
        self._sent: deque[bytes] = deque()
        """What has left this side and not arrived at the other."""
        self._size = 0
        self._high = _HIGH_WATER
        self._is_paused = False
        self._is_reading = True
        self._is_ending = False
        self._has_ended = False
        self._is_closing = False
        self._is_over = False
        self._is_under_way = False

    def begin(self) -> None:
        self._loop.open_transports.add(self)
        self._protocol.connection_made(self)

    # ---- what a protocol calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if self._is_closing or self._is_ending:
            return
        data = b"".join(list_of_data)
        # In pieces of its own: a reader must not count on those of the writer.
        cut = random.randrange(len(data) + 1) if len(data) > 1 else 0
        self._sent.extend(piece for piece in (data[:cut], data[cut:]) if piece)
        self._size += len(data)
        if self._size > self._high and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()
        self._go_on()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = _HIGH_WATER if high is None else high

    def get_write_buffer_size(self) -> int:
        return self._size

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._is_ending:
            self._is_ending = True
            self._go_on()

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self._is_reading and not self._is_closing

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self.peer._go_on()

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._go_on()

    def abort(self) -> None:
        if self._is_over:
            return
        sock: _Socket = self.get_extra_info("socket")
        self._is_closing = True
        self._loop.call_soon(self._end, None)
        if sock.resets:
            self._sent.clear()
            error = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            self._loop.call_soon(self.peer._end, error)

    # ---- under way

    def _go_on(self) -> None:
        if not self._is_under_way:
            self._is_under_way = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._is_under_way = False
        peer = self.peer
        if peer._is_closing:
            self._sent.clear()
        elif not peer._is_reading:
            return
        if self._sent:
            data = self._sent.popleft()
            self._size -= len(data)
            if self._is_paused and not self._size:
                self._is_paused = False
                if not self._is_over:
                    self._protocol.resume_writing()
            peer._protocol.data_received(data)
            self._go_on()
        elif self._is_closing:
            self._end(None)
            self._loop.call_soon(peer._hear_end)
        elif self._is_ending and not self._has_ended:
            self._has_ended = True
            self._loop.call_soon(peer._hear_end)

    def _hear_end(self) -> None:
        if not self._is_closing and not self._protocol.eof_received():
            self.close()

    def _end(self, error: Exception | None) -> None:
        """Tell the protocol that the connection is over, once."""
        if self._is_over:
            return
        self._is_over = self._is_closing = True
        self._loop.open_transports.discard(self)
        self._protocol.connection_lost(error)
        if error is None:
            self._go_on()
