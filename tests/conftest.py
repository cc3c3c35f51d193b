"""Fixtures of every test: real Kafkas, both event loops, and nothing left behind.

The Kafkas start when the first test asks and stop with the session. Without one, their
tests are skipped and say why; under CI that is a failure, since a skip there hides everything.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
import uvloop
from blockbuster import blockbuster_ctx

from tests.exactly_once.runner import three_brokers
from tests.support.secure_kafka import CANARY, SecureKafka
from tests.support.virtual_time import VirtualTimeLoop
from tools.kafka import (
    DEFAULT_VERSION,
    Kafka,
    KafkaUnavailableError,
    LocalKafka,
    NodeControl,
    find_kafka,
    start_kafka,
    stop_leftovers,
)
from tools.kafka_zookeeper import ZooKeeperKafka

BROKER_FIXTURES = {
    "kafka",
    "kafka39",
    "kafka21",
    "kafka1",
    "kafka3",
    "wired_kafka3",
    "secure_kafka",
    "secure_kafka39",
}
LEAK_GRACE = 2.0
MISSING_KAFKA = pytest.StashKey[str]()

# The controller takes a silent broker for dead after 9 s by default, and a killed one cannot come
# back before: most of a test's time.
_QUICK_TO_RETURN = {"broker.session.timeout.ms": "4000", "broker.heartbeat.interval.ms": "500"}

AnyKafka = TypeVar("AnyKafka", bound=Kafka)


def _new_loop(new: Callable[[], asyncio.AbstractEventLoop]) -> asyncio.AbstractEventLoop:
    """Make a loop that does not ask the network for names that never resolve (RFC 6761)."""
    loop = new()
    look_up = loop.getaddrinfo

    async def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return await look_up(host, *args, **options)

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
    return loop


LOOPS = {
    "asyncio": partial(_new_loop, asyncio.new_event_loop),
    "uvloop": partial(_new_loop, uvloop.new_event_loop),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the loops be chosen."""
    parser.addoption("--loop", choices=LOOPS, help="run coroutine tests on this loop only")


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each coroutine test on both loops; the sans-IO tests do not care."""
    if item.get_closest_marker("virtual_time") is not None:
        return {"virtual": VirtualTimeLoop}
    only: str | None = item.config.getoption("--loop")
    if only is not None:
        return {only: LOOPS[only]}
    if "unit" in item.path.parts:
        return {"asyncio": LOOPS["asyncio"]}
    return LOOPS


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark the tests that need a real broker, and keep its start out of their time limit."""
    for item in items:
        fixtures: Sequence[str] = getattr(item, "fixturenames", ())
        if BROKER_FIXTURES.isdisjoint(fixtures):
            continue
        item.add_marker(pytest.mark.broker)
        # One process starts the brokers that all of them share.
        item.add_marker(pytest.mark.xdist_group("broker"))
        own = item.get_closest_marker("timeout")
        bound = own.args[0] if own and own.args else item.config.getini("timeout")
        item.add_marker(pytest.mark.timeout(float(bound), func_only=True), append=False)


def pytest_sessionstart() -> None:
    """Stop what an aborted run left running, also when this run needs no broker."""
    stop_leftovers()


def pytest_collection_finish() -> None:
    """Take what is loaded by now out of the garbage collector's way: it runs after every test."""
    gc.collect()
    gc.freeze()


def _running(config: pytest.Config, get: Callable[[], AnyKafka]) -> Iterator[AnyKafka]:
    kafka: AnyKafka | None = None
    try:
        kafka = get()
    except KafkaUnavailableError as error:
        config.stash[MISSING_KAFKA] = str(error)
    if kafka is None:
        if os.environ.get("CI"):
            pytest.fail("needs a real Kafka, and in CI its lack is a failure", pytrace=False)
        pytest.skip("needs a real Kafka")
    with kafka:
        yield kafka


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say why, where the tests of a real Kafka did not run."""
    if reason := config.stash.get(MISSING_KAFKA, None):
        terminalreporter.section("tests of a real Kafka did not run", yellow=True)
        terminalreporter.line(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that shows a secret: in the log, or on one of its outputs."""
    report = yield
    shown = [name for name, text in report.sections if CANARY in text]
    if shown and report.passed:
        report.outcome = "failed"
        report.longrepr = f"a secret is shown: {', '.join(shown)}"
    return report


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[Kafka]:
    """One broker of the newest release, or what KAFKA_BOOTSTRAP_SERVERS names."""
    yield from _running(pytestconfig, find_kafka)


@pytest.fixture(scope="session")
def kafka39(pytestconfig: pytest.Config) -> Iterator[Kafka]:
    """One broker of the last release before 4."""
    yield from _running(pytestconfig, lambda: start_kafka("3.9.1"))


