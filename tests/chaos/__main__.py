"""`make chaos`: producers under fire on real brokers, and the audit of every record they sent.

Three brokers are killed, frozen, restarted and slowed down by a script, while aioproducer and its
peers send at the same time, each to a topic of its own. Afterwards each client's ledger is held
against the log. Exit code 1 if aioproducer broke a promise; what the peers do is a result.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import FOLDER
from tests.chaos.clients import CLIENTS, Options, installed
from tests.chaos.faults import FULL, SHORT
from tests.chaos.results import LATEST, Results, show
from tests.chaos.runner import run
from tools.kafka import KafkaUnavailableError, LocalKafka

_BROKERS = {
    # The controller takes a silent broker for dead after 9 s by default: all clients would spend
    # most of their longest waits on that.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    # A deleted topic must stay deleted until it is recreated.
    "auto.create.topics.enable": "false",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    arguments = _parse(argv)
    script = SHORT if arguments.short else FULL
    options = Options()
    versions = installed(arguments.clients)
    results = Results(
        arguments.save, LocalKafka().version, _BROKERS, versions, options, arguments.rate, script
    )
    was_broken = False
    stored: list[Path] = []
    for number in range(1, arguments.runs + 1):
        print(f"run {number} of {arguments.runs}", flush=True)
        try:
            # New brokers for each: none starts with what the one before left behind.
            with LocalKafka(brokers=3, config=_BROKERS) as kafka:
                found = run(
                    kafka,
                    script,
                    versions,
                    rate=arguments.rate,
                    loop=arguments.loop,
                    options=options,
                    say=lambda line: print(line, flush=True),
                    folder_in=arguments.keep,
                )
        except KafkaUnavailableError as error:
            print(error, file=sys.stderr)
            return 1
        results.runs.append(found)
        print(f"\n{show(found, script)}\n", flush=True)
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
        title = "How long a record waits for its outcome while the cluster is broken"
        draw({title: results.runs[-1]}, "records", path)
    except ModuleNotFoundError as error:
        print(f"no picture: {error}", file=sys.stderr)
        return None
    return path


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="in a row, on new brokers each")
    parser.add_argument("--short", action="store_true", help="only the faults of the test in CI")
    parser.add_argument("--rate", type=int, default=1_000, help="records a second of each client")
    parser.add_argument(
        "--clients", nargs="+", metavar="NAME", choices=CLIENTS, default=CLIENTS, help="only these"
    )
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="ours")
    parser.add_argument(
        "--save", metavar="NAME", default=LATEST, help="benchmarks/results/NAME.json, .md and .png"
    )
    parser.add_argument(
        "--keep", metavar="FOLDER", type=Path, help="keep ledgers and logs there, broken or not"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
