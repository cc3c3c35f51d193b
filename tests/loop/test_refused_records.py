"""One bad record fails itself only, and one that is too large teaches what fits."""

from __future__ import annotations

import asyncio

import pytest

from aioproducer import KafkaError
from aioproducer.errors import InvalidRecordError, MessageTooLargeError
from aioproducer.testing import FakeCluster
from tests.support.producing import (
    FAST,
    TOPIC,
    failure,
    outcome,
    producing,
    prove,
    sender_of,
    sequences,
    values,
)


@pytest.mark.parametrize("bad", [{0}, {99}, {30, 31, 64}, set(range(0, 100, 2)), set(range(100))])
@pytest.mark.parametrize("compression", ["none", "lz4"])
async def test_records_without_key_for_a_compacted_topic_fail_alone(
    bad: set[int], compression: str
) -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, compacted=True)
        async with producing(cluster, compression_type=compression) as producer:  # type: ignore[arg-type]  # pyright: ignore
            await producer.send_and_wait(TOPIC, b"warm", key=b"k")
            deliveries = [
                producer.send_nowait(TOPIC, b"%d" % n, key=None if n in bad else b"k")
                for n in range(100)
            ]
            results = [await outcome(delivery) for delivery in deliveries]
            good = [n for n in range(100) if n not in bad]
            assert {n for n, each in enumerate(results) if isinstance(each, KafkaError)} == bad
            assert values(cluster) == [b"warm", *(b"%d" % n for n in good)]
            offsets = [each.offset for each in results if not isinstance(each, KafkaError)]
            assert offsets == list(range(1, len(good) + 1))
            await producer.send_and_wait(TOPIC, b"after", key=b"k")


async def test_the_hook_for_errors_hears_once_of_the_records_of_a_batch_that_are_refused() -> None:
    heard: list[tuple[str, int]] = []
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, compacted=True)
        async with producing(
            cluster, on_error=lambda error, count: heard.append((type(error).__name__, count))
        ) as producer:
            await producer.send_and_wait(TOPIC, b"warm", key=b"k")
            deliveries = [
                producer.send_nowait(TOPIC, b"%d" % n, key=b"k" if n % 2 else None)
                for n in range(100)
            ]
            await asyncio.wait([asyncio.ensure_future(outcome(each)) for each in deliveries])
            await asyncio.sleep(0)
    assert heard == [("InvalidRecordError", 50)]


async def test_the_error_of_a_refused_record_says_what_to_do() -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, compacted=True)
        async with producing(cluster) as producer:
            error = await failure(producer.send_nowait(TOPIC, b"42"))
            assert isinstance(error, InvalidRecordError)
            assert not error.possibly_persisted
            assert "compacted topic" in str(error)


async def test_refused_records_with_others_behind_them_in_flight_leave_all_in_order() -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, compacted=True)
        async with producing(cluster, {**FAST, "batch_size": 400}) as producer:
            await producer.send_and_wait(TOPIC, b"warm", key=b"k")
            bad = {5, 17, 40, 41, 90}
            notified: list[int] = []
            deliveries = [
                producer.send_nowait(
                    TOPIC,
                    b"%d" % n,
                    key=None if n in bad else b"k",
                    on_delivery=lambda metadata, error, n=n: notified.append(n),
                )
                for n in range(100)
            ]
            results = [await outcome(delivery) for delivery in deliveries]
            assert {n for n, each in enumerate(results) if isinstance(each, KafkaError)} == bad
            good = [n for n in range(100) if n not in bad]
            assert values(cluster)[1:] == [b"%d" % n for n in good]
            # Whoever awaits may be woken before the callbacks of the records behind its own.
            await asyncio.sleep(0)
            assert [n for n in notified if n not in bad] == good


