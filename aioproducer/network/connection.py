"""One connection to one broker. Owns its socket and the requests without a response yet.

    state               what may be sent
    CONNECTING          nothing: TCP, and TLS on it, are not up yet
    NEGOTIATING         ApiVersions
    AUTHENTICATING      the SASL exchange
    READY               every request
    REAUTHENTICATING    the SASL exchange, once the requests in flight have their responses; others
                        wait, and go first when it is READY again (KIP-368)
    CLOSING             nothing: it ends when those in flight have their responses, or has ended

Before it is READY, the other side may be anybody: its responses are bounded to 512 KiB.

Invariants
* Responses come in the order of the requests. Each request ends exactly once: with its response,
  or with the error that ended the connection. `on_response` runs in a callback of the loop, never
  inside the call of `send`.
* A request that expects no response (`acks=0`) may get one all the same. Its correlation id lies
  between those of the last response and of the next one due; any other id is a `ProtocolError`.
* Large buffers are never joined or copied: a request is a list of buffers, handed as it is to the
  transport, or to a `GatheringWriter` where the transport would join them.
* Nothing is sent behind a request of a SASL exchange before that has its response: the broker would
  take it for a part of the exchange.
* A request's timeout ends the connection: responses come in order, so none of the later requests
  could get its own before the one that is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from aioproducer._native.core_connection import CoreConnection
from aioproducer.background import Background, Threads, Timer
from aioproducer.errors import KafkaError, NetworkError, ProtocolError, broker_error
from aioproducer.errors.base import seconds
from aioproducer.network.gathering_writer import GatheringWriter, joins_buffers
from aioproducer.network.metadata import BrokerAddress
from aioproducer.network.refusals import Refusals
from aioproducer.network.sasl.exchange import Mechanism
from aioproducer.network.tls import Tls
from aioproducer.protocol.api_versions import API_VERSIONS, REFUSALS, ApiVersionsRequest
from aioproducer.protocol.frames import (
    MAX_FRAME_SIZE,
    FrameDecoder,
    decode_response,
    encode_request,
    read_correlation_id,
)
from aioproducer.protocol.produce import PRODUCE
from aioproducer.protocol.schema import Api
from aioproducer.protocol.versions import broker_ranges, choose_version, runs_transactions_v2

__all__ = [
    "BufferedConnection",
    "Connection",
    "ConnectionOptions",
    "ConnectionState",
    "describe",
]

logger = logging.getLogger(__name__)

Req = TypeVar("Req", bound="tuple[object, ...]")
Resp = TypeVar("Resp", bound="tuple[object, ...]")

_CORRELATION_IDS = 0x7FFFFFFF
"""The largest correlation id; the one after it is 0."""
_DRAIN_POLL = 0.001
"""Seconds between two looks at a transport's buffer: asyncio does not notify when it is empty."""
_SILENCE = 1.0
"""Seconds of silence after which a broker counts as having read the requests with acks=0."""
_LOGIN_THREADS = 16
"""A function that hangs may hold so many, whatever number of connections log in."""
_CLIENT_SOFTWARE = "aioproducer"
_MAX_FRAME_OF_A_STRANGER = 512 * 1024
"""The largest response taken before the connection is READY, in bytes; they have some kilobytes."""


class ConnectionState(enum.Enum):
    """How far a connection is; the module's docstring says what may be sent in each."""

    CONNECTING = "connecting"
    NEGOTIATING = "negotiating"
    AUTHENTICATING = "authenticating"
    READY = "ready"
    REAUTHENTICATING = "re-authenticating"
    CLOSING = "closing"


