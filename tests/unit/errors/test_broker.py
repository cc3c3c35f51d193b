"""Kafka's error codes: the table, against Java's, and the classes that are made from it."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from typing import assert_type

import pytest
from kio.schema.errors import ErrorCode

from aioproducer import errors
from aioproducer.errors import (
    InvalidRecordError,
    MessageTooLargeError,
    NotLeaderOrFollowerError,
    RecordTooLargeError,
    UnknownErrorCodeError,
    broker,
    broker_error,
    error_for_code,
)
from aioproducer.records import TopicPartition
from tools.error_stubs import STUB, error_stubs

PAYMENTS_3 = TopicPartition("payments", 3)

CODES = [code for code in ErrorCode if code is not ErrorCode.none]

# By hand from the table of Kafka 4.3.1's Errors and its exception classes.
RETRIABLE = {
    *(2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83, 84),
    *(88, 89, 100, 103, 106, 122, 123, 133),
}
REFRESHES_METADATA = {3, 5, 6, 9, 13, 56, 72, 74, 80, 83, 84, 100, 103}
FATAL = {35, 49, 53, 90}
LEAVES_DOUBT = {-1, 6, 7, 20, 56}

CLASSES = [name for name in broker.__all__ if name.endswith("Error")]


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
    assert cls.leaves_outcome_unknown == (int(code) in LEAVES_DOUBT)
    assert not (cls.fatal and cls.retriable)


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


def test_each_class_can_be_had_by_its_name_and_is_the_one_of_its_code() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == len(CODES) == 134
    for name in CLASSES:
        cls = getattr(errors, name)
        assert cls is getattr(errors, name)
        assert cls is error_for_code(cls.code)
        assert cls.__name__ == name
        assert f"{cls.__module__}.{cls.__qualname__}" == f"aioproducer.errors.{name}"
        assert cls.__doc__ == cls.description


def test_a_class_that_kafka_does_not_have_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match=r"'aioproducer\.errors' has no .* 'NoSuchError'"):
        getattr(errors, "NoSuchError")  # noqa: B009
    with pytest.raises(ImportError, match="NoSuchError"):
        exec("from aioproducer.errors import NoSuchError", {})


def test_type_checkers_know_the_class_of_a_code_and_its_attributes() -> None:
    with pytest.raises(NotLeaderOrFollowerError) as caught:
        raise broker_error(6, topic_partition=PAYMENTS_3)
    assert_type(caught.value, NotLeaderOrFollowerError)
    assert_type(caught.value.topic_partition, TopicPartition | None)
    assert_type(MessageTooLargeError().compressed_size, int | None)


def test_the_types_in_the_stub_are_those_of_the_table() -> None:
    assert STUB.read_text() == error_stubs(), "run: python -m tools.error_stubs"


def test_an_error_is_unpickled_where_nobody_asked_for_its_class() -> None:
    error = NotLeaderOrFollowerError("gone", topic_partition=PAYMENTS_3, broker="b", attempts=2)
    program = """if True:
        import pickle, sys
        from aioproducer.errors import NetworkError
        error = pickle.load(sys.stdin.buffer)
        print(error)
        from aioproducer.errors import NotLeaderOrFollowerError
        assert type(error) is NotLeaderOrFollowerError, type(error)
        """
    finished = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(error),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    assert finished.stdout.decode().strip() == str(error)
