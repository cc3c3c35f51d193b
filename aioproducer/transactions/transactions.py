"""Begins and ends the transactions of one producer, and makes partitions and groups part of them.

`TransactionState` says what is allowed; `Coordination` asks the coordinator; what has to do with
records is asked of the sender, through `TransactionHost`.

A commit, step by step:
    1. No more records are taken. Callers who wait for buffer space came before, and are admitted.
    2. Every record gets its outcome. One that fails makes the transaction FAILED: no commit.
    3. EndTxn, if the coordinator may know of the transaction. Its caller waits `max_block_ms`; it
       is repeated, also beyond that, until there is an answer.
An abort:
    1. What surely is not stored is dropped; what is in flight, or may be stored, gets its outcome,
       so that no request of this transaction arrives after its end.
    2. EndTxn; where sequences were lost, another epoch.

Invariant: an end that has begun goes on, whatever becomes of its caller, until it has an outcome or
the producer closes. The next transaction does not begin before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from aioproducer.background import Background
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    InvalidProducerIdMappingError,
    KafkaError,
    KafkaTimeoutError,
    ProducerClosedError,
    TransactionFailedError,
    TransactionStateError,
)
from aioproducer.network.cluster import Cluster
from aioproducer.protocol.txn_offset_commit import TxnOffsetCommitRequestTopic
from aioproducer.transactions.coordination import ENDED, LOST, Coordination
from aioproducer.transactions.offsets import ConsumerGroupMetadata
from aioproducer.transactions.settling import Settling
from aioproducer.transactions.state import State, TransactionState

__all__ = ["TransactionHost", "Transactions"]

logger = logging.getLogger(__name__)


class TransactionHost(Protocol):
    """What a transaction needs of the sender."""

    @property
    def accepted_count(self) -> int:
        """How many records were accepted since the start."""
        ...

    def open_transaction(self, number: int, *, is_v2: bool) -> None:
        """Let records of this transaction be taken from now on."""

    def pause_until(self, at: float) -> None:
        """Send nothing before `at`, on the loop's clock; where that has passed, send now."""

    def set_producer_id(self, producer_id: int, epoch: int) -> None:
        """Give sequences under this id and epoch from now on."""

    def partitions_added(self, queues: Iterable[Any]) -> None:
        """Send the records of these partition queues, which are part of the transaction now."""

    def drop_unsent(self) -> None:
        """Fail every record that surely is not stored."""

    def drop_unsent_soon(self) -> None:
        """Do so in the loop's next turn: the sender is in the middle of a response."""

    async def deliver_all(self) -> None:
        """Return when every record that was accepted, or waits to be, has its outcome."""

    def forget_unused(self) -> None:
        """Forget the topics that nobody has used for long, unless that `keeps_sequences`."""


