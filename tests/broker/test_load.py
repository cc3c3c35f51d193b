"""A hundred thousand senders while the leader is frozen; `make soak PARTS=load` takes longer."""

from __future__ import annotations

import asyncio

import pytest

from tests.soak.load import senders_outlive_a_frozen_leader
from tools.kafka import NodeControl

pytestmark = pytest.mark.slow


@pytest.mark.timeout(120)
def test_a_hundred_thousand_senders_outlive_a_frozen_leader(kafka3: NodeControl) -> None:
    # Longer than the session timeout of these brokers: the partition has no leader for a while.
    asyncio.run(senders_outlive_a_frozen_leader(kafka3, senders=100_000, frozen_for=5))
