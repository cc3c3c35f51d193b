"""AWS_MSK_IAM: the signature by AWS's vectors, the exchange, and where credentials are from."""

from __future__ import annotations

import datetime
import importlib.util
import json
from pathlib import Path
from typing import Any, cast

import pytest

from aioproducer import AuthenticationError, ConfigError
from aioproducer.config import ProducerConfig
from aioproducer.network.sasl.aws_msk_iam import (
    AwsIdentity,
    AwsMskIam,
    mechanism,
    presigned,
    region_of,
)
from aioproducer.network.sasl.exchange import Call
from aioproducer.version import __version__

HOST = "b-1.orders.abc123.c2.kafka.eu-central-1.amazonaws.com"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
ANSWER = b'{"version":"2020_10_22","request-id":"4a1c"}'

# AWS's published test suite of Signature Version 4: its credentials, time and requests.
SUITE = AwsIdentity("AKIDEXAMPLE", SECRET, None, "us-east-1")
SUITE_TIME = datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.UTC).timestamp()
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("query", "token", "signature"),
    [
        pytest.param(
            {},
            None,
            "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d",
            id="get-vanilla-query",
        ),
        pytest.param(
            {"Param2": "value2", "Param1": "value1"},
            None,
            "86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5",
            id="get-vanilla-query-order-key-case",
        ),
        pytest.param(
            {UNRESERVED: UNRESERVED},
            None,
            "8e76a88a7433637b12778d5592799b29ad21ecd6cf6325051c21d86f0acda2bf",
            id="get-vanilla-query-unreserved",
        ),
        pytest.param(
            {"\u1234": "bar"},
            None,
            "0bdd809b1519ac4f0c1dc3540e2cc46bd0c7f778eda408b2ebf3b913d21ff600",
            id="get-vanilla-utf8-query",
        ),
        pytest.param(
            {},
            "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
            "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c",
            id="get-vanilla-with-session-token",
        ),
    ],
)
def test_the_signature_is_that_of_awss_vectors(
    query: dict[str, str], token: str | None, signature: str
) -> None:
    signed = presigned(
        query,
        SUITE._replace(session_token=token),
        host="example.amazonaws.com",
        service="service",
        expires=3_600,
        now=SUITE_TIME,
    )
    assert signed["X-Amz-Signature"] == signature


# ---- the exchange


def identity(token: str | None = None) -> AwsIdentity:
    return AwsIdentity("AKIDEXAMPLE", SECRET, token, "eu-central-1")


def begun(token: str | None = None) -> tuple[Any, dict[str, str]]:
    """Return an exchange and the message that it sent."""
    now = datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC).timestamp()
    exchange = AwsMskIam(lambda host: identity(token), now=lambda: now).exchange(HOST)
    call = next(exchange)
    assert isinstance(call, Call)
    assert call.what == "the search for AWS credentials"
    message = exchange.send(call.function())
    assert isinstance(message, bytes)
    return exchange, json.loads(message)


def test_the_message_is_a_presigned_request_to_connect_to_this_broker() -> None:
    _, message = begun("session/token+=")
    assert message == {
        "version": "2020_10_22",
        "host": HOST,
        "user-agent": f"aioproducer/{__version__}",
        "action": "kafka-cluster:Connect",
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": "AKIDEXAMPLE/20261129/eu-central-1/kafka-cluster/aws4_request",
        "x-amz-date": "20261129T120000Z",
        "x-amz-security-token": "session/token+=",
        "x-amz-signedheaders": "host",
        "x-amz-expires": "900",
        # What botocore's SigV4QueryAuth makes of the same.
        "x-amz-signature": "2b8b0e697e341e0bbc2c72db3f2a06005193da459838841074e31fefa068285f",
    }


def test_credentials_without_a_session_token_send_none() -> None:
    _, message = begun()
    assert "x-amz-security-token" not in message
    assert SECRET not in json.dumps(message)


