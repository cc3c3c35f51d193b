"""What the wire allows: requests encoded beforehand, five in flight, over a plain socket.

No client: it retries nothing, looks only at error codes, and takes for granted that one broker
leads every partition. What it reaches is what broker and machine can take. For one record at a
time it is an asyncio protocol and the smallest request there is: the bare round trip.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

from kafka.record.default_records import DefaultRecordBatchBuilder

from benchmarks import drivers
from benchmarks.jobs import Job, Measurement, Pattern, Payload, Records, Stopwatch

IDIOMS = {
    Pattern.CALL: "requests encoded beforehand, five in flight, blocking socket",
    Pattern.ONE_AT_A_TIME: "one encoded request, asyncio protocol",
}
WRITES_TO_KAFKA = True
_BATCH_BYTES = 1_000_000
"""As this producer's by default."""
_REQUEST_BYTES = 4 << 20
_IN_FLIGHT = 5
_WARM_UP_REQUESTS = 20
_CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_PRODUCE, _VERSION = 0, 7


def unavailable() -> str | None:
    """It needs nothing but a socket."""
    return None


def measure(job: Job) -> Measurement:
    """Do the job."""
    if job.pattern is Pattern.ONE_AT_A_TIME:
        return drivers.run_on_loop(job, _one_at_a_time)
    return _call(job)


def _call(job: Job) -> Measurement:
    batch, batch_count = _batch(job.payload, _BATCH_BYTES)
    at_once = _partitions_at_once(job.partitions, len(batch))
    requests = [
        _request(job.topic, range(first, first + at_once), batch)
        for first in range(0, job.partitions, at_once)
    ]
    per_request = batch_count * at_once
    following = itertools.cycle(requests)
    clock = time.perf_counter
    with socket.create_connection(address(job)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = responses(connection)
        for _ in range(_WARM_UP_REQUESTS):
            connection.sendall(next(following))
            _check(next(answers))
        sent = answered = 0
        watch = Stopwatch()
        until = clock() + job.seconds
        while clock() < until:
            connection.sendall(next(following))
            sent += 1
            if sent - answered == _IN_FLIGHT:
                _check(next(answers))
                answered += 1
        while answered < sent:
            _check(next(answers))
            answered += 1
        return watch.stop(sent * per_request, "-", warm_up=_WARM_UP_REQUESTS * per_request)


def _partitions_at_once(partitions: int, batch_bytes: int) -> int:
    """Return how many batches of this size one request is to carry: a divisor of `partitions`."""
    most = max(1, _REQUEST_BYTES // batch_bytes)
    return max(n for n in range(1, partitions + 1) if partitions % n == 0 and n <= most)


async def _one_at_a_time(job: Job) -> Measurement:
    batch, _ = _batch(job.payload, 0)
    request = _request(job.topic, range(1), batch)
    host, port = address(job)
    loop = asyncio.get_running_loop()
    transport, connection = await loop.create_connection(_RoundTrip, host, port)
    try:
        return await drivers.one_at_a_time(job, partial(_ask, connection, request), "-")
    finally:
        transport.close()


def _ask(
    connection: _RoundTrip, request: bytes, _topic: str, _value: bytes
) -> asyncio.Future[None]:
    return connection.ask(request)


class _RoundTrip(asyncio.Protocol):
    """One request in flight; the future of its response."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._write = cast(asyncio.Transport, transport).write
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._answer = self._loop.create_future()

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send a request, return the future of its response."""
        self._answer = self._loop.create_future()
        self._write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= 4:
            size = int.from_bytes(self._received[:4], "big")
            if len(self._received) >= 4 + size:
                _check(self._received[4:])
                self._received = b""
                self._answer.set_result(None)


def address(job: Job) -> tuple[str, int]:
    """Return host and port of the first broker."""
    host, _, port = job.bootstrap_servers.split(",")[0].rpartition(":")
    return host, int(port)


def _batch(payload: Payload, size: int) -> tuple[bytes, int]:
    """Return a record batch of about `size` bytes before compression, and its record count."""
    records = Records.of(payload)
    builder: Any = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=_CODECS[payload.codec],
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=size,
    )
    now = int(time.time() * 1000)
    count = 0
    while True:
        value = records.values[count % len(records.values)]
        key = records.keys[count % len(records.keys)] if records.keys else None
        if builder.append(count, now, key, value, records.headers) is None:
            return bytes(builder.build()), count
        count += 1


def _request(topic: str, partitions: range, batch: bytes) -> bytes:
    """Return a Produce request with the same batch for each partition."""
    name = topic.encode()
    client_id = b"bare"
    body = bytearray(struct.pack(">hhih", _PRODUCE, _VERSION, 1, len(client_id)) + client_id)
    body += struct.pack(">hhi", -1, -1, 30_000)  # not transactional, acks=all, timeout
    body += struct.pack(">ih", 1, len(name)) + name
    body += struct.pack(">i", len(partitions))
    for partition in partitions:
        body += struct.pack(">ii", partition, len(batch)) + batch
    return struct.pack(">i", len(body)) + bytes(body)


def responses(connection: socket.socket) -> Iterator[bytes]:
    """Yield the responses that come, each without its size."""
    received = b""
    while True:
        while len(received) < 4 or len(received) < 4 + int.from_bytes(received[:4], "big"):
            data = connection.recv(65_536)
            if not data:
                raise ConnectionError("the broker closed the connection")
            received += data
        end = 4 + int.from_bytes(received[:4], "big")
        yield received[4:end]
        received = received[end:]


def _check(response: bytes) -> None:
    """Raise unless every partition of a Produce response says that it stored its batch."""
    _correlation, _topics, name_size = struct.unpack_from(">iih", response)
    offset = 10 + name_size
    (partitions,) = struct.unpack_from(">i", response, offset)
    offset += 4
    for _ in range(partitions):
        partition, error = struct.unpack_from(">ih", response, offset)
        if error:
            raise RuntimeError(f"the broker answered error {error} for partition {partition}")
        offset += 30
