from __future__ import annotations

from typing import Any

import pytest

from aioproducer import KafkaTimeoutError, UnknownErrorCodeError
from aioproducer.errors import NotLeaderOrFollowerError, UnknownServerError
from aioproducer.testing import ErrorCode
from aioproducer.testing.errors_to_order import as_error, as_error_code


@pytest.mark.parametrize(
    "error",
    [
        NotLeaderOrFollowerError,
        NotLeaderOrFollowerError(),
        "NOT_LEADER_OR_FOLLOWER",
        6,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ],
)
def test_an_error_is_known_by_class_instance_name_and_code(error: Any) -> None:
    assert type(as_error(error)) is NotLeaderOrFollowerError
    assert as_error_code(error) == (6, None)


def test_an_instance_keeps_its_text() -> None:
    error = NotLeaderOrFollowerError("it moved")
    assert as_error(error) is error
    assert as_error_code(error) == (6, "it moved")


def test_the_code_may_be_negative_or_unknown() -> None:
    assert type(as_error("UNKNOWN_SERVER_ERROR")) is UnknownServerError
    assert as_error_code(UnknownServerError) == (-1, None)
    assert as_error_code(9999) == (9999, None)
    assert type(as_error(9999)) is UnknownErrorCodeError
    assert as_error_code(UnknownErrorCodeError(unknown_code=9999)) == (9999, None)


@pytest.mark.parametrize("name", ["", "NOT_LEADER", "NotLeaderOrFollowerError", "NONE"])
def test_a_name_that_kafka_has_not_is_refused(name: str) -> None:
    for known in (as_error, as_error_code):
        with pytest.raises(ValueError, match="Kafka has no error"):
            known(name)


def test_an_error_of_the_clients_own_has_no_code() -> None:
    with pytest.raises(ValueError, match="no broker sends it"):
        as_error_code(KafkaTimeoutError)
    assert type(as_error(KafkaTimeoutError)) is KafkaTimeoutError
