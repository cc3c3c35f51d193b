"""GSSAPI (RFC 4752): Kerberos, as Kafka's brokers speak it.

    client  a token of the Kerberos context          until both sides have established it
    broker  a token of its own, or nothing
    broker  wrapped: the security layers it offers, and how much it takes
    client  wrapped: no security layer, and who we are

Each step may ask a KDC, so each runs in a thread. The package `gssapi` does Kerberos itself: the
binding of MIT's library that is kept up; `pyspnego` needs it too on Linux, beside another one.

Invariant
* The broker is authenticated as well (mutual), and no security layer is taken: that is for TLS.
"""

from __future__ import annotations

import re
import secrets
import struct
from functools import partial
from importlib import import_module
from typing import Any, Final, Protocol, cast

from aioproducer.config import ProducerConfig
from aioproducer.errors import AuthenticationError, ConfigError
from aioproducer.network.sasl.exchange import Call, Exchange

__all__ = ["Gssapi", "mechanism"]

_NO_LAYER: Final = 1
"""The bit of "authentication only" among the security layers."""
_OFFER: Final = struct.Struct(">I")
"""One byte of layers, and three of the largest message."""
_KERBEROS: Final = "the Kerberos exchange"

_EXPLANATIONS: Final = (
    (
        "No Kerberos credentials available|No credentials cache|Credentials cache .*not found|"
        "Cannot find a credentials cache",
        "there is no Kerberos ticket",
        "Run kinit, or set sasl_kerberos_keytab.",
    ),
    (
        "Ticket expired|credentials have expired|credential has expired",
        "the Kerberos ticket has expired",
        "Run kinit again, or set sasl_kerberos_keytab, whose tickets are renewed.",
    ),
    (
        "Server .* not found|Server not found|unknown server",
        "the KDC does not know the broker as {server}",
        "Check sasl_kerberos_service_name, and that the name in bootstrap_servers and"
        " advertised.listeners is that of the broker's principal.",
    ),
    (
        "Client .* not found|Client not found",
        "the KDC does not know the client's principal",
        "Check sasl_kerberos_principal, and the realm in krb5.conf.",
    ),
    (
        "[Cc]lock skew",
        "this machine's clock and the KDC's or the broker's differ too much",
        "Set the clocks: Kerberos allows five minutes.",
    ),
    (
        "Cannot contact any KDC|Cannot find KDC|unable to reach",
        "no KDC of the realm can be reached",
        "Check krb5.conf (KRB5_CONFIG) and the network.",
    ),
    (
        "Cannot determine realm|Cannot find .*default realm",
        "the realm of the broker's host name is not known",
        "Set domain_realm or default_realm in krb5.conf.",
    ),
    (
        "keytab|Key table",
        "the keytab cannot be used",
        "Check sasl_kerberos_keytab, and that it has a key of sasl_kerberos_principal.",
    ),
)
"""What MIT's library says, as a pattern; what it means; what to change."""


class SecurityContext(Protocol):
    """What is used of gssapi's context."""

    complete: bool

    def step(self, token: bytes | None = None) -> bytes | None:
        """Go on with what the broker sent."""
        ...

    def unwrap(self, message: bytes) -> Any:
        """Check and open a message."""
        ...

    def wrap(self, message: bytes, encrypt: bool) -> Any:
        """Seal a message."""
        ...


def mechanism(config: ProducerConfig) -> Gssapi:
    """Make the mechanism of a config.

    Raises:
        ConfigError: The package `gssapi` is missing.
    """
    try:
        _library()
    except ImportError as error:
        raise ConfigError(
            f"GSSAPI needs the package gssapi, and that Kerberos's library ({error})",
            option="sasl_mechanism",
            hint='pip install "aioproducer[gssapi]"; on Debian, apt-get install libkrb5-dev first.',
        ) from None
    return Gssapi(
        config.sasl_kerberos_service_name,
        principal=config.sasl_kerberos_principal,
        keytab=config.sasl_kerberos_keytab,
    )


