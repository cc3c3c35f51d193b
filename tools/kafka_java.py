"""Runs Kafka as Java processes on 127.0.0.1, from jars that Maven fetches once.

Owns the processes it starts. Called by tools/kafka.py, and by tests that break brokers.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from tools.kafka_cluster import (
    DEFAULT_VERSION,
    HOME,
    KafkaStartError,
    KafkaUnavailableError,
    NodeControl,
    Process,
    Record,
    free_ports,
    report,
    run_with_progress,
    stop_leftovers,
    tail,
    wait_until,
)

__all__ = ["Listener", "LocalKafka"]

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>aioproducer</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{version}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId>
      <version>{version}</version>
      <exclusions><exclusion>
        <groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId>
      </exclusion></exclusions></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


_PLAINTEXT_LISTENERS = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
"""The protocols of the listeners that every broker has."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One more way to reach a broker, beside its PLAINTEXT listener.

    Attributes:
        protocol: Kafka's security protocol: "SSL", "SASL_SSL", ...
        config: Options of this listener alone, by Kafka's names without `listener.name.<name>.`.
        is_forwarded: The broker tells its clients another port than the one where it listens, for
            a test that stands in between.
    """

    protocol: str
    config: Mapping[str, object] = field(default_factory=dict[str, object])
    is_forwarded: bool = False


class LocalKafka(NodeControl):
    """Brokers of one version as Java processes on 127.0.0.1, in KRaft combined mode.

    Args:
        version: The Kafka release, as Maven names it.
        brokers: How many; three replicate each partition on all, with two in sync to accept.
        config: Broker options on top of ours, by Kafka's names.
        listeners: More listeners, by name, on free ports.
        jvm_options: Options of the brokers' Java, such as `-Dname=value`.
        format_arguments: More arguments of `StorageTool format`, such as `--add-scram`.
        owned: The cluster dies with this process (its next start sees to it). False for hand
            work, where the brokers outlive the command that started them.
        first_port: Where node 1 listens, if that port is free.
        home: The folder that holds jars and records.

    Attributes:
        pom: What Maven is to fetch, but for the version.
        started: What a broker logs once the controller lets it serve clients.
        addresses: Where each listener is, by name: what clients take for `bootstrap_servers`.
        advertised_addresses: Where the brokers tell clients to go. The same, unless a listener is
            forwarded.
    """

    pom: ClassVar[str] = _POM
    started: ClassVar[str] = "Kafka Server started"

    def __init__(
        self,
        version: str = DEFAULT_VERSION,
        brokers: int = 1,
        *,
        config: Mapping[str, str] | None = None,
        listeners: Mapping[str, Listener] | None = None,
        jvm_options: Sequence[str] = (),
        format_arguments: Sequence[str] = (),
        owned: bool = True,
        first_port: int | None = None,
        home: Path = HOME,
    ) -> None:
        self.version = version
        self.nodes = range(1, brokers + 1)
        self.bootstrap_servers = ""
        self.addresses: dict[str, str] = {}
        self.advertised_addresses: dict[str, str] = {}
        self._config = dict(config or {})
        self._listeners = dict(listeners or {})
        self._jvm_options = tuple(jvm_options)
        self._format_arguments = tuple(format_arguments)
        self._owner = Process.of(os.getpid()) if owned else None
        self._first_port = first_port
        self._home = home
        self._directory: Path | None = None
        self._libs = home / version / "libs"
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> Self:
        """Get the jars, start all brokers and return when every one serves; harmless twice.

        Raises:
            KafkaUnavailableError: Java or Maven is missing, or the jars cannot be had.
            KafkaStartError: A broker did not come up.
        """
        if self._directory is not None:
            return self
        stop_leftovers(self._home)
        _require_java()
        _fetch_jars(self.version, self._home, self.pom)
        started_at = time.monotonic()
        report(f"starting Kafka {self.version}, {len(self.nodes)} broker(s)")
        (self._home / "run").mkdir(parents=True, exist_ok=True)
        self._directory = Path(tempfile.mkdtemp(prefix="kafka-", dir=self._home / "run"))
        try:
            ports = free_ports(self._ports_of_a_node() * len(self.nodes), self._first_port)
            if self._first_port not in (None, ports[0]):
                report(f"port {self._first_port} is taken: Kafka listens on {ports[0]}")
            self._configure(ports)
            self._prepare()
            logs = [(node, self._spawn(node)) for node in self.nodes]
            for node, seen in logs:
                self._wait_for(node, seen)
        except BaseException:
            self.stop()
            raise
        took = time.monotonic() - started_at
        report(f"Kafka {self.version} is up on {self.bootstrap_servers} ({took:.1f} s)")
        return self

    def stop(self) -> None:
        """Stop every broker and delete its data; harmless when stopped."""
        for node in tuple(self._processes):
            self._end(node, signal.SIGKILL)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def kill(self, node: int) -> None:
        """End a broker at once, as a crash would."""
        self._end(node, signal.SIGKILL)

    def stop_node(self, node: int) -> None:
        """Shut a broker down in order: it hands its leaders over first."""
        self._end(node, signal.SIGTERM)

    def start_node(self, node: int) -> None:
        """Start a killed or stopped broker again, with its data; returns when it serves."""
        if node in self._processes:
            raise ValueError(f"node {node} is running")
        self._wait_for(node, self._spawn(node))

    def pause(self, node: int) -> None:
        """Freeze a broker: connections stay open, nothing is answered (SIGSTOP)."""
        process = self._processes[node]
        process.send_signal(signal.SIGSTOP)
        # On a busy machine its threads run on for a while. Only looked at: `Popen` waits itself.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self, node: int) -> None:
        """Let a paused broker go on (SIGCONT)."""
        self._processes[node].send_signal(signal.SIGCONT)

    def heal(self) -> None:
        """Resume and start whatever a test left paused, stopped or dead."""
        for node in self.nodes:
            process = self._processes.get(node)
            if process is not None and process.poll() is None:
                self.resume(node)
            else:
                self._processes.pop(node, None)
                self.start_node(node)

    def log(self, node: int) -> Path:
        """Return where a broker's log is, for a test that must look."""
        return self._node_directory(node) / "broker.log"

    def data(self, node: int) -> Path:
        """Return where a broker's partitions are, for a test that breaks them."""
        return self._node_directory(node) / "data"

    def _node_directory(self, node: int) -> Path:
        if self._directory is None:
            raise ValueError("this Kafka is not started")
        return self._directory / f"node-{node}"

    def _ports_of_a_node(self) -> int:
        """PLAINTEXT, the controller, each listener, and once more each that is forwarded."""
        forwarded = [one for one in self._listeners.values() if one.is_forwarded]
        return 2 + len(self._listeners) + len(forwarded)

    def _configure(self, ports: Sequence[int]) -> None:
        count = self._ports_of_a_node()
        columns = [dict(zip(self.nodes, ports[at::count], strict=True)) for at in range(count)]
        clients = {"PLAINTEXT": columns.pop(0)}
        controllers = columns.pop(0)
        clients |= {name: columns.pop(0) for name in self._listeners}
        advertised = clients | {
            name: columns.pop(0) for name, one in self._listeners.items() if one.is_forwarded
        }
        self.addresses = {name: _addresses(ports) for name, ports in clients.items()}
        self.advertised_addresses = {name: _addresses(one) for name, one in advertised.items()}
        self.bootstrap_servers = self.addresses["PLAINTEXT"]
        protocols = {name: listener.protocol for name, listener in self._listeners.items()}
        replicas = min(3, len(self.nodes))
        in_sync = 2 if replicas == 3 else 1
        for node in self.nodes:
            directory = self._node_directory(node)
            directory.mkdir()
            options = {
                "process.roles": "broker,controller",
                "node.id": node,
                "controller.quorum.voters": ",".join(
                    f"{voter}@127.0.0.1:{port}" for voter, port in controllers.items()
                ),
                "listeners": _listed(clients, node, f"CONTROLLER://127.0.0.1:{controllers[node]}"),
                "advertised.listeners": _listed(advertised, node),
                "listener.security.protocol.map": ",".join(
                    f"{name}:{protocol}"
                    for name, protocol in {**_PLAINTEXT_LISTENERS, **protocols}.items()
                ),
                "controller.listener.names": "CONTROLLER",
                **{
                    f"listener.name.{name.lower()}.{option}": value
                    for name, listener in self._listeners.items()
                    for option, value in listener.config.items()
                },
                "log.dirs": self.data(node),
                "num.partitions": 3,
                "auto.create.topics.enable": "true",
                "default.replication.factor": replicas,
                "min.insync.replicas": in_sync,
                "offsets.topic.replication.factor": replicas,
                "transaction.state.log.replication.factor": replicas,
                "transaction.state.log.min.isr": in_sync,
                "share.coordinator.state.topic.replication.factor": replicas,
                "share.coordinator.state.topic.min.isr": in_sync,
                # Fifty partitions each by default: half a second of the first transaction.
                "offsets.topic.num.partitions": 3,
                "transaction.state.log.num.partitions": 3,
                "share.coordinator.state.topic.num.partitions": 3,
                "group.initial.rebalance.delay.ms": 0,
                **self._config,
            }
            text = "".join(f"{name}={value}\n" for name, value in options.items())
            (directory / "server.properties").write_text(text)

    def _prepare(self) -> None:
        """Write each node's cluster id and feature levels, as Kafka wants before a first start."""
        # The first byte keeps a leading "-" away, which the tool would take for an option.
        raw = b"\0" + uuid.uuid4().bytes[1:]
        cluster_id = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        formatters = {
            node: subprocess.Popen(
                self._java(
                    ["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"],
                    "kafka.tools.StorageTool",
                    ["format", *self._format_arguments, "-t", cluster_id, "-c"],
                    node,
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for node in self.nodes
        }
        for node, formatter in formatters.items():
            output, _ = formatter.communicate()
            if formatter.returncode:
                raise KafkaStartError(f"formatting node {node} failed:\n{output[-4000:]}")

    def _java(
        self, options: Sequence[str], program: str, arguments: Sequence[str], node: int
    ) -> list[str]:
        properties = str(self._node_directory(node) / "server.properties")
        class_path = str(self._libs / "*")
        return ["java", *options, "-cp", class_path, program, *arguments, properties]

    def _spawn(self, node: int) -> int:
        """Start a broker's process; return how long its log was before."""
        options = ["-Xmx512m", *self._jvm_options]
        return self._launch(node, self._java(options, "kafka.Kafka", [], node))

    def _launch(self, node: int, command: Sequence[str]) -> int:
        with self.log(node).open("ab") as log:
            seen = log.tell()
            self._processes[node] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal is for the tests: they stop the broker when they are done.
                start_new_session=True,
            )
        self._record()
        return seen

    def _record(self) -> None:
        if self._directory is None:
            raise ValueError("this Kafka is not started")
        Record(
            directory=self._directory,
            version=self.version,
            bootstrap_servers=self.bootstrap_servers,
            owner=self._owner,
            brokers={node: Process.of(one.pid) for node, one in self._processes.items()},
        ).write()

    def _wait_for(self, node: int, seen: int, timeout: float = 90) -> None:
        """Wait for the line that tells that a broker serves clients."""
        process = self._processes[node]
        with self.log(node).open(errors="replace") as log:
            log.seek(seen)
            text = ""

            def settled() -> bool:
                nonlocal text
                text = text[-200:] + log.read()
                return self.started in text or process.poll() is not None

            if wait_until(settled, timeout) and process.poll() is None:
                return
            state = f"took over {timeout:.0f} s to start"
            if process.poll() is not None:
                state = f"ended with code {process.returncode} while it started"
            raise KafkaStartError(f"Kafka {self.version} node {node} {state}:\n{tail(log)}")

    def _end(self, node: int, sig: signal.Signals) -> None:
        process = self._processes.pop(node)
        process.send_signal(sig)
        process.send_signal(signal.SIGCONT)  # a paused process sees SIGTERM only once it runs
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._processes:
            self._record()


def _addresses(ports: Mapping[int, int]) -> str:
    return ",".join(f"127.0.0.1:{port}" for port in ports.values())


def _listed(listeners: Mapping[str, Mapping[int, int]], node: int, *more: str) -> str:
    """Write the listeners of a node as its configuration wants them."""
    own = (f"{name}://127.0.0.1:{ports[node]}" for name, ports in listeners.items())
    return ",".join([*own, *more])


def _require_java() -> None:
    if shutil.which("java") is None:
        raise KafkaUnavailableError("Java is not installed")
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', said.stderr)
    if said.returncode or found is None:
        raise KafkaUnavailableError("`java -version` does not work")
    if int(found[1]) < 17:
        raise KafkaUnavailableError(f"Java {found[1]} is too old: Kafka needs 17")


def _fetch_jars(version: str, home: Path, pom: str) -> None:
    """Have Maven put the jars of a Kafka release into `<home>/<version>/libs`, once."""
    directory = home / version
    if (directory / "libs").is_dir():
        return
    if shutil.which("mvn") is None:
        raise KafkaUnavailableError("Maven is not installed")
    home.mkdir(parents=True, exist_ok=True)
    # Built aside and moved whole: an interrupted download is never taken for a complete one.
    with tempfile.TemporaryDirectory(prefix="download-", dir=home) as aside:
        (Path(aside) / "pom.xml").write_text(pom.format(version=version))
        run_with_progress(
            f"downloading Kafka {version} with Maven (about 60 MB, once)",
            ["mvn", "-B", "-q", "dependency:copy-dependencies", "-DoutputDirectory=libs"],
            cwd=Path(aside),
        )
        directory.mkdir(exist_ok=True)
        try:
            (Path(aside) / "libs").rename(directory / "libs")
        except OSError:
            if not (directory / "libs").is_dir():  # else another run was first: use its jars
                raise