async def test_without_idempotence_the_others_are_stored_once() -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, compacted=True)
        async with producing(cluster, acks=1, enable_idempotence=False) as producer:
            await producer.send_and_wait(TOPIC, b"warm", key=b"k")
            deliveries = [
                producer.send_nowait(TOPIC, b"%d" % n, key=None if n == 3 else b"k")
                for n in range(6)
            ]
            results = [await outcome(delivery) for delivery in deliveries]
            assert isinstance(results[3], InvalidRecordError)
            assert sorted(values(cluster)) == sorted([b"warm", b"0", b"1", b"2", b"4", b"5"])


async def test_a_flush_waits_for_those_that_are_sent_again() -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, compacted=True)
        async with producing(cluster) as producer:
            await producer.send_and_wait(TOPIC, b"warm", key=b"k")
            deliveries = [
                producer.send_nowait(TOPIC, b"%d" % n, key=None if n == 1 else b"k")
                for n in range(3)
            ]
            await producer.flush()
            assert all(delivery.done() for delivery in deliveries)


# ---- too large

LIMIT = 20_000


async def test_a_topics_limit_is_learnt_from_its_first_refusals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, message_max_bytes=LIMIT)
        async with producing(cluster, batch_size=200_000) as producer:
            await prove(producer)
            cluster.delay("produce", 0.002)
            deliveries = [await producer.send(TOPIC, b"x" * 500) for _ in range(4_000)]
            assert [(await delivery).offset for delivery in deliveries] == list(range(1, 4_001))
            on_the_wire = sum(request.size for request in cluster.requests_of("produce"))
            # What was on its way at the first refusal, and the search for a size that fits.
            assert on_the_wire < 2 * 4_000 * 515
        said = [line for line in caplog.messages if "max.message.bytes" in line]
        assert len(said) == 1


async def test_some_records_that_are_too_large_cost_few_requests_epochs_and_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, message_max_bytes=1_000)
        async with producing(cluster) as producer:
            await prove(producer)
            deliveries = [
                await producer.send(TOPIC, b"x" * (2_000 if n % 50 == 0 else 10))
                for n in range(1_000)
            ]
            results = [await outcome(delivery) for delivery in deliveries]
            failed = [n for n, each in enumerate(results) if isinstance(each, KafkaError)]
            assert failed == list(range(0, 1_000, 50))
            assert all(isinstance(results[n], MessageTooLargeError) for n in failed)
            assert producer.metrics()["epoch_bump_total"] == 0
        warnings = [entry for entry in caplog.records if entry.levelname == "WARNING"]
        assert len(warnings) <= 4
        assert "too large" in caplog.text.lower() or "MESSAGE_TOO_LARGE" in caplog.text


async def test_a_limit_that_was_raised_is_found_after_a_while() -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, message_max_bytes=1_000)
        async with producing(cluster) as producer:
            await prove(producer)
            too_large = b"x" * 2_000
            assert isinstance(
                await failure(producer.send_nowait(TOPIC, too_large)), MessageTooLargeError
            )
            asked = len(cluster.requests_of("produce"))
            error = await failure(producer.send_nowait(TOPIC, too_large))
            assert "a moment ago" in str(error)
            assert len(cluster.requests_of("produce")) == asked

            cluster._topic(TOPIC).partitions[0].log.limits = cluster._state.limits_of_new_topic()  # pyright: ignore
            topic = sender_of(producer).topics.by_name[TOPIC]
            topic.probe_limit_at = 0.0
            assert (await producer.send_and_wait(TOPIC, too_large)).offset == 1


async def test_what_waits_behind_a_refusal_is_split_before_it_is_sent() -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, message_max_bytes=LIMIT)
        async with producing(cluster, batch_size=100_000) as producer:
            await prove(producer)
            cluster.hang("produce", count=1)
            deliveries = [producer.send_nowait(TOPIC, b"x" * 1_000) for _ in range(1_500)]
            await cluster.received("produce", 2)
            cluster.release()
            await asyncio.gather(*deliveries)
            requests = cluster.requests_of("produce")
            refused = [request for request in requests if request.size > LIMIT + 1_000]
            # Five were on their way; then halves, of each only the first.
            assert len(refused) <= 12
            assert len(sequences(cluster)) > 1_500_000 / LIMIT
