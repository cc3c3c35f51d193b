"""The producer: what users hold. Lifecycle, the delivery modes, flush and close.

The calls that run once per record come from the native `SendPath`; here is what runs once per
batch, per caller that waits, or per producer. Owns the sender, which owns everything below.

States: created -> open -> closing -> closed. Only an open producer accepts records. A start that
failed leaves it created; `close` works in every state and any number of times.
"""

from __future__ import annotations

import asyncio
import enum
import importlib.metadata
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, Unpack, cast, overload

import async_timeout

from aioproducer._native.record_batch import Delivery
from aioproducer._native.send_path import SendPath
from aioproducer.config import ProducerConfig, ProducerOptions
from aioproducer.errors import (
    ConfigError,
    InvalidPartitionError,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    ProducerClosedError,
    ProducerNotStartedError,
    SerializationError,
    WrongEventLoopError,
)
from aioproducer.hooks import OnDelivery, SerializerOption
from aioproducer.records import Header, K, ProducerRecord, RecordMetadata, V
from aioproducer.room import Admission, DeliveryWhenRoom, wait_for_room
from aioproducer.sender import Sender
from aioproducer.serialization import as_function, serialization_error
from aioproducer.transport import ConnectionOptions

__all__ = ["Producer", "UndeliveredRecord"]

logger = logging.getLogger(__name__)

_MAX_TIMESTAMP_MS = 2**62

# Looked up here, because it reads files: in `start` that would hold the loop.
_VERSION = importlib.metadata.version("aioproducer")


class _State(enum.Enum):
    CREATED = "created"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    FORKED = "left behind by a fork"


_open_producers: weakref.WeakSet[Producer[Any, Any]] = weakref.WeakSet()


def _leave_behind_after_fork() -> None:
    # The child has a copy of the loop and the sockets, and two processes writing to one
    # connection would garble it: the copy accepts nothing.
    for producer in list(_open_producers):
        producer._forked()  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(after_in_child=_leave_behind_after_fork)


@dataclass(frozen=True, slots=True)
class UndeliveredRecord:
    """A record that `close` gave up on.

    Attributes:
        record: The record as it was to be stored: key and value are the serialized bytes.
        error: Why; `error.possibly_persisted` tells whether it may be stored nevertheless.
    """

    record: ProducerRecord[bytes, bytes]
    error: KafkaError


