"""What the options of TLS and SASL ask of each other.

Pure functions of a config's values. config.py calls `check_security` with them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from aioproducer.errors import ConfigError

__all__ = ["check_security"]

logger = logging.getLogger(__name__)

_WITH_TLS: Final = ("SSL", "SASL_SSL")
_WITH_SASL: Final = ("SASL_PLAINTEXT", "SASL_SSL")

_EITHER_OR: Final = (
    ("ssl_ca_location", "ssl_ca_pem"),
    ("ssl_certificate_location", "ssl_certificate_pem"),
    ("ssl_key_location", "ssl_key_pem"),
    ("sasl_oauth_token_provider", "sasl_oauthbearer_token_endpoint_url"),
)

_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "PLAIN": ("sasl_username", "sasl_password"),
    "SCRAM-SHA-256": ("sasl_username", "sasl_password"),
    "SCRAM-SHA-512": ("sasl_username", "sasl_password"),
}
"""The options that a mechanism cannot do without."""

_PREFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "PLAIN": ("sasl_username", "sasl_password"),
    "SCRAM-SHA-256": ("sasl_username", "sasl_password"),
    "SCRAM-SHA-512": ("sasl_username", "sasl_password"),
    "OAUTHBEARER": ("sasl_oauth", "sasl_login_"),
    "GSSAPI": ("sasl_kerberos_",),
    "AWS_MSK_IAM": ("sasl_aws_",),
}
"""What the names of the options of a mechanism begin with."""

_IN_CLEAR: Final = ("PLAIN", "OAUTHBEARER")
"""The mechanisms that send what everybody can use who reads it."""


def check_security(
    values: Mapping[str, Any], defaults: Mapping[str, object], *, is_local: bool
) -> None:
    """Check the options of TLS and SASL against each other.

    Args:
        values: Of all options.
        defaults: Of all options.
        is_local: Whether all bootstrap servers are on this machine.

    Raises:
        ConfigError: They cannot work together; says what to change.
    """
    given = [
        name
        for name, default in defaults.items()
        if name.startswith(("ssl_", "sasl_")) and values[name] != default
    ]
    _check_protocol(values["security_protocol"], given)
    for first, second in _EITHER_OR:
        if first in given and second in given:
            raise ConfigError(
                f"given beside {first}", option=second, hint=f"Set {first} or {second}, not both."
            )
    _check_context(given)
    _check_certificate(values, given)
    _check_token_endpoint(values["sasl_oauthbearer_token_endpoint_url"])
    if values["security_protocol"] in _WITH_SASL:
        _check_mechanism(values["sasl_mechanism"], given)
        _advise_tls(values, is_local=is_local)


def _check_protocol(protocol: str, given: Iterable[str]) -> None:
    for name in given:
        kind, allowed = ("TLS", _WITH_TLS) if name.startswith("ssl_") else ("SASL", _WITH_SASL)
        if protocol not in allowed:
            first, second = (f"'{one}'" for one in allowed)
            raise ConfigError(
                option="security_protocol",
                value=protocol,
                allowed=f"{first} or {second} with {name}",
                hint=f"Set security_protocol to one of them to use {kind}, or leave out {name}.",
            )


def _check_context(given: Iterable[str]) -> None:
    others = [name for name in given if name.startswith("ssl_") and name != "ssl_context"]
    if "ssl_context" in given and others:
        raise ConfigError(
            "given beside ssl_context, which has all of TLS",
            option=others[0],
            hint="Load it into the context, or leave out ssl_context.",
        )


def _check_certificate(values: Mapping[str, Any], given: Iterable[str]) -> None:
    has_certificate = any(name.startswith("ssl_certificate_") for name in given)
    has_key = any(name in ("ssl_key_location", "ssl_key_pem") for name in given)
    for name in given:
        if name.startswith("ssl_key_") and not has_certificate:
            raise ConfigError(
                "given without a certificate",
                option=name,
                hint="Set ssl_certificate_location or ssl_certificate_pem as well.",
            )
    text = values["ssl_certificate_pem"]
    if text is not None and not has_key and "PRIVATE KEY-----" not in text:
        raise ConfigError(
            "given without its private key",
            option="ssl_certificate_pem",
            hint="Set ssl_key_pem or ssl_key_location as well.",
        )


def _check_mechanism(mechanism: str | None, given: Iterable[str]) -> None:
    if mechanism is None:
        raise ConfigError(
            "not set, and security_protocol asks for SASL",
            option="sasl_mechanism",
            allowed=", ".join(f"'{name}'" for name in _PREFIXES),
            hint="Ask who runs the brokers which one they offer. There is no default; Java's is"
            " GSSAPI.",
        )
    for name in _NEEDED.get(mechanism, ()):
        if name not in given:
            raise ConfigError(f"not set, and {mechanism} needs it", option=name)
    if mechanism == "OAUTHBEARER" and not (
        "sasl_oauth_token_provider" in given or "sasl_oauthbearer_token_endpoint_url" in given
    ):
        raise ConfigError(
            "not set, and OAUTHBEARER needs tokens",
            option="sasl_oauth_token_provider",
            hint="Set it, or sasl_oauthbearer_token_endpoint_url and the client's credentials.",
        )
    if "sasl_oauth_token_provider" in given:
        for name in given:
            if name.startswith("sasl_oauthbearer_") and name != "sasl_oauthbearer_extensions":
                raise ConfigError(
                    "of no use beside sasl_oauth_token_provider",
                    option=name,
                    hint="It is for the built-in provider: leave out one of the two.",
                )
    own = ("sasl_mechanism", *_PREFIXES[mechanism])
    for name in given:
        if name.startswith("sasl_") and not name.startswith(own):
            raise ConfigError(
                f"not an option of sasl_mechanism={mechanism!r}",
                option=name,
                hint="Leave it out, or change sasl_mechanism.",
            )


def _check_token_endpoint(url: str | None) -> None:
    # Here, and not when it is first asked: a config is shown, and its URLs are.
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return  # token_endpoint.py says what is wrong with it.
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "has credentials in it",
            option="sasl_oauthbearer_token_endpoint_url",
            hint="Set sasl_oauthbearer_client_credentials_client_id and"
            " sasl_oauthbearer_client_credentials_client_secret.",
        )


def _advise_tls(values: Mapping[str, Any], *, is_local: bool) -> None:
    mechanism = values["sasl_mechanism"]
    if values["security_protocol"] == "SASL_PLAINTEXT" and mechanism in _IN_CLEAR and not is_local:
        what = "the password" if mechanism == "PLAIN" else "the token"
        logger.warning(
            "sasl_mechanism=%s without TLS: everybody between here and the brokers can read %s."
            " Use security_protocol='SASL_SSL'",
            mechanism,
            what,
        )
