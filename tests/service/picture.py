"""Draws the last run of each application: requests answered 2xx over time, a panel per scenario."""

# matplotlib is there for `make service` only.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import math
from pathlib import Path

from tests.service.results import Results
from tests.service.runner import SLICE
from tests.service.serve import OURS

__all__ = ["draw"]

_OURS_COLORS, _PEER_COLORS = ("#d1495b", "#edae49", "#8f2d56"), ("#30638e", "#8d99ae")
_COLUMNS = 2


def draw(results: Results, path: Path) -> None:
    """Write the picture."""
    from matplotlib.figure import Figure

    scenarios = [
        one for one in results.scenarios if any(results.of(one.name, a) for a in results.versions)
    ]
    rows = math.ceil(len(scenarios) / _COLUMNS)
    figure = Figure(figsize=(12, 2.4 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    ours, peers = iter(_OURS_COLORS), iter(_PEER_COLORS)
    colors = {app: next(ours if app in OURS else peers) for app in results.versions}
    for panel, scenario in zip(panels, scenarios, strict=False):
        # Ours last: above the others.
        for app in sorted(results.versions, key=lambda one: one in OURS):
            for run in results.of(scenario.name, app)[-1:]:
                times = [place * SLICE for place in range(len(run.series))]
                rates = [count / SLICE for count in run.series]
                panel.plot(times, rates, color=colors[app], label=app, linewidth=1.4)
        panel.set_title(f"{scenario.name}: {scenario.what}", loc="left", fontsize=8)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.tick_params(labelsize=7)
        panel.set_ylabel("2xx a second", fontsize=7)
    for panel in panels[len(scenarios) :]:
        panel.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    figure.savefig(path, dpi=130)
