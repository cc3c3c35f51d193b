"""Brokers that die, freeze and come back: nothing lost, nothing twice, order kept."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from aioproducer import Delivery, KafkaError, KafkaTimeoutError, Producer
from tests.broker.helpers import (
    buffer_used,
    leader_of,
    producer_for,
    until,
    wait_for_brokers,
)
from tests.support.kafka import consume, create_topic
from tools.kafka import NodeControl

pytestmark = pytest.mark.slow

KEYS = 40
RATE = 1_500


@pytest.fixture
def replicated(kafka3: NodeControl) -> str:
    """A topic of six partitions on all three brokers."""
    wait_for_brokers(kafka3, 3)
    return create_topic(kafka3, partitions=6, replication_factor=3)


class Load:
    """Numbered records of many keys at a steady rate, until it is stopped."""

    def __init__(self, producer: Producer[Any, Any], topic: str) -> None:
        self.deliveries: dict[tuple[int, int], Delivery] = {}
        self._producer = producer
        self._topic = topic
        self._is_over = False
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        count = 0
        while not self._is_over:
            while count < (loop.time() - started_at) * RATE:
                key, number = count % KEYS, count // KEYS
                self.deliveries[key, number] = await self._producer.send(
                    self._topic, b"%d" % number, key=b"%d" % key
                )
                count += 1
            await asyncio.sleep(0.005)

    async def finish(self) -> None:
        """End the load and wait for every outcome."""
        self._is_over = True
        await self._task
        await self._producer.flush()

    def failed(self) -> list[BaseException]:
        """The errors of the records that failed."""
        errors = (delivery.exception() for delivery in self.deliveries.values())
        return [error for error in errors if error is not None]


def assert_exactly_once_in_order(kafka: NodeControl, topic: str, load: Load) -> None:
    stored = consume(kafka, topic, timeout=30)
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    for record in stored:
        key, number = int(record.key or b""), int(record.value or b"")
        numbers[key].append(number)
        metadata = load.deliveries[key, number].result()
        assert (metadata.partition, metadata.offset) == (record.partition, record.offset)
    for key in range(KEYS):
        sent = [number for of_key, number in load.deliveries if of_key == key]
        assert numbers[key] == sent


@pytest.mark.timeout(90)
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_killing_a_leader_loses_nothing_doubles_nothing_and_keeps_order(
    kafka3: NodeControl, replicated: str
) -> None:
    async with producer_for(kafka3) as producer:
        load = Load(producer, replicated)
        await asyncio.sleep(1)
        await asyncio.to_thread(kafka3.kill, leader_of(kafka3, replicated, 0))
        await asyncio.sleep(4)
        await asyncio.to_thread(kafka3.heal)
        await asyncio.sleep(1)
        async with asyncio.timeout(30):
            await load.finish()
        assert load.failed() == []
        assert buffer_used(producer) == 0
    assert len(load.deliveries) > 5_000
    assert_exactly_once_in_order(kafka3, replicated, load)


@pytest.mark.timeout(90)
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_leader_frozen_beyond_the_request_timeout_costs_no_record(
    kafka3: NodeControl, replicated: str
) -> None:
    async with producer_for(
        kafka3, request_timeout_ms=1_500, delivery_timeout_ms=60_000
    ) as producer:
        load = Load(producer, replicated)
        await asyncio.sleep(1)
        node = leader_of(kafka3, replicated, 0)
        kafka3.pause(node)
        await asyncio.sleep(5)
        kafka3.resume(node)
        await asyncio.sleep(1)
        async with asyncio.timeout(30):
            await load.finish()
        assert load.failed() == []
        assert producer.metrics()["batch_retry_total"] > 0
    assert_exactly_once_in_order(kafka3, replicated, load)


@pytest.mark.timeout(90)
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_an_orderly_restart_of_a_leader_costs_no_record(
    kafka3: NodeControl, replicated: str
) -> None:
    async with producer_for(kafka3) as producer:
        load = Load(producer, replicated)
        await asyncio.sleep(0.5)
        node = leader_of(kafka3, replicated, 0)
        await asyncio.to_thread(kafka3.stop_node, node)
        await asyncio.to_thread(kafka3.start_node, node)
        await asyncio.sleep(1)
        async with asyncio.timeout(30):
            await load.finish()
        assert load.failed() == []
    assert_exactly_once_in_order(kafka3, replicated, load)


@pytest.mark.timeout(60)
async def test_a_frozen_broker_holds_up_no_other(kafka3: NodeControl) -> None:
    wait_for_brokers(kafka3, 3)
    topic = create_topic(kafka3, partitions=3, replication_factor=1)
    async with producer_for(kafka3) as producer:
        for partition in range(3):
            await producer.send_and_wait(topic, b"warm", partition=partition)
        kafka3.pause(leader_of(kafka3, topic, 0))
        stuck = producer.send_nowait(topic, b"stuck", partition=0)
        for _ in range(20):
            for partition in (1, 2):
                await producer.send_and_wait(topic, b"x", partition=partition, timeout=1)
        assert not stuck.done()
        kafka3.heal()
        async with asyncio.timeout(20):
            await stuck


@pytest.mark.timeout(60)
async def test_a_delivery_timeout_explains_itself_and_the_producer_heals(
    kafka3: NodeControl,
) -> None:
    wait_for_brokers(kafka3, 3)
    topic = create_topic(kafka3, partitions=1, replication_factor=1)
    loop = asyncio.get_running_loop()
    async with producer_for(
        kafka3, request_timeout_ms=1_000, delivery_timeout_ms=3_500
    ) as producer:
        await producer.send_and_wait(topic, b"warm")
        kafka3.pause(leader_of(kafka3, topic))
        started_at = loop.time()
        in_doubt = producer.send_nowait(topic, b"in doubt")
        await asyncio.sleep(0.1)
        unsent = producer.send_nowait(topic, b"unsent")
        with pytest.raises(KafkaTimeoutError, match="delivery_timeout_ms") as caught:
            await in_doubt
        assert 3.4 <= loop.time() - started_at < 4.5
        error = caught.value
        assert f"{topic}-0" in str(error)
        assert error.topic_partition is not None
        assert error.topic_partition.topic == topic
        assert error.attempts >= 1
        assert error.possibly_persisted
        assert "may have been stored" in str(error)
        assert error.last_broker_error is not None or error.last_connect_error is not None
        assert "last" in str(error)
        with pytest.raises(KafkaTimeoutError) as caught:
            await unsent
        assert buffer_used(producer) == 0
        kafka3.heal()
        async with asyncio.timeout(25):
            while True:
                try:
                    await producer.send_and_wait(topic, b"again")
                    break
                except KafkaTimeoutError:
                    continue
    values = [record.value for record in consume(kafka3, topic)]
    assert values.count(b"again") >= 1
    assert values.count(b"in doubt") <= 1


@pytest.mark.timeout(60)
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_whole_cluster_that_goes_away_comes_back_without_a_new_producer(
    kafka3: NodeControl, replicated: str
) -> None:
    async with producer_for(kafka3) as producer:
        await producer.send_and_wait(replicated, b"before", partition=0)
        for node in (1, 2, 3):
            await asyncio.to_thread(kafka3.kill, node)
        held = producer.send_nowait(replicated, b"meanwhile", partition=0)
        await until(lambda: "unreachable" in str(producer.status()["brokers"]), within=5)
        with pytest.raises(KafkaError, match="timeout of the call"):
            await producer.send_and_wait(replicated, b"late", partition=0, timeout=0.5)
        starts: list[asyncio.Future[None]] = []
        for node in (1, 2, 3):
            # Side by side, because none is up without another; each writes down its start first.
            starts.append(asyncio.ensure_future(asyncio.to_thread(kafka3.start_node, node)))
            await asyncio.sleep(0.3)
        await asyncio.gather(*starts)
        async with asyncio.timeout(25):
            await held
            await producer.send_and_wait(replicated, b"after", partition=0)
    stored = [record.value for record in consume(kafka3, replicated, 4, timeout=30)]
    assert stored == [b"before", b"meanwhile", b"late", b"after"]
