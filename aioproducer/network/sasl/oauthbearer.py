"""OAUTHBEARER (RFC 7628, KIP-255): a bearer token in one message.

    client  n,,<SOH>auth=Bearer <token><SOH><extension>=<value><SOH><SOH>
    broker  nothing if it takes the token, else JSON with the reason
    client  <SOH>, so that the broker ends the exchange with its error

No token is shown, and what the broker says of one is cut to a bounded length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from aioproducer.config import ProducerConfig
from aioproducer.errors import AuthenticationError, KafkaError
from aioproducer.hooks import OAuthToken
from aioproducer.network.sasl.exchange import Call, Exchange
from aioproducer.network.sasl.tokens import TokenSource, token_source

__all__ = ["OAuthBearer", "mechanism"]

_SEPARATOR: Final = "\x01"
_TOKEN: Final = re.compile(r"[\w.~+/-]+=*", re.ASCII)
_EXTENSION_NAME: Final = re.compile(r"[A-Za-z]+")
_EXTENSION_VALUE: Final = re.compile(r"[\x21-\x7E \t\r\n]+")


def mechanism(config: ProducerConfig) -> OAuthBearer:
    """Make the mechanism of a config."""
    return OAuthBearer(token_source(config), dict(config.sasl_oauthbearer_extensions))


class OAuthBearer:
    """Sends a token from a source that all connections share."""

    name = "OAUTHBEARER"

    def __init__(self, tokens: TokenSource, extensions: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._extensions = extensions

    def exchange(self, host: str) -> Exchange:
        """Begin an exchange."""
        token: OAuthToken = yield Call(self._tokens.get, self._tokens.what)
        message = _client_first(token, {**self._extensions, **token.extensions})
        try:
            challenge: bytes = yield message
            if challenge:
                refusal = _refusal(challenge)
                # The broker answers this with its error, which is thrown in here.
                yield _SEPARATOR.encode()
                raise AuthenticationError(f"The broker refused the token{refusal}")
        except AuthenticationError as error:
            raise self._explained(error, token) from error.__cause__

    def _explained(self, error: KafkaError, token: OAuthToken) -> KafkaError:
        """Add what a token itself shows, for the broker does not say why it refused it."""
        self._tokens.refused(token)
        if doubt := self._tokens.doubt(token):
            error.hint = doubt
        return error


def _client_first(token: OAuthToken, extensions: Mapping[str, str]) -> bytes:
    if not _TOKEN.fullmatch(token.value):
        raise AuthenticationError("The token provider returned what is no bearer token")
    for name, value in extensions.items():
        if name == "auth" or not _EXTENSION_NAME.fullmatch(name):
            raise AuthenticationError(f"{name!r} is no name of a SASL extension")
        if not _EXTENSION_VALUE.fullmatch(value):
            raise AuthenticationError(f"The value of the SASL extension {name} is not allowed")
    fields = [f"auth=Bearer {token.value}", *(f"{name}={it}" for name, it in extensions.items())]
    return f"n,,{_SEPARATOR}{_SEPARATOR.join(fields)}{_SEPARATOR}{_SEPARATOR}".encode()


def _refusal(challenge: bytes) -> str:
    """What a broker says of a token: `{"status":"invalid_token","scope":"..."}`."""
    try:
        found: Any = json.loads(challenge[:4_096])
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    status = str(cast("dict[str, object]", found).get("status", ""))
    return f": {status[:100]!r}" if status else ""
