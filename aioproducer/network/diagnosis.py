"""Why an attempt to connect failed, as an error that says what to change. Decides, without I/O.

    what is seen                                     what it becomes
    the name does not resolve, nobody listens,       KafkaConnectionError: waiting may help
      no route, no answer
    the other side showed another protocol           ListenerMismatchError, certain
    the other side hung up before it answered        ListenerMismatchError, uncertain
    a certificate was refused, by either side        TlsError
    credentials or mechanism were refused            AuthenticationError, as it is
    an option cannot be used (a missing file)        ConfigError, as it is

OpenSSL gives reasons in its own words (`reason`) and, for certificates, numbers (`verify_code`).
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from typing import Final

from aioproducer.errors import (
    AuthenticationError,
    ConfigError,
    KafkaConnectionError,
    KafkaError,
    ListenerMismatchError,
    NetworkError,
    TlsError,
)
from aioproducer.network.connection import ConnectionState, describe
from aioproducer.network.metadata import BrokerAddress
from aioproducer.protocol.frames import OtherProtocolError

__all__ = ["Progress", "diagnose", "most_telling", "reason_of"]

_CHECK: Final = "`aioproducer check` shows its names and dates."
_UNTRUSTED: Final = frozenset((2, 18, 19, 20, 21, 27))
"""OpenSSL's codes for a certificate whose authority is not among those trusted."""
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_WRONG_NAME: Final = frozenset((62, 64))
"""Host name and IP address."""

_ALERTS: Final = (
    (
        "CERTIFICATE_REQUIRED|BAD_CERTIFICATE|HANDSHAKE_FAILURE",
        "the broker refused the TLS handshake: does it want a certificate?",
        "Set ssl_certificate_location and ssl_key_location to the client's certificate and key, or"
        " check that they are the ones that this broker trusts.",
    ),
    (
        "UNKNOWN_CA",
        "the broker does not trust the authority of the client's certificate",
        "Have the broker trust it (ssl.truststore), or take a certificate of an authority that it"
        " trusts.",
    ),
    (
        "CERTIFICATE_EXPIRED",
        "the broker refused the client's certificate: it has expired",
        "Renew the certificate in ssl_certificate_location.",
    ),
    (
        "CERTIFICATE_REVOKED|CERTIFICATE_UNKNOWN|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED",
        "the broker refused the client's certificate",
        "It may have expired, or be of an authority that the broker does not trust: look into the"
        " broker's log, and check ssl_certificate_location.",
    ),
    (
        "PROTOCOL_VERSION|INAPPROPRIATE_FALLBACK",
        "the broker speaks no version of TLS that this client does",
        "Allow TLS 1.2 or 1.3 in the broker's ssl.enabled.protocols.",
    ),
    (
        "UNRECOGNIZED_NAME",
        "the broker or a proxy before it has no certificate for the host name",
        "Use the name that it is known by in bootstrap_servers or advertised.listeners.",
    ),
)
"""Alerts of the other side by OpenSSL's name: pattern, what it means, what to change."""


