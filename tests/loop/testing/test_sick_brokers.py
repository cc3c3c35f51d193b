"""Brokers that are slow, frozen or full, one call each, and the errors that can be ordered."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from aioproducer import KafkaTimeoutError
from aioproducer.errors import NotEnoughReplicasError, PolicyViolationError
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import FAST, failure, fast, producing, prove, values

TOPIC = "payments"


async def test_a_slow_broker_stores_at_once_and_responds_late() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.slow(0.2)
        with pytest.raises(KafkaTimeoutError):
            await producer.send_and_wait(TOPIC, b"1", timeout=0.05)
        assert values(cluster) == [b"first", b"1"]
        cluster.slow(0)
        await producer.send_and_wait(TOPIC, b"2")


async def test_only_the_broker_named_is_slow() -> None:
    async with FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        await prove(producer, 0)
        await prove(producer, 1)
        cluster.slow(60, 1)
        slow = await producer.send(TOPIC, b"1", partition=1)
        await producer.send_and_wait(TOPIC, b"2", partition=0)
        assert not slow.done()
        cluster.slow(0, 1)
        cluster.cut(1)
        await slow


async def test_a_broker_is_not_slow_by_less_than_nothing() -> None:
    async with FakeCluster() as cluster:
        with pytest.raises(ValueError, match="0 or more"):
            cluster.slow(-1)


async def test_a_frozen_broker_takes_bytes_and_does_nothing_until_it_is_thawed() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.freeze(0)
        # The fault is for the request that is carried out, so it waits, too.
        cluster.fail_next("produce", NotEnoughReplicasError)
        delivery = await producer.send(TOPIC, b"1")
        await cluster.received("produce", 2)
        await asyncio.sleep(0.02)
        assert not delivery.done()
        assert values(cluster) == [b"first"]
        cluster.thaw(0)
        await delivery
        assert values(cluster) == [b"first", b"1"]
        assert len(cluster.requests_of("produce")) == 3


async def test_a_frozen_broker_can_be_connected_to_and_is_still_the_leader() -> None:
    async with FakeCluster(brokers=2, topics={TOPIC: 1}) as cluster:
        cluster.freeze()
        _, writer = await asyncio.open_connection("127.0.0.1", cluster.ports[0])
        assert cluster.leader(TOPIC, 0) == 0
        writer.close()
        await writer.wait_closed()


async def test_a_frozen_broker_that_is_killed_forgets_what_it_took() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.freeze()
        delivery = await producer.send(TOPIC, b"1")
        await cluster.received("produce", 2)
        await cluster.stop_broker(0)
        assert values(cluster) == [b"first"]
        await cluster.start_broker(0)
        await delivery
        assert values(cluster) == [b"first", b"1"]


async def test_a_full_disk_refuses_records_until_there_is_space() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.fill_disk()
        delivery = await producer.send(TOPIC, b"1")
        await cluster.received("produce", 3)
        assert not delivery.done()
        cluster.free_disk()
        await delivery
        assert values(cluster) == [b"first", b"1"]


async def test_a_disk_that_stays_full_is_told() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.fill_disk(0)
        options = fast(delivery_timeout_ms=100, request_timeout_ms=50)
        async with producing(cluster, options) as producer:
            error = await failure(await producer.send(TOPIC, b"1"))
    assert isinstance(error, KafkaTimeoutError)
    assert "KAFKA_STORAGE_ERROR" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        PolicyViolationError,
        PolicyViolationError("only on weekdays"),
        "POLICY_VIOLATION",
        44,
        ErrorCode.POLICY_VIOLATION,
    ],
)
async def test_an_error_is_ordered_by_class_instance_name_or_code(error: Any) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.fail_next("produce", error, topic=TOPIC, count=2)
        async with producing(cluster, FAST) as producer:
            found = [await failure(await producer.send(TOPIC, b"1")) for _ in range(2)]
            await producer.send_and_wait(TOPIC, b"2")
    assert {type(one) for one in found} == {PolicyViolationError}
    assert ("only on weekdays" in str(found[0])) == isinstance(error, PolicyViolationError)


async def test_an_error_that_no_broker_sends_is_refused() -> None:
    cluster = FakeCluster()
    for error in (KafkaTimeoutError, KafkaTimeoutError("late"), "NO_SUCH_ERROR"):
        with pytest.raises(ValueError):
            cluster.fail_next("produce", error)


# ---- ports


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_brokers_listen_on_the_ports_given() -> None:
    ports = [free_port(), free_port()]
    async with FakeCluster(ports=ports, topics={TOPIC: 1}) as cluster:
        assert cluster.ports == {0: ports[0], 1: ports[1]}
        assert cluster.bootstrap_servers == f"127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"
        async with producing(cluster) as producer:
            await producer.send_and_wait(TOPIC, b"1")
    async with FakeCluster(ports=ports):
        pass


async def test_a_port_that_is_taken_is_named() -> None:
    async with FakeCluster() as first:
        (port,) = first.ports.values()
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is taken"):
            await FakeCluster(ports=[port]).start()


async def test_a_port_that_is_taken_between_bind_and_listen_is_named() -> None:
    port = free_port()
    clusters = [FakeCluster(ports=[port]), FakeCluster(ports=[port])]
    results = await asyncio.gather(*(one.start() for one in clusters), return_exceptions=True)
    try:
        (error,) = (one for one in results if one is not None)
        assert f"port {port} of 127.0.0.1 is taken" in str(error)
    finally:
        for cluster in clusters:
            await cluster.aclose()


def test_there_is_a_port_for_each_broker() -> None:
    with pytest.raises(ValueError, match="3 brokers need as many ports, not 2"):
        FakeCluster(brokers=3, ports=[1, 2])
