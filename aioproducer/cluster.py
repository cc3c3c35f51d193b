"""The cluster as the producer sees it: connections by node id, and fresh metadata.

Owned by the producer; the sender asks it for connections and hears of changes through a
`ClusterListener`. Two kinds of task live here and nowhere else: one refreshes metadata, and one
per broker connects.

Invariants
* One connection per broker. Brokers are connected side by side: a slow one delays no other.
* Metadata is asked for by one request at a time. A new topic is asked for at once; anything that
  repeats waits for the backoff.
* The last failure to connect to each broker is kept, to explain a later timeout.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from functools import partial
from typing import Protocol

import async_timeout

from aioproducer.config import ProducerConfig
from aioproducer.connecting import connect, first_to_answer
from aioproducer.errors import (
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NetworkError,
    RebootstrapRequiredError,
    TopicAuthorizationFailedError,
    broker_error,
)
from aioproducer.metadata import BrokerAddress, ClusterMetadata, PartitionLeader
from aioproducer.protocol.init_producer_id import INIT_PRODUCER_ID, InitProducerIdRequest
from aioproducer.protocol.metadata import METADATA, MetadataRequest, MetadataRequestTopic
from aioproducer.retry import backoff
from aioproducer.transaction import ProducerIdentity
from aioproducer.transport import Connection, ConnectionOptions

__all__ = ["Cluster", "ClusterListener"]

logger = logging.getLogger(__name__)


class ClusterListener(Protocol):
    """What the sender hears."""

    def metadata_changed(self, topics: Iterable[str]) -> None:
        """`cluster.metadata` is a new snapshot, with news of these topics."""

    def topic_failed(self, topic: str, error: KafkaError) -> None:
        """A topic will not appear: its name is invalid, or it is not ours to see."""

    def connection_ready(self, node_id: int) -> None:
        """A broker can be sent to."""

    def connection_writable(self, node_id: int) -> None:
        """A broker's connection took what was waiting to be written."""

    def wants_connection(self, node_id: int) -> bool:
        """Whether there is something to send to a broker."""
        ...


class _Node:
    """One broker: its connection, or the task that makes one."""

    def __init__(self, address: BrokerAddress) -> None:
        self.address = address
        self.connection: Connection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.failures = 0
        self.retry_at = 0.0
        self.last_error: KafkaError | None = None

    @property
    def is_connected(self) -> bool:
        return self.connection is not None and self.connection.is_open


