"""When a producer counts as healthy, and what its status is as a value."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from aioproducer import ProducerStatus
from aioproducer.telemetry.status import why_unhealthy


def why(**facts: Any) -> str:
    return why_unhealthy("open", late_after=30, **facts)


def test_an_open_producer_is_healthy() -> None:
    assert why() == ""


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("created", "The producer is not started."),
        ("starting", "The producer has not reached the cluster yet."),
        ("draining", "The process is about to end."),
        ("closing", "The producer is closing."),
        ("closed", "The producer is closed."),
        ("left behind by a fork", "The producer was started before this process was forked."),
    ],
)
def test_in_another_state_it_is_not(state: Any, reason: str) -> None:
    assert why_unhealthy(state) == reason


def test_a_start_that_fails_says_why() -> None:
    reason = why_unhealthy("starting", last_error="127.0.0.1:1: connection refused.")
    assert reason == (
        "The producer has not reached the cluster yet: 127.0.0.1:1: connection refused."
    )


def test_a_moment_without_any_broker_is_no_illness() -> None:
    assert why(down_for=1.9) == ""
    assert why(down_for=12.3) == "No broker has worked for 12.3 s."


def test_a_producer_id_that_takes_long_is_missed() -> None:
    assert why(no_producer_id_for=1.9) == ""
    assert why(no_producer_id_for=3.0) == "The producer has no producer id for 3 s."


def test_a_producer_id_that_is_refused_is_missed_at_once() -> None:
    assert why(producer_id_refused=True, last_error="no") == "The producer gets no producer id: no"


def test_a_producer_that_can_do_nothing_more_says_why() -> None:
    assert why(no_transaction_because="fenced") == "No transaction can begin: fenced"


def test_old_records_are_an_illness_only_while_none_is_stored() -> None:
    assert why(oldest_record_age=29.0) == ""
    assert why(oldest_record_age=31.0, stored_ago=1.0) == ""
    assert why(oldest_record_age=31.0, stored_ago=31.0) != ""
    assert why(oldest_record_age=31.0) == "Records have waited for 31 s, and none is stored."


def test_a_status_is_json_and_a_value() -> None:
    status = ProducerStatus(
        healthy=True,
        reason="",
        state="open",
        client_id="me",
        brokers={"1 at kafka:9092": "connected"},
        oldest_record_age=0.5,
    )
    parsed = json.loads(json.dumps(status.as_dict()))
    assert parsed["brokers"] == {"1 at kafka:9092": "connected"}
    assert set(parsed) == {one.name for one in dataclasses.fields(ProducerStatus)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.healthy = False  # type: ignore[misc]


def test_its_attributes_are_found_by_name() -> None:
    status = ProducerStatus(healthy=False, reason="no", state="created", client_id="me")
    assert status["state"] == "created"
    with pytest.raises(KeyError):
        status["as_dict"]
