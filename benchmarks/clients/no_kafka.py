"""The route without Kafka: what a request costs before there is a record to wait for."""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks.jobs import Job, Measurement, Pattern

IDIOMS = {Pattern.ROUTE: "the same route, nothing awaited"}
WRITES_TO_KAFKA = False


def unavailable() -> str | None:
    """Say whether FastAPI is missing."""
    return None if find_spec("fastapi") else "no FastAPI: it is in the apps group"


def measure(job: Job) -> Measurement:
    """Do nothing else: the runner measures routes by benchmarks/route."""
    raise NotImplementedError(job.pattern)
