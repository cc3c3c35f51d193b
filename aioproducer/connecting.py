"""Opening connections: names become addresses, the first of several to answer wins.

Called by cluster.py. A connection that comes from here is usable: TCP (and TLS) stand, and the
broker told the versions it speaks. Where none comes, the error tells why, address by address.

Invariant: what was opened and is not wanted is closed, also for a caller who was cancelled.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

import async_timeout

from aioproducer.errors import KafkaConnectionError, KafkaError, NetworkError
from aioproducer.metadata import BrokerAddress
from aioproducer.transport import Connection, ConnectionOptions, describe

__all__ = ["connect", "first_to_answer"]

_NEXT_AFTER = 0.25
"""Seconds after which the next address is tried beside one that has not answered."""
_CONNECT_ERRORS = (OSError, KafkaError, asyncio.TimeoutError, ValueError, OverflowError)
"""ValueError and OverflowError: what a broker told as an address, and is none."""


async def connect(
    address: BrokerAddress, options: ConnectionOptions, *, timeout: float
) -> Connection:
    """Open a connection and learn the broker's versions.

    Args:
        address: Where to. The host name is resolved each time, and every address it stands for is
            tried (KIP-302), each a little after the one before: the first broker to answer wins,
            and one in a black hole costs no more than that.
        options: What all connections have in common.
        timeout: Seconds for everything together.

    Raises:
        KafkaConnectionError: It could not be opened; `reasons` says why.
    """
    try:
        async with async_timeout.timeout(timeout):
            hosts = await _resolve(address.host)
            if len(hosts) == 1:
                return await _connect_to(hosts[0], address, options, timeout)
            return await _connect_to_any(hosts, address, options, timeout)
    except KafkaConnectionError:
        raise
    except _CONNECT_ERRORS as error:
        reason = _explain(error, address, options, timeout)
        raise KafkaConnectionError(
            "Cannot connect", reasons={str(address): reason}, broker=str(address)
        ) from error


async def first_to_answer(
    attempts: Iterable[Callable[[], Coroutine[Any, Any, Connection]]],
    *,
    failed: Callable[[Exception], None],
    unwanted: Callable[[Connection], None],
) -> Connection | None:
    """Begin each attempt a little after the one before; the first connection made is returned.

    The other attempts are cancelled then.

    Args:
        attempts: What begins each of them.
        failed: Called with the error of each that fails; what it raises ends all.
        unwanted: Called with each connection that is made too late, or for a caller who was
            cancelled.

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
    """Cancel attempts to connect; return what was made all the same."""
    tasks = list(attempts)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [result for result in results if isinstance(result, Connection)]


async def _resolve(host: str) -> list[str]:
    """The addresses a host name stands for, in the system's order of preference."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [host]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)) or [host]


async def _connect_to_any(
    hosts: Sequence[str], address: BrokerAddress, options: ConnectionOptions, timeout: float
) -> Connection:
    """Connect to the first of a host's addresses to answer."""
    reasons: dict[str, str] = {}

    async def attempt(host: str) -> Connection:
        try:
            return await _connect_to(host, address, options, timeout)
        except _CONNECT_ERRORS as error:
            reasons[f"{address} ({host})"] = _explain(error, address, options, timeout)
            raise

    def failed(error: Exception) -> None:
        if not isinstance(error, _CONNECT_ERRORS):
            raise error

    def unwanted(connection: Connection) -> None:
        connection.abort(NetworkError("Another address answered first", broker=str(address)))

    connection = await first_to_answer(
        [partial(attempt, host) for host in hosts], failed=failed, unwanted=unwanted
    )
    if connection is None:
        raise KafkaConnectionError("Cannot connect", reasons=reasons, broker=str(address))
    return connection


async def _connect_to(
    host: str, address: BrokerAddress, options: ConnectionOptions, timeout: float
) -> Connection:
    """Connect to one address of a host, and learn the broker's versions."""
    loop = asyncio.get_running_loop()
    connection = Connection(loop, address, options)
    is_made = False
    try:
        await loop.create_connection(
            lambda: connection,
            host,
            address.port,
            ssl=options.ssl_context,
            # The certificate is for the name.
            server_hostname=address.host if options.ssl_context is not None else None,
        )
        is_made = True
        await connection.negotiate(timeout=timeout)
    except BaseException:
        if is_made:
            await connection.close()
        else:
            # uvloop tells a protocol of `connection_made` but not of its end, when the call that
            # makes the connection is cancelled in between: nothing to wait for.
            connection.abort(NetworkError("The connection was not made", broker=str(address)))
        raise
    return connection


def _explain(
    error: Exception, address: BrokerAddress, options: ConnectionOptions, timeout: float
) -> str:
    uses_tls = options.ssl_context is not None
    if isinstance(error, socket.gaierror):
        return f"the host name {address.host!r} cannot be resolved ({error.strerror})"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed ({error.reason or error}): does the port speak TLS?"
    if uses_tls and isinstance(error, ConnectionResetError):
        return "the connection was reset during the TLS handshake: does the port speak TLS?"
    if isinstance(error, NetworkError):
        question = (
            "is SASL missing, or the port not Kafka's?"
            if uses_tls
            else "is TLS missing (security_protocol='SSL'), or the port not Kafka's?"
        )
        return f"{error.what().rstrip('. ')} before it told its API versions: {question}"
    if isinstance(error, (ValueError, OverflowError)):
        return f"this is no address ({error})"
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return f"no answer within {timeout:g} s"
    return describe(error)
