"""Opens connections: resolves the host name, and takes the first of its addresses to answer.

A connection from here is usable: TCP (and TLS) are set up, and the broker's API versions are
known. If there is none, the error gives the reason for each address.

Invariants
* A connection that was opened and is not needed is closed, also when the caller was cancelled.
* A broker that hangs up on a newer ApiVersions is asked again in version 0, on a new connection.
  That it hung up is remembered for seconds only: a broker that restarts looks the same.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

import async_timeout

from aioproducer.background import Background
from aioproducer.errors import KafkaConnectionError, KafkaError, NetworkError
from aioproducer.errors.base import seconds
from aioproducer.network.connection import (
    BufferedConnection,
    Connection,
    ConnectionOptions,
    describe,
)
from aioproducer.network.metadata import BrokerAddress
from aioproducer.protocol.api_versions import API_VERSIONS
from aioproducer.protocol.frames import OtherProtocolError

__all__ = ["Progress", "connect", "first_to_respond"]

logger = logging.getLogger(__name__)

_ASK_FOR_V0 = 10.0
"""Seconds for which a peer that hung up on a newer ApiVersions gets version 0 at once."""
_HANDSHAKE_MARGIN = 0.2
"""A TLS handshake is given up so many seconds before the attempt ends: so the error can say that
the handshake failed, and not TCP."""
_NEXT_AFTER = 0.25
"""Seconds of silence before the next address is tried, too."""
_CONNECT_ERRORS = (OSError, KafkaError, ValueError, OverflowError)
"""ValueError and OverflowError: a broker advertised an invalid address."""


class Progress:
    """How far an attempt to connect has got at each address, to explain its end.

    Args:
        address: The broker.
        uses_tls: Whether the connection uses TLS.
    """

    def __init__(self, address: BrokerAddress, *, uses_tls: bool) -> None:
        self._address = address
        self._uses_tls = uses_tls
        self._reasons: dict[str, str] = {}

    def waits(self, host: str) -> None:
        """An address is connected; its ApiVersions response is awaited."""
        self._reasons.setdefault(host, "")

    def failed(self, host: str, reason: str) -> None:
        """An address failed, or hung up once."""
        self._reasons[host] = reason

    def reasons(self, hosts: Iterable[str] = (), *, within: str = "") -> dict[str, str]:
        """Why there is no connection yet, by address.

        Args:
            hosts: All addresses; those known so far by default.
            within: How long each was waited for, as " within 10 s".
        """
        all_hosts = dict.fromkeys((*hosts, *self._reasons))
        if not all_hosts:
            return {str(self._address): f"no answer{within}"}
        return {
            self._name(host, is_alone=len(all_hosts) == 1): self._reason(host, within)
            for host in all_hosts
        }

    def _name(self, host: str, *, is_alone: bool) -> str:
        return str(self._address) if is_alone else f"{self._address} ({host})"

    def _reason(self, host: str, within: str) -> str:
        reason = self._reasons.get(host)
        if reason is None:
            return f"no answer{within}"
        security = "SASL" if self._uses_tls else "TLS or SASL"
        return reason or (
            f"accepted the connection and gave no answer{within}: is {security} expected there,"
            " is it no Kafka broker, or does it hang?"
        )


async def connect(
    address: BrokerAddress,
    options: ConnectionOptions,
    *,
    timeout: float,
    progress: Progress | None = None,
) -> Connection:
    """Open a connection and learn the broker's versions.

    Args:
        address: The broker. The host name is resolved each time and all of its addresses are
            tried (KIP-302), each a little after the one before. The first to answer wins, so an
            address that never answers costs little.
        options: What all connections have in common.
        timeout: Seconds for everything together.
        progress: Kept up to date, for a caller that may cancel this call.

    Raises:
        KafkaConnectionError: No address could be connected; `reasons` says why.
    """
    if progress is None:
        progress = Progress(address, uses_tls=options.ssl_context is not None)
    hosts: list[str] = []
    try:
        async with async_timeout.timeout(timeout):
            hosts = await _resolve(address.host)
            attempt = _Attempt(address, options, timeout, progress)
            if len(hosts) == 1:
                return await attempt.connect_to(hosts[0])
            return await attempt.connect_to_any(hosts)
    except KafkaConnectionError:
        raise
    except TimeoutError as error:
        reasons = progress.reasons(hosts, within=f" within {seconds(timeout)}")
        raise KafkaConnectionError(
            "Cannot connect", reasons=reasons, broker=str(address)
        ) from error
    except _CONNECT_ERRORS as error:
        reason = _explain(error, address, options)
        raise KafkaConnectionError(
            "Cannot connect", reasons={str(address): reason}, broker=str(address)
        ) from error


async def first_to_respond(
    attempts: Iterable[Callable[[], Coroutine[Any, Any, Connection]]],
    *,
    failed: Callable[[Exception], None],
    unwanted: Callable[[Connection], None],
) -> Connection | None:
    """Start each attempt a little after the one before; return the first connection.

    The other attempts are cancelled then.

    Args:
        attempts: Each starts one attempt.
        failed: Called with the error of each attempt that fails; if it raises, all end.
        unwanted: Called with each connection that comes too late, or whose caller was cancelled.

    Returns:
        None when all failed.
    """
    loop = asyncio.get_running_loop()
    waiting = deque(attempts)
    running: set[asyncio.Task[Connection]] = set()
    made: list[Connection] = []
    try:
        while not made and (waiting or running):
            if waiting:
                running.add(loop.create_task(waiting.popleft()()))
            done, running = await asyncio.wait(
                running,
                timeout=_NEXT_AFTER if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None:
                    made.append(task.result())
                elif isinstance(error, Exception):
                    failed(error)
                else:
                    raise error
        made += await _end(running)
    except BaseException:
        try:
            made += await _end(running)
        finally:
            for connection in made:
                unwanted(connection)
        raise
    for connection in made[1:]:
        unwanted(connection)
    return made[0] if made else None


async def _end(attempts: Iterable[asyncio.Task[Connection]]) -> list[Connection]:
    """Cancel attempts to connect; return the connections that they opened all the same."""
    tasks = list(attempts)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [result for result in results if isinstance(result, Connection)]


async def _resolve(host: str) -> list[str]:
    """The addresses of a host name, in the system's order of preference."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [host]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)) or [host]