class Progress:
    """How far an attempt to connect has got at each address, to explain its end.

    Args:
        address: The broker.
        uses_tls: Whether the connection uses TLS.
    """

    def __init__(self, address: BrokerAddress, *, uses_tls: bool) -> None:
        self._address = address
        security = "SASL" if uses_tls else "TLS or SASL"
        self._silence = f"is {security} expected there, is it no Kafka broker, or does it hang?"
        self._reasons: dict[str, tuple[str, str]] = {}

    def negotiates(self, host: str) -> None:
        """An address is connected; its ApiVersions response is awaited."""
        self._reasons.setdefault(
            host, ("accepted the connection and gave no answer", f": {self._silence}")
        )

    def authenticates(self, host: str, what: str) -> None:
        """The SASL exchange with an address waits for something, or for the broker if it is ""."""
        waits = f"{what} gave nothing" if what else "gave no answer to the SASL exchange"
        self._reasons[host] = (f"accepted the connection, and {waits}", "")

    def failed(self, host: str, reason: str) -> None:
        """An address failed, or hung up once."""
        self._reasons[host] = (reason, "")

    def reasons(self, hosts: Iterable[str] = (), *, within: str = "") -> dict[str, str]:
        """Why there is no connection yet, by address.

        Args:
            hosts: All addresses; those known so far by default.
            within: How long each was waited for, as " within 10 s".
        """
        all_hosts = dict.fromkeys((*hosts, *self._reasons))
        if not all_hosts:
            return {str(self._address): f"no answer{within}"}
        return {
            self._name(host, is_alone=len(all_hosts) == 1): self._reason(host, within)
            for host in all_hosts
        }

    def _name(self, host: str, *, is_alone: bool) -> str:
        return str(self._address) if is_alone else f"{self._address} ({host})"

    def _reason(self, host: str, within: str) -> str:
        what, question = self._reasons.get(host, ("no answer", ""))
        is_waiting = question or what.startswith(("accepted", "no answer"))
        return f"{what}{within}{question}" if is_waiting else what


def diagnose(
    error: Exception,
    address: BrokerAddress,
    *,
    uses_tls: bool,
    state: ConnectionState = ConnectionState.CONNECTING,
) -> KafkaError:
    """Return the error that explains a failed attempt to connect.

    Args:
        error: What ended it.
        address: The broker.
        uses_tls: Whether the connection was to use TLS.
        state: How far the connection was.
    """
    is_authenticating = state is ConnectionState.AUTHENTICATING
    if isinstance(error, AuthenticationError) and is_authenticating:
        return error
    if isinstance(error, (ConfigError, KafkaConnectionError)):
        return error
    tls_error = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(tls_error, ssl.SSLError):
        return _of_tls(tls_error, address, state)
    if isinstance(error.__cause__, OtherProtocolError):
        cause = error.__cause__
        return _mismatch(address, cause.what(), cause.hint, is_certain=True)
    if isinstance(error, NetworkError):
        return _of_end(error, address, uses_tls=uses_tls, state=state)
    if uses_tls and isinstance(error, ConnectionResetError):
        return _no_tls(address, "the connection was reset during the TLS handshake")
    if uses_tls and isinstance(error, ConnectionAbortedError):
        return _no_tls(address, "accepted the connection and gave no answer in TLS")
    if isinstance(error, socket.gaierror):
        reason = f"the host name {address.host!r} cannot be resolved ({error.strerror})"
    elif isinstance(error, (ValueError, OverflowError)):
        reason = f"this is no address ({error})"
    else:
        reason = describe(error)
    return KafkaConnectionError(
        "Cannot connect", reasons={str(address): reason}, broker=str(address)
    )


def most_telling(errors: Iterable[KafkaError], reasons: Mapping[str, str]) -> KafkaError:
    """Return the error for several addresses that all failed: one that no retry mends first.

    Args:
        errors: Of each address.
        reasons: All of them, by address.
    """
    final = [error for error in errors if not error.retriable]
    if final:
        error = min(final, key=_rank)
        if isinstance(error, KafkaConnectionError):
            error.reasons = dict(reasons)
        return error
    return KafkaConnectionError("No address could be reached", reasons=reasons)


def _rank(error: KafkaError) -> int:
    for rank, kind in enumerate((AuthenticationError, ConfigError, ListenerMismatchError)):
        if isinstance(error, kind):
            return rank
    return 3


def reason_of(error: KafkaError) -> str:
    """Why an address failed, for a list of addresses with their reasons."""
    if isinstance(error, KafkaConnectionError) and len(error.reasons) == 1:
        (reason,) = error.reasons.values()
        return reason
    return error.what()


