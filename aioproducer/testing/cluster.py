"""FakeCluster: Kafka brokers on real sockets, on the event loop of the test.

The calls that wait are coroutines here; `in_thread` has a loop of its own, and plain calls.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self, Unpack

from aioproducer.testing.controls import ClusterControls, FakeClusterOptions
from aioproducer.testing.in_thread import FakeClusterInThread
from aioproducer.testing.observed import ApiName

__all__ = ["FakeCluster"]


class FakeCluster(ClusterControls):
    """Kafka brokers in this process, for tests: real sockets, real protocol, faults to order.

    Brokers have the node ids 0, 1, 2 and so on, and behave like Kafka 4.3 with every replica in
    sync. Faults are applied in the order in which they were ordered; each request uses up one
    of a fault's `count`. A request's turn comes when those before it on its connection have their
    responses; a fault ordered before that applies to it.

    Args:
        **options: Those of `FakeClusterOptions`; `start` or `async with` starts the cluster.

    Raises:
        ValueError: An option is impossible.

    Example:
        ```python
        async with FakeCluster(topics={"payments": 6}) as cluster:
            async with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
                cluster.fail_next("produce", NotLeaderOrFollowerError)
                await producer.send_and_wait("payments", b"42")
            assert [record.value for record in cluster.records("payments")] == [b"42"]
            cluster.expect_clean()
        ```
    """

    @classmethod
    def in_thread(cls, **options: Unpack[FakeClusterOptions]) -> FakeClusterInThread:
        """Make a cluster on a loop and in a thread of its own; `with` starts it.

        For synchronous tests and for those whose loop is blocked or made elsewhere (TestClient).

        Args:
            **options: Those of `FakeClusterOptions`.
        """
        return FakeClusterInThread(**options)

    async def start(self) -> None:
        """Start the brokers; once per cluster.

        Raises:
            OSError: One of `ports` is taken.
        """
        await self._start()

    async def aclose(self) -> None:
        """Stop the brokers and give up their ports; what they stored can still be read."""
        await self._close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def clear(self) -> None:
        """Forget records, requests, violations and faults, so that the next test finds none.

        Topics stay, and their offsets begin at 0 again. Brokers that were stopped, frozen, slow,
        full or refusing are well again. Requests that hang are carried out first.

        Connections stay, and a producer may go on: as after `forget_producers`, each partition
        takes whatever sequence comes next. But what it has in flight may be stored a second time,
        or after this call: let it `flush` first, and end its transaction. One that is open stays
        open, and its end takes an offset.
        """
        await self._clear()

    async def stop_broker(self, node_id: int, *, move_leaders: bool = True) -> None:
        """Kill a broker: its connections are reset and its port refuses new ones.

        Args:
            node_id: The broker.
            move_leaders: Whether the partitions it leads get another leader at once. Without
                one alive they have none until a broker starts.
        """
        await self._stop_broker(node_id, move_leaders)

    async def start_broker(self, node_id: int) -> None:
        """Start a broker again, on its port; it leads the partitions that have no leader."""
        await self._start_broker(node_id)

    async def accept(self, node_id: int) -> None:
        """Accept connections to a broker again."""
        await self._broker(node_id).accept()

    async def received(self, api: ApiName, count: int = 1) -> None:
        """Wait until `count` requests of an API have arrived since the start, or `clear`."""
        await self._arrivals.wait_for(api, count)
