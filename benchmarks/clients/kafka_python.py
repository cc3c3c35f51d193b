"""kafka-python, which is idempotent by default."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Sequence
from typing import Any

import kafka

from benchmarks import drivers
from benchmarks.jobs import WARM_UP, Job, Measurement, Pattern, Records, Stopwatch

IDIOMS = {
    Pattern.CALL: "send(), its future dropped",
    Pattern.AWAIT_LATER: "send(), future.get() later",
    Pattern.CALLBACK: "send().add_callback()",
    Pattern.ONE_AT_A_TIME: "send().get()",
}
WRITES_TO_KAFKA = True
_FLUSH_TIMEOUT = 60
_VERSION = importlib.metadata.version("kafka-python")


def unavailable() -> str | None:
    """It is in the bench group."""
    return None


def measure(job: Job) -> Measurement:
    """Do the job."""
    codec = job.payload.codec
    options: dict[str, Any] = {"compression_type": None if codec == "none" else codec}
    producer: Any = kafka.KafkaProducer(
        bootstrap_servers=job.bootstrap_servers.split(","), acks="all", **options
    )
    try:
        if job.pattern is Pattern.ONE_AT_A_TIME:
            return _one_at_a_time(job, producer)
        return _send(job, producer)
    finally:
        producer.close()


def _send(job: Job, producer: Any) -> Measurement:
    topic = job.topic
    records = Records.of(job.payload)
    keys: Sequence[bytes | None] = records.keys or [None]
    for _ in range(WARM_UP):
        producer.send(topic, records.values[0])
    producer.flush(_FLUSH_TIMEOUT)
    acknowledged = 0

    def on_success(_metadata: object) -> None:
        nonlocal acknowledged
        acknowledged += 1

    sent = 0
    futures: list[Any] = []
    clock = time.perf_counter
    watch = Stopwatch()
    until = clock() + job.seconds
    while clock() < until:
        for _ in range(max(1, drivers.BLOCK // len(keys))):
            for key, value in zip(keys, records.values, strict=True):
                future = producer.send(topic, value, key, headers=records.headers)
                sent += 1
                if job.pattern is Pattern.CALLBACK:
                    future.add_callback(on_success)
                elif job.pattern is Pattern.AWAIT_LATER:
                    futures.append(future)
    producer.flush(_FLUSH_TIMEOUT)
    for future in futures:
        future.get(_FLUSH_TIMEOUT)
    failures = sent - acknowledged if job.pattern is Pattern.CALLBACK else 0
    return watch.stop(sent - failures, _VERSION, failures=failures)


def _one_at_a_time(job: Job, producer: Any) -> Measurement:
    value = Records.of(job.payload).values[0]
    warm_up = WARM_UP // 4
    for _ in range(warm_up):
        producer.send(job.topic, value).get(_FLUSH_TIMEOUT)
    latencies: list[float] = []
    clock = time.perf_counter
    watch = Stopwatch()
    now = clock()
    until = now + job.seconds
    while now < until:
        before = clock()
        producer.send(job.topic, value).get(_FLUSH_TIMEOUT)
        now = clock()
        latencies.append(now - before)
    return watch.stop(len(latencies), _VERSION, latencies=latencies, warm_up=warm_up)
