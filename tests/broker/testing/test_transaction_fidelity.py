"""What a real Kafka makes of transactions is what was recorded; FakeCluster is tested by that."""

from __future__ import annotations

import pytest

from tests.support.kafka import create_topic
from tests.support.transaction_cases import (
    CASES,
    SLOW_CASES,
    Case,
    outcomes_of_kafka,
    recorded,
)
from tools.kafka import Kafka


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_transaction_goes_as_it_was_recorded(case: Case, kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=2)
    assert await outcomes_of_kafka(kafka.bootstrap_servers, topic, case) == recorded(case)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", SLOW_CASES.values(), ids=SLOW_CASES)
async def test_epochs_are_used_up_as_it_was_recorded(case: Case, kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=2)
    assert await outcomes_of_kafka(kafka.bootstrap_servers, topic, case) == recorded(case)
