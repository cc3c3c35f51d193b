"""Which TLS context the options make, when its files are read again, and what is refused."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aioproducer import ConfigError, ProducerConfig
from aioproducer.network.tls import Tls
from tests.support.certificates import Authority, Certificate

AUTHORITY = Authority()
CLIENT = AUTHORITY.client("alice")
PASSWORD = "canary-secret-key-password"


def tls(**options: Any) -> Tls:
    return Tls(ProducerConfig(bootstrap_servers="a:1,b:1", security_protocol="SSL", **options))


async def refusal(**options: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        await tls(**options).context()
    assert PASSWORD not in str(caught.value)
    return caught.value


def shown_name(client: ssl.SSLContext, server: Certificate) -> str | None:
    """Shake hands in memory; return the common name that the client shows, if any."""
    serving = server.server_context()
    serving.verify_mode = ssl.CERT_OPTIONAL
    serving.load_verify_locations(cadata=AUTHORITY.pem)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    far = serving.wrap_bio(to_server, to_client, server_side=True)
    steps: list[Callable[[], None]] = [near.do_handshake, far.do_handshake]
    while steps:
        step = steps.pop(0)
        try:
            step()
        except ssl.SSLWantReadError:
            steps.append(step)
    subject = (far.getpeercert() or {}).get("subject", ())
    names = [pair[1] for part in subject for pair in part if pair[0] == "commonName"]
    return names[0] if names else None


# ---- what is made


async def test_by_default_the_system_is_trusted_and_names_are_checked_from_tls_1_2_on() -> None:
    context = await tls().context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.cert_store_stats() == ssl.create_default_context().cert_store_stats()


async def test_a_context_that_is_given_is_used_as_it_is() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert await tls(ssl_context=context).context() is context


async def test_an_authority_is_trusted_from_a_file_a_folder_or_a_text(tmp_path: Path) -> None:
    file = AUTHORITY.write(tmp_path / "authority.pem")
    server = AUTHORITY.server()
    for options in (
        {"ssl_ca_location": str(file)},
        {"ssl_ca_pem": AUTHORITY.pem},
    ):
        context = await tls(**options).context()
        assert len(context.get_ca_certs()) == 1
        assert shown_name(context, server) is None
    rehash = await asyncio.create_subprocess_exec("openssl", "rehash", str(tmp_path))
    assert await rehash.wait() == 0
    assert shown_name(await tls(ssl_ca_location=str(tmp_path)).context(), server) is None


async def test_a_certificate_of_another_authority_is_refused() -> None:
    context = await tls(ssl_ca_pem=AUTHORITY.pem).context()
    with pytest.raises(ssl.SSLCertVerificationError):
        shown_name(context, Authority().server())


async def test_host_names_are_left_unchecked_only_when_asked() -> None:
    elsewhere = AUTHORITY.server_elsewhere()
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shown_name(await tls(ssl_ca_pem=AUTHORITY.pem).context(), elsewhere)
    lenient = tls(ssl_ca_pem=AUTHORITY.pem, ssl_endpoint_identification_algorithm="none")
    assert shown_name(await lenient.context(), elsewhere) is None
    with pytest.raises(ssl.SSLCertVerificationError):
        shown_name(await lenient.context(), Authority().server_elsewhere())


async def test_the_clients_certificate_and_key_come_as_files_or_as_texts(tmp_path: Path) -> None:
    both = CLIENT.write(tmp_path / "both.pem")
    encrypted = CLIENT.write(tmp_path / "encrypted.pem", key_password=PASSWORD)
    CLIENT.write_apart(tmp_path / "certificate.pem", tmp_path / "key.pem")
    apart = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    for options in (
        {"ssl_certificate_location": str(both)},
        {"ssl_certificate_location": apart[0], "ssl_key_location": apart[1]},
        {"ssl_certificate_location": apart[0], "ssl_key_pem": CLIENT.key_pem},
        {"ssl_certificate_pem": CLIENT.certificate_pem, "ssl_key_location": apart[1]},
        {"ssl_certificate_pem": CLIENT.certificate_pem, "ssl_key_pem": CLIENT.key_pem},
        {"ssl_certificate_pem": CLIENT.certificate_pem + CLIENT.key_pem},
        {"ssl_certificate_location": str(encrypted), "ssl_key_password": PASSWORD},
        {
            "ssl_certificate_pem": CLIENT.certificate_pem,
            "ssl_key_pem": CLIENT.encrypted_key_pem(PASSWORD),
            "ssl_key_password": PASSWORD,
        },
    ):
        context = await tls(ssl_ca_pem=AUTHORITY.pem, **options).context()
        assert shown_name(context, AUTHORITY.server()) == "alice"


async def test_a_key_as_text_works_without_files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create")
    options = {"ssl_certificate_pem": CLIENT.certificate_pem, "ssl_key_pem": CLIENT.key_pem}
    context = await tls(ssl_ca_pem=AUTHORITY.pem, **options).context()
    assert shown_name(context, AUTHORITY.server()) == "alice"


# ---- when files change


async def test_files_are_read_once_until_they_change(tmp_path: Path) -> None:
    file = CLIENT.write(tmp_path / "client.pem")
    source = tls(ssl_ca_pem=AUTHORITY.pem, ssl_certificate_location=str(file))
    first, same = await asyncio.gather(source.context(), source.context())
    assert first is same is await source.context()
    AUTHORITY.client("bob").write(file)
    second = await source.context()
    assert second is not first
    assert shown_name(second, AUTHORITY.server()) == "bob"


async def test_a_link_that_points_elsewhere_counts_as_a_change(tmp_path: Path) -> None:
    # As Kubernetes swaps the folder of a secret.
    for name in ("alice", "bob"):
        (tmp_path / name).mkdir()
        AUTHORITY.client(name).write(tmp_path / name / "client.pem")
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "alice")
    file = str(link / "client.pem")
    source = tls(ssl_ca_pem=AUTHORITY.pem, ssl_certificate_location=file)
    assert shown_name(await source.context(), AUTHORITY.server()) == "alice"
    link.unlink()
    link.symlink_to(tmp_path / "bob")
    assert shown_name(await source.context(), AUTHORITY.server()) == "bob"


async def test_files_that_cannot_be_used_any_more_are_said_once_and_the_last_ones_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = CLIENT.write(tmp_path / "client.pem")
    source = tls(ssl_ca_pem=AUTHORITY.pem, ssl_certificate_location=str(file))
    first = await source.context()
    file.write_text("half a certif")
    with caplog.at_level(logging.WARNING):
        assert await source.context() is first
        assert await source.context() is first
    assert len(caplog.messages) == 1
    assert "ssl_certificate_location" in caplog.text
    file.unlink()
    assert await source.context() is first
    AUTHORITY.client("bob").write(file)
    assert shown_name(await source.context(), AUTHORITY.server()) == "bob"


async def test_a_wait_that_is_cancelled_ends_no_other() -> None:
    source = tls()
    waits = [asyncio.ensure_future(source.context()) for _ in range(3)]
    await asyncio.sleep(0)
    waits[0].cancel()
    assert await waits[1] is await waits[2]


# ---- what is refused


async def test_a_file_that_is_missing_or_a_folder_is_named_with_its_option(tmp_path: Path) -> None:
    for option in ("ssl_ca_location", "ssl_certificate_location"):
        missing = str(tmp_path / "missing.pem")
        error = await refusal(**{option: missing})
        assert f"{option}='{missing}': cannot be read: no such file or directory" in str(error)
    error = await refusal(ssl_certificate_location=str(tmp_path))
    assert "cannot be read: is a directory" in str(error)


async def test_a_file_without_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing here")
    empty = str(tmp_path / "empty.pem")
    assert "ssl_ca_location: holds no certificate" in str(await refusal(ssl_ca_location=empty))
    assert "ssl_ca_pem: holds no certificate" in str(await refusal(ssl_ca_pem="nothing here"))
    error = await refusal(ssl_certificate_location=empty)
    assert "ssl_certificate_location: no certificate with its private key" in str(error)


@pytest.mark.parametrize("begin", [b"\xfe\xed\xfe\xed", b"\x30\x82\x0a\x0f"], ids=["JKS", "PKCS12"])
async def test_a_java_keystore_is_refused_with_the_commands_that_convert_it(
    tmp_path: Path, begin: bytes
) -> None:
    (tmp_path / "client.jks").write_bytes(begin + bytes(100))
    error = await refusal(ssl_certificate_location=str(tmp_path / "client.jks"))
    assert "is not PEM" in str(error)
    assert "keytool -importkeystore -srckeystore client.jks" in str(error)
    assert "openssl pkcs12 -in store.p12 -out client.pem" in str(error)


async def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    CLIENT.write_apart(tmp_path / "certificate.pem", tmp_path / "key.pem")
    AUTHORITY.client("bob").write_apart(tmp_path / "other.pem", tmp_path / "key.pem")
    error = await refusal(
        ssl_certificate_location=str(tmp_path / "certificate.pem"),
        ssl_key_location=str(tmp_path / "key.pem"),
    )
    assert "ssl_key_location: the private key is not that of the certificate" in str(error)


async def test_an_encrypted_key_needs_its_password_and_asks_nobody_for_it(tmp_path: Path) -> None:
    file = str(CLIENT.write(tmp_path / "client.pem", key_password=PASSWORD))
    error = await refusal(ssl_certificate_location=file)
    assert "ssl_key_password: not set, and the private key is encrypted" in str(error)
    error = await refusal(ssl_certificate_location=file, ssl_key_password="wrong")
    assert "ssl_key_password: does not decrypt the private key" in str(error)
