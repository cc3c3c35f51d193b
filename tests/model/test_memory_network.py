"""The network of the model tests: what TCP does to a client and its server, without the system."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.support.memory_network import MemoryNetworkLoop
from tests.support.virtual_time import run


class Side(asyncio.Protocol):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.data = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool | None:
        self.heard.append("eof")
        return None

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append("lost" if exc is None else type(exc).__name__)


@asynccontextmanager
async def connected(far: Side | None = None) -> AsyncGenerator[tuple[Side, Side], None]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MemoryNetworkLoop)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    port: int = bound.getsockname()[1]
    near, far = Side(), far or Side()
    server = await loop.create_server(lambda: far, sock=bound)
    await loop.create_connection(lambda: near, "127.0.0.1", port)
    yield near, far
    server.close()
    await asyncio.sleep(1)
    assert loop.open_sockets() == []
    with pytest.raises(ConnectionRefusedError):
        await loop.create_connection(Side, "127.0.0.1", port)


def test_what_is_written_arrives_before_the_end() -> None:
    async def main() -> None:
        async with connected() as (near, far):
            assert near.transport is not None
            near.transport.writelines([b"one ", b"two"])
            near.transport.close()
            await asyncio.sleep(1)
            assert (bytes(far.data), far.heard, near.heard) == (
                b"one two",
                ["eof", "lost"],
                ["lost"],
            )

    run(main(), MemoryNetworkLoop)


def test_a_side_that_has_ended_still_hears_the_other() -> None:
    class Answering(Side):
        def eof_received(self) -> bool:
            self.heard.append("eof")
            return True

    async def main() -> None:
        async with connected(Answering()) as (near, far):
            assert near.transport is not None
            assert far.transport is not None
            near.transport.write(b"sent")
            near.transport.write_eof()
            near.transport.write(b"too late")
            await asyncio.sleep(1)
            assert (bytes(far.data), far.heard, near.heard) == (b"sent", ["eof"], [])
            far.transport.write(b"answer")
            far.transport.close()
            await asyncio.sleep(1)
            assert (bytes(near.data), near.heard) == (b"answer", ["eof", "lost"])
            assert far.heard == ["eof", "lost"]

    run(main(), MemoryNetworkLoop)


def test_an_abort_ends_the_other_side_as_a_close_does() -> None:
    async def main() -> None:
        async with connected() as (near, far):
            assert near.transport is not None
            near.transport.write(b"sent")
            near.transport.abort()
            await asyncio.sleep(1)
            assert (bytes(far.data), far.heard, near.heard) == (b"sent", ["eof", "lost"], ["lost"])

    run(main(), MemoryNetworkLoop)


def test_an_abort_with_linger_0_is_a_reset_and_takes_along_what_was_not_read() -> None:
    async def main() -> None:
        async with connected() as (near, far):
            assert near.transport is not None
            sock = near.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            near.transport.write(b"sent")
            near.transport.abort()
            await asyncio.sleep(1)
            assert (bytes(far.data), far.heard, near.heard) == (
                b"",
                ["ConnectionResetError"],
                ["lost"],
            )

    run(main(), MemoryNetworkLoop)


def test_a_writer_is_paused_while_the_other_side_does_not_read() -> None:
    async def main() -> None:
        async with connected() as (near, far):
            assert near.transport is not None
            assert far.transport is not None
            far.transport.pause_reading()
            near.transport.set_write_buffer_limits(high=1_000)
            near.transport.write(bytes(2_000))
            await asyncio.sleep(1)
            assert (near.heard, near.transport.get_write_buffer_size()) == (["pause"], 2_000)

            far.transport.resume_reading()
            await asyncio.sleep(1)
            assert (near.heard, len(far.data)) == (["pause", "resume"], 2_000)
            near.transport.close()

    run(main(), MemoryNetworkLoop)
