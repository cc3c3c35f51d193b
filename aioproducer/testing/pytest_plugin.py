"""The pytest plugin: fixtures `fake_kafka` and `mock_producer`, and markers to configure them.

pytest imports this module in every run of an environment that has aioproducer installed. So it
imports nothing but pytest, and the doubles when a test asks for them.

The fixtures are synchronous: they do the same under pytest-asyncio, under anyio's plugin, and in
tests without a loop, whatever loop the code under test runs on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aioproducer.testing import FakeClusterInThread, MockProducer

__all__ = ["fake_kafka", "mock_producer", "pytest_configure"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, also to `--strict-markers`."""
    config.addinivalue_line(
        "markers",
        "fake_kafka(**options): the options of FakeCluster for the fixture fake_kafka, such as"
        " topics={'orders': 3}",
    )
    config.addinivalue_line(
        "markers",
        "mock_producer(**options): the options of MockProducer for the fixture mock_producer, such"
        " as partitions={'orders': 3} or value_serializer='json'",
    )


@pytest.fixture
def fake_kafka(request: pytest.FixtureRequest) -> Iterator[FakeClusterInThread]:
    """A fake Kafka cluster for this test, in a thread of its own; give `bootstrap_servers` on.

    Example:
        @pytest.mark.fake_kafka(topics={"orders": 3})
        def test_order(fake_kafka): ...
    """
    from aioproducer.testing.in_thread import FakeClusterInThread

    with FakeClusterInThread(**_options(request, "fake_kafka")) as cluster:
        yield cluster


@pytest.fixture
def mock_producer(request: pytest.FixtureRequest) -> MockProducer[Any, Any]:
    """A `MockProducer` that starts with its first call, in whatever loop makes it.

    Example:
        @pytest.mark.mock_producer(partitions={"orders": 3})
        def test_order(mock_producer): ...
    """
    from aioproducer.testing.mock import MockProducer

    options: dict[str, Any] = {"auto_start": True, **_options(request, "mock_producer")}
    return MockProducer(**options)


def _options(request: pytest.FixtureRequest, name: str) -> dict[str, Any]:
    """The keywords of the markers of this name; of one that is closer to the test first."""
    options: dict[str, Any] = {}
    for marker in request.node.iter_markers(name):
        if marker.args:
            raise pytest.UsageError(f"@pytest.mark.{name} takes keywords only")
        options = {**marker.kwargs, **options}
    return options
