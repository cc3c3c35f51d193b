"""Runs the brokers of docker-compose.yml, each cluster under a project name of its own.

Owns the containers it starts. Called by tools/kafka.py.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tools.kafka_cluster import (
    DEFAULT_VERSION,
    HOME,
    ROOT,
    KafkaStartError,
    KafkaUnavailableError,
    NodeControl,
    Process,
    Record,
    free_ports,
    report,
    run_with_progress,
    stop_leftovers,
    wait_until,
)

__all__ = ["ComposeKafka"]


class ComposeKafka(NodeControl):
    """The brokers of docker-compose.yml, under a project name of their own.

    Args:
        version: The Kafka release, a tag of the `apache/kafka` image.
        brokers: One, or the three of the `cluster` profile.
        config: As for `LocalKafka`.
        owned: As for `LocalKafka`.
        first_port: Where node 1 listens, if that port is free.
        home: The folder that holds the records.
    """

    def __init__(
        self,
        version: str = DEFAULT_VERSION,
        brokers: int = 1,
        *,
        config: Mapping[str, str] | None = None,
        owned: bool = True,
        first_port: int | None = None,
        home: Path = HOME,
    ) -> None:
        if brokers not in (1, 3):
            raise KafkaUnavailableError(f"docker-compose.yml has 1 broker or 3, not {brokers}")
        self.version = version
        self.bootstrap_servers = ""
        self._services = ["kafka"] if brokers == 1 else [f"kafka-{n}" for n in (1, 2, 3)]
        self._owner = Process.of(os.getpid()) if owned else None
        self._first_port = first_port
        self._home = home
        # The image reads a broker option from the variable of that name.
        self._config = {
            f"KAFKA_{name.upper().replace('.', '_')}": value
            for name, value in (config or {}).items()
        }
        self._project = f"aioproducer-{uuid.uuid4().hex[:8]}"
        self._environ: dict[str, str] = {}

    def start(self) -> Self:
        """Start the containers and return when every broker answers; harmless twice.

        Raises:
            KafkaUnavailableError: No engine answers, or the image cannot be had.
            KafkaStartError: A broker did not come up.
        """
        if self._environ:
            return self
        _require_docker()
        stop_leftovers(self._home)
        ports = free_ports(len(self._services), self._first_port)
        names = ["KAFKA_PORT"] if len(ports) == 1 else [f"KAFKA_PORT_{n}" for n in (1, 2, 3)]
        variables = {name: str(port) for name, port in zip(names, ports, strict=True)}
        self._environ = {**os.environ, "KAFKA_VERSION": self.version, **variables}
        self.bootstrap_servers = ",".join(f"127.0.0.1:{port}" for port in ports)
        directory = self._home / "run" / self._project
        directory.mkdir(parents=True)
        options = directory / "options.json"
        services = {service: {"environment": self._config} for service in self._services}
        options.write_text(json.dumps({"services": services}))
        self._recorded.write()
        try:
            run_with_progress(
                f"starting Kafka {self.version} with Docker Compose",
                [*self._command, "-f", str(options), "up", "-d", *self._services],
                env=self._environ,
            )
            for port in ports:
                self._wait_for(port)
        except BaseException:
            self.stop()
            raise
        report(f"Kafka {self.version} is up on {self.bootstrap_servers}")
        return self

    def stop(self) -> None:
        """Remove the containers and their data; harmless when stopped."""
        if self._environ:
            self._recorded.destroy()
            self._environ = {}

    def kill(self, node: int) -> None:
        """End a broker at once, as a crash would."""
        self._do("kill", self._services[node - 1])

    def stop_node(self, node: int) -> None:
        """Shut a broker down in order: it hands its leaders over first."""
        self._do("stop", "--timeout", "60", self._services[node - 1])

    def start_node(self, node: int) -> None:
        """Start a killed or stopped broker again, with its data; returns when it serves."""
        self._do("start", self._services[node - 1])
        self._wait_for(int(self.bootstrap_servers.split(",")[node - 1].rpartition(":")[2]))

    def pause(self, node: int) -> None:
        """Freeze a broker: connections stay open, nothing is answered."""
        self._do("pause", self._services[node - 1])

    def resume(self, node: int) -> None:
        """Let a paused broker go on."""
        self._do("unpause", self._services[node - 1])

    def heal(self) -> None:
        """Resume and start whatever a test left paused, stopped or dead."""
        for service in self._do("ps", "--services", "--status", "paused").split():
            self._do("unpause", service)
        self._do("start", *self._services)
        for address in self.bootstrap_servers.split(","):
            self._wait_for(int(address.rpartition(":")[2]))

    @property
    def _recorded(self) -> Record:
        return Record(
            directory=self._home / "run" / self._project,
            version=self.version,
            bootstrap_servers=self.bootstrap_servers,
            owner=self._owner,
            brokers={},
            stop_command=[*self._command, "down", "--volumes", "--timeout", "0"],
        )

    @property
    def _command(self) -> list[str]:
        file = str(ROOT / "docker-compose.yml")
        # Every profile, or `down` and `logs` would not see the services of the cluster.
        return ["docker", "compose", "-f", file, "-p", self._project, "--profile", "*"]

    def _do(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise KafkaStartError(f"docker compose {arguments[0]} failed:\n{done.stdout}")
        return done.stdout

    def _wait_for(self, port: int, timeout: float = 90) -> None:
        if not wait_until(lambda: _answers(port), timeout):
            tail = self._do("logs", "--tail", "25")
            raise KafkaStartError(f"Kafka on port {port} took over {timeout:.0f} s:\n{tail}")


def _require_docker() -> None:
    if shutil.which("docker") is None:
        raise KafkaUnavailableError("Docker is not installed")
    try:
        for question in (["docker", "info"], ["docker", "compose", "version"]):
            subprocess.run(question, capture_output=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        raise KafkaUnavailableError("no Docker engine with Compose answers") from None


def _answers(port: int) -> bool:
    """Whether a broker answers an ApiVersions request (key 18, version 0, null client id)."""
    request = struct.pack(">ihhih", 10, 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(request)
            header = connection.recv(8, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(header) == 8 and int.from_bytes(header[4:]) == 1
