"""The producer id: requested when it is first needed, and again when brokers reject it.

Owns the id and epoch that new sequences are given under, and the task that requests an id. A denial
fails the waiting records. The next records wait for the backoff, so that a loop of sends does not
become a loop of requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from aioproducer._native.broker_queues import Counters
from aioproducer._native.queues import CoreProducerId
from aioproducer.background import Background, Timer
from aioproducer.errors import ClusterAuthorizationFailedError, KafkaError, UnsupportedVersionError
from aioproducer.network.backoff import Backoff
from aioproducer.network.brokers import LOGIN_ERRORS
from aioproducer.network.cluster import Cluster
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.sequences import ProducerIdAndEpoch

__all__ = ["ProducerId", "explain_refusal"]

logger = logging.getLogger(__name__)

_REPORTED_AFTER: Final = 3
"""Failures in a row before a warning: a broker that starts may refuse once or twice."""

_ASK_AGAIN_AFTER: Final = 10.0
"""Seconds after a refusal until it is asked again, if no record needs it earlier."""

_HINTS: Final[dict[type[KafkaError], str]] = {
    # KIP-679: since 2.8 whoever may write to any topic gets a producer id.
    ClusterAuthorizationFailedError: "Grant this client Write on the topic; before Kafka 2.8, grant"
    " it IdempotentWrite on the cluster too, or set enable_idempotence=False.",
    UnsupportedVersionError: "The broker knows no producer ids: set enable_idempotence=False.",
}


class ProducerId(CoreProducerId):
    """Keeps the id and epoch that new sequences are given under.

    Those of a transactional producer belong to its transactions, which alone get and change them.

    Args:
        cluster: Asked for the id.
        background: Where the task runs.
        backoff: The wait after failures.
        counters: Counted up with each epoch.
        obtained: Called when there is an id.
        refused: Called with the error when no id can be had for now.
        is_transactional: The id is `given`, and requested by nobody here.

    Attributes:
        current: The id and epoch; None while there is none.
        last_error: Why there is none, if a request failed.
        failed_at: When that was, on the loop's clock.
        needed_since: When it was first asked for; None while there is one, or nobody needs it.
        is_refused: The last request was refused for good.
    """

    def __init__(
        self,
        cluster: Cluster,
        background: Background,
        *,
        backoff: Backoff,
        counters: Counters,
        obtained: Callable[[], None],
        refused: Callable[[KafkaError], None],
        is_transactional: bool = False,
    ) -> None:
        self._is_transactional = is_transactional
        self.current: ProducerIdAndEpoch | None = None
        self.last_error: KafkaError | None = None
        self.failed_at = 0.0
        self.needed_since: float | None = None
        self.is_refused = False
        self._cluster = cluster
        self._background = background
        self._backoff = backoff
        self._counters = counters
        self._obtained = obtained
        self._refused = refused
        self._failures = 0
        self._retry_at = 0.0
        self._obtaining: asyncio.Task[None] | None = None
        self._is_closed = False
        self._ask_again = Timer(background, self.need)

    def need(self) -> None:
        """Request an id, unless there is one or a request is under way."""
        if self._is_transactional:
            return
        if self.current is None and self._obtaining is None and not self._is_closed:
            self._ask_again.cancel()
            if self.needed_since is None:
                self.needed_since = self._background.time()
            self._obtaining = self._background.create_task(
                self._obtain(), name="aioproducer-producer-id"
            )

    def given(self, id_and_epoch: ProducerIdAndEpoch) -> None:
        """Take the id and epoch that a transaction got."""
        if self.current is not None and self.current != id_and_epoch:
            self._counters.epochs_bumped += 1
        self.current = id_and_epoch
        self.needed_since = None
        self._obtained()

    def bump(self) -> ProducerIdAndEpoch | None:
        """Begin the next epoch (KIP-360); None when the id's epochs are used up."""
        self._counters.epochs_bumped += 1
        if self.current is not None and self.current.can_bump:
            self.current = self.current.bumped()
        else:
            self.discard()
        return self.current

    def discard(self) -> None:
        """Request another id: brokers do not take this one any more."""
        self.current = None
        self.need()

    def refused_for(self, queue: PartitionQueue) -> None:
        """Request another id, if the one that a broker rejected in a queue is the current one."""
        current, own = self.current, queue.id_and_epoch
        if current is None or own is None or current.producer_id != own.producer_id:
            return
        logger.warning(
            "%s-%s: the broker does not take producer id %s any more: getting another one",
            queue.topic.name,
            queue.partition,
            current.producer_id,
        )
        self.discard()

    def sequences_forgotten(self, queues: Iterable[PartitionQueue]) -> None:
        """Leave an epoch if forgotten queues had sequences in it: none may begin at 0 again."""
        if self.current is not None and any(queue.id_and_epoch == self.current for queue in queues):
            self.bump()

    async def close(self) -> None:
        """End the task."""
        self._is_closed = True
        self._ask_again.cancel()
        if self._obtaining is not None:
            self._obtaining.cancel()
            await asyncio.gather(self._obtaining, return_exceptions=True)

    async def _obtain(self) -> None:
        while self.current is None:
            delay = self._retry_at - self._background.time()
            if delay > 0:
                await asyncio.sleep(delay)
            try:
                self.current = ProducerIdAndEpoch(*await self._cluster.init_producer_id())
            except KafkaError as error:
                self.last_error = error
                # Records wait until a login is mended, too.
                passes = error.retriable or isinstance(error, LOGIN_ERRORS)
                self.is_refused = not passes
                self._failed()
                if not passes:
                    # First: failing the records admits callers, whose records may call `need`
                    # while this task still runs.
                    self._obtaining = None
                    explain_refusal(error)
                    # Also when no record comes: a readiness probe may keep them away until the
                    # right is granted.
                    self._ask_again.set(self._background.time() + _ASK_AGAIN_AFTER)
                    self._refused(error)
                    return
                level = logging.WARNING if self._failures == _REPORTED_AFTER else logging.DEBUG
                logger.log(level, "No producer id yet, and records wait for one: %s", error)
            except Exception:
                # A bug of ours must not end the requests for good: every record waits for an id.
                self._failed()
                logger.exception("A producer id could not be asked for")
        logger.info("Got producer id %s", self.current.producer_id)
        self.last_error = None
        self.is_refused = False
        self.needed_since = None
        self._failures = 0
        self._obtaining = None
        self._obtained()

    def _failed(self) -> None:
        self._failures += 1
        self.failed_at = self._background.time()
        self._retry_at = self.failed_at + self._backoff.after(self._failures)


def explain_refusal(error: KafkaError) -> None:
    """Say what to change where a broker gives no producer id."""
    error.hint = _HINTS.get(type(error), error.hint)
