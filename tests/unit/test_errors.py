from __future__ import annotations

import copy
import pickle
import re

import pytest
from kio.schema.errors import ErrorCode

from aioproducer import errors
from aioproducer.errors import (
    BufferExhaustedError,
    ConfigError,
    InvalidPartitionError,
    InvalidRecordError,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageTooLargeError,
    NetworkError,
    NotLeaderOrFollowerError,
    ProducerClosedError,
    ProtocolError,
    RecordTooLargeError,
    RequestTimedOutError,
    SerializationError,
    UnknownErrorCodeError,
    UnknownTopicOrPartitionError,
    broker_error,
    error_for_code,
)
from aioproducer.records import TopicPartition

PAYMENTS_3 = TopicPartition("payments", 3)

CODES = [code for code in ErrorCode if code is not ErrorCode.none]

# By hand from the table of Kafka 4.3.1's Errors and its exception classes.
RETRIABLE = {
    *(2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83, 84),
    *(88, 89, 100, 103, 106, 122, 123, 133),
}
REFRESHES_METADATA = {3, 5, 6, 9, 13, 56, 72, 74, 80, 83, 84, 100, 103}
FATAL = {31, 35, 49, 53, 90}
LEAVES_DOUBT = {-1, 6, 7, 20, 56}


def all_classes() -> list[type[KafkaError]]:
    found = [getattr(errors, name) for name in errors.__all__]
    return [cls for cls in found if isinstance(cls, type) and issubclass(cls, KafkaError)]


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_each_code_has_its_class_with_kafkas_name(code: ErrorCode) -> None:
    cls = error_for_code(int(code))
    assert cls.code == int(code)
    assert cls.name == code.name.upper()
    words = re.sub("_(error|exception)$", "", code.name).split("_")
    assert cls.__name__ == "".join(word.capitalize() for word in words) + "Error"


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_each_code_has_the_flags_of_kafkas_table(code: ErrorCode) -> None:
    cls = error_for_code(int(code))
    assert cls.retriable == (int(code) in RETRIABLE)
    assert cls.refreshes_metadata == (int(code) in REFRESHES_METADATA)
    assert cls.fatal == (int(code) in FATAL)
    assert cls.leaves_doubt == (int(code) in LEAVES_DOUBT)
    assert not (cls.fatal and cls.retriable)


def test_no_two_classes_have_the_same_code_or_name() -> None:
    classes = [cls for cls in all_classes() if cls.code is not None]
    assert len(classes) == len(CODES) == 134
    assert len({cls.code for cls in classes}) == len({cls.name for cls in classes}) == 134


def test_every_public_name_is_exported() -> None:
    defined = {name for name, value in vars(errors).items() if is_defined_here(name, value)}
    assert defined == set(errors.__all__)


def is_defined_here(name: str, value: object) -> bool:
    return not name.startswith("_") and getattr(value, "__module__", "") == errors.__name__


@pytest.mark.parametrize("cls", all_classes(), ids=lambda cls: cls.__name__)
def test_every_error_says_a_sentence_and_what_to_change_is_one_too(cls: type[KafkaError]) -> None:
    assert re.fullmatch(r"[A-Z].*\.", cls.description)
    assert cls.hint == "" or re.fullmatch(r"[A-Z].*[.?]", cls.hint)
    assert re.fullmatch(r"[A-Z].*[.?]", str(cls()))


