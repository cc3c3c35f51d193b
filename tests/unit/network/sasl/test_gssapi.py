"""GSSAPI without a KDC: the broker's offer of security layers, and what errors are explained as."""

from __future__ import annotations

import struct
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from aioproducer import AuthenticationError, ConfigError, ProducerConfig
from aioproducer.network.sasl.gssapi import Gssapi, mechanism
from tests.unit.network.sasl.driving import advance


class Context:
    """A context that is established after one token of the broker."""

    def __init__(self) -> None:
        self.complete = False

    def step(self, token: bytes | None = None) -> bytes | None:
        if token is None:
            return b"ticket"
        self.complete = True
        return None

    def unwrap(self, message: bytes) -> Any:
        return SimpleNamespace(message=message.removeprefix(b"sealed "))

    def wrap(self, message: bytes, encrypt: bool) -> Any:
        assert not encrypt
        return SimpleNamespace(message=b"sealed " + message)


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("gssapi")

    def begin(_self: Gssapi, _host: str) -> Context:
        return Context()

    monkeypatch.setattr(Gssapi, "_begin", begin)
    return Gssapi("kafka").exchange("broker.example")


def test_no_security_layer_is_taken_and_the_ticket_says_who_we_are(exchange: Any) -> None:
    assert advance(exchange) == b"ticket"
    assert advance(exchange, b"the broker's token") == b""
    assert advance(exchange, b"sealed " + struct.pack(">I", 0x07_00_FF_FF)) == (
        b"sealed " + bytes((1, 0, 0, 0))
    )
    assert advance(exchange, b"") is None


@pytest.mark.parametrize("offer", [b"", b"\x01", bytes(5), bytes((6, 0, 0, 0))])
def test_an_offer_without_plain_messages_is_refused(exchange: Any, offer: bytes) -> None:
    advance(exchange)
    advance(exchange, b"the broker's token")
    with pytest.raises(AuthenticationError, match="without a security layer"):
        advance(exchange, b"sealed " + offer)


def test_a_missing_package_is_said_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)
    config = ProducerConfig(
        bootstrap_servers="a:1,b:1", security_protocol="SASL_SSL", sasl_mechanism="GSSAPI"
    )
    with pytest.raises(ConfigError, match=r'pip install "aioproducer\[gssapi\]"'):
        mechanism(config)
