"""What an error says: what, where, how often, what became of the record, what to do."""

from __future__ import annotations

import asyncio
import random

import pytest

from aioproducer import Producer, ProducerConfig
from aioproducer.errors import (
    BufferExhaustedError,
    InvalidPartitionError,
    KafkaConnectionError,
    KafkaTimeoutError,
    MessageTooLargeError,
    ProducerNotStartedError,
    RecordTooLargeError,
)
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import FAST, RECORD_BY_RECORD, TOPIC, failure, producing, prove


async def test_the_error_of_a_failed_record_names_topic_partition_broker_attempts_and_a_hint() -> (
    None
):
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        cluster.fail_next("produce", ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        text = str(await failure(producer.send_nowait(TOPIC, b"42")))
        for part in (
            "TOPIC_AUTHORIZATION_FAILED",
            f"{TOPIC}-0",
            f"127.0.0.1:{cluster.ports[0]}",
            "after 2 attempts",
            "Grant the client's principal",
        ):
            assert part in text


async def test_no_error_and_no_log_shows_a_payload(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "aioproducer")
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        delivery = producer.send_nowait(TOPIC, b"4000-1234", key=b"card-77", headers={"h": b"pin"})
        error = await failure(delivery)
        shown = f"{error!s} {error!r} {delivery!r} {producer!r} {caplog.text}"
        for secret in ("4000-1234", "card-77", "pin'"):
            assert secret not in shown


async def test_each_waiter_of_one_batch_raises_its_own_instance() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.POLICY_VIOLATION)
        errors = await asyncio.gather(
            *(producer.send_and_wait(TOPIC, b"x", partition=0) for _ in range(5)),
            return_exceptions=True,
        )
        assert len({id(error) for error in errors}) == 5
        assert len({str(error) for error in errors}) == 1


async def test_a_timeout_names_the_last_error_of_broker_and_connection() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, request_timeout_ms=250, delivery_timeout_ms=250) as producer,
    ):
        await prove(producer)
        cluster.cut_next("produce", count=None)
        error = await failure(producer.send_nowait(TOPIC, b"42"))
        assert isinstance(error, KafkaTimeoutError)
        assert error.waited is not None and error.waited >= 0.25
        assert "NETWORK_EXCEPTION" in str(error)
        assert error.attempts > 1
        cluster.clear_faults()


async def test_a_port_that_does_not_speak_kafka_is_reported_at_start() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read(-1)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = ProducerConfig(bootstrap_servers=f"127.0.0.1:{port}", **FAST).replace(max_block_ms=60)
    with pytest.raises(KafkaConnectionError, match="HTTP"):
        await Producer(config).start()
    server.close()
    await server.wait_closed()


async def test_a_host_that_does_not_resolve_is_reported_at_start() -> None:
    config = ProducerConfig(bootstrap_servers="no-such-host.invalid:9092", **FAST)
    with pytest.raises(KafkaConnectionError, match=r"no-such-host\.invalid"):
        await Producer(config.replace(max_block_ms=100)).start()


async def test_a_producer_that_was_not_started_says_how() -> None:
    producer = Producer(bootstrap_servers="127.0.0.1:9092")
    with pytest.raises(ProducerNotStartedError, match="async with"):
        producer.send_nowait(TOPIC, b"42")
    with pytest.raises(ProducerNotStartedError):
        await producer.flush()


async def test_a_failing_partition_is_warned_about_once_and_logged_when_it_is_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "aioproducer")
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS, count=5)
        await producer.send_and_wait(TOPIC, b"42")
    warnings = [entry for entry in caplog.records if entry.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "stores records again" in caplog.text


async def test_a_lost_request_is_one_line_in_the_log_however_many_batches_it_carried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeCluster(topics={TOPIC: 100}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.cut_next("produce", when="before")
        deliveries = [producer.send_nowait(TOPIC, b"42", partition=id_) for id_ in range(100)]
        await asyncio.gather(*deliveries)
    warnings = [
        entry for entry in caplog.records if entry.name == "aioproducer.sending.failure_log"
    ]
    assert len(warnings) == 1
    said = warnings[0].getMessage()
    assert "99 more batches" in said
    assert "NETWORK_EXCEPTION" in said
    assert said.endswith("next: retry")


async def test_a_timeout_says_that_the_record_was_sent_and_to_which_broker() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster,
            request_timeout_ms=1_000,
            delivery_timeout_ms=1_000,
            retry_backoff_ms=200,
            retry_backoff_max_ms=200,
        ) as producer,
    ):
        await prove(producer)
        # It is the second request that is in flight at the end: its own timeout is later.
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS)
        cluster.hang("produce", count=1)
        text = str(await failure(producer.send_nowait(TOPIC, b"42")))
        assert "sent, and not answered yet" in text
        assert f"broker 0 at 127.0.0.1:{cluster.ports[0]}" in text
        assert "after 2 attempts" in text
        cluster.release()


