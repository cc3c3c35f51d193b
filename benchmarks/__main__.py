"""`python -m benchmarks`: measure, and store the run as JSON in benchmarks/results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import goals, importing, runner, summary
from benchmarks.clients import CLIENTS
from benchmarks.compare import compare
from benchmarks.results import LATEST, newest_stored
from benchmarks.workloads import FULL, QUICK, TLS, TRANSACTIONS, Workload
from tools.kafka_cluster import KafkaUnavailableError

_IMPORTS = "imports"
"""Measured with --full beside the workloads, without a Kafka."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 1 for a regression or a failure."""
    arguments = _parse(argv)
    workloads: tuple[Workload, ...] = arguments.of
    table = {workload.name: workload for workload in workloads}
    names = [*table, *([_IMPORTS] if workloads is FULL else ())]
    for name in arguments.workloads or ():
        if name not in names:
            print(f"no workload {name!r}: one of {', '.join(names)}", file=sys.stderr)
            return 2
    wanted = arguments.workloads or names
    chosen = [table[name] for name in wanted if name != _IMPORTS]
    stored = newest_stored(wanted) if arguments.compare else None
    if arguments.compare and stored is None:
        print("there is no stored run to compare with", file=sys.stderr)
        return 2
    imports: dict[str, list[float]] = {}
    if _IMPORTS in wanted:
        print("measuring imports", file=sys.stderr, flush=True)
        imports = importing.costs(importing.installed(), arguments.rounds or importing.ROUNDS)
    try:
        run = runner.run(
            arguments.save,
            chosen,
            arguments.clients,
            arguments.rounds,
            arguments.seconds,
            arguments.warm_up,
        )
    except KafkaUnavailableError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    run.imports = imports
    path = run.write()
    print(summary.show(run))
    if workloads in (FULL, TRANSACTIONS):
        print("\n" + "\n".join(goals.table(run)))
    print(f"\nstored in {path.relative_to(path.parent.parent.parent)}")
    regressions: tuple[str, ...] = ()
    if stored is not None:
        verdict = compare(stored, run)
        print(verdict.text)
        regressions = verdict.regressions
    # A peer that cannot do it, such as 100,000 waiting tasks, is a result.
    we_failed = any(contender.client == "aioproducer" for _, contender in run.failures())
    return 1 if we_failed or regressions else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.set_defaults(of=QUICK)
    for option, workloads, text in (
        ("--full", FULL, "every workload, but those of TLS and of transactions"),
        ("--tls", TLS, "what TLS costs"),
        ("--transactions", TRANSACTIONS, "transactions"),
    ):
        parser.add_argument(option, dest="of", action="store_const", const=workloads, help=text)
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help="only these")
    parser.add_argument(
        "--clients", nargs="+", metavar="NAME", choices=CLIENTS, default=CLIENTS, help="only these"
    )
    parser.add_argument("--rounds", type=int, help="by default 3; with --full, what each says")
    parser.add_argument("--seconds", type=float, default=2.0, help="of sending, per measurement")
    parser.add_argument(
        "--warm-up", type=float, default=180.0, metavar="SECONDS", help="of three brokers"
    )
    parser.add_argument("--save", metavar="NAME", default=LATEST, help="results/NAME.json")
    parser.add_argument(
        "--compare", action="store_true", help="with the newest stored run; exit 1 if slower"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
