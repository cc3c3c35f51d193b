"""Runs the demo against a real Kafka, or against the built-in one where none can be had.

Called by `make demo`. Owns nothing: `tools/kafka.py` finds or starts the brokers and stops them.
"""

from __future__ import annotations

import subprocess
import sys

from tools.kafka import KafkaUnavailableError, find_kafka
from tools.kafka_cluster import ROOT

__all__ = ["main"]


def main() -> int:
    """Run the demo; return its exit code."""
    try:
        kafka = find_kafka()
    except KafkaUnavailableError as error:
        print(f"{error}\nThe demo runs against the built-in FakeCluster instead.", flush=True)
        return _run("fake")
    with kafka:
        return _run(kafka.bootstrap_servers)


def _run(bootstrap_servers: str) -> int:
    demo = ROOT / "examples" / "card_payments.py"
    command = [sys.executable, str(demo), "--bootstrap-servers", bootstrap_servers]
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the demo got it too; it flushes and ends
            continue


if __name__ == "__main__":
    sys.exit(main())
