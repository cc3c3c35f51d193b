"""PLAIN (RFC 4616): user name and password in one message, for TLS only."""

from __future__ import annotations

from aioproducer.config import ProducerConfig
from aioproducer.hooks import SecretProvider
from aioproducer.network.sasl.exchange import Call, Exchange

__all__ = ["Plain", "mechanism"]


def mechanism(config: ProducerConfig) -> Plain:
    """Make the mechanism of a config."""
    assert config.sasl_username is not None and config.sasl_password is not None
    return Plain(config.sasl_username, config.sasl_password)


class Plain:
    """Sends user name and password, without normalizing either: as Kafka compares them."""

    name = "PLAIN"

    def __init__(self, username: str, password: str | SecretProvider) -> None:
        self._username = username
        self._password = password

    def exchange(self, host: str) -> Exchange:
        """Begin an exchange."""
        password = self._password
        if not isinstance(password, str):
            password = yield Call(password, "sasl_password")
        yield f"\0{self._username}\0{password}".encode()
