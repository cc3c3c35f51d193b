"""The pytest plugin, in runs of pytest of their own, with each plugin for coroutine tests."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Final

import pytest

pytest_plugins = ["pytester"]

# Each starts a Python and a pytest, of which a busy machine runs few at a time.
pytestmark = pytest.mark.timeout(60)

SEND: Final = """
import asyncio
import pytest
from aioproducer import Producer
from aioproducer.testing import FakeClusterInThread, MockProducer

async def send(kafka, value=b"1"):
    async with Producer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        return await producer.send_and_wait("orders", value, key=b"k")
"""

COROUTINES: Final = (
    SEND
    + """
{mark}
@pytest.mark.fake_kafka(topics={{"orders": 3}})
async def test_cluster(fake_kafka):
    assert isinstance(fake_kafka, FakeClusterInThread)
    assert (await send(fake_kafka)).offset == 0
    assert [record.value for record in fake_kafka.records("orders")] == [b"1"]

{mark}
async def test_cluster_of_its_own(fake_kafka):
    assert fake_kafka.records("orders") == []
    fake_kafka.fail_next("produce", "NOT_ENOUGH_REPLICAS")
    assert (await send(fake_kafka)).offset == 0

{mark}
@pytest.mark.mock_producer(partitions={{"orders": 3}}, value_serializer="json")
async def test_mock(mock_producer):
    assert isinstance(mock_producer, MockProducer)
    metadata = await mock_producer.send_and_wait("orders", {{"a": 1}}, partition=2)
    assert (metadata.partition, metadata.offset) == (2, 0)
    assert mock_producer.sent_to("orders")[0].given_value == {{"a": 1}}
"""
)

ROUTES: Final = (
    SEND
    + """
from typing import Annotated
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

app = FastAPI()

def get_producer() -> Producer:
    raise NotImplementedError

@app.post("/orders")
async def create(kafka: Annotated[Producer, Depends(get_producer)]) -> int:
    return (await kafka.send_and_wait("orders", b"1")).offset

def test_route(mock_producer):
    app.dependency_overrides[get_producer] = lambda: mock_producer
    client = TestClient(app)  # each request has a loop of its own
    assert [client.post("/orders").json() for _ in range(2)] == [0, 1]
    with TestClient(app) as client:
        assert client.post("/orders").json() == 2
    assert len(mock_producer.sent_to("orders")) == 3

def test_route_and_cluster(fake_kafka):
    async def started():
        async with Producer(bootstrap_servers=fake_kafka.bootstrap_servers) as producer:
            yield producer
    app.dependency_overrides[get_producer] = started
    with TestClient(app) as client:
        assert client.post("/orders").json() == 0
        fake_kafka.clear()
        assert client.post("/orders").json() == 0
    assert len(fake_kafka.records("orders")) == 1
"""
)

STRICT: Final = (
    *("--strict-markers", "--strict-config", "-W", "error"),
    # pytest-asyncio warns where it is not configured.
    *("-W", "ignore:The configuration option:pytest.PytestDeprecationWarning"),
)


def passes(pytester: pytest.Pytester, count: int, *args: str) -> None:
    """See that a run passes so many tests, and that no warning is raised."""
    result = pytester.runpytest_subprocess(*STRICT, *args, timeout=60)
    result.assert_outcomes(passed=count)


def test_the_fixtures_work_with_pytest_asyncio_in_auto_mode(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(COROUTINES.format(mark=""))
    passes(pytester, 3, "-p", "no:anyio", "-o", "asyncio_mode=auto")


def test_the_fixtures_work_with_pytest_asyncio_in_strict_mode(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(COROUTINES.format(mark="@pytest.mark.asyncio"))
    passes(pytester, 3, "-o", "asyncio_mode=strict")


def test_the_fixtures_work_with_anyios_plugin(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n")
    pytester.makepyfile(COROUTINES.format(mark="@pytest.mark.anyio"))
    passes(pytester, 3, "-p", "no:asyncio")


def test_the_fixtures_work_in_synchronous_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        SEND
        + """
