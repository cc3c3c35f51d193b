"""Opens connections: resolves the host name, and takes the first of its addresses to answer.

A connection from here is usable: TCP (and TLS) are set up, the broker's API versions are known,
and it is logged in (SASL). If there is none, the error gives the reason for each address.

Invariants
* A connection that was opened and is not needed is closed, also when the caller was cancelled.
* A broker that hangs up on a newer ApiVersions is asked again in version 0, on a new connection.
  That it hung up is remembered for seconds only: a broker that restarts looks the same.
* No failure of TLS or SASL leads to an attempt without it.
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
from aioproducer.config import ProducerConfig
from aioproducer.errors import AuthenticationError, KafkaConnectionError, KafkaError, NetworkError
from aioproducer.errors.base import seconds
from aioproducer.network.authentication import Authentication
from aioproducer.network.connection import (
    BufferedConnection,
    Connection,
    ConnectionOptions,
    ConnectionState,
)
from aioproducer.network.diagnosis import Progress, diagnose, most_telling, reason_of
from aioproducer.network.metadata import BrokerAddress
from aioproducer.network.sasl import mechanism_of
from aioproducer.network.tls import Tls
from aioproducer.protocol.api_versions import API_VERSIONS
from aioproducer.protocol.frames import OtherProtocolError
from aioproducer.version import __version__

__all__ = ["connect", "connection_options", "first_to_respond", "resolve"]

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


def connection_options(config: ProducerConfig) -> ConnectionOptions:
    """Return what all connections of a producer have in common.

    Raises:
        ConfigError: The SASL mechanism lacks a package, or cannot use its credentials.
    """
    return ConnectionOptions(
        client_id=config.client_id,
        client_version=__version__,
        tls=Tls(config) if config.uses_tls else None,
        mechanism=mechanism_of(config),
        send_buffer_bytes=config.send_buffer_bytes,
        receive_buffer_bytes=config.receive_buffer_bytes,
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
        AuthenticationError: One of the two does not trust the other.
        ConfigError: The TLS options cannot be used.
    """
    if progress is None:
        progress = Progress(address, uses_tls=options.tls is not None)
    loop = asyncio.get_running_loop()
    options.refusals.check(address, loop.time())
    hosts: list[str] = []
    try:
        async with async_timeout.timeout(timeout):
            hosts = await resolve(address.host)
            attempt = _Attempt(address, options, timeout, progress)
            if len(hosts) == 1:
                connection = await attempt.connect_to(hosts[0])
            else:
                connection = await attempt.connect_to_any(hosts)
    except AuthenticationError as error:
        options.refusals.add(address, error, loop.time())
        raise
    except KafkaError:
        raise
    except TimeoutError as error:
        reasons = progress.reasons(hosts, within=f" within {seconds(timeout)}")
        raise KafkaConnectionError(
            "Cannot connect", reasons=reasons, broker=str(address)
        ) from error
    except _CONNECT_ERRORS as error:
        raise diagnose(error, address, uses_tls=options.tls is not None) from error
    options.refusals.forget(address)
    return connection


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


async def resolve(host: str) -> list[str]:
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
        self._background = Background(self._loop)

    async def connect_to_any(self, hosts: Sequence[str]) -> Connection:
        """Connect to the first of a host's addresses to answer."""
        errors: list[KafkaError] = []

        def failed(error: Exception) -> None:
            if not isinstance(error, KafkaError):
                raise error
            errors.append(error)

        def unwanted(connection: Connection) -> None:
            connection.abort(
                NetworkError("Another address answered first", broker=str(self._address))
            )

        connection = await first_to_respond(
            [partial(self.connect_to, host) for host in hosts], failed=failed, unwanted=unwanted
        )
        if connection is None:
            raise most_telling(errors, self._progress.reasons(hosts))
        return connection

    async def connect_to(self, host: str) -> Connection:
        """Connect to one address of a host, learn the broker's versions, and log in."""
        state = ConnectionState.CONNECTING
        try:
            connection = await self._negotiated(host)
            state = ConnectionState.AUTHENTICATING
            await self._log_in(host, connection)
        except _CONNECT_ERRORS as error:
            explained = self._failed(host, error, state)
            if explained is error:
                raise
            raise explained from error
        return connection

    async def _negotiated(self, host: str) -> Connection:
        """Open a connection, and learn the broker's versions."""
        if self._is_asked_for_v0(host):
            return await self._negotiated_by(host, 0)
        try:
            return await self._negotiated_by(host, API_VERSIONS.max_version)
        except NetworkError as error:
            if isinstance(error.__cause__, (OtherProtocolError, ssl.SSLError)):
                raise
            self._failed(host, error, ConnectionState.NEGOTIATING)
        connection = await self._negotiated_by(host, 0)
        self._ask_for_v0(host)
        return connection

    async def _negotiated_by(self, host: str, version: int) -> Connection:
        """Open a connection, and learn the broker's versions by this version of ApiVersions."""
        is_asyncio = isinstance(self._loop, asyncio.BaseEventLoop)
        make = BufferedConnection if is_asyncio else Connection
        connection = make(self._background, self._address, self._options)
        is_made = False
        try:
            await self._open(host, connection)
            is_made = True
            self._progress.negotiates(host)
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
        port = self._address.port
        if self._options.tls is None:
            await self._loop.create_connection(lambda: connection, host, port)
            return
        context = await self._options.tls.context()
        margin = min(_HANDSHAKE_MARGIN, self._timeout / 10)
        await self._loop.create_connection(
            lambda: connection,
            host,
            port,
            ssl=context,
            # The certificate is for the host name, not the address; in TLS a name has no dot at its
            # end (RFC 6066, section 3).
            server_hostname=self._address.host.removesuffix("."),
            ssl_handshake_timeout=self._timeout - margin,
        )

    async def _log_in(self, host: str, connection: Connection) -> None:
        """Log in by SASL, if this is asked for; the connection takes requests then."""
        mechanism = self._options.mechanism
        if mechanism is None:
            connection.ready()
            return
        authentication = Authentication(
            connection,
            mechanism,
            self._background,
            self._options.login_threads,
            timeout=self._timeout,
            awaits=partial(self._progress.authenticates, host),
        )
        try:
            await authentication.begin()
        except BaseException:
            await connection.close()
            raise

    def _failed(self, host: str, error: Exception, state: ConnectionState) -> KafkaError:
        """Note why an address failed; returns the error that explains it."""
        explained = diagnose(
            error, self._address, uses_tls=self._options.tls is not None, state=state
        )
        self._progress.failed(host, reason_of(explained))
        return explained

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
