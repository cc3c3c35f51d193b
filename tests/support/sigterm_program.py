"""A program under load that SIGTERM ends in order: `python -m tests.support.sigterm_program`.

The tests of shutdown run it, send the signal and compare its ledger with the log. Three kinds of
callers send records with values of their own: tasks that wait for each, tasks that wait for buffer
space only, and one that waits for nothing. Arguments: the cluster, the topic, the file for the
ledger, the size of the buffer, the loop. Prints `loaded` after some thousand acknowledgements, and
`stuck` when none has come for half a second while callers wait for buffer space.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import uvloop

from aioproducer import (
    BufferExhaustedError,
    Delivery,
    KafkaError,
    Producer,
    ProducerClosedError,
    RecordMetadata,
    UndeliveredRecord,
    UndeliveredRecords,
)

PARTITIONS = 3
LOADED_AT = 3_000
CLOSE_TIMEOUT = 5.0


class Ledger:
    """What became of each record, by its value."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.acknowledged: dict[str, tuple[int, int]] = {}
        self.failed: dict[str, tuple[str, bool]] = {}

    def new(self, name: str) -> str:
        """Write down a call."""
        self.called.append(name)
        return name

    def tell(self, name: str, metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        """Write down an outcome: the first argument is given by us, the others by the producer."""
        assert name not in self.acknowledged
        assert name not in self.failed
        if metadata is not None:
            self.acknowledged[name] = (metadata.partition, metadata.offset)
        elif error is not None:
            self.failed[name] = (type(error).__name__, error.possibly_persisted)


async def wait_for_each(producer: Producer[Any, Any], ledger: Ledger, task: int) -> None:
    """Send records one after the other, each stored before the next."""
    for number in count():
        name = ledger.new(f"waits-{task}-{number}")
        try:
            metadata = await producer.send_and_wait(
                topic, name.encode() + bytes(400), partition=number % PARTITIONS
            )
        except KafkaError as error:
            ledger.tell(name, None, error)
            if isinstance(error, ProducerClosedError):
                return
        else:
            ledger.tell(name, metadata, None)


async def wait_for_space(producer: Producer[Any, Any], ledger: Ledger, task: int) -> None:
    """Send records as fast as the buffer takes them."""
    for number in count():
        name = ledger.new(f"room-{task}-{number}")

        def on_delivery(
            metadata: RecordMetadata | None, error: KafkaError | None, name: str = name
        ) -> None:
            ledger.tell(name, metadata, error)

        try:
            await producer.send(
                topic,
                name.encode() + bytes(400),
                partition=number % PARTITIONS,
                on_delivery=on_delivery,
            )
        except KafkaError as error:
            ledger.tell(name, None, error)
            return


def look(ledger: Ledger, name: str, done: Delivery) -> None:
    """Write down the outcome of a delivery that is done."""
    error = done.exception()
    ledger.tell(name, None if error else done.result(), error)


async def wait_for_nothing(producer: Producer[Any, Any], ledger: Ledger) -> None:
    """Send records and look at the outcome of each later."""
    for number in count():
        name = ledger.new(f"nowait-{number}")
        try:
            delivery = producer.send_nowait(topic, name.encode() + bytes(400), partition=number % 3)
        except BufferExhaustedError as error:
            ledger.tell(name, None, error)
        except ProducerClosedError as error:
            ledger.tell(name, None, error)
            return
        else:
            delivery.add_done_callback(partial(look, ledger, name))
        await asyncio.sleep(0.001)


async def announce(producer: Producer[Any, Any], ledger: Ledger) -> None:
    """Print where we are."""
    while len(ledger.acknowledged) < LOADED_AT:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    print("loaded", flush=True)
    before = -1
    while not producer.metrics()["waiting_callers"] or len(ledger.acknowledged) != before:
        before = len(ledger.acknowledged)
        await asyncio.sleep(0.5)
    print("stuck", flush=True)


async def main(servers: str, path: Path, buffer_memory: int) -> None:
    """Send until SIGTERM comes; close in time and leave the ledger."""
    loop = asyncio.get_running_loop()
    ledger = Ledger()
    terminated = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, terminated.set)
    producer: Producer[Any, Any] = Producer(
        bootstrap_servers=servers, buffer_memory=buffer_memory, client_id="terminated"
    )
    await producer.start()
    tasks = [
        *(asyncio.ensure_future(wait_for_each(producer, ledger, task)) for task in range(50)),
        *(asyncio.ensure_future(wait_for_space(producer, ledger, task)) for task in range(5)),
        asyncio.ensure_future(wait_for_nothing(producer, ledger)),
    ]
    announcing = asyncio.ensure_future(announce(producer, ledger))
    await terminated.wait()
    started_at = loop.time()
    undelivered = await producer.close(CLOSE_TIMEOUT)
    took = loop.time() - started_at
    announcing.cancel()
    await asyncio.gather(announcing, *tasks, return_exceptions=True)
    # What was scheduled for those who wait.
    await asyncio.sleep(0)
    write(path, ledger, took, undelivered)


def write(path: Path, ledger: Ledger, took: float, undelivered: UndeliveredRecords) -> None:
    """Leave the ledger."""
    left: dict[str, object] = {
        "took": took,
        "called": ledger.called,
        "acknowledged": ledger.acknowledged,
        "failed": ledger.failed,
        "undelivered": [_as_list(entry) for entry in undelivered],
    }
    path.write_text(json.dumps(left))


def _as_list(entry: UndeliveredRecord) -> list[object]:
    value = entry.record.value or b""
    name = value.rstrip(b"\0").decode()
    return [name, len(value) - len(name), entry.record.partition, entry.error.possibly_persisted]


if __name__ == "__main__":
    topic = sys.argv[2]
    loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    with asyncio.Runner(loop_factory=loops[sys.argv[5]]) as runner:
        runner.run(main(sys.argv[1], Path(sys.argv[3]), int(sys.argv[4])))
