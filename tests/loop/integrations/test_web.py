"""What all frameworks share: the life of a producer, SIGTERM, readiness, and errors as HTTP's."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from aioproducer import (
    BufferExhaustedError,
    ClusterAuthorizationFailedError,
    InvalidPartitionError,
    InvalidRecordError,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageTooLargeError,
    Producer,
    ProducerClosedError,
    ProducerConfig,
    RecordTooLargeError,
    SerializationError,
    TopicAuthorizationFailedError,
    UndeliveredRecord,
    UnknownTopicOrPartitionError,
    WrongEventLoopError,
)
from aioproducer.errors import RequestTimedOutError
from aioproducer.integrations.web import drain_on_sigterm, http_error, open_producer, readiness
from aioproducer.testing import FakeCluster
from tests.support.producing import TOPIC, producing, until, values
from tests.support.web import config_for

CONFIG = ProducerConfig(bootstrap_servers="localhost:9092")

# ---- the life of a producer


async def test_a_config_or_a_function_opens_a_producer_and_the_end_closes_it() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        config = config_for(cluster)
        for source in (config, lambda: config, lambda: Producer(config)):
            async with open_producer(source) as producer:
                producer.send_nowait(TOPIC, b"42")
            assert producer.status().state == "closed"
    assert len(values(cluster)) == 3


async def test_a_producer_that_was_started_elsewhere_is_refused_with_what_to_do() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        with pytest.raises(WrongEventLoopError, match=r"not new but open.*after the fork"):
            async with open_producer(lambda: producer):
                pass


@pytest.mark.parametrize("what", ["instance", "text"])
async def test_what_is_no_source_is_refused(what: str) -> None:
    source: Any = Producer(bootstrap_servers="x:1") if what == "instance" else "x:1"
    with pytest.raises(TypeError, match="give a config"):
        async with open_producer(source):
            pass


async def test_a_start_of_another_name_is_refused() -> None:
    start: Any = "later"
    with pytest.raises(ValueError, match="'later'"):
        async with open_producer(ProducerConfig(bootstrap_servers="x:1"), start=start):
            pass


@pytest.mark.parametrize("option", ["close_timeout", "drain_seconds"])
@pytest.mark.parametrize(
    ("value", "refused"),
    [
        ("10", TypeError),
        (True, TypeError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
    ],
)
async def test_a_time_that_cannot_be_is_refused_before_the_producer_is_made(
    option: str, value: Any, refused: type[Exception]
) -> None:
    def source() -> ProducerConfig:
        raise AssertionError("the source was asked")

    times: dict[str, Any] = {option: value}
    with pytest.raises(refused, match=option):
        async with open_producer(source, **times):
            pass


def test_a_time_to_drain_that_cannot_be_is_refused() -> None:
    seconds: Any = "5"
    with pytest.raises(TypeError, match="'5'"), drain_on_sigterm(Producer(CONFIG), seconds):
        pass


async def test_a_start_that_fails_says_why_and_one_in_the_background_goes_on() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.refuse(0)
        config = config_for(cluster, max_block_ms=100)
        with pytest.raises(KafkaConnectionError, match="connection refused"):
            async with open_producer(config):
                pass
        async with open_producer(config, start="background") as producer:
            assert readiness([producer]).status == 503
            await cluster.accept(0)
            await until(lambda: readiness([producer]).status == 200)


async def test_a_close_within_its_bound_hands_over_what_it_could_not_deliver() -> None:
    handed_over: list[Sequence[UndeliveredRecord]] = []
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        config = config_for(cluster, on_undelivered=handed_over.append, delivery_timeout_ms=60_000)
        async with asyncio.timeout(5):
            async with open_producer(config, close_timeout=0.1) as producer:
                await producer.partitions_for(TOPIC)
                cluster.hang("produce")
                producer.send_nowait(TOPIC, b"42")
                await cluster.received("produce")
        assert [each.record.value for each in handed_over[0]] == [b"42"]


# ---- SIGTERM


@pytest.fixture
def heard() -> Generator[list[int]]:
    """What the server's handler of SIGTERM hears."""
    signals: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: signals.append(signum))
    yield signals
    signal.signal(signal.SIGTERM, before)


