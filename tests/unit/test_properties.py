"""Properties of Java and librdkafka: what becomes of each, and what is refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aioproducer import ConfigError, ProducerConfig

SECRET = "canary-secret-jaas"
JAVA = "org.apache.kafka.common.security"


def config(properties: dict[str, object]) -> ProducerConfig:
    return ProducerConfig.from_properties({"bootstrap.servers": "a:1,b:1", **properties})


def made(**options: Any) -> ProducerConfig:
    return ProducerConfig(bootstrap_servers="a:1,b:1", **options)


def refusal(properties: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        config(properties)
    assert SECRET not in str(caught.value)
    assert SECRET.replace("-", "_") not in str(caught.value)
    return str(caught.value)


def jaas(module: str, options: str, mechanism: str) -> dict[str, object]:
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": mechanism,
        "sasl.jaas.config": f"{module} required {options};",
    }


# ---- TLS


def test_pem_stores_of_java_are_read() -> None:
    assert config(
        {
            "security.protocol": "SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "/ca.pem",
            "ssl.keystore.type": "pem",
            "ssl.keystore.location": "/client.pem",
            "ssl.key.password": SECRET,
        }
    ) == made(
        security_protocol="SSL",
        ssl_ca_location="/ca.pem",
        ssl_certificate_location="/client.pem",
        ssl_key_password=SECRET,
    )
    assert config(
        {
            "security.protocol": "SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.certificates": "authority",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": "certificate",
            "ssl.keystore.key": SECRET,
        }
    ) == made(
        security_protocol="SSL",
        ssl_ca_pem="authority",
        ssl_certificate_pem="certificate",
        ssl_key_pem=SECRET,
    )


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        (
            {"ssl.truststore.location": "/etc/kafka/trust.jks"},
            "ssl.truststore.location: a store of type JKS cannot be read, only PEM (JKS is what"
            " Java takes where no type is set). Convert it: keytool -importkeystore -srckeystore"
            " trust.jks -destkeystore store.p12 -deststoretype PKCS12 && openssl pkcs12 -in"
            " store.p12 -nokeys -out trust.pem; then set ssl_ca_location to trust.pem.",
        ),
        (
            {"ssl.keystore.location": "/client.p12", "ssl.keystore.type": "PKCS12"},
            "a store of type PKCS12 cannot be read, only PEM. Convert it: openssl pkcs12 -in"
            " client.p12 -out client.pem; then set ssl_certificate_location to client.pem.",
        ),
        (
            # As librdkafka, which has no type for it.
            {"ssl.keystore.location": "/client.P12", "ssl.keystore.password": SECRET},
            "Convert it: openssl pkcs12 -in client.P12 -out client.pem; then set"
            " ssl_certificate_location to client.pem.",
        ),
        ({"ssl.keystore.password": SECRET}, "ssl.keystore.password: a store of type JKS"),
        (
            {
                "ssl.keystore.password": SECRET,
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": "/client.pem",
            },
            "a PEM file has no password of its own",
        ),
        ({"ssl.cipher.suites": "x"}, "ssl.cipher.suites: no such option. Build an ssl.SSLContext"),
        (
            {"enable.ssl.certificate.verification": "false"},
            "enable.ssl.certificate.verification='false': not allowed. Name the broker's authority",
        ),
    ],
)
def test_what_is_not_pem_is_refused_with_what_to_do(
    properties: dict[str, object], says: str
) -> None:
    assert says in refusal({"security.protocol": "SSL", **properties})


def test_librdkafkas_search_for_authorities_is_what_is_done_anyway() -> None:
    properties: dict[str, object] = {"security.protocol": "SSL", "ssl.ca.location": "probe"}
    assert config(properties) == made(security_protocol="SSL")


# ---- SASL


@pytest.mark.parametrize(
    ("module", "mechanism"),
    [
        (f"{JAVA}.plain.PlainLoginModule", "PLAIN"),
        (f"{JAVA}.scram.ScramLoginModule", "SCRAM-SHA-512"),
    ],
)
def test_user_and_password_come_from_the_login_module(module: str, mechanism: str) -> None:
    properties = jaas(module, rf'username=alice password="a\"b\\ {SECRET};="', mechanism)
    assert config(properties) == made(
        security_protocol="SASL_SSL",
        sasl_mechanism=mechanism,
        sasl_username="alice",
        sasl_password=rf'a"b\ {SECRET};=',
    )


@pytest.mark.parametrize(
    ("text", "password"),
    [
        # As in Confluent's own examples.
        ("'a b'", "a b"),
        ("'a\"b'", 'a"b'),
        (r"'a\'b'", "a'b"),
        ('"a\'b"', "a'b"),
        (r'"a\tb\101\1\q\\"', "a\tbA\x01q\\"),
        ('" a "', " a "),
        ("a=b+/", "a=b+/"),
    ],
)
def test_quotes_and_escapes_are_those_of_java(text: str, password: str) -> None:
    module = f"{JAVA}.plain.PlainLoginModule"
    found = config(jaas(module, f"username='alice' password={text}", "PLAIN"))
    assert (found.sasl_username, found.sasl_password) == ("alice", password)


def test_the_client_of_oauth_comes_from_the_login_module() -> None:
    properties = jaas(
        f"{JAVA}.oauthbearer.OAuthBearerLoginModule",
        f'clientId="me" clientSecret="{SECRET}" scope="kafka" extension_logicalCluster="lkc-1"'
        ' extension_identityPoolId="pool-1"',
        "OAUTHBEARER",
    )
    properties["sasl.oauthbearer.token.endpoint.url"] = "https://idp.example/token"
    properties["sasl.login.callback.handler.class"] = (
        f"{JAVA}.oauthbearer.secured.OAuthBearerLoginCallbackHandler"
    )
    assert config(properties) == made(
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        sasl_oauthbearer_token_endpoint_url="https://idp.example/token",
        sasl_oauthbearer_client_credentials_client_id="me",
        sasl_oauthbearer_client_credentials_client_secret=SECRET,
        sasl_oauthbearer_scope="kafka",
        sasl_oauthbearer_extensions={"logicalCluster": "lkc-1", "identityPoolId": "pool-1"},
    )


def test_the_client_of_oauth_comes_from_librdkafkas_names() -> None:
    assert config(
        {
            "security.protocol": "sasl_ssl",
            "sasl.mechanisms": "OAUTHBEARER",
            "sasl.oauthbearer.method": "OIDC",
            "sasl.oauthbearer.client.id": "me",
            "sasl.oauthbearer.client.secret": SECRET,
            "sasl.oauthbearer.scope": "kafka",
            "sasl.oauthbearer.extensions": "logicalCluster=lkc-1",
            "sasl.oauthbearer.token.endpoint.url": "https://idp.example/token",
            "enable.ssl.certificate.verification": True,
        }
    ) == made(
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        sasl_oauthbearer_token_endpoint_url="https://idp.example/token",
        sasl_oauthbearer_client_credentials_client_id="me",
        sasl_oauthbearer_client_credentials_client_secret=SECRET,
        sasl_oauthbearer_scope="kafka",
        sasl_oauthbearer_extensions={"logicalCluster": "lkc-1"},
    )


def test_an_identity_of_aws_comes_from_its_login_module() -> None:
    properties = jaas(
        "software.amazon.msk.auth.iam.IAMLoginModule", 'awsProfileName="prod"', "AWS_MSK_IAM"
    )
    properties["sasl.client.callback.handler.class"] = (
        "software.amazon.msk.auth.iam.IAMClientCallbackHandler"
    )
    assert config(properties) == made(
        security_protocol="SASL_SSL", sasl_mechanism="AWS_MSK_IAM", sasl_aws_profile="prod"
    )


def test_kerberos_comes_from_its_login_module() -> None:
    properties = jaas(
        "com.sun.security.auth.module.Krb5LoginModule",
        'useKeyTab=true storeKey=true debug=true keyTab="/me.keytab" principal="me@REALM"'
        ' serviceName="broker"',
        "GSSAPI",
    )
    properties["sasl.kerberos.service.name"] = "broker"
    assert config(properties) == made(
        security_protocol="SASL_SSL",
        sasl_mechanism="GSSAPI",
        sasl_kerberos_keytab="/me.keytab",
        sasl_kerberos_principal="me@REALM",
        sasl_kerberos_service_name="broker",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"org.example.LoginModule required password={SECRET};", "org.example.LoginModule is not"),
        (f"{JAVA}.plain.PlainLoginModule required password={SECRET}", "cannot be read"),
        (f'{JAVA}.plain.PlainLoginModule required password="{SECRET};', "cannot be read"),
        (SECRET, "cannot be read"),
        (f"{JAVA}.plain.PlainLoginModule required password='{SECRET};", "cannot be read"),
        (
            f"{JAVA}.plain.PlainLoginModule required password=a {SECRET.replace('-', '_')}=b;",
            "holds an option that is none of PlainLoginModule; allowed: username, password. A"
            " value with spaces or quotes stands in quotes.",
        ),
        (
            f"{JAVA}.scram.ScramLoginModule required tokenauth=true;",
            "the option tokenauth of ScramLoginModule cannot be used. Delegation tokens",
        ),
        (
            "software.amazon.msk.auth.iam.IAMLoginModule required awsStsRegion=eu-central-1;",
            "Give the role to a profile in AWS's configuration files",
        ),
        (
            "com.sun.security.auth.module.Krb5LoginModule required ticketCache='/tmp/x';",
            "Name it in the environment variable KRB5CCNAME.",
        ),
        (
            f"{JAVA}.oauthbearer.OAuthBearerLoginModule required awsProfileName=prod;",
            "Set sasl_mechanism to AWS_MSK_IAM, and sasl_aws_profile.",
        ),
        (
            f"{JAVA}.plain.PlainLoginModule required; {JAVA}.plain.PlainLoginModule required;",
            "more than one login module",
        ),
    ],
)
def test_a_jaas_text_that_cannot_be_used_is_refused_unseen(text: str, says: str) -> None:
    assert "sasl.jaas.config: " in (said := refusal({"sasl.jaas.config": text}))
    assert says in said


@pytest.mark.parametrize(
    "name", ["sasl.login.callback.handler.class", "sasl.client.callback.handler.class"]
)
def test_a_class_of_java_is_refused_with_what_to_do_instead(name: str) -> None:
    assert "A class of Java cannot be run here." in refusal({name: "org.example.Handler"})
    amazons = "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler"
    assert "For Amazon MSK set sasl_mechanism to AWS_MSK_IAM." in refusal({name: amazons})


def test_an_option_under_two_names_is_refused_with_both() -> None:
    said = refusal({"sasl.mechanism": "PLAIN", "sasl.mechanisms": "PLAIN"})
    assert "sasl.mechanisms: given twice, as sasl.mechanism as well" in said
    properties = jaas("com.sun.security.auth.module.Krb5LoginModule", "serviceName=a", "GSSAPI")
    said = refusal({"sasl.kerberos.service.name": "b", **properties})
    assert "sasl.jaas.config: given twice, as sasl.kerberos.service.name as well" in said
    said = refusal({"metadata.broker.list": "c:1"})
    assert "metadata.broker.list: given twice, as bootstrap.servers as well" in said


def test_the_brokers_may_have_librdkafkas_name() -> None:
    made = ProducerConfig.from_properties({"metadata.broker.list": "a:1,b:1"})
    assert made.bootstrap_servers == ("a:1", "b:1")


@pytest.mark.parametrize(
    ("name", "text", "option", "value"),
    [
        ("message.timeout.ms", "60000", "delivery_timeout_ms", 60_000),
        ("request.required.acks", "1", "acks", 1),
        ("queue.buffering.max.ms", "5.5", "linger_ms", 5.5),
        ("queue.buffering.max.kbytes", "2048", "buffer_memory", 2_097_152),
        ("queue_buffering_max_kbytes", 1, "buffer_memory", 1_024),
        ("message.send.max.retries", "3", "retries", 3),
        ("max.in.flight", "1", "max_in_flight_requests_per_connection", 1),
        ("compression.codec", "lz4", "compression_type", "lz4"),
        ("partitioner", "murmur2_random", "partitioner", None),
        ("client.dns.lookup", "use_all_dns_ips", "client_id", "aioproducer"),
    ],
)
def test_options_of_librdkafka_are_those_that_they_stand_for(
    name: str, text: object, option: str, value: object
) -> None:
    made = ProducerConfig.from_properties({"bootstrap.servers": "b:1", name: text})
    assert getattr(made, option) == value


@pytest.mark.parametrize("value", ["many", "1.5", True])
def test_kbytes_that_are_no_number_are_refused_with_the_option_in_bytes(value: object) -> None:
    said = refusal({"queue.buffering.max.kbytes": value})
    assert f"queue.buffering.max.kbytes={value!r}: not allowed" in said
    assert "buffer.memory" in said


def test_kbytes_and_bytes_are_one_option() -> None:
    said = refusal({"buffer.memory": "1", "queue.buffering.max.kbytes": "1"})
    assert "queue.buffering.max.kbytes: given twice, as buffer.memory as well" in said


def test_an_option_of_consumers_is_ignored_with_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "aioproducer.properties"):
        made = ProducerConfig.from_properties(
            {"bootstrap.servers": "localhost:1", "session.timeout.ms": "45000"}
        )
    assert made == ProducerConfig(bootstrap_servers="localhost:1")
    assert caplog.messages == ["session.timeout.ms is an option of consumers, and is ignored"]
