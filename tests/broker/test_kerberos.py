"""GSSAPI: records by Kerberos tickets from a KDC of our own, and what is said without them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from aioproducer import (
    AuthenticationError,
    KafkaConnectionError,
    Producer,
    TopicAuthorizationFailedError,
)
from tests.broker.helpers import until
from tests.support.forwarder import Forwarder
from tests.support.kafka import consume, create_topic
from tests.support.kerberos import REALM, Realm, kerberos_kafka, missing_programs
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
    """Alice and carol may write; bob is known, and may not. Carol's tickets are soon over."""
    with Realm(tmp_path_factory.mktemp("realm")) as realm:
        realm.principal("alice")
        realm.principal("bob")
        realm.principal("carol", ticket_life="4 seconds")
        yield realm


@pytest.fixture(scope="module")
def kerberized(realm: Realm) -> Iterator[LocalKafka]:
    with kerberos_kafka(realm, super_users=["alice", "carol"]).start() as kafka:
        yield kafka


@pytest.fixture(autouse=True)
def environment(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a process of that realm, with no ticket."""
    realm.log_out()
    for name, value in realm.environ.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def paused_kdc(realm: Realm) -> AsyncGenerator[Realm]:
    """The KDC answers nothing until the test resumes it."""
    realm.pause()
    yield realm
    realm.resume()


def producer_for(kafka: LocalKafka, **options: Any) -> Producer[bytes, bytes]:
    defaults: dict[str, Any] = {
        "bootstrap_servers": kafka.addresses["GSSAPI"],
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "GSSAPI",
    }
    return Producer(**{**defaults, **options})


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


async def log_in(realm: Realm, name: str) -> None:
    await asyncio.to_thread(realm.log_in, name)


async def keytab(realm: Realm, name: str) -> str:
    return str(await asyncio.to_thread(realm.keytab, name))


async def refusal(kafka: LocalKafka, **options: Any) -> str:
    with pytest.raises(AuthenticationError) as caught:
        await producer_for(kafka, **options).start()
    return str(caught.value)


async def test_a_record_is_sent_by_the_ticket_of_the_cache(
    realm: Realm, kerberized: LocalKafka
) -> None:
    topic = create_topic(kerberized)
    await log_in(realm, "alice")
    async with producer_for(kerberized) as producer:
        await producer.send_and_wait(topic, b"by ticket")
    assert [record.value for record in consume(kerberized, topic)] == [b"by ticket"]


async def test_a_record_is_sent_by_a_keytab_without_any_ticket_cache(
    realm: Realm, kerberized: LocalKafka
) -> None:
    topic = create_topic(kerberized)
    options = {"sasl_kerberos_keytab": await keytab(realm, "alice")}
    for principal in ({}, {"sasl_kerberos_principal": f"alice@{REALM}"}):
        async with producer_for(kerberized, **options, **principal) as producer:
            await producer.send_and_wait(topic, b"by keytab")
    assert [record.value for record in consume(kerberized, topic)] == [b"by keytab"] * 2


async def test_the_broker_takes_the_principal_of_the_ticket_for_the_client(
    realm: Realm, kerberized: LocalKafka
) -> None:
    topic = create_topic(kerberized)
    await log_in(realm, "bob")
    async with producer_for(kerberized) as producer:
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait(topic, b"by somebody who may not")


async def test_logging_in_again_takes_a_new_ticket_and_the_connection_stays(
    realm: Realm, kerberized: LocalKafka
) -> None:
    topic = create_topic(kerberized)
    options = {"sasl_kerberos_keytab": await keytab(realm, "carol")}
    listens, told = kerberized.addresses, kerberized.advertised_addresses
    name = "GSSAPI_FORWARDED"
    async with (
        Forwarder(port_of(listens[name]), port=port_of(told[name])) as forwarder,
        producer_for(kerberized, bootstrap_servers=told[name], **options) as producer,
    ):
        await producer.send_and_wait(topic, b"at first")
        connections, logins = forwarder.accepted, realm.logins("carol")
        await until(lambda: realm.logins("carol") >= logins + 2, within=20)
        await producer.send_and_wait(topic, b"later")
        # The broker would have ended one whose session was over.
        assert forwarder.accepted == connections


async def test_a_slow_kdc_holds_neither_the_loop_nor_another_producer(
    paused_kdc: Realm, kerberized: LocalKafka
) -> None:
    topic = create_topic(kerberized)
    # Nobody has a ticket yet: each exchange asks the KDC.
    keytab_of_carol = await keytab(paused_kdc, "carol")
    slow = producer_for(kerberized, sasl_kerberos_keytab=keytab_of_carol)
    starting = asyncio.create_task(slow.start())
    async with Producer(bootstrap_servers=kerberized.bootstrap_servers) as other:
        for _ in range(20):
            await other.send_and_wait(topic, b"meanwhile")
    assert not starting.done()
    paused_kdc.resume()
    await starting
    await slow.send_and_wait(topic, b"at last")
    await slow.close()


async def test_a_kdc_that_answers_nothing_is_blamed_and_not_the_broker(
    paused_kdc: Realm, kerberized: LocalKafka
) -> None:
    producer = producer_for(
        kerberized,
        sasl_kerberos_keytab=await keytab(paused_kdc, "carol"),
        socket_connection_setup_timeout_ms=500,
        max_block_ms=1_000,
    )
    with pytest.raises(KafkaConnectionError, match="which asks the KDC, gave nothing within"):
        await producer.start()


async def test_without_a_ticket_the_start_ends_at_once_and_says_so(kerberized: LocalKafka) -> None:
    said = await refusal(kerberized)
    assert "there is no Kerberos ticket" in said
    assert "Run kinit, or set sasl_kerberos_keytab." in said


async def test_a_broker_that_the_kdc_does_not_know_is_named(
    realm: Realm, kerberized: LocalKafka
) -> None:
    await log_in(realm, "alice")
    said = await refusal(kerberized, sasl_kerberos_service_name="nobody")
    assert f"the KDC does not know the broker as nobody/127.0.0.1@{REALM}" in said
    assert "sasl_kerberos_service_name" in said


async def test_a_kdc_that_cannot_be_reached_is_named(
    kerberized: LocalKafka, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Realm(tmp_path) as other:
        other.principal("alice")
        other.log_in("alice")
    for name, value in other.environ.items():
        monkeypatch.setenv(name, value)
    said = await refusal(kerberized)
    assert "no KDC of the realm can be reached" in said
    assert "krb5.conf" in said


async def test_a_ticket_that_the_broker_refuses_is_explained(
    realm: Realm, kerberized: LocalKafka
) -> None:
    await log_in(realm, "alice")
    async with producer_for(kerberized):
        pass  # The cache has a ticket for the broker now.
    realm.set_clock(20 * 60)
    said = await refusal(kerberized)
    assert "SASL_AUTHENTICATION_FAILED" in said
    assert "Compare its clock with this machine's" in said
