"""One broker: its listening socket, its connections, and a request's way through it.

FakeCluster owns the brokers. A connection is an asyncio protocol without tasks: a request is read
when its bytes are there, and carried out when those before it on the connection are answered, as
in a real broker. All waiting is `loop.call_later`.

A request that has been taken (it hangs, or is delayed) is carried out when its time comes even if
its connection is gone by then: that is how a batch gets stored behind its producer's back. The
requests behind it are dropped with the connection; but those with acks=0 are not, if the other side
only said that it sends no more.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from aioproducer.testing.apis import APIS
from aioproducer.testing.apis.api_versions import UnsupportedVersion
from aioproducer.testing.apis.base import (
    Api,
    Call,
    CloseConnectionError,
    Later,
    ResetError,
    Response,
    Turn,
)
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.faults import Fail, FaultPlan, Treatment
from aioproducer.testing.observed import FakeRequest
from aioproducer.testing.sasl import FakeSasl, Session
from aioproducer.testing.state import Address, ClusterState
from aioproducer.testing.violations import MAX_IDEMPOTENT_IN_FLIGHT, Watch
from aioproducer.testing.wire import RequestHeader, WireError, Writer

__all__ = ["Broker", "Shared"]

HOST: Final = "127.0.0.1"
MAX_REQUEST_BYTES: Final = 100 * 1024 * 1024
"""What a broker's `socket.request.max.bytes` is by default."""
_MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
_SASL: Final = {"sasl_handshake", "sasl_authenticate"}
_SIZE: Final = struct.Struct(">i")
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Shared:
    """What the brokers of a cluster have in common."""

    state: ClusterState
    plan: FaultPlan
    watch: Watch
    arrived: Callable[[FakeRequest], None]
    tls: ssl.SSLContext | None = None
    sasl: FakeSasl | None = None
    connections: int = 0
    """How many have been made."""


@dataclass(slots=True)
class _Pending:
    """A request that waits for its turn, or has it."""

    api: Api
    header: RequestHeader
    call: Call
    request: FakeRequest
    idempotent: bool
    treatment: Treatment = field(default_factory=Treatment)
    waited: bool = False
    response: Response | None = None
    """What is sent, if it is that of the API."""


class _Unreadable(Exception):
    """The broker closes the connection when it comes to this request."""


