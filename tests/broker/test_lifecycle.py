"""From start to close: what may be called when, what it says otherwise, and what it leaves."""

from __future__ import annotations

import asyncio
import gc
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from aioproducer import (
    KafkaConnectionError,
    Producer,
    ProducerClosedError,
    ProducerNotStartedError,
    WrongEventLoopError,
)
from tests.broker.helpers import buffer_used, leader_of, new_topic_name, producer_for, until
from tests.support.forwarder import closed_port
from tests.support.kafka import consume, create_topic
from tools.kafka import Kafka, NodeControl

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncGenerator[str]:
    """Serve something that is no Kafka; gives its address."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await handler(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def start_error(servers: str, within: float = 2.0, **options: Any) -> KafkaConnectionError:
    """Start a producer that cannot reach its servers; return the error, with its bound checked."""
    producer: Producer[bytes, bytes] = Producer(
        bootstrap_servers=servers, max_block_ms=700, **options
    )
    async with asyncio.timeout(within):
        with pytest.raises(KafkaConnectionError) as caught:
            await producer.start()
    return caught.value


# ---- start


async def test_starting_twice_does_nothing(kafka: Kafka, topic: str) -> None:
    producer = producer_for(kafka)
    await producer.start()
    await producer.start()
    await producer.send_and_wait(topic, b"x")
    await producer.close()


async def test_two_tasks_may_start_it_at_once(kafka: Kafka, topic: str) -> None:
    producer = producer_for(kafka)
    await asyncio.gather(producer.start(), producer.start())
    await producer.send_and_wait(topic, b"x")
    await producer.close()


async def test_a_cancelled_start_leaves_nothing_and_can_be_tried_again(
    kafka: Kafka, topic: str
) -> None:
    producer = producer_for(kafka)
    starting = asyncio.ensure_future(producer.start())
    for _ in range(3):
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    async with producer:
        await producer.send_and_wait(topic, b"x")


async def test_cancelling_one_of_two_starts_leaves_the_other(kafka: Kafka, topic: str) -> None:
    producer = producer_for(kafka)
    first = asyncio.ensure_future(producer.start())
    second = asyncio.ensure_future(producer.start())
    for _ in range(3):
        await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(10):
        await second
    await producer.send_and_wait(topic, b"x")
    await producer.close()


async def test_a_producer_that_was_never_started_closes(kafka: Kafka) -> None:
    producer = producer_for(kafka)
    assert await producer.close() == ()
    with pytest.raises(ProducerClosedError):
        await producer.start()


async def test_nothing_can_be_sent_before_start(kafka: Kafka) -> None:
    producer = producer_for(kafka)
    for call in (producer.send, producer.send_nowait, producer.send_and_wait):
        with pytest.raises(ProducerNotStartedError, match="start"):
            call("topic", b"x")
    with pytest.raises(ProducerNotStartedError):
        await producer.send_many("topic", [b"x"])
    with pytest.raises(ProducerNotStartedError):
        await producer.flush()
    with pytest.raises(ProducerNotStartedError):
        await producer.partitions_for("topic")


# ---- close


async def test_closing_delivers_what_was_accepted(kafka: Kafka, topic: str) -> None:
    producer = producer_for(kafka, linger_ms=10_000)
    await producer.start()
    deliveries = [producer.send_nowait(topic, b"%d" % number) for number in range(1_000)]
    async with asyncio.timeout(5):
        assert await producer.close() == ()
    assert all(delivery.exception() is None for delivery in deliveries)
    assert len(consume(kafka, topic)) == 1_000


async def test_closing_twice_does_nothing(kafka: Kafka) -> None:
    producer = producer_for(kafka)
    await producer.start()
    first, second = await asyncio.gather(producer.close(), producer.close())
    assert first == second == ()
    assert await producer.close() == ()
    assert producer.status()["state"] == "closed"


async def test_nothing_can_be_sent_after_close(kafka: Kafka) -> None:
    producer = producer_for(kafka)
    async with producer:
        pass
    for call in (producer.send, producer.send_nowait, producer.send_and_wait):
        with pytest.raises(ProducerClosedError):
            call("topic", b"x")
    with pytest.raises(ProducerClosedError):
        await producer.flush()
    with pytest.raises(ProducerClosedError):
        await producer.partitions_for("topic")
    with pytest.raises(ProducerClosedError, match="new one"):
        await producer.start()


@pytest.mark.timeout(40)
async def test_closing_at_once_returns_what_it_gave_up_on(kafka3: NodeControl) -> None:
    topic = create_topic(kafka3, partitions=2, replication_factor=1)
    producer = producer_for(kafka3, allow_auto_create_topics=False)
    await producer.start()
    await producer.send_and_wait(topic, b"warm", partition=1)
    # Else its response may come between the call of close and the end of its first wait.
    kafka3.pause(leader_of(kafka3, topic, 1))
    unknown = new_topic_name()
    known = producer.send_nowait(topic, b"v", key=b"k", partition=1, headers=[("h", b"1")])
    held = producer.send_nowait(unknown, b"held", timestamp_ms=5)
    async with asyncio.timeout(2):
        undelivered = await producer.close(timeout=0)
    by_topic = {one.record.topic: one for one in undelivered}
    assert len(undelivered) == 2
    record = by_topic[topic].record
    assert (record.key, record.value, record.partition) == (b"k", b"v", 1)
    assert list(record.headers or ()) == [("h", b"1")]
    record = by_topic[unknown].record
    assert (record.key, record.value, record.timestamp_ms) == (None, b"held", 5)
    assert not by_topic[unknown].error.possibly_persisted
    for delivery in (known, held):
        with pytest.raises(ProducerClosedError):
            await delivery


async def test_closing_rejects_those_who_wait_for_buffer_space(kafka: Kafka, topic: str) -> None:
    producer = producer_for(kafka, buffer_memory=20_000)
    await producer.start()
    producer.send_nowait(topic, bytes(15_000))
    waiting = [asyncio.ensure_future(producer.send(topic, bytes(15_000))) for _ in range(5)]
    assert await producer.close() == ()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, ProducerClosedError)
    assert len(consume(kafka, topic)) == 1


async def test_leaving_the_block_by_an_exception_still_delivers(kafka: Kafka, topic: str) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        async with producer_for(kafka) as producer:
            producer.send_nowait(topic, b"x")
            raise RuntimeError("mine")
    assert len(consume(kafka, topic)) == 1


async def test_a_producer_dropped_while_open_warns(kafka: Kafka) -> None:
    producer = producer_for(kafka)
    await producer.start()
    sender = producer._sender  # pyright: ignore[reportPrivateUsage]
    assert sender is not None
    with pytest.warns(ResourceWarning, match="never closed"):
        del producer
        gc.collect()
    await sender.close()


async def test_opening_and_closing_many_times_leaves_nothing(kafka: Kafka, topic: str) -> None:
    for _ in range(50):
        async with producer_for(kafka) as producer:
            producer.send_nowait(topic, b"x")
    assert len(consume(kafka, topic)) == 50
    assert asyncio.all_tasks() == {asyncio.current_task()}


# ---- flush


async def test_flush_sends_what_lingers_and_waits_for_it(kafka: Kafka, topic: str) -> None:
    async with producer_for(kafka, linger_ms=15_000) as producer:
        await producer.flush()
        deliveries = [producer.send_nowait(topic, b"%d" % number) for number in range(100)]
        await asyncio.sleep(0.05)
        assert not deliveries[0].done()
        async with asyncio.timeout(5):
            await producer.flush()
        assert all(delivery.done() for delivery in deliveries)
        assert buffer_used(producer) == 0


async def test_flush_waits_for_records_of_a_topic_not_known_yet(kafka: Kafka) -> None:
    topic = new_topic_name()
    async with producer_for(kafka, linger_ms=15_000) as producer:
        delivery = producer.send_nowait(topic, b"x")
        async with asyncio.timeout(10):
            await producer.flush()
        assert delivery.done()
        assert delivery.result().offset == 0


async def test_flush_does_not_raise_for_a_record_that_failed(kafka: Kafka) -> None:
    async with producer_for(kafka, allow_auto_create_topics=False, max_block_ms=300) as producer:
        delivery = producer.send_nowait(new_topic_name(), b"x")
        async with asyncio.timeout(3):
            await producer.flush()
        assert delivery.exception() is not None


# ---- loops and threads


async def test_another_thread_is_refused(producer: Producer[bytes, bytes], topic: str) -> None:
    await producer.send_and_wait(topic, b"x")
    with pytest.raises(WrongEventLoopError, match="from_thread"):
        await asyncio.to_thread(producer.send_nowait, topic, b"x")
    assert producer.metrics()["record_accepted_total"] == 1


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_another_loop_is_refused(
    kafka: Kafka, topic: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    producer = producer_for(kafka)

    async def open_it() -> None:
        await producer.start()
        await producer.send_and_wait(topic, b"x")

    async def use_it() -> None:
        with pytest.raises(WrongEventLoopError, match="one producer per loop"):
            await producer.start()
        with pytest.raises(WrongEventLoopError):
            await producer.send(topic, b"x")
        with pytest.raises(WrongEventLoopError):
            producer.send_nowait(topic, b"x")
        with pytest.raises(WrongEventLoopError):
            await producer.close()

    with asyncio.Runner(loop_factory=new_loop) as own:
        own.run(open_it())
        with asyncio.Runner(loop_factory=new_loop) as other:
            other.run(use_it())
        own.run(producer.close())
    assert len(consume(kafka, topic)) == 1


# ---- connections


async def test_an_idle_connection_is_closed_and_opened_again(kafka: Kafka, topic: str) -> None:
    async with producer_for(kafka, connections_max_idle_ms=200) as producer:
        await producer.send_and_wait(topic, b"x")
        await until(lambda: "not connected" in str(producer.status()["brokers"]), within=3)
        await producer.send_and_wait(topic, b"y")
    assert len(consume(kafka, topic)) == 2


async def test_servers_that_refuse_are_each_named_within_the_bound() -> None:
    first, second = closed_port(), closed_port()
    error = await start_error(f"127.0.0.1:{first},localhost:{second}")
    assert set(error.reasons) == {f"127.0.0.1:{first}", f"localhost:{second}"}
    assert all("refused" in reason for reason in error.reasons.values())
    for part in (f"127.0.0.1:{first}", f"localhost:{second}"):
        assert part in str(error)
    assert re.search(r" within 0\.\d+ s: ", str(error))


async def test_one_server_of_several_is_enough(kafka: Kafka, topic: str) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as address:
        servers = f"{address},127.0.0.1:{closed_port()},{kafka.bootstrap_servers}"
        async with asyncio.timeout(3):
            async with Producer[bytes, bytes](bootstrap_servers=servers) as producer:
                await producer.send_and_wait(topic, b"x")


async def test_a_host_name_that_cannot_be_resolved_is_named() -> None:
    error = await start_error("broker.invalid:9092", within=8)
    assert "broker.invalid" in str(error)
    assert "cannot be resolved" in str(error)


async def test_a_port_that_speaks_http_is_named_with_a_hint() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    async with listening(answer) as address:
        error = await start_error(address)
    assert address in str(error)
    assert "not Kafka's" in str(error)


async def test_a_port_that_says_nothing_is_named_within_the_bound() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as address:
        error = await start_error(address)
    assert address in str(error)
    assert "no answer" in str(error)


async def test_a_port_that_hangs_up_is_named_with_a_hint() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with listening(hang_up) as address:
        error = await start_error(address)
    assert address in str(error)
    assert "before it told its API versions" in str(error)
    assert "is TLS missing" in str(error)


async def test_tls_to_a_plain_kafka_port_says_so(kafka: Kafka) -> None:
    error = await start_error(kafka.bootstrap_servers, security_protocol="SSL")
    assert kafka.bootstrap_servers in str(error)
    assert "does the port speak TLS" in str(error)


async def test_a_start_that_failed_can_be_tried_again(kafka: Kafka, topic: str) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    host, port = kafka.bootstrap_servers.rsplit(":", 1)
    is_up = False

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_up:
            await hang_up(reader, writer)
            return
        there_reader, there = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pipe(reader, there), pipe(there_reader, writer))

    async with listening(forward) as address:
        producer: Producer[bytes, bytes] = Producer(bootstrap_servers=address, max_block_ms=300)
        with pytest.raises(KafkaConnectionError):
            await producer.start()
        is_up = True
        async with producer:
            await producer.send_and_wait(topic, b"x")


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()
