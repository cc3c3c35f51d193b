"""A real Kafka takes the tokens that the built-in provider gets from a token endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from aioproducer import AuthenticationError, KafkaError, Producer
from tests.broker.secured import secure_producer
from tests.support.kafka import consume, create_topic
from tests.support.secure_kafka import SECRETS, WRITER, SecureKafka
from tests.support.token_server import Answer, Asked, TokenServer

CLIENT_SECRET = "canary-secret-client-71d3"
SECRETS.append(CLIENT_SECRET)


def issuing(kafka: SecureKafka, **claims: object) -> Callable[[Asked], Answer]:
    """Answer each request with a new token for the writer."""

    def answer(asked: Asked) -> Answer:
        token = kafka.token(WRITER, claims=claims)
        return Answer.of(access_token=token, token_type="Bearer", expires_in=300)

    return answer


def asking(
    kafka: SecureKafka, server: TokenServer, listener: str = "SASL_SSL", **options: Any
) -> Producer[Any, Any]:
    return secure_producer(
        kafka,
        listener,
        "OAUTHBEARER",
        sasl_oauth_token_provider=None,
        sasl_oauthbearer_token_endpoint_url=server.url,
        **options,
    )


def with_secret() -> dict[str, Any]:
    return {
        "sasl_oauthbearer_client_credentials_client_id": "kafka-client",
        "sasl_oauthbearer_client_credentials_client_secret": CLIENT_SECRET,
    }


async def is_stored(kafka: SecureKafka, producer: Producer[Any, Any]) -> None:
    topic = create_topic(kafka, partitions=1)
    async with producer:
        await producer.send_and_wait(topic, b"paid")
    assert [one.value for one in consume(kafka, topic)] == [b"paid"]


async def test_records_are_stored_with_a_token_for_a_client_secret(
    secure_kafka: SecureKafka,
) -> None:
    with TokenServer(issuing(secure_kafka)) as server:
        await is_stored(secure_kafka, asking(secure_kafka, server, **with_secret()))
        # One token for all connections.
        assert len(server.asked) == 1


@pytest.mark.parametrize("grant", ["client_credentials", "jwt_bearer"])
async def test_records_are_stored_with_a_token_for_a_signed_assertion(
    secure_kafka: SecureKafka, tmp_path: Path, grant: str
) -> None:
    key = rsa.generate_private_key(65_537, 2_048)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )

    def answer(asked: Asked) -> Answer:
        field = "assertion" if grant == "jwt_bearer" else "client_assertion"
        claims = jwt.decode(asked.form[field], key.public_key(), ["RS256"], audience="the server")
        assert claims["iss"] == "kafka-client"
        return Answer.of(access_token=secure_kafka.token(WRITER), expires_in=300)

    with TokenServer(answer) as server:
        producer = asking(
            secure_kafka,
            server,
            sasl_oauthbearer_jwt_retriever_class=grant,
            sasl_oauthbearer_assertion_private_key_file=str(tmp_path / "key.pem"),
            sasl_oauthbearer_assertion_claim_iss="kafka-client",
            sasl_oauthbearer_assertion_claim_aud="the server",
        )
        await is_stored(secure_kafka, producer)


async def test_a_token_near_its_end_is_replaced_for_the_next_session(
    secure_kafka: SecureKafka,
) -> None:
    """The next login of a connection comes later in a session than a token is due."""

    def answer(asked: Asked) -> Answer:
        # Its end is a whole second: it lives between 3 and 4.
        token = secure_kafka.token(WRITER, expires_in=4)
        return Answer.of(access_token=token, expires_in=3)

    topic = create_topic(secure_kafka, partitions=1)
    sent = 0
    with TokenServer(answer) as server:
        async with (
            secure_kafka.forwarder("REAUTH_FORWARDED") as forwarder,
            asking(secure_kafka, server, "REAUTH_FORWARDED", **with_secret()) as producer,
        ):
            connections = forwarder.accepted
            async with asyncio.timeout(15):
                while len(server.asked) < 3:
                    await producer.send_and_wait(topic, b"%d" % sent)
                    sent += 1
                    await asyncio.sleep(0.05)
            assert forwarder.accepted == connections
    assert [one.value for one in consume(secure_kafka, topic)] == [b"%d" % n for n in range(sent)]


async def failed_start(producer: Producer[Any, Any]) -> KafkaError:
    async with asyncio.timeout(10):
        with pytest.raises(KafkaError) as caught:
            await producer.start()
    assert CLIENT_SECRET not in repr(caught.value) + str(caught.value)
    return caught.value


async def test_a_wrong_client_secret_ends_the_start_at_once(secure_kafka: SecureKafka) -> None:
    answer = Answer.of(401, error="invalid_client", error_description="Unknown secret")
    with TokenServer(answer) as server:
        error = await failed_start(asking(secure_kafka, server, **with_secret()))
    assert isinstance(error, AuthenticationError)
    assert f"The token endpoint {server.url} gives no token: it answered 401" in str(error)
    assert "invalid_client: Unknown secret" in str(error)
    assert "client_secret" in str(error)
    assert len(server.asked) == 1


async def test_an_endpoint_that_is_down_ends_the_start_within_seconds(
    secure_kafka: SecureKafka,
) -> None:
    with TokenServer(Answer()) as server:
        pass
    error = await failed_start(asking(secure_kafka, server, **with_secret()))
    assert isinstance(error, AuthenticationError)
    assert f"The token endpoint {server.url} gives no token: connection refused" in str(error)


async def test_a_token_for_another_audience_is_explained(secure_kafka: SecureKafka) -> None:
    with TokenServer(issuing(secure_kafka, aud="others")) as server:
        error = await failed_start(asking(secure_kafka, server, **with_secret()))
    assert 'its audience is "others"' in str(error)
    assert "sasl.oauthbearer.expected.audience" in str(error)
