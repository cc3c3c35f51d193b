"""Every listener and mechanism of a secured Kafka takes records, and refuses who it should.

First by librdkafka, so that a failure of the producer is not one of these tests' Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from tests.support.kafka import consume, create_topic
from tests.support.secure_kafka import (
    MECHANISMS,
    PASSWORDS,
    WRITER,
    Mechanism,
    SecureKafka,
    new_secret,
)

SASL_LISTENERS = ["SASL_PLAINTEXT", "SASL_SSL", "SASL_REAUTH"]


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
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": kafka.addresses[listener],
            "error_cb": lambda error: errors.append(str(error)),
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
        return {**login, "oauth_cb": lambda _config: (token, time.time() + 300)}
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
