"""FakeCluster: Kafka brokers inside the test process, on real sockets, with faults to order.

The only class a test needs. It owns the brokers and their common state; everything it does
happens on the event loop it was started on, and every method must be called there. Nothing is
left behind after `aclose`: no task, no timer, no socket.
"""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from aioproducer.testing.apis import supported_apis
from aioproducer.testing.batch import FakeRecord, TimestampType
from aioproducer.testing.broker import Broker, Shared
from aioproducer.testing.habits import KAFKA, Habits
from aioproducer.testing.log import LogLimits
from aioproducer.testing.observed import ApiName, FakeRequest
from aioproducer.testing.orders import FaultOrders
from aioproducer.testing.sasl import FakeSasl
from aioproducer.testing.state import (
    Address,
    ClusterState,
    PartitionState,
    TopicState,
)
from aioproducer.testing.violations import Watch
from aioproducer.testing.wire import WireError

__all__ = ["FakeCluster"]

_FEATURES: Final[Mapping[str, int]] = {"transaction.version": 2}


class FakeCluster(FaultOrders):
    """Kafka brokers in this process, for tests: real sockets, real protocol, faults to order.

    Example:
        ```python
        async with FakeCluster(topics={"payments": 6}) as cluster:
            async with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
                cluster.fail_next("produce", NotLeaderOrFollowerError)
                await producer.send_and_wait("payments", b"42")
            assert [record.value for record in cluster.records("payments")] == [b"42"]
            cluster.expect_clean()
        ```

    Brokers have the node ids 0, 1, 2 and so on, and behave like Kafka 4.3 with every replica in
    sync. Faults are applied in the order in which they were ordered; each request uses up one
    of a fault's `count`. A request's turn comes when those before it on its connection are
    answered; a fault ordered before that applies to it.
    """

    def __init__(
        self,
        *,
        brokers: int = 1,
        topics: Mapping[str, int] | None = None,
        auto_create_topics: bool = True,
        default_partitions: int = 1,
        max_versions: Mapping[ApiName, int] | None = None,
        habits: Habits = KAFKA,
        message_max_bytes: int = 1_048_588,
        throttle_ms: int = 0,
        features: Mapping[str, int] = _FEATURES,
        request_history: int = 100_000,
        ssl_context: ssl.SSLContext | None = None,
        sasl: FakeSasl | None = None,
    ) -> None:
        """Describe a cluster; `start` or `async with` starts it.

        Args:
            brokers: How many brokers there are.
            topics: Topics that exist from the beginning, and their numbers of partitions.
            auto_create_topics: Whether asking for a topic's metadata makes the topic.
            default_partitions: How many partitions such a topic gets.
            max_versions: The highest version of an API to offer, to play an older broker; an API
                with -1 is not offered at all.
            habits: What the brokers always do, to play others than Kafka's: `EVENT_HUBS`,
                `KROXYLICIOUS`, `LIBRDKAFKA_MOCK`, `TANSU`, or some `Habits` of your own.
            message_max_bytes: The largest record batch that is stored.
            throttle_ms: The throttle time that all answers tell.
            features: Finalized features and their levels, as ApiVersions tells them.
            request_history: How many requests `requests` remembers.
            ssl_context: A server's TLS settings; the brokers then speak TLS only.
            sasl: Who may log in; every connection then has to.
        """
        if brokers < 1:
            raise ValueError(f"a cluster has at least one broker, not {brokers}")
        super().__init__()
        self.requests: deque[FakeRequest] = deque(maxlen=request_history)
        """The requests that arrived, the last ones if there were many."""
        self._state = ClusterState(
            auto_create_topics=auto_create_topics,
            default_partitions=default_partitions,
            limits=LogLimits(message_max_bytes=message_max_bytes),
            throttle_ms=throttle_ms,
            features=dict(features),
            habits=habits,
            supported=supported_apis({**habits.max_versions, **(max_versions or {})}),
        )
        self._tls = ssl_context
        self._sasl = sasl
        self._node_count = brokers
        self._initial_topics = dict(topics or {})
        self._brokers: dict[int, Broker] = {}
        self._arrived: Counter[str] = Counter()
        self._waiting: list[tuple[ApiName, int, asyncio.Future[None]]] = []

    # Life.

    async def start(self) -> None:
        """Start the brokers on free ports of 127.0.0.1; once per cluster."""
        if self._brokers:
            raise RuntimeError("the cluster has been started before")
        shared = Shared(
            self._state, self._plan, Watch(self._state), self._on_arrival, self._tls, self._sasl
        )
        try:
            for node_id in range(self._node_count):
                broker = self._brokers[node_id] = Broker(node_id, shared)
                self._state.addresses[node_id] = broker.address
                await broker.accept()
                self._state.alive.add(node_id)
        except BaseException:
            await self.aclose()
            raise
        for name, partitions in self._initial_topics.items():
            self.create_topic(name, partitions)

    async def aclose(self) -> None:
        """Stop the brokers and give up their ports; what they stored can still be read."""
        for broker in self._brokers.values():
            await broker.aclose()
        self._state.alive.clear()
        waiting, self._waiting = self._waiting, []
        for _, _, future in waiting:
            future.cancel()

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

    # What there is.

    @property
    def bootstrap_servers(self) -> str:
        """The addresses that clients are told of all brokers, as `bootstrap_servers` wants them."""
        return ",".join(
            f"{host}:{port}"
            for _, host, port in (self._state.addresses[own.node_id] for own in self._addresses())
        )

    @property
    def ports(self) -> dict[int, int]:
        """The port that each broker listens on, by node id; it stays when a broker is restarted."""
        return {address.node_id: address.port for address in self._addresses()}

    @property
    def connections(self) -> dict[int, int]:
        """How many connections are open, by node id."""
        return {node_id: len(broker.connections) for node_id, broker in self._brokers.items()}

    @property
    def throttle_ms(self) -> int:
        """The throttle time that all answers tell; may be set."""
        return self._state.throttle_ms

    @throttle_ms.setter
    def throttle_ms(self, value: int) -> None:
        self._state.throttle_ms = value

    def records(self, topic: str, partition: int | None = None) -> list[FakeRecord]:
        """Return what is stored, partition by partition in the order of offsets.

        Args:
            topic: The topic; one that does not exist has no records.
            partition: The only partition to look at; None for all.

        Raises:
            WireError: A stored batch cannot be read; `violations` says so too.
        """
        found = self._state.topics.get(topic)
        if found is None:
            return []
        partitions = found.partitions if partition is None else [self._find(topic, partition)]
        return [record for each in partitions for record in each.log.records()]

    def next_offset(self, topic: str, partition: int) -> int:
        """Return the offset that the next record of a partition will get."""
        return self._find(topic, partition).log.next_offset

    # Topics and leaders.

    def create_topic(
        self,
        name: str,
        partitions: int | None = None,
        *,
        message_timestamp_type: TimestampType = "CreateTime",
        message_max_bytes: int | None = None,
        compacted: bool = False,
    ) -> uuid.UUID:
        """Make a topic and return its id; partition i is led by broker i, round and round.

        Args:
            name: Its name.
            partitions: How many partitions it has; None for the cluster's default.
            message_timestamp_type: Whether records keep the producer's timestamps.
            message_max_bytes: The largest record batch; None for the cluster's limit.
            compacted: Whether records need a key, as in a topic with cleanup.policy=compact.
        """
        state = self._state
        if not state.legal(name):
            raise ValueError(f"{name!r} is no legal topic name")
        if name in state.topics:
            raise ValueError(f"the topic {name!r} exists")
        if partitions is None:
            partitions = state.default_partitions
        if partitions < 1:
            raise ValueError(f"a topic has at least one partition, not {partitions}")
        limits = replace(
            state.limits_of_new_topic(), timestamp_type=message_timestamp_type, compacted=compacted
        )
        if message_max_bytes is not None:
            limits = replace(limits, message_max_bytes=message_max_bytes)
        return uuid.UUID(bytes=state.create_topic(name, partitions, limits).topic_id)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and its records; one of the same name made later gets another id."""
        del self._state.topics[self._topic(name).name]

    def add_partitions(self, name: str, total: int) -> None:
        """Give a topic more partitions, so that it has `total`."""
        topic = self._topic(name)
        if total <= len(topic.partitions):
            raise ValueError(f"{name!r} has {len(topic.partitions)} partitions, {total} is no more")
        self._state.add_partitions(topic, total)

    def leader(self, topic: str, partition: int) -> int:
        """Return the node id of a partition's leader; -1 if it has none."""
        return self._find(topic, partition).leader

    def leader_epoch(self, topic: str, partition: int) -> int:
        """Return the leader epoch of a partition."""
        return self._find(topic, partition).leader_epoch

    def move_leader(self, topic: str, partition: int, node_id: int) -> None:
        """Make another broker the leader of a partition, in the next leader epoch.

        Args:
            topic: The topic.
            partition: The partition.
            node_id: The new leader; -1 for none.
        """
        if node_id != -1:
            self._broker(node_id)
        found = self._find(topic, partition)
        found.leader = node_id
        found.leader_epoch += 1

    def truncate(self, topic: str, partition: int, next_offset: int) -> None:
        """Lose the batches that reach beyond an offset, as an unclean leader election does."""
        self._find(topic, partition).log.truncate(next_offset)

    def trim(self, topic: str, partition: int, start_offset: int) -> None:
        """Delete the records before an offset, as retention does."""
        self._find(topic, partition).log.trim(start_offset)

    def forget_producers(self, topic: str, partition: int) -> None:
        """Forget the sequences of all producers, as brokers do of those long silent."""
        self._find(topic, partition).log.forget_producers()

    # Brokers and connections.

    async def stop_broker(self, node_id: int, *, move_leaders: bool = True) -> None:
        """Kill a broker: its connections are reset and its port refuses new ones.

        Args:
            node_id: The broker.
            move_leaders: Whether the partitions it leads get another leader at once. Without
                one alive they have none until a broker starts.
        """
        broker = self._broker(node_id)
        self._state.alive.discard(node_id)
        if move_leaders:
            self._state.elect()
        await broker.stop()

    async def start_broker(self, node_id: int) -> None:
        """Start a broker again, on its port; it leads the partitions that have no leader."""
        await self._broker(node_id).accept()
        self._state.alive.add(node_id)
        self._state.elect()

    def advertise(self, node_id: int, host: str, port: int) -> None:
        """Tell clients another address for a broker than the one it listens on.

        As `advertised.listeners` does: metadata, the hints in Produce answers and
        `bootstrap_servers` name it from now on, `ports` does not. With it a proxy stands before a
        broker, or a broker cannot be reached at all.

        Args:
            node_id: The broker.
            host: The host name or address to tell.
            port: The port to tell.
        """
        self._broker(node_id)
        self._state.addresses[node_id] = Address(node_id, host, port)

    def refuse(self, node_id: int) -> None:
        """Refuse new connections to a broker; it stays the leader and open ones go on."""
        self._broker(node_id).refuse()

    async def accept(self, node_id: int) -> None:
        """Accept connections to a broker again."""
        await self._broker(node_id).accept()

    def cut(self, node_id: int | None = None) -> None:
        """Reset the open connections of a broker; None for those of all."""
        for broker in self._chosen(node_id):
            broker.cut()

    def release(self) -> None:
        """Answer the requests that hang, and let no more of them hang."""
        self._plan.remove_hangs()
        for broker in self._brokers.values():
            broker.release()

    # Observing.

    def requests_of(self, api: ApiName) -> list[FakeRequest]:
        """Return the requests of one API that arrived."""
        return [request for request in self.requests if request.api == api]

    async def received(self, api: ApiName, count: int = 1) -> None:
        """Wait until `count` requests of an API have arrived since the start."""
        if self._arrived[api] < count:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((api, count, future))
            await future

    @property
    def violations(self) -> list[str]:
        """What a client did that a correct producer never does, whatever the brokers do.

        Among them: more than five requests of an idempotent producer in flight on a connection,
        a partition twice in a request, a wrong CRC, a sequence used again for other records, an
        epoch that goes back, requests that cannot be read or were not offered, and batches whose
        records do not match their header.
        """
        found = list(self._state.violations)
        for topic in self._state.topics.values():
            for partition in topic.partitions:
                try:
                    _check_records(partition)
                except WireError as error:
                    found.append(f"{topic.name}-{partition.index}: {error}")
        return found

    def expect_clean(self) -> None:
        """Raise AssertionError if there are `violations`; the message lists them."""
        if violations := self.violations:
            raise AssertionError("\n".join(["the producer misbehaved:", *violations]))

    def _on_arrival(self, request: FakeRequest) -> None:
        self.requests.append(request)
        self._arrived[request.api] += 1
        for waiting in tuple(self._waiting):
            api, count, future = waiting
            if self._arrived[api] >= count:
                self._waiting.remove(waiting)
                if not future.done():
                    future.set_result(None)

    def _addresses(self) -> list[Address]:
        if not self._brokers:
            raise RuntimeError("the cluster has not been started")
        return [broker.address for broker in self._brokers.values()]

    def _broker(self, node_id: int) -> Broker:
        try:
            return self._brokers[node_id]
        except KeyError:
            nodes = sorted(self._brokers)
            raise LookupError(f"there is no broker {node_id}; there are {nodes}") from None

    def _chosen(self, node_id: int | None) -> list[Broker]:
        return list(self._brokers.values()) if node_id is None else [self._broker(node_id)]

    def _topic(self, name: str) -> TopicState:
        try:
            return self._state.topics[name]
        except KeyError:
            raise LookupError(f"there is no topic {name!r}") from None

    def _find(self, topic: str, partition: int) -> PartitionState:
        found = self._topic(topic).partition(partition)
        if found is None:
            raise LookupError(f"the topic {topic!r} has no partition {partition}")
        return found


def _check_records(partition: PartitionState) -> None:
    """Raise WireError if the records of a batch are not those its header describes."""
    for _ in partition.log.records():
        pass
