"""Writes lists of buffers to a socket without joining them, for asyncio on Python 3.11.

There a transport's `writelines` joins the buffers, and copies what the socket does not take at
once; from 3.12 on, and in uvloop, it does neither. The transport beside a writer only reads.

Invariants
* Buffers leave whole, in the order in which they were given; none is copied.
* A buffer is kept until the socket has taken it, or until `close`.
* The descriptor is a duplicate: asyncio lets nobody else watch that of its transport.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import cast

__all__ = ["GatheringWriter", "joins_buffers"]

_MOST_AT_ONCE = 1024
"""IOV_MAX: how many buffers the system takes in one call."""


def joins_buffers(transport: asyncio.Transport) -> bool:
    """Whether the transport joins buffers, and has a socket to write to in its place."""
    return sys.version_info < (3, 12) and type(transport).__name__ == "_SelectorSocketTransport"


class GatheringWriter:
    """Writes to a transport's socket in its place.

    Args:
        loop: The loop of the transport.
        transport: One that reads from the socket, and on which nothing is written.
        high: Bytes that may wait before `pause` is called; at a quarter of it `resume` is.
        pause, resume: As in asyncio's flow control.
        failed: Called with the system's error when the socket is broken.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        *,
        high: int,
        pause: Callable[[], None],
        resume: Callable[[], None],
        failed: Callable[[OSError], None],
    ) -> None:
        self._loop = loop
        self._socket = transport.get_extra_info("socket").dup()
        self._high = high
        self._pause = pause
        self._resume = resume
        self._failed = failed
        self._waiting: deque[bytes | memoryview] = deque()
        self._waiting_bytes = 0
        self._is_paused = False

    def writelines(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Write buffers in order, at once as far as the socket takes them."""
        is_watching = bool(self._waiting)
        self._waiting.extend(chunks)
        self._waiting_bytes += sum(len(chunk) for chunk in chunks)
        if is_watching:
            self._look_at_level()
        elif self._send_waiting():
            self._loop.add_writer(self._socket, self._on_writable)
            self._look_at_level()

    def get_write_buffer_size(self) -> int:
        """The bytes that wait."""
        return self._waiting_bytes

    def close(self) -> None:
        """Close the descriptor and drop what waits."""
        if self._waiting:
            self._loop.remove_writer(self._socket)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._socket.close()

    def fileno(self) -> int:
        """The duplicate descriptor; -1 when closed."""
        return cast(int, self._socket.fileno())

    # ---- inside

    def _on_writable(self) -> None:
        if not self._send_waiting():
            self._loop.remove_writer(self._socket)
        self._look_at_level()

    def _send_waiting(self) -> bool:
        """Write what waits; returns whether some of it is left."""
        while self._waiting:
            try:
                written = self._socket.sendmsg(islice(self._waiting, _MOST_AT_ONCE))
            except (BlockingIOError, InterruptedError):
                return True
            except OSError as error:
                self._waiting.clear()
                self._waiting_bytes = 0
                self._failed(error)
                return False
            self._take_out(written)
        return False

    def _take_out(self, written: int) -> None:
        self._waiting_bytes -= written
        while self._waiting:
            first = self._waiting[0]
            if len(first) > written:
                if written:
                    self._waiting[0] = memoryview(first)[written:]
                return
            written -= len(first)
            self._waiting.popleft()

    def _look_at_level(self) -> None:
        if not self._is_paused and self._waiting_bytes > self._high:
            self._is_paused = True
            self._pause()
        elif self._is_paused and self._waiting_bytes <= self._high // 4:
            self._is_paused = False
            self._resume()
