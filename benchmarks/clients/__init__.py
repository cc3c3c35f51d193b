"""One adapter per client: how a user of that client writes each pattern.

An adapter is a module with the names of `ClientModule`. Each peer gets the settings it is
fastest with among those we tried, as its file says; acks=all and idempotence wherever it has it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol, cast

from benchmarks.jobs import Job, Measurement, Pattern

__all__ = ["CLIENTS", "ClientModule", "load"]

CLIENTS = (
    "aioproducer",
    "aiokafka",
    "confluent_sync",
    "confluent_aio",
    "kafka_python",
    "java",
    "franz_go",
    "bare_socket",
    "bare_transactions",
    "loop_floor",
    "no_kafka",
)


class ClientModule(Protocol):
    """What every module in this package offers."""

    IDIOMS: Mapping[Pattern, str]
    """The patterns it can do, each with the calls it is done with."""

    WRITES_TO_KAFKA: bool
    """False for a floor without a broker, whose records are in no log."""

    def unavailable(self) -> str | None:
        """Return why this client cannot run here, in a few words, or None."""
        ...

    def measure(self, job: Job) -> Measurement:
        """Do the job in this process, and return when everything is acknowledged.

        Raises when a record failed, unless the pattern counts failures.
        """
        ...


def load(name: str) -> ClientModule:
    """Import a client's adapter, and only that one's library."""
    return cast(ClientModule, importlib.import_module(f"benchmarks.clients.{name}"))