async def test_a_timeout_between_two_attempts_says_the_error_that_led_to_the_next() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster,
            request_timeout_ms=400,
            delivery_timeout_ms=400,
            retry_backoff_ms=60_000,
            retry_backoff_max_ms=60_000,
        ) as producer,
    ):
        await prove(producer)
        cluster.fail_next("produce", ErrorCode.NOT_ENOUGH_REPLICAS, count=None)
        text = str(await failure(producer.send_nowait(TOPIC, b"42")))
        assert "to be sent again" in text
        assert "last broker error was NOT_ENOUGH_REPLICAS" in text
        assert f"broker 0 at 127.0.0.1:{cluster.ports[0]}" in text
        assert "after 1 attempt)" in text
        cluster.clear_faults()


async def test_a_timeout_without_a_leader_says_so() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, request_timeout_ms=400, delivery_timeout_ms=400) as producer,
    ):
        cluster.move_leader(TOPIC, 0, -1)
        text = str(await failure(producer.send_nowait(TOPIC, b"42")))
        assert "never sent, and its partition has no leader" in text
        assert "The record was not stored." in text
        assert "broker -1" not in text


async def test_a_full_buffer_names_the_slowest_broker() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, RECORD_BY_RECORD, buffer_memory=4_000, max_block_ms=400) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        cluster.hang("produce", node_id=1)
        for _ in range(6):
            producer.send_nowait(TOPIC, b"x" * 400, partition=1)
        with pytest.raises(BufferExhaustedError) as caught:
            for _ in range(9):
                producer.send_nowait(TOPIC, b"x" * 400, partition=1)
        with pytest.raises(KafkaTimeoutError) as timeout:
            await producer.send(TOPIC, b"x" * 400, partition=1)
        for text in (str(caught.value), str(timeout.value)):
            assert f"slowest broker: 1 at 127.0.0.1:{cluster.ports[1]}" in text
            assert "with 5 in flight, silent for" in text
        cluster.release()


async def test_a_record_too_large_names_its_size_the_limit_and_the_option() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        with pytest.raises(RecordTooLargeError) as caught:
            producer.send_nowait(TOPIC, bytes(5_000_000))
        error = caught.value
        assert error.limit == 4_194_304
        assert error.limit_name == "max_request_size"
        for part in (TOPIC, str(error.size), str(error.limit), error.limit_name):
            assert part in str(error)
        assert "max.message.bytes" in str(error)


async def test_a_record_too_large_for_the_broker_gives_both_sizes() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}, message_max_bytes=500) as cluster,
        producing(cluster, compression_type="gzip") as producer,
    ):
        value = random.Random(1).randbytes(1_000) + bytes(2_000)
        error = await failure(producer.send_nowait(TOPIC, value))
        assert isinstance(error, MessageTooLargeError)
        assert error.size > 3_000
        assert error.compressed_size is not None
        assert 1_000 < error.compressed_size < 2_000
        assert f"{error.size} bytes, {error.compressed_size} when compressed" in str(error)
        assert "message.max.bytes" in str(error)


async def test_a_refused_record_gives_its_position_and_the_brokers_words_within_bounds() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        cluster.fail_next(
            "produce", ErrorCode.INVALID_RECORD, record_errors={1: "no\nkey " + "x" * 10_000}
        )
        _, guilty = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(2)]
        text = str(await failure(guilty))
        assert "no key xxx" in text
        assert "(record 1 of its batch)" in text
        assert len(text) < 1_000


async def test_an_unknown_partition_is_refused_with_how_many_there_are() -> None:
    async with FakeCluster(topics={TOPIC: 3}) as cluster, producing(cluster) as producer:
        error = await failure(producer.send_nowait(TOPIC, b"42", partition=9))
        assert isinstance(error, InvalidPartitionError)
        assert error.partition_count == 3
        assert "3 partitions" in str(error)


async def test_an_unknown_topic_that_we_may_not_create_names_both_switches() -> None:
    async with (
        FakeCluster() as cluster,
        producing(cluster, allow_auto_create_topics=False, max_block_ms=400) as producer,
    ):
        text = str(await failure(producer.send_nowait("missing", b"42")))
        for part in (
            "'missing'",
            " s (max_block_ms)",
            "auto.create.topics.enable",
            "allow_auto_create_topics",
            "Describe",
        ):
            assert part in text


async def test_an_unknown_topic_names_the_last_error_of_its_metadata() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, max_block_ms=400) as producer,
    ):
        cluster.fail_next("metadata", ErrorCode.LEADER_NOT_AVAILABLE, count=None, topic=TOPIC)
        error = await failure(producer.send_nowait(TOPIC, b"42"))
        assert isinstance(error, KafkaTimeoutError)
        assert "LEADER_NOT_AVAILABLE" in str(error)
        assert repr(TOPIC) in str(error)
        cluster.clear_faults()


async def test_each_bootstrap_server_has_its_own_reason() -> None:
    async with FakeCluster() as cluster:
        gone = cluster.bootstrap_servers
        await cluster.stop_broker(0)
        config = ProducerConfig(
            bootstrap_servers=f"no-such-host.invalid:9092,{gone}", **FAST
        ).replace(max_block_ms=300)
        with pytest.raises(KafkaConnectionError) as caught:
            await Producer(config).start()
    assert "cannot be resolved" in caught.value.reasons["no-such-host.invalid:9092"]
    assert caught.value.reasons[gone] == "connection refused"
