"""What user code raises where the producer calls it costs nobody else anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aioproducer import Delivery, KafkaError, Producer
from aioproducer.errors import SerializationError
from aioproducer.testing import FakeCluster
from tests.support.producing import TOPIC, failure, outcome, producing, prove, until, values

AnyProducer = Producer[Any, Any]


class Oddity(BaseException):
    """No Exception, and no end of the program either."""


RAISED = pytest.mark.parametrize(
    "kind", [ValueError, asyncio.CancelledError, Oddity, GeneratorExit, StopIteration]
)


def raising(kind: type[BaseException]) -> Callable[..., Any]:
    def raises(*_: object) -> None:
        raise kind

    return raises


def reports() -> list[BaseException]:
    """Return the list of the errors that are reported to the loop from now on."""
    reported: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: reported.append(context["exception"])
    )
    return reported


@RAISED
@pytest.mark.parametrize("how", ["on_delivery", "done callback"])
async def test_a_callback_that_raises_costs_no_connection_and_no_other_record(
    kind: type[BaseException], how: str
) -> None:
    reported = reports()
    async with (
        FakeCluster(topics={TOPIC: 4}) as cluster,
        # Sent again, a record would be stored twice.
        producing(cluster, acks=1, enable_idempotence=False) as producer,
    ):
        for partition in range(4):
            await prove(producer, partition)
        cluster.hang("produce")
        deliveries: list[Delivery] = []
        for partition in range(4):
            callback = raising(kind) if how == "on_delivery" else None
            deliveries.append(
                await producer.send(TOPIC, b"x", partition=partition, on_delivery=callback)
            )
            if how == "done callback":
                deliveries[-1].add_done_callback(raising(kind))
            # Not all in one request.
            await asyncio.sleep(0.01)
        cluster.release()
        assert [(await delivery).offset for delivery in deliveries] == [1] * 4
        assert len(cluster.records(TOPIC)) == 8
        assert producer.metrics()["batch_retry_total"] == 0
        # Who waits for a record is woken before the callbacks of those behind it.
        await until(lambda: len(reported) == 4)
        assert {type(error) for error in reported} == {kind}


@RAISED
@pytest.mark.parametrize("where", ["call", "routing", "room"])
async def test_a_partitioner_that_raises_fails_its_own_record_only(
    kind: type[BaseException], where: str
) -> None:
    def partitioner(topic: str, key: bytes | None, partitions: object, available: object) -> int:
        if key == b"bad":
            raise kind
        return 0

    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, partitioner=partitioner, buffer_memory=1_000) as producer,
    ):
        if where != "routing":
            await producer.send_and_wait(TOPIC, b"first")
        if where == "room":
            cluster.hang("produce")
            producer.send_nowait(TOPIC, b"x" * 700)

        async def send(key: bytes) -> None:
            await producer.send_and_wait(TOPIC, key, key=key)

        sending = [asyncio.create_task(send(key)) for key in (b"a", b"bad", b"b")]
        await asyncio.sleep(0.01)
        cluster.release()
        results = await asyncio.gather(*sending, return_exceptions=True)
        assert isinstance(results[1], KafkaError)
        assert type(results[1].__cause__) is kind or kind is StopIteration
        assert values(cluster)[-2:] == [b"a", b"b"]


@RAISED
async def test_a_serializer_that_raises_fails_its_own_call_only(kind: type[BaseException]) -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, value_serializer=raising(kind)) as producer,
    ):
        with pytest.raises(SerializationError):
            await producer.send(TOPIC, b"x")
        assert (await producer.send_and_wait(TOPIC, None, key=b"k")).offset == 0


@RAISED
async def test_hooks_that_raise_are_reported(kind: type[BaseException]) -> None:
    reported = reports()
    async with FakeCluster(topics={TOPIC: 1}, auto_create_topics=False) as cluster:
        producer: AnyProducer = Producer(
            bootstrap_servers=cluster.bootstrap_servers,
            max_block_ms=300,
            on_error=raising(kind),
            on_undelivered=raising(kind),
        )
        await producer.start()
        await failure(producer.send_nowait("missing", b"x"))
        await producer.send_and_wait(TOPIC, b"x")
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"y")
        assert len(await producer.close(0)) == 1
        await asyncio.sleep(0)
        cluster.release()
    # The hook of errors for either loss, that of the close once.
    assert [type(error) for error in reported] == [kind] * 3


def test_an_interrupt_from_a_partitioner_that_routes_passes_once_all_are_routed() -> None:
    def partitioner(topic: str, key: bytes | None, partitions: object, available: object) -> int:
        if key == b"bad":
            raise KeyboardInterrupt
        return 0

    async def main() -> list[bytes]:
        async with (
            FakeCluster(topics={TOPIC: 1}) as cluster,
            producing(cluster, partitioner=partitioner) as producer,
        ):
            keys = (b"a", b"bad", b"b")
            deliveries = [producer.send_nowait(TOPIC, key, key=key) for key in keys]
            results = [await outcome(delivery) for delivery in deliveries]
            assert isinstance(results[1], KafkaError)
            return values(cluster)

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        assert loop.run_until_complete(task) == [b"a", b"b"]


async def test_a_done_callback_that_is_no_function_of_one_argument_is_reported() -> None:
    reported = reports()
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        delivery = producer.send_nowait(TOPIC, b"x")
        delivery.add_done_callback(lambda: None)  # type: ignore[arg-type,misc]  # pyright: ignore
        assert (await delivery).offset == 0
        assert [type(error) for error in reported] == [TypeError]
