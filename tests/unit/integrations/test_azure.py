"""Tokens of Microsoft Entra ID: the scope, the token's end, and who closes the credential."""

from __future__ import annotations

import inspect
import sys
from typing import Any, cast

import pytest
from azure.core.credentials import AccessToken
from azure.identity import DefaultAzureCredential as BlockingCredential
from azure.identity.aio import ClientSecretCredential, DefaultAzureCredential

from aioproducer import ConfigError, OAuthToken
from aioproducer.integrations.azure import AzureTokenProvider


class Credential:
    """A credential of azure.identity.aio, without Azure."""

    def __init__(self) -> None:
        self.scopes: list[tuple[str, ...]] = []
        self.closed = 0

    async def get_token(self, *scopes: str) -> AccessToken:
        self.scopes.append(scopes)
        return AccessToken("token", 1_800_000_000)

    async def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("given", "scope"),
    [
        ({"namespace": "payments"}, "https://payments.servicebus.windows.net/.default"),
        (
            {"namespace": "Payments.servicebus.windows.net:9093"},
            "https://payments.servicebus.windows.net/.default",
        ),
        (
            {"namespace": "payments.servicebus.chinacloudapi.cn"},
            "https://payments.servicebus.chinacloudapi.cn/.default",
        ),
        ({"scope": "api://kafka/.default"}, "api://kafka/.default"),
    ],
)
async def test_a_token_is_asked_for_with_the_scope_of_the_service(
    given: dict[str, str], scope: str
) -> None:
    credential = Credential()
    provider = AzureTokenProvider(credential, **given)
    assert await provider() == OAuthToken("token", 1_800_000_000.0)
    assert credential.scopes == [(scope,)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "namespace: not set. Give the Event Hubs namespace"),
        ({"namespace": "a", "scope": "b"}, "not both of namespace and scope"),
        ({"namespace": "https://payments"}, "allowed: the name of an Event Hubs namespace"),
        ({"namespace": ""}, "allowed: the name of an Event Hubs namespace"),
    ],
)
def test_what_makes_no_scope_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AzureTokenProvider(Credential(), **given)


def test_a_credential_that_blocks_is_refused() -> None:
    with (
        BlockingCredential() as credential,
        pytest.raises(ConfigError, match=r"Import its class from azure\.identity\.aio"),
    ):
        AzureTokenProvider(cast(Any, credential), namespace="payments")


async def test_a_credential_that_was_given_is_left_open() -> None:
    credential = Credential()
    async with AzureTokenProvider(credential, namespace="payments"):
        pass
    assert credential.closed == 0


async def test_without_a_credential_the_default_one_is_made_and_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[object] = []

    async def close(self: DefaultAzureCredential) -> None:
        closed.append(self)

    monkeypatch.setattr(DefaultAzureCredential, "close", close)
    async with AzureTokenProvider(namespace="payments"):
        pass
    assert [type(it) for it in closed] == [DefaultAzureCredential]


@pytest.mark.parametrize("kind", [ClientSecretCredential, DefaultAzureCredential])
def test_azures_own_credentials_have_the_methods_that_are_used(kind: Any) -> None:
    assert inspect.iscoroutinefunction(kind.get_token)
    inspect.signature(kind.get_token).bind(None, "https://payments.servicebus.windows.net/.default")
    assert inspect.iscoroutinefunction(kind.close)


def test_without_azure_identity_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity.aio", None)
    with pytest.raises(ConfigError, match=r'pip install "aioproducer\[azure\]"'):
        AzureTokenProvider(namespace="payments")