class Cluster:
    """Connections and metadata of one producer.

    Attributes:
        metadata: The newest snapshot.
        metadata_at: When it was taken, on the loop's clock.
        last_metadata_error: Why the last refresh failed; None after a success.
    """

    def __init__(
        self,
        config: ProducerConfig,
        options: ConnectionOptions,
        listener: ClusterListener,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.metadata = ClusterMetadata()
        self.metadata_at = loop.time()
        self.last_metadata_error: KafkaError | None = None
        self.topic_errors: dict[str, KafkaError] = {}
        self._config = config
        self._options = options
        self._listener = listener
        self._loop = loop
        self._nodes: dict[int, _Node] = {}
        self._topics: set[str] = set()
        self._new_topics: set[str] = set()
        self._is_refresh_wanted = False
        self._has_lost_all = False
        self._refresh_failures = 0
        self._unanswered_since: float | None = None
        self._wake_refresh = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None
        self._reaping: asyncio.TimerHandle | None = None
        self._seeds = [
            BrokerAddress(-1 - index, host, port)
            for index, (host, port) in enumerate(config.bootstrap_addresses)
        ]

    # ---- lifecycle

    async def start(self, timeout: float) -> None:
        """Reach one of the bootstrap servers and learn the brokers.

        Raises:
            KafkaConnectionError: None could be reached within `timeout` seconds; says why for
                each address.
        """
        deadline = self._loop.time() + timeout
        failures = 0
        while True:
            try:
                async with async_timeout.timeout_at(deadline):
                    await self._bootstrap()
                break
            except (TimeoutError, KafkaError) as error:
                if isinstance(error, KafkaError) and not (
                    error.retriable or isinstance(error, RebootstrapRequiredError)
                ):
                    raise
                failures += 1
                if failures == 1:
                    logger.warning(
                        "No bootstrap server answers yet, trying for %g s: %s", timeout, error
                    )
                delay = self._reconnect_delay(failures)
                if self._loop.time() + delay >= deadline:
                    reasons = self._seed_reasons()
                    raise KafkaConnectionError(
                        f"No bootstrap server could be reached within {timeout:g} s",
                        reasons=reasons,
                        hint="Check bootstrap_servers and that the brokers are up.",
                    ) from error
                await asyncio.sleep(delay)
        self._refreshing = self._loop.create_task(
            self._keep_metadata_fresh(), name="aioproducer-metadata"
        )
        self._schedule_reaping()

    async def close(self) -> None:
        """Close every connection; returns when the sockets are closed."""
        if self._reaping is not None:
            self._reaping.cancel()
        tasks = [node.connecting for node in self._nodes.values() if node.connecting is not None]
        if self._refreshing is not None:
            tasks.append(self._refreshing)
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            # Also when the caller is cancelled, and again before the tasks of `gather` have run.
            connections = [node.connection for node in self._nodes.values() if node.connection]
            for connection in connections:
                connection.abort(
                    NetworkError("The client closed the connection", possibly_persisted=True)
                )
            await asyncio.gather(*(connection.close() for connection in connections))

    def leave_behind(self) -> None:
        """In the child of a fork: keep off the parent's connections, and make none."""
        if self._reaping is not None:
            self._reaping.cancel()
        tasks = [node.connecting for node in self._nodes.values()]
        for task in (self._refreshing, *tasks):
            if task is not None:
                task.cancel()
                # Most often the loop's copy never runs again, which is nothing to complain of.
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # pyright: ignore
        for node in self._nodes.values():
            if node.connection is not None:
                node.connection.leave_behind()

    # ---- connections

    def connection(self, node_id: int) -> Connection | None:
        """The open connection to a broker; None starts to make one."""
        node = self._node(node_id)
        if node is None:
            self.refresh()
            return None
        if node.is_connected:
            return node.connection
        if node.connecting is None:
            node.connecting = self._loop.create_task(
                self._keep_connecting(node), name=f"aioproducer-connect-{node_id}"
            )
        return None

    async def drain(self) -> None:
        """Return once all that was sent has left this process, for requests without answers."""
        connections = [node.connection for node in self._nodes.values() if node.connection]
        await asyncio.gather(*(connection.drain() for connection in connections))

    def throttled_for(self, node_id: int) -> float:
        """How many seconds are left of the pause that a broker asked for (KIP-219)."""
        node = self._nodes.get(node_id)
        if node is None or node.connection is None:
            return 0.0
        return max(0.0, node.connection.throttled_until - self._loop.time())

    def last_connect_error(self, node_id: int) -> KafkaError | None:
        """Why the last attempt to connect to a broker failed, if it did."""
        node = self._nodes.get(node_id)
        return None if node is None else node.last_error

    def any_connect_error(self) -> KafkaError | None:
        """A broker's last failure to connect, if one is unreachable now."""
        for node in self._nodes.values():
            if node.last_error is not None:
                return node.last_error
        return None

    def broker_name(self, node_id: int) -> str:
        """A broker for the reader of an error: `1 at host:port`."""
        address = self.metadata.brokers.get(node_id)
        return str(node_id) if address is None else f"{node_id} at {address}"

    def nodes(self) -> dict[int, bool]:
        """The known brokers, and whether each is connected."""
        return {node_id: self.is_connected(node_id) for node_id in self.metadata.brokers}

    def is_connected(self, node_id: int) -> bool:
        """Whether there is an open connection to a broker."""
        return node_id in self._nodes and self._nodes[node_id].is_connected

    def _node(self, node_id: int) -> _Node | None:
        address = self.metadata.brokers.get(node_id)
        if address is None:
            return None
        node = self._nodes.get(node_id)
        if node is not None and node.address != address:
            # The broker moved: its connection goes with the old address.
            self._drop(node_id, "The broker has a new address")
            node = None
        if node is None:
            node = self._nodes[node_id] = _Node(address)
        return node

    def _drop(self, node_id: int, why: str) -> None:
        node = self._nodes.pop(node_id)
        if node.connecting is not None:
            node.connecting.cancel()
        if node.connection is not None:
            node.connection.abort(
                NetworkError(why, broker=str(node.address), possibly_persisted=True)
            )

    async def _keep_connecting(self, node: _Node) -> None:
        node_id = node.address.node_id
        try:
            while self._nodes.get(node_id) is node:
                delay = node.retry_at - self._loop.time()
                if delay > 0:
                    await asyncio.sleep(delay)
                try:
                    await self._connect(node)
                except KafkaConnectionError as error:
                    logger.info("Broker %s cannot be reached: %s", node_id, error)
                    self.refresh()
                if node.is_connected:
                    break
                if not self._listener.wants_connection(node_id):
                    return
        finally:
            node.connecting = None
        if node.is_connected:
            self._listener.connection_ready(node_id)

    async def _connect(self, node: _Node) -> Connection:
        maximum = self._config.socket_connection_setup_timeout_max_ms / 1000
        base = self._config.socket_connection_setup_timeout_ms / 1000
        timeout = min(maximum, base * 2.0 ** min(node.failures, 30))
        try:
            connection = await connect(node.address, self._options, timeout=timeout)
        except KafkaConnectionError as error:
            node.last_error = error
            node.failures += 1
            node.retry_at = self._loop.time() + self._reconnect_delay(node.failures)
            raise
        faster = node.connection
        if faster is not None and faster.is_open:
            # Another attempt to the same broker was faster. It may end while this one is closed.
            await connection.close()
            return faster
        if self._nodes.get(node.address.node_id) is not node:
            # Dropped meanwhile, by another task's news: nobody would close it.
            await connection.close()
            raise KafkaConnectionError(
                "Cannot connect",
                reasons={str(node.address): "the broker is no longer known by this address"},
                broker=str(node.address),
            )
        self._adopt(node, connection)
        return connection

    def _adopt(self, node: _Node, connection: Connection) -> None:
        node.connection = connection
        node.failures = 0
        node.last_error = None
        node_id = node.address.node_id

        def on_lost(reason: KafkaError) -> None:
            node.connection = None
            node.last_error = reason
            node.failures = max(node.failures, 1)
            node.retry_at = self._loop.time() + self._reconnect_delay(node.failures)
            if self._nodes.get(node_id) is node:
                logger.info("The connection to broker %s ended: %s", node_id, reason)
                self.refresh()
                if self._listener.wants_connection(node_id):
                    self.connection(node_id)

        connection.on_lost = on_lost
        connection.on_writable = lambda: self._listener.connection_writable(node_id)

    def _reconnect_delay(self, failures: int) -> float:
        return backoff(
            failures,
            base=self._config.reconnect_backoff_ms / 1000,
            maximum=self._config.reconnect_backoff_max_ms / 1000,
            random=random.random,
        )

    def _schedule_reaping(self) -> None:
        idle = self._config.connections_max_idle_ms / 1000
        self._reaping = self._loop.call_later(min(idle / 2, 30.0), self._reap_idle, idle)

    def _reap_idle(self, idle: float) -> None:
        now = self._loop.time()
        for node_id, node in list(self._nodes.items()):
            connection = node.connection
            if connection is None or connection.pending_count:
                continue
            if now - connection.last_used_at >= idle:
                logger.debug("Closing the idle connection to broker %s", node_id)
                self._drop(node_id, "The connection was idle for connections_max_idle_ms")
        self._schedule_reaping()

    # ---- bootstrap

    async def _bootstrap(self) -> None:
        seeds = list(self._seeds)
        random.shuffle(seeds)
        connection = await self._first_reachable(seeds)
        try:
            await self._fetch_metadata(connection, topics=())
        except BaseException:
            await connection.close()
            raise
        self._take_over(connection)

    async def _first_reachable(self, addresses: Iterable[BrokerAddress]) -> Connection:
        """Connect to the first of several addresses to answer."""
        reasons: dict[str, str] = {}

        def failed(error: Exception) -> None:
            if not isinstance(error, KafkaConnectionError):
                raise error
            reasons.update(error.reasons)

        def unwanted(connection: Connection) -> None:
            # One to a broker is kept: it will be needed, or is in use already.
            seed = self._nodes.get(connection.address.node_id)
            if connection.address.node_id < 0 and seed is not None:
                self._drop(connection.address.node_id, "Another address answered first")

        nodes = [self._nodes.setdefault(one.node_id, _Node(one)) for one in addresses]
        connection = await first_to_answer(
            [partial(self._connect, node) for node in nodes], failed=failed, unwanted=unwanted
        )
        if connection is None:
            raise KafkaConnectionError("No address could be reached", reasons=reasons)
        return connection

    def _take_over(self, connection: Connection) -> None:
        """Keep a bootstrap connection as the one to the broker that it turned out to be."""
        seed = self._nodes.pop(connection.address.node_id, None)
        for address in self.metadata.brokers.values():
            if (address.host, address.port) == (connection.address.host, connection.address.port):
                node = self._nodes.setdefault(address.node_id, _Node(address))
                if not node.is_connected:
                    self._adopt(node, connection)
                    return
        if seed is not None:
            self._nodes[connection.address.node_id] = seed

    def _seed_reasons(self) -> dict[str, str]:
        reasons: dict[str, str] = {}
        for seed in self._seeds:
            node = self._nodes.get(seed.node_id)
            error = None if node is None else node.last_error
            if isinstance(error, KafkaConnectionError):
                reasons.update(error.reasons)
            else:
                reasons[str(seed)] = "no answer" if error is None else error.what()
        return reasons

    # ---- metadata

    def need_topic(self, topic: str) -> None:
        """Learn of a topic, at once."""
        self._topics.add(topic)
        self._new_topics.add(topic)
        self._wake_refresh.set()

    def forget_topics(self, topics: Iterable[str]) -> None:
        """Ask no more about topics that got no record for long."""
        names = set(topics)
        self._topics -= names
        self._new_topics -= names
        self.metadata = self.metadata.without_topics(names)

    def refresh(self) -> None:
        """Have the metadata of all topics asked for soon; calls until then are one."""
        self._is_refresh_wanted = True
        self._wake_refresh.set()

    def take_leader_hint(
        self, topic: str, partition: int, leader: PartitionLeader, addresses: list[BrokerAddress]
    ) -> bool:
        """Take a new leader from a Produce answer (KIP-951); False when it is no news."""
        changed = self.metadata.with_leader(topic, partition, leader, addresses)
        if changed is None:
            return False
        self.metadata = changed
        return True

    async def _keep_metadata_fresh(self) -> None:
        # Never without a pause, also with metadata_max_age_ms=0.
        max_age = max(self._config.metadata_max_age_ms, self._config.retry_backoff_ms, 1) / 1000
        while True:
            try:
                async with async_timeout.timeout_at(self.metadata_at + max_age):
                    await self._wake_refresh.wait()
            except TimeoutError:
                self._is_refresh_wanted = True
            self._wake_refresh.clear()
            await self._sleep_or_new_topic(self._refresh_delay())
            all_topics = self._is_refresh_wanted
            topics = self._topics if all_topics else self._new_topics & self._topics
            self._is_refresh_wanted = False
            self._new_topics = set()
            if self._unanswered_since is None:
                self._unanswered_since = self._loop.time()
            try:
                connection = await self._any_connection()
                is_complete = await self._fetch_metadata(connection, tuple(topics))
            except KafkaError as error:
                self.last_metadata_error = error
                logger.info("Metadata could not be refreshed: %s", error)
                is_complete = False
                if self._needs_bootstrap(error):
                    self._forget_brokers()
            except Exception:
                # A defect of ours must not end the refreshing for good: every later topic and
                # every moved leader depends on it.
                logger.exception("Metadata could not be refreshed")
                is_complete = False
            if is_complete:
                self._refresh_failures = 0
            else:
                self._refresh_failures += 1
                self.refresh()

    def _refresh_delay(self) -> float:
        """The pause before a refresh: the backoff, and after a success what is left of its start.

        A success does not end what asks for refreshes: brokers may name each other as leaders, or
        answer and hang up, for ever.
        """
        pause = backoff(
            max(self._refresh_failures, 1),
            base=self._config.retry_backoff_ms / 1000,
            maximum=self._config.retry_backoff_max_ms / 1000,
            random=random.random,
        )
        if self._refresh_failures:
            return pause
        return max(0.0, self.metadata_at + pause - self._loop.time())

    async def _sleep_or_new_topic(self, delay: float) -> None:
        try:
            async with async_timeout.timeout(delay):
                while not self._new_topics:
                    await self._wake_refresh.wait()
                    self._wake_refresh.clear()
        except TimeoutError:
            pass

    async def _fetch_metadata(self, connection: Connection, topics: tuple[str, ...]) -> bool:
        """Ask one broker; True when every topic asked for has a known leader everywhere."""
        request = MetadataRequest(
            [MetadataRequestTopic(name=name) for name in topics],
            allow_auto_topic_creation=self._config.allow_auto_create_topics,
        )
        response = await connection.request(
            METADATA,
            connection.version_for(METADATA),
            request,
            timeout=self._config.request_timeout_ms / 1000,
        )
        if response.error_code:
            raise broker_error(response.error_code, broker=str(connection.address))
        if not response.brokers:
            raise NetworkError("The broker knows of no brokers", broker=str(connection.address))
        self.last_metadata_error = None
        self._unanswered_since = None
        self._has_lost_all = False
        self.metadata = self.metadata.merged(response)
        self.metadata_at = self._loop.time()
        for node_id in [id_ for id_ in self._nodes if id_ not in self.metadata.brokers]:
            if self._nodes[node_id].connection is not connection:
                self._drop(node_id, "The broker left the cluster")
        # A topic that the answer leaves out is as unknown as before.
        is_complete = {topic.name for topic in response.topics}.issuperset(topics)
        for topic in response.topics:
            if topic.name is None:
                continue
            if not topic.error_code:
                self.topic_errors.pop(topic.name, None)
                # A leader that is no broker of the cluster is asked for again and again until it
                # is one: not without the backoff. So are the partitions of a topic without any.
                leaders = self.metadata.topics[topic.name].leaders
                is_complete &= bool(leaders) and all(
                    leader.node_id in self.metadata.brokers for leader in leaders
                )
                continue
            error = broker_error(topic.error_code, broker=str(connection.address))
            self.topic_errors[topic.name] = error
            if isinstance(error, (InvalidTopicError, TopicAuthorizationFailedError)):
                self._topics.discard(topic.name)
                self._listener.topic_failed(topic.name, error)
            else:
                is_complete = False
        self._listener.metadata_changed(
            [topic.name for topic in response.topics if topic.name is not None]
        )
        return is_complete

    async def _any_connection(self) -> Connection:
        """The least loaded connection, if it can be one that is not throttled.

        Without connection, the first broker or bootstrap server to answer.
        """
        connected = [
            node.connection
            for node in self._nodes.values()
            if node.connection is not None and node.connection.is_open
        ]
        if connected:
            now = self._loop.time()
            return min(
                connected,
                key=lambda connection: (
                    max(connection.throttled_until - now, 0.0),
                    connection.pending_count,
                ),
            )
        brokers = list(self.metadata.brokers.values())
        random.shuffle(brokers)
        try:
            return await self._first_reachable(brokers)
        except KafkaConnectionError:
            if self._config.metadata_recovery_strategy == "none":
                raise
        level = logging.INFO if self._has_lost_all else logging.WARNING
        self._has_lost_all = True
        logger.log(level, "No known broker can be reached: starting again from bootstrap_servers")
        await self._bootstrap()
        return await self._any_connection()

    def _needs_bootstrap(self, error: KafkaError) -> bool:
        """Whether only a new bootstrap helps: the cluster says so, or says nothing (KIP-1102).

        What counts is how long no broker has answered: the metadata may be older than that only
        because nobody asked.
        """
        if self._config.metadata_recovery_strategy != "rebootstrap":
            return False
        trigger = self._config.metadata_recovery_rebootstrap_trigger_ms / 1000
        since = self._unanswered_since
        is_lost = since is not None and self._loop.time() - since >= trigger
        return is_lost or isinstance(error, RebootstrapRequiredError)

    def _forget_brokers(self) -> None:
        for node_id in list(self._nodes):
            self._drop(node_id, "The cluster is looked for again from bootstrap_servers")
        self.metadata = ClusterMetadata(None, {}, self.metadata.topics)

    # ---- producer id

    async def init_producer_id(self) -> ProducerIdentity:
        """Get a producer id from any broker.

        Raises:
            KafkaError: As the broker said; `retriable` tells whether to ask again.
        """
        connection = await self._any_connection()
        response = await connection.request(
            INIT_PRODUCER_ID,
            connection.version_for(INIT_PRODUCER_ID),
            InitProducerIdRequest(None, 2**31 - 1),
            timeout=self._config.request_timeout_ms / 1000,
        )
        if response.error_code:
            raise broker_error(response.error_code, broker=str(connection.address))
        if response.producer_id < 0 or response.producer_epoch < 0:
            # Batches under it would not be idempotent, to any broker.
            raise NetworkError(
                f"The broker gave {response.producer_id} as a producer id, with epoch"
                f" {response.producer_epoch}",
                broker=str(connection.address),
            )
        return ProducerIdentity(response.producer_id, response.producer_epoch)

    def explain_timeout(
        self, topic: str, node_id: int
    ) -> tuple[KafkaError | None, KafkaError | None]:
        """The last broker error and the last connect error that bear on a topic and broker."""
        broker_said = self.topic_errors.get(topic)
        connect_error = self.last_connect_error(node_id)
        if connect_error is None and isinstance(
            self.last_metadata_error, (KafkaConnectionError, KafkaTimeoutError, NetworkError)
        ):
            connect_error = self.last_metadata_error
        return broker_said, connect_error