class Gssapi:
    """Shows a Kerberos ticket.

    Args:
        service: The first part of the brokers' principal.
        principal: Whose credentials to use; None for those that there are.
        keytab: Where to get tickets with; None for the ticket cache.
    """

    name = "GSSAPI"

    def __init__(
        self, service: str, *, principal: str | None = None, keytab: str | None = None
    ) -> None:
        self._service = service
        self._principal = principal
        self._keytab = keytab
        self._cache = f"MEMORY:aioproducer-{secrets.token_hex(8)}"
        """Where the tickets of a keytab go: of this producer alone, for the process may have others
        that are somebody else."""

    def exchange(self, host: str) -> Exchange:
        """Begin an exchange."""
        context: SecurityContext = yield Call(partial(self._begin, host), _KERBEROS)
        challenge: bytes | None = None
        while not context.complete:
            token: bytes | None = yield Call(
                partial(self._step, context, challenge, host), _KERBEROS
            )
            # The last token of the broker may leave nothing to say: it waits for an empty one.
            challenge = yield token or b""
        answer: bytes = yield Call(partial(self._choose_layer, context, challenge), _KERBEROS)
        yield answer

    def _begin(self, host: str) -> SecurityContext:
        library = _library()
        kerberos = library.MechType.kerberos
        server = library.Name(f"{self._service}@{host}", library.NameType.hostbased_service)
        try:
            context = library.SecurityContext(
                name=server,
                mech=kerberos,
                usage="initiate",
                creds=self._credentials(library),
                flags=library.RequirementFlag.mutual_authentication
                | library.RequirementFlag.integrity,
            )
        except library.exceptions.GSSError as error:
            raise self._explained(error, host) from error
        return cast(SecurityContext, context)

    def _credentials(self, library: Any) -> Any:
        """The credentials to use; None for the default ones."""
        if self._principal is None and self._keytab is None:
            return None
        name = None
        if self._principal is not None:
            name = library.Name(self._principal, library.NameType.kerberos_principal)
        store = None
        if self._keytab is not None:
            store = {"client_keytab": self._keytab, "ccache": self._cache}
        return library.Credentials(
            name=name, usage="initiate", mechs=[library.MechType.kerberos], store=store
        )

    def _step(self, context: SecurityContext, challenge: bytes | None, host: str) -> bytes | None:
        library = _library()
        try:
            return context.step(challenge)
        except library.exceptions.GSSError as error:
            raise self._explained(error, host) from error

    def _choose_layer(self, context: SecurityContext, challenge: bytes | None) -> bytes:
        """Take no security layer, and name nobody: the broker takes the ticket's principal."""
        library = _library()
        try:
            offer = bytes(context.unwrap(challenge or b"").message)
            if len(offer) != _OFFER.size or not offer[0] & _NO_LAYER:
                raise AuthenticationError(
                    "The broker offers no GSSAPI exchange without a security layer"
                )
            return bytes(context.wrap(_OFFER.pack(_NO_LAYER << 24), False).message)
        except library.exceptions.GSSError as error:
            raise AuthenticationError(
                f"The broker's GSSAPI message is refused: {_said(error)}"
            ) from error

    def _explained(self, error: Exception, host: str) -> AuthenticationError:
        said = _said(error)
        for pattern, what, hint in _EXPLANATIONS:
            if re.search(pattern, said):
                text = what.format(server=f"{self._service}/{host}")
                return AuthenticationError(f"Kerberos: {text} ({said})", hint=hint)
        return AuthenticationError(f"Kerberos: {said}", hint="Look into the KDC's log, and klist.")


def _library() -> Any:
    """The package, which has no types and is there only with the extra."""
    return import_module("gssapi")


def _said(error: Exception) -> str:
    """What MIT's library said, without the numbers."""
    text = " ".join(str(error).split())
    minor = re.search(r"Minor \(\d+\): (.*?)(?:, (?:attempting|Result).*)?$", text)
    return (minor[1] if minor else text)[:300]
