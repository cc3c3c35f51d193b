"""A producer that was started before a fork belongs to the parent alone."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from aioproducer import Producer, WrongEventLoopError
from aioproducer.testing import FakeCluster
from tests.support.programs import run

TOPIC = "payments"


def _try_to_send(producer: Producer[bytes, bytes]) -> str:
    try:
        producer.send_nowait(TOPIC, b"from the child")
    except WrongEventLoopError as error:
        return str(error)
    return "accepted"


def _in_child(producer: Producer[bytes, bytes]) -> str:
    """Fork; return what the child got for its call."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, _try_to_send(producer).encode())
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
