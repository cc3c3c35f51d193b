"""The first contact with a cluster: which of the bootstrap servers answers, and why others do not.

Owns the addresses to begin with and the one connection to such an address, which is used until a
broker that the cluster names is connected.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    KafkaConnectionError,
    KafkaError,
    NetworkError,
    RebootstrapRequiredError,
)
from aioproducer.network.connecting import Progress, connect, first_to_respond
from aioproducer.network.connection import Connection, ConnectionOptions
from aioproducer.network.metadata import BrokerAddress
from aioproducer.protocol.metadata import METADATA, MetadataRequest, MetadataResponse

__all__ = ["Bootstrap"]

logger = logging.getLogger(__name__)

_NO_NODE: Final = -1
"""The node id of an address that is no known broker's."""


class Bootstrap:
    """The bootstrap servers of one producer.

    Args:
        config: The producer's options.
        options: Those of connections.

    Attributes:
        seeds: The addresses of `bootstrap_servers`.
        connection: The one to the server that answered last; None when it was lost or given away.
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
            request: What to ask.
            check: Raises a `KafkaError` for a response that is no use.

        Raises:
            KafkaError: None gave a good response; says why for each address.
        """
        responses: dict[Connection, MetadataResponse] = {}

        async def attempt(seed: BrokerAddress) -> Connection:
            connection = await self._connect(seed)
            try:
                response = await connection.request(
                    METADATA,
                    connection.version_for(METADATA),
                    request,
                    timeout=self._request_timeout,
                )
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
            raise _why_none(errors, self.reasons())
        self._errors.clear()
        self.abort(NetworkError("Another address answered"))
        self.connection = connection
        connection.on_lost = partial(self._lost, connection)
        return connection, responses[connection]

    def reasons(self) -> dict[str, str]:
        """Why each address did not answer, or how far it has got."""
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
        """The connection is a broker's from now on."""
        self.connection = None

    def abort(self, reason: NetworkError) -> None:
        """End the connection, if there is one."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.abort(reason)

    async def close(self) -> None:
        """Close the connection; returns when its socket is closed."""
        if self.connection is not None:
            await self.connection.close()

    def leave_behind(self) -> None:
        """In the child of a fork: keep off the parent's connection."""
        if self.connection is not None:
            self.connection.leave_behind()

    async def _connect(self, seed: BrokerAddress) -> Connection:
        progress = Progress(seed, uses_tls=self._options.ssl_context is not None)
        self._progress[seed] = progress
        try:
            return await connect(
                seed, self._options, timeout=self._setup_timeout, progress=progress
            )
        except KafkaConnectionError as error:
            self._errors[seed] = error
            raise

    def _lost(self, connection: Connection, reason: KafkaError) -> None:
        if self.connection is connection:
            self.connection = None
            logger.debug("The connection to %s ended: %s", connection.address, reason.what())


def _why_none(errors: Sequence[KafkaError], reasons: dict[str, str]) -> KafkaError:
    """The error of a bootstrap of which every attempt failed: the one that no retry mends first."""
    for error in errors:
        if not error.retriable or isinstance(error, RebootstrapRequiredError):
            return error
    return KafkaConnectionError("No address could be reached", reasons=reasons)
