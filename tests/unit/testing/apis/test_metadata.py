from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from aioproducer.testing.faults import Fail
from tests.support.fake_broker import TOPIC, answered, read, request_class, state_of
from tests.support.kio_messages import kio_class


def asked(
    version: int, topics: Sequence[str | uuid.UUID] | None, *, may_create: bool = True
) -> Any:
    whole = request_class("metadata", version)
    one = kio_class("metadata", version, "MetadataRequestTopic", whole)
    fields: dict[str, Any] = {}
    if version >= 4:
        fields["allow_auto_topic_creation"] = may_create
    if version >= 8:
        fields["include_topic_authorized_operations"] = False
    if 8 <= version <= 10:
        fields["include_cluster_authorized_operations"] = False
    entries: list[Any] = []
    for topic in topics or ():
        if isinstance(topic, uuid.UUID):
            entries.append(one(topic_id=topic, name=None))
        elif version >= 10:
            entries.append(one(topic_id=None, name=topic))
        else:
            entries.append(one(name=topic))
    return whole(topics=None if topics is None else tuple(entries), **fields)


@pytest.mark.parametrize("version", range(14))
def test_each_version_names_brokers_topics_and_leaders(version: int) -> None:
    response = answered(state_of(), asked(version, [TOPIC]))
    assert [(node.node_id, node.port) for node in response.brokers] == [(0, 9000), (1, 9001)]
    (topic,) = response.topics
    assert (topic.name, topic.error_code) == (TOPIC, 0)
    assert [(one.partition_index, one.leader_id) for one in topic.partitions] == [(0, 0), (1, 1)]


def test_null_stands_for_all_topics_and_an_empty_list_for_none() -> None:
    state = state_of(topics={"a": 1, "b": 1})
    assert len(answered(state, asked(12, None)).topics) == 2
    assert answered(state, asked(12, [])).topics == ()
    assert read(asked(12, None)).topics(state) is None


def test_in_version_0_an_empty_list_stands_for_all() -> None:
    assert len(answered(state_of(topics={"a": 1, "b": 1}), asked(0, [])).topics) == 2


def test_a_topic_is_made_if_that_is_allowed_and_known_the_next_time() -> None:
    state = state_of(auto_create_topics=True)
    (first,) = answered(state, asked(12, ["new"])).topics
    (second,) = answered(state, asked(12, ["new"])).topics
    assert (first.error_code, second.error_code) == (3, 0)


@pytest.mark.parametrize(("cluster_allows", "client_allows"), [(True, False), (False, True)])
def test_a_topic_is_not_made_unless_both_sides_allow_it(
    cluster_allows: bool, client_allows: bool
) -> None:
    state = state_of(auto_create_topics=cluster_allows)
    (topic,) = answered(state, asked(12, ["new"], may_create=client_allows)).topics
    assert topic.error_code == 3
    assert "new" not in state.topics


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "x" * 250])
def test_an_illegal_name_is_an_error_of_its_own(name: str) -> None:
    (topic,) = answered(state_of(auto_create_topics=True), asked(12, [name])).topics
    assert topic.error_code == 17


def test_a_topic_is_found_by_its_id() -> None:
    state = state_of()
    topic_id = uuid.UUID(bytes=state.topics[TOPIC].topic_id)
    known, unknown = answered(state, asked(12, [topic_id, uuid.UUID(int=9)])).topics
    assert (known.name, known.error_code) == (TOPIC, 0)
    assert unknown.error_code == 100
    names = read(asked(12, [topic_id, uuid.UUID(int=9)])).topics(state)
    assert names == (TOPIC, uuid.UUID(int=9).hex)


def test_a_partition_without_living_leader_says_so() -> None:
    state = state_of()
    state.alive.discard(1)
    (topic,) = answered(state, asked(12, [TOPIC])).topics
    first, second = topic.partitions
    assert (first.error_code, first.isr_nodes, first.offline_replicas) == (0, (0,), (1,))
    assert (second.error_code, second.leader_id) == (5, -1)


def test_an_error_may_be_that_of_a_topic() -> None:
    state = state_of(topics={"a": 1, "b": 1})
    topics = answered(state, asked(12, ["a", "b", "c"]), failures=[Fail(29, topic="a")]).topics
    assert [topic.error_code for topic in topics] == [29, 0, 3]
    topics = answered(state, asked(12, ["a", "c"]), failures=[Fail(29)]).topics
    assert [topic.error_code for topic in topics] == [29, 29]


def test_an_error_may_be_that_of_a_partition() -> None:
    (topic,) = answered(
        state_of(), asked(12, [TOPIC]), failures=[Fail(72, topic=TOPIC, partition=1)]
    ).topics
    assert [one.error_code for one in topic.partitions] == [0, 72]


def test_the_call_for_a_new_bootstrap_is_one_of_the_whole_response() -> None:
    response = answered(state_of(), asked(13, [TOPIC]), failures=[Fail(129)])
    assert (response.error_code, response.topics) == (129, ())
