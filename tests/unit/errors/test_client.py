"""The errors that the client makes: what each tells."""

from __future__ import annotations

from aioproducer.errors import (
    BufferExhaustedError,
    ConfigError,
    InvalidPartitionError,
    KafkaConnectionError,
    KafkaTimeoutError,
    NotLeaderOrFollowerError,
    SerializationError,
)
from aioproducer.records import TopicPartition

PAYMENTS_3 = TopicPartition("payments", 3)


def test_a_config_error_names_option_value_and_what_is_allowed() -> None:
    error = ConfigError("idempotence needs acks=all", option="acks", value=1, allowed="all")
    assert isinstance(error, ValueError)
    assert str(error) == "acks=1: idempotence needs acks=all; allowed: all."
    assert (error.option, error.value, error.allowed) == ("acks", 1, "all")
    assert str(ConfigError(option="linger_ms", value=None)) == "linger_ms=None: not allowed."
    assert str(ConfigError("no such option", option="ackz")) == "ackz: no such option."


def test_a_config_error_never_holds_a_secret() -> None:
    for option in ("sasl_password", "ssl_key_password", "sasl_jaas_config", "ssl_keystore_key"):
        error = ConfigError("too short", option=option, value="hunter2")
        assert "hunter2" not in str(error) + repr(error) + repr(vars(error))


def test_a_config_error_shows_plain_values_only_and_not_all_of_a_long_one() -> None:
    assert str(ConfigError(option="acks", value=["x"])) == "acks=<list>: not allowed."
    assert len(str(ConfigError(option="acks", value="x" * 10000))) < 200


def test_a_serialization_error_names_topic_field_type_and_what_to_set() -> None:
    error = SerializationError(topic="payments", field="value", got_type="dict")
    assert str(error) == (
        "The value of a record for topic 'payments' cannot be serialized (type dict). "
        "Pass bytes, or set value_serializer."
    )
    assert "key_serializer" in str(SerializationError(field="key"))
    headers = SerializationError("a header has no name", topic="t", field="headers")
    assert str(headers).startswith("The headers of a record for topic 't' cannot be serialized: a")
    assert SerializationError(hint="Do this.").hint == "Do this."


def test_a_full_buffer_gives_the_sizes_and_can_be_tried_again() -> None:
    error = BufferExhaustedError(
        requested_bytes=100,
        available_bytes=5,
        total_bytes=200,
        requests_in_flight=5,
        waiting_callers=2,
    )
    assert error.retriable
    assert error.safe_to_resend
    assert str(error).startswith(
        "No buffer space for 100 bytes: 5 of 200 bytes of buffer_memory are free; requests in"
        " flight: 5, callers waiting: 2. "
    )


def test_a_full_buffer_is_caught_as_a_timeout_and_says_how_long_the_wait_was() -> None:
    error = BufferExhaustedError(requested_bytes=100, waited=1.5, waiting_for="buffer space")
    assert isinstance(error, KafkaTimeoutError)
    assert str(error).startswith("Waited 1.5 s for buffer space; no buffer space for 100 bytes: ")


def test_a_timeout_names_all_that_went_wrong_meanwhile() -> None:
    error = KafkaTimeoutError(
        waited=120.0,
        waiting_for="the acknowledgement",
        topic_partition=PAYMENTS_3,
        attempts=3,
        possibly_persisted=True,
        last_broker_error=NotLeaderOrFollowerError(broker="b"),
        last_connect_error=ConnectionRefusedError("kafka-2:9092 refused"),
    )
    assert isinstance(error, TimeoutError)
    assert error.retriable
    assert str(error) == (
        "Waited 120 s for the acknowledgement; the last broker error was NOT_LEADER_OR_FOLLOWER: "
        "The broker is no longer the leader of the partition; the last connect error was "
        "ConnectionRefusedError: kafka-2:9092 refused (payments-3, after 3 attempts). "
        "The record may have been stored."
    )


def test_a_timeout_of_a_record_says_also_that_it_was_not_stored() -> None:
    assert str(KafkaTimeoutError("Too slow", topic_partition=PAYMENTS_3)) == (
        "Too slow (payments-3). The record was not stored."
    )
    assert "stored" not in str(KafkaTimeoutError("Too slow"))


def test_a_connection_error_gives_the_reason_for_each_address() -> None:
    reasons = {"kafka-1:9092": "refused", "kafka-2:9092": "is TLS missing?"}
    error = KafkaConnectionError(reasons=reasons)
    assert isinstance(error, ConnectionError)
    assert error.retriable
    assert error.reasons == reasons
    assert str(error) == (
        "No broker could be reached: kafka-1:9092: refused; kafka-2:9092: is TLS missing?"
    )


def test_a_wrong_partition_error_says_how_many_there_are() -> None:
    error = InvalidPartitionError(topic_partition=TopicPartition("t", 9), partition_count=3)
    assert str(error) == "Topic 't' has 3 partitions, so no partition 9 (t-9)."
    assert str(InvalidPartitionError("negative")) == "negative."
