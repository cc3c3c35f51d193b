"""Random transactions against FakeCluster of both protocols, on a clock that jumps.

A user has one transaction after the other, as the docs say: what timed out is called again, what
was fatal ends in another producer with the same transactional id. Brokers, coordinators and the
network fail meanwhile. `play` returns what was not kept of these promises:

* A transaction whose block ended well is visible to a read_committed reader as a whole, each record
  once, and in order within its partition.
* One that failed, or was aborted, is not visible at all.
* One whose end nobody learned is visible as a whole or not at all.
* A group's offset is that of the last transaction with one that is visible.
* When the faults are over the next transaction is committed, and nothing is left open.
* A record that another task sends is part of the transaction that is open; it is refused while that
  ends, and then never stored. A task that uses `transaction()` while another is inside its block is
  refused. What is refused changes nothing: where nothing goes wrong, each block commits.
* No request is sent that a correct producer never sends (`FakeCluster.violations`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from hypothesis import strategies as st

from aioproducer import KafkaError, KafkaTimeoutError, Producer
from aioproducer.errors import TransactionFailedError, TransactionStateError
from aioproducer.testing import ApiName, FakeCluster
from tests.support.memory_network import MemoryNetworkLoop
from tests.support.virtual_time import run

__all__ = ["Fault", "Program", "Transaction", "play", "programs"]

_TOPIC: Final = "payments"
_ID: Final = "transfers-0"
_GROUP: Final = "readers"
_POSITION: Final = ("orders", 0)
_PARTITIONS: Final = 2
_DELAY: Final = 1.5
"""Seconds."""
_THROTTLE_MS: Final = 300
_IDLE_MS: Final = 5_000
"""After which a topic is forgotten; a transaction may be open for longer."""

# What a coordinator may say that passes.
_COORDINATOR_CODES: Final = (-1, 7, 14, 15, 16, 51)
# What ends a transaction, in the words of either protocol.
_LOST_CODES: Final = (47, 48, 49, 90)
# A produce response, for records that are not stored.
_PRODUCE_CODES: Final = (-1, 2, 3, 5, 6, 7, 19, 44, 56, 87, 120)

Outcome: TypeAlias = Literal["committed", "aborted", "unknown"]


@dataclass(frozen=True)
class Transaction:
    """One transaction of the user's: the partitions of its records, and how it is left."""

    partitions: tuple[int, ...] = (0, 1)
    leave: Literal["end", "raise", "abort"] = "end"
    cancel_after: float | None = None
    pause: float = 0.0
    stray_after: float | None = None
    """When another task sends records without a block of its own."""
    strays: int = 1
    """How many, all at once: where there is no buffer space, they wait for it."""
    has_offset: bool = False
    """Whether the offset of a group is a part of it."""
    rival_after: float | None = None
    """When another task begins a block of its own."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong before the next transaction, or while it is under way."""

    kind: Literal["fail", "cut", "hang", "delay", "drop", "move", "stop", "lose", "throttle"]
    api: ApiName = "end_txn"
    code: int = 15
    count: int = 1
    when: Literal["before", "after"] = "after"
    node: int = 0


@dataclass(frozen=True)
class Program:
    """What happens, step by step, and the cluster's protocol."""

    steps: tuple[Transaction | Fault, ...] = ()
    version: Literal[1, 2] = 2
    linger_ms: int = 0
    batch_size: int = 1_000_000
    max_block_ms: int = 2_000
    buffer_memory: int = 32 << 20
    produce_takes: float = 0.0
    """Seconds until the records of a request are stored."""


class _AbandonedError(Exception):
    """The user's own exception."""


