"""Which versions are spoken with a broker, however it takes being asked for the newest.

Kafka refuses a version of ApiVersions that it does not know in version 0. Others refuse it in forms
of their own, or hang up.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Unpack

import pytest

from aioproducer import Producer
from aioproducer.config import ProducerOptions
from aioproducer.errors import KafkaConnectionError
from aioproducer.testing import (
    EVENT_HUBS,
    KROXYLICIOUS,
    LIBRDKAFKA_MOCK,
    TANSU,
    Cut,
    FakeCluster,
    FakeRequest,
    FakeResponse,
    Habits,
)
from aioproducer.testing.faults import Action, Mutate
from tests.support.producing import FAST, TOPIC, producing, prove, values

GARBAGE = b"\xfe" * 20


def asked(cluster: FakeCluster) -> list[tuple[int, int]]:
    """The connection and the version of each ApiVersions request."""
    return [
        (request.connection, request.version) for request in cluster.requests_of("api_versions")
    ]


def newer_than_0(action: Action) -> Callable[[FakeRequest], Action | None]:
    """Treat each ApiVersions request for a version above 0."""

    def treat(request: FakeRequest) -> Action | None:
        return action if request.api == "api_versions" and request.version > 0 else None

    return treat


@pytest.mark.parametrize(
    ("habits", "first_asked"),
    [
        pytest.param(KROXYLICIOUS, [(1, 4), (1, 3)], id="Kroxylicious"),
        pytest.param(LIBRDKAFKA_MOCK, [(1, 4), (1, 0)], id="librdkafka's mock"),
        pytest.param(EVENT_HUBS, [(1, 4), (2, 0)], id="Event Hubs"),
        pytest.param(TANSU, [(1, 4)], id="Tansu"),
    ],
)
async def test_brokers_that_are_not_kafka_are_started_with_and_written_to(
    habits: Habits, first_asked: list[tuple[int, int]]
) -> None:
    async with FakeCluster(topics={TOPIC: 2}, habits=habits) as cluster:
        async with producing(cluster) as producer:
            for number in range(10):
                await producer.send_and_wait(TOPIC, b"%d" % number, partition=0)
        assert values(cluster) == [b"%d" % number for number in range(10)]
        assert asked(cluster)[: len(first_asked)] == first_asked
        assert len(set(asked(cluster))) == len(first_asked)


async def test_a_broker_that_offers_more_than_it_takes_is_asked_down_to_version_0() -> None:
    async with FakeCluster() as cluster:
        # UNSUPPORTED_VERSION, and ApiVersions 0 to 9.
        refusal = FakeResponse(struct.pack(">hihhh", 35, 1, 18, 0, 9))
        cluster.on_request(lambda request: refusal if request.api == "api_versions" else None)
        with pytest.raises(KafkaConnectionError, match="UNSUPPORTED_VERSION"):
            await Producer(
                bootstrap_servers=cluster.bootstrap_servers, **FAST | {"max_block_ms": 300}
            ).start()
        first = [version for connection, version in asked(cluster) if connection == 1]
        assert first == [4, 3, 2, 1, 0]


async def test_a_request_called_invalid_is_made_in_version_0() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        invalid = FakeResponse(struct.pack(">hbib", 42, 1, 0, 0))
        cluster.on_request(newer_than_0(invalid))
        async with producing(cluster) as producer:
            await prove(producer)
        assert asked(cluster) == [(1, 4), (1, 0)]


async def test_a_refusal_in_a_strange_form_makes_no_pause() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        # Read as version 4 it has an empty list, and tells a pause of twenty minutes.
        refusal = FakeResponse(bytes.fromhex("0023 01 00120000 0002 00000000"))
        cluster.on_request(newer_than_0(refusal))
        async with producing(cluster) as producer:
            await prove(producer)


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(Cut(), id="reset"),
        pytest.param(Mutate(lambda answer: answer[:4] + GARBAGE), id="garbage"),
        pytest.param(FakeResponse(b""), id="empty"),
        pytest.param(Mutate(lambda frame: b"\xff\xff\xff\xff", framed=True), id="impossible size"),
    ],
)
async def test_a_broker_that_hangs_up_on_newer_versions_is_asked_once_more_for_version_0(
    action: Action, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.on_request(newer_than_0(action))
        async with producing(cluster) as producer:
            await prove(producer)
        assert asked(cluster) == [(1, 4), (2, 0)]
    assert [line for line in caplog.records if line.levelno >= logging.WARNING] == []


async def test_a_broker_that_refuses_and_then_hangs_up_is_asked_once_more_for_version_0() -> None:
    async with FakeCluster(topics={TOPIC: 1}, habits=LIBRDKAFKA_MOCK) as cluster:
        cut = Cut()
        cluster.on_request(
            lambda request: cut if (request.connection, request.version) == (1, 0) else None
        )
        async with producing(cluster) as producer:
            await prove(producer)
        assert asked(cluster) == [(1, 4), (1, 0), (2, 0)]


async def test_a_broker_that_hung_up_is_asked_for_version_0_at_once_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeCluster(topics={TOPIC: 1}, habits=EVENT_HUBS) as cluster:
        async with producing(cluster) as producer:
            await prove(producer)
            cluster.cut()
            await prove(producer)
        assert asked(cluster)[:3] == [(1, 4), (2, 0), (3, 0)]
        assert {version for _, version in asked(cluster)[2:]} == {0}

    monkeypatch.setattr("aioproducer.network.connecting._ASK_FOR_V0", 0.0)
    async with FakeCluster(topics={TOPIC: 1}, habits=EVENT_HUBS) as cluster:
        async with producing(cluster) as producer:
            await prove(producer)
            cluster.cut()
            await prove(producer)
        assert asked(cluster)[:3] == [(1, 4), (2, 0), (3, 4)]


async def test_a_broker_that_restarted_is_asked_for_the_newest_version_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aioproducer.network.connecting._ASK_FOR_V0", 0.05)
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.cut_next("api_versions")
        async with producing(cluster) as producer:
            await prove(producer)
            await asyncio.sleep(0.06)
            cluster.cut()
            await prove(producer)
        assert asked(cluster)[:3] == [(1, 4), (2, 0), (3, 4)]


async def test_of_a_broker_that_hangs_up_on_version_0_too_nothing_is_remembered() -> None:
    async with FakeCluster() as cluster:
        cluster.cut_next("api_versions", count=None)
        with pytest.raises(KafkaConnectionError) as caught:
            await Producer(
                bootstrap_servers=cluster.bootstrap_servers, **FAST | {"max_block_ms": 300}
            ).start()
        versions = [version for _, version in asked(cluster)]
        assert versions[:4] == [4, 0, 4, 0]
    assert "before it told its API versions: is TLS missing" in str(caught.value)


async def test_a_broker_without_topic_ids_gets_topic_names_and_leaders_that_move() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 1}, habits=EVENT_HUBS) as cluster,
        producing(cluster) as producer,
    ):
        for number in range(6):
            await producer.send_and_wait(TOPIC, b"%d" % number)
            cluster.move_leader(TOPIC, 0, number % 2)
        assert values(cluster) == [b"%d" % number for number in range(6)]
        assert {request.version for request in cluster.requests_of("produce")} == {12}
        assert {request.version for request in cluster.requests_of("metadata")} == {5}


# ---- peers that are no brokers


@asynccontextmanager
async def peer(greeting: bytes) -> AsyncGenerator[tuple[str, set[int]]]:
    """A port that greets all alike, and the versions of ApiVersions that it was asked for."""
    versions: set[int] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        request = await reader.read(-1)
        if request:
            versions.add(int.from_bytes(request[6:8], "big"))
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", versions
    finally:
        server.close()
        await server.wait_closed()


async def start_failing(address: str, **more: Unpack[ProducerOptions]) -> str:
    """The error of a start that must fail."""
    options: ProducerOptions = {**FAST, "max_block_ms": 100, **more}
    with pytest.raises(KafkaConnectionError) as caught:
        await Producer(bootstrap_servers=address, **options).start()
    return str(caught.value)


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        pytest.param(
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "The port is not Kafka's: check it in bootstrap_servers",
            id="HTTP",
        ),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x46", "Set security_protocol to SSL", id="TLS"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", "not a Kafka broker", id="text"),
    ],
)
async def test_a_peer_that_speaks_something_else_is_reported_as_such_and_not_asked_for_less(
    greeting: bytes, expected: str
) -> None:
    async with peer(greeting) as (address, versions):
        error = await start_failing(address)
        assert expected in error
        assert "SASL" not in error.replace("SASL_SSL", "")
        assert versions <= {4}


@pytest.mark.parametrize(
    ("timeout_ms", "max_block_ms", "expected"),
    [(50, 1_000, "gave no answer within 0.05 s: "), (10_000, 100, "gave no answer: ")],
)
async def test_a_port_that_accepts_and_says_nothing_is_reported_as_such(
    timeout_ms: int, max_block_ms: int, expected: str
) -> None:
    # Also when `start` gives up before the attempt to connect does.
    async with peer(b"") as (address, _):
        error = await start_failing(
            address,
            socket_connection_setup_timeout_ms=timeout_ms,
            max_block_ms=max_block_ms,
        )
    assert f"{address}: accepted the connection and {expected}" in error
    assert "is TLS or SASL expected there, is it no Kafka broker, or does it hang?" in error
