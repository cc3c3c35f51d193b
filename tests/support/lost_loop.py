"""A loop that is closed under a producer, while threads use it: what is raised there.

Run as a program, since the loop leaves sockets behind. Prints what each of four calls raised: a
result that was waited for, one that was not, a record, and a flush.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable

from aioproducer import Producer


def _raised(call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def _main() -> None:
    loop = asyncio.new_event_loop()
    started = threading.Event()

    def run() -> None:
        loop.run_until_complete(producer.start())
        started.set()
        loop.run_forever()
        loop.close()

    producer = Producer[bytes, bytes](bootstrap_servers=sys.argv[1], linger_ms=60_000)
    thread = threading.Thread(target=run)
    thread.start()
    started.wait(10)
    send = producer.from_thread.send
    awaited, other = send("payments", b"1"), send("payments", b"2")
    said: list[str] = []
    waiting = threading.Thread(target=lambda: said.append(_raised(awaited.result)))
    waiting.start()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    waiting.join(10)
    said.append(_raised(other.result))
    said.append(_raised(lambda: send("payments", b"3")))
    said.append(_raised(producer.from_thread.flush))
    print(json.dumps(said))


if __name__ == "__main__":
    _main()