def _of_end(
    error: NetworkError, address: BrokerAddress, *, uses_tls: bool, state: ConnectionState
) -> KafkaError:
    """The other side ended the connection, and did not say why."""
    what = error.what().rstrip(". ")
    if state is ConnectionState.AUTHENTICATING:
        return _mismatch(
            address,
            f"{what} during the SASL exchange",
            "Look for the reason in the broker's log; check sasl_mechanism and the credentials.",
        )
    if state is ConnectionState.READY:
        return _mismatch(
            address,
            f"{what} at the first request: is SASL missing?",
            "Set security_protocol to SASL_SSL or SASL_PLAINTEXT if the listener asks for a login.",
        )
    if uses_tls:
        question = "is SASL or a certificate missing, or the port not Kafka's?"
    else:
        question = "is TLS missing (security_protocol='SSL'), or the port not Kafka's?"
    return _mismatch(address, f"{what} before it told its API versions: {question}", "")


def _of_tls(error: ssl.SSLError, address: BrokerAddress, state: ConnectionState) -> KafkaError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error, address)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _no_tls(address, "the connection ended during the TLS handshake")
    reason = error.reason or str(error)
    if "ALERT" in reason:
        for pattern, what, hint in _ALERTS:
            if re.search(pattern, reason):
                return _tls_error(error, address, f"{what} ({reason})", hint)
        return _tls_error(
            error,
            address,
            f"the broker refused the TLS handshake ({reason})",
            "Look for the reason in the broker's log.",
        )
    if state is ConnectionState.CONNECTING:
        return _mismatch(
            address,
            f"the TLS handshake failed ({reason}): does the port speak TLS?",
            "Set security_protocol to PLAINTEXT or SASL_PLAINTEXT, or use the port of a TLS"
            " listener.",
            is_certain=True,
        )
    return _tls_error(error, address, f"the TLS connection failed ({reason})", "")


def _of_certificate(error: ssl.SSLCertVerificationError, address: BrokerAddress) -> TlsError:
    code, said = error.verify_code, error.verify_message
    if code in _WRONG_NAME:
        return _tls_error(
            error,
            address,
            f"the broker's certificate is not for {address.host!r} ({said})",
            f"Use a name that the certificate is for in bootstrap_servers and advertised.listeners."
            f" {_CHECK}",
        )
    if code == _EXPIRED:
        return _tls_error(
            error,
            address,
            "the broker's certificate, or that of its authority, has expired",
            f"Renew it, or set this machine's clock if that is wrong. {_CHECK}",
        )
    if code == _NOT_YET_VALID:
        return _tls_error(
            error,
            address,
            "the broker's certificate, or that of its authority, is not valid yet",
            f"Set this machine's clock, or that of the machine that made it. {_CHECK}",
        )
    if code in _UNTRUSTED:
        return _tls_error(
            error,
            address,
            f"the authority of the broker's certificate is not trusted ({said})",
            "Set ssl_ca_location to a file with the certificate of that authority, or load it into"
            " your ssl_context.",
        )
    return _tls_error(error, address, f"the broker's certificate was refused ({said})", _CHECK)


def _no_tls(address: BrokerAddress, what: str) -> ListenerMismatchError:
    return _mismatch(
        address,
        f"{what}: does the port speak TLS?",
        "Set security_protocol to PLAINTEXT or SASL_PLAINTEXT if it does not, and"
        " ssl_certificate_location if it asks for a certificate.",
    )


def _mismatch(
    address: BrokerAddress, what: str, hint: str, *, is_certain: bool = False
) -> ListenerMismatchError:
    return ListenerMismatchError(
        "Cannot connect",
        reasons={str(address): what},
        broker=str(address),
        hint=hint,
        is_certain=is_certain,
    )


def _tls_error(error: ssl.SSLError, address: BrokerAddress, what: str, hint: str) -> TlsError:
    made = TlsError(what[0].upper() + what[1:], broker=str(address), hint=hint)
    made.__cause__ = error
    return made
