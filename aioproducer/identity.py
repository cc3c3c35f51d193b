"""The producer id: got from any broker when it is first needed, and again when its epochs end.

Part of the sender. The one task that lives here ends with the id, or with an error that no retry
mends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aioproducer.cluster import Cluster
from aioproducer.errors import KafkaError
from aioproducer.transaction import ProducerIdentity

__all__ = ["IdentityKeeper"]

logger = logging.getLogger(__name__)


class IdentityKeeper:
    """Keeps the identity that new sequence numbers are given under.

    Args:
        cluster: Asked for the id.
        loop: The producer's loop.
        retry_delay: The wait after so many failures, in seconds.
        obtained: Called when there is an identity.
        refused: Called with the error when there will be none.

    Attributes:
        current: The identity; None while there is none.
    """

    def __init__(
        self,
        cluster: Cluster,
        loop: asyncio.AbstractEventLoop,
        *,
        retry_delay: Callable[[int], float],
        obtained: Callable[[], None],
        refused: Callable[[KafkaError], None],
    ) -> None:
        self.current: ProducerIdentity | None = None
        self._cluster = cluster
        self._loop = loop
        self._retry_delay = retry_delay
        self._obtained = obtained
        self._refused = refused
        self._getting: asyncio.Task[None] | None = None
        self._is_closed = False

    def need(self) -> None:
        """Get an identity, unless there is one or it is being got."""
        is_getting = self._getting is not None and not self._getting.done()
        if self.current is None and not is_getting and not self._is_closed:
            self._getting = self._loop.create_task(self._get(), name="aioproducer-producer-id")

    def bump(self) -> ProducerIdentity | None:
        """Begin the next epoch (KIP-360); None when the id's epochs are used up."""
        if self.current is not None and self.current.can_bump:
            self.current = self.current.bumped()
        else:
            self.current = None
            self.need()
        return self.current

    async def close(self) -> None:
        """End the task."""
        self._is_closed = True
        if self._getting is not None:
            self._getting.cancel()
            await asyncio.gather(self._getting, return_exceptions=True)

    async def _get(self) -> None:
        failures = 0
        while self.current is None:
            try:
                self.current = await self._cluster.init_producer_id()
                logger.info("Got producer id %s", self.current.producer_id)
            except KafkaError as error:
                failures += 1
                if not error.retriable:
                    # Whoever is admitted to the room that this makes may ask again: by a task
                    # that this one, which is at its end, must not get in the way of.
                    self._getting = None
                    self._refused(error)
                    return
                logger.info("No producer id yet: %s", error)
                await asyncio.sleep(self._retry_delay(failures))
        self._getting = None
        self._obtained()
