"""KIP-368: a connection logs in again before its session is over, and no record notices."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from aioproducer.network.sasl.exchange import Exchange
from aioproducer.network.sasl.plain import Plain
from aioproducer.testing import FakeCluster, FakeSasl
from tests.loop.test_sasl import PASSWORD, TOKEN, asked, login, producer_of, sasl
from tests.support.producing import TOPIC, until, values

SHORT = 400
"""Milliseconds of a session."""


def begin_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have logins be renewed when a tenth of the session is over, and what failed be repeated."""
    for name, value in (("_EARLIEST", 0.1), ("_LATEST", 0.1), ("_FETCH_AGAIN", 0.02)):
        monkeypatch.setattr(f"aioproducer.network.authentication.{name}", value)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER"])
async def test_under_load_nothing_is_lost_doubled_or_out_of_order(mechanism: str) -> None:
    who = sasl(session_lifetime_ms=SHORT)
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster,
        producer_of(cluster, **login(mechanism)) as producer,
    ):
        deliveries: list[Any] = []
        while asked(cluster, "sasl_handshake") < 6:
            deliveries.append(producer.send_nowait(TOPIC, b"%d" % len(deliveries)))
            await asyncio.sleep(0.001)
        stored = await asyncio.gather(*deliveries)
        assert [one.offset for one in stored] == list(range(len(deliveries)))
        assert values(cluster) == [b"%d" % n for n in range(len(deliveries))]
        assert not cluster.violations
        assert len({request.connection for request in cluster.requests_of("produce")}) == 1


async def test_requests_in_flight_are_answered_first_and_later_ones_wait() -> None:
    who = sasl(session_lifetime_ms=SHORT)
    async with (
        FakeCluster(topics={TOPIC: 1, "other": 1}, sasl=who) as cluster,
        producer_of(cluster, **login()) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"0")
        logins = asked(cluster, "sasl_handshake")
        cluster.hang("produce", count=1)
        in_flight = producer.send_nowait(TOPIC, b"1")
        await cluster.received("produce", 2)
        await asyncio.sleep(SHORT / 1000)
        # Its time has come, and a response is still due.
        assert asked(cluster, "sasl_handshake") == logins
        later = producer.send_nowait(TOPIC, b"2")
        new_topic = producer.send_nowait("other", b"3")
        await asyncio.sleep(0.05)
        assert asked(cluster, "produce") == 2
        cluster.release()
        await asyncio.gather(in_flight, later, new_topic)
        order = [request.api for request in cluster.requests if request.node_id == 0]
        assert "sasl_handshake" in order[order.index("produce") :]
        assert values(cluster) == [b"0", b"1", b"2"]
        assert not cluster.violations


async def test_the_token_is_fetched_while_requests_go_on() -> None:
    goes_on = asyncio.Event()
    goes_on.set()
    fetched = 0

    async def provide() -> str:
        nonlocal fetched
        fetched += 1
        await goes_on.wait()
        return TOKEN

    who = sasl(session_lifetime_ms=SHORT)
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster,
        producer_of(cluster, **login("OAUTHBEARER", sasl_oauth_token_provider=provide)) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"0")
        goes_on.clear()
        before = fetched
        await until(lambda: fetched > before)
        await producer.send_and_wait(TOPIC, b"meanwhile")
        goes_on.set()
        await producer.send_and_wait(TOPIC, b"after")
        assert not cluster.violations


async def test_a_provider_that_fails_is_asked_again_while_the_session_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aioproducer.network.authentication._FETCH_AGAIN", 0.02)
    is_down = False
    calls = 0

    def provide() -> str:
        nonlocal calls
        calls += 1
        if is_down:
            raise OSError("the vault is sealed")
        return PASSWORD

    # It is asked from when a tenth of the session is left.
    who = sasl(session_lifetime_ms=3_000)
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster,
        producer_of(cluster, **login(sasl_password=provide)) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"0")
        logins, before = asked(cluster, "sasl_handshake"), calls
        is_down = True
        await until(lambda: calls > before + 1)
        is_down = False
        await until(lambda: asked(cluster, "sasl_handshake") > logins)
        await producer.send_and_wait(TOPIC, b"1")
        connections = {request.connection for request in cluster.requests_of("produce")}
        assert len(connections) == 1


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize(
    "returned", [None, b"canary", "", "\udce4"], ids=["None", "bytes", "empty", "surrogate"]
)
async def test_a_function_that_returns_no_password_is_asked_again_while_the_session_lasts(
    mechanism: str, returned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_early(monkeypatch)
    passwords: list[Any] = [PASSWORD]
    calls = 0

    def provide() -> Any:
        nonlocal calls
        calls += 1
        return passwords[-1]

    who = sasl(session_lifetime_ms=2_000)
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster,
        producer_of(cluster, **login(mechanism, sasl_password=provide)) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"0")
        logins, before = asked(cluster, "sasl_handshake"), calls
        passwords.append(returned)
        await until(lambda: calls > before + 1)
        await producer.send_and_wait(TOPIC, b"meanwhile")
        passwords.append(PASSWORD)
        await until(lambda: asked(cluster, "sasl_handshake") > logins)
        await producer.send_and_wait(TOPIC, b"1")
        connections = {request.connection for request in cluster.requests_of("produce")}
        assert len(connections) == 1
        assert not cluster.violations


