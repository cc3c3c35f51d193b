"""Page clicks: some may be lost, but no page may ever wait for Kafka.

Run by hand: python examples/page_clicks.py --bootstrap-servers localhost:9092

Serves pages at a steady rate, first without clicks, then with a few each, then with so many that
the buffer is full. Clicks are sent and forgotten: those that find no room are dropped and counted,
those that fail later are counted by `on_error`, and the pages' latency stays what it was.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from aioproducer import BufferExhaustedError, KafkaError, Producer, ProducerConfig
from aioproducer.testing import FakeCluster

CLICK = b'{"page":"/home","button":"buy"}'
CLICKS_OF_PAGE = {"no clicks": 0, "5 clicks": 5, "100 clicks": 100}


@dataclass
class Clicks:
    """Sends clicks and forgets them."""

    topic: str
    sent: int = 0
    dropped: int = 0
    failed: int = 0

    def click(self, producer: Producer[bytes, bytes]) -> None:
        """Send one click. Returns at once, whatever the state of Kafka."""
        try:
            producer.send_nowait(self.topic, CLICK)
            self.sent += 1
        except BufferExhaustedError:
            self.dropped += 1

    def on_error(self, error: KafkaError, count: int) -> None:
        """Count the clicks of a batch that failed."""
        self.failed += count


async def serve_pages(
    producer: Producer[bytes, bytes], clicks: Clicks, per_page: int, pages: int, rate: float
) -> list[float]:
    """Serve pages when they are due; return how long each took from then, in seconds."""
    seconds: list[float] = []

    async def serve_page(due_at: float) -> None:
        await asyncio.sleep(0)  # a real page would ask its database here
        for _ in range(per_page):
            clicks.click(producer)
        seconds.append(time.perf_counter() - due_at)

    started_at = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(pages):
            due_at = started_at + number / rate
            await asyncio.sleep(due_at - time.perf_counter())
            tasks.create_task(serve_page(due_at))
    return seconds


async def run_demo(arguments: argparse.Namespace) -> int:
    """Serve pages in three ways and tell what became of their clicks."""
    bootstrap_servers: str = arguments.bootstrap_servers
    pages: int = arguments.pages
    clicks = Clicks(arguments.topic)
    async with AsyncExitStack() as stack:
        if bootstrap_servers == "fake":
            cluster = await stack.enter_async_context(FakeCluster(topics={clicks.topic: 3}))
            bootstrap_servers = cluster.bootstrap_servers
            print(
                "No real Kafka: this is the built-in FakeCluster, inside this process, in memory."
            )
        config = ProducerConfig.page_clicks(
            bootstrap_servers,
            buffer_memory=64 * 1024,  # small, so that the demo can fill it
            on_error=clicks.on_error,
        )
        producer = await stack.enter_async_context(Producer(config))
        print(f"{pages:,} pages at 1,000 a second, with           p50        p99        max")
        for label, per_page in CLICKS_OF_PAGE.items():
            seconds = await serve_pages(producer, clicks, per_page, pages, 1_000)
            percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
            shown = [f"{one * 1000:8.2f} ms" for one in (percentiles[49], percentiles[98])]
            print(f"  {label:<36} {''.join(shown)} {max(seconds) * 1000:7.2f} ms", flush=True)
        await producer.flush()
        stored = round(producer.metrics()["record_delivered_total"])
    print(f"{clicks.sent:,} clicks sent, of which {stored:,} stored and {clicks.failed:,} failed")
    print(f"{clicks.dropped:,} clicks dropped because the buffer was full")
    return 0 if stored + clicks.failed == clicks.sent else 1


def main() -> int:
    """Run the demo; return 0 unless clicks are unaccounted for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("--bootstrap-servers", default="localhost:9092", help="or `fake`: the built-in FakeCluster")
    add("--pages", type=int, default=3_000, help="how many of each kind (default %(default)s)")
    add("--topic", default="page-clicks", help="default: %(default)s")
    try:
        return asyncio.run(run_demo(parser.parse_args()))
    except KafkaError as error:
        print(f"page_clicks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
