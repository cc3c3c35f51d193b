"""Which TLS context the options make, when its files are read again, and what is refused."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import load_pem_x509_certificate

from aioproducer import ConfigError, ProducerConfig
from aioproducer.network.tls import Tls
from tests.support.certificates import Authority, Certificate

AUTHORITY = Authority()
CLIENT = AUTHORITY.client("alice")
PASSWORD = "canary-secret-key-password"


def tls(**options: Any) -> Tls:
    return Tls(ProducerConfig(bootstrap_servers="a:1,b:1", security_protocol="SSL", **options))


async def refusal(**options: Any) -> ConfigError:
    source = tls(**options)
    with pytest.raises(ConfigError) as caught:
        await source.context()
    # As those show it who record the locals of a traceback's frames; but for this one.
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    trace.stack = traceback.StackSummary.from_list(trace.stack[1:])
    said = "".join(trace.format())
    assert PASSWORD not in said
    assert CLIENT.key_pem.splitlines()[1] not in said
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
    (tmp_path / "readme.txt").write_text("no certificate")
    (tmp_path / "folder").mkdir()
    folder = await tls(ssl_ca_location=str(tmp_path)).context()
    assert len(folder.get_ca_certs()) == 1
    assert shown_name(folder, server) is None
    rehash = await asyncio.create_subprocess_exec("openssl", "rehash", str(tmp_path))
    assert await rehash.wait() == 0
    folder = await tls(ssl_ca_location=str(tmp_path)).context()
    assert len(folder.get_ca_certs()) == 1


async def test_a_folder_is_read_in_a_thread_and_not_in_the_handshake(tmp_path: Path) -> None:
    file = AUTHORITY.write(tmp_path / "authority.pem")
    context = await tls(ssl_ca_location=str(tmp_path)).context()
    file.unlink()
    assert shown_name(context, AUTHORITY.server()) is None


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


@pytest.mark.parametrize(
    ("before", "line_break"),
    [
        ("", " "),
        ("", "\\n"),
        ("", "\\r\\n"),
        ("", ""),
        ("", "\n    "),
        ("# Z\N{LATIN SMALL LETTER U WITH DIAERESIS}rich\n", "\n"),
    ],
    ids=["spaces", "escapes", "escapes of Windows", "nothing", "indented", "a comment"],
)
async def test_a_text_that_lost_its_line_breaks_is_understood(before: str, line_break: str) -> None:
    def spoilt(pem: str) -> str:
        return before + pem.replace("\n", line_break)

    context = await tls(
        ssl_ca_pem=spoilt(Authority().pem + AUTHORITY.pem),
        ssl_certificate_pem=spoilt(CLIENT.certificate_pem),
        ssl_key_pem=spoilt(CLIENT.encrypted_key_pem(PASSWORD)),
        ssl_key_password=PASSWORD,
    ).context()
    assert len(context.get_ca_certs()) == 2
    assert shown_name(context, AUTHORITY.server()) == "alice"


async def test_a_text_without_certificate_never_trusts_the_system() -> None:
    for text in ("nothing here", CLIENT.key_pem, "-----BEGIN CERTIFICATE-----\nMIIC"):
        error = await refusal(ssl_ca_pem=text)
        assert error.option == "ssl_ca_pem"
    cut = AUTHORITY.pem[:-40] + AUTHORITY.pem
    assert "ssl_ca_pem: cannot be used" in str(await refusal(ssl_ca_pem=cut))


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


async def test_a_file_that_comes_into_a_folder_of_authorities_is_read(tmp_path: Path) -> None:
    AUTHORITY.write(tmp_path / "first.pem")
    source = tls(ssl_ca_location=str(tmp_path))
    first = await source.context()
    assert await source.context() is first
    other = Authority()
    other.write(tmp_path / "second.pem")
    assert shown_name(await source.context(), other.server()) is None
    other = Authority()
    # In its place, which the folder itself does not show.
    (tmp_path / "second.pem").write_text(other.pem)
    assert shown_name(await source.context(), other.server()) is None


async def test_a_file_that_goes_while_it_is_read_leaves_the_last_one_in_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = tmp_path / "certificate.pem", tmp_path / "key.pem"
    CLIENT.write_apart(*both)
    source = tls(
        ssl_ca_pem=AUTHORITY.pem,
        ssl_certificate_location=str(both[0]),
        ssl_key_location=str(both[1]),
    )
    first = await source.context()
    CLIENT.write_apart(*both)
    load = ssl.SSLContext.load_cert_chain

    def load_too_late(context: ssl.SSLContext, *arguments: Any) -> None:
        both[1].unlink()
        load(context, *arguments)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load_too_late)
    assert await source.context() is first
    assert f"ssl_key_location='{both[1]}': cannot be read: no such file" in caplog.text


async def test_a_volume_that_hangs_holds_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = AUTHORITY.write(tmp_path / "authority.pem")
    loop = asyncio.get_running_loop()
    hangs, goes_on = asyncio.Event(), threading.Event()
    scandir = os.scandir

    def slow(path: str) -> Any:
        loop.call_soon_threadsafe(hangs.set)
        goes_on.wait(10)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", slow)
    wait = asyncio.ensure_future(tls(ssl_ca_location=str(file)).context())
    await hangs.wait()
    # The loop turns; the wait can be given up, and another producer is served.
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    assert await tls(ssl_ca_pem=AUTHORITY.pem).context()
    goes_on.set()


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
    assert f"ssl_certificate_location='{file}': holds no certificate in PEM" in caplog.text
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
    missing = str(tmp_path / "missing.pem")
    for option, options in (
        ("ssl_ca_location", {}),
        ("ssl_certificate_location", {}),
        ("ssl_key_location", {"ssl_certificate_pem": CLIENT.certificate_pem}),
    ):
        error = await refusal(**{option: missing}, **options)
        assert f"{option}='{missing}': cannot be read: no such file or directory" in str(error)
    error = await refusal(ssl_certificate_location=str(tmp_path))
    assert "cannot be read: is a directory" in str(error)


async def test_a_file_or_folder_without_permission_is_named_with_its_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Permissions themselves do not hold for root, who often runs tests.
    both = str(CLIENT.write(tmp_path / "both.pem"))
    monkeypatch.setattr(Path, "read_bytes", denied)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", denied)
    monkeypatch.setattr(os, "scandir", denied)
    error = await refusal(ssl_certificate_location=both)
    assert f"ssl_certificate_location='{both}': cannot be read: permission denied" in str(error)
    error = await refusal(ssl_ca_location=str(tmp_path))
    assert f"ssl_ca_location='{tmp_path}': cannot be read: permission denied" in str(error)


async def test_a_file_without_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing here")
    empty = str(tmp_path / "empty.pem")
    lacks = "holds no certificate in PEM. A certificate in PEM begins with -----BEGIN CERT"
    for option in ("ssl_ca_location", "ssl_certificate_location"):
        assert f"{option}='{empty}': {lacks}" in str(await refusal(**{option: empty}))
    assert f"ssl_ca_pem: {lacks}" in str(await refusal(ssl_ca_pem="nothing here"))
    (tmp_path / "folder").mkdir()
    folder = str(tmp_path / "folder")
    assert f"ssl_ca_location='{folder}': no file" in str(await refusal(ssl_ca_location=folder))


async def test_a_file_without_private_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "certificate.pem").write_text(CLIENT.certificate_pem)
    file = str(tmp_path / "certificate.pem")
    lacks = "holds no private key in PEM"
    for option, options in (
        ("ssl_certificate_location", {}),
        ("ssl_key_location", {"ssl_key_location": file}),
    ):
        error = await refusal(**{"ssl_certificate_location": file, **options})
        assert f"{option}='{file}': {lacks}" in str(error)
    error = await refusal(ssl_certificate_location=file, ssl_key_pem="nothing here")
    assert f"ssl_key_pem: {lacks}" in str(error)


async def test_a_broken_file_in_a_folder_of_authorities_is_named(tmp_path: Path) -> None:
    AUTHORITY.write(tmp_path / "a.pem")
    broken = tmp_path / "b.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n")
    error = await refusal(ssl_ca_location=str(tmp_path))
    assert f"ssl_ca_location='{broken}': cannot be used: " in str(error)


async def test_a_java_keystore_is_refused_with_the_commands_that_convert_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "client.jks").write_bytes(b"\xfe\xed\xfe\xed" + bytes(100))
    file = str(tmp_path / "client.jks")
    steps = (
        "Convert it: keytool -importkeystore -srckeystore client.jks -destkeystore store.p12"
        " -deststoretype PKCS12 && openssl pkcs12 -in store.p12 {}-out client.pem; then set {} to"
        " client.pem."
    )
    for option, parts in (("ssl_ca_location", "-nokeys "), ("ssl_certificate_location", "")):
        error = await refusal(**{option: file})
        assert f"{option}='{file}': holds no certificate in PEM" in str(error)
        assert steps.format(parts, option) in str(error)


async def test_pkcs12_and_der_are_refused_with_the_commands_that_convert_them(
    tmp_path: Path,
) -> None:
    key = load_pem_private_key(CLIENT.key_pem.encode(), None)
    certificate = load_pem_x509_certificate(CLIENT.certificate_pem.encode())
    assert isinstance(key, EllipticCurvePrivateKey)
    encryption = BestAvailableEncryption(PASSWORD.encode())
    # By what is in it: Java's own keystores are PKCS12, whatever they are called.
    store = tmp_path / "client.jks"
    content = pkcs12.serialize_key_and_certificates(None, key, certificate, None, encryption)
    store.write_bytes(content)
    error = await refusal(ssl_certificate_location=str(store))
    assert "Convert it: openssl pkcs12 -in client.jks -out client.pem;" in str(error)
    der = tmp_path / "authority.crt"
    der.write_bytes(certificate.public_bytes(Encoding.DER))
    error = await refusal(ssl_ca_location=str(der))
    assert "openssl x509 -inform DER -in authority.crt -out authority.pem" in str(error)
    error = await refusal(ssl_certificate_pem=CLIENT.certificate_pem, ssl_key_location=str(store))
    assert "openssl pkcs12 -in client.jks -nocerts -out client.pem" in str(error)


async def test_a_file_that_openssl_refuses_is_named_with_its_reason(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    certificate = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"
    broken.write_text(CLIENT.key_pem + certificate)
    error = await refusal(ssl_certificate_location=str(broken))
    assert f"ssl_certificate_location='{broken}': cannot be used: " in str(error)


async def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    CLIENT.write_apart(tmp_path / "certificate.pem", tmp_path / "key.pem")
    AUTHORITY.client("bob").write_apart(tmp_path / "other.pem", tmp_path / "key.pem")
    error = await refusal(
        ssl_certificate_location=str(tmp_path / "certificate.pem"),
        ssl_key_location=str(tmp_path / "key.pem"),
    )
    key = tmp_path / "key.pem"
    said = f"ssl_key_location='{key}': the private key is not that of the certificate"
    assert said in str(error)


async def test_an_encrypted_key_needs_its_password_and_asks_nobody_for_it(tmp_path: Path) -> None:
    file = str(CLIENT.write(tmp_path / "client.pem", key_password=PASSWORD))
    error = await refusal(ssl_certificate_location=file)
    assert "ssl_key_password: not set, and the private key is encrypted" in str(error)
    error = await refusal(ssl_certificate_location=file, ssl_key_password="wrong")
    assert "ssl_key_password: does not decrypt the private key" in str(error)
