"""The timestamp that a record's metadata reports, and whose it is."""

from __future__ import annotations

from aioproducer import Producer, ProducerRecord
from aioproducer.testing import FakeCluster


async def test_a_record_reports_its_own_timestamp() -> None:
    async with (
        FakeCluster(topics={"payments": 1}) as cluster,
        Producer(bootstrap_servers=cluster.bootstrap_servers) as producer,
    ):
        metadata = await producer.send_and_wait("payments", b"1", timestamp_ms=1234)

    assert (metadata.timestamp_ms, metadata.is_log_append_time) == (1234, False)


async def test_under_log_append_time_it_reports_the_brokers() -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic("payments", 1, message_timestamp_type="LogAppendTime")
        async with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
            metadata = await producer.send_and_wait("payments", b"1", timestamp_ms=1234)
        stored = cluster.records("payments")[0]

    assert metadata.is_log_append_time
    assert metadata.timestamp_ms == stored.timestamp_ms != 1234


async def test_a_duplicate_reports_each_records_own_timestamp() -> None:
    async with (
        FakeCluster(topics={"payments": 1}) as cluster,
        Producer(bootstrap_servers=cluster.bootstrap_servers, retry_backoff_ms=1) as producer,
    ):
        cluster.cut_next("produce", when="after")
        results = await producer.send_many(
            "payments", [ProducerRecord("payments", b"x", timestamp_ms=at) for at in (30, 10)]
        )

    assert [metadata.timestamp_ms for metadata in results] == [30, 10]
    assert not any(metadata.is_log_append_time for metadata in results)
