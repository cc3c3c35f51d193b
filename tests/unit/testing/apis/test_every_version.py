from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioproducer.testing.apis import APIS, supported_apis
from aioproducer.testing.apis.base import Later
from aioproducer.testing.faults import Fail
from aioproducer.testing.wire import Reader, WireError
from tests.support.fake_broker import answered, read, request_class, state_of
from tests.support.kio_messages import values_of

VERSIONS = [
    (api.name, version)
    for api in APIS.values()
    for version in range(api.min_version, api.max_version + 1)
]


@pytest.mark.parametrize(("name", "version"), VERSIONS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_request_of_any_content_is_read_to_its_end(
    name: str, version: int, data: st.DataObject
) -> None:
    message = data.draw(values_of(request_class(name, version)))
    read(message)


@pytest.mark.parametrize(("name", "version"), VERSIONS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_kio_reads_the_response_to_any_request(
    name: str, version: int, data: st.DataObject
) -> None:
    more: dict[str, Any] = {"acks": -1} if name == "produce" else {}
    message = data.draw(values_of(request_class(name, version), **more))
    failures = data.draw(st.sampled_from([(), (Fail(7),)]))
    answer = answered(state_of(throttle_ms=5), message, failures=failures)
    if isinstance(answer, Later):
        answer = answered(state_of(throttle_ms=5), message, waited=True)
    if hasattr(answer, "throttle_time"):
        assert answer.throttle_time.total_seconds() == 0.005


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.name)
@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_request_are_a_wire_error(api: Any, data: bytes) -> None:
    reader = Reader(memoryview(data), flexible=api.flexible(api.max_version))
    try:
        api.read(reader, api.max_version)
        reader.end()
    except WireError:
        pass


def test_all_apis_are_offered_in_all_their_versions() -> None:
    offered = {api.name: (api.min_version, api.max_version) for api in supported_apis({})}
    assert offered["produce"] == (3, 13)
    assert offered["metadata"] == (0, 13)
    assert offered["api_versions"] == (0, 4)
    assert offered["init_producer_id"] == (0, 5)


def test_produce_is_advertised_from_version_0_as_brokers_of_4_do() -> None:
    (produce,) = (api for api in supported_apis({}) if api.name == "produce")
    assert produce.advertised_min == 0


def test_an_older_broker_offers_less() -> None:
    offered = {api.name: api for api in supported_apis({"produce": 7, "fetch": -1})}
    assert offered["produce"].max_version == 7
    assert "fetch" not in offered


def test_an_api_that_does_not_exist_cannot_be_limited() -> None:
    with pytest.raises(ValueError, match="no API is called"):
        supported_apis({"producer": 7})  # type: ignore[dict-item]  # pyright: ignore
