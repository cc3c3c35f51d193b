"""TLS: records over it, and what is said where one side speaks it and the other does not."""

from __future__ import annotations

import ssl

import pytest
import trustme

from aioproducer import KafkaConnectionError, Producer
from aioproducer.testing import FakeCluster

AUTHORITY = trustme.CA()


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Its types name OpenSSL contexts that are not installed.
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
    return context


async def start_failing(producer: Producer[bytes, bytes]) -> str:
    with pytest.raises(KafkaConnectionError) as caught:
        await producer.start()
    return str(caught.value)


async def test_records_go_over_tls() -> None:
    async with (
        FakeCluster(topics={"payments": 1}, ssl_context=server_context()) as cluster,
        Producer(
            bootstrap_servers=cluster.bootstrap_servers,
            security_protocol="SSL",
            ssl_context=client_context(),
        ) as producer,
    ):
        large = bytes(500_000)
        await producer.send_many("payments", [b"first", large])

        assert [record.value for record in cluster.records("payments")] == [b"first", large]


async def test_a_tls_port_without_tls_asks_whether_tls_is_missing() -> None:
    async with FakeCluster(ssl_context=server_context()) as cluster:
        said = await start_failing(
            Producer(bootstrap_servers=cluster.bootstrap_servers, max_block_ms=300)
        )

    assert cluster.bootstrap_servers in said
    assert "is TLS missing" in said


async def test_a_plaintext_port_with_tls_asks_whether_it_speaks_tls() -> None:
    async with FakeCluster() as cluster:
        said = await start_failing(
            Producer(
                bootstrap_servers=cluster.bootstrap_servers,
                security_protocol="SSL",
                ssl_context=client_context(),
                max_block_ms=300,
            )
        )

    assert cluster.bootstrap_servers in said
    assert "TLS" in said


async def test_a_certificate_that_is_not_trusted_is_named_as_the_reason() -> None:
    async with FakeCluster(ssl_context=server_context()) as cluster:
        said = await start_failing(
            Producer(
                bootstrap_servers=cluster.bootstrap_servers,
                security_protocol="SSL",
                ssl_context=ssl.create_default_context(),
                max_block_ms=300,
            )
        )

    assert "CERTIFICATE_VERIFY_FAILED" in said
