"""The short version of `make service`: the examples as processes, broken under HTTP clients."""

from __future__ import annotations

import pytest

from tests.service.runner import Outcome, create_topics, run
from tests.service.scenarios import SCENARIOS
from tools.kafka import NodeControl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.fixture(scope="module")
def with_topics() -> set[str]:
    """The Kafkas that have the topics of the examples, by address."""
    return set()


def play(kafka: NodeControl, with_topics: set[str], app: str, scenario: str) -> Outcome:
    """Run an application through a scenario; it must keep every promise."""
    if kafka.bootstrap_servers not in with_topics:
        create_topics(kafka)
        with_topics.add(kafka.bootstrap_servers)
    outcome = run(kafka, app, _BY_NAME[scenario], clients=100, seconds=3, say=print)
    assert outcome.broken() == {}, (outcome.findings.examples, outcome.folder)
    assert outcome.findings.without_retry_after == 0
    assert outcome.findings.stored > 100
    return outcome


def test_clients_that_hang_up_cost_the_others_nothing(
    kafka1: NodeControl, with_topics: set[str]
) -> None:
    found = play(kafka1, with_topics, "aioproducer", "hang-ups").findings
    assert {*found.statuses} == {"200", "hung up"}
    assert found.unknown > 50


@pytest.mark.parametrize("app", ["aioproducer", "aioproducer-aiohttp", "aioproducer-litestar"])
def test_sigterm_under_load_loses_no_record_that_was_answered_2xx(
    kafka1: NodeControl, with_topics: set[str], app: str
) -> None:
    found = play(kafka1, with_topics, app, "sigterm").findings
    assert found.accepted > 0
    # Those in progress are finished; the next on a connection that the server closes has none.
    assert {*found.statuses} <= {"200", "201", "202", "no answer"}
    assert found.unknown_and_stored == 0


def test_what_a_frozen_broker_did_not_take_by_the_end_of_the_service_is_handed_to_it(
    kafka1: NodeControl, with_topics: set[str]
) -> None:
    outcome = play(kafka1, with_topics, "aioproducer", "sigterm-frozen")
    assert outcome.findings.accepted > 0
    assert outcome.findings.handed_over > 0


@pytest.mark.parametrize("app", ["aioproducer", "aioproducer-aiohttp", "aioproducer-litestar"])
def test_no_503_of_an_outage_has_its_record_in_the_log(
    kafka1: NodeControl, with_topics: set[str], app: str
) -> None:
    outcome = play(kafka1, with_topics, app, "killed")
    assert outcome.findings.refused > 50
    assert outcome.recovered_after is not None


@pytest.mark.parametrize("scenario", ["frozen", "buffer-full"])
def test_a_service_refuses_while_its_broker_is_frozen_and_serves_again_after(
    kafka1: NodeControl, with_topics: set[str], scenario: str
) -> None:
    outcome = play(kafka1, with_topics, "aioproducer", scenario)
    assert outcome.findings.refused > 50
    assert outcome.recovered_after is not None
