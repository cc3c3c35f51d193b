"""What a Produce response with an error leads to, from Kafka's own table and not from broker.py.

One row per code: what a producer without transactions does (R: tries again, F: fails the batch,
S: splits it, D: takes it for stored, E: starts a new epoch when no earlier batch is on its way,
I: gets another producer id), whether it asks for metadata (M), and whether the record may be stored
all the same (P).
"""

from __future__ import annotations

import pytest

from aioproducer.errors import KafkaError, broker_error, error_for_code
from aioproducer.sending.retry import Step, next_step

TABLE = """
 -1 UNKNOWN_SERVER_ERROR                   F   P
  2 CORRUPT_MESSAGE                        R
  3 UNKNOWN_TOPIC_OR_PARTITION             R M
  5 LEADER_NOT_AVAILABLE                   R M
  6 NOT_LEADER_OR_FOLLOWER                 R M P
  7 REQUEST_TIMED_OUT                      R   P
  9 REPLICA_NOT_AVAILABLE                  R M
 10 MESSAGE_TOO_LARGE                      S
 13 NETWORK_EXCEPTION                      R M P
 17 INVALID_TOPIC_EXCEPTION                F
 18 RECORD_LIST_TOO_LARGE                  F
 19 NOT_ENOUGH_REPLICAS                    R
 20 NOT_ENOUGH_REPLICAS_AFTER_APPEND       R   P
 21 INVALID_REQUIRED_ACKS                  F
 29 TOPIC_AUTHORIZATION_FAILED             F
 31 CLUSTER_AUTHORIZATION_FAILED           F
 32 INVALID_TIMESTAMP                      F
 35 UNSUPPORTED_VERSION                    F
 42 INVALID_REQUEST                        F
 43 UNSUPPORTED_FOR_MESSAGE_FORMAT         F
 44 POLICY_VIOLATION                       F
 45 OUT_OF_ORDER_SEQUENCE_NUMBER           E
 46 DUPLICATE_SEQUENCE_NUMBER              D
 47 INVALID_PRODUCER_EPOCH                 I
 48 INVALID_TXN_STATE                      F
 49 INVALID_PRODUCER_ID_MAPPING            I
 53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED  F
 56 KAFKA_STORAGE_ERROR                    R M P
 59 UNKNOWN_PRODUCER_ID                    E
 72 LISTENER_NOT_FOUND                     R M
 74 FENCED_LEADER_EPOCH                    R M
 75 UNKNOWN_LEADER_EPOCH                   R
 76 UNSUPPORTED_COMPRESSION_TYPE           F
 87 INVALID_RECORD                         F
 89 THROTTLING_QUOTA_EXCEEDED              R
 90 PRODUCER_FENCED                        F
100 UNKNOWN_TOPIC_ID                       R M
103 INCONSISTENT_TOPIC_ID                  R M
120 TRANSACTION_ABORTABLE                  F
"""
ROWS = [(int(row[0]), row[1], "".join(row[2:])) for row in map(str.split, TABLE.splitlines()[1:])]
STEPS = {
    "R": Step.RETRY,
    "F": Step.FAIL,
    "S": Step.SPLIT,
    "D": Step.COMPLETE,
    "E": Step.RESTART,
    "I": Step.NEW_ID,
}

each_row = pytest.mark.parametrize(("code", "name", "flags"), ROWS, ids=[row[1] for row in ROWS])


def step_after(error: KafkaError, *, is_next: bool = True) -> Step:
    return next_step(
        error,
        is_next_in_sequence=is_next,
        is_outcome_unknown=False,
        is_behind_acknowledged=False,
        record_count=3,
        names_records=False,
        refusals_at_zero=0,
        may_retry=True,
    )


@each_row
def test_the_class_has_kafkas_name(code: int, name: str, flags: str) -> None:
    assert error_for_code(code).name == name


@each_row
def test_the_step_is_that_of_the_table(code: int, name: str, flags: str) -> None:
    assert step_after(broker_error(code)) is STEPS[flags[0]]


@each_row
def test_behind_an_earlier_batch_an_out_of_order_sequence_is_retried(
    code: int, name: str, flags: str
) -> None:
    expected = Step.RETRY if flags[0] == "E" else STEPS[flags[0]]
    assert step_after(broker_error(code), is_next=False) is expected


@each_row
def test_metadata_is_asked_for_where_it_is_stale(code: int, name: str, flags: str) -> None:
    assert broker_error(code).refreshes_metadata == ("M" in flags)


@each_row
def test_the_record_is_possibly_persisted_where_it_may_be_stored(
    code: int, name: str, flags: str
) -> None:
    assert broker_error(code).possibly_persisted == ("P" in flags)
