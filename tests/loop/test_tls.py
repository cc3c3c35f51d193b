"""TLS: records over it, and what is said where one side speaks it and the other does not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest
import trustme

from aioproducer import KafkaConnectionError, KafkaError, Producer, TlsError
from aioproducer.testing import FakeCluster

AUTHORITY = trustme.CA()


def server_context(*names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = AUTHORITY.issue_cert(*(names or ("127.0.0.1",)))
    # Its types name OpenSSL contexts that are not installed.
    certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
    return context


async def start_failing(
    producer: Producer[bytes, bytes], kind: type[KafkaError] = KafkaConnectionError
) -> str:
    with pytest.raises(kind) as caught:
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


async def test_a_port_that_accepts_and_says_nothing_in_tls_is_reported_as_such() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    said = await start_failing(
        Producer(
            bootstrap_servers=f"127.0.0.1:{server.sockets[0].getsockname()[1]}",
            security_protocol="SSL",
            ssl_context=client_context(),
            max_block_ms=300,
            socket_connection_setup_timeout_ms=100,
        )
    )
    server.close()
    await server.wait_closed()
    assert "accepted the connection and gave no answer in TLS: does the port speak TLS?" in said


async def test_a_certificate_for_another_name_is_named_as_the_reason() -> None:
    async with FakeCluster(ssl_context=server_context("kafka.example")) as cluster:
        said = await start_failing(
            Producer(
                bootstrap_servers=cluster.bootstrap_servers,
                security_protocol="SSL",
                ssl_context=client_context(),
            ),
            TlsError,
        )
    assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in said
    assert "Use a name that the certificate is for in bootstrap_servers" in said


async def test_a_name_with_a_dot_at_its_end_is_that_of_the_certificate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(host: str) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr("aioproducer.network.connecting.resolve", resolve)
    context = server_context("kafka.example", "127.0.0.1")
    asked_for: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked_for.append(name)
    async with FakeCluster(topics={"payments": 1}, ssl_context=context) as cluster:
        port = cluster.bootstrap_servers.rpartition(":")[2]
        async with Producer(
            bootstrap_servers=f"kafka.example.:{port}",
            security_protocol="SSL",
            ssl_context=client_context(),
        ) as producer:
            assert (await producer.send_and_wait("payments", b"0")).offset == 0
    assert asked_for[0] == "kafka.example"


async def test_a_broker_that_wants_a_certificate_is_asked_about() -> None:
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED

    def refuse(listener: socket.socket) -> None:
        # In a thread, since asyncio's servers close before their TLS has said why.
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                with near.dup() as raw:
                    with contextlib.suppress(ssl.SSLError):
                        context.wrap_socket(near, server_side=True)
                    # Read to the end, or the reason would be lost with the connection.
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(4_096):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listener))
        said = await start_failing(
            Producer(
                bootstrap_servers=f"127.0.0.1:{listener.getsockname()[1]}",
                security_protocol="SSL",
                ssl_context=client_context(),
            ),
            TlsError,
        )
        listener.shutdown(socket.SHUT_RDWR)
        await refusing
    assert "CERTIFICATE_REQUIRED" in said
    assert "does it want a certificate?" in said


async def test_a_certificate_that_is_not_trusted_is_named_as_the_reason() -> None:
    async with FakeCluster(ssl_context=server_context()) as cluster:
        said = await start_failing(
            Producer(
                bootstrap_servers=cluster.bootstrap_servers,
                security_protocol="SSL",
                ssl_context=ssl.create_default_context(),
            ),
            TlsError,
        )

    assert "unable to get local issuer certificate" in said
    assert "Set ssl_ca_location" in said
