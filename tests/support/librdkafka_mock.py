"""librdkafka's mock cluster in a process of its own: `python -m tests.support.librdkafka_mock`.

It comes with the `confluent-kafka` wheel: brokers in C that share no code with ours or Kafka's, and
refuse newer versions of ApiVersions in a form of their own. Prints the addresses of its three
brokers and lives until its standard input ends. In the tests' process, its threads and sockets
would be taken for what a test left behind.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

from confluent_kafka import Producer

from tools.kafka import ExternalKafka, Kafka

__all__ = ["librdkafka_mock"]


@contextmanager
def librdkafka_mock() -> Generator[Kafka]:
    """A running mock cluster of three brokers."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        # Leaving the block ends its standard input, and waits for its end.
        assert process.stdout is not None
        yield ExternalKafka(process.stdout.readline().strip())


def main() -> None:
    """Run the cluster until the standard input ends."""
    cluster = Producer({"bootstrap.servers": "replaced by the mock", "test.mock.num.brokers": 3})
    brokers = cluster.list_topics(timeout=10).brokers.values()
    print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
