"""What is shown of a certificate, also of one that must be refused."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from aioproducer.cli.certificate import describe_certificate, fetch_certificate
from tests.support.certificates import Authority, Certificate

AUTHORITY = Authority()


@contextmanager
def shown(certificate: Certificate) -> Generator[int]:
    """Show a certificate to two connections; yields the port."""

    def serve() -> None:
        context = certificate.server_context()
        for _ in range(2):
            raw, _ = listener.accept()
            # Who only looks at the certificate hangs up on what else is sent.
            with (
                contextlib.suppress(OSError),
                raw,
                context.wrap_socket(raw, server_side=True) as wrapped,
            ):
                wrapped.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("certificate", "name", "state"),
    [
        (AUTHORITY.server(), "127.0.0.1, localhost", "left"),
        (AUTHORITY.expired_server(), "127.0.0.1, localhost", "EXPIRED 1 hours ago"),
        (AUTHORITY.server_elsewhere(), "elsewhere.invalid", "left"),
    ],
    ids=["good", "expired", "for another host"],
)
def test_names_authority_and_dates_are_shown_whatever_they_are(
    certificate: Certificate, name: str, state: str
) -> None:
    with shown(certificate) as port:
        fields = fetch_certificate("127.0.0.1", port, "localhost", timeout=5)
    names, authority, dates = describe_certificate(fields)
    assert names == f"for {name}"
    assert authority.startswith("by trustme")
    assert state in dates


def test_dates_are_compared_with_the_clock() -> None:
    fields = {"notBefore": "Jan  1 00:00:00 2026 GMT", "notAfter": "Jan 31 00:00:00 2026 GMT"}
    begin = ssl.cert_time_to_seconds(fields["notBefore"])
    day = 86_400
    assert describe_certificate(fields, now=begin - 1)[-1].endswith(
        "from 2026-01-01 to 2026-01-31: NOT VALID YET, by this machine's clock"
    )
    assert describe_certificate(fields, now=begin + day)[-1].endswith("29 days left")
    assert describe_certificate(fields, now=begin + 40 * day)[-1].endswith("EXPIRED 10 days ago")


def test_many_names_are_cut() -> None:
    fields = {"subjectAltName": tuple(("DNS", f"b{n}.example") for n in range(9))}
    assert describe_certificate(fields) == [
        "for b0.example, b1.example, b2.example, b3.example, b4.example, b5.example and 3 more"
    ]
