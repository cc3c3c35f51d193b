"""A transactional producer by hand: each request through kio, each outcome written down.

For brokers real and fake: the same steps give the same `Steps.outcomes`, in which producer ids
are named in the order of their appearance.
"""

from __future__ import annotations

import asyncio
import struct
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

from kio.serial.errors import OutOfBoundValue

from tests.support.fake_broker import request_class
from tests.support.kio_client import KioClient, batch, produce_request
from tests.support.kio_messages import kio_class

_BATCH = struct.Struct(">qiibIhiqqqhii")
_TRANSACTIONAL = 0x10
_CONTROL = 0x20
_MARKERS = {0: "ABORT", 1: "COMMIT"}


class Pid(NamedTuple):
    """A producer id with its epoch."""

    id: int
    epoch: int


CONCURRENT_TRANSACTIONS = 51
NEW_BROKER = {14, 15, 16}
"""What a coordinator answers while the topic behind it is being made."""
NO_PID = Pid(-1, -1)
_PAUSE = 0.02


Batch: TypeAlias = tuple[tuple[int, ...], bytes]
"""The fields of a record batch's header, and the bytes behind it."""


@dataclass(frozen=True)
class Where:
    """What the steps are about, by the names that they have on this broker."""

    topic: str
    topic_id: uuid.UUID
    transactional_id: str
    group: str


