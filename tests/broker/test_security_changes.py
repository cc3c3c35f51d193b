"""Passwords, sessions and certificates that change while records flow: none is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aioproducer import Delivery, Producer, RecordMetadata
from tests.broker.helpers import until
from tests.broker.secured import secure_producer
from tests.support.kafka import consume, create_topic
from tests.support.secure_kafka import (
    PASSWORDS,
    REAUTHENTICATION_MS,
    WRITER,
    Mechanism,
    SecureKafka,
    topic_resource,
)

pytestmark = pytest.mark.timeout(45)
"""Refused attempts follow each other with growing pauses, of seconds."""


class Flow:
    """Numbered records, sent one after the other while the test changes things.

    Attributes:
        deliveries: Of each record sent so far.
    """

    def __init__(self, producer: Producer[Any, Any], topic: str) -> None:
        self.deliveries: list[Delivery] = []
        self._producer = producer
        self._topic = topic

    async def send(self) -> None:
        """Send until cancelled."""
        while True:
            value = b"%d" % len(self.deliveries)
            self.deliveries.append(await self._producer.send(self._topic, value))
            await asyncio.sleep(0.002)

    @property
    def delivered(self) -> int:
        """How many are acknowledged, from the first on."""
        for number, delivery in enumerate(self.deliveries):
            if not delivery.done():
                return number
        return len(self.deliveries)

    async def goes_on(self) -> None:
        """Wait until records that were sent after this call are acknowledged."""
        wanted = len(self.deliveries) + 20
        await until(lambda: self.delivered >= wanted, within=10)

    async def waits(self) -> None:
        """Wait until records pile up without an acknowledgement, and without an error."""
        delivered = self.delivered
        wanted = len(self.deliveries) + 50
        await until(lambda: len(self.deliveries) >= wanted, within=10)
        assert self.delivered <= delivered + 50
        assert not any(one.done() and one.exception() for one in self.deliveries)


@asynccontextmanager
async def flowing(
    kafka: SecureKafka, producer: Producer[Any, Any], topic: str
) -> AsyncGenerator[Flow]:
    """Send records to a topic of one partition; check at the end that each is stored once."""
    async with producer:
        flow = Flow(producer, topic)
        sending = asyncio.create_task(flow.send())
        try:
            await flow.goes_on()
            yield flow
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        async with asyncio.timeout(10):
            metadata: list[RecordMetadata] = await asyncio.gather(*flow.deliveries)
    count = len(metadata)
    assert [one.offset for one in metadata] == list(range(count))
    assert [one.value for one in consume(kafka, topic)] == [b"%d" % one for one in range(count)]


def warnings(caplog: pytest.LogCaptureFixture, about: str = "") -> list[str]:
    messages = [one.getMessage() for one in caplog.records if one.levelname in ("WARNING", "ERROR")]
    return [one for one in messages if about in one]


async def until_refused(asked: Callable[[], int], *, times: int = 2) -> None:
    """Wait until a connection was tried, and refused, so many more times."""
    before = asked()
    await until(lambda: asked() >= before + times, within=15)


async def test_records_wait_for_the_new_password_after_the_old_one_was_changed(
    secure_kafka: SecureKafka, caplog: pytest.LogCaptureFixture
) -> None:
    topic = create_topic(secure_kafka, partitions=1)
    user, password = secure_kafka.new_user()
    secure_kafka.grant(user, topic_resource(topic), "WRITE")
    provided = [password]
    async with secure_kafka.forwarder("SASL_FORWARDED") as forwarder:
        producer = secure_producer(
            secure_kafka,
            "SASL_FORWARDED",
            "SCRAM-SHA-256",
            sasl_username=user,
            sasl_password=lambda: provided[-1],
        )
        async with flowing(secure_kafka, producer, topic) as flow:
            connections = forwarder.accepted
            new = await asyncio.to_thread(secure_kafka.change_scram_password, user)
            # The connection that there is stays logged in.
            await flow.goes_on()
            assert forwarder.accepted == connections
            assert warnings(caplog) == []

            forwarder.cut()
            await until_refused(lambda: forwarder.accepted)
            await flow.waits()
            provided.append(new)
            await flow.goes_on()
    (said,) = warnings(caplog, "cannot be reached, and records wait for it")
    assert "invalid credentials" in said
    assert new not in caplog.text
    assert password not in caplog.text


async def test_records_wait_when_the_next_login_of_a_connection_is_refused(
    secure_kafka: SecureKafka, caplog: pytest.LogCaptureFixture
) -> None:
    topic = create_topic(secure_kafka, partitions=1)
    user, password = secure_kafka.new_user()
    secure_kafka.grant(user, topic_resource(topic), "WRITE")
    provided = [password]
    async with secure_kafka.forwarder("REAUTH_FORWARDED") as forwarder:
        producer = secure_producer(
            secure_kafka,
            "REAUTH_FORWARDED",
            "SCRAM-SHA-256",
            sasl_username=user,
            sasl_password=lambda: provided[-1],
        )
        async with flowing(secure_kafka, producer, topic) as flow:
            new = await asyncio.to_thread(secure_kafka.change_scram_password, user)
            await until_refused(lambda: forwarder.accepted)
            await flow.waits()
            provided.append(new)
            await flow.goes_on()
    (said,) = warnings(caplog, "cannot be reached, and records wait for it")
    assert "invalid credentials" in said


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512", "OAUTHBEARER"])
async def test_logging_in_again_disturbs_no_record(
    secure_kafka: SecureKafka, mechanism: Mechanism, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker ends a connection whose session is over; so if it stays, the login went well."""
    topic = create_topic(secure_kafka, partitions=1)
    logins = 0

    def password() -> str:
        nonlocal logins
        logins += 1
        return PASSWORDS[mechanism]

    options: dict[str, Any] = {} if mechanism == "OAUTHBEARER" else {"sasl_password": password}
    async with secure_kafka.forwarder("REAUTH_FORWARDED") as forwarder:
        producer = secure_producer(secure_kafka, "REAUTH_FORWARDED", mechanism, **options)
        async with flowing(secure_kafka, producer, topic) as flow:
            connections, first_logins = forwarder.accepted, logins
            await asyncio.sleep(2.5 * REAUTHENTICATION_MS / 1_000)
            await flow.goes_on()
            assert forwarder.accepted == connections
            if mechanism != "OAUTHBEARER":
                assert logins >= first_logins + 2
        assert producer.metrics()["batch_retry_total"] == 0
    assert warnings(caplog) == []


