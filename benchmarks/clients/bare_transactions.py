"""What the broker allows to transactions: requests of prepared batches, a plain socket.

No client: it retries nothing, takes for granted that one broker leads every partition and
coordinates, and only stamps the producer id, epoch and sequence into batches that were encoded
beforehand. A transaction is DescribeTransactions until the last one is over (quicker than to be
kept by the broker), Produce and EndTxn. A block without one is Produce alone. What is more than a
broker takes as one batch goes in several requests, one behind the other.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, Final

from kafka.record.default_records import DefaultRecordBatchBuilder

from aioproducer._native.record_batch import crc32c
from aioproducer.protocol.describe_transactions import (
    DESCRIBE_TRANSACTIONS,
    DescribeTransactionsRequest,
)
from aioproducer.protocol.end_txn import END_TXN, EndTxnRequest
from aioproducer.protocol.find_coordinator import (
    FIND_COORDINATOR,
    TRANSACTION,
    FindCoordinatorRequest,
)
from aioproducer.protocol.frames import decode_response, encode_request
from aioproducer.protocol.init_producer_id import INIT_PRODUCER_ID, InitProducerIdRequest
from aioproducer.protocol.produce import (
    PRODUCE,
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from aioproducer.protocol.schema import Api, Req, Resp
from benchmarks import drivers
from benchmarks.clients.bare_socket import address, responses
from benchmarks.jobs import Job, Measurement, Pattern, Records

IDIOMS = {
    Pattern.TRANSACTIONS: "DescribeTransactions until over, prepared Produce, EndTxn",
    Pattern.BLOCKS: "prepared Produce, blocking socket",
}
WRITES_TO_KAFKA = True

_PRODUCE_VERSION: Final = 12
"""The first of transactions v2, and the last with names of topics."""

_TIMEOUT_MS: Final = 30_000
_SPREAD_FROM: Final = 1_000
"""Records of a block from which on every partition gets some; fewer go to one, in turn."""
_BATCH_BYTES: Final = 1_000_000
"""A little less than a broker takes (`max.message.bytes`)."""
_RECORD_OVERHEAD: Final = 20
"""Bytes of a record beside its value, at most."""

_NOT_YET: Final = (14, 15, 16)
"""What a new coordinator answers: it loads, is not there, is another one."""

_CRC_AT: Final = 17
_ATTRIBUTES_AT: Final = 21
_PRODUCER_AT: Final = 43


def unavailable() -> str | None:
    """It needs nothing but a socket."""
    return None


def measure(job: Job) -> Measurement:
    """Do the job."""
    return drivers.run_on_loop(job, _measure)


async def _measure(job: Job) -> Measurement:
    with _Broker(job) as broker:
        # Blocking in a coroutine: nothing else is on this loop.
        async def send_block(count: int) -> None:
            broker.send_block(count)

        return await drivers.blocks(job, send_block, "-")


class _Broker:
    """A connection to the only broker, and the state of the one producer on it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._value = Records.of(job.payload).values[0]
        self._socket = socket.create_connection(address(job))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._responses = responses(self._socket)
        self._correlation_ids = itertools.count()
        self._next_partition = itertools.cycle(range(job.partitions))
        self._prepared: dict[int, bytearray] = {}
        self._sequences = [0] * job.partitions
        self._transactional_id = job.topic if job.pattern is Pattern.TRANSACTIONS else None
        self._producer_id, self._epoch = self._initialize()
        self._has_committed = False

    def __enter__(self) -> _Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send_block(self, count: int) -> None:
        """Store so many records, in a transaction if there are any."""
        requests = [self._produce_request(parts) for parts in self._parts(count)]
        if self._transactional_id is not None:
            self._wait_until_over(self._transactional_id)
        for request in requests:
            self._send(PRODUCE, _PRODUCE_VERSION, request)
        for _ in requests:
            for topic in self._receive(PRODUCE, _PRODUCE_VERSION).responses:
                for partition in topic.partition_responses:
                    _check(PRODUCE, partition.error_code)
        if self._transactional_id is not None:
            self._commit(self._transactional_id)

    def _parts(self, count: int) -> Iterator[list[tuple[int, int]]]:
        """Yield for each request the partitions, and how many records each gets."""
        if count < _SPREAD_FROM:
            yield [(next(self._next_partition), count)]
            return
        most = _BATCH_BYTES // (len(self._value) + _RECORD_OVERHEAD)
        partitions = self._job.partitions
        requests = -(-count // (most * partitions))
        share, rest = divmod(count, partitions * requests)
        for first in range(0, partitions * requests, partitions):
            yield [(place, share + (first + place < rest)) for place in range(partitions)]

    def _produce_request(self, parts: list[tuple[int, int]]) -> ProduceRequest:
        data = [
            PartitionProduceData(partition, (self._batch(partition, records),))
            for partition, records in parts
        ]
        topics = (TopicProduceData(name=self._job.topic, partition_data=data),)
        return ProduceRequest(self._transactional_id, -1, _TIMEOUT_MS, topics)

    def _batch(self, partition: int, count: int) -> bytes:
        prepared = self._prepared.get(count)
        if prepared is None:
            prepared = self._prepared[count] = self._encode(count)
        sequence = self._sequences[partition]
        self._sequences[partition] += count
        struct.pack_into(">qhi", prepared, _PRODUCER_AT, self._producer_id, self._epoch, sequence)
        crc = crc32c(memoryview(prepared)[_ATTRIBUTES_AT:])
        struct.pack_into(">I", prepared, _CRC_AT, crc)
        return bytes(prepared)

    def _encode(self, count: int) -> bytearray:
        builder: Any = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=self._transactional_id is not None,
            producer_id=0,
            producer_epoch=0,
            base_sequence=0,
            batch_size=1 << 30,
        )
        now = int(time.time() * 1000)
        for offset in range(count):
            builder.append(offset, now, None, self._value, [])
        return bytearray(builder.build())

    # ---- the requests

    def _initialize(self) -> tuple[int, int]:
        if self._transactional_id is not None:
            # The first one makes the topic of the coordinators.
            keys = (self._transactional_id,)
            self._ask(FIND_COORDINATOR, 4, FindCoordinatorRequest("", TRANSACTION, keys))
        request = InitProducerIdRequest(self._transactional_id, _TIMEOUT_MS)
        while (response := self._ask(INIT_PRODUCER_ID, 4, request)).error_code in _NOT_YET:
            time.sleep(0.05)
        _check(INIT_PRODUCER_ID, response.error_code)
        return response.producer_id, response.producer_epoch

    def _wait_until_over(self, transactional_id: str) -> None:
        request = DescribeTransactionsRequest((transactional_id,))
        while self._has_committed:
            (found,) = self._ask(DESCRIBE_TRANSACTIONS, 0, request).transaction_states
            _check(DESCRIBE_TRANSACTIONS, found.error_code)
            if not found.transaction_state.startswith("Prepare"):
                return

    def _commit(self, transactional_id: str) -> None:
        request = EndTxnRequest(transactional_id, self._producer_id, self._epoch, True)
        response = self._ask(END_TXN, 5, request)
        _check(END_TXN, response.error_code)
        self._producer_id, self._epoch = response.producer_id, response.producer_epoch
        self._sequences = [0] * self._job.partitions
        self._has_committed = True

    def _ask(self, api: Api[Req, Resp], version: int, request: Req) -> Resp:
        self._send(api, version, request)
        return self._receive(api, version)

    def _send(self, api: Api[Req, Any], version: int, request: Req) -> None:
        chunks = encode_request(api, version, next(self._correlation_ids), "bare", request)
        self._socket.sendall(b"".join(chunks))

    def _receive(self, api: Api[Any, Resp], version: int) -> Resp:
        _, response = decode_response(api, version, next(self._responses))
        return response


def _check(api: Api[Any, Any], code: int) -> None:
    if code:
        raise RuntimeError(f"the broker answered {api.name} with error {code}")
