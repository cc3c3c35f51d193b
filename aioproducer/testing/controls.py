"""What a test sees of a fake cluster and does to it.

All that FakeCluster and FakeClusterInThread share. Owns the brokers and their common state. All of
it happens on the event loop on which the cluster was started; the public methods here may be called
from any thread.

Invariants
* Nothing is left behind after the end: no task, no timer, no socket.
* The brokers do not refer to this object, so that one that was never closed is noticed.
"""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TypedDict, Unpack

from aioproducer.testing.apis import supported_apis
from aioproducer.testing.arrivals import Arrivals
from aioproducer.testing.batch import FakeRecord, TimestampType
from aioproducer.testing.broker import Broker, Shared
from aioproducer.testing.habits import KAFKA, Habits
from aioproducer.testing.log import Isolation, LogLimits
from aioproducer.testing.loop_bound import on_loop
from aioproducer.testing.observed import ApiName, FakeRequest
from aioproducer.testing.sasl import FakeSasl
from aioproducer.testing.state import (
    Address,
    ClusterState,
    PartitionState,
    TopicState,
)
from aioproducer.testing.transaction_controls import TransactionControls
from aioproducer.testing.transactions import Schedule
from aioproducer.testing.violations import Watch
from aioproducer.testing.wire import WireError

__all__ = ["ClusterControls", "FakeClusterOptions"]

_FEATURES: Final[Mapping[str, int]] = {"transaction.version": 2}


class FakeClusterOptions(TypedDict, total=False):
    """What a fake cluster is like.

    Attributes:
        brokers: How many brokers there are; 1, or as many as there are `ports`.
        ports: The port of each broker on 127.0.0.1; free ones by default.
        topics: Topics that exist from the beginning, and their numbers of partitions.
        auto_create_topics: Whether asking for a topic's metadata makes the topic, as by default.
        default_partitions: How many partitions such a topic gets; 1 by default.
        max_versions: The highest version of an API to offer, to play an older broker; an API
            with -1 is not offered at all.
        habits: What the brokers always do, to play others than Kafka's: `EVENT_HUBS`,
            `KROXYLICIOUS`, `LIBRDKAFKA_MOCK`, `TANSU`, or some `Habits` of your own.
        message_max_bytes: The largest record batch that is stored; Kafka's limit by default.
        throttle_ms: The throttle time in all responses.
        features: Finalized features and their levels, as ApiVersions has them;
            `{"transaction.version": 2}` by default; `{}` for brokers without transactions v2.
        request_history: How many requests `requests` remembers; 100,000 by default.
        ssl_context: A server's TLS settings; the brokers then speak TLS only.
        sasl: Who may log in; every connection then has to.
    """

    brokers: int
    ports: Sequence[int]
    topics: Mapping[str, int] | None
    auto_create_topics: bool
    default_partitions: int
    max_versions: Mapping[ApiName, int] | None
    habits: Habits
    message_max_bytes: int
    throttle_ms: int
    features: Mapping[str, int]
    request_history: int
    ssl_context: ssl.SSLContext | None
    sasl: FakeSasl | None