async def test_records_wait_while_the_brokers_certificate_has_expired(
    secure_kafka: SecureKafka, caplog: pytest.LogCaptureFixture
) -> None:
    topic = create_topic(secure_kafka, partitions=1)
    replace = secure_kafka.replace_certificate
    async with secure_kafka.forwarder("SSL_FORWARDED") as forwarder:
        producer = secure_producer(secure_kafka, "SSL_FORWARDED")
        async with flowing(secure_kafka, producer, topic) as flow:
            short = secure_kafka.authority.server(valid_for=timedelta(seconds=5))
            await asyncio.to_thread(replace, "SSL_FORWARDED", short)
            forwarder.cut()
            await flow.goes_on()
            connections = forwarder.accepted
            await asyncio.sleep(5)
            # Looked at only when a connection is made.
            await flow.goes_on()
            assert forwarder.accepted == connections

            forwarder.cut()
            await until_refused(lambda: forwarder.accepted)
            await flow.waits()
            await asyncio.to_thread(replace, "SSL_FORWARDED", secure_kafka.authority.server())
            await flow.goes_on()
    (said,) = warnings(caplog, "cannot be reached, and records wait for it")
    assert "certificate" in said
    assert "expired" in said


async def test_a_replaced_client_certificate_is_shown_by_the_next_connection(
    secure_kafka: SecureKafka, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = create_topic(secure_kafka, partitions=1)
    first, second = (f"client-{topic}-{number}" for number in (1, 2))
    for user in (first, second):
        secure_kafka.grant(user, topic_resource(topic), "WRITE")
    file = secure_kafka.authority.client(first).write(tmp_path / "client.pem")
    async with secure_kafka.forwarder("MTLS_FORWARDED") as forwarder:
        producer = secure_producer(
            secure_kafka,
            "MTLS_FORWARDED",
            ssl_context=None,
            ssl_ca_location=str(secure_kafka.ca_location),
            ssl_certificate_location=str(file),
        )
        async with flowing(secure_kafka, producer, topic) as flow:
            secure_kafka.authority.client(second).write(file)
            forwarder.cut()
            await flow.goes_on()
            # With the first certificate, nothing would be allowed from here on.
            await asyncio.to_thread(secure_kafka.revoke, first, topic_resource(topic), "WRITE")
            await flow.goes_on()
    assert warnings(caplog, "cannot be reached") == []


async def test_records_wait_while_the_client_certificate_has_expired(
    secure_kafka: SecureKafka, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = create_topic(secure_kafka, partitions=1)
    file = secure_kafka.authority.client(WRITER).write(tmp_path / "client.pem")
    async with secure_kafka.forwarder("MTLS_FORWARDED") as forwarder:
        producer = secure_producer(
            secure_kafka,
            "MTLS_FORWARDED",
            ssl_context=None,
            ssl_ca_location=str(secure_kafka.ca_location),
            ssl_certificate_location=str(file),
        )
        async with flowing(secure_kafka, producer, topic) as flow:
            secure_kafka.authority.expired_client(WRITER).write(file)
            forwarder.cut()
            await until_refused(lambda: forwarder.accepted)
            await flow.waits()
            secure_kafka.authority.client(WRITER).write(file)
            await flow.goes_on()
    (said,) = warnings(caplog, "cannot be reached, and records wait for it")
    # Java's alert tells no more.
    assert "The broker refused the client's certificate" in said
