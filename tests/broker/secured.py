"""Producers for the listeners of a secured Kafka."""

from __future__ import annotations

from typing import Any

from aioproducer import Producer
from tests.support.secure_kafka import PASSWORDS, WRITER, Mechanism, SecureKafka

__all__ = ["secure_producer"]


def secure_producer(
    kafka: SecureKafka, listener: str, mechanism: Mechanism | None = None, **options: Any
) -> Producer[Any, Any]:
    """Return a producer, not started, that trusts a Kafka and logs in as `WRITER`.

    Args:
        kafka: The Kafka.
        listener: The name of its listener.
        mechanism: How to log in, where the listener asks for it.
        options: More options, or others than these.
    """
    chosen: dict[str, Any] = {"security_protocol": kafka.protocol(listener)}
    if chosen["security_protocol"].endswith("SSL"):
        chosen["ssl_context"] = kafka.authority.client_context()
    if mechanism is not None:
        chosen["sasl_mechanism"] = mechanism
    if mechanism == "OAUTHBEARER":
        chosen["sasl_oauth_token_provider"] = lambda: kafka.token(WRITER)
    elif mechanism is not None:
        chosen |= {"sasl_username": WRITER, "sasl_password": PASSWORDS[mechanism]}
    servers = kafka.advertised_addresses[listener]
    return Producer(bootstrap_servers=servers, **{**chosen, **options})
