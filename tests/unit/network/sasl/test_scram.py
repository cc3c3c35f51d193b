"""SCRAM against the examples of RFC 5802 and 7677, against an independent server, and attacks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.errors import AuthenticationError
from aioproducer.network.sasl.scram import MOST_ITERATIONS, Scram
from tests.unit.network.sasl.driving import advance

NONCE: Final = "rOprNGfwEbeRWgbNEkqO"
SALT: Final = base64.b64encode(b"salt").decode()


def scram(password: str = "pencil", *, name: str = "SCRAM-SHA-256", user: str = "user") -> Scram:
    return Scram(name, user, password, make_nonce=lambda: NONCE)


def server_final(name: str, password: str, client_first: bytes, server_first: bytes) -> bytes:
    """Compute the broker's last message as RFC 5802 says, from scratch."""
    digest = {"SCRAM-SHA-256": hashlib.sha256, "SCRAM-SHA-512": hashlib.sha512}[name]
    fields = dict(part.split("=", 1) for part in server_first.decode().split(","))
    salted = hashlib.pbkdf2_hmac(
        digest().name, password.encode(), base64.b64decode(fields["s"]), int(fields["i"])
    )
    message = b",".join((client_first[3:], server_first, f"c=biws,r={fields['r']}".encode()))
    key = hmac.new(salted, b"Server Key", digest).digest()
    return b"v=" + base64.b64encode(hmac.new(key, message, digest).digest())


def test_the_example_of_rfc_7677() -> None:
    exchange = scram().exchange("kafka")
    assert advance(exchange) == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    server_first = (
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    assert advance(exchange, server_first) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    last = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert advance(exchange, last) is None


@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize(
    ("user", "sent", "password"),
    [
        ("a=b,c", "a=3Db=2Cc", "p"),
        # What SASLprep changes or refuses, Kafka takes as it is.
        ("\N{ROMAN NUMERAL NINE}", "\N{ROMAN NUMERAL NINE}", "I\N{SOFT HYPHEN}X"),
        ("user", "user", "5\N{MICRO SIGN}m x\N{SUPERSCRIPT TWO}"),
        ("user", "user", "\N{GRINNING FACE}\x07"),
    ],
)
def test_names_are_escaped_and_passwords_hashed_as_they_are(
    name: str, user: str, sent: str, password: str
) -> None:
    exchange = scram(password, name=name, user=user).exchange("kafka")
    client_first = advance(exchange)
    assert client_first is not None
    assert client_first == f"n,,n={sent},r={NONCE}".encode()
    server_first = f"r={NONCE}more,s={SALT},i=4096".encode()
    assert advance(exchange, server_first)
    assert advance(exchange, server_final(name, password, client_first, server_first)) is None


def test_each_exchange_has_a_nonce_of_its_own() -> None:
    mechanism = Scram("SCRAM-SHA-256", "user", "pencil")
    sent = {advance(mechanism.exchange("kafka")) for _ in range(20)}
    assert len(sent) == 20
    assert all(re.fullmatch(rb"n,,n=user,r=[\w-]{32}", message or b"") for message in sent)


def test_a_broker_that_does_not_know_the_password_is_refused() -> None:
    exchange = scram().exchange("kafka")
    client_first = advance(exchange)
    assert client_first is not None
    server_first = f"r={NONCE}more,s={SALT},i=4096".encode()
    advance(exchange, server_first)
    with pytest.raises(AuthenticationError, match="could not prove that it knows the password"):
        advance(exchange, server_final("SCRAM-SHA-256", "guess", client_first, server_first))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (f"r={NONCE},s={SALT},i=4096", "does not continue ours"),
        (f"r=other,s={SALT},i=4096", "does not continue ours"),
        (f"m=x,r={NONCE}1,s={SALT},i=4096", "demands an extension"),
        (f"r={NONCE}1,s={SALT},i=4095", "4095 iterations, which is not between 4096 and"),
        (f"r={NONCE}1,s={SALT},i={MOST_ITERATIONS + 1}", "iterations"),
        (f"r={NONCE}1,s={SALT},i={10**30}", "no number of iterations"),
        (f"r={NONCE}1,s={SALT},i=-1", "no number of iterations"),
        (f"r={NONCE}1,s=,i=4096", "has no salt"),
        (f"r={NONCE}1,s=!,i=4096", "not base64"),
        (f"r={NONCE}{'1' * 2_000},s={SALT},i=4096", "too long"),
        (f"r={NONCE}1,s={SALT * 2_000},i=4096", "too long"),
        ("", "malformed"),
        ("nonsense", "malformed"),
    ],
)
def test_a_first_message_that_is_no_good_is_refused(message: str, why: str) -> None:
    exchange = scram().exchange("kafka")
    advance(exchange)
    with pytest.raises(AuthenticationError, match=why):
        advance(exchange, message.encode())


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"e=invalid-proof", "invalid-proof"),
        (b"v=?", "not base64"),
        (b"", "malformed"),
        (b"\xff", "is no text"),
    ],
)
def test_a_last_message_that_is_no_signature_is_refused(message: bytes, why: str) -> None:
    exchange = scram().exchange("kafka")
    advance(exchange)
    advance(exchange, f"r={NONCE}1,s={SALT},i=4096".encode())
    with pytest.raises(AuthenticationError, match=why):
        advance(exchange, message)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.from_regex(rf"r={NONCE}\w*,s=[\w+/=]*,i=[0-4]?[0-9]{{0,3}}", fullmatch=True).map(
                str.encode
            ),
            st.text(max_size=50).map(lambda text: f"r={NONCE}{text}".encode()),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_no_challenge_raises_anything_else(challenges: list[bytes]) -> None:
    exchange = scram().exchange("kafka")
    advance(exchange)
    with pytest.raises(AuthenticationError):
        for challenge in [*challenges, b"v=x", b"v=x"]:
            advance(exchange, challenge)
