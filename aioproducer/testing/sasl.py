"""SASL as the fake brokers do it: who may log in, and how far each connection is.

    a connection is     what it may send
    new                 ApiVersions, SaslHandshake
    exchanging          SaslAuthenticate
    logged in           everything but SaslAuthenticate; SaslHandshake begins another exchange
    over its time       SaslHandshake

What else it sends closes the connection, as in Kafka. The server's sides of the mechanisms are
written from the RFCs, apart from those of the producer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

__all__ = ["FakeSasl", "RefusedError", "Session"]

_Server: TypeAlias = Generator[bytes, bytes, bytes]
"""Gets what the client says, yields challenges, and returns its last word."""

_HASHES: Final[Mapping[str, str]] = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
_ALWAYS: Final = ("api_versions",)


class RefusedError(Exception):
    """The exchange failed; the text is for the client."""


@dataclass(slots=True)
class FakeSasl:
    """Who may log in at the brokers of a FakeCluster, for its argument `sasl`.

    All fields may be changed while the cluster runs.

    Attributes:
        passwords: By user, for PLAIN and SCRAM.
        is_valid_token: Judges a bearer token.
        mechanisms: What the brokers offer.
        session_lifetime_ms: How long a login lasts (KIP-368); 0: for ever.
        iterations: Of SCRAM's key derivation.
    """

    passwords: dict[str, str] = field(default_factory=dict[str, str])
    is_valid_token: Callable[[str], bool] = bool
    mechanisms: tuple[str, ...] = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
    session_lifetime_ms: int = 0
    iterations: int = 4_096

    def server(self, mechanism: str) -> _Server:
        """Begin the server's side of an exchange."""
        if mechanism == "PLAIN":
            return self._plain()
        if mechanism == "OAUTHBEARER":
            return self._oauthbearer()
        return self._scram(_HASHES[mechanism])

    def _plain(self) -> _Server:
        _, user, password = (yield b"").decode().split("\0")
        if self.passwords.get(user) != password:
            raise RefusedError("Authentication failed: Invalid username or password")
        return b""

    def _oauthbearer(self) -> _Server:
        message = (yield b"").decode()
        fields = dict(part.split("=", 1) for part in message.split("\x01") if "=" in part)
        token = fields.get("auth", "").removeprefix("Bearer ")
        if not self.is_valid_token(token):
            yield json.dumps({"status": "invalid_token"}).encode()
            raise RefusedError("Authentication failed due to invalid token")
        return b""

    def _scram(self, name: str) -> _Server:
        client_first = (yield b"").decode().removeprefix("n,,")
        fields = _fields(client_first)
        user = fields["n"].replace("=2C", ",").replace("=3D", "=")
        password = self.passwords.get(user, secrets.token_hex())
        salt = secrets.token_bytes(16)
        nonce = fields["r"] + secrets.token_hex(8)
        shown_salt = base64.b64encode(salt).decode()
        server_first = f"r={nonce},s={shown_salt},i={self.iterations}"
        client_final = (yield server_first.encode()).decode()
        without_proof, _, proof = client_final.rpartition(",p=")
        signed = f"{client_first},{server_first},{without_proof}".encode()
        salted = hashlib.pbkdf2_hmac(name, password.encode(), salt, self.iterations)
        stored_key = hashlib.new(name, hmac.digest(salted, b"Client Key", name)).digest()
        signature = hmac.digest(stored_key, signed, name)
        client_key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        if hashlib.new(name, client_key).digest() != stored_key:
            raise RefusedError(
                "Authentication failed due to invalid credentials with SASL"
                f" mechanism SCRAM-{name[:3].upper()}-{name[3:]}"
            )
        verifier = hmac.digest(hmac.digest(salted, b"Server Key", name), signed, name)
        return b"v=" + base64.b64encode(verifier)


class Session:
    """How far one connection is with logging in.

    Args:
        sasl: Who may; None without SASL.
        clock: Seconds.
    """

    def __init__(
        self, sasl: FakeSasl | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.sasl = sasl
        self._clock = clock
        self._server: _Server | None = None
        self._until: float | None = None

    def allows(self, api: str) -> bool:
        """Whether a request of an API may come now; else the broker closes the connection."""
        if self.sasl is None or api == "sasl_handshake":
            return self._server is None
        if api == "sasl_authenticate":
            return self._server is not None
        if self._server is not None:
            return False
        return api in _ALWAYS or (self._until is not None and self._clock() < self._until)

    def begin(self, mechanism: str) -> None:
        """A handshake named a mechanism that is offered."""
        assert self.sasl is not None
        self._server = self.sasl.server(mechanism)
        next(self._server)

    def advance(self, message: bytes) -> tuple[bytes, int]:
        """Take what the client says; returns the answer, and the session's lifetime in ms.

        Raises:
            RefusedError: The client is not who it says.
        """
        if self.sasl is None or self._server is None:
            raise RefusedError("Authentication failed: there was no handshake")
        try:
            return self._server.send(message), 0
        except StopIteration as end:
            answer: bytes = end.value
        except (KeyError, ValueError) as error:
            raise RefusedError("Authentication failed: malformed message") from error
        self._server = None
        lifetime = self.sasl.session_lifetime_ms
        self._until = self._clock() + lifetime / 1000 if lifetime else float("inf")
        return answer, lifetime


def _fields(message: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in message.split(","))
