"""GSSAPI: records by Kerberos tickets from a KDC of our own, and what is said without them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aioproducer import AuthenticationError, Producer
from tests.support.kafka import consume, create_topic
from tests.support.kerberos import Realm, kerberos_kafka, missing_programs
from tools.kafka_java import LocalKafka

if missing := missing_programs():
    pytest.skip(f"needs Kerberos: {', '.join(missing)}", allow_module_level=True)
pytest.importorskip("gssapi", reason="needs the package gssapi")

pytestmark = [
    pytest.mark.xdist_group("broker"),
    pytest.mark.broker,
    pytest.mark.timeout(60, func_only=True),
]


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    with Realm(tmp_path_factory.mktemp("realm")) as realm:
        realm.principal("alice")
        yield realm


@pytest.fixture(scope="module")
def kerberized(realm: Realm) -> Iterator[LocalKafka]:
    with kerberos_kafka(realm).start() as kafka:
        yield kafka


@pytest.fixture(autouse=True)
def environment(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    realm.log_out()
    for name, value in realm.environ.items():
        monkeypatch.setenv(name, value)


def producer_for(kafka: LocalKafka, **options: Any) -> Producer[bytes, bytes]:
    return Producer(
        bootstrap_servers=kafka.addresses["GSSAPI"],
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="GSSAPI",
        **options,
    )


async def refusal(kafka: LocalKafka, **options: Any) -> str:
    with pytest.raises(AuthenticationError) as caught:
        await producer_for(kafka, **options).start()
    return str(caught.value)


async def test_a_record_is_sent_by_the_ticket_of_the_cache(
    realm: Realm, kerberized: LocalKafka
) -> None:
    topic = create_topic(kerberized)
    await asyncio.to_thread(realm.log_in, "alice")
    async with producer_for(kerberized) as producer:
        await producer.send_and_wait(topic, b"by ticket")
    assert [record.value for record in consume(kerberized, topic)] == [b"by ticket"]


async def test_a_record_is_sent_by_a_keytab_without_any_ticket_cache(
    realm: Realm, kerberized: LocalKafka
) -> None:
    topic = create_topic(kerberized)
    keytab = await asyncio.to_thread(realm.keytab, "alice")
    options = {"sasl_kerberos_keytab": str(keytab)}
    for principal in ({}, {"sasl_kerberos_principal": "alice@TEST.INVALID"}):
        async with producer_for(kerberized, **options, **principal) as producer:
            await producer.send_and_wait(topic, b"by keytab")
    assert [record.value for record in consume(kerberized, topic)] == [b"by keytab"] * 2


async def test_without_a_ticket_the_start_ends_at_once_and_says_so(kerberized: LocalKafka) -> None:
    said = await refusal(kerberized)
    assert "there is no Kerberos ticket" in said
    assert "Run kinit, or set sasl_kerberos_keytab." in said


async def test_a_broker_that_the_kdc_does_not_know_is_named(
    realm: Realm, kerberized: LocalKafka
) -> None:
    await asyncio.to_thread(realm.log_in, "alice")
    said = await refusal(kerberized, sasl_kerberos_service_name="nobody")
    assert "the KDC does not know the broker as nobody/127.0.0.1" in said
    assert "sasl_kerberos_service_name" in said


async def test_a_keytab_of_somebody_else_is_refused(realm: Realm, kerberized: LocalKafka) -> None:
    keytab = await asyncio.to_thread(realm.keytab, "alice")
    said = await refusal(
        kerberized,
        sasl_kerberos_keytab=str(keytab),
        sasl_kerberos_principal="bob@TEST.INVALID",
    )
    assert "Kerberos: " in said
    said = await refusal(kerberized, sasl_kerberos_keytab="/nowhere.keytab")
    assert "sasl_kerberos_keytab" in said


async def test_a_ticket_that_has_expired_is_named(realm: Realm, kerberized: LocalKafka) -> None:
    await asyncio.to_thread(realm.log_in, "alice", life="1s")
    await asyncio.to_thread(time.sleep, 2)
    said = await refusal(kerberized)
    assert "ticket has expired" in said


async def test_a_kdc_that_cannot_be_reached_is_named(kerberized: LocalKafka, tmp_path: Any) -> None:
    with Realm(tmp_path) as other:
        other.principal("carol")
        other.log_in("carol")
        os.environ.update(other.environ)
        other.stop()
        said = await refusal(kerberized)
    assert "no KDC of the realm can be reached" in said
    assert "krb5.conf" in said
