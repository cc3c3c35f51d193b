"""What we want of each row, and whether a run shows it. Pure: reads a stored run, measures nothing.

A figure is made of pairs: the two contenders of one round. The median over the rounds decides.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.figures import short
from benchmarks.results import Run
from benchmarks.workloads import BARE_WITHOUT_TRANSACTIONS, WITHOUT_TRANSACTIONS, Metric

__all__ = [
    "GOALS",
    "TRANSACTION_GOALS",
    "Goal",
    "above_floor",
    "import_share",
    "multiple",
    "multiple_of_best",
    "share_above_floor",
    "table",
]

Figure = Callable[[Run], list[float]]
"""One value per round; empty where the run did not measure it."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One row of the table.

    Attributes:
        title: What is compared.
        figure: Its values in a run.
        sense: Which side of `wanted` is good; "shown" where there is no goal.
        wanted: The goal.
    """

    title: str
    figure: Figure
    sense: Literal["at least", "at most", "shown"]
    wanted: float = 0.0

    def is_reached(self, values: Sequence[float]) -> bool:
        """Whether the median of the rounds is on the good side."""
        found = statistics.median(values)
        return found >= self.wanted if self.sense == "at least" else found <= self.wanted

    def row(self, run: Run) -> list[str]:
        """Return the cells: title, figure with spread, goal, whether it is reached."""
        values = self.figure(run)
        wanted = "-" if self.sense == "shown" else f"{self.sense} {self.wanted:g} x"
        if not values:
            return [self.title, "-", wanted, "not measured"]
        spread = f"({short(min(values))} to {short(max(values))})"
        figure = f"{short(statistics.median(values))} x {spread}"
        verdict = "yes" if self.is_reached(values) else "**no**"
        return [self.title, figure, wanted, "-" if self.sense == "shown" else verdict]


def table(run: Run, goals: Sequence[Goal] | None = None) -> list[str]:
    """Return the table of goals in Markdown, and how many are reached.

    Args:
        run: The run.
        goals: The goals; by default those of the full run, or of transactions if it has these.
    """
    if goals is None:
        has_transactions = any(one.chapter == "transactions" for one in run.workloads)
        goals = TRANSACTION_GOALS if has_transactions else GOALS
    lines = [
        "| goal | measured: median (least to most) | wanted | reached |",
        "|---|---|---|---|",
        *[f"| {' | '.join(goal.row(run))} |" for goal in goals],
    ]
    wanted = [goal for goal in goals if goal.sense != "shown"]
    measured = [(goal, values) for goal in wanted if (values := goal.figure(run))]
    reached = sum(goal.is_reached(values) for goal, values in measured)
    return [
        f"{reached} of {len(wanted)} goals are reached, {len(wanted) - len(measured)} were not"
        " measured. Each figure is this producer's as a multiple of the other's, round by round.",
        "",
        *lines,
    ]


def multiple(
    workload: str,
    metric: Metric | Literal["broker CPU"],
    other: str,
    ours: str = "aioproducer",
) -> Figure:
    """Return our figure divided by another contender's."""

    def figure(run: Run) -> list[float]:
        mine, theirs = _values(run, workload, metric, ours), _values(run, workload, metric, other)
        return [one / another for one, another in zip(mine, theirs, strict=False) if another]

    return figure


def multiple_of_best(workload: str, metric: Metric, others: Sequence[str]) -> Figure:
    """Return our figure divided by that of the other contender whose median is the best."""

    def figure(run: Run) -> list[float]:
        medians = {
            other: statistics.median(values)
            for other in others
            if (values := _values(run, workload, metric, other))
        }
        if not medians:
            return []
        choose = max if metric.is_better_high else min
        return multiple(workload, metric, choose(medians, key=medians.__getitem__))(run)

    return figure


def above_floor(run: Run, workload: str, contender: str) -> list[float]:
    """Return the CPU of a request above that of the route without Kafka, in microseconds."""
    costs = _values(run, workload, Metric.CPU, contender)
    floors = _values(run, workload, Metric.CPU, "no_kafka")
    return [cost - floor for cost, floor in zip(costs, floors, strict=False)]


def share_above_floor(workload: str, other: str = "aiokafka") -> Figure:
    """Return what a record of ours adds to a request, as a share of what another's adds.

    A round in which the other's adds nothing, which only chance can bring, says nothing.
    """

    def figure(run: Run) -> list[float]:
        pairs = zip(
            above_floor(run, workload, "aioproducer"),
            above_floor(run, workload, other),
            strict=False,
        )
        return [mine / theirs for mine, theirs in pairs if theirs > 0]

    return figure


def import_share(run: Run) -> list[float]:
    """Return our import's processor time above asyncio, as a share of aiokafka's."""
    mine, theirs = run.imports.get("aioproducer", []), run.imports.get("aiokafka", [])
    return [one / another for one, another in zip(mine, theirs, strict=False)]


