"""Brokers that respond to requests with acks=0, as Event Hubs and Tansu do; Kafka does not.

Nothing waits for such a response. It costs no connection, the refusals in it are logged, and no
record is lost because the producer closes while responses are under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, Unpack

import pytest

from aioproducer import Producer
from aioproducer.config import ProducerOptions
from aioproducer.network.connection import Connection
from aioproducer.testing import (
    EVENT_HUBS,
    TANSU,
    ErrorCode,
    FakeCluster,
    FakeResponse,
    Habits,
    ProduceResponse,
)
from tests.loop.test_tls import client_context, server_context
from tests.support.producing import RECORD_BY_RECORD, TOPIC, producing, sender_of, until, values

ANSWERS: Final = Habits(responds_to_acks_zero=True)
PRODUCE: Final = bytes(2)
"""The key of the API."""


def connections_used(cluster: FakeCluster) -> set[int]:
    return {request.connection for request in cluster.requests_of("produce")}


def connection_of(producer: Producer[Any, Any], node_id: int = 0) -> Connection:
    sender = sender_of(producer)
    connection = sender.cluster.connection(node_id)
    assert connection is not None
    return connection


@pytest.mark.parametrize("habits", [EVENT_HUBS, TANSU, ANSWERS], ids=["Event Hubs", "Tansu", "v13"])
async def test_a_response_that_nobody_needs_costs_no_connection_and_no_record(
    habits: Habits, caplog: pytest.LogCaptureFixture
) -> None:
    everything = [b"%d" % number for number in range(100)]
    async with FakeCluster(topics={TOPIC: 1}, habits=habits) as cluster:
        async with producing(cluster, RECORD_BY_RECORD, acks=0) as producer:
            for value in everything:
                await producer.send_and_wait(TOPIC, value)
                await asyncio.sleep(0)
        await until(lambda: len(values(cluster)) == 100)
        assert values(cluster) == everything
        assert len(connections_used(cluster)) == 1
    assert [line for line in caplog.records if line.levelname == "WARNING"] == []


async def test_a_response_that_nobody_needs_may_be_empty() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        empty = FakeResponse(b"")
        cluster.on_request(lambda request: empty if request.api == "produce" else None)
        async with producing(cluster, RECORD_BY_RECORD, acks=0) as producer:
            for number in range(20):
                await producer.send_and_wait(TOPIC, b"%d" % number)
                await asyncio.sleep(0.001)
        assert len(connections_used(cluster)) == 1


async def test_responses_to_other_requests_are_found_among_those_that_nobody_needs() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1, "other": 1}, habits=ANSWERS) as cluster,
        producing(cluster, RECORD_BY_RECORD, acks=0) as producer,
    ):
        cluster.delay("any", 0.001)
        await producer.send_many(TOPIC, [b"%d" % number for number in range(10)])
        asking = asyncio.create_task(producer.partitions_for("other"))
        await asyncio.sleep(0)
        await producer.send_many(TOPIC, [b"%d" % number for number in range(10, 20)])
        assert await asking == (0,)
        await producer.flush()
        await until(lambda: len(values(cluster)) == 20)
        assert len(connections_used(cluster)) == 1


async def test_correlation_ids_begin_again_behind_the_largest_with_responses_under_way() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}, habits=ANSWERS) as cluster,
        producing(cluster, RECORD_BY_RECORD, acks=0) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"first")
        connection = connection_of(producer)
        await cluster.received("produce")
        await asyncio.sleep(0.02)
        near_the_end = 2**31 - 5
        connection.correlation_id = near_the_end  # pyright: ignore[reportPrivateUsage]
        connection.response_id = near_the_end  # pyright: ignore[reportPrivateUsage]
        for _ in range(10):
            await producer.send_and_wait(TOPIC, b"42")
        asking = asyncio.create_task(producer.partitions_for("made-on-demand"))
        assert await asking == (0,)
        ids = [request.correlation_id for request in cluster.requests_of("produce")]
        assert ids[1:] == [*range(2**31 - 4, 2**31), *range(6)]
        assert len(connections_used(cluster)) == 1


@pytest.mark.parametrize("offset", [-1_000, 1_000, 0], ids=["earlier", "not sent yet", "twice"])
async def test_a_response_to_nothing_that_was_sent_costs_the_connection_with_acks_0_too(
    offset: int, caplog: pytest.LogCaptureFixture
) -> None:
    def response_to_another(frame: bytes) -> bytes:
        size, correlation_id = struct.unpack_from(">ii", frame)
        wrong = struct.pack(">ii", size, correlation_id + offset) + frame[8:]
        return wrong if offset else frame + frame

    async with (
        FakeCluster(topics={TOPIC: 1}, habits=ANSWERS) as cluster,
        producing(cluster, acks=0) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"1")
        cluster.mutate_next("produce", response_to_another, framed=True)
        await producer.send_and_wait(TOPIC, b"2")
        await until(lambda: "an answer that nothing asked for" in caplog.text)
        await producer.send_and_wait(TOPIC, b"3")
        await until(lambda: len(connections_used(cluster)) == 2)


async def test_with_acks_1_no_response_is_let_pass_unasked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, acks=1) as producer,
    ):
        cluster.mutate_next("produce", lambda frame: frame + frame, framed=True)
        await producer.send_and_wait(TOPIC, b"1")
        await until(lambda: "an answer that nothing asked for" in caplog.text)


async def test_refused_records_are_logged_once_and_metadata_is_asked_for_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "aioproducer.sending.unneeded_responses")
    async with (
        FakeCluster(topics={TOPIC: 3}, habits=ANSWERS) as cluster,
        producing(cluster, RECORD_BY_RECORD, acks=0) as producer,
    ):
        cluster.fail_next("produce", ErrorCode.NOT_LEADER_OR_FOLLOWER, count=None)
        before = len(cluster.requests_of("metadata"))
        for number in range(30):
            await producer.send_and_wait(TOPIC, b"%d" % number, partition=number % 3)
        await cluster.received("metadata", before + 2)
        cluster.clear_faults()
        # Two of three partitions are well again: nothing to tell yet.
        for partition in (0, 1):
            await producer.send_and_wait(TOPIC, b"%d" % partition, partition=partition)
        cluster.fail_next("produce", ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        await producer.send_and_wait(TOPIC, b"denied", partition=0)
        for partition in (0, 2):
            await producer.send_and_wait(TOPIC, b"well", partition=partition)
        await until(lambda: len(values(cluster)) == 4)
        await until(lambda: "accepts records again" in caplog.text)
        await until(lambda: values(cluster, partition=2) == [b"well"])
    logged = [(record.levelname, record.message) for record in caplog.records]
    assert [level for level, _ in logged] == ["WARNING", "WARNING", "INFO"]
    assert "payments-0" in logged[0][1]
    assert "NOT_LEADER_OR_FOLLOWER" in logged[0][1]
    assert "they are lost, though they count as delivered" in logged[0][1]
    assert "TOPIC_AUTHORIZATION_FAILED" in logged[1][1]
    assert logged[2][1] == f"{TOPIC} accepts records again"


async def test_what_a_response_says_of_partitions_that_nobody_knows_is_not_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def lie(answer: ProduceResponse) -> None:
        (own,) = answer.partitions
        answer.partitions = [
            type(own)(own.topic, own.topic_id, index, error_code=3) for index in range(1, 500)
        ] + [type(own)("stranger", bytes(16), 0, error_code=3)]

    async with (
        FakeCluster(topics={TOPIC: 1}, habits=ANSWERS) as cluster,
        producing(cluster, RECORD_BY_RECORD, acks=0) as producer,
    ):
        cluster.edit_next("produce", lie, count=None)
        for number in range(5):
            await producer.send_and_wait(TOPIC, b"%d" % number)
        await producer.partitions_for(TOPIC)
        await until(lambda: len(values(cluster)) == 5)
        await asyncio.sleep(0.01)
        assert len(connections_used(cluster)) == 1
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


async def test_the_pause_that_such_a_response_asks_for_is_kept() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}, habits=ANSWERS) as cluster,
        producing(cluster, RECORD_BY_RECORD, acks=0) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"1")
        cluster.throttle_ms = 150
        await producer.send_and_wait(TOPIC, b"2")
        await until(lambda: connection_of(producer).throttled_until)
        cluster.throttle_ms = 0
        started_at = asyncio.get_running_loop().time()
        await producer.send_and_wait(TOPIC, b"3")
        assert asyncio.get_running_loop().time() - started_at > 0.1


# ---- closing


def unacknowledged(cluster: FakeCluster, **more: Unpack[ProducerOptions]) -> Producer[Any, Any]:
    """A producer that is not started and asks for no acks."""
    options: ProducerOptions = {**RECORD_BY_RECORD, "acks": 0, **more}
    return Producer(bootstrap_servers=cluster.bootstrap_servers, **options)


class SlowBroker:
    """A proxy before a FakeCluster that answers each Produce request and reads slowly.

    It reads in its own time, with a small buffer, and counts what arrived; so the end of the
    connection may come while requests are on their way to it and answers away from it.
    """

    def __init__(self, cluster: FakeCluster, *, reads: bool = True, closes: bool = True) -> None:
        self.produced = 0
        self.error: Exception | None = None
        self.ended = asyncio.Event()
        self._reads = reads
        self._closes = closes
        self._cluster = cluster
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        self._cluster.advertise(0, *listener.getsockname())

        async def accept() -> None:
            while True:
                sock, _ = await loop.sock_accept(listener)
                self._tasks.add(loop.create_task(self._serve(sock)))

        accepting = loop.create_task(accept())
        try:
            yield
        finally:
            for task in (accepting, *self._tasks):
                task.cancel()
            await asyncio.gather(accepting, *self._tasks, return_exceptions=True)
            listener.close()

    async def _serve(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        there, back = await asyncio.open_connection("127.0.0.1", self._cluster.ports[0])
        with sock, contextlib.closing(back):
            try:
                await self._respond_to_all(sock, there, back)
            except OSError as error:
                self.error = error
            self.ended.set()
            if not self._closes:
                await loop.create_future()

    async def _respond_to_all(
        self, sock: socket.socket, there: asyncio.StreamReader, back: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        received = bytearray()
        while data := await loop.sock_recv(sock, 2_048):
            received += data
            if not self._reads and bytes(received[4:6]) == PRODUCE:
                await loop.create_future()
            while len(received) >= 4 and len(received) >= 4 + int.from_bytes(received[:4], "big"):
                size = 4 + int.from_bytes(received[:4], "big")
                request = bytes(received[:size])
                del received[:size]
                if request[4:6] == PRODUCE:
                    self.produced += 1
                    answer = request[8:12] + b"\0" + b"\1" + bytes(4) + b"\0"
                    await loop.sock_sendall(sock, struct.pack(">i", len(answer)) + answer)
                    await asyncio.sleep(0)
                    continue
                back.write(request)
                head = await there.readexactly(4)
                await loop.sock_sendall(
                    sock, head + await there.readexactly(int.from_bytes(head, "big"))
                )


async def test_a_close_right_after_a_flush_loses_no_record_to_a_broker_that_answers() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        broker = SlowBroker(cluster)
        async with broker.listening():
            producer = unacknowledged(cluster)
            async with producer:
                for number in range(400):
                    producer.send_nowait(TOPIC, b"%d" % number + bytes(2_000))
                await producer.flush()
            await broker.ended.wait()
        assert broker.error is None
        assert broker.produced == 400


@pytest.mark.parametrize(("timeout", "bound"), [(None, 2.0), (0.2, 0.9), (0, 0.9)])
async def test_a_close_waits_a_second_at_most_for_a_broker_that_says_nothing(
    timeout: float | None, bound: float
) -> None:
    loop = asyncio.get_running_loop()
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        broker = SlowBroker(cluster, closes=False)
        async with broker.listening():
            producer = unacknowledged(cluster)
            await producer.start()
            await producer.send_and_wait(TOPIC, b"42")
            started_at = loop.time()
            await producer.close(timeout)
            assert loop.time() - started_at < bound


async def test_a_close_waits_longer_for_a_broker_that_goes_on_answering(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aioproducer.network.connection._SILENCE", 0.05)
    loop = asyncio.get_running_loop()
    async with FakeCluster(topics={TOPIC: 1}, habits=ANSWERS) as cluster:
        cluster.delay("produce", 0.01)
        producer = unacknowledged(cluster)
        await producer.start()
        for number in range(20):
            producer.send_nowait(TOPIC, b"%d" % number)
        started_at = loop.time()
        await producer.close()
        assert loop.time() - started_at > 0.15
        assert len(values(cluster)) == 20


async def test_over_tls_a_close_waits_until_the_broker_has_read_everything() -> None:
    async with FakeCluster(
        topics={TOPIC: 1}, habits=ANSWERS, ssl_context=server_context()
    ) as cluster:
        cluster.delay("produce", 0.002, when="before")
        producer = unacknowledged(cluster, security_protocol="SSL", ssl_context=client_context())
        async with producer:
            for number in range(50):
                producer.send_nowait(TOPIC, b"%d" % number)
            await producer.flush()
        assert values(cluster) == [b"%d" % number for number in range(50)]


async def test_without_tls_a_close_waits_until_the_broker_has_read_everything() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.delay("produce", 0.002, when="before")
        producer = unacknowledged(cluster)
        async with producer:
            for number in range(50):
                producer.send_nowait(TOPIC, b"%d" % number)
            await producer.flush()
        assert values(cluster) == [b"%d" % number for number in range(50)]


async def test_where_everything_is_answered_a_close_waits_for_nothing() -> None:
    loop = asyncio.get_running_loop()
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer = unacknowledged(cluster, acks=1)
        await producer.start()
        await producer.send_and_wait(TOPIC, b"42")
        cluster.hang("any")  # Whatever it might be asked now.
        started_at = loop.time()
        await producer.close()
        assert loop.time() - started_at < 0.9


async def test_a_close_does_not_wait_for_a_broker_that_takes_nothing() -> None:
    loop = asyncio.get_running_loop()
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        broker = SlowBroker(cluster, reads=False)
        async with broker.listening():
            producer = unacknowledged(
                cluster, request_timeout_ms=200, delivery_timeout_ms=300, send_buffer_bytes=4_096
            )
            await producer.start()
            producer.send_nowait(TOPIC, bytes(900_000))
            started_at = loop.time()
            await producer.close()
            assert loop.time() - started_at < 1
