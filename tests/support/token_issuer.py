"""Signs bearer tokens as an identity provider does: JSON Web Tokens, and the key that checks them.

Only what Kafka's own validator asks for (RFC 7515, RFC 7517, RFC 7519), signed with RS256.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

__all__ = ["TokenIssuer"]


class TokenIssuer:
    """An identity provider without its HTTP endpoint.

    Args:
        issuer: What its tokens name as their issuer.
        audience: Whom its tokens are for.
        key_id: What its key is called.
    """

    def __init__(self, issuer: str, audience: str, *, key_id: str = "test-key") -> None:
        self._issuer = issuer
        self._audience = audience
        self._key_id = key_id
        self._key = generate_private_key(65_537, 2_048)

    def key_set(self) -> str:
        """Return the public key as a JSON Web Key Set."""
        numbers = self._key.public_key().public_numbers()
        key = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self._key_id,
            "n": _base64(numbers.n.to_bytes(256, "big")),
            "e": _base64(numbers.e.to_bytes(3, "big")),
        }
        return json.dumps({"keys": [key]})

    def token(
        self, subject: str, *, expires_in: float = 300, claims: Mapping[str, object] | None = None
    ) -> str:
        """Return a token for a user.

        Args:
            subject: The user.
            expires_in: How long it is valid, in seconds; one below 0 has expired.
            claims: More claims, or other values of ours: `aud`, `iss`, `exp`, `iat`, `sub`.
        """
        now = time.time()
        payload = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "iat": int(now + min(expires_in, 0)) - 60,
            "exp": int(now + expires_in),
            **(claims or {}),
        }
        header = {"alg": "RS256", "typ": "JWT", "kid": self._key_id}
        signed = f"{_base64(_json(header))}.{_base64(_json(payload))}"
        signature = self._key.sign(signed.encode(), PKCS1v15(), SHA256())
        return f"{signed}.{_base64(signature)}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
