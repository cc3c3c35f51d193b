"""What the options of TLS and SASL ask of each other, and that no secret is shown."""

from __future__ import annotations

import logging
import pickle
import ssl
import traceback
from typing import Any

import pytest

from aioproducer import ConfigError, ProducerConfig

PASSWORD = "canary-secret-password"
KEY = "canary-secret-key"


def config(**options: Any) -> ProducerConfig:
    options.setdefault("bootstrap_servers", "a.example:1,b.example:1")
    return ProducerConfig(**options)


def refusal(**options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config(**options)
    said = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in said
    assert KEY not in said
    return str(caught.value)


def login(mechanism: str, **options: Any) -> dict[str, Any]:
    return {"security_protocol": "SASL_SSL", "sasl_mechanism": mechanism, **options}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
            "security_protocol='PLAINTEXT': not allowed; allowed: 'SSL' or 'SASL_SSL' with"
            " ssl_context",
        ),
        (
            {"ssl_ca_location": "/ca.pem", "security_protocol": "SASL_PLAINTEXT"},
            "allowed: 'SSL' or 'SASL_SSL' with ssl_ca_location",
        ),
        (
            {"sasl_mechanism": "PLAIN", "security_protocol": "SSL"},
            "allowed: 'SASL_PLAINTEXT' or 'SASL_SSL' with sasl_mechanism",
        ),
        ({"sasl_password": PASSWORD}, "'SASL_PLAINTEXT' or 'SASL_SSL' with sasl_password"),
    ],
)
def test_options_without_their_protocol_are_refused(options: dict[str, Any], says: str) -> None:
    assert says in refusal(**options)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ssl_ca_location", "ssl_ca_pem"),
        ("ssl_certificate_location", "ssl_certificate_pem"),
        ("ssl_key_location", "ssl_key_pem"),
    ],
)
def test_a_file_and_a_text_exclude_each_other(first: str, second: str) -> None:
    said = refusal(security_protocol="SSL", **{first: "/a.pem", second: KEY})
    assert f"{second}: given beside {first}. Set {first} or {second}, not both." in said


def test_a_context_excludes_every_other_option_of_tls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    said = refusal(security_protocol="SSL", ssl_context=context, ssl_ca_location="/a.pem")
    assert "ssl_ca_location: given beside ssl_context" in said


def test_a_key_needs_a_certificate_and_a_certificate_its_key() -> None:
    said = refusal(security_protocol="SSL", ssl_key_pem=KEY)
    assert "ssl_key_pem: given without a certificate" in said
    said = refusal(security_protocol="SSL", ssl_key_password=PASSWORD)
    assert "ssl_key_password: given without a certificate" in said
    said = refusal(security_protocol="SSL", ssl_certificate_pem="-----BEGIN CERTIFICATE-----")
    assert "ssl_certificate_pem: given without its private key" in said
    both = "-----BEGIN PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----"
    assert config(security_protocol="SSL", ssl_certificate_pem=both).ssl_certificate_pem == both


def test_sasl_needs_a_mechanism_and_names_those_there_are() -> None:
    said = refusal(security_protocol="SASL_SSL")
    assert "sasl_mechanism: not set" in said
    assert "There is no default; Java's is GSSAPI." in said
    for name in ("'PLAIN'", "'SCRAM-SHA-512'", "'OAUTHBEARER'", "'GSSAPI'", "'AWS_MSK_IAM'"):
        assert name in said


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_mechanism_with_a_password_needs_name_and_password(mechanism: str) -> None:
    assert "sasl_username: not set" in refusal(**login(mechanism, sasl_password=PASSWORD))
    assert "sasl_password: not set" in refusal(**login(mechanism, sasl_username="alice"))
    made = config(**login(mechanism.lower(), sasl_username="alice", sasl_password=PASSWORD))
    assert made.sasl_mechanism == mechanism
    assert made.sasl_password == PASSWORD


def test_oauthbearer_needs_one_source_of_tokens() -> None:
    assert "OAUTHBEARER needs tokens" in refusal(**login("OAUTHBEARER"))
    said = refusal(
        **login(
            "OAUTHBEARER",
            sasl_oauth_token_provider=lambda: "token",
            sasl_oauthbearer_token_endpoint_url="https://a.example/token",
        )
    )
    assert "given beside sasl_oauth_token_provider" in said
    secret = "sasl_oauthbearer_client_credentials_client_secret"
    said = refusal(
        **login("OAUTHBEARER", sasl_oauth_token_provider=lambda: "token", **{secret: PASSWORD})
    )
    assert f"{secret}: of no use beside sasl_oauth_token_provider" in said


@pytest.mark.parametrize(
    ("mechanism", "option"),
    [
        ("GSSAPI", "sasl_password"),
        ("GSSAPI", "sasl_aws_region"),
        ("AWS_MSK_IAM", "sasl_username"),
    ],
)
def test_an_option_of_another_mechanism_is_refused(mechanism: str, option: str) -> None:
    said = refusal(**login(mechanism, **{option: PASSWORD}))
    assert f"{option}: not an option of sasl_mechanism='{mechanism}'" in said


def test_a_password_in_clear_over_the_network_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = login("PLAIN", sasl_username="alice", sasl_password=PASSWORD)
    with caplog.at_level(logging.WARNING):
        config(**options)
        config(**options, bootstrap_servers="localhost:9092")
        config(**{**options, "security_protocol": "SASL_PLAINTEXT"}, bootstrap_servers="[::1]:1")
        assert not caplog.messages
        config(**{**options, "security_protocol": "SASL_PLAINTEXT"})
        scram = {**options, "sasl_mechanism": "SCRAM-SHA-256"}
        config(**{**scram, "security_protocol": "SASL_PLAINTEXT"})
    assert len(caplog.messages) == 1
    assert "can read the password" in caplog.text
    assert PASSWORD not in caplog.text


