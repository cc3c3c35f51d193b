"""Some seconds of what `make soak` does for minutes."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from tests.soak.traffic import traffic
from tools.kafka import Kafka

pytestmark = pytest.mark.slow


@pytest.mark.timeout(60)
def test_some_seconds_of_traffic_lose_nothing_and_leave_nothing(kafka: Kafka) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(traffic(kafka, 8, every=1))
