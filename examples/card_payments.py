"""Card payments: stored exactly once, in the order of each card, the result within 500 ms.

Run by `make demo`, or by hand: python examples/card_payments.py --bootstrap-servers localhost:9092

Three quarters of the payments are sent as fast as it goes, which also warms the broker up. The
others come at a steady rate, each in a task of its own that awaits its result, as in a web service;
their latencies count. At the end an independent client reads the log back, and the exit
code tells whether the promise was kept.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from aioproducer import KafkaError, Producer
from aioproducer.testing import FakeCluster

PROMISED_SECONDS = 0.5
PROMISED_SHARE = 0.999
CARDS = [f"card-{number:04}" for number in range(1000)]
CUSTOMERS_AT_FULL_SPEED = 500
PARTITIONS = 6

Payment: TypeAlias = dict[str, str | int]
PaymentProducer: TypeAlias = Producer[str, Payment]


# ---- sending


class PaymentService:
    """What the handlers of a web service would call."""

    def __init__(self, producer: PaymentProducer, topic: str, cards: Sequence[str]) -> None:
        self.run = time.time_ns()
        self.offsets: dict[int, tuple[int, int]] = {}
        """Partition and offset of each acknowledged payment."""
        self.failures: Counter[str] = Counter()
        self.in_flight = 0
        self._producer = producer
        self._topic = topic
        self._cards = cards
        self._ids = itertools.count()
        self._payments_of_card: Counter[str] = Counter()

    async def pay(self) -> None:
        """Take one payment; return when it is stored, or has failed."""
        card = random.choice(self._cards)
        payment_id = next(self._ids)
        self._payments_of_card[card] += 1
        payment: Payment = {
            "run": self.run,
            "payment": payment_id,
            "card": card,
            "nth_of_card": self._payments_of_card[card],
            "cents": random.randrange(100, 100_000),
        }
        self.in_flight += 1
        try:
            metadata = await self._producer.send_and_wait(self._topic, payment, key=card)
            self.offsets[payment_id] = (metadata.partition, metadata.offset)
        except KafkaError as error:
            self.failures[str(error)] += 1
        finally:
            self.in_flight -= 1


async def pay_at_full_speed(service: PaymentService, count: int) -> None:
    """Let some hundred customers pay again and again."""
    turns = iter(range(count))

    async def customer() -> None:
        for _ in turns:
            await service.pay()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CUSTOMERS_AT_FULL_SPEED):
            tasks.create_task(customer())


async def pay_at_a_rate(
    service: PaymentService, count: int, rate: float, latencies: Latencies
) -> None:
    """Start each payment when it is due, whether or not those before it are finished."""
    started_at = time.perf_counter()

    async def customer(due_at: float) -> None:
        await service.pay()
        latencies.add(time.perf_counter() - due_at)

    started = 0
    async with asyncio.TaskGroup() as tasks:
        while started < count:
            due = min(count, int((time.perf_counter() - started_at) * rate) + 1)
            for number in range(started, due):
                tasks.create_task(customer(started_at + number / rate))
            started = due
            await asyncio.sleep(0.001)


# ---- watching


class Latencies:
    """Counts latencies in steps of 5 %, so that percentiles cost nothing while it runs."""

    _EDGES = tuple(0.000_05 * 1.05**step for step in range(300))
    _BARS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, PROMISED_SECONDS, float("inf"))

    def __init__(self) -> None:
        self._counts = [0] * (len(self._EDGES) + 1)
        self._bar_counts = [0] * len(self._BARS)
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect.bisect_left(self._EDGES, seconds)] += 1
        self._bar_counts[bisect.bisect_left(self._BARS, seconds)] += 1
        self.count += 1

    @property
    def share_in_time(self) -> float:
        """The share within the promise, from 0 to 1."""
        return 1 - self._bar_counts[-1] / self.count if self.count else 1.0

    def __str__(self) -> str:
        percentiles = (f"p{percent:g} {self._at(percent):.1f} ms" for percent in (50, 99, 99.9))
        return ", ".join(percentiles)

    def histogram(self) -> Iterator[str]:
        """Yield one line for each bar, up to the last that is not empty."""
        last = max((bar for bar, count in enumerate(self._bar_counts) if count), default=-1)
        for bar, count in enumerate(self._bar_counts[: last + 1]):
            label = f"up to {self._BARS[bar] * 1000:3.0f} ms"
            if self._BARS[bar] == float("inf"):
                label = "longer      "
            share = count / self.count
            yield f"  {label} {share:8.3%} {'#' * round(share * 50)}"

    def _at(self, percent: float) -> float:
        seen = 0
        for edge, count in zip(self._EDGES, self._counts, strict=False):
            seen += count
            if seen >= self.count * percent / 100:
                return edge * 1000
        return float("inf")


@asynccontextmanager
async def showing_progress(service: PaymentService, latencies: Latencies) -> AsyncGenerator[None]:
    """Tell once a second how it goes: on one line in a terminal, else on a line each."""
    ending = "\r" if sys.stdout.isatty() else "\n"

    async def show() -> None:
        before, then = len(service.offsets), time.perf_counter()
        while True:
            await asyncio.sleep(1)
            done, now = len(service.offsets), time.perf_counter()
            rate = (done - before) / (now - then)
            line = f"  {rate:8,.0f} payments/s, {service.in_flight:5,} in flight"
            if latencies.count:
                line += f", {latencies}"
            print(f"{line:<79}", end=ending, flush=True)
            before, then = done, now

    showing = asyncio.create_task(show())
    try:
        yield
    finally:
        showing.cancel()


# ---- the audit


class StoredRecord(NamedTuple):
    """A record as it stands in the log."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


