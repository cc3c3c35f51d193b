"""What is logged: each loss once per cause, and nothing when all goes well."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioproducer import Producer, UndeliveredRecord
from aioproducer.config import ProducerConfig
from aioproducer.errors import ClusterAuthorizationFailedError
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import (
    TOPIC,
    failure,
    fast,
    outcome,
    producing,
    prove,
    sender_of,
    until,
)

AnyProducer = Producer[Any, Any]
SHORT = fast(request_timeout_ms=100, delivery_timeout_ms=250)


def warnings(caplog: pytest.LogCaptureFixture, about: str = "") -> list[str]:
    return [
        entry.getMessage()
        for entry in caplog.records
        if entry.levelname in ("WARNING", "ERROR") and about in entry.getMessage()
    ]


def warnings_and_errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelname != "DEBUG"]


async def lose(producer: AnyProducer, topic: str = TOPIC, count: int = 10) -> None:
    for _ in range(count):
        producer.send_nowait(topic, b"x", partition=0)
    await producer.flush()
    assert producer.metrics()["record_error_total"] == count


async def test_records_of_a_topic_that_does_not_exist_leave_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        FakeCluster(auto_create_topics=False) as cluster,
        producing(cluster, max_block_ms=100) as producer,
    ):
        await lose(producer, "no-such-topic")
        (line,) = warnings(caplog)
        assert "10 records failed for topic no-such-topic" in line
        assert "does not exist" in line


async def test_records_without_leader_leave_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, SHORT) as producer:
        cluster.move_leader(TOPIC, 0, -1)
        await producer.partitions_for(TOPIC)
        await lose(producer)
        (line,) = warnings(caplog)
        assert f"10 records failed for topic {TOPIC}" in line
        assert "has no leader" in line


async def test_records_for_an_unreachable_leader_leave_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster, SHORT) as producer:
        cluster.advertise(0, "127.0.0.9", 9)
        sender_of(producer).cluster.refresh()
        await until(lambda: "0 at 127.0.0.9:9" in producer.status()["brokers"])
        await lose(producer)
        (line,) = warnings(caplog, "records failed")
        assert "connection refused" in line


async def test_records_of_a_denied_topic_leave_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("metadata", ErrorCode.TOPIC_AUTHORIZATION_FAILED, topic="denied")
        await lose(producer, "denied")
        (line,) = warnings(caplog)
        assert "may not see topic 'denied'" in line


async def test_records_without_producer_id_leave_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.fail_next("init_producer_id", ClusterAuthorizationFailedError, count=None)
        async with producing(cluster) as producer:
            await lose(producer)
            (line,) = warnings(caplog)
            assert "enable_idempotence=False" in line


async def test_records_that_wait_for_a_producer_id_too_long_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.fail_next("init_producer_id", ErrorCode.COORDINATOR_NOT_AVAILABLE, count=None)
        async with producing(cluster, SHORT) as producer:
            error = await failure(producer.send_nowait(TOPIC, b"x"))
            assert "no producer id" in str(error)
            assert "COORDINATOR_NOT_AVAILABLE" in str(error)
            assert warnings(caplog, "record failed")


async def test_a_hundred_refused_records_among_good_ones_are_a_line_and_a_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}, message_max_bytes=1_000) as cluster,
        producing(cluster) as producer,
    ):
        for number in range(300):
            await producer.send_and_wait(TOPIC, b"good")
            if number % 3 == 0:
                await outcome(producer.send_nowait(TOPIC, b"x" * 2_000))
    first, limit, count = sorted(warnings(caplog), key=len, reverse=True)
    assert "MESSAGE_TOO_LARGE" in first
    assert "max.message.bytes" in limit
    assert "99 more records failed" in count


async def test_many_topics_that_fail_share_a_line(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        FakeCluster(auto_create_topics=False) as cluster,
        producing(cluster, max_block_ms=100) as producer,
    ):
        await asyncio.gather(
            *(outcome(producer.send_nowait(f"missing{n}", b"x")) for n in range(500))
        )
    lines = warnings(caplog)
    assert len(lines) < 30
    assert "480 records failed for 480 other topics" in lines[-1]


async def test_an_outage_is_a_line_for_each_change_of_state(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "aioproducer")
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, retry_backoff_ms=5, reconnect_backoff_ms=5) as producer,
    ):
        await prove(producer)
        caplog.clear()
        await cluster.stop_broker(0)
        delivery = producer.send_nowait(TOPIC, b"42")
        await asyncio.sleep(2.5)
        await cluster.start_broker(0)
        await delivery
        lines = warnings_and_errors(caplog)
        assert len(lines) <= 6, lines
        assert any("cannot be reached" in line for line in lines)
        assert any("reached again" in line for line in lines)


async def test_a_clean_life_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "aioproducer")
    async with FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        for partition in range(2):
            await prove(producer, partition)
        await producer.send_many(TOPIC, [b"x"] * 100)
    assert [line.partition(" ")[0] for line in warnings_and_errors(caplog)] == ["Got"]


async def test_what_expires_while_the_producer_closes_is_in_its_report_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with producing(cluster, SHORT) as producer:
            await prove(producer)
            cluster.hang("produce")
            producer.send_nowait(TOPIC, b"expires")
            undelivered = await producer.close(5)
            assert [each.record.value for each in undelivered] == [b"expires"]
            assert undelivered[0].error.possibly_persisted
            cluster.release()
        assert len(warnings(caplog, "1 record failed for topic")) == 1
        assert len(warnings(caplog, "closed with 1 record undelivered")) == 1


async def test_undelivered_records_are_one_line_and_go_to_the_hook(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handed: list[UndeliveredRecord] = []
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer: AnyProducer = Producer(
            bootstrap_servers=cluster.bootstrap_servers,
            **fast(close_timeout_ms=100, on_undelivered=handed.extend),
        )
        async with producer:
            await prove(producer)
            cluster.hang("produce")
            for _ in range(3):
                producer.send_nowait(TOPIC, b"x")
            loop = asyncio.get_running_loop()
            leaving_at = loop.time()
        assert loop.time() - leaving_at < 1
        cluster.release()
    assert len(handed) == 3
    (line,) = warnings(caplog)
    assert "closed with 3 records undelivered" in line


async def test_a_broker_unreachable_at_its_advertised_address_is_reported_with_what_to_check(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        servers = cluster.bootstrap_servers
        cluster.advertise(0, "127.0.0.9", 9)
        options = fast(reconnect_backoff_max_ms=200)
        producer: AnyProducer = Producer(bootstrap_servers=servers, **options)
        await producer.start()
        producer.send_nowait(TOPIC, b"x")
        async with asyncio.timeout(4):
            await until(lambda: warnings(caplog))
        (line,) = warnings(caplog)
        assert "127.0.0.9:9" in line
        assert servers in line
        assert "advertised.listeners" in line
        await producer.close(0)


@pytest.mark.parametrize("option", ["request_timeout_ms", "max_block_ms", "delivery_timeout_ms"])
def test_milliseconds_that_can_only_be_seconds_are_warned_of(
    option: str, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"request_timeout_ms": 200, option: 30}
    if option == "delivery_timeout_ms":
        options["request_timeout_ms"] = 20
    ProducerConfig(bootstrap_servers="localhost:9092", **options)
    assert any(f"{option}=30 is 0.03 s" in line for line in warnings(caplog))


def test_usual_milliseconds_are_not(caplog: pytest.LogCaptureFixture) -> None:
    ProducerConfig(bootstrap_servers="localhost:9092", linger_ms=5, request_timeout_ms=1_000)
    assert not warnings(caplog)


async def test_a_timestamp_in_seconds_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        for _ in range(3):
            await producer.send_and_wait(TOPIC, b"x", timestamp_ms=1_795_000_000)
        await producer.send_and_wait(TOPIC, b"x", timestamp_ms=1_795_000_000_000)
        await producer.send_and_wait(TOPIC, b"x", timestamp_ms=0)
        (line,) = warnings(caplog)
        assert "are seconds meant?" in line
