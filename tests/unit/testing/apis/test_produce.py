from __future__ import annotations

import uuid
from typing import Any

import pytest

from aioproducer.testing.apis.base import CloseConnectionError, Turn
from aioproducer.testing.faults import Fail
from aioproducer.testing.state import ClusterState
from tests.support.fake_broker import NOW_MS, TOPIC, answered, read, state_of
from tests.support.kio_client import batch, produce_request

HERE: tuple[str | uuid.UUID, int] = (TOPIC, 0)
ELSEWHERE: tuple[str | uuid.UUID, int] = (TOPIC, 1)


def produced(state: ClusterState, message: Any, *failures: Fail) -> list[Any]:
    response = answered(state, message, failures=failures)
    return [partition for topic in response.responses for partition in topic.partition_responses]


def stored(state: ClusterState, partition: int = 0) -> list[bytes | None]:
    return [record.value for record in state.topics[TOPIC].partitions[partition].log.records()]


@pytest.mark.parametrize("version", range(3, 13))
def test_each_version_stores_and_returns_the_offset(version: int) -> None:
    state = state_of()
    produced(state, produce_request({HERE: batch(b"a", b"b")}, version=version))
    (answer,) = produced(state, produce_request({HERE: batch(b"c")}, version=version))
    assert (answer.error_code, answer.base_offset, answer.log_append_time) == (0, 2, None)
    assert stored(state) == [b"a", b"b", b"c"]


def test_a_topic_is_found_by_its_id() -> None:
    state = state_of()
    topic_id = uuid.UUID(bytes=state.topics[TOPIC].topic_id)
    message = produce_request({(topic_id, 0): batch(b"a")})
    response = answered(state, message)
    assert response.responses[0].topic_id == topic_id
    assert stored(state) == [b"a"]
    assert read(message).topics(state) == (TOPIC,)


def test_an_unknown_id_and_an_unknown_name_are_different_errors() -> None:
    state = state_of()
    unknown = uuid.UUID(int=7)
    (by_id,) = produced(state, produce_request({(unknown, 0): batch()}))
    (by_name,) = produced(state, produce_request({("nothing", 0): batch()}))
    assert (by_id.error_code, by_name.error_code) == (100, 3)
    assert read(produce_request({(unknown, 0): batch()})).topics(state) == (unknown.hex,)


def test_another_leader_is_hinted_at_from_version_10_on() -> None:
    state = state_of()
    (answer,) = produced(state, produce_request({ELSEWHERE: batch()}, version=10))
    assert answer.error_code == 6
    assert (answer.current_leader.leader_id, answer.current_leader.leader_epoch) == (1, 0)
    response = answered(state, produce_request({ELSEWHERE: batch()}, version=10))
    assert [(node.node_id, node.port) for node in response.node_endpoints] == [(1, 9001)]
    (old,) = produced(state, produce_request({ELSEWHERE: batch()}, version=9))
    assert old.error_code == 6


def test_a_hint_to_nobody_has_no_endpoint() -> None:
    state = state_of()
    state.topics[TOPIC].partitions[1].leader = -1
    response = answered(state, produce_request({ELSEWHERE: batch()}))
    assert response.node_endpoints == ()


def test_each_partition_has_its_own_response() -> None:
    state = state_of(brokers=1)
    answers = produced(
        state, produce_request({HERE: batch(b"a"), ELSEWHERE: b"", (TOPIC, 5): batch()})
    )
    assert [answer.error_code for answer in answers] == [0, 87, 3]


def test_a_failure_stores_nothing() -> None:
    state = state_of()
    failure = Fail(19, message="too few", record_errors={0: "bad", 1: None})
    (answer,) = produced(state, produce_request({HERE: batch()}), failure)
    assert (answer.error_code, answer.base_offset, answer.error_message) == (19, -1, "too few")
    assert [
        (error.batch_index, error.batch_index_error_message) for error in answer.record_errors
    ] == [(0, "bad"), (1, None)]
    assert stored(state) == []


def test_a_failure_may_store_first() -> None:
    state = state_of()
    (answer,) = produced(state, produce_request({HERE: batch(b"a")}), Fail(7, stored=True))
    assert (answer.error_code, answer.base_offset) == (7, -1)
    assert stored(state) == [b"a"]


def test_a_failure_meant_for_one_partition_spares_the_others() -> None:
    state = state_of(brokers=1)
    answers = produced(
        state,
        produce_request({HERE: batch(b"a"), ELSEWHERE: batch(b"b")}),
        Fail(19, topic=TOPIC, partition=1),
    )
    assert [answer.error_code for answer in answers] == [0, 19]


def test_a_hint_may_be_false() -> None:
    state = state_of()
    (answer,) = produced(state, produce_request({HERE: batch()}), Fail(6, current_leader=(1, 99)))
    assert (answer.current_leader.leader_id, answer.current_leader.leader_epoch) == (1, 99)


def test_what_the_log_says_about_records_is_passed_on() -> None:
    state = state_of()
    late = batch(b"a", timestamp_ms=NOW_MS + 10_000_000)
    (answer,) = produced(state, produce_request({HERE: late}))
    assert answer.error_code == 32
    assert "invalid timestamp" in answer.error_message
    assert [error.batch_index for error in answer.record_errors] == [0]


def test_impossible_acks_are_refused() -> None:
    (answer,) = produced(state_of(), produce_request({HERE: batch()}, acks=2))
    assert answer.error_code == 21


def test_acks_0_has_no_response_and_an_error_closes_the_connection() -> None:
    state = state_of()
    assert answered(state, produce_request({HERE: batch(b"a")}, acks=0)) is None
    assert stored(state) == [b"a"]
    with pytest.raises(CloseConnectionError):
        read(produce_request({("nothing", 0): batch()}, acks=0)).respond(Turn(state, 0, 12))


def test_a_sequence_used_for_other_records_is_a_violation() -> None:
    state = state_of()
    produced(state, produce_request({HERE: batch(b"a", producer=(1000, 0, 0))}))
    (answer,) = produced(state, produce_request({HERE: batch(b"b", producer=(1000, 0, 0))}))
    assert (answer.error_code, answer.base_offset) == (0, 0)
    assert "used again for other records" in state.violations[0]


def test_batches_are_described() -> None:
    message = produce_request({HERE: batch(b"a", b"b", producer=(5, 1, 9)), ELSEWHERE: None})
    first, second = read(message).batches(state_of())
    assert (first.record_count, first.producer_id, first.producer_epoch) == (2, 5, 1)
    assert first.base_sequence == 9
    assert (second.size, second.record_count) == (0, -1)
