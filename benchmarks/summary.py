"""The end of a run on the terminal: medians, spread, and how many times faster than whom."""

from __future__ import annotations

import statistics

from benchmarks.results import ContenderResult, Run, WorkloadResult

__all__ = ["ratio", "sentence", "show"]


def show(run: Run) -> str:
    """Return the tables of a run, and a sentence of ratios for each workload."""
    lines: list[str] = []
    for workload in run.workloads:
        lines += ["", f"{workload.title} [{workload.metric}]"]
        for contender in workload.measured():
            lines.append("  " + _row(workload, contender))
        lines += [
            f"  {contender.label:<34} left out: {contender.note}"
            for contender in workload.contenders
            if contender.note
        ]
    lines += ["", *[sentence(run, workload) for workload in run.workloads]]
    return "\n".join(lines)


def ratio(workload: WorkloadResult, ours: ContenderResult, other: ContenderResult) -> float:
    """Return how many times as good `ours` is: the median of the ratios within each round."""
    pairs = zip(workload.values(ours), workload.values(other), strict=False)
    ratios = [mine / theirs for mine, theirs in pairs if theirs]
    return statistics.median(ratios) if ratios else 0.0


def sentence(run: Run, workload: WorkloadResult) -> str:
    """Return e.g. "aioproducer send_nowait: 14.2 x aiokafka, 0.95 x bare_socket (median of 5)"."""
    measured = workload.measured()
    if not measured or measured[0].client != "aioproducer":
        return f"{workload.name}: not measured"
    ours = measured[0]
    parts = [f"{ratio(workload, ours, other):.2f} x {other.label}" for other in measured[1:]]
    figures = ", ".join(parts) or f"{workload.median(ours):,.2f}"
    what = "" if workload.metric.is_better_high else f" {workload.metric}, less is better"
    return f"{ours.label} {workload.name}{what}: {figures} (median of {run.rounds})"


def _row(workload: WorkloadResult, contender: ContenderResult) -> str:
    values = workload.values(contender)
    first = contender.rounds[0]
    cpu = statistics.median(one.cpu_us for one in contender.rounds)
    memory = max(one.peak_memory_bytes for one in contender.rounds) / (1 << 20)
    text = (
        f"{contender.label:<34} {statistics.median(values):>14,.2f}"
        f"  ({min(values):,.2f} to {max(values):,.2f})"
        f"  {cpu:.2f} us CPU  {memory:.0f} MiB"
    )
    if first.latency_ms:
        p50, p99, worst = (
            statistics.median(one.latency_ms[name] for one in contender.rounds)
            for name in ("p50", "p99", "max")
        )
        text += f"  p50 {p50:.2f}  p99 {p99:.2f}  max {worst:.2f} ms"
    return text