class _Player:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.troubles: list[str] = []
        self.sent: list[tuple[Transaction, dict[int, list[bytes]], Outcome]] = []
        self.offsets: dict[int, int] = {}
        """The offset of each transaction in `sent` that had one, by its place there."""
        self.values = 0
        self.is_inside = False
        self.refused: set[bytes] = set()
        self.has_lost_responses = False

    def trouble(self, what: str) -> None:
        self.troubles.append(what)

    async def play(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.trouble(f"exception handler: {context}"))
        features = {"transaction.version": 2} if self.program.version == 2 else {}
        topics = {_TOPIC: _PARTITIONS, _POSITION[0]: 1}
        self.cluster = FakeCluster(brokers=2, topics=topics, features=features)
        await self.cluster.start()
        if self.program.produce_takes:
            self.cluster.delay("produce", self.program.produce_takes, count=None, when="before")
        self.producer = await self.started()
        for step in self.program.steps:
            if isinstance(step, Fault):
                await self.take(step)
            else:
                await self.transact(step)
        await self.heal()
        # Brokers still owe the answers that they delay, for longer than `max_block_ms` may be.
        await asyncio.sleep(2 * _DELAY)
        # One may learn that it must be aborted, the next that the producer must be replaced:
        # requests that hung come late. The third has no excuse.
        for _ in range(3):
            await self.transact(Transaction())
        if self.sent[-1][2] != "committed":
            self.trouble("no transaction is committed when all faults are over")
        await self.producer.close(5)
        await asyncio.sleep(100)
        self.compare()
        self.troubles.extend(f"violation: {each}" for each in self.cluster.violations)
        known = self.cluster.transaction(_ID)
        if known is not None and known.state in ("Ongoing", "PrepareCommit", "PrepareAbort"):
            self.trouble(f"a transaction is left open: {known}")
        await self.cluster.aclose()

    async def started(self) -> Producer[bytes, bytes]:
        """Open a producer, however often it takes."""
        for attempt in range(20):
            producer: Producer[bytes, bytes] = Producer(
                bootstrap_servers=self.cluster.bootstrap_servers,
                transactional_id=_ID,
                linger_ms=self.program.linger_ms,
                batch_size=self.program.batch_size,
                max_block_ms=self.program.max_block_ms,
                buffer_memory=self.program.buffer_memory,
                metadata_max_idle_ms=_IDLE_MS,
                transaction_timeout_ms=600_000,
                delivery_timeout_ms=5_000,
                request_timeout_ms=1_000,
            )
            try:
                await producer.start()
            except KafkaError:
                await producer.close(0)
                if attempt == 9:
                    await self.heal()
            else:
                return producer
        raise AssertionError("no producer can be started")

    # ---- the user

    async def transact(self, step: Transaction) -> None:
        records: dict[int, list[bytes]] = {}
        task = asyncio.ensure_future(self.block(step, records))
        if step.cancel_after is not None:
            asyncio.get_running_loop().call_later(step.cancel_after, task.cancel)
        others = asyncio.gather(self.stray(step, records), self.rival(step))
        outcome: Outcome
        try:
            await task
            outcome = "committed"
        except _AbandonedError:
            outcome = "aborted"
        except asyncio.CancelledError:
            # In the block, or in the wait for the commit.
            outcome = "unknown"
        except KafkaTimeoutError:
            outcome = await self.repeat()
        except KafkaError as error:
            outcome = "unknown" if error.fatal else "aborted"
            if error.fatal:
                await self.replace()
        await others
        self.sent.append((step, records, outcome))
        goes_wrong = any(isinstance(each, Fault) for each in self.program.steps)
        is_left_well = step.leave == "end" and step.cancel_after is None
        if is_left_well and not goes_wrong and outcome != "committed":
            self.trouble(f"{step} is {outcome}, and nothing went wrong")

    async def block(self, step: Transaction, records: dict[int, list[bytes]]) -> None:
        producer = self.producer
        async with producer.transaction():
            self.is_inside = True
            try:
                for partition in step.partitions:
                    value = self.next_value()
                    records.setdefault(partition, []).append(value)
                    await producer.send(_TOPIC, value, partition=partition)
                    if step.pause:
                        await asyncio.sleep(step.pause)
                if step.has_offset:
                    self.offsets[len(self.sent)] = self.values
                    await producer.send_offsets_to_transaction({_POSITION: self.values}, _GROUP)
            finally:
                self.is_inside = False
            if step.leave == "raise":
                raise _AbandonedError
            if step.leave == "abort":
                await producer.abort_transaction()
                await producer.begin_transaction()
                raise _AbandonedError

    def next_value(self) -> bytes:
        self.values += 1
        return b"%d" % self.values

    async def stray(self, step: Transaction, records: dict[int, list[bytes]]) -> None:
        """Send records into whatever transaction is open."""
        if step.stray_after is None:
            return
        await asyncio.sleep(step.stray_after)

        async def send() -> None:
            value = self.next_value()
            try:
                await self.producer.send(_TOPIC, value, partition=0)
            except KafkaError:
                self.refused.add(value)
            else:
                records.setdefault(0, []).append(value)

        await asyncio.gather(*(send() for _ in range(step.strays)))

    async def rival(self, step: Transaction) -> None:
        """Begin another block while one is open."""
        if step.rival_after is None:
            return
        await asyncio.sleep(step.rival_after)
        if not self.is_inside:
            return
        try:
            async with self.producer.transaction():
                self.trouble("a second task is in the transaction of the first")
        except KafkaError as error:
            if not isinstance(error, TransactionStateError | TransactionFailedError):
                # Fenced, or failed for good.
                assert error.fatal, error

    async def repeat(self) -> Outcome:
        """Call the commit again, which timed out, until it says how it ended."""
        for _ in range(20):
            try:
                await self.producer.commit_transaction()
            except KafkaTimeoutError:
                continue
            except KafkaError as error:
                if error.requires_abort:
                    await self.abort()
                    return "aborted"
                if error.fatal:
                    await self.replace()
                # Or the call that timed out was another one: of the block's beginning.
                return "unknown"
            return "committed"
        await self.replace()
        return "unknown"

    async def abort(self) -> None:
        try:
            await self.producer.abort_transaction()
        except KafkaTimeoutError:
            pass  # the next one waits for it
        except KafkaError as error:
            if error.fatal:
                await self.replace()

    async def replace(self) -> None:
        """Close the producer and open another one, as after a restart."""
        await self.producer.close(0)
        self.producer = await self.started()

    # ---- what goes wrong

    async def take(self, fault: Fault) -> None:
        cluster = self.cluster
        if fault.kind != "fail":
            self.has_lost_responses = True
        elif fault.api == "end_txn" and fault.code in _LOST_CODES and self.has_lost_responses:
            # No coordinator says so of a transaction that it has committed, though the response
            # was lost.
            return
        match fault.kind:
            case "fail":
                cluster.fail_next(fault.api, fault.code, count=fault.count)
            case "cut":
                cluster.cut_next(fault.api, when=fault.when, count=fault.count)
            case "hang":
                cluster.hang(fault.api, count=fault.count, stored=fault.when == "after")
            case "delay":
                cluster.delay(fault.api, _DELAY, count=fault.count, when=fault.when)
            case "drop":
                cluster.cut(fault.node)
            case "move":
                cluster.move_coordinator(_ID, fault.node)
                cluster.move_leader(_TOPIC, 0, fault.node)
            case "stop":
                await cluster.stop_broker(fault.node, move_leaders=True)
            case "throttle":
                # For the next transaction, or until then.
                cluster.throttle_ms = 0 if cluster.throttle_ms else _THROTTLE_MS
            case "lose":
                known = cluster.transaction(_ID)
                if known is not None and known.state == "Ongoing":
                    cluster.time_out_transaction(_ID)
                elif fault.node and (known is None or not known.state.startswith("Prepare")):
                    cluster.forget_transactional_id(_ID)

    async def heal(self) -> None:
        self.cluster.clear_faults()
        self.cluster.throttle_ms = 0
        for node in range(2):
            await self.cluster.start_broker(node)
        self.cluster.release()

    # ---- what a reader sees

    def compare(self) -> None:
        visible: dict[int, list[bytes]] = {partition: [] for partition in range(_PARTITIONS)}
        for record in self.cluster.records(_TOPIC, isolation="read_committed"):
            visible[record.partition].append(record.value or b"")
        for step, records, outcome in self.sent:
            values = {value for each in records.values() for value in each}
            seen = {value for each in visible.values() for value in each} & values
            if outcome == "committed" and seen != values:
                self.trouble(f"{step} was committed with {values}, visible are {seen}")
            if outcome == "aborted" and seen:
                self.trouble(f"{step} was aborted, visible are {seen} of {values}")
            if outcome == "unknown" and seen not in (set(), values):
                self.trouble(f"{step} is visible in part: {seen} of {values}")
        stored = {record.value for record in self.cluster.records(_TOPIC)}
        if stored & self.refused:
            self.trouble(f"refused, and stored all the same: {stored & self.refused}")
        self.compare_offset(visible)
        for partition, found in visible.items():
            numbers = [int(value) for value in found]
            if numbers != sorted(set(numbers)):
                self.trouble(f"partition {partition} is out of order: {numbers}")

    def compare_offset(self, visible: dict[int, list[bytes]]) -> None:
        everything = {value for each in visible.values() for value in each}
        possible: set[int | None] = set()
        for place in sorted(self.offsets, reverse=True):
            _, records, outcome = self.sent[place]
            values = {value for each in records.values() for value in each}
            if outcome == "committed" or values & everything:
                possible.add(self.offsets[place])
                break
            if outcome == "unknown" and not values:
                possible.add(self.offsets[place])
        else:
            possible.add(None)
        found = self.cluster.committed(_GROUP).get(_POSITION)
        if found not in possible:
            self.trouble(f"the group's offset is {found}, and not of {possible}")


