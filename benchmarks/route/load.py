"""The load: `python -m benchmarks.route.load PORT CLIENTS BYTES SECONDS`.

Each client has a connection, and sends its next request when it has the response to the last. It
is a bare asyncio protocol, for whatever the load computes is missing to the server. First it warms
the server up and says so; it measures when it reads a line, and answers with a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Self, cast

from benchmarks.jobs import percentiles
from benchmarks.route.responses import response_of

__all__ = ["WARM_UP", "Answer"]

WARM_UP = 0.7
"""Seconds of requests before those that count."""

_GRACE = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one phase of the load showed.

    Attributes:
        requests: Answered with success, all that were sent.
        seconds: From the first request to the last response.
        latency_ms: As in a Measurement.
    """

    requests: int
    seconds: float
    latency_ms: dict[str, float]

    def to_json(self) -> str:
        """Return it as one line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


class _Client(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = b""
        self._until = 0.0
        self._latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def start(self, until: float, latencies: list[float]) -> None:
        """Send requests until then, and at least one; `done` tells when all are answered."""
        self._until, self._latencies = until, latencies
        self.done = asyncio.get_running_loop().create_future()
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        response = response_of(self._received)
        if response is None:
            return
        if response.status != 200:
            self._fail(ConnectionError(f"the server answered {self._received[:200]!r}"))
            return
        self._received = b""
        now = time.perf_counter()
        self._latencies.append(now - self._sent_at)
        if now < self._until:
            self._send()
        else:
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def _phase(clients: list[_Client], seconds: float) -> Answer:
    latencies: list[float] = []
    started = time.perf_counter()
    for client in clients:
        client.start(started + seconds, latencies)
    async with asyncio.timeout(seconds + _GRACE):
        await asyncio.gather(*[client.done for client in clients])
    spent = time.perf_counter() - started
    return Answer(len(latencies), spent, percentiles(latencies))


async def _run(port: int, count: int, size: int, seconds: float) -> None:
    head = f"POST /records HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n"
    request = head.encode() + b"x" * size
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Client(request), "127.0.0.1", port))[1]
        for _ in range(count)
    ]
    print((await _phase(clients, WARM_UP)).to_json(), flush=True)
    # Nothing is under way: the harness reads the counters now, and the loop may stand still.
    if sys.stdin.readline():
        print((await _phase(clients, seconds)).to_json(), flush=True)
    for client in clients:
        client.transport.close()


def main() -> None:
    """Do what the command line says."""
    port, count, size, seconds = sys.argv[1:]
    asyncio.run(_run(int(port), int(count), int(size), float(seconds)))


if __name__ == "__main__":
    main()