class Transactions:
    """The transactions of one producer.

    Args:
        config: The producer's options, with a `transactional_id`.
        cluster: Has the brokers.
        background: Where tasks run.
        host: Has the records.

    Attributes:
        state: What is allowed now.
        closed: Called when records are taken no longer.
        reached: Set when a broker has answered, where the producer starts in the background.
    """

    def __init__(
        self,
        config: ProducerConfig,
        cluster: Cluster,
        background: Background,
        host: TransactionHost,
    ) -> None:
        self.state = TransactionState()
        self.closed: Callable[[], None] = lambda: None
        self.reached = asyncio.Event()
        self._coordination = Coordination(config, cluster, background, host.set_producer_id)
        self._settling = Settling(self._coordination, background, host.pause_until)
        self._timeout = config.max_block_ms / 1000
        self._delivery_timeout = config.delivery_timeout_ms / 1000
        self._background = background
        self._host = host
        self._number = 0
        self._accepted_before = 0
        self._is_known = False
        """Whether a partition or group was added, or may have been, by a request of its own."""
        self._to_add: dict[tuple[str, int], Any] = {}
        self._adding: asyncio.Task[None] | None = None
        self._sending_offsets: set[asyncio.Task[None]] = set()
        self._initializing: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._is_left = False
        """Whether the caller of the last commit or abort was cancelled, and called no more."""
        self._timed_out = ""
        """The call that timed out, and has to be repeated before any other."""
        self._is_closing = False

    @property
    def failure(self) -> KafkaError | None:
        """Why no transaction can begin: for good, or until the next try to get an id; else None."""
        if self.state.state is State.FATAL:
            return self.state.cause
        starting = self._initializing
        if starting is None or not starting.done() or starting.cancelled():
            return None
        error = starting.exception()
        return error if isinstance(error, KafkaError) else None

    @property
    def keeps_sequences(self) -> bool:
        """Whether no partition may begin at sequence 0 again now.

        In a transaction, and where the coordinator's broker has no other epoch for the next one.
        """
        return self.state.is_under_way or not self._coordination.can_change_epoch

    # ---- calls

    async def start(self) -> None:
        """Get the producer id, and have what an earlier producer left open be ended.

        Raises:
            KafkaError: An error that does not pass. While it may, this repeats: bound it.
        """
        coordination = self._coordination
        await coordination.initialize()
        self.state.initialized()
        logger.info(
            "Transactional id %r has producer id %s and epoch %s",
            coordination.transactional_id,
            coordination.producer_id,
            coordination.epoch,
        )

    def start_in_background(self) -> None:
        """Do so once the cluster is `reached`; the first transaction waits for it."""

        async def start() -> None:
            await self.reached.wait()
            await self.start()

        self._initializing = self._run(start(), "initialize")

    def start_timeout_error(self, timeout: float) -> KafkaError:
        """The error of a start that got no producer id in time."""
        return self._timeout_error(timeout, "the transaction coordinator to give a producer id", "")

    async def begin(self) -> None:
        """Begin a transaction, after the end of the one before, if its caller did not wait for it.

        How an abort ends is known, so one that timed out need not be called again.
        """
        if self._timed_out != "abort_transaction":
            self._refuse_others("begin")
        if self._ending is not None:
            await self._join(self._ending)
        self._host.forget_unused()
        await self._initialize()
        if self._is_closing:
            raise ProducerClosedError("The producer was closed meanwhile")
        self.state.begin()
        self._coordination.choose_version()
        self._number += 1
        self._is_known = False
        self._accepted_before = self._host.accepted_count
        is_v2 = self._coordination.is_v2
        self._host.open_transaction(self._number, is_v2=is_v2)
        self._settling.begin(is_v2=is_v2)

    async def _initialize(self) -> None:
        """Get the id or the epoch that the next transaction needs; one task does so for all."""
        if self.state.state is State.UNINITIALIZED:
            work = self.start
        elif self.state.state is State.READY and self._coordination.wants_epoch:
            work = self._coordination.initialize
        else:
            return
        if self._initializing is None or self._initializing.done():
            self._initializing = self._run(work(), "initialize")
        await self._wait(
            self._initializing, "begin_transaction", "the coordinator to give a producer id"
        )

    async def commit(self) -> None:
        """Commit, or join the commit that is under way."""
        await self._end("commit", self.state.begin_commit, self._commit)

    async def abort(self) -> None:
        """Abort, or join the abort that is under way."""
        await self._end("abort", self.state.begin_abort, self._abort)

    async def send_offsets(
        self, topics: list[TxnOffsetCommitRequestTopic], group: ConsumerGroupMetadata
    ) -> None:
        """Make the offsets of a consumer group part of the transaction."""
        if not self.state.takes_records:
            raise self.state.refusal("send offsets")
        if not topics:
            return
        sending = self._run(self._send_offsets(topics, group), "send-offsets")
        self._sending_offsets.add(sending)
        sending.add_done_callback(self._sending_offsets.discard)
        await self._wait(sending, "send_offsets_to_transaction", "the offsets to be taken")

    async def finish(self) -> None:
        """Let an end that has begun come to its end; abort what is open: the producer closes."""
        self._is_closing = True
        if self._ending is not None:
            await asyncio.wait([self._ending])
        if self.state.state in (State.OPEN, State.FAILED):
            self.state.begin_abort()
            self._ending = self._run(self._in_full("abort", self._abort), "abort")
        # Or another caller who waited for the end of a commit has begun to abort it.
        if self._ending is not None:
            await asyncio.wait([self._ending])

    async def close(self) -> None:
        """End the tasks."""
        self._settling.close()
        found = (self._initializing, self._ending, self._adding, *self._sending_offsets)
        tasks = [task for task in found if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- news from the sender

    def record_failed(self, error: KafkaError) -> None:
        """A record failed, at its call or later: the transaction cannot be committed."""
        if self.state.failed(error):
            self._coordination.needs_epoch = True
            self._has_failed()

    def call_failed(self, error: Exception) -> None:
        """A record failed at its call, or offsets did, by whatever was raised there."""
        if not isinstance(error, KafkaError):
            wrapped = KafkaError(f"A call of the transaction raised {type(error).__name__}")
            wrapped.__cause__ = error
            error = wrapped
        self.record_failed(error)

    def cluster_changed(self) -> None:
        """Another cluster is there now: it knows neither this producer nor its records."""
        self._coordination.forget_id()
        self.record_failed(InvalidProducerIdMappingError("The cluster was replaced by another one"))

    def sequences_lost(self) -> None:
        """Sequences were given that no batch will have: the next transaction has another epoch."""
        self._coordination.needs_epoch = True

    def partition_needed(self, queue: Any) -> None:
        """A partition has a record, and is not part of the transaction (version 1)."""
        if self.state.must_abort or self.state.state is State.UNINITIALIZED:
            return
        self._to_add[queue.topic.name, queue.partition] = queue
        if self._adding is None or self._adding.done():
            self._adding = self._run(self._add_partitions(), "add-partitions")

    # ---- the end of a transaction

    async def _end(
        self,
        name: str,
        begin: Callable[[], None],
        work: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._refuse_others(name)
        ending = self._ending
        if ending is None or ending.get_name() != f"aioproducer-{name}":
            begin()
            self.closed()
            ending = self._ending = self._run(self._in_full(name, work), name)
        self._is_left = False
        try:
            await self._wait(ending, f"{name}_transaction", f"the transaction to {name}")
        except asyncio.CancelledError:
            self._is_left = True
            raise
        self._forget_end(ending)

    async def _join(self, ending: asyncio.Task[None]) -> None:
        """Wait for the end of the last transaction; abort what failed if its caller has left."""
        try:
            await self._wait(ending, "begin_transaction", "the end of the last transaction")
        except KafkaError as error:
            if not (error.requires_abort and self._is_left):
                raise
            await self.abort()
        self._forget_end(ending)

    def _forget_end(self, ending: asyncio.Task[None]) -> None:
        # Of several who waited for it, another may have begun and ended the next one meanwhile.
        if self._ending is ending:
            self._ending = None

    async def _in_full(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do the work of an end; an error leaves a state that tells what is possible."""
        try:
            await work()
        except KafkaError as error:
            if error.fatal or name == "abort":
                self._fatal(error)
            elif self.state.failed(error):
                self._has_failed()
            raise
        except Exception as error:
            logger.exception("The transaction could not %s", name)
            self._fatal(KafkaError(f"The transaction could not {name} ({type(error).__name__})"))
            raise
        if self.state.state is State.FATAL:
            raise self.state.refusal(name)
        self.state.ended()

    async def _commit(self) -> None:
        await self._host.deliver_all()
        await self._finish_adding()
        if self.state.must_abort:
            raise self.state.refusal("commit")
        await self._end_at_coordinator(is_commit=True)

    async def _abort(self) -> None:
        self._to_add.clear()
        self._host.drop_unsent()
        await self._host.deliver_all()
        await self._finish_adding()
        await self._end_at_coordinator(is_commit=False)
        if self._coordination.wants_epoch:
            await self._coordination.initialize()

    async def _end_at_coordinator(self, *, is_commit: bool) -> None:
        if not self._coordination.has_id:
            return
        has_sent = self._host.accepted_count > self._accepted_before
        if not (self._is_known or (self._coordination.is_v2 and has_sent)):
            return
        try:
            await self._coordination.end(is_commit=is_commit)
            self._settling.ended()
        except ENDED as error:
            self._is_known = False
            self._accepted_before = self._host.accepted_count
            await self._coordination.recover(error, is_commit=is_commit)
            self._settling.ended()
            if is_commit:
                raise TransactionFailedError(
                    "The coordinator had ended the transaction, as it does after"
                    f" transaction_timeout_ms: {error.what().rstrip('. ')}",
                    broker=error.broker,
                ) from error
        self._is_known = False

    # ---- what is part of the transaction

    async def _add_partitions(self) -> None:
        while self._to_add and not self.state.must_abort:
            adding, self._to_add = self._to_add, {}
            try:
                await self._coordination.add_partitions(adding, self._must_abort)
            except KafkaError as error:
                # It may have been added all the same, by an attempt that had no clear answer.
                self._is_known = True
                self._part_failed(error)
                return
            self._is_known = True
            self._host.partitions_added(adding.values())

    async def _finish_adding(self) -> None:
        """Wait for what is on its way to the coordinators."""
        tasks = [task for task in (self._adding, *self._sending_offsets) if task is not None]
        if tasks:
            await asyncio.wait(tasks)

    async def _send_offsets(
        self, topics: list[TxnOffsetCommitRequestTopic], group: ConsumerGroupMetadata
    ) -> None:
        give_up_at = self._background.time() + self._delivery_timeout

        def is_late() -> bool:
            return self._background.time() >= give_up_at

        def given_up() -> bool:
            return self.state.must_abort or is_late()

        try:
            if not self._coordination.is_v2:
                await self._coordination.add_group(group.group_id, given_up)
            self._is_known = True
            await self._coordination.commit_offsets(topics, group, given_up)
        except KafkaError as error:
            self._is_known = True
            if error.retriable and is_late():
                what = "the offsets to be taken (delivery_timeout_ms)"
                error = self._timeout_error(self._delivery_timeout, what, "")
            self._part_failed(error)
            raise error

    def _must_abort(self) -> bool:
        return self.state.must_abort

    # ---- failures

    def _part_failed(self, error: KafkaError) -> None:
        """A partition or a group could not be made part of the transaction."""
        if error.fatal and not isinstance(error, LOST):
            self._fatal(error)
        else:
            self.record_failed(error)

    def _has_failed(self) -> None:
        self.closed()
        self._host.drop_unsent_soon()

    def _fatal(self, error: KafkaError) -> None:
        if self.state.fatal(error):
            transactional_id = self._coordination.transactional_id
            logger.error("The producer of %r must be closed: %s", transactional_id, error)
            self._has_failed()

    # ---- waiting

    def _refuse_others(self, name: str) -> None:
        if self._timed_out and self._timed_out != f"{name}_transaction":
            raise TransactionStateError(
                f"Cannot {name}: {self._timed_out}() timed out, and its outcome is not known",
                hint=f"Call {self._timed_out}() again: it waits for the same end.",
            )

    async def _wait(self, task: asyncio.Task[None], call: str, what: str) -> None:
        """Wait for a task, which goes on if the wait is cancelled or over."""
        is_commit = call == "commit_transaction"
        done, _ = await asyncio.wait([task], timeout=self._timeout)
        if not done:
            if task is self._ending and call != "begin_transaction":
                self._timed_out = call
            hint = f"It goes on: call {call}() again."
            timed_out = self._timeout_error(self._timeout, f"{what} (max_block_ms)", hint)
            timed_out.possibly_persisted = timed_out.is_pending = is_commit
            raise timed_out
        self._timed_out = ""
        if task.cancelled():
            raise ProducerClosedError(
                "The producer was closed meanwhile", possibly_persisted=is_commit
            )
        error = task.exception()
        if error is not None:
            self._forget_end(task)
            raise error.again() if isinstance(error, KafkaError) else error

    def _timeout_error(self, waited: float, waiting_for: str, hint: str) -> KafkaTimeoutError:
        coordinator = self._coordination.asked_again()
        return KafkaTimeoutError(
            waited=waited,
            waiting_for=waiting_for,
            last_broker_error=coordinator.last_error,
            broker=coordinator.name or None,
            hint=hint,
        )

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._background.create_task(work, name=f"aioproducer-{name}")
        # Its caller may be gone: marks the exception as retrieved.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task
