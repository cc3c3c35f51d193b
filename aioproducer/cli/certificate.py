"""Shows a broker's certificate, also one that is refused: whose it is, for which names, how long.

An `ssl` connection tells the fields of a certificate only if it was verified. So a certificate that
was refused is verified against itself, on a second connection, whatever its dates and names.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Final

__all__ = ["describe_certificate", "fetch_certificate"]

_NO_CHECK_OF_DATES: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME; `ssl` has no name for it."""
_MOST_NAMES: Final = 6
_DAY: Final = 86_400


def fetch_certificate(host: str, port: int, server_name: str, *, timeout: float) -> dict[str, Any]:
    """Return the fields of the certificate that is shown at an address. Blocks.

    Args:
        host: The IP address.
        port: The port.
        server_name: Whose certificate to ask for.
        timeout: Seconds for each of the two connections.

    Raises:
        OSError: There is none to be had.
    """
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout) as raw,
        careless.wrap_socket(raw, server_hostname=server_name) as wrapped,
    ):
        der = wrapped.getpeercert(binary_form=True)
    if der is None:
        raise ssl.SSLError("no certificate was shown")
    itself = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    itself.check_hostname = False
    itself.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_OF_DATES
    itself.load_verify_locations(cadata=der)
    with (
        socket.create_connection((host, port), timeout) as raw,
        itself.wrap_socket(raw, server_hostname=server_name) as wrapped,
    ):
        return dict(wrapped.getpeercert() or {})


def describe_certificate(fields: dict[str, Any], *, now: float | None = None) -> list[str]:
    """Return lines about a certificate: its names, its authority, its dates.

    Args:
        fields: As `SSLSocket.getpeercert` returns them.
        now: The time, in seconds since 1970.
    """
    names = [str(value) for _, value in fields.get("subjectAltName", ())]
    shown = ", ".join(names[:_MOST_NAMES]) or _common_name(fields.get("subject", ())) or "nobody"
    if len(names) > _MOST_NAMES:
        shown += f" and {len(names) - _MOST_NAMES} more"
    lines = [f"for {shown}"]
    if authority := _common_name(fields.get("issuer", ())):
        lines.append(f"by {authority}")
    if "notBefore" in fields and "notAfter" in fields:
        lines.append(_dates(fields["notBefore"], fields["notAfter"], now or time.time()))
    return lines


def _common_name(name: Any) -> str:
    parts = {key: value for part in name for key, value in part}
    return str(parts.get("commonName") or parts.get("organizationName") or "")


def _dates(not_before: str, not_after: str, now: float) -> str:
    begin, end = ssl.cert_time_to_seconds(not_before), ssl.cert_time_to_seconds(not_after)
    text = f"from {_day(begin)} to {_day(end)}"
    if now < begin:
        return f"{text}: NOT VALID YET, by this machine's clock"
    if now > end:
        return f"{text}: EXPIRED {_days(now - end)} ago"
    return f"{text}, {_days(end - now)} left"


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _days(seconds: float) -> str:
    if seconds < 2 * _DAY:
        return f"{seconds / 3_600:.0f} hours"
    return f"{seconds / _DAY:,.0f} days"
