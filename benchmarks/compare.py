"""Tells whether a run is slower than a stored one, beyond what chance explains.

Machines and days differ, so absolute figures are not compared: what counts is this producer's
ratio to the others of the same run. A workload has regressed when its ratio to most of them fell
by more than the rounds of either run scatter.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.results import Run, WorkloadResult
from benchmarks.summary import ratio

__all__ = ["Verdict", "compare"]

_LEAST_NOISE = 0.05
"""A change of less than this share is never called one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comparing showed.

    Attributes:
        text: A table, and the regressions by name.
        regressions: The workloads that have regressed.
    """

    text: str
    regressions: tuple[str, ...]


def compare(stored: Run, new: Run) -> Verdict:
    """Compare the workloads that both runs have."""
    old_workloads = {workload.name: workload for workload in stored.workloads}
    lines = [
        "",
        f"Against {stored.name} ({stored.git_revision}, {stored.started_at}):",
        "ratios to the other clients of the same run, and how much of a change is noise",
    ]
    regressions: list[str] = []
    for workload in new.workloads:
        before = old_workloads.get(workload.name)
        if before is None:
            continue
        change = _change(before, workload)
        if change is None:
            continue
        noise = max(_LEAST_NOISE, _scatter(before), _scatter(workload))
        mark = ""
        if change < -noise:
            regressions.append(workload.name)
            mark = "  REGRESSION"
        elif change > noise:
            mark = "  better"
        lines.append(f"  {workload.name:<20} {change:+7.1%}  noise {noise:.1%}{mark}")
    lines.append(f"regressions: {', '.join(regressions) or 'none'}")
    return Verdict("\n".join(lines), tuple(regressions))


def _change(before: WorkloadResult, after: WorkloadResult) -> float | None:
    """Return the median change over all others; above 0 is better. None if nobody is in both."""
    old_ours, new_ours = before.ours(), after.ours()
    if old_ours is None or new_ours is None:
        return None
    changes: list[float] = []
    for other in after.measured():
        old_other = before.find(other.label)
        if other is new_ours or old_other is None:
            continue
        factor = ratio(after, new_ours, other) / ratio(before, old_ours, old_other)
        changes.append(factor - 1 if after.metric.is_better_high else 1 / factor - 1)
    return statistics.median(changes) if changes else None


def _scatter(workload: WorkloadResult) -> float:
    """Return how far the rounds are from their median, as a share: the middle one of them."""
    shares: list[float] = []
    for contender in workload.measured():
        values = workload.values(contender)
        middle = statistics.median(values)
        shares.append(statistics.median(abs(value - middle) for value in values) / middle)
    return 2 * max(shares, default=0.0)
