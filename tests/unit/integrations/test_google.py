"""Tokens of Google Cloud: their form, whose they are, and what real credentials give."""

from __future__ import annotations

import base64
import datetime
import json
import sys
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials as UserCredentials

from aioproducer import AuthenticationError, ConfigError, OAuthToken
from aioproducer.integrations.google import GoogleTokenProvider
from tests.support.token_server import Answer, TokenServer

PRINCIPAL = "writer@project.iam.gserviceaccount.com"
VARIABLE = "GOOGLE_MANAGED_KAFKA_AUTH_PRINCIPAL"


class Credentials:
    """Credentials of google-auth, without Google."""

    def __init__(self, email: str | None = PRINCIPAL) -> None:
        self.token: str | None = None
        self.expiry: datetime.datetime | None = None
        self.refreshed = 0
        if email is not None:
            self.service_account_email = email

    @property
    def valid(self) -> bool:
        return self.token is not None

    def refresh(self, request: Any) -> None:
        self.refreshed += 1
        self.token = f"ya29.token-{self.refreshed}"
        # Without a time zone, as google-auth has it.
        self.expiry = datetime.datetime(2030, 1, 1, 12)


def parts_of(token: OAuthToken) -> tuple[dict[str, Any], dict[str, Any], str]:
    header, claims, access_token = (
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.value.split(".")
    )
    return json.loads(header), json.loads(claims), access_token.decode()


@pytest.fixture(autouse=True)
def no_principal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_the_access_token_is_sent_in_the_form_of_a_json_web_token() -> None:
    token = GoogleTokenProvider(Credentials())()
    header, claims, access_token = parts_of(token)
    ends_at = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC).timestamp()
    assert header == {"typ": "JWT", "alg": "GOOG_OAUTH2_TOKEN"}
    assert access_token == "ya29.token-1"
    assert time.time() - 60 < claims["iat"] <= time.time()
    assert claims == {
        "exp": int(ends_at),
        "iat": claims["iat"],
        "iss": "Google",
        "scope": "kafka",
        "sub": PRINCIPAL,
    }
    assert token.expires_at == ends_at


def test_credentials_are_refreshed_when_they_are_not_valid() -> None:
    credentials = Credentials()
    provider = GoogleTokenProvider(credentials)
    provider()
    provider()
    assert credentials.refreshed == 1
    credentials.token = None
    assert parts_of(provider())[2] == "ya29.token-2"


@pytest.mark.parametrize("email", [None, "", "default"])
def test_credentials_that_do_not_say_whose_they_are_need_a_principal(
    email: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AuthenticationError, match=f"or set {VARIABLE}"):
        GoogleTokenProvider(Credentials(email))()
    given = GoogleTokenProvider(Credentials(email), principal="me@example.com")
    assert parts_of(given())[1]["sub"] == "me@example.com"
    monkeypatch.setenv(VARIABLE, "env@example.com")
    assert parts_of(GoogleTokenProvider(Credentials(email))())[1]["sub"] == "env@example.com"


def test_a_real_service_account_gets_its_token_from_its_endpoint() -> None:
    key = rsa.generate_private_key(65_537, 2_048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    answer = Answer(
        200,
        json.dumps({"access_token": "ya29.real", "expires_in": 3_600}).encode(),
        (("Content-Type", "application/json"),),
    )
    with TokenServer(answer) as server:
        info = {
            "client_email": PRINCIPAL,
            "private_key": key.decode(),
            "token_uri": server.url,
        }
        make: Any = service_account.Credentials.from_service_account_info  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        provider = GoogleTokenProvider(make(info, scopes=["https://example.com/scope"]))
        token = provider()
    assert parts_of(token)[1]["sub"] == PRINCIPAL
    assert parts_of(token)[2] == "ya29.real"
    assert token.expires_at == pytest.approx(time.time() + 3_600, abs=60)
    assert server.asked[0].form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"


def test_real_user_credentials_need_a_principal() -> None:
    make: Any = UserCredentials
    credentials = make("ya29.user", expiry=datetime.datetime(2030, 1, 1))
    provider = GoogleTokenProvider(credentials, principal="me@example.com")
    _, claims, access_token = parts_of(provider())
    assert (claims["sub"], access_token) == ("me@example.com", "ya29.user")
    with pytest.raises(AuthenticationError, match="do not say whose they are"):
        GoogleTokenProvider(credentials)()


def test_without_credentials_the_applications_default_ones_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scopes: list[list[str]] = []

    def default(scopes: list[str], found: list[list[str]] = scopes) -> tuple[Credentials, None]:
        found.append(scopes)
        return Credentials(), None

    monkeypatch.setattr("google.auth.default", default)
    provider = GoogleTokenProvider()
    provider()
    provider()
    assert scopes == [["https://www.googleapis.com/auth/cloud-platform"]]


def test_without_google_auth_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth.transport.requests", None)
    with pytest.raises(ConfigError, match=r'pip install "aioproducer\[google\]"'):
        GoogleTokenProvider()
