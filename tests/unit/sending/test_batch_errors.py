"""The error of a failed record: where, after what, and whether it may be stored."""

from __future__ import annotations

from typing import Any

import pytest

from aioproducer._native.record_batch import BATCH_HEADER_SIZE, RecordBatch
from aioproducer.errors import (
    ClusterAuthorizationFailedError,
    InvalidRecordError,
    KafkaConnectionError,
    MessageTooLargeError,
    NetworkError,
    NotEnoughReplicasError,
    UnknownTopicOrPartitionError,
    broker_error,
)
from aioproducer.protocol.produce import BatchIndexAndErrorMessage, PartitionProduceResponse
from aioproducer.sending.batch_errors import (
    about_batch,
    closed_error,
    delivery_timeout_error,
    refused_records,
    refused_together,
)
from tests.support.core import Core

INVALID_RECORD = 87


def batch_of(count: int = 3, *, attempts: int = 1) -> RecordBatch:
    core = Core()
    for index in range(count):
        core.put(b"value %d" % index)
    batch = core.take()
    batch.attempts = attempts
    return batch


# ---- the error of a batch


def test_the_error_of_an_attempt_becomes_the_batchs_own() -> None:
    error = NetworkError("gone", broker="1 at b:9092")
    batch = batch_of(attempts=4)
    batch.possibly_persisted = True
    own = about_batch(error, batch)
    assert type(own) is NetworkError
    assert own is not error
    assert own.topic_partition == ("clicks", 0)
    assert (own.attempts, own.possibly_persisted, own.broker) == (4, True, "1 at b:9092")


def test_an_error_of_unknown_outcome_has_a_known_one_for_a_batch_that_was_never_sent() -> None:
    own = about_batch(NetworkError("gone", possibly_persisted=True), batch_of(attempts=0))
    assert not own.possibly_persisted


def test_a_batch_that_is_too_large_gives_its_sizes() -> None:
    batch = batch_of()
    size = BATCH_HEADER_SIZE + batch.records_size
    own = about_batch(MessageTooLargeError("no"), batch)
    assert isinstance(own, MessageTooLargeError)
    assert (own.size, own.compressed_size) == (size, None)
    batch.set_compressed(b"small", 4)
    own = about_batch(MessageTooLargeError("no"), batch)
    assert isinstance(own, MessageTooLargeError)
    assert (own.size, own.compressed_size) == (size, BATCH_HEADER_SIZE + 5)


# ---- a delivery timeout


def timeout(batch: RecordBatch, **changes: Any) -> str:
    """Return what the error of a delivery timeout says."""
    context: dict[str, Any] = {
        "waited": 120.0,
        "bound": "delivery_timeout_ms",
        "broker": "1 at b:9092",
        "broker_said": None,
        "connect_error": None,
        "producer_id_error": None,
        "throttled_for": 0.0,
    }
    return str(delivery_timeout_error(batch, **(context | changes)))


def test_a_timeout_says_how_long_what_for_and_the_option() -> None:
    text = timeout(batch_of())
    assert "120 s" in text
    assert "delivery_timeout_ms" in text
    assert "clicks-0" in text


@pytest.mark.parametrize(
    ("attempts", "in_flight", "expected"),
    [
        (0, False, "it was never sent"),
        (1, True, "it was sent, and not answered yet"),
        (2, False, "it was to be sent again"),
    ],
)
def test_a_timeout_says_how_far_the_record_got(
    attempts: int, in_flight: bool, expected: str
) -> None:
    batch = batch_of(attempts=attempts)
    batch.is_in_flight = in_flight
    assert expected in timeout(batch)


def test_a_timeout_says_that_there_is_no_leader() -> None:
    assert "its partition has no leader" in timeout(batch_of(), broker=None)


def test_a_timeout_gives_the_brokers_error_of_the_batch_before_that_of_the_topic() -> None:
    batch = batch_of()
    said = UnknownTopicOrPartitionError("unknown to broker 1")
    assert "unknown to broker 1" in timeout(batch, broker_said=said)
    batch.last_error = NotEnoughReplicasError("two replicas are missing")
    text = timeout(batch, broker_said=said)
    assert "two replicas are missing" in text
    assert "unknown to broker 1" not in text


def test_a_timeout_says_why_the_broker_could_not_be_reached_and_what_to_do() -> None:
    error = KafkaConnectionError(
        "Cannot connect", reasons={"b:9092": "connection refused"}, hint="Check the address."
    )
    text = timeout(batch_of(), connect_error=error)
    assert "connection refused" in text
    assert "Check the address." in text


