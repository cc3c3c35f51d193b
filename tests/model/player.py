"""Plays a program on a clock that jumps, and holds the producer to its promises.

`play` returns when the program is over, all that hung at a broker was carried out, and every
promise was checked. promises.py says what is checked at the end; here stands what is checked on
the way, and the record of every outcome that the user got.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import warnings
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aioproducer import Delivery, KafkaError, Producer, ProducerRecord, RecordMetadata
from aioproducer.errors import ProducerClosedError
from aioproducer.hooks import UndeliveredRecord
from aioproducer.testing import FakeCluster, FakeRecord, FakeRequest, ProduceResponse
from aioproducer.testing.faults import Fail as FailAction
from tests.model import program as steps
from tests.support.memory_network import MemoryNetworkLoop
from tests.support.virtual_time import VirtualTimeLoop, run

__all__ = ["TOPIC", "Call", "Played", "play"]

TOPIC: Final = "payments"
SLACK: Final = 0.05
"""Seconds that a bound may be missed by: the loop's turns take none of them."""
_LOGGER: Final = logging.getLogger("aioproducer")


@dataclass(eq=False)
class Call:
    """One record of the user's, and what was said of it."""

    number: int
    step: steps.Send | steps.SendMany
    at: float
    stream: int = 0
    """Records of one stream were sent in the order of their numbers."""
    task: asyncio.Task[Any] | None = None
    delivery: Delivery | None = None
    outcome: RecordMetadata | KafkaError | None = None
    """None: nobody knows, because the user gave up."""
    is_refused: bool = False
    """It was never accepted."""
    reported: list[tuple[RecordMetadata | None, BaseException | None]] = field(
        default_factory=list[tuple[RecordMetadata | None, BaseException | None]]
    )
    done_at: float | None = None

    @property
    def value(self) -> bytes:
        return b"%d:%s" % (self.number, b"x" * self.step.size)

    @property
    def is_open(self) -> bool:
        """Whether it may still be stored some day, or again."""
        if self.is_refused or isinstance(self.outcome, RecordMetadata):
            return False
        return self.outcome is None or self.outcome.possibly_persisted


@dataclass
class Played:
    """What a program left behind, for the promises."""

    setup: steps.Setup
    steps: tuple[steps.Step, ...]
    calls: list[Call] = field(default_factory=list[Call])
    logs: list[dict[int, list[FakeRecord]]] = field(
        default_factory=list[dict[int, list[FakeRecord]]]
    )
    """The records by partition, of each life of the topic."""
    report_order: list[Call] = field(default_factory=list[Call])
    tainted: set[int] = field(default_factory=set[int])
    """Partitions whose broker forgot what it had stored while more was on its way."""
    undelivered: Sequence[UndeliveredRecord] | None = None
    """What the close returned; None if nobody got it, because the call was cancelled."""
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    troubles: list[str] = field(default_factory=list[str])


