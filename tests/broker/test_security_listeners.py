"""Every listener and mechanism of a secured Kafka takes records, and refuses who it should.

First by librdkafka, so that a failure of the producer is not one of these tests' Kafka.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from aioproducer import (
    AuthenticationError,
    KafkaError,
    Producer,
    TlsError,
)
from aioproducer.errors import SaslAuthenticationFailedError
from tests.broker.secured import secure_producer
from tests.support.certificates import Authority
from tests.support.kafka import consume, create_topic
from tests.support.secure_kafka import (
    MECHANISMS,
    PASSWORDS,
    WRITER,
    Mechanism,
    ScramName,
    SecureKafka,
    new_secret,
    topic_resource,
)

SASL_LISTENERS = ["SASL_PLAINTEXT", "SASL_SSL"]


@pytest.fixture(params=["newest", "3.9"])
def secured(
    request: pytest.FixtureRequest, secure_kafka: SecureKafka, secure_kafka39: SecureKafka
) -> SecureKafka:
    """Each of the two releases in turn."""
    return secure_kafka if request.param == "newest" else secure_kafka39


def librdkafka_writes(
    kafka: SecureKafka, listener: str, options: Mapping[str, Any]
) -> tuple[bool, str]:
    """Send a record by librdkafka; return whether it was stored, and what went wrong."""
    topic = create_topic(kafka, partitions=1)
    errors: list[str] = []

    def failed(error: object) -> None:
        errors.append(str(error))

    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": kafka.addresses[listener],
            "error_cb": failed,
            "log_level": 0,
            "ssl.ca.location": str(kafka.ca_location),
            **options,
        }
    )
    producer.produce(topic, b"x")
    give_up_at = time.monotonic() + 10
    while len(producer) and not errors and time.monotonic() < give_up_at:
        producer.poll(0.05)
    producer.purge()
    producer.flush(5)
    return [one.value for one in consume(kafka, topic)] == [b"x"], "\n".join(errors)


def librdkafka_login(
    kafka: SecureKafka, listener: str, mechanism: Mechanism, *, is_right: bool = True
) -> dict[str, Any]:
    login: dict[str, Any] = {
        "security.protocol": "SASL_PLAINTEXT" if listener == "SASL_PLAINTEXT" else "SASL_SSL",
        "sasl.mechanism": mechanism,
    }
    if mechanism == "OAUTHBEARER":
        token = kafka.token(WRITER, claims={} if is_right else {"aud": "others"})

        def provide(_config: str) -> tuple[str, float]:
            return token, time.time() + 300

        return {**login, "oauth_cb": provide}
    password = PASSWORDS[mechanism] if is_right else new_secret("wrong")
    return {**login, "sasl.username": WRITER, "sasl.password": password}


def test_librdkafka_writes_over_tls(secured: SecureKafka) -> None:
    assert librdkafka_writes(secured, "SSL", {"security.protocol": "SSL"}) == (True, "")


def test_librdkafka_writes_with_a_client_certificate(secured: SecureKafka, tmp_path: Path) -> None:
    client = str(secured.authority.client(WRITER).write(tmp_path / "client.pem"))
    assert librdkafka_writes(
        secured,
        "MTLS",
        {
            "security.protocol": "SSL",
            "ssl.certificate.location": client,
            "ssl.key.location": client,
        },
    ) == (True, "")


def test_librdkafka_is_refused_without_a_client_certificate(secured: SecureKafka) -> None:
    is_stored, said = librdkafka_writes(secured, "MTLS", {"security.protocol": "SSL"})
    assert not is_stored
    assert "SSL" in said


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("listener", SASL_LISTENERS)
def test_librdkafka_writes_with_each_mechanism(
    secured: SecureKafka, listener: str, mechanism: Mechanism
) -> None:
    login = librdkafka_login(secured, listener, mechanism)
    assert librdkafka_writes(secured, listener, login) == (True, "")


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_librdkafka_is_refused_with_wrong_credentials(
    secured: SecureKafka, mechanism: Mechanism
) -> None:
    login = librdkafka_login(secured, "SASL_SSL", mechanism, is_right=False)
    is_stored, said = librdkafka_writes(secured, "SASL_SSL", login)
    assert not is_stored
    assert "uthentication" in said or "invalid_token" in said, said


async def records_are_stored_once(kafka: SecureKafka, producer: Producer[Any, Any]) -> None:
    topic = create_topic(kafka, partitions=1)
    values = [b"%d" % number for number in range(100)]
    async with producer:
        await producer.send_many(topic, values)
        await producer.send_and_wait(topic, bytes(200_000))
    assert [one.value for one in consume(kafka, topic)] == [*values, bytes(200_000)]


async def test_records_are_stored_once_over_plaintext(secured: SecureKafka) -> None:
    await records_are_stored_once(secured, secure_producer(secured, "PLAINTEXT"))


async def test_records_are_stored_once_over_tls(secured: SecureKafka) -> None:
    await records_are_stored_once(secured, secure_producer(secured, "SSL"))


async def test_records_are_stored_once_over_mutual_tls(secured: SecureKafka) -> None:
    context = secured.authority.client_context()
    secured.authority.client(WRITER).show_in(context)
    producer = secure_producer(secured, "MTLS", ssl_context=context)
    await records_are_stored_once(secured, producer)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("listener", SASL_LISTENERS)
async def test_records_are_stored_once_with_each_mechanism(
    secured: SecureKafka, listener: str, mechanism: Mechanism
) -> None:
    await records_are_stored_once(secured, secure_producer(secured, listener, mechanism))


async def start_fails(producer: Producer[Any, Any]) -> KafkaError:
    """Return the error of a start, which has to come long before `max_block_ms`."""
    async with asyncio.timeout(10):
        with pytest.raises(KafkaError) as caught:
            await producer.start()
    return caught.value


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_password_is_hashed_as_it_is_and_a_name_may_have_any_characters(
    secure_kafka: SecureKafka, mechanism: ScramName
) -> None:
    topic = create_topic(secure_kafka, partitions=1)
    user = f"a=b,c {uuid.uuid4().hex[:8]}"
    # SASLprep makes other characters of the first ones, and refuses the last one.
    password = "5\N{MICRO SIGN}m x\N{SUPERSCRIPT TWO} \N{GRINNING FACE}"
    await asyncio.to_thread(secure_kafka.change_scram_password, user, password, mechanism=mechanism)
    await asyncio.to_thread(secure_kafka.grant, user, topic_resource(topic), "WRITE")
    async with secure_producer(
        secure_kafka, "SASL_SSL", mechanism, sasl_username=user, sasl_password=password
    ) as producer:
        assert (await producer.send_and_wait(topic, b"0")).offset == 0


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password_ends_the_start_at_once(
    secured: SecureKafka, mechanism: Mechanism
) -> None:
    wrong = new_secret("wrong")
    error = await start_fails(secure_producer(secured, "SASL_SSL", mechanism, sasl_password=wrong))
    assert isinstance(error, SaslAuthenticationFailedError)
    assert "Check the user name, password" in str(error)
    assert secured.addresses["SASL_SSL"] in str(error)
    assert wrong not in repr(error) + str(error)


@pytest.mark.parametrize("expires_in", [300, -120])
async def test_a_token_that_the_broker_refuses_ends_the_start_at_once(
    secured: SecureKafka, expires_in: int
) -> None:
    token = secured.token(WRITER, expires_in=expires_in, claims={"aud": "others"})
    error = await start_fails(
        secure_producer(secured, "SASL_SSL", "OAUTHBEARER", sasl_oauth_token_provider=lambda: token)
    )
    assert isinstance(error, AuthenticationError)
    assert secured.addresses["SASL_SSL"] in str(error)
    assert token not in repr(error) + str(error)


async def test_a_broker_that_wants_a_certificate_ends_the_start_at_once(
    secured: SecureKafka,
) -> None:
    error = await start_fails(secure_producer(secured, "MTLS"))
    assert isinstance(error, TlsError)
    assert "ssl_certificate_location" in str(error)


async def test_an_expired_client_certificate_ends_the_start_at_once(secured: SecureKafka) -> None:
    context = secured.authority.client_context()
    secured.authority.expired_client(WRITER).show_in(context)
    error = await start_fails(secure_producer(secured, "MTLS", ssl_context=context))
    assert isinstance(error, TlsError)


async def test_a_client_certificate_of_another_authority_ends_the_start_at_once(
    secured: SecureKafka,
) -> None:
    context = secured.authority.client_context()
    Authority().client(WRITER).show_in(context)
    error = await start_fails(secure_producer(secured, "MTLS", ssl_context=context))
    assert isinstance(error, TlsError)


async def test_a_broker_of_another_authority_ends_the_start_at_once(secured: SecureKafka) -> None:
    context = Authority().client_context()
    error = await start_fails(secure_producer(secured, "SSL", ssl_context=context))
    assert isinstance(error, TlsError)
    assert "ssl_ca_location" in str(error)


@pytest.mark.parametrize(
    ("listener", "security_protocol"),
    [
        ("PLAINTEXT", "SSL"),
        ("SSL", "PLAINTEXT"),
        ("SASL_SSL", "SSL"),
        ("SASL_PLAINTEXT", "PLAINTEXT"),
        ("SASL_SSL", "SASL_PLAINTEXT"),
        ("SASL_PLAINTEXT", "SASL_SSL"),
        ("SSL", "SASL_SSL"),
        ("PLAINTEXT", "SASL_PLAINTEXT"),
    ],
)
async def test_another_security_protocol_than_the_listeners_ends_the_start_within_seconds(
    secure_kafka: SecureKafka, listener: str, security_protocol: str
) -> None:
    mechanism: Mechanism | None = "PLAIN" if security_protocol.startswith("SASL") else None
    options: dict[str, Any] = {"security_protocol": security_protocol}
    if security_protocol.endswith("SSL"):
        options["ssl_context"] = secure_kafka.authority.client_context()
    else:
        options["ssl_context"] = None
    error = await start_fails(secure_producer(secure_kafka, listener, mechanism, **options))
    assert secure_kafka.addresses[listener] in str(error)
    assert "security_protocol" in str(error)
