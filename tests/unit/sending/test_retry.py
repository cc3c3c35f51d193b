"""What follows an error, for every error there is."""

from __future__ import annotations

import pytest

from aioproducer import errors
from aioproducer.errors import (
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidRecordError,
    KafkaError,
    MessageTooLargeError,
    NotEnoughReplicasError,
    OutOfOrderSequenceNumberError,
    UnknownErrorCodeError,
    UnknownProducerIdError,
    broker_error,
)
from aioproducer.sending.retry import Step, next_step

# org.apache.kafka.common.protocol.Errors (4.3), for the responses to a Produce request.
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
    "INVALID_TXN_STATE",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    "UNSUPPORTED_COMPRESSION_TYPE",
    "INVALID_RECORD",
    "PRODUCER_FENCED",
    "TRANSACTION_ABORTABLE",
}
OUT_OF_SEQUENCE = [OutOfOrderSequenceNumberError, UnknownProducerIdError]
NOT_TAKEN = [InvalidProducerIdMappingError, InvalidProducerEpochError]

ALL_ERRORS = [
    found
    for found in (getattr(errors, name) for name in errors.__all__)
    if isinstance(found, type) and issubclass(found, KafkaError)
]
BY_NAME = {cls.name: cls for cls in ALL_ERRORS if cls.name}


def step_after(
    error: KafkaError,
    *,
    is_next: bool = True,
    is_outcome_unknown: bool = False,
    is_behind_acknowledged: bool = False,
    count: int = 3,
    names_records: bool = False,
    refusals_at_zero: int = 0,
    may_retry: bool = True,
) -> Step:
    return next_step(
        error,
        is_next_in_sequence=is_next,
        is_outcome_unknown=is_outcome_unknown,
        is_behind_acknowledged=is_behind_acknowledged,
        record_count=count,
        names_records=names_records,
        refusals_at_zero=refusals_at_zero,
        may_retry=may_retry,
    )


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
    special = {MessageTooLargeError.name, "DUPLICATE_SEQUENCE_NUMBER"}
    special.update(error_class.name for error_class in (*OUT_OF_SEQUENCE, *NOT_TAKEN))
    if cls.name in special:
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


def test_only_what_the_broker_refused_of_a_batch_fails_when_it_names_the_records() -> None:
    assert step_after(InvalidRecordError(), names_records=True) is Step.REFUSE_SOME
    assert step_after(InvalidRecordError(), names_records=False) is Step.FAIL


@pytest.mark.parametrize("error", [InvalidRecordError(), MessageTooLargeError()])
def test_what_may_be_stored_is_not_sent_again_in_parts(error: KafkaError) -> None:
    # A broker that has the whole would store the parts beside it.
    step = step_after(error, names_records=True, count=3, is_outcome_unknown=True)
    assert step is Step.FAIL


def test_records_that_are_refused_fail_also_when_no_attempt_is_left() -> None:
    step = step_after(InvalidRecordError(), names_records=True, may_retry=False)
    assert step is Step.REFUSE_SOME


def test_records_that_are_named_with_an_error_that_passes_are_tried_again() -> None:
    assert step_after(NotEnoughReplicasError(), names_records=True) is Step.RETRY


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


@pytest.mark.parametrize("cls", OUT_OF_SEQUENCE)
@pytest.mark.parametrize("is_next", [True, False])
def test_out_of_sequence_behind_a_later_success_is_stored_if_its_outcome_was_unknown(
    cls: type[KafkaError], is_next: bool
) -> None:
    # A broker remembers the last five batches only.
    step = step_after(cls(), is_next=is_next, is_outcome_unknown=True, is_behind_acknowledged=True)
    assert step is Step.COMPLETE


def test_out_of_sequence_behind_a_later_success_is_stored_also_without_attempts_left() -> None:
    step = step_after(
        OutOfOrderSequenceNumberError(),
        is_outcome_unknown=True,
        is_behind_acknowledged=True,
        may_retry=False,
    )
    assert step is Step.COMPLETE


@pytest.mark.parametrize("cls", OUT_OF_SEQUENCE)
def test_out_of_sequence_behind_a_later_success_is_not_stored_if_its_outcome_was_known(
    cls: type[KafkaError],
) -> None:
    # The broker took the later one because it had forgotten this producer.
    assert step_after(cls(), is_outcome_unknown=False, is_behind_acknowledged=True) is Step.RESTART


@pytest.mark.parametrize("cls", OUT_OF_SEQUENCE)
def test_out_of_sequence_of_unknown_outcome_is_not_stored_while_no_later_one_was_acknowledged(
    cls: type[KafkaError],
) -> None:
    assert step_after(cls(), is_outcome_unknown=True, is_behind_acknowledged=False) is Step.RESTART


@pytest.mark.parametrize("cls", OUT_OF_SEQUENCE)
@pytest.mark.parametrize(
    ("refusals", "expected"),
    [(0, Step.RESTART), (1, Step.RESTART), (2, Step.NEW_ID), (9, Step.NEW_ID)],
)
def test_a_broker_that_refuses_the_first_sequence_of_each_epoch_gets_another_producer_id(
    cls: type[KafkaError], refusals: int, expected: Step
) -> None:
    assert step_after(cls(), refusals_at_zero=refusals) is expected


@pytest.mark.parametrize("cls", NOT_TAKEN)
def test_a_producer_id_that_is_not_taken_any_more_is_replaced(cls: type[KafkaError]) -> None:
    assert step_after(cls()) is Step.NEW_ID


@pytest.mark.parametrize("cls", NOT_TAKEN)
def test_what_has_no_known_outcome_is_not_sent_again_under_another_producer_id(
    cls: type[KafkaError],
) -> None:
    assert step_after(cls(), is_outcome_unknown=True) is Step.FAIL


@pytest.mark.parametrize("cls", NOT_TAKEN)
def test_a_producer_id_that_is_not_taken_ends_the_batch_when_no_attempt_is_left(
    cls: type[KafkaError],
) -> None:
    assert step_after(cls(), may_retry=False) is Step.FAIL