class Broker:
    """One node of the cluster."""

    def __init__(self, node_id: int, shared: Shared, port: int = 0) -> None:
        self.node_id = node_id
        self.response_delay = 0.0
        self.has_full_disk = False
        self._is_frozen = False
        self._frozen: list[Callable[[], None]] = []
        self.shared = shared
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._held: list[Callable[[], None]] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._all_gone: asyncio.Future[None] | None = None
        # Bound but not listening: the port stays ours and refuses connections.
        self._bound: socket.socket | None = _bound_socket(port)
        self.address = Address(node_id, HOST, self._bound.getsockname()[1])

    @property
    def accepting(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None

    async def accept(self) -> None:
        """Listen, on the same port as ever."""
        if self._bound is not None:
            bound, self._bound = self._bound, None
            try:
                self._server = await self.loop.create_server(
                    lambda: Connection(self), sock=bound, ssl=self.shared.tls
                )
            except OSError as error:
                bound.close()
                raise _explained(error, self.address.port) from None

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay open."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._bound = _bound_socket(self.address.port)

    def cut(self) -> None:
        """Reset every open connection."""
        for connection in tuple(self.connections):
            connection.reset()

    def release(self) -> None:
        """Carry out, and answer, the requests that hang."""
        held, self._held = self._held, []
        for resume in held:
            resume()

    def freeze(self) -> None:
        """Take requests and do nothing with them."""
        self._is_frozen = True

    def thaw(self) -> None:
        """Go on with the requests that were taken meanwhile."""
        self._is_frozen = False
        frozen, self._frozen = self._frozen, []
        for resume in frozen:
            resume()

    def when_thawed(self, resume: Callable[[], None]) -> None:
        """Go on with a request: now, or when the broker is no longer frozen."""
        if self._is_frozen:
            self._frozen.append(resume)
        else:
            resume()

    def recover(self) -> None:
        """Be neither slow, frozen nor full."""
        self.response_delay = 0.0
        self.has_full_disk = False
        self.thaw()

    def abandon(self) -> None:
        """Close all sockets without waiting for anything: nobody is left who would."""
        self.refuse()
        self.cut()
        if self._bound is not None:
            self._bound.close()
            self._bound = None

    async def stop(self) -> None:
        """Die: refuse and reset connections, forget every request that has been taken."""
        self._held.clear()
        self._frozen.clear()
        self._is_frozen = False  # It is started as a new process.
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.refuse()
        self.cut()
        if self.connections:
            self._all_gone = self.loop.create_future()
            await self._all_gone

    async def aclose(self) -> None:
        """Die and give the port up."""
        await self.stop()
        if self._bound is not None:
            self._bound.close()
            self._bound = None

    def hold(self, resume: Callable[[], None]) -> None:
        """Keep a request until `release`."""
        self._held.append(resume)

    def later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call something later, unless the broker dies first."""

        def fire() -> None:
            self._timers.discard(timer)
            callback()

        timer = self.loop.call_later(seconds, fire)
        self._timers.add(timer)
        return timer

    def forget(self, timer: asyncio.TimerHandle) -> None:
        """Cancel what `later` planned."""
        timer.cancel()
        self._timers.discard(timer)

    def joined(self, connection: Connection) -> int:
        """Count a new connection and return its number."""
        self.connections.add(connection)
        self.shared.connections += 1
        return self.shared.connections

    def left(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        if not self.connections and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)


class Connection(asyncio.Protocol):
    """One connection to a broker: frames in, answers out in the same order."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._shared = broker.shared
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self._session = Session(broker.shared.sasl, broker.loop.time)
        self._buffer = bytearray()
        self._pending: deque[_Pending | _Unreadable] = deque()
        self._pending_bytes = 0
        self._busy = False
        self._advancing = False
        self._reading = True
        self._is_ending = False
        self._taken: _Pending | None = None
        self._idempotent_in_flight = 0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; at a broker that has just stopped accepting, end at once."""
        self._transport = cast("asyncio.Transport", transport)
        self._number = self._broker.joined(self)
        if not self._broker.accepting:
            self.reset()

    def data_received(self, data: bytes) -> None:
        """Take in whole requests and carry out those whose turn it is."""
        self._buffer += data
        while self._transport is not None and len(self._buffer) >= 4:
            (size,) = _SIZE.unpack_from(self._buffer)
            if not 0 <= size <= MAX_REQUEST_BYTES:
                self._shared.watch.request(self._where(), f"a request claims {size} bytes")
                self.reset()
                return
            if len(self._buffer) < 4 + size:
                break
            with memoryview(self._buffer) as view:
                frame = bytes(view[4 : 4 + size])
            del self._buffer[: 4 + size]
            self._arrived(memoryview(frame))
        self._advance()

    def eof_received(self) -> bool:
        """Close, but behind requests with acks=0: who sent them waits for nothing else.

        A broker carries out whatever has arrived before it sees the end. Here requests that
        expect an answer are dropped, so that a test knows which were carried out.
        """
        self._is_ending = True
        # Over TLS, one side cannot end alone.
        return self._busy and self._shared.tls is None and self._expects_no_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what has not been taken yet."""
        self._transport = None
        transactions = self._shared.watch.transactions
        for pending in (*self._pending, *((self._taken,) if self._busy else ())):
            if isinstance(pending, _Pending):
                transactions.over(pending.request)
        transactions.closed(self._number)
        self._pending.clear()
        self._buffer.clear()
        self._broker.left(self)

    # What the broker calls.

    def reset(self) -> None:
        """Close so that the other side sees a reset, whatever is under way."""
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def _expects_no_answer(self) -> bool:
        return all(
            isinstance(pending, _Pending) and pending.request.acks == 0
            for pending in (self._taken, *self._pending)
        )

    # A request's way.

    def _where(self, header: tuple[str, int, int] | None = None) -> str:
        place = f"broker {self._broker.node_id}, connection {self._number}"
        if header is None:
            return place
        name, version, correlation_id = header
        return f"{place}, {name} v{version} (correlation id {correlation_id})"

    def _arrived(self, frame: memoryview) -> None:
        try:
            pending = self._read(frame)
        except (WireError, _Unreadable) as error:
            self._shared.watch.request(self._where(), str(error))
            self._pending.append(_Unreadable())
            return
        self._pending.append(pending)
        self._pending_bytes += len(frame)
        if self._pending_bytes > _MAX_PENDING_BYTES and self._transport and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _read(self, frame: memoryview) -> _Pending:
        key, version, correlation_id = RequestHeader.peek(frame)
        api = APIS.get(key)
        supported = next((api for api in self._shared.state.supported if api.key == key), None)
        if api is None or supported is None:
            raise _Unreadable(f"api key {key} was not offered")
        where = self._where((api.name, version, correlation_id))
        if not supported.min_version <= version <= supported.max_version:
            if api.name == "api_versions":
                header = RequestHeader(key, version, correlation_id, None)
                refusal = UnsupportedVersion(supported, self._shared.state.habits.refusal)
                return self._observed(api, header, refusal, len(frame))
            raise _Unreadable(
                f"{where}: versions {supported.min_version} to {supported.max_version} were offered"
            )
        try:
            header, reader = RequestHeader.read(frame, flexible=api.flexible(version))
            call = api.read(reader, version)
            reader.end()
        except WireError as error:
            raise _Unreadable(f"{where}: {error}") from error
        return self._observed(api, header, call, len(frame))

    def _observed(self, api: Api, header: RequestHeader, call: Call, size: int) -> _Pending:
        state = self._shared.state
        batches = call.batches(state)
        request = FakeRequest(
            api=api.name,
            version=header.version,
            node_id=self._broker.node_id,
            connection=self._number,
            client_id=header.client_id,
            correlation_id=header.correlation_id,
            received_at=self._broker.loop.time(),
            size=size,
            topics=call.topics(state),
            partitions=call.partitions(state),
            batches=batches,
            acks=call.acks,
            transactional_id=call.transactional_id,
            producer_id=call.pid.producer_id,
            producer_epoch=call.pid.epoch,
            group=call.group,
            commit=call.commit,
        )
        self._watch_exchange(api, header)
        idempotent = any(batch.producer_id >= 0 for batch in batches)
        where = self._where((api.name, header.version, header.correlation_id))
        self._shared.watch.transactions.arrived(where, request)
        if api.name == "produce":
            self._shared.watch.produce(where, request, call.records())
            self._idempotent_in_flight += idempotent
            if idempotent and self._idempotent_in_flight > MAX_IDEMPOTENT_IN_FLIGHT:
                self._shared.watch.request(
                    where,
                    f"{self._idempotent_in_flight} requests of an idempotent producer are in "
                    f"flight, {MAX_IDEMPOTENT_IN_FLIGHT} are allowed",
                )
        self._shared.arrived(request)
        return _Pending(api, header, call, request, idempotent)

    def _watch_exchange(self, api: Api, header: RequestHeader) -> None:
        """List a request of a SASL exchange that did not wait for others, or others for it."""
        unanswered = [*self._pending, *((self._taken,) if self._busy else ())]
        names = {one.api.name for one in unanswered if isinstance(one, _Pending)}
        if names and (names | {api.name}) & _SASL:
            self._shared.watch.request(
                self._where((api.name, header.version, header.correlation_id)),
                f"it did not wait for the answer to {', '.join(sorted(names))}",
            )

    def _advance(self) -> None:
        """Take requests until one has to wait."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._pending and not self._busy and self._transport is not None:
                pending = self._pending.popleft()
                if isinstance(pending, _Unreadable):
                    self._pending.clear()
                    self._transport.close()
                    return
                self._busy = True
                self._taken = pending
                self._take(pending)
        finally:
            self._advancing = False
        if self._is_ending and not self._busy and self._transport is not None:
            self._transport.close()

    def _take(self, pending: _Pending) -> None:
        self._pending_bytes -= pending.request.size
        if not self._reading and self._pending_bytes <= _MAX_PENDING_BYTES and self._transport:
            self._reading = True
            self._transport.resume_reading()
        self._broker.when_thawed(lambda: self._treat(pending))

    def _treat(self, pending: _Pending) -> None:
        treatment = pending.treatment = self._shared.plan.for_request(pending.request)
        treatment.delay_after += self._broker.response_delay
        if self._broker.has_full_disk and pending.api.name == "produce":
            treatment.take(Fail(ErrorCode.KAFKA_STORAGE_ERROR))
        if treatment.cut is not None and treatment.cut.when == "before":
            self.reset()
        elif treatment.hang is not None and not treatment.hang.stored:
            self._broker.hold(lambda: self._carry_out(pending))
        elif treatment.delay_before > 0:
            self._broker.later(treatment.delay_before, lambda: self._carry_out(pending))
        else:
            self._carry_out(pending)

    def _carry_out(self, pending: _Pending) -> None:
        treatment = pending.treatment
        state = self._shared.state
        turn = Turn(
            state,
            self._broker.node_id,
            pending.header.version,
            treatment.failures,
            pending.waited,
            self._session,
        )
        if not self._session.allows(pending.api.name):
            if self._transport is not None:
                self._transport.close()
            return
        if treatment.response is not None:
            self._send_later(pending, self._framed(pending, treatment.response.body))
            return
        try:
            response = pending.call.respond(turn)
        except ResetError:
            self.reset()
            return
        except CloseConnectionError:
            if self._transport is not None:
                self._transport.close()
            return
        if isinstance(response, Later):
            self._wait(pending, response.seconds)
            return
        if response is None:
            self._send_later(pending, b"")
            return
        for edit in treatment.edits:
            edit.edit(response)
        if not treatment.mutations:
            pending.response = response
        version = pending.call.response_version(pending.header.version)
        writer = Writer(flexible=pending.api.flexible(version))
        response.encode(writer, version)
        self._send_later(pending, self._framed(pending, writer.data))

    def _framed(self, pending: _Pending, body: bytes | bytearray) -> bytes:
        """Return the whole response: size, header and body, changed as a test wants."""
        version = pending.call.response_version(pending.header.version)
        header = Writer(
            flexible=pending.api.flexible_response_header and pending.api.flexible(version)
        )
        header.int32(pending.header.correlation_id)
        header.tags()
        payload = bytes(header.data + body)
        mutations = pending.treatment.mutations
        for mutation in mutations:
            if not mutation.framed:
                payload = mutation.mutate(payload)
        frame = _SIZE.pack(len(payload)) + payload
        for mutation in mutations:
            if mutation.framed:
                frame = mutation.mutate(frame)
        return frame

    def _wait(self, pending: _Pending, seconds: float) -> None:
        """Ask the call again as soon as records are stored, and at last after a while."""

        def again() -> None:
            self._broker.forget(timer)
            if self._transport is not None:
                self._carry_out(pending)

        def time_is_over() -> None:
            pending.waited = True
            if wake in self._shared.state.on_append:
                self._shared.state.on_append.remove(wake)
            if self._transport is not None:
                self._carry_out(pending)

        def wake() -> None:
            # Not from within the Produce request that stores them.
            self._broker.loop.call_soon(again)

        timer = self._broker.later(seconds, time_is_over)
        self._shared.state.on_append.append(wake)

    def _send_later(self, pending: _Pending, frame: bytes) -> None:
        treatment = pending.treatment
        if treatment.cut is not None:
            self.reset()
        elif treatment.hang is not None and treatment.hang.stored:
            self._broker.hold(lambda: self._send(pending, frame))
        elif treatment.delay_after > 0:
            self._broker.later(treatment.delay_after, lambda: self._send(pending, frame))
        else:
            self._send(pending, frame)

    def _send(self, pending: _Pending, frame: bytes) -> None:
        if self._transport is None:
            return
        if frame:
            self._transport.write(frame)
        self._shared.watch.transactions.answered(pending.request, pending.response)
        self._idempotent_in_flight -= pending.idempotent
        self._busy = False
        self._advance()


def _bound_socket(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only where the protocol is named. Without it a second response waits
    # 40 ms, until the client acknowledges the first.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind((HOST, port))
    except OSError as error:
        bound.close()
        raise _explained(error, port) from None
    except BaseException:
        bound.close()
        raise
    return bound


def _explained(error: OSError, port: int) -> OSError:
    """Return the error, with the port that is taken."""
    if error.errno != errno.EADDRINUSE:
        return error
    return OSError(
        errno.EADDRINUSE,
        f"port {port} of {HOST} is taken: does another FakeCluster, or a Kafka, listen there?",
    )
