"""Random transactions: each whole or absent, none twice, and the producer always goes on."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings

from tests.model.transactions import Program, play, programs


@pytest.mark.timeout(300)
@settings(
    max_examples=500 if os.environ.get("CI") else 100,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(program=programs())
def test_every_transaction_is_whole_or_absent(program: Program) -> None:
    broken = play(program)
    assert not broken, "\n".join(broken)
