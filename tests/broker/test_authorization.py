"""ACLs: what is denied fails at once and says what to grant; what is granted later goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from aioproducer import (
    ClusterAuthorizationFailedError,
    Delivery,
    KafkaError,
    Producer,
    RecordMetadata,
    TopicAuthorizationFailedError,
)
from tests.broker.helpers import new_topic_name
from tests.broker.secured import secure_producer
from tests.support.kafka import consume, create_topic
from tests.support.secure_kafka import CLUSTER, Operation, Resource, SecureKafka, topic_resource

AT_ONCE = 3.0
"""Seconds; the producer's own bounds are 60 and 120."""


class Client:
    """A user of its own, a producer of this user, and a topic that the user knows nothing of."""

    def __init__(self, kafka: SecureKafka) -> None:
        self.kafka = kafka
        self.topic = create_topic(kafka, partitions=1)
        self.user, self._password = kafka.new_user()

    def producer(self, **options: Any) -> Producer[Any, Any]:
        return secure_producer(
            self.kafka,
            "SASL_PLAINTEXT",
            "SCRAM-SHA-256",
            sasl_username=self.user,
            sasl_password=self._password,
            **options,
        )

    async def grant(self, *operations: Operation, on: Resource | None = None) -> None:
        resource = on or topic_resource(self.topic)
        await asyncio.to_thread(self.kafka.grant, self.user, resource, *operations)

    async def revoke(self, *operations: Operation, on: Resource | None = None) -> None:
        resource = on or topic_resource(self.topic)
        await asyncio.to_thread(self.kafka.revoke, self.user, resource, *operations)

    async def grant_another_topic(self) -> str:
        """Allow to write to another topic, and with it to have a producer id (KIP-679)."""
        other = create_topic(self.kafka, partitions=1)
        await self.grant("WRITE", on=topic_resource(other))
        return other

    def stored(self) -> list[bytes | None]:
        return [one.value for one in consume(self.kafka, self.topic)]


@pytest_asyncio.fixture
async def client(secure_kafka: SecureKafka) -> Client:
    return Client(secure_kafka)


async def denial(delivery: Delivery) -> KafkaError:
    """Return the error of a record, which has to come at once."""
    async with asyncio.timeout(AT_ONCE):
        with pytest.raises(KafkaError) as caught:
            await delivery
    assert not caught.value.possibly_persisted
    assert not caught.value.retriable
    return caught.value


async def test_a_topic_that_may_not_be_seen_fails_its_records_at_once(client: Client) -> None:
    async with client.producer() as producer:
        error = await denial(producer.send_nowait(client.topic, b"x"))
    assert isinstance(error, TopicAuthorizationFailedError)
    assert f"Grant it Describe and Write on topic {client.topic!r}" in str(error)
    assert client.stored() == []


async def test_a_topic_that_may_not_be_seen_has_no_partitions(client: Client) -> None:
    async with client.producer() as producer, asyncio.timeout(AT_ONCE):
        with pytest.raises(TopicAuthorizationFailedError, match=client.topic):
            await producer.partitions_for(client.topic)


async def test_a_topic_that_may_be_seen_and_not_written_fails_its_records_at_once(
    client: Client,
) -> None:
    await client.grant("DESCRIBE")
    await client.grant_another_topic()
    async with client.producer() as producer:
        error = await denial(producer.send_nowait(client.topic, b"x"))
    assert isinstance(error, TopicAuthorizationFailedError)
    assert client.topic in str(error)
    assert "Write" in str(error)
    assert client.stored() == []


async def test_without_idempotence_too(client: Client) -> None:
    await client.grant("DESCRIBE")
    async with client.producer(enable_idempotence=False) as producer:
        error = await denial(producer.send_nowait(client.topic, b"x"))
    assert isinstance(error, TopicAuthorizationFailedError)
    assert client.topic in str(error)


async def test_who_may_write_nowhere_gets_no_producer_id_and_is_told_so_at_once(
    client: Client,
) -> None:
    await client.grant("DESCRIBE")
    async with client.producer() as producer:
        error = await denial(producer.send_nowait(client.topic, b"x"))
    assert isinstance(error, ClusterAuthorizationFailedError)
    assert "Write on the topic" in str(error)
    assert "IdempotentWrite on the cluster" in str(error)