@pytest.mark.parametrize("cls", all_classes(), ids=lambda cls: cls.__name__)
def test_every_error_can_be_made_again_pickled_and_copied(cls: type[KafkaError]) -> None:
    error = cls("why", topic_partition=PAYMENTS_3) if cls is not ConfigError else cls("why")
    for twin in (error.again(), pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is cls
        assert twin is not error
        assert vars(twin) == vars(error)
        assert twin.args == error.args
        assert str(twin) == str(error)


def test_an_error_made_again_has_the_cause_but_not_the_traceback() -> None:
    with pytest.raises(NetworkError) as caught:
        raise NetworkError(attempts=2) from OSError("reset")
    twin = caught.value.again()
    assert twin.__cause__ is caught.value.__cause__
    assert twin.__suppress_context__
    assert caught.value.__traceback__ is not None
    assert twin.__traceback__ is None


def test_an_error_tells_what_where_how_often_and_what_to_change() -> None:
    error = UnknownTopicOrPartitionError(
        topic_partition=PAYMENTS_3, broker="kafka-1:9092", attempts=4, hint="Create the topic."
    )
    assert str(error) == (
        "The broker does not know the topic or partition (UNKNOWN_TOPIC_OR_PARTITION, payments-3, "
        "broker kafka-1:9092, after 4 attempts). Create the topic."
    )


def test_an_error_of_one_attempt_is_not_said_in_the_plural() -> None:
    assert "after 1 attempt)" in str(NotLeaderOrFollowerError(attempts=1))


def test_a_message_takes_the_place_of_the_description() -> None:
    error = InvalidRecordError("Record 3 has no key.")
    assert str(error) == "Record 3 has no key (INVALID_RECORD)."
    assert error.message == "Record 3 has no key."


def test_a_message_may_end_in_a_question() -> None:
    assert str(ProtocolError("The other side speaks TLS: is TLS missing?")).endswith("missing?")


def test_an_error_that_leaves_doubt_says_that_the_record_may_have_been_stored() -> None:
    assert RequestTimedOutError().possibly_persisted
    assert "may have been stored" in str(RequestTimedOutError())
    assert not RequestTimedOutError(possibly_persisted=False).possibly_persisted
    assert not NetworkError().possibly_persisted
    assert "may have been stored" in str(NetworkError(possibly_persisted=True))


def test_an_unknown_code_keeps_its_number_and_is_not_retriable() -> None:
    for code in (999, 134, -2):
        assert error_for_code(code) is UnknownErrorCodeError
        error = broker_error(code, "new in Kafka 9")
        assert isinstance(error, UnknownErrorCodeError)
        assert error.unknown_code == code
        assert f"error code {code}, unknown to this client: new in Kafka 9" in str(error)
        assert not error.retriable
        assert error.possibly_persisted


def test_success_is_not_an_error() -> None:
    with pytest.raises(ValueError, match="success"):
        error_for_code(0)


def test_the_brokers_own_text_is_kept_but_bounded() -> None:
    error = broker_error(87, "  bad\r\nrecord ", topic_partition=PAYMENTS_3, attempts=2)
    assert isinstance(error, InvalidRecordError)
    assert error.message == "bad record"
    assert error.topic_partition == PAYMENTS_3
    assert len(str(broker_error(87, "x" * 10**6))) < 600
    assert broker_error(17).message == ""


def test_one_class_stands_for_a_record_that_is_too_large_wherever_it_is_found() -> None:
    assert issubclass(MessageTooLargeError, RecordTooLargeError)
    assert RecordTooLargeError.code is None
    error = RecordTooLargeError(size=2000000, limit=1048576, topic_partition=PAYMENTS_3)
    assert "2000000 bytes, more than max_request_size=1048576 (payments-3)" in str(error)
    broker = MessageTooLargeError(size=2000, compressed_size=900)
    assert "it has 2000 bytes, 900 when compressed (MESSAGE_TOO_LARGE)" in str(broker)
    assert "message.max.bytes" in str(broker)


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


def test_a_full_buffer_tells_the_sizes_and_can_be_tried_again() -> None:
    error = BufferExhaustedError(
        requested_bytes=100,
        available_bytes=5,
        total_bytes=200,
        waited=1.5,
        requests_in_flight=5,
        waiting_callers=2,
    )
    assert error.retriable
    assert str(error).startswith(
        "No room for 100 bytes: 5 of 200 bytes of buffer_memory are free after waiting 1.5 s; "
        "requests in flight: 5, callers waiting: 2."
    )


def test_a_timeout_tells_all_that_went_wrong_meanwhile() -> None:
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


def test_a_connection_error_tells_the_reason_for_each_address() -> None:
    reasons = {"kafka-1:9092": "refused", "kafka-2:9092": "is TLS missing?"}
    error = KafkaConnectionError(reasons=reasons)
    assert isinstance(error, ConnectionError)
    assert error.retriable
    assert error.reasons == reasons
    assert str(error) == (
        "No broker could be reached: kafka-1:9092: refused; kafka-2:9092: is TLS missing?"
    )


def test_a_wrong_partition_tells_how_many_there_are() -> None:
    error = InvalidPartitionError(topic_partition=TopicPartition("t", 9), partition_count=3)
    assert str(error) == "Topic 't' has 3 partitions, so no partition 9 (t-9)."
    assert str(InvalidPartitionError("negative")) == "negative."


def test_the_classes_a_user_catches_stand_where_python_expects_them() -> None:
    assert issubclass(KafkaError, Exception)
    assert not issubclass(KafkaError, (OSError, ValueError))
    assert InvalidTopicError.code == 17
    assert NetworkError.code == 13
    assert ProducerClosedError.code is None


def test_a_class_of_the_users_own_keeps_what_it_inherits() -> None:
    class MyError(NotLeaderOrFollowerError):
        """Mine."""

    assert (MyError.code, MyError.retriable, MyError.description) == (6, True, "Mine.")
    assert error_for_code(6) is NotLeaderOrFollowerError
