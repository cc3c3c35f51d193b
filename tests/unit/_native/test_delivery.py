"""Deliveries: who waits, is notified, gives up, and what is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, cast

import pytest

from aioproducer._native.record_batch import Delivery, RecordBatch
from aioproducer.errors import NetworkError
from aioproducer.records import RecordMetadata
from tests.support.core import TOPIC, Core, Outcome, append_outcome_to, append_to
from tests.support.deliveries import (
    STORED,
    complete,
    fail,
    from_the_loop,
    one,
    turn,
    wait_for_it,
    waiting,
)

SOON = 0.005
"""A bound that is to be reached, in seconds."""

number: contextvars.ContextVar[int] = contextvars.ContextVar("number")


# ---- what asyncio takes it for


async def test_a_pending_delivery_is_no_future_to_asyncio() -> None:
    # Who takes it for one cancels it where he only wants to end his wait.
    delivery, batch = one()
    anything: Any = delivery
    assert not asyncio.isfuture(anything)
    task = asyncio.ensure_future(anything)
    assert isinstance(task, asyncio.Task)
    from_the_loop(lambda: complete(batch))
    assert await task == STORED


@pytest.mark.parametrize("end", [complete, fail])
async def test_a_delivery_whose_outcome_is_known_is_a_future_to_asyncio(
    end: Callable[[RecordBatch], None],
) -> None:
    delivery, batch = one()
    end(batch)
    anything: Any = delivery
    assert asyncio.isfuture(anything)
    assert asyncio.ensure_future(anything) is delivery


async def test_a_delivery_knows_the_loop_of_its_producer() -> None:
    delivery, _ = one()
    assert delivery.get_loop() is asyncio.get_running_loop()


async def test_wait_takes_a_delivery_as_it_is() -> None:
    delivery, batch = one()
    from_the_loop(lambda: complete(batch))
    # A future by protocol, not by class, which is what the types ask for.
    future = cast("asyncio.Future[RecordMetadata]", delivery)
    done, _ = await asyncio.wait({future})
    assert done == {future}


# ---- awaiting


async def test_awaiting_before_the_outcome_gives_it_when_it_comes() -> None:
    delivery, batch = one()
    from_the_loop(lambda: complete(batch))
    assert await delivery == STORED


async def test_awaiting_after_the_outcome_gives_it_at_once() -> None:
    delivery, batch = one()
    complete(batch)
    assert await delivery == STORED


async def test_awaiting_a_record_that_fails_raises() -> None:
    delivery, batch = one()
    from_the_loop(lambda: fail(batch))
    with pytest.raises(NetworkError, match="gone"):
        await delivery


async def test_awaiting_a_record_that_failed_raises() -> None:
    delivery, batch = one()
    fail(batch)
    with pytest.raises(NetworkError, match="gone"):
        await delivery


async def test_awaiting_in_the_turn_of_completion_before_the_waking_gives_the_outcome() -> None:
    delivery, batch = one()
    task = waiting(delivery)
    await turn()
    batch.complete(7)
    batch.wake(False)
    assert await delivery == STORED
    assert await task == STORED


async def test_a_delivery_can_be_awaited_again() -> None:
    delivery, batch = one()
    complete(batch)
    assert [await delivery, await delivery] == [STORED, STORED]


@pytest.mark.parametrize("direct", [True, False])
async def test_two_tasks_may_await_one_delivery(direct: bool) -> None:
    delivery, batch = one()
    tasks = [waiting(delivery), waiting(delivery)]
    await turn()
    from_the_loop(lambda: complete(batch, direct=direct))
    assert await asyncio.gather(*tasks) == [STORED, STORED]


@pytest.mark.parametrize("direct", [True, False])
async def test_two_tasks_that_await_a_failing_delivery_both_raise(direct: bool) -> None:
    delivery, batch = one()
    tasks = [waiting(delivery), waiting(delivery)]
    await turn()
    from_the_loop(lambda: fail(batch, direct=direct))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [NetworkError, NetworkError]


async def test_waking_directly_runs_the_waiter_at_once() -> None:
    delivery, batch = one()
    task = waiting(delivery)
    await turn()
    done: list[bool] = []

    def answer() -> None:
        complete(batch, direct=True)
        done.append(task.done())

    from_the_loop(answer)
    await turn()
    assert done == [True]


async def test_waking_indirectly_leaves_the_waiter_to_the_loop() -> None:
    delivery, batch = one()
    task = waiting(delivery)
    await turn()
    complete(batch, direct=False)
    assert not task.done()
    await turn()
    assert task.done()


async def test_a_loop_of_awaits_suspends_only_while_the_outcome_is_unknown() -> None:
    deliveries = [one() for _ in range(3)]
    for _, batch in deliveries[:2]:
        complete(batch)
    from_the_loop(lambda: complete(deliveries[2][1]))
    assert [await delivery for delivery, _ in deliveries] == [STORED] * 3


async def test_a_record_knows_its_waiters_only_when_there_are_any() -> None:
    core = Core(asyncio.get_running_loop())
    deliveries = [core.put() for _ in range(3)]
    batch = core.take()
    assert batch.waiter_count == 0
    task = waiting(deliveries[1])
    await turn()
    assert batch.waiter_count == 1
    from_the_loop(lambda: complete(batch))
    assert (await task).offset == 8
    assert batch.waiter_count == 0


# ---- asyncio's functions


async def test_gather_gives_the_results_in_order() -> None:
    pairs = [one() for _ in range(3)]
    for _, batch in reversed(pairs):
        from_the_loop(partial(complete, batch))
    assert await asyncio.gather(*(delivery for delivery, _ in pairs)) == [STORED] * 3


async def test_gather_raises_the_error_of_a_failed_one() -> None:
    (good, good_batch), (bad, bad_batch) = one(), one()
    from_the_loop(lambda: complete(good_batch), lambda: fail(bad_batch))
    with pytest.raises(NetworkError):
        await asyncio.gather(good, bad)


async def test_gather_returns_errors_when_asked_to() -> None:
    (good, good_batch), (bad, bad_batch) = one(), one()
    from_the_loop(lambda: complete(good_batch), lambda: fail(bad_batch))
    found: Any = await asyncio.gather(good, bad, return_exceptions=True)
    assert found[0] == STORED
    assert isinstance(found[1], NetworkError)


async def test_cancelling_a_gather_ends_the_wait_and_not_the_records() -> None:
    pairs = [one() for _ in range(2)]

    async def gather() -> object:
        return await asyncio.gather(*(delivery for delivery, _ in pairs))

    task = asyncio.create_task(gather())
    await turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for delivery, batch in pairs:
        complete(batch)
        assert await delivery == STORED


async def test_a_gather_after_a_cancelled_one_waits_for_the_records() -> None:
    delivery, batch = one()

    async def gather() -> list[RecordMetadata]:
        return await asyncio.gather(*[delivery])

    task = asyncio.create_task(gather())
    await turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    from_the_loop(lambda: complete(batch))
    assert await gather() == [STORED]


async def test_a_cancelled_gather_leaves_another_gather_alone() -> None:
    delivery, batch = one()

    async def gather() -> list[RecordMetadata]:
        return await asyncio.gather(*[delivery])

    leaving, staying = asyncio.create_task(gather()), asyncio.create_task(gather())
    await turn()
    leaving.cancel()
    await turn()
    assert not staying.done()
    from_the_loop(lambda: complete(batch))
    assert await staying == [STORED]


async def test_a_timeout_of_one_caller_leaves_the_others_waiting() -> None:
    delivery, batch = one()
    staying = waiting(delivery)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(delivery, SOON)
    assert not staying.done()
    from_the_loop(lambda: complete(batch))
    assert await staying == STORED


async def test_wait_returns_in_time_and_leaves_the_delivery_pending() -> None:
    delivery, batch = one()
    future = cast("asyncio.Future[RecordMetadata]", delivery)
    done, pending = await asyncio.wait({future}, timeout=SOON)
    assert (done, pending) == (set(), {future})
    complete(batch)
    assert await delivery == STORED


async def test_as_completed_gives_each_result_as_it_comes() -> None:
    (first, first_batch), (second, second_batch) = one(), one()
    # Once the tasks that asyncio makes for the two have begun to wait.
    from_the_loop(lambda: from_the_loop(lambda: fail(second_batch), lambda: complete(first_batch)))
    found: list[object] = []
    coming: Awaitable[RecordMetadata]
    for coming in asyncio.as_completed([first, second]):
        try:
            found.append(await coming)
        except NetworkError as error:
            found.append(type(error))
    assert found == [NetworkError, STORED]


async def test_wait_for_gives_the_result_in_time() -> None:
    delivery, batch = one()
    from_the_loop(lambda: complete(batch))
    assert await asyncio.wait_for(delivery, 5) == STORED


async def test_wait_for_times_out_promptly() -> None:
    delivery, batch = one()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(delivery, SOON)
    complete(batch)


async def test_a_record_goes_on_after_a_timeout_and_can_be_awaited_again() -> None:
    delivery, batch = one()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(delivery, SOON)
    from_the_loop(lambda: complete(batch))
    assert await delivery == STORED


async def test_a_second_timeout_is_a_timeout_again() -> None:
    delivery, batch = one()
    for _ in range(2):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(delivery, SOON)
    complete(batch)


async def test_a_timeout_block_ends_the_wait_and_not_the_record() -> None:
    delivery, batch = one()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await delivery
    complete(batch)
    assert await delivery == STORED


async def test_shield_gives_the_result() -> None:
    delivery, batch = one()
    from_the_loop(lambda: complete(batch))
    assert await asyncio.shield(delivery) == STORED


async def test_cancelling_a_shielded_wait_leaves_the_delivery_alone() -> None:
    delivery, batch = one()

    async def shielded() -> RecordMetadata:
        return await asyncio.shield(delivery)

    task = asyncio.create_task(shielded())
    await turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not delivery.cancelled()
    complete(batch)
    assert delivery.result() == STORED


async def test_a_task_group_waits_for_deliveries() -> None:
    delivery, batch = one()
    from_the_loop(lambda: complete(batch))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(wait_for_it(delivery))
    assert task.result() == STORED


async def test_a_failing_task_of_a_group_ends_the_wait_of_the_others() -> None:
    delivery, batch = one()

    async def fails() -> None:
        raise ValueError

    tasks: list[asyncio.Task[RecordMetadata]] = []
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            tasks.append(group.create_task(wait_for_it(delivery)))
            await turn()
            group.create_task(fails())
    assert tasks[0].cancelled()
    complete(batch)


# ---- cancelling


async def test_cancelling_a_task_stops_its_wait_at_once() -> None:
    delivery, batch = one()
    task = waiting(delivery)
    await turn()
    task.cancel()
    await turn()
    assert task.cancelled()
    complete(batch)


async def test_cancelling_a_task_does_not_stop_the_record() -> None:
    delivery, batch = one()
    task = waiting(delivery)
    await turn()
    task.cancel()
    await turn()
    assert (delivery.done(), delivery.cancelled()) == (False, False)
    complete(batch)
    assert (delivery.done(), delivery.cancelled()) == (True, False)
    assert await delivery == STORED


async def test_cancelling_one_of_two_waiting_tasks_leaves_the_other_waiting() -> None:
    delivery, batch = one()
    leaving, staying = waiting(delivery), waiting(delivery)
    await turn()
    leaving.cancel()
    await turn()
    assert leaving.cancelled()
    assert not staying.done()
    from_the_loop(lambda: complete(batch))
    assert await staying == STORED


@pytest.mark.parametrize("direct", [True, False])
async def test_the_other_task_gets_the_outcome_that_comes_in_the_turn_of_a_cancellation(
    direct: bool,
) -> None:
    delivery, batch = one()
    leaving, staying = waiting(delivery), waiting(delivery)
    await turn()
    from_the_loop(lambda: leaving.cancel(), lambda: complete(batch, direct=direct))
    assert await staying == STORED
    await turn()
    assert leaving.cancelled()


@pytest.mark.parametrize("direct", [True, False])
async def test_a_cancellation_before_the_outcome_in_one_turn_still_cancels(direct: bool) -> None:
    delivery, batch = one()
    task = waiting(delivery)
    await turn()
    from_the_loop(lambda: task.cancel(), lambda: complete(batch, direct=direct))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await delivery == STORED


async def test_a_cancellation_after_the_outcome_and_before_the_waking_still_cancels() -> None:
    delivery, batch = one()
    task = waiting(delivery)
    await turn()
    from_the_loop(lambda: complete(batch, direct=False), lambda: task.cancel())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await delivery == STORED


async def test_a_task_that_waits_again_after_its_cancellation_gets_the_outcome() -> None:
    delivery, batch = one()

    async def persistent() -> RecordMetadata:
        try:
            return await wait_for_it(delivery)
        except asyncio.CancelledError:
            return await wait_for_it(delivery)

    task = asyncio.create_task(persistent())
    await turn()
    task.cancel()
    await turn()
    assert not task.done()
    from_the_loop(lambda: complete(batch))
    assert await task == STORED


async def test_a_delivery_itself_cannot_be_cancelled() -> None:
    delivery, batch = one()
    notified: list[Delivery] = []
    delivery.add_done_callback(notified.append)
    assert not delivery.cancel()
    assert not delivery.cancel("why")
    assert not delivery.cancelled()
    await turn()
    assert notified == []
    from_the_loop(lambda: complete(batch))
    assert await delivery == STORED
    assert notified == [delivery]


async def test_cancelling_a_delivery_with_an_outcome_does_nothing() -> None:
    delivery, batch = one()
    complete(batch)
    assert not delivery.cancel()
    assert not delivery.cancelled()
    assert await delivery == STORED


async def test_on_delivery_gets_the_true_outcome_after_a_cancelled_wait() -> None:
    notified: list[Outcome] = []
    core = Core(asyncio.get_running_loop())
    delivery = core.put(on_delivery=append_outcome_to(notified))
    batch = core.take()
    task = waiting(delivery)
    await turn()
    task.cancel()
    await turn()
    assert notified == []
    complete(batch)
    assert notified == [(STORED, None)]


# ---- result and exception


async def test_a_pending_delivery_has_no_result_yet() -> None:
    delivery, batch = one()
    assert not delivery.done()
    with pytest.raises(asyncio.InvalidStateError):
        delivery.result()
    with pytest.raises(asyncio.InvalidStateError):
        delivery.exception()
    complete(batch)


async def test_a_stored_record_has_a_result_and_no_exception() -> None:
    delivery, batch = one()
    complete(batch)
    assert delivery.done()
    assert delivery.result() == STORED
    assert delivery.exception() is None


async def test_a_failed_record_has_an_exception_and_raises_it() -> None:
    delivery, batch = one()
    fail(batch)
    assert delivery.done()
    assert isinstance(delivery.exception(), NetworkError)
    with pytest.raises(NetworkError):
        delivery.result()


async def test_each_record_of_a_failed_batch_raises_an_instance_of_its_own() -> None:
    core = Core(asyncio.get_running_loop())
    deliveries = [core.put() for _ in range(3)]
    batch = core.take()
    fail(batch)
    errors = [delivery.exception() for delivery in deliveries]
    assert len({id(error) for error in [*errors, batch.error]}) == 4


async def test_one_record_raises_a_fresh_error_each_time() -> None:
    # One that was kept would hold, by its traceback, the frame that holds the delivery.
    delivery, batch = one()
    fail(batch)
    error = delivery.exception()
    with pytest.raises(NetworkError) as caught:
        await delivery
    assert caught.value is not error
    assert str(caught.value) == str(error)


async def test_offset_and_timestamp_are_the_records_own() -> None:
    core = Core(asyncio.get_running_loop())
    deliveries = [core.put(timestamp_ms=at) for at in (30, 10, 20)]
    batch = core.take()
    batch.complete(100)
    found = [(m.offset, m.timestamp_ms, m.is_log_append_time) for m in map(result, deliveries)]
    assert found == [(100, 30, False), (101, 10, False), (102, 20, False)]


async def test_the_brokers_timestamp_stands_for_all_records_under_log_append_time() -> None:
    core = Core(asyncio.get_running_loop())
    deliveries = [core.put(timestamp_ms=at) for at in (30, 10)]
    batch = core.take()
    batch.complete(100, 555)
    found = [(m.offset, m.timestamp_ms, m.is_log_append_time) for m in map(result, deliveries)]
    assert found == [(100, 555, True), (101, 555, True)]


async def test_an_unknown_offset_is_unknown_for_every_record() -> None:
    core = Core(asyncio.get_running_loop())
    deliveries = [core.put() for _ in range(2)]
    core.take().complete(-1)
    assert [result(delivery).offset for delivery in deliveries] == [-1, -1]


async def test_an_offset_beyond_any_log_is_unknown() -> None:
    core = Core(asyncio.get_running_loop())
    deliveries = [core.put() for _ in range(2)]
    core.take().complete(2**63 - 1)
    assert [result(delivery).offset for delivery in deliveries] == [-1, -1]
    last = core.put()
    core.take().complete(2**63 - 1)
    assert result(last).offset == 2**63 - 1


def result(delivery: Delivery) -> RecordMetadata:
    return delivery.result()


# ---- callbacks


async def test_a_done_callback_is_called_with_the_delivery() -> None:
    delivery, batch = one()
    notified: list[Delivery] = []
    delivery.add_done_callback(notified.append)
    complete(batch)
    assert notified == [delivery]


async def test_a_done_callback_added_late_is_called_by_the_loop() -> None:
    delivery, batch = one()
    complete(batch)
    notified: list[Delivery] = []
    delivery.add_done_callback(notified.append)
    assert notified == []
    await turn()
    assert notified == [delivery]


async def test_done_callbacks_run_in_the_order_in_which_they_were_added() -> None:
    delivery, batch = one()
    notified: list[int] = []
    for index in range(3):
        delivery.add_done_callback(append_to(notified, index))
    complete(batch, direct=False)
    await turn()
    assert notified == [0, 1, 2]


async def test_a_removed_callback_is_not_called() -> None:
    delivery, batch = one()
    notified: list[str] = []

    def unwanted(_: Delivery) -> None:
        notified.append("unwanted")

    delivery.add_done_callback(unwanted)
    delivery.add_done_callback(lambda _: notified.append("wanted"))
    delivery.add_done_callback(unwanted)
    assert delivery.remove_done_callback(unwanted) == 2
    assert delivery.remove_done_callback(unwanted) == 0
    complete(batch)
    assert notified == ["wanted"]


async def test_removing_from_a_delivery_without_callbacks_removes_none() -> None:
    delivery, batch = one()
    assert delivery.remove_done_callback(print) == 0
    complete(batch)


async def test_a_callback_runs_in_the_context_in_which_it_was_added() -> None:
    delivery, batch = one()
    seen: list[int] = []
    number.set(1)
    delivery.add_done_callback(lambda _: seen.append(number.get()))
    number.set(2)
    complete(batch, direct=False)
    await turn()
    assert seen == [1]


async def test_a_callback_runs_in_the_context_it_was_given() -> None:
    delivery, batch = one()
    seen: list[int] = []
    context = contextvars.copy_context()
    context.run(number.set, 5)
    delivery.add_done_callback(lambda _: seen.append(number.get()), context=context)
    from_the_loop(lambda: complete(batch))
    await turn()
    assert seen == [5]


async def test_an_awaiting_task_keeps_its_context_when_woken_directly() -> None:
    delivery, batch = one()

    async def waits() -> int:
        number.set(3)
        await delivery
        return number.get()

    task = asyncio.create_task(waits())
    await turn()
    number.set(4)
    from_the_loop(lambda: complete(batch))
    assert await task == 3
    assert number.get() == 4


async def test_a_callback_that_raises_is_reported_and_harms_nothing_else() -> None:
    core = Core(asyncio.get_running_loop())
    reported: list[dict[str, Any]] = []
    core.loop.set_exception_handler(lambda _, context: reported.append(context))
    first, second = core.put(), core.put()
    batch = core.take()
    notified: list[Delivery] = []

    def breaks(_: Delivery) -> None:
        raise ValueError("mine")

    first.add_done_callback(breaks)
    first.add_done_callback(notified.append)
    second.add_done_callback(notified.append)
    complete(batch)
    assert notified == [first, second]
    assert [str(context["exception"]) for context in reported] == ["mine"]


@pytest.mark.parametrize("direct", [True, False])
async def test_an_on_delivery_that_raises_is_reported_and_harms_nothing_else(direct: bool) -> None:
    core = Core(asyncio.get_running_loop())
    reported: list[dict[str, Any]] = []
    core.loop.set_exception_handler(lambda _, context: reported.append(context))
    notified: list[int] = []

    def breaks(*_: object) -> None:
        raise ValueError("mine")

    core.put(on_delivery=breaks)
    core.put(on_delivery=append_to(notified, 1))
    complete(core.take(), direct=direct)
    await turn()
    assert notified == [1]
    assert [str(context["exception"]) for context in reported] == ["mine"]


@pytest.mark.parametrize("direct", [True, False])
async def test_on_delivery_runs_in_the_order_of_the_records(direct: bool) -> None:
    core = Core(asyncio.get_running_loop())
    notified: list[int] = []
    for index in range(20):
        core.put(on_delivery=append_to(notified, index))
    complete(core.take(), direct=direct)
    await turn()
    assert notified == list(range(20))


async def test_on_delivery_runs_before_whoever_waits_for_the_same_record() -> None:
    core = Core(asyncio.get_running_loop())
    notified: list[str] = []
    delivery = core.put(on_delivery=append_to(notified, "on_delivery"))
    delivery.add_done_callback(lambda _: notified.append("waiter"))
    complete(core.take())
    assert notified == ["on_delivery", "waiter"]


async def test_on_delivery_gets_the_error_of_a_failed_record() -> None:
    core = Core(asyncio.get_running_loop())
    notified: list[Outcome] = []
    delivery = core.put(on_delivery=append_outcome_to(notified))
    fail(core.take())
    assert [(metadata, str(error)) for metadata, error in notified] == [
        (None, str(delivery.exception()))
    ]


@pytest.mark.parametrize("direct", [True, False])
async def test_on_delivery_runs_in_the_context_of_its_send(direct: bool) -> None:
    core = Core(asyncio.get_running_loop())
    seen: list[int] = []
    for request in (1, 2):
        number.set(request)
        core.put(on_delivery=lambda metadata, error: seen.append(number.get()))
    number.set(3)
    complete(core.take(), direct=direct)
    await turn()
    assert seen == [1, 2]


@pytest.mark.parametrize("direct", [True, False])
async def test_what_on_delivery_sets_in_its_context_is_seen_by_nobody_else(direct: bool) -> None:
    core = Core(asyncio.get_running_loop())
    seen: list[int] = []
    number.set(1)
    core.put(on_delivery=lambda metadata, error: number.set(2))
    core.put(on_delivery=lambda metadata, error: seen.append(number.get()))
    complete(core.take(), direct=direct)
    await turn()
    assert seen == [1]
    assert number.get() == 1


async def test_on_delivery_is_called_once() -> None:
    core = Core(asyncio.get_running_loop())
    notified: list[Outcome] = []
    core.put(on_delivery=append_outcome_to(notified))
    batch = core.take()
    complete(batch)
    batch.wake(True)
    assert len(notified) == 1


async def test_a_callback_may_wait_for_the_next_record() -> None:
    core = Core(asyncio.get_running_loop())
    notified: list[str] = []
    first, second = core.put(), core.put()
    batch = core.take()
    first.add_done_callback(lambda _: second.add_done_callback(lambda _: notified.append("second")))
    complete(batch)
    await turn()
    assert notified == ["second"]


class Escape(BaseException):
    """What no `except Exception` catches."""


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit, Escape, ValueError])
@pytest.mark.parametrize("by", ["on_delivery", "done callback"])
@pytest.mark.parametrize("direct", [True, False])
def test_what_a_callback_raises_is_reported_and_costs_nobody_else_anything(
    kind: type[BaseException], by: str, direct: bool
) -> None:
    core = Core()
    notified: list[int] = []

    def breaks(*_: object) -> None:
        raise kind("mine")

    if by == "on_delivery":
        delivery = core.put(on_delivery=breaks)
    else:
        delivery = core.put()
        delivery.add_done_callback(breaks)
    delivery.add_done_callback(append_to(notified, 1))
    core.put(on_delivery=append_to(notified, 2))
    complete(core.take(), direct=direct)
    core.manual.run_once()
    assert notified == [1, 2]
    (reported,) = core.manual.reported
    assert isinstance(reported["exception"], kind)
    assert reported["exception"].args == ("mine",)


def test_the_report_of_a_callback_names_it_and_the_topic_and_no_payload() -> None:
    def my_callback(*_: object) -> None:
        raise ValueError

    core = Core()
    core.put(b"secret", key=b"hidden", on_delivery=my_callback)
    complete(core.take())
    message: str = core.manual.reported[0]["message"]
    assert "my_callback" in message
    assert "clicks" in message
    assert "secret" not in message
    assert "hidden" not in message


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_callback_leaves_the_others_to_the_loop(
    kind: type[BaseException],
) -> None:
    core = Core()
    notified: list[int] = []

    def interrupts(*_: object) -> None:
        raise kind

    core.put(on_delivery=append_to(notified, 0))
    core.put(on_delivery=interrupts)
    core.put(on_delivery=append_to(notified, 2))
    with pytest.raises(kind):
        complete(core.take())
    assert notified == [0]
    assert core.manual.reported == []
    core.manual.run_once()
    assert notified == [0, 2]


def test_an_interrupt_in_one_of_several_callbacks_leaves_the_others_to_the_loop() -> None:
    core = Core()
    notified: list[int] = []

    def interrupts(*_: object) -> None:
        raise KeyboardInterrupt

    delivery = core.put()
    for callback in (append_to(notified, 0), interrupts, append_to(notified, 2)):
        delivery.add_done_callback(callback)
    with pytest.raises(KeyboardInterrupt):
        complete(core.take())
    assert notified == [0]
    core.manual.run_once()
    assert notified == [0, 2]


def test_an_interrupt_in_a_callback_leaves_the_records_other_callbacks_to_the_loop() -> None:
    core = Core()
    notified: list[Delivery] = []

    def interrupts(*_: object) -> None:
        raise KeyboardInterrupt

    delivery = core.put(on_delivery=interrupts)
    delivery.add_done_callback(notified.append)
    with pytest.raises(KeyboardInterrupt):
        complete(core.take())
    core.manual.run_once()
    assert notified == [delivery]


# ---- a loop that is run inside of what it wakes


def test_a_read_callback_may_be_entered_again_by_what_it_wakes() -> None:
    # nest_asyncio runs the loop inside of a task, and asyncio runs the reader of a socket in one
    # context, which can be entered only once at a time.
    core = Core()
    notified: list[str] = []
    first, second = core.put(), core.put()
    outer = core.take()
    third, inner = one(core)
    reader = contextvars.copy_context()
    first.add_done_callback(lambda _: reader.run(complete, inner))
    second.add_done_callback(append_to(notified, "second"))
    third.add_done_callback(append_to(notified, "third"))
    reader.run(complete, outer)
    assert notified == ["third", "second"]
    assert core.manual.reported == []


def test_after_the_waking_the_read_callback_is_in_its_context_again() -> None:
    core = Core()
    seen: list[int] = []
    delivery, batch = one(core)
    delivery.add_done_callback(lambda _: number.set(2))
    reader = contextvars.copy_context()

    def read() -> None:
        number.set(1)
        complete(batch)
        seen.append(number.get())

    reader.run(read)
    assert seen == [1]
    assert reader[number] == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_the_read_callback_is_in_its_context_again_after_an_interrupt_too(
    kind: type[BaseException],
) -> None:
    core = Core()
    seen: list[int] = []
    delivery, batch = one(core)

    def interrupts(_: Delivery) -> None:
        raise kind

    delivery.add_done_callback(interrupts)

    def read() -> None:
        number.set(1)
        with pytest.raises(kind):
            complete(batch)
        seen.append(number.get())

    contextvars.copy_context().run(read)
    assert seen == [1]


def test_a_callback_whose_context_is_in_use_further_up_is_left_to_the_loop() -> None:
    core = Core()
    notified: list[Delivery] = []
    delivery, batch = one(core)
    busy = contextvars.copy_context()
    delivery.add_done_callback(notified.append, context=busy)
    busy.run(lambda: contextvars.copy_context().run(complete, batch))
    assert notified == []
    core.manual.run_once()
    assert notified == [delivery]


def test_an_on_delivery_whose_context_is_in_use_further_up_runs_in_a_copy_of_it() -> None:
    core = Core()
    notified: list[Outcome] = []
    busy = contextvars.copy_context()
    core.accumulator.accept_record(
        TOPIC, None, b"v", None, None, 0, (append_outcome_to(notified), busy)
    )
    batch = core.take()
    busy.run(lambda: contextvars.copy_context().run(complete, batch))
    assert notified == [(STORED, None)]


def test_waking_works_outside_of_any_context_that_was_entered() -> None:
    core = Core()
    notified: list[Delivery] = []
    delivery, batch = one(core)
    delivery.add_done_callback(notified.append)

    def bare() -> None:
        complete(batch)

    thread = threading.Thread(target=bare)
    thread.start()
    thread.join()
    assert notified == [delivery]


# ---- what is left behind


class Canary:
    """Something of the user's, to see whether it is let go."""