async def test_on_sigterm_the_producer_drains_and_later_the_server_hears_of_it(
    heard: list[int],
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        server = signal.getsignal(signal.SIGTERM)
        async with open_producer(config_for(cluster), drain_seconds=0.2) as producer:
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: producer.status().state == "draining")
            assert heard == []
            assert readiness([producer]) == (503, {"status": "draining"})
            await producer.send_and_wait(TOPIC, b"42")
            await until(lambda: heard == [signal.SIGTERM])
        assert signal.getsignal(signal.SIGTERM) is server


async def test_a_second_sigterm_does_not_wait(heard: list[int]) -> None:
    async with FakeCluster() as cluster, producing(cluster) as producer:
        with drain_on_sigterm(producer, 60):
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: producer.status().state == "draining")
            assert heard == []
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: heard)


async def test_beside_a_handler_of_the_loop_the_producer_drains_too() -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    try:
        async with FakeCluster() as cluster, producing(cluster) as producer:
            with drain_on_sigterm(producer):
                os.kill(os.getpid(), signal.SIGTERM)
                await until(lambda: producer.status().state == "draining")
                await ended.wait()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def test_outside_of_the_main_thread_nothing_is_done() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found: list[object] = []

    async def watch() -> None:
        with drain_on_sigterm(Producer(bootstrap_servers="localhost:9092")):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=lambda: asyncio.run(watch()))
    thread.start()
    thread.join(5)
    assert found == [before]


# ---- readiness


async def test_readiness_is_that_of_all_producers_and_shows_details_only_if_asked() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        assert readiness([producer]) == (200, {"status": "ready"})
        other: Producer[bytes, bytes] = Producer(bootstrap_servers="localhost:9092")
        assert readiness([producer, other]) == (503, {"status": "not ready"})
        assert readiness([]).status == 503
        status, body = readiness([producer], details=True)
        assert status == 200
        assert body["producers"][0]["brokers_connected"] == 1


# ---- errors


def pending(error: KafkaError) -> KafkaError:
    error.is_pending = True
    return error


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (BufferExhaustedError(), 503, 5),
        (KafkaTimeoutError("late"), 503, 5),
        (KafkaConnectionError("gone"), 503, 5),
        (ProducerClosedError("closed"), 503, 1),
        (ProducerClosedError("closed", possibly_persisted=True), 504, None),
        (KafkaTimeoutError("late", possibly_persisted=True), 504, None),
        (pending(KafkaTimeoutError("late")), 504, None),
        (pending(UnknownTopicOrPartitionError()), 504, None),
        (RequestTimedOutError(), 504, None),
        (RecordTooLargeError(size=5, limit=4), 413, None),
        (MessageTooLargeError(), 413, None),
        (InvalidRecordError("secret-broker:9092"), 422, None),
    ],
)
def test_an_error_that_a_client_can_act_on_has_a_status(
    error: KafkaError, status: int, retry_after: int | None
) -> None:
    found = http_error(error)
    assert found is not None
    assert (found.status, found.retry_after) == (status, retry_after)
    assert found.headers.get("Retry-After") == (None if retry_after is None else str(retry_after))
    assert found.body["status"] == status
    assert "secret-broker" not in str(found.body)


@pytest.mark.parametrize(
    "error",
    [
        TopicAuthorizationFailedError(),
        ClusterAuthorizationFailedError(),
        SerializationError(topic="t"),
        InvalidTopicError(),
        InvalidPartitionError(),
        UnknownTopicOrPartitionError(),
        KafkaError("the partitioner raised"),
    ],
)
def test_what_is_the_services_own_fault_stays_a_500(error: KafkaError) -> None:
    assert http_error(error) is None


async def test_a_topic_that_does_not_exist_is_a_500_once_its_record_is_given_up() -> None:
    async with (
        FakeCluster(auto_create_topics=False) as cluster,
        producing(cluster) as producer,
    ):
        with pytest.raises(UnknownTopicOrPartitionError) as caught:
            await producer.send_and_wait("missing", b"42", deadline=0.1)
        assert http_error(caught.value) is None
