"""`Producer.status` in trouble: what it says of brokers and records, and when it is over."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aioproducer import Producer, TopicAuthorizationFailedError
from aioproducer.config import ProducerOptions
from aioproducer.network.brokers import Broker
from aioproducer.telemetry.status import BrokerStatus
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import TOPIC, failure, fast, producing, prove, sender_of, until

IMPATIENT: ProducerOptions = fast(request_timeout_ms=200, delivery_timeout_ms=400)


@pytest.fixture(autouse=True)
def _soon_ill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioproducer.telemetry.status.DOWN_AFTER", 0.05)


def word(producer: Producer[Any, Any], node_id: int = 0) -> str:
    (found,) = [
        each
        for name, each in producer.status().brokers.items()
        if name.startswith(f"{node_id} at ")
    ]
    return found


async def test_a_started_producer_is_healthy() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        status = producer.status()
        assert (status.healthy, status.reason) == (True, "")
        await prove(producer)
        status = producer.status()
        assert status.healthy
        assert (status.brokers_connected, status.brokers_known) == (1, 1)
        assert status.oldest_record_age is None
        assert status.failing_for is None


async def test_a_broker_that_takes_bytes_and_answers_nothing_is_frozen() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, request_timeout_ms=400) as producer,
    ):
        await prove(producer)
        cluster.hang("any")
        delivery = producer.send_nowait(TOPIC, b"42")
        await until(lambda: word(producer) == "frozen")
        status = producer.status()
        assert not status.healthy
        assert status.reason.startswith("No broker has worked for ")
        assert status.brokers_connected == 0
        assert status.oldest_record_age is not None
        assert status.oldest_record_age > 0.2
        cluster.release()
        await delivery
        assert producer.status().healthy
        assert word(producer) == "connected"


async def test_a_frozen_broker_does_not_turn_healthy_when_it_is_connected_anew() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, IMPATIENT) as producer,
    ):
        await prove(producer)
        cluster.hang("any")
        delivery = producer.send_nowait(TOPIC, b"42")
        await until(lambda: word(producer) == "frozen")
        seen: list[bool] = []
        await until(lambda: word(producer) != "frozen")
        while not delivery.done():
            seen.append(producer.status().healthy)
            await asyncio.sleep(0.001)
        assert seen
        assert not any(seen)
        cluster.release()
        await until(lambda: producer.status().healthy)


async def test_a_cluster_that_is_gone_is_told_and_heals_without_traffic() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, IMPATIENT) as producer,
    ):
        await prove(producer)
        cluster.refuse(0)
        cluster.cut(0)
        await until(lambda: not producer.status().healthy)
        await until(lambda: word(producer) == "unreachable")
        status = producer.status()
        assert "connection refused" in status.reason
        assert "connection refused" in (status.last_error or "")
        assert status.failing_for is not None
        await cluster.accept(0)
        await until(lambda: producer.status().healthy)
        await until(lambda: producer.status().failing_for is None)


async def test_one_broker_of_two_that_is_gone_leaves_the_producer_healthy() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, IMPATIENT) as producer,
    ):
        await producer.partitions_for(TOPIC)
        await prove(producer, 0)
        cluster.refuse(1)
        cluster.cut(1)
        lost = producer.send_nowait(TOPIC, b"42", partition=1)
        await until(lambda: word(producer, 1) == "unreachable")
        await failure(lost)
        status = producer.status()
        assert status.healthy
        assert status.last_error is not None


async def test_an_idle_connection_that_the_broker_closes_changes_nothing() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        asked = len(cluster.requests_of("metadata"))
        cluster.cut(0)
        seen: list[bool] = []
        while len(cluster.requests_of("metadata")) <= asked:
            seen.append(producer.status().healthy)
            assert word(producer) != "unreachable"
            await asyncio.sleep(0.001)
        assert all(seen)
        assert producer.status().last_error is None


async def test_a_topics_error_is_the_last_error_until_a_record_is_stored() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.fail_next("produce", TopicAuthorizationFailedError)
        await failure(producer.send_nowait(TOPIC, b"42"))
        status = producer.status()
        assert status.healthy
        assert "TOPIC_AUTHORIZATION_FAILED" in (status.last_error or "")
        assert status.last_error_age is not None
        assert status.failing_for is not None
        await prove(producer)
        status = producer.status()
        assert status.failing_for is None
        assert "TOPIC_AUTHORIZATION_FAILED" in (status.last_error or "")


async def test_records_that_wait_while_none_is_stored_are_an_illness() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, delivery_timeout_ms=2000) as producer,
    ):
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS, count=None)
        delivery = producer.send_nowait(TOPIC, b"42")
        await until(lambda: not producer.status().healthy)
        status = producer.status()
        assert status.reason.startswith("Records have waited for ")
        assert "NOT_ENOUGH_REPLICAS" in status.reason
        cluster.clear_faults()
        await delivery
        assert producer.status().healthy


async def test_records_that_wait_for_metadata_have_an_age() -> None:
    async with (
        FakeCluster(auto_create_topics=False) as cluster,
        producing(cluster, max_block_ms=100) as producer,
    ):
        delivery = producer.send_nowait("missing", b"42")
        await until(lambda: (producer.status().oldest_record_age or 0) > 0.01)
        await failure(delivery)
        assert producer.status().oldest_record_age is None


async def test_a_refused_producer_id_is_an_illness_that_heals_without_traffic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aioproducer.sending.producer_id._ASK_AGAIN_AFTER", 0.1)
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.fail_next("init_producer_id", ErrorCode.CLUSTER_AUTHORIZATION_FAILED, count=2)
        async with producing(cluster) as producer:
            await until(lambda: not producer.status().healthy)
            assert "gets no producer id" in producer.status().reason
            await until(lambda: producer.status().healthy)
            assert producer.status().last_error is None


async def test_status_is_json_in_every_state() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        producer: Producer[bytes, bytes] = Producer(bootstrap_servers=cluster.bootstrap_servers)
        states = [json.loads(json.dumps(producer.status().as_dict()))]
        async with producer:
            await prove(producer)
            states.append(json.loads(json.dumps(producer.status().as_dict())))
        states.append(json.loads(json.dumps(producer.status().as_dict())))
    assert [one["state"] for one in states] == ["created", "open", "closed"]
    assert [one["healthy"] for one in states] == [False, True, False]


async def test_a_draining_producer_is_not_healthy_and_sends_on() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        producer.drain()
        status = producer.status()
        assert (status.state, status.healthy) == ("draining", False)
        assert status.reason == "The process is about to end."
        await prove(producer)
        await producer.close()
        assert producer.status().state == "closed"


# ---- another thread looks


async def test_topics_may_come_into_use_during_a_look() -> None:
    class Topic:
        @property
        def waiting(self) -> tuple[()]:
            topics[f"{TOPIC}-{len(topics)}"] = Topic()
            return ()

    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        topics: Any = sender_of(producer).topics.by_name
        used = dict(topics)
        topics[f"{TOPIC}-1"] = Topic()
        healthy = producer.status().healthy
        for name in [name for name in topics if name not in used]:
            del topics[name]
        assert healthy


async def test_brokers_may_become_known_during_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        known = sender_of(producer).cluster.brokers._brokers  # pyright: ignore[reportPrivateUsage]
        status = Broker.status

        def status_and_one_more(self: Broker, now: float, frozen_after: float) -> BrokerStatus:
            known[len(known)] = self
            return status(self, now, frozen_after)

        with monkeypatch.context() as patch:
            patch.setattr(Broker, "status", status_and_one_more)
            healthy = producer.status().healthy
        for node_id in list(known)[1:]:
            del known[node_id]
        assert healthy
