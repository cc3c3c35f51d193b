"""Runs the oldest Kafka that the producer speaks to, beside the ZooKeeper that it needs.

Owns two Java processes on 127.0.0.1. It is 2.1.1 and not a later one of the old releases: what
holds on the oldest and on the newest holds in between, and both have no image for Docker. 2.8 could
do without ZooKeeper, but its KRaft is a preview that gives out no producer ids, so nothing
idempotent can be written to it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from tools.kafka_cluster import HOME, KafkaStartError, tail, wait_until
from tools.kafka_java import LocalKafka

__all__ = ["OLDEST_VERSION", "ZooKeeperKafka"]

OLDEST_VERSION = "2.1.1"

# The ZooKeeper that this Kafka comes with resolves no address on Java 14 and later
# (ZOOKEEPER-3779); 3.5 is the next one, and speaks the same protocol.
_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>aioproducer</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.12</artifactId>
      <version>{version}</version></dependency>
    <dependency><groupId>org.apache.zookeeper</groupId><artifactId>zookeeper</artifactId>
      <version>3.5.10</version>
      <exclusions>
        <exclusion><groupId>org.slf4j</groupId><artifactId>slf4j-log4j12</artifactId></exclusion>
        <exclusion><groupId>io.netty</groupId><artifactId>*</artifactId></exclusion>
      </exclusions></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version></dependency>
  </dependencies>
</project>
"""

_ZOOKEEPER = 0
"""The node number of ZooKeeper, among the brokers that are counted from 1."""
_BROKER = 1


class ZooKeeperKafka(LocalKafka):
    """One broker of Kafka 2.1.1, and its ZooKeeper.

    Args:
        home: The folder that holds jars and records.
    """

    pom = _POM
    started = "KafkaServer id=1] started"

    def __init__(self, *, home: Path = HOME) -> None:
        super().__init__(OLDEST_VERSION, home=home)
        self._zookeeper = ("127.0.0.1", 0)

    def start_node(self, node: int) -> None:
        """Start the broker again; returns when it serves.

        ZooKeeper takes a killed one for alive until its session ends, and would refuse it.
        """
        if not wait_until(lambda: not self._is_registered(node), timeout=30):
            raise KafkaStartError(f"ZooKeeper goes on taking node {node} for alive")
        super().start_node(node)

    def _configure(self, ports: Sequence[int]) -> None:
        client, zookeeper = ports
        self.bootstrap_servers = f"127.0.0.1:{client}"
        self._zookeeper = ("127.0.0.1", zookeeper)
        self._write(
            _ZOOKEEPER,
            {
                "clientPortAddress": "127.0.0.1",
                "clientPort": zookeeper,
                "dataDir": self.data(_ZOOKEEPER),
                # Sessions last twenty ticks at most: how long a killed broker is taken for alive.
                "tickTime": 200,
                "admin.enableServer": "false",
                "4lw.commands.whitelist": "dump",
            },
        )
        self._write(
            _BROKER,
            {
                "broker.id": _BROKER,
                "zookeeper.connect": f"127.0.0.1:{zookeeper}",
                "zookeeper.session.timeout.ms": 4000,
                "listeners": f"PLAINTEXT://{self.bootstrap_servers}",
                "log.dirs": self.data(_BROKER),
                "num.partitions": 3,
                "offsets.topic.replication.factor": 1,
                "offsets.topic.num.partitions": 3,
                "transaction.state.log.replication.factor": 1,
                "transaction.state.log.min.isr": 1,
                "group.initial.rebalance.delay.ms": 0,
            },
        )

    def _write(self, node: int, options: dict[str, object]) -> None:
        directory = self._node_directory(node)
        directory.mkdir()
        text = "".join(f"{name}={value}\n" for name, value in options.items())
        (directory / "server.properties").write_text(text)

    def _prepare(self) -> None:
        """Start ZooKeeper; return when it answers."""
        program = "org.apache.zookeeper.server.ZooKeeperServerMain"
        options = [
            "-Xmx128m",
            "-XX:TieredStopAtLevel=1",
            "-Dzookeeper.jmx.log4j.disable=true",
            # Each change of the cluster would wait for the disk, which on a busy machine takes
            # seconds, and more than a session lasts.
            "-Dzookeeper.forceSync=no",
        ]
        self._launch(_ZOOKEEPER, self._java(options, program, [], _ZOOKEEPER))
        if not wait_until(lambda: self._ask_zookeeper() is not None, timeout=30):
            with self.log(_ZOOKEEPER).open() as log:
                raise KafkaStartError(f"ZooKeeper does not answer:\n{tail(log)}")

    def _is_registered(self, node: int) -> bool:
        return f"/brokers/ids/{node}\n" in (self._ask_zookeeper() or "")

    def _ask_zookeeper(self) -> str | None:
        """Its sessions and what they hold; None while it does not answer."""
        try:
            with socket.create_connection(self._zookeeper, timeout=5) as connection:
                connection.sendall(b"dump")
                answer = b""
                while part := connection.recv(4096):
                    answer += part
        except OSError:
            return None
        return answer.decode()
