"""One connection to one broker.

Made by connecting.py; requests are sent by cluster.py and sender.py.

Invariants
* Answers come in the order of the requests. Each request ends exactly once: with its answer, or
  with the error that ended the connection. `on_answer` runs in the loop's own callback, never
  inside the call of `send`.
* Nothing is joined or copied on the way out: a request is a list of buffers, handed on as it is
  to the transport, or to a `GatheringWriter` where the transport would join them.
* A broker that does not answer within a request's timeout loses the connection: what it still
  has to say can no longer be told from what is asked next.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from aioproducer.errors import (
    KafkaError,
    NetworkError,
    ProtocolError,
    broker_error,
)
from aioproducer.gathering_writer import GatheringWriter, joins_buffers
from aioproducer.metadata import BrokerAddress
from aioproducer.protocol.api_versions import API_VERSIONS, ApiVersionsRequest
from aioproducer.protocol.frames import FrameDecoder, decode_response, encode_request
from aioproducer.protocol.schema import Api
from aioproducer.protocol.versions import broker_ranges, choose_version

__all__ = ["Connection", "ConnectionOptions", "describe"]

logger = logging.getLogger(__name__)

Req = TypeVar("Req", bound="tuple[object, ...]")
Resp = TypeVar("Resp", bound="tuple[object, ...]")

_UNSUPPORTED_VERSION = 35
_DRAIN_POLL = 0.001
"""Seconds between two looks at a transport's buffer: asyncio does not tell when it is empty."""
_CLIENT_SOFTWARE = "aioproducer"


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What every connection of a producer has in common.

    Attributes:
        client_id: Sent with each request.
        client_version: Told to the broker once per connection (KIP-511).
        ssl_context: TLS when given.
        send_buffer_bytes: SO_SNDBUF; -1 leaves it to the system.
        receive_buffer_bytes: SO_RCVBUF; -1 leaves it to the system.
        write_buffer_bytes: How much may wait in the transport before `is_writable` turns false.
    """

    client_id: str
    client_version: str
    ssl_context: ssl.SSLContext | None = None
    send_buffer_bytes: int = -1
    receive_buffer_bytes: int = -1
    write_buffer_bytes: int = 1 << 20


@dataclass(slots=True)
class _Pending:
    api: Api[Any, Any]
    version: int
    correlation_id: int
    deadline: float
    on_answer: Callable[[Any, KafkaError | None], None]


class Connection(asyncio.Protocol):
    """Sends requests and matches the answers.

    Attributes:
        address: The broker.
        is_open: False as soon as the connection ended, from either side.
        is_writable: False while the transport's buffer is too full for another large request.
        throttled_until: The broker asked for a pause until then, on the loop's clock (KIP-219). It
            reads nothing before, whatever is sent.
        last_used_at: When something was last sent or received, on the loop's clock.
        on_lost: Called once with the reason when the connection ended.
        on_writable: Called when `is_writable` turns true again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: BrokerAddress,
        options: ConnectionOptions,
    ) -> None:
        self.address = address
        self.is_open = False
        self.is_writable = True
        self.throttled_until = 0.0
        self.last_used_at = loop.time()
        self.on_lost: Callable[[KafkaError], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self._loop = loop
        self._options = options
        self._transport: asyncio.Transport | None = None
        self._writer: asyncio.Transport | GatheringWriter | None = None
        self._frames = FrameDecoder()
        self._pending: deque[_Pending] = deque()
        self._correlation_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._versions: dict[int, tuple[int, int]] = {}
        self._end_reason: KafkaError | None = None
        self._closed: asyncio.Future[None] = loop.create_future()

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<Connection {self.address} {state} pending={len(self._pending)}>"

    # ---- requests

    @property
    def pending_count(self) -> int:
        """Requests sent and not answered."""
        return len(self._pending)

    def version_for(self, api: Api[Req, Resp], *, at_most: int | None = None) -> int:
        """The version of an API to speak with this broker, `at_most` if given.

        Raises:
            UnsupportedVersionError: There is none in common.
        """
        return choose_version(api, self._versions, at_most=at_most)

    def send(
        self,
        api: Api[Req, Resp],
        version: int,
        request: Req,
        *,
        timeout: float,
        on_answer: Callable[[Resp | None, KafkaError | None], None] | None,
    ) -> None:
        """Send a request.

        Args:
            api: Which API.
            version: From `version_for`.
            request: The request's value.
            timeout: Seconds the broker may take; then the connection is closed.
            on_answer: Called once with the response, or with the error; None when the broker
                does not answer (`acks=0`).
        """
        if not self.is_open or self._writer is None:
            raise NetworkError("The connection is closed", broker=str(self.address))
        self._correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
        chunks = encode_request(
            api, version, self._correlation_id, self._options.client_id, request
        )
        now = self._loop.time()
        self.last_used_at = now
        self._writer.writelines(chunks)
        if on_answer is not None:
            pending = _Pending(api, version, self._correlation_id, now + timeout, on_answer)
            self._pending.append(pending)
            if self._timer is None or pending.deadline < self._timer_at:
                self._check_timeout_at(pending.deadline)

    async def request(
        self, api: Api[Req, Resp], version: int, request: Req, *, timeout: float
    ) -> Resp:
        """Send a request and wait for its response.

        Raises:
            NetworkError: The connection ended first; the broker may have acted on the request.
        """
        answer: asyncio.Future[Resp] = self._loop.create_future()

        def on_answer(response: Resp | None, error: KafkaError | None) -> None:
            if answer.done():
                return
            if response is None:
                assert error is not None
                answer.set_exception(error)
            else:
                answer.set_result(response)

        self.send(api, version, request, timeout=timeout, on_answer=on_answer)
        return await answer

    async def negotiate(self, *, timeout: float) -> None:
        """Learn the versions the broker speaks (KIP-35, KIP-511)."""
        request = ApiVersionsRequest(_CLIENT_SOFTWARE, self._options.client_version)
        version = API_VERSIONS.max_version
        response = await self.request(API_VERSIONS, version, request, timeout=timeout)
        if response.error_code == _UNSUPPORTED_VERSION:
            offered = {key.api_key: key.max_version for key in response.api_keys}
            version = max(0, min(version - 1, offered.get(API_VERSIONS.key, 0)))
            response = await self.request(API_VERSIONS, version, request, timeout=timeout)
        if response.error_code:
            raise broker_error(response.error_code, broker=str(self.address))
        self._versions = broker_ranges(response)

    # ---- ending

    def abort(self, reason: KafkaError) -> None:
        """End the connection now; what is pending fails with `reason`."""
        if self._end_reason is None:
            self._end_reason = reason
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def leave_behind(self) -> None:
        """In the child of a fork: let its descriptor lead nowhere, and the parent's alone.

        To close the copy of the transport would not do: the two processes' loops share one epoll,
        from which that takes the parent's socket.
        """
        self.is_open = False
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        writer = self._writer if isinstance(self._writer, GatheringWriter) else None
        for one in (sock, writer):
            if one is not None and one.fileno() >= 0:
                with socket.socket() as nowhere:
                    os.dup2(nowhere.fileno(), one.fileno(), inheritable=False)

    async def drain(self) -> None:
        """Return once all that was sent has left the transport, or the connection ended."""
        while self.is_open and self._writer is not None:
            if not self._writer.get_write_buffer_size():
                return
            await asyncio.sleep(_DRAIN_POLL)

    async def close(self) -> None:
        """End the connection; returns when its socket is closed."""
        self.abort(self._network_error("The client closed the connection"))
        if self._transport is not None:
            await asyncio.shield(self._closed)

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket up; asyncio calls this once."""
        # uvloop's transports do not inherit from asyncio's.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._options.send_buffer_bytes >= 0:
                sock.setsockopt(
                    socket.SOL_SOCKET, socket.SO_SNDBUF, self._options.send_buffer_bytes
                )
            if self._options.receive_buffer_bytes >= 0:
                sock.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVBUF, self._options.receive_buffer_bytes
                )
        self._writer = self._make_writer(transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Take what the broker sent."""
        self.last_used_at = self._loop.time()
        try:
            for frame in self._frames.feed(data):
                self._take_answer(frame)
        except ProtocolError as error:
            logger.warning("Closing the connection to %s: %s", self.address, error)
            self.abort(self._network_error(f"The broker sent what is no Kafka answer: {error}"))
        except (SystemExit, KeyboardInterrupt):
            # From a task that was told of its record: the answers behind this one still count.
            self._loop.call_soon(self.data_received, b"")
            raise

    def eof_received(self) -> None:
        """Have asyncio close the transport: a broker never half-closes."""

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        self.is_writable = True
        if self.on_writable is not None:
            self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is pending, in order, and tell the owner."""
        self.is_open = False
        if isinstance(self._writer, GatheringWriter):
            self._writer.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        reason = self._end_reason
        if reason is None:
            said = "The broker closed the connection" if exc is None else describe(exc)
            reason = self._network_error(said)
        if not self._closed.done():
            self._closed.set_result(None)
        try:
            self._fail_pending(reason)
        finally:
            if self.on_lost is not None:
                self.on_lost(reason)

    # ---- inside

    def _make_writer(self, transport: asyncio.Transport) -> asyncio.Transport | GatheringWriter:
        high = self._options.write_buffer_bytes
        if not joins_buffers(transport):
            transport.set_write_buffer_limits(high=high)
            return transport
        return GatheringWriter(
            self._loop,
            transport,
            high=high,
            pause=self.pause_writing,
            resume=self.resume_writing,
            failed=self._cannot_write,
        )

    def _cannot_write(self, error: OSError) -> None:
        self.abort(self._network_error(describe(error)))

    def _fail_pending(self, reason: KafkaError) -> None:
        while self._pending:
            try:
                self._pending.popleft().on_answer(None, reason)
            except (SystemExit, KeyboardInterrupt):
                self._loop.call_soon(self._fail_pending, reason)
                raise

    def _take_answer(self, frame: bytes | memoryview) -> None:
        if not self._pending:
            raise ProtocolError("an answer that nothing asked for")
        pending = self._pending[0]
        correlation_id, response = decode_response(pending.api, pending.version, frame)
        if correlation_id != pending.correlation_id:
            raise ProtocolError(
                f"the answer to request {correlation_id} where the one to request"
                f" {pending.correlation_id} was due"
            )
        self._pending.popleft()
        if throttle_ms := getattr(response, "throttle_time_ms", 0):
            until = self._loop.time() + throttle_ms / 1000
            self.throttled_until = max(self.throttled_until, until)
        pending.on_answer(response, None)

    def _check_timeout_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._check_timeout)

    def _check_timeout(self) -> None:
        self._timer = None
        if not self._pending:
            return
        # Not always the first one's: what is sent while connecting may take longer.
        pending = min(self._pending, key=lambda pending: pending.deadline)
        if self._loop.time() < pending.deadline:
            self._check_timeout_at(pending.deadline)
            return
        self.abort(
            self._network_error(
                f"The broker did not answer a {pending.api.name} request within request_timeout_ms"
            )
        )

    def _network_error(self, message: str) -> NetworkError:
        # It stands for requests that were handed to the socket: who knows what became of them.
        return NetworkError(message, broker=str(self.address), possibly_persisted=True)


def describe(error: Exception) -> str:
    """What went wrong on a socket, in a few words."""
    if isinstance(error, KafkaError):
        return str(error)
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
