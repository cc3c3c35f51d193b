"""A program that forks while it holds a started producer: `python -m tests.support.forking`.

Called by the tests of fork, which run the cluster and look at what arrived there. Arguments: the
cluster, the loop (`asyncio` or `uvloop`), and what the child does. Prints the child's answers, one
line each, as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import uvloop

from aioproducer import Delivery, KafkaError, Producer
from tests.support.producing import sender_of

TOPIC = "payments"
AnyProducer = Producer[Any, Any]


async def child_tries(producer: AnyProducer) -> list[str]:
    """Make every call there is on the copy; return what each said."""
    said: list[str] = []
    for call in (
        lambda: producer.send_nowait(TOPIC, b"child"),
        lambda: producer.send(TOPIC, b"child"),
        lambda: producer.send_and_wait(TOPIC, b"child"),
        lambda: producer.send_many(TOPIC, [b"child"]),
        producer.start,
        producer.flush,
        lambda: producer.partitions_for(TOPIC),
        producer.close,
    ):
        try:
            result = call()
            said.append(repr(await result if asyncio.iscoroutine(result) else result))
        except KafkaError as error:
            said.append(f"{type(error).__name__}: {error}")
    assert producer.metrics()["record_accepted_total"] == 2
    return said


def say(to: int, said: list[str]) -> None:
    """Hand the child's answers to the parent."""
    os.write(to, json.dumps(said).encode())
    os.close(to)


def goes_on(producer: AnyProducer, own: asyncio.Runner, to: int) -> NoReturn:
    """Run the copy of the loop, long enough for each of its timers."""

    async def tries_and_waits() -> list[str]:
        said = await child_tries(producer)
        await asyncio.sleep(0.3)
        return said

    say(to, own.run(tries_and_waits()))
    os._exit(0)


def exits(producer: AnyProducer, own: asyncio.Runner, to: int) -> NoReturn:
    """End as a program does."""
    in_worker(producer, to)
    sys.exit(0)


def collects(producer: AnyProducer, own: asyncio.Runner, to: int) -> NoReturn:
    """Have the copies found by the garbage collector."""
    in_worker(producer, to)
    sender = sender_of(producer)
    sender.cluster.brokers._brokers.clear()  # pyright: ignore[reportPrivateUsage]
    producer._sender = None  # pyright: ignore[reportPrivateUsage]
    del producer, sender
    gc.collect()
    os._exit(0)


def in_worker(producer: AnyProducer, to: int) -> None:
    """Try the copy from a new loop, as a worker process would."""
    with asyncio.Runner() as runner:
        say(to, runner.run(child_tries(producer)))


CHILDREN: dict[str, Callable[[AnyProducer, asyncio.Runner, int], NoReturn]] = {
    "goes-on": goes_on,
    "exits": exits,
    "collects": collects,
}


async def opened(servers: str) -> tuple[AnyProducer, Delivery]:
    """Return a started producer, and a record of it that waits for its linger."""
    # A busy machine is nothing that development mode should complain of.
    asyncio.get_running_loop().slow_callback_duration = 60.0
    producer: AnyProducer = Producer(bootstrap_servers=servers, linger_ms=100)
    await producer.start()
    await producer.send_and_wait(TOPIC, b"before")
    return producer, producer.send_nowait(TOPIC, b"meanwhile")


async def go_on(producer: AnyProducer, lingering: Delivery) -> None:
    """Send more, as if nothing had happened."""
    await lingering
    for number in range(10):
        await producer.send_and_wait(TOPIC, b"%d" % number)
    await producer.close()


def main(servers: str, own: asyncio.Runner, child: str) -> None:
    """Fork between two runs of the loop."""
    producer, lingering = own.run(opened(servers))
    reader, writer = os.pipe()
    if child == "multiprocessing":
        worker = multiprocessing.get_context("fork").Process(
            target=in_worker, args=(producer, writer)
        )
        worker.start()
        os.close(writer)
        worker.join()
    elif (pid := os.fork()) == 0:
        os.close(reader)
        CHILDREN[child](producer, own, writer)
    else:
        os.close(writer)
        os.waitpid(pid, 0)
    own.run(go_on(producer, lingering))
    with os.fdopen(reader) as answers:
        print(answers.read())


if __name__ == "__main__":
    loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    # Closed by the parent alone: a loop's copy that ends takes from the epoll they share.
    its_runner = asyncio.Runner(loop_factory=loops[sys.argv[2]])
    main(sys.argv[1], its_runner, sys.argv[3])
    its_runner.close()