def test_the_brokers_answer_ends_the_exchange() -> None:
    exchange, _ = begun()
    with pytest.raises(StopIteration):
        exchange.send(ANSWER)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"version":"2020_10_22"}',
        b'{"version":"2031_01_01","request-id":"4a1c"}',
        b'{"version":"2020_10_22","request-id":7}',
    ],
)
def test_an_answer_of_another_kind_is_refused(answer: bytes) -> None:
    exchange, _ = begun()
    with pytest.raises(AuthenticationError, match="The broker's answer is not that of AWS_MSK_IAM"):
        exchange.send(answer)


def test_a_refusal_says_what_to_grant_in_which_region() -> None:
    exchange, _ = begun()
    with pytest.raises(AuthenticationError) as caught:
        exchange.throw(AuthenticationError("[4a1c]: Access denied"))
    assert str(caught.value) == (
        "[4a1c]: Access denied. Allow the AWS identity in use (`aws sts get-caller-identity`)"
        " kafka-cluster:Connect on the cluster, check that the cluster is in region eu-central-1,"
        " and the clock of this machine."
    )


def test_an_identity_does_not_show_itself() -> None:
    assert repr(identity("token")) == "AwsIdentity(region='eu-central-1')"


@pytest.mark.parametrize(
    ("host", "region"),
    [
        (HOST, "eu-central-1"),
        ("b-1-public.orders.abc123.c2.kafka.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("boot-abc.c1.kafka-serverless.us-east-1.amazonaws.com", "us-east-1"),
        ("b-1.orders.abc.c2.kafka.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("B-1.orders.abc.c2.KAFKA.eu-west-1.amazonaws.com.", "eu-west-1"),
        ("b-1.orders.kafka.eu-west-1.amazonaws.com.attacker.example", None),
        ("kafka.internal.example", None),
        ("10.0.0.1", None),
    ],
)
def test_the_region_is_read_from_the_host_name(host: str, region: str | None) -> None:
    assert region_of(host) == region


# ---- credentials, by botocore


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No credentials but those of the test; returns the file of profiles."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path / "credentials"


def msk_config(**options: Any) -> ProducerConfig:
    return ProducerConfig(
        bootstrap_servers=f"{HOST}:9098",
        security_protocol="SASL_SSL",
        sasl_mechanism="AWS_MSK_IAM",
        **options,
    )


def found(host: str = HOST, **options: Any) -> AwsIdentity:
    chosen = mechanism(msk_config(**options))
    call = next(chosen.exchange(host))
    assert isinstance(call, Call)
    return cast(AwsIdentity, call.function())


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert tuple(found()) == ("AKIDEXAMPLE", SECRET, "token", "eu-central-1")


def test_credentials_come_from_the_profile_that_an_option_names(aws: Path) -> None:
    aws.write_text(f"[orders]\naws_access_key_id=AKIDORDERS\naws_secret_access_key={SECRET}\n")
    assert tuple(found(sasl_aws_profile="orders"))[:3] == ("AKIDORDERS", SECRET, None)


def test_the_region_is_that_of_the_option_the_host_or_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert found(sasl_aws_region="ap-south-1").region == "ap-south-1"
    assert found().region == "eu-central-1"
    assert found("kafka.internal.example").region == "us-west-2"


def test_a_region_that_nothing_tells_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(ConfigError, match="sasl_aws_region=None: the host name kafka"):
        found("kafka.example")


def test_missing_credentials_say_where_to_put_them() -> None:
    with pytest.raises(AuthenticationError, match="No AWS credentials were found"):
        found()


def test_a_missing_profile_is_named() -> None:
    with pytest.raises(ConfigError, match="sasl_aws_profile='orders': AWS's configuration files"):
        found(sasl_aws_profile="orders")


def test_without_botocore_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "aioproducer.network.sasl.aws_msk_iam.find_spec",
        lambda name: None if name == "botocore" else importlib.util.find_spec(name),  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    )
    with pytest.raises(ConfigError, match=r'pip install "aioproducer\[msk-iam\]"'):
        mechanism(msk_config())
