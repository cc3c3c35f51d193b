"""Brokers whose responses are well-formed and wrong, once or for ever, and the next record.

The other tests of this directory test one error or response at a time. These go through all codes
on all APIs, impossible metadata, and responses that are late or incomplete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count, cycle
from typing import Final

import pytest

from aioproducer import KafkaError, Producer
from aioproducer.config import ProducerOptions
from aioproducer.errors import KafkaTimeoutError, NotLeaderOrFollowerError, error_for_code
from aioproducer.testing import (
    ApiName,
    ErrorCode,
    Fail,
    FakeCluster,
    FakeRequest,
    MetadataResponse,
    ProduceResponse,
)
from aioproducer.testing.state import Address
from tests.support.producing import (
    FAST,
    RECORD_BY_RECORD,
    TOPIC,
    failure,
    outcome,
    producing,
    prove,
    until,
    values,
)

BOUND: Final = 0.25

BOUNDED: Final[ProducerOptions] = {
    **FAST,
    "request_timeout_ms": 250,
    "delivery_timeout_ms": 250,
    "max_block_ms": 250,
}
"""For lies that do not end: every wait is over after BOUND seconds."""

CALM: Final[ProducerOptions] = {
    **BOUNDED,
    "retry_backoff_ms": 50,
    "retry_backoff_max_ms": 50,
    "reconnect_backoff_ms": 50,
    "reconnect_backoff_max_ms": 50,
}
"""Pauses of 40 ms at least, which leave room for FEW requests until the bound."""

FEW: Final = 14

CODES: Final = [code for code in ErrorCode if code is not ErrorCode.NONE]


# ---- every error code on every API

MAY_BE_STORED: Final = {
    code for code in CODES if (kind := error_for_code(code)).retriable or kind().possibly_persisted
}
"""The codes that a broker may answer with although it stored the records. With another one that
would be a lie that nobody can see through."""


async def test_no_code_of_a_produce_response_loses_doubles_or_reorders_what_was_acknowledged() -> (
    None
):
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        expected = [b"first"]
        for code in CODES:
            if code is ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
                continue  # it says: stored
            cluster.fail_next("produce", code)
            names = [b"%s-%d" % (code.name.encode(), index) for index in range(3)]
            deliveries = [producer.send_nowait(TOPIC, name) for name in names]
            first, *rest = [await outcome(delivery) for delivery in deliveries]
            expected += names[isinstance(first, KafkaError) :]
            assert not any(isinstance(result, KafkaError) for result in rest), code
        assert values(cluster) == expected


async def test_no_record_that_is_stored_in_spite_of_a_code_is_doubled_or_called_unsent() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        expected = [b"first"]
        for code in MAY_BE_STORED:
            cluster.fail_next("produce", code, stored=True)
            names = [b"%s-%d" % (code.name.encode(), index) for index in range(3)]
            deliveries = [producer.send_nowait(TOPIC, name) for name in names]
            first, *rest = [await outcome(delivery) for delivery in deliveries]
            if isinstance(first, KafkaError):
                assert first.possibly_persisted, code
            assert not any(isinstance(result, KafkaError) for result in rest), code
            expected += names
        assert values(cluster) == expected


@pytest.mark.parametrize("api", ["metadata", "init_producer_id", "api_versions"])
async def test_any_code_of_another_response_passes(api: ApiName) -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        for code in CODES:
            cluster.fail_next(api, code, topic=TOPIC if api == "metadata" else None)
            before = len(values(cluster))
            async with producing(cluster) as producer:
                result = await outcome(producer.send_nowait(TOPIC, b"0"))
                if isinstance(result, KafkaError):
                    assert not result.possibly_persisted
                    assert len(values(cluster)) == before
                await producer.send_and_wait(TOPIC, b"next")
            failed = isinstance(result, KafkaError)
            assert len(values(cluster)) == before + (1 if failed else 2), code
            cluster.clear_faults()


async def test_any_code_of_a_whole_metadata_response_passes_while_records_wait() -> None:
    async with FakeCluster() as cluster, producing(cluster) as producer:
        for code in CODES:
            topic = code.name.lower()
            cluster.create_topic(topic, 1)
            cluster.edit_next("metadata", partial(_refuse, code))
            assert (await producer.send_and_wait(topic, b"0")).offset == 0


async def test_a_producer_starts_after_any_code_or_raises_it() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        for code in CODES:
            cluster.edit_next("metadata", partial(_refuse, code))
            producer: Producer[bytes, bytes] = Producer(
                bootstrap_servers=cluster.bootstrap_servers, **FAST
            )
            try:
                await producer.start()
            except KafkaError as error:
                assert not error.retriable
                assert error.code == code
            else:
                await producer.send_and_wait(TOPIC, b"0")
            finally:
                await producer.close()


def _refuse(code: ErrorCode, answer: MetadataResponse) -> None:
    answer.error_code = code
    answer.brokers, answer.topics = [], []


# ---- metadata that cannot be


def _no_brokers(answer: MetadataResponse) -> None:
    answer.brokers = []


def _no_partitions(answer: MetadataResponse) -> None:
    for topic in answer.topics:
        topic.partitions = []


def _gaps(answer: MetadataResponse) -> None:
    for topic in answer.topics:
        topic.partitions = topic.partitions[1:]


def _huge_partition_id(answer: MetadataResponse) -> None:
    for topic in answer.topics:
        topic.partitions[0].partition = 2**31 - 1


def _negative_partition_id(answer: MetadataResponse) -> None:
    for topic in answer.topics:
        topic.partitions[0].partition = -7


def _same_partition_twice(answer: MetadataResponse) -> None:
    for topic in answer.topics:
        topic.partitions = [topic.partitions[0], topic.partitions[0]]


def _leader_nobody(answer: MetadataResponse) -> None:
    for topic in answer.topics:
        for partition in topic.partitions:
            partition.leader_id = -(2**31)


def _absurd_node_ids(answer: MetadataResponse) -> None:
    answer.brokers = [Address(2**31 - 1 - id_, host, port) for id_, host, port in answer.brokers]


def _negative_node_ids(answer: MetadataResponse) -> None:
    # Those that the producer gives to its bootstrap servers, as it happens.
    answer.brokers = [Address(-1 - id_, host, port) for id_, host, port in answer.brokers]
    for topic in answer.topics:
        for partition in topic.partitions:
            partition.leader_id = -1 - partition.leader_id


def _same_node_id(answer: MetadataResponse) -> None:
    answer.brokers = [Address(0, host, port) for _, host, port in answer.brokers]


def _port_0(answer: MetadataResponse) -> None:
    answer.brokers = [Address(id_, host, 0) for id_, host, _ in answer.brokers]


def _unresolvable(answer: MetadataResponse) -> None:
    answer.brokers = [Address(id_, "no-such-host.invalid", port) for id_, _, port in answer.brokers]


def _topic_twice(answer: MetadataResponse) -> None:
    answer.topics += answer.topics


def _topic_twice_once_unknown(answer: MetadataResponse) -> None:
    answer.topics += [
        type(topic)(topic.name, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        for topic in answer.topics
    ]


def _another_topic(answer: MetadataResponse) -> None:
    for topic in answer.topics:
        topic.name = "never-heard-of"


def _no_name(answer: MetadataResponse) -> None:
    for topic in answer.topics:
        topic.name = None


def _epoch_of_another_age(answer: MetadataResponse) -> None:
    for topic in answer.topics:
        for partition in topic.partitions:
            partition.leader_epoch = -(2**31)


IMPOSSIBLE: Final = [
    _no_brokers,
    _no_partitions,
    _gaps,
    _huge_partition_id,
    _negative_partition_id,
    _same_partition_twice,
    _leader_nobody,
    _absurd_node_ids,
    _negative_node_ids,
    _same_node_id,
    _port_0,
    _unresolvable,
    _topic_twice,
    _topic_twice_once_unknown,
    _another_topic,
    _no_name,
    _epoch_of_another_age,
]


@pytest.mark.parametrize("lie", IMPOSSIBLE)
async def test_metadata_that_cannot_be_is_asked_for_again_and_the_record_stored_once(
    lie: Callable[[MetadataResponse], None],
) -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster) as producer,
    ):
        cluster.edit_next("metadata", lie)
        deliveries = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(4)]
        for delivery in deliveries:
            await delivery
        assert sorted(values(cluster)) == [b"0", b"1", b"2", b"3"]
        for partition in range(2):
            await producer.send_and_wait(TOPIC, b"next", partition=partition)


@pytest.mark.parametrize("lie", IMPOSSIBLE)
async def test_metadata_that_never_becomes_possible_fails_records_in_time_without_a_storm(
    lie: Callable[[MetadataResponse], None],
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, CALM) as producer,
    ):
        cluster.edit_next("metadata", lie, count=None)
        started_at = loop.time()
        result = await outcome(producer.send_nowait(TOPIC, b"0"))
        assert loop.time() - started_at < 4 * BOUND
        if isinstance(result, KafkaError):
            assert values(cluster) == []
            # Sent to a broker that is not the leader, whose word for that leaves doubt.
            said = result.last_broker_error if isinstance(result, KafkaTimeoutError) else None
            was_led_astray = isinstance(said, NotLeaderOrFollowerError)
            assert result.possibly_persisted == was_led_astray
        assert len(cluster.requests_of("metadata")) < FEW

        cluster.clear_faults()
        for partition in range(2):
            await producer.send_and_wait(TOPIC, b"next", partition=partition)


@pytest.mark.parametrize("lie", IMPOSSIBLE)
async def test_metadata_that_cannot_be_spoils_nothing_that_was_known(
    lie: Callable[[MetadataResponse], None],
) -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        for partition in range(2):
            await prove(producer, partition)
        cluster.edit_next("metadata", lie)
        cluster.fail_next("produce", ErrorCode.KAFKA_STORAGE_ERROR)
        deliveries = [
            producer.send_nowait(TOPIC, b"%d" % index, partition=index % 2) for index in range(10)
        ]
        for delivery in deliveries:
            await delivery
        for partition in range(2):
            expected = [b"%d" % index for index in range(partition, 10, 2)]
            assert values(cluster, partition=partition) == [b"first", *expected]


@pytest.mark.parametrize("hints", [False, True], ids=["metadata", "hints"])
async def test_brokers_that_name_each_other_for_ever_are_not_asked_in_a_storm(hints: bool) -> None:
    async with (
        FakeCluster(
            brokers=2, topics={TOPIC: 1}, max_versions={} if hints else {"produce": 9}
        ) as cluster,
        producing(cluster, CALM) as producer,
    ):
        await prove(producer)
        flapping = cycle([1, 0])
        epochs = count(5)

        def flap(answer: MetadataResponse) -> None:
            leader = next(flapping)
            for topic in answer.topics:
                for partition in topic.partitions:
                    partition.leader_id = leader

        def blame_the_other(request: FakeRequest) -> Fail | None:
            if request.api != "produce":
                return None
            hint = (1 - request.node_id, next(epochs)) if hints else None
            return Fail(ErrorCode.NOT_LEADER_OR_FOLLOWER, current_leader=hint)

        if not hints:
            cluster.edit_next("metadata", flap, count=None)
        stop = cluster.on_request(blame_the_other)
        error = await failure(producer.send_nowait(TOPIC, b"42"))
        assert isinstance(error, KafkaTimeoutError)
        assert len(cluster.requests_of("produce")) < FEW
        assert len(cluster.requests_of("metadata")) < FEW

        cluster.clear_faults()
        stop()
        for _ in range(100):
            cluster.move_leader(TOPIC, 0, 0)
        await producer.send_and_wait(TOPIC, b"next")
        # It may have been on its way when its time was over, and found no lie any more.
        assert error.possibly_persisted or b"42" not in values(cluster)
        assert [value for value in values(cluster) if value != b"42"] == [b"first", b"next"]


async def test_a_lagging_broker_that_names_the_old_leader_costs_pauses_and_nothing_else() -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 1}, max_versions={"produce": 9}) as cluster,
        producing(cluster, RECORD_BY_RECORD) as producer,
    ):
        await prove(producer)
        cluster.move_leader(TOPIC, 0, 1)
        lagging = cycle([True, True, False])

        def lag(answer: MetadataResponse) -> None:
            if next(lagging):
                for topic in answer.topics:
                    for partition in topic.partitions:
                        partition.leader_id, partition.leader_epoch = 0, 0

        cluster.edit_next("metadata", lag, count=None)
        results = await producer.send_many(TOPIC, [b"%d" % index for index in range(10)])
        assert [metadata.offset for metadata in results] == list(range(1, 11))


async def test_a_broker_that_hangs_up_after_each_metadata_response_is_not_asked_in_a_storm() -> (
    None
):
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, CALM) as producer,
    ):
        await prove(producer)
        asked_at: list[float] = []

        def hang_up(request: FakeRequest) -> None:
            if request.api == "metadata":
                # A connection that is made again first asks for no topic, only for the cluster.
                if request.topics:
                    asked_at.append(request.received_at)
                # When the response is out.
                asyncio.get_running_loop().call_later(0.001, cluster.cut)

        stop = cluster.on_request(hang_up)
        cluster.cut()
        await until(lambda: len(asked_at) >= 4)
        stop()
        assert asked_at[3] - asked_at[0] >= 3 * 0.03
        await producer.send_and_wait(TOPIC, b"next")


# ---- silence, and late responses


@pytest.mark.parametrize("api", ["produce", "metadata", "api_versions"])
async def test_an_api_that_is_never_answered_fails_records_in_time_and_heals(api: ApiName) -> None:
    loop = asyncio.get_running_loop()
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        async with producing(
            cluster,
            BOUNDED,
            socket_connection_setup_timeout_ms=100,
            socket_connection_setup_timeout_max_ms=100,
        ) as producer:
            cluster.hang(api)
            if api == "api_versions":
                cluster.cut()
            started_at = loop.time()
            error = await failure(producer.send_nowait(TOPIC, b"lost"))
            assert loop.time() - started_at < 4 * BOUND
            assert isinstance(error, KafkaTimeoutError)
            assert error.possibly_persisted == (api == "produce")
            cluster.release()
            await producer.send_and_wait(TOPIC, b"next")
        assert values(cluster).count(b"next") == 1


async def test_a_producer_id_that_never_comes_fails_records_in_time_and_heals() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.hang("init_producer_id")
        async with producing(cluster, BOUNDED) as producer:
            error = await failure(producer.send_nowait(TOPIC, b"lost"))
            assert isinstance(error, KafkaTimeoutError)
            assert not error.possibly_persisted
            cluster.release()
            await producer.send_and_wait(TOPIC, b"next")
        assert values(cluster) == [b"next"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_responses_that_always_come_after_the_request_timeout_are_dropped(when: str) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, RECORD_BY_RECORD, request_timeout_ms=40) as producer,
    ):
        await prove(producer)
        cluster.delay("produce", 0.08, count=4, when="before" if when == "before" else "after")
        results = await producer.send_many(TOPIC, [b"%d" % index for index in range(6)])
        assert [metadata.offset for metadata in results] == list(range(1, 7))
        assert values(cluster) == [b"first", *(b"%d" % index for index in range(6))]


async def test_a_record_stored_after_its_delivery_timeout_was_called_possibly_persisted() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, {**RECORD_BY_RECORD, **BOUNDED, "batch_size": 0}) as producer,
    ):
        await prove(producer)
        cluster.delay("produce", 2 * BOUND, count=1, when="before")
        deliveries = [producer.send_nowait(TOPIC, b"%d" % index) for index in range(3)]
        errors = [await failure(delivery) for delivery in deliveries]
        assert all(error.possibly_persisted for error in errors)
        await until(lambda: b"0" in values(cluster))
        await producer.send_and_wait(TOPIC, b"next")
        assert values(cluster) == [b"first", b"0", b"next"]


# ---- Produce responses that say too much or too little


async def test_responses_without_partitions_fail_records_in_time_as_possibly_persisted() -> None:
    async with (
        FakeCluster(topics={TOPIC: 2}) as cluster,
        producing(cluster, BOUNDED) as producer,
    ):

        def say_nothing(answer: ProduceResponse) -> None:
            answer.partitions = []

        cluster.edit_next("produce", say_nothing, count=None)
        error = await failure(producer.send_nowait(TOPIC, b"42", partition=0))
        assert error.possibly_persisted
        assert values(cluster) == [b"42"]
        cluster.clear_faults()
        await producer.send_and_wait(TOPIC, b"next", partition=0)
        assert values(cluster) == [b"42", b"next"]


async def test_an_error_after_a_success_for_the_same_partition_is_ignored() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:

        def contradict(answer: ProduceResponse) -> None:
            (own,) = answer.partitions
            answer.partitions.append(
                type(own)(
                    own.topic,
                    own.topic_id,
                    own.partition,
                    error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER,
                    current_leader=(7, 99),
                )
            )

        cluster.edit_next("produce", contradict, count=None)
        for offset in range(3):
            assert (await producer.send_and_wait(TOPIC, b"%d" % offset)).offset == offset
        assert values(cluster) == [b"0", b"1", b"2"]


async def test_a_broker_that_stamps_records_itself_is_believed_also_after_a_lost_response() -> None:
    async with FakeCluster() as cluster:
        cluster.create_topic(TOPIC, 1, message_timestamp_type="LogAppendTime")
        async with producing(cluster) as producer:
            first = await producer.send_and_wait(TOPIC, b"0", timestamp_ms=1)
            assert first.timestamp_ms == cluster.records(TOPIC)[0].timestamp_ms != 1
            cluster.cut_next("produce", when="after")
            again = await producer.send_and_wait(TOPIC, b"1", timestamp_ms=1)
            assert again.offset == 1
        assert values(cluster) == [b"0", b"1"]