pytestmark = pytest.mark.fake_kafka(topics={"orders": 3, "more": 2}, brokers=2)

@pytest.mark.fake_kafka(brokers=3)
def test_cluster(fake_kafka):
    assert asyncio.run(send(fake_kafka)).offset == 0
    assert len(fake_kafka.ports) == 3  # of the mark that is closest
    assert fake_kafka.leader("more", 1) == 1

def test_mock(mock_producer):
    async def main():
        mock_producer.send_nowait("orders", b"1")
    asyncio.run(main())
    assert [record.value for record in mock_producer.sent] == [b"1"]

class Test:
    def test_other_options(self, fake_kafka):
        assert len(fake_kafka.ports) == 2
"""
    )
    passes(pytester, 3, "-p", "no:asyncio", "-p", "no:anyio")


def test_the_fixtures_work_with_a_testclient_on_loops_of_its_own(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(ROUTES)
    passes(pytester, 2)


def test_a_test_of_a_route_takes_milliseconds(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(ROUTES)
    result = pytester.runpytest_subprocess("--durations=0", "-vv", timeout=60)
    took = re.findall(r"([\d.]+)s (?:setup|call|teardown) ", result.stdout.str())
    # A bound that a busy machine keeps: the measured figures are in docs/testing.md.
    assert len(took) == 6
    assert sum(float(one) for one in took) < 5


def test_a_cluster_ends_with_a_test_that_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import threading

def test_fails(fake_kafka):
    fake_kafka.freeze()
    assert False

def test_nothing_is_left():
    assert [one.name for one in threading.enumerate()] == ["MainThread"]
"""
    )
    result = pytester.runpytest_subprocess(*STRICT, timeout=60)
    result.assert_outcomes(failed=1, passed=1)


def test_a_run_ends_although_a_test_hangs_with_a_cluster(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import pytest, threading

@pytest.mark.timeout(0.5, method="thread")
def test_hangs(fake_kafka):
    threading.Event().wait(60)
"""
    )
    result = pytester.runpytest_subprocess(timeout=30)
    result.stdout.fnmatch_lines(["*Timeout*"])


def test_a_marker_takes_keywords_only(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import pytest

@pytest.mark.fake_kafka({"orders": 3})
def test_it(fake_kafka): ...

@pytest.mark.fake_kafka(topic={"orders": 3})
def test_unknown(fake_kafka): ...
"""
    )
    result = pytester.runpytest_subprocess(timeout=60)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*keywords only*", "*no option 'topic'*"])


def test_the_markers_are_listed(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--markers", timeout=60)
    result.stdout.fnmatch_lines(["@pytest.mark.fake_kafka*", "@pytest.mark.mock_producer*"])


def test_a_run_that_asks_for_no_fixture_imports_none_of_the_doubles(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
import sys

def test_it():
    ours = {name for name in sys.modules if name.startswith("aioproducer.")}
    assert "aioproducer.testing.pytest_plugin" in ours
    assert {one for one in ours if one.startswith("aioproducer.testing.")} == {
        "aioproducer.testing.pytest_plugin"
    }
    assert "aioproducer.sending.sender" not in ours
    assert not [one for one in ours if one.startswith("aioproducer.network")]
"""
    )
    passes(pytester, 1)


def test_the_plugin_can_be_left_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(fake_kafka): ...")
    result = pytester.runpytest_subprocess("-p", "no:aioproducer", timeout=60)
    result.assert_outcomes(errors=1)


def test_the_import_of_the_plugin_needs_nothing_but_pytest() -> None:
    program = """if True:
        import sys
        import pytest, aioproducer
        before = set(sys.modules)
        import aioproducer.testing.pytest_plugin
        print(*sorted(set(sys.modules) - before))
        """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["aioproducer.testing", "aioproducer.testing.pytest_plugin"]
