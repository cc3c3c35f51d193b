"""A producer that was started before a fork belongs to the parent alone."""

from __future__ import annotations

import os

from aioproducer import Producer, WrongEventLoopError
from aioproducer.testing import FakeCluster


def _try_to_send(producer: Producer[bytes, bytes]) -> str:
    try:
        producer.send_nowait("payments", b"from the child")
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
        FakeCluster(topics={"payments": 1}) as cluster,
        Producer[bytes, bytes](bootstrap_servers=cluster.bootstrap_servers) as producer,
    ):
        answer = _in_child(producer)
        await producer.send_and_wait("payments", b"from the parent")

        assert "before this process was forked" in answer
        assert [record.value for record in cluster.records("payments")] == [b"from the parent"]
