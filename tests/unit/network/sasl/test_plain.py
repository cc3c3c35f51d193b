"""PLAIN: the one message."""

from __future__ import annotations

from aioproducer.network.sasl.plain import Plain
from tests.unit.network.sasl.driving import advance


def test_name_and_password_are_sent_as_they_are() -> None:
    exchange = Plain("al\N{LATIN SMALL LETTER I WITH ACUTE}ce", "p=\N{SNOWMAN},").exchange("a")
    assert advance(exchange) == "\0al\N{LATIN SMALL LETTER I WITH ACUTE}ce\0p=\N{SNOWMAN},".encode()
    assert advance(exchange, b"") is None


def test_the_password_is_asked_for_in_each_exchange() -> None:
    passwords = iter(["first", "second"])

    async def password() -> str:
        return next(passwords)

    mechanism = Plain("alice", password)
    assert advance(mechanism.exchange("a")) == b"\0alice\0first"
    assert advance(mechanism.exchange("a")) == b"\0alice\0second"
