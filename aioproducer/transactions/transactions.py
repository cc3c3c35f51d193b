"""Begins and ends the transactions of one producer, and makes partitions and groups part of them.

`TransactionState` says what is allowed; the `Coordinator` carries requests; what has to do with
records is asked of the sender, through `TransactionHost`. Two ways of Kafka to do it, chosen by
what the coordinator speaks whenever a transaction has ended:

                                  version 1 (before 4.0)          version 2 (KIP-890)
    a partition's first record    AddPartitionsToTxn first        Produce alone
    a group's offsets             AddOffsetsToTxn first           TxnOffsetCommit alone
    EndTxn is needed when         a partition or group was added  anything was sent, or tried
    the next transaction has      the same epoch                  the epoch in EndTxn's response
    after a failure               InitProducerId                  nothing more

A commit, step by step:
    1. No more records are taken. Callers who wait for buffer space came before, and are admitted.
    2. Every record gets its outcome. One that fails makes the transaction FAILED: no commit.
    3. EndTxn. Its caller waits `max_block_ms`; it is repeated, also beyond that, until there is an
       answer.
An abort:
    1. What surely is not stored is dropped; what is in flight, or may be stored, gets its outcome,
       so that no request of this transaction arrives after its end.
    2. EndTxn; where sequences were lost, InitProducerId, which begins another epoch.

Invariants
* One request at a time goes to the coordinator.
* An end that has begun goes on, whatever becomes of its caller, until it has an outcome or the
  producer closes. The next transaction does not begin before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol

from aioproducer.background import Background
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    KafkaError,
    KafkaTimeoutError,
    OperationNotAttemptedError,
    ProducerClosedError,
    ProducerFencedError,
    TransactionFailedError,
    TransactionStateError,
    UnsupportedVersionError,
    broker_error,
)
from aioproducer.network.cluster import Cluster
from aioproducer.network.connection import Connection
from aioproducer.protocol.add_offsets_to_txn import (
    ADD_OFFSETS_TO_TXN,
    AddOffsetsToTxnRequest,
)
from aioproducer.protocol.add_partitions_to_txn import (
    ADD_PARTITIONS_TO_TXN,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
)
from aioproducer.protocol.end_txn import END_TXN, EndTxnRequest, EndTxnResponse
from aioproducer.protocol.find_coordinator import GROUP, TRANSACTION
from aioproducer.protocol.init_producer_id import INIT_PRODUCER_ID, InitProducerIdRequest
from aioproducer.protocol.txn_offset_commit import (
    TXN_OFFSET_COMMIT,
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)
from aioproducer.records import TopicPartition
from aioproducer.transactions.coordinator import Coordinator
from aioproducer.transactions.offsets import ConsumerGroupMetadata
from aioproducer.transactions.state import State, TransactionState

__all__ = ["TransactionHost", "Transactions"]

logger = logging.getLogger(__name__)

_FIRST_WITH_BUMP: Final = 3
"""The version of InitProducerId from which on it takes the id and epoch to go on from (KIP-360)."""

_LAST_OF_V1: Final = 4
"""The newest EndTxn and TxnOffsetCommit of a producer without transactions v2."""

_FENCED_BY_TIMEOUT: Final = (
    " Or the transaction was open for longer than transaction_timeout_ms: before Kafka 4.0 the"
    " broker says the same of both."
)

_LOST: Final = (
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    ProducerFencedError,
)
"""Errors of a transaction that its coordinator has ended, or another producer has fenced."""


class TransactionHost(Protocol):
    """What a transaction needs of the sender."""

    @property
    def accepted_count(self) -> int:
        """How many records were accepted since the start."""
        ...

    def open_transaction(self, number: int, *, is_v2: bool) -> None:
        """Let records of this transaction be sent from now on."""

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
    """

    def __init__(
        self,
        config: ProducerConfig,
        cluster: Cluster,
        background: Background,
        host: TransactionHost,
    ) -> None:
        assert config.transactional_id is not None
        self.state = TransactionState()
        self.closed: Callable[[], None] = lambda: None
        self._id = config.transactional_id
        self._config = config
        self._timeout = config.max_block_ms / 1000
        self._cluster = cluster
        self._background = background
        self._host = host
        self._coordinator = self._coordinator_of(self._id, TRANSACTION)
        self._group_coordinators: dict[str, Coordinator] = {}
        self._producer_id, self._epoch = -1, -1
        self._is_v2 = self._offers_v2 = False
        self._lock = asyncio.Lock()
        self._number = 0
        self._accepted_before = 0
        self._is_known = False
        """Whether the coordinator may know of the current transaction."""
        self._to_add: dict[tuple[str, int], Any] = {}
        self._working: set[asyncio.Task[None]] = set()
        """Partitions and groups that are being added."""
        self._adding: asyncio.Task[None] | None = None
        self._needs_epoch = False
        self._starting: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._timed_out = ""
        """The call that timed out, and has to be repeated before any other."""

    # ---- calls

    async def start(self) -> None:
        """Get the producer id, and have what an earlier producer left open be ended.

        Raises:
            KafkaError: An error that does not pass. While it may, this repeats: bound it.
        """
        await self._initialize(goes_on=False)
        self.state.initialized()
        logger.info(
            "Transactional id %r has producer id %s and epoch %s",
            self._id,
            self._producer_id,
            self._epoch,
        )

    def start_in_background(self) -> None:
        """Do so in the background; the first transaction waits for it."""
        self._starting = self._run(self.start(), "start-transactions")

    def start_timeout_error(self, timeout: float) -> KafkaError:
        """The error of a start that got no producer id in time."""
        return self._timeout_error(timeout, "the transaction coordinator to give a producer id", "")

    async def begin(self) -> None:
        """Begin a transaction; waits for the end of the one before, if its caller did not."""
        self._refuse_others("begin")
        if self._starting is not None and self.state.state is State.UNINITIALIZED:
            await self._wait(self._starting, "begin", "the transaction coordinator")
        if self._ending is not None and not self._ending.done():
            await self._wait(self._ending, "begin", "the end of the last transaction")
        self._ending = None
        if self.state.state is State.READY and self._wants_epoch():
            initializing = self._run(self._initialize(goes_on=True), "initialize")
            await self._wait(initializing, "begin", "another epoch")
        self.state.begin()
        self._is_v2 = self._offers_v2
        self._number += 1
        self._is_known = False
        self._accepted_before = self._host.accepted_count
        self._host.open_transaction(self._number, is_v2=self._is_v2)

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
        self._working.add(sending)
        sending.add_done_callback(self._working.discard)
        await self._wait(sending, "send_offsets_to_transaction", "the offsets to be taken")

    async def finish(self) -> None:
        """Let an end that has begun come to its end; abort what is open: the producer closes."""
        if self._ending is not None and not self._ending.done():
            await asyncio.wait([self._ending])
        elif self.state.state in (State.OPEN, State.FAILED):
            self.state.begin_abort()
            self._ending = self._run(self._in_full("abort", self._abort), "abort")
            await asyncio.wait([self._ending])

    async def close(self) -> None:
        """End the tasks."""
        all_tasks = (self._starting, self._ending, self._adding, *self._working)
        tasks = [task for task in all_tasks if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- news from the sender

    def record_failed(self, error: KafkaError) -> None:
        """A record failed, at its call or later: the transaction cannot be committed."""
        if self.state.failed(error):
            self._needs_epoch = True
            self._has_failed()

    def sequences_lost(self) -> None:
        """Sequences were given that no batch will have: the next epoch is needed."""
        self._needs_epoch = True

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
        await self._wait(ending, f"{name}_transaction", f"the transaction to {name}")
        self._ending = None

    async def _in_full(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do the work of an end; an error leaves a state that tells what is possible."""
        try:
            await work()
        except KafkaError as error:
            if error.fatal or (name == "abort" and not error.requires_abort):
                self._fatal(error)
            elif self.state.failed(error):
                self._has_failed()
            raise
        except Exception as error:
            logger.exception("The transaction could not %s", name)
            self._fatal(KafkaError(f"The transaction could not {name} ({type(error).__name__})"))
            raise

    async def _commit(self) -> None:
        await self._host.deliver_all()
        await self._finish_adding()
        if self.state.must_abort:
            raise self.state.refusal("commit")
        if self._is_known_to_coordinator():
            await self._end_txn(is_commit=True)
        self.state.ended()

    async def _abort(self) -> None:
        self._to_add.clear()
        self._host.drop_unsent()
        await self._host.deliver_all()
        await self._finish_adding()
        if self._is_known_to_coordinator():
            await self._end_txn(is_commit=False)
        if self._wants_epoch():
            await self._initialize(goes_on=True)
        self.state.ended()

    def _wants_epoch(self) -> bool:
        """Whether the next transaction needs another epoch than the coordinator gave."""
        return self._needs_epoch or (self._offers_v2 and not self._is_v2)

    def _is_known_to_coordinator(self) -> bool:
        if self._is_v2 and self._host.accepted_count > self._accepted_before:
            return True
        return self._is_known

    async def _end_txn(self, *, is_commit: bool) -> None:
        def make_request(connection: Connection) -> tuple[int, EndTxnRequest]:
            self._offers_v2 = connection.runs_transactions_v2
            version = connection.version_for(END_TXN, at_most=None if self._is_v2 else _LAST_OF_V1)
            return version, EndTxnRequest(self._id, self._producer_id, self._epoch, is_commit)

        try:
            async with self._lock:
                response = await self._coordinator.ask(END_TXN, make_request, _end_txn_error)
        except _LOST as error:
            await self._recover(error)
            if is_commit:
                lost = TransactionFailedError(
                    f"The coordinator had ended the transaction: {error.what().rstrip('. ')}",
                    broker=error.broker,
                    hint="Commit sooner, or raise transaction_timeout_ms.",
                )
                raise lost from error
            return
        self._is_known = False
        if response.producer_epoch >= 0:
            self._needs_epoch = False
            self._set_producer_id(response.producer_id, response.producer_epoch)

    async def _recover(self, error: KafkaError) -> None:
        """Go on in another epoch, where the coordinator has aborted the transaction (KIP-588).

        It does so when `transaction_timeout_ms` is over, and still knows the epoch before. Where
        another producer with the same id has fenced this one, it refuses.
        """
        self._is_known = False
        self._accepted_before = self._host.accepted_count
        goes_on = not isinstance(error, InvalidProducerIdMappingError)
        await self._initialize(goes_on=goes_on)

    # ---- the producer id

    async def _initialize(self, *, goes_on: bool) -> None:
        """Get the producer id, or with `goes_on` the next epoch of the one in use."""

        def make_request(connection: Connection) -> tuple[int, InitProducerIdRequest]:
            self._offers_v2 = connection.runs_transactions_v2
            version = connection.version_for(INIT_PRODUCER_ID)
            if goes_on and version < _FIRST_WITH_BUMP:
                raise UnsupportedVersionError(
                    "The producer cannot go on after the failure of a transaction: the broker is"
                    " older than Kafka 2.5",
                    hint="Close this producer, and start another one.",
                )
            current = (self._producer_id, self._epoch) if goes_on else (-1, -1)
            timeout_ms = self._config.transaction_timeout_ms
            return version, InitProducerIdRequest(self._id, timeout_ms, *current)

        async with self._lock:
            try:
                response = await self._coordinator.ask(
                    INIT_PRODUCER_ID, make_request, lambda each: _error(each.error_code)
                )
            except (InvalidProducerEpochError, ProducerFencedError) as error:
                raise self._fenced(error) from error
        self._needs_epoch = False
        self._is_v2 = self._offers_v2
        self._set_producer_id(response.producer_id, response.producer_epoch)

    def _set_producer_id(self, producer_id: int, epoch: int) -> None:
        self._producer_id, self._epoch = producer_id, epoch
        self._host.set_producer_id(producer_id, epoch)

    def _fenced(self, error: KafkaError) -> KafkaError:
        return ProducerFencedError(
            f"Another producer has taken over transactional id {self._id!r}; this one had producer"
            f" id {self._producer_id} and epoch {self._epoch}",
            broker=error.broker,
            hint="Run one producer for each transactional_id, and close this one."
            + ("" if self._is_v2 else _FENCED_BY_TIMEOUT),
        )

    # ---- what is part of the transaction

    async def _add_partitions(self) -> None:
        while self._to_add and not self.state.must_abort:
            adding, self._to_add = self._to_add, {}
            try:
                await self._add(adding)
            except KafkaError as error:
                self._part_failed(error)
                return
            self._is_known = True
            self._host.partitions_added(adding.values())

    async def _add(self, adding: dict[tuple[str, int], Any]) -> None:
        by_topic: dict[str, list[int]] = {}
        for name, partition in adding:
            by_topic.setdefault(name, []).append(partition)
        topics = [AddPartitionsToTxnTopic(name, found) for name, found in by_topic.items()]

        def make_request(connection: Connection) -> tuple[int, AddPartitionsToTxnRequest]:
            request = AddPartitionsToTxnRequest(self._id, self._producer_id, self._epoch, topics)
            return connection.version_for(ADD_PARTITIONS_TO_TXN), request

        async with self._lock:
            await self._coordinator.ask(ADD_PARTITIONS_TO_TXN, make_request, _add_partitions_error)

    async def _finish_adding(self) -> None:
        tasks = [task for task in (self._adding, *self._working) if task is not None]
        if tasks:
            await asyncio.wait(tasks)

    async def _send_offsets(
        self, topics: list[TxnOffsetCommitRequestTopic], group: ConsumerGroupMetadata
    ) -> None:
        try:
            if not self._is_v2:
                await self._add_group(group.group_id)
            self._is_known = True
            await self._commit_offsets(topics, group)
        except KafkaError as error:
            self._part_failed(error)
            raise

    async def _add_group(self, group_id: str) -> None:
        def make_request(connection: Connection) -> tuple[int, AddOffsetsToTxnRequest]:
            request = AddOffsetsToTxnRequest(self._id, self._producer_id, self._epoch, group_id)
            return connection.version_for(ADD_OFFSETS_TO_TXN), request

        async with self._lock:
            await self._coordinator.ask(
                ADD_OFFSETS_TO_TXN, make_request, lambda each: _error(each.error_code)
            )

    async def _commit_offsets(
        self, topics: list[TxnOffsetCommitRequestTopic], group: ConsumerGroupMetadata
    ) -> None:
        def make_request(connection: Connection) -> tuple[int, TxnOffsetCommitRequest]:
            at_most = None if self._is_v2 else _LAST_OF_V1
            version = connection.version_for(TXN_OFFSET_COMMIT, at_most=at_most)
            return version, TxnOffsetCommitRequest(
                self._id,
                group.group_id,
                self._producer_id,
                self._epoch,
                group.generation_id,
                group.member_id,
                group.group_instance_id,
                topics,
            )

        coordinator = self._group_coordinators.get(group.group_id)
        if coordinator is None:
            coordinator = self._coordinator_of(group.group_id, GROUP)
            self._group_coordinators[group.group_id] = coordinator
        await coordinator.ask(TXN_OFFSET_COMMIT, make_request, _offset_commit_error)

    # ---- failures

    def _part_failed(self, error: KafkaError) -> None:
        """A partition or a group could not be made part of the transaction."""
        if error.fatal and not isinstance(error, _LOST):
            self._fatal(error)
        else:
            self.record_failed(error)

    def _has_failed(self) -> None:
        self.closed()
        self._host.drop_unsent_soon()

    def _fatal(self, error: KafkaError) -> None:
        if self.state.fatal(error):
            logger.error("The producer of transactional id %r must be closed: %s", self._id, error)
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
        done, _ = await asyncio.wait([task], timeout=self._timeout)
        if not done:
            if task is self._ending:
                self._timed_out = call
            hint = f"It goes on: call {call}() again."
            raise self._timeout_error(self._timeout, f"{what} (max_block_ms)", hint)
        self._timed_out = ""
        if task.cancelled():
            raise ProducerClosedError("The producer was closed meanwhile")
        error = task.exception()
        if error is not None:
            if task is self._ending:
                self._ending = None
            raise error.again() if isinstance(error, KafkaError) else error

    def _timeout_error(self, waited: float, waiting_for: str, hint: str) -> KafkaTimeoutError:
        return KafkaTimeoutError(
            waited=waited,
            waiting_for=waiting_for,
            last_broker_error=self._coordinator.last_error,
            broker=self._coordinator.name or None,
            hint=hint,
        )

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._background.create_task(work, name=f"aioproducer-{name}")
        # Its caller may be gone: marks the exception as retrieved.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    def _coordinator_of(self, key: str, key_type: int) -> Coordinator:
        return Coordinator(
            key,
            key_type,
            cluster=self._cluster,
            background=self._background,
            config=self._config,
        )


def _error(code: int) -> KafkaError | None:
    return broker_error(code) if code else None


def _end_txn_error(response: EndTxnResponse) -> KafkaError | None:
    return _error(response.error_code)


def _add_partitions_error(response: AddPartitionsToTxnResponse) -> KafkaError | None:
    """The error that decides: where one partition failed, none was added."""
    errors: list[KafkaError] = []
    for topic in response.results_by_topic_v3_and_below:
        for result in topic.results_by_partition:
            error = _error(result.partition_error_code)
            if error is not None:
                error.topic_partition = TopicPartition(topic.name, result.partition_index)
                errors.append(error)
    return max(errors, key=_decisiveness, default=None)


def _decisiveness(error: KafkaError) -> int:
    # Bystanders least, then what passes, then what does not.
    if isinstance(error, OperationNotAttemptedError):
        return 0
    return 1 if error.retriable else 2


def _offset_commit_error(response: TxnOffsetCommitResponse) -> KafkaError | None:
    for topic in response.topics:
        for result in topic.partitions:
            error = _error(result.error_code)
            if error is not None:
                error.topic_partition = TopicPartition(topic.name, result.partition_index)
                return error
    return None
