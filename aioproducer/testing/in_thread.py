"""FakeClusterInThread: a fake cluster on an event loop in a thread of its own.

The thread ends with the cluster. It is a daemon: a test that hangs, or forgets to close, keeps no
process from ending. It does not refer to the cluster, so that a forgotten one warns.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

from aioproducer.testing.controls import ClusterControls, FakeClusterOptions
from aioproducer.testing.observed import ApiName

__all__ = ["FakeClusterInThread"]

T = TypeVar("T")

LONGEST_CALL: Final = 10.0
"""Seconds for which a call waits that ends by itself; only a broken loop takes so long."""


class FakeClusterInThread(ClusterControls):
    """A `FakeCluster` whose calls are all plain: for synchronous tests, TestClient, threads.

    Any thread may call it, also an event loop: a call takes less than a millisecond.

    Args:
        **options: Those of `FakeClusterOptions`; `start` or `with` starts the cluster.

    Raises:
        ValueError: An option is impossible.

    Example:
        ```python
        with FakeCluster.in_thread(topics={"payments": 6}) as cluster:
            monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", cluster.bootstrap_servers)
            with TestClient(app) as client:
                client.post("/payments/card-1", content=b"12.50")
            assert [record.value for record in cluster.records("payments")] == [b"12.50"]
        ```
    """

    def __init__(self, **options: Unpack[FakeClusterOptions]) -> None:
        super().__init__(**options)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread and the brokers; once per cluster.

        Raises:
            OSError: One of `ports` is taken.
        """
        if self._thread is not None:
            raise RuntimeError("the cluster has been started before")
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=_run_loop, args=(loop,), name="aioproducer-fake-cluster", daemon=True
        )
        self._thread.start()
        try:
            _wait(asyncio.run_coroutine_threadsafe(self._start(), loop), LONGEST_CALL)
        except BaseException:
            self._end_thread(loop)
            raise

    def close(self) -> None:
        """Stop the brokers and the thread; what they stored can still be read.

        Closing again does nothing.
        """
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            self._run(self._close())
        finally:
            self._end_thread(loop)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        loop = getattr(self, "_loop", None)
        if loop is not None and not loop.is_closed():
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            # Without waiting, in whatever thread this is.
            for broker in self._brokers.values():
                loop.call_soon_threadsafe(broker.abandon)
            loop.call_soon_threadsafe(loop.stop)

    def clear(self) -> None:
        """Forget records, requests, violations and faults, so that the next test finds none.

        See `FakeCluster.clear`.
        """
        self._run(self._clear())

    def stop_broker(self, node_id: int, *, move_leaders: bool = True) -> None:
        """Kill a broker: its connections are reset and its port refuses new ones.

        Args:
            node_id: The broker.
            move_leaders: Whether the partitions it leads get another leader at once. Without
                one alive they have none until a broker starts.
        """
        self._run(self._stop_broker(node_id, move_leaders))

    def start_broker(self, node_id: int) -> None:
        """Start a broker again, on its port; it leads the partitions that have no leader."""
        self._run(self._start_broker(node_id))

    def accept(self, node_id: int) -> None:
        """Accept connections to a broker again."""
        self._run(self._accept(node_id))

    def received(self, api: ApiName, count: int = 1, *, timeout: float = 10.0) -> None:
        """Wait until `count` requests of an API have arrived since the start, or `clear`.

        Args:
            api: The API.
            count: How many requests.
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: So many did not arrive in time.
        """
        try:
            self._run(self._arrivals.wait_for(api, count), timeout)
        except TimeoutError:
            arrived = len(self.requests_of(api))
            raise TimeoutError(
                f"{arrived} of {count} {api} requests arrived within {timeout:g} s"
            ) from None

    def _run(self, work: Coroutine[Any, Any, T], timeout: float = LONGEST_CALL) -> T:
        loop = self._loop
        if loop is None or loop.is_closed():
            work.close()
            raise RuntimeError("the cluster does not run")
        if threading.get_ident() == self._thread_id:
            work.close()
            raise RuntimeError("an on_request function runs on the cluster's loop: it cannot wait")
        return _wait(asyncio.run_coroutine_threadsafe(work, loop), timeout)

    async def _accept(self, node_id: int) -> None:
        await self._broker(node_id).accept()

    def _end_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._thread is not None
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(LONGEST_CALL)
        if self._thread.is_alive():
            raise TimeoutError("the thread of the cluster did not end: does an on_request block?")


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _wait(future: Future[T], timeout: float) -> T:
    try:
        return future.result(timeout)
    finally:
        # Whoever waits no longer, also after Ctrl-C, leaves nothing behind.
        future.cancel()
