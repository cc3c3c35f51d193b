"""One client under test in a process of its own: `python -m tests.chaos.clients NAME JOB`.

Started by the runner, which gives orders on standard input, a word a line: `go`, `second` (send to
the second topic as well), `first` (no more of that), `end`. The client then waits for every
outcome that is missing, writes its ledger and ends. Nothing here knows of the faults.
"""

# aiokafka is there for `make chaos` only, and ships no types.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.metadata
import json
import logging
import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

from tests.chaos.ledger import Entry, Ledger

__all__ = ["CLIENTS", "Job", "Options", "Orders", "installed", "ready"]

_TICK = 0.002


@dataclass(frozen=True, slots=True)
class Options:
    """What is not a client's default, the same for all as far as they have it."""

    delivery_timeout_ms: int = 60_000
    request_timeout_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class Job:
    """What a client has to do.

    Attributes:
        bootstrap_servers: The cluster.
        topic: Where the records go.
        second_topic: Where some go while the runner says so.
        nonce: The run's.
        ledger: Where to write the ledger.
        rate: Records a second; a tenth of it for the second topic.
        keys: How many keys they have.
        options: The client's.
        loop: `asyncio` or `uvloop`.
    """

    bootstrap_servers: str
    topic: str
    second_topic: str
    nonce: str
    ledger: str
    rate: int = 1_000
    keys: int = 100
    options: Options = field(default_factory=Options)
    loop: str = "asyncio"

    def to_json(self) -> str:
        """Return it for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        read = json.loads(text)
        return cls(**read | {"options": Options(**read["options"])})


class Orders:
    """What the runner wants, as it is now; a thread listens."""

    def __init__(self) -> None:
        self.is_over = False
        self.with_second_topic = False
        self.go = threading.Event()

    def listen(self) -> None:
        """Follow standard input; its end is the end."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            match line.strip():
                case "go":
                    self.go.set()
                case "second":
                    self.with_second_topic = True
                case "first":
                    self.with_second_topic = False
                case _:
                    break
        self.is_over = True


class Pace:
    """Tells how many records are due; what was missed is due at once."""

    def __init__(self, job: Job, orders: Orders, salt: str) -> None:
        self._job = job
        self._orders = orders
        self._random = random.Random(job.nonce + salt)
        self._started_at = time.monotonic()
        self._count = 0

    def due(self) -> list[tuple[str, int]]:
        """Return topic and key of each record that is due now."""
        count = int((time.monotonic() - self._started_at) * self._job.rate) - self._count
        self._count += count
        return [(self._topic(), self._random.randrange(self._job.keys)) for _ in range(count)]

    def _topic(self) -> str:
        is_second = self._orders.with_second_topic and self._random.random() < 0.1
        return self._job.second_topic if is_second else self._job.topic


# ---- aioproducer


