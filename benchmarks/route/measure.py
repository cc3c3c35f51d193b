"""One measurement of the route: starts the server and the load, and reads what they used."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

from benchmarks.jobs import Job, Measurement, memory
from benchmarks.route.children import busy_loops, child, cpu_seconds
from benchmarks.route.load import Answer

__all__ = ["RouteError", "measure", "records_per_request"]

_READY_TIMEOUT = 60.0
_BACKLOG = 2048


class RouteError(Exception):
    """The server or the load ended before its time; the message has what it said."""


def measure(client: str, job: Job, broker_pids: Sequence[int]) -> Measurement:
    """Measure once: the processor time of server and broker, and the latency of requests.

    Args:
        client: Whom the route awaits: "aioproducer", "aiokafka" or "no_kafka".
        job: `tasks` clients send for `seconds`, while `busy_cores` are busy otherwise.
        broker_pids: The broker's processes, if they run here.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listening:
        port = listening.getsockname()[1]
        descriptor = listening.fileno()
        server_command = ("-m", "benchmarks.route.server", client, job.to_json(), str(descriptor))
        with child(*server_command, pass_fds=[descriptor]) as server:
            # Only the server holds it now: its end refuses connections.
            listening.close()
            try:
                return _measure(job, server, port, broker_pids)
            except OSError as error:  # such as a pipe to a process that has ended
                raise RouteError(f"{error}\n{_said(server)}") from error


def _measure(
    job: Job, server: subprocess.Popen[str], port: int, broker_pids: Sequence[int]
) -> Measurement:
    _counters(server, port)
    load_command = ("-m", "benchmarks.route.load", str(port), str(job.tasks))
    load_arguments = (str(job.payload.value_bytes), str(job.seconds))
    with busy_loops(job.busy_cores), child(*load_command, *load_arguments) as load:
        warm_up = _answer(load)
        before = _counters(server, port)
        idle_memory = memory("VmRSS", server.pid)
        server_cpu = cpu_seconds(server.pid)
        broker_cpu = sum(cpu_seconds(pid) for pid in broker_pids)
        assert load.stdin is not None
        load.stdin.write("go\n")
        load.stdin.flush()
        found = _answer(load)
        server_cpu = cpu_seconds(server.pid) - server_cpu
        broker_cpu = sum(cpu_seconds(pid) for pid in broker_pids) - broker_cpu
        after = _counters(server, port)
    return Measurement(
        records=found.requests,
        stored_records=found.requests + warm_up.requests,
        seconds=found.seconds,
        cpu_seconds=server_cpu,
        peak_memory_bytes=memory("VmHWM", server.pid),
        idle_memory_bytes=idle_memory,
        latency_ms=found.latency_ms,
        version=after["version"],
        broker_cpu_seconds=broker_cpu,
        records_per_request=records_per_request(before["metrics"], after["metrics"]),
    )


def records_per_request(before: dict[str, float], after: dict[str, float]) -> float:
    """Return how many records a Kafka request carried between two looks at the metrics; 0 if none.

    Metrics may be empty: only this producer has them.
    """
    requests = after.get("request_total", 0) - before.get("request_total", 0)
    records = after.get("record_delivered_total", 0) - before.get("record_delivered_total", 0)
    return records / requests if requests else 0.0


def _counters(server: subprocess.Popen[str], port: int) -> dict[str, Any]:
    """Ask the server; the first time, wait until it serves."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_READY_TIMEOUT)
    try:
        connection.request("GET", "/counters")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found
    except (OSError, http.client.HTTPException) as error:
        raise RouteError(f"the server does not answer: {error}\n{_said(server)}") from error
    finally:
        connection.close()


def _answer(load: subprocess.Popen[str]) -> Answer:
    assert load.stdout is not None
    line = load.stdout.readline()
    if not line:
        raise RouteError(f"the load ended:\n{_said(load)}")
    return Answer.from_json(line)


def _said(process: subprocess.Popen[str]) -> str:
    """Return the end of what a failed process said."""
    process.kill()
    return process.communicate()[1][-2000:]
