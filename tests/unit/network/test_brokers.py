"""One connection to each broker: made when wanted, left when the metadata says so, explained."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
import pytest_asyncio

from aioproducer.background import Background
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    AuthenticationError,
    ConfigError,
    KafkaConnectionError,
    KafkaError,
    NetworkError,
    ProtocolError,
)
from aioproducer.network import brokers as brokers_module
from aioproducer.network.brokers import Brokers
from aioproducer.network.connection import Connection, ConnectionOptions
from aioproducer.network.metadata import BrokerAddress

pytestmark = pytest.mark.virtual_time

A, B = BrokerAddress(1, "a", 9092), BrokerAddress(2, "b", 9092)
A_MOVED = BrokerAddress(1, "a2", 9092)


class Wire:
    """As much of a connection as the brokers use; ends in the turn after it is asked to."""

    def __init__(self, address: BrokerAddress) -> None:
        self.address = address
        self.is_open = True
        self.is_leaving = False
        self.pending_count = 0
        self.last_used_at = asyncio.get_running_loop().time()
        self.on_lost: Callable[[KafkaError], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.on_drained: Callable[[], None] | None = None
        self.on_unneeded_response: Callable[[Any], None] | None = None
        self.reason: KafkaError | None = None
        self.unanswered_since: float | None = None

    def abort(self, reason: KafkaError) -> None:
        if self.is_open:
            self.is_open = False
            self.reason = reason
            asyncio.get_running_loop().call_soon(self._lost)

    def _lost(self) -> None:
        if self.on_lost is not None:
            assert self.reason is not None
            self.on_lost(self.reason)

    async def close(self) -> None:
        self.abort(NetworkError("The client closed the connection"))
        await asyncio.sleep(0)

    async def finish(self, timeout: float) -> None: ...

    def leave_behind(self) -> None:
        self.is_open = False

    def drained(self) -> None:
        """Have the last response come."""
        self.pending_count = 0
        if self.on_drained is not None:
            self.on_drained()


class BrokersHarness:
    """Brokers that are reached, or not, as a test says; and what their owner hears.

    Attributes:
        tried: When which address was tried, in seconds since the beginning.
        unreachable: Addresses that refuse.
        raises: With what attempts end otherwise.
        takes: Seconds that an attempt takes.
        hangs_up: Brokers end each connection soon after they took it.
        foreign: Addresses behind which there is another cluster by now.
        wanted: Brokers that something is to be sent to.
        heard: What the owner of the records heard.
        lost: How often metadata was called stale.
    """

    def __init__(self, **options: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.begun = self.loop.time()
        self.tried: list[tuple[float, BrokerAddress]] = []
        self.wires: list[Wire] = []
        self.unreachable: set[BrokerAddress] = set()
        self.raises: Exception | None = None
        self.foreign: set[BrokerAddress] = set()
        self.takes = 0.0
        self.hangs_up = False
        self.wanted: set[int] = set()
        self.heard: list[str] = []
        self.lost = 0
        options = {"reconnect_backoff_ms": 100, "reconnect_backoff_max_ms": 1_000, **options}
        config = ProducerConfig(bootstrap_servers="seed:9092", **options)
        self.brokers = Brokers(
            config,
            ConnectionOptions("me", "1"),
            Background(self.loop),
            self,
            verify=self._check,
            lost=self._stale,
        )

    async def connect(self, address: BrokerAddress, *_: object, **__: object) -> Connection:
        self.tried.append((round(self.loop.time() - self.begun, 3), address))
        await asyncio.sleep(self.takes)
        if self.raises is not None:
            raise self.raises
        if address in self.unreachable:
            raise KafkaConnectionError(
                "Cannot connect", reasons={str(address): "connection refused"}
            )
        wire = Wire(address)
        self.wires.append(wire)
        if self.hangs_up:
            self.loop.call_later(0.01, wire.abort, NetworkError("hung up"))
        return cast("Connection", wire)

    async def _check(self, connection: Connection, timeout: float) -> None:
        if connection.address in self.foreign:
            raise KafkaConnectionError("Refused", reasons={str(connection.address): "foreign"})

    def _stale(self) -> None:
        self.lost += 1

    # ---- the owner of the records

    def connection_ready(self, node_id: int) -> None:
        self.heard.append(f"{node_id} ready")

    def connection_writable(self, node_id: int) -> None:
        self.heard.append(f"{node_id} writable")

    def wants_connection(self, node_id: int) -> bool:
        return node_id in self.wanted

    def unneeded_response(self, node_id: int, response: Any) -> None:
        self.heard.append(f"{node_id} answered {response}")

    # ---- acting

    def update(self, *addresses: BrokerAddress) -> bool:
        return self.brokers.update(addresses, source="seed:9092")

    async def reach(self, address: BrokerAddress = A) -> Wire:
        """Have a broker be connected."""
        if address.node_id not in self.brokers:
            self.update(address)
        self.brokers.connection(address.node_id)
        await turn()
        connection = self.brokers[address.node_id].connection
        assert connection is not None
        return cast("Wire", connection)


async def turn() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def harness(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BrokersHarness]:
    monkeypatch.setattr(random, "random", lambda: 0.5)
    made = BrokersHarness()
    monkeypatch.setattr(brokers_module, "connect", made.connect)
    yield made
    await made.brokers.close()


# ---- connecting


async def test_a_broker_is_connected_when_its_connection_is_asked_for(
    harness: BrokersHarness,
) -> None:
    harness.update(A, B)
    await turn()
    assert harness.tried == []
    assert harness.brokers.connection(1) is None
    await turn()
    assert harness.heard == ["1 ready"]
    assert harness.brokers.connection(1) is harness.brokers[1].connection
    assert [address for _, address in harness.tried] == [A]


async def test_asking_again_while_a_connection_is_made_makes_no_other(
    harness: BrokersHarness,
) -> None:
    harness.takes = 1.0
    harness.update(A)
    for _ in range(5):
        assert harness.brokers.connection(1) is None
        await turn()
    await asyncio.sleep(2)
    assert len(harness.tried) == 1


async def test_brokers_are_connected_side_by_side(harness: BrokersHarness) -> None:
    harness.takes = 1.0
    harness.update(A, B)
    harness.brokers.connection(1)
    harness.brokers.connection(2)
    await asyncio.sleep(1.1)
    assert harness.heard == ["1 ready", "2 ready"]


async def test_a_broker_that_is_wanted_is_tried_again_with_growing_pauses(
    harness: BrokersHarness,
) -> None:
    harness.unreachable.add(A)
    harness.wanted.add(1)
    harness.update(A)
    harness.brokers.connection(1)
    await asyncio.sleep(4)
    times = [at for at, _ in harness.tried]
    pauses = [round(after - before, 3) for before, after in itertools.pairwise(times)]
    assert pauses[:6] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    harness.unreachable.clear()
    await asyncio.sleep(1.1)
    assert harness.heard == ["1 ready"]


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("cannot be read: no such file", option="sasl_oauthbearer_assertion_file"),
        AuthenticationError("wrong password"),
        ProtocolError("an answer of another protocol"),
        TypeError("unsupported operand"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_ends_an_attempt_the_next_one_follows_after_its_pause(
    harness: BrokersHarness, error: Exception
) -> None:
    harness.raises = error
    harness.wanted.add(1)
    harness.update(A)
    harness.brokers.connection(1)
    await asyncio.sleep(0.75)
    assert [at for at, _ in harness.tried] == [0.0, 0.1, 0.3, 0.7]
    assert harness.lost == 4
    harness.raises = None
    await asyncio.sleep(1)
    assert harness.heard == ["1 ready"]


async def test_a_file_that_cannot_be_used_is_reported_at_once_and_not_the_address(
    harness: BrokersHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.raises = ConfigError(
        "cannot be read: no such file", option="sasl_oauthbearer_assertion_file"
    )
    harness.wanted.add(1)
    harness.update(A)
    with caplog.at_level(logging.INFO, logger="aioproducer.network.brokers"):
        harness.brokers.connection(1)
        await asyncio.sleep(1)
        error = harness.brokers[1].last_error
        assert isinstance(error, ConfigError)
        assert error is not harness.raises
        assert error.broker == "a:9092"
        harness.raises = None
        await asyncio.sleep(1)
    assert caplog.messages == [
        "Broker 1 at a:9092 cannot be reached, and records wait for it:"
        " sasl_oauthbearer_assertion_file: cannot be read: no such file (broker a:9092).",
        "Broker 1 at a:9092 is reached again",
    ]


async def test_a_defect_is_logged_once_with_its_traceback_and_is_the_reason(
    harness: BrokersHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.raises = TypeError("unsupported operand")
    harness.wanted.add(1)
    harness.update(A)
    harness.brokers.connection(1)
    await asyncio.sleep(1)
    assert len(harness.tried) == 4
    error = harness.brokers[1].last_error
    assert isinstance(error, KafkaConnectionError)
    assert error.reasons == {"a:9092": "TypeError: unsupported operand"}
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert record.exc_info is not None and record.exc_info[1] is harness.raises


async def test_a_login_that_was_ended_by_a_missing_file_is_the_last_error(
    harness: BrokersHarness,
) -> None:
    wire = await harness.reach()
    lost = NetworkError("The connection could not log in again")
    lost.__cause__ = ConfigError("no such file", option="sasl_oauthbearer_assertion_file")
    wire.abort(lost)
    await turn()
    assert harness.brokers[1].last_error is lost.__cause__


async def test_a_broker_that_nobody_wants_any_more_is_not_tried_again(
    harness: BrokersHarness,
) -> None:
    harness.unreachable.add(A)
    harness.update(A)
    harness.brokers.connection(1)
    await asyncio.sleep(60)
    assert len(harness.tried) == 1
    harness.brokers.connection(1)
    await turn()
    assert len(harness.tried) == 2


async def test_each_failed_attempt_calls_the_metadata_stale(harness: BrokersHarness) -> None:
    harness.unreachable.add(A)
    harness.wanted.add(1)
    harness.update(A)
    harness.brokers.connection(1)
    await asyncio.sleep(1)
    assert harness.lost == len(harness.tried) > 2


async def test_a_broker_that_fell_is_connected_again_if_it_is_wanted(
    harness: BrokersHarness,
) -> None:
    wire = await harness.reach()
    harness.wanted.add(1)
    await asyncio.sleep(10)
    wire.abort(NetworkError("reset"))
    await asyncio.sleep(1)
    assert harness.heard == ["1 ready", "1 ready"]
    assert harness.lost == 1


async def test_a_broker_that_fell_and_is_not_wanted_is_left_alone(harness: BrokersHarness) -> None:
    wire = await harness.reach()
    wire.abort(NetworkError("reset"))
    await asyncio.sleep(60)
    assert len(harness.tried) == 1
    assert harness.brokers[1].connection is None


async def test_a_broker_that_hangs_up_at_once_is_tried_again_with_growing_pauses(
    harness: BrokersHarness,
) -> None:
    harness.hangs_up = True
    harness.wanted.add(1)
    harness.update(A)
    harness.brokers.connection(1)
    await asyncio.sleep(5)
    times = [at for at, _ in harness.tried]
    pauses = [round(after - before, 1) for before, after in itertools.pairwise(times)]
    assert pauses[:6] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


async def test_a_connection_that_lasted_ends_the_growing_of_the_pauses(
    harness: BrokersHarness,
) -> None:
    harness.unreachable.add(A)
    harness.wanted.add(1)
    harness.update(A)
    harness.brokers.connection(1)
    await asyncio.sleep(5)
    harness.unreachable.clear()
    await asyncio.sleep(5)
    harness.wires[-1].abort(NetworkError("reset"))
    await turn()
    assert harness.brokers[1].failures == 1


async def test_an_attempt_by_hand_takes_what_is_open_or_tries_once(harness: BrokersHarness) -> None:
    wire = await harness.reach()
    assert await harness.brokers.connect(harness.brokers[1]) is cast("Connection", wire)
    harness.update(A, B)
    harness.unreachable.add(B)
    with pytest.raises(KafkaConnectionError, match="connection refused"):
        await harness.brokers.connect(harness.brokers[2])
    assert [address for _, address in harness.tried] == [A, B]


async def test_of_two_attempts_at_a_time_one_connection_is_kept(harness: BrokersHarness) -> None:
    harness.takes = 1.0
    harness.update(A)
    harness.brokers.connection(1)
    by_hand = await harness.brokers.connect(harness.brokers[1])
    await turn()
    assert harness.brokers[1].connection is by_hand
    assert [wire.is_open for wire in harness.wires].count(True) == 1


async def test_what_an_address_that_was_reached_leads_to_is_verified_the_next_time(
    harness: BrokersHarness,
) -> None:
    wire = await harness.reach()
    harness.foreign.add(A)
    await asyncio.sleep(10)
    wire.abort(NetworkError("reset"))
    await turn()
    with pytest.raises(KafkaConnectionError, match="foreign"):
        await harness.brokers.connect(harness.brokers[1])
    assert not harness.wires[-1].is_open
    assert harness.brokers[1].connection is None


async def test_the_owner_hears_of_its_connections(harness: BrokersHarness) -> None:
    wire = await harness.reach()
    assert wire.on_writable is not None
    assert wire.on_unneeded_response is not None
    wire.on_writable()
    wire.on_unneeded_response("all the same")
    assert harness.heard == ["1 ready", "1 writable", "1 answered all the same"]


async def test_a_bootstrap_connection_is_kept_as_that_of_the_broker_with_its_address(
    harness: BrokersHarness,
) -> None:
    harness.update(A, B)
    seed = cast("Connection", Wire(BrokerAddress(-1, "b", 9092)))
    assert harness.brokers.adopt(seed)
    assert harness.brokers[2].connection is seed
    assert not harness.brokers.adopt(cast("Connection", Wire(BrokerAddress(-1, "b", 9092))))
    assert not harness.brokers.adopt(cast("Connection", Wire(BrokerAddress(-1, "c", 9092))))


# ---- what the metadata says


async def test_a_response_that_says_what_is_known_is_no_news(harness: BrokersHarness) -> None:
    assert harness.update(A, B)
    assert not harness.update(B, A)
    assert harness.update(A)
    assert harness.update(A_MOVED)


async def test_brokers_that_a_response_leaves_out_are_gone(harness: BrokersHarness) -> None:
    harness.update(A, B)
    harness.update(B)
    assert [*harness.brokers] == [2]
    assert 1 not in harness.brokers
    assert harness.brokers.name(1) == "1"


async def test_an_idle_connection_to_a_broker_that_is_left_out_is_closed(
    harness: BrokersHarness,
) -> None:
    wire = await harness.reach()
    harness.update(B)
    assert not wire.is_open
    await turn()
    assert harness.lost == 0


async def test_requests_in_flight_to_a_broker_that_is_left_out_are_answered_first(
    harness: BrokersHarness,
) -> None:
    wire = await harness.reach()
    wire.pending_count = 2
    harness.update(B)
    was_open = [wire.is_open]
    assert harness.brokers.name(1) == "1 at a:9092"
    assert harness.brokers.open_connections() == []
    wire.drained()
    was_open.append(wire.is_open)
    assert was_open == [True, False]
    assert harness.brokers.name(1) == "1"


async def test_a_broker_that_was_left_out_by_mistake_goes_on_with_its_connection(
    harness: BrokersHarness,
) -> None:
    wire = await harness.reach()
    wire.pending_count = 1
    harness.update(B)
    harness.update(A, B)
    wire.drained()
    assert wire.is_open
    assert harness.brokers.connection(1) is cast("Connection", wire)


async def test_a_broker_with_a_new_address_is_connected_there_once_its_requests_are_over(
    harness: BrokersHarness,
) -> None:
    wire = await harness.reach()
    harness.wanted.add(1)
    wire.pending_count = 1
    harness.update(A_MOVED)
    assert harness.brokers.connection(1) is None
    await asyncio.sleep(10)
    assert [address for _, address in harness.tried] == [A]
    wire.drained()
    await asyncio.sleep(1)
    assert [address for _, address in harness.tried] == [A, A_MOVED]
    assert harness.brokers.name(1) == "1 at a2:9092"
    assert len(harness.brokers.open_connections()) == 1


async def test_an_attempt_to_an_address_that_is_no_longer_the_brokers_comes_to_nothing(
    harness: BrokersHarness,
) -> None:
    harness.takes = 1.0
    harness.wanted.add(1)
    harness.update(A)
    harness.brokers.connection(1)
    await asyncio.sleep(0.5)
    harness.update(A_MOVED)
    harness.brokers.connection(1)
    await asyncio.sleep(5)
    assert [address for _, address in harness.tried] == [A, A_MOVED]
    assert [wire.address for wire in harness.wires if wire.is_open] == [A_MOVED]


async def test_a_new_address_begins_without_the_failures_of_the_old_one(
    harness: BrokersHarness,
) -> None:
    harness.unreachable.add(A)
    harness.wanted.add(1)
    harness.update(A)
    harness.brokers.connection(1)
    await asyncio.sleep(5)
    harness.update(A_MOVED)
    assert harness.brokers[1].failures == 0
    assert harness.brokers.any_connect_error() is None


async def test_a_broker_that_was_left_out_and_whose_connection_ends_itself_is_forgotten(
    harness: BrokersHarness,
) -> None:
    wire = await harness.reach()
    wire.pending_count = 1
    harness.update(B)
    wire.abort(NetworkError("reset"))
    await turn()
    assert harness.brokers.name(1) == "1"


async def test_brokers_that_a_response_names_are_added_and_change_none(
    harness: BrokersHarness,
) -> None:
    harness.update(A)
    harness.brokers.learn([A_MOVED, B])
    assert harness.brokers.name(1) == "1 at a:9092"
    assert harness.brokers.name(2) == "2 at b:9092"


async def test_forgetting_all_brokers_closes_their_connections(harness: BrokersHarness) -> None:
    harness.update(A, B)
    wire, other = await harness.reach(A), await harness.reach(B)
    wire.pending_count = 3
    harness.brokers.forget()
    assert not wire.is_open
    assert not other.is_open
    assert dict(harness.brokers) == {}


# ---- idle connections


async def test_a_connection_that_nobody_uses_is_closed_after_connections_max_idle_ms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = BrokersHarness(connections_max_idle_ms=60_000)
    monkeypatch.setattr(brokers_module, "connect", harness.connect)
    harness.brokers.start()
    harness.update(A, B)
    idle, used = await harness.reach(A), await harness.reach(B)
    for _ in range(10):
        await asyncio.sleep(10)
        used.last_used_at = harness.loop.time()
    assert (idle.is_open, used.is_open) == (False, True)
    assert harness.lost == 0
    await harness.brokers.close()


async def test_a_connection_with_requests_in_flight_is_not_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = BrokersHarness(connections_max_idle_ms=60_000)
    monkeypatch.setattr(brokers_module, "connect", harness.connect)
    harness.brokers.start()
    wire = await harness.reach()
    wire.pending_count = 1
    await asyncio.sleep(1_000)
    assert wire.is_open
    await harness.brokers.close()


# ---- what is logged


async def test_an_unreachable_broker_is_logged_once_and_so_is_its_return(
    harness: BrokersHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.unreachable.add(A)
    harness.wanted.add(1)
    harness.update(A)
    with caplog.at_level(logging.INFO, logger="aioproducer.network.brokers"):
        harness.brokers.connection(1)
        await asyncio.sleep(60)
        harness.unreachable.clear()
        await asyncio.sleep(60)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    warning, healed = caplog.messages
    assert "connection refused" in warning
    assert healed == "Broker 1 at a:9092 is reached again"


async def test_a_broker_that_was_never_reached_is_reported_with_who_named_its_address(
    harness: BrokersHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.unreachable.add(A)
    harness.wanted.add(1)
    harness.update(A)
    with caplog.at_level(logging.WARNING):
        harness.brokers.connection(1)
        await asyncio.sleep(5)
    (warning,) = caplog.messages
    assert "a:9092" in warning
    assert "seed:9092" in warning
    assert "advertised.listeners" in warning


async def test_a_broker_that_was_reached_before_says_nothing_of_advertised_listeners(
    harness: BrokersHarness, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await harness.reach()
    harness.wanted.add(1)
    harness.unreachable.add(A)
    await asyncio.sleep(5)
    with caplog.at_level(logging.WARNING):
        wire.abort(NetworkError("reset"))
        await asyncio.sleep(10)
    (warning,) = caplog.messages
    assert "advertised" not in warning


async def test_an_attempt_that_hangs_is_reported_within_seconds(
    harness: BrokersHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.takes = 30.0
    harness.wanted.add(1)
    harness.update(A)
    with caplog.at_level(logging.WARNING):
        harness.brokers.connection(1)
        await asyncio.sleep(3)
    assert "no answer so far" in caplog.text


async def test_a_broker_that_nobody_wants_is_unreachable_in_silence(
    harness: BrokersHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.unreachable.add(A)
    harness.update(A)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            harness.brokers.connection(1)
            await asyncio.sleep(5)
    assert caplog.messages == []


async def test_a_restart_is_no_outage(
    harness: BrokersHarness, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await harness.reach()
    harness.wanted.add(1)
    harness.unreachable.add(A)
    await asyncio.sleep(5)
    with caplog.at_level(logging.WARNING):
        wire.abort(NetworkError("reset"))
        await asyncio.sleep(1.5)
        harness.unreachable.clear()
        await asyncio.sleep(5)
    assert caplog.messages == []


async def test_the_last_failure_to_connect_is_kept_until_the_broker_is_reached(
    harness: BrokersHarness,
) -> None:
    harness.unreachable.add(A)
    harness.wanted.add(1)
    harness.update(A)
    harness.brokers.connection(1)
    await asyncio.sleep(1)
    error = harness.brokers.any_connect_error()
    assert isinstance(error, KafkaConnectionError)
    assert "Cannot connect to broker 1, the address that it advertises" in str(error)
    harness.unreachable.clear()
    await asyncio.sleep(2)
    assert harness.brokers.any_connect_error() is None


# ---- the end


async def test_closing_ends_connections_and_attempts(harness: BrokersHarness) -> None:
    wire = await harness.reach()
    harness.takes = 100.0
    harness.update(A, B)
    harness.brokers.connection(2)
    await turn()
    await harness.brokers.close()
    assert not wire.is_open
    assert harness.brokers.connection(2) is None
    await asyncio.sleep(200)
    assert len(harness.wires) == 1


async def test_after_closing_no_connection_is_made(harness: BrokersHarness) -> None:
    harness.update(A)
    await harness.brokers.close()
    assert harness.brokers.connection(1) is None
    await asyncio.sleep(5)
    assert harness.tried == []


async def test_a_connection_that_is_closed_by_us_is_no_failure(
    harness: BrokersHarness, caplog: pytest.LogCaptureFixture
) -> None:
    await harness.reach()
    harness.wanted.add(1)
    with caplog.at_level(logging.INFO, logger="aioproducer.network.brokers"):
        await harness.brokers.close()
        await asyncio.sleep(5)
    assert caplog.messages == []
    assert harness.lost == 0
    assert len(harness.tried) == 1


async def test_the_child_of_a_fork_keeps_off_the_connections(harness: BrokersHarness) -> None:
    wire = await harness.reach()
    harness.brokers.leave_behind()
    assert not wire.is_open
    assert harness.brokers.connection(1) is None
    await asyncio.sleep(5)
    assert len(harness.tried) == 1