def _values(
    run: Run, workload: str, metric: Metric | Literal["broker CPU"], label: str
) -> list[float]:
    found = next((one for one in run.workloads if one.name == workload), None)
    contender = found.find(label) if found is not None else None
    if found is None or contender is None:
        return []
    if metric == "broker CPU":
        return [one.broker_us for one in contender.rounds]
    return contender.values(metric, found.value_bytes)


_UVLOOP = "aioproducer on uvloop"

GOALS: tuple[Goal, ...] = (
    Goal(
        "one at a time, asyncio: p50, of the bare protocol's",
        multiple("one_at_a_time", Metric.P50, "bare_socket"),
        "at most",
        1.0,
    ),
    Goal(
        "one at a time, asyncio: p50, of confluent-kafka's",
        multiple("one_at_a_time", Metric.P50, "confluent_sync"),
        "at most",
        1.0,
    ),
    Goal(
        "one at a time, uvloop: p50, of confluent-kafka's",
        multiple("one_at_a_time", Metric.P50, "confluent_sync", _UVLOOP),
        "at most",
        0.85,
    ),
    Goal(
        "one at a time, uvloop: CPU, of the bare protocol's on uvloop",
        multiple("one_at_a_time", Metric.CPU, "bare_socket on uvloop", _UVLOOP),
        "at most",
        1.3,
    ),
    Goal(
        "100 tasks: records/s, of the loop's floor",
        multiple("web_100", Metric.RATE, "loop_floor"),
        "at least",
        0.45,
    ),
    *(
        goal
        for name, title, wanted in (
            ("fastapi_50", "quiet", 0.3),
            ("fastapi_50_busy", "both cores busy", 0.6),
        )
        for goal in (
            Goal(
                f"FastAPI, 50 clients, {title}: CPU above no Kafka, of aiokafka's",
                share_above_floor(name),
                "at most",
                wanted,
            ),
            Goal(
                f"FastAPI, 50 clients, {title}: broker CPU per record, of aiokafka's",
                multiple(name, "broker CPU", "aiokafka"),
                "at most",
                1.0,
            ),
        )
    ),
    *(
        goal
        for partitions in (1_000, 10_000)
        for peer, title in (("franz_go", "franz-go"), ("confluent_sync", "confluent-kafka"))
        for goal in (
            Goal(
                f"keys over {partitions:,} partitions: records/s, of {title}'s",
                multiple(f"partitions_{partitions}", Metric.RATE, peer),
                "at least",
                1.0,
            ),
            Goal(
                f"keys over {partitions:,} partitions: CPU per record, of {title}'s",
                multiple(f"partitions_{partitions}", Metric.CPU, peer),
                "shown",
            ),
        )
    ),
    *(
        Goal(
            f"`{title}`: records/s, of {peer_title}'s",
            multiple(name, Metric.RATE, peer),
            "at least" if wanted else "shown",
            wanted,
        )
        for name, title, of_franz_go, of_confluent in (
            ("send_nowait", "send_nowait()", 1.0, 0.0),
            ("await_send", "await send()", 1.0, 0.0),
            ("send_many", "send_many()", 1.0, 3.5),
        )
        for peer, peer_title, wanted in (
            ("franz_go", "franz-go", of_franz_go),
            ("confluent_sync", "confluent-kafka", of_confluent),
        )
    ),
    *(
        Goal(
            f"three brokers, `{title}`: records/s, of franz-go's",
            multiple(name, Metric.RATE, "franz_go"),
            "at least",
            1.0,
        )
        for name, title in (
            ("three_brokers_send_nowait", "send_nowait()"),
            ("three_brokers", "await send()"),
        )
    ),
    Goal("import above asyncio: CPU, of aiokafka's", import_share, "at most", 0.5),
)

_PYTHON_PEERS = ("aiokafka", "confluent_sync")
_TRANSACTION_PEERS = (*_PYTHON_PEERS, "franz_go", "java")

TRANSACTION_GOALS: tuple[Goal, ...] = (
    *(
        Goal(
            f"transactions of {title}: transactions/s, of the best {of}'s",
            multiple_of_best(f"transactions_{size}", Metric.TRANSACTIONS, peers),
            "at least" if wanted else "shown",
            wanted,
        )
        for size, title in ((1, "1 record"), (100, "100 records"), (10_000, "10,000 records"))
        for of, peers, wanted in (
            ("Python peer", _PYTHON_PEERS, 1.5),
            ("peer", _TRANSACTION_PEERS, 1.0 if size == 10_000 else 0.0),
        )
    ),
    *(
        Goal(
            title,
            multiple(f"transactions_overhead_{size}", Metric.RATE, without, within),
            "at least" if wanted else "shown",
            wanted,
        )
        for size in (100, 300, 1_000)
        for title, within, without, wanted in (
            (
                f"10,000 records of {size:,} bytes: records/s in transactions, of those without",
                "aioproducer",
                WITHOUT_TRANSACTIONS,
                0.9,
            ),
            ("the same of a bare socket", "bare_transactions", BARE_WITHOUT_TRANSACTIONS, 0.0),
        )
    ),
)
