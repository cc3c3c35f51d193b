"""What is measured: each workload with its contenders, as one table.

`QUICK` is what `make bench` runs, `FULL` is everything. A contender is a client with a loop and
options; those of a workload run in turn, over all rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from benchmarks.jobs import LoopName, Pattern, Payload

__all__ = [
    "BARE_WITHOUT_TRANSACTIONS",
    "DEFAULT_ROUNDS",
    "FULL",
    "QUICK",
    "TLS",
    "TRANSACTIONS",
    "WITHOUT_TRANSACTIONS",
    "Contender",
    "Metric",
    "Workload",
]

DEFAULT_ROUNDS = 3
_GOAL_ROUNDS = 6
"""Of a workload with a goal (goals.py): each order of its contenders as often as the other."""
_FEWER_ROUNDS = 2
"""Where the answer is clear, so that everything is measured within an hour."""


WITHOUT_TRANSACTIONS = "aioproducer, no transactions"
BARE_WITHOUT_TRANSACTIONS = "bare_transactions, none"


class Metric(StrEnum):
    """The figure a workload is about: the one that is compared and plotted."""

    RATE = "records/s"
    MEGABYTES = "MB/s"
    TRANSACTIONS = "transactions/s"
    CPU = "us CPU/record"
    P50 = "p50 ms"
    P99 = "p99 ms"
    MAX = "max ms"
    SECONDS = "s"

    @property
    def is_better_high(self) -> bool:
        """Whether more of it is better."""
        return self in (Metric.RATE, Metric.MEGABYTES, Metric.TRANSACTIONS)


@dataclass(frozen=True, slots=True)
class Contender:
    """A client as it takes part.

    Attributes:
        client: The module in benchmarks/clients.
        name: How it is called in the results.
        loop: The event loop, where it has one.
        gc_off: Without the cyclic garbage collector.
        options: Options of this producer that differ from its defaults.
        pattern: How it sends, if not as the workload says.
    """

    client: str
    name: str = ""
    loop: LoopName = "asyncio"
    gc_off: bool = False
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    pattern: Pattern | None = None

    @property
    def label(self) -> str:
        """The name, by default the client's."""
        return self.name or self.client


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the results.

    Attributes:
        name: Short, for the command line and the JSON.
        title: For readers.
        pattern: How records are sent.
        contenders: Who takes part, ours first.
        metric: What it is about.
        payload: What records look like.
        seconds: How long to send; None for what the run says.
        rounds: How often each contender is measured, if the run does not say.
        tasks: How many callers.
        rate: Records a second, if paced.
        block: Records of each transaction, or of each block of records.
        partitions: Of each topic.
        topics: How many.
        brokers: How many; with three, each partition is on all of them.
        logs_in_memory: Whether the broker's logs are in memory. On a disk, the file system takes
            milliseconds for the first append to each of some thousand files, whoever sends it.
        busy_cores: How many cores something else keeps busy.
        uses_tls: Whether records go over TLS.
        chapter: Where the report shows it.
    """

    name: str
    title: str
    pattern: Pattern
    contenders: tuple[Contender, ...]
    metric: Metric = Metric.RATE
    payload: Payload = field(default_factory=Payload)
    seconds: float | None = None
    rounds: int = DEFAULT_ROUNDS
    tasks: int = 1
    rate: int = 0
    block: int = 0
    partitions: int = 6
    topics: int = 1
    brokers: Literal[1, 3] = 1
    logs_in_memory: bool = False
    busy_cores: int = 0
    uses_tls: bool = False
    chapter: Literal[
        "patterns",
        "route",
        "web",
        "latency",
        "loop",
        "scale",
        "defaults",
        "tls",
        "transactions",
    ] = "patterns"


AIOPRODUCER = Contender("aioproducer")
AIOPRODUCER_UVLOOP = Contender("aioproducer", "aioproducer on uvloop", "uvloop")
AIOKAFKA = Contender("aiokafka")
CONFLUENT = Contender("confluent_sync")
CONFLUENT_CALLBACK = Contender(
    "confluent_sync", "confluent_sync, on_delivery", pattern=Pattern.CALLBACK
)
CONFLUENT_AIO = Contender("confluent_aio")
KAFKA_PYTHON = Contender("kafka_python")
JAVA = Contender("java")
FRANZ_GO = Contender("franz_go")
BARE_SOCKET = Contender("bare_socket")
BARE_TRANSACTIONS = Contender("bare_transactions")
LOOP_FLOOR = Contender("loop_floor")
NO_KAFKA = Contender("no_kafka")
LOOP_FLOOR_UVLOOP = Contender("loop_floor", "loop_floor on uvloop", "uvloop")

_QUICK_PEERS = (AIOKAFKA, CONFLUENT, FRANZ_GO)
_ALL_PEERS = (AIOKAFKA, CONFLUENT, CONFLUENT_AIO, KAFKA_PYTHON, JAVA, FRANZ_GO)
_OURS = (AIOPRODUCER, AIOPRODUCER_UVLOOP)


def _patterns(
    peers: tuple[Contender, ...], ours: tuple[Contender, ...], rounds: int = DEFAULT_ROUNDS
) -> list[Workload]:
    return [
        Workload(
            name="send_nowait",
            title="`send_nowait()` loop, all acknowledged",
            pattern=Pattern.CALL,
            # Without its callback, confluent-kafka does not tell whether a record was stored.
            contenders=(
                *ours,
                *(p for p in peers if p is not CONFLUENT_AIO),
                CONFLUENT_CALLBACK,
                BARE_SOCKET,
            ),
            rounds=rounds,
        ),
        Workload(
            name="await_send",
            title="`await send()`, every result awaited later",
            pattern=Pattern.AWAIT_LATER,
            contenders=(*ours, *peers),
            rounds=rounds,
        ),
        Workload(
            name="on_delivery",
            title="`on_delivery` callback per record",
            pattern=Pattern.CALLBACK,
            contenders=(*ours, *(p for p in peers if p is not CONFLUENT_AIO)),
        ),
        Workload(
            name="send_many",
            title="`send_many()` in lists of 1,000, ten callers",
            pattern=Pattern.BULK,
            contenders=(*ours, CONFLUENT, FRANZ_GO),
            tasks=10,
            rounds=rounds,
        ),
    ]


def _web(tasks: int, contenders: tuple[Contender, ...], rounds: int = DEFAULT_ROUNDS) -> Workload:
    return Workload(
        name=f"web_{tasks}",
        title=f"{tasks:,} tasks, each awaiting `send_and_wait()` in turn",
        pattern=Pattern.TAKE_TURNS,
        contenders=contenders,
        tasks=tasks,
        seconds=6 if tasks >= 100_000 else None,
        rounds=_FEWER_ROUNDS if tasks >= 100_000 else rounds,
        chapter="web",
    )


def _one_at_a_time(contenders: tuple[Contender, ...], rounds: int = DEFAULT_ROUNDS) -> Workload:
    return Workload(
        name="one_at_a_time",
        title="One record at a time",
        pattern=Pattern.ONE_AT_A_TIME,
        metric=Metric.P50,
        contenders=contenders,
        rounds=rounds,
        chapter="latency",
    )


QUICK: tuple[Workload, ...] = (
    *_patterns(_QUICK_PEERS, (AIOPRODUCER,)),
    _web(1_000, (AIOPRODUCER, AIOKAFKA, FRANZ_GO, LOOP_FLOOR)),
    _one_at_a_time((AIOPRODUCER, *_QUICK_PEERS, BARE_SOCKET)),
)

_CARDS = Payload(value_bytes=300, is_card=True, codec="lz4")

_FULL_PATTERNS = (
    *_patterns(_ALL_PEERS, _OURS, _GOAL_ROUNDS),
    Workload(
        name="cards",
        title="Keyed, 3 headers, JSON of 300 bytes, lz4",
        pattern=Pattern.AWAIT_LATER,
        payload=_CARDS,
        contenders=(*_OURS, AIOKAFKA, CONFLUENT, KAFKA_PYTHON),
    ),
    Workload(
        name="three_brokers_send_nowait",
        title="Three brokers, replication 3, `send_nowait()`",
        pattern=Pattern.CALL,
        brokers=3,
        contenders=(AIOPRODUCER, FRANZ_GO, CONFLUENT),
        rounds=_GOAL_ROUNDS,
    ),
    Workload(
        name="three_brokers",
        title="Three brokers, replication 3, `await send()`",
        pattern=Pattern.AWAIT_LATER,
        brokers=3,
        contenders=(AIOPRODUCER, FRANZ_GO, CONFLUENT, AIOKAFKA),
        rounds=_GOAL_ROUNDS,
    ),
)

_ROUTE = tuple(
    Workload(
        name=f"fastapi_{clients}" + ("_busy" if busy_cores else ""),
        title=f"{clients:,} keep-alive client{'s' if clients > 1 else ''}, "
        + ("both cores busy otherwise" if busy_cores else "quiet machine"),
        pattern=Pattern.ROUTE,
        metric=Metric.CPU,
        contenders=(AIOPRODUCER, AIOKAFKA, NO_KAFKA),
        tasks=clients,
        busy_cores=busy_cores,
        seconds=2,
        rounds=_GOAL_ROUNDS if clients == 50 else 4,
        chapter="route",
    )
    for busy_cores in (0, 2)
    for clients in (1, 10, 50, 500)
)

_FULL_WEB = (
    _web(
        100,
        (*_OURS, AIOKAFKA, CONFLUENT_AIO, FRANZ_GO, LOOP_FLOOR, LOOP_FLOOR_UVLOOP),
        _GOAL_ROUNDS,
    ),
    _web(1_000, (*_OURS, AIOKAFKA, CONFLUENT_AIO, FRANZ_GO, LOOP_FLOOR, LOOP_FLOOR_UVLOOP)),
    _web(10_000, (*_OURS, AIOKAFKA, CONFLUENT_AIO, FRANZ_GO, LOOP_FLOOR, LOOP_FLOOR_UVLOOP)),
    # aiokafka has none of so many records stored within its request_timeout_ms.
    _web(100_000, (*_OURS, LOOP_FLOOR, LOOP_FLOOR_UVLOOP)),
    Workload(
        name="task_per_record",
        title="A new task for each record, at most 1,000 at a time",
        pattern=Pattern.TASK_PER_RECORD,
        contenders=(*_OURS, AIOKAFKA, LOOP_FLOOR, LOOP_FLOOR_UVLOOP),
        chapter="web",
    ),
)

_FULL_LATENCY = (
    _one_at_a_time(
        (
            *_OURS,
            AIOKAFKA,
            CONFLUENT,
            CONFLUENT_AIO,
            KAFKA_PYTHON,
            FRANZ_GO,
            BARE_SOCKET,
            Contender("bare_socket", "bare_socket on uvloop", "uvloop"),
        ),
        _GOAL_ROUNDS,
    ),
    Workload(
        name="paced_50k",
        title="50,000 records/s",
        pattern=Pattern.PACED,
        metric=Metric.P99,
        contenders=(*_OURS, AIOKAFKA, CONFLUENT),
        rate=50_000,
        seconds=6,
        chapter="latency",
    ),
    Workload(
        name="paced_1m",
        title="1,000,000 records/s for 30 s, exactly once",
        pattern=Pattern.PACED,
        metric=Metric.P99,
        contenders=_OURS,
        rate=1_000_000,
        seconds=30,
        rounds=_FEWER_ROUNDS,
        chapter="latency",
    ),
    Workload(
        name="start_up",
        title="From nothing to the first acknowledged record",
        pattern=Pattern.START_UP,
        metric=Metric.SECONDS,
        contenders=(*_OURS, AIOKAFKA, CONFLUENT),
        chapter="latency",
    ),
)

_LOOP = (
    *(
        Workload(
            name=f"heartbeat_{codec}",
            title=f"Turns of the loop during the firehose, {codec}",
            pattern=Pattern.HEARTBEAT,
            metric=Metric.P99,
            payload=Payload(value_bytes=300, is_card=True, codec=codec),
            contenders=(*_OURS, AIOKAFKA),
            rounds=_FEWER_ROUNDS,
            chapter="loop",
        )
        for codec in ("none", "gzip", "snappy", "lz4", "zstd")
    ),
    Workload(
        name="start_up_10000",
        title="Turns of the loop while the producer learns 10,000 partitions",
        pattern=Pattern.START_UP,
        metric=Metric.MAX,
        partitions=10_000,
        logs_in_memory=True,
        contenders=(*_OURS, AIOKAFKA),
        chapter="loop",
    ),
)

_SCALE = (
    *(
        Workload(
            name=f"partitions_{partitions}",
            title=f"Keys over {partitions:,} partitions",
            pattern=Pattern.SPREAD,
            metric=Metric.CPU,
            contenders=(AIOPRODUCER,),
            partitions=partitions,
            chapter="scale",
        )
        for partitions in (1, 10, 100)
    ),
    *(
        Workload(
            name=f"partitions_{partitions}",
            title=f"Keys over {partitions:,} partitions",
            pattern=Pattern.SPREAD,
            contenders=(AIOPRODUCER, FRANZ_GO, CONFLUENT),
            partitions=partitions,
            logs_in_memory=partitions == 10_000,
            seconds=3,
            rounds=_GOAL_ROUNDS,
            chapter="scale",
        )
        for partitions in (1_000, 10_000)
    ),
    *(
        Workload(
            name=f"topics_{topics}",
            title=f"Records over {topics:,} topics of one partition",
            pattern=Pattern.SPREAD,
            metric=Metric.CPU,
            contenders=(AIOPRODUCER,),
            topics=topics,
            partitions=1,
            logs_in_memory=topics == 5_000,
            chapter="scale",
        )
        for topics in (2, 10, 100, 1_000, 5_000)
    ),
    *(
        Workload(
            name=f"value_{label}",
            title=f"Values of {label}",
            pattern=Pattern.CALL,
            metric=Metric.MEGABYTES,
            payload=Payload(value_bytes=size),
            contenders=(AIOPRODUCER, CONFLUENT, BARE_SOCKET),
            rounds=_FEWER_ROUNDS,
            chapter="scale",
        )
        for label, size in (
            ("10_B", 10),
            ("100_B", 100),
            ("1_KiB", 1 << 10),
            ("10_KiB", 10 << 10),
            ("100_KiB", 100 << 10),
            ("1_MiB", 1 << 20),
        )
    ),
    Workload(
        name="garbage_collection",
        title="With and without the cyclic garbage collector",
        pattern=Pattern.AWAIT_LATER,
        contenders=(
            AIOPRODUCER,
            Contender("aioproducer", "aioproducer, gc.disable()", gc_off=True),
        ),
        chapter="scale",
    ),
)


def _tuned(**options: object) -> Contender:
    shown = ", ".join(f"{name}={value}" for name, value in options.items())
    return Contender("aioproducer", f"aioproducer, {shown}", options=options)


_TUNED = (
    AIOPRODUCER,
    _tuned(batch_size=16_384),
    _tuned(batch_size=131_072),
    _tuned(batch_size=524_288),
    _tuned(linger_ms=1),
    _tuned(linger_ms=5),
    _tuned(buffer_memory=134_217_728),
)

_DEFAULTS = tuple(
    Workload(
        name=f"tuned_{name}",
        title=f"Defaults against tuned settings: {title}",
        pattern=pattern,
        contenders=_TUNED,
        tasks=tasks,
        payload=payload,
        metric=metric,
        rounds=_FEWER_ROUNDS,
        chapter="defaults",
    )
    for name, title, pattern, tasks, payload, metric in (
        ("send_nowait", "`send_nowait()`", Pattern.CALL, 1, Payload(), Metric.RATE),
        ("await_send", "`await send()`", Pattern.AWAIT_LATER, 1, Payload(), Metric.RATE),
        ("send_many", "`send_many()`", Pattern.BULK, 10, Payload(), Metric.RATE),
        ("cards", "keyed JSON, lz4", Pattern.AWAIT_LATER, 1, _CARDS, Metric.RATE),
        ("web_1000", "1,000 tasks", Pattern.TAKE_TURNS, 1_000, Payload(), Metric.RATE),
        ("one_at_a_time", "one at a time", Pattern.ONE_AT_A_TIME, 1, Payload(), Metric.P50),
    )
)

FULL: tuple[Workload, ...] = (
    *_FULL_PATTERNS,
    *_ROUTE,
    *_FULL_WEB,
    *_FULL_LATENCY,
    *_LOOP,
    *_SCALE,
    *_DEFAULTS,
)


def _over_tls(
    name: str, title: str, pattern: Pattern, contenders: tuple[Contender, ...], **more: Any
) -> list[Workload]:
    """A workload over TLS, and the same without it beside it."""
    return [
        Workload(
            name=f"{kind}_{name}",
            title=f"{title}, {'over TLS' if kind == 'tls' else 'without TLS'}",
            pattern=pattern,
            contenders=contenders,
            uses_tls=kind == "tls",
            rounds=_GOAL_ROUNDS,
            chapter="tls",
            **more,
        )
        for kind in ("tls", "plain")
    ]


TLS: tuple[Workload, ...] = (
    *_over_tls(
        "send_nowait",
        "`send_nowait()` loop, values of 100 bytes",
        Pattern.CALL,
        (*_OURS, AIOKAFKA, CONFLUENT),
    ),
    *_over_tls(
        "kilobyte",
        "`send_nowait()` loop, values of 1,000 bytes",
        Pattern.CALL,
        (*_OURS, AIOKAFKA, CONFLUENT),
        payload=Payload(value_bytes=1_000),
        metric=Metric.MEGABYTES,
    ),
    *_over_tls(
        "heartbeat",
        "The loop's longest turns while it sends 100-byte values",
        Pattern.HEARTBEAT,
        (*_OURS, AIOKAFKA),
        metric=Metric.P99,
    ),
    *_over_tls(
        "one_at_a_time",
        "One record at a time",
        Pattern.ONE_AT_A_TIME,
        (*_OURS, AIOKAFKA, CONFLUENT),
        metric=Metric.P50,
    ),
)
"""What TLS costs, us and others: `make bench-tls`."""

_TRANSACTION_PEERS = (AIOKAFKA, CONFLUENT, FRANZ_GO, JAVA)

TRANSACTIONS: tuple[Workload, ...] = (
    *(
        Workload(
            name=f"transactions_{size}",
            title=f"Transactions of {size:,} record{'s' if size > 1 else ''}",
            pattern=Pattern.TRANSACTIONS,
            metric=Metric.TRANSACTIONS,
            contenders=(AIOPRODUCER, *_TRANSACTION_PEERS, BARE_TRANSACTIONS),
            block=size,
            rounds=_GOAL_ROUNDS,
            chapter="transactions",
        )
        for size in (1, 100, 10_000)
    ),
    *(
        Workload(
            name=f"transactions_overhead_{size}",
            title="10,000 records at a time, in transactions and without:"
            f" values of {size:,} bytes",
            pattern=Pattern.TRANSACTIONS,
            payload=Payload(value_bytes=size),
            contenders=(
                AIOPRODUCER,
                Contender("aioproducer", WITHOUT_TRANSACTIONS, pattern=Pattern.BLOCKS),
                BARE_TRANSACTIONS,
                Contender("bare_transactions", BARE_WITHOUT_TRANSACTIONS, pattern=Pattern.BLOCKS),
            ),
            block=10_000,
            rounds=_GOAL_ROUNDS,
            chapter="transactions",
        )
        for size in (100, 300, 1_000)
    ),
)
"""Transactions, us and others: `make bench-transactions`."""
