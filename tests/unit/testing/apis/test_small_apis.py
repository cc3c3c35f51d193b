from __future__ import annotations

from typing import Any

import pytest

from aioproducer.testing.apis.api_versions import UnsupportedVersion
from aioproducer.testing.apis.base import Turn
from aioproducer.testing.faults import Fail
from aioproducer.testing.wire import Writer
from tests.support.fake_broker import TOPIC, answered, request_class, state_of
from tests.support.kio_client import batch, decode, init_producer_id_request
from tests.support.kio_messages import kio_class


def api_versions(version: int) -> Any:
    fields = {"client_software_name": "a", "client_software_version": "b"} if version >= 3 else {}
    return request_class("api_versions", version)(**fields)


@pytest.mark.parametrize("version", range(5))
def test_each_version_of_api_versions_lists_the_others(version: int) -> None:
    response = answered(state_of(), api_versions(version))
    offered = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
    assert (offered[0], offered[3], offered[18], offered[22]) == ((0, 13), (0, 13), (0, 4), (0, 5))


@pytest.mark.parametrize("version", [3, 4])
def test_finalized_features_are_listed(version: int) -> None:
    response = answered(state_of(), api_versions(version))
    (finalized,) = response.finalized_features
    (supported,) = response.supported_features
    assert (finalized.name, finalized.max_version_level) == ("transaction.version", 2)
    assert (supported.name, supported.max_version) == ("transaction.version", 2)
    assert response.finalized_features_epoch == 1


def test_without_features_there_are_no_tags() -> None:
    state = state_of()
    state.features = {}
    assert answered(state, api_versions(4)).finalized_features == ()


def test_api_versions_may_fail() -> None:
    assert answered(state_of(), api_versions(4), failures=[Fail(58)]).error_code == 58


def test_an_unknown_version_is_answered_in_version_0() -> None:
    state = state_of()
    (row,) = (api for api in state.supported if api.name == "api_versions")
    call = UnsupportedVersion(row)
    writer = Writer()
    call.respond(Turn(state, 0, 9)).encode(writer, call.response_version(9))
    response, rest = decode(kio_class("api_versions", 0, "ApiVersionsResponse"), bytes(writer.data))
    assert rest == b""
    assert response.error_code == 35
    assert [(key.api_key, key.max_version) for key in response.api_keys] == [(18, 4)]


@pytest.mark.parametrize("version", range(6))
def test_each_producer_gets_another_id_and_the_epoch_0(version: int) -> None:
    state = state_of()
    first, second = (answered(state, init_producer_id_request(version)) for _ in range(2))
    assert (first.error_code, first.producer_epoch) == (0, 0)
    assert second.producer_id == first.producer_id + 1
    assert state.gave_out(second.producer_id)
    assert not state.gave_out(second.producer_id + 1)


def test_init_producer_id_may_fail() -> None:
    response = answered(state_of(), init_producer_id_request(), failures=[Fail(31)])
    assert (response.error_code, response.producer_id) == (31, -1)


@pytest.mark.parametrize("version", range(7))
def test_each_version_of_find_coordinator_names_a_broker_that_is_up(version: int) -> None:
    state = state_of()
    state.alive.discard(0)
    fields: dict[str, Any] = {"coordinator_keys": ("g",)} if version >= 4 else {"key": "g"}
    message = request_class("find_coordinator", version)(**fields)
    response = answered(state, message)
    found = response.coordinators[0] if version >= 4 else response
    assert (found.error_code, found.node_id, found.port) == (0, 1, 9001)
    state.alive.clear()
    response = answered(state, message)
    found = response.coordinators[0] if version >= 4 else response
    assert (found.error_code, found.node_id) == (15, -1)


@pytest.mark.parametrize("version", range(1, 8))
def test_each_version_of_list_offsets_gives_where_a_partition_begins_and_ends(version: int) -> None:
    state = state_of()
    log = state.topics[TOPIC].partitions[0].log
    for timestamp_ms in (1000, 3000, 2000):
        data = memoryview(batch(timestamp_ms=timestamp_ms))
        log.append(data, version=13, leader_epoch=0, now_ms=4000)
    log.trim(1)
    whole = request_class("list_offsets", version)
    of_topic = kio_class("list_offsets", version, "ListOffsetsTopic", whole)
    of_partition = kio_class("list_offsets", version, "ListOffsetsPartition", whole)

    def place(asked: int, partition: int = 0) -> tuple[int, int]:
        part = of_partition(partition_index=partition, timestamp=asked)
        fields: dict[str, Any] = {"isolation_level": 0} if version >= 2 else {}
        message = whole(replica_id=-1, topics=(of_topic(name=TOPIC, partitions=(part,)),), **fields)
        ((found,),) = (topic.partitions for topic in answered(state, message).topics)
        return found.error_code, found.offset

    assert place(-2) == (0, 1)
    assert place(-1) == (0, 3)
    assert place(-3) == (0, 1)
    assert place(2500) == (0, 1)
    assert place(9999) == (0, -1)
    assert place(-1, partition=1) == (6, -1)
    assert place(-1, partition=5) == (3, -1)