@dataclass
class Audit:
    """What differs between the results that were given and the log."""

    acknowledged: int = 0
    failed: int = 0
    lost: int = 0
    stored_twice: int = 0
    out_of_order: int = 0
    wrong_offset_or_key: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether every payment was acknowledged and is where it belongs."""
        return not any(list(vars(self).values())[1:])

    def __str__(self) -> str:
        counts = vars(self).items()
        return "\n".join(f"  {name.replace('_', ' '):<20}{count:10,}" for name, count in counts)


def audit(service: PaymentService, log: Iterable[StoredRecord]) -> Audit:
    """Compare the results with the log, given in the order of each partition."""
    found = Audit(acknowledged=len(service.offsets), failed=service.failures.total())
    seen: set[int] = set()
    latest_of_card: Counter[bytes] = Counter()
    for record in log:
        payment = json.loads(record.value or b"{}")
        if payment.get("run") != service.run or record.key is None:
            continue
        payment_id, nth_of_card = payment["payment"], payment["nth_of_card"]
        found.stored_twice += payment_id in seen
        seen.add(payment_id)
        found.out_of_order += nth_of_card <= latest_of_card[record.key]
        latest_of_card[record.key] = max(nth_of_card, latest_of_card[record.key])
        told = service.offsets.get(payment_id, record[:2])
        found.wrong_offset_or_key += told != record[:2] or payment["card"] != record.key.decode()
    found.lost = len(service.offsets.keys() - seen)
    return found


class KafkaLog:
    """A topic's log from now on, read by librdkafka: it shares no code with the producer."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        from confluent_kafka import Consumer, libversion
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        self.reader = f"librdkafka {libversion()[0]}"
        self._topic = topic
        admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        if topic not in admin.list_topics(timeout=10).topics:
            admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result()  # pyright: ignore
        group = {"group.id": "card-payments-audit", "enable.auto.commit": False}
        self._consumer = Consumer({"bootstrap.servers": bootstrap_servers, **group})
        self._starts = self._ends()

    def read(self) -> Iterator[StoredRecord]:
        """Yield the records up to the present end."""
        from confluent_kafka import KafkaException, TopicPartition

        starts, unread = self._starts, self._ends()
        self._consumer.assign([TopicPartition(self._topic, one, starts[one]) for one in starts])
        unread = {one: end for one, end in unread.items() if end > starts[one]}
        while unread:
            for message in self._consumer.consume(10_000, timeout=1):
                partition, offset = message.partition(), message.offset()
                if message.error() or partition is None or offset is None:
                    raise KafkaException(message.error())
                yield StoredRecord(partition, offset, message.key(), message.value())
                if offset + 1 >= unread.get(partition, 0):
                    unread.pop(partition, None)
        self._consumer.close()

    def _ends(self) -> dict[int, int]:
        known = self._consumer.list_topics(self._topic, timeout=10).topics[self._topic]
        return {one: self._end(one) for one in known.partitions}

    def _end(self, partition: int) -> int:
        from confluent_kafka import KafkaException, TopicPartition

        place = TopicPartition(self._topic, partition)
        give_up_at = time.monotonic() + 10
        while True:
            try:
                return self._consumer.get_watermark_offsets(place, timeout=10, cached=False)[1]
            except KafkaException:
                # Of a topic made a moment ago, a broker may not know yet that it leads it.
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.1)


