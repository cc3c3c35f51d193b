"""The short version of `make chaos`: brokers killed, frozen and restarted under mixed load."""

from __future__ import annotations

import pytest

from tests.broker.helpers import wait_for_brokers
from tests.chaos.faults import SHORT
from tests.chaos.results import show
from tests.chaos.runner import OURS, run
from tools.kafka import NodeControl

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_no_promise_is_broken_while_brokers_are_killed_frozen_and_restarted(
    kafka3: NodeControl,
) -> None:
    wait_for_brokers(kafka3, 3)
    # A peer in the same run: when both fail, look at the brokers first.
    found = run(kafka3, SHORT, [OURS, "confluent_kafka"], rate=500, say=print)
    print(show(found, SHORT))
    assert found.broken() == {}, found.folder
    ours = found.clients[0].main
    assert ours.acknowledged > 10_000
    assert ours.abandoned > 0
