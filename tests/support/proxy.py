"""A faulty network: TCP proxies between a producer and its brokers.

For a FakeCluster, `faulty_network` puts one `Proxy` before each broker and has the cluster
advertise it, so that every byte passes here. A proxy splits both directions into Kafka frames, so
it knows to which request or response a byte belongs. It applies the faults that the test orders;
it never makes a byte up. `until_happened` waits until a fault has happened, so no test has to
sleep.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from aioproducer.testing import ApiName, FakeCluster

__all__ = ["Direction", "Ending", "FaultyNetwork", "Proxy", "faulty_network"]

HOST: Final = "127.0.0.1"
_KEYS: Final[dict[int, ApiName]] = {
    0: "produce",
    3: "metadata",
    18: "api_versions",
    22: "init_producer_id",
    24: "add_partitions_to_txn",
    26: "end_txn",
}
"""The APIs that a cut may name."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_READ_SIZE: Final = 1 << 16

Ending: TypeAlias = Literal["close", "reset", "half-close", "stall", "hold"]
"""What a cut does behind its last byte: FIN or RST on both sides, FIN in its own direction only
(the other one goes on), nothing at all any more in its direction, or nothing until `let_go`, even
if whoever sent it has hung up by then."""


@dataclass(slots=True)
class _Cut:
    api: ApiName
    after: int
    ending: Ending
    left: int | None


class _Ended(Exception):
    """The connection is over."""


class Direction:
    """What happens to the bytes of one direction through one proxy.

    Attributes:
        delay: Seconds that every piece waits before it is passed on.
        piece_size: How many bytes are passed on at once; None for what was read.
        passed: How many bytes were passed on so far.
        happened: How often each thing came true: "cut", "stalled".
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.piece_size: int | None = None
        self.passed = 0
        self.happened: Counter[str] = Counter()
        self._cuts: list[_Cut] = []
        self._is_flowing = asyncio.Event()
        self._is_flowing.set()
        self._let_go = asyncio.Event()
        self._changed = asyncio.Condition()

    def stall(self) -> None:
        """Pass nothing on until `flow`; connections stay open."""
        self._is_flowing.clear()

    def flow(self) -> None:
        """Pass everything on again, what was held back first; forget cuts, delay and dripping."""
        self._is_flowing.set()
        self._cuts.clear()
        self.delay = 0.0
        self.piece_size = None

    def cut(
        self, api: ApiName, after: int, ending: Ending = "reset", *, count: int | None = 1
    ) -> None:
        """End connections in the middle of a frame.

        Args:
            api: The API whose next request or answer is cut.
            after: How many bytes of the frame, its size included, are passed on before; one
                that is shorter is cut behind its last byte.
            ending: What happens then.
            count: How many frames are cut, one after the other; None for all.
        """
        self._cuts.append(_Cut(api, after, ending, count))

    def let_go(self) -> None:
        """Pass on what cuts hold."""
        self._let_go.set()
        self._let_go.clear()

    async def until_happened(self, what: str, count: int = 1) -> None:
        """Wait until something came true so often since the start."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.happened[what] >= count)

    async def _notify(self, what: str) -> None:
        self.happened[what] += 1
        async with self._changed:
            self._changed.notify_all()

    def _find_cut(self, piece: _Piece) -> _Cut | None:
        for cut in self._cuts:
            at = min(cut.after, piece.frame_size)
            if cut.api == piece.api and piece.start <= at <= piece.start + len(piece.data):
                if cut.left is not None:
                    cut.left -= 1
                    if not cut.left:
                        self._cuts.remove(cut)
                return cut
        return None

    async def pass_on(self, piece: _Piece, target: socket.socket) -> Ending | None:
        """Send a piece of a frame, or as much of it as a cut leaves; return how it was cut."""
        cut = self._find_cut(piece)
        data = piece.data
        if cut is not None:
            data = data[: min(cut.after, piece.frame_size) - piece.start]
        await self._send(data, target)
        if cut is None:
            return None
        await self._notify("cut")
        if cut.ending != "hold":
            return cut.ending
        await self._let_go.wait()
        await self._send(piece.data[len(data) :], target)
        return None

    async def _send(self, data: bytes, target: socket.socket) -> None:
        size = self.piece_size or len(data)
        for start in range(0, len(data), max(size, 1)):
            if self.delay:
                await asyncio.sleep(self.delay)
            if not self._is_flowing.is_set():
                await self._notify("stalled")
                await self._is_flowing.wait()
            part = data[start : start + size]
            try:
                await asyncio.get_running_loop().sock_sendall(target, part)
            except OSError:
                raise _Ended from None
            self.passed += len(part)
            if self.piece_size:
                # Each part is to arrive by itself.
                await asyncio.sleep(0)


@dataclass(slots=True)
class _Piece:
    """Bytes of one frame: from `start` on, its 4 bytes of size included."""

    api: ApiName | None
    frame_size: int
    start: int
    data: bytes


class _Frames:
    """Cuts one direction of one connection into pieces that each belong to one frame."""

    def __init__(self, asked: deque[ApiName | None], *, are_answers: bool) -> None:
        self._asked = asked
        self._are_answers = are_answers
        self._buffer = b""
        self._api: ApiName | None = None
        self._size = 0
        self._start = 0

    def feed(self, data: bytes) -> Iterator[_Piece]:
        self._buffer += data
        # A request tells its API behind its size.
        head = 4 if self._are_answers else 6
        while self._buffer:
            if self._start == self._size:
                if len(self._buffer) < head:
                    return
                self._size = 4 + int.from_bytes(self._buffer[:4], "big")
                self._start = 0
                if self._are_answers:
                    self._api = self._asked.popleft()
                else:
                    self._api = _KEYS.get(int.from_bytes(self._buffer[4:6], "big"))
                    self._asked.append(self._api)
            end = self._size - self._start
            piece = _Piece(self._api, self._size, self._start, self._buffer[:end])
            self._buffer = self._buffer[end:]
            self._start += len(piece.data)
            yield piece