def test_a_timeout_says_that_no_producer_id_could_be_had() -> None:
    error = ClusterAuthorizationFailedError("not allowed")
    text = timeout(batch_of(attempts=0), producer_id_error=error)
    assert "no producer id could be had" in text
    assert "not allowed" in text
    assert "no producer id could be had" not in timeout(
        batch_of(attempts=1), producer_id_error=error
    )


def test_a_timeout_mentions_a_throttle() -> None:
    assert "throttles this client for 3 s more" in timeout(batch_of(), throttled_for=3.0)
    assert "throttle" not in timeout(batch_of())


def test_a_timeout_says_whether_the_record_may_be_stored() -> None:
    batch = batch_of()
    assert "was not stored" in timeout(batch)
    batch.possibly_persisted = True
    assert "may have been stored" in timeout(batch)


# ---- a close


@pytest.mark.parametrize(
    ("in_flight", "in_doubt", "expected"),
    [(False, False, False), (True, False, True), (False, True, True)],
)
def test_what_a_close_gives_up_on_may_be_stored_once_it_was_sent(
    in_flight: bool, in_doubt: bool, expected: bool
) -> None:
    batch = batch_of(attempts=2)
    batch.is_in_flight = in_flight
    batch.possibly_persisted = in_doubt
    error = closed_error(batch)
    assert (error.possibly_persisted, error.attempts) == (expected, 2)
    assert error.topic_partition == ("clicks", 0)


# ---- refused records (KIP-467)


def refusal(*records: tuple[int, str | None], text: str | None = None) -> PartitionProduceResponse:
    return PartitionProduceResponse(
        error_code=INVALID_RECORD,
        record_errors=[BatchIndexAndErrorMessage(*record) for record in records],
        error_message=text,
    )


def refused(
    *records: tuple[int, str | None], text: str | None = None, count: int = 3
) -> dict[int, str]:
    """Return the error of each refused record."""
    answer = refusal(*records, text=text)
    error = broker_error(answer.error_code, answer.error_message)
    found = refused_records(error, batch_of(count), answer)
    return {index: own.message or "" for index, own in found.items()}


def test_each_refused_record_gets_the_brokers_words_and_its_position() -> None:
    assert refused((0, "no key"), (2, "no timestamp"), text="some are invalid") == {
        0: "no key (record 0 of its batch)",
        2: "no timestamp (record 2 of its batch)",
    }


def test_a_refused_record_without_a_message_of_its_own_gets_that_of_the_partition() -> None:
    assert refused((1, None), text="compacted") == {1: "compacted (record 1 of its batch)"}


def test_a_refused_record_without_any_message_gets_what_the_code_means() -> None:
    assert refused((1, None))[1].endswith(" (record 1 of its batch)")
    assert len(refused((1, None))[1]) > len(" (record 1 of its batch)")


@pytest.mark.parametrize("index", [-1, 3, 2**31 - 1])
def test_a_record_that_is_not_in_the_batch_is_not_refused(index: int) -> None:
    assert refused((index, "no key")) == {}


def test_the_words_of_a_broker_are_kept_within_bounds() -> None:
    (message,) = refused((0, "x" * 100_000)).values()
    assert len(message) < 10_000


@pytest.mark.parametrize("is_unknown", [False, True])
def test_a_refused_record_may_be_stored_by_an_attempt_before(is_unknown: bool) -> None:
    # What a broker refuses now, such as a timestamp, it may have taken then.
    answer = refusal((0, "no key"))
    batch = batch_of()
    batch.possibly_persisted = is_unknown
    error = broker_error(answer.error_code, possibly_persisted=is_unknown)
    (own,) = refused_records(error, batch, answer).values()
    assert isinstance(own, InvalidRecordError)
    assert own.possibly_persisted is is_unknown


def test_records_that_fail_with_refused_ones_name_these() -> None:
    error = InvalidRecordError("no key")
    own = refused_together(error, batch_of(20), [3, 7])
    assert own.message is not None
    assert own.message.startswith("The record was refused together with record 3, 7 of its batch:")
    assert "no key" in own.message


def test_of_many_refused_records_only_some_are_named() -> None:
    own = refused_together(InvalidRecordError("no key"), batch_of(20), range(19))
    assert own.message is not None
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 of" in own.message
