"""GSSAPI (RFC 4752): Kerberos, as Kafka's brokers speak it.

    client  a token of the Kerberos context          until both sides have established it
    broker  a token of its own, or nothing
    broker  wrapped: the security layers it offers, and how much it takes
    client  wrapped: no security layer, and no name: the ticket has it

Each step may ask a KDC, so each runs in a thread. The package `gssapi` does Kerberos itself: the
binding of MIT's library that is kept up; `pyspnego` needs it too on Linux, beside another one.

Invariants
* The broker is authenticated as well (mutual), and no security layer is taken: that is for TLS.
* The tickets of a keytab are this process's alone, in memory, and renewed before they end.
* The broker's principal is of the host that its address names, unless krb5.conf has DNS change it.
"""

from __future__ import annotations

import re
import struct
from functools import partial
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Protocol, cast

from aioproducer.config import ProducerConfig
from aioproducer.errors import AuthenticationError, ConfigError, SaslAuthenticationFailedError
from aioproducer.network.sasl.exchange import Call, Exchange

__all__ = ["Gssapi", "mechanism"]

_NO_LAYER: Final = 1
"""The bit of "authentication only" among the security layers."""
_OFFER: Final = struct.Struct(">I")
"""One byte of layers, and three of the largest message."""
_KERBEROS: Final = "Kerberos's library, which asks the KDC,"

_EXPLANATIONS: Final = (
    (
        "No Kerberos credentials available|No credentials cache|Credentials cache .*not found|"
        "Cannot find a credentials cache",
        "there is no Kerberos ticket",
        "Run kinit, or set sasl_kerberos_keytab.",
    ),
    (
        r"Can't find client principal (?P<client>\S+) in cache",
        "there is no ticket of {client}",
        "Run kinit {client}, or set sasl_kerberos_keytab.",
    ),
    (
        "Ticket expired|credentials? (?:have|has) expired",
        "the Kerberos ticket has expired",
        "Run kinit again, or set sasl_kerberos_keytab, whose tickets are renewed.",
    ),
    (
        r"Server krbtgt/(?P<realm>\S+)@(?P<own>\S+) not found",
        "the KDC of {own} does not know {realm}, which is taken for the broker's realm",
        "Map the broker's host name to its realm in krb5.conf (domain_realm).",
    ),
    (
        r"Server (?P<server>\S+) not found",
        "the KDC does not know the broker as {server}",
        "Check sasl_kerberos_service_name, and that the name in bootstrap_servers and"
        " advertised.listeners is that of the broker's principal.",
    ),
    (
        "Client .* not found",
        "the KDC does not know the client's principal",
        "Check sasl_kerberos_principal, and the realm in krb5.conf.",
    ),
    (
        "Preauthentication failed|Decrypt integrity check failed",
        "the KDC does not take the client's key",
        "The key was changed after the keytab was made: make it again (ktadd).",
    ),
    (
        "credentials have been revoked|entry in database has expired|[Pp]assword has expired",
        "the KDC has locked the client's principal",
        "The realm's administrator has to unlock it.",
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
        "encryption type",
        "client, KDC and broker share no type of encryption",
        "Compare permitted_enctypes in krb5.conf with the keys of both principals.",
    ),
    (
        "Malformed representation of principal",
        "sasl_kerberos_principal is no principal",
        "Write it as name@REALM.",
    ),
    (
        "[Kk]eytab|[Kk]ey table",
        "the keytab cannot be used",
        "Check sasl_kerberos_keytab, and that it has a key of sasl_kerberos_principal.",
    ),
)
"""What MIT's library says, as a pattern; what it means; what to change."""