class _Attempt:
    """One call of `connect`, after its host name was resolved."""

    def __init__(
        self,
        address: BrokerAddress,
        options: ConnectionOptions,
        timeout: float,
        progress: Progress,
    ) -> None:
        self._address = address
        self._options = options
        self._timeout = timeout
        self._progress = progress
        self._loop = asyncio.get_running_loop()

    async def connect_to_any(self, hosts: Sequence[str]) -> Connection:
        """Connect to the first of a host's addresses to answer."""

        def failed(error: Exception) -> None:
            if not isinstance(error, _CONNECT_ERRORS):
                raise error

        def unwanted(connection: Connection) -> None:
            connection.abort(
                NetworkError("Another address answered first", broker=str(self._address))
            )

        connection = await first_to_respond(
            [partial(self.connect_to, host) for host in hosts], failed=failed, unwanted=unwanted
        )
        if connection is None:
            reasons = self._progress.reasons(hosts)
            raise KafkaConnectionError("Cannot connect", reasons=reasons, broker=str(self._address))
        return connection

    async def connect_to(self, host: str) -> Connection:
        """Connect to one address of a host, and learn the broker's versions."""
        try:
            if self._is_asked_for_v0(host):
                return await self._negotiated(host, 0)
            try:
                return await self._negotiated(host, API_VERSIONS.max_version)
            except NetworkError as error:
                if isinstance(error.__cause__, OtherProtocolError):
                    raise
                self._failed(host, error)
            connection = await self._negotiated(host, 0)
        except _CONNECT_ERRORS as error:
            self._failed(host, error)
            raise
        self._ask_for_v0(host)
        return connection

    async def _negotiated(self, host: str, version: int) -> Connection:
        """Open a connection, and learn the broker's versions by this version of ApiVersions."""
        is_asyncio = isinstance(self._loop, asyncio.BaseEventLoop)
        make = BufferedConnection if is_asyncio else Connection
        connection = make(Background(self._loop), self._address, self._options)
        is_made = False
        try:
            await self._open(host, connection)
            is_made = True
            self._progress.waits(host)
            await connection.negotiate(timeout=self._timeout, at_most=version)
        except BaseException:
            if is_made:
                await connection.close()
            else:
                # Do not wait for `connection_lost`: uvloop leaves it out when the call that opens
                # the connection is cancelled just after `connection_made`.
                connection.abort(
                    NetworkError("The connection was not made", broker=str(self._address))
                )
            raise
        return connection

    async def _open(self, host: str, connection: Connection) -> None:
        context = self._options.ssl_context
        port = self._address.port
        if context is None:
            await self._loop.create_connection(lambda: connection, host, port)
            return
        margin = min(_HANDSHAKE_MARGIN, self._timeout / 10)
        await self._loop.create_connection(
            lambda: connection,
            host,
            port,
            ssl=context,
            # The certificate is for the host name, not the address.
            server_hostname=self._address.host,
            ssl_handshake_timeout=self._timeout - margin,
        )

    def _failed(self, host: str, error: Exception) -> None:
        self._progress.failed(host, _explain(error, self._address, self._options))

    def _is_asked_for_v0(self, host: str) -> bool:
        until = self._options.asked_for_v0_until.get((host, self._address.port))
        return until is not None and self._loop.time() < until

    def _ask_for_v0(self, host: str) -> None:
        logger.info(
            "%s hangs up on ApiVersions %s and answers version 0",
            self._address,
            API_VERSIONS.max_version,
        )
        now = self._loop.time()
        known = self._options.asked_for_v0_until
        for place in [place for place, until in known.items() if until <= now]:
            del known[place]
        known[host, self._address.port] = now + _ASK_FOR_V0


