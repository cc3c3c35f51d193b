"""A producer that was started before a fork belongs to the parent alone."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable

import pytest

from aioproducer import Producer, WrongEventLoopError
from aioproducer.integrations.web import open_producer
from aioproducer.testing import FakeCluster
from tests.support.programs import run

TOPIC = "payments"


def _try_to_send(producer: Producer[bytes, bytes]) -> str:
    try:
        producer.send_nowait(TOPIC, b"from the child")
    except WrongEventLoopError as error:
        return str(error)
    return "accepted"


def _try_to_serve(producer: Producer[bytes, bytes]) -> str:
    """Open an application with the copy, as a worker of a server that loaded it before the fork."""
    try:
        open_producer(lambda: producer).__aenter__().send(None)
    except WrongEventLoopError as error:
        return str(error)
    return "accepted"


def _in_child(
    producer: Producer[bytes, bytes], call: Callable[[Producer[bytes, bytes]], str] = _try_to_send
) -> str:
    """Fork; return what the child got for its call."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, call(producer).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        return answer.read()


async def test_the_child_of_a_fork_is_refused_and_the_parent_goes_on() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        Producer[bytes, bytes](bootstrap_servers=cluster.bootstrap_servers) as producer,
    ):
        answer = _in_child(producer)
        await producer.send_and_wait(TOPIC, b"from the parent")

        assert "before this process was forked" in answer
        assert [record.value for record in cluster.records(TOPIC)] == [b"from the parent"]


async def test_in_the_child_the_status_says_so_and_an_application_is_refused() -> None:
    async with (
        FakeCluster(topics={TOPIC: 1}) as cluster,
        Producer[bytes, bytes](bootstrap_servers=cluster.bootstrap_servers) as producer,
    ):
        said = _in_child(producer, lambda producer: producer.status().reason)
        assert said == "The producer was started before this process was forked."
        refused = _in_child(producer, _try_to_serve)
        assert "not new but left behind by a fork" in refused
        assert "return a new Producer" in refused
        assert producer.status().healthy


async def test_a_producer_that_still_looks_for_the_cluster_is_the_parents_too() -> None:
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        cluster.refuse(0)
        producer = Producer[bytes, bytes](bootstrap_servers=cluster.bootstrap_servers)
        await producer.start(wait=False)
        async with producer:
            assert "before this process was forked" in _in_child(producer)
            await cluster.accept(0)
            await producer.send_and_wait(TOPIC, b"from the parent")
        assert [record.value for record in cluster.records(TOPIC)] == [b"from the parent"]


@pytest.mark.parametrize("child", ["goes-on", "exits", "collects", "multiprocessing"])
async def test_whatever_the_child_does_the_parent_does_not_notice(child: str) -> None:
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    async with FakeCluster(topics={TOPIC: 1}) as cluster:
        # At the interpreter's end development mode complains of the copy of the loop as well.
        flags = () if child == "exits" else ("-X", "dev")
        arguments = ("-m", "tests.support.forking", cluster.bootstrap_servers, loop, child)
        finished = await run(*flags, *arguments)
        assert finished.code == 0, finished.err
        assert finished.err == ""
        *refused, closed = json.loads(finished.out)
        assert len(refused) == 7
        for said in refused:
            assert said.startswith("WrongEventLoopError")
            assert "before this process was forked" in said
        assert closed == "<UndeliveredRecords: 0>"
        assert [record.value for record in cluster.records(TOPIC)] == [
            b"before",
            b"meanwhile",
            *(b"%d" % number for number in range(10)),
        ]
        # Each request came once, over the connection that was there before the fork.
        assert len(cluster.requests_of("api_versions")) == 1
        assert len(cluster.requests_of("produce")) == 12
        cluster.expect_clean()