class Proxy:
    """What stands before one broker.

    Args:
        broker_port: The broker's.
        port: Where to listen; 0 for a free port.

    Attributes:
        requests: The way from the producer to the broker.
        answers: The way back.
        accepted: How many connections were accepted.
    """

    def __init__(self, broker_port: int, port: int = 0) -> None:
        self.requests = Direction()
        self.answers = Direction()
        self.accepted = 0
        self._broker_port = broker_port
        self._listener = socket.socket()
        self._listener.setblocking(False)
        self._listener.bind((HOST, port))
        self._listener.listen(16)
        self.port: int = self._listener.getsockname()[1]
        self._is_black_hole = False
        self._fillers: list[socket.socket] = []
        self._pairs: dict[asyncio.Task[None], list[socket.socket]] = {}
        self._has_accepted = asyncio.Condition()
        self._accepting = self._start_accepting()

    # What a test orders.

    def black_hole(self) -> None:
        """Accept connections, read what comes, and never answer; open ones, too, until `heal`."""
        self._is_black_hole = True
        self.answers.stall()

    async def stop_accepting(self) -> None:
        """Leave attempts to connect without any response, as a firewall does that drops packets.

        On Linux a listener whose backlog is full does just that.
        """
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.listen(0)
        filler = socket.socket()
        filler.setblocking(False)
        self._fillers.append(filler)
        await asyncio.get_running_loop().sock_connect(filler, (HOST, self.port))

    def heal(self) -> None:
        """Pass everything on. Connections made to a black hole are reset: nobody is behind them."""
        was_black_hole, self._is_black_hole = self._is_black_hole, False
        self.requests.flow()
        self.answers.flow()
        if was_black_hole:
            self.reset()
        if self._fillers:
            for filler in self._fillers:
                filler.close()
            self._fillers.clear()
            self._listener.listen(16)
            self._accepting = self._start_accepting()

    def reset(self) -> None:
        """Reset every open connection, on both sides."""
        for task, pair in self._pairs.items():
            _reset_on_close(pair)
            task.cancel()

    def half_close(self) -> None:
        """End the way to the producer in good order, as a broker does that shuts down."""
        for pair in self._pairs.values():
            with contextlib.suppress(OSError):
                pair[0].shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """End everything."""
        tasks = [self._accepting, *self._pairs]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for filler in self._fillers:
            filler.close()
        self._listener.close()

    async def until_accepted(self, count: int) -> None:
        """Wait until so many connections were accepted since the start."""
        async with self._has_accepted:
            await self._has_accepted.wait_for(lambda: self.accepted >= count)

    # Inside.

    def _start_accepting(self) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            pair = [client]
            task = loop.create_task(self._serve(pair))
            self._pairs[task] = pair
            task.add_done_callback(self._served)
            async with self._has_accepted:
                self._has_accepted.notify_all()

    def _served(self, task: asyncio.Task[None]) -> None:
        # Not at the end of the task: one that is cancelled at once never begins.
        for each in self._pairs.pop(task):
            each.close()

    async def _serve(self, pair: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        client = pair[0]
        tasks: list[asyncio.Task[None]] = []
        try:
            if self._is_black_hole:
                await _swallow(client)
                return
            broker = socket.socket()
            pair.append(broker)
            broker.setblocking(False)
            broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(broker, (HOST, self._broker_port))
            asked: deque[ApiName | None] = deque()
            tasks = [
                loop.create_task(
                    self._pump(client, broker, self.requests, _Frames(asked, are_answers=False))
                ),
                loop.create_task(
                    self._pump(broker, client, self.answers, _Frames(asked, are_answers=True))
                ),
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            if any(isinstance(task.exception(), ConnectionResetError) for task in done):
                _reset_on_close(pair)
        except ConnectionError:
            _reset_on_close(pair)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(
        self, source: socket.socket, target: socket.socket, direction: Direction, frames: _Frames
    ) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, _READ_SIZE):
            for piece in frames.feed(data):
                ending = await direction.pass_on(piece, target)
                if ending == "reset":
                    raise ConnectionResetError
                if ending == "close":
                    raise _Ended
                if ending is not None:
                    if ending == "half-close":
                        target.shutdown(socket.SHUT_WR)
                    await _swallow(source)
                    return
        if direction is self.answers:
            # A broker that closes has closed both ways.
            raise _Ended
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


class FaultyNetwork(dict[int, Proxy]):
    """The proxies by node id."""

    def heal(self) -> None:
        """Heal all of them."""
        for proxy in self.values():
            proxy.heal()


async def _swallow(source: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(source, _READ_SIZE):
        pass


def _reset_on_close(pair: list[socket.socket]) -> None:
    for each in pair:
        with contextlib.suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


@asynccontextmanager
async def faulty_network(cluster: FakeCluster) -> AsyncGenerator[FaultyNetwork, None]:
    """Put a proxy before each broker of a started cluster."""
    network = FaultyNetwork()
    try:
        for node_id, port in cluster.ports.items():
            proxy = network[node_id] = Proxy(port)
            cluster.advertise(node_id, HOST, proxy.port)
        yield network
    finally:
        for proxy in network.values():
            await proxy.aclose()
