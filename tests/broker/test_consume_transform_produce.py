"""examples/consume_transform_produce.py, killed and frozen at random: each order is enriched once.

The orders are written, and what was made of them is read, by librdkafka.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import confluent_kafka
import pytest

from tests.support.kafka import StoredRecord, consume, create_topic, end_offsets
from tools.kafka import Kafka

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = Path(__file__).parents[2] / "examples/consume_transform_produce.py"
PARTITIONS = 4
KEYS = 20
INSTANCES = 2
FAULTS = [signal.SIGKILL] * 3 + [signal.SIGTERM] * 2 + [signal.SIGSTOP]
PATIENCE = 60.0
"""For what takes a rebalance and a restart, and on a busy machine longer."""
SESSION_TIMEOUT = 6.0
"""The program's: for so long its group waits for an instance that is silent."""
FENCED = {"aioproducer.errors.ProducerFencedError", "aioproducer.errors.InvalidProducerEpochError"}
"""What ends an instance, if no signal does: it was frozen, or another one was and woke up."""

Order: TypeAlias = tuple[int, int]
"""Its key, and which of the key's orders it is."""


class Orders:
    """Writes orders until it is stopped; all of a key into one partition."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self.written: list[Order] = []
        self._kafka = kafka
        self._topic = topic
        self._is_stopped = threading.Event()

    @contextmanager
    def being_written(self) -> Generator[None]:
        """Write while the block runs; all are stored when it is left."""
        writer = threading.Thread(target=self._write)
        writer.start()
        try:
            yield
        finally:
            self._is_stopped.set()
            writer.join()

    def _write(self) -> None:
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": self._kafka.bootstrap_servers, "enable.idempotence": True}
        )
        numbers: Counter[int] = Counter()
        while not self._is_stopped.wait(0.02):
            for key in random.choices(range(KEYS), k=10):
                number = numbers[key]
                order = {"key": key, "number": number, "cents": 100 * number}
                producer.produce(
                    self._topic,
                    json.dumps(order).encode(),
                    key=b"%d" % key,
                    partition=key % PARTITIONS,
                )
                self.written.append((key, number))
                numbers[key] += 1
            producer.poll(0)
        producer.flush(PATIENCE)


class Instances:
    """The running instances of the program, and who starts them again."""

    def __init__(self, command: Sequence[str], errors: Path) -> None:
        self._command = command
        self._errors = errors
        self.processes: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def running(self) -> Generator[None]:
        """Start them; kill at the end whatever still runs then."""
        try:
            self.processes += [self._start() for _ in range(INSTANCES)]
            yield
        finally:
            for process in self.processes:
                process.kill()
                process.wait()

    def freeze(self, index: int, seconds: float) -> None:
        """Let one do nothing for a while; it does not know, and goes on where it was."""
        self.processes[index].send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.processes[index].send_signal(signal.SIGCONT)

    def replace(self, index: int, number: signal.Signals) -> int:
        """End one by a signal, and start it again; return its exit code."""
        code = _end(self.processes[index], number)
        self.processes[index] = self._start()
        return code

    def restart_ended(self) -> None:
        """Do what a supervisor does: an instance that was fenced has ended by itself."""
        for index, process in enumerate(self.processes):
            if process.poll() is not None:
                print(f"instance {index}: exit code {process.returncode}")
                self.processes[index] = self._start()

    def end(self) -> list[int]:
        """End all in order; return their exit codes."""
        return [_end(process, signal.SIGTERM) for process in self.processes]

    def _start(self) -> subprocess.Popen[bytes]:
        with self._errors.open("ab") as errors:
            return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=errors)


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    process.send_signal(number)
    return process.wait(PATIENCE)


@dataclass
class Audit:
    """How what is committed in the target differs from what was written to the source."""

    missing: set[Order] = field(default_factory=set[Order])
    stored_twice: set[Order] = field(default_factory=set[Order])
    out_of_order: set[Order] = field(default_factory=set[Order])
    made_wrong: set[Order] = field(default_factory=set[Order])


def audit(written: Iterable[Order], stored: Iterable[StoredRecord]) -> Audit:
    """Compare; `stored` is given in the order of each partition."""
    found = Audit()
    seen: set[Order] = set()
    latest: Counter[int] = Counter()
    for record in stored:
        made = json.loads(record.value or b"")
        order = key, number = made["key"], made["number"]
        if order in seen:
            found.stored_twice.add(order)
        elif number < latest[key]:
            found.out_of_order.add(order)
        if made["tax_cents"] != number * 19 or record.key != b"%d" % key:
            found.made_wrong.add(order)
        seen.add(order)
        latest[key] = max(number, latest[key])
    found.missing = set(written) - seen
    return found


def committed(kafka: Kafka, topic: str) -> list[StoredRecord]:
    return consume(kafka, topic, isolation="read_committed", timeout=PATIENCE)


def wait_for_progress(kafka: Kafka, topic: str, instances: Instances) -> None:
    """Return when some transactions more were written, be they committed or not."""
    give_up_at = time.monotonic() + PATIENCE
    before = sum(end_offsets(kafka, topic).values())
    while sum(end_offsets(kafka, topic).values()) < before + 100:
        assert time.monotonic() < give_up_at, f"nothing is written for {PATIENCE} s"
        instances.restart_ended()
        time.sleep(0.02)


def wait_for_the_last(
    kafka: Kafka, topic: str, instances: Instances, written: Sequence[Order]
) -> None:
    """Return when all are there, or when some are still missing after a while."""
    give_up_at = time.monotonic() + PATIENCE
    while audit(written, committed(kafka, topic)).missing and time.monotonic() < give_up_at:
        instances.restart_ended()
        time.sleep(0.2)


def test_each_order_is_enriched_once_although_instances_are_killed_and_frozen(
    broker: Kafka, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    source, target = create_topic(broker, partitions=PARTITIONS), create_topic(broker)
    command = [sys.executable, str(PROGRAM), "--bootstrap-servers", broker.bootstrap_servers]
    command += ["--source", source, "--target", target]
    command += ["--group", source, "--transactional-id", source]
    orders, instances = Orders(broker, source), Instances(command, tmp_path / "errors")
    with instances.running():
        with orders.being_written():
            for turn, number in enumerate(chance.sample(FAULTS, len(FAULTS))):
                # Not the one that was replaced last: it may just be joining.
                victim = turn % INSTANCES
                wait_for_progress(broker, target, instances)
                time.sleep(chance.uniform(0, 0.2))
                if number == signal.SIGSTOP:
                    # Meanwhile its partitions go to the others.
                    instances.freeze(victim, SESSION_TIMEOUT + 2)
                    wait_for_progress(broker, target, instances)
                    code = instances.replace(victim, signal.SIGTERM)
                else:
                    code = instances.replace(victim, number)
                print(f"instance {victim}: {number.name}, exit code {code}")
        wait_for_the_last(broker, target, instances, orders.written)
        codes = instances.end()
    errors = (tmp_path / "errors").read_text()
    print(errors[-20_000:])
    found = audit(orders.written, committed(broker, target))
    print(len(orders.written), "orders,", {name: len(ids) for name, ids in vars(found).items()})
    assert found == Audit()
    assert codes == [0] * INSTANCES
    assert {*re.findall(r"^([\w.]+(?:Error|Exception)\b)", errors, re.MULTILINE)} <= FENCED
