"""`start(wait=False)`: the producer is open at once, and connects when the cluster is there."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from aioproducer import (
    AuthenticationError,
    KafkaConnectionError,
    KafkaTimeoutError,
    Producer,
    ProducerClosedError,
)
from aioproducer.network.backoff import Backoff
from aioproducer.network.connecting import connect
from aioproducer.testing import FakeCluster, FakeSasl
from aioproducer.testing.observed import ApiName
from tests.support.producing import FAST, TOPIC, fast, until, values


async def gone(cluster: FakeCluster) -> None:
    cluster.refuse(0)
    cluster.cut(0)


async def test_records_wait_until_the_cluster_is_there() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        await gone(cluster)
        producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=cluster.bootstrap_servers, **FAST
        )
        await producer.start(wait=False)
        async with producer:
            delivery = producer.send_nowait(TOPIC, b"42")
            await until(lambda: producer.status().last_error is not None)
            status = producer.status()
            assert (status.state, status.healthy) == ("starting", False)
            assert "connection refused" in status.reason
            assert status.oldest_record_age is not None
            await cluster.accept(0)
            assert (await delivery).offset == 0
            await until(lambda: producer.status().healthy)
            assert producer.status().state == "open"
            assert producer.status().last_error is None


async def test_a_record_for_which_the_cluster_comes_too_late_fails_as_not_stored() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        await gone(cluster)
        producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=cluster.bootstrap_servers, **fast(max_block_ms=100)
        )
        await producer.start(wait=False)
        with pytest.raises(KafkaTimeoutError, match="connection refused") as raised:
            await producer.send_and_wait(TOPIC, b"42")
        assert raised.value.safe_to_resend
        assert await producer.close() == ()


async def test_a_cluster_that_is_there_is_reached_at_once() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=cluster.bootstrap_servers, **FAST
        )
        await producer.start(wait=False)
        async with producer:
            await producer.send_and_wait(TOPIC, b"42")
            assert producer.status().healthy
        assert values(cluster) == [b"42"]


async def test_a_later_start_waits_and_fails_as_any_start() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        await gone(cluster)
        producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=cluster.bootstrap_servers, **FAST
        )
        await producer.start(wait=False)
        await producer.start(wait=False)
        with pytest.raises(KafkaConnectionError, match="connection refused"):
            await producer.start(timeout=0.1)
        assert producer.status().state == "starting"
        await cluster.accept(0)
        await producer.start()
        assert producer.status().healthy
        await producer.close()


async def test_a_close_ends_the_wait_for_the_cluster() -> None:
    async with FakeCluster() as cluster:
        await gone(cluster)
        producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=cluster.bootstrap_servers, **FAST
        )
        await producer.start(wait=False)
        starting = asyncio.create_task(producer.start())
        await until(lambda: producer.status().last_error is not None)
        accepted = producer.send_nowait(TOPIC, b"42")
        (left,) = await producer.close(timeout=0)
        assert left.record.value == b"42"
        with pytest.raises(ProducerClosedError):
            await starting
        with pytest.raises(ProducerClosedError):
            await accepted


@pytest.mark.parametrize("api", ["api_versions", "metadata"])
async def test_a_close_in_the_middle_of_an_attempt_leaves_nothing_behind(api: ApiName) -> None:
    async with FakeCluster() as cluster:
        cluster.hang(api)
        producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=cluster.bootstrap_servers, **FAST
        )
        await producer.start(wait=False)
        await cluster.received(api)
        await producer.close()
        await until(lambda: not any(cluster.connections.values()))


async def test_a_cancelled_wait_leaves_the_start_going_on() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        await gone(cluster)
        producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=cluster.bootstrap_servers, **FAST
        )
        await producer.start(wait=False)
        starting = asyncio.create_task(producer.start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await cluster.accept(0)
        await producer.start()
        await producer.close()


async def test_a_refused_login_is_tried_again_and_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioproducer.network.refusals.PAUSE", Backoff(10, 10))
    monkeypatch.setattr("aioproducer.network.starting.PAUSE", Backoff(10, 10))
    sasl = FakeSasl(passwords={"me": "another"})
    options = fast(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="me",
        sasl_password="canary-secret",
    )
    async with FakeCluster(topics={TOPIC: 1}, sasl=sasl) as cluster:
        producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=cluster.bootstrap_servers, **options
        )
        with caplog.at_level(logging.WARNING):
            await producer.start(wait=False)
            with pytest.raises(AuthenticationError):
                await producer.start()
            await cluster.received("sasl_authenticate", 4)
        (record,) = [one for one in caplog.records if one.name == "aioproducer.network.cluster"]
        assert record.levelno == logging.ERROR
        assert "tried again" in record.getMessage()
        assert "SASL_AUTHENTICATION_FAILED" in producer.status().reason
        sasl.passwords["me"] = "canary-secret"
        await until(lambda: producer.status().healthy)
        await producer.close()


async def test_a_defect_is_the_last_error_and_the_cluster_is_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*args: Any, **options: Any) -> Any:
        raise TypeError("unsupported operand")

    monkeypatch.setattr("aioproducer.network.bootstrap.connect", broken)
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=cluster.bootstrap_servers, **FAST
        )
        await producer.start(wait=False)
        await until(lambda: producer.status().last_error is not None)
        assert "TypeError: unsupported operand" in producer.status().reason
        monkeypatch.setattr("aioproducer.network.bootstrap.connect", connect)
        await producer.start()
        assert producer.status().healthy
        await producer.close()


async def test_a_timeout_without_a_wait_is_refused() -> None:
    producer: Producer[bytes, bytes] = Producer(bootstrap_servers="localhost:9092")
    with pytest.raises(ValueError, match="wait=False"):
        await producer.start(1, wait=False)


async def test_beside_a_start_that_waits_it_waits_too() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.hang("metadata")
        producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=cluster.bootstrap_servers, **FAST
        )
        first = asyncio.create_task(producer.start())
        await cluster.received("metadata")
        second = asyncio.create_task(producer.start(wait=False))
        await asyncio.sleep(0)
        cluster.release()
        await asyncio.gather(first, second)
        await producer.send_and_wait(TOPIC, b"42")
        await producer.close()
