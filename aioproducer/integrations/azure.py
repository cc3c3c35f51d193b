"""Tokens of Microsoft Entra ID by azure-identity, for Event Hubs and others.

Needs `pip install "aioproducer[azure]"`. Nothing is kept here: azure-identity keeps its tokens, and
the producer the one that it uses.
"""

from __future__ import annotations

import inspect
import re
from types import TracebackType
from typing import Any, Final, Protocol, Self

from aioproducer.errors import ConfigError
from aioproducer.hooks import OAuthToken

__all__ = ["AsyncTokenCredential", "AzureTokenProvider"]

_NAMESPACE: Final = re.compile(r"([a-z0-9][a-z0-9.-]*)(?::[0-9]+)?")


class AsyncTokenCredential(Protocol):
    """A credential of `azure.identity.aio`, as far as it is used here."""

    async def get_token(self, *scopes: str) -> Any:
        """Return an access token, with `token` and `expires_on`."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


class AzureTokenProvider:
    """A `sasl_oauth_token_provider` for Azure Event Hubs, or another service of Entra ID.

    Args:
        credential: A credential of `azure.identity.aio`; whoever made it closes it. None: a
            `DefaultAzureCredential`, which `aclose` closes.
        namespace: The Event Hubs namespace, as `"payments"` or
            `"payments.servicebus.windows.net"`; the scope is made from it.
        scope: The scope of another service, such as `"api://kafka/.default"`; in place of
            `namespace`.

    Raises:
        ConfigError: Neither or both of namespace and scope are given, the namespace is no host
            name, the credential is not of `azure.identity.aio`, or azure-identity is missing.

    Example:
        >>> async with AzureTokenProvider(namespace="payments") as tokens:  # doctest: +SKIP
        ...     async with Producer(
        ...         bootstrap_servers="payments.servicebus.windows.net:9093",
        ...         security_protocol="SASL_SSL",
        ...         sasl_mechanism="OAUTHBEARER",
        ...         sasl_oauth_token_provider=tokens,
        ...     ) as producer:
        ...         await producer.send("orders", b"...")
    """

    def __init__(
        self,
        credential: AsyncTokenCredential | None = None,
        *,
        namespace: str | None = None,
        scope: str | None = None,
    ) -> None:
        self._scope = _scope(namespace, scope)
        self._is_own = credential is None
        self._credential = _default_credential() if credential is None else credential
        if not inspect.iscoroutinefunction(self._credential.get_token):
            raise ConfigError(
                "is no asynchronous credential, and would block the event loop",
                option="credential",
                hint="Import its class from azure.identity.aio.",
            )

    async def __call__(self) -> OAuthToken:
        """Return a token."""
        token = await self._credential.get_token(self._scope)
        return OAuthToken(token.token, float(token.expires_on))

    async def aclose(self) -> None:
        """Close the credential, if it was made here."""
        if self._is_own:
            await self._credential.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


def _scope(namespace: str | None, scope: str | None) -> str:
    if scope is not None:
        if namespace is not None:
            raise ConfigError("not both of namespace and scope", option="scope")
        return scope
    if namespace is None:
        raise ConfigError(
            "not set",
            option="namespace",
            hint="Give the Event Hubs namespace, or the scope of another service.",
        )
    # Often copied from bootstrap_servers, with the port.
    found = _NAMESPACE.fullmatch(namespace.lower())
    if found is None:
        raise ConfigError(
            option="namespace", value=namespace, allowed="the name of an Event Hubs namespace"
        )
    host = found[1] if "." in found[1] else f"{found[1]}.servicebus.windows.net"
    return f"https://{host}/.default"


def _default_credential() -> AsyncTokenCredential:
    try:
        from azure.identity.aio import DefaultAzureCredential
    except ImportError as error:
        raise ConfigError(
            "azure-identity or aiohttp is missing",
            option="credential",
            hint='Run pip install "aioproducer[azure]".',
        ) from error
    return DefaultAzureCredential()
