"""Each await of a delivery has a wait of its own: only it is cancelled, and it says by whom."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from aioproducer._native.record_batch import Delivery, DeliveryWait
from aioproducer.errors import NetworkError
from aioproducer.records import RecordMetadata
from tests.support.core import Core, append_to
from tests.support.deliveries import (
    STORED,
    begin,
    complete,
    fail,
    from_the_loop,
    one,
    turn,
    wait_for_it,
    wait_of,
    waiting,
)

number: contextvars.ContextVar[int] = contextvars.ContextVar("number")


# ---- the message of a cancellation


async def test_the_message_of_a_cancellation_reaches_the_one_who_awaits() -> None:
    delivery, batch = one()
    notified: list[object] = []

    async def waits() -> None:
        try:
            await delivery
        except asyncio.CancelledError as error:
            notified.append(error.args)
            raise

    task = asyncio.create_task(waits())
    await turn()
    task.cancel("why")
    await turn()
    assert notified == [("why",)]
    complete(batch)


async def test_a_cancellation_without_a_message_has_none() -> None:
    delivery, batch = one()
    task = waiting(delivery)
    await turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ()
    complete(batch)


async def test_two_cancellations_keep_their_own_messages() -> None:
    delivery, batch = one()
    tasks = [waiting(delivery), waiting(delivery)]
    await turn()
    for task, message in zip(tasks, ("first", "second"), strict=True):
        task.cancel(message)
    for task, message in zip(tasks, ("first", "second"), strict=True):
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == (message,)
    complete(batch)


async def test_the_message_reaches_the_one_who_gathers() -> None:
    delivery, batch = one()

    async def gather() -> None:
        await asyncio.gather(delivery, delivery)

    task = asyncio.create_task(gather())
    await turn()
    task.cancel("why")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("why",)
    complete(batch)


async def test_a_cancel_scope_of_anyio_ends_the_wait_and_nothing_else() -> None:
    anyio = pytest.importorskip("anyio")
    delivery, batch = one()
    with anyio.CancelScope() as scope:
        from_the_loop(scope.cancel)
        await delivery
    assert scope.cancelled_caught
    complete(batch)
    assert await delivery == STORED


# ---- waits do not disturb each other


async def test_a_wait_that_ends_leaves_the_others_waiting() -> None:
    delivery, batch = one()
    tasks = [waiting(delivery) for _ in range(5)]
    await turn()
    for task in (tasks[0], tasks[2], tasks[4]):
        task.cancel()
    await turn()
    assert [task.done() for task in tasks] == [True, False, True, False, True]
    from_the_loop(lambda: complete(batch))
    assert [await tasks[1], await tasks[3]] == [STORED, STORED]


@pytest.mark.parametrize("direct", [True, False])
async def test_a_task_that_another_one_cancels_as_it_is_woken_is_cancelled(direct: bool) -> None:
    delivery, batch = one()

    async def cancels() -> None:
        await delivery
        other.cancel("why")

    first = asyncio.create_task(cancels())
    await turn()
    other = waiting(delivery)
    await turn()
    from_the_loop(lambda: complete(batch, direct=direct))
    with pytest.raises(asyncio.CancelledError) as caught:
        await other
    assert caught.value.args == ("why",)
    await first


@pytest.mark.parametrize("direct", [True, False])
async def test_a_task_of_another_record_of_the_batch_can_be_cancelled_as_one_is_woken(
    direct: bool,
) -> None:
    core = Core(asyncio.get_running_loop())
    first_delivery, second_delivery, third_delivery = (core.put() for _ in range(3))
    batch = core.take()

    async def cancels() -> None:
        await first_delivery
        second.cancel()

    first = asyncio.create_task(cancels())
    second, third = waiting(second_delivery), waiting(third_delivery)
    await turn()
    from_the_loop(lambda: complete(batch, direct=direct))
    with pytest.raises(asyncio.CancelledError):
        await second
    assert (await third).offset == STORED.offset + 2
    await first


async def test_a_task_that_was_woken_may_wait_for_the_same_record_again() -> None:
    delivery, batch = one()

    async def waits_twice() -> list[RecordMetadata]:
        return [await delivery, await delivery]

    task = asyncio.create_task(waits_twice())
    await turn()
    from_the_loop(lambda: complete(batch))
    assert await task == [STORED, STORED]


async def test_many_waits_come_and_go() -> None:
    delivery, batch = one()
    for round_ in range(20):
        tasks = [waiting(delivery) for _ in range(round_ % 4 + 1)]
        await turn()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
    staying = waiting(delivery)
    await turn()
    from_the_loop(lambda: complete(batch))
    assert await staying == STORED


# ---- a wait as asyncio sees it


def test_a_wait_is_a_coroutine_until_it_is_begun_and_then_a_future() -> None:
    delivery, _ = one(Core())
    wait = wait_of(delivery)
    anything: Any = wait
    assert asyncio.iscoroutine(anything)
    assert not asyncio.isfuture(anything)
    next(wait)
    assert asyncio.isfuture(anything)


def test_a_wait_knows_the_loop_of_the_producer() -> None:
    core = Core()
    delivery, _ = one(core)
    assert begin(delivery).get_loop() is core.loop


def test_a_wait_is_woken_by_the_outcome_and_its_next_step_gives_it() -> None:
    delivery, batch = one(Core())
    wait = begin(delivery)
    notified: list[DeliveryWait] = []
    wait.add_done_callback(notified.append)
    assert not wait.done()
    complete(batch)
    assert notified == [wait]
    assert wait.done()
    assert not wait.cancelled()
    assert wait.result() is None  # type: ignore[func-returns-value]
    with pytest.raises(StopIteration) as stopped:
        next(wait)
    assert stopped.value.value == STORED


def test_the_next_step_of_a_wait_for_a_failed_record_raises_its_error() -> None:
    delivery, batch = one(Core())
    wait = begin(delivery)
    wait.add_done_callback(append_to([], 0))
    fail(batch)
    with pytest.raises(NetworkError, match="gone"):
        next(wait)


def test_a_wait_can_be_cancelled_once() -> None:
    core = Core()
    delivery, batch = one(core)
    wait = begin(delivery)
    notified: list[DeliveryWait] = []
    wait.add_done_callback(notified.append)
    assert wait.cancel("why")
    assert not wait.cancel("again")
    assert (wait.cancelled(), wait.done()) == (True, True)
    assert notified == []
    core.manual.run_once()
    assert notified == [wait]
    with pytest.raises(asyncio.CancelledError) as caught:
        wait.result()
    assert caught.value.args == ("why",)
    complete(batch)
    core.manual.run_once()
    assert notified == [wait]


def test_a_wait_that_was_woken_cannot_be_cancelled() -> None:
    delivery, batch = one(Core())
    wait = begin(delivery)
    wait.add_done_callback(append_to([], 0))
    complete(batch)
    assert not wait.cancel()
    assert not wait.cancelled()


def test_a_wait_that_was_cancelled_can_be_begun_again() -> None:
    core = Core()
    delivery, batch = one(core)
    wait = begin(delivery)
    wait.add_done_callback(append_to([], 0))
    wait.cancel()
    core.manual.run_once()
    assert next(wait) is wait
    assert not wait.cancelled()
    notified: list[DeliveryWait] = []
    wait.add_done_callback(notified.append)
    complete(batch)
    assert notified == [wait]


@pytest.mark.parametrize("end", ["outcome", "cancellation"])
def test_every_callback_of_a_wait_is_called_once(end: str) -> None:
    core = Core()
    delivery, batch = one(core)
    wait = begin(delivery)
    notified: list[int] = []
    for index in range(3):
        wait.add_done_callback(append_to(notified, index))
    if end == "outcome":
        complete(batch)
    else:
        wait.cancel()
    core.manual.run_once()
    assert notified == [0, 1, 2]
    if end == "cancellation":
        complete(batch)
        core.manual.run_once()
    assert notified == [0, 1, 2]


@pytest.mark.parametrize("end", ["outcome", "cancellation"])
def test_the_callbacks_of_a_wait_run_in_their_own_contexts(end: str) -> None:
    core = Core()
    delivery, batch = one(core)
    wait = begin(delivery)
    seen: list[int] = []
    for value in (1, 2):
        context = contextvars.copy_context()
        context.run(number.set, value)
        wait.add_done_callback(lambda _: seen.append(number.get()), context=context)
    if end == "outcome":
        complete(batch)
    else:
        wait.cancel()
    core.manual.run_once()
    assert seen == [1, 2]


@pytest.mark.parametrize("direct", [True, False])
def test_a_wait_runs_its_callback_in_the_context_of_who_added_it(direct: bool) -> None:
    core = Core()
    delivery, batch = one(core)
    seen: list[int] = []

    def add() -> None:
        number.set(1)
        begin(delivery).add_done_callback(lambda _: seen.append(number.get()))

    contextvars.copy_context().run(add)
    complete(batch, direct=direct)
    core.manual.run_once()
    assert seen == [1]


@pytest.mark.parametrize("end", ["outcome", "cancellation"])
def test_a_callback_that_comes_after_the_end_of_a_wait_is_called_by_the_loop(end: str) -> None:
    core = Core()
    delivery, batch = one(core)
    wait = begin(delivery)
    if end == "outcome":
        complete(batch)
    else:
        wait.add_done_callback(append_to([], 0))
        wait.cancel()
        core.manual.run_once()
    notified: list[DeliveryWait] = []
    wait.add_done_callback(notified.append)
    assert notified == []
    core.manual.run_once()
    assert notified == [wait]


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit, ValueError, BaseException])
def test_what_a_wait_wakes_harms_nobody_else_by_what_it_raises(kind: type[BaseException]) -> None:
    core = Core()
    notified: list[int] = []

    def breaks(_: DeliveryWait) -> None:
        raise kind("mine")

    delivery = core.put()
    for callback in (append_to(notified, 0), breaks, append_to(notified, 2)):
        begin(delivery).add_done_callback(callback)
    begin(core.put()).add_done_callback(append_to(notified, 3))
    complete(core.take())
    assert notified == [0, 2, 3]
    assert [type(context["exception"]) for context in core.manual.reported] == [kind]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_of_what_a_wait_wakes_leaves_the_others_to_the_loop(
    kind: type[BaseException],
) -> None:
    core = Core()
    notified: list[int] = []

    def interrupts(_: DeliveryWait) -> None:
        raise kind

    first, second = core.put(), core.put()
    for delivery, callback in (
        (first, interrupts),
        (first, append_to(notified, 1)),
        (second, append_to(notified, 2)),
    ):
        begin(delivery).add_done_callback(callback)
    with pytest.raises(kind):
        complete(core.take())
    assert notified == []
    core.manual.run_once()
    assert notified == [1, 2]


# ---- a wait as a coroutine


def test_what_is_thrown_into_a_wait_comes_out_and_ends_it() -> None:
    core = Core()
    delivery, batch = one(core)
    wait = begin(delivery)
    notified: list[int] = []
    wait.add_done_callback(append_to(notified, 0))
    with pytest.raises(KeyError, match="mine"):
        wait.throw(KeyError("mine"))
    complete(batch)
    core.manual.run_once()
    assert notified == []


@pytest.mark.parametrize("value", [None, "mine", KeyError("mine")])
def test_an_exception_may_be_thrown_by_its_class_and_value(value: object) -> None:
    delivery, _ = one(Core())
    with pytest.raises(KeyError) as caught:
        begin(delivery).throw(KeyError, value)
    assert caught.value.args == (() if value is None else ("mine",))


def test_a_wait_that_is_closed_is_not_woken() -> None:
    core = Core()
    delivery, batch = one(core)
    wait = begin(delivery)
    notified: list[int] = []
    wait.add_done_callback(append_to(notified, 0))
    wait.close()
    wait.close()
    complete(batch)
    core.manual.run_once()
    assert notified == []


def test_one_wait_is_not_awaited_by_two_at_a_time() -> None:
    delivery, _ = one(Core())
    wait = begin(delivery)
    wait.add_done_callback(append_to([], 0))
    with pytest.raises(RuntimeError, match="awaited already"):
        next(wait)


async def test_one_wait_is_not_awaited_by_two_tasks_at_a_time() -> None:
    delivery, batch = one()
    wait = wait_of(delivery)

    async def waits() -> RecordMetadata:
        return await wait

    first, second = asyncio.create_task(waits()), asyncio.create_task(waits())
    await turn()
    with pytest.raises(RuntimeError, match="awaited already"):
        await second
    from_the_loop(lambda: complete(batch))
    assert await first == STORED


async def test_a_task_may_be_made_of_a_wait_itself() -> None:
    delivery, batch = one()
    wait = wait_of(delivery)
    task: asyncio.Task[RecordMetadata] = asyncio.create_task(wait)
    from_the_loop(lambda: complete(batch))
    assert await task == STORED


async def test_a_task_of_a_wait_can_be_cancelled_before_its_first_step() -> None:
    delivery, batch = one()
    wait = wait_of(delivery)
    task: asyncio.Task[RecordMetadata] = asyncio.create_task(wait)
    task.cancel("why")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("why",)
    complete(batch)


async def test_a_generator_based_coroutine_may_wait() -> None:
    delivery, batch = one()

    class Waits:
        def __await__(self):  # type: ignore[no-untyped-def]
            return (yield from delivery.__await__())

    async def waits() -> RecordMetadata:
        stored: RecordMetadata = await Waits()
        return stored

    task = asyncio.create_task(waits())
    await turn()
    from_the_loop(lambda: complete(batch))
    assert await task == STORED


# ---- making and keeping one


def test_a_wait_without_a_record_cannot_be_made() -> None:
    with pytest.raises(TypeError, match=r"is made by Producer\.send_and_wait"):
        DeliveryWait()
    with pytest.raises(TypeError, match=r"is made by Producer\.send_and_wait"):
        DeliveryWait.__new__(DeliveryWait)
    with pytest.raises(TypeError):
        object.__new__(DeliveryWait)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_wait_cannot_be_copied(duplicate: Callable[[object], object]) -> None:
    delivery, _ = one(Core())
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        duplicate(wait_of(delivery))


def test_waits_and_deliveries_say_of_what_they_are() -> None:
    assert str(Delivery[RecordMetadata]).endswith("Delivery[aioproducer.records.RecordMetadata]")  # type: ignore[misc]
    assert str(DeliveryWait[RecordMetadata]).startswith("aioproducer")  # type: ignore[misc]


class Canary:
    """Something of the user's, to see whether it is let go."""