class ClusterControls(TransactionControls):
    """The observing and ordering half of a fake cluster.

    Args:
        **options: Those of `FakeClusterOptions`.
    """

    def __init__(self, **options: Unpack[FakeClusterOptions]) -> None:
        known = FakeClusterOptions.__annotations__
        for name in options.keys() - known.keys():
            raise TypeError(f"a FakeCluster has no option {name!r}; there are {sorted(known)}")
        ports = options.get("ports", ())
        brokers = options.get("brokers", len(ports) or 1)
        if brokers < 1:
            raise ValueError(f"a cluster has at least one broker, not {brokers}")
        if ports and len(ports) != brokers:
            raise ValueError(f"{brokers} brokers need as many ports, not {len(ports)}")
        super().__init__()
        habits = options.get("habits", KAFKA)
        max_versions: dict[ApiName, int] = {
            **habits.max_versions,
            **(options.get("max_versions") or {}),
        }
        self._state = ClusterState(
            auto_create_topics=options.get("auto_create_topics", True),
            default_partitions=options.get("default_partitions", 1),
            limits=LogLimits(message_max_bytes=options.get("message_max_bytes", 1_048_588)),
            throttle_ms=options.get("throttle_ms", 0),
            features=dict(options.get("features", _FEATURES)),
            habits=habits,
            supported=supported_apis(max_versions),
        )
        self._arrivals = Arrivals(options.get("request_history", 100_000))
        self._shared = Shared(
            self._state,
            self._plan,
            Watch(self._state),
            self._arrivals.add,
            options.get("ssl_context"),
            options.get("sasl"),
        )
        self._ports = list(ports) or [0] * brokers
        self._throttle_ms = self._state.throttle_ms
        self._initial_topics = dict(options.get("topics") or {})
        self._brokers: dict[int, Broker] = {}

    # Life, for the subclasses to show as coroutines or as plain calls.

    async def _start(self) -> None:
        if self._brokers:
            raise RuntimeError("the cluster has been started before")
        self._bind_to_loop()
        try:
            for node_id, port in enumerate(self._ports):
                broker = self._brokers[node_id] = Broker(node_id, self._shared, port)
                self._state.addresses[node_id] = broker.address
                await broker.accept()
                self._state.alive.add(node_id)
            for name, partitions in self._initial_topics.items():
                self.create_topic(name, partitions)
            self._state.transactions.schedule = _scheduler(asyncio.get_running_loop())
        except BaseException:
            await self._close()
            raise

    async def _close(self) -> None:
        for broker in self._brokers.values():
            await broker.aclose()
        self._state.transactions.stop_timers()
        self._state.alive.clear()
        self._arrivals.close()

    async def _clear(self) -> None:
        # First what hangs is carried out, so that none of it is found after this.
        self._plan.clear_all()
        for broker in self._brokers.values():
            broker.recover()
            broker.release()
        self._state.transactions.holds_markers = False
        self._state.transactions.write_markers()
        for partition in self._state.partitions():
            partition.log.clear()
        self._state.groups.clear()
        self._arrivals.clear()
        self._state.violations.clear()
        self._state.throttle_ms = self._throttle_ms
        for node_id in self._brokers:
            await self._start_broker(node_id)

    async def _stop_broker(self, node_id: int, move_leaders: bool) -> None:
        broker = self._broker(node_id)
        self._state.alive.discard(node_id)
        if move_leaders:
            self._state.elect()
        await broker.stop()

    async def _start_broker(self, node_id: int) -> None:
        await self._broker(node_id).accept()
        self._state.alive.add(node_id)
        self._state.elect()

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
    @on_loop
    def connections(self) -> dict[int, int]:
        """How many connections are open, by node id."""
        return {node_id: len(broker.connections) for node_id, broker in self._brokers.items()}

    @property
    @on_loop
    def throttle_ms(self) -> int:
        """The throttle time in all responses, in milliseconds; may be set."""
        return self._state.throttle_ms

    @throttle_ms.setter
    @on_loop
    def throttle_ms(self, value: int) -> None:
        self._state.throttle_ms = value

    @on_loop
    def records(
        self,
        topic: str,
        partition: int | None = None,
        *,
        isolation: Isolation = "read_uncommitted",
    ) -> list[FakeRecord]:
        """Return what is stored, partition by partition in the order of offsets.

        Args:
            topic: The topic; one that does not exist has no records.
            partition: The only partition to look at; None for all.
            isolation: What of transactions is seen, as a consumer's `isolation.level`; with
                "read_committed" neither aborted records nor those from the first open
                transaction on.

        Raises:
            WireError: A stored batch cannot be read; `violations` says so too.
        """
        found = self._state.topics.get(topic)
        if found is None:
            return []
        partitions = found.partitions if partition is None else [self._find(topic, partition)]
        return [record for each in partitions for record in each.log.records(isolation)]

    @on_loop
    def next_offset(self, topic: str, partition: int) -> int:
        """Return the offset that the next record of a partition will get."""
        return self._find(topic, partition).log.next_offset

    @on_loop
    def last_stable_offset(self, topic: str, partition: int) -> int:
        """Return where readers of committed records end: at the first open transaction."""
        return self._find(topic, partition).log.last_stable_offset

    # Topics and leaders.

    @on_loop
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

    @on_loop
    def delete_topic(self, name: str) -> None:
        """Delete a topic and its records; one of the same name made later gets another id."""
        del self._state.topics[self._topic(name).name]

    @on_loop
    def add_partitions(self, name: str, total: int) -> None:
        """Give a topic more partitions, so that it has `total`."""
        topic = self._topic(name)
        if total <= len(topic.partitions):
            raise ValueError(f"{name!r} has {len(topic.partitions)} partitions, {total} is no more")
        self._state.add_partitions(topic, total)

    @on_loop
    def leader(self, topic: str, partition: int) -> int:
        """Return the node id of a partition's leader; -1 if it has none."""
        return self._find(topic, partition).leader

    @on_loop
    def leader_epoch(self, topic: str, partition: int) -> int:
        """Return the leader epoch of a partition."""
        return self._find(topic, partition).leader_epoch

    @on_loop
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
        self._state.transactions.write_markers()

    @on_loop
    def truncate(self, topic: str, partition: int, next_offset: int) -> None:
        """Lose the batches that reach beyond an offset, as an unclean leader election does."""
        self._find(topic, partition).log.truncate(next_offset)

    @on_loop
    def trim(self, topic: str, partition: int, start_offset: int) -> None:
        """Delete the records before an offset, as retention does."""
        self._find(topic, partition).log.trim(start_offset)

    @on_loop
    def forget_producers(self, topic: str, partition: int) -> None:
        """Forget the sequences of all producers, as brokers do of those long silent."""
        self._find(topic, partition).log.forget_producers()

    # Brokers and connections.

    @on_loop
    def advertise(self, node_id: int, host: str, port: int) -> None:
        """Tell clients another address for a broker than the one it listens on.

        As `advertised.listeners` does: metadata, the hints in Produce responses and
        `bootstrap_servers` name it from now on, `ports` does not. With it a proxy stands before a
        broker, or a broker cannot be reached at all.

        Args:
            node_id: The broker.
            host: The host name or address to tell.
            port: The port to tell.
        """
        self._broker(node_id)
        self._state.addresses[node_id] = Address(node_id, host, port)

    @on_loop
    def refuse(self, node_id: int) -> None:
        """Refuse new connections to a broker; it stays the leader and open ones go on."""
        self._broker(node_id).refuse()

    @on_loop
    def cut(self, node_id: int | None = None) -> None:
        """Reset the open connections of a broker; None for those of all."""
        for broker in self._chosen(node_id):
            broker.cut()

    @on_loop
    def slow(self, seconds: float, node_id: int | None = None) -> None:
        """Let a broker respond to each request so much later; 0 ends it.

        The request itself is carried out at once.

        Args:
            seconds: How late.
            node_id: The broker; None for all.
        """
        if seconds < 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds}")
        for broker in self._chosen(node_id):
            broker.response_delay = seconds

    @on_loop
    def freeze(self, node_id: int | None = None) -> None:
        """Let a broker take bytes and do nothing, until `thaw`; None for all.

        As a process that is stopped, or a machine that hangs: it can be connected to, and is still
        the leader.
        """
        for broker in self._chosen(node_id):
            broker.freeze()

    @on_loop
    def thaw(self, node_id: int | None = None) -> None:
        """Let a broker go on that was frozen, with all requests that it got; None for all."""
        for broker in self._chosen(node_id):
            broker.thaw()

    @on_loop
    def fill_disk(self, node_id: int | None = None) -> None:
        """Let a broker store nothing, until `free_disk`; None for all.

        Produce requests fail with KAFKA_STORAGE_ERROR, as they do when the log directory of a
        broker is full or broken and no other broker has taken over. It can be retried.
        """
        for broker in self._chosen(node_id):
            broker.has_full_disk = True

    @on_loop
    def free_disk(self, node_id: int | None = None) -> None:
        """Let a broker store records again; None for all."""
        for broker in self._chosen(node_id):
            broker.has_full_disk = False

    @on_loop
    def release(self) -> None:
        """Respond to the requests that hang, and let no more of them hang."""
        self._plan.remove_hangs()
        for broker in self._brokers.values():
            broker.release()

    # Observing.

    @property
    @on_loop
    def requests(self) -> list[FakeRequest]:
        """The requests that arrived, the last ones if there were many."""
        return list(self._arrivals.requests)

    @on_loop
    def requests_of(self, api: ApiName) -> list[FakeRequest]:
        """Return the requests of one API that arrived."""
        return [request for request in self._arrivals.requests if request.api == api]

    @property
    @on_loop
    def violations(self) -> list[str]:
        """What a client did that a correct producer never does, whatever the brokers do.

        Among them: more than five requests of an idempotent producer in flight on a connection,
        a partition twice in a request, a wrong CRC, a sequence used again for other records, an
        epoch that goes back, requests that cannot be read or were not offered, and batches whose
        records do not match their header. Of a transactional producer also a partition or group
        that was not added to the transaction (v1), a commit before the response to a record, a
        gap in the sequences of an epoch, an epoch used after the next one was returned to it, and
        transactions v2 where the brokers have not finalized them.
        """
        found = list(self._state.violations)
        for topic in self._state.topics.values():
            for partition in topic.partitions:
                try:
                    _check_records(partition)
                except WireError as error:
                    found.append(f"{topic.name}-{partition.index}: {error}")
        return found

    @on_loop
    def expect_clean(self) -> None:
        """Raise AssertionError if there are `violations`; the message lists them."""
        if violations := self.violations:
            raise AssertionError("\n".join(["the producer misbehaved:", *violations]))

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


def _scheduler(loop: asyncio.AbstractEventLoop) -> Schedule:
    return lambda seconds, callback: loop.call_later(seconds, callback).cancel


def _check_records(partition: PartitionState) -> None:
    """Raise WireError if the records of a batch are not those its header describes."""
    for _ in partition.log.records():
        pass
