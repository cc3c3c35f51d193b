"""A batch of 128 KiB leaves at once if the broker has a free request, else it grows on."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from aioproducer import Delivery, Producer
from aioproducer.config import ProducerOptions
from aioproducer.testing import FakeCluster
from tests.support.producing import FAST, TOPIC, producing, prove, sent

VALUE: Final = b"x" * 10_000
WORTH_A_REQUEST: Final = 14
"""How many of these records pass 128 KiB."""


def fill(producer: Producer[Any, Any], count: int) -> list[Delivery]:
    return [producer.send_nowait(TOPIC, VALUE, partition=0) for _ in range(count)]


def in_flight(producer: Producer[Any, Any]) -> int:
    return int(producer.metrics()["requests_in_flight"])


async def test_a_large_batch_leaves_within_the_turn_while_the_broker_has_a_free_request() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        deliveries = fill(producer, WORTH_A_REQUEST - 1)
        assert in_flight(producer) == 0
        deliveries += fill(producer, 1)
        assert in_flight(producer) == 1
        deliveries += fill(producer, 4 * WORTH_A_REQUEST)
        assert in_flight(producer) == 5
        deliveries += fill(producer, 3 * WORTH_A_REQUEST)
        assert in_flight(producer) == 5
        await asyncio.gather(*deliveries)
        counts = [batch.record_count for batch in sent(cluster)]
        assert counts == [1, *[WORTH_A_REQUEST] * 5, 3 * WORTH_A_REQUEST]


@pytest.mark.parametrize("options", [{"linger_ms": 20}, {"compression_type": "lz4"}])
async def test_it_does_not_where_waiting_was_asked_for_or_larger_ones_compress_better(
    options: ProducerOptions,
) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, {**FAST, **options}) as producer,
    ):
        await prove(producer)
        deliveries = fill(producer, 2 * WORTH_A_REQUEST)
        assert in_flight(producer) == 0
        await asyncio.gather(*deliveries)
        assert [batch.record_count for batch in sent(cluster)] == [1, 2 * WORTH_A_REQUEST]


async def test_it_does_not_before_the_first_was_acknowledged() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await producer.partitions_for(TOPIC)
        deliveries = fill(producer, 3 * WORTH_A_REQUEST)
        assert in_flight(producer) <= 1
        await asyncio.gather(*deliveries)
        assert sum(batch.record_count for batch in sent(cluster)) == 3 * WORTH_A_REQUEST
