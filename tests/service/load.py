"""The HTTP clients: `python -m tests.service.load PLAN`, started by the runner.

Each client has a connection, and sends its next request when it has the response to the last, or
some time later if a 503 says Retry-After. A client whose connection ends makes another one, for as
long as the server takes any. Orders come on standard input, a word a line: `go`, `end`; at the end
of the input the clients end too. Nothing here knows of the faults.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, cast

from benchmarks.route.responses import Response, response_of
from tests.service.calls import HUNG_UP, NO_ANSWER, Call, write_calls

__all__ = ["Plan"]

_LONGEST_PAUSE = 1.0
"""Seconds: no run is long enough to obey a longer Retry-After."""

_RECONNECT_PAUSE = 0.05
_PATIENCE = 30.0
_LONGEST_LISTENING = 0.1
_IMPATIENT_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What the clients do.

    Attributes:
        port: The server's, on 127.0.0.1.
        clients: How many.
        nonce: Stands in every record.
        path: Where to write the requests down.
        impatient: The share of clients that hang up on each of their requests.
        clicks: The share of requests that are clicks: answered before their record is stored.
    """

    port: int
    clients: int
    nonce: str
    path: str
    impatient: float = 0.0
    clicks: float = 0.0

    def to_json(self) -> str:
        """Return it for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


class _Connection(asyncio.Protocol):
    """One keep-alive connection, for one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._waiter: asyncio.Future[Response] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    async def ask(self, request: bytes) -> Response:
        """Send a request and return the response.

        Raises:
            ConnectionError: The connection ended first.
        """
        self._received = b""
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def hang_up(self) -> None:
        """Close the connection, whatever is under way."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            response = response_of(self._received)
        except ConnectionError as error:
            self._fail(error)
            return
        if response is not None and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(response)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionError("the server closed the connection"))

    def _fail(self, error: ConnectionError) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self._transport.abort()


class _Client:
    """Sends one request after the other."""

    def __init__(self, plan: Plan, number: int, over: asyncio.Event) -> None:
        self._plan = plan
        self._number = number
        self._over = over
        self._random = random.Random(f"{plan.nonce} {number}")
        self._is_impatient = number < plan.impatient * plan.clients
        self._connection: _Connection | None = None
        self.calls: list[Call] = []

    async def connect(self) -> None:
        """Make sure of a connection, if the server takes any."""
        if self._connection is not None and self._connection.is_open:
            return
        loop = asyncio.get_running_loop()
        try:
            _, self._connection = await loop.create_connection(
                _Connection, "127.0.0.1", self._plan.port
            )
        except OSError:
            self._connection = None

    async def run(self) -> None:
        """Send until it is over, and have an outcome for each request."""
        while not self._over.is_set():
            await self.connect()
            if self._connection is None:
                await self._pause(_RECONNECT_PAUSE)
                continue
            call = self._next_call()
            try:
                await self._send(self._connection, call)
            except (ConnectionError, TimeoutError):
                call.status = NO_ANSWER
                self._connection.hang_up()
            call.ended_at = time.monotonic()
            if call.retry_after is not None:
                await self._pause(min(call.retry_after, _LONGEST_PAUSE))
            elif self._is_impatient:
                # Not to measure how many connections the server takes.
                await self._pause(_IMPATIENT_PAUSE)
        if self._connection is not None:
            self._connection.hang_up()

    async def _send(self, connection: _Connection, call: Call) -> None:
        listening = self._random.random() * _LONGEST_LISTENING if self._is_impatient else _PATIENCE
        call.sent_at = time.monotonic()
        try:
            async with asyncio.timeout(listening):
                response = await connection.ask(self._request(call))
        except TimeoutError:
            connection.hang_up()
            if not self._is_impatient:
                raise
            call.status = HUNG_UP
            return
        if response.header("connection") == "close":
            connection.hang_up()
        call.status = response.status
        retry_after = response.header("retry-after")
        call.retry_after = None if retry_after is None else int(retry_after)
        if call.is_stored:
            place = json.loads(response.body)
            call.partition, call.offset = place["partition"], place["offset"]

    def _next_call(self) -> Call:
        is_click = self._random.random() < self._plan.clicks
        call = Call(self._number, len(self.calls), is_click, time.monotonic())
        self.calls.append(call)
        return call

    def _request(self, call: Call) -> bytes:
        path = "/clicks" if call.is_click else f"/payments/card-{self._number}"
        body = f"{self._plan.nonce} {call.client} {call.number}"
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass


async def _run(plan: Plan) -> None:
    over = asyncio.Event()
    clients = [_Client(plan, number, over) for number in range(plan.clients)]
    for client in clients:
        await client.connect()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    running = [asyncio.create_task(client.run()) for client in clients]
    await asyncio.to_thread(sys.stdin.readline)
    over.set()
    await asyncio.gather(*running)
    write_calls(Path(plan.path), [call for client in clients for call in client.calls])


def main() -> None:
    """Be the clients of the plan on the command line."""
    # What the clients write down grows and grows, and to look through it again and again would be
    # the longest that any response takes.
    gc.disable()
    asyncio.run(_run(Plan.from_json(sys.argv[1])))


if __name__ == "__main__":
    main()
