"""`python -m benchmarks.report [NAME]`: a stored run as a Markdown page and as pictures.

Writes `NAME.md` and its pictures beside `NAME.json`. Every figure in README and docs comes from
there.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import goals, importing
from benchmarks.figures import short
from benchmarks.results import FOLDER, LATEST, ContenderResult, Run, WorkloadResult
from benchmarks.summary import ratio
from benchmarks.workloads import BARE_WITHOUT_TRANSACTIONS, WITHOUT_TRANSACTIONS, Metric

if TYPE_CHECKING:
    # Imported where it draws: the page needs none of it.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CHAPTERS = {
    "patterns": "Throughput",
    "route": "A FastAPI route that waits for its record",
    "web": "Tasks that wait for their records",
    "latency": "Latency",
    "loop": "The loop stays free",
    "scale": "Scale and cost",
    "defaults": "Defaults against tuned settings",
    "tls": "Over TLS, and without it",
    "transactions": "Transactions",
}
_OURS_COLOR, _FLOOR_COLOR, _PEER_COLOR = "#d1495b", "#8d99ae", "#30638e"
_FLOORS = {"bare_socket", "bare_transactions", "loop_floor", "no_kafka"}
_MIB = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and the pictures of one run; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("name", nargs="?", default=LATEST, help="of a run in benchmarks/results")
    name = parser.parse_args(argv).name
    path = FOLDER / f"{name}.json"
    if not path.exists():
        print(f"there is no run {name!r} in {FOLDER.name}/", file=sys.stderr)
        return 2
    write(Run.read(path))
    return 0


def write(run: Run) -> list[Path]:
    """Write the page and the pictures of a run; return where they are."""
    pictures: list[Path] = []
    drawings: dict[str, Callable[[Run], Figure | None]] = {
        "throughput": _draw_throughput,
        "route": _draw_route,
        "web": _draw_web,
        "latency": _draw_latency,
        "scale": _draw_scale,
        "transactions": _draw_transactions,
        "overhead": _draw_overhead,
    }
    for name, draw in drawings.items():
        figure = draw(run)
        if figure is not None:
            stem = run.name if run.name == name else f"{run.name}-{name}"
            pictures.append(FOLDER / f"{stem}.png")
            figure.savefig(pictures[-1], dpi=130)
    where = FOLDER / f"{run.name}.md"
    where.write_text(page(run, pictures))
    for path in (where, *pictures):
        print(path.relative_to(FOLDER.parent.parent))
    return [where, *pictures]


# ---- the page


def page(run: Run, pictures: Sequence[Path]) -> str:
    """Return the page of a run in Markdown."""
    machine = run.machine
    has_goals = any(
        one.chapter in ("route", "scale", "transactions") for one in run.workloads
    ) or bool(run.imports)
    counts = {len(one.rounds) for each in run.workloads for one in each.measured()} or {run.rounds}
    versions = (f"{name} {version}" for name, version in run.versions().items() if version != "-")
    lines = [
        f"# Benchmark run {run.name}",
        "",
        f"{run.started_at}, revision {run.git_revision}, Kafka {run.kafka} on the same machine:"
        f" {machine['cpu']}, {machine['cores']} cores, {machine['memory']}, {machine['system']},"
        f" {machine['python']}.",
        "",
        f"{'; '.join(versions)}.",
        "",
        *(
            ["## Goals", "", *goals.table(run), "", "## How it was measured", ""]
            if has_goals
            else []
        ),
        f"{' or '.join(map(str, sorted(counts)))} rounds, client by client in turn, and the other"
        f" way round in every other round, {run.seconds:g} s of sending each; median"
        " (least to most). acks=all, idempotent where the client can, 6 partitions, values of 100"
        " bytes unless said otherwise. After each measurement the log held exactly the records that"
        " were acknowledged. CPU is the client's processor time per record, memory its peak.",
        "",
        *[f"![{picture.stem}]({picture.name})" for picture in pictures],
    ]
    for chapter, title in _CHAPTERS.items():
        workloads = [one for one in run.workloads if one.chapter == chapter and one.measured()]
        if workloads:
            lines += ["", f"## {title}"]
        for workload in workloads:
            rows = _route_table(run, workload) if chapter == "route" else _table(workload)
            lines += ["", f"### {workload.title}", "", *rows]
    if run.imports:
        lines += ["", "## Imports", "", *importing.table(run.imports)]
    return "\n".join(lines) + "\n"


def _table(workload: WorkloadResult) -> list[str]:
    has_latency = any(one.rounds[0].latency_ms for one in workload.measured())
    head = ["client", "how", str(workload.metric), "aioproducer is", "us CPU", "MiB"]
    head += ["p50 / p99 / p99.9 / max ms"] if has_latency else []
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    ours = workload.ours()
    for contender in workload.measured():
        values = workload.values(contender)
        rounds = contender.rounds
        against = ""
        if ours is not None and ours is not contender:
            against = f"{short(ratio(workload, ours, contender))} x"
        row = [
            contender.label,
            contender.idiom,
            _spread_of(values),
            against,
            short(statistics.median(one.cpu_us for one in rounds)),
            f"{max(one.peak_memory_bytes for one in rounds) / _MIB:.0f}",
        ]
        if has_latency:
            names = ("p50", "p99", "p999", "max") if rounds[0].latency_ms else ()
            row.append(" / ".join(short(_latency(contender, name)) for name in names))
        lines.append(f"| {' | '.join(row)} |")
    return lines + _failed(workload)


def _route_table(run: Run, workload: WorkloadResult) -> list[str]:
    """Return a table of requests: what Kafka adds to each, in pairs of the same round."""
    head = [
        "client",
        "us CPU per request",
        "above no Kafka",
        "of aiokafka's",
        "broker us CPU per record",
        "p50 / p99 ms",
        "requests/s",
        "records per Produce request",
    ]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for contender in workload.measured():
        rounds = contender.rounds
        writes = contender.client != "no_kafka"
        share: list[float] = []
        if contender.label == "aioproducer":
            share = goals.share_above_floor(workload.name)(run)
        row = [
            contender.label,
            _spread_of([one.cpu_us for one in rounds]),
            _spread_of(goals.above_floor(run, workload.name, contender.label) if writes else []),
            _spread_of(share, " x"),
            _spread_of([one.broker_us for one in rounds if one.broker_us] if writes else []),
            " / ".join(short(_latency(contender, name)) for name in ("p50", "p99")),
            _spread_of([one.rate for one in rounds]),
            _spread_of([one.records_per_request for one in rounds if one.records_per_request]),
        ]
        lines.append(f"| {' | '.join(row)} |")
    return lines + _failed(workload)


def _failed(workload: WorkloadResult) -> list[str]:
    return [
        f"| {contender.label} | {contender.idiom} | failed: {contender.failure} |"
        for contender in workload.contenders
        if contender.failure
    ]


def _spread_of(values: Sequence[float], unit: str = "") -> str:
    """Return the median with least and most, or a dash for nothing."""
    if not values:
        return "-"
    spread = f"({short(min(values))} to {short(max(values))})"
    return f"{short(statistics.median(values))}{unit} {spread}"


def _latency(contender: ContenderResult, name: str) -> float:
    return statistics.median(one.latency_ms[name] for one in contender.rounds)


# ---- the pictures


def _draw_throughput(run: Run) -> Figure | None:
    workloads = [one for one in run.workloads if one.chapter == "patterns" and one.measured()]
    if not workloads:
        return None
    figure, panels = _panels(workloads, columns=2, title="Records per second, more is better")
    for axes, workload in zip(panels, workloads, strict=False):
        _draw_bars(axes, workload, 1e-6)
        axes.set_xlabel("million records/s")
    return figure


def _draw_transactions(run: Run) -> Figure | None:
    workloads = [
        one for one in run.workloads if one.metric is Metric.TRANSACTIONS and one.measured()
    ]
    if not workloads:
        return None
    figure, panels = _panels(workloads, columns=1, title="Transactions per second, more is better")
    for axes, workload in zip(panels, workloads, strict=False):
        _draw_bars(axes, workload, 1)
    panels[-1].set_xlabel("transactions/s")
    return figure


def _draw_overhead(run: Run) -> Figure | None:
    from matplotlib.figure import Figure

    workloads = [one for one in run.workloads if one.name.startswith("transactions_overhead_")]
    if not workloads:
        return None
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for ours, other, color in (
        ("aioproducer", WITHOUT_TRANSACTIONS, _OURS_COLOR),
        ("bare_transactions", BARE_WITHOUT_TRANSACTIONS, _FLOOR_COLOR),
    ):
        points = [
            (float(one.value_bytes), shares)
            for one in workloads
            if (shares := goals.multiple(one.name, one.metric, other, ours)(run))
        ]
        _draw_line(axes, points, ours, color)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks([one.value_bytes for one in workloads])
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("bytes of a value")
    axes.set_title(
        "10,000 records at a time: records/s in transactions, of those without",
        fontsize=10,
        loc="left",
    )
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def _draw_latency(run: Run) -> Figure | None:
    workloads = [
        one
        for one in run.workloads
        if one.measured() and one.metric in (Metric.P50, Metric.P99) and one.chapter == "latency"
    ]
    if not workloads:
        return None
    figure, panels = _panels(workloads, columns=2, title="Latency, less is better")
    for axes, workload in zip(panels, workloads, strict=False):
        contenders = workload.measured()[::-1]
        for place, contender in enumerate(contenders):
            low, high = _latency(contender, "p50"), _latency(contender, "p99")
            color = _color(contender)
            axes.plot([low, high], [place, place], color=color, linewidth=2)
            axes.plot([low], [place], "o", color=color, markersize=7)
            axes.plot([high], [place], "|", color=color, markersize=12)
            text = f"  {short(low)} / {short(high)}"
            axes.annotate(text, (high, place), va="center", fontsize=8)
        axes.set_yticks(range(len(contenders)), [one.label for one in contenders], fontsize=8)
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.12)
        axes.set_title(workload.title.replace("`", ""), fontsize=10, loc="left")
        axes.set_xlabel("ms: dot p50, end p99")
    return figure


def _draw_web(run: Run) -> Figure | None:
    workloads = [one for one in run.workloads if one.name.startswith("web_") and one.measured()]
    if len(workloads) < 2:
        return None
    return _lines(
        "Tasks that each await send_and_wait() in turn",
        "tasks",
        [
            _Panel(
                "records/s",
                workloads,
                lambda workload: float(workload.name.rpartition("_")[2]),
                Metric.RATE,
            )
        ],
    )


def _draw_route(run: Run) -> Figure | None:
    def clients(workload: WorkloadResult) -> float:
        return float(workload.name.split("_")[1])

    routes = [one for one in run.workloads if one.chapter == "route" and one.measured()]
    busy = [one for one in routes if one.name.endswith("_busy")]
    quiet = [one for one in routes if one not in busy]
    panels = [
        _Panel(f"{title}: {metric}", workloads, clients, metric)
        for title, workloads in (("quiet", quiet), ("both cores busy", busy))
        for metric in (Metric.CPU, Metric.P50)
        if workloads
    ]
    return _lines("A FastAPI route, by clients", "clients", panels) if panels else None


def _draw_scale(run: Run) -> Figure | None:
    def count(workload: WorkloadResult) -> float:
        return float(workload.name.rpartition("_")[2])

    def find(prefix: str) -> list[WorkloadResult]:
        return [one for one in run.workloads if one.name.startswith(prefix) and one.measured()]

    panels = [
        _Panel("us CPU/record, by partitions", find("partitions_"), count, Metric.CPU),
        _Panel("us CPU/record, by topics", find("topics_"), count, Metric.CPU),
        _Panel(
            "MB/s, by bytes of a value",
            find("value_"),
            lambda one: float(one.value_bytes),
            Metric.MEGABYTES,
        ),
    ]
    panels = [panel for panel in panels if panel.workloads]
    return _lines("Cost and throughput as things grow", "", panels) if panels else None


@dataclass(frozen=True, slots=True)
class _Panel:
    """A line per contender over workloads that differ in one number, `x_of`."""

    title: str
    workloads: Sequence[WorkloadResult]
    x_of: Callable[[WorkloadResult], float]
    metric: Metric


def _lines(title: str, x_label: str, panels: Sequence[_Panel]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(panels) + 1.2, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=12)
    for place, panel in enumerate(panels):
        workloads = panel.workloads
        axes = figure.add_subplot(1, len(panels), place + 1)
        labels = dict.fromkeys(one.label for each in workloads for one in each.measured())
        for label in labels:
            points = sorted(
                (panel.x_of(each), found.values(panel.metric, each.value_bytes))
                for each in workloads
                if (found := each.find(label)) is not None
            )
            found = next(one for each in workloads if (one := each.find(label)) is not None)
            color = None if _color(found) == _PEER_COLOR else _color(found)
            _draw_line(axes, points, label, color, "--" if "uvloop" in label else "-")
        axes.set_xscale("log")
        if len(labels) > 1:
            axes.set_yscale("log")
            axes.legend(fontsize=7)
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(x_label)
        axes.set_title(panel.title, fontsize=10, loc="left")
        axes.grid(alpha=0.3)
    return figure


def _draw_line(
    axes: Axes,
    points: Sequence[tuple[float, Sequence[float]]],
    label: str,
    color: str | None,
    linestyle: str = "-",
) -> None:
    """Draw the median of the rounds at each x, with least and most."""
    rounds = [values for _, values in points]
    middles = [statistics.median(values) for values in rounds]
    axes.errorbar(
        [x for x, _ in points],
        middles,
        yerr=_spread(middles, rounds),
        marker="o",
        capsize=3,
        label=label,
        color=color,
        linestyle=linestyle,
    )


def _panels(
    workloads: Sequence[WorkloadResult], columns: int, title: str
) -> tuple[Figure, list[Axes]]:
    columns = min(columns, len(workloads))
    rows = -(-len(workloads) // columns)
    most = max(len(workload.measured()) for workload in workloads)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * columns, (0.32 * most + 1.1) * rows), layout="constrained")
    figure.suptitle(title, fontsize=12)
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(len(workloads))]


def _draw_bars(axes: Axes, workload: WorkloadResult, unit: float) -> None:
    contenders = workload.measured()[::-1]
    rounds = [[value * unit for value in workload.values(one)] for one in contenders]
    middles = [statistics.median(values) for values in rounds]
    places = range(len(contenders))
    axes.barh(
        places,
        middles,
        xerr=_spread(middles, rounds),
        color=[_color(one) for one in contenders],
        error_kw={"capsize": 3, "linewidth": 1},
    )
    for place, middle, values in zip(places, middles, rounds, strict=True):
        axes.annotate(f"  {short(middle)}", (max(values), place), va="center", fontsize=8)
    axes.set_yticks(places, [one.label for one in contenders], fontsize=8)
    axes.margins(x=0.15)
    axes.set_title(workload.title.replace("`", ""), fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _spread(middles: Sequence[float], rounds: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return how far least and most are from the median, as error bars want it."""
    pairs = list(zip(middles, rounds, strict=True))
    return [
        [middle - min(values) for middle, values in pairs],
        [max(values) - middle for middle, values in pairs],
    ]


def _color(contender: ContenderResult) -> str:
    if contender.client == "aioproducer":
        return _OURS_COLOR
    return _FLOOR_COLOR if contender.client in _FLOORS else _PEER_COLOR


if __name__ == "__main__":
    sys.exit(main())
