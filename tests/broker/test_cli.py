"""`aioproducer produce` into a real Kafka, read back by an independent consumer."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import pytest

from tests.support.kafka import consume, create_topic, end_offsets
from tests.support.programs import finish, produce, running
from tools.kafka import Kafka


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_a_million_lines_are_a_million_records(kafka: Kafka, topic: str) -> None:
    lines = b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    finished = await produce("-b", kafka.bootstrap_servers, "-t", topic, text=lines)
    assert finished.code == 0
    assert "1,000,000 records acknowledged, 0 failed" in finished.err
    assert sum(end_offsets(kafka, topic).values()) == 1_000_000


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_codec_stores_every_line_once(kafka: Kafka, topic: str, codec: str) -> None:
    lines = [b"line number %d" % number for number in range(20_000)]
    finished = await produce(
        "-b", kafka.bootstrap_servers, "-t", topic, "-z", codec, text=b"\n".join(lines)
    )
    assert finished.code == 0
    assert sorted(one.value or b"" for one in consume(kafka, topic)) == sorted(lines)


async def test_keys_and_headers_are_stored_and_a_key_keeps_its_order(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    lines = [(b"key-%d" % (number % 7), b"%d" % number) for number in range(1_000)]
    path = tmp_path / "lines"
    path.write_bytes(b"".join(key + b"||" + value + b"\n" for key, value in lines))
    arguments = ["-t", topic, "-K", "||", "-H", "from=test", "-H", "none", "-l", str(path)]
    finished = await produce("-b", kafka.bootstrap_servers, *arguments)
    assert finished.code == 0
    stored = consume(kafka, topic)
    assert {one.headers for one in stored} == {(("from", b"test"), ("none", None))}
    for key in {key for key, _ in lines}:
        expected = [value for line_key, value in lines if line_key == key]
        assert [one.value for one in stored if one.key == key] == expected


async def test_all_lines_go_to_the_partition_asked_for(kafka: Kafka, topic: str) -> None:
    finished = await produce(
        "-b", kafka.bootstrap_servers, "-t", topic, "-p", "2", text=b"one\ntwo\n"
    )
    assert finished.code == 0
    assert [(one.partition, one.value) for one in consume(kafka, topic)] == [
        (2, b"one"),
        (2, b"two"),
    ]


async def test_what_the_broker_refuses_is_counted(kafka: Kafka) -> None:
    topic = create_topic(kafka, config={"max.message.bytes": "1000"})
    lines = b"small\n" + b"x" * 5_000 + b"\n"
    finished = await produce("-b", kafka.bootstrap_servers, "-t", topic, "-p", "0", text=lines)
    assert finished.code == 1
    assert "1 records acknowledged, 1 failed" in finished.err
    assert "TooLarge" in finished.err
    assert [one.value for one in consume(kafka, topic)] == [b"small"]


async def test_ctrl_c_flushes_and_the_report_is_what_is_stored(kafka: Kafka, topic: str) -> None:
    arguments = ["-m", "aioproducer", "produce", "-b", kafka.bootstrap_servers, "-t", topic]
    async with running(*arguments) as process:
        assert process.stdin is not None
        async with asyncio.timeout(10):
            for _ in range(200):
                process.stdin.write(b"a line of text\n" * 1_000)
                await process.stdin.drain()
        process.send_signal(signal.SIGINT)
        finished = await finish(process)
    assert finished.code == 130
    found = re.search(r"([\d,]+) records acknowledged, 0 failed", finished.err)
    assert found
    stored = sum(end_offsets(kafka, topic).values())
    assert int(found[1].replace(",", "")) == stored > 0
