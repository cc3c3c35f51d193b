"""Records out of a stream of bytes: every cut of the stream gives the same records."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.cli.lines import RecordSplitter, read_chunks


def split(chunks: list[bytes], delimiter: bytes = b"\n", max_size: int = 1_000) -> list[bytes]:
    splitter = RecordSplitter(delimiter, max_size)
    records = [record for chunk in chunks for record in splitter.feed(chunk)]
    return records + splitter.end()


def test_each_line_is_a_record() -> None:
    assert split([b"one\ntwo\n"]) == [b"one", b"two"]


def test_the_last_line_may_lack_its_end() -> None:
    assert split([b"one\ntwo"]) == [b"one", b"two"]


def test_empty_lines_are_records() -> None:
    assert split([b"\n\none\n"]) == [b"", b"", b"one"]


def test_a_line_may_come_in_pieces() -> None:
    assert split([b"o", b"n", b"e\nt", b"wo\n"]) == [b"one", b"two"]


def test_a_delimiter_may_come_in_pieces() -> None:
    assert split([b"one|", b"|two||", b"|"], b"||") == [b"one", b"two", b"|"]


@given(st.lists(st.binary(max_size=6)), st.sampled_from([b"\n", b"\0\0", b"aba"]))
def test_the_cuts_make_no_difference(chunks: list[bytes], delimiter: bytes) -> None:
    whole = b"".join(chunks).split(delimiter)
    assert split(chunks, delimiter) == (whole if whole[-1] else whole[:-1])


def test_files_do_not_run_into_each_other() -> None:
    splitter = RecordSplitter(b"\n", 100)
    assert splitter.feed(b"one") == []
    assert splitter.end() == [b"one"]
    assert splitter.feed(b"two\n") == [b"two"]


def test_a_record_that_is_too_long_is_skipped_and_counted_once() -> None:
    splitter = RecordSplitter(b"||", 10)
    assert splitter.feed(b"x" * 11) == []
    assert splitter.feed(b"x" * 50) == []
    assert splitter.feed(b"x|") == []
    assert splitter.feed(b"|next||") == [b"next"]
    assert splitter.take_skipped() == 1
    assert splitter.take_skipped() == 0


def test_a_record_that_is_too_long_may_end_its_file() -> None:
    splitter = RecordSplitter(b"\n", 10)
    splitter.feed(b"x" * 20)
    assert splitter.end() == []
    assert splitter.feed(b"next\n") == [b"next"]


def test_a_skipped_record_takes_no_memory() -> None:
    splitter = RecordSplitter(b"||", 10)
    for _ in range(100):
        splitter.feed(b"x" * 1_000)
    assert len(splitter._tail) <= 1  # pyright: ignore[reportPrivateUsage]


async def read(descriptors: list[int]) -> list[bytes]:
    return [chunk async for chunk in read_chunks(descriptors)]


async def test_an_empty_chunk_ends_each_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"2")
    descriptors = [os.open(tmp_path / name, os.O_RDONLY) for name in ("one", "two")]
    assert await read(descriptors) == [b"1", b"", b"2", b""]


async def test_a_large_file_comes_in_pieces_and_in_order(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "large").write_bytes(content)
    chunks = await read([os.open(tmp_path / "large", os.O_RDONLY)])
    assert len(chunks) > 5
    assert b"".join(chunks) == content


async def test_a_file_that_cannot_be_read_raises() -> None:
    descriptor = os.open("/dev/null", os.O_WRONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        await read([descriptor])


async def test_who_reads_no_further_is_not_held_by_a_silent_pipe() -> None:
    reading, writing = os.pipe()
    chunks = read_chunks([reading])
    os.write(writing, b"one")
    assert await anext(chunks) == b"one"
    async with asyncio.timeout(5):
        await chunks.aclose()
    os.close(writing)
