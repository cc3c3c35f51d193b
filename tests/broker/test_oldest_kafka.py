"""Kafka 2.1, the oldest release that is spoken to.

It has a ZooKeeper, and neither flexible versions nor topic ids, leader hints and errors of single
records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from aioproducer.config import CompressionType
from aioproducer.protocol.init_producer_id import INIT_PRODUCER_ID
from aioproducer.protocol.metadata import METADATA
from aioproducer.protocol.produce import PRODUCE
from tests.broker.helpers import producer_for, stored_at
from tests.broker.test_broker_failures import Load, assert_exactly_once_in_order
from tests.support.kafka import consume, create_topic
from tests.support.producing import sender_of
from tools.kafka import NodeControl

pytestmark = pytest.mark.slow


def new_topic(kafka: NodeControl, partitions: int) -> str:
    # It knows no default for the number of replicas.
    return create_topic(kafka, partitions=partitions, replication_factor=1)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_what_goes_in_comes_out_at_the_offsets_returned(
    kafka21: NodeControl, codec: CompressionType
) -> None:
    topic = new_topic(kafka21, 2)
    values = [b"%06d" % number + b"kafka " * 20 for number in range(2_000)]
    async with producer_for(kafka21, compression_type=codec) as producer:
        deliveries = [
            await producer.send(topic, value, key=value[5:6], headers={"codec": codec.encode()})
            for value in values
        ]
        metadata = [await delivery for delivery in deliveries]
        sender = sender_of(producer)
        connection = sender.cluster.connection(1)
        assert connection is not None
        assert connection.version_for(PRODUCE) == 7
        assert connection.version_for(METADATA) == 7
        assert connection.version_for(INIT_PRODUCER_ID) == 1
    stored = consume(kafka21, topic)
    assert len(stored) == 2_000
    assert [record.value for record in stored_at(stored, metadata)] == values
    assert all(record.headers == (("codec", codec.encode()),) for record in stored)


@pytest.mark.timeout(60)
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_restart_under_load_costs_no_record(kafka21: NodeControl) -> None:
    await _outlives(kafka21, kafka21.stop_node)


@pytest.mark.timeout(60)
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_crash_under_load_costs_no_record(kafka21: NodeControl) -> None:
    await _outlives(kafka21, kafka21.kill)


async def _outlives(kafka: NodeControl, end: Callable[[int], object]) -> None:
    """Have the broker end under load and begin again."""
    topic = new_topic(kafka, 4)
    async with producer_for(kafka) as producer:
        load = Load(producer, topic)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(end, 1)
        await asyncio.to_thread(kafka.start_node, 1)
        await asyncio.sleep(0.5)
        async with asyncio.timeout(30):
            await load.finish()
        assert load.failed() == []
    assert_exactly_once_in_order(kafka, topic, load)
