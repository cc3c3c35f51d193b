"""Records written to librdkafka's mock cluster, and read back by librdkafka."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Literal

import pytest

from aioproducer import Producer
from aioproducer.testing import LIBRDKAFKA_MOCK, FakeCluster
from tests.loop.testing.test_habits import raw_response
from tests.support.kafka import StoredRecord, consume
from tests.support.kio_client import connected
from tests.support.librdkafka_mock import librdkafka_mock
from tests.support.producing import expect_nothing_left
from tests.unit.testing.apis.test_small_apis import api_versions
from tools.kafka import Kafka


@pytest.fixture(scope="module")
def mock() -> Iterator[Kafka]:
    with librdkafka_mock() as mock:
        yield mock


@pytest.fixture
def topic() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


async def read_back(mock: Kafka, topic: str, count: int | None = None) -> list[StoredRecord]:
    """Everything, or at least so many records."""
    return await asyncio.to_thread(consume, mock, topic, count)


async def test_records_are_stored_once_where_their_metadata_says(mock: Kafka, topic: str) -> None:
    keys = [b"card-%d" % (number % 20) for number in range(500)]
    async with Producer[bytes, bytes](bootstrap_servers=mock.bootstrap_servers) as producer:
        deliveries = [
            producer.send_nowait(topic, b"%d" % number, key=key, headers={"n": b"%d" % number})
            for number, key in enumerate(keys)
        ]
        acknowledged = {
            (metadata.partition, metadata.offset): b"%d" % number
            for number, metadata in enumerate([await delivery for delivery in deliveries])
        }
    stored = await read_back(mock, topic)
    assert {(record.partition, record.offset): record.value for record in stored} == acknowledged
    assert len({record.partition for record in stored}) > 1
    for key in set(keys):
        of_key = [int(record.value or b"") for record in stored if record.key == key]
        assert of_key == sorted(of_key)
    assert all(record.headers == (("n", record.value),) for record in stored)
    expect_nothing_left(producer)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_records_are_read_back(
    mock: Kafka, topic: str, codec: Literal["gzip", "snappy", "lz4", "zstd"]
) -> None:
    values = [b"%d " % number * 100 for number in range(100)]
    async with Producer[bytes, bytes](
        bootstrap_servers=mock.bootstrap_servers, compression_type=codec
    ) as producer:
        for value in values:
            producer.send_nowait(topic, value, partition=0)
    assert [record.value for record in await read_back(mock, topic)] == values


@pytest.mark.parametrize("acks", [0, 1])
async def test_records_are_stored_with_fewer_acks(
    mock: Kafka, topic: str, acks: Literal[0, 1]
) -> None:
    values = [b"%d" % number for number in range(100)]
    async with Producer[bytes, bytes](
        bootstrap_servers=mock.bootstrap_servers, acks=acks
    ) as producer:
        for value in values:
            producer.send_nowait(topic, value, partition=0)
    # With acks=0 they may still be under way.
    stored = await read_back(mock, topic, 100)
    assert [record.value for record in stored] == values


async def test_it_refuses_api_versions_4_as_the_fake_does_that_plays_it(mock: Kafka) -> None:
    async with FakeCluster(brokers=3, habits=LIBRDKAFKA_MOCK) as cluster:
        refusals: list[bytes] = []
        for servers in (mock.bootstrap_servers, cluster.bootstrap_servers):
            async with connected(servers.split(",")[0]) as client:
                await client.send(api_versions(4))
                refusals.append(await raw_response(client))
    assert refusals[0] == refusals[1]
