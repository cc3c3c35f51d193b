"""The end of a run on the terminal: medians, spread, and how many times as good as whom."""

from __future__ import annotations

import statistics

from benchmarks.figures import short
from benchmarks.results import ContenderResult, Run, WorkloadResult

__all__ = ["ratio", "sentence", "show"]

_MIB = 1 << 20


def show(run: Run) -> str:
    """Return the tables of a run, and a sentence of ratios for each workload."""
    lines: list[str] = []
    for workload in run.workloads:
        lines += ["", f"{workload.title} [{workload.metric}]"]
        for contender in workload.measured():
            lines.append("  " + _row(workload, contender))
        lines += [
            f"  {contender.label:<42} left out: {contender.left_out}"
            for contender in workload.contenders
            if contender.left_out
        ]
    lines += ["", *[sentence(workload) for workload in run.workloads]]
    lines += [
        f"FAILED {workload.name}: {contender.label}: {contender.failure}"
        for workload, contender in run.failures()
    ]
    return "\n".join(lines)


def ratio(workload: WorkloadResult, ours: ContenderResult, other: ContenderResult) -> float:
    """Return our figure as a multiple of the other's: the median of the rounds' ratios."""
    pairs = zip(workload.values(ours), workload.values(other), strict=False)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def sentence(workload: WorkloadResult) -> str:
    """Return e.g. "aioproducer send_nowait: 14.2 x aiokafka, 0.95 x bare_socket (median of 5)"."""
    ours = workload.ours()
    if ours is None:
        return f"{workload.name}: aioproducer took no part"
    what = "" if workload.metric.is_better_high else f" {workload.metric}, less is better"
    ratios = [
        f"{short(ratio(workload, ours, other))} x {other.label}"
        for other in workload.measured()
        if other is not ours
    ]
    said = ", ".join(ratios) or short(workload.median(ours))
    return f"{ours.label} {workload.name}{what}: {said} (median of {len(ours.rounds)})"


def _row(workload: WorkloadResult, contender: ContenderResult) -> str:
    values = workload.values(contender)
    rounds = contender.rounds
    spread = f"({short(min(values))} to {short(max(values))})"
    cpu = statistics.median(one.cpu_us for one in rounds)
    memory = max(one.peak_memory_bytes for one in rounds) / _MIB
    text = (
        f"{contender.label:<42} {short(statistics.median(values)):>10}  {spread:<24}"
        f"  {short(cpu):>6} us CPU  {memory:>5.0f} MiB"
    )
    if rounds[0].latency_ms:
        latencies = (
            f"{name} {short(statistics.median(one.latency_ms[name] for one in rounds))}"
            for name in ("p50", "p99", "p999", "max")
        )
        text += f"  {'  '.join(latencies)} ms"
    return text
