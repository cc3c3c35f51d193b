"""`make service`: web services under fire, over real HTTP, and the audit of every response.

An application is a process: examples/fastapi_app.py, and the same application written with aiokafka
and with confluent-kafka's AIOProducer. Hundreds of HTTP clients use it while a scenario breaks
something: SIGTERM, a killed or frozen broker, clients that hang up, a full buffer. Then what they
were answered is held against Kafka's log. Exit code 1 if an application of ours broke a promise;
what the others do is a result.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import FOLDER
from tests.service.results import LATEST, Results, show
from tests.service.runner import Outcome, create_topics, run
from tests.service.scenarios import SCENARIOS
from tests.service.serve import APPS, OURS
from tools.kafka import KafkaUnavailableError, NodeControl, start_kafka

# The controller takes a silent broker for dead after 9 s by default, and a killed one cannot come
# back before: most of the time of a scenario.
_BROKER = {"broker.session.timeout.ms": "4000", "broker.heartbeat.interval.ms": "500"}
_DEFAULT_APPS = ("aioproducer", "aiokafka", "confluent-kafka")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    arguments = _parse(argv)
    # Also then, end what was started.
    signal.signal(signal.SIGTERM, _exit)
    versions = {app: version for app in arguments.app if (version := _version(app))}
    scenarios = [one for one in SCENARIOS if one.name in arguments.only]
    try:
        with start_kafka(config=_BROKER) as kafka:
            results = Results(
                arguments.save,
                kafka.version,
                versions,
                arguments.clients,
                arguments.seconds,
                scenarios,
            )
            create_topics(kafka)
            _run_all(kafka, results, arguments.rounds)
    except KafkaUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{show(results.outcomes)}\n")
    stored = results.write()
    if picture := _draw(results):
        stored.append(picture)
    print("stored in", ", ".join(str(path.relative_to(FOLDER.parent.parent)) for path in stored))
    ours = [one for one in results.outcomes if one.app in OURS and one.broken()]
    for one in ours:
        print(f"BROKEN: {one.app}, {one.scenario}: {one.broken()}; see {one.folder}")
    return 1 if ours else 0


def _exit(_signal: int, _frame: object) -> None:
    sys.exit(1)


def _run_all(kafka: NodeControl, results: Results, rounds: int) -> None:
    total = rounds * len(results.scenarios) * len(results.versions)
    for number in range(rounds):
        for scenario in results.scenarios:
            # Each is first as often as the others: what the machine does beside changes slowly.
            apps = list(results.versions)
            for app in apps[number % len(apps) :] + apps[: number % len(apps)]:
                place = len(results.outcomes) + 1
                print(f"{place} of {total}: {scenario.name} ({scenario.what}), {app}", flush=True)
                outcome = run(
                    kafka,
                    app,
                    scenario,
                    clients=results.clients,
                    seconds=results.seconds,
                    say=lambda line: print(f"    {line}", flush=True),
                )
                results.outcomes.append(outcome)
                # Each time: a run that is interrupted leaves what it has found.
                results.write()
                print(f"    {_summary(outcome)}", flush=True)


def _summary(outcome: Outcome) -> str:
    statuses = ", ".join(f"{name}: {count:,}" for name, count in outcome.findings.statuses.items())
    broken = f"; BROKEN {outcome.broken()}, see {outcome.folder}" if outcome.broken() else ""
    return f"{outcome.rate:,.0f} a second; {statuses}{broken}"


def _version(app: str) -> str:
    package = "aioproducer" if app in OURS else app
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        print(f"{app} is left out: {package} is not installed", file=sys.stderr)
        return ""


def _draw(results: Results) -> Path | None:
    try:
        from tests.service.picture import draw

        path = FOLDER / f"{results.name}.png"
        draw(results, path)
    except ModuleNotFoundError as error:
        print(f"no picture: {error}", file=sys.stderr)
        return None
    return path


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.service", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="of all scenarios")
    parser.add_argument("--seconds", type=float, default=12.0, help="of a scenario, about")
    parser.add_argument("--clients", type=int, default=200, help="HTTP clients at the same time")
    names = [one.name for one in SCENARIOS]
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", choices=names, default=names)
    parser.add_argument("--app", nargs="+", metavar="APP", choices=APPS, default=_DEFAULT_APPS)
    parser.add_argument(
        "--save", metavar="NAME", default=LATEST, help="benchmarks/results/NAME.json, .md and .png"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
