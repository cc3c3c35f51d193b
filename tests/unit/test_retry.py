"""What follows an error, for every error there is, and how long a retry waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer import errors
from aioproducer.errors import (
    KafkaError,
    MessageTooLargeError,
    OutOfOrderSequenceNumberError,
    UnknownErrorCodeError,
    UnknownProducerIdError,
    broker_error,
)
from aioproducer.retry import Step, backoff, next_step

# org.apache.kafka.common.protocol.Errors (4.3), for the answers to a Produce request.
RETRIED = {
    "CORRUPT_MESSAGE",
    "UNKNOWN_TOPIC_OR_PARTITION",
    "LEADER_NOT_AVAILABLE",
    "NOT_LEADER_OR_FOLLOWER",
    "REQUEST_TIMED_OUT",
    "REPLICA_NOT_AVAILABLE",
    "NETWORK_EXCEPTION",
    "NOT_ENOUGH_REPLICAS",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    "KAFKA_STORAGE_ERROR",
    "LISTENER_NOT_FOUND",
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "THROTTLING_QUOTA_EXCEEDED",
    "UNKNOWN_TOPIC_ID",
    "INCONSISTENT_TOPIC_ID",
    "CONCURRENT_TRANSACTIONS",
}
GIVEN_UP = {
    "UNKNOWN_SERVER_ERROR",
    "INVALID_TOPIC_EXCEPTION",
    "RECORD_LIST_TOO_LARGE",
    "INVALID_REQUIRED_ACKS",
    "TOPIC_AUTHORIZATION_FAILED",
    "CLUSTER_AUTHORIZATION_FAILED",
    "INVALID_TIMESTAMP",
    "UNSUPPORTED_VERSION",
    "INVALID_REQUEST",
    "UNSUPPORTED_FOR_MESSAGE_FORMAT",
    "POLICY_VIOLATION",
    "INVALID_PRODUCER_EPOCH",
    "INVALID_TXN_STATE",
    "INVALID_PRODUCER_ID_MAPPING",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    "UNSUPPORTED_COMPRESSION_TYPE",
    "INVALID_RECORD",
    "PRODUCER_FENCED",
    "TRANSACTION_ABORTABLE",
}
OUT_OF_SEQUENCE = [OutOfOrderSequenceNumberError, UnknownProducerIdError]

ALL_ERRORS = [
    found
    for found in (getattr(errors, name) for name in errors.__all__)
    if isinstance(found, type) and issubclass(found, KafkaError)
]
BY_NAME = {cls.name: cls for cls in ALL_ERRORS if cls.name}


def step_after(
    error: KafkaError, *, is_next: bool = True, count: int = 3, may_retry: bool = True
) -> Step:
    return next_step(error, is_next_in_sequence=is_next, record_count=count, may_retry=may_retry)


@pytest.mark.parametrize("name", sorted(RETRIED))
def test_an_error_that_passes_is_retried(name: str) -> None:
    assert step_after(BY_NAME[name]()) is Step.RETRY


@pytest.mark.parametrize("name", sorted(RETRIED))
def test_an_error_that_passes_ends_the_batch_when_no_attempt_is_left(name: str) -> None:
    assert step_after(BY_NAME[name](), may_retry=False) is Step.FAIL


@pytest.mark.parametrize("name", sorted(GIVEN_UP))
def test_an_error_that_stays_ends_the_batch(name: str) -> None:
    assert step_after(BY_NAME[name]()) is Step.FAIL


@pytest.mark.parametrize("cls", ALL_ERRORS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("is_next", [True, False])
def test_no_error_is_retried_without_an_attempt_left(
    cls: type[KafkaError], count: int, is_next: bool
) -> None:
    step = step_after(cls(), is_next=is_next, count=count, may_retry=False)
    assert step in (Step.FAIL, Step.COMPLETE)


@pytest.mark.parametrize("cls", ALL_ERRORS, ids=lambda cls: cls.__name__)
def test_every_other_error_is_retried_exactly_when_it_says_so(cls: type[KafkaError]) -> None:
    special = {"OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID", "MESSAGE_TOO_LARGE"}
    if cls.name in special or cls.name == "DUPLICATE_SEQUENCE_NUMBER":
        return
    assert (step_after(cls()) is Step.RETRY) == cls.retriable


@pytest.mark.parametrize("code", [-2, 9999])
def test_a_code_nobody_knows_ends_the_batch(code: int) -> None:
    error = broker_error(code)
    assert isinstance(error, UnknownErrorCodeError)
    assert step_after(error) is Step.FAIL


def test_a_duplicate_is_a_success_also_when_no_attempt_is_left() -> None:
    duplicate = BY_NAME["DUPLICATE_SEQUENCE_NUMBER"]
    assert step_after(duplicate()) is Step.COMPLETE
    assert step_after(duplicate(), may_retry=False) is Step.COMPLETE


def test_a_large_batch_is_split_down_to_one_record() -> None:
    assert step_after(MessageTooLargeError(), count=2) is Step.SPLIT
    assert step_after(MessageTooLargeError(), count=1) is Step.FAIL


def test_an_expired_batch_is_not_split() -> None:
    assert step_after(MessageTooLargeError(), may_retry=False) is Step.FAIL


@pytest.mark.parametrize("cls", OUT_OF_SEQUENCE)
def test_out_of_sequence_behind_an_earlier_batch_is_retried(cls: type[KafkaError]) -> None:
    assert step_after(cls(), is_next=False) is Step.RETRY


@pytest.mark.parametrize("cls", OUT_OF_SEQUENCE)
def test_out_of_sequence_with_nothing_before_it_needs_a_new_epoch(cls: type[KafkaError]) -> None:
    assert step_after(cls(), is_next=True) is Step.RESTART


@pytest.mark.parametrize("cls", OUT_OF_SEQUENCE)
def test_out_of_sequence_ends_the_batch_when_no_attempt_is_left(cls: type[KafkaError]) -> None:
    assert step_after(cls(), is_next=True, may_retry=False) is Step.FAIL


# ---- backoff (KIP-580)


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (500, 1.0)]
)
def test_the_delay_doubles_up_to_its_maximum(failures: int, expected: float) -> None:
    delay = backoff(failures, base=0.1, maximum=1.0, random=lambda: 0.5)
    assert delay == pytest.approx(expected)


@given(
    st.integers(1, 10_000),
    st.floats(0.001, 100),
    st.floats(0.001, 1000),
    st.floats(0, 1, exclude_max=True),
)
def test_the_delay_is_within_a_fifth_and_never_over_its_maximum(
    failures: int, base: float, maximum: float, drawn: float
) -> None:
    delay = backoff(failures, base=base, maximum=maximum, random=lambda: drawn)
    middle = min(base * 2.0 ** min(failures - 1, 60), maximum)
    assert middle * 0.799 <= delay <= min(middle * 1.201, maximum)


def test_a_delay_of_zero_stays_zero() -> None:
    assert backoff(9, base=0.0, maximum=0.0, random=lambda: 0.9) == 0.0