@pytest.mark.parametrize("end", ["stored", "failed", "cancelled"])
async def test_a_wait_that_is_kept_keeps_nothing_of_who_waited(end: str) -> None:
    delivery, batch = one()
    canary = Canary()
    gone = weakref.ref(canary)
    wait = wait_of(delivery)

    async def waits(canary: Canary) -> None:
        with contextlib.suppress(NetworkError):
            await wait
        assert canary

    task = asyncio.create_task(waits(canary))
    await turn()
    if end == "cancelled":
        task.cancel()
    else:
        from_the_loop(lambda: complete(batch) if end == "stored" else fail(batch))
    await asyncio.wait([task])
    del task, canary
    await turn()
    gc.collect()
    assert gone() is None


def test_a_wait_that_was_closed_keeps_nothing_of_who_waited() -> None:
    delivery, _ = one(Core())
    canary = Canary()
    gone = weakref.ref(canary)
    wait = begin(delivery)
    wait.add_done_callback(lambda _, kept=canary: kept)  # type: ignore[misc]
    wait.close()
    del canary
    assert gone() is None


async def test_a_task_that_waits_is_not_kept_by_the_delivery_after_its_end() -> None:
    delivery, batch = one()
    task = asyncio.create_task(wait_for_it(delivery))
    gone = weakref.ref(task)
    await turn()
    task.cancel()
    await asyncio.wait([task])
    del task
    gc.collect()
    assert gone() is None
    complete(batch)
