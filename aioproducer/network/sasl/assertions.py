"""Assertions: JSON Web Tokens (RFC 7523) by which a client proves to a token endpoint who it is.

An assertion is read from a file that somebody else keeps fresh, or made and signed here. Its parts
come in layers, the later over the earlier, as in Java's client (KIP-1139):

    options       aud, iss, sub
    the template  any header and claim
    each time     alg, typ; exp, iat, nbf, and jti where it is asked for

Files are read for each assertion, so that keys can be exchanged while the producer runs. Keys and
assertions are in no error.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

from aioproducer.config import ProducerConfig
from aioproducer.errors import ConfigError

__all__ = ["AssertionMaker", "assertion_maker", "read_text"]

_KEY_FILE: Final = "sasl_oauthbearer_assertion_private_key_file"
_PASSPHRASE: Final = "sasl_oauthbearer_assertion_private_key_passphrase"
_TEMPLATE_FILE: Final = "sasl_oauthbearer_assertion_template_file"
_LARGEST_FILE: Final = 1024 * 1024

AssertionMaker = Callable[[], str]
"""Returns a new assertion. Blocks, for it reads files."""


def assertion_maker(config: ProducerConfig) -> AssertionMaker:
    """Choose how a config makes assertions; the file comes first.

    Raises:
        ConfigError: It names neither a file nor a key, or the package that signs is missing.
    """
    file = config.sasl_oauthbearer_assertion_file
    if file is not None:
        return partial(_read_assertion, file)
    if config.sasl_oauthbearer_assertion_private_key_file is None:
        raise ConfigError(
            "an assertion needs a key to be signed with",
            option=_KEY_FILE,
            value=None,
            hint=f"Set {_KEY_FILE}, or sasl_oauthbearer_assertion_file.",
        )
    # Loaded later, in the thread that makes the first assertion.
    if find_spec("jwt") is None or find_spec("cryptography") is None:
        raise ConfigError(
            "a package is missing that signs assertions",
            option=_KEY_FILE,
            hint='Run pip install "aioproducer[oauth]".',
        )
    return _Signer(config).assertion


def _read_assertion(file: str) -> str:
    option = "sasl_oauthbearer_assertion_file"
    assertion = read_text(option, file).strip()
    if not assertion:
        raise ConfigError(f"the file {file} is empty", option=option)
    return assertion


class _Signer:
    """Makes and signs assertions."""

    def __init__(self, config: ProducerConfig, *, now: Callable[[], float] = time.time) -> None:
        self._config = config
        self._now = now

    def assertion(self) -> str:
        import jwt

        config = self._config
        key = self._key()
        header, claims = self._template()
        header = {name: value for name, value in header.items() if name not in ("alg", "typ")}
        try:
            return jwt.encode(
                {**self._chosen_claims(), **claims, **self._new_claims()},
                key,
                algorithm=config.sasl_oauthbearer_assertion_algorithm,
                headers=header,
            )
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            raise ConfigError(
                f"no assertion can be made with it: {str(error)[:200]}", option=_TEMPLATE_FILE
            ) from error

    def _chosen_claims(self) -> dict[str, object]:
        config = self._config
        chosen = {
            "aud": config.sasl_oauthbearer_assertion_claim_aud,
            "iss": config.sasl_oauthbearer_assertion_claim_iss,
            "sub": config.sasl_oauthbearer_assertion_claim_sub,
        }
        return {name: value for name, value in chosen.items() if value is not None}

    def _new_claims(self) -> dict[str, object]:
        config = self._config
        now = int(self._now())
        claims: dict[str, object] = {
            "iat": now,
            "exp": now + config.sasl_oauthbearer_assertion_claim_exp_seconds,
            "nbf": now - config.sasl_oauthbearer_assertion_claim_nbf_seconds,
        }
        if config.sasl_oauthbearer_assertion_claim_jti_include:
            claims["jti"] = str(uuid.uuid4())
        return claims

    def _template(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        file = self._config.sasl_oauthbearer_assertion_template_file
        if file is None:
            return {}, {}
        try:
            found: Any = json.loads(read_text(_TEMPLATE_FILE, file))
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            template = cast("dict[str, Any]", found)
            header, payload = template.get("header", {}), template.get("payload", {})
            if isinstance(header, dict) and isinstance(payload, dict):
                return cast("dict[str, Any]", header), cast("dict[str, Any]", payload)
        raise ConfigError(
            f"the file {file} is no template",
            option=_TEMPLATE_FILE,
            allowed='JSON as {"header": {...}, "payload": {...}}',
        )

    def _key(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric.ec import (
            SECP256R1,
            EllipticCurvePrivateKey,
        )
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        config = self._config
        file = config.sasl_oauthbearer_assertion_private_key_file
        assert file is not None
        passphrase = config.sasl_oauthbearer_assertion_private_key_passphrase
        pem = read_text(_KEY_FILE, file).encode()
        if passphrase is not None and b"ENCRYPTED" not in pem:
            passphrase = None  # As in Java's client, one too many is no error.
        try:
            key = load_pem_private_key(pem, passphrase.encode() if passphrase else None)
        except TypeError:
            raise ConfigError(
                f"not set, and the key in {file} is encrypted", option=_PASSPHRASE
            ) from None
        except Exception:
            # Its text could show a part of the file; the class says no more than this.
            raise ConfigError(
                f"the file {file} holds no private key as PEM text that can be read",
                option=_KEY_FILE,
                hint=f"Check the file, and {_PASSPHRASE} if the key is encrypted.",
            ) from None
        algorithm = config.sasl_oauthbearer_assertion_algorithm
        if algorithm == "RS256":
            fits = isinstance(key, RSAPrivateKey)
        else:
            fits = isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
        if not fits:
            needed = "an RSA key" if algorithm == "RS256" else "a P-256 key"
            raise ConfigError(
                f"{algorithm} needs {needed}, and the file {file} holds another",
                option=_KEY_FILE,
                hint="Change sasl_oauthbearer_assertion_algorithm or the key.",
            )
        return key


def read_text(option: str, file: str) -> str:
    """Read a small file that an option names. Blocks.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        with Path(file).open("rb") as opened:
            text = opened.read(_LARGEST_FILE + 1)
        if len(text) > _LARGEST_FILE:
            raise ConfigError(f"the file {file} is larger than 1 MiB", option=option)
        return text.decode()
    except OSError as error:
        raise ConfigError(
            f"the file {file} cannot be read: {error.strerror}", option=option
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(f"the file {file} is no text", option=option) from None