class AioproducerLoad:
    """Every way to send and to wait, a task for each record, some of them cancelled at random."""

    def __init__(self, job: Job, orders: Orders, ledger: Ledger) -> None:
        self._job = job
        self._orders = orders
        self._ledger = ledger
        self._random = random.Random(job.nonce + "aioproducer")
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until the end, then wait for every outcome."""
        from aioproducer import Producer

        options = self._job.options
        self._producer: Producer[Any, Any] = Producer(
            bootstrap_servers=self._job.bootstrap_servers,
            delivery_timeout_ms=options.delivery_timeout_ms,
            request_timeout_ms=options.request_timeout_ms,
        )
        await self._producer.start()
        await asyncio.to_thread(ready, self._orders)
        loop = asyncio.get_running_loop()
        ways = {
            self._send_and_wait: 30,
            self._send_and_look_later: 25,
            self._send_with_callback: 15,
            self._wait_and_be_cancelled: 10,
            self._send_and_wait_and_be_cancelled: 5,
        }
        drawn = (*ways.values(), 15)
        pace = Pace(self._job, self._orders, "pace")
        while not self._orders.is_over:
            for topic, key in pace.due():
                way = self._random.choices((*ways, None), drawn)[0]
                if way is None:
                    self._send_nowait(topic, key)
                else:
                    task = loop.create_task(way(topic, key))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(_TICK)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_patience(self._job))
        left = await self._producer.close(timeout=5)
        print(f"{len(left)} undelivered, {self._producer.status()}", file=sys.stderr)

    def _send_nowait(self, topic: str, key: int) -> None:
        from aioproducer import BufferExhaustedError

        entry, key_bytes, value = self._ledger.call(topic, key, "send_nowait")
        try:
            self._producer.send_nowait(
                topic, value, key=key_bytes, on_delivery=partial(_told, entry)
            )
        except BufferExhaustedError as error:
            entry.refused(error)

    async def _send_and_wait(self, topic: str, key: int) -> None:
        from aioproducer import KafkaError

        entry, key_bytes, value = self._ledger.call(topic, key, "send_and_wait")
        try:
            _told(entry, await self._producer.send_and_wait(topic, value, key=key_bytes), None)
        except KafkaError as error:
            _told(entry, None, error)

    async def _send_and_look_later(self, topic: str, key: int) -> None:
        from aioproducer import Delivery, KafkaError

        entry, key_bytes, value = self._ledger.call(topic, key, "send")

        def done(delivery: Delivery) -> None:
            error = delivery.exception()
            assert error is None or isinstance(error, KafkaError)
            _told(entry, None if error else delivery.result(), error)

        delivery = await self._producer.send(topic, value, key=key_bytes)
        delivery.add_done_callback(done)
        await asyncio.sleep(self._random.random() * 0.3)
        try:
            metadata = await delivery
        except KafkaError:
            metadata = None
        if (-1 if metadata is None else metadata.offset) != entry.offset:
            entry.times_told += 1

    async def _send_with_callback(self, topic: str, key: int) -> None:
        entry, key_bytes, value = self._ledger.call(topic, key, "send, on_delivery")
        await self._producer.send(topic, value, key=key_bytes, on_delivery=partial(_told, entry))

    async def _wait_and_be_cancelled(self, topic: str, key: int) -> None:
        from aioproducer import KafkaError

        entry, key_bytes, value = self._ledger.call(topic, key, "send, the wait cancelled")
        self._cancel_soon()
        delivery = await self._producer.send(
            topic, value, key=key_bytes, on_delivery=partial(_told, entry)
        )
        with contextlib.suppress(KafkaError):  # the callback tells
            await delivery

    async def _send_and_wait_and_be_cancelled(self, topic: str, key: int) -> None:
        from aioproducer import KafkaError

        entry, key_bytes, value = self._ledger.call(topic, key, "send_and_wait, cancelled")
        self._cancel_soon()
        try:
            metadata = await self._producer.send_and_wait(topic, value, key=key_bytes)
        except asyncio.CancelledError:
            entry.abandoned()
            raise
        except KafkaError as error:
            _told(entry, None, error)
        else:
            _told(entry, metadata, None)

    def _cancel_soon(self) -> None:
        """Cancel the current task after a time about as long as a record takes."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(self._random.random() ** 3 * 0.5, task.cancel)


def _told(entry: Entry, metadata: Any, error: Any) -> None:
    if error is None:
        entry.acknowledged(metadata.partition, metadata.offset, metadata.timestamp_ms)
    else:
        entry.failed(error, error.possibly_persisted)


# ---- aiokafka


class AiokafkaLoad:
    """A task for each key, which awaits `send` in order; futures tell the outcomes."""

    def __init__(self, job: Job, orders: Orders, ledger: Ledger) -> None:
        self._job = job
        self._orders = orders
        self._ledger = ledger
        self._futures: set[asyncio.Future[Any]] = set()

    async def run(self) -> None:
        """Send until the end, then wait for every outcome."""
        from aiokafka import AIOKafkaProducer

        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._job.bootstrap_servers,
            enable_idempotence=True,
            # The one bound it has: of a request, and of a batch.
            request_timeout_ms=self._job.options.delivery_timeout_ms,
        )
        await self._producer.start()
        await asyncio.to_thread(ready, self._orders)
        queues: list[asyncio.Queue[str | None]] = [asyncio.Queue() for _ in range(self._job.keys)]
        senders = [asyncio.create_task(self._send(key, queue)) for key, queue in enumerate(queues)]
        pace = Pace(self._job, self._orders, "pace")
        while not self._orders.is_over:
            for topic, key in pace.due():
                queues[key].put_nowait(topic)
            await asyncio.sleep(_TICK)
        for queue in queues:
            queue.put_nowait(None)
        give_up_at = time.monotonic() + _patience(self._job)
        await asyncio.wait(senders, timeout=give_up_at - time.monotonic())
        if self._futures:
            await asyncio.wait(self._futures, timeout=max(0.0, give_up_at - time.monotonic()))
        try:
            async with asyncio.timeout(5):
                await self._producer.stop()
        except TimeoutError:
            print("stop() did not return", file=sys.stderr)

    async def _send(self, key: int, due: asyncio.Queue[str | None]) -> None:
        from aiokafka.errors import KafkaError

        while (topic := await due.get()) is not None:
            entry, key_bytes, value = self._ledger.call(topic, key, "send")
            try:
                future = await self._producer.send(topic, value, key=key_bytes)
            except KafkaError as error:
                entry.failed(error)
                continue
            self._futures.add(future)
            future.add_done_callback(partial(self._done, entry))

    def _done(self, entry: Entry, future: asyncio.Future[Any]) -> None:
        self._futures.discard(future)
        error = future.exception()
        if error is None:
            metadata = future.result()
            entry.acknowledged(metadata.partition, metadata.offset, metadata.timestamp)
        else:
            entry.failed(error)


