"""Asks the coordinator of a transactional id or of a consumer group, wherever it is by now.

Owns which broker that is. It is looked for at the first request, and again when the broker says
that it coordinates no longer, or the connection to it is lost. A request is repeated until it has
an answer that is no such error; whoever waits for it bounds the wait.

The outcome of a request whose connection was lost is unknown. It is repeated all the same: a
coordinator answers the repetition of what it has done already as it did the first time (KIP-360,
KIP-890).

What changes nothing is asked once, over the connection that is there, and may have no answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aioproducer.background import Background
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    CoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    NetworkError,
    NotCoordinatorError,
    RequestTimedOutError,
    TransactionAbortedError,
    UnknownServerError,
    broker_error,
)
from aioproducer.network.backoff import Backoff
from aioproducer.network.brokers import LOGIN_ERRORS
from aioproducer.network.cluster import Cluster
from aioproducer.network.connection import Connection
from aioproducer.network.metadata import broker_address
from aioproducer.protocol.find_coordinator import (
    FIND_COORDINATOR,
    TRANSACTION,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from aioproducer.protocol.schema import Api, Req, Resp

__all__ = ["Coordinator"]

logger = logging.getLogger(__name__)

_UNANSWERED: Final = (NetworkError, RequestTimedOutError)
"""Errors after which the request may still be carried out."""

_MOVED: Final = (
    *_UNANSWERED,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
    KafkaConnectionError,
)
"""Errors after which the coordinator is looked for again."""

_REPEATED_TOO: Final = (UnknownServerError, *LOGIN_ERRORS)
"""Not retriable by their kind: of the first the outcome is unknown, and a repetition tells it."""


class Coordinator:
    """The coordinator of one transactional id, or of one consumer group.

    Args:
        key: The id.
        key_type: `TRANSACTION` or `GROUP`.
        cluster: Has the brokers.
        background: Has the clock.
        config: The producer's options.

    Attributes:
        last_error: Why the last request has to be repeated; None when it had an answer.
        has_doubt: Whether a request had no answer, so that it may be carried out even now, after
            those that were sent later; set back by who makes that harmless.
    """

    def __init__(
        self,
        key: str,
        key_type: int,
        *,
        cluster: Cluster,
        background: Background,
        config: ProducerConfig,
    ) -> None:
        self.last_error: KafkaError | None = None
        self.has_doubt = False
        self._lock = asyncio.Lock()
        """One request at a time changes something, in the order of the calls."""
        self._key = key
        self._key_type = key_type
        self._cluster = cluster
        self._background = background
        self._backoff = Backoff.of_retries(config)
        self._request_timeout = config.request_timeout_ms / 1000
        self._node_id: int | None = None

    @property
    def name(self) -> str:
        """The coordinator's name in an error; empty while it is not known."""
        return "" if self._node_id is None else self._cluster.brokers.name(self._node_id)

    async def ask(
        self,
        api: Api[Req, Resp],
        make_request: Callable[[Connection], tuple[int, Req]],
        error_of: Callable[[Resp], KafkaError | None],
        *,
        given_up: Callable[[], bool] = lambda: False,
    ) -> Resp:
        """Send a request until it has an answer that is not to be repeated, after those before it.

        Args:
            api: The API.
            make_request: Makes the version and the request, for each attempt anew.
            error_of: The error that a response means; None for success.
            given_up: Whether it is of no use any more.

        Raises:
            TransactionAbortedError: It was given up before its turn came.
            KafkaError: The first error that is not retriable, or after which it was given up.
        """
        failures = 0
        async with self._lock:
            if given_up():
                raise TransactionAbortedError("It was not sent: the transaction is aborted")
            while True:
                try:
                    return await self._attempt(api, make_request, error_of)
                except KafkaError as error:
                    failures += 1
                    await self._pause(error, failures, given_up)

    async def _attempt(
        self,
        api: Api[Req, Resp],
        make_request: Callable[[Connection], tuple[int, Req]],
        error_of: Callable[[Resp], KafkaError | None],
    ) -> Resp:
        connection = await self._connection()
        version, request = make_request(connection)
        response = await connection.request(api, version, request, timeout=self._request_timeout)
        error = error_of(response)
        if error is not None:
            error.broker = self.name
            raise error
        self.last_error = None
        return response

    def ask_once(
        self,
        api: Api[Req, Resp],
        request: Req,
        on_response: Callable[[Resp | None, KafkaError | None], None],
    ) -> bool:
        """Send a request over the connection that is there, and never again.

        Returns:
            Whether it was sent; only then `on_response` is called, once.
        """
        broker = None if self._node_id is None else self._cluster.brokers.get(self._node_id)
        if broker is None or broker.connection is None or not broker.is_connected:
            return False
        connection = broker.connection
        if connection.throttled_until > self._background.time():
            return False
        try:
            version = connection.version_for(api)
            connection.send(
                api, version, request, timeout=self._request_timeout, on_response=on_response
            )
        except KafkaError:
            return False
        return True

    async def _pause(self, error: KafkaError, failures: int, given_up: Callable[[], bool]) -> None:
        """Wait before a repetition; raises what is not to be repeated."""
        if not (error.retriable or isinstance(error, _REPEATED_TOO)):
            raise error
        if self.last_error is None or type(self.last_error) is not type(error):
            logger.debug("The coordinator of %r is asked again: %s", self._key, error.what())
        self.last_error = error
        self.has_doubt |= isinstance(error, _UNANSWERED)
        if isinstance(error, _MOVED):
            self._node_id = None
        if given_up():
            raise error
        await asyncio.sleep(self._backoff.after_error(error, failures))
        if given_up():
            raise error

    async def _connection(self) -> Connection:
        if self._node_id is None:
            await self._find()
        assert self._node_id is not None
        broker = self._cluster.brokers.get(self._node_id)
        if broker is None:
            self._node_id = None
            raise CoordinatorNotAvailableError("The coordinator has left the cluster")
        return await self._cluster.brokers.connect(broker)

    async def _find(self) -> None:
        request = FindCoordinatorRequest(self._key, self._key_type, (self._key,))
        response, _ = await self._cluster.ask(FIND_COORDINATOR, request)
        node_id, host, port, code, text = _coordinator_in(response, self._key)
        if code:
            raise broker_error(code, text)
        self._cluster.brokers.learn([broker_address(node_id, host, port)])
        self._node_id = node_id
        kind = "transactional id" if self._key_type == TRANSACTION else "group"
        logger.debug("The coordinator of %s %r is %s", kind, self._key, self.name)


def _coordinator_in(
    response: FindCoordinatorResponse, key: str
) -> tuple[int, str, int, int, str | None]:
    for each in response.coordinators:
        if each.key == key:
            return each.node_id, each.host, each.port, each.error_code, each.error_message
    code = response.error_code
    if not code and response.node_id < 0:
        code = CoordinatorNotAvailableError.code or 0  # The response leaves the key out.
    return response.node_id, response.host, response.port, code, response.error_message
