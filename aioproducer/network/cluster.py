"""What any broker can answer: the brokers, the leaders of topics, a producer id.

Owned by the sender, which hears of changes through a `ClusterListener` and gets connections here.
Owns the brokers (brokers.py), the addresses to begin with, and one task that keeps metadata fresh:

    asked for                            when
    the brokers and all topics in use    every `metadata_max_age_ms`, and soon after `refresh()` (a
                                         connection was lost): paced by the backoff, which grows
                                         while the answers bring no news
    topics that are due                  at `topics.next_due_at`: a new one at once, alone and
                                         coalesced with others; some tens of requests a second

Invariants
* One question at a time; but a broker that is silent for a second delays it no longer, another one
  is asked beside it.
* A producer belongs to one cluster, by its id. An address that has told this cluster's id may tell
  another one later: the cluster was rebuilt behind it, and everything known of it is forgotten with
  one warning. An address that never did is another cluster's, and is refused: as a bootstrap
  server, or as a broker whose address somebody else has by now.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import async_timeout

from aioproducer.background import Background
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NetworkError,
    RebootstrapRequiredError,
    broker_error,
)
from aioproducer.errors.base import seconds
from aioproducer.network.backoff import Backoff
from aioproducer.network.bootstrap import Bootstrap
from aioproducer.network.brokers import Brokers, ConnectionListener, leave_task_behind
from aioproducer.network.connecting import first_to_respond
from aioproducer.network.connection import Connection, ConnectionOptions
from aioproducer.network.metadata import BrokerAddress, broker_address
from aioproducer.protocol.init_producer_id import INIT_PRODUCER_ID, InitProducerIdRequest
from aioproducer.protocol.metadata import (
    METADATA,
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseTopic,
)
from aioproducer.protocol.schema import Api
from aioproducer.version import __version__

__all__ = ["Cluster", "ClusterListener", "TopicsInUse"]

logger = logging.getLogger(__name__)

Req = TypeVar("Req", bound="tuple[object, ...]")
Resp = TypeVar("Resp", bound="tuple[object, ...]")

_SILENT_AFTER: Final = 1.0
"""Seconds after which another broker is asked beside one that has not answered."""

_SLOW_AFTER: Final = 3.0
"""The same for a producer id, which brokers get from the controller: they all may be slow, and what
is asked behind it on their connections waits."""

_MOST_ASKED: Final = 3
"""Brokers that are asked the same question side by side."""

_TOPIC_REQUESTS: Final = 10
"""Requests for new topics that may follow each other at once; then they are paced."""

_TOPIC_REQUEST_PAUSE: Final = 0.05
"""Seconds after which one more such request may follow at once."""


class TopicsInUse(Protocol):
    """The owner of the topics, as the cluster sees it."""

    @property
    def next_due_at(self) -> float:
        """When some topic is to be asked about, beside the full refreshes."""
        ...

    def take_due(self) -> list[str]:
        """The topics to ask about now; they are not due any more."""
        ...

    def all_names(self) -> list[str]:
        """The topics of a full refresh."""
        ...

    def take_metadata(
        self, asked: Sequence[str], responses: Iterable[MetadataResponseTopic], broker: str
    ) -> bool:
        """Take what a broker said of topics; whether it changes anything."""
        ...

    def metadata_missed(self, asked: Iterable[str]) -> None:
        """No broker answered: the topics are due again."""

    def cluster_changed(self) -> None:
        """Another cluster has taken the place of the one that was."""


class ClusterListener(ConnectionListener, Protocol):
    """What the sender hears, beside what concerns topics."""

    def metadata_changed(self) -> None:
        """Brokers and leaders are as new as an answer that has just come."""

    def cluster_changed(self) -> None:
        """Another cluster has taken the place of the one that was."""


class Cluster:
    """The cluster of one producer.

    Args:
        config: The producer's options.
        background: Where tasks and timers run.
        listener: Hears of connections and changes.

    Attributes:
        brokers: The brokers and their connections.
        cluster_id: What brokers say that the cluster is; None while none said so.
        metadata_at: When brokers answered last, on the loop's clock.
        last_metadata_error: Why the last refresh failed; None after a success.
    """

    def __init__(
        self,
        config: ProducerConfig,
        background: Background,
        listener: ClusterListener,
    ) -> None:
        self._options = ConnectionOptions(
            client_id=config.client_id,
            client_version=__version__,
            ssl_context=config.tls_context(),
            send_buffer_bytes=config.send_buffer_bytes,
            receive_buffer_bytes=config.receive_buffer_bytes,
        )
        self.brokers = Brokers(
            config, self._options, background, listener, verify=self._verify, lost=self.refresh
        )
        self.cluster_id: str | None = None
        self.metadata_at = background.time()
        self.last_metadata_error: KafkaError | None = None
        self._config = config
        self._reconnect_backoff = Backoff(
            config.reconnect_backoff_ms, config.reconnect_backoff_max_ms
        )
        self._retry_backoff = Backoff(config.retry_backoff_ms, config.retry_backoff_max_ms)
        self._background = background
        self._listener = listener
        # Never without a pause, also with metadata_max_age_ms=0.
        self._max_age = max(config.metadata_max_age_ms, config.retry_backoff_ms, 1) / 1000
        self._bootstrap = Bootstrap(config, self._options)
        self._foreign_seeds: set[BrokerAddress] = set()
        self._told_id: dict[tuple[str, int], str] = {}
        self._full_at = self.metadata_at
        self._no_news = 0
        self._failures = 0
        self._topic_requests = float(_TOPIC_REQUESTS)
        self._topic_requests_at = self.metadata_at
        self._has_lost_all = False
        self._silent_since: float | None = None
        self._wake = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None

    # ---- lifecycle

    async def start(self, topics: TopicsInUse, timeout: float) -> None:
        """Reach one of the bootstrap servers and learn the brokers.

        Raises:
            KafkaConnectionError: None could be reached within `timeout` seconds; says why for
                each address.
        """
        self._topics = topics
        started_at = self._background.time()
        deadline = started_at + timeout
        failures = 0
        while True:
            try:
                async with async_timeout.timeout_at(deadline):
                    await self._ask_seeds()
                break
            except (TimeoutError, KafkaError) as error:
                if isinstance(error, KafkaError) and not (
                    error.retriable or isinstance(error, RebootstrapRequiredError)
                ):
                    raise
                failures += 1
                delay = self._reconnect_backoff.after(failures)
                if self._background.time() + delay >= deadline:
                    raise KafkaConnectionError(
                        "No bootstrap server could be reached within"
                        f" {seconds(self._background.time() - started_at)}",
                        reasons=self._bootstrap.reasons(),
                        hint="Check bootstrap_servers and that the brokers are up.",
                    ) from error
                if failures == 1:
                    logger.warning(
                        "No bootstrap server answers yet, trying for %s: %s",
                        seconds(timeout),
                        error,
                    )
                await asyncio.sleep(delay)
        self._full_at = self.metadata_at + self._max_age
        self.brokers.start()
        self._refreshing = self._background.create_task(
            self._keep_fresh(), name="aioproducer-metadata"
        )

    async def finish(self) -> None:
        """Before `close`: wait until brokers have read what they need not answer (`acks=0`)."""
        await self._stop_refreshing()
        await self.brokers.finish()

    async def _stop_refreshing(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    async def close(self) -> None:
        """Close every connection; returns when the sockets are closed."""
        try:
            await self._stop_refreshing()
        finally:
            try:
                await self.brokers.close()
            finally:
                await self._bootstrap.close()

    def leave_behind(self) -> None:
        """In the child of a fork: keep off the parent's connections, and make none."""
        if self._refreshing is not None:
            leave_task_behind(self._refreshing)
        self.brokers.leave_behind()
        self._bootstrap.leave_behind()

    # ---- asked by the sender

    def connection(self, node_id: int) -> Connection | None:
        """The open connection to a broker; None starts to make one."""
        if node_id in self.brokers:
            return self.brokers.connection(node_id)
        self.refresh()
        return None

    async def drain(self) -> None:
        """Return once all that was sent has left this process, for requests without answers."""
        await asyncio.gather(
            *(connection.drain() for connection in self.brokers.open_connections())
        )

    def is_broker(self, node_id: int) -> bool:
        """Whether the newest metadata names a broker."""
        return node_id in self.brokers

    def throttled_for(self, node_id: int) -> float:
        """How many seconds are left of the pause that a broker asked for (KIP-219)."""
        broker = self.brokers.get(node_id)
        if broker is None or broker.connection is None:
            return 0.0
        return max(0.0, broker.connection.throttled_until - self._background.time())

    def last_connect_error(self, node_id: int) -> KafkaError | None:
        """Why a broker cannot be reached; else why metadata cannot be had, if it cannot."""
        broker = self.brokers.get(node_id)
        if broker is not None and broker.last_error is not None:
            return broker.last_error
        error = self.last_metadata_error
        if isinstance(error, (KafkaConnectionError, KafkaTimeoutError, NetworkError)):
            return error
        return None

    def refresh(self) -> None:
        """Have everything asked for soon; calls until then are one."""
        pause = self._retry_backoff.after(max(self._no_news, 1))
        self._full_at = min(self._full_at, self.metadata_at + pause)
        self._wake.set()

    def topic_due(self) -> None:
        """Some topic is to be asked about, earlier than the others may be."""
        self._wake.set()

    async def init_producer_id(self) -> tuple[int, int]:
        """Get a producer id and its epoch from any broker.

        Raises:
            KafkaError: As the broker said; `retriable` tells whether to ask again.
        """
        response, broker = await self._ask(
            INIT_PRODUCER_ID, InitProducerIdRequest(None, 2**31 - 1), silent_after=_SLOW_AFTER
        )
        if response.error_code:
            raise broker_error(response.error_code, broker=broker)
        if response.producer_id < 0 or response.producer_epoch < 0:
            # Batches under it would not be idempotent, to any broker.
            raise NetworkError(
                f"The broker gave {response.producer_id} as a producer id, with epoch"
                f" {response.producer_epoch}",
                broker=broker,
            )
        return response.producer_id, response.producer_epoch

    # ---- keeping metadata fresh

    async def _keep_fresh(self) -> None:
        while True:
            await self._until_due()
            is_full = self._background.time() >= self._full_at
            due = self._topics.take_due()
            names = self._topics.all_names() if is_full else due
            if not is_full and not names:
                continue
            if self._silent_since is None:
                self._silent_since = self._background.time()
            try:
                await self._refresh(names, is_full=is_full)
            except KafkaError as error:
                self.last_metadata_error = error
                logger.debug("Metadata could not be refreshed: %s", error)
                if self._needs_bootstrap(error):
                    self._forget_brokers()
            except Exception:
                # A defect of ours must not end the refreshing for good: every later topic and
                # every moved leader depends on it.
                logger.exception("Metadata could not be refreshed")
            else:
                self._failures = 0
                continue
            self._topics.metadata_missed(names)
            self._failures += 1
            await asyncio.sleep(self._retry_backoff.after(self._failures))

    async def _until_due(self) -> None:
        while True:
            now = self._background.time()
            at = min(self._full_at, self._next_topic_request_at(now))
            if at <= now:
                return
            self._wake.clear()
            try:
                async with async_timeout.timeout_at(at):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _next_topic_request_at(self, now: float) -> float:
        """When to ask about topics next: a bucket of requests that fills by and by (see above)."""
        due_at = self._topics.next_due_at
        elapsed = now - self._topic_requests_at
        self._topic_requests_at = now
        self._topic_requests = min(
            float(_TOPIC_REQUESTS), self._topic_requests + elapsed / _TOPIC_REQUEST_PAUSE
        )
        if self._topic_requests >= 1:
            return due_at
        return max(due_at, now + (1 - self._topic_requests) * _TOPIC_REQUEST_PAUSE)

    async def _refresh(self, names: Sequence[str], *, is_full: bool) -> None:
        if is_full:
            # Whoever asks from here on asks for another one.
            self._full_at = self._background.time() + self._max_age
        else:
            self._topic_requests -= 1
        try:
            response, broker = await self._ask(
                METADATA, self._metadata_request(names), check=self._check_response
            )
        except BaseException:
            if is_full:
                self._full_at = self._background.time()
            raise
        is_news = self._take(response, names, broker)
        if is_full:
            self._no_news = 0 if is_news else self._no_news + 1

    def _metadata_request(self, names: Iterable[str]) -> MetadataRequest:
        return MetadataRequest(
            [MetadataRequestTopic(name=name) for name in names],
            allow_auto_topic_creation=self._config.allow_auto_create_topics,
        )

    def _check_response(self, response: MetadataResponse, address: BrokerAddress) -> None:
        """Refuse an answer that says nothing, or is another cluster's."""
        if response.error_code:
            raise broker_error(response.error_code, broker=str(address))
        if not response.brokers:
            raise NetworkError("The broker knows of no brokers", broker=str(address))
        if not self._is_ours(response, address):
            raise self._foreign(response, address)

    def _take(self, response: MetadataResponse, names: Sequence[str], broker: str) -> bool:
        """Take an answer; whether it changes anything."""
        self.last_metadata_error = None
        self._silent_since = None
        if self.brokers.open_connections():
            self._has_lost_all = False
        self.metadata_at = self._background.time()
        if self.cluster_id is not None and response.cluster_id not in (None, self.cluster_id):
            self._change_cluster(response.cluster_id)
        self.cluster_id = response.cluster_id or self.cluster_id
        is_news = self.brokers.update(
            (broker_address(each.node_id, each.host, each.port) for each in response.brokers),
            told_by=broker,
        )
        self._remember_addresses()
        if self.brokers.open_connections():
            self._bootstrap.abort(NetworkError("A broker is connected"))
        is_news |= self._topics.take_metadata(names, response.topics, broker)
        self._listener.metadata_changed()
        return is_news

    # ---- which cluster

    def _is_ours(self, response: MetadataResponse, address: BrokerAddress) -> bool:
        told, ours = response.cluster_id, self.cluster_id
        if told is None or ours is None or told == ours:
            return True
        return self._told_id.get((address.host, address.port)) == ours

    def _foreign(self, response: MetadataResponse, address: BrokerAddress) -> KafkaConnectionError:
        return KafkaConnectionError(
            "Refused to connect",
            reasons={
                str(address): f"it belongs to cluster {response.cluster_id!r}, and this producer to"
                f" {self.cluster_id!r}"
            },
            broker=str(address),
            hint="Name the brokers of one cluster only in bootstrap_servers.",
        )

    def _warn_of_foreign(self, seed: BrokerAddress, response: MetadataResponse) -> None:
        if seed not in self._foreign_seeds:
            self._foreign_seeds.add(seed)
            logger.warning(
                "Bootstrap server %s belongs to cluster %r, and this producer to %r: it is not"
                " used. Name the brokers of one cluster only in bootstrap_servers.",
                seed,
                response.cluster_id,
                self.cluster_id,
            )

    def _change_cluster(self, cluster_id: str | None) -> None:
        logger.warning(
            "The cluster behind the brokers' addresses is another one, %r instead of %r: going on"
            " there with a new producer id; records in doubt fail",
            cluster_id,
            self.cluster_id,
        )
        self._told_id.clear()
        self._full_at = self._background.time()
        self._topics.cluster_changed()
        self._listener.cluster_changed()

    def _remember_addresses(self) -> None:
        if self.cluster_id is None:
            return
        known = {(broker.address.host, broker.address.port) for broker in self.brokers.values()}
        known.update((seed.host, seed.port) for seed in self._bootstrap.seeds)
        kept = {at: id_ for at, id_ in self._told_id.items() if at in known}
        for broker in self.brokers.values():
            kept[broker.address.host, broker.address.port] = self.cluster_id
        self._told_id = kept

    async def _verify(self, connection: Connection, timeout: float) -> None:
        """Refuse a new connection to a broker's address that leads to another cluster by now."""
        if self.cluster_id is None:
            return
        address = connection.address
        try:
            response = await connection.request(
                METADATA,
                connection.version_for(METADATA),
                self._metadata_request(()),
                timeout=timeout,
            )
        except KafkaError as error:
            raise KafkaConnectionError(
                "Cannot connect", reasons={str(address): error.what()}, broker=str(address)
            ) from error
        if response.cluster_id not in (None, self.cluster_id):
            raise self._foreign(response, address)

    # ---- asking any broker

    async def _ask(
        self,
        api: Api[Req, Resp],
        request: Req,
        *,
        silent_after: float = _SILENT_AFTER,
        check: Callable[[Resp, BrokerAddress], None] | None = None,
    ) -> tuple[Resp, str]:
        """Ask one broker, and another one beside it while that one is silent.

        Returns:
            The first response, and the broker that gave it.

        Raises:
            KafkaError: No broker gave one.
        """
        asked: list[Connection] = []

        async def attempt() -> tuple[Resp, str]:
            connection = await self._any_connection(asked)
            asked.append(connection)
            response = await connection.request(
                api,
                connection.version_for(api),
                request,
                timeout=self._config.request_timeout_ms / 1000,
            )
            if check is not None:
                check(response, connection.address)
            return response, str(connection.address)

        return await _first_result(attempt, self._background, silent_after)

    async def _any_connection(self, asked: Sequence[Connection]) -> Connection:
        """The least loaded connection of those not asked yet, if it can be one that answers.

        Without connection, the first broker or bootstrap server to answer.
        """
        reasons: dict[str, str] = {}
        connection = self._least_loaded(asked) or await self._connect_to_any(reasons)
        if connection is not None:
            return connection
        if self._open_connections():
            raise NetworkError("No other broker can be asked")
        if self._config.metadata_recovery_strategy == "none":
            raise KafkaConnectionError("No broker can be reached", reasons=reasons)
        level = logging.DEBUG if self._has_lost_all else logging.WARNING
        self._has_lost_all = True
        logger.log(level, "No known broker can be reached: starting again from bootstrap_servers")
        await self._ask_seeds()
        connection = self._least_loaded(asked) or await self._connect_to_any(reasons)
        if connection is None:
            # A bootstrap server that tells of brokers nobody reaches, and hangs up: not at once
            # again, the caller has its backoff.
            raise KafkaConnectionError("No broker can be reached", reasons=reasons)
        return connection

    def _open_connections(self) -> list[Connection]:
        connections = self.brokers.open_connections()
        seed = self._bootstrap.connection
        if seed is not None and seed.is_open:
            connections.append(seed)
        return connections

    def _least_loaded(self, asked: Sequence[Connection]) -> Connection | None:
        now = self._background.time()
        return min(
            (connection for connection in self._open_connections() if connection not in asked),
            key=lambda connection: (
                max(connection.throttled_until - now, 0.0),
                connection.silent_for(now) > _SILENT_AFTER,
                connection.pending_count,
            ),
            default=None,
        )

    async def _connect_to_any(self, reasons: dict[str, str]) -> Connection | None:
        others = [broker for broker in self.brokers.values() if not broker.is_connected]
        random.shuffle(others)
        if not others:
            return None
        return await first_to_respond(
            [partial(self.brokers.connect, broker) for broker in others],
            failed=partial(_collect_reasons, reasons),
            unwanted=_keep,
        )

    # ---- beginning

    async def _ask_seeds(self) -> None:
        """Learn the brokers from the first bootstrap server that tells them."""
        connection, response = await self._bootstrap.ask(
            self._metadata_request(()), self._check_seed
        )
        self._take(response, (), str(connection.address))
        if response.cluster_id is not None:
            # Last: what other addresses told is forgotten when the cluster is another one.
            self._told_id[connection.address.host, connection.address.port] = response.cluster_id
        if self.brokers.adopt(connection):
            self._bootstrap.release()

    def _check_seed(self, response: MetadataResponse, seed: BrokerAddress) -> None:
        if not self._is_ours(response, seed):
            self._warn_of_foreign(seed, response)
        self._check_response(response, seed)

    def _needs_bootstrap(self, error: KafkaError) -> bool:
        """Whether only a new bootstrap helps: the cluster says so, or says nothing (KIP-1102).

        What counts is how long no broker has answered: the metadata may be older than that only
        because nobody asked.
        """
        if self._config.metadata_recovery_strategy != "rebootstrap":
            return False
        trigger = self._config.metadata_recovery_rebootstrap_trigger_ms / 1000
        since = self._silent_since
        is_lost = since is not None and self._background.time() - since >= trigger
        return is_lost or isinstance(error, RebootstrapRequiredError)

    def _forget_brokers(self) -> None:
        self.brokers.forget()
        self._bootstrap.abort(NetworkError("The cluster is looked for again"))


async def _first_result(
    attempt: Callable[[], Coroutine[Any, Any, tuple[Resp, str]]],
    background: Background,
    silent_after: float,
) -> tuple[Resp, str]:
    """Begin an attempt, and another one beside it each time nothing came for some seconds."""
    running: set[asyncio.Task[tuple[Resp, str]]] = set()
    begun = 0
    errors: list[BaseException] = []
    try:
        while True:
            if begun < _MOST_ASKED and (not begun or running):
                begun += 1
                running.add(background.create_task(attempt(), name="aioproducer-ask"))
            if not running:
                raise errors[0]
            done, running = await asyncio.wait(
                running,
                timeout=silent_after if begun < _MOST_ASKED else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            failed = [error for task in done if (error := task.exception()) is not None]
            if len(failed) < len(done):
                return next(task.result() for task in done if task.exception() is None)
            errors += failed
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _collect_reasons(reasons: dict[str, str], error: Exception) -> None:
    if not isinstance(error, KafkaConnectionError):
        raise error
    reasons.update(error.reasons)


def _keep(connection: Connection) -> None:
    """Keep a connection that another one was faster than: it will be needed, or is in use."""
