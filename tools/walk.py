"""Counts what one warm record meets in Python: `python -m tools.walk`.

A record that is sent, stored and awaited while nothing else goes on, on a producer that has sent
others before. Every call of a Python function between the call of `send_and_wait` and the caller's
next step counts, but for those of asyncio itself; native code does not.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

from aioproducer import Producer
from aioproducer.testing import FakeCluster

__all__ = ["Walk", "walk"]

_WARM_UP = 20


class Walk:
    """The Python calls of one record.

    Attributes:
        calls: How often each function was called.
    """

    def __init__(self, calls: Counter[CodeType]) -> None:
        self.calls = calls

    @property
    def count(self) -> int:
        """All calls."""
        return self.calls.total()

    @property
    def modules(self) -> list[str]:
        """The modules that were met, by name."""
        return sorted({Path(code.co_filename).stem for code in self.calls})

    def __str__(self) -> str:
        lines = [f"{self.count} Python calls in {len(self.modules)} modules outside asyncio"]
        for code, count in self.calls.most_common():
            lines.append(f"{count:4}  {Path(code.co_filename).stem}.{code.co_qualname}")
        return "\n".join(lines)


def walk() -> Walk:
    """Follow one record to a fake cluster that runs in a thread of its own."""
    servers: list[str] = []
    is_up, is_over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with FakeCluster(topics={"clicks": 1}) as cluster:
            servers.append(cluster.bootstrap_servers)
            is_up.set()
            await asyncio.to_thread(is_over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        is_up.wait()
        return asyncio.run(_follow(servers[0]))
    finally:
        is_over.set()
        thread.join()


async def _follow(servers: str) -> Walk:
    calls: Counter[CodeType] = Counter()
    ours = _follow.__code__

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code is not ours and not _is_asyncio(code):
            calls[code] += 1

    async with Producer[bytes, bytes](bootstrap_servers=servers) as producer:
        for _ in range(_WARM_UP):
            await producer.send_and_wait("clicks", b"warm")
        sys.setprofile(note)
        try:
            await producer.send_and_wait("clicks", b"walk")
        finally:
            sys.setprofile(None)
    return Walk(calls)


def _is_asyncio(code: CodeType) -> bool:
    path = Path(code.co_filename)
    return path.parent.name == "asyncio" or path.stem == "selectors"


if __name__ == "__main__":
    print(walk())