@pytest.mark.parametrize("sends_first", [False, True])
async def test_a_defect_in_an_exchange_is_told_and_costs_no_record(
    sends_first: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    works = Plain.exchange
    is_broken = False

    def exchange(self: Plain, host: str) -> Exchange:
        if not is_broken:
            yield from works(self, host)
            return
        if sends_first:
            yield b"\0alice\0" + PASSWORD.encode()
        raise TypeError("unsupported operand")

    monkeypatch.setattr(Plain, "exchange", exchange)
    begin_early(monkeypatch)
    who = sasl(session_lifetime_ms=2_000)
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster,
        producer_of(cluster, **login()) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"0")
        with caplog.at_level(logging.INFO):
            is_broken = True
            await until(lambda: "The SASL exchange failed: TypeError" in caplog.text)
            is_broken = False
        async with asyncio.timeout(10):
            assert (await producer.send_and_wait(TOPIC, b"1")).offset == 1
        assert values(cluster) == [b"0", b"1"]
        assert not cluster.violations


async def test_a_connection_whose_next_login_somebody_cancels_ends_and_costs_no_record() -> None:
    who = sasl(session_lifetime_ms=SHORT)
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster,
        producer_of(cluster, **login()) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"0")
        cluster.hang("sasl_handshake", count=1)
        await cluster.received("sasl_handshake", asked(cluster, "sasl_handshake") + 1)
        delivery = producer.send_nowait(TOPIC, b"1")
        for task in asyncio.all_tasks():
            if task.get_name() == "aioproducer-reauthenticate":
                task.cancel()
        async with asyncio.timeout(10):
            assert (await delivery).offset == 1
        cluster.release()
        assert values(cluster) == [b"0", b"1"]


@pytest.mark.parametrize("step", ["sasl_handshake", "sasl_authenticate"])
@pytest.mark.parametrize("fault", ["cut", "refuse", "hang"])
async def test_a_login_that_fails_in_any_step_ends_the_connection_and_costs_no_record(
    step: Any, fault: str
) -> None:
    who = sasl(session_lifetime_ms=SHORT)
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster,
        producer_of(cluster, **login(), socket_connection_setup_timeout_ms=300) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"0")
        if fault == "cut":
            cluster.cut_next(step)
        elif fault == "refuse":
            cluster.fail_next(step, 58)
        else:
            cluster.hang(step, count=1)
        before = asked(cluster, step)
        await until(lambda: asked(cluster, step) > before)
        async with asyncio.timeout(10):
            assert (await producer.send_and_wait(TOPIC, b"1")).offset == 1
        assert values(cluster) == [b"0", b"1"]
        assert len({request.connection for request in cluster.requests_of("produce")}) == 2


@pytest.mark.parametrize("step", ["sasl_handshake", "sasl_authenticate"])
async def test_a_producer_can_be_closed_in_any_step(step: Any) -> None:
    who = sasl(session_lifetime_ms=SHORT)
    async with FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster:
        producer = producer_of(cluster, **login())
        await producer.start()
        await producer.send_and_wait(TOPIC, b"0")
        cluster.hang(step)
        before = asked(cluster, step)
        await until(lambda: asked(cluster, step) > before)
        async with asyncio.timeout(5):
            await producer.close()


async def test_records_without_acknowledgement_are_not_lost_either() -> None:
    who = sasl(session_lifetime_ms=SHORT)
    async with FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster:
        sent = 0
        async with producer_of(cluster, **login(), acks=0, enable_idempotence=False) as producer:
            while asked(cluster, "sasl_handshake") < 5:
                producer.send_nowait(TOPIC, b"%d" % sent)
                sent += 1
                await asyncio.sleep(0.002)
        assert values(cluster) == [b"%d" % n for n in range(sent)]


async def test_an_idle_connection_is_still_closed() -> None:
    who = FakeSasl({"alice": PASSWORD}, session_lifetime_ms=SHORT)
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster,
        producer_of(cluster, **login(), connections_max_idle_ms=1_000) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"0")
        await until(lambda: sum(cluster.connections.values()) == 0)
        await producer.send_and_wait(TOPIC, b"1")