class ConnectionOptions:
    """What every connection of a producer has in common.

    Attributes:
        client_id: Sent with each request.
        client_version: Sent once per connection (KIP-511).
        tls: Makes the TLS context; None for no TLS.
        mechanism: How to log in by SASL; None for no SASL.
        send_buffer_bytes: SO_SNDBUF; -1 leaves it to the system.
        receive_buffer_bytes: SO_RCVBUF; -1 leaves it to the system.
        write_buffer_bytes: How much may wait in the transport before `is_writable` turns false.
        login_threads: Where what a login needs is fetched, if that may block.
        refusals: The addresses that refused us. Kept by connecting.py.
        asked_for_v0_until: Peers that hung up on a newer ApiVersions, by host and port: until
            then, on the loop's clock, they get version 0 at once. Kept by connecting.py.
    """

    __slots__ = (
        "asked_for_v0_until",
        "client_id",
        "client_version",
        "login_threads",
        "mechanism",
        "receive_buffer_bytes",
        "refusals",
        "send_buffer_bytes",
        "tls",
        "write_buffer_bytes",
    )

    def __init__(
        self,
        client_id: str,
        client_version: str,
        *,
        tls: Tls | None = None,
        mechanism: Mechanism | None = None,
        send_buffer_bytes: int = -1,
        receive_buffer_bytes: int = -1,
        write_buffer_bytes: int = 1 << 20,
    ) -> None:
        self.client_id = client_id
        self.client_version = client_version
        self.tls = tls
        self.mechanism = mechanism
        self.send_buffer_bytes = send_buffer_bytes
        self.receive_buffer_bytes = receive_buffer_bytes
        self.write_buffer_bytes = write_buffer_bytes
        self.login_threads = Threads(_LOGIN_THREADS, name="aioproducer-sasl")
        self.refusals = Refusals()
        self.asked_for_v0_until: dict[tuple[str, int], float] = {}


class _Pending:
    """A request that waits for its response."""

    __slots__ = ("api", "correlation_id", "deadline", "on_response", "timeout", "version")

    def __init__(
        self,
        api: Api[Any, Any],
        version: int,
        correlation_id: int,
        timeout: float,
        deadline: float,
        on_response: Callable[[Any, KafkaError | None], None],
    ) -> None:
        self.api = api
        self.version = version
        self.correlation_id = correlation_id
        self.timeout = timeout
        self.deadline = deadline
        self.on_response = on_response


class _Waiting(NamedTuple):
    """A request that is sent when the connection has re-authenticated."""

    api: Api[Any, Any]
    version: int
    request: Any
    timeout: float
    on_response: Callable[[Any, KafkaError | None], None] | None


