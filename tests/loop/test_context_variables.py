"""Whose context variables a callback sees: those of its own call, or nobody's."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from typing import Any

from aioproducer import KafkaError, Producer, UndeliveredRecord
from aioproducer.testing import ErrorCode, FakeCluster
from tests.support.producing import TOPIC, failure, fast, producing, prove, sender_of, until

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="nobody's")
AnyProducer = Producer[Any, Any]


async def test_on_delivery_sees_the_variables_of_its_own_call() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        seen: dict[str, str] = {}

        async def handle(name: str) -> None:
            request_id.set(name)

            def report(metadata: object, error: object) -> None:
                seen[name] = request_id.get()
                request_id.set(f"left over from {name}")

            await producer.send(TOPIC, b"x", on_delivery=report)

        names = ["alice", "bob", "carol"]
        await asyncio.gather(*(asyncio.create_task(handle(name)) for name in names))
        await producer.flush()
        assert seen == {name: name for name in names}


async def test_a_variable_that_changes_between_two_calls_is_seen_as_it_was_at_each() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        seen: list[str] = []

        def report(metadata: object, error: object) -> None:
            seen.append(request_id.get())
            request_id.set("left over")

        for name in ("first", "first", "second", "first"):
            request_id.set(name)
            producer.send_nowait(TOPIC, b"x", on_delivery=report)
        await producer.flush()
        assert seen == ["first", "first", "second", "first"]


async def test_a_record_that_waited_for_buffer_space_is_reported_in_the_context_of_its_call() -> (
    None
):
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        producing(cluster, buffer_memory=1_000) as producer,
    ):
        await prove(producer)
        seen: list[str] = []
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"x" * 800)
        request_id.set("mine")
        waiting = producer.send(
            TOPIC, b"y" * 800, on_delivery=lambda _, __: seen.append(request_id.get())
        )
        request_id.set("another's")
        cluster.release()
        await (await waiting)
        assert seen == ["mine"]


async def test_a_record_that_waited_for_metadata_is_reported_in_the_context_of_its_call() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        seen: list[str] = []
        request_id.set("mine")
        producer.send_nowait(TOPIC, b"x", on_delivery=lambda _, __: seen.append(request_id.get()))
        request_id.set("another's")
        await producer.flush()
        assert seen == ["mine"]


async def test_hooks_run_in_nobodys_context_whoever_started_the_producer() -> None:
    seen: list[str] = []

    def on_error(error: KafkaError, count: int) -> None:
        seen.append(request_id.get())

    async def on_undelivered(records: Sequence[UndeliveredRecord]) -> None:
        await asyncio.sleep(0)
        seen.append(request_id.get())

    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        request_id.set("whoever started it")
        producer: AnyProducer = Producer(
            bootstrap_servers=cluster.bootstrap_servers,
            **fast(on_error=on_error, on_undelivered=on_undelivered),
        )
        await producer.start()
        cluster.fail_next("produce", ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        await failure(producer.send_nowait(TOPIC, b"refused"))
        cluster.hang("produce")
        producer.send_nowait(TOPIC, b"given up")
        request_id.set("whoever closes it")
        assert len(await producer.close(0)) == 1
        await until(lambda: len(seen) == 3)
        assert set(seen) == {"nobody's"}
        cluster.release()


async def test_a_new_connection_runs_in_nobodys_context() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster, producing(cluster) as producer:
        await prove(producer)
        cluster.cut()
        request_id.set("whose record was first after the loss")
        await producer.send_and_wait(TOPIC, b"x")
        connection = sender_of(producer).cluster.brokers[0].connection
        assert connection is not None
        seen: list[str] = []
        connection.on_drained = lambda: seen.append(request_id.get())
        await producer.send_and_wait(TOPIC, b"x")
        await until(lambda: seen)
        assert set(seen) == {"nobody's"}
