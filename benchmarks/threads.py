"""`python -m benchmarks.threads`: a call from a thread, beside confluent-kafka's `produce`.

Each client runs in a process of its own, against one mock cluster of librdkafka's in a third. The
rounds alternate. A round is a burst of calls in a thread, without and with somebody to report to
(a future here, a callback there), and a flush; then single records, each awaited by its thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from tests.support.librdkafka_mock import librdkafka_mock

_CALLS = 20_000
_ALONE = 200
_VALUE = bytes(100)
_TOPIC = "clicks"

Figures: TypeAlias = dict[str, float]
"""Microseconds a record, by what was measured."""


def main() -> None:
    """Measure, and print a table; or, with an address, be one of the clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--client", nargs=2, metavar=("NAME", "ADDRESS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        name, address = options.client
        {"aioproducer": _aioproducer, "confluent": _confluent}[name](address)
        return
    with librdkafka_mock() as cluster:
        address = cluster.bootstrap_servers
        with _client("aioproducer", address) as ours, _client("confluent", address) as theirs:
            rounds = [(ours(), theirs()) for _ in range(options.rounds + 1)][1:]
    _print(rounds)


def _print(rounds: list[tuple[Figures, Figures]]) -> None:
    print(
        f"| us a record, medians of {len(rounds)} rounds | aioproducer | confluent-kafka | ratio |"
    )
    print("|---|---|---|---|")
    for what in rounds[0][0]:
        ours = [first[what] for first, _ in rounds]
        theirs = [second.get(what, 0.0) for _, second in rounds]
        ratio = "" if not all(theirs) else _ratio(ours, theirs)
        print(f"| {what} | {_us(ours)} | {_us(theirs) if ratio else ''} | {ratio} |")


def _us(figures: list[float]) -> str:
    return f"{statistics.median(figures):.2f}"


def _ratio(ours: list[float], theirs: list[float]) -> str:
    ratios = sorted(mine / other for mine, other in zip(ours, theirs, strict=True))
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


@contextmanager
def _client(name: str, address: str) -> Iterator[Callable[[], Figures]]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.threads", "--client", name, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        # Leaving the block ends its standard input, and waits for its end.
        assert process.stdin is not None
        assert process.stdout is not None
        requests, responses = process.stdin, process.stdout

        def play() -> Figures:
            requests.write("\n")
            requests.flush()
            figures: Figures = json.loads(responses.readline())
            return figures

        yield play


def _serve(play: Callable[[], Figures]) -> None:
    """Play a round for each line of the standard input."""
    for _ in sys.stdin:
        print(json.dumps(play()), flush=True)


def _burst(send: Callable[[], object], flush: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds of a burst: the thread's time, its processor time, the process's with the flush."""
    began, cpu, process = time.perf_counter(), time.thread_time(), time.process_time()
    for _ in range(_CALLS):
        send()
    spent, busy = time.perf_counter() - began, time.thread_time() - cpu
    flush()
    return spent, busy, time.process_time() - process


def _round(
    kinds: dict[str, Callable[[], object]],
    flush: Callable[[], object],
    send_and_wait: Callable[[], object],
) -> Figures:
    figures: Figures = {}
    for kind, send in kinds.items():
        spent, busy, process = _burst(send, flush)
        figures[f"{kind}: the call"] = spent / _CALLS * 1e6
        figures[f"{kind}: processor time of the calling thread"] = busy / _CALLS * 1e6
        figures[f"{kind}: processor time of the process"] = process / _CALLS * 1e6
    began = time.perf_counter()
    for _ in range(_ALONE):
        send_and_wait()
    figures["one record at a time, awaited"] = (time.perf_counter() - began) / _ALONE * 1e6
    return figures


def _aioproducer(address: str) -> None:
    from aioproducer import Producer

    async def run() -> None:
        async with Producer[bytes, bytes](bootstrap_servers=address) as producer:
            send, flush = producer.from_thread.send, producer.from_thread.flush
            kept: list[object] = []

            def keep() -> None:
                kept.append(send(_TOPIC, _VALUE))

            def play() -> Figures:
                kept.clear()
                return _round(
                    {"dropped": lambda: send(_TOPIC, _VALUE), "kept": keep},
                    flush,
                    lambda: send(_TOPIC, _VALUE).result(10),
                )

            await asyncio.to_thread(_serve, play)

    asyncio.run(run())


def _confluent(address: str) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 0})

    def report(_error: object, _message: object) -> None:
        pass

    def wait() -> None:
        producer.produce(_TOPIC, _VALUE, on_delivery=report)
        producer.flush(10)

    _serve(
        lambda: _round(
            {
                "dropped": lambda: producer.produce(_TOPIC, _VALUE),
                "kept": lambda: producer.produce(_TOPIC, _VALUE, on_delivery=report),
            },
            lambda: producer.flush(10),
            wait,
        )
    )


if __name__ == "__main__":
    main()
