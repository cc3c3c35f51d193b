"""Lists of buffers reach the socket whole and in order, however much it takes at a time."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from aioproducer.network.connection import Connection
from aioproducer.network.gathering_writer import GatheringWriter, joins_buffers
from aioproducer.testing import FakeCluster
from tests.support.producing import TOPIC, producing, sender_of

HIGH = 100_000


class Ends:
    """A writer, the other end of its socket, and what it told."""

    def __init__(self, transport: asyncio.Transport, peer: socket.socket) -> None:
        self.peer = peer
        self.transport = transport
        self.notified: list[str] = []
        self.errors: list[OSError] = []
        self.writer = GatheringWriter(
            asyncio.get_running_loop(),
            transport,
            high=HIGH,
            pause=lambda: self.notified.append("pause"),
            resume=lambda: self.notified.append("resume"),
            failed=self.errors.append,
        )

    async def read(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        received = bytearray()
        while len(received) < size:
            received += await loop.sock_recv(self.peer, 65_536)
        return bytes(received)


@asynccontextmanager
async def connected() -> AsyncGenerator[Ends]:
    near, peer = socket.socketpair()
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    ends = Ends(transport, peer)
    try:
        yield ends
    finally:
        ends.writer.close()
        transport.close()
        peer.close()
        await asyncio.sleep(0)


async def test_what_the_socket_takes_is_written_at_once() -> None:
    async with connected() as ends:
        ends.writer.writelines([b"one ", memoryview(b"two "), b"three"])
        assert ends.writer.get_write_buffer_size() == 0
        assert ends.peer.recv(100) == b"one two three"
        assert ends.notified == []


@pytest.mark.parametrize("count", [1, 3, 5_000])
async def test_the_rest_follows_in_order_when_there_is_buffer_space(count: int) -> None:
    chance = random.Random(count)
    chunks = [chance.randbytes(5_000_000 // count) for _ in range(count)]
    async with connected() as ends:
        ends.writer.writelines(chunks)
        assert ends.writer.get_write_buffer_size() > HIGH
        assert ends.notified == ["pause"]
        ends.writer.writelines([b"the end"])
        whole = b"".join([*chunks, b"the end"])
        assert await ends.read(len(whole)) == whole
        assert ends.writer.get_write_buffer_size() == 0
        assert ends.notified == ["pause", "resume"]


async def test_empty_buffers_are_no_obstacle() -> None:
    async with connected() as ends:
        ends.writer.writelines([b"", b"a", b"", b"", b"b", b""])
        ends.writer.writelines([b""])
        ends.writer.writelines([])
        assert ends.writer.get_write_buffer_size() == 0
        assert ends.peer.recv(100) == b"ab"


async def test_the_systems_error_is_reported_once_and_nothing_waits_any_more() -> None:
    async with connected() as ends:
        ends.writer.writelines([bytes(5_000_000)])
        ends.peer.close()
        await asyncio.sleep(0.01)
        (error,) = ends.errors
        assert isinstance(error, ConnectionError)
        assert ends.writer.get_write_buffer_size() == 0


async def test_close_lets_go_of_buffers_and_descriptor() -> None:
    async with connected() as ends:
        buffer = bytearray(5_000_000)
        ends.writer.writelines([memoryview(buffer)])
        ends.writer.close()
        buffer.clear()  # impossible while somebody holds a view of it
        assert ends.writer.fileno() == -1
        ends.transport.abort()
        await asyncio.sleep(0.01)
        received = 0
        while data := ends.peer.recv(65_536):
            received += len(data)
        assert 0 < received < 5_000_000
        assert ends.notified == ["pause"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="asyncio does not join from 3.12 on")
async def test_a_connection_has_one_where_asyncio_would_join() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await producer.send_and_wait(TOPIC, b"42")
        sender = sender_of(producer)
        connection = sender.cluster.connection(0)
        assert isinstance(connection, Connection)
        transport = connection._transport  # pyright: ignore[reportPrivateUsage]
        assert transport is not None
        is_asyncio = type(asyncio.get_running_loop()).__module__.startswith("asyncio")
        assert joins_buffers(transport) is is_asyncio
        writer = connection.writer
        assert isinstance(writer, GatheringWriter) is is_asyncio
