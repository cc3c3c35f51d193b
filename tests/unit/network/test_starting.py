"""What follows a failed attempt to reach the bootstrap servers."""

from __future__ import annotations

import pytest

from aioproducer import KafkaConnectionError, ListenerMismatchError, ProducerConfig, TlsError
from aioproducer.errors import (
    RebootstrapRequiredError,
    SaslAuthenticationFailedError,
    UnsupportedVersionError,
)
from aioproducer.network.starting import Attempts


@pytest.fixture
def attempts() -> Attempts:
    return Attempts(
        ProducerConfig(
            bootstrap_servers="localhost:9092",
            reconnect_backoff_ms=50,
            reconnect_backoff_max_ms=1_000,
        )
    )


@pytest.mark.parametrize(
    "error", [KafkaConnectionError("nobody"), TimeoutError(), RebootstrapRequiredError()]
)
def test_an_address_that_does_not_answer_is_waited_for(
    attempts: Attempts, error: BaseException
) -> None:
    assert not attempts.failed(error, 0)
    assert not attempts.failed(error, 100)
    assert attempts.failures == 2


@pytest.mark.parametrize(
    "error", [SaslAuthenticationFailedError(), TlsError("no"), UnsupportedVersionError()]
)
def test_an_answer_that_says_no_is_final(attempts: Attempts, error: BaseException) -> None:
    assert attempts.failed(error, 0)


def test_a_listener_that_shows_another_protocol_is_no_use_at_once(attempts: Attempts) -> None:
    assert attempts.failed(ListenerMismatchError(is_certain=True), 0)


def test_one_that_only_hangs_up_is_given_three_seconds_in_a_row(attempts: Attempts) -> None:
    hangs_up = ListenerMismatchError()
    assert not attempts.failed(hangs_up, 0)
    assert not attempts.failed(hangs_up, 2.9)
    assert not attempts.failed(KafkaConnectionError("nobody"), 3)
    assert not attempts.failed(hangs_up, 3.1)
    assert attempts.failed(hangs_up, 6.2)


def test_the_pauses_grow_and_are_longer_after_a_refusal(attempts: Attempts) -> None:
    pauses: list[float] = []
    for _ in range(10):
        attempts.failed(KafkaConnectionError("nobody"), 0)
        pauses.append(attempts.pause(is_hopeless=False))
    assert 0.04 <= pauses[0] <= 0.06
    assert 0.8 <= pauses[-1] <= 1.0
    assert 8 <= attempts.pause(is_hopeless=True) <= 10
