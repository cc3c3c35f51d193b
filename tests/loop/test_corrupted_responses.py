"""A running producer whose brokers respond with mutated bytes: nothing hangs, nothing is lost.

Each trial changes one real response at random, by a seed that a failure shows. A response that
cannot be decoded costs the connection and nothing else. If it can be decoded, no client can know
that it is wrong: its record has its outcome in time, and the producer goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Generator

import pytest

from aioproducer import KafkaError, Producer, ProducerConfig, RecordMetadata
from aioproducer.config import ProducerOptions
from aioproducer.errors import ProtocolError
from aioproducer.protocol.frames import decode_response
from aioproducer.protocol.metadata import MetadataResponse
from aioproducer.protocol.produce import ProduceResponse
from aioproducer.testing import ApiName, FakeCluster, FakeRequest, FakeSasl
from aioproducer.testing.faults import Mutate
from tests.fuzz.mutations import LIES
from tests.fuzz.targets import APIS
from tests.support.producing import FAST, TOPIC, expect_nothing_left, outcome, until

GARBLED: ProducerOptions = {**FAST, "max_block_ms": 5_000, "metadata_max_age_ms": 200}
LIED_TO: ProducerOptions = {
    **FAST,
    "max_block_ms": 400,
    "request_timeout_ms": 300,
    "delivery_timeout_ms": 600,
    "metadata_max_age_ms": 200,
}
"""Lies are found out by time: by little of it."""
LOGIN: ProducerOptions = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "PLAIN",
    "sasl_username": "alice",
    "sasl_password": "password",
}
OF_A_COORDINATOR = ("find_coordinator", "describe_transactions")
TRANSACTION_APIS = [api for api in APIS if "txn" in api or api in OF_A_COORDINATOR]
TRIALS = 12
BOUND = 12.0
"""Seconds for what takes ten at most: five for metadata, five for the delivery."""


def mutated(answer: bytes, dice: random.Random) -> bytes:
    """Return a response with one to three faults; the correlation id is seldom among them."""
    data = bytearray(answer)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(4 if dice.random() < 0.95 else 0, len(data)) if len(data) > 4 else 0
        lie = dice.choice(list(LIES.values()))
        match dice.randrange(6):
            case 0:
                del data[at:]
            case 1:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 2:
                data[at : at + len(lie)] = lie
            case 3:
                data[at:at] = lie
            case 4:
                del data[at : at + dice.randint(1, 8)]
            case _:
                data += dice.randbytes(dice.randint(1, 200))
    return bytes(data)


class Liar:
    """Mutates one response of an API, once, into one that can be decoded or one that cannot."""

    def __init__(
        self, cluster: FakeCluster, api: ApiName, dice: random.Random, *, is_decodable: bool
    ) -> None:
        self.is_decodable = is_decodable
        self.has_lied = False
        self._ports = set(cluster.ports.values())
        self._api: ApiName = api
        self._dice = dice

    def __call__(self, request: FakeRequest) -> Mutate | None:
        if request.api != self._api or self.has_lied:
            return None
        self.has_lied = True
        return Mutate(lambda answer: self._lie(request.version, answer))

    def _lie(self, version: int, answer: bytes) -> bytes:
        while True:
            lie = mutated(answer, self._dice)
            try:
                correlation_id, response = decode_response(APIS[self._api], version, lie)
            except ProtocolError:
                response = None
            else:
                if correlation_id != int.from_bytes(answer[:4], "big", signed=True):
                    response = None
            if (response is not None) == self.is_decodable and self._stays_here(response):
                return lie

    def _stays_here(self, response: object) -> bool:
        """Whether nobody else is connected to, and no name is looked up, because of a lie."""
        ends = (
            response.brokers
            if isinstance(response, MetadataResponse)
            else response.node_endpoints
            if isinstance(response, ProduceResponse)
            else ()
        )
        return all(
            end.host == "127.0.0.1" and (end.port in self._ports or not 1 < end.port < 65536)
            for end in ends
        )


@contextlib.contextmanager
def shown(seed: int) -> Generator[random.Random]:
    """Name the seed in a failure."""
    try:
        yield random.Random(seed)
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


async def send(producer: Producer[bytes, bytes], value: bytes) -> RecordMetadata | KafkaError:
    """Send a record to partition 0; every error must be one of ours, and come in time."""
    try:
        async with asyncio.timeout(BOUND):
            return await outcome(await producer.send(TOPIC, value, partition=0))
    except KafkaError as error:
        return error


def stored(cluster: FakeCluster, value: bytes) -> int:
    return sum(record.value == value for record in cluster.records(TOPIC))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("api", [api for api in APIS if api not in TRANSACTION_APIS])
async def test_a_mutated_response_costs_a_record_at_most_its_time(api: ApiName) -> None:
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    for _ in range(TRIALS):
        with shown(secrets.randbits(32)) as dice:
            await _one_trial(api, dice)
            assert not problems


async def _one_trial(api: ApiName, dice: random.Random) -> None:
    sasl = FakeSasl({"alice": "password"}) if api.startswith("sasl_") else None
    async with FakeCluster(brokers=2, topics={TOPIC: 2}, sasl=sasl) as cluster:
        liar = Liar(cluster, api, dice, is_decodable=dice.random() < 0.4)
        options = LIED_TO if liar.is_decodable else GARBLED
        if sasl is not None:
            options = options | LOGIN
        config = ProducerConfig(bootstrap_servers=cluster.bootstrap_servers, **options)
        producer: Producer[bytes, bytes] = Producer(config)
        # From the first response on, or in the middle of things; there is one producer id only.
        if is_first := api == "init_producer_id" or dice.random() < 0.5:
            cluster.on_request(liar)
        try:
            async with asyncio.timeout(BOUND):
                await producer.start()
        except KafkaError as error:
            assert liar.is_decodable, error
            return
        try:
            if not is_first:
                assert isinstance(await send(producer, b"before"), RecordMetadata)
                cluster.on_request(liar)
                cluster.cut()
            first = await send(producer, b"first")
            await until(lambda: liar.has_lied)
            if isinstance(first, RecordMetadata):
                assert stored(cluster, b"first") == 1 or liar.is_decodable
            elif liar.is_decodable:
                cluster.cut()  # a connection keeps the versions that it was given first
            else:
                raise AssertionError(f"the record failed: {first!r}") from first
            await _goes_on(producer, cluster, liar)
        finally:
            await producer.close(1)
        expect_nothing_left(producer)
        if not liar.is_decodable:
            cluster.expect_clean()


async def _goes_on(producer: Producer[bytes, bytes], cluster: FakeCluster, liar: Liar) -> None:
    """The next records have their outcome in time; without a lie in good form, they are stored."""
    for number in range(3):
        value = b"next %d" % number
        result = await send(producer, value)
        assert isinstance(result, RecordMetadata) or liar.is_decodable, result
        if isinstance(result, RecordMetadata) and not liar.is_decodable:
            assert stored(cluster, value) == 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("api", TRANSACTION_APIS)
async def test_a_mutated_response_leaves_a_transaction_whole_or_absent(api: ApiName) -> None:
    for _ in range(TRIALS):
        with shown(secrets.randbits(32)) as dice:
            await _one_transaction(api, dice)


async def _one_transaction(api: ApiName, dice: random.Random) -> None:
    # Partitions and groups are added before version 2 only. Only there, one asks of the last
    # transaction, if that ended a moment ago: on a busy machine not at each that begins.
    is_described = api == "describe_transactions"
    is_v2 = is_described or (not api.startswith("add_") and dice.random() < 0.5)
    values = (b"1", b"2", b"3", b"4") if is_described else (b"1",)
    features = {"transaction.version": 2} if is_v2 else {}
    async with FakeCluster(brokers=2, topics={TOPIC: 2}, features=features) as cluster:
        liar = Liar(cluster, api, dice, is_decodable=dice.random() < 0.4)
        cluster.on_request(liar)
        options = LIED_TO if liar.is_decodable else GARBLED
        is_committed = await _transact(cluster, options, *values)
        assert liar.has_lied
        assert is_committed or liar.is_decodable
        # The next producer of the id ends what the first one left open.
        assert await _transact(cluster, GARBLED, b"next")
        found = [record.value for record in cluster.records(TOPIC, isolation="read_committed")]
        assert found.count(b"next") == 2
        for value in values:
            assert found.count(value) in ((2,) if is_committed else (0, 2))


async def _transact(cluster: FakeCluster, options: ProducerOptions, *values: bytes) -> bool:
    """Store records and offsets in a transaction each; return whether all are said to be so."""
    options = options | {"transactional_id": "transfers-0"}
    config = ProducerConfig(bootstrap_servers=cluster.bootstrap_servers, **options)
    producer: Producer[bytes, bytes] = Producer(config)
    try:
        async with asyncio.timeout(2 * BOUND):
            await producer.start()
            for value in values:
                async with producer.transaction():
                    for partition in (0, 1):
                        await producer.send(TOPIC, value, partition=partition)
                    await producer.send_offsets_to_transaction({(TOPIC, 0): 1}, "readers")
    except KafkaError:
        return False
    finally:
        await producer.close(1)
    expect_nothing_left(producer)
    return True
