"""What an attempt to connect becomes that failed: class, sentence, and what to change."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

import pytest

from aioproducer.errors import (
    AuthenticationError,
    ConfigError,
    KafkaConnectionError,
    KafkaError,
    ListenerMismatchError,
    NetworkError,
    SaslAuthenticationFailedError,
    TlsError,
    UnsupportedVersionError,
)
from aioproducer.network.connection import ConnectionState
from aioproducer.network.diagnosis import Progress, diagnose, most_telling, reason_of
from aioproducer.network.metadata import BrokerAddress
from aioproducer.protocol.frames import OtherProtocolError

ADDRESS = BrokerAddress(1, "kafka.example", 9093)


def diagnosed(
    error: Exception,
    *,
    uses_tls: bool = True,
    state: ConnectionState = ConnectionState.CONNECTING,
    cause: Exception | None = None,
) -> KafkaError:
    error.__cause__ = cause
    found = diagnose(error, ADDRESS, uses_tls=uses_tls, state=state)
    if found is not error:
        assert found.broker == "kafka.example:9093"
    return found


def refused(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "sentence", "hint"),
    [
        (refused(62, "mismatch"), "is not for 'kafka.example' (mismatch)", "advertised.listeners"),
        (refused(64, "mismatch"), "is not for 'kafka.example' (mismatch)", "`aioproducer check`"),
        (refused(10, ""), "has expired", "Renew it"),
        (refused(9, ""), "is not valid yet", "clock"),
        (refused(19, "self-signed"), "is not trusted (self-signed)", "ssl_ca_location"),
        (refused(20, "no issuer"), "is not trusted (no issuer)", "ssl_context"),
        (refused(23, "revoked"), "was refused (revoked)", "`aioproducer check`"),
        (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "want a certificate?", "ssl_key_location"),
        (tls("SSLV3_ALERT_BAD_CERTIFICATE"), "want a certificate?", "ssl_certificate_location"),
        (tls("TLSV1_ALERT_UNKNOWN_CA"), "does not trust the authority", "ssl.truststore"),
        (tls("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "certificate: it has expired", "Renew"),
        (tls("SSLV3_ALERT_CERTIFICATE_UNKNOWN"), "refused the client's", "may have expired"),
        (tls("TLSV1_ALERT_PROTOCOL_VERSION"), "no version of TLS", "ssl.enabled.protocols"),
        (tls("TLSV1_UNRECOGNIZED_NAME"), "no certificate for the host name", "the name"),
        (tls("TLSV1_ALERT_INTERNAL_ERROR"), "(TLSV1_ALERT_INTERNAL_ERROR)", "broker's log"),
    ],
)
def test_a_certificate_or_handshake_that_one_side_refused(
    error: ssl.SSLError, sentence: str, hint: str
) -> None:
    # While the handshake runs, or by the first response after it.
    for one in (
        diagnosed(error),
        diagnosed(NetworkError("The broker closed the connection"), cause=error),
    ):
        assert type(one) is TlsError
        assert sentence in one.what()
        assert hint in one.hint
        assert not one.retriable
        assert one.__cause__ is error


@pytest.mark.parametrize(
    ("error", "state", "sentence", "is_certain"),
    [
        (tls("WRONG_VERSION_NUMBER"), "CONNECTING", "does the port speak TLS?", True),
        (ssl.SSLEOFError(8, "EOF"), "CONNECTING", "does the port speak TLS?", False),
        (ConnectionResetError(), "CONNECTING", "reset during the TLS handshake", False),
        (ConnectionAbortedError(), "CONNECTING", "gave no answer in TLS", False),
        (NetworkError("It closed"), "CONNECTING", "before it told its API versions", False),
        (NetworkError("It closed"), "AUTHENTICATING", "during the SASL exchange", False),
        (NetworkError("It closed"), "READY", "at the first request: is SASL missing?", False),
    ],
)
def test_a_listener_that_does_not_fit(
    error: Exception, state: str, sentence: str, is_certain: bool
) -> None:
    found = diagnosed(error, state=ConnectionState[state])
    assert isinstance(found, ListenerMismatchError)
    assert sentence in found.what()
    assert found.is_certain is is_certain
    assert not found.retriable


def test_another_protocol_is_certain() -> None:
    cause = OtherProtocolError("The other side answered in TLS", hint="Set security_protocol.")
    found = diagnosed(NetworkError("No Kafka answer"), uses_tls=False, cause=cause)
    assert isinstance(found, ListenerMismatchError)
    assert found.is_certain
    assert "answered in TLS" in found.what()
    assert found.hint == "Set security_protocol."


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "'kafka.example' cannot be resolved"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "connection refused"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to host"),
        (OverflowError("port"), "this is no address (port)"),
        (ConnectionResetError(errno.ECONNRESET, "Reset"), "reset"),
        (UnsupportedVersionError("Too old"), "Too old"),
        # Nonsense before anybody asked for a login.
        (SaslAuthenticationFailedError("No"), "No"),
    ],
)
def test_what_may_pass_is_a_connection_error(error: Exception, reason: str) -> None:
    found = diagnosed(error, uses_tls=False)
    assert type(found) is KafkaConnectionError
    assert found.retriable
    assert reason in found.reasons["kafka.example:9093"]


@pytest.mark.parametrize(
    "error", [SaslAuthenticationFailedError("No"), AuthenticationError("No"), ConfigError("No")]
)
def test_what_refuses_a_login_stays_what_it_is(error: KafkaError) -> None:
    assert diagnosed(error, state=ConnectionState.AUTHENTICATING) is error


def test_of_several_errors_one_that_no_retry_mends_is_the_most_telling() -> None:
    reasons = {"a:1": "x", "b:1": "y"}
    passing = KafkaConnectionError(reasons={"a:1": "x"})
    mismatch = ListenerMismatchError(reasons={"b:1": "y"}, hint="Change it.")
    refusal = AuthenticationError("No")
    assert most_telling([passing, mismatch, refusal], reasons) is refusal
    assert most_telling([passing, mismatch], reasons) is mismatch
    assert mismatch.reasons == reasons
    found: Any = most_telling([passing, passing], reasons)
    assert type(found) is KafkaConnectionError
    assert found.reasons == reasons


def test_a_reason_is_short_where_there_is_one_address() -> None:
    assert reason_of(KafkaConnectionError("Cannot", reasons={"a:1": "refused"})) == "refused"
    assert reason_of(AuthenticationError("Wrong password")) == "Wrong password"


def test_progress_tells_what_each_address_waits_for() -> None:
    progress = Progress(ADDRESS, uses_tls=False)
    assert progress.reasons(within=" within 1 s") == {"kafka.example:9093": "no answer within 1 s"}
    progress.negotiates("10.0.0.1")
    progress.authenticates("10.0.0.2", "sasl_password")
    progress.authenticates("10.0.0.3", "")
    progress.failed("10.0.0.4", "connection refused")
    assert progress.reasons(["10.0.0.5"], within=" so far") == {
        "kafka.example:9093 (10.0.0.5)": "no answer so far",
        "kafka.example:9093 (10.0.0.1)": "accepted the connection and gave no answer so far: is TLS"
        " or SASL expected there, is it no Kafka broker, or does it hang?",
        "kafka.example:9093 (10.0.0.2)": "accepted the connection, and sasl_password gave nothing"
        " so far",
        "kafka.example:9093 (10.0.0.3)": "accepted the connection, and gave no answer to the SASL"
        " exchange so far",
        "kafka.example:9093 (10.0.0.4)": "connection refused",
    }
