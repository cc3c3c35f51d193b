"""Certificates made for one test run: of servers, of clients, and of those that must be refused.

An `Authority` signs; a `Certificate` is what it signed, with its key, as PEM or in an SSLContext.
Keys are PKCS #8, the one form that Java reads from PEM. All certificates of an authority differ
only in what was asked for, as Kafka takes one for another while it runs only with the same
subject.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

__all__ = ["Authority", "Certificate"]

_UNIT = "tests"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its private key.

    Attributes:
        certificate_pem: The certificate; intermediate authorities would follow it.
        key_pem: Its key, not encrypted.
        leaf: What trustme made.
    """

    certificate_pem: str
    key_pem: str = field(repr=False)
    leaf: trustme.LeafCert = field(repr=False)

    def encrypted_key_pem(self, password: str) -> str:
        """Return the key, encrypted with a password."""
        return _pkcs8(self.leaf, password)

    def write(self, path: Path, *, key_password: str | None = None) -> Path:
        """Write key and certificate into one file, as Kafka's `ssl.keystore.location` wants it.

        The file is replaced whole, so that who reads it meanwhile gets the old or the new one.
        """
        key = self.key_pem if key_password is None else self.encrypted_key_pem(key_password)
        return _replace(path, key + self.certificate_pem)

    def write_apart(self, certificate: Path, key: Path) -> None:
        """Write the certificate and its key into files of their own."""
        _replace(key, self.key_pem)
        _replace(certificate, self.certificate_pem)

    def show_in(self, context: ssl.SSLContext) -> None:
        """Have connections of a context show this certificate."""
        # Its types name OpenSSL contexts that are not installed.
        self.leaf.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS settings of a server that shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.show_in(context)
        return context


class Authority:
    """Signs certificates, and is trusted by who has its own."""

    def __init__(self) -> None:
        self._authority = trustme.CA(organization_unit_name=_UNIT)

    @property
    def pem(self) -> str:
        """Its own certificate."""
        return self._authority.cert_pem.bytes().decode()

    def write(self, path: Path) -> Path:
        """Write its own certificate, as `ssl_ca_location` and `ssl.truststore.location` want it."""
        return _replace(path, self.pem)

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS settings of a client that trusts this authority and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.pem)
        return context

    def server(self, *hosts: str, valid_for: timedelta = timedelta(days=1)) -> Certificate:
        """Make a certificate for a server.

        Args:
            hosts: The names and addresses it is for; 127.0.0.1 and localhost if none are given.
            valid_for: How long it is valid from now on; it began a day ago.
        """
        return _certificate(
            self._authority.issue_cert(
                *(hosts or ("127.0.0.1", "localhost")),
                organization_unit_name=_UNIT,
                not_before=_now() - timedelta(days=1),
                not_after=_now() + valid_for,
            )
        )

    def expired_server(self) -> Certificate:
        """Make a server's certificate that was valid until an hour ago."""
        return self.server(valid_for=timedelta(hours=-1))

    def server_elsewhere(self) -> Certificate:
        """Make a server's certificate for another host than this one."""
        return self.server("elsewhere.invalid")

    def client(self, common_name: str, *, valid_for: timedelta = timedelta(days=1)) -> Certificate:
        """Make a client's certificate, which names it to brokers by its common name."""
        return _certificate(
            self._authority.issue_cert(
                f"{common_name}.invalid",
                common_name=common_name,
                organization_unit_name=_UNIT,
                not_before=_now() - timedelta(days=1),
                not_after=_now() + valid_for,
            )
        )

    def expired_client(self, common_name: str) -> Certificate:
        """Make a client's certificate that was valid until an hour ago."""
        return self.client(common_name, valid_for=timedelta(hours=-1))


def _certificate(leaf: trustme.LeafCert) -> Certificate:
    chain = "".join(one.bytes().decode() for one in leaf.cert_chain_pems)
    return Certificate(chain, _pkcs8(leaf, None), leaf)


def _pkcs8(leaf: trustme.LeafCert, password: str | None) -> str:
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def _replace(path: Path, text: str) -> Path:
    whole = path.with_name(f"{path.name}.new")
    whole.write_text(text)
    whole.replace(path)
    return path


def _now() -> datetime:
    return datetime.now(UTC)