def play(program: Program) -> list[str]:
    """Play a program; return the promises that it broke."""
    player = _Player(program)
    # What fails in here is ordered: its log lines would bury what the test found.
    logging.disable(logging.ERROR)
    state = random.getstate()
    random.seed(0)
    try:
        run(player.play(), MemoryNetworkLoop)
    except AssertionError as error:
        player.trouble(str(error))
    finally:
        random.setstate(state)
        logging.disable(logging.NOTSET)
    return player.troubles


_APIS: Final[tuple[ApiName, ...]] = (
    "end_txn",
    "end_txn",
    "add_partitions_to_txn",
    "add_offsets_to_txn",
    "txn_offset_commit",
    "txn_offset_commit",
    "init_producer_id",
    "find_coordinator",
    "describe_transactions",
    "produce",
    "produce",
)


def _faults() -> st.SearchStrategy[Fault]:
    apis = st.sampled_from(_APIS)
    counts = st.sampled_from((1, 1, 1, 2, 5))
    nodes = st.sampled_from((0, 1))
    coordinator = st.sampled_from(_COORDINATOR_CODES)
    when = st.sampled_from(("before", "after"))
    return st.one_of(
        st.builds(Fault, st.just("fail"), st.sampled_from(_APIS[:-2]), coordinator, counts),
        st.builds(Fault, st.just("fail"), st.just("produce"), st.sampled_from(_PRODUCE_CODES)),
        st.builds(Fault, st.just("fail"), st.just("end_txn"), st.sampled_from(_LOST_CODES)),
        st.builds(Fault, st.just("cut"), apis, count=counts, when=when),
        st.builds(Fault, st.just("hang"), apis, count=counts, when=when),
        st.builds(Fault, st.just("delay"), apis, count=counts, when=when),
        st.builds(Fault, st.sampled_from(("drop", "move", "stop", "lose")), node=nodes),
        st.builds(Fault, st.just("throttle")),
    )


