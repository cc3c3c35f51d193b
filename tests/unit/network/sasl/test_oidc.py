"""The built-in provider of tokens: which grant is used, and what is sent and taken."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any

import pytest

from aioproducer import AuthenticationError, ConfigError, OAuthToken
from aioproducer.network.sasl.oidc import OidcProvider, oidc_provider
from aioproducer.network.sasl.token_endpoint import TokenEndpoint, TokenRequest
from tests.support.token_server import Answer, Asked, TokenServer, oauth_config

NOW = 1_800_000_000.0
GOOD = Answer.of(access_token="token", expires_in=60)
CLIENT = {
    "sasl_oauthbearer_client_credentials_client_id": "kafka-client",
    "sasl_oauthbearer_client_credentials_client_secret": "canary+ %",
}


def asked_by(**options: Any) -> Asked:
    with TokenServer(GOOD) as server:
        provider, _ = oidc_provider(oauth_config(server.url, **options))
        provider()
    return server.asked[0]


def basic(asked: Asked) -> str:
    kind, credentials = asked.headers["authorization"].split()
    assert kind == "Basic"
    return base64.b64decode(credentials).decode()


def test_client_id_and_secret_go_into_the_authorization_header() -> None:
    asked = asked_by(**CLIENT, sasl_oauthbearer_scope=" kafka other ")
    assert basic(asked) == "kafka-client:canary+ %"
    assert asked.form == {"grant_type": "client_credentials", "scope": "kafka other"}


def test_they_are_url_encoded_where_that_is_asked_for() -> None:
    asked = asked_by(**CLIENT, sasl_oauthbearer_header_urlencode=True)
    assert basic(asked) == "kafka-client:canary%2B+%25"
    assert asked.form == {"grant_type": "client_credentials"}


@pytest.mark.parametrize("repeated", ["canary%2B+%25", "canary%2B%20%25", "canary+ %"])
def test_an_endpoint_that_repeats_the_secret_is_quoted_without_it(repeated: str) -> None:
    answer = Answer.of(400, error="invalid_client", error_description=f"is not {repeated}")
    with TokenServer(answer) as server:
        provider, _ = oidc_provider(oauth_config(server.url, **CLIENT))
        with pytest.raises(AuthenticationError) as caught:
            provider()
    assert "invalid_client: is not <hidden>. Check" in str(caught.value)


def test_the_jwt_bearer_grant_sends_an_assertion(tmp_path: Path) -> None:
    (tmp_path / "assertion").write_text("a.s.s\n")
    asked = asked_by(
        sasl_oauthbearer_jwt_retriever_class="jwt_bearer",
        sasl_oauthbearer_assertion_file=str(tmp_path / "assertion"),
        sasl_oauthbearer_scope="kafka",
    )
    assert "authorization" not in asked.headers
    assert asked.form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": "a.s.s",
        "scope": "kafka",
    }


def test_an_assertion_stands_in_place_of_the_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "assertion").write_text("a.s.s\n")
    asked = asked_by(
        **CLIENT,
        sasl_oauthbearer_assertion_file=str(tmp_path / "assertion"),
        sasl_oauthbearer_scope="kafka",
    )
    assert "authorization" not in asked.headers
    assert asked.form == {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "a.s.s",
        "client_id": "kafka-client",
        "scope": "kafka",
    }
    assert [it.levelno for it in caplog.records] == [logging.WARNING]
    assert "client_secret is not used, for sasl_oauthbearer_assertion_file is set" in caplog.text
    assert "canary" not in caplog.text


def test_the_client_id_is_optional_with_an_assertion(tmp_path: Path) -> None:
    (tmp_path / "assertion").write_text("a.s.s")
    asked = asked_by(sasl_oauthbearer_assertion_file=str(tmp_path / "assertion"))
    assert "client_id" not in asked.form


def test_an_assertion_file_is_read_for_each_request(tmp_path: Path) -> None:
    file = tmp_path / "assertion"
    with TokenServer(GOOD) as server:
        provider, _ = oidc_provider(
            oauth_config(
                server.url,
                sasl_oauthbearer_jwt_retriever_class="jwt_bearer",
                sasl_oauthbearer_assertion_file=str(file),
            )
        )
        for text in ("a.s.1", "a.s.2"):
            file.write_text(text)
            provider()
    assert [asked.form["assertion"] for asked in server.asked] == ["a.s.1", "a.s.2"]


@pytest.mark.parametrize("missing", CLIENT)
def test_a_client_without_id_or_secret_says_what_to_set(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"{missing}: not set") as caught:
        oidc_provider(oauth_config("https://idp.example/token", **{**CLIENT, missing: None}))
    assert "canary" not in str(caught.value)


def test_the_jwt_bearer_grant_without_an_assertion_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="Set sasl_oauthbearer_assertion_private_key_file"):
        oidc_provider(
            oauth_config(
                "https://idp.example/token",
                **CLIENT,
                sasl_oauthbearer_jwt_retriever_class="jwt_bearer",
            )
        )


# ---- answers


def token_from(answer: Answer) -> OAuthToken:
    with TokenServer(answer) as server:
        endpoint = TokenEndpoint(server.url, oauth_config(server.url))
        request = TokenRequest({}, "", (), "")
        return OidcProvider(endpoint, lambda: request, now=lambda: NOW)()


@pytest.mark.parametrize(
    ("expires_in", "expires_at"),
    [
        (60, NOW + 60),
        (59.5, NOW + 59.5),
        ("3599", NOW + 3_599),
        (-1, NOW - 1),
        (None, None),
        ("soon", None),
        (True, None),
        ([60], None),
        (float("inf"), None),
        (float("nan"), None),
        (10**400, None),
    ],
)
def test_a_token_ends_after_expires_in_seconds(
    expires_in: object, expires_at: float | None
) -> None:
    found = token_from(Answer.of(access_token=" token\n", expires_in=expires_in))
    assert (found.value, found.expires_at) == ("token", expires_at)


@pytest.mark.parametrize(
    "answer", [Answer.of(token="canary"), Answer.of(access_token=""), Answer.of(access_token=1)]
)
def test_an_answer_without_a_token_is_refused(answer: Answer) -> None:
    with pytest.raises(AuthenticationError, match="answered without an access_token") as caught:
        token_from(answer)
    assert "canary" not in str(caught.value)


# ---- files


def test_a_file_with_a_token_is_read_for_each(tmp_path: Path) -> None:
    file = tmp_path / "the token"
    provider, what = oidc_provider(oauth_config(file.as_uri()))
    for text in ("token-1", "token-2"):
        file.write_text(f"{text}\n")
        assert provider() == text
    assert what == f"the file {file}"


def test_a_missing_token_file_is_named_with_its_option(tmp_path: Path) -> None:
    provider, _ = oidc_provider(oauth_config((tmp_path / "none").as_uri()))
    with pytest.raises(ConfigError) as caught:
        provider()
    assert "sasl_oauthbearer_token_endpoint_url: the file " in str(caught.value)
    assert "none cannot be read: No such file or directory" in str(caught.value)
