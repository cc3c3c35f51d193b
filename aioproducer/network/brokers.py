"""One connection to each broker, opened on demand and reopened when it is lost.

Owns the brokers that the newest metadata names, their connections, and those of brokers that left.

    a broker is      what happens
    not connected    nothing, until its connection is asked for
    connecting       attempts follow each other, with the reconnect backoff, while there is
                     something to send
    connected        its connection is handed out
    leaving          its address changed, or the metadata leaves it out: the connection takes no
                     new request, and is closed when all of its requests have their responses

Invariants
* A broker has one connection at a time, so its requests have one order. Brokers are connected in
  parallel: a slow one delays no other.
* The last failure to connect is kept for each broker, to explain a later timeout. The log gets one
  WARNING when a broker that is needed cannot be reached, and one INFO when it is reached again,
  however many attempts lie between.
* Whatever ends an attempt is a failure of it, so that the next one follows: a file that an option
  names and that is missing for a moment, too, and a defect of ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, Protocol

from aioproducer.background import Background
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    AuthenticationError,
    ConfigError,
    KafkaConnectionError,
    KafkaError,
    NetworkError,
)
from aioproducer.network.backoff import Backoff
from aioproducer.network.connecting import connect
from aioproducer.network.connection import Connection, ConnectionOptions
from aioproducer.network.diagnosis import Progress
from aioproducer.network.metadata import BrokerAddress
from aioproducer.telemetry.status import BrokerStatus

__all__ = ["LOGIN_ERRORS", "Broker", "Brokers", "ConnectionListener"]

logger = logging.getLogger(__name__)

LOGIN_ERRORS: Final = (AuthenticationError, ConfigError)
"""Not retriable by their kind, and still worth the next attempt: credentials may be mended on
either side, and a file that is missing may come back."""

_UNREACHABLE_AFTER: Final = 2.0
"""Seconds of failed attempts before a broker is reported unreachable: a restart takes less."""

_LASTED: Final = 1.0
"""Seconds a connection must last to reset the reconnect backoff."""

_CHECK_ADVERTISED: Final = (
    "Check advertised.listeners of the broker, and that the address can be reached from here."
)

_REAP_EVERY: Final = 30.0
"""Seconds between two searches for idle connections, at most."""


class ConnectionListener(Protocol):
    """Notified of what happens to connections."""

    def connection_ready(self, node_id: int) -> None:
        """A broker can be sent to."""

    def connection_writable(self, node_id: int) -> None:
        """A broker's connection has space in its write buffer again."""

    def wants_connection(self, node_id: int) -> bool:
        """Whether there is something to send to a broker."""
        ...

    def unneeded_response(self, node_id: int, response: Any) -> None:
        """A broker answered a request that expects no response (`acks=0`)."""


class Broker:
    """One broker: its connection, or the task that makes one.

    Attributes:
        address: Where it listens, as the newest metadata says.
        connection: The connection, open or about to end.
        connecting: The task that opens one.
        was_reached: It has been connected at this address.
        failures: Failed attempts to connect, in a row.
        retry_at: When to try again.
        last_error: The last failure, while it is not connected.
        failed_at: When that was, on the loop's clock.
        down_since: Since when it is known not to work: the last attempt to connect failed, or it
            ended a connection without answering. None while it is connected, or nobody tries.
        is_down: The last attempt to connect failed.
        unreachable_since: When the first of the failures was.
        is_reported: The log says that it is unreachable.
    """

    __slots__ = (
        "address",
        "connecting",
        "connection",
        "down_since",
        "failed_at",
        "failures",
        "is_down",
        "is_reported",
        "last_error",
        "retry_at",
        "unreachable_since",
        "was_reached",
    )

    def __init__(self, address: BrokerAddress) -> None:
        self.connection: Connection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.is_reported = False
        self.move_to(address)

    def move_to(self, address: BrokerAddress) -> None:
        """Take a new address, and forget the failures at the old one."""
        self.address = address
        self.was_reached = False
        self.failures = 0
        self.retry_at = 0.0
        self.last_error: KafkaError | None = None
        self.failed_at = 0.0
        self.down_since: float | None = None
        self.is_down = False
        self.unreachable_since: float | None = None

    @property
    def is_connected(self) -> bool:
        """Whether its connection takes new requests."""
        connection = self.connection
        return connection is not None and connection.is_open and not connection.is_leaving

    def status(self, now: float, frozen_after: float) -> BrokerStatus:
        """What it does; it is frozen if it owes a response for more than `frozen_after` seconds."""
        if self.connection is not None and self.is_connected:
            silent_for = self.connection.silent_for(now)
            return "frozen" if silent_for > frozen_after else "connected"
        if self.down_since is not None:
            return "unreachable"
        return "not connected" if self.connecting is None else "connecting"

    def down_since_at(self, now: float, frozen_after: float) -> float | None:
        """Since when it is frozen or unreachable; None while it is neither."""
        if self.connection is not None and self.is_connected:
            silent_for = self.connection.silent_for(now)
            return now - silent_for if silent_for > frozen_after else None
        return self.down_since