def programs() -> st.SearchStrategy[Program]:
    """Any program."""
    transactions = st.builds(
        Transaction,
        partitions=st.lists(st.sampled_from((0, 0, 1)), max_size=6).map(tuple),
        leave=st.sampled_from(("end", "end", "end", "raise", "abort")),
        cancel_after=st.sampled_from((None, None, None, 0.0, 0.001, 0.5)),
        pause=st.sampled_from((0.0, 0.0, 0.001, 1.0, 12.0)),
        stray_after=st.sampled_from((None, None, 0.0, 0.001, 0.5)),
        strays=st.sampled_from((1, 1, 5)),
        has_offset=st.booleans(),
        rival_after=st.sampled_from((None, None, 0.0, 0.001, 0.5)),
    )
    return st.builds(
        Program,
        steps=st.lists(transactions | _faults(), min_size=1, max_size=20).map(tuple),
        version=st.sampled_from((1, 2)),
        linger_ms=st.sampled_from((0, 5, 100)),
        batch_size=st.sampled_from((1_000_000, 0)),
        max_block_ms=st.sampled_from((2_000, 300, 60_000)),
        buffer_memory=st.sampled_from((32 << 20, 32 << 20, 300)),
        produce_takes=st.sampled_from((0.0, 0.0, 0.01)),
    )
