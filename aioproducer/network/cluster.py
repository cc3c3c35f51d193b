"""What any broker can answer: metadata and a producer id.

Owns the brokers (brokers.py), the bootstrap servers, and one task that refreshes metadata:

    asked for                            when
    the brokers and all topics in use    every `metadata_max_age_ms`, and soon after `refresh()` (a
                                         connection was lost): paced by a backoff that grows while
                                         the responses bring no news
    topics that are due                  at `topics.next_due_at`: new topics at once, in a request
                                         without the others; some tens of requests a second

Invariants
* One Metadata request is under way at a time. If its broker is silent for a second, another broker
  is asked, too.
* A producer belongs to one cluster, by its id. If an address that gave this id gives another one
  later, the cluster was rebuilt: everything known of it is forgotten, with one warning. If an
  address never gave this id, it belongs to another cluster and is refused.
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
from aioproducer.network.brokers import (
    LOGIN_ERRORS,
    Brokers,
    ConnectionListener,
    leave_task_behind,
)
from aioproducer.network.connecting import connection_options, first_to_respond
from aioproducer.network.connection import Connection
from aioproducer.network.metadata import BrokerAddress, broker_address
from aioproducer.network.starting import Attempts
from aioproducer.protocol.init_producer_id import INIT_PRODUCER_ID, InitProducerIdRequest
from aioproducer.protocol.metadata import (
    METADATA,
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseTopic,
)
from aioproducer.protocol.schema import Api

__all__ = ["Cluster", "ClusterListener", "TopicsInUse"]

logger = logging.getLogger(__name__)

Req = TypeVar("Req", bound="tuple[object, ...]")
Resp = TypeVar("Resp", bound="tuple[object, ...]")

_SILENT_AFTER: Final = 1.0
"""Seconds of silence before another broker is asked, too."""

_SLOW_AFTER: Final = 3.0
"""The same for a producer id. Brokers get it from the controller, so all may be slow, and the
requests behind it on their connections wait."""

_MOST_ASKED: Final = 3
"""Brokers that get the same request at the same time, at most."""

_TOPIC_REQUESTS: Final = 10
"""Requests for topics that may follow each other at once; then they are paced."""

_TOPIC_REQUEST_PAUSE: Final = 0.05
"""Seconds until one more such request may follow at once."""


class TopicsInUse(Protocol):
    """The owner of the topics, as the cluster sees it."""

    @property
    def next_due_at(self) -> float:
        """When the next topic is to be asked for, beside the full refreshes."""
        ...

    def take_due(self) -> list[str]:
        """The topics to ask for now; they are not due any more."""
        ...

    def all_names(self) -> list[str]:
        """The topics of a full refresh."""
        ...

    def take_metadata(
        self, asked: Sequence[str], responses: Iterable[MetadataResponseTopic], broker: str
    ) -> bool:
        """Take the topics of a response; returns whether they change anything."""
        ...

    def metadata_missed(self, asked: Iterable[str]) -> None:
        """No broker answered: the topics are due again."""

    def cluster_changed(self) -> None:
        """Another cluster is behind the brokers' addresses now."""


class ClusterListener(ConnectionListener, Protocol):
    """Notified of changes of the cluster and its connections, beside those of topics."""

    def metadata_changed(self) -> None:
        """A metadata response was taken."""

    def cluster_changed(self) -> None:
        """Another cluster is behind the brokers' addresses now."""


