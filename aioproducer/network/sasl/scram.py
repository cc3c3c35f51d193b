"""SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, KIP-84): each side proves that it knows the password.

    client  n,,n=<user>,r=<client nonce>
    broker  r=<client nonce + its own>,s=<salt>,i=<iterations>
    client  c=biws,r=<both nonces>,p=<proof>
    broker  v=<signature>, which only somebody who knows the salted password can make

Invariants
* The broker's signature is checked: a broker that took the proof and cannot prove itself is not
  sent a record.
* The password is derived off the loop, by a number of iterations that is bounded both ways. Fewer
  would let a false broker guess the password from one exchange; more would keep a core busy for it.
* Name and password are their bytes in UTF-8, and not prepared by SASLprep, as RFC 5802 asks for:
  neither does Kafka (`ScramFormatter.normalize`), where another form would be another password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

from aioproducer.config import ProducerConfig
from aioproducer.errors import AuthenticationError
from aioproducer.hooks import SecretProvider
from aioproducer.network.sasl.exchange import Call, Exchange
from aioproducer.network.sasl.password import find_password

__all__ = ["Scram", "mechanism"]

FEWEST_ITERATIONS: Final = 4_096
"""RFC 7677, and Kafka's own least."""
MOST_ITERATIONS: Final = 1_000_000
"""Half a second of one core. Kafka's own most is 16384."""

_NONCE_BYTES: Final = 24
_LONGEST_NONCE: Final = 1_024
_LONGEST_SALT: Final = 1_024
_HEADER: Final = "n,,"
"""No channel binding, and no other identity."""
_HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}


def mechanism(config: ProducerConfig) -> Scram:
    """Make the mechanism of a config."""
    assert config.sasl_mechanism is not None
    assert config.sasl_username is not None and config.sasl_password is not None
    return Scram(config.sasl_mechanism, config.sasl_username, config.sasl_password)


def _new_nonce() -> str:
    return secrets.token_urlsafe(_NONCE_BYTES)


class Scram:
    """Proves that it knows the password, and asks the broker for the same.

    Args:
        name: The mechanism.
        username: The user.
        password: The password.
        make_nonce: Makes the client's part of the nonce, printable without commas.
    """

    def __init__(
        self,
        name: str,
        username: str,
        password: str | SecretProvider,
        *,
        make_nonce: Callable[[], str] = _new_nonce,
    ) -> None:
        self.name = name
        self._hash = _HASHES[name]
        self._username = username
        self._password = password
        self._make_nonce = make_nonce

    def exchange(self, host: str) -> Exchange:
        """Begin an exchange."""
        password = yield from find_password(self._password)
        nonce = self._make_nonce()
        user = self._username.replace("=", "=3D").replace(",", "=2C")
        client_first = f"n={user},r={nonce}"
        server_first: bytes = yield f"{_HEADER}{client_first}".encode()
        both_nonces, salt, iterations = _read_server_first(server_first, nonce)
        salted: bytes = yield Call(
            partial(hashlib.pbkdf2_hmac, self._hash, password, salt, iterations),
            "the derivation of the password",
        )
        client_final = f"c={base64.b64encode(_HEADER.encode()).decode()},r={both_nonces}"
        signed = b",".join((client_first.encode(), server_first, client_final.encode()))
        client_key = self._hmac(salted, b"Client Key")
        stored_key = hashlib.new(self._hash, client_key).digest()
        signature = self._hmac(stored_key, signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_final: bytes = yield f"{client_final},p={base64.b64encode(proof).decode()}".encode()
        expected = self._hmac(self._hmac(salted, b"Server Key"), signed)
        if not hmac.compare_digest(_read_server_final(server_final), expected):
            raise AuthenticationError(
                "The broker could not prove that it knows the password: its SCRAM signature is"
                " wrong",
                hint="It is not the broker that this user belongs to; check bootstrap_servers and"
                " what stands between.",
            )

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, self._hash)


def _read_server_first(message: bytes, nonce: str) -> tuple[str, bytes, int]:
    """Return the nonce of both sides, the salt and the number of iterations."""
    fields = _fields(message)
    both_nonces = fields.get("r", "")
    if "m" in fields:
        raise _refused("it demands an extension that this client does not know")
    if not both_nonces.startswith(nonce) or len(both_nonces) == len(nonce):
        raise _refused("its nonce does not continue ours")
    if len(both_nonces) > _LONGEST_NONCE or len(fields.get("s", "")) > _LONGEST_SALT:
        raise _refused("its nonce or salt is too long")
    try:
        salt = base64.b64decode(fields.get("s", ""), validate=True)
    except (binascii.Error, ValueError):
        raise _refused("its salt is not base64") from None
    count = fields.get("i", "")
    if not salt or not (count.isascii() and count.isdecimal() and len(count) < 10):
        raise _refused("it has no salt, or no number of iterations")
    if not FEWEST_ITERATIONS <= int(count) <= MOST_ITERATIONS:
        raise _refused(
            f"it asks for {int(count)} iterations, which is not between {FEWEST_ITERATIONS} and"
            f" {MOST_ITERATIONS}"
        )
    return both_nonces, salt, int(count)


def _read_server_final(message: bytes) -> bytes:
    """Return the broker's signature."""
    fields = _fields(message)
    if "e" in fields:
        raise AuthenticationError(
            f"The broker refused the SCRAM exchange: {fields['e'][:100]!r}",
            hint="Check sasl_username and sasl_password.",
        )
    try:
        return base64.b64decode(fields.get("v", ""), validate=True)
    except (binascii.Error, ValueError):
        raise _refused("its signature is not base64") from None


def _fields(message: bytes) -> dict[str, str]:
    """Return the fields of a message, `a=...,b=...`."""
    try:
        parts = message.decode().split(",")
    except UnicodeDecodeError:
        raise _refused("it is no text") from None
    fields = {name: value for name, sign, value in (part.partition("=") for part in parts) if sign}
    if len(fields) < len(parts):
        raise _refused("it is malformed")
    return fields


def _refused(why: str) -> AuthenticationError:
    return AuthenticationError(f"The broker's SCRAM message is refused: {why}")
