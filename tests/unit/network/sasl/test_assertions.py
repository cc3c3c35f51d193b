"""Assertions: their claims, their signatures, and what is said of a key that does not fit."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, TypeAlias

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from aioproducer import ConfigError
from aioproducer.config import ProducerConfig
from aioproducer.network.sasl.assertions import assertion_maker
from tests.support.token_server import oauth_config

Key: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

RSA_KEY = rsa.generate_private_key(65_537, 2_048)
P256_KEY = ec.generate_private_key(ec.SECP256R1())
P384_KEY = ec.generate_private_key(ec.SECP384R1())


def pem(key: Key, passphrase: str | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode())
        if passphrase
        else serialization.NoEncryption(),
    )


def options(folder: Path, key: bytes, **more: Any) -> ProducerConfig:
    (folder / "key.pem").write_bytes(key)
    chosen: dict[str, Any] = {
        "sasl_oauthbearer_assertion_private_key_file": str(folder / "key.pem"),
        "sasl_oauthbearer_assertion_claim_aud": "https://idp.example/token",
        "sasl_oauthbearer_assertion_claim_iss": "kafka-client",
        **more,
    }
    return oauth_config(**chosen)


def claims_of(assertion: str, key: Key, algorithm: str = "RS256") -> dict[str, Any]:
    return jwt.decode(
        assertion, key.public_key(), [algorithm], audience="https://idp.example/token"
    )


def failure(config: ProducerConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        assertion_maker(config)()
    assert "canary" not in str(caught.value)
    return str(caught.value)


def test_an_assertion_is_signed_with_rs256_and_valid_for_five_minutes(tmp_path: Path) -> None:
    assertion = assertion_maker(
        options(tmp_path, pem(RSA_KEY), sasl_oauthbearer_assertion_claim_sub="alice")
    )()
    claims = claims_of(assertion, RSA_KEY)
    assert time.time() - 60 < claims["iat"] <= time.time()
    assert claims == {
        "aud": "https://idp.example/token",
        "iss": "kafka-client",
        "sub": "alice",
        "iat": claims["iat"],
        "exp": claims["iat"] + 300,
        "nbf": claims["iat"] - 60,
    }
    assert jwt.get_unverified_header(assertion) == {"alg": "RS256", "typ": "JWT"}


def test_an_assertion_may_be_signed_with_es256(tmp_path: Path) -> None:
    config = options(tmp_path, pem(P256_KEY), sasl_oauthbearer_assertion_algorithm="ES256")
    assert claims_of(assertion_maker(config)(), P256_KEY, "ES256")["iss"] == "kafka-client"


def test_its_times_are_chosen_by_options(tmp_path: Path) -> None:
    config = options(
        tmp_path,
        pem(RSA_KEY),
        sasl_oauthbearer_assertion_claim_exp_seconds=77,
        sasl_oauthbearer_assertion_claim_nbf_seconds=0,
    )
    claims = claims_of(assertion_maker(config)(), RSA_KEY)
    assert (claims["exp"] - claims["iat"], claims["nbf"]) == (77, claims["iat"])


def test_each_assertion_has_an_id_of_its_own_where_that_is_asked_for(tmp_path: Path) -> None:
    make = assertion_maker(
        options(tmp_path, pem(RSA_KEY), sasl_oauthbearer_assertion_claim_jti_include=True)
    )
    ids = {claims_of(make(), RSA_KEY)["jti"] for _ in range(3)}
    assert len(ids) == 3


def test_a_template_wins_over_options_and_loses_to_what_is_new_each_time(tmp_path: Path) -> None:
    template = {
        "header": {"kid": "key-1", "alg": "none", "typ": "other"},
        "payload": {"iss": "from the template", "more": [1], "exp": 1},
    }
    (tmp_path / "template.json").write_text(json.dumps(template))
    config = options(
        tmp_path,
        pem(RSA_KEY),
        sasl_oauthbearer_assertion_template_file=str(tmp_path / "template.json"),
    )
    assertion = assertion_maker(config)()
    claims = claims_of(assertion, RSA_KEY)
    assert (claims["iss"], claims["more"]) == ("from the template", [1])
    assert claims["exp"] == claims["iat"] + 300
    assert jwt.get_unverified_header(assertion) == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}


@pytest.mark.parametrize("text", ["", "[]", '{"payload": []}', "[" * 100_000, '{"header": 1}'])
def test_a_file_that_is_no_template_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "template.json").write_text(text)
    said = failure(
        options(
            tmp_path,
            pem(RSA_KEY),
            sasl_oauthbearer_assertion_template_file=str(tmp_path / "template.json"),
        )
    )
    assert "template.json is no template" in said


def test_a_template_that_makes_no_valid_assertion_is_refused(tmp_path: Path) -> None:
    (tmp_path / "template.json").write_text('{"header": {"kid": 7}}')
    said = failure(
        options(
            tmp_path,
            pem(RSA_KEY),
            sasl_oauthbearer_assertion_template_file=str(tmp_path / "template.json"),
        )
    )
    assert "no assertion can be made with it" in said


def test_an_encrypted_key_is_read_with_its_passphrase(tmp_path: Path) -> None:
    config = options(
        tmp_path,
        pem(RSA_KEY, "canary"),
        sasl_oauthbearer_assertion_private_key_passphrase="canary",
    )
    assert claims_of(assertion_maker(config)(), RSA_KEY)
    assert "canary" not in repr(config)


def test_a_passphrase_for_a_key_that_is_not_encrypted_is_no_error(tmp_path: Path) -> None:
    config = options(
        tmp_path, pem(RSA_KEY), sasl_oauthbearer_assertion_private_key_passphrase="canary"
    )
    assert claims_of(assertion_maker(config)(), RSA_KEY)


def test_an_encrypted_key_without_a_passphrase_names_the_option(tmp_path: Path) -> None:
    said = failure(options(tmp_path, pem(RSA_KEY, "canary")))
    assert "sasl_oauthbearer_assertion_private_key_passphrase: not set, and the key in " in said


def test_a_wrong_passphrase_names_both_options(tmp_path: Path) -> None:
    said = failure(
        options(
            tmp_path,
            pem(RSA_KEY, "other"),
            sasl_oauthbearer_assertion_private_key_passphrase="canary",
        )
    )
    assert "sasl_oauthbearer_assertion_private_key_file: the file " in said
    assert "and sasl_oauthbearer_assertion_private_key_passphrase if" in said


@pytest.mark.parametrize(
    ("key", "algorithm", "needed"),
    [(P256_KEY, "RS256", "an RSA key"), (RSA_KEY, "ES256", "a P-256"), (P384_KEY, "ES256", "a P")],
)
def test_a_key_of_another_kind_is_refused(
    tmp_path: Path, key: Key, algorithm: str, needed: str
) -> None:
    said = failure(options(tmp_path, pem(key), sasl_oauthbearer_assertion_algorithm=algorithm))
    assert f"{algorithm} needs {needed}" in said


@pytest.mark.parametrize("content", [b"", b"canary", b"\xff", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    said = failure(options(tmp_path, content))
    assert said.startswith("sasl_oauthbearer_assertion_private_key_file: the file ")


def test_a_key_that_was_exchanged_is_used_for_the_next_assertion(tmp_path: Path) -> None:
    make = assertion_maker(options(tmp_path, pem(RSA_KEY)))
    make()
    newer = rsa.generate_private_key(65_537, 2_048)
    (tmp_path / "key.pem").write_bytes(pem(newer))
    assert claims_of(make(), newer)


@pytest.mark.parametrize(
    ("content", "said"), [(b" \n", "is empty"), (bytes(1024 * 1024 + 1), "is larger than 1 MiB")]
)
def test_an_assertion_file_without_a_usable_assertion_is_refused(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "assertion").write_bytes(content)
    config = oauth_config(sasl_oauthbearer_assertion_file=str(tmp_path / "assertion"))
    assert said in failure(config)


def test_without_the_package_that_signs_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    said = failure(options(tmp_path, pem(RSA_KEY)))
    assert 'pip install "aioproducer[oauth]"' in said