class Steps:
    """Sends what a step says and writes its outcome down.

    Args:
        client: A connection to the only broker.
        where: The names.
        is_real: Whether it is a real one, which has to make its own topics first.
    """

    def __init__(self, client: KioClient, where: Where, *, is_real: bool = False) -> None:
        self._client = client
        self.where = where
        self._is_real = is_real
        self.set_next_epoch: Callable[[str, int], object] | None = None
        """Brings a fake broker to an epoch at once."""
        self._names: dict[int, str] = {-1: "-"}
        # Now: retention would delete older records at once. And one for all: a batch sent again is
        # the same batch.
        self._timestamp_ms = int(time.time() * 1000)
        self.outcomes: list[object] = []

    def _name(self, producer_id: int) -> str:
        return self._names.setdefault(producer_id, f"p{len(self._names) - 1}")

    def _note(self, *outcome: object) -> None:
        self.outcomes.append(outcome)

    async def find_coordinators(self) -> None:
        """FindCoordinator of both kinds; a new Kafka makes the topics behind them first."""
        for kind, key in ((0, self.where.group), (1, self.where.transactional_id)):
            request = request_class("find_coordinator", 6)(key_type=kind, coordinator_keys=(key,))
            await self._ask_until(request, lambda found: not found.coordinators[0].error_code)

    async def wait_for_leaders(self, partitions: int) -> None:
        """Return when a new topic can be written to."""
        for index in range(partitions):
            await self._ask_until(
                self._fetch_request(index, 0, 0),
                lambda found: not found.responses[0].partitions[0].error_code,
            )

    async def _ask_until(
        self, request: Any, is_done: Callable[[Any], bool], pause: float = _PAUSE
    ) -> Any:
        """Return the first response that will do."""
        while True:
            response = await self._client.ask(request)
            if is_done(response):
                return response
            await asyncio.sleep(pause)

    async def init(
        self,
        known: Pid = NO_PID,
        *,
        version: int = 5,
        timeout: float = 60.0,
        transactional_id: str | None = None,
        until_over: bool = False,
    ) -> Pid:
        """InitProducerId; with `until_over` it is repeated while a transaction is ended."""
        fields: dict[str, Any] = {}
        if version >= 3:
            fields = {"producer_id": known.id, "producer_epoch": known.epoch}
        name = self.where.transactional_id if transactional_id is None else transactional_id
        request = request_class("init_producer_id", version)(
            transactional_id=name, transaction_timeout=timedelta(seconds=timeout), **fields
        )
        response = await self._ask_until(
            request, lambda found: not (until_over and self._is_busy(found.error_code))
        )
        found = Pid(response.producer_id, response.producer_epoch)
        self._note("init", int(response.error_code), self._name(found.id), found.epoch)
        return found

    async def init_at(self, epoch: int) -> Pid:
        """InitProducerId until this epoch is reached; nothing is written down but the last one."""
        if self.set_next_epoch is not None:
            self.set_next_epoch(self.where.transactional_id, epoch)
            return await self.init()
        request = request_class("init_producer_id", 5)(
            transactional_id=self.where.transactional_id, transaction_timeout=timedelta(seconds=60)
        )
        await self._ask_until(request, lambda found: found.producer_epoch == epoch - 1, pause=0)
        return await self.init()

    def _is_busy(self, code: int) -> bool:
        """Whether a broker that has just begun must be asked again."""
        return code == CONCURRENT_TRANSACTIONS or (self._is_real and code in NEW_BROKER)

    async def add(
        self, pid: Pid, *partitions: int, version: int = 3, topic: str | None = None
    ) -> list[int]:
        """AddPartitionsToTxn."""
        whole = request_class("add_partitions_to_txn", version)
        of_topic = kio_class("add_partitions_to_txn", version, "AddPartitionsToTxnTopic", whole)
        request = whole(
            v3_and_below_transactional_id=self.where.transactional_id,
            v3_and_below_producer_id=pid.id,
            v3_and_below_producer_epoch=pid.epoch,
            v3_and_below_topics=(
                of_topic(name=topic or self.where.topic, partitions=tuple(partitions)),
            ),
        )
        response = await self._client.ask(request)
        codes = sorted(
            (result.partition_index, int(result.partition_error_code))
            for found in response.results_by_topic_v3_and_below
            for result in found.results_by_partition
        )
        self._note("add", codes)
        return [code for _, code in codes]

    async def add_as_a_broker(
        self, pid: Pid, *partitions: int, version: int = 5, only_asks: bool = False
    ) -> None:
        """AddPartitionsToTxn as brokers send it to each other."""
        whole = request_class("add_partitions_to_txn", version)
        of_topic = kio_class("add_partitions_to_txn", version, "AddPartitionsToTxnTopic", whole)
        of_transaction = kio_class(
            "add_partitions_to_txn", version, "AddPartitionsToTxnTransaction", whole
        )
        one = of_transaction(
            transactional_id=self.where.transactional_id,
            producer_id=pid.id,
            producer_epoch=pid.epoch,
            verify_only=only_asks,
            topics=(of_topic(name=self.where.topic, partitions=partitions),),
        )
        (result,) = (await self._client.ask(whole(transactions=(one,)))).results_by_transaction
        codes = sorted(
            (found.partition_index, int(found.partition_error_code))
            for topic in result.topic_results
            for found in topic.results_by_partition
        )
        self._note("add_as_a_broker", result.transactional_id, codes)

    async def add_offsets(self, pid: Pid, *, version: int = 4) -> int:
        """AddOffsetsToTxn."""
        response = await self._client.ask(
            request_class("add_offsets_to_txn", version)(
                transactional_id=self.where.transactional_id,
                producer_id=pid.id,
                producer_epoch=pid.epoch,
                group_id=self.where.group,
            )
        )
        self._note("add_offsets", int(response.error_code))
        return int(response.error_code)

    async def commit_offsets(
        self,
        pid: Pid,
        offsets: dict[int, int],
        *,
        version: int = 5,
        generation: int = -1,
        member: str = "",
    ) -> None:
        """TxnOffsetCommit."""
        whole = request_class("txn_offset_commit", version)
        of_topic = kio_class("txn_offset_commit", version, "TxnOffsetCommitRequestTopic", whole)
        of_partition = kio_class(
            "txn_offset_commit", version, "TxnOffsetCommitRequestPartition", whole
        )
        fields: dict[str, Any] = {}
        if version >= 3:
            fields = {"generation_id": generation, "member_id": member}
        request = whole(
            transactional_id=self.where.transactional_id,
            group_id=self.where.group,
            producer_id=pid.id,
            producer_epoch=pid.epoch,
            topics=(
                of_topic(
                    name=self.where.topic,
                    partitions=tuple(
                        of_partition(
                            partition_index=index, committed_offset=offset, committed_metadata="m"
                        )
                        for index, offset in offsets.items()
                    ),
                ),
            ),
            **fields,
        )
        response = await self._ask_until(
            request, lambda found: not (self._is_real and self._codes(found) & NEW_BROKER)
        )
        self._note("commit_offsets", sorted(self._codes(response)))

    @staticmethod
    def _codes(response: Any) -> set[int]:
        return {
            int(partition.error_code) for topic in response.topics for partition in topic.partitions
        }

    async def committed(self, *partitions: int, stable: bool = False) -> None:
        """OffsetFetch."""
        whole = request_class("offset_fetch", 8)
        of_group = kio_class("offset_fetch", 8, "OffsetFetchRequestGroup", whole)
        of_topic = kio_class("offset_fetch", 8, "OffsetFetchRequestTopics", whole)
        request = whole(
            groups=(
                of_group(
                    group_id=self.where.group,
                    topics=(of_topic(name=self.where.topic, partition_indexes=partitions),),
                ),
            ),
            require_stable=stable,
        )
        (group,) = (await self._client.ask(request)).groups
        self._note(
            "committed",
            int(group.error_code),
            sorted(
                (one.partition_index, one.committed_offset, one.metadata, int(one.error_code))
                for topic in group.topics
                for one in topic.partitions
            ),
        )

    async def produce(
        self,
        pid: Pid,
        sequence: int,
        count: int = 1,
        *,
        partition: int = 0,
        version: int = 13,
        transactional: bool = True,
        named: bool = True,
    ) -> int:
        """Produce one batch; `named` says that the request has the transactional id."""
        data = batch(
            *(b"%d" % (sequence + index) for index in range(count)),
            producer=(pid.id, pid.epoch, sequence),
            timestamp_ms=self._timestamp_ms,
            attributes=_TRANSACTIONAL if transactional else 0,
        )
        topic: str | uuid.UUID = self.where.topic_id if version >= 13 else self.where.topic
        response = await self._client.ask(
            produce_request(
                {(topic, partition): data},
                version=version,
                transactional_id=self.where.transactional_id if named else None,
            )
        )
        ((found,),) = (topic.partition_responses for topic in response.responses)
        told = getattr(found, "error_message", None)
        self._note("produce", int(found.error_code), found.base_offset, told)
        return int(found.error_code)

    async def end(self, pid: Pid, *, commit: bool, version: int = 5, wait: bool = True) -> Pid:
        """EndTxn; with `wait`, return when the markers are written."""
        request = request_class("end_txn", version)(
            transactional_id=self.where.transactional_id,
            producer_id=pid.id,
            producer_epoch=pid.epoch,
            committed=commit,
        )
        response = await self._client.ask(request)
        found = NO_PID
        if version >= 5:
            found = Pid(response.producer_id, response.producer_epoch)
        self._note("end", int(response.error_code), self._name(found.id), found.epoch)
        if wait:
            await self.over()
        return found

    async def over(self) -> None:
        """Return when no transaction is being ended: a fake broker is done at once, if it may."""
        if self._is_real:
            await self._until(lambda state: not state.startswith("Prepare"))

    async def ongoing(self, wanted: bool) -> None:
        """Return when a transaction is open, or no longer open."""
        await self._until(lambda state: (state == "Ongoing") == wanted)

    async def _until(self, is_reached: Callable[[str], bool]) -> None:
        while True:
            if is_reached(await self._state()):
                return
            await asyncio.sleep(_PAUSE)

    async def _state(self) -> str:
        try:
            found = await self._described(self.where.transactional_id)
        except OutOfBoundValue:  # kio takes -1 for no start time: there was no transaction
            return "Empty"
        return str(found.transaction_state)

    async def _described(self, transactional_id: str) -> Any:
        request = request_class("describe_transactions", 0)(transactional_ids=(transactional_id,))
        (found,) = (await self._client.ask(request)).transaction_states
        return found

    async def describe(self, transactional_id: str | None = None) -> None:
        """DescribeTransactions, of a transaction that has begun or an id that is not known."""
        name = self.where.transactional_id if transactional_id is None else transactional_id
        found = await self._described(name)
        # Beside an error a producer id of 0 means none; else it may be the broker's first.
        producer_id = -1 if found.error_code else found.producer_id
        self._note(
            "describe",
            int(found.error_code),
            found.transaction_state,
            found.transaction_timeout // timedelta(milliseconds=1),
            self._name(producer_id),
            found.producer_epoch,
            sorted(sorted(topic.partitions) for topic in found.topics),
        )

    async def read(self, partition: int = 0, *, offset: int = 0) -> None:
        """Fetch at both isolation levels: what is stored, aborted and stable."""
        for isolation in (0, 1):
            found = await self._fetched(partition, offset, isolation)
            aborted: set[Any] | None = None
            if found.aborted_transactions is not None:
                aborted = set(found.aborted_transactions)
            batches = batches_of(found.records)
            while (more := await self._more(partition, batches, isolation)) is not None:
                batches += batches_of(more.records)
                if aborted is not None:
                    aborted |= set(more.aborted_transactions)
            self._note(
                "read_committed" if isolation else "read_uncommitted",
                int(found.error_code),
                found.high_watermark,
                found.last_stable_offset,
                None
                if aborted is None
                else sorted((self._name(one.producer_id), one.first_offset) for one in aborted),
                [self._batch(*found_batch) for found_batch in batches],
            )

    async def _more(self, partition: int, batches: list[Batch], isolation: int) -> Any:
        """Return what follows the last batch, if anything does: a broker returns it in pieces."""
        if not batches:
            return None
        header = batches[-1][0]
        found = await self._fetched(partition, header[0] + header[6] + 1, isolation)
        return found if found.records else None

    async def _fetched(self, partition: int, offset: int, isolation: int) -> Any:
        response = await self._client.ask(self._fetch_request(partition, offset, isolation))
        ((found,),) = (topic.partitions for topic in response.responses)
        return found

    def _fetch_request(self, partition: int, offset: int, isolation: int) -> Any:
        whole = request_class("fetch", 12)
        of_topic = kio_class("fetch", 12, "FetchTopic", whole)
        of_partition = kio_class("fetch", 12, "FetchPartition", whole)
        part = of_partition(partition=partition, fetch_offset=offset, partition_max_bytes=1_000_000)
        return whole(
            max_wait=timedelta(0),
            min_bytes=0,
            isolation_level=isolation,
            topics=(of_topic(topic=self.where.topic, partitions=(part,)),),
            forgotten_topics_data=(),
        )

    def _batch(self, header: tuple[int, ...], body: bytes) -> tuple[object, ...]:
        base_offset, attributes = header[0], header[5]
        producer_id, epoch, sequence, count = header[9:13]
        kind = "data"
        if attributes & _CONTROL:
            kind = _MARKERS[_marker_type(body)]
        transactional = bool(attributes & _TRANSACTIONAL)
        return (
            base_offset, kind, transactional, self._name(producer_id), epoch, sequence, count
        )  # fmt: skip

    async def offsets_at(self, isolation: int, partition: int = 0) -> None:
        """ListOffsets: where the partition ends for a reader."""
        whole = request_class("list_offsets", 7)
        of_topic = kio_class("list_offsets", 7, "ListOffsetsTopic", whole)
        of_partition = kio_class("list_offsets", 7, "ListOffsetsPartition", whole)
        part = of_partition(partition_index=partition, timestamp=-1)
        response = await self._client.ask(
            whole(
                replica_id=-1,
                isolation_level=isolation,
                topics=(of_topic(name=self.where.topic, partitions=(part,)),),
            )
        )
        ((found,),) = (topic.partitions for topic in response.topics)
        self._note("ends", isolation, int(found.error_code), found.offset)


def batches_of(data: bytes | None) -> list[Batch]:
    """Return header and body of each record batch."""
    found: list[Batch] = []
    at = 0
    while data is not None and at < len(data):
        header = _BATCH.unpack_from(data, at)
        end = at + 12 + header[1]
        found.append((header, data[at + _BATCH.size : end]))
        at = end
    return found


def _marker_type(body: bytes) -> int:
    # Length, attributes, timestamp delta, offset delta and the length of the key are a byte each.
    version, kind = struct.unpack_from(">hh", body, 5)
    assert version == 0
    return int(kind)
