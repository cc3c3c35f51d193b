"""Tokens of Google Cloud by google-auth, for its Managed Service for Apache Kafka.

Needs `pip install "aioproducer[google]"`. The service takes Google's access token in the form of a
JSON Web Token, with the principal in its claims, as Google's own login handlers send it:

    header     {"typ": "JWT", "alg": "GOOG_OAUTH2_TOKEN"}
    claims     exp, iat, iss, scope, and sub, the principal's e-mail address
    signature  the access token
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import threading
import time
from importlib import import_module
from typing import Any, Final, Protocol

from aioproducer.errors import AuthenticationError, ConfigError
from aioproducer.hooks import OAuthToken

__all__ = ["GoogleCredentials", "GoogleTokenProvider"]

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_PRINCIPAL: Final = "GOOGLE_MANAGED_KAFKA_AUTH_PRINCIPAL"
"""The environment variable that Google's own local authentication server reads."""


class GoogleCredentials(Protocol):
    """Credentials of google-auth, as far as they are used here.

    Attributes:
        token: The access token.
        expiry: When it ends, in UTC.
    """

    token: Any
    expiry: Any

    @property
    def valid(self) -> Any:
        """Whether there is a token that is not at its end."""
        ...

    def refresh(self, request: Any) -> Any:
        """Get a new access token."""
        ...


class GoogleTokenProvider:
    """A `sasl_oauth_token_provider` for Google Cloud's Managed Service for Apache Kafka.

    The producer calls it in a thread, for google-auth blocks. There is nothing to close.

    Args:
        credentials: Credentials with the scope `cloud-platform`. None: the application default
            credentials.
        principal: The e-mail address of who logs in. None: that of the credentials, or else the
            environment variable `GOOGLE_MANAGED_KAFKA_AUTH_PRINCIPAL`; user and federated
            credentials do not know theirs.

    Raises:
        ConfigError: google-auth is missing.

    Example:
        >>> Producer(  # doctest: +SKIP
        ...     bootstrap_servers="bootstrap.CLUSTER.REGION.managedkafka.PROJECT.cloud.goog:9092",
        ...     security_protocol="SASL_SSL",
        ...     sasl_mechanism="OAUTHBEARER",
        ...     sasl_oauth_token_provider=GoogleTokenProvider(),
        ... )
    """

    def __init__(
        self, credentials: GoogleCredentials | None = None, *, principal: str | None = None
    ) -> None:
        try:
            self._requests: Any = import_module("google.auth.transport.requests")
        except ImportError as error:
            raise ConfigError(
                "google-auth or requests is missing",
                option="sasl_oauth_token_provider",
                hint='Run pip install "aioproducer[google]".',
            ) from error
        self._credentials = credentials
        self._principal = principal
        # Credentials are not made for several threads, and producers may share this.
        self._lock = threading.Lock()

    def __call__(self) -> OAuthToken:
        """Return a token. Blocks.

        Raises:
            AuthenticationError: Who logs in is not known, or there is no access token.
        """
        with self._lock:
            credentials = self._fresh_credentials()
            access_token, expiry = credentials.token, credentials.expiry
            principal = self._principal_of(credentials)
        if not isinstance(access_token, str) or not access_token:
            raise AuthenticationError("The Google credentials gave no access token")
        now = int(time.time())
        claims: dict[str, object] = {"iat": now, "iss": "Google", "scope": "kafka"}
        expires_at: float | None = None
        if isinstance(expiry, datetime.datetime):
            # google-auth leaves the time zone out.
            aware = expiry if expiry.tzinfo else expiry.replace(tzinfo=datetime.UTC)
            expires_at = aware.timestamp()
            claims["exp"] = int(expires_at)
        claims["sub"] = principal
        header = {"typ": "JWT", "alg": "GOOG_OAUTH2_TOKEN"}
        parts = (json.dumps(header), json.dumps(claims), access_token)
        return OAuthToken(".".join(map(_base64, parts)), expires_at)

    def _fresh_credentials(self) -> GoogleCredentials:
        credentials = self._credentials
        if credentials is None:
            auth: Any = import_module("google.auth")
            found: tuple[GoogleCredentials, object] = auth.default(scopes=[_SCOPE])
            credentials = self._credentials = found[0]
        if not credentials.valid:
            # The session is closed again, for tokens are an hour apart.
            with self._requests.requests.Session() as session:
                credentials.refresh(self._requests.Request(session))
        return credentials

    def _principal_of(self, credentials: GoogleCredentials) -> str:
        email = getattr(credentials, "service_account_email", None)
        # Compute Engine's credentials say "default" until they are refreshed.
        known = email if isinstance(email, str) and "@" in email else None
        principal = self._principal or known or os.environ.get(_PRINCIPAL)
        if not principal:
            raise AuthenticationError(
                "The Google credentials do not say whose they are",
                hint=f"Give GoogleTokenProvider the principal, or set {_PRINCIPAL}.",
            )
        return principal


def _base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