class Brokers(Mapping[int, Broker]):
    """The brokers of one cluster by node id, as the newest metadata names them.

    Args:
        config: The producer's options.
        options: What all connections have in common.
        background: Where tasks and timers run.
        listener: Notified of what happens to connections.
        verify: Raises KafkaConnectionError for a connection that leads to another cluster than
            the one before to the same address.
        lost: Called when a connection ended or could not be opened: metadata may be stale.
    """

    def __init__(
        self,
        config: ProducerConfig,
        options: ConnectionOptions,
        background: Background,
        listener: ConnectionListener,
        *,
        verify: Callable[[Connection, float], Awaitable[None]],
        lost: Callable[[], None],
    ) -> None:
        self._config = config
        self._reconnect_backoff = Backoff.of_reconnects(config)
        self._options = options
        self._background = background
        self._listener = listener
        self._verify = verify
        self._lost = lost
        self._brokers: dict[int, Broker] = {}
        self._left_out: dict[int, Broker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._source = ""
        self._is_closed = False
        self._reaping: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Close idle connections from now on."""
        self._schedule_reaping()

    async def finish(self) -> None:
        """Wait, before `close`, until brokers have read the requests with acks=0."""
        await self._stop_tasks()
        timeout = self._config.request_timeout_ms / 1000
        connections = [broker.connection for broker in self._all() if broker.connection]
        # A connection that ends meanwhile has nothing more to wait for.
        finishing = (connection.finish(timeout) for connection in connections)
        await asyncio.gather(*finishing, return_exceptions=True)

    async def _stop_tasks(self) -> None:
        self._is_closed = True
        if self._reaping is not None:
            self._reaping.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close every connection; returns when the sockets are closed."""
        try:
            await self._stop_tasks()
        finally:
            # Also when the caller is cancelled, even twice: before the tasks of `gather` have run.
            connections = [broker.connection for broker in self._all() if broker.connection]
            await asyncio.gather(*(connection.close() for connection in connections))

    def leave_behind(self) -> None:
        """Cut all connections off from the parent's sockets, in the child of a fork; open none."""
        self._is_closed = True
        if self._reaping is not None:
            self._reaping.cancel()
        for task in self._tasks:
            leave_task_behind(task)
        for broker in self._all():
            if broker.connection is not None:
                broker.connection.leave_behind()

    # ---- looking

    def __getitem__(self, node_id: int) -> Broker:
        return self._brokers[node_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._brokers)

    def __len__(self) -> int:
        return len(self._brokers)

    def name(self, node_id: int) -> str:
        """The name of a broker in an error: `1 at host:port`."""
        broker = self._brokers.get(node_id) or self._left_out.get(node_id)
        return str(node_id) if broker is None else f"{node_id} at {broker.address}"

    def open_connections(self) -> list[Connection]:
        """The connections that take new requests."""
        return [
            broker.connection
            for broker in self._brokers.values()
            if broker.connection is not None and broker.is_connected
        ]

    def any_connect_error(self) -> KafkaError | None:
        """The last failure to connect of any broker that is unreachable now."""
        for broker in self._brokers.values():
            if broker.last_error is not None:
                return broker.last_error
        return None

    # ---- connections

    def connection(self, node_id: int) -> Connection | None:
        """The open connection to a broker of the cluster; if there is none, start to open one."""
        broker = self._brokers[node_id]
        if broker.is_connected:
            return broker.connection
        if broker.connection is None and broker.connecting is None and not self._is_closed:
            task = broker.connecting = self._background.create_task(
                self._keep_connecting(broker), name=f"aioproducer-connect-{node_id}"
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return None

    async def connect(self, broker: Broker) -> Connection:
        """Return the open connection to a broker, or try once to connect, beside other attempts.

        Raises:
            KafkaConnectionError: It could not be reached; `reasons` says why.
            AuthenticationError: One of the two does not trust the other.
            ConfigError: A file that an option names cannot be used.
        """
        if broker.is_connected and broker.connection is not None:
            return broker.connection
        address = broker.address
        maximum = self._config.socket_connection_setup_timeout_max_ms / 1000
        base = self._config.socket_connection_setup_timeout_ms / 1000
        timeout = min(maximum, base * 2.0 ** min(broker.failures, 30))
        progress = Progress(address, uses_tls=self._options.tls is not None)
        report = self._background.call_at(
            (broker.unreachable_since or self._background.time()) + _UNREACHABLE_AFTER,
            self._still_connecting,
            broker,
            progress,
        )
        connection: Connection | None = None
        try:
            due_at = self._background.time() + timeout
            connection = await connect(address, self._options, timeout=timeout, progress=progress)
            if broker.was_reached:
                await self._verify(connection, max(due_at - self._background.time(), 0.001))
        except Exception as error:
            if connection is not None:
                await connection.close()
            raise self._failed(broker, address, error) from error
        except BaseException:
            if connection is not None:
                await connection.close()
            raise
        finally:
            report.cancel()
        if broker.is_connected and broker.connection is not None:
            # Another attempt to the same broker was faster.
            await connection.close()
            return broker.connection
        if (
            self._brokers.get(address.node_id) is not broker
            or broker.address != address
            or broker.connection is not None
            or not connection.is_open
        ):
            # The broker left, moved or got a connection meanwhile: nobody would close this one.
            await connection.close()
            raise KafkaConnectionError(
                "Cannot connect",
                reasons={str(address): "the broker is no longer known by this address"},
                broker=str(address),
            )
        self._adopt(broker, connection)
        return connection

    def adopt(self, connection: Connection) -> bool:
        """Keep a bootstrap connection for the broker with its address, if that one has none."""
        for broker in self._brokers.values():
            if _leads_to(connection, broker.address):
                if broker.connection is None and connection.is_open:
                    self._adopt(broker, connection)
                    return True
                return False
        return False

    def update(self, addresses: Iterable[BrokerAddress], *, source: str) -> bool:
        """Replace the known brokers by those of a metadata response.

        Args:
            addresses: The brokers.
            source: The address of the broker that responded.

        Returns:
            Whether that changes anything.
        """
        self._source = source
        newest = {address.node_id: address for address in addresses}
        is_news = newest != {node_id: known.address for node_id, known in self.items()}
        for node_id in [node_id for node_id in self._brokers if node_id not in newest]:
            self._left_out[node_id] = self._brokers.pop(node_id)
            self._leave(self._left_out[node_id], "The broker left the cluster")
        for node_id, address in newest.items():
            broker = self._brokers.get(node_id) or self._take_in(address)
            if broker.address != address:
                broker.move_to(address)
                self._leave(broker, "The broker has a new address")
        return is_news

    def learn(self, addresses: Iterable[BrokerAddress]) -> None:
        """Add the brokers that a Produce response names (KIP-951); none is removed."""
        for address in addresses:
            if address.node_id not in self._brokers:
                self._take_in(address)

    def _take_in(self, address: BrokerAddress) -> Broker:
        broker = self._left_out.pop(address.node_id, None) or Broker(address)
        # Metadata may leave a broker out by mistake: it is back before its connection has ended.
        if broker.connection is not None:
            broker.connection.is_leaving = not _leads_to(broker.connection, broker.address)
        self._brokers[address.node_id] = broker
        return broker

    def forget(self) -> None:
        """Forget all brokers and end their connections, before a new bootstrap."""
        for broker in self._all():
            self._end(broker, "The cluster is looked for again from bootstrap_servers")
        self._brokers.clear()
        self._left_out.clear()

    # ---- inside

    def _all(self) -> list[Broker]:
        return [*self._brokers.values(), *self._left_out.values()]

    def _leave(self, broker: Broker, why: str) -> None:
        """End a broker's connection once its requests in flight have their responses."""
        connection = broker.connection
        if connection is not None and connection.pending_count:
            self._stop_connecting(broker)
            connection.is_leaving = True
            connection.on_drained = lambda: self._drained(broker, connection, why)
        else:
            self._end(broker, why)

    def _drained(self, broker: Broker, connection: Connection, why: str) -> None:
        connection.on_drained = None
        if connection.is_leaving and broker.connection is connection:
            self._end(broker, why)

    def _end(self, broker: Broker, why: str) -> None:
        self._stop_connecting(broker)
        if self._left_out.get(broker.address.node_id) is broker:
            del self._left_out[broker.address.node_id]
        if broker.connection is not None:
            logger.debug("Closing the connection to %s: %s", broker.connection.address, why)
            broker.connection.is_leaving = True
            broker.connection.abort(
                NetworkError(why, broker=str(broker.address), possibly_persisted=True)
            )

    def _stop_connecting(self, broker: Broker) -> None:
        if broker.connecting is not None:
            broker.connecting.cancel()
            broker.connecting = None

    async def _keep_connecting(self, broker: Broker) -> None:
        node_id = broker.address.node_id
        try:
            while self._brokers.get(node_id) is broker and broker.connection is None:
                delay = broker.retry_at - self._background.time()
                if delay > 0:
                    await asyncio.sleep(delay)
                try:
                    await self.connect(broker)
                except KafkaError:
                    self._lost()
                    if not self._listener.wants_connection(node_id):
                        return
        finally:
            # A new address of the broker may have started another task in place of this one.
            if broker.connecting is asyncio.current_task():
                broker.connecting = None
        if broker.is_connected:
            self._listener.connection_ready(node_id)

    def _failed(self, broker: Broker, address: BrokerAddress, error: Exception) -> KafkaError:
        explained = self._explained(broker, address, error)
        if not isinstance(error, KafkaError) and not _says_the_same(broker.last_error, explained):
            logger.error("%s", explained.what(), exc_info=error)
        if broker.address == address:
            now = self._background.time()
            if broker.unreachable_since is None:
                broker.unreachable_since = now
            broker.last_error = explained
            broker.failed_at = now
            if broker.down_since is None:
                broker.down_since = now
            broker.is_down = True
            broker.failures += 1
            broker.retry_at = now + self._reconnect_backoff.after(broker.failures)
            is_final = isinstance(error, LOGIN_ERRORS)
            if is_final or now - broker.unreachable_since >= _UNREACHABLE_AFTER:
                why = str(explained) if is_final else explained.what()
                self._report(broker, why, blames_address=not is_final)
        logger.debug("%s", explained.what())
        return explained

    def _explained(self, broker: Broker, address: BrokerAddress, error: Exception) -> KafkaError:
        if isinstance(error, LOGIN_ERRORS):
            again = error.again()
            again.broker = again.broker or str(address)
            return again
        node_id = address.node_id
        advertised = "" if broker.was_reached else ", the address that it advertises"
        hint = "" if broker.was_reached else _CHECK_ADVERTISED
        if isinstance(error, KafkaConnectionError):
            reasons, hint = error.reasons, error.hint or hint
        elif isinstance(error, KafkaError):
            reasons = {str(address): error.what()}
        else:
            # A defect, and not the address.
            reasons, hint = {str(address): f"{type(error).__name__}: {error}".rstrip(": ")}, ""
        return KafkaConnectionError(
            f"Cannot connect to broker {node_id}{advertised}",
            reasons=reasons,
            broker=str(address),
            hint=hint,
        )

    def _still_connecting(self, broker: Broker, progress: Progress) -> None:
        if broker.connection is None:
            reasons = ", ".join(progress.reasons(within=" so far").values())
            self._report(broker, reasons)

    def _report(self, broker: Broker, why: str, *, blames_address: bool = True) -> None:
        node_id = broker.address.node_id
        if broker.is_reported or not self._listener.wants_connection(node_id):
            return
        broker.is_reported = True
        if broker.was_reached or not blames_address:
            logger.warning(
                "Broker %s at %s cannot be reached, and records wait for it: %s",
                node_id,
                broker.address,
                why,
            )
        else:
            logger.warning(
                "Broker %s cannot be reached at %s, the address that it advertises, and records"
                " wait for it: %s. %s, which told this address, answers: check advertised.listeners"
                " of the broker, and that the address can be reached from here.",
                node_id,
                broker.address,
                why,
                self._source,
            )

    def _adopt(self, broker: Broker, connection: Connection) -> None:
        node_id = broker.address.node_id
        broker.connection = connection
        broker.was_reached = True
        broker.last_error = None
        broker.is_down = False
        made_at = self._background.time()
        broker.unreachable_since = None
        broker.down_since = None
        if broker.is_reported:
            broker.is_reported = False
            logger.info("Broker %s at %s is reached again", node_id, broker.address)

        def on_lost(reason: KafkaError) -> None:
            broker.connection = None
            if self._left_out.get(node_id) is broker:
                del self._left_out[node_id]
            if self._brokers.get(node_id) is not broker:
                return
            if not connection.is_leaving:
                now = self._background.time()
                # Not the loss itself, where the connection ended because it could not log in again.
                cause = reason.__cause__
                if not isinstance(cause, LOGIN_ERRORS):
                    cause = reason
                broker.last_error = cause
                # A broker that accepts and hangs up at once counts like one that does not accept.
                broker.failures = 1 if now - made_at > _LASTED else broker.failures + 1
                broker.retry_at = now + self._reconnect_backoff.after(broker.failures)
                broker.unreachable_since = now
                broker.failed_at = now
                # An idle connection that it closes says nothing against it.
                broker.down_since = connection.unanswered_since
                if not self._is_closed:
                    logger.info("The connection to broker %s ended: %s", node_id, reason.what())
                    self._lost()
            if self._listener.wants_connection(node_id):
                self.connection(node_id)

        connection.on_lost = on_lost
        connection.on_writable = lambda: self._listener.connection_writable(node_id)
        connection.on_unneeded_response = partial(self._listener.unneeded_response, node_id)

    def _schedule_reaping(self) -> None:
        idle = self._config.connections_max_idle_ms / 1000
        at = self._background.time() + min(idle / 2, _REAP_EVERY)
        self._reaping = self._background.call_at(at, self._reap_idle, idle)

    def _reap_idle(self, idle: float) -> None:
        now = self._background.time()
        for broker in self._all():
            connection = broker.connection
            if connection is None or connection.pending_count:
                continue
            if now - connection.last_used_at >= idle:
                self._end(broker, "it was idle for connections_max_idle_ms")
        self._schedule_reaping()


def _says_the_same(last: KafkaError | None, error: KafkaError) -> bool:
    return last is not None and last.what() == error.what()


def _leads_to(connection: Connection, address: BrokerAddress) -> bool:
    own = connection.address
    return (own.host, own.port) == (address.host, address.port)


def leave_task_behind(task: asyncio.Task[None]) -> None:
    """Cancel a task in the child of a fork, where most often no loop ever runs it."""
    task.cancel()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # pyright: ignore
