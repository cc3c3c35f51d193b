"""What all errors have in common: what they say, and that they can be copied."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from aioproducer import errors
from aioproducer.errors import (
    ConfigError,
    InvalidRecordError,
    InvalidTopicError,
    KafkaError,
    NetworkError,
    NotLeaderOrFollowerError,
    ProducerClosedError,
    ProtocolError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    error_for_code,
)
from aioproducer.records import TopicPartition

PAYMENTS_3 = TopicPartition("payments", 3)


def all_classes() -> list[type[KafkaError]]:
    found = [getattr(errors, name) for name in errors.__all__]
    return [cls for cls in found if isinstance(cls, type) and issubclass(cls, KafkaError)]


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


def test_an_error_says_what_where_how_often_and_what_to_change() -> None:
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
    assert str(error) == (
        "Record 3 has no key (INVALID_RECORD). If it is a compacted topic (cleanup.policy), give"
        " every record a key."
    )
    assert error.message == "Record 3 has no key."


def test_a_message_may_end_in_a_question() -> None:
    assert str(ProtocolError("The other side speaks TLS: is TLS missing?")).endswith("missing?")


def test_an_error_of_unknown_outcome_says_that_the_record_may_have_been_stored() -> None:
    assert RequestTimedOutError().possibly_persisted
    assert "may have been stored" in str(RequestTimedOutError())
    assert not RequestTimedOutError(possibly_persisted=False).possibly_persisted
    assert not NetworkError().possibly_persisted
    assert "may have been stored" in str(NetworkError(possibly_persisted=True))


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


def test_every_name_of_the_package_is_there_and_listed() -> None:
    namespace: dict[str, object] = {}
    exec("from aioproducer.errors import *", namespace)
    assert set(errors.__all__) == namespace.keys() - {"__builtins__"}
    assert set(errors.__all__) <= set(dir(errors))
    assert len(all_classes()) == 150


def test_every_class_says_that_it_is_of_the_package() -> None:
    assert {cls.__module__ for cls in all_classes()} == {"aioproducer.errors"}


def test_retry_after_is_whole_seconds_within_bounds() -> None:
    error = errors.KafkaTimeoutError("late")
    assert error.retry_after == 5
    for given, told in [(0.0, 1), (1.2, 2), (1e9, 30), (None, 30)]:
        error.suggest_retry_after(given)
        assert error.retry_after == told
    assert pickle.loads(pickle.dumps(error)).retry_after == 30
    error.possibly_persisted = True
    assert error.retry_after is None
