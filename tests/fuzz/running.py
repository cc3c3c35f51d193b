"""Runs targets on fresh inputs: a few of them in the test suite, for as long as wanted by hand."""

from __future__ import annotations

import secrets
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import TARGETS, Finding, Target, check

__all__ = ["fuzz", "run"]

_EXAMPLES = 200
_SECONDS_BETWEEN_REPORTS = 10.0


def fuzz(target: Target, examples: int, with_seed: int) -> int:
    """Have a target take about so many inputs; returns how many it took for good.

    Raises:
        Finding: It broke its promise; the notes of the error tell the smallest input that does.
    """
    accepted = 0

    @seed(with_seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(target.inputs)
    def takes_anything(data: Any) -> None:
        nonlocal accepted
        accepted += check(target, data)

    takes_anything()
    return accepted


def run(
    minutes: float,
    report: Callable[[str], None],
    targets: Iterable[Target] = tuple(TARGETS.values()),
) -> int:
    """Fuzz every target in turn, with fresh seeds, until the time is over or one breaks.

    Args:
        minutes: How long.
        report: Called with the progress every 10 seconds, and with a finding.
        targets: What to fuzz.

    Returns:
        0, or 1 when there is a finding.
    """
    turns = list(targets)
    started = time.monotonic()
    next_report = started + _SECONDS_BETWEEN_REPORTS
    inputs = accepted = turn = 0
    while time.monotonic() < started + 60 * minutes:
        target = turns[turn % len(turns)]
        turn += 1
        with_seed = secrets.randbits(64)
        try:
            accepted += fuzz(target, _EXAMPLES, with_seed)
        except Finding as finding:
            report(f"fuzz: {target.name} broke with seed {with_seed}")
            report("".join(traceback.format_exception(finding)))
            return 1
        inputs += _EXAMPLES
        if time.monotonic() >= next_report:
            next_report += _SECONDS_BETWEEN_REPORTS
            report(f"fuzz: about {inputs} inputs, {accepted} of them accepted, no finding")
    report(f"fuzz: about {inputs} inputs to {min(turn, len(turns))} targets, no finding")
    return 0
