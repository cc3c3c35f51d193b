"""Finds a bootstrap server that answers, and says why the others do not.

Owns the addresses of `bootstrap_servers`, and at most one connection to one of them. That
connection serves until a broker from the metadata is connected.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Final

from aioproducer.config import ProducerConfig
from aioproducer.errors import KafkaConnectionError, KafkaError, NetworkError
from aioproducer.network.connecting import connect, first_to_respond
from aioproducer.network.connection import Connection, ConnectionOptions, ConnectionState
from aioproducer.network.diagnosis import Progress, diagnose, most_telling
from aioproducer.network.metadata import BrokerAddress
from aioproducer.protocol.metadata import METADATA, MetadataRequest, MetadataResponse

__all__ = ["Bootstrap"]

logger = logging.getLogger(__name__)

_NO_NODE: Final = -1
"""The node id of a bootstrap server: the metadata names its broker."""


class Bootstrap:
    """The bootstrap servers of one producer.

    Args:
        config: The producer's options.
        options: What all connections have in common.

    Attributes:
        seeds: The addresses of `bootstrap_servers`.
        connection: To the server that answered last; None when it was lost or released.
    """

    def __init__(self, config: ProducerConfig, options: ConnectionOptions) -> None:
        self.seeds = [
            BrokerAddress(_NO_NODE, host, port) for host, port in config.bootstrap_addresses
        ]
        self.connection: Connection | None = None
        self._options = options
        self._setup_timeout = config.socket_connection_setup_timeout_ms / 1000
        self._request_timeout = config.request_timeout_ms / 1000
        self._errors: dict[BrokerAddress, KafkaError] = {}
        self._progress: dict[BrokerAddress, Progress] = {}

    async def ask(
        self,
        request: MetadataRequest,
        check: Callable[[MetadataResponse, BrokerAddress], None],
    ) -> tuple[Connection, MetadataResponse]:
        """Ask all bootstrap servers for metadata; the first good response counts.

        Args:
            request: The request.
            check: Raises a `KafkaError` for a response that cannot be used.

        Raises:
            KafkaError: No server gave a good response; says why for each address.
        """
        responses: dict[Connection, MetadataResponse] = {}

        async def attempt(seed: BrokerAddress) -> Connection:
            connection = await self._connect(seed)
            try:
                response = await self._ask_one(connection, request)
                check(response, seed)
            except BaseException as error:
                if isinstance(error, KafkaError):
                    self._errors[seed] = error
                await connection.close()
                raise
            responses[connection] = response
            return connection

        errors: list[KafkaError] = []

        def failed(error: Exception) -> None:
            if not isinstance(error, KafkaError):
                raise error
            errors.append(error)

        connection = await first_to_respond(
            [partial(attempt, seed) for seed in random.sample(self.seeds, len(self.seeds))],
            failed=failed,
            unwanted=lambda other: other.abort(NetworkError("Another address answered first")),
        )
        if connection is None:
            raise most_telling(errors, self.reasons())
        self._errors.clear()
        self.abort("Another address answered")
        self.connection = connection
        connection.on_lost = partial(self._lost, connection)
        return connection, responses[connection]

    def reasons(self) -> dict[str, str]:
        """Why each address has not answered, or how far the attempt has got."""
        reasons: dict[str, str] = {}
        for seed in self.seeds:
            error = self._errors.get(seed)
            if isinstance(error, KafkaConnectionError):
                reasons.update(error.reasons)
            elif error is not None:
                reasons[str(seed)] = error.what()
            elif seed in self._progress:
                reasons.update(self._progress[seed].reasons())
            else:
                reasons[str(seed)] = "no answer"
        return reasons

    def release(self) -> None:
        """Give the connection away: it is a broker's from now on."""
        self.connection = None

    def abort(self, reason: str) -> None:
        """End the connection now, if there is one."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            logger.debug("The connection to %s ends: %s", connection.address, reason)
            connection.abort(NetworkError(reason, broker=str(connection.address)))

    async def close(self) -> None:
        """Close the connection; returns when its socket is closed."""
        if self.connection is not None:
            await self.connection.close()

    def leave_behind(self) -> None:
        """Cut the connection off from the parent's socket, in the child of a fork."""
        if self.connection is not None:
            self.connection.leave_behind()

    async def _ask_one(self, connection: Connection, request: MetadataRequest) -> MetadataResponse:
        version = connection.version_for(METADATA)
        try:
            return await connection.request(
                METADATA, version, request, timeout=self._request_timeout
            )
        except NetworkError as error:
            # A listener that asks for a login answers ApiVersions, and hangs up on all else.
            raise diagnose(
                error,
                connection.address,
                uses_tls=self._options.tls is not None,
                state=ConnectionState.READY,
            ) from error

    async def _connect(self, seed: BrokerAddress) -> Connection:
        progress = Progress(seed, uses_tls=self._options.tls is not None)
        self._progress[seed] = progress
        try:
            return await connect(
                seed, self._options, timeout=self._setup_timeout, progress=progress
            )
        except KafkaError as error:
            self._errors[seed] = error
            raise

    def _lost(self, connection: Connection, reason: KafkaError) -> None:
        if self.connection is connection:
            self.connection = None
            logger.debug("The connection to %s ended: %s", connection.address, reason.what())