class Cluster:
    """The cluster of one producer.

    Args:
        config: The producer's options.
        background: Where tasks and timers run.
        listener: Notified of connections and changes.

    Attributes:
        brokers: The brokers and their connections.
        cluster_id: The cluster's id; None until a broker gives it.
        metadata_at: When the last metadata response came, on the loop's clock.
        last_metadata_error: Why the last refresh failed; None after a success.
        metadata_failed_at: When it failed, on the loop's clock.
        silent_since: Since when brokers are asked for metadata and none has answered; None while
            nobody asks.
        is_reached: Whether any broker has answered since the start.
    """

    def __init__(
        self,
        config: ProducerConfig,
        background: Background,
        listener: ClusterListener,
    ) -> None:
        self._options = connection_options(config)
        self.brokers = Brokers(
            config, self._options, background, listener, verify=self._verify, lost=self.refresh
        )
        self.cluster_id: str | None = None
        self.metadata_at = background.time()
        self.last_metadata_error: KafkaError | None = None
        self.metadata_failed_at = self.metadata_at
        self.silent_since: float | None = None
        self.is_reached = False
        self._config = config
        self._retry_backoff = Backoff.of_retries(config)
        self._background = background
        self._listener = listener
        # There is a pause even with metadata_max_age_ms=0.
        self._max_age = max(config.metadata_max_age_ms, config.retry_backoff_ms, 1) / 1000
        self._bootstrap = Bootstrap(config, self._options)
        self._foreign_seeds: set[BrokerAddress] = set()
        self._cluster_id_by_address: dict[tuple[str, int], str] = {}
        self._full_at = self.metadata_at
        self._no_news = 0
        self._failures = 0
        self._topic_requests = float(_TOPIC_REQUESTS)
        self._topic_requests_at = self.metadata_at
        self._has_lost_all = False
        self._wake = asyncio.Event()
        self._attempted = asyncio.Event()
        self._is_stopped = False
        self._refreshing: asyncio.Task[None] | None = None

    # ---- lifecycle

    async def start(self, topics: TopicsInUse, timeout: float) -> None:
        """Reach one of the bootstrap servers and learn the brokers.

        Raises:
            KafkaConnectionError: No server could be reached within `timeout` seconds; says why
                for each address.
            ListenerMismatchError: They answer in a way that waiting does not mend.
            AuthenticationError: They refused us, or we do not trust them.
            ConfigError: A file that an option names cannot be used.
        """
        self._topics = topics
        started_at = self._background.time()
        deadline = started_at + timeout
        attempts = Attempts(self._config)
        while True:
            try:
                async with async_timeout.timeout_at(deadline):
                    await self._ask_seeds()
                break
            except (TimeoutError, KafkaError) as error:
                if attempts.failed(error, self._background.time()):
                    raise
                delay = attempts.pause(is_hopeless=False)
                if self._background.time() + delay >= deadline:
                    raise self._unreached(started_at) from error
                if attempts.failures == 1:
                    logger.warning(
                        "No bootstrap server answers yet, trying for %s: %s",
                        seconds(timeout),
                        error,
                    )
                await asyncio.sleep(delay)
        self._serve()
        self._refreshing = self._background.create_task(
            self._keep_fresh(), name="aioproducer-metadata"
        )

    def start_in_background(self, topics: TopicsInUse, reached: Callable[[], None]) -> None:
        """Try to reach a bootstrap server until one answers or the producer is closed.

        Args:
            topics: The owner of the topics.
            reached: Called when a server has answered.
        """
        self._topics = topics
        self._refreshing = self._background.create_task(
            self._reach_and_keep_fresh(reached), name="aioproducer-metadata"
        )

    async def _reach_and_keep_fresh(self, reached: Callable[[], None]) -> None:
        attempts = Attempts(self._config)
        self.silent_since = self._background.time()
        reported: type[KafkaError] | None = None
        while not self.is_reached:
            try:
                await self._ask_seeds()
            except KafkaError as error:
                is_hopeless = attempts.failed(error, self._background.time())
                self._metadata_failed(error)
                if type(error) is not reported:
                    reported = type(error)
                    _report_start(error, is_hopeless=is_hopeless)
                self._attempted.set()
                await asyncio.sleep(attempts.pause(is_hopeless=is_hopeless))
            except Exception as error:
                # A defect of ours must not end this task, for which records wait.
                attempts.failed(error, self._background.time())
                logger.exception("The cluster could not be looked for")
                said = f"The cluster could not be looked for: {type(error).__name__}: {error}"
                self._metadata_failed(NetworkError(said.rstrip(": ")))
                self._attempted.set()
                await asyncio.sleep(attempts.pause(is_hopeless=False))
        if reported is not None:
            logger.info("The cluster is reached")
        self._attempted.set()
        self._serve()
        reached()
        await self._keep_fresh()

    async def wait_until_reached(self, timeout: float) -> None:
        """Wait until `start_in_background` has reached a server, or the producer is closed.

        Raises:
            KafkaError: As `start` does.
        """
        started_at = self._background.time()
        attempts = Attempts(self._config)
        try:
            async with async_timeout.timeout(timeout):
                while not (self.is_reached or self._is_stopped):
                    error = self.last_metadata_error
                    if error is not None and attempts.failed(error, self.metadata_failed_at):
                        raise error.again()
                    self._attempted.clear()
                    await self._attempted.wait()
        except TimeoutError as error:
            if isinstance(error, KafkaError):
                raise
            raise self._unreached(started_at) from self.last_metadata_error

    def _unreached(self, started_at: float) -> KafkaConnectionError:
        return KafkaConnectionError(
            "No bootstrap server could be reached within"
            f" {seconds(self._background.time() - started_at)}",
            reasons=self._bootstrap.reasons(),
            hint="Check bootstrap_servers and that the brokers are up.",
        )

    def _serve(self) -> None:
        """The brokers are known: look after their connections."""
        self._full_at = self.metadata_at + self._max_age
        self.brokers.start()

    async def finish(self) -> None:
        """Wait, before `close`, until brokers have read the requests with acks=0."""
        await self._stop_refreshing()
        await self.brokers.finish()

    async def _stop_refreshing(self) -> None:
        self._is_stopped = True
        self._attempted.set()
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
        """Cut all connections off from the parent's sockets, in the child of a fork; open none."""
        if self._refreshing is not None:
            leave_task_behind(self._refreshing)
        self.brokers.leave_behind()
        self._bootstrap.leave_behind()

    # ---- brokers

    def connection(self, node_id: int) -> Connection | None:
        """The open connection to a broker; if there is none, start to open one."""
        if node_id in self.brokers:
            return self.brokers.connection(node_id)
        self.refresh()
        return None

    async def drain(self) -> None:
        """Return once everything sent has left this process, for requests without response."""
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
        """Why a broker, or else the metadata, cannot be reached; None when neither failed."""
        broker = self.brokers.get(node_id)
        if broker is not None and broker.last_error is not None:
            return broker.last_error
        error = self.last_metadata_error
        kinds = (*LOGIN_ERRORS, KafkaConnectionError, KafkaTimeoutError, NetworkError)
        if isinstance(error, kinds):
            return error
        return None

    def refresh(self) -> None:
        """Ask for the brokers and all topics soon; calls until then count as one."""
        pause = self._retry_backoff.after(max(self._no_news, 1))
        self._full_at = min(self._full_at, self.metadata_at + pause)
        self._wake.set()

    def topic_due(self) -> None:
        """`topics.next_due_at` may be earlier than before."""
        self._wake.set()

    async def init_producer_id(self) -> tuple[int, int]:
        """Get a producer id and its epoch from any broker.

        Raises:
            KafkaError: What the broker answered; `retriable` says whether to ask again.
        """
        response, broker = await self.ask(
            INIT_PRODUCER_ID, InitProducerIdRequest(None, 2**31 - 1), silent_after=_SLOW_AFTER
        )
        if response.error_code:
            raise broker_error(response.error_code, broker=broker)
        if response.producer_id < 0 or response.producer_epoch < 0:
            # To any broker, batches under it would not be idempotent.
            raise NetworkError(
                f"The broker gave {response.producer_id} as a producer id, with epoch"
                f" {response.producer_epoch}",
                broker=broker,
            )
        return response.producer_id, response.producer_epoch

    # ---- metadata

    async def _keep_fresh(self) -> None:
        while True:
            await self._until_due()
            is_full = self._background.time() >= self._full_at
            due = self._topics.take_due()
            names = self._topics.all_names() if is_full else due
            if not is_full and not names:
                continue
            if self.silent_since is None:
                self.silent_since = self._background.time()
            try:
                await self._refresh(names, is_full=is_full)
            except KafkaError as error:
                self._metadata_failed(error)
                logger.debug("Metadata could not be refreshed: %s", error)
                if self._needs_bootstrap(error):
                    self._forget_brokers()
            except Exception:
                # A defect of ours must not end this task: every later topic and every moved
                # leader depends on it.
                logger.exception("Metadata could not be refreshed")
            else:
                self._failures = 0
                continue
            self._topics.metadata_missed(names)
            self._failures += 1
            await asyncio.sleep(self._retry_backoff.after(self._failures))

    def _metadata_failed(self, error: KafkaError) -> None:
        self.last_metadata_error = error
        self.metadata_failed_at = self._background.time()

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
        """When to ask for topics next: a token bucket of requests paces them."""
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
            # A call of `refresh` from here on asks for the next one.
            self._full_at = self._background.time() + self._max_age
        else:
            self._topic_requests -= 1
        try:
            response, broker = await self.ask(
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
        """Refuse a response that names no brokers, or comes from another cluster."""
        if response.error_code:
            raise broker_error(response.error_code, broker=str(address))
        if not response.brokers:
            raise NetworkError("The broker knows of no brokers", broker=str(address))
        if not self._is_ours(response, address):
            raise self._foreign(response, address)

    def _take(self, response: MetadataResponse, names: Sequence[str], broker: str) -> bool:
        """Take a metadata response; returns whether it changes anything."""
        self.is_reached = True
        self.last_metadata_error = None
        self.silent_since = None
        if self.brokers.open_connections():
            self._has_lost_all = False
        self.metadata_at = self._background.time()
        if self.cluster_id is not None and response.cluster_id not in (None, self.cluster_id):
            self._change_cluster(response.cluster_id)
        self.cluster_id = response.cluster_id or self.cluster_id
        is_news = self.brokers.update(
            (broker_address(each.node_id, each.host, each.port) for each in response.brokers),
            source=broker,
        )
        self._remember_addresses()
        if self.brokers.open_connections():
            self._bootstrap.abort("A broker is connected")
        is_news |= self._topics.take_metadata(names, response.topics, broker)
        self._listener.metadata_changed()
        return is_news

    # ---- which cluster

    def _is_ours(self, response: MetadataResponse, address: BrokerAddress) -> bool:
        theirs, ours = response.cluster_id, self.cluster_id
        if theirs is None or ours is None or theirs == ours:
            return True
        return self._cluster_id_by_address.get((address.host, address.port)) == ours

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
        self._cluster_id_by_address.clear()
        self._full_at = self._background.time()
        self._topics.cluster_changed()
        self._listener.cluster_changed()

    def _remember_addresses(self) -> None:
        if self.cluster_id is None:
            return
        known = {(broker.address.host, broker.address.port) for broker in self.brokers.values()}
        known.update((seed.host, seed.port) for seed in self._bootstrap.seeds)
        kept = {at: id_ for at, id_ in self._cluster_id_by_address.items() if at in known}
        for broker in self.brokers.values():
            kept[broker.address.host, broker.address.port] = self.cluster_id
        self._cluster_id_by_address = kept

    async def _verify(self, connection: Connection, timeout: float) -> None:
        """Refuse a new connection to a broker's address where another cluster answers now."""
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

    async def ask(
        self,
        api: Api[Req, Resp],
        request: Req,
        *,
        silent_after: float = _SILENT_AFTER,
        check: Callable[[Resp, BrokerAddress], None] | None = None,
    ) -> tuple[Resp, str]:
        """Ask one broker, and while it is silent another one, too.

        Returns:
            The first response, and the address of its broker.

        Raises:
            KafkaError: No broker answered.
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
        """The least loaded open connection that was not asked yet.

        Where there is none, a new one: to the first broker, or else bootstrap server, to answer.
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
            # The bootstrap server names brokers that cannot be reached, and hung up. The caller
            # tries again after its backoff.
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

    # ---- bootstrap

    async def _ask_seeds(self) -> None:
        """Learn the brokers from the first bootstrap server that answers."""
        connection, response = await self._bootstrap.ask(
            self._metadata_request(()), self._check_seed
        )
        self._take(response, (), str(connection.address))
        if response.cluster_id is not None:
            # After `_take`, which forgets the ids of all addresses when the cluster changed.
            address = connection.address
            self._cluster_id_by_address[address.host, address.port] = response.cluster_id
        if self.brokers.adopt(connection):
            self._bootstrap.release()

    def _check_seed(self, response: MetadataResponse, seed: BrokerAddress) -> None:
        if not self._is_ours(response, seed):
            self._warn_of_foreign(seed, response)
        self._check_response(response, seed)

    def _needs_bootstrap(self, error: KafkaError) -> bool:
        """Whether to start again from the bootstrap servers (KIP-1102).

        A broker demands it, or no broker has answered for too long. The age of the metadata does
        not count: it may be old only because nobody asked.
        """
        if self._config.metadata_recovery_strategy != "rebootstrap":
            return False
        trigger = self._config.metadata_recovery_rebootstrap_trigger_ms / 1000
        since = self.silent_since
        is_lost = since is not None and self._background.time() - since >= trigger
        return is_lost or isinstance(error, RebootstrapRequiredError)

    def _forget_brokers(self) -> None:
        self.brokers.forget()
        self._bootstrap.abort("The cluster is looked for again")


async def _first_result(
    attempt: Callable[[], Coroutine[Any, Any, tuple[Resp, str]]],
    background: Background,
    silent_after: float,
) -> tuple[Resp, str]:
    """Start an attempt, and another one each time `silent_after` seconds bring no result."""
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


def _report_start(error: KafkaError, *, is_hopeless: bool) -> None:
    if is_hopeless:
        logger.error(
            "The cluster cannot be reached, and it is tried again until that is mended: %s", error
        )
    else:
        logger.warning("No bootstrap server answers yet, and it is tried again: %s", error)


def _collect_reasons(reasons: dict[str, str], error: Exception) -> None:
    if isinstance(error, KafkaConnectionError):
        reasons.update(error.reasons)
    elif isinstance(error, LOGIN_ERRORS):
        reasons[error.broker or "broker"] = error.what()
    else:
        raise error


def _keep(connection: Connection) -> None:
    """Keep a connection that came too late: its broker will need it."""