@pytest.fixture(scope="session")
def secure_kafka(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureKafka]:
    """One broker of the newest release, with TLS, every SASL mechanism and ACLs."""
    files = tmp_path_factory.mktemp("secure-kafka")
    yield from _running(pytestconfig, lambda: SecureKafka(files).start())


@pytest.fixture(scope="session")
def secure_kafka39(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureKafka]:
    """The same of the last release before 4."""
    files = tmp_path_factory.mktemp("secure-kafka39")
    yield from _running(pytestconfig, lambda: SecureKafka(files, "3.9.1").start())


@pytest.fixture(scope="session")
def _oldest_kafka(pytestconfig: pytest.Config) -> Iterator[NodeControl]:
    yield from _running(pytestconfig, lambda: ZooKeeperKafka().start())


@pytest.fixture
def kafka21(_oldest_kafka: NodeControl) -> Iterator[NodeControl]:
    """One broker of the oldest release that is spoken to; it runs again after each test."""
    yield _oldest_kafka
    _oldest_kafka.heal()


@pytest.fixture(scope="session")
def _one_broker(pytestconfig: pytest.Config) -> Iterator[NodeControl]:
    yield from _running(pytestconfig, lambda: start_kafka(config=_QUICK_TO_RETURN))


@pytest.fixture
def kafka1(_one_broker: NodeControl) -> Iterator[NodeControl]:
    """One broker to kill and pause, with none to take over; it runs again after each test."""
    yield _one_broker
    _one_broker.heal()


@pytest.fixture(scope="session")
def _three_brokers(pytestconfig: pytest.Config) -> Iterator[NodeControl]:
    yield from _running(pytestconfig, lambda: start_kafka(brokers=3, config=_QUICK_TO_RETURN))


@pytest.fixture
def kafka3(_three_brokers: NodeControl) -> Iterator[NodeControl]:
    """Three brokers to kill, stop and pause; all three run again after each test."""
    yield _three_brokers
    _three_brokers.heal()


@pytest.fixture(params=["newest", "3.9"])
def wired_kafka3(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config
) -> Iterator[LocalKafka]:
    """Three brokers of each of two releases for `tests.exactly_once`, of one test alone."""
    version = DEFAULT_VERSION if request.param == "newest" else "3.9.1"
    clients = ["aioproducer", "confluent_kafka"]
    yield from _running(pytestconfig, lambda: three_brokers(version, clients).start())


@pytest.fixture(autouse=True, scope="module")
def _leaves_the_past_alone() -> None:
    """Keep what earlier modules left in memory out of the collections after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a socket open; a coroutine test, a task as well.

    Requested before a test's other fixtures, so it looks after they are torn down.
    """
    if pytest_asyncio.is_async_test(request.node):
        request.getfixturevalue("_leaves_nothing_on_its_loop")
        yield
        return
    before = _open_sockets()
    yield
    if _open_sockets() - before:
        gc.collect()  # turns an unclosed socket into a ResourceWarning, which names it
    _fail_if_any("socket", _open_sockets() - before)


@pytest_asyncio.fixture
async def _leaves_nothing_on_its_loop() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks()
    sockets = _open_sockets()
    with blockbuster_ctx("aioproducer"):
        yield
    gc.collect()
    give_up_at = loop.time() + LEAK_GRACE
    # A closed transport gives up its socket a turn or two later; nothing tells when.
    while (left := _left(tasks, sockets)) and loop.time() < give_up_at:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    _fail_if_any("task or socket", left)


def _left(tasks: set[asyncio.Task[object]], sockets: set[str]) -> set[str]:
    running = asyncio.all_tasks() - tasks - {asyncio.current_task()}
    return {repr(task) for task in running} | (_open_sockets() - sockets)


def _open_sockets() -> set[str]:
    """Return the open sockets of this process, by descriptor and inode; none without /proc.

    Unix sockets do not count: a loop wakes itself with a pair of them, made as it starts to run.
    """
    found: set[str] = set()
    try:
        unix = {line.split()[6] for line in Path("/proc/self/net/unix").read_text().splitlines()}
        descriptors = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return found
    for descriptor in descriptors:
        try:
            kind, _, inode = os.readlink(f"/proc/self/fd/{descriptor}").partition(":")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if kind == "socket" and inode.strip("[]") not in unix:
            found.add(f"{descriptor} {kind}:{inode}")
    return found


def _fail_if_any(what: str, left: set[str]) -> None:
    if left:
        pytest.fail(f"the test left a {what} behind: {'; '.join(sorted(left))}", pytrace=False)
