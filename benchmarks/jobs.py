"""What is asked of one measuring process, and what it answers. Values only, as JSON over a pipe.

The runner makes a `Job` for each measurement, worker.py hands it to a client's adapter in a fresh
interpreter, and the adapter returns a `Measurement`.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

__all__ = [
    "WARM_UP",
    "Job",
    "LoopName",
    "Measurement",
    "Pattern",
    "Payload",
    "Records",
    "Stopwatch",
    "memory",
    "percentiles",
    "spread_keys",
]

WARM_UP = 2_000
"""Records that each client sends before its clock starts: connections, metadata, producer id."""

LoopName = Literal["asyncio", "uvloop"]

_RECORDS_IN_STOCK = 4_096
_SPREAD_KEYS = 50_000


class Pattern(StrEnum):
    """How an application hands records over and learns what became of them."""

    CALL = "call"
    """A plain call for each record in a loop; at the end, wait until all are acknowledged."""
    AWAIT_LATER = "await_later"
    """Await the acceptance of each record, keep what stands for its result, await that later."""
    CALLBACK = "callback"
    """A function called with the outcome of each record."""
    BULK = "bulk"
    """Lists of 1,000 records, each list awaited; ten callers."""
    TAKE_TURNS = "take_turns"
    """Many tasks, each waiting for its record before it sends the next."""
    TASK_PER_RECORD = "task_per_record"
    """A new task for each record, at most a thousand at a time."""
    ONE_AT_A_TIME = "one_at_a_time"
    """One caller that waits for each record: the latency of a record alone."""
    PACED = "paced"
    """A fixed number of records a second, numbered, the outcome of each one looked at."""
    HEARTBEAT = "heartbeat"
    """AWAIT_LATER, while another task notes how long the loop takes for each of its turns."""
    SPREAD = "spread"
    """CALL, each record to another topic or key than the one before."""
    START_UP = "start_up"
    """From making the client to the acknowledgement of its first record, with the heartbeat."""
    TRANSACTIONS = "transactions"
    """One transaction after the other: begin, so many records, commit."""
    BLOCKS = "blocks"
    """The same without transactions: so many records, then wait until all are acknowledged."""
    ROUTE = "route"
    """A FastAPI route that waits for its record, under keep-alive clients: benchmarks/route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What the records look like.

    Attributes:
        value_bytes: The size of each value.
        is_card: A key, three headers and JSON as value, all of them different; else random bytes.
        codec: Kafka's name of the compression.
    """

    value_bytes: int = 100
    is_card: bool = False
    codec: str = "none"


@dataclass(frozen=True, slots=True)
class Records:
    """Ready records, so that making them is not measured: the n-th key belongs to value n."""

    values: Sequence[bytes]
    keys: Sequence[bytes]
    headers: list[tuple[str, bytes]]

    @classmethod
    def of(cls, payload: Payload) -> Self:
        """Make the same records for every client."""
        source = random.Random(1)
        if not payload.is_card:
            return cls((source.randbytes(payload.value_bytes),), (), [])
        keys: list[bytes] = []
        values: list[bytes] = []
        for number in range(_RECORDS_IN_STOCK):
            card = f"card-{source.randrange(100_000):06d}"
            keys.append(card.encode())
            values.append(_card_payment(source, number, card, payload.value_bytes))
        headers = [
            ("content-type", b"application/json"),
            ("trace-id", b"4bf92f3577b34da6a3ce929d0e0e4736"),
            ("source", b"checkout"),
        ]
        return cls(values, keys, headers)


def _card_payment(source: random.Random, number: int, card: str, size: int) -> bytes:
    payment = {
        "payment_id": f"{source.getrandbits(128):032x}",
        "card": card,
        "sequence": number,
        "amount": {"value": f"{source.uniform(1, 900):.2f}", "currency": "EUR"},
        "merchant": {"id": f"m-{source.randrange(5_000)}", "category": source.randrange(9_999)},
        "created_at": f"2026-01-01T12:{number % 60:02d}:{number // 60 % 60:02d}.000Z",
        "state": source.choice(["authorized", "captured", "declined"]),
        "note": "",
    }
    payment["note"] = "x" * max(0, size - len(json.dumps(payment)))
    return json.dumps(payment).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One measurement to make.

    Attributes:
        bootstrap_servers: The cluster.
        topic: An empty topic, made for this measurement; with `topics` above 1, a prefix.
        topics: How many topics there are.
        partitions: How many partitions each has.
        pattern: How to send.
        payload: What to send.
        seconds: For how long to send; the measurement ends when all is acknowledged.
        tasks: How many callers at a time, where the pattern has several.
        rate: Records a second, where the pattern is paced.
        block: Records of each transaction, or of each block, where the pattern has them.
        loop: The event loop to use.
        gc_off: Switch the cyclic garbage collector off.
        busy_cores: How many cores something else keeps busy, where the pattern is a route.
        options: Options of this producer that differ from its defaults.
        ca_location: The authority of the broker's certificate, to send over TLS; empty for none.
    """

    bootstrap_servers: str
    topic: str
    pattern: Pattern
    topics: int = 1
    partitions: int = 6
    payload: Payload = field(default_factory=Payload)
    seconds: float = 2.0
    tasks: int = 1
    rate: int = 0
    block: int = 0
    loop: LoopName = "asyncio"
    gc_off: bool = False
    busy_cores: int = 0
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ca_location: str = ""

    @property
    def topic_names(self) -> list[str]:
        """The topics to write to."""
        if self.topics == 1:
            return [self.topic]
        return [f"{self.topic}-{number}" for number in range(self.topics)]

    @property
    def max_request_bytes(self) -> int | None:
        """The limit to set where a record does not fit the one that clients have, of 1 MiB."""
        return None if self.payload.value_bytes <= 500_000 else 4 * self.payload.value_bytes

    def to_json(self) -> str:
        """Return it as text for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        read = json.loads(text)
        read["pattern"] = Pattern(read["pattern"])
        read["payload"] = Payload(**read["payload"])
        return cls(**read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one process measured.

    Attributes:
        records: Records sent and acknowledged while the clock ran.
        stored_records: All records acknowledged, warm-up included: what the log must hold.
        seconds: From the first record to the last acknowledgement.
        cpu_seconds: Processor time of the client, all threads, in that time.
        peak_memory_bytes: The most resident memory of the process in its life.
        idle_memory_bytes: Resident memory when the clock started.
        latency_ms: p50, p99, p999, max and the mean, of what the pattern waits for; or empty.
        failures: Records not acknowledged; the other figures are worth nothing then.
        version: The client library's version.
        broker_cpu_seconds: Processor time of the broker while the clock ran; 0 where unknown.
        records_per_request: How many records a Produce request carried; 0 where unknown.
        blocks: Transactions, or blocks of records, where the pattern has them.
    """

    records: int
    stored_records: int
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    idle_memory_bytes: int = 0
    latency_ms: Mapping[str, float] = field(default_factory=dict[str, float])
    failures: int = 0
    version: str = ""
    broker_cpu_seconds: float = 0.0
    records_per_request: float = 0.0
    blocks: int = 0

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds if self.seconds else 0.0

    @property
    def block_rate(self) -> float:
        """Transactions, or blocks, a second."""
        return self.blocks / self.seconds if self.seconds else 0.0

    @property
    def cpu_us(self) -> float:
        """Processor time of a record, in microseconds."""
        return self.cpu_seconds / self.records * 1e6 if self.records else 0.0

    @property
    def broker_us(self) -> float:
        """The broker's processor time for a record, in microseconds."""
        return self.broker_cpu_seconds / self.records * 1e6 if self.records else 0.0

    def to_json(self) -> str:
        """Return it as one line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


class Stopwatch:
    """Runs from its making to `stop`."""

    def __init__(self) -> None:
        self._idle_memory = memory("VmRSS")
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def stop(
        self,
        records: int,
        version: str,
        *,
        latencies: Sequence[float] = (),
        failures: int = 0,
        warm_up: int = WARM_UP,
        blocks: int = 0,
    ) -> Measurement:
        """Return what was measured; `latencies` are seconds."""
        seconds = time.perf_counter() - self._wall
        cpu_seconds = time.process_time() - self._cpu
        return Measurement(
            records=records,
            stored_records=records + warm_up,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            peak_memory_bytes=memory("VmHWM"),
            idle_memory_bytes=self._idle_memory,
            latency_ms=percentiles(latencies),
            failures=failures,
            version=version,
            blocks=blocks,
        )


def spread_keys() -> list[bytes]:
    """Return random keys, the same for every client: clients/franz_go/main.go computes them too."""
    keys: list[bytes] = []
    state = 1
    for _ in range(_SPREAD_KEYS):
        state = (state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % (1 << 64)
        keys.append(f"{state >> 32:08x}".encode())
    return keys


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the figures of a distribution, in milliseconds; empty for none."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    last = len(ordered) - 1
    found = {name: ordered[min(last, int(len(ordered) * share))] for name, share in shares.items()}
    found |= {"max": ordered[-1], "mean": sum(ordered) / len(ordered)}
    return {name: round(value * 1000, 4) for name, value in found.items()}


def memory(field_name: str, process: int | str = "self") -> int:
    """Return a figure of a process in bytes: VmRSS (now) or VmHWM (peak).

    Where /proc is not there, the peak of this process for both. On Linux `ru_maxrss` would not do:
    a process inherits it from the one that started it.
    """
    status = Path(f"/proc/{process}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(field_name + ":"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
