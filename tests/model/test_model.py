"""Random programs against the whole producer: nothing lost or twice, all in order and in time."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings

from tests.model.player import play
from tests.model.program import (
    AddPartitions,
    Fail,
    FailSome,
    Program,
    Recreate,
    Send,
    SendMany,
    Setup,
    Step,
    Turns,
    Wait,
    programs,
)
from tests.model.promises import broken_promises

# What random programs have found, each as short as it can be.
FOUND: dict[str, tuple[Setup, tuple[Step, ...]]] = {
    "a connection that was made for nothing while the one in use was lost": (
        Setup(acks=0, idempotence=False, batch_size=0, partitions=1),
        (
            Fail(count=6),
            AddPartitions(),
            Send(),
            Turns(count=3),
            Turns(count=4),
            Send(partition=1),
            Send(partition=None, key=1),
        ),
    ),
    "unknown outcome behind an acknowledged record that the broker has forgotten": (
        Setup(batch_size=0),
        (
            *[Send()] * 7,
            Send(how="send", partition=1),
            Send(how="and_wait", partition=1),
            FailSome(code=20, stored=True, which=42),
            FailSome(code=20, stored=True, which=36),
        ),
    ),
    "the headers of a split batch's parts, for which the buffer had no space": (
        Setup(buffer_memory=1000),
        (
            Send(),
            Wait(),
            *[Send()] * 6,
            SendMany(count=8, partition=1, size=100),
            Fail(code=10),
            Recreate(partitions=1),
            *[Send()] * 4,
            Wait(),
        ),
    ),
    "a caller that was admitted before one with more to send, once their topic was known": (
        Setup(batch_size=0, buffer_memory=1000),
        (
            AddPartitions(),
            Send(),
            Send(how="and_wait"),
            Send(how="send", partition=None, size=100, deadline=0.001),
            Send(how="and_wait", size=300),
            AddPartitions(),
            Send(how="and_wait"),
            Send(how="and_wait", size=100),
            Send(how="and_wait"),
            Wait(),
        ),
    ),
}


@pytest.mark.timeout(600)
@settings(
    max_examples=2_000 if os.environ.get("CI") else 200,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(program=programs())
def test_every_program_keeps_the_promises(program: Program) -> None:
    broken = broken_promises(play(program))
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(("setup", "steps"), FOUND.values(), ids=FOUND)
@pytest.mark.parametrize("heal", [True, False], ids=["healed", "not healed"])
def test_programs_that_once_broke_a_promise_keep_it(
    setup: Setup, steps: tuple[Step, ...], heal: bool
) -> None:
    broken = broken_promises(play(Program(setup, steps, heal=heal)))
    assert not broken, "\n".join(broken)