class _Errors(logging.Handler):
    def __init__(self, troubles: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._troubles = troubles

    def emit(self, record: logging.LogRecord) -> None:
        self._troubles.append(f"logged: {record.getMessage()} {record.exc_info}")


def play(program: steps.Program) -> Played:
    """Play a program; raises nothing, lists the troubles that were met on the way."""
    played = Played(program.setup, program.steps)
    handler = _Errors(played.troubles)
    level = _LOGGER.level
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(logging.ERROR)
    state = random.getstate()
    random.seed(0)
    _Player.plays += 1
    if _Player.plays % 100 == 0:
        # asyncio goes through all tasks that are not collected yet when it looks for those left.
        gc.collect()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run(_Player(program, played).play(), MemoryNetworkLoop)
        played.troubles.extend(f"warned: {each.message}" for each in caught)
    finally:
        random.setstate(state)
        _LOGGER.setLevel(level)
        _LOGGER.removeHandler(handler)
    return played


class _Player:
    plays = 0

    def __init__(self, program: steps.Program, played: Played) -> None:
        self.program = program
        self.setup = program.setup
        self.played = played
        self.calls = played.calls
        self.tasks: list[asyncio.Task[Any]] = []
        self.deliveries: list[Delivery] = []
        self.lies: list[steps.Fail] = []
        self.failures: list[steps.FailSome] = []
        self.seen: set[tuple[int, int, int, int]] = set()
        self.streams = 0
        self.closing: asyncio.Task[Any] | None = None

    async def play(self) -> None:
        loop = self.loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.set_exception_handler(
            lambda _, context: self.trouble(
                f"exception handler: {context.get('message')} {context.get('exception')!r}"
            )
        )
        setup = self.setup
        self.cluster = FakeCluster(
            brokers=setup.brokers,
            topics={TOPIC: setup.partitions} if setup.topic_exists else {},
            default_partitions=setup.partitions,
            max_versions={"produce": setup.produce_version},
        )
        await self.cluster.start()
        self.cluster.on_request(self.lie)
        self.producer: Producer[bytes, bytes] = Producer(
            bootstrap_servers=self.cluster.bootstrap_servers,
            acks=setup.acks,
            enable_idempotence=setup.idempotence,
            linger_ms=setup.linger_ms,
            batch_size=setup.batch_size,
            buffer_memory=setup.buffer_memory,
            max_in_flight_requests_per_connection=setup.max_in_flight,
            compression_type=setup.compression,
            retries=setup.retries,
            delivery_timeout_ms=setup.delivery_timeout_ms,
            request_timeout_ms=setup.request_timeout_ms,
            max_block_ms=setup.max_block_ms,
        )
        await self.producer.start()
        for step in self.program.steps:
            await self.take(step)
            self.look()
        if self.program.heal:
            await self.heal()
        await self.end(loop)

    def trouble(self, what: str) -> None:
        self.played.troubles.append(what)

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.trouble(what)

    def look(self) -> None:
        """Check what must hold at any time."""
        sender = self.producer._sender  # pyright: ignore[reportPrivateUsage]
        assert sender is not None
        metrics = sender.metrics()
        free, total = metrics["buffer_available_bytes"], metrics["buffer_total_bytes"]
        self.expect(0 <= free <= total, f"{free} of {total} bytes of the buffer are free")
        finished = metrics["record_delivered_total"] + metrics["record_error_total"]
        self.expect(finished <= metrics["record_accepted_total"], f"counters: {metrics}")

    # ---- the end

    async def heal(self) -> None:
        cluster = self.cluster
        self.lies.clear()
        self.failures.clear()
        cluster.clear_faults()
        cluster.throttle_ms = 0
        for node in range(self.setup.brokers):
            await cluster.accept(node)
            await cluster.start_broker(node)
        cluster.release()

    async def end(self, loop: VirtualTimeLoop) -> None:
        undelivered = await self.close(self.program.close_timeout)
        if self.played.undelivered is None and (undelivered or self.closing is None):
            self.played.undelivered = undelivered
        before = loop.time()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.expect(loop.time() - before < SLACK, "somebody waited on after the close")
        # What hangs or is late at a broker is carried out behind the producer's back.
        self.cluster.clear_faults()
        self.cluster.release()
        await asyncio.sleep(100)
        for call in self.calls:
            self.settled(call)
        self.remember_logs()
        sender = self.producer._sender  # pyright: ignore[reportPrivateUsage]
        assert sender is not None
        self.played.metrics = sender.metrics()
        for violation in self.cluster.violations:
            if not self.played.tainted:
                self.trouble(f"violation: {violation}")
        self.expect(
            set(self.cluster.connections.values()) == {0},
            f"connections are left: {self.cluster.connections}",
        )
        await self.cluster.aclose()
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        self.expect(not left, f"tasks are left: {left}")
        self.expect(not loop.pending_timers(), f"timers are left: {loop.pending_timers()}")
        self.expect(not loop.open_sockets(), f"sockets are left: {loop.open_sockets()}")
        try:
            self.producer.send_nowait(TOPIC, b"too late")
        except ProducerClosedError:
            pass
        else:
            self.trouble("a closed producer took a record")

    async def close(self, timeout: float | None) -> Sequence[UndeliveredRecord]:
        before = self.loop.time()
        undelivered = await self.producer.close(timeout)
        took = self.loop.time() - before
        bound = (self.setup.delivery_timeout_ms + self.setup.max_block_ms) / 1000
        bound = min(bound, self.producer.config.close_timeout_ms / 1000)
        if timeout is not None:
            bound = min(bound, timeout)
        self.expect(took <= bound + SLACK, f"close({timeout}) took {took} s")
        return undelivered

    def remember_logs(self) -> None:
        logs: dict[int, list[FakeRecord]] = {}
        for record in self.cluster.records(TOPIC):
            logs.setdefault(record.partition, []).append(record)
        self.played.logs.append(logs)

    def taint(self, partition: int | None) -> None:
        """A broker forgets: nothing is promised for what may be on its way to it."""
        if any(call.is_open for call in map(self.settled, self.calls)):
            self.played.tainted.update(range(10) if partition is None else (partition,))

    # ---- calls

    def settled(self, call: Call) -> Call:
        """Read what is known by now of a call."""
        if call.outcome is not None or call.is_refused:
            return call
        if call.task is not None and call.task.done() and not call.task.cancelled():
            error = call.task.exception()
            if isinstance(error, KafkaError):
                if isinstance(call.step, steps.SendMany):
                    return call  # the error of a call of `send`: the records before it go on
                if error.is_pending:
                    return call  # only this wait is over
                call.outcome = error
                call.is_refused = is_send(call)
            elif error is not None:
                self.trouble(f"call {call.number} raised {error!r}")
            elif is_send(call):
                call.delivery = call.task.result()
            elif isinstance(call.step, steps.Send):
                call.outcome = call.task.result()
        delivery = call.delivery
        if delivery is not None and delivery.done() and not delivery.cancelled():
            try:
                call.outcome = delivery.result()
            except KafkaError as error:
                call.outcome = error
        return call

    def new_call(self, step: steps.Send | steps.SendMany, stream: int = 0) -> Call:
        call = Call(len(self.calls), step, self.loop.time(), stream)
        self.calls.append(call)
        return call

    def begin(self, awaitable: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(awaitable)
        self.tasks.append(task)
        return task

    def send(self, step: steps.Send) -> None:
        call = self.new_call(step)
        options: dict[str, Any] = {
            "key": None if step.key is None else b"%d" % step.key,
            "partition": step.partition,
            "timestamp_ms": step.timestamp_ms,
            "deadline": step.deadline,
        }
        try:
            if step.how == "and_wait":
                waiting = self.producer.send_and_wait(
                    TOPIC, call.value, timeout=step.timeout, **options
                )
                call.task = self.begin(waiting)
                call.task.add_done_callback(lambda _: self.stamp(call))
                return
            if step.on_delivery:
                options["on_delivery"] = self.listener(call)
            if step.how == "nowait":
                call.delivery = self.producer.send_nowait(TOPIC, call.value, **options)
            else:
                call.task = self.begin(self.producer.send(TOPIC, call.value, **options))
        except KafkaError as error:
            call.outcome = error
            call.is_refused = True

    def listener(self, call: Call) -> Callable[[RecordMetadata | None, BaseException | None], None]:
        def on_delivery(metadata: RecordMetadata | None, error: BaseException | None) -> None:
            self.stamp(call)
            call.reported.append((metadata, error))
            self.played.report_order.append(call)

        return on_delivery

    def stamp(self, call: Call) -> None:
        call.done_at = self.loop.time()

    def send_many(self, step: steps.SendMany) -> None:
        self.streams += 1
        calls = [self.new_call(step, self.streams) for _ in range(step.count)]
        records = [ProducerRecord(TOPIC, call.value, partition=step.partition) for call in calls]
        task = self.begin(self.producer.send_many(TOPIC, records, return_exceptions=True))
        for call in calls:
            call.task = task

        def over(task: asyncio.Task[list[RecordMetadata | KafkaError]]) -> None:
            if task.cancelled() or task.exception() is not None:
                return
            for call, outcome in zip(calls, task.result(), strict=True):
                self.stamp(call)
                call.outcome = outcome

        task.add_done_callback(over)

    async def flush(self) -> None:
        accepted = [
            call.delivery for call in map(self.settled, self.calls) if call.delivery is not None
        ]
        before = self.loop.time()
        try:
            await self.producer.flush()
        except ProducerClosedError:
            return
        took = self.loop.time() - before
        bound = (self.setup.delivery_timeout_ms + self.setup.max_block_ms) / 1000
        self.expect(took <= bound + SLACK, f"flush took {took} s")
        left = [delivery for delivery in accepted if "pending" in repr(delivery)]
        self.expect(not left, f"flush returned before {left}")

    # ---- steps

    def lie(self, request: FakeRequest) -> FailAction | None:
        """Refuse a batch for its numbers, the first time that it is seen."""
        chosen = self.fail_some(request)
        for batch in request.batches:
            key = (
                batch.partition,
                batch.producer_id,
                batch.producer_epoch,
                batch.base_sequence,
            )
            if batch.producer_id < 0 or key in self.seen:
                continue
            self.seen.add(key)
            for index, lie in enumerate(self.lies):
                if chosen is None and lie.partition in (None, batch.partition):
                    chosen = FailAction(lie.code, False, None, TOPIC, batch.partition)
                    if lie.count <= 1:
                        del self.lies[index]
                    else:
                        self.lies[index] = replace(lie, count=lie.count - 1)
                    break
        return chosen

    def fail_some(self, request: FakeRequest) -> FailAction | None:
        """Fail a Produce request if the next bit of an order says so."""
        if request.api != "produce" or not self.failures:
            return None
        order = self.failures.pop(0)
        if order.which > 1:
            self.failures.insert(0, replace(order, which=order.which >> 1))
        return FailAction(order.code, order.stored) if order.which & 1 else None

    async def take(self, step: steps.Step) -> None:
        cluster = self.cluster
        partitions = self.partitions
        match step:
            case steps.Send():
                self.send(step)
            case steps.SendMany():
                self.send_many(step)
            case steps.Cancel(back=back):
                running = [task for task in self.tasks if not task.done()]
                if back < len(running):
                    running[-1 - back].cancel()
            case steps.CancelDelivery(back=back):
                pending = [call.delivery for call in map(self.settled, self.calls) if call.delivery]
                if back < len(pending):
                    pending[-1 - back].cancel()
            case steps.Flush():
                self.begin(self.flush())
            case steps.Close(timeout=timeout):
                if self.closing is None:
                    self.closing = self.begin(self.close_early(timeout))
            case steps.Turns(count=count):
                for _ in range(count):
                    await asyncio.sleep(0)
            case steps.Wait(seconds=seconds):
                await asyncio.sleep(seconds)
            case steps.Fail(code=code) if code in steps.SEQUENCE_CODES:
                self.lies.append(step)
            case steps.Fail(api=api, code=code, count=count, stored=stored, partition=partition):
                assert api != "any"
                cluster.fail_next(api, code, count=count, stored=stored, partition=partition)
            case steps.FailSome():
                self.failures.append(step)
            case steps.CutNext(api=api, when=when, count=count):
                cluster.cut_next(api, when=when, count=count)
            case steps.Cut(node=node):
                cluster.cut(node % self.setup.brokers)
            case steps.Hang(api=api, count=count, stored=stored):
                cluster.hang(api, count=count, stored=stored)
            case steps.Release():
                cluster.release()
            case steps.Delay(api=api, seconds=seconds, when=when, count=count):
                cluster.delay(api, seconds, count=count, when=when)
            case steps.EditAnswer(how=how, count=count):
                cluster.edit_next(
                    "produce", leave_out if how == "leave_out" else twice, count=count
                )
            case steps.Throttle(ms=ms):
                cluster.throttle_ms = ms
            case steps.MoveLeader(partition=partition, node=node):
                if partition < partitions:
                    to = -1 if node < 0 else node % self.setup.brokers
                    cluster.move_leader(TOPIC, partition, to)
            case steps.StopBroker(node=node, move_leaders=move_leaders):
                await cluster.stop_broker(node % self.setup.brokers, move_leaders=move_leaders)
            case steps.StartBroker(node=node):
                await cluster.start_broker(node % self.setup.brokers)
            case steps.Refuse(node=node):
                cluster.refuse(node % self.setup.brokers)
            case steps.AddPartitions():
                if 0 < partitions < 4:
                    cluster.add_partitions(TOPIC, partitions + 1)
            case steps.Recreate(partitions=count):
                if partitions:
                    self.taint(None)
                    self.remember_logs()
                    cluster.delete_topic(TOPIC)
                    cluster.create_topic(TOPIC, count)
            case steps.ForgetProducers(partition=partition):
                if partition < partitions:
                    self.taint(partition)
                    cluster.forget_producers(TOPIC, partition)
            case steps.Health():
                self.lies.clear()
                self.failures.clear()
                cluster.clear_faults()
                cluster.release()

    @property
    def partitions(self) -> int:
        """How many partitions the topic has by now; 0 if it does not exist."""
        topic = self.cluster._state.topics.get(TOPIC)  # pyright: ignore[reportPrivateUsage]
        return 0 if topic is None else len(topic.partitions)

    async def close_early(self, timeout: float | None) -> None:
        self.played.undelivered = await self.close(timeout)


def is_send(call: Call) -> bool:
    """Whether the call's task gives a delivery, and fails only if nothing was accepted."""
    return isinstance(call.step, steps.Send) and call.step.how == "send"


def leave_out(answer: ProduceResponse) -> None:
    del answer.partitions[:1]


def twice(answer: ProduceResponse) -> None:
    answer.partitions.extend(answer.partitions[:1])