# ---- confluent-kafka


class ConfluentLoad:
    """`produce` with a callback, and `poll` every few milliseconds."""

    def __init__(self, job: Job, orders: Orders, ledger: Ledger) -> None:
        self._job = job
        self._orders = orders
        self._ledger = ledger

    def run(self) -> None:
        """Send until the end, then wait for every outcome."""
        from confluent_kafka import Producer

        options = self._job.options
        producer = Producer(
            {
                "bootstrap.servers": self._job.bootstrap_servers,
                "enable.idempotence": True,
                "delivery.timeout.ms": options.delivery_timeout_ms,
                "request.timeout.ms": options.request_timeout_ms,
                "socket.timeout.ms": options.request_timeout_ms,
            }
        )
        producer.list_topics(timeout=30)
        ready(self._orders)
        pace = Pace(self._job, self._orders, "pace")
        while not self._orders.is_over:
            for topic, key in pace.due():
                entry, key_bytes, value = self._ledger.call(topic, key, "produce")
                try:
                    producer.produce(
                        topic, value, key=key_bytes, on_delivery=partial(self._done, entry)
                    )
                except BufferError as error:
                    entry.refused(error)
            producer.poll(_TICK)
        producer.flush(_patience(self._job))

    def _done(self, entry: Entry, error: Any, message: Any) -> None:
        if error is None:
            entry.acknowledged(message.partition(), message.offset(), message.timestamp()[1])
        else:
            entry.failed(error)
            entry.error = f"{error.name()}: {error}"


# ---- the process

CLIENTS: Mapping[str, str] = {
    "aioproducer": "aioproducer",
    "confluent_kafka": "confluent-kafka",
    "aiokafka": "aiokafka",
}
"""The clients, and the packages they are."""


def installed(clients: Iterable[str]) -> dict[str, str]:
    """Return the versions of the clients that are installed; say which are not."""
    versions: dict[str, str] = {}
    for client in clients:
        try:
            versions[client] = importlib.metadata.version(CLIENTS[client])
        except importlib.metadata.PackageNotFoundError:
            print(f"{client} is left out: it is not installed", file=sys.stderr)
    return versions


def ready(orders: Orders) -> None:
    """Say that the client can begin, and wait for the word."""
    print("ready", flush=True)
    orders.go.wait(timeout=60)


def _patience(job: Job) -> float:
    """Seconds after which an outcome will not come any more."""
    return job.options.delivery_timeout_ms / 1000 + 15


def _on_loop(load: Callable[[Job, Orders, Ledger], Any]) -> Callable[[Job, Orders, Ledger], None]:
    def run(job: Job, orders: Orders, ledger: Ledger) -> None:
        main: Coroutine[Any, Any, None] = load(job, orders, ledger).run()
        if job.loop == "uvloop":
            import uvloop

            uvloop.run(main)
        else:
            asyncio.run(main)

    return run


def main() -> None:
    """Be the client that the command line names."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    name, text = sys.argv[1:]
    job = Job.from_json(text)
    orders, ledger = Orders(), Ledger(job.nonce)
    orders.listen()
    runs: dict[str, Callable[[Job, Orders, Ledger], None]] = {
        "aioproducer": _on_loop(AioproducerLoad),
        "aiokafka": _on_loop(AiokafkaLoad),
        "confluent_kafka": lambda *arguments: ConfluentLoad(*arguments).run(),
    }
    # The ledger grows and grows, and to look through it again and again would be the most that
    # any client does.
    gc.disable()
    try:
        runs[name](job, orders, ledger)
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        each = (used.ru_utime + used.ru_stime) / max(1, len(ledger.entries)) * 1e6
        print(f"{each:.0f} us of processor time for each record", file=sys.stderr)
        ledger.write(Path(job.ledger))


if __name__ == "__main__":
    main()
