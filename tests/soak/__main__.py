"""Runs for any number of minutes what the tests do for seconds: `python -m tests.soak`.

Called by `make soak`. A part is a coroutine function of a Kafka and a number of seconds; to add
one, put it into PARTS.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import uvloop

from tests.soak.load import senders_outlive_a_frozen_leader
from tests.soak.traffic import traffic
from tools.kafka import NodeControl, start_kafka

Part = Callable[[NodeControl, float], Awaitable[None]]


async def load(kafka: NodeControl, seconds: float) -> None:
    """Freeze the leader under a hundred thousand senders, for 20 s each time."""
    give_up_at = time.monotonic() + seconds
    while True:
        await senders_outlive_a_frozen_leader(kafka, senders=100_000, frozen_for=20)
        if time.monotonic() > give_up_at:
            return


PARTS: Mapping[str, Part] = {"traffic": traffic, "load": load}
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts named, one after the other, each for its share of the time."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all of them together")
    parser.add_argument("--loop", choices=LOOPS, default="uvloop")
    arguments = parser.parse_args(argv)
    names: list[str] = arguments.parts or list(PARTS)
    if unknown := set(names) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    # Broken connections and records given up on are what it is about.
    logging.getLogger("aioproducer").setLevel(logging.ERROR)
    seconds = arguments.minutes * 60 / len(names)
    for name in names:
        print(f"---- {name}", flush=True)
        with start_kafka() as kafka, asyncio.Runner(loop_factory=LOOPS[arguments.loop]) as runner:
            runner.run(_run(PARTS[name], kafka, seconds))
    print("nothing was lost and nothing grew")


async def _run(part: Part, kafka: NodeControl, seconds: float) -> None:
    await part(kafka, seconds)


if __name__ == "__main__":
    main()
