"""SASL: each mechanism logs in, and a login that fails is said once, paced, and costs no record."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from aioproducer import (
    AuthenticationError,
    ConfigError,
    KafkaTimeoutError,
    ListenerMismatchError,
    OAuthToken,
    Producer,
)
from aioproducer.errors import (
    IllegalSaslStateError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from aioproducer.network.backoff import Backoff
from aioproducer.network.sasl.exchange import Exchange
from aioproducer.network.sasl.plain import Plain
from aioproducer.testing import ErrorCode, FakeCluster, FakeSasl
from tests.support.producing import FAST, TOPIC, until, values

PASSWORD = "canary-secret-password"
TOKEN = "canary-secret-token"
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


def sasl(**options: Any) -> FakeSasl:
    return FakeSasl({"alice": PASSWORD}, lambda token: token == TOKEN, **options)


def login(mechanism: str = "PLAIN", **options: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": mechanism}
    if mechanism == "OAUTHBEARER":
        chosen["sasl_oauth_token_provider"] = lambda: TOKEN
    else:
        chosen |= {"sasl_username": "alice", "sasl_password": PASSWORD}
    return {**chosen, **options}


def producer_of(cluster: FakeCluster, **options: Any) -> Producer[Any, Any]:
    return Producer(bootstrap_servers=cluster.bootstrap_servers, **options)


async def refusal(cluster: FakeCluster, **options: Any) -> AuthenticationError:
    with pytest.raises(AuthenticationError) as caught:
        await producer_of(cluster, **options).start()
    assert PASSWORD not in str(caught.value)
    assert TOKEN not in str(caught.value)
    return caught.value


def asked(cluster: FakeCluster, api: Any) -> int:
    return len(cluster.requests_of(api))


# ---- the first login


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_records_are_sent_after_the_login(mechanism: str) -> None:
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}, sasl=sasl()) as cluster,
        producer_of(cluster, **login(mechanism)) as producer,
    ):
        for partition in range(2):
            await producer.send_and_wait(TOPIC, b"%d" % partition, partition=partition)
        assert sorted(values(cluster)) == [b"0", b"1"]
        assert not cluster.violations


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_wrong_credentials_end_the_start_at_once_after_one_attempt(mechanism: str) -> None:
    async with FakeCluster(sasl=FakeSasl({"alice": "other"}, lambda _: False)) as cluster:
        error = await refusal(cluster, **login(mechanism))
        assert isinstance(error, SaslAuthenticationFailedError)
        assert cluster.bootstrap_servers in str(error)
        assert "Check the user name, password or token" in error.hint or "token" in error.hint
        assert asked(cluster, "sasl_handshake") == 1


async def test_a_mechanism_that_is_not_offered_is_said_with_those_that_are() -> None:
    async with FakeCluster(sasl=sasl(mechanisms=("SCRAM-SHA-512", "GSSAPI"))) as cluster:
        error = await refusal(cluster, **login("PLAIN"))
    assert isinstance(error, UnsupportedSaslMechanismError)
    assert "sasl_mechanism='PLAIN'; it offers GSSAPI, SCRAM-SHA-512" in str(error)


async def test_a_login_where_none_is_taken_is_said() -> None:
    async with FakeCluster() as cluster:
        error = await refusal(cluster, **login("PLAIN"))
    assert isinstance(error, IllegalSaslStateError)
    assert "Set security_protocol to PLAINTEXT or SSL" in str(error)


async def test_no_login_where_one_is_asked_for_ends_the_start_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aioproducer.network.starting._MISMATCHED_FOR", 0.1)
    async with FakeCluster(sasl=sasl()) as cluster:
        with pytest.raises(ListenerMismatchError, match="is SASL missing"):
            await producer_of(cluster).start()


async def test_a_broker_that_hangs_up_in_the_exchange_is_given_some_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aioproducer.network.starting._MISMATCHED_FOR", 0.1)
    async with FakeCluster(sasl=sasl()) as cluster:
        cluster.cut_next("sasl_authenticate", count=1)
        async with producer_of(cluster, **login()) as producer:
            await producer.send_and_wait("topic", b"0")
        cluster.cut_next("sasl_authenticate", count=None)
        with pytest.raises(ListenerMismatchError, match="during the SASL exchange"):
            await producer_of(cluster, **login()).start()


async def test_a_broker_without_an_answer_is_bounded_and_said() -> None:
    async with FakeCluster(sasl=sasl()) as cluster:
        cluster.hang("sasl_authenticate")
        producer = producer_of(
            cluster, **login(), max_block_ms=300, socket_connection_setup_timeout_ms=100
        )
        with pytest.raises(Exception, match=r"gave no answer to the SASL exchange within 0.1 s"):
            await producer.start()


async def test_challenges_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(FakeSasl):
        def server(self, mechanism: str) -> Generator[bytes, bytes, bytes]:
            while True:
                yield b"more"

    def endless(_self: Plain, _host: str) -> Exchange:
        while True:
            yield b"and more"

    monkeypatch.setattr(Plain, "exchange", endless)
    async with FakeCluster(sasl=Endless()) as cluster:
        error = await refusal(cluster, **login())
        assert "The broker sent more than 12 SASL challenges" in str(error)
        assert asked(cluster, "sasl_authenticate") == 12


@pytest.mark.parametrize("size", [300 * 1024, 600 * 1024])
async def test_a_huge_challenge_is_refused(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioproducer.network.starting._MISMATCHED_FOR", 0.1)
    async with FakeCluster(sasl=sasl()) as cluster:

        def swell(answer: Any) -> None:
            answer.error_code, answer.auth_bytes = 0, bytes(size)

        cluster.edit_next("sasl_authenticate", swell, count=None)
        with pytest.raises(
            (AuthenticationError, ListenerMismatchError), match=r"challenge of|SASL"
        ):
            await producer_of(cluster, **login("SCRAM-SHA-256")).start()


# ---- providers


async def test_a_slow_provider_of_tokens_holds_up_neither_the_loop_nor_another_producer() -> None:
    called, goes_on = threading.Event(), threading.Event()

    def slow() -> str:
        called.set()
        assert goes_on.wait(10)
        return TOKEN

    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=sasl()) as cluster,
        producer_of(cluster, **login()) as other,
    ):
        async with asyncio.TaskGroup() as group:
            producer = producer_of(cluster, **login("OAUTHBEARER", sasl_oauth_token_provider=slow))
            starting = group.create_task(producer.start())
            await until(called.is_set)
            await other.send_and_wait(TOPIC, b"meanwhile")
            assert not starting.done()
            goes_on.set()
        await producer.send_and_wait(TOPIC, b"at last")
        await producer.close()
        assert values(cluster) == [b"meanwhile", b"at last"]


async def test_a_provider_that_raises_ends_the_start_with_its_reason() -> None:
    async def provide() -> OAuthToken:
        raise OSError("the vault is sealed")

    async with FakeCluster(sasl=sasl()) as cluster:
        error = await refusal(cluster, **login("OAUTHBEARER", sasl_oauth_token_provider=provide))
        assert "sasl_oauth_token_provider failed: OSError: the vault is sealed" in str(error)
        error = await refusal(cluster, **login(sasl_password=lambda: str(1 // 0)))
        assert "sasl_password failed: ZeroDivisionError" in str(error)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
@pytest.mark.parametrize(
    ("returned", "said"),
    [
        pytest.param(None, "an object of type NoneType", id="None"),
        pytest.param(PASSWORD.encode(), "an object of type bytes", id="bytes"),
        pytest.param("", "an empty text", id="empty"),
        pytest.param(f"{PASSWORD}\udce4", "a text that is not valid in UTF-8", id="surrogate"),
    ],
)
async def test_what_is_no_password_ends_the_start_unseen(
    mechanism: str, returned: Any, said: str
) -> None:
    async with FakeCluster(sasl=sasl()) as cluster:
        error = await refusal(cluster, **login(mechanism, sasl_password=lambda: returned))
    assert f"sasl_password returned {said}, which is no password" in str(error)
    assert error.broker == cluster.bootstrap_servers


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_records_wait_while_the_function_returns_what_is_no_password(
    mechanism: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioproducer.network.refusals.PAUSE", Backoff(10, 10))
    passwords: list[Any] = [PASSWORD]
    options = login(mechanism, sasl_password=lambda: passwords[-1])
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=sasl()) as cluster,
        producer_of(cluster, **options, **FAST) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"0")
        passwords.append(None)
        cluster.cut()
        delivery = producer.send_nowait(TOPIC, b"1")
        await until(lambda: "records wait for it" in caplog.text)
        assert not delivery.done()
        passwords.append(PASSWORD)
        assert (await delivery).offset == 1
    assert "sasl_password returned an object of type NoneType" in caplog.text


@pytest.mark.parametrize("extensions", [None, {"logicalCluster": 5}])
async def test_a_token_with_extensions_that_are_no_texts_ends_the_start(extensions: Any) -> None:
    options = login(
        "OAUTHBEARER", sasl_oauth_token_provider=lambda: OAuthToken(TOKEN, extensions=extensions)
    )
    async with FakeCluster(sasl=sasl()) as cluster:
        error = await refusal(cluster, **options)
    assert "a token whose extensions are not texts by name" in str(error)


async def cancel_itself() -> None:
    """Wait for something that somebody cancels."""
    waited = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(waited.cancel)
    await waited


@pytest.mark.parametrize("mechanism", ["PLAIN", "OAUTHBEARER"])
async def test_a_provider_that_ends_as_cancelled_ends_the_start_with_an_error(
    mechanism: str,
) -> None:
    async def provide() -> Any:
        await cancel_itself()

    option = "sasl_password" if mechanism == "PLAIN" else "sasl_oauth_token_provider"
    async with FakeCluster(sasl=sasl()) as cluster:
        async with asyncio.timeout(5):
            error = await refusal(cluster, **login(mechanism, **{option: provide}))
        assert f"{option} was cancelled" in str(error)
        assert asked(cluster, "sasl_handshake") == 0


async def test_records_wait_for_a_provider_that_ends_as_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aioproducer.network.refusals.PAUSE", Backoff(10, 10))
    calls = 0
    is_cancelled = False

    async def password() -> str:
        nonlocal calls
        calls += 1
        if is_cancelled:
            await cancel_itself()
        return PASSWORD

    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}, sasl=sasl()) as cluster,
        producer_of(cluster, **login(sasl_password=password), **FAST) as producer,
    ):
        for partition in range(2):
            await producer.send_and_wait(TOPIC, b"before", partition=partition)
        before, is_cancelled = calls, True
        cluster.cut(cluster.leader(TOPIC, 1))
        delivery = producer.send_nowait(TOPIC, b"meanwhile", partition=1)
        await until(lambda: calls > before + 3)
        assert not delivery.done()
        is_cancelled = False
        assert (await delivery).offset == 1


async def test_a_defect_in_an_exchange_ends_the_start_with_its_kind_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_self: Plain, _host: str) -> Exchange:
        yield b"first"
        raise TypeError(PASSWORD)

    monkeypatch.setattr(Plain, "exchange", broken)
    async with FakeCluster(sasl=FakeSasl({"alice": PASSWORD})) as cluster:
        cluster.edit_next("sasl_authenticate", lambda answer: setattr(answer, "error_code", 0))
        error = await refusal(cluster, **login())
    assert "The SASL exchange failed: TypeError" in str(error)
    assert isinstance(error.__cause__, TypeError)


async def test_a_start_that_is_cancelled_leaves_a_hanging_provider_behind() -> None:
    called, ends = threading.Event(), threading.Event()

    def hanging() -> str:
        called.set()
        ends.wait(10)
        return PASSWORD

    async with FakeCluster(sasl=sasl()) as cluster:
        producer = producer_of(cluster, **login(sasl_password=hanging))
        starting = asyncio.ensure_future(producer.start())
        await until(called.is_set)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await producer.close()
    ends.set()


async def test_a_password_function_that_hangs_holds_a_bounded_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aioproducer.network.connection._LOGIN_THREADS", 2)
    ends = threading.Event()
    threads: list[threading.Thread] = []
    most_alive = 0

    def hanging() -> str:
        nonlocal most_alive
        threads.append(threading.current_thread())
        most_alive = max(most_alive, sum(thread.is_alive() for thread in threads))
        ends.wait(15)
        return PASSWORD

    async with FakeCluster(topics={TOPIC: 1}, sasl=sasl()) as cluster:
        options = {**FAST, "max_block_ms": 10_000, "delivery_timeout_ms": 15_000}
        producer = producer_of(
            cluster,
            **login(sasl_password=hanging),
            **options,
            socket_connection_setup_timeout_ms=20,
            socket_connection_setup_timeout_max_ms=20,
        )
        await producer.start(wait=False)
        delivery = producer.send_nowait(TOPIC, b"0")
        # Each attempt is given up, and the next one asks for the password again.
        before = asked(cluster, "api_versions")
        await until(lambda: asked(cluster, "api_versions") > before + 5)
        assert most_alive == 2
        assert "sasl_password gave nothing" in producer.status().reason
        ends.set()
        assert (await delivery).offset == 0
        await producer.close()


# ---- credentials that change


async def test_records_wait_for_the_new_password_and_the_refusal_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    who = sasl()
    passwords = [PASSWORD]
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster,
        producer_of(cluster, **login(sasl_password=lambda: passwords[-1])) as producer,
    ):
        await producer.send_and_wait(TOPIC, b"0")
        who.passwords["alice"] = "canary-secret-new"
        await producer.send_and_wait(TOPIC, b"1")
        before = asked(cluster, "sasl_authenticate")
        cluster.cut()
        deliveries = [producer.send_nowait(TOPIC, b"%d" % n) for n in range(2, 5)]
        await until(lambda: asked(cluster, "sasl_authenticate") >= before + 2)
        await asyncio.sleep(0.5)
        # Paced: not as often as an address is tried that does not answer.
        assert asked(cluster, "sasl_authenticate") <= before + 3
        assert not any(delivery.done() for delivery in deliveries)
        passwords.append("canary-secret-new")
        async with asyncio.timeout(15):
            await asyncio.gather(*deliveries)
        assert values(cluster) == [b"%d" % n for n in range(5)]
        assert not cluster.violations
    said = [text for text in caplog.messages if "records wait for it" in text]
    assert len(said) == 1
    assert "SASL_AUTHENTICATION_FAILED" in said[0]
    assert "canary" not in caplog.text


async def test_records_fail_after_their_delivery_timeout_with_the_reason() -> None:
    who = sasl()
    async with FakeCluster(topics={TOPIC: 1}, sasl=who) as cluster:
        producer = producer_of(
            cluster, **login(), delivery_timeout_ms=400, request_timeout_ms=300, linger_ms=0
        )
        await producer.start()
        await producer.send_and_wait(TOPIC, b"0")
        who.passwords.clear()
        cluster.cut()
        with pytest.raises(KafkaTimeoutError) as caught:
            await producer.send_and_wait(TOPIC, b"1")
        assert "SASL_AUTHENTICATION_FAILED" in str(caught.value)
        assert isinstance(caught.value.last_connect_error, SaslAuthenticationFailedError)
        await producer.close(timeout=0)


# ---- files that are missing for a moment


def token_from(file: Path) -> dict[str, Any]:
    file.write_text(TOKEN)
    return {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauthbearer_token_endpoint_url": file.as_uri(),
    }


@pytest.mark.parametrize("lost", ["one broker", "all brokers"])
async def test_a_record_waits_for_a_token_file_that_is_missing_for_a_moment(
    lost: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    async with (
        FakeCluster(brokers=2, topics={TOPIC: 2}, sasl=sasl()) as cluster,
        producer_of(cluster, **token_from(file), **FAST) as producer,
    ):
        for partition in range(2):
            await producer.send_and_wait(TOPIC, b"before", partition=partition)
        file.unlink()
        cluster.cut(cluster.leader(TOPIC, 1) if lost == "one broker" else None)
        delivery = producer.send_nowait(TOPIC, b"meanwhile", partition=1)
        await until(lambda: "records wait for it" in caplog.text)
        await asyncio.sleep(0.1)
        assert not delivery.done()
        file.write_text(TOKEN)
        assert (await delivery).offset == 1
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    waiting = [text for text in said if "records wait for it" in text]
    assert len(waiting) == 1
    assert f"the file {file} cannot be read" in waiting[0]
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("end", ["commit", "abort"])
async def test_the_end_of_a_transaction_waits_for_a_token_file(
    version: int, end: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    features = {"transaction.version": 2} if version == 2 else {}
    options: dict[str, Any] = {**token_from(file), **FAST, "transactional_id": "x"}
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=sasl(), features=features) as cluster,
        producer_of(cluster, **options) as producer,
    ):
        await producer.begin_transaction()
        await producer.send_and_wait(TOPIC, b"1")
        file.unlink()
        cluster.cut()
        call = producer.commit_transaction if end == "commit" else producer.abort_transaction
        ending = asyncio.create_task(call())
        await asyncio.sleep(0.1)
        assert not ending.done()
        file.write_text(TOKEN)
        await ending
        found = cluster.records(TOPIC, isolation="read_committed")
        assert [record.value for record in found] == ([b"1"] if end == "commit" else [])


async def test_a_record_that_waits_for_a_producer_id_waits_for_a_token_file_too(
    tmp_path: Path,
) -> None:
    file = tmp_path / "token"
    async with (
        FakeCluster(topics={TOPIC: 1}, sasl=sasl()) as cluster,
        producer_of(cluster, **token_from(file), **FAST) as producer,
    ):
        cluster.fail_next("init_producer_id", ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, count=20)
        await producer.partitions_for(TOPIC)
        delivery = producer.send_nowait(TOPIC, b"1")
        await cluster.received("init_producer_id")
        file.unlink()
        cluster.cut()
        await asyncio.sleep(0.1)
        assert not delivery.done()
        file.write_text(TOKEN)
        assert (await delivery).offset == 0


async def test_a_record_that_waited_in_vain_for_a_token_file_says_so(tmp_path: Path) -> None:
    file = tmp_path / "token"
    short = {**FAST, "delivery_timeout_ms": 400, "request_timeout_ms": 300, "linger_ms": 0}
    async with FakeCluster(topics={TOPIC: 1}, sasl=sasl()) as cluster:
        producer = producer_of(cluster, **token_from(file), **short)
        await producer.start()
        await producer.send_and_wait(TOPIC, b"0")
        file.unlink()
        cluster.cut()
        with pytest.raises(KafkaTimeoutError) as caught:
            await producer.send_and_wait(TOPIC, b"1")
        assert isinstance(caught.value.last_connect_error, ConfigError)
        assert str(file) in str(caught.value)
        await producer.close(timeout=0)


async def test_a_start_in_the_background_waits_for_a_token_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("aioproducer.network.starting.PAUSE", Backoff(10, 10))
    file = tmp_path / "token"
    options = token_from(file)
    file.unlink()
    async with FakeCluster(topics={TOPIC: 1}, sasl=sasl()) as cluster:
        with pytest.raises(ConfigError, match="cannot be read"):
            await producer_of(cluster, **options).start()
        producer = producer_of(cluster, **options, **FAST)
        await producer.start(wait=False)
        delivery = producer.send_nowait(TOPIC, b"0")
        await until(lambda: producer.status().last_error is not None)
        assert str(file) in producer.status().reason
        with pytest.raises(ConfigError, match="cannot be read"):
            await producer.start()
        file.write_text(TOKEN)
        assert (await delivery).offset == 0
        await producer.close()
    (said,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert "tried again until that is mended" in said
    assert str(file) in said
