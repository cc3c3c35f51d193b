"""What `metrics()` and `status()` return."""

from __future__ import annotations

import asyncio

from aioproducer import Producer
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import TOPIC, failure, producing, prove


async def test_metrics_count_what_happened() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        await failure(producer.send_nowait(TOPIC, b"refused"))

        metrics = producer.metrics()

        assert metrics["record_accepted_total"] == 2
        assert metrics["record_delivered_total"] == 1
        assert metrics["record_error_total"] == 1
        assert metrics["batch_sent_total"] == 3
        assert metrics["batch_retry_total"] == 1
        assert metrics["request_total"] == 3
        assert metrics["outgoing_byte_total"] > 3 * 61
        assert metrics["requests_in_flight"] == metrics["waiting_callers"] == 0
        assert metrics["buffer_available_bytes"] == metrics["buffer_total_bytes"]
        assert 0 <= metrics["metadata_age"] < 5


async def test_metrics_show_what_waits_for_a_response() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.hang("produce")
        delivery = producer.send_nowait(TOPIC, b"42")
        await cluster.received("produce", 2)
        metrics = producer.metrics()
        assert metrics["requests_in_flight"] == 1
        assert metrics["buffer_available_bytes"] < metrics["buffer_total_bytes"]
        cluster.release()
        await delivery


async def test_status_names_the_cluster_the_brokers_and_the_producer_id() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        status = producer.status()
        assert status["state"] == "open"
        assert status["cluster_id"] == "aioproducer-fake-cluster"
        assert status["brokers"] == {
            f"{node} at 127.0.0.1:{port}": "connected" for node, port in cluster.ports.items()
        }
        assert status["producer_id"] == 1000
        assert status["buffer_used_ratio"] == 0
        assert status["last_error"] is None


async def test_status_names_a_broker_that_is_gone_and_why() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, request_timeout_ms=200, delivery_timeout_ms=200) as producer,
    ):
        await producer.partitions_for(TOPIC)
        cluster.refuse(1)
        cluster.cut(1)
        await failure(producer.send_nowait(TOPIC, b"42", partition=1))
        status = producer.status()
        assert status["brokers"][f"1 at 127.0.0.1:{cluster.ports[1]}"] == "unreachable"
        assert "connection refused" in status["last_error"]


async def test_status_works_after_close() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await producer.close()
        assert producer.status()["state"] == "closed"


async def test_metrics_and_status_work_in_every_state() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer: Producer[bytes, bytes] = Producer(bootstrap_servers=cluster.bootstrap_servers)
        names = list(producer.metrics())
        assert producer.status()["state"] == "created"
        assert producer.metrics()["buffer_available_bytes"] == producer.config.buffer_memory
        cluster.hang("api_versions")
        starting = asyncio.create_task(producer.start())
        await cluster.received("api_versions")
        assert list(producer.metrics()) == names
        assert producer.status()["state"] == "starting"
        cluster.release()
        await starting
        await producer.send_and_wait(TOPIC, b"42")
        assert list(producer.metrics()) == names
        assert producer.status()["state"] == "open"
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"42")
        closing = asyncio.create_task(producer.close())
        await cluster.received("produce", 2)
        assert producer.status()["state"] == "closing"
        assert producer.metrics()["requests_in_flight"] == 1
        cluster.release()
        await closing
        assert producer.status()["state"] == "closed"
        assert producer.metrics()["record_delivered_total"] == 2
        assert list(producer.metrics()) == names


async def test_metrics_and_status_work_for_a_producer_that_is_never_started() -> None:
    producer: Producer[bytes, bytes] = Producer(bootstrap_servers="localhost:9092")
    await producer.close()
    assert producer.status()["state"] == "closed"
    assert producer.metrics()["record_accepted_total"] == 0