class Connection(CoreConnection, asyncio.Protocol):
    """Sends requests and matches the responses.

    Attributes:
        address: The broker.
        on_lost: Called once with the reason when the connection ended.
        on_writable: Called when `is_writable` turns true again.
        on_drained: Called whenever the last request in flight has its response.
        on_unneeded_response: Called with each response to a request that expects none (`acks=0`).
        closed: Done when the connection has ended.
        unanswered_since: Since when the broker had owed a response when the connection ended; None
            if it owed none.
    """

    def __init__(
        self,
        background: Background,
        address: BrokerAddress,
        options: ConnectionOptions,
    ) -> None:
        super().__init__(background.time)
        loop = background.loop
        self.address = address
        self.on_lost: Callable[[KafkaError], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.on_drained: Callable[[], None] | None = None
        self.on_unneeded_response: Callable[[Any], None] | None = None
        self._background = background
        self._loop = loop
        self._options = options
        self._transport: asyncio.Transport | None = None
        self._stage = ConnectionState.CONNECTING
        self._frames = FrameDecoder(max_frame_size=_MAX_FRAME_OF_A_STRANGER)
        self._unneeded: tuple[Api[Any, Any], int] | None = None
        """API and version of the last request that expects no response."""
        self._timer = Timer(background, self._check_timeout)
        self._versions: dict[int, tuple[int, int]] = {}
        self.runs_transactions_v2 = False
        self._end_reason: KafkaError | None = None
        self.closed: asyncio.Future[None] = loop.create_future()
        self.unanswered_since: float | None = None
        self._waiting: list[_Waiting] = []
        """The requests that came while it re-authenticates."""
        self._is_full = False
        """The transport's buffer is too full for another large request."""
        self._answered: asyncio.Future[None] | None = None
        """Done when the requests in flight have their responses, while somebody waits for that."""

    def __repr__(self) -> str:
        return f"<Connection {self.address} {self.state.value} pending={self.pending_count}>"

    @property
    def state(self) -> ConnectionState:
        """How far the connection is."""
        has_begun = self._transport is not None
        if self._end_reason is not None or self.is_leaving or (has_begun and not self.is_open):
            return ConnectionState.CLOSING
        return self._stage

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The connection's TLS; None for plain text."""
        if self._transport is None:
            return None
        return cast("ssl.SSLObject | None", self._transport.get_extra_info("ssl_object"))

    # ---- requests

    def version_for(self, api: Api[Req, Resp], *, at_most: int | None = None) -> int:
        """The version of an API to speak with this broker, `at_most` if given.

        Raises:
            UnsupportedVersionError: No version is common.
        """
        return choose_version(api, self._versions, at_most=at_most)

    def send(
        self,
        api: Api[Req, Resp],
        version: int,
        request: Req,
        *,
        timeout: float,
        on_response: Callable[[Resp | None, KafkaError | None], None] | None,
    ) -> None:
        """Send a request.

        Args:
            api: Which API.
            version: From `version_for`.
            request: The request's value.
            timeout: Seconds the broker may take; then the connection is closed.
            on_response: Called once with the response, or with the error; None when the request
                expects no response (`acks=0`).
        """
        if self._stage is ConnectionState.REAUTHENTICATING:
            if not self.is_open:
                raise NetworkError("The connection is closed", broker=str(self.address))
            self._waiting.append(_Waiting(api, version, request, timeout, on_response))
            return
        self._send(api, version, request, timeout, on_response)

    def _send(
        self,
        api: Api[Req, Resp],
        version: int,
        request: Req,
        timeout: float,
        on_response: Callable[[Resp | None, KafkaError | None], None] | None,
    ) -> None:
        now = self._background.time()
        correlation_id = self.send_chunks(api, version, request, now)
        if on_response is not None:
            deadline = now + timeout
            pending = _Pending(api, version, correlation_id, timeout, deadline, on_response)
            self.expect(pending, deadline, now)
        else:
            self._unneeded = (api, version)

    def send_chunks(self, api: Api[Req, Resp], version: int, request: Req, now: float) -> int:
        """Write a request; returns its correlation id."""
        if self._transport is not None and self._transport.is_closing():
            # asyncio closes a transport a turn before it calls `connection_lost`. A write in
            # between is a TypeError or, from Python 3.12 on, leaves the descriptor in the selector:
            # the next socket with the same descriptor is then never reported writable.
            self.is_open = False
        if not self.is_open:
            raise NetworkError("The connection is closed", broker=str(self.address))
        correlation_id = self.take_correlation_id()
        self.write(encode_request(api, version, correlation_id, self._options.client_id, request))
        self.last_used_at = now
        return correlation_id

    async def request(
        self, api: Api[Req, Resp], version: int, request: Req, *, timeout: float
    ) -> Resp:
        """Send a request and wait for its response.

        Raises:
            NetworkError: The connection ended first; the broker may have acted on the request.
        """
        received, on_response = self._response_of(api)
        self.send(api, version, request, timeout=timeout, on_response=on_response)
        return await received

    async def request_of_exchange(self, api: Api[Req, Resp], request: Req, timeout: float) -> Resp:
        """Send a request of a SASL exchange and wait for its response.

        Raises:
            NetworkError: The connection ended first.
        """
        received, on_response = self._response_of(api)
        self._send(api, self.version_for(api), request, timeout, on_response)
        return await received

    def _response_of(
        self, api: Api[Req, Resp]
    ) -> tuple[asyncio.Future[Resp], Callable[[Resp | None, KafkaError | None], None]]:
        """Return the future of a response, and what resolves it."""
        received: asyncio.Future[Resp] = self._loop.create_future()

        def on_response(response: Resp | None, error: KafkaError | None) -> None:
            if received.done():
                return
            if response is None:
                assert error is not None, api.name
                received.set_exception(error)
            else:
                received.set_result(response)

        return received, on_response

    async def negotiate(self, *, timeout: float, at_most: int = API_VERSIONS.max_version) -> None:
        """Learn the versions the broker speaks (KIP-35, KIP-511).

        A broker that refuses a version of ApiVersions is asked again, in the newest version that
        it offers, or in version 0 where its offer cannot be read.

        Args:
            timeout: Seconds for each response.
            at_most: The version to ask in first.

        Raises:
            NetworkError: The broker hung up, or sent something that is no response.
            KafkaError: It refuses version 0 too.
        """
        if self._end_reason is not None:
            # The other side sent something first, or hung up.
            raise self._end_reason
        request = ApiVersionsRequest(_CLIENT_SOFTWARE, self._options.client_version)
        version = at_most
        response = await self.request(API_VERSIONS, version, request, timeout=timeout)
        while response.error_code in REFUSALS and version > 0:
            _, offered = broker_ranges(response).get(API_VERSIONS.key, (0, 0))
            version = max(0, min(version - 1, offered))
            response = await self.request(API_VERSIONS, version, request, timeout=timeout)
        if response.error_code:
            raise broker_error(response.error_code, broker=str(self.address))
        self._versions = broker_ranges(response)
        self.runs_transactions_v2 = runs_transactions_v2(response)
        with contextlib.suppress(KafkaError):
            self.produce_version = self.version_for(PRODUCE)

    # ---- authenticating

    def authenticates(self) -> None:
        """The first SASL exchange begins."""
        self._stage = ConnectionState.AUTHENTICATING

    async def hold(self) -> None:
        """Let requests wait from now on; returns when those in flight have their responses."""
        self._stage = ConnectionState.REAUTHENTICATING
        self.is_writable = False
        if self.pending:
            answered = self._answered = self._loop.create_future()
            await asyncio.wait((answered, self.closed), return_when=asyncio.FIRST_COMPLETED)

    def ready(self) -> None:
        """Take requests from now on, those first that waited."""
        was_held = self._stage is ConnectionState.REAUTHENTICATING
        self._stage = ConnectionState.READY
        self._frames.max_frame_size = MAX_FRAME_SIZE
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            try:
                self._send(*one)
            except NetworkError as error:
                # The transport has just closed.
                if one.on_response is not None:
                    one.on_response(None, error)
        if was_held and not self._is_full:
            self._writable()

    # ---- ending

    def abort(self, reason: KafkaError) -> None:
        """End the connection now; what is pending fails with `reason`."""
        if self._end_reason is None:
            self._end_reason = reason
        self.end()
        if self._transport is not None:
            self._transport.abort()

    def leave_behind(self) -> None:
        """Point the descriptors at another socket, in the child of a fork.

        Closing the copy of the transport would not do: both processes share one epoll, and the
        close would remove the parent's socket from it.
        """
        self.end()
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        writer = self.writer if isinstance(self.writer, GatheringWriter) else None
        for one in (sock, writer):
            if one is not None and one.fileno() >= 0:
                with socket.socket() as nowhere:
                    os.dup2(nowhere.fileno(), one.fileno(), inheritable=False)

    async def drain(self) -> None:
        """Return once all that was sent has left the transport, or the connection ended."""
        while self.is_open and self.writer is not None:
            if not self.writer.get_write_buffer_size():
                return
            await asyncio.sleep(_DRAIN_POLL)

    async def finish(self, request_timeout: float) -> None:
        """Wait until the broker has read all requests with acks=0: after `drain`, before `close`.

        A broker that responds to them all the same could lose some otherwise:
        1. We send a hundred requests and close the socket.
        2. By then the broker has read ten of them and sent ten responses, which nobody has read.
        3. A socket that is closed with unread bytes sends a reset, and the reset discards what the
           broker has received and not read yet.
        So we half-close the socket and read to the end. TLS has no half-close: there we send one
        more request, whose response says that the broker has read all before it.

        The wait ends when the broker sends nothing for a second.

        Args:
            request_timeout: Seconds for the response to that last request.
        """
        if self._unneeded is None or self.response_id == self.correlation_id:
            return
        if not self.is_open or self._transport is None or self.writer is None:
            return
        if self._transport.is_closing():
            # asyncio calls `connection_lost` a turn later.
            return
        if self.writer.get_write_buffer_size():
            # `drain` was given up before the socket took everything.
            return
        if not self._transport.can_write_eof():
            await self._wait_unless_silent(self._last_response(request_timeout))
            return
        self.end()
        self._end_reason = self._network_error("The client closed the connection")
        with contextlib.suppress(OSError, RuntimeError):  # The socket is closed already.
            self._transport.write_eof()
            await self._wait_unless_silent(self.closed)

    def _last_response(self, timeout: float) -> asyncio.Future[None]:
        """Done when the broker has responded to a request that is sent now, or has hung up."""
        answered: asyncio.Future[None] = self._loop.create_future()

        def on_response(response: object, error: KafkaError | None) -> None:
            if not answered.done():
                answered.set_result(None)

        request = ApiVersionsRequest()
        self.send(API_VERSIONS, 0, request, timeout=timeout, on_response=on_response)
        return answered

    async def _wait_unless_silent(self, over: asyncio.Future[None]) -> None:
        silent_at = self._loop.time() + _SILENCE
        while not over.done() and (left := silent_at - self._loop.time()) > 0:
            await asyncio.wait((over,), timeout=left)
            silent_at = max(silent_at, self.last_used_at + _SILENCE)

    async def close(self) -> None:
        """End the connection; returns when its socket is closed."""
        self.abort(self._network_error("The client closed the connection"))
        if self._transport is not None:
            await asyncio.shield(self.closed)

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket up; asyncio calls this once."""
        # uvloop's transports do not inherit from asyncio's.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        self._stage = ConnectionState.NEGOTIATING
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # As Java does: the system notices when the path to an idle broker dies silently.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._options.send_buffer_bytes >= 0:
                sock.setsockopt(
                    socket.SOL_SOCKET, socket.SO_SNDBUF, self._options.send_buffer_bytes
                )
            if self._options.receive_buffer_bytes >= 0:
                sock.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVBUF, self._options.receive_buffer_bytes
                )
        # Native code writes to the socket itself, unless the transport changes the bytes (TLS).
        fd = -1 if sock is None or self.tls is not None else sock.fileno()
        self.begin(self._make_writer(transport), os.dup(fd) if fd >= 0 else -1)

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Hand chunks to the transport, unless it is closing."""
        if self._transport is None or self._transport.is_closing():
            # These bytes are lost, so no others may follow.
            self.end()
            return
        super().write(chunks)

    def drained(self) -> None:
        """Every request has its response."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)
        if self.on_drained is not None:
            self.on_drained()

    def take_slowly(self, data: bytes) -> bool:
        """Take what the broker sent; returns whether a part of a frame is left."""
        try:
            for frame in self._frames.feed(data):
                self._take_response(frame)
            if not self.pending:
                self.drained()
        except ProtocolError as error:
            # While connecting, the error of `connect` reports it.
            level = logging.WARNING if self._versions else logging.DEBUG
            logger.log(level, "Closing the connection to %s: %s", self.address, error)
            reason = self._network_error(f"The broker sent what is no Kafka answer: {error}")
            reason.__cause__ = error
            self.abort(reason)
        except (SystemExit, KeyboardInterrupt):
            # A woken task raised it. The loop takes the frames behind this one.
            self._background.call_soon(self.data_received, b"")
            raise
        return self._frames.pending_bytes > 0

    def check_timeout_at(self, deadline: float) -> None:
        """Check for a request that has waited too long, at `deadline` or earlier."""
        self._timer.set_by(deadline)

    def eof_received(self) -> None:
        """Have asyncio close the transport: a broker never half-closes."""
        if self._end_reason is None:
            # New requests have to use the next connection.
            self.end()

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._is_full = True
        self.is_writable = False

    def resume_writing(self) -> None:
        """The transport's buffer has space again."""
        self._is_full = False
        if self._stage is not ConnectionState.REAUTHENTICATING:
            self._writable()

    def _writable(self) -> None:
        self.is_writable = True
        if self.on_writable is not None:
            self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is pending, in order, and notify the owner."""
        self.end()
        if isinstance(self.writer, GatheringWriter):
            self.writer.close()
        self._timer.cancel()
        if self._end_reason is None:
            said = "The broker closed the connection" if exc is None else describe(exc)
            self._end_reason = self._network_error(said)
            self._end_reason.__cause__ = exc
        reason = self._end_reason
        if self.pending:
            now = self._background.time()
            self.unanswered_since = now - self.silent_for(now)
        if not self.closed.done():
            self.closed.set_result(None)
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
        self.pending.extend(one for one in self._waiting if one.on_response is not None)
        self._waiting.clear()
        while self.pending:
            try:
                self.pending.popleft().on_response(None, reason)
            except (SystemExit, KeyboardInterrupt):
                self._background.call_soon(self._fail_pending, reason)
                raise

    def _take_response(self, frame: bytes | memoryview) -> None:
        correlation_id = read_correlation_id(frame)
        pending = self.pending[0] if self.pending else None
        if pending is None or correlation_id != pending.correlation_id:
            self._take_unneeded_response(correlation_id, frame)
            return
        if self.take_plain_success(frame):
            return
        _, response = decode_response(pending.api, pending.version, frame)
        self.pending.popleft()
        self.response_id = correlation_id
        self._take_throttle(pending.api, pending.version, response)
        pending.on_response(response, None)

    def _take_unneeded_response(self, correlation_id: int, frame: bytes | memoryview) -> None:
        """Take the response to a request that expects none; refuse any other."""
        if self._unneeded is None or not self._is_unneeded(correlation_id):
            if not self.pending:
                raise ProtocolError("an answer that nothing asked for")
            raise ProtocolError(
                f"the answer to request {correlation_id} where the one to request"
                f" {self.pending[0].correlation_id} was due"
            )
        self.response_id = correlation_id
        api, version = self._unneeded
        try:
            _, response = decode_response(api, version, frame)
        except ProtocolError as error:
            # It is not needed, and may be unreadable: empty, or of an earlier request's version.
            logger.debug("An answer of %s that nobody needs is no answer: %s", self.address, error)
            return
        self._take_throttle(api, version, response)
        if self.on_unneeded_response is not None:
            self.on_unneeded_response(response)

    def _is_unneeded(self, correlation_id: int) -> bool:
        """Whether a request of this id was sent and expects no response.

        Responses come in order, and each request that expects one is in `pending`: so the requests
        between the last response and the next one due expect none.
        """
        if not 0 <= correlation_id <= _CORRELATION_IDS:
            return False
        last = self.pending[0].correlation_id - 1 if self.pending else self.correlation_id
        passed = (correlation_id - self.response_id) & _CORRELATION_IDS
        return 0 < passed <= (last - self.response_id) & _CORRELATION_IDS

    def _take_throttle(self, api: Api[Any, Any], version: int, response: object) -> None:
        throttle_ms = getattr(response, "throttle_time_ms", 0)
        if throttle_ms and version >= api.pause_from:
            until = self._loop.time() + throttle_ms / 1000
            self.throttled_until = max(self.throttled_until, until)

    def _check_timeout(self) -> None:
        if not self.pending:
            self.timeout_checked(0.0)
            return
        # Not always the first: requests while connecting have another timeout.
        pending = min(self.pending, key=lambda pending: pending.deadline)
        if self._loop.time() < pending.deadline:
            self.timeout_checked(pending.deadline)
            return
        self.abort(
            self._network_error(
                f"The broker did not answer a {pending.api.name} request within"
                f" {seconds(pending.timeout)}"
            )
        )

    def _network_error(self, message: str) -> NetworkError:
        # The outcome of all requests in flight is unknown.
        return NetworkError(message, broker=str(self.address), possibly_persisted=True)


class BufferedConnection(Connection, asyncio.BufferedProtocol):
    """A connection whose loop reads into one buffer: cheaper where the loop is asyncio's."""


def describe(error: Exception) -> str:
    """What went wrong on a socket, in a few words."""
    if isinstance(error, KafkaError):
        return str(error)
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"the TLS connection failed ({error.reason})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
