"""What a real Kafka makes of transactions is what was recorded; FakeCluster is tested by that."""

from __future__ import annotations

import pytest

from tests.support.kafka import create_topic
from tests.support.transaction_cases import (
    CASES,
    SLOW_CASES,
    V1_CASES,
    Case,
    outcomes_of_kafka,
    outcomes_of_the_fake,
    recorded,
)
from tools.kafka import Kafka


@pytest.mark.timeout(60)  # a real coordinator looks for timed out transactions every ten seconds
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_transaction_goes_as_it_was_recorded(case: Case, kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=2)
    assert await outcomes_of_kafka(kafka.bootstrap_servers, topic, case) == recorded(case)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", V1_CASES.values(), ids=V1_CASES)
async def test_without_transactions_v2_it_goes_as_at_an_older_kafka(
    case: Case, kafka39: Kafka
) -> None:
    topic = create_topic(kafka39, partitions=2)
    real = await outcomes_of_kafka(kafka39.bootstrap_servers, topic, case)
    assert await outcomes_of_the_fake(case, features={}) == real


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", SLOW_CASES.values(), ids=SLOW_CASES)
async def test_epochs_are_used_up_as_it_was_recorded(case: Case, kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=2)
    assert await outcomes_of_kafka(kafka.bootstrap_servers, topic, case) == recorded(case)
