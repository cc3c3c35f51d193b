"""`gather` waits for many deliveries at once: as `asyncio.gather` does, notified once per batch."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import inspect
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from aioproducer import Delivery, KafkaError, RecordMetadata, WrongEventLoopError, gather
from aioproducer._native.record_batch import RecordBatch, gather_deliveries
from aioproducer.errors import NetworkError
from tests.support.core import TOPIC, Core
from tests.support.deliveries import complete, fail, from_the_loop, one, turn, waiting


def batches(*counts: int) -> list[tuple[list[Delivery], RecordBatch]]:
    """Return batches of so many records, with their deliveries."""
    core = Core(asyncio.get_running_loop())
    return [([core.put(timestamp_ms=n) for n in range(count)], core.take()) for count in counts]


def gathering(
    deliveries: Iterable[Delivery], *, return_exceptions: bool = False
) -> asyncio.Task[list[Any]]:
    return asyncio.create_task(gather(deliveries, return_exceptions=return_exceptions))


def offsets(results: Iterable[RecordMetadata]) -> list[int]:
    return [metadata.offset for metadata in results]


def end(batch: RecordBatch, base_offset: int, *, direct: bool = True) -> None:
    batch.complete(base_offset)
    batch.wake(direct)


# ---- results


async def test_the_results_stand_in_the_order_of_the_deliveries() -> None:
    (first, first_batch), (second, second_batch) = batches(2, 3)
    mixed = [second[2], first[0], second[0], first[1], second[1]]
    task = gathering(mixed)
    await turn()
    from_the_loop(lambda: end(second_batch, 100))
    await turn()
    assert not task.done()
    from_the_loop(lambda: end(first_batch, 10))
    assert offsets(await task) == [102, 10, 100, 11, 101]


async def test_deliveries_that_are_done_need_no_turn_of_the_loop() -> None:
    ((deliveries, batch),) = batches(3)
    end(batch, 7)
    waits = gather(deliveries)
    with pytest.raises(StopIteration) as stopped:
        waits.send(None)
    assert stopped.value.value == [await delivery for delivery in deliveries]


async def test_a_batch_that_is_done_and_not_woken_yet_is_not_waited_for() -> None:
    ((deliveries, batch),) = batches(2)
    batch.complete(7)
    assert offsets(await gather(deliveries)) == [7, 8]


def generated(deliveries: list[Delivery]) -> Iterable[Delivery]:
    yield from deliveries


def keyed(deliveries: list[Delivery]) -> Iterable[Delivery]:
    return dict(enumerate(deliveries)).values()


@pytest.mark.parametrize("form", [list, tuple, iter, generated, keyed])
async def test_any_iterable_is_taken(form: Callable[[list[Delivery]], Iterable[Delivery]]) -> None:
    ((deliveries, batch),) = batches(3)
    from_the_loop(lambda: end(batch, 0))
    assert offsets(await gather(form(deliveries))) == [0, 1, 2]


async def test_the_deliveries_are_taken_at_the_call() -> None:
    ((deliveries, batch),) = batches(2)
    task = gathering(deliveries)
    deliveries.clear()
    from_the_loop(lambda: end(batch, 0))
    assert offsets(await task) == [0, 1]


async def test_of_nothing_there_are_no_results() -> None:
    assert await gather([]) == []
    assert await gather(iter(())) == []


async def test_the_same_delivery_may_be_given_twice() -> None:
    delivery, batch = one()
    from_the_loop(lambda: end(batch, 5))
    assert offsets(await gather([delivery, delivery])) == [5, 5]


async def test_several_may_gather_the_same_deliveries() -> None:
    ((deliveries, batch),) = batches(3)
    tasks = [gathering(deliveries), gathering(deliveries[1:]), gathering(reversed(deliveries))]
    alone = waiting(deliveries[1])
    await turn()
    from_the_loop(lambda: end(batch, 0))
    assert [offsets(await task) for task in tasks] == [[0, 1, 2], [1, 2], [2, 1, 0]]
    assert (await alone).offset == 1


async def test_a_hundred_thousand_records_put_one_watcher_on_each_batch() -> None:
    core = Core(asyncio.get_running_loop())
    deliveries: list[Delivery] = []
    filled: list[RecordBatch] = []
    for _ in range(100):
        deliveries += [core.put() for _ in range(1_000)]
        filled.append(core.take())
    task = gathering(deliveries)
    await turn()
    assert {batch.waiter_count for batch in filled} == {1}
    from_the_loop(*[lambda n=n: end(filled[n], 1_000 * n) for n in range(100)])
    assert offsets(await task) == list(range(100_000))


async def test_keys_that_scatter_records_over_partitions_put_one_watcher_on_each_batch() -> None:
    core = Core(asyncio.get_running_loop(), partitions=7)
    deliveries = [core.put(partition=n % 7) for n in range(700)]
    filled = [core.take(partition) for partition in range(7)]
    task = gathering(deliveries)
    await turn()
    assert {batch.waiter_count for batch in filled} == {1}
    for batch in filled:
        from_the_loop(lambda batch=batch: end(batch, 0))  # type: ignore[misc]
    assert offsets(await task) == [n // 7 for n in range(700)]


# ---- failures


async def test_the_first_failure_to_happen_is_raised_at_once() -> None:
    (first, first_batch), (second, second_batch) = batches(2, 2)
    task = gathering([*first, *second])
    await turn()
    from_the_loop(lambda: fail(second_batch))
    with pytest.raises(NetworkError, match="gone"):
        await task
    assert not first_batch.is_done
    end(first_batch, 3)
    assert offsets(await gather(first)) == [3, 4]


async def test_a_failure_that_happened_before_the_call_is_raised_at_once() -> None:
    (first, first_batch), (second, second_batch) = batches(1, 1)
    fail(second_batch)
    with pytest.raises(NetworkError):
        await gather([*first, *second])
    assert first_batch.waiter_count == 0


async def test_failures_after_the_first_say_nothing() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    (first, first_batch), (second, second_batch) = batches(1, 1)
    task = gathering([*first, *second])
    await turn()
    from_the_loop(lambda: fail(first_batch), lambda: fail(second_batch))
    with pytest.raises(NetworkError):
        await task
    gc.collect()
    await turn()
    assert reported == []


async def test_errors_stand_among_the_results_when_asked_for() -> None:
    (first, first_batch), (second, second_batch) = batches(2, 1)
    task = gathering([first[0], second[0], first[1]], return_exceptions=True)
    await turn()
    from_the_loop(lambda: fail(second_batch))
    await turn()
    assert not task.done()
    from_the_loop(lambda: end(first_batch, 4))
    results = await task
    assert [getattr(each, "offset", None) for each in results] == [4, None, 5]
    assert isinstance(results[1], NetworkError)


async def test_an_error_is_an_instance_of_its_own_each_time() -> None:
    delivery, batch = one()
    fail(batch)
    once, again = await gather([delivery, delivery], return_exceptions=True)
    assert once is not again


async def test_send_many_waits_for_all_and_raises_the_first_error_in_order() -> None:
    (first, first_batch), (second, second_batch) = batches(1, 1)
    task: asyncio.Task[list[Any]] = asyncio.create_task(
        gather_deliveries([*first, *second], True, False)
    )
    await turn()
    second_batch.fail(KafkaError("second"))
    from_the_loop(lambda: second_batch.wake(True))
    await turn()
    assert not task.done()
    first_batch.fail(KafkaError("first"))
    from_the_loop(lambda: first_batch.wake(True))
    with pytest.raises(KafkaError, match="first"):
        await task


# ---- cancelling


async def test_a_cancellation_ends_the_wait_with_its_message_and_no_record() -> None:
    ((deliveries, batch),) = batches(2)
    task = gathering(deliveries)
    await turn()
    assert task.cancel("why")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("why",)
    from_the_loop(lambda: end(batch, 0))
    assert offsets(await gather(deliveries)) == [0, 1]


async def test_a_cancellation_in_the_turn_of_the_outcome_is_a_cancellation() -> None:
    ((deliveries, batch),) = batches(2)
    task = gathering(deliveries)
    await turn()
    end(batch, 0, direct=False)
    task.cancel("late")
    with pytest.raises(asyncio.CancelledError, match="late"):
        await task


async def test_a_task_that_is_cancelled_before_its_first_step_is_cancelled() -> None:
    ((deliveries, batch),) = batches(2)
    task = gathering(deliveries)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert batch.waiter_count == 0


async def test_waits_that_are_given_up_leave_next_to_nothing_on_a_batch() -> None:
    ((deliveries, batch),) = batches(3)
    stays = gathering(deliveries)
    for _ in range(1_000):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await gather(deliveries)
    assert batch.waiter_count <= 3
    from_the_loop(lambda: end(batch, 0))
    assert offsets(await stays) == [0, 1, 2]


async def test_a_cancel_scope_of_anyio_ends_the_wait_and_nothing_else() -> None:
    anyio = pytest.importorskip("anyio")
    delivery, batch = one()
    with anyio.CancelScope() as scope:
        from_the_loop(scope.cancel)
        await gather([delivery])
    assert scope.cancelled_caught
    complete(batch)
    assert await gather([delivery]) == [await delivery]


async def test_wait_for_ends_the_wait_in_time() -> None:
    delivery, batch = one()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(gather([delivery]), 0.001)
    complete(batch)


# ---- as a coroutine


async def test_it_runs_as_a_task_of_a_group_and_in_a_shield() -> None:
    ((deliveries, batch),) = batches(2)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(gather(deliveries))
        shielded = asyncio.shield(group.create_task(gather(deliveries)))
        from_the_loop(lambda: end(batch, 1))
    assert offsets(task.result()) == offsets(await shielded) == [1, 2]


async def test_asyncio_gathers_it_with_others() -> None:
    (first, first_batch), (second, second_batch) = batches(1, 1)
    from_the_loop(lambda: end(first_batch, 1), lambda: end(second_batch, 2))
    both = await asyncio.gather(gather(first), gather(second))
    assert [offsets(each) for each in both] == [[1], [2]]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has no eager tasks")
async def test_an_eager_task_waits_too() -> None:
    loop = asyncio.get_running_loop()
    eager: dict[str, Any] = {"eager_start": True}
    ((deliveries, batch),) = batches(2)
    task: asyncio.Task[list[RecordMetadata]] = asyncio.Task(gather(deliveries), loop=loop, **eager)
    assert batch.waiter_count == 1
    from_the_loop(lambda: end(batch, 1))
    assert offsets(await task) == [1, 2]


async def test_it_is_a_coroutine_that_can_be_awaited_once() -> None:
    delivery, batch = one()
    complete(batch)
    waits = gather([delivery])
    assert asyncio.iscoroutine(waits)
    assert inspect.isawaitable(waits)
    await waits
    with pytest.raises(RuntimeError, match="already awaited"):
        await waits


async def test_two_tasks_cannot_await_the_same_one() -> None:
    delivery, batch = one()
    waits = gather([delivery])

    async def wait() -> list[RecordMetadata]:
        return await waits

    first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
    await turn()
    with pytest.raises(RuntimeError, match="being awaited already"):
        await second
    from_the_loop(lambda: complete(batch))
    assert len(await first) == 1


async def test_one_that_is_never_awaited_is_warned_of() -> None:
    delivery, batch = one()
    with pytest.warns(RuntimeWarning, match="gather' was never awaited"):
        waits = gather([delivery])
        del waits
    complete(batch)


async def test_it_can_be_neither_copied_nor_made() -> None:
    waits = gather([])
    with pytest.raises(TypeError, match="copied"):
        _ = copy.copy(waits)
    with pytest.raises(TypeError, match="made by"):
        _ = type(waits).__new__(type(waits))
    assert await waits == []


async def test_a_finished_wait_is_freed_without_a_collection() -> None:
    class Local:
        pass

    async def wait(deliveries: list[Delivery]) -> None:
        local = Local()
        kept.append(weakref.ref(local))
        await gather(deliveries)

    kept: list[weakref.ref[Local]] = []
    (first, first_batch), (second, second_batch) = batches(2, 2)
    tasks = [asyncio.create_task(wait(each)) for each in (first, [*second, *first])]
    await turn()
    gc.disable()
    try:
        from_the_loop(lambda: end(first_batch, 0), lambda: fail(second_batch))
        with contextlib.suppress(NetworkError):
            await tasks.pop()
        await tasks.pop()
        await turn()
        assert [ref() for ref in kept] == [None, None]
    finally:
        gc.enable()


# ---- what is refused


@pytest.mark.parametrize("wrong", [42, None, b"payments"])
async def test_something_else_than_deliveries_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"await producer.send\(...\)"):
        _ = gather([wrong])


async def test_a_coroutine_is_refused_with_what_takes_it() -> None:
    delivery, batch = one()
    complete(batch)

    async def send() -> Delivery:
        return delivery

    coroutine = send()
    with pytest.raises(TypeError, match=r"not a coroutine: await send\(\) first.*asyncio.gather"):
        _ = gather([coroutine])  # type: ignore[list-item]  # pyright: ignore
    await coroutine


@pytest.mark.parametrize("wrong", [42, None])
async def test_what_is_no_iterable_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="an iterable of deliveries"):
        _ = gather(wrong)


async def test_a_delivery_alone_is_refused() -> None:
    delivery, batch = one()
    complete(batch)
    with pytest.raises(TypeError, match=r"not a Delivery: gather\(\[delivery, ...\]\)"):
        _ = gather(delivery)  # type: ignore[call-overload]  # pyright: ignore


async def test_an_error_of_the_iterable_is_raised_at_the_call() -> None:
    delivery, batch = one()
    complete(batch)

    def some() -> Iterable[Delivery]:
        yield delivery
        raise LookupError

    with pytest.raises(LookupError):
        _ = gather(some())


async def test_deliveries_of_several_loops_are_refused() -> None:
    own, batch = one()
    other = Core().put()
    complete(batch)
    with pytest.raises(WrongEventLoopError, match="different event loops"):
        _ = gather([own, other])


async def test_deliveries_of_another_loop_are_refused() -> None:
    with pytest.raises(WrongEventLoopError, match="another event loop"):
        await gather([Core().put()])


async def test_another_thread_is_refused() -> None:
    delivery, batch = one()

    async def other() -> None:
        await gather([delivery])

    with pytest.raises(WrongEventLoopError, match="another event loop"):
        await asyncio.to_thread(asyncio.run, other())
    complete(batch)


# ---- batches that are replaced


async def test_a_batch_that_is_split_is_followed() -> None:
    core = Core(asyncio.get_running_loop())
    deliveries = [core.put(b"x" * 40) for _ in range(6)]
    batch = core.take()
    task = gathering(deliveries)
    await turn()
    first, second = batch.split(61 + 150)
    assert [batch.waiter_count, first.waiter_count, second.waiter_count] == [0, 1, 1]
    parts = second.split(1)
    from_the_loop(*[lambda n=n: end(parts[n], 100 + n) for n in range(3)])
    await turn()
    assert not task.done()
    from_the_loop(lambda: end(first, 0))
    assert offsets(await task) == [0, 1, 2, 100, 101, 102]


async def test_of_a_split_batch_only_the_parts_with_own_records_are_waited_for() -> None:
    core = Core(asyncio.get_running_loop())
    deliveries = [core.put(b"x" * 40) for _ in range(6)]
    batch = core.take()
    tasks = [gathering(deliveries[:3]), gathering(deliveries[3:])]
    await turn()
    first, second = batch.split(61 + 150)
    assert [first.waiter_count, second.waiter_count] == [1, 1]
    from_the_loop(lambda: end(first, 0))
    assert offsets(await tasks[0]) == [0, 1, 2]
    assert not tasks[1].done()
    from_the_loop(lambda: fail(second))
    with pytest.raises(NetworkError):
        await tasks[1]


async def test_a_refused_record_fails_the_wait_for_it_and_no_other() -> None:
    ((deliveries, batch),) = batches(6)
    tasks = [
        gathering(deliveries[:3]),
        gathering(deliveries[3:]),
        gathering(deliveries, return_exceptions=True),
    ]
    await turn()
    others, (refused,) = batch.refuse({1: KafkaError("bad")})
    assert others is not None
    from_the_loop(lambda: refused.wake(True))
    with pytest.raises(KafkaError, match="bad"):
        await tasks[0]
    assert not tasks[1].done()
    from_the_loop(lambda: end(others, 50))
    assert offsets(await tasks[1]) == [52, 53, 54]
    results = await tasks[2]
    found = [getattr(each, "offset", None) for each in results]
    assert found == [50, None, 51, 52, 53, 54]


# ---- records that wait for metadata


async def test_records_of_an_unknown_topic_are_followed_to_their_batches() -> None:
    core = Core(asyncio.get_running_loop(), partitions=0)
    deliveries = [core.put(partition=n % 3) for n in range(9)]
    tasks = [gathering(deliveries), gathering(deliveries[::3])]
    await turn()
    core.route(3, limit=4)
    assert not tasks[0].done()
    core.route(3)
    filled = [core.take(partition) for partition in range(3)]
    assert [batch.waiter_count for batch in filled] == [2, 1, 1]
    from_the_loop(lambda: end(filled[0], 0))
    assert offsets(await tasks[1]) == [0, 1, 2]
    from_the_loop(lambda: end(filled[1], 10), lambda: end(filled[2], 20))
    assert offsets(await tasks[0]) == [0, 10, 20, 1, 11, 21, 2, 12, 22]


async def test_a_batch_that_ends_before_all_got_their_partitions_is_not_waited_for() -> None:
    core = Core(asyncio.get_running_loop(), partitions=0)
    deliveries = [core.put() for _ in range(4)]
    task = gathering(deliveries)
    await turn()
    core.route(1, limit=2)
    first = core.take()
    end(first, 0)
    core.route(1)
    second = core.take()
    from_the_loop(lambda: end(second, 2))
    assert offsets(await task) == [0, 1, 2, 3]


async def test_records_whose_topic_does_not_become_known_fail() -> None:
    core = Core(asyncio.get_running_loop(), partitions=0)
    deliveries = [core.put() for _ in range(4)]
    tasks = [gathering(deliveries), gathering(deliveries, return_exceptions=True)]
    await turn()
    core.route(1, limit=2)
    stored = core.take()
    (needed,) = core.topics.needed
    core.accumulator.fail_waiting(needed, KafkaError("unknown"))
    from_the_loop(lambda: needed.batch.wake(True))
    with pytest.raises(KafkaError, match="unknown"):
        await tasks[0]
    assert not tasks[1].done()
    from_the_loop(lambda: end(stored, 0))
    found = [getattr(each, "offset", str(each)) for each in await tasks[1]]
    assert found == [0, 1, "unknown.", "unknown."]


async def test_a_record_that_gets_no_partition_fails_the_wait() -> None:
    core = Core(asyncio.get_running_loop(), partitions=0)
    deliveries = [core.put(), core.put(partition=9)]
    task = gathering(deliveries)
    await turn()
    core.set_partitions(TOPIC, 1)
    _, failed = core.accumulator.route(core.topic(), 10)
    for refused, _ in failed:
        refused.wake(False)
    with pytest.raises(KafkaError, match="no partition 9"):
        await task
    end(core.take(), 0)


# ---- what ends the program


async def test_an_interrupt_out_of_a_woken_waiter_leaves_the_others_to_the_loop() -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    ((deliveries, batch),) = batches(2)
    interrupted = gather_deliveries(deliveries, True, True)
    next(interrupted)
    interrupted.add_done_callback(interrupt)
    other = gathering(deliveries)
    await turn()
    batch.complete(0)
    with pytest.raises(KeyboardInterrupt):
        batch.wake(True)
    assert offsets(await other) == [0, 1]
