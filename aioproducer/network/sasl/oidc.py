"""The built-in provider of tokens: asks an identity provider, or reads a file.

    what the config has                           how it asks
    an URL with file://                           it does not: the file holds the token
    jwt_bearer                                    the JWT bearer grant, with an assertion (KIP-1139)
    client_credentials (the default), and
      sasl_oauthbearer_assertion_file or          the client credentials grant, with an assertion
      sasl_oauthbearer_assertion_claim_iss          in place of the secret (KIP-1258)
      neither                                     the client credentials grant, with a client
                                                    secret (KIP-768)

The choice and what is sent are those of Java's client (4.3); there the grant is chosen by the class
`sasl.oauthbearer.jwt.retriever.class`. A token ends after `expires_in` seconds; without it, as the
token says itself. All of it blocks, and is called in a thread.
"""

from __future__ import annotations

import logging
import math
import time
import urllib.parse
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final
from urllib.request import url2pathname

from aioproducer.config import ProducerConfig
from aioproducer.errors import AuthenticationError, ConfigError
from aioproducer.hooks import OAuthToken
from aioproducer.network.sasl.assertions import AssertionMaker, assertion_maker, read_text
from aioproducer.network.sasl.token_endpoint import TokenEndpoint, TokenRequest

__all__ = ["OidcProvider", "oidc_provider"]

logger = logging.getLogger(__name__)

_URL: Final = "sasl_oauthbearer_token_endpoint_url"
_CLIENT_ID: Final = "sasl_oauthbearer_client_credentials_client_id"
_CLIENT_SECRET: Final = "sasl_oauthbearer_client_credentials_client_secret"
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_ADVICE: Final = (
    "Check the options sasl_oauthbearer_assertion_* against what the identity provider knows of"
    " this client, and the clock of this machine."
)


def oidc_provider(config: ProducerConfig) -> tuple[Callable[[], str | OAuthToken], str]:
    """Make the provider of a config; returns it with what it is, as the subject of a sentence.

    Raises:
        ConfigError: The options do not fit together, or a package is missing.
    """
    url = config.sasl_oauthbearer_token_endpoint_url
    assert url is not None
    if url.lower().startswith("file:"):
        file = url2pathname(urllib.parse.urlsplit(url).path)
        return lambda: read_text(_URL, file).strip(), f"the file {file}"
    endpoint = TokenEndpoint(url, config)
    return OidcProvider(endpoint, _request_maker(config)), f"the token endpoint {endpoint.shown}"


class OidcProvider:
    """Gets tokens from a token endpoint.

    Args:
        endpoint: Where to ask.
        make_request: Makes a request.
        now: The time, in seconds since 1970.
    """

    def __init__(
        self,
        endpoint: TokenEndpoint,
        make_request: Callable[[], TokenRequest],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint = endpoint
        self._make_request = make_request
        self._now = now

    def __call__(self) -> OAuthToken:
        """Return a new token. Blocks.

        Raises:
            AuthenticationError: The endpoint gave none.
            ConfigError: A file that an option names cannot be used.
        """
        # Before it is asked: so the token is never taken for younger than it is.
        asked_at = self._now()
        answer = self._endpoint.post(self._make_request)
        token = answer.get("access_token")
        if not isinstance(token, str) or not token.strip():
            raise AuthenticationError(
                f"The token endpoint {self._endpoint.shown} answered without an access_token",
                hint=f"Check {_URL}: is it that of the token endpoint?",
            )
        lifetime = _seconds(answer.get("expires_in"))
        return OAuthToken(token.strip(), None if lifetime is None else asked_at + lifetime)


def _seconds(value: object) -> float | None:
    """A number of seconds, which some providers send as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _request_maker(config: ProducerConfig) -> Callable[[], TokenRequest]:
    scope = (config.sasl_oauthbearer_scope or "").strip()
    scoped = {"scope": scope} if scope else {}
    file = config.sasl_oauthbearer_assertion_file
    issuer = config.sasl_oauthbearer_assertion_claim_iss
    if config.sasl_oauthbearer_jwt_retriever_class == "jwt_bearer":
        return partial(_jwt_bearer, assertion_maker(config), scoped)
    if file is None and issuer is None:
        return _with_secret(config, scoped)
    if config.sasl_oauthbearer_client_credentials_client_secret is not None:
        used = "assertion_file" if file is not None else "assertion_claim_iss"
        logger.warning("%s is not used, for sasl_oauthbearer_%s is set", _CLIENT_SECRET, used)
    if config.sasl_oauthbearer_client_credentials_client_id is not None:
        scoped["client_id"] = config.sasl_oauthbearer_client_credentials_client_id
    return partial(_client_assertion, assertion_maker(config), scoped)


def _jwt_bearer(make_assertion: AssertionMaker, more: Mapping[str, str]) -> TokenRequest:
    assertion = make_assertion()
    fields = {"grant_type": _JWT_BEARER, "assertion": assertion, **more}
    return TokenRequest(fields, "", (assertion,), _ASSERTION_ADVICE)


def _client_assertion(make_assertion: AssertionMaker, more: Mapping[str, str]) -> TokenRequest:
    assertion = make_assertion()
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": _ASSERTION_TYPE,
        "client_assertion": assertion,
        **more,
    }
    return TokenRequest(fields, "", (assertion,), _ASSERTION_ADVICE)


def _with_secret(config: ProducerConfig, more: Mapping[str, str]) -> Callable[[], TokenRequest]:
    client_id = (config.sasl_oauthbearer_client_credentials_client_id or "").strip()
    secret = (config.sasl_oauthbearer_client_credentials_client_secret or "").strip()
    for option, value in ((_CLIENT_ID, client_id), (_CLIENT_SECRET, secret)):
        if not value:
            raise ConfigError(
                "not set, and the token endpoint asks for it",
                option=option,
                hint=f"Set {_CLIENT_ID} and {_CLIENT_SECRET}, or sasl_oauthbearer_assertion_file"
                " or sasl_oauthbearer_assertion_claim_iss for an assertion.",
            )
    pair = (client_id, secret)
    if config.sasl_oauthbearer_header_urlencode:
        pair = (urllib.parse.quote_plus(client_id), urllib.parse.quote_plus(secret))
    credentials = b64encode(":".join(pair).encode()).decode()
    request = TokenRequest(
        {"grant_type": "client_credentials", **more},
        f"Basic {credentials}",
        # An endpoint may repeat the credentials as it was sent them, or as a form has them.
        (secret, urllib.parse.quote_plus(secret), urllib.parse.quote(secret, safe=""), credentials),
        f"Check {_CLIENT_ID}, {_CLIENT_SECRET} and sasl_oauthbearer_scope.",
    )
    return lambda: request