def test_no_secret_is_shown() -> None:
    made = config(
        **login("PLAIN", sasl_username="alice", sasl_password=PASSWORD),
        ssl_ca_pem=f"authority, and a key that belongs elsewhere {KEY}",
        ssl_certificate_pem=f"certificate with its key {KEY}",
        ssl_key_pem=KEY,
        ssl_key_password=PASSWORD,
    )
    shown = f"{made!r} {made} {made._given!r}"  # pyright: ignore[reportPrivateUsage]
    assert PASSWORD not in shown
    assert KEY not in shown
    assert "sasl_password='<hidden>'" in shown
    # For another process, they have to arrive.
    assert pickle.loads(pickle.dumps(made)).sasl_password == PASSWORD
    assert made.replace(linger_ms=5).sasl_password == PASSWORD


def test_a_token_in_place_of_its_provider_is_refused_unseen() -> None:
    given = login("OAUTHBEARER", sasl_oauth_token_provider=PASSWORD)
    assert "sasl_oauth_token_provider=<hidden>" in refusal(**given)
    properties = {
        "bootstrap.servers": "a.example:1",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauth.token.provider": PASSWORD,
    }
    with pytest.raises(ConfigError) as caught:
        ProducerConfig.from_properties(properties)
    assert PASSWORD not in f"{caught.value} {caught.value!r} {caught.value.value!r}"


@pytest.mark.parametrize("user", [f"me:{PASSWORD}", f":{PASSWORD}", PASSWORD])
def test_credentials_in_the_url_of_a_token_endpoint_are_refused_unseen(user: str) -> None:
    url = f"https://{user}@idp.example/token"
    said = refusal(**login("OAUTHBEARER", sasl_oauthbearer_token_endpoint_url=url))
    assert "sasl_oauthbearer_token_endpoint_url: has credentials in it" in said
    assert "sasl_oauthbearer_client_credentials_client_secret" in said


@pytest.mark.parametrize("option", ["sasl_password", "ssl_key_pem", "ssl_key_password"])
def test_a_secret_that_is_none_is_refused_unseen(option: str) -> None:
    assert "<hidden>" in refusal(**{option: PASSWORD.encode()})
    assert "allowed: None or" in refusal(**{option: ""})


@pytest.mark.parametrize(
    "option",
    [
        "sasl_username",
        "sasl_password",
        "ssl_key_password",
        "sasl_oauthbearer_client_credentials_client_secret",
    ],
)
def test_a_text_with_bytes_of_another_charset_is_refused(option: str) -> None:
    # As os.environ gives a variable that is not in UTF-8.
    given = b"canary-p\xe4ssword".decode("utf-8", "surrogateescape")
    said = refusal(**{option: given})
    assert f"{option}=" in said
    assert "a text that is not valid in UTF-8" in said
    assert "canary" not in said or option == "sasl_username"


@pytest.mark.parametrize(
    "option", ["ssl_ca_location", "ssl_certificate_location", "ssl_key_location"]
)
def test_a_key_in_place_of_its_path_is_refused_unseen(option: str) -> None:
    said = refusal(security_protocol="SSL", **{option: f"-----BEGIN PRIVATE KEY-----\n{KEY}"})
    assert f"{option}='<hidden>': a text in PEM, and no path" in said


def test_a_password_keeps_its_spaces_but_not_the_line_break_of_its_file() -> None:
    made = ProducerConfig.from_env(
        environ={
            "KAFKA_BOOTSTRAP_SERVERS": "a.example:1,b.example:1 ",
            "KAFKA_SECURITY_PROTOCOL": " SASL_SSL",
            "KAFKA_SASL_MECHANISM": "PLAIN ",
            "KAFKA_SASL_USERNAME": "alice",
            "KAFKA_SASL_PASSWORD": f" {PASSWORD} \n",
        }
    )
    assert made.sasl_password == f" {PASSWORD} "


def test_a_secret_may_come_from_a_function() -> None:
    async def password() -> str:
        return PASSWORD

    made = config(**login("PLAIN", sasl_username="alice", sasl_password=password))
    assert made.sasl_password is password


def test_extensions_may_be_a_mapping_or_a_text() -> None:
    wanted = (("logicalCluster", "lkc-1"), ("identityPoolId", "pool-2"))
    options = login("OAUTHBEARER", sasl_oauth_token_provider=lambda: "token")
    for given in (dict(wanted), "logicalCluster=lkc-1, identityPoolId=pool-2", wanted):
        made = config(**options, sasl_oauthbearer_extensions=given)
        assert made.sasl_oauthbearer_extensions == wanted
    assert "allowed: SASL extensions" in refusal(**options, sasl_oauthbearer_extensions={"a": 1})


def test_the_options_of_sasl_come_from_the_environment_and_from_properties() -> None:
    made = ProducerConfig.from_env(
        environ={
            "KAFKA_BOOTSTRAP_SERVERS": "a.example:1,b.example:1",
            "KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": "alice",
            "KAFKA_SASL_PASSWORD": PASSWORD,
            "KAFKA_SSL_CA_LOCATION": "/ca.pem",
        }
    )
    assert made == ProducerConfig.from_properties(
        {
            "bootstrap.servers": "a.example:1,b.example:1",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "alice",
            "sasl.password": PASSWORD,
            "ssl.ca.location": "/ca.pem",
        }
    )
    assert made.sasl_password == PASSWORD
    assert PASSWORD not in repr(made)
