"""What the coordinator of a producer's transactions is asked, and what it has given.

Owns the producer id and epoch of a transactional producer, and which of Kafka's two protocols it
speaks. No state of a transaction: `transactions.py` decides what is asked when.

                                  version 1 (before 4.0)          version 2 (KIP-890)
    a partition's first record    AddPartitionsToTxn first        Produce alone
    a group's offsets             AddOffsetsToTxn first           TxnOffsetCommit alone
    the next transaction has      the same epoch                  the epoch in EndTxn's response
    after a failure               InitProducerId                  nothing more
    after a request that was
    not answered                  InitProducerId                  nothing more
    after a timeout               (looks like being fenced)       EndTxn to abort

The version is what the coordinator's broker spoke when it was last asked to end a transaction, or
for an id: it changes between transactions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from aioproducer.background import Background
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    KafkaError,
    OperationNotAttemptedError,
    ProducerFencedError,
    UnsupportedVersionError,
    broker_error,
)
from aioproducer.network.cluster import Cluster
from aioproducer.network.connection import Connection
from aioproducer.protocol.add_offsets_to_txn import ADD_OFFSETS_TO_TXN, AddOffsetsToTxnRequest
from aioproducer.protocol.add_partitions_to_txn import (
    ADD_PARTITIONS_TO_TXN,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
)
from aioproducer.protocol.describe_transactions import (
    DESCRIBE_TRANSACTIONS,
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
)
from aioproducer.protocol.end_txn import END_TXN, EndTxnRequest
from aioproducer.protocol.find_coordinator import GROUP, TRANSACTION
from aioproducer.protocol.init_producer_id import INIT_PRODUCER_ID, InitProducerIdRequest
from aioproducer.protocol.schema import Api, Req, Resp
from aioproducer.protocol.txn_offset_commit import (
    TXN_OFFSET_COMMIT,
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)
from aioproducer.records import TopicPartition
from aioproducer.transactions.coordinator import Coordinator
from aioproducer.transactions.offsets import ConsumerGroupMetadata

__all__ = ["ENDED", "LOST", "Coordination"]

_FIRST_WITH_BUMP: Final = 3
"""The version of InitProducerId from which on it takes the id and epoch to go on from (KIP-360)."""

_LAST_OF_V1: Final = 4
"""The newest EndTxn and TxnOffsetCommit of a producer without transactions v2."""

_FENCED_BY_TIMEOUT: Final = (
    " Or the transaction was open for longer than transaction_timeout_ms: before Kafka 4.0 the"
    " broker says the same of both."
)

ENDED: Final = (InvalidProducerIdMappingError, InvalidTxnStateError)
"""Errors of the end of a transaction that its coordinator has ended itself, or does not know."""

LOST: Final = (*ENDED, InvalidProducerEpochError, ProducerFencedError)
"""Errors of a part of such a transaction, or of one that another producer has fenced."""


class Coordination:
    """Asks for one producer.

    Args:
        config: The producer's options, with a `transactional_id`.
        cluster: Has the brokers.
        background: Has the clock.
        set_producer_id: Called with each new id and epoch.

    Attributes:
        transactional_id: The producer's.
        coordinator: Its coordinator.
        is_v2: Whether the current transaction is one of version 2.
        needs_epoch: Sequences were given that no batch will have: the next epoch is needed.
    """

    def __init__(
        self,
        config: ProducerConfig,
        cluster: Cluster,
        background: Background,
        set_producer_id: Callable[[int, int], None],
    ) -> None:
        assert config.transactional_id is not None
        self.transactional_id = config.transactional_id
        self.is_v2 = False
        self.needs_epoch = False
        self._config = config
        self._cluster = cluster
        self._background = background
        self._set_producer_id = set_producer_id
        self.coordinator = self._coordinator_of(self.transactional_id, TRANSACTION)
        self._groups: dict[str, Coordinator] = {}
        self._offers_v2 = False
        self._can_go_on = False
        self.producer_id, self.epoch = -1, -1

    @property
    def has_id(self) -> bool:
        """Whether the coordinator has given a producer id."""
        return self.producer_id >= 0

    @property
    def wants_epoch(self) -> bool:
        """Whether the next transaction needs another epoch than the coordinator gave.

        With version 1 also where a request was not answered: a broker that was slow could carry
        out an EndTxn in the next transaction, and commit a part of that, or a TxnOffsetCommit, and
        set offsets back. Now its epoch is over.
        """
        if self.is_v2:
            return self.needs_epoch
        may_come_late = self._can_go_on and any(each.has_doubt for each in self._coordinators())
        return self.needs_epoch or self._offers_v2 or may_come_late

    @property
    def can_change_epoch(self) -> bool:
        """Whether the next transaction can have another epoch: not before Kafka 2.5."""
        return self._can_go_on or not self.has_id

    def asked_again(self) -> Coordinator:
        """The coordinator that has not answered well yet; the transaction's, if each has."""
        for coordinator in self._groups.values():
            if coordinator.last_error is not None:
                return coordinator
        return self.coordinator

    def forget_id(self) -> None:
        """Ask for another producer id before the next transaction."""
        self.producer_id, self.epoch = -1, -1
        self.needs_epoch = True

    def choose_version(self) -> None:
        """Speak the version of the coordinator from now on: a transaction begins."""
        self.is_v2 = self._offers_v2

    # ---- id and epoch

    async def initialize(self) -> None:
        """Get the producer id, or the next epoch of the one in use.

        Raises:
            ProducerFencedError: Another producer has taken over the transactional id.
            KafkaError: Another error that does not pass.
        """

        def make_request(connection: Connection) -> tuple[int, InitProducerIdRequest]:
            self._offers_v2 = connection.runs_transactions_v2
            version = connection.version_for(INIT_PRODUCER_ID)
            self._can_go_on = version >= _FIRST_WITH_BUMP
            if self.has_id and not self._can_go_on:
                raise UnsupportedVersionError(
                    "The producer cannot go on after the failure of a transaction: the broker is"
                    " older than Kafka 2.5",
                    hint="Close this producer, and start another one.",
                )
            timeout_ms = self._config.transaction_timeout_ms
            return version, InitProducerIdRequest(
                self.transactional_id, timeout_ms, self.producer_id, self.epoch
            )

        response = await self._ask(
            INIT_PRODUCER_ID, make_request, lambda each: _error(each.error_code)
        )
        self.choose_version()
        self._take(response.producer_id, response.producer_epoch)

    async def end(self, *, is_commit: bool) -> None:
        """Commit or abort the transaction (EndTxn).

        Raises:
            ProducerFencedError: Another producer has taken over the transactional id.
            KafkaError: Another error that does not pass; one of `ENDED`, if the coordinator has
                ended the transaction itself or does not know this producer any more.
        """

        def make_request(connection: Connection) -> tuple[int, EndTxnRequest]:
            self._offers_v2 = connection.runs_transactions_v2
            version = connection.version_for(END_TXN, at_most=None if self.is_v2 else _LAST_OF_V1)
            return version, EndTxnRequest(
                self.transactional_id, self.producer_id, self.epoch, is_commit
            )

        response = await self._ask(END_TXN, make_request, lambda each: _error(each.error_code))
        if response.producer_epoch >= 0:
            self._take(response.producer_id, response.producer_epoch)

    def ask_whether_over(self, answered: Callable[[bool | None], None]) -> bool:
        """Ask whether the transaction that was ended is over: whether its markers are written.

        Args:
            answered: Called once, later; with None where there is no telling.

        Returns:
            Whether it was asked: the connection is there, and the broker knows the request.
        """

        def on_response(
            response: DescribeTransactionsResponse | None, _: KafkaError | None
        ) -> None:
            answered(None if response is None else _is_over(response))

        request = DescribeTransactionsRequest((self.transactional_id,))
        return self.coordinator.ask_once(DESCRIBE_TRANSACTIONS, request, on_response)

    async def recover(self, error: KafkaError, *, is_commit: bool) -> None:
        """Get the next epoch after one of `ENDED`.

        Where another producer has fenced this one, InitProducerId does harm:
        1. The other one has a transaction open, and we ask to go on from our epoch.
        2. The coordinator aborts the open transaction first, whosever it is.
        3. Only when we ask again it finds that our epoch is over, and refuses.
        So with version 2 we ask to abort what was not committed: that gives the epoch as well, and
        is refused to an epoch that is over before anything is done.

        Args:
            error: How the end failed.
            is_commit: Whether it was a commit.

        Raises:
            ProducerFencedError: Another producer has taken over the transactional id.
            KafkaError: Another error that does not pass.
        """
        if self.is_v2 and is_commit and isinstance(error, InvalidTxnStateError):
            await self.end(is_commit=False)
        else:
            # To whom says what it has, a coordinator that has forgotten the transactional id gives
            # another producer id, and one that knows a successor gives none.
            await self.initialize()

    async def _ask(
        self,
        api: Api[Req, Resp],
        make_request: Callable[[Connection], tuple[int, Req]],
        error_of: Callable[[Resp], KafkaError | None],
    ) -> Resp:
        try:
            return await self.coordinator.ask(api, make_request, error_of)
        except (InvalidProducerEpochError, ProducerFencedError) as error:
            raise self._fenced(error) from error

    def _take(self, producer_id: int, epoch: int) -> None:
        self.producer_id, self.epoch = producer_id, epoch
        self.needs_epoch = False
        for coordinator in self._coordinators():
            coordinator.has_doubt = False
        self._set_producer_id(producer_id, epoch)

    def _fenced(self, error: KafkaError) -> KafkaError:
        return ProducerFencedError(
            f"Another producer has taken over transactional id {self.transactional_id!r}; this one"
            f" had producer id {self.producer_id} and epoch {self.epoch}",
            broker=error.broker,
            hint="Run one producer for each transactional_id, and close this one."
            + ("" if self.is_v2 else _FENCED_BY_TIMEOUT),
        )

    # ---- what is part of the transaction

    async def add_partitions(
        self, partitions: Iterable[tuple[str, int]], given_up: Callable[[], bool]
    ) -> None:
        """Make partitions part of the transaction (version 1)."""
        by_topic: dict[str, list[int]] = {}
        for name, partition in partitions:
            by_topic.setdefault(name, []).append(partition)
        topics = [AddPartitionsToTxnTopic(name, found) for name, found in by_topic.items()]

        def make_request(connection: Connection) -> tuple[int, AddPartitionsToTxnRequest]:
            request = AddPartitionsToTxnRequest(
                self.transactional_id, self.producer_id, self.epoch, topics
            )
            return connection.version_for(ADD_PARTITIONS_TO_TXN), request

        await self.coordinator.ask(
            ADD_PARTITIONS_TO_TXN, make_request, _add_partitions_error, given_up=given_up
        )

    async def add_group(self, group_id: str, given_up: Callable[[], bool]) -> None:
        """Make the offsets of a consumer group part of the transaction (version 1)."""

        def make_request(connection: Connection) -> tuple[int, AddOffsetsToTxnRequest]:
            request = AddOffsetsToTxnRequest(
                self.transactional_id, self.producer_id, self.epoch, group_id
            )
            return connection.version_for(ADD_OFFSETS_TO_TXN), request

        await self.coordinator.ask(
            ADD_OFFSETS_TO_TXN,
            make_request,
            lambda each: _error(each.error_code),
            given_up=given_up,
        )

    async def commit_offsets(
        self,
        topics: list[TxnOffsetCommitRequestTopic],
        group: ConsumerGroupMetadata,
        given_up: Callable[[], bool],
    ) -> None:
        """Have the group's coordinator commit offsets when the transaction is committed."""

        def make_request(connection: Connection) -> tuple[int, TxnOffsetCommitRequest]:
            at_most = None if self.is_v2 else _LAST_OF_V1
            version = connection.version_for(TXN_OFFSET_COMMIT, at_most=at_most)
            return version, TxnOffsetCommitRequest(
                self.transactional_id,
                group.group_id,
                self.producer_id,
                self.epoch,
                group.generation_id,
                group.member_id,
                group.group_instance_id,
                topics,
            )

        coordinator = self._groups.get(group.group_id)
        if coordinator is None:
            coordinator = self._groups[group.group_id] = self._coordinator_of(group.group_id, GROUP)
        await coordinator.ask(
            TXN_OFFSET_COMMIT, make_request, _offset_commit_error, given_up=given_up
        )

    def _coordinators(self) -> list[Coordinator]:
        return [self.coordinator, *self._groups.values()]

    def _coordinator_of(self, key: str, key_type: int) -> Coordinator:
        return Coordinator(
            key,
            key_type,
            cluster=self._cluster,
            background=self._background,
            config=self._config,
        )


def _is_over(response: DescribeTransactionsResponse) -> bool | None:
    states = response.transaction_states
    if not states or states[0].error_code:
        return None
    return not states[0].transaction_state.startswith("Prepare")


def _error(code: int) -> KafkaError | None:
    return broker_error(code) if code else None


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
