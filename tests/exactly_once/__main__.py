"""`make exactly-once`: transactions under fire on real brokers, and the audit of each of them.

Brokers that coordinate transactions and that lead records are killed, frozen and restarted by a
script, commits are cut on the wire before and after they are applied, and producers fence each
other, while aioproducer and its peers make transactions at the same time. Afterwards each must be
whole or absent, as the application was told. Exit code 1 if aioproducer broke a promise; what the
peers do is a result.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import FOLDER
from tests.chaos.clients import CLIENTS, installed
from tests.exactly_once.clients import Options
from tests.exactly_once.faults import FULL, SHORT
from tests.exactly_once.results import LATEST, Results, show
from tests.exactly_once.runner import SLICE, run, three_brokers
from tools.kafka import DEFAULT_VERSION, KafkaUnavailableError

_KAFKAS = (DEFAULT_VERSION, "3.9.1")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    arguments = _parse(argv)
    script = SHORT if arguments.short else FULL
    options = Options()
    versions = installed(arguments.clients)
    results = Results(arguments.save, versions, options, script)
    was_broken = False
    stored: list[Path] = []
    for number in range(1, arguments.runs + 1):
        for version in arguments.kafka:
            print(f"run {number} of {arguments.runs}, Kafka {version}", flush=True)
            try:
                # New ones for each: none starts with what the one before left behind.
                with three_brokers(version, versions) as kafka:
                    found = run(
                        kafka,
                        script,
                        versions,
                        options=options,
                        say=lambda line: print(line, flush=True),
                        folder_in=arguments.keep,
                    )
            except KafkaUnavailableError as error:
                print(error, file=sys.stderr)
                return 1
            results.runs.append(found)
            print(f"\n{show([found], script)}\n", flush=True)
            if broken := found.broken():
                was_broken = True
                print(f"BROKEN: {broken}; ledgers and logs are in {found.folder}", flush=True)
            stored = results.write()
    if picture := _draw(results):
        stored.append(picture)
    print("stored in", ", ".join(str(path.relative_to(FOLDER.parent.parent)) for path in stored))
    return 1 if was_broken else 0


def _draw(results: Results) -> Path | None:
    try:
        from tests.chaos.picture import draw

        path = FOLDER / f"{results.name}.png"
        runs = {
            f"How long a transaction waits for its outcome, Kafka {kafka}": runs[-1]
            for kafka, runs in results.by_kafka().items()
        }
        draw(runs, "transactions", path, slice_of=SLICE)
    except ModuleNotFoundError as error:
        print(f"no picture: {error}", file=sys.stderr)
        return None
    return path


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.exactly_once", description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="of each version, on new brokers each")
    parser.add_argument(
        "--kafka", nargs="+", metavar="VERSION", default=_KAFKAS, help="only these versions"
    )
    parser.add_argument("--short", action="store_true", help="only the faults of the test in CI")
    parser.add_argument(
        "--clients", nargs="+", metavar="NAME", choices=CLIENTS, default=CLIENTS, help="only these"
    )
    parser.add_argument(
        "--save", metavar="NAME", default=LATEST, help="benchmarks/results/NAME.json, .md and .png"
    )
    parser.add_argument(
        "--keep", metavar="FOLDER", type=Path, help="keep ledgers and logs there, broken or not"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
