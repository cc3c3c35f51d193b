"""A faulty network under load: whatever it does, each record is stored once and in order.

Proxies of tests/support/proxy.py stand between the producer and the brokers. Each test applies one
fault to the bytes and then checks every record: it is acknowledged and stored exactly once, in the
order of the calls for each key; or, if the fault does not end, it fails in time, and as
`possibly_persisted` if its bytes had been sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Unpack

import pytest

from aioproducer import Delivery, KafkaError, Producer
from aioproducer.config import ProducerOptions
from aioproducer.errors import KafkaConnectionError, KafkaTimeoutError
from aioproducer.testing import ApiName, FakeCluster
from tests.support.producing import FAST, TOPIC, failure, outcome, producing, prove, values
from tests.support.proxy import Ending, FaultyNetwork, faulty_network

PARTITIONS: Final = 4
KEYS: Final = 12

QUICK: Final[ProducerOptions] = {
    **FAST,
    "request_timeout_ms": 150,
    "socket_connection_setup_timeout_ms": 150,
    "socket_connection_setup_timeout_max_ms": 150,
    "batch_size": 300,
}
"""Batches of a few records, so that a load is many requests, and a silent broker soon left."""

BOUNDED: Final[ProducerOptions] = {**QUICK, "delivery_timeout_ms": 400, "max_block_ms": 400}
"""For faults that do not end."""


@asynccontextmanager
async def wired(
    options: ProducerOptions = QUICK, brokers: int = 2, **more: Unpack[ProducerOptions]
) -> AsyncGenerator[tuple[FakeCluster, FaultyNetwork, Producer[Any, Any]], None]:
    """A cluster, the wire to it, and a producer that every leader has acknowledged something to."""
    async with (
        FakeCluster(brokers=brokers, topics={TOPIC: PARTITIONS}) as cluster,
        faulty_network(cluster) as network,
        producing(cluster, options, **more) as producer,
    ):
        for partition in range(PARTITIONS):
            await prove(producer, partition)
        yield cluster, network, producer


class Load:
    """Keyed records, and what became of each."""

    def __init__(self, cluster: FakeCluster, producer: Producer[Any, Any]) -> None:
        self._cluster = cluster
        self._producer = producer
        self._deliveries: list[tuple[bytes, bytes, Delivery]] = []

    async def send(self, count: int = 120) -> None:
        """Send so many records, the keys in turn."""
        for _ in range(count):
            number = len(self._deliveries)
            key, value = b"card-%d" % (number % KEYS), b"%d" % number
            delivery = await self._producer.send(TOPIC, value, key=key)
            self._deliveries.append((key, value, delivery))

    async def expect_exactly_once(self) -> None:
        """Wait for all; each is stored once, where its metadata says, in order of its key."""
        acknowledged: dict[bytes, list[tuple[int, int, bytes]]] = {}
        for key, value, delivery in self._deliveries:
            metadata = await delivery
            acknowledged.setdefault(key, []).append((metadata.partition, metadata.offset, value))
        stored: dict[bytes, list[tuple[int, int, bytes]]] = {}
        for record in self._cluster.records(TOPIC):
            if record.key is not None:
                entry = (record.partition, record.offset, record.value or b"")
                stored.setdefault(record.key, []).append(entry)
        assert stored == acknowledged

    async def expect_no_lie(self) -> list[KafkaError]:
        """Wait for all; see that none is twice or out of order, and none called unsent is stored.

        Returns the errors of those that failed.
        """
        stored = [record.value for record in self._cluster.records(TOPIC) if record.key]
        assert len(stored) == len(set(stored))
        errors: list[KafkaError] = []
        for _, value, delivery in self._deliveries:
            result = await outcome(delivery)
            if isinstance(result, KafkaError):
                errors.append(result)
                assert result.possibly_persisted or value not in stored
            else:
                assert value in stored
        for key in {key for key, _, _ in self._deliveries}:
            numbers = [int(r.value or b"") for r in self._cluster.records(TOPIC) if r.key == key]
            assert numbers == sorted(numbers)
        return errors


# ---- faults that end


def _delay(network: FaultyNetwork) -> None:
    for proxy in network.values():
        proxy.requests.delay = proxy.answers.delay = 0.005


def _drip_responses(network: FaultyNetwork) -> None:
    for proxy in network.values():
        proxy.answers.piece_size = 1


def _drip_requests(network: FaultyNetwork) -> None:
    for proxy in network.values():
        proxy.requests.piece_size = 7


def _reset(network: FaultyNetwork) -> None:
    for proxy in network.values():
        proxy.reset()


def _half_close(network: FaultyNetwork) -> None:
    for proxy in network.values():
        proxy.half_close()


def _reset_one(network: FaultyNetwork) -> None:
    network[0].reset()


@pytest.mark.parametrize(
    "fault", [_delay, _drip_responses, _drip_requests, _reset, _half_close, _reset_one]
)
async def test_a_slow_or_breaking_wire_loses_doubles_and_reorders_nothing(
    fault: Callable[[FaultyNetwork], None],
) -> None:
    async with wired() as (cluster, network, producer):
        load = Load(cluster, producer)
        for _ in range(3):
            await load.send(40)
            fault(network)
            await load.send(40)
            await asyncio.sleep(0)
        await load.expect_exactly_once()


@pytest.mark.parametrize("direction", ["requests", "answers"])
async def test_a_stall_that_ends_in_time_costs_nothing(direction: str) -> None:
    async with wired(request_timeout_ms=2_000) as (cluster, network, producer):
        load = Load(cluster, producer)
        way = getattr(network[0], direction)
        before = network[0].accepted
        way.stall()
        await load.send()
        await way.until_happened("stalled")
        way.flow()
        await load.expect_exactly_once()
        assert network[0].accepted == before


@pytest.mark.parametrize("direction", ["requests", "answers"])
async def test_a_stall_beyond_the_request_timeout_costs_the_connection_and_nothing_else(
    direction: str,
) -> None:
    async with wired() as (cluster, network, producer):
        load = Load(cluster, producer)
        way = getattr(network[0], direction)
        way.stall()
        await load.send()
        # The second connection to stall is made when the first one was given up; what the first
        # one still holds comes late, and for nobody.
        await way.until_happened("stalled", 2)
        network.heal()
        await load.expect_exactly_once()


async def test_a_broker_in_a_black_hole_delays_no_other_and_gets_its_records_when_it_is_back() -> (
    None
):
    async with wired() as (cluster, network, producer):
        load = Load(cluster, producer)
        before = network[0].accepted
        network[0].black_hole()
        await load.send()
        for partition in (1, 3):
            await producer.send_and_wait(TOPIC, b"other", partition=partition)
        await network[0].until_accepted(before + 2)
        network.heal()
        await load.expect_exactly_once()


async def test_a_broker_that_does_not_accept_gets_its_records_when_it_does() -> None:
    async with wired() as (cluster, network, producer):
        load = Load(cluster, producer)
        await network[0].stop_accepting()
        network[0].reset()
        await load.send()
        for partition in (1, 3):
            await producer.send_and_wait(TOPIC, b"other", partition=partition)
        network.heal()
        await load.expect_exactly_once()


# ---- cuts


@pytest.mark.parametrize("ending", ["close", "reset", "half-close", "stall"])
@pytest.mark.parametrize("direction", ["requests", "answers"])
async def test_cuts_under_load_lose_double_and_reorder_nothing(
    direction: str, ending: Ending
) -> None:
    async with wired() as (cluster, network, producer):
        load = Load(cluster, producer)
        for after in (0, 5, 37, 150):
            for proxy in network.values():
                getattr(proxy, direction).cut("produce", after, ending)
            await load.send(40)
        for proxy in network.values():
            await getattr(proxy, direction).until_happened("cut")
        await load.expect_exactly_once()


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_response_may_be_cut_behind_any_of_its_bytes(ending: Ending) -> None:
    async with wired(brokers=1) as (cluster, network, producer):
        for after in range(70):
            before = network[0].answers.happened["cut"]
            network[0].answers.cut("produce", after, ending)
            metadata = await producer.send_and_wait(TOPIC, b"%d" % after, partition=0)
            assert metadata.offset == after + 1
            assert network[0].answers.happened["cut"] == before + 1
        assert values(cluster, partition=0) == [b"first", *(b"%d" % after for after in range(70))]


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_request_may_be_cut_behind_any_of_its_bytes(ending: Ending) -> None:
    everything = [*range(48), *range(48, 210, 9), 1_000]
    async with wired(brokers=1) as (cluster, network, producer):
        for index, after in enumerate(everything):
            before = network[0].requests.happened["cut"]
            network[0].requests.cut("produce", after, ending)
            metadata = await producer.send_and_wait(TOPIC, b"%d" % after, partition=0)
            assert metadata.offset == index + 1
            assert network[0].requests.happened["cut"] == before + 1
        assert values(cluster, partition=0) == [b"first", *(b"%d" % after for after in everything)]


@pytest.mark.parametrize("direction", ["requests", "answers"])
@pytest.mark.parametrize("api", ["api_versions", "metadata", "init_producer_id"])
async def test_what_opens_a_connection_may_be_cut_anywhere(api: ApiName, direction: str) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        faulty_network(cluster) as network,
    ):
        for after in (0, 1, 3, 4, 6, 8, 11, 12, 14, 17, 25, 40, 1_000):
            way = getattr(network[0], direction)
            before = way.happened["cut"]
            way.cut(api, after)
            async with producing(cluster, QUICK) as producer:
                await producer.send_and_wait(TOPIC, b"42")
            assert way.happened["cut"] == before + 1
        assert values(cluster) == [b"42"] * 13


@pytest.mark.parametrize("after", [0, 30, 1_000])
async def test_a_request_that_arrives_after_its_retry_is_not_stored_again(after: int) -> None:
    async with wired(brokers=1) as (cluster, network, producer):
        network[0].requests.cut("produce", after, "hold")
        assert (await producer.send_and_wait(TOPIC, b"42", partition=0)).offset == 1
        before = len(cluster.requests_of("produce"))
        if after < 1_000:
            network[0].requests.let_go()
            await cluster.received("produce", before + 1)
        await producer.send_and_wait(TOPIC, b"next", partition=0)
        assert values(cluster, partition=0) == [b"first", b"42", b"next"]


async def test_a_request_that_arrives_after_its_record_expired_is_not_stored_behind_the_next() -> (
    None
):
    async with wired(BOUNDED, brokers=1) as (cluster, network, producer):
        network[0].requests.cut("produce", 30, "hold", count=None)
        error = await failure(producer.send_nowait(TOPIC, b"lost", partition=0))
        assert error.possibly_persisted
        network[0].requests.flow()
        await producer.send_and_wait(TOPIC, b"next", partition=0)
        before = len(cluster.requests_of("produce"))
        network[0].requests.let_go()
        await cluster.received("produce", before + 1)
        assert (await producer.send_and_wait(TOPIC, b"after", partition=0)).offset == 2
        assert values(cluster, partition=0) == [b"first", b"next", b"after"]


# ---- faults that do not end


def _never_answer(network: FaultyNetwork) -> None:
    network[0].answers.stall()


def _never_read(network: FaultyNetwork) -> None:
    network[0].requests.stall()


def _black_hole(network: FaultyNetwork) -> None:
    network[0].black_hole()


def _cut_every_request(network: FaultyNetwork) -> None:
    network[0].requests.cut("produce", 40, count=None)


def _cut_every_response(network: FaultyNetwork) -> None:
    network[0].answers.cut("produce", 10, count=None)


def _drip_too_slowly(network: FaultyNetwork) -> None:
    network[0].answers.piece_size = 1
    network[0].answers.delay = 0.05


@pytest.mark.parametrize(
    "fault",
    [
        _never_answer,
        _never_read,
        _black_hole,
        _cut_every_request,
        _cut_every_response,
        _drip_too_slowly,
    ],
)
async def test_a_fault_that_does_not_end_fails_the_records_of_its_broker_in_time_and_no_others(
    fault: Callable[[FaultyNetwork], None],
) -> None:
    loop = asyncio.get_running_loop()
    async with wired(BOUNDED) as (cluster, network, producer):
        fault(network)
        # Those of the other broker are stored, or this raises.
        lost = [producer.send_nowait(TOPIC, b"lost", partition=index) for index in (0, 2)]
        for partition in (1, 3):
            await producer.send_and_wait(TOPIC, b"other", partition=partition)
        load = Load(cluster, producer)
        started_at = loop.time()
        await load.send()
        for delivery in lost:
            error = await failure(delivery)
            assert isinstance(error, KafkaTimeoutError)
            assert error.possibly_persisted
        errors = await load.expect_no_lie()
        assert errors
        assert {error.topic_partition.partition for error in errors if error.topic_partition} <= {
            0,
            2,
        }
        assert all(isinstance(error, KafkaTimeoutError) for error in errors)
        assert loop.time() - started_at < 2

        network.heal()
        for partition in range(PARTITIONS):
            await producer.send_and_wait(TOPIC, b"next", partition=partition)


async def test_a_broker_that_never_accepts_fails_its_records_in_time_as_not_stored() -> None:
    async with wired(BOUNDED) as (cluster, network, producer):
        await network[0].stop_accepting()
        network[0].reset()
        lost = [producer.send_nowait(TOPIC, b"lost", partition=index) for index in (0, 2)]
        errors = [await failure(delivery) for delivery in lost]
        for error in errors:
            assert isinstance(error, KafkaTimeoutError)
            assert isinstance(error.last_connect_error, KafkaConnectionError)
            assert "no answer within 0.15 s" in str(error)
        assert b"lost" not in values(cluster)
        network.heal()
        await producer.send_and_wait(TOPIC, b"next", partition=0)


@pytest.mark.parametrize("fault", [_never_answer, _never_read, _black_hole, _cut_every_response])
async def test_close_is_in_time_whatever_the_wire_does(
    fault: Callable[[FaultyNetwork], None],
) -> None:
    loop = asyncio.get_running_loop()
    async with wired() as (cluster, network, producer):
        for _ in range(2):
            fault(network)
        load = Load(cluster, producer)
        await load.send()
        started_at = loop.time()
        undelivered = await producer.close(0.1)
        assert loop.time() - started_at < 1
        errors = await load.expect_no_lie()
        assert len(errors) == len(undelivered)


async def test_a_buffer_behind_a_black_hole_stays_within_its_bound() -> None:
    async with wired(BOUNDED, buffer_memory=8_192) as (_, network, producer):
        for proxy in network.values():
            proxy.black_hole()

        async def send() -> Delivery:
            delivery = await producer.send(TOPIC, b"x" * 500)
            assert producer.metrics()["buffer_available_bytes"] >= 0
            return delivery

        results = await asyncio.gather(*(send() for _ in range(60)), return_exceptions=True)
        accepted = [result for result in results if isinstance(result, Delivery)]
        assert len(accepted) + sum(isinstance(each, KafkaTimeoutError) for each in results) == 60
        for delivery in accepted:
            await failure(delivery)
        network.heal()
        await producer.send_and_wait(TOPIC, b"next")
