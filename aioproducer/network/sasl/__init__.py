"""The SASL mechanisms, one file each, and which of them a config asks for."""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

from aioproducer.config import ProducerConfig
from aioproducer.network.sasl.exchange import Mechanism

__all__ = ["mechanism_of"]

_MODULES: Final = {
    "PLAIN": "plain",
    "SCRAM-SHA-256": "scram",
    "SCRAM-SHA-512": "scram",
    "OAUTHBEARER": "oauthbearer",
    "GSSAPI": "gssapi",
    "AWS_MSK_IAM": "aws_msk_iam",
}
"""Each has `mechanism(config)`; imported when it is needed, for what it imports itself."""


def mechanism_of(config: ProducerConfig) -> Mechanism | None:
    """Return the mechanism to log in with, or None without SASL.

    Raises:
        ConfigError: A package is missing that the mechanism needs, or credentials that it cannot
            use.
    """
    if not config.uses_sasl or config.sasl_mechanism is None:
        return None
    module = import_module(f"{__name__}.{_MODULES[config.sasl_mechanism]}")
    return cast(Mechanism, module.mechanism(config))
