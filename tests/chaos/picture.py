"""Draws one run: the longest wait over time of each client, with the phases in the background."""

# matplotlib is there for `make chaos` only.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import math
from pathlib import Path

from tests.chaos.runner import OURS, SLICE, Run

__all__ = ["draw"]

_OURS_COLOR, _PEER_COLORS = "#d1495b", ("#30638e", "#8d99ae")


def draw(run: Run, path: Path) -> None:
    """Write the picture of a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5), layout="constrained")
    axes = figure.add_subplot()
    start = run.phases[0].started_at
    for number, phase in enumerate(run.phases):
        begin, end = phase.started_at - start, phase.ended_at - start
        axes.axvspan(begin, end, color="black", alpha=0.03 + 0.05 * (number % 2), linewidth=0)
        axes.annotate(
            phase.name,
            ((begin + end) / 2, 0.99),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            rotation=90,
            fontsize=8,
        )
    peers = iter(_PEER_COLORS)
    for client in sorted(run.clients, key=lambda one: one.client == OURS):
        series = client.waits.series
        axes.plot(
            [place * SLICE for place in range(len(series))],
            [value or math.nan for value in series],  # nothing was called: a gap
            label=f"{client.client}: longest {client.waits.longest:.1f} s",
            color=_OURS_COLOR if client.client == OURS else next(peers),
            linewidth=1.6 if client.client == OURS else 1.1,
        )
    axes.set_yscale("log")
    axes.set_xlim(0, run.phases[-1].ended_at - start)
    axes.set_xlabel("seconds")
    axes.set_ylabel("longest wait of the records sent then, seconds")
    axes.set_title(
        "How long a record waits for its outcome while the cluster is broken", loc="left"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=130)
