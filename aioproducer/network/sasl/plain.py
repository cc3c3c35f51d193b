"""PLAIN (RFC 4616): user name and password in one message, for TLS only."""

from __future__ import annotations

from aioproducer.config import ProducerConfig
from aioproducer.hooks import SecretProvider
from aioproducer.network.sasl.exchange import Exchange
from aioproducer.network.sasl.password import find_password

__all__ = ["Plain", "mechanism"]


def mechanism(config: ProducerConfig) -> Plain:
    """Make the mechanism of a config."""
    assert config.sasl_username is not None and config.sasl_password is not None
    return Plain(config.sasl_username, config.sasl_password)


class Plain:
    """Sends user name and password."""

    name = "PLAIN"

    def __init__(self, username: str, password: str | SecretProvider) -> None:
        self._username = username
        self._password = password

    def exchange(self, host: str) -> Exchange:
        """Begin an exchange."""
        password = yield from find_password(self._password)
        yield b"\0" + self._username.encode() + b"\0" + password
