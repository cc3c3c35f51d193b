"""`aioproducer` as a process of its own: what it stores, says and returns."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest_asyncio

from aioproducer.errors import InvalidRecordError, TopicAuthorizationFailedError
from aioproducer.testing import FakeCluster
from tests.support.producing import producing
from tests.support.programs import Finished, finish, produce, run, running


@pytest_asyncio.fixture
async def cluster() -> AsyncGenerator[FakeCluster]:
    async with FakeCluster(topics={"lines": 1}) as cluster:
        yield cluster


def to(cluster: FakeCluster) -> list[str]:
    return ["-b", cluster.bootstrap_servers, "-t", "lines"]


def values(cluster: FakeCluster) -> list[bytes | None]:
    return [record.value for record in cluster.records("lines")]


def acknowledged(summary: str) -> int:
    found = re.search(r"([\d,]+) records acknowledged, 0 failed", summary)
    assert found, summary
    return int(found[1].replace(",", ""))


async def feed_forever(process: Process) -> None:
    """Write lines until the program reads no more."""
    assert process.stdin is not None
    try:
        while True:
            process.stdin.write(b"a line\n" * 10_000)
            await process.stdin.drain()
    except OSError:
        pass


async def test_each_line_of_standard_input_is_a_record_in_order(cluster: FakeCluster) -> None:
    finished = await produce(*to(cluster), text=b"one\n\ntwo\nthree")
    assert finished.code == 0
    assert values(cluster) == [b"one", b"", b"two", b"three"]
    assert finished.out == ""
    assert "4 records acknowledged, 0 failed; 11 bytes" in finished.err


async def test_files_are_read_in_the_order_given(cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(b"1\n2")
    (tmp_path / "second").write_bytes(b"3\n")
    names = ["-l", str(tmp_path / "first"), "-", str(tmp_path / "second")]
    finished = await produce(*to(cluster), *names, text=b"from a pipe")
    assert finished.code == 0
    assert values(cluster) == [b"1", b"2", b"from a pipe", b"3"]


async def test_keys_headers_and_nulls_are_stored_as_typed(cluster: FakeCluster) -> None:
    arguments = ["-K", ":", "-k", "other", "-H", "h=1", "-H", "null", "-Z"]
    finished = await produce(*to(cluster), *arguments, text=b"a:1\nno key\n:2\nb:\nc:3:4\n")
    assert finished.code == 0
    records = cluster.records("lines")
    assert [(record.key, record.value) for record in records] == [
        (b"a", b"1"),
        (b"other", b"no key"),
        (None, b"2"),
        (b"b", None),
        (b"c", b"3:4"),
    ]
    assert {record.headers for record in records} == {(("h", b"1"), ("null", None))}


async def test_without_b_the_brokers_come_from_the_environment(cluster: FakeCluster) -> None:
    finished = await produce(
        "-t", "lines", text=b"one\n", KAFKA_BOOTSTRAP_SERVERS=cluster.bootstrap_servers
    )
    assert finished.code == 0
    assert values(cluster) == [b"one"]


async def beside_a_transaction(cluster: FakeCluster, command: str) -> Finished:
    """Run a command with the options of an application that has a transaction open."""
    async with (
        producing(cluster, transactional_id="transfers") as application,
        application.transaction(),
    ):
        await application.send_and_wait("lines", b"application")
        finished = await run(
            *("-m", "aioproducer", command, "-t", "lines"),
            text=b"one\n",
            KAFKA_BOOTSTRAP_SERVERS=cluster.bootstrap_servers,
            KAFKA_TRANSACTIONAL_ID="transfers",
        )
        # It would fail if the command had started with the same id.
        await application.send_and_wait("lines", b"application")
    return finished


async def test_produce_refuses_a_transactional_id_before_it_fences(cluster: FakeCluster) -> None:
    finished = await beside_a_transaction(cluster, "produce")
    assert finished.code == 2
    (line,) = finished.err.splitlines()
    assert "transactional_id: of no use here" in line
    assert values(cluster) == [b"application"] * 2


async def test_check_leaves_out_a_transactional_id_and_says_so(cluster: FakeCluster) -> None:
    finished = await beside_a_transaction(cluster, "check")
    assert finished.code == 0, finished.out + finished.err
    assert "without transactional_id" in finished.out
    assert values(cluster) == [b"application", b"aioproducer check", b"application"]


async def test_nothing_is_said_when_quiet_and_all_is_well(cluster: FakeCluster) -> None:
    finished = await produce(*to(cluster), "-q", text=b"one\n")
    assert (finished.code, finished.err) == (0, "")


async def test_a_small_buffer_loses_nothing_and_keeps_the_order(cluster: FakeCluster) -> None:
    lines = [b"%d" % number for number in range(20_000)]
    options = ["-X", "buffer.memory=20000", "-X", "batch.size=5000"]
    finished = await produce(*to(cluster), *options, text=b"\n".join(lines))
    assert finished.code == 0
    assert values(cluster) == lines


async def test_failed_records_are_counted_with_their_reason(cluster: FakeCluster) -> None:
    cluster.fail_next("produce", TopicAuthorizationFailedError, count=None)
    finished = await produce(*to(cluster), text=b"secret\nsecret\n")
    assert finished.code == 1
    assert "0 records acknowledged, 2 failed" in finished.err
    assert "2 x TopicAuthorizationFailedError" in finished.err
    assert "secret" not in finished.err


async def test_failures_are_reported_even_when_quiet(cluster: FakeCluster) -> None:
    cluster.fail_next("produce", InvalidRecordError, count=None)
    finished = await produce(*to(cluster), "-q", text=b"one\n")
    assert finished.code == 1
    assert "1 of 1 records failed" in finished.err
    assert "InvalidRecordError" in finished.err


async def test_a_line_that_is_too_long_fails_alone(cluster: FakeCluster) -> None:
    lines = b"x" * 600 + b"\none\n" + b"x" * 500_000 + b"\n" + b"x" * 480 + b"\ntwo\n"
    finished = await produce(*to(cluster), "-X", "max.request.size=500", text=lines)
    assert finished.code == 1
    assert values(cluster) == [b"one", b"two"]
    assert "2 records acknowledged, 3 failed" in finished.err
    assert "3 x RecordTooLargeError" in finished.err


async def test_a_broker_that_is_not_there_is_reported_at_once_and_at_the_end() -> None:
    finished = await produce("-b", "127.0.0.1:1", "-t", "lines", "-X", "max.block.ms=200")
    assert finished.code == 1
    for line in finished.err.splitlines():
        assert line.startswith("aioproducer: No bootstrap server ")
        assert "127.0.0.1:1: connection refused" in line


async def test_a_topic_that_is_not_there_is_one_line() -> None:
    async with FakeCluster(auto_create_topics=False) as cluster:
        finished = await produce(*to(cluster), "-X", "max.block.ms=300", text=b"one\n")
    assert finished.code == 1
    (line,) = finished.err.splitlines()
    assert "'lines' does not exist" in line


async def test_a_partition_that_is_not_there_is_wrong_usage(cluster: FakeCluster) -> None:
    finished = await produce(*to(cluster), "-p", "7", text=b"one\n")
    assert finished.code == 2
    assert "there is no partition 7" in finished.err
    assert values(cluster) == []


async def test_ctrl_c_flushes_what_was_accepted_and_reports(cluster: FakeCluster) -> None:
    async with running("-m", "aioproducer", "produce", *to(cluster)) as process:
        feeding = asyncio.create_task(feed_forever(process))
        await cluster.received("produce", 5)
        process.send_signal(signal.SIGINT)
        await feeding
        finished = await finish(process)
    assert finished.code == 130
    assert "SIGINT: flushing" in finished.err
    assert acknowledged(finished.err) == len(values(cluster)) > 0


async def test_sigterm_ends_it_in_the_same_way_also_on_silent_input(cluster: FakeCluster) -> None:
    async with running("-m", "aioproducer", "produce", *to(cluster)) as process:
        assert process.stdin is not None
        process.stdin.write(b"one\ntwo\n")
        await cluster.received("produce")
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = (await process.stderr.read()).decode()
        assert await process.wait() == 143
    assert acknowledged(said) == 2


async def test_a_second_ctrl_c_does_not_wait_for_the_flush(cluster: FakeCluster) -> None:
    cluster.hang("produce")
    async with running("-m", "aioproducer", "produce", *to(cluster)) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"one\n")
        await cluster.received("produce")
        process.send_signal(signal.SIGINT)
        assert b"flushing" in await process.stderr.readline()
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(5):
            assert await process.wait() == 130
        said = (await process.stderr.read()).decode()
    assert "0 records acknowledged, 1 failed" in said
    assert "1 x ProducerClosedError" in said
    assert "may have been stored" in said


async def test_ctrl_c_before_a_broker_is_found_ends_at_once() -> None:
    is_tried = asyncio.Event()

    def take_and_say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_tried.set()
        writer.close()

    async with await asyncio.start_server(take_and_say_nothing, "127.0.0.1") as server:
        address = "{}:{}".format(*server.sockets[0].getsockname())
        async with running("-m", "aioproducer", "produce", "-b", address, "-t", "t") as process:
            await is_tried.wait()
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(5):
                finished = await finish(process)
    assert finished.code == 130
    assert finished.err.endswith("aioproducer: interrupted before a broker was reached\n")
    assert "Traceback" not in finished.err


async def test_nobody_there_to_read_the_report_changes_nothing(cluster: FakeCluster) -> None:
    nobody, end = os.pipe()
    os.close(nobody)
    process = await asyncio.create_subprocess_shell(printf_to(cluster), stderr=end)
    os.close(end)
    assert await process.wait() == 0
    assert values(cluster) == [b"one", b"two"]


async def test_progress_is_shown_on_a_terminal(cluster: FakeCluster) -> None:
    cluster.delay("produce", 0.6)
    terminal, end = os.openpty()
    process = await asyncio.create_subprocess_shell(printf_to(cluster), stderr=end)
    os.close(end)
    assert await process.wait() == 0
    said = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert "2 sent, 0 acknowledged, 0 failed" in said
    assert "2 records acknowledged, 0 failed" in said


def printf_to(cluster: FakeCluster) -> str:
    command = [sys.executable, "-m", "aioproducer", "produce", *to(cluster)]
    return f"printf 'one\\ntwo' | {shlex.join(command)}"