class Producer(SendPath[K, V]):
    """Sends records to Kafka from one event loop.

    Args:
        config: All options as one value; or give them as keywords.
        bootstrap_servers: Brokers to ask first, `"host:port,host:port"` or a sequence.
        **options: The options of `ProducerConfig`.

    Raises:
        ConfigError: An option is unknown, impossible or in conflict with another.

    Example:
        async with Producer(bootstrap_servers="localhost:9092") as producer:
            metadata = await producer.send_and_wait("payments", b"12.50", key=b"card-1")
            print(metadata.partition, metadata.offset)
    """

    @overload
    def __init__(self, config: ProducerConfig, /) -> None: ...
    @overload
    def __init__(
        self,
        config: None = None,
        /,
        *,
        bootstrap_servers: str | Sequence[str],
        **options: Unpack[ProducerOptions],
    ) -> None: ...
    def __init__(self, config: ProducerConfig | None = None, /, **options: Any) -> None:
        if config is None:
            if "bootstrap_servers" not in options:
                raise ConfigError(
                    "must be given", option="bootstrap_servers", allowed="'host:port,host:port'"
                )
            config = ProducerConfig(**options)
        elif not isinstance(config, ProducerConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"options are given by name: Producer(bootstrap_servers={config!r})")
        elif options:
            raise TypeError("pass a ProducerConfig or options, not both: config.replace(...)")
        self.config = config
        self._state = _State.CREATED
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sender: Sender | None = None
        self._starting: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[tuple[UndeliveredRecord, ...]] | None = None
        self._close_deadline: float | None = None
        self._delivering_rest: asyncio.Timeout | None = None
        self._room_timer: asyncio.TimerHandle | None = None

    @classmethod
    def from_properties(cls, properties: dict[str, Any]) -> Self:
        """Make a producer from Java's property names: `{"bootstrap.servers": ...}`."""
        return cls(ProducerConfig.from_properties(properties))

    @classmethod
    def from_env(cls, prefix: str = "KAFKA_") -> Self:
        """Make a producer from environment variables: `KAFKA_BOOTSTRAP_SERVERS=...`."""
        return cls(ProducerConfig.from_env(prefix))

    def __repr__(self) -> str:
        return f"<Producer client_id={self.config.client_id!r} {self._state.value}>"

    # ---- lifecycle

    async def start(self) -> None:
        """Connect to the cluster. Starting again does nothing; `async with` does it for you.

        Returns when one broker answered. Cancelling leaves the producer as it was.

        Raises:
            KafkaConnectionError: No bootstrap server answered within `max_block_ms`; the error
                names each address and why.
            ProducerClosedError: It was closed before.
        """
        if self._state is _State.OPEN:
            self._check_loop()
            return
        if self._state is _State.FORKED:
            self._refuse_call()
        if not self._is_created():
            raise ProducerClosedError("A closed producer cannot be started again: make a new one")
        if self._starting is not None:
            await asyncio.shield(self._starting)
            # It is open now, unless the task that was at it was cancelled.
            await self.start()
            return
        starting = self._starting = asyncio.get_running_loop().create_future()
        try:
            await self._start()
        except KafkaError as error:
            starting.set_exception(error.again())
            starting.exception()
            raise
        finally:
            self._starting = None
            if not starting.done():
                starting.set_result(None)

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        serialize_key = as_function(self.config.key_serializer, option="key_serializer")
        serialize_value = as_function(self.config.value_serializer, option="value_serializer")
        sender = Sender(self.config, self._connection_options(), loop)
        try:
            await sender.start()
            if not self._is_created():
                raise ProducerClosedError("The producer was closed while it started")
        except BaseException:
            await sender.close()
            raise
        self._loop = loop
        self._sender = sender
        self._open_path(sender.accumulator, serialize_key, serialize_value)
        self._state = _State.OPEN
        _open_producers.add(self)

    async def flush(self) -> None:
        """Wait until every record accepted so far is stored or has failed.

        Batches leave at once, whatever `linger_ms` says. Never raises for a record: look at its
        delivery. Bounded by `delivery_timeout_ms`. Cancelling ends the wait only.
        """
        await self._open_sender().flush()

    async def close(self, timeout: float | None = None) -> tuple[UndeliveredRecord, ...]:
        """Deliver what was accepted, then let everything go. Closing again does nothing.

        New records are refused from the call on, and callers who wait for room get
        `ProducerClosedError`.

        Args:
            timeout: Seconds to deliver what is left; 0 gives up at once. None waits as long as
                the records may take: `delivery_timeout_ms`, at most `max_block_ms` longer for
                those whose topic is unknown.

        Returns:
            The records given up on, with their errors; empty when all is well. Their deliveries
            fail with `ProducerClosedError`.
        """
        if timeout is not None and timeout < 0:
            raise ValueError(f"timeout must be 0 or more seconds, not {timeout}")
        if self._state in (_State.CLOSED, _State.FORKED):
            return ()
        if self._sender is None:
            self._state = _State.CLOSED
            return ()
        if self._closing is None:
            self._check_loop()
            self._state = _State.CLOSING
            self._close_path()
            self._closing = asyncio.get_running_loop().create_task(
                self._close(self._sender), name="aioproducer-close"
            )
        if timeout is not None:
            self._bound_close(asyncio.get_running_loop().time() + timeout)
        return await asyncio.shield(self._closing)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if getattr(self, "_state", None) is _State.OPEN:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)

    def _bound_close(self, deadline: float) -> None:
        """Have the close under way give up at `deadline`; the earliest of all callers counts."""
        if self._close_deadline is not None and self._close_deadline <= deadline:
            return
        self._close_deadline = deadline
        if self._delivering_rest is not None:
            self._delivering_rest.reschedule(deadline)

    async def _close(self, sender: Sender) -> tuple[UndeliveredRecord, ...]:
        sender.admissions.reject_all(self._closed_error)
        undelivered: tuple[UndeliveredRecord, ...] = ()
        if self._room_timer is not None:
            self._room_timer.cancel()
        try:
            try:
                async with asyncio.timeout_at(self._close_deadline) as self._delivering_rest:
                    await sender.flush()
            except TimeoutError:
                pass
        finally:
            # Also when the loop ends and cancels this: nobody must wait for what never comes.
            self._delivering_rest = None
            undelivered = _give_up(sender)
            await sender.close()
            self._state = _State.CLOSED
        if undelivered:
            logger.warning("The producer was closed with %s records undelivered", len(undelivered))
        return undelivered

    # ---- in bulk

    @overload
    async def send_many(
        self,
        topic: str,
        records: Iterable[V | ProducerRecord[K, V]],
        *,
        return_exceptions: Literal[False] = False,
    ) -> list[RecordMetadata]: ...
    @overload
    async def send_many(
        self,
        topic: str,
        records: Iterable[V | ProducerRecord[K, V]],
        *,
        return_exceptions: bool,
    ) -> list[RecordMetadata | KafkaError]: ...
    async def send_many(
        self,
        topic: str,
        records: Iterable[V | ProducerRecord[K, V]],
        *,
        return_exceptions: bool = False,
    ) -> list[RecordMetadata] | list[RecordMetadata | KafkaError]:
        """Send many records and wait until all are stored.

        Each record waits for room `max_block_ms` at most, once those before it have theirs.

        Args:
            topic: Where the plain values go.
            records: Values, or `ProducerRecord`s that name their own topic and the rest.
            return_exceptions: Put the errors of failed records among the results, instead of
                raising the first one once all outcomes are known.

        Returns:
            The `RecordMetadata` of each record, in the order given.

        Raises:
            KafkaError: The first record's that failed. Errors that a call of `send` would raise
                are raised at once; records before that one go on.

        Example:
            results = await producer.send_many("payments", [b"1", ProducerRecord("audit", b"2")])
        """
        values = list(records)
        deliveries: list[Delivery] = []
        accepted = self._accept_many(topic, values, 0, deliveries)
        while accepted < len(values):
            deliveries.append(await self._send_value(topic, values[accepted]))
            accepted = self._accept_many(topic, values, accepted + 1, deliveries)
        results: list[RecordMetadata | KafkaError] = []
        first_error: KafkaError | None = None
        for delivery in deliveries:
            try:
                results.append(await delivery)
            except KafkaError as error:
                first_error = first_error or error
                results.append(error)
        if first_error is not None and not return_exceptions:
            raise first_error
        return results

    def _send_value(
        self, topic: str, value: V | ProducerRecord[K, V]
    ) -> Coroutine[Any, Any, Delivery]:
        if isinstance(value, ProducerRecord):
            return self.send(cast("ProducerRecord[K, V]", value))
        return self.send(topic, value)

    # ---- looking

    async def partitions_for(self, topic: str) -> tuple[int, ...]:
        """The ids of a topic's partitions, asking the cluster if they are not known.

        Raises:
            UnknownTopicOrPartitionError, KafkaTimeoutError: Not known within `max_block_ms`.
        """
        return await self._open_sender().partitions_for(topic)

    def metrics(self) -> dict[str, float]:
        """Counters and gauges, by names like Java's with `_` for `-`. Cheap to call."""
        return self._open_sender().metrics()

    def status(self) -> dict[str, Any]:
        """What a health check wants to know: the state, the brokers, the buffer, the last error."""
        sender = self._sender
        state = {"state": self._state.value, "client_id": self.config.client_id}
        return state if sender is None else {**state, **sender.status()}

    # ---- called by the send path

    def _send_when_room(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        headers: Sequence[Header] | None,
        timestamp_ms: int | None,
        on_delivery: OnDelivery | None,
    ) -> Admission:
        sender = self._open_sender()
        loop = self._check_loop()
        max_block = self.config.max_block_ms / 1000
        expires_at = loop.time() + max_block
        admission = wait_for_room(
            sender,
            loop,
            expires_at,
            (topic, key, value, partition, headers, timestamp_ms, on_delivery),
        )
        if self._room_timer is None:
            self._room_timer = loop.call_at(expires_at, self._expire_waiters)
        return admission

    def _expire_waiters(self) -> None:
        self._room_timer = None
        sender = self._sender
        if sender is None or self._loop is None:
            return
        max_block = self.config.max_block_ms / 1000
        sender.expire_admissions(self._loop.time(), partial(self._no_room_in_time, max_block))
        following = sender.admissions.next_expiry
        if following is not None:
            self._room_timer = self._loop.call_at(following, self._expire_waiters)

    def _no_room_in_time(self, waited: float) -> KafkaError:
        sender = self._open_sender()
        return KafkaTimeoutError(
            waited=waited,
            waiting_for=f"room in the buffer (max_block_ms): {sender.no_room_error().what()}",
            last_connect_error=sender.cluster.any_connect_error(),
            hint="Send slower, or raise buffer_memory or max_block_ms.",
        )

    def _deliver_when_room(
        self, admission: Admission, topic: str, timeout: float | None
    ) -> DeliveryWhenRoom:
        return DeliveryWhenRoom(
            admission, partial(self._wait_for_delivery, admission, topic, timeout)
        )

    async def _wait_for_delivery(
        self,
        accepted: Coroutine[Any, Any, Delivery | RecordMetadata],
        topic: str,
        timeout: float | None,
    ) -> RecordMetadata:
        # `accepted` is a Delivery, or what waits for room and gives one.
        is_accepted = isinstance(accepted, Delivery)
        try:
            async with async_timeout.timeout(timeout):
                result = await accepted
                is_accepted = True
                return await result if isinstance(result, Delivery) else result
        except TimeoutError as error:
            if isinstance(error, KafkaError):
                raise
            # It may have been admitted in the very turn in which the time was over.
            if not is_accepted and not (isinstance(accepted, Admission) and accepted.is_admitted):
                raise KafkaTimeoutError(
                    waited=timeout or 0.0,
                    waiting_for=f"room in the buffer for a record for topic {topic!r}"
                    " (timeout of the call)",
                    hint="The record was not accepted. Send slower, or raise buffer_memory.",
                ) from None
            raise KafkaTimeoutError(
                waited=timeout or 0.0,
                waiting_for=f"a record for topic {topic!r} to be stored (timeout of the call)",
                possibly_persisted=True,
                hint="The record goes on until delivery_timeout_ms; only this wait is over.",
            ) from None

    def _no_room_error(self, topic: str) -> KafkaError:
        return self._open_sender().no_room_error()

    def _serialization_error(
        self,
        topic: str,
        field: Literal["key", "value", "headers"],
        value: object,
        cause: Exception | None,
    ) -> SerializationError:
        configured: SerializerOption | None = None
        if field != "headers":
            config = self.config
            configured = config.key_serializer if field == "key" else config.value_serializer
        return serialization_error(topic, field, type(value), cause, configured)

    def _check_numbers(self, topic: str, partition: object, timestamp_ms: object) -> None:
        if partition is not None and (type(partition) is not int or not 0 <= partition < 2**31):
            raise InvalidPartitionError(
                f"{partition!r} is no partition of topic {topic!r}: a partition is an integer"
                " from 0 on"
            )
        if timestamp_ms is not None and (
            type(timestamp_ms) is not int or not 0 <= timestamp_ms <= _MAX_TIMESTAMP_MS
        ):
            raise InvalidTimestampError(
                f"{timestamp_ms!r} is no timestamp: milliseconds since the epoch, an integer"
                " from 0 on"
            )

    def _refuse_topic(self, topic: object) -> None:
        raise InvalidTopicError(f"A topic is a str, not {type(topic).__name__}")

    def _refuse_call(self) -> None:
        """Say why a call of the send path is not possible now."""
        if self._state is _State.CREATED:
            raise ProducerNotStartedError(
                "The producer is not started",
                hint="Use `async with producer:` or `await producer.start()` first.",
            )
        if self._state is _State.FORKED:
            raise WrongEventLoopError(
                "The producer was started before this process was forked",
                hint="Start one producer in each worker process, after the fork.",
            )
        if self._state is not _State.OPEN:
            raise self._closed_error()
        raise WrongEventLoopError(
            "The producer was called from another thread than its event loop's"
            f" ({threading.current_thread().name})",
            hint="Use loop.call_soon_threadsafe(producer.send_nowait, ...).",
        )

    def _forked(self) -> None:
        self._close_path()
        self._state = _State.FORKED
        if self._sender is not None:
            self._sender.leave_behind()

    def _closed_error(self) -> ProducerClosedError:
        return ProducerClosedError("The producer is closed")

    # ---- inside

    def _is_created(self) -> bool:
        # A call, because a type checker takes an attribute for unchanged over an await.
        return self._state is _State.CREATED

    def _open_sender(self) -> Sender:
        if self._sender is None or self._state not in (_State.OPEN, _State.CLOSING):
            self._refuse_call()
        assert self._sender is not None
        return self._sender

    def _check_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not None and loop is not self._loop:
            raise WrongEventLoopError(
                "The producer belongs to another event loop than the one that runs now",
                hint="Make one producer per loop, inside it, and close it there.",
            )
        return loop

    def _connection_options(self) -> ConnectionOptions:
        return ConnectionOptions(
            client_id=self.config.client_id,
            client_version=_VERSION,
            ssl_context=self.config.tls_context(),
            send_buffer_bytes=self.config.send_buffer_bytes,
            receive_buffer_bytes=self.config.receive_buffer_bytes,
        )


def _give_up(sender: Sender) -> tuple[UndeliveredRecord, ...]:
    undelivered: list[UndeliveredRecord] = []
    accumulator = sender.accumulator
    held = {
        topic.name: accumulator.held_records(topic)
        for topic in accumulator.topic_queues.values()
        if topic.unrouted_count
    }
    for batch in sender.fail_everything():
        assert batch.error is not None
        undelivered.extend(
            UndeliveredRecord(
                ProducerRecord(batch.topic, value, key, batch.partition, headers, timestamp_ms),
                batch.error,
            )
            for key, value, headers, timestamp_ms in batch.records()
        )
    for name, records in held.items():
        error = ProducerClosedError(
            f"The producer was closed before the partitions of topic {name!r} were known"
        )
        undelivered.extend(
            UndeliveredRecord(
                ProducerRecord(name, value, key, partition, headers, timestamp_ms), error
            )
            for key, value, partition, headers, timestamp_ms in records
        )
    return tuple(undelivered)
