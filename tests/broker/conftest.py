"""Fixtures of the tests against a real Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from aioproducer import Producer
from tests.broker.helpers import producer_for
from tests.support.kafka import create_topic
from tools.kafka import Kafka


@pytest.fixture(params=["newest", "3.9"])
def broker(request: pytest.FixtureRequest, kafka: Kafka, kafka39: Kafka) -> Kafka:
    """Each of the two releases in turn."""
    return kafka if request.param == "newest" else kafka39


@pytest.fixture
def topic(kafka: Kafka) -> str:
    """A new topic of three partitions on the newest release."""
    return create_topic(kafka)


@pytest_asyncio.fixture
async def producer(kafka: Kafka) -> AsyncIterator[Producer[Any, Any]]:
    """An open producer with the defaults, for the newest release."""
    async with producer_for(kafka) as producer:
        yield producer