Scenario = Callable[[Core, Canary], Awaitable[None]]


async def stored_and_awaited(core: Core, canary: Canary) -> None:
    delivery = core.put()
    batch = core.take()
    from_the_loop(lambda: complete(batch))
    await delivery
    assert canary


async def failed_and_awaited(core: Core, canary: Canary) -> None:
    delivery = core.put()
    batch = core.take()
    from_the_loop(lambda: fail(batch))
    with pytest.raises(NetworkError):
        await delivery
    assert canary


async def failed_and_looked_at(core: Core, canary: Canary) -> None:
    delivery = core.put()
    fail(core.take())
    try:
        delivery.result()
    except NetworkError:
        assert canary


async def notified_by_callback(core: Core, canary: Canary) -> None:
    delivery = core.put(on_delivery=lambda metadata, error: canary)
    delivery.add_done_callback(lambda _: (canary, delivery))
    complete(core.take())


async def cancelled(core: Core, canary: Canary) -> None:
    delivery = core.put()
    batch = core.take()

    async def waits() -> None:
        await delivery
        assert canary

    task = asyncio.create_task(waits())
    await turn()
    task.cancel()
    await turn()
    complete(batch)


@pytest.mark.parametrize(
    "scenario",
    [
        stored_and_awaited,
        failed_and_awaited,
        failed_and_looked_at,
        notified_by_callback,
        cancelled,
    ],
)
async def test_nothing_of_the_user_is_kept_after_the_outcome(
    scenario: Callable[[Core, Canary], Coroutine[Any, Any, None]],
) -> None:
    canary = Canary()
    gone = weakref.ref(canary)
    await scenario(Core(asyncio.get_running_loop()), canary)
    del canary
    await turn()
    gc.collect()
    assert gone() is None


def test_metadata_is_hashed_as_the_tuple_that_it_is() -> None:
    delivery, batch = one(Core())
    complete(batch)
    assert hash(delivery.result()) == hash(tuple(delivery.result())) == hash(STORED)


def test_a_delivery_without_a_record_cannot_be_made() -> None:
    with pytest.raises(TypeError, match=r"is made by Producer\.send"):
        Delivery()
    with pytest.raises(TypeError, match=r"is made by Producer\.send"):
        Delivery.__new__(Delivery)
    with pytest.raises(TypeError):
        object.__new__(Delivery)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_delivery_cannot_be_copied(duplicate: Callable[[object], object]) -> None:
    delivery, _ = one(Core())
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        duplicate(delivery)
