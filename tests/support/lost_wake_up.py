"""A loop that ends before it takes what a thread has handed over: what later calls raise.

Run as a program, since the loop leaves sockets behind. Prints, as one JSON object:

    accepted  what the call raised whose record was still to be taken when the loop was closed
    waiting   what a call raised that waited for buffer space then
    later     what each of the calls after that raised
    kept      how many references to their value are left
"""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor

from aioproducer import Producer


def _main() -> None:
    loop = asyncio.new_event_loop()
    producer = Producer[bytes, bytes](
        bootstrap_servers=sys.argv[1], buffer_memory=100_000, max_block_ms=500
    )
    loop.run_until_complete(producer.start())

    def raised(value: bytes) -> str:
        try:
            producer.from_thread.send("payments", value)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    # This thread is the loop's.
    with ThreadPoolExecutor(1) as pool:
        said: dict[str, object] = {"accepted": pool.submit(raised, bytes(60_000)).result(10)}
        waiting = pool.submit(raised, bytes(60_000))
        loop.close()
        said["waiting"] = waiting.result(10)
        value = bytes(1_000)
        before = sys.getrefcount(value)
        said["later"] = [pool.submit(raised, value).result(10) for _ in range(20)]
        said["kept"] = sys.getrefcount(value) - before
    print(json.dumps(said))


if __name__ == "__main__":
    _main()
