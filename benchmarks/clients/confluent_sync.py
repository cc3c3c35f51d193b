"""confluent-kafka's Producer (librdkafka), with idempotence.

A queue of a million records instead of 100,000 made it a tenth faster; larger batches and a longer
linger than its defaults did not.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import time
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from benchmarks import drivers
from benchmarks.jobs import WARM_UP, Job, Measurement, Pattern, Records, Stopwatch, spread_keys

IDIOMS = {
    Pattern.CALL: "produce(), no callback",
    Pattern.AWAIT_LATER: "produce(on_delivery=...)",
    Pattern.CALLBACK: "produce(on_delivery=...)",
    Pattern.BULK: "produce_batch(on_delivery=...)",
    Pattern.ONE_AT_A_TIME: "produce(on_delivery=...), poll() until it was called",
    Pattern.PACED: "produce(on_delivery=...)",
    Pattern.SPREAD: "produce(), no callback",
    Pattern.START_UP: "Producer(), produce(), flush()",
    Pattern.TRANSACTIONS: "begin_transaction(), produce() in a loop, commit_transaction()",
}
WRITES_TO_KAFKA = True
_BULK_SIZE = 1_000
_TICK = 0.001
_VERSION = importlib.metadata.version("confluent-kafka")


def unavailable() -> str | None:
    """It is in the bench group."""
    return None


def measure(job: Job) -> Measurement:
    """Do the job."""
    options: dict[str, Any] = {
        "bootstrap.servers": job.bootstrap_servers,
        "enable.idempotence": True,
        "acks": "all",
        "queue.buffering.max.messages": 1_000_000,
        "compression.type": job.payload.codec,
    }
    if job.max_request_bytes is not None:
        options["message.max.bytes"] = job.max_request_bytes
    if job.ca_location:
        options |= {"security.protocol": "ssl", "ssl.ca.location": job.ca_location}
    if job.pattern is Pattern.ONE_AT_A_TIME:
        options["linger.ms"] = 0
    if job.pattern is Pattern.SPREAD:
        # Kafka's own; librdkafka's default would put the keys into other partitions.
        options["partitioner"] = "murmur2_random"
    if job.pattern is Pattern.TRANSACTIONS:
        options["transactional.id"] = job.topic
    watch = Stopwatch()
    client = _Client(job, options)
    match job.pattern:
        case Pattern.CALL:
            return client.call()
        case Pattern.AWAIT_LATER | Pattern.CALLBACK:
            return client.callback()
        case Pattern.BULK:
            return client.bulk()
        case Pattern.ONE_AT_A_TIME:
            return client.one_at_a_time()
        case Pattern.PACED:
            return client.paced()
        case Pattern.SPREAD:
            return client.spread()
        case Pattern.TRANSACTIONS:
            return client.transactions()
        case Pattern.START_UP:
            client.producer.produce(job.topic, b"first", on_delivery=client.on_delivery)
            client.flush()
            return client.result(watch, warm_up=0)
        case _:
            raise NotImplementedError(job.pattern)


class _Client:
    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.producer = Producer(options)
        self.job = job
        self.records = Records.of(job.payload)
        self.value = self.records.values[0]
        self.acknowledged = 0
        self.failures = 0

    def on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.failures += 1

    def produce(self, value: bytes, **options: Any) -> None:
        """Hand a record over, waiting for room if there is none."""
        while True:
            try:
                self.producer.produce(self.job.topic, value, **options)
                return
            except BufferError:
                self.producer.poll(0.005)

    def flush(self) -> None:
        left = self.producer.flush(60)
        if left:
            raise RuntimeError(f"{left} records are not delivered after a minute")

    def warm_up(self, count: int = WARM_UP) -> None:
        for _ in range(count):
            self.produce(self.value, on_delivery=self.on_delivery)
        self.flush()
        self.acknowledged = 0

    def result(
        self, watch: Stopwatch, *, latencies: list[float] | None = None, warm_up: int = WARM_UP
    ) -> Measurement:
        return watch.stop(
            self.acknowledged,
            _VERSION,
            latencies=latencies or (),
            failures=self.failures,
            warm_up=warm_up,
        )

    def call(self) -> Measurement:
        self.warm_up()
        topic, value = self.job.topic, self.value
        produce, poll = self.producer.produce, self.producer.poll
        block = min(drivers.BLOCK, drivers.window(self.job))
        clock = time.perf_counter
        watch = Stopwatch()
        until = clock() + self.job.seconds
        while clock() < until:
            for _ in range(block):
                try:
                    produce(topic, value)
                except BufferError:
                    self.produce(value)
            self.acknowledged += block
            poll(0)
        self.flush()
        return self.result(watch)

    def spread(self) -> Measurement:
        """Each record has the next key."""
        topic, value = self.job.topic, self.value
        keys = spread_keys()
        for key in keys[:WARM_UP]:
            self.produce(value, key=key)
        self.flush()
        following = itertools.cycle(keys)
        produce, poll = self.producer.produce, self.producer.poll
        clock = time.perf_counter
        watch = Stopwatch()
        until = clock() + self.job.seconds
        while clock() < until:
            for key in itertools.islice(following, drivers.BLOCK):
                try:
                    produce(topic, value, key)
                except BufferError:
                    self.produce(value, key=key)
            self.acknowledged += drivers.BLOCK
            poll(0)
        self.flush()
        return self.result(watch)

    def callback(self) -> Measurement:
        self.warm_up()
        topic, value, on_delivery = self.job.topic, self.value, self.on_delivery
        headers: list[tuple[str, str | bytes | None]] = [*self.records.headers]
        produce, poll = self.producer.produce, self.producer.poll
        pairs = list(zip(self.records.values, self.records.keys, strict=False))
        clock = time.perf_counter
        watch = Stopwatch()
        until = clock() + self.job.seconds
        while clock() < until:
            for value, key in pairs:
                try:
                    produce(topic, value, key, headers=headers, on_delivery=on_delivery)
                except BufferError:
                    self.produce(value, key=key, headers=headers, on_delivery=on_delivery)
            if not pairs:
                for _ in range(drivers.BLOCK):
                    try:
                        produce(topic, value, on_delivery=on_delivery)
                    except BufferError:
                        self.produce(value, on_delivery=on_delivery)
            poll(0)
        self.flush()
        return self.result(watch)

    def bulk(self) -> Measurement:
        self.warm_up()
        clock = time.perf_counter
        watch = Stopwatch()
        until = clock() + self.job.seconds
        while clock() < until:
            # It marks each dict that found no room, so a list serves once.
            messages = [{"value": self.value} for _ in range(_BULK_SIZE)]
            while messages:
                self.producer.produce_batch(self.job.topic, messages, on_delivery=self.on_delivery)
                self.producer.poll(0)
                messages = [{"value": self.value} for one in messages if "_error" in one]
                if messages:
                    self.producer.poll(0.005)
        self.flush()
        return self.result(watch)

    def one_at_a_time(self) -> Measurement:
        warm_up = WARM_UP // 4
        self.warm_up(warm_up)
        latencies: list[float] = []
        clock = time.perf_counter
        watch = Stopwatch()
        now = clock()
        until = now + self.job.seconds
        while now < until:
            before = clock()
            self.producer.produce(self.job.topic, self.value, on_delivery=self.on_delivery)
            while self.acknowledged + self.failures == len(latencies):
                self.producer.poll(1)
            now = clock()
            latencies.append(now - before)
        return self.result(watch, latencies=latencies, warm_up=warm_up)

    def paced(self) -> Measurement:
        padding = self.value[drivers.PACED_HEADER :]
        self.value = b"\xff" * drivers.PACED_HEADER + padding
        self.warm_up()
        rate = self.job.rate
        clock = time.perf_counter
        latencies: list[float] = []

        def timed(error: KafkaError | None, message: Message) -> None:
            self.on_delivery(error, message)
            value = message.value()
            assert isinstance(value, bytes)
            number = int.from_bytes(value[: drivers.PACED_HEADER], "big")
            latencies.append(clock() - started - number / rate)

        watch = Stopwatch()
        started = clock()
        count = 0
        total = int(rate * self.job.seconds)
        while count < total:
            due = min(total, int((clock() - started) * rate))
            for number in range(count, due):
                value = number.to_bytes(drivers.PACED_HEADER, "big") + padding
                takes_time = number % drivers.LATENCY_EVERY == 0
                self.produce(value, on_delivery=timed if takes_time else self.on_delivery)
            count = due
            self.producer.poll(_TICK)
        self.flush()
        return self.result(watch, latencies=latencies)

    def transactions(self) -> Measurement:
        self.producer.init_transactions(60)
        clock = time.perf_counter
        self.transaction(WARM_UP)
        warm_up = WARM_UP
        until = clock() + self.job.seconds / 2
        while clock() < until:
            self.transaction(self.job.block)
            warm_up += self.job.block
        latencies: list[float] = []
        watch = Stopwatch()
        now = clock()
        until = now + self.job.seconds
        while now < until:
            before = now
            self.transaction(self.job.block)
            now = clock()
            latencies.append(now - before)
        count = len(latencies)
        return watch.stop(
            count * self.job.block, _VERSION, latencies=latencies, warm_up=warm_up, blocks=count
        )

    def transaction(self, count: int) -> None:
        """Commit waits for every record, and raises if one failed; so there is no callback."""
        topic, value = self.job.topic, self.value
        produce = self.producer.produce
        self.producer.begin_transaction()
        for _ in range(count):
            produce(topic, value)
        self.producer.commit_transaction(60)
