"""`aioproducer check` on the way to a real Kafka: where it ends, what it says, its exit code."""

from __future__ import annotations

import pytest

from tests.support.kafka import consume, create_topic
from tests.support.programs import Finished, run
from tests.support.secure_kafka import PASSWORDS, SECRETS, WRITER, SecureKafka

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


async def check(kafka: SecureKafka, listener: str, *arguments: str, **options: str) -> Finished:
    properties = {
        "security.protocol": kafka.protocol(listener),
        **{name.replace("_", "."): value for name, value in options.items()},
    }
    finished = await run(
        *("-m", "aioproducer", "check", "-b", kafka.addresses[listener], *arguments),
        *(part for pair in properties.items() for part in ("-X", "=".join(pair))),
    )
    assert not any(secret in finished.out + finished.err for secret in SECRETS)
    return finished


def marks(finished: Finished) -> list[tuple[str, str]]:
    """Return the steps that were drawn, each with its mark."""
    lines = (line.split() for line in finished.out.splitlines() if line.startswith("  "))
    return [(words[0], words[1]) for words in lines if words[0] in ("ok", "FAIL", "-")]


def said(finished: Finished) -> str:
    return " ".join(finished.out.split())


async def test_the_whole_way_is_walked_and_a_record_is_stored(secure_kafka: SecureKafka) -> None:
    topic = create_topic(secure_kafka)
    finished = await check(
        secure_kafka,
        "SASL_SSL",
        *("-t", topic),
        ssl_ca_location=str(secure_kafka.ca_location),
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username=WRITER,
        sasl_password=PASSWORDS["SCRAM-SHA-256"],
    )
    to_a_broker = [("ok", step) for step in ("name", "TCP", "TLS", "versions", "SASL")]
    assert marks(finished) == [
        *to_a_broker,
        ("ok", "metadata"),
        *to_a_broker,
        *(("ok", step) for step in ("topic", "idempotent", "start", "record")),
    ]
    assert "for 127.0.0.1, localhost" in finished.out
    assert "All is well." in finished.out
    assert finished.code == 0
    assert [record.value for record in consume(secure_kafka, topic)] == [b"aioproducer check"]


async def test_without_a_topic_nothing_is_stored(secure_kafka: SecureKafka) -> None:
    finished = await check(secure_kafka, "PLAINTEXT")
    assert [step for _, step in marks(finished)][-1] == "idempotent"
    assert finished.code == 0


@pytest.mark.parametrize(
    ("listener", "options", "failed", "says"),
    [
        pytest.param(
            "SASL_SSL",
            {"security_protocol": "PLAINTEXT"},
            "versions",
            "is TLS missing? -> Set security_protocol to SSL or SASL_SSL",
            id="no TLS where TLS is",
        ),
        pytest.param(
            "PLAINTEXT",
            {"security_protocol": "SSL"},
            "TLS",
            "does the port speak TLS? -> Set security_protocol to PLAINTEXT",
            id="TLS where none is",
        ),
        pytest.param(
            "SSL",
            {},
            "TLS",
            "The authority of the broker's certificate is not trusted",
            id="unknown authority",
        ),
        pytest.param(
            "MTLS",
            {"ssl_ca_location": "{ca}"},
            "versions",
            "does it want a certificate?",
            id="no certificate where one is asked for",
        ),
        pytest.param(
            "SASL_SSL",
            {"security_protocol": "SSL", "ssl_ca_location": "{ca}"},
            "metadata",
            "is SASL missing? -> Set security_protocol to SASL_SSL",
            id="no SASL where SASL is",
        ),
        pytest.param(
            "SSL",
            {
                "security_protocol": "SASL_SSL",
                "ssl_ca_location": "{ca}",
                "sasl_mechanism": "PLAIN",
                "sasl_username": WRITER,
                "sasl_password": PASSWORDS["PLAIN"],
            },
            "SASL",
            "The broker's listener takes no SASL",
            id="SASL where none is",
        ),
        pytest.param(
            "SASL_PLAINTEXT",
            {"sasl_mechanism": "PLAIN", "sasl_username": WRITER, "sasl_password": "wrong"},
            "SASL",
            "Check the user name, password or token",
            id="wrong password",
        ),
    ],
)
async def test_the_step_that_fails_says_what_to_change(
    secure_kafka: SecureKafka, listener: str, options: dict[str, str], failed: str, says: str
) -> None:
    ca = str(secure_kafka.ca_location)
    filled = {name: value.format(ca=ca) for name, value in options.items()}
    finished = await check(secure_kafka, listener, **filled)
    assert [step for mark, step in marks(finished) if mark == "FAIL"] == [failed]
    assert says in said(finished)
    assert "1 step(s) failed." in finished.out
    assert finished.code == 1


async def test_a_topic_that_may_not_be_written_to_is_said_without_sending(
    secure_kafka: SecureKafka,
) -> None:
    user, password = secure_kafka.new_user()
    finished = await check(
        secure_kafka,
        "SASL_PLAINTEXT",
        *("-t", create_topic(secure_kafka)),
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username=user,
        sasl_password=password,
    )
    assert ("FAIL", "topic") in marks(finished)
    assert "Grant the client's principal Write and Describe on the topic." in said(finished)
    assert finished.code == 1


async def test_a_port_where_nobody_listens_ends_at_tcp() -> None:
    finished = await run("-m", "aioproducer", "check", "-b", "127.0.0.1:1")
    assert marks(finished) == [("ok", "name"), ("FAIL", "TCP"), ("-", "versions")]
    assert "Connection refused" in finished.out
    assert finished.code == 1


async def test_wrong_usage_is_exit_code_2() -> None:
    finished = await run("-m", "aioproducer", "check", "-b", "localhost", "-X", "linger.ms=never")
    assert finished.code == 2
    assert "linger.ms" in finished.err
