"""The short version of `make exactly-once`: a coordinator killed, and commits cut on the wire."""

from __future__ import annotations

import pytest

from tests.exactly_once.faults import SHORT
from tests.exactly_once.results import show
from tests.exactly_once.runner import OURS, run
from tools.kafka_java import LocalKafka

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_each_transaction_is_whole_or_absent_as_the_application_was_told(
    wired_kafka3: LocalKafka,
) -> None:
    # A peer in the same run: when both fail, look at the brokers first.
    found = run(wired_kafka3, SHORT, [OURS, "confluent_kafka"], say=print)
    print(show([found], SHORT))
    assert found.broken() == {}, found.folder
    ours = found.clients[0]
    assert ours.findings.committed > 100
    assert ours.findings.fenced > 0
    assert min(ours.cuts) > 0
