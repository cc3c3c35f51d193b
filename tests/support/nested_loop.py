"""A notebook's way to send: a loop run inside the loop, from a task that a delivery has woken.

Run as a program, since `nest_asyncio` changes asyncio for the whole process. Prints what became of
the nested record, and how many errors were reported to the loop.
"""

from __future__ import annotations

import asyncio
from typing import Any

import nest_asyncio  # pyright: ignore[reportMissingTypeStubs]

from aioproducer import Producer
from aioproducer.testing import FakeCluster


async def _main() -> None:
    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    async with (
        FakeCluster(topics={"payments": 1}) as cluster,
        Producer[bytes, bytes](bootstrap_servers=cluster.bootstrap_servers) as producer,
    ):
        await producer.send_and_wait("payments", b"1")
        nested = asyncio.wait_for(producer.send_and_wait("payments", b"2"), 3)
        metadata = loop.run_until_complete(nested)
    print(f"stored at {metadata.offset}, {len(errors)} errors of the loop")


if __name__ == "__main__":
    nest_asyncio.apply()  # pyright: ignore[reportUnknownMemberType]
    asyncio.run(_main())
