"""Logs a connection in by SASL, and again before each session is over (KIP-368).

    the first time                    again, when 85 to 95 % of the session are over
                                      1. what the exchange needs before its first bytes (a token)
                                         is fetched, while requests go on
                                      2. the requests in flight get their responses; new ones wait
    SaslHandshake names the           3. the same
    mechanism, SaslAuthenticate
    carries the exchange's bytes
                                      4. the requests that waited are sent

If step 1 fails it is tried again as long as the session lasts. If the broker refuses, the
connection ends with the error.

Invariants
* Nothing but the exchange is sent from the first byte of an exchange to its last.
* A broker gets a bounded number of challenges, each of a bounded size and within a bounded time.
* No failure leads to another mechanism, or to none.
* Whatever a provider or an exchange raises, `begin` raises a KafkaError, and a connection that
  logs in again is ready or ends: none is left between the two.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections.abc import Callable
from typing import Any, Final

from aioproducer.background import Background, Threads, Timer
from aioproducer.errors import (
    AuthenticationError,
    IllegalSaslStateError,
    KafkaError,
    NetworkError,
    UnsupportedSaslMechanismError,
    broker_error,
)
from aioproducer.network.connection import Connection
from aioproducer.network.sasl.exchange import Call, Exchange, Mechanism
from aioproducer.protocol.sasl_authenticate import SASL_AUTHENTICATE, SaslAuthenticateRequest
from aioproducer.protocol.sasl_handshake import SASL_HANDSHAKE, SaslHandshakeRequest

__all__ = ["Authentication"]

logger = logging.getLogger(__name__)

_MOST_CHALLENGES: Final = 12
"""Of one exchange; Kerberos, the longest, has three or four."""

_LONGEST_CHALLENGE: Final = 256 * 1024
"""In bytes. The longest in use are Kerberos tickets, of some ten kilobytes."""

_EARLIEST: Final = 0.85
_LATEST: Final = 0.95
"""Of a session's lifetime: between these the next exchange begins, as in Java's client."""

_LONGEST_REASON: Final = 500
"""Characters of what a provider's exception says."""

_SHORTEST: Final = 0.1
"""Seconds between two exchanges at least, whatever a broker says of its sessions."""

_FETCH_AGAIN: Final = 1.0
"""Seconds after which a failed step 1 is tried again."""

_UNSUPPORTED_MECHANISM: Final = 33
_ILLEGAL_STATE: Final = 34


