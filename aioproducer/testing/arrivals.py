"""The requests that arrived at the brokers, and who waits for more of them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from aioproducer.testing.observed import ApiName, FakeRequest

__all__ = ["Arrivals"]


class Arrivals:
    """Remembers the last requests, and counts all.

    Args:
        history: How many are remembered.
    """

    def __init__(self, history: int) -> None:
        self.requests: deque[FakeRequest] = deque(maxlen=history)
        self._counts: Counter[str] = Counter()
        self._waiting: list[tuple[ApiName, int, asyncio.Future[None]]] = []

    def add(self, request: FakeRequest) -> None:
        """Take a request in, and notify who waits for it."""
        self.requests.append(request)
        self._counts[request.api] += 1
        for waiting in tuple(self._waiting):
            api, count, future = waiting
            if self._counts[api] >= count:
                self._waiting.remove(waiting)
                if not future.done():
                    future.set_result(None)

    async def wait_for(self, api: ApiName, count: int) -> None:
        """Wait until `count` requests of an API have arrived."""
        if self._counts[api] < count:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = (api, count, future)
            self._waiting.append(waiting)
            try:
                await future
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)

    def clear(self) -> None:
        """Forget the requests; whoever waits goes on waiting, for a count from 0 on."""
        self.requests.clear()
        self._counts.clear()

    def close(self) -> None:
        """Cancel the wait of whoever waits."""
        for _, _, future in self._waiting:
            future.cancel()
