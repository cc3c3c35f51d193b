#!/usr/bin/env python3
"""Gets and runs a real Kafka for tests, benchmarks, the demo and hand work.

Called by the Makefile as a command and by the tests as a module. Standard library only, so that it
runs before anything is installed. Where a Kafka comes from, in this order:
KAFKA_BOOTSTRAP_SERVERS; Docker Compose where an engine answers; Java 17 and Maven. Where none can
be had, `KafkaUnavailableError` says how to get one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

if not __package__:  # run as a file: import from the repository's root, not from beside us
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from tools.kafka_cluster import (
    DEFAULT_VERSION,
    HOME,
    Kafka,
    KafkaStartError,
    KafkaUnavailableError,
    NodeControl,
    Record,
    report,
    stop_leftovers,
)
from tools.kafka_compose import ComposeKafka
from tools.kafka_java import LocalKafka

__all__ = [
    "DEFAULT_VERSION",
    "ComposeKafka",
    "ExternalKafka",
    "Kafka",
    "KafkaStartError",
    "KafkaUnavailableError",
    "LocalKafka",
    "NodeControl",
    "find_kafka",
    "start_kafka",
    "stop_leftovers",
]

EXIT_UNAVAILABLE = 3
_HOW_TO_GET_ONE = (
    "no real Kafka was found: set KAFKA_BOOTSTRAP_SERVERS to the address of one, start Docker, "
    "or install Java 17 and Maven, e.g. `{command}`"
)


class ExternalKafka(Kafka):
    """A Kafka somebody else runs; starting and stopping it are not ours to do."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.version = "external"
        self.bootstrap_servers = bootstrap_servers

    def start(self) -> Self:
        """Do nothing: it runs."""
        return self

    def stop(self) -> None:
        """Do nothing: it goes on running."""


def _install_command() -> str:
    for tool, command in {
        "apt-get": "sudo apt-get install -y openjdk-17-jre-headless maven",
        "dnf": "sudo dnf install -y java-17-openjdk-headless maven",
        "apk": "sudo apk add openjdk17-jre-headless maven",
        "brew": "brew install openjdk@17 maven",
    }.items():
        if shutil.which(tool):
            return command
    return "https://maven.apache.org/install.html"


def start_kafka(
    version: str = DEFAULT_VERSION,
    brokers: int = 1,
    *,
    config: Mapping[str, str] | None = None,
    owned: bool = True,
    first_port: int | None = None,
    home: Path = HOME,
) -> NodeControl:
    """Start brokers of our own and return when they serve: Docker Compose, else Java.

    Raises:
        KafkaUnavailableError: Neither can run here; the message says why and what to install.
        KafkaStartError: A broker was started and did not come up.
    """
    reasons: list[str] = []
    for backend in (ComposeKafka, LocalKafka):
        try:
            kafka = backend(
                version, brokers, config=config, owned=owned, first_port=first_port, home=home
            )
            return kafka.start()
        except KafkaUnavailableError as error:
            reasons.append(str(error))
    advice = _HOW_TO_GET_ONE.format(command=_install_command())
    raise KafkaUnavailableError(f"{advice} ({'; '.join(reasons)})")


def find_kafka(*, home: Path = HOME) -> Kafka:
    """Return a running Kafka to write to: KAFKA_BOOTSTRAP_SERVERS, else one of our own.

    Raises:
        KafkaUnavailableError: There is none and none can be started.
        KafkaStartError: A broker was started and did not come up.
    """
    if bootstrap_servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return ExternalKafka(bootstrap_servers)
    return start_kafka(home=home)


def _start(arguments: argparse.Namespace) -> None:
    bootstrap_servers: str | None = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if bootstrap_servers:
        report("using KAFKA_BOOTSTRAP_SERVERS, nothing to start")
    wanted = (arguments.version, arguments.brokers)
    for record in Record.read_all(HOME):
        if record.owner is None and not record.is_alive():
            record.destroy()
        elif record.owner is None and not bootstrap_servers and wanted == record.shape:
            report(f"Kafka {record.version} runs already; `tools/kafka.py stop` ends it")
            bootstrap_servers = record.bootstrap_servers
    if not bootstrap_servers:
        kafka = start_kafka(arguments.version, arguments.brokers, owned=False, first_port=9092)
        bootstrap_servers = kafka.bootstrap_servers
    if arguments.print_bootstrap:
        print(bootstrap_servers)


def _stop(_arguments: argparse.Namespace) -> None:
    stop_leftovers()
    by_hand = [record for record in Record.read_all(HOME) if record.owner is None]
    for record in by_hand:
        record.destroy()
        report(f"stopped Kafka {record.version} on {record.bootstrap_servers}")
    if not by_hand:
        report("none was started by hand")


def _status(_arguments: argparse.Namespace) -> None:
    for record in Record.read_all(HOME):
        owner = f"for process {record.owner.pid}" if record.owner else "by hand"
        state = "runs" if record.is_alive() else "is down"
        print(f"Kafka {record.version} {state} on {record.bootstrap_servers}, started {owner}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 3 where no Kafka can be had."""
    parser = argparse.ArgumentParser(description="Start and stop a real Kafka for hand work.")
    commands = parser.add_subparsers(required=True)
    start = commands.add_parser("start", help="start brokers that run until `stop`")
    start.add_argument("--version", default=DEFAULT_VERSION)
    start.add_argument("--brokers", type=int, default=1)
    start.add_argument("--print-bootstrap", action="store_true", help="print only the addresses")
    start.set_defaults(run=_start)
    commands.add_parser("stop", help="stop them and delete their data").set_defaults(run=_stop)
    commands.add_parser("status", help="list what runs").set_defaults(run=_status)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except KafkaUnavailableError as error:
        report(str(error))
        return EXIT_UNAVAILABLE
    except KafkaStartError as error:
        report(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