async def test_write_on_the_topic_is_enough_to_write_with_idempotence(client: Client) -> None:
    await client.grant("WRITE")
    async with client.producer() as producer:
        await producer.send_many(client.topic, [b"%d" % number for number in range(100)])
        assert producer.status()["producer_id"] is not None
    assert client.stored() == [b"%d" % number for number in range(100)]


async def test_idempotent_write_on_the_cluster_gives_a_producer_id_and_no_topic(
    client: Client,
) -> None:
    await client.grant("DESCRIBE")
    await client.grant("IDEMPOTENT_WRITE", on=CLUSTER)
    async with client.producer() as producer:
        error = await denial(producer.send_nowait(client.topic, b"x"))
    assert isinstance(error, TopicAuthorizationFailedError)


@pytest.mark.parametrize("before", ["nothing", "seen", "seen, and a producer id"])
async def test_a_producer_goes_on_once_it_is_granted_what_was_denied(
    client: Client, before: str
) -> None:
    if before != "nothing":
        await client.grant("DESCRIBE")
    if before == "seen, and a producer id":
        await client.grant_another_topic()
    async with client.producer() as producer:
        await denial(producer.send_nowait(client.topic, b"denied"))
        await client.grant("WRITE")
        async with asyncio.timeout(AT_ONCE):
            await producer.send_many(client.topic, [b"first", b"second"])
    assert client.stored() == [b"first", b"second"]


async def test_a_right_that_is_taken_fails_records_until_it_is_given_back(client: Client) -> None:
    await client.grant_another_topic()
    await client.grant("WRITE")
    async with client.producer() as producer:
        for number in range(20):
            await producer.send_and_wait(client.topic, b"before %d" % number)
        await client.revoke("WRITE")
        denied = [producer.send_nowait(client.topic, b"denied") for _ in range(20)]
        for delivery in denied:
            assert isinstance(await denial(delivery), TopicAuthorizationFailedError)
        await client.grant("WRITE")
        async with asyncio.timeout(AT_ONCE):
            for number in range(20):
                await producer.send_and_wait(client.topic, b"after %d" % number)
    expected = [b"before %d" % one for one in range(20)] + [b"after %d" % one for one in range(20)]
    assert client.stored() == expected


async def test_a_denied_topic_holds_up_no_other(client: Client) -> None:
    other = await client.grant_another_topic()
    await client.grant("DESCRIBE")
    async with client.producer(linger_ms=20) as producer:
        deliveries: list[Delivery] = []
        for number in range(50):
            deliveries.append(producer.send_nowait(other, b"%d" % number))
            deliveries.append(producer.send_nowait(client.topic, b"denied"))
            await asyncio.sleep(0.002)
        async with asyncio.timeout(AT_ONCE):
            results = await asyncio.gather(*deliveries, return_exceptions=True)
    stored = [one for one in results if isinstance(one, RecordMetadata)]
    assert [one.topic for one in stored] == [other] * 50
    assert [one.offset for one in stored] == list(range(50))
    denied = [one for one in results if isinstance(one, TopicAuthorizationFailedError)]
    assert len(denied) == 50


async def test_a_topic_that_may_not_be_created_asks_for_create(client: Client) -> None:
    topic = new_topic_name()
    await client.grant("WRITE", on=topic_resource(topic))
    async with client.producer() as producer:
        error = await denial(producer.send_nowait(topic, b"x"))
    assert isinstance(error, TopicAuthorizationFailedError)
    assert topic in str(error)
    assert "Create" in str(error)


async def test_a_topic_is_created_by_who_may_create_it(client: Client) -> None:
    topic = new_topic_name()
    await client.grant("WRITE", "CREATE", on=topic_resource(topic))
    async with client.producer() as producer:
        await producer.send_and_wait(topic, b"x")
    assert [one.value for one in consume(client.kafka, topic)] == [b"x"]