def _explain(error: Exception, address: BrokerAddress, options: ConnectionOptions) -> str:
    if isinstance(error, socket.gaierror):
        return f"the host name {address.host!r} cannot be resolved ({error.strerror})"
    if isinstance(error, ssl.SSLError):
        return _explain_handshake(error)
    if isinstance(error, NetworkError):
        return _explain_silence(error, options)
    if options.ssl_context is not None and isinstance(error, ConnectionError):
        if isinstance(error, ConnectionResetError):
            return "the connection was reset during the TLS handshake: does the port speak TLS?"
        if isinstance(error, ConnectionAbortedError):
            return "accepted the connection and gave no answer in TLS: does the port speak TLS?"
    if isinstance(error, (ValueError, OverflowError)):
        return f"this is no address ({error})"
    return describe(error)


def _explain_handshake(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the broker's certificate was refused ({error.reason}: {error.verify_message}): is"
            " the host name the one that it is for, and its authority in ssl_context?"
        )
    reason = error.reason or str(error)
    if "ALERT" in reason:
        return f"the broker refused the TLS handshake ({reason}): does it want a certificate?"
    return f"the TLS handshake failed ({reason}): does the port speak TLS?"


def _explain_silence(error: NetworkError, options: ConnectionOptions) -> str:
    """Why a connection may have ended before the first response came."""
    if isinstance(error.__cause__, OtherProtocolError):
        cause = error.__cause__
        return f"{cause.what()}. {cause.hint}".rstrip(". ")
    what = error.what().rstrip(". ")
    if options.ssl_context is None:
        question = "is TLS missing (security_protocol='SSL'), or the port not Kafka's?"
    elif "ALERT" in what:
        question = "does it want a certificate?"
    else:
        question = "is SASL or a certificate missing, or the port not Kafka's?"
    return f"{what} before it told its API versions: {question}"
