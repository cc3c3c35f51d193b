from __future__ import annotations

import pytest

from aioproducer.errors import UnsupportedVersionError
from aioproducer.protocol.api_versions import API_VERSIONS, ApiVersion, ApiVersionsResponse
from aioproducer.protocol.init_producer_id import INIT_PRODUCER_ID
from aioproducer.protocol.metadata import METADATA
from aioproducer.protocol.produce import PRODUCE
from aioproducer.protocol.versions import (
    SomeApi,
    broker_ranges,
    choose_version,
    produce_version_cap,
)

# What brokers of these releases offer.
KAFKA_2_1 = {0: (0, 7), 3: (0, 7), 18: (0, 2), 22: (0, 1)}
KAFKA_3_9 = {0: (0, 11), 3: (0, 12), 18: (0, 4), 22: (0, 5)}
KAFKA_4_3 = {0: (0, 13), 3: (0, 13), 18: (0, 4), 22: (0, 6)}


@pytest.mark.parametrize(
    ("ranges", "versions"),
    [(KAFKA_2_1, (7, 7, 2, 1)), (KAFKA_3_9, (11, 12, 4, 5)), (KAFKA_4_3, (13, 13, 4, 5))],
    ids=["2.1", "3.9", "4.3"],
)
def test_the_newest_version_that_both_speak_is_chosen(
    ranges: dict[int, tuple[int, int]], versions: tuple[int, ...]
) -> None:
    apis: tuple[SomeApi, ...] = (PRODUCE, METADATA, API_VERSIONS, INIT_PRODUCER_ID)
    assert tuple(choose_version(api, ranges) for api in apis) == versions


def test_a_broker_that_is_too_old_is_reported_with_both_ranges() -> None:
    with pytest.raises(UnsupportedVersionError, match=r"Produce.* 7 to 13.* 0 to 6"):
        choose_version(PRODUCE, {0: (0, 6)})


def test_a_broker_that_is_too_new_is_reported_with_both_ranges() -> None:
    with pytest.raises(UnsupportedVersionError, match=r"Produce.* 7 to 13.* 14 to 20"):
        choose_version(PRODUCE, {0: (14, 20)})


def test_an_api_that_the_broker_lacks_is_named() -> None:
    with pytest.raises(UnsupportedVersionError, match="does not offer InitProducerId"):
        choose_version(INIT_PRODUCER_ID, {0: (0, 13)})


def test_a_cap_lowers_the_version_but_not_below_what_both_speak() -> None:
    assert choose_version(PRODUCE, KAFKA_4_3, at_most=11) == 11
    assert choose_version(PRODUCE, KAFKA_2_1, at_most=11) == 7
    with pytest.raises(UnsupportedVersionError, match="7 to 11"):
        choose_version(PRODUCE, {0: (12, 13)}, at_most=11)


def test_a_produce_request_is_not_capped_by_default() -> None:
    assert produce_version_cap() == 13


def test_a_transaction_without_transaction_version_2_caps_produce_at_11() -> None:
    assert produce_version_cap(transactional=True) == 11
    assert produce_version_cap(transactional=True, transactions_v2=True) == 13
    assert produce_version_cap(transactional=False, transactions_v2=False) == 13


def test_a_topic_without_known_id_caps_produce_at_12() -> None:
    assert produce_version_cap(topic_ids=False) == 12
    assert produce_version_cap(topic_ids=False, transactional=True) == 11


def test_the_ranges_of_a_broker_come_from_its_api_versions_response() -> None:
    response = ApiVersionsResponse(0, (ApiVersion(0, 3, 13), ApiVersion(18, 0, 4)))
    assert broker_ranges(response) == {0: (3, 13), 18: (0, 4)}