class Authentication:
    """The SASL exchanges of one connection.

    Args:
        connection: Negotiated, and not authenticated yet.
        mechanism: Makes the exchanges.
        background: Where tasks and timers run.
        threads: Where functions run that may block.
        timeout: Seconds for each response.
        awaits: Told what is waited for, as the subject of a sentence; empty for the broker.
    """

    def __init__(
        self,
        connection: Connection,
        mechanism: Mechanism,
        background: Background,
        threads: Threads,
        *,
        timeout: float,
        awaits: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._mechanism = mechanism
        self._background = background
        self._threads = threads
        self._timeout = timeout
        self._awaits = awaits
        self._timer = Timer(background, self._begin_again)
        self._session_ends_at = 0.0
        self._lifetime_ms = 0
        self._again: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Log in for the first time; the connection takes requests then.

        Raises:
            AuthenticationError: One of the two refused the other, or a provider of secrets failed.
            ConfigError: A file that an option names cannot be used.
            NetworkError: The connection ended.
        """
        self._connection.authenticates()
        exchange = self._mechanism.exchange(self._connection.address.host)
        try:
            first = await self._advance(exchange, None)
            await self._talk(exchange, first)
        finally:
            exchange.close()
        self._connection.closed.add_done_callback(self._stop)
        self._logged_in()

    # ---- again

    def _begin_again(self) -> None:
        self._again = self._background.create_task(
            self._log_in_again(), name="aioproducer-reauthenticate"
        )

    async def _log_in_again(self) -> None:
        connection = self._connection
        if not connection.is_open or connection.is_leaving:
            return
        exchange = self._mechanism.exchange(connection.address.host)
        try:
            try:
                first = await self._advance(exchange, None)
            except KafkaError as error:
                self._fetch_failed(error)
                return
            await connection.hold()
            if connection.closed.done():
                return
            used_at = connection.last_used_at
            await self._talk(exchange, first)
            # An exchange is no use: an idle connection is still closed.
            connection.last_used_at = used_at
        except KafkaError as error:
            self._end(error)
            return
        except BaseException as error:
            # Cancelled, by the end of the connection or by somebody who cancels all tasks.
            self._end(self._error(f"The login ended by {type(error).__name__}"))
            raise
        finally:
            exchange.close()
        self._logged_in()

    def _fetch_failed(self, error: KafkaError) -> None:
        again_at = self._background.time() + _FETCH_AGAIN
        if again_at < self._session_ends_at:
            logger.info("%s: cannot log in again yet: %s", self._connection.address, error.what())
            self._timer.set(again_at)
        else:
            # The broker would end it at the next request.
            self._end(error)

    def _end(self, error: KafkaError) -> None:
        # Requests fail because of the network: what they carried may be sent on another connection.
        reason = NetworkError(
            f"The connection could not log in again: {error.what()}",
            broker=self._address,
            possibly_persisted=True,
        )
        reason.__cause__ = error
        self._connection.abort(reason)

    def _logged_in(self) -> None:
        self._connection.ready()
        lifetime = self._lifetime_ms / 1000
        if lifetime > 0:
            now = self._background.time()
            self._session_ends_at = now + lifetime
            after = max(lifetime * random.uniform(_EARLIEST, _LATEST), _SHORTEST)
            self._timer.set(now + after)

    def _stop(self, _: object) -> None:
        self._timer.cancel()
        if self._again is not None:
            self._again.cancel()

    # ---- one exchange

    async def _talk(self, exchange: Exchange, message: bytes | None) -> None:
        """Carry an exchange's bytes, from the first message on."""
        await self._shake_hands()
        self._lifetime_ms = 0
        challenges = 0
        while message is not None:
            challenges += 1
            if challenges > _MOST_CHALLENGES:
                raise self._error(f"The broker sent more than {_MOST_CHALLENGES} SASL challenges")
            response = await self._connection.request_of_exchange(
                SASL_AUTHENTICATE, SaslAuthenticateRequest(message), self._timeout
            )
            if response.error_code:
                error = broker_error(
                    response.error_code, response.error_message, broker=self._address
                )
                raise self._refused(exchange, error)
            if len(response.auth_bytes) > _LONGEST_CHALLENGE:
                raise self._error(
                    f"The broker sent a SASL challenge of {len(response.auth_bytes)} bytes"
                )
            self._lifetime_ms = response.session_lifetime_ms
            message = await self._advance(exchange, response.auth_bytes)

    async def _shake_hands(self) -> None:
        name = self._mechanism.name
        response = await self._connection.request_of_exchange(
            SASL_HANDSHAKE, SaslHandshakeRequest(name), self._timeout
        )
        if response.error_code == _UNSUPPORTED_MECHANISM:
            offered = ", ".join(sorted(response.mechanisms)[:20]) or "none"
            raise UnsupportedSaslMechanismError(
                f"The broker does not offer sasl_mechanism={name!r}; it offers {offered[:500]}",
                broker=self._address,
            )
        if response.error_code == _ILLEGAL_STATE:
            raise IllegalSaslStateError(
                "The broker's listener takes no SASL",
                broker=self._address,
                hint="Set security_protocol to PLAINTEXT or SSL, or use the port of a SASL"
                " listener.",
            )
        if response.error_code:
            raise broker_error(response.error_code, broker=self._address)

    async def _advance(self, exchange: Exchange, challenge: bytes | None) -> bytes | None:
        """Go on with an exchange until it has bytes to send; None when it is over."""
        step = self._resume(exchange.send, challenge)
        while isinstance(step, Call):
            self._awaits(step.what)
            try:
                value = await self._call(step)
            except KafkaError as error:
                step = self._resume(exchange.throw, error)
            else:
                step = self._resume(exchange.send, value)
        if step is not None:
            # Not in a `finally`: a call that takes too long, and is cancelled, is what was awaited.
            self._awaits("")
        return step

    def _resume(self, go_on: Callable[[Any], bytes | Call], value: object) -> bytes | Call | None:
        """Go on with an exchange to where it stops next; None when it is over."""
        try:
            return go_on(value)
        except StopIteration:
            return None
        except AuthenticationError as error:
            if error.broker is None:
                error.broker = self._address
            raise
        except KafkaError:
            raise
        except Exception as error:
            raise self._error(f"The SASL exchange failed: {type(error).__name__}") from error

    def _refused(self, exchange: Exchange, error: KafkaError) -> KafkaError:
        """Let an exchange explain why the broker refused it."""
        try:
            self._resume(exchange.throw, error)
        except KafkaError as explained:
            return explained
        return error

    async def _call(self, call: Call) -> Any:
        function, what = call
        is_coroutine = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004
        )
        try:
            result = function() if is_coroutine else await self._threads.call(function)
            return await result if inspect.isawaitable(result) else result
        except KafkaError:
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # It waited for something that somebody else cancelled.
            raise self._error(f"{what} was cancelled") from error
        except Exception as error:
            said = f"{what} failed: {type(error).__name__}: {str(error)[:_LONGEST_REASON]}"
            raise self._error(said.rstrip(": ")) from error

    @property
    def _address(self) -> str:
        return str(self._connection.address)

    def _error(self, message: str) -> AuthenticationError:
        return AuthenticationError(message, broker=self._address)
