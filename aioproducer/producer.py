"""What users hold: the lifecycle of a producer, its ways to send, flush and close.

The native `SendPath` has the calls that run once per record. Here is what runs once per batch, per
waiting caller, or per producer. Owns the sender, which owns everything below.

States: created -> open -> closing -> closed. Only an open producer accepts records. A start that
failed leaves it created; `start(wait=False)` opens it at once, and its status is "starting" until
the cluster is reached. `close` works in every state and any number of times.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, cast, overload

import async_timeout

from aioproducer._native.record_batch import Delivery, gather_deliveries
from aioproducer._native.send_path import SendPath
from aioproducer._native.serializer_call import SerializerCall
from aioproducer.background import Background, Timer
from aioproducer.compression import codec_for
from aioproducer.config import ProducerConfig, ProducerOptions
from aioproducer.errors import (
    ConfigError,
    InvalidPartitionError,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    ProducerClosedError,
    ProducerNotStartedError,
    SerializationError,
    TransactionStateError,
    WrongEventLoopError,
)
from aioproducer.hooks import SerializerOption, UndeliveredRecord
from aioproducer.records import (
    K,
    ProducerRecord,
    RecordMetadata,
    TopicK,
    TopicV,
    TypedTopic,
    V,
)
from aioproducer.sending.queued_send import (
    QueuedAdmission,
    QueuedDelivery,
    SerializedRecord,
    wait_for_space,
)
from aioproducer.sending.undelivered import UndeliveredRecords
from aioproducer.sending.waiting_callers import Waiter
from aioproducer.serialization import as_function, header_error, serialization_error
from aioproducer.telemetry.metrics import metrics_of_nothing
from aioproducer.telemetry.status import ProducerState, ProducerStatus, why_unhealthy
from aioproducer.transactions.block import transaction_of
from aioproducer.transactions.offsets import (
    ConsumerGroupMetadata,
    Offsets,
    group_metadata_of,
    topics_of,
)

if TYPE_CHECKING:
    from aioproducer.sending.record_sender import RecordSender
    from aioproducer.sending.sender import Sender
    from aioproducer.threads import FromThread
    from aioproducer.transactions.transactions import Transactions

__all__ = ["Producer", "UndeliveredRecord", "UndeliveredRecords"]

logger = logging.getLogger(__name__)


class _State(enum.Enum):
    CREATED = "created"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    FORKED = "left behind by a fork"


_making_from_thread = threading.Lock()

_open_producers: weakref.WeakSet[Producer[Any, Any]] = weakref.WeakSet()


def _leave_behind_after_fork() -> None:
    # The child has copies of the loop and the sockets. Two processes that write to one connection
    # would garble it, so the copy accepts nothing.
    for producer in list(_open_producers):
        producer._forked()  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(after_in_child=_leave_behind_after_fork)


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
        self._config = config
        # Here, since in `start` an import would block the loop.
        codec_for(config.compression_type)
        _sender_class()
        self._serializers = (
            as_function(config.key_serializer, option="key_serializer"),
            as_function(config.value_serializer, option="value_serializer"),
        )
        self._state = _State.CREATED
        self._sender: RecordSender | None = None
        self._from_thread: FromThread[K, V] | None = None
        self._starting: asyncio.Task[RecordSender] | None = None
        self._starters = 0
        self._is_draining = False
        self._closing: asyncio.Task[UndeliveredRecords] | None = None
        self._close_deadline: float | None = None
        self._delivering_rest: asyncio.Timeout | None = None
        self._background: Background
        self._space_timer: Timer

    @classmethod
    def from_properties(cls, properties: dict[str, Any]) -> Self:
        """Make a producer from Java's property names: `{"bootstrap.servers": ...}`."""
        return cls(ProducerConfig.from_properties(properties))

    @classmethod
    def from_env(cls, prefix: str = "KAFKA_") -> Self:
        """Make a producer from environment variables: `KAFKA_BOOTSTRAP_SERVERS=...`."""
        return cls(ProducerConfig.from_env(prefix))

    @property
    def config(self) -> ProducerConfig:
        """The options."""
        return self._config

    def __repr__(self) -> str:
        return f"<Producer client_id={self.config.client_id!r} {self._state.value}>"

    # ---- lifecycle

    async def start(self, timeout: float | None = None, *, wait: bool = True) -> None:
        """Connect to the cluster. Starting again does nothing; `async with` does it for you.

        Returns when one broker answered. Cancelling leaves the producer as it was.

        With `wait=False` it returns at once, and connecting goes on until it succeeds or the
        producer is closed: `status()` says `"starting"` and why. Records are accepted meanwhile;
        each waits for `max_block_ms`, and then fails as not stored. `start()` may be called again
        to wait.

        Args:
            timeout: Seconds to try; None for `max_block_ms`. A call during another caller's start
                waits for that one.
            wait: Whether to return only when a broker answered.

        Raises:
            KafkaConnectionError: No bootstrap server answered in time; the error names each
                address and why.
            ListenerMismatchError, AuthenticationError: The brokers refuse this client, or speak
                another security protocol; raised as soon as that is certain.
            ProducerClosedError: The producer was closed, before or meanwhile.
        """
        if timeout is not None and timeout <= 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")
        if timeout is not None and not wait:
            raise ValueError("timeout is for wait=True: with wait=False there is no end of trying")
        seconds = self.config.max_block_ms / 1000 if timeout is None else timeout
        while self._state is not _State.OPEN:
            if self._state is _State.FORKED:
                self._refuse_call()
            if not self._is_created():
                raise ProducerClosedError(
                    "A closed producer cannot be started again: make a new one"
                )
            if wait or self._starting is not None:
                await self._start_together(seconds)
            else:
                sender = self._new_sender(Background(asyncio.get_running_loop()))
                self._open(sender)
                sender.start_in_background()
        self._check_loop()
        sender = self._open_sender()
        if wait and not sender.is_reached:
            await sender.wait_until_reached(seconds)
            if not self._is_open():
                raise self._closed_error()

    async def _start_together(self, seconds: float) -> None:
        """Begin a start, or join the one that another caller began."""
        starting = self._starting
        if starting is None:
            background = Background(asyncio.get_running_loop())
            starting = self._starting = background.create_task(
                self._connect(background, seconds), name="aioproducer-start"
            )
        self._starters += 1
        try:
            await asyncio.wait([starting])
        except asyncio.CancelledError:
            # Before the await, so that a caller who comes meanwhile begins another start.
            self._starters -= 1
            if not self._starters:
                await self._stop_starting()
            raise
        self._starters -= 1
        if not starting.cancelled():
            self._take_started(starting)
        elif self._starting is starting:
            # Neither we nor `close` cancelled it, but somebody who cancels all tasks: begin again.
            self._starting = None

    def _new_sender(self, background: Background) -> RecordSender:
        # The seam of `testing.MockProducer`, which needs no cluster.
        return _sender_class()(self.config, background)

    async def _connect(self, background: Background, timeout: float) -> RecordSender:
        sender = self._new_sender(background)
        try:
            await sender.start(timeout)
        except BaseException:
            await sender.close()
            raise
        return sender

    def _take_started(self, starting: asyncio.Task[RecordSender]) -> None:
        """Open with the result of a start; the first of its callers to run does that."""
        if self._starting is starting:
            self._starting = None
            if starting.exception() is None:
                self._open(starting.result())
                return
        error = starting.exception()
        if error is not None:
            raise error.again() if isinstance(error, KafkaError) else error

    async def _stop_starting(self) -> None:
        starting, self._starting = self._starting, None
        if starting is None:
            return
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
        if not starting.cancelled() and starting.exception() is None:
            await starting.result().close()

    def _open(self, sender: RecordSender) -> None:
        self._background = sender.background
        self._space_timer = Timer(sender.background, self._expire_waiters)
        self._sender = sender
        if sender.transactions is None:
            self._accept_records(sender)
        else:
            sender.transactions.closed = self._close_path
        self._state = _State.OPEN
        _open_producers.add(self)

    def _accept_records(self, sender: RecordSender) -> None:
        self._open_path(
            sender.accumulator,
            *self._serializers,
            fails_fast=self.config.fail_fast,
            is_transactional=sender.transactions is not None,
        )

    async def flush(self) -> None:
        """Wait until every record accepted so far is stored or has failed.

        Batches leave at once, whatever `linger_ms` says. Never raises for a record: look at its
        delivery. Bounded by `delivery_timeout_ms`. Cancelling ends the wait only.
        """
        sender = self._open_sender()
        self._check_loop()
        await sender.flush()

    def drain(self) -> None:
        """Say by `status()` from now on that the process is about to end.

        So a readiness probe turns traffic away, while records are accepted and sent as before:
        requests in progress finish. `close` follows. May be called in any state, and again.
        """
        self._is_draining = True

    async def close(self, timeout: float | None = None) -> UndeliveredRecords:
        """Deliver what was accepted, then release everything. Closing again does nothing.

        New records are refused from the call on, and callers who wait for buffer space get
        `ProducerClosedError`. Returns in time, whatever the brokers do. Cancelling ends the wait
        only: the producer goes on closing.

        Args:
            timeout: Seconds to deliver what is left; None for `close_timeout_ms`. 0 sends nothing
                more: a record that is not in flight is not stored.

        Returns:
            The records that were given up or failed meanwhile, with their errors; empty when all
            is well. The `on_undelivered` hook gets them too, before this returns.
        """
        if timeout is not None and timeout < 0:
            raise ValueError(f"timeout must be 0 or more seconds, not {timeout}")
        if self._state is _State.FORKED:
            return UndeliveredRecords()
        if self._closing is not None and self._closing.done():
            return UndeliveredRecords() if self._closing.cancelled() else self._closing.result()
        if self._sender is None:
            self._state = _State.CLOSED
            await self._stop_starting()
            return UndeliveredRecords()
        loop = self._check_loop()
        seconds = self.config.close_timeout_ms / 1000 if timeout is None else timeout
        self._bound_close(loop.time() + seconds)
        if self._closing is None:
            self._state = _State.CLOSING
            self._close_path()
            self._closing = self._background.create_task(
                self._close(self._sender), name="aioproducer-close"
            )
        return await asyncio.shield(self._closing)

    async def __aenter__(self) -> Self:
        if self._is_open():
            # Started before, maybe with wait=False: that is not waited for here.
            self._check_loop()
        else:
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
        """Let the close under way give up at `deadline`; the earliest of all callers counts."""
        if self._close_deadline is not None and self._close_deadline <= deadline:
            return
        self._close_deadline = deadline
        if self._delivering_rest is not None:
            self._delivering_rest.reschedule(deadline)

    async def _close(self, sender: RecordSender) -> UndeliveredRecords:
        if self._from_thread is not None:
            await self._from_thread.finish()
        if sender.transactions is not None and len(sender.backpressure):
            # As any record that fails at its call: a commit that is under way must not succeed.
            sender.transactions.record_failed(self._closed_error())
        sender.backpressure.reject_all(self._closed_error)
        self._space_timer.cancel()
        undelivered = sender.begin_close()
        deadline = self._close_deadline
        try:
            if deadline is None or deadline > self._background.time():
                try:
                    async with asyncio.timeout_at(deadline) as self._delivering_rest:
                        if sender.transactions is not None:
                            await sender.transactions.finish()
                        await sender.flush()
                        await sender.finish()
                except TimeoutError:
                    pass
        finally:
            self._delivering_rest = None
            try:
                await sender.give_up()
            finally:
                # Also when the loop ends and cancels this task.
                await sender.close()
                self._state = _State.CLOSED
                _open_producers.discard(self)
        if undelivered:
            first = undelivered[0]
            logger.warning(
                "The producer was closed with %s undelivered; the first, for topic %s: %s",
                f"{len(undelivered)} record{'s' if len(undelivered) > 1 else ''}",
                first.record.topic,
                first.error,
            )
            await self._hand_over(undelivered)
        return undelivered

    async def _hand_over(self, undelivered: UndeliveredRecords) -> None:
        on_undelivered = self.config.on_undelivered
        if on_undelivered is None:
            return
        try:
            result = on_undelivered(undelivered)
            if inspect.isawaitable(result):
                await result
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            closing = asyncio.current_task()
            if closing is not None and closing.cancelling():
                # The end of the loop cancels this task: the hook has not failed.
                raise
            self._background.loop.call_exception_handler(
                {"message": "the on_undelivered hook raised", "exception": error}
            )

    # ---- transactions

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Send records to any topics and partitions, all or none (`transactional_id`).

        Entering begins a transaction, leaving commits it. It is aborted if the block raises, a
        cancellation included, or if a record failed in it, awaited or not; then leaving raises the
        failure. A read_committed consumer sees all of its records or none.

        Raises:
            TransactionFailedError: On leaving: a part failed, and the transaction was aborted.
            KafkaTimeoutError: The coordinator did not answer within `max_block_ms`; whether the
                transaction is committed is not known then.
            ProducerFencedError: Another producer has taken over the transactional id; `fatal`.
            TransactionStateError: A transaction is open already.

        Example:
            async with producer.transaction():
                await producer.send("debits", b"12.50", key=b"card-1")
                await producer.send("credits", b"12.50", key=b"shop-7")
        """
        return transaction_of(self)

    async def begin_transaction(self) -> None:
        """Begin a transaction; records can be sent from now on, until it is committed or aborted.

        Raises:
            TransactionStateError: There is one already, or a commit that timed out: call it again.
            TransactionFailedError: The last one failed, and was not aborted.
            KafkaTimeoutError: The abort or the cancelled commit before has no end yet.
            ProducerFencedError: Another producer has taken over the transactional id; `fatal`.
        """
        transactions = self._open_transactions()
        await transactions.begin()
        self._accept_records(self._open_sender())

    async def commit_transaction(self) -> None:
        """Commit the transaction: wait for all of its records, then make them visible, all at once.

        No record is taken from the call on. Cancelling ends the wait only; the commit goes on, and
        calling again waits for it.

        Raises:
            TransactionFailedError: A record failed, or another part: abort. `__cause__` says which.
            KafkaTimeoutError: Not committed within `max_block_ms`. It goes on: call again.
            ProducerFencedError: Another producer has taken over the transactional id; `fatal`.
            TransactionStateError: There is no transaction, or an earlier call has to be repeated.
        """
        await self._open_transactions().commit()

    async def abort_transaction(self) -> None:
        """Abort the transaction: no read_committed consumer ever sees its records.

        Records that were not sent yet are dropped (`TransactionAbortedError`); for those that were,
        it waits. Cancelling ends the wait only, as for a commit.

        Raises:
            KafkaTimeoutError: Not aborted within `max_block_ms`. It goes on: call again.
            ProducerFencedError: Another producer has taken over the transactional id; `fatal`.
            TransactionStateError: There is no transaction, or an earlier call has to be repeated.
        """
        await self._open_transactions().abort()

    async def send_offsets_to_transaction(
        self, offsets: Offsets, group_metadata: ConsumerGroupMetadata | str | object
    ) -> None:
        """Commit the offsets of a consumer group with the transaction (KIP-447).

        So what was read is counted as read if, and only if, what was made of it is stored. The
        consumer must not commit by itself.

        Args:
            offsets: The next offset to read of each partition: `{TopicPartition: offset}`, with
                aiokafka's or kafka-python's `OffsetAndMetadata` too, or confluent-kafka's list of
                `TopicPartition`.
            group_metadata: The group id, a `ConsumerGroupMetadata`, or what confluent-kafka's
                `consumer.consumer_group_metadata()` returns. With a generation, a consumer that
                has lost its partitions meanwhile is refused.

        Raises:
            TypeError, ValueError: These are no offsets, or no group; the transaction has failed.
            KafkaError: The group refused them; unless it is `fatal`, it has `requires_abort`.
            KafkaTimeoutError: No answer within `max_block_ms`; a commit waits for it.
            TransactionStateError: There is no transaction.
        """
        transactions = self._open_transactions()
        try:
            topics, group = topics_of(offsets), group_metadata_of(group_metadata)
        except Exception as error:
            # Else a commit would leave them out.
            self._failed_at_call(error)
            raise
        await transactions.send_offsets(topics, group)

    def _open_transactions(self) -> Transactions:
        sender = self._open_sender()
        self._check_loop()
        if self._state is not _State.OPEN:
            raise self._closed_error()
        if sender.transactions is None:
            raise TransactionStateError(
                "The producer has no transactions", hint="Set a transactional_id."
            )
        return sender.transactions

    # ---- in bulk

    @overload
    async def send_many(
        self,
        topic: str,
        records: Iterable[V | ProducerRecord[K, V]],
        *,
        deadline: float | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[RecordMetadata]: ...
    @overload
    async def send_many(
        self,
        topic: str,
        records: Iterable[V | ProducerRecord[K, V]],
        *,
        deadline: float | None = None,
        return_exceptions: bool,
    ) -> list[RecordMetadata | KafkaError]: ...
    @overload
    async def send_many(
        self,
        topic: TypedTopic[TopicK, TopicV],
        records: Iterable[TopicV | ProducerRecord[Any, Any]],
        *,
        deadline: float | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[RecordMetadata]: ...
    @overload
    async def send_many(
        self,
        topic: TypedTopic[TopicK, TopicV],
        records: Iterable[TopicV | ProducerRecord[Any, Any]],
        *,
        deadline: float | None = None,
        return_exceptions: bool,
    ) -> list[RecordMetadata | KafkaError]: ...
    async def send_many(
        self,
        topic: str | TypedTopic[Any, Any],
        records: Iterable[Any],
        *,
        deadline: float | None = None,
        return_exceptions: bool = False,
    ) -> list[RecordMetadata] | list[RecordMetadata | KafkaError]:
        """Send many records and wait until all are stored.

        Each record waits for buffer space `max_block_ms` at most, once those before it are
        accepted.

        Args:
            topic: Where the plain values go: a name, or a `Topic`.
            records: Values, or `ProducerRecord`s that name their own topic and the rest.
            deadline: Seconds within which each record must be sent once it is tried, as for
                `send`.
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
        try:
            values = _list_of(records)
        except Exception as error:
            self._failed_at_call(error)
            raise
        deliveries: list[Delivery] = []
        accepted = self._accept_many(topic, values, 0, deliveries, deadline)
        while accepted < len(values):
            deliveries.append(await self._send_value(topic, values[accepted], deadline))
            accepted = self._accept_many(topic, values, accepted + 1, deliveries, deadline)
        return await gather_deliveries(deliveries, not return_exceptions, False)

    def _send_value(
        self,
        topic: str | TypedTopic[Any, Any],
        value: V | ProducerRecord[K, V],
        deadline: float | None,
    ) -> Coroutine[Any, Any, Delivery]:
        if isinstance(value, ProducerRecord):
            return self.send(cast("ProducerRecord[K, V]", value), deadline=deadline)
        return self.send(topic, value, deadline=deadline)

    # ---- in other threads

    @property
    def from_thread(self) -> FromThread[K, V]:
        """Plain calls for other threads than the loop's: `from_thread.send(...)`, `.flush()`.

        Raises:
            TransactionStateError: The producer has a `transactional_id`. A transaction begins and
                ends in the loop, which cannot say which of them a thread's record belongs to.

        Example:
            future = producer.from_thread.send("payments", b"12.50", key=b"card-1")
            metadata = future.result(timeout=5)
        """
        if self.config.transactional_id is not None:
            raise TransactionStateError(
                "from_thread sends nothing for a producer with a transactional_id",
                hint="In the thread, call asyncio.run_coroutine_threadsafe(coroutine, loop), with a"
                " coroutine that has the whole transaction.",
            )
        if self._from_thread is None:
            with _making_from_thread:
                if self._from_thread is None:
                    self._from_thread = self._make_from_thread()
        return self._from_thread

    def _make_from_thread(self) -> FromThread[K, V]:
        # Here, since few programs need it.
        from aioproducer.threads import FromThread

        def sender() -> RecordSender:
            if self._sender is None:
                self._refuse_call()
            assert self._sender is not None
            return self._sender

        return FromThread(
            self, self.config, self._refuse_call, sender, lambda at: self._space_timer.set_by(at)
        )

    # ---- looking

    async def partitions_for(self, topic: str | TypedTopic[Any, Any]) -> tuple[int, ...]:
        """Return the ids of a topic's partitions; ask the cluster if they are not known.

        Raises:
            UnknownTopicOrPartitionError, KafkaTimeoutError: Not known within `max_block_ms`.
        """
        sender = self._open_sender()
        self._check_loop()
        return await sender.partitions_for(topic.name if isinstance(topic, TypedTopic) else topic)

    def metrics(self) -> dict[str, float]:
        """Return counters and gauges, named as in Java with `_` for `-`. Cheap, in any state."""
        if self._sender is not None:
            return self._sender.metrics()
        return metrics_of_nothing(self.config)

    def status(self) -> ProducerStatus:
        """Return how the producer is: healthy or why not, brokers, buffer, last error.

        Works in every state, also before `start` and after `close`. Costs some microseconds for
        each broker, topic in use and partition that has records without an outcome.

        Example:
            status = producer.status()
            if not status.healthy:
                print(status.reason)
        """
        state: ProducerState = self._state.value
        if state == "created" and self._starting is not None:
            state = "starting"
        if state == "open" and self._is_draining:
            state = "draining"
        if self._sender is not None:
            return self._sender.status(state)
        return ProducerStatus(
            healthy=False,
            reason=why_unhealthy(state),
            state=state,
            client_id=self.config.client_id,
        )

    # ---- called by the send path

    def _send_when_admitted(
        self, record: SerializedRecord, deadline: float | None
    ) -> QueuedAdmission:
        sender = self._open_sender()
        loop = self._check_loop()
        expires_at = loop.time() + self.config.max_block_ms / 1000
        admission = wait_for_space(
            sender.backpressure, sender.background, expires_at, record, deadline
        )
        self._space_timer.set_by(expires_at)
        return admission

    def _expire_waiters(self) -> None:
        sender = self._sender
        if sender is None:
            return
        max_block = self.config.max_block_ms / 1000
        now = self._background.time()
        first = sender.backpressure.next_expiry
        # How long the first really waited: a blocked loop makes it longer.
        waited = max_block if first is None else now - first + max_block
        sender.backpressure.expire(now, partial(self._no_space_in_time, waited))
        following = sender.backpressure.next_expiry
        if following is not None:
            self._space_timer.set(following)

    def _no_space_in_time(self, waited: float, waiter: Waiter[Delivery]) -> KafkaError:
        return self._open_sender().backpressure.no_space_error(
            waiter,
            waited=waited,
            bound="max_block_ms",
            hint="Send slower, or raise buffer_memory or max_block_ms.",
        )

    def _deliver_when_admitted(
        self, admission: QueuedAdmission, timeout: float | None
    ) -> QueuedDelivery:
        return QueuedDelivery(admission, partial(self._wait_for_delivery, admission, timeout))

    async def _wait_for_delivery(
        self, admission: QueuedAdmission, timeout: float | None
    ) -> RecordMetadata:
        delivery: Delivery | None = None
        due_at = None if timeout is None else self._background.time() + timeout
        try:
            async with async_timeout.timeout_at(due_at):
                delivery = await admission
                return await delivery
        except TimeoutError as error:
            if isinstance(error, KafkaError) or timeout is None or due_at is None:
                raise
            await self._background.catch_up(due_at)
            sender = self._open_sender()
            # It may have been admitted in the turn in which the timeout was over.
            delivery = delivery or admission.delivery
            if delivery is None:
                raise sender.backpressure.no_space_error(
                    admission.waiter,
                    waited=timeout,
                    bound="timeout of the call",
                    hint="The record was not accepted. Send slower, or raise buffer_memory.",
                ) from None
            # Its deadline may be over in the same turn.
            sender.look_at_deadlines()
            if delivery.done():
                return delivery.result()
            raise sender.not_yet(delivery, timeout) from None

    def _failed_at_call(self, error: Exception) -> None:
        """Fail the transaction that takes records now, and was meant to have this one."""
        transactions = None if self._sender is None else self._sender.transactions
        if transactions is None or isinstance(error, WrongEventLoopError):
            return
        if not transactions.state.takes_records:
            # Such as while another task commits: a call that is refused changes nothing.
            return
        transactions.call_failed(error)

    def _refuse_if_down(self, topic: str, partition: object) -> None:
        error = self._open_sender().error_if_down(topic, partition)
        if error is not None:
            raise error

    def _no_space_error(self, topic: str) -> KafkaError:
        return self._open_sender().backpressure.no_space_error()

    def _serialization_error(
        self,
        topic: str,
        field: Literal["key", "value", "headers"],
        value: object,
        cause: Exception | None,
        serializer: SerializerCall | None,
    ) -> SerializationError:
        configured: SerializerOption | None = None
        taker = ""
        if serializer is not None and serializer not in self._serializers:
            taker = serializer.taker
        elif field != "headers":
            config = self.config
            configured = config.key_serializer if field == "key" else config.value_serializer
        return serialization_error(topic, field, type(value), cause, configured, taker)

    def _header_error(self, topic: str, position: int, header: object) -> SerializationError:
        return header_error(topic, position, header)

    def _warn_of_seconds(self, topic: str, timestamp_ms: int) -> None:
        logger.warning(
            "timestamp_ms=%s of a record for topic %s is a day in January 1970: are seconds meant?"
            " Milliseconds are int(time.time() * 1000)",
            timestamp_ms,
            topic,
        )

    def _refuse_partition(self, topic: str, partition: object) -> None:
        raise InvalidPartitionError(
            f"{partition!r} is no partition of topic {topic!r}: a partition is an integer from 0 on"
        )

    def _refuse_timestamp(self, timestamp_ms: object) -> None:
        raise InvalidTimestampError(
            f"{timestamp_ms!r} is no timestamp: milliseconds since the epoch, an integer from 0 on"
        )

    def _refuse_topic(self, topic: object) -> None:
        raise InvalidTopicError(f"A topic is a str or a Topic, not {type(topic).__name__}")

    def _refuse_call(self) -> None:
        """Raise the reason why a call is not possible now."""
        if self._state is _State.CREATED:
            raise ProducerNotStartedError(
                "The producer is not started",
                hint="Use `async with producer:` or `await producer.start()` first, in an event"
                " loop; a program without one runs it in a thread (docs/threads.md).",
            )
        if self._state is _State.FORKED:
            raise WrongEventLoopError(
                "The producer was started before this process was forked",
                hint="Start one producer in each worker process, after the fork.",
            )
        if self._state is not _State.OPEN:
            raise self._closed_error()
        transactions = None if self._sender is None else self._sender.transactions
        if transactions is not None and not transactions.state.takes_records:
            raise transactions.state.refusal("send")
        raise WrongEventLoopError(
            "The producer was called from another thread than its event loop's"
            f" ({threading.current_thread().name})",
            hint="In other threads use producer.from_thread.send(...).",
        )

    def _forked(self) -> None:
        self._close_path()
        if self._from_thread is not None:
            self._from_thread.is_left_behind = True
        self._state = _State.FORKED
        if self._sender is not None:
            self._space_timer.cancel()
            self._sender.leave_behind()

    def _closed_error(self) -> ProducerClosedError:
        return ProducerClosedError("The producer is closed")

    # ---- inside

    def _is_created(self) -> bool:
        # A method: a type checker assumes that an await leaves an attribute unchanged.
        return self._state is _State.CREATED

    def _is_open(self) -> bool:
        return self._state is _State.OPEN

    def _open_sender(self) -> RecordSender:
        if self._sender is None or self._state not in (_State.OPEN, _State.CLOSING):
            self._refuse_call()
        assert self._sender is not None
        return self._sender

    def _check_running_loop(self) -> bool:
        """Refuse a call from another loop; return whether a loop runs at all."""
        running = asyncio._get_running_loop()  # pyright: ignore[reportPrivateUsage]
        if self._background.loop.is_closed() or running not in (None, self._background.loop):
            raise WrongEventLoopError(
                "The producer belongs to another event loop than the one that runs now",
                hint="Make one producer per loop, inside it, and close it there.",
            )
        return running is not None

    def _check_loop(self) -> asyncio.AbstractEventLoop:
        self._check_running_loop()
        return asyncio.get_running_loop()


def _list_of(records: Iterable[Any]) -> list[Any]:
    given: object = records
    if isinstance(given, (str, bytes, bytearray, memoryview, Mapping, ProducerRecord)):
        kind = type(cast("object", given)).__name__
        raise TypeError(f"send_many takes a list of records, not a {kind}; send_and_wait takes one")
    return list(records)


def _sender_class() -> type[Sender]:
    """Import the sender, for which programs that make no producer need not wait."""
    from aioproducer.sending.sender import Sender

    return Sender