class FakeLog:
    """A topic's log in the built-in cluster."""

    reader = "the FakeCluster itself"

    def __init__(self, cluster: FakeCluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic

    def read(self) -> Iterator[StoredRecord]:
        """Yield all records."""
        for one in self._cluster.records(self._topic):
            yield StoredRecord(one.partition, one.offset, one.key, one.value)


# ---- all together


async def run_demo(arguments: argparse.Namespace) -> bool:
    """Send, watch, audit; return whether the promise was kept."""
    topic: str = arguments.topic
    is_fake = arguments.bootstrap_servers == "fake"
    payments: int = arguments.payments or (10_000 if is_fake else 200_000)
    rate: float = arguments.rate or (1_000 if is_fake else 5_000)
    at_full_speed = payments * 3 // 4
    async with AsyncExitStack() as stack:
        bootstrap_servers: str = arguments.bootstrap_servers
        cluster = FakeCluster(topics={topic: PARTITIONS})
        if is_fake:
            await stack.enter_async_context(cluster)
            bootstrap_servers = cluster.bootstrap_servers
            print(
                "No real Kafka: this is the built-in FakeCluster, inside this process, in memory."
            )
        print(f"Card payments to topic {topic!r} at {bootstrap_servers}")
        producer: PaymentProducer = Producer(
            bootstrap_servers=bootstrap_servers,
            key_serializer="string",
            value_serializer="json",
            max_block_ms=5_000,
        )
        latencies = Latencies()
        async with producer:
            log = FakeLog(cluster, topic) if is_fake else KafkaLog(bootstrap_servers, topic)
            service = PaymentService(producer, topic, CARDS)
            print(f"{at_full_speed:,} payments at full speed, to warm up:")
            async with showing_progress(service, latencies):
                started_at = time.perf_counter()
                await pay_at_full_speed(service, at_full_speed)
                seconds = time.perf_counter() - started_at
            print(f"{f'  {at_full_speed / seconds:8,.0f} payments/s on average':<79}")
            print(
                f"{payments - at_full_speed:,} payments, {rate:,.0f} each second, a task for each:"
            )
            async with showing_progress(service, latencies):
                await pay_at_a_rate(service, payments - at_full_speed, rate, latencies)
        print(f"{'Latency from when a payment was due to its result:':<79}\n  {latencies}")
        print("\n".join(latencies.histogram()))
        print(f"Audit of the log, read back by {log.reader}:")
        found = await asyncio.to_thread(audit, service, log.read())
        print(found)
        print(f"  {'within 500 ms':<20}{latencies.share_in_time:10.3%}")
    for reason, count in service.failures.most_common(3):
        print(f"  {count:,} x {reason}")
    is_kept = found.is_clean and latencies.share_in_time >= PROMISED_SHARE
    print("The promise was kept." if is_kept else "THE PROMISE WAS BROKEN.")
    return is_kept


def main() -> int:
    """Run the demo; return 0 if the promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("--bootstrap-servers", default="localhost:9092", help="or `fake`: the built-in FakeCluster")
    add("--payments", type=int, help="how many (default 200,000; 10,000 for fake)")
    add("--rate", type=float, help="payments per second (default 5,000; 1,000 for fake)")
    add("--topic", default="card-payments", help="made if it does not exist (default %(default)s)")
    try:
        return 0 if asyncio.run(run_demo(parser.parse_args())) else 1
    except KafkaError as error:
        print(f"card_payments: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"card_payments: the audit needs {error.name}: pip install confluent-kafka")
        return 2
    except KeyboardInterrupt:
        print("\nStopped; what was sent is flushed, but not audited.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