_CANONICALIZED: Final = (
    "That name was made of {asked} by DNS: set dns_canonicalize_hostname and rdns to false in"
    " krb5.conf, or mend DNS."
)
_REFUSED: Final = (
    "The broker's log says why. Compare its clock with this machine's (Kerberos allows five"
    " minutes), and the key in its keytab with the KDC's (klist -k, kvno)."
)


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
    if find_spec("gssapi") is None:
        raise ConfigError(
            "GSSAPI needs the package gssapi, and that MIT's Kerberos",
            option="sasl_mechanism",
            value="GSSAPI",
            hint="Run apt-get install gcc libkrb5-dev, or dnf install gcc krb5-devel, then pip"
            ' install "aioproducer[gssapi]".',
        )
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
        whose = sha256(f"{principal}\0{keytab}".encode()).hexdigest()
        self._cache = f"MEMORY:aioproducer-{whose}"
        """Where the tickets of a keytab go. Not the process's cache, where somebody else may be
        logged in, and none of this producer alone, for nothing would ever remove it."""

    def exchange(self, host: str) -> Exchange:
        """Begin an exchange."""
        try:
            yield from self._establish(host)
        except SaslAuthenticationFailedError as error:
            error.hint = _REFUSED
            raise

    def _establish(self, host: str) -> Exchange:
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
        try:
            context = library.SecurityContext(
                name=library.Name(f"{self._service}@{host}", library.NameType.hostbased_service),
                mech=library.MechType.kerberos,
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
        acquire = partial(library.Credentials, name=name, mechs=[library.MechType.kerberos])
        if self._keytab is None:
            return acquire(usage="initiate")
        try:
            store = {"client_keytab": self._keytab, "ccache": self._cache}
            return acquire(usage="initiate", store=store)
        except library.exceptions.GSSError:
            # A keytab that has no such key is passed over, and a missing ticket complained of. Read
            # as a server's, it is the keytab that is complained of.
            acquire(usage="accept", store={"keytab": self._keytab})
            raise

    def _step(self, context: SecurityContext, challenge: bytes | None, host: str) -> bytes | None:
        library = _library()
        try:
            return context.step(challenge)
        except library.exceptions.InvalidTokenError as error:
            raise _no_message(error) from error
        except library.exceptions.GSSError as error:
            raise self._explained(error, host) from error

    def _choose_layer(self, context: SecurityContext, challenge: bytes | None) -> bytes:
        """Take no security layer, and name nobody: the broker takes the ticket's principal."""
        library = _library()
        try:
            offer = bytes(context.unwrap(challenge or b"").message)
            # Its largest message is not looked at. RFC 4752 wants zero of a broker without layers,
            # but Java's says 64 KiB.
            if len(offer) != _OFFER.size or not offer[0] & _NO_LAYER:
                raise AuthenticationError(
                    "The broker offers no GSSAPI exchange without a security layer",
                    hint="Allow auth in the broker's javax.security.sasl.qop, and encrypt by TLS.",
                )
            return bytes(context.wrap(_OFFER.pack(_NO_LAYER << 24), False).message)
        except library.exceptions.GSSError as error:
            raise _no_message(error) from error

    def _explained(self, error: Exception, host: str) -> AuthenticationError:
        said = _said(error)
        for pattern, what, hint in _EXPLANATIONS:
            if (found := re.search(pattern, said)) is None:
                continue
            parts = found.groupdict()
            asked = f"{self._service}/{host}"
            server = parts.get("server", asked)
            if server.partition("@")[0].lower() != asked.lower():
                hint = _CANONICALIZED.format(asked=asked)
            return AuthenticationError(
                f"Kerberos: {what.format(**parts)} ({said})", hint=hint.format(**parts)
            )
        return AuthenticationError(f"Kerberos: {said}", hint="Look into the KDC's log, and klist.")


def _library() -> Any:
    """The package, which has no types and is there only with the extra."""
    try:
        return import_module("gssapi")
    except ImportError as error:
        raise AuthenticationError(
            f"The package gssapi does not find MIT's Kerberos: {error}",
            hint="Run apt-get install libgssapi-krb5-2, or dnf install krb5-libs.",
        ) from error


def _no_message(error: Exception) -> AuthenticationError:
    return AuthenticationError(
        f"The broker sent what is no message of this Kerberos exchange: {_said(error)}",
        hint="Check that this address is a broker's, and that nothing between changes its words.",
    )


def _said(error: Exception) -> str:
    """What MIT's library said, without the numbers: the second part, unless it is empty."""
    text = " ".join(str(error).split())
    if found := re.match(r"Major \(\d+\): (.*?), Minor \(\d+\): (.*)", text):
        text = found[1] if found[2] in ("", "Success", "Unknown error") else found[2]
    return text[:300]
