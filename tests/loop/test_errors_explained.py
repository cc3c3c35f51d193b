"""What an error tells a reader: what, where, how often, what became of the record, what to do."""

from __future__ import annotations

import asyncio

import pytest

from aioproducer import Producer, ProducerConfig
from aioproducer.errors import KafkaConnectionError, KafkaTimeoutError, ProducerNotStartedError
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import FAST, TOPIC, failure, producing, prove


async def test_a_failed_record_tells_topic_partition_broker_attempts_and_a_hint() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        cluster.fail_next("produce", ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        text = str(await failure(producer.send_nowait(TOPIC, b"42")))
        for part in (
            "TOPIC_AUTHORIZATION_FAILED",
            f"{TOPIC}-0",
            f"127.0.0.1:{cluster.ports[0]}",
            "after 2 attempts",
            "Grant the client's principal",
        ):
            assert part in text


async def test_no_error_and_no_log_shows_a_payload(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "aioproducer")
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        delivery = producer.send_nowait(TOPIC, b"4000-1234", key=b"card-77", headers={"h": b"pin"})
        error = await failure(delivery)
        shown = f"{error!s} {error!r} {delivery!r} {producer!r} {caplog.text}"
        for secret in ("4000-1234", "card-77", "pin'"):
            assert secret not in shown


async def test_each_waiter_of_one_batch_raises_its_own_instance() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        errors = await asyncio.gather(
            *(producer.send_and_wait(TOPIC, b"x", partition=0) for _ in range(5)),
            return_exceptions=True,
        )
        assert len({id(error) for error in errors}) == 5
        assert len({str(error) for error in errors}) == 1


async def test_a_timeout_names_the_last_error_of_broker_and_connection() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, request_timeout_ms=250, delivery_timeout_ms=250) as producer,
    ):
        await prove(producer)
        cluster.cut_next("produce", count=None)
        error = await failure(producer.send_nowait(TOPIC, b"42"))
        assert isinstance(error, KafkaTimeoutError)
        assert error.waited == 0.25
        assert "NETWORK_EXCEPTION" in str(error)
        assert error.attempts > 1
        cluster.clear_faults()


async def test_a_port_that_does_not_speak_kafka_is_told_at_start() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read(-1)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = ProducerConfig(bootstrap_servers=f"127.0.0.1:{port}", **FAST).replace(max_block_ms=60)
    with pytest.raises(KafkaConnectionError, match="HTTP"):
        await Producer(config).start()
    server.close()
    await server.wait_closed()


async def test_a_host_that_does_not_resolve_is_told_at_start() -> None:
    config = ProducerConfig(bootstrap_servers="no-such-host.invalid:9092", **FAST)
    with pytest.raises(KafkaConnectionError, match=r"no-such-host\.invalid"):
        await Producer(config.replace(max_block_ms=100)).start()


async def test_a_producer_that_was_not_started_says_how() -> None:
    producer = Producer(bootstrap_servers="127.0.0.1:9092")
    with pytest.raises(ProducerNotStartedError, match="async with"):
        producer.send_nowait(TOPIC, b"42")
    with pytest.raises(ProducerNotStartedError):
        await producer.flush()


async def test_a_failing_partition_is_warned_about_once_and_told_when_it_is_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "aioproducer.attempts")
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS, count=5)
        await producer.send_and_wait(TOPIC, b"42")
    warnings = [entry for entry in caplog.records if entry.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "accepts records again" in caplog.text


async def test_a_lost_request_is_one_line_in_the_log_however_many_batches_it_carried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeCluster(topics={TOPIC: 100}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.cut_next("produce", when="before")
        deliveries = [producer.send_nowait(TOPIC, b"42", partition=id_) for id_ in range(100)]
        await asyncio.gather(*deliveries)
    warnings = [entry for entry in caplog.records if entry.name == "aioproducer.attempts"]
    assert len(warnings) == 1
    said = warnings[0].getMessage()
    assert "99 more batches" in said
    assert "NETWORK_EXCEPTION" in said
    assert said.endswith("next: retry")
