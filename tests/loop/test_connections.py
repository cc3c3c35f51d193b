"""Connections: versions, brokers that send nonsense or nothing, and finding the cluster again."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from aioproducer import Producer, ProducerConfig
from aioproducer.errors import (
    KafkaConnectionError,
    KafkaTimeoutError,
    NetworkError,
    UnsupportedVersionError,
)
from aioproducer.protocol.metadata import METADATA, MetadataRequest
from aioproducer.testing import (
    ApiName,
    ErrorCode,
    FakeCluster,
    FakeRequest,
    FakeResponse,
    MetadataResponse,
    ProduceResponse,
)
from aioproducer.testing.state import Address
from tests.support.producing import (
    FAST,
    TOPIC,
    failure,
    producing,
    prove,
    sender_of,
    sent,
    until,
    values,
)


@pytest.mark.parametrize("version", range(7, 14))
async def test_every_produce_version_is_spoken(version: int) -> None:
    async with FakeCluster(topics={TOPIC: 1}, max_versions={"produce": version}) as cluster:
        async with producing(cluster) as producer:
            cluster.fail_next("produce", ErrorCode.NOT_LEADER_OR_FOLLOWER, message="moved")
            assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0
        assert {request.version for request in cluster.requests_of("produce")} == {version}


@pytest.mark.parametrize("version", range(4, 14))
async def test_every_metadata_version_is_spoken(version: int) -> None:
    async with FakeCluster(max_versions={"metadata": version}) as cluster:
        async with producing(cluster) as producer:
            assert (await producer.send_and_wait("made-on-demand", b"42")).offset == 0
        assert {request.version for request in cluster.requests_of("metadata")} == {version}


@pytest.mark.parametrize("version", range(5))
async def test_an_older_api_versions_is_fallen_back_to(version: int) -> None:
    def refuse_newer(request: FakeRequest) -> FakeResponse | None:
        if request.api != "api_versions" or request.version <= version:
            return None
        # In version 0, which every client can read: UNSUPPORTED_VERSION, and what is offered.
        return FakeResponse(struct.pack(">hihhh", 35, 1, 18, 0, version))

    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.on_request(refuse_newer)
        async with producing(cluster) as producer:
            assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0
        assert version in {request.version for request in cluster.requests_of("api_versions")}


async def test_api_versions_below_zero_are_asked_for_as_zero() -> None:
    def refuse_newer(request: FakeRequest) -> FakeResponse | None:
        if request.api != "api_versions" or request.version == 0:
            return None
        return FakeResponse(struct.pack(">hihhh", 35, 1, 18, 0, -7))

    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.on_request(refuse_newer)
        async with producing(cluster) as producer:
            assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0


@pytest.mark.parametrize("api", ["produce", "init_producer_id"])
async def test_a_broker_without_the_needed_api_fails_records_with_the_reason(
    api: ApiName,
) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}, max_versions={api: -1}) as cluster,
        producing(cluster) as producer,
    ):
        error = await failure(producer.send_nowait(TOPIC, b"42"))
        assert error.name == "UNSUPPORTED_VERSION"
        assert not error.possibly_persisted


async def test_a_broker_too_old_for_us_is_reported_at_start() -> None:
    async with FakeCluster(max_versions={"metadata": 3}) as cluster:
        producer = Producer(ProducerConfig(bootstrap_servers=cluster.bootstrap_servers, **FAST))
        with pytest.raises(UnsupportedVersionError, match="No version of Metadata in common"):
            await producer.start()


def _other_correlation_id(answer: bytes) -> bytes:
    return struct.pack(">i", struct.unpack_from(">i", answer)[0] + 1) + answer[4:]


def _huge(frame: bytes) -> bytes:
    return struct.pack(">i", 2**31 - 1) + frame[4:]


LIES: dict[str, tuple[Callable[[bytes], bytes], bool]] = {
    "correlation id": (_other_correlation_id, False),
    "garbage": (lambda answer: answer[:4] + b"\xff" * 40, False),
    "truncated": (lambda answer: answer[:-9], False),
    "too short": (lambda answer: answer[:2], False),
    "huge size": (_huge, True),
    "negative size": (lambda frame: b"\xff\xff\xff\xff" + frame[4:], True),
    "http": (lambda frame: b"HTTP/1.1 400 Bad Request\r\n", True),
}


@pytest.mark.parametrize("lie", LIES)
async def test_what_is_no_response_costs_the_connection_and_the_record_is_stored_once(
    lie: str,
) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        mutate, framed = LIES[lie]
        cluster.mutate_next("produce", mutate, framed=framed)

        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
        assert values(cluster) == [b"first", b"42"]


@pytest.mark.parametrize("api", ["api_versions", "metadata", "init_producer_id"])
async def test_garbage_while_connecting_is_survived(api: ApiName) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.mutate_next(api, lambda answer: answer[:4] + b"\xfe" * 20)
        async with producing(cluster) as producer:
            assert (await producer.send_and_wait(TOPIC, b"42")).offset == 0


async def test_a_partition_left_out_of_the_response_is_sent_again() -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        for partition in range(2):
            await prove(producer, partition)

        def leave_one_out(answer: ProduceResponse) -> None:
            answer.partitions.pop()

        cluster.edit_next("produce", leave_one_out)
        deliveries = [producer.send_nowait(TOPIC, b"42", partition=index) for index in range(2)]

        assert [(await delivery).offset for delivery in deliveries] == [1, 1]
        assert values(cluster) == [b"first", b"42"] * 2


async def test_partitions_answered_twice_or_unasked_are_ignored_with_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeCluster(topics={TOPIC: 2}) as cluster, producing(cluster) as producer:
        await prove(producer)

        def say_more(answer: ProduceResponse) -> None:
            (own,) = answer.partitions
            twice = type(own)(own.topic, own.topic_id, own.partition, error_code=87)
            other = type(own)(own.topic, own.topic_id, 1, base_offset=77)
            stranger = type(own)("stranger", bytes(range(16)), 0, base_offset=99)
            answer.partitions += [twice, other, stranger]

        cluster.edit_next("produce", say_more)
        assert (await producer.send_and_wait(TOPIC, b"42", partition=0)).offset == 1
        assert (await producer.send_and_wait(TOPIC, b"43", partition=0)).offset == 2
        (line,) = [line for line in caplog.messages if "not asked about" in line]
        assert "answered 3 times" in line


async def test_a_hung_broker_loses_its_connection_and_the_record_goes_on() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, request_timeout_ms=100) as producer,
    ):
        await prove(producer)
        cluster.hang("produce", count=1, stored=True)

        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
        first, *_, last = cluster.requests_of("produce")
        assert first.connection != last.connection
        assert values(cluster) == [b"first", b"42"]


async def test_a_hung_broker_delays_no_other_brokers_records() -> None:
    async with (
        FakeCluster(brokers=3, topics={TOPIC: 3}) as cluster,
        producing(cluster, request_timeout_ms=1_000) as producer,
    ):
        for partition in range(3):
            await prove(producer, partition)
        cluster.hang("any", node_id=0)
        stuck = producer.send_nowait(TOPIC, b"stuck", partition=0)
        for partition in (1, 2) * 10:
            await producer.send_and_wait(TOPIC, b"42", partition=partition)

        assert not stuck.done()
        assert cluster.connections[1] == cluster.connections[2] == 1
        cluster.release()
        assert (await stuck).offset == 1


async def test_a_broker_that_stops_and_starts_again_gets_the_records() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        await cluster.stop_broker(1, move_leaders=False)
        delivery = producer.send_nowait(TOPIC, b"42", partition=1)
        await producer.send_and_wait(TOPIC, b"43", partition=0)
        assert not delivery.done()
        await cluster.start_broker(1)
        assert (await delivery).offset == 1


async def test_when_all_brokers_are_gone_and_back_everything_is_delivered_in_order() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        await cluster.stop_broker(0)
        await cluster.stop_broker(1)
        deliveries = [
            producer.send_nowait(TOPIC, b"%d" % index, partition=index % 2) for index in range(20)
        ]
        await cluster.start_broker(1)
        await cluster.start_broker(0)
        for delivery in deliveries:
            await delivery
        for partition in range(2):
            expected = [b"%d" % index for index in range(partition, 20, 2)]
            assert values(cluster, partition=partition) == [b"first", *expected]


async def test_a_cluster_that_asks_for_it_is_bootstrapped_again() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        before = len(cluster.requests_of("api_versions"))
        cluster.fail_next("metadata", ErrorCode.REBOOTSTRAP_REQUIRED)
        cluster.fail_next("produce", ErrorCode.NOT_LEADER_OR_FOLLOWER)

        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
        await cluster.received("api_versions", before + 1)


async def test_a_cluster_that_asks_for_a_new_bootstrap_at_once_is_started_with() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.fail_next("metadata", ErrorCode.REBOOTSTRAP_REQUIRED, count=2)
        async with producing(cluster) as producer:
            await producer.send_and_wait(TOPIC, b"42")


async def test_a_cluster_that_asks_for_it_is_not_bootstrapped_again_if_that_is_switched_off() -> (
    None
):
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, metadata_recovery_strategy="none") as producer,
    ):
        await prove(producer)
        connections = len(cluster.requests_of("api_versions"))
        asked = len(cluster.requests_of("metadata"))
        cluster.fail_next("metadata", ErrorCode.REBOOTSTRAP_REQUIRED)
        cluster.fail_next("produce", ErrorCode.NOT_LEADER_OR_FOLLOWER)

        assert (await producer.send_and_wait(TOPIC, b"42")).offset == 1
        # It goes on asking where it is connected.
        await cluster.received("metadata", asked + 2)
        assert len(cluster.requests_of("api_versions")) == connections


async def test_nothing_is_written_to_a_connection_that_has_failed_and_not_reported_it_yet() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        sender = sender_of(producer)
        connection = sender.cluster.connection(0)
        assert connection is not None
        transport = connection._transport  # pyright: ignore[reportPrivateUsage]
        assert transport is not None
        # As asyncio does when reading fails: `connection_lost` comes in the next turn.
        transport.abort()
        with pytest.raises(NetworkError, match="The connection is closed"):
            connection.send(METADATA, 13, MetadataRequest(), timeout=1, on_response=None)
        assert not connection.is_open
        # What was sent meanwhile is sent again, on a connection that works at once.
        delivery = producer.send_nowait(TOPIC, b"42")
        async with asyncio.timeout(1):
            assert (await delivery).offset == 1


async def test_the_system_watches_over_an_idle_connection() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        sender = sender_of(producer)
        connection = sender.cluster.connection(0)
        assert connection is not None
        transport = connection._transport  # pyright: ignore[reportPrivateUsage]
        assert transport is not None
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_an_ipv6_address_may_be_advertised_in_brackets(host: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("needs IPv6")
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        _front(cluster.ports[0], host="::1") as (address, _),
    ):
        port = int(address.rpartition(":")[2])
        cluster.advertise(0, host, port)
        config = ProducerConfig(bootstrap_servers=f"127.0.0.1:{cluster.ports[0]}", **FAST)
        async with Producer[bytes, bytes](config) as producer:
            await prove(producer)
            assert producer.status()["brokers"] == {f"0 at [::1]:{port}": "connected"}


def _no_brokers(answer: MetadataResponse) -> None:
    answer.brokers = []


async def test_one_failed_refresh_of_old_metadata_costs_no_connection() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(
            cluster,
            metadata_max_age_ms=40,
            metadata_recovery_rebootstrap_trigger_ms=30,
            retry_backoff_ms=4,
        ) as producer,
    ):
        await prove(producer)
        connections = len(cluster.requests_of("api_versions"))
        asked = len(cluster.requests_of("metadata"))
        cluster.edit_next("metadata", _no_brokers)
        await cluster.received("metadata", asked + 2)

        await prove(producer)
        assert len(cluster.requests_of("api_versions")) == connections


async def test_without_metadata_for_long_the_cluster_is_bootstrapped_again() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, metadata_recovery_rebootstrap_trigger_ms=20) as producer,
    ):
        await prove(producer)
        connections = len(cluster.requests_of("api_versions"))
        cluster.edit_next("metadata", _no_brokers, count=None)
        cluster.fail_next("produce", ErrorCode.LEADER_NOT_AVAILABLE)
        delivery = producer.send_nowait(TOPIC, b"42")
        await cluster.received("api_versions", connections + 1)

        cluster.clear_faults()
        assert (await delivery).offset == 1


@asynccontextmanager
async def _front(
    *ports: int, host: str = "127.0.0.1"
) -> AsyncGenerator[tuple[str, Callable[[], None]]]:
    """An address that stays: leads to the first port, and after a call to the next one."""
    at = iter(ports)
    to = next(at)
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", to)
        except ConnectionError:
            writer.close()
            return
        for task in (copy(reader, other_writer), copy(other_reader, writer)):
            tasks.add(asyncio.create_task(task))

    def turn() -> None:
        nonlocal to
        to = next(at)

    server = await asyncio.start_server(connected, host, 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", turn
    finally:
        server.close()
        await server.wait_closed()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_when_other_brokers_took_the_place_of_all_the_bootstrap_address_leads_to_them() -> (
    None
):
    async with FakeCluster(brokers=4, topics={TOPIC: 2}) as cluster:
        for node_id in (2, 3):
            await cluster.stop_broker(node_id)
        async with _front(cluster.ports[0], cluster.ports[2]) as (address, turn):
            config = ProducerConfig(bootstrap_servers=address, **FAST)
            async with Producer[bytes, bytes](config) as producer:
                for partition in range(2):
                    await prove(producer, partition)
                turn()
                for node_id in (2, 3):
                    await cluster.start_broker(node_id)
                for node_id in (0, 1):
                    await cluster.stop_broker(node_id)
                deliveries = [
                    producer.send_nowait(TOPIC, b"%d" % index, partition=index % 2)
                    for index in range(10)
                ]

                assert [(await delivery).offset for delivery in deliveries] == [
                    1 + index // 2 for index in range(10)
                ]
        cluster.expect_clean()


@pytest.mark.parametrize(
    "address",
    [
        pytest.param(("a" * 300 + ".example", 9092), id="label too long"),
        pytest.param(("nul\0byte", 9092), id="NUL"),
        pytest.param(("127.0.0.1", 70_000), id="port too large"),
        pytest.param(("127.0.0.1", -1), id="port negative"),
        pytest.param(("", 9092), id="empty"),
    ],
)
async def test_an_impossible_address_from_a_broker_is_an_error_and_is_forgotten(
    address: tuple[str, int],
) -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, request_timeout_ms=300, delivery_timeout_ms=300) as producer,
    ):

        def lie(answer: MetadataResponse) -> None:
            answer.brokers = [
                Address(1, *address) if broker.node_id == 1 else broker for broker in answer.brokers
            ]

        cluster.edit_next("metadata", lie, count=None)
        error = await failure(producer.send_nowait(TOPIC, b"42", partition=1))
        assert isinstance(error, KafkaTimeoutError)
        assert isinstance(error.last_connect_error, KafkaConnectionError)
        assert not error.possibly_persisted

        cluster.clear_faults()
        await producer.send_and_wait(TOPIC, b"43", partition=1)
        assert len(sent(cluster, 1)) == 1


async def test_a_timeout_says_why_the_broker_cannot_be_reached() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, request_timeout_ms=100, delivery_timeout_ms=150) as producer,
    ):
        await producer.partitions_for(TOPIC)
        cluster.refuse(1)
        cluster.cut(1)
        brokers = sender_of(producer).cluster.brokers
        await until(lambda: not brokers[1].is_connected)
        error = await failure(producer.send_nowait(TOPIC, b"42", partition=1))
        assert isinstance(error, KafkaTimeoutError)
        assert "connection refused" in str(error)
        assert f"127.0.0.1:{cluster.ports[1]}" in str(error)
        assert "The record was not stored." in str(error)


async def test_a_connection_to_a_broker_that_left_meanwhile_is_closed() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster) as producer,
    ):
        await prove(producer, 0)
        sender = sender_of(producer)
        brokers = sender.cluster.brokers
        addresses = [broker.address for broker in brokers.values()]
        brokers.update(addresses[:1], source="127.0.0.1:9092")
        await until(lambda: cluster.connections[1] == 0)
        brokers.update(addresses, source="127.0.0.1:9092")
        cluster.hang("api_versions", node_id=1)
        before = len(cluster.requests_of("api_versions"))
        connecting = asyncio.create_task(brokers.connect(brokers[1]))
        await cluster.received("api_versions", before + 1)
        # The news comes to another task than the one that connects.
        brokers.update(addresses[:1], source="127.0.0.1:9092")
        cluster.release()
        with pytest.raises(KafkaConnectionError, match="no longer known"):
            await connecting
        await until(lambda: cluster.connections[1] == 0)
        brokers.update(addresses, source="127.0.0.1:9092")
        await producer.send_and_wait(TOPIC, b"42", partition=1)
