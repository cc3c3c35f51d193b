"""Draws runs: the longest wait over time of each client, with the phases in the background."""

# matplotlib is there for `make chaos` only.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.chaos.audit import Phase, Waits
from tests.chaos.runner import OURS, SLICE

__all__ = ["draw"]

_OURS_COLOR, _PEER_COLORS = "#d1495b", ("#30638e", "#8d99ae")


class _Client(Protocol):
    @property
    def client(self) -> str: ...
    @property
    def waits(self) -> Waits: ...


class _Run(Protocol):
    @property
    def phases(self) -> Sequence[Phase]: ...
    @property
    def clients(self) -> Sequence[_Client]: ...


def draw(runs: Mapping[str, _Run], waits_of: str, path: Path, *, slice_of: float = SLICE) -> None:
    """Write a picture of runs, one below the other.

    Args:
        runs: By title.
        waits_of: Whose waits they are, in the plural.
        path: Where.
        slice_of: Seconds of a slice of the series.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5 * len(runs)), layout="constrained")
    for number, (title, run) in enumerate(runs.items(), 1):
        _draw_run(figure.add_subplot(len(runs), 1, number), run, title, waits_of, slice_of)
    figure.savefig(path, dpi=130)


def _draw_run(axes: Any, run: _Run, title: str, waits_of: str, slice_of: float) -> None:
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
            [place * slice_of for place in range(len(series))],
            [value or math.nan for value in series],  # nothing was called: a gap
            label=f"{client.client}: longest {client.waits.longest:.1f} s",
            color=_OURS_COLOR if client.client == OURS else next(peers),
            linewidth=1.6 if client.client == OURS else 1.1,
        )
    axes.set_yscale("log")
    axes.set_xlim(0, run.phases[-1].ended_at - start)
    axes.set_xlabel("seconds")
    axes.set_ylabel(f"longest wait of the {waits_of} of then, seconds")
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
