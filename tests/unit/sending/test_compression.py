"""The compressor: at once or in a thread, kept or not, and what it does to its queue."""

from __future__ import annotations

import asyncio
import logging
import random
import threading

import pytest

from aioproducer._native.record_batch import BATCH_HEADER_SIZE, RecordBatch
from aioproducer.compression import codec_for
from aioproducer.config import CompressionType, ProducerConfig
from aioproducer.errors import KafkaTimeoutError
from aioproducer.network.metadata import PartitionLeader
from aioproducer.sending.compression import BatchCompressor
from aioproducer.sending.partition_queue import PartitionQueue
from tests.support.core import Core, records_of

SMALL = b"squeeze me " * 20
LARGE = b"squeeze me " * 2000
NOISE = random.Random(1).randbytes(300)


class Compressing:
    """A queue, and a compressor that tells of what came back from a thread."""

    def __init__(self, codec: CompressionType = "zstd", *, manual: bool = False) -> None:
        self.core = Core(None if manual else asyncio.get_running_loop(), queue_type=PartitionQueue)
        queue = self.core.queue()
        assert isinstance(queue, PartitionQueue)
        self.queue = queue
        self.queue.led_by(PartitionLeader(1, 0))
        self.back: asyncio.Queue[PartitionQueue] = asyncio.Queue()
        config = ProducerConfig(bootstrap_servers="localhost:9092", compression_type=codec)
        self.compressor = BatchCompressor(config, self.core.loop, self.back.put_nowait)

    def close_batch(self, value: bytes) -> RecordBatch:
        self.core.put(value)
        self.queue.close_open()
        return self.queue.closed[-1]


def decompressed(codec: str, batch: RecordBatch) -> bytes:
    found = codec_for(codec)
    assert found is not None
    return found.decompress(batch.payload, batch.records_size)


async def test_without_a_codec_nothing_is_done() -> None:
    harness = Compressing("none")
    batch = harness.close_batch(LARGE)
    assert not harness.compressor.is_active
    assert harness.compressor.prepare_head(harness.queue)
    assert not batch.is_compressed
    await harness.compressor.close()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_small_batch_is_compressed_at_once(codec: CompressionType) -> None:
    harness = Compressing(codec, manual=True)
    batch = harness.close_batch(SMALL)
    records = bytes(batch.payload)
    assert harness.compressor.is_active
    assert harness.compressor.prepare_head(harness.queue)
    assert batch.is_compressed
    assert batch.payload_size < batch.records_size
    assert decompressed(codec, batch) == records


def test_the_codec_stands_in_the_attributes() -> None:
    harness = Compressing("lz4", manual=True)
    batch = harness.close_batch(SMALL)
    harness.compressor.prepare_head(harness.queue)
    assert int.from_bytes(batch.seal()[21:23], "big") == 3


def test_a_batch_that_compression_makes_larger_is_sent_as_it_is() -> None:
    harness = Compressing(manual=True)
    batch = harness.close_batch(NOISE)
    assert harness.compressor.prepare_head(harness.queue)
    assert batch.is_prepared
    assert not batch.is_compressed
    assert harness.core.values() == [NOISE]


def test_a_batch_is_compressed_once() -> None:
    harness = Compressing(manual=True)
    batch = harness.close_batch(SMALL)
    harness.compressor.prepare_head(harness.queue)
    payload = batch.payload
    harness.compressor.prepare_head(harness.queue)
    assert batch.payload is payload


def test_an_open_batch_that_is_due_is_closed_first() -> None:
    harness = Compressing(manual=True)
    harness.core.put(SMALL)
    harness.queue.open_is_due = True
    assert harness.compressor.prepare_head(harness.queue)
    assert harness.queue.open is None
    assert not harness.queue.open_is_due
    assert harness.queue.closed[0].is_compressed


def test_a_small_closed_batch_waits_until_it_is_the_head() -> None:
    harness = Compressing(manual=True)
    batch = harness.close_batch(SMALL)
    harness.compressor.prepare_closed(harness.queue)
    assert not batch.is_compressing
    assert not batch.is_compressed


async def test_a_large_batch_is_compressed_in_a_thread() -> None:
    harness = Compressing()
    batch = harness.close_batch(LARGE)
    records = bytes(batch.payload)
    assert not harness.compressor.prepare_head(harness.queue)
    assert batch.is_compressing
    assert await harness.back.get() is harness.queue
    assert harness.compressor.prepare_head(harness.queue)
    assert decompressed("zstd", batch) == records
    await harness.compressor.close()


async def test_a_large_batch_begins_when_it_is_closed() -> None:
    harness = Compressing()
    batch = harness.close_batch(LARGE)
    harness.compressor.prepare_closed(harness.queue)
    assert batch.is_compressing
    assert not harness.compressor.prepare_head(harness.queue)
    await harness.back.get()
    assert harness.compressor.prepare_head(harness.queue)
    assert harness.back.empty()
    await harness.compressor.close()


async def test_a_batch_in_a_thread_holds_back_its_partition() -> None:
    harness = Compressing()
    harness.close_batch(LARGE)
    harness.compressor.prepare_closed(harness.queue)
    assert not harness.queue.may_take(0.0, 5, None)
    await harness.back.get()
    assert harness.queue.may_take(0.0, 5, None)
    await harness.compressor.close()


async def test_the_records_of_a_batch_that_expires_in_a_thread_are_read_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Compressing()
    batch = harness.close_batch(LARGE)
    before = bytes(batch.payload)
    read: list[bytes] = []
    let_go = threading.Event()

    class Slow:
        """A codec that waits until the batch has failed."""

        name = "slow"
        attributes = 4

        def compress(self, data: memoryview, /) -> bytes:
            let_go.wait(10)
            read.append(bytes(data))
            return b""

    monkeypatch.setattr(harness.compressor, "_codec", Slow())
    harness.compressor.prepare_head(harness.queue)
    harness.queue.forget(batch)
    batch.fail(KafkaTimeoutError())
    let_go.set()
    await harness.compressor.close()
    assert read == [before]


async def test_a_batch_that_expires_in_a_thread_stays_failed() -> None:
    harness = Compressing()
    batch = harness.close_batch(LARGE)
    harness.compressor.prepare_head(harness.queue)
    harness.queue.forget(batch)
    batch.fail(KafkaTimeoutError())
    harness.close_batch(LARGE)
    harness.compressor.prepare_closed(harness.queue)
    await harness.back.get()
    assert not batch.is_compressed
    assert harness.queue.closed[0].is_compressed
    await harness.compressor.close()


class Broken:
    """A codec that fails."""

    name = "broken"
    attributes = 4

    def compress(self, data: object, /) -> bytes:
        raise MemoryError


async def test_a_batch_whose_compression_fails_is_sent_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    harness = Compressing()
    batch = harness.close_batch(LARGE)

    monkeypatch.setattr(harness.compressor, "_codec", Broken())
    harness.compressor.prepare_head(harness.queue)
    with caplog.at_level(logging.ERROR):
        await harness.back.get()
    assert harness.compressor.prepare_head(harness.queue)
    assert not batch.is_compressed
    assert "broken failed: MemoryError()" in caplog.text
    await harness.compressor.close()


def test_a_small_batch_whose_compression_fails_is_sent_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    harness = Compressing(manual=True)
    batch = harness.close_batch(SMALL)
    monkeypatch.setattr(harness.compressor, "_codec", Broken())
    assert harness.compressor.prepare_head(harness.queue)
    assert not batch.is_compressed
    assert "broken failed: MemoryError()" in caplog.text


async def test_a_batch_for_which_there_is_no_thread_is_sent_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    harness = Compressing()
    batch = harness.close_batch(LARGE)
    monkeypatch.setattr(threading.Thread, "start", start)
    harness.compressor.prepare_closed(harness.queue)
    assert harness.queue.may_take(0.0, 5, None)
    assert harness.compressor.prepare_head(harness.queue)
    assert not batch.is_compressed
    assert "can't start new thread" in caplog.text
    await harness.compressor.close()


# ---- back again


def test_a_compressed_batch_gets_its_records_back() -> None:
    harness = Compressing(manual=True)
    batch = harness.close_batch(SMALL)
    records = records_of(batch)
    harness.compressor.prepare_head(harness.queue)
    harness.compressor.restore(batch)
    assert not batch.is_compressed
    assert not batch.is_prepared
    assert records_of(batch) == records


def test_a_batch_that_was_not_compressed_is_restored_as_it_is() -> None:
    harness = Compressing(manual=True)
    batch = harness.close_batch(NOISE)
    harness.compressor.prepare_head(harness.queue)
    harness.compressor.restore(batch)
    assert [value for _, value, _, _ in records_of(batch)] == [NOISE]


def test_the_parts_of_a_split_batch_are_compressed_again() -> None:
    harness = Compressing(manual=True)
    for _ in range(4):
        harness.core.put(SMALL)
    harness.queue.close_open()
    harness.compressor.prepare_head(harness.queue)
    batch = harness.queue.take(None)
    harness.queue.request_ended(batch)
    harness.compressor.restore(batch)
    harness.queue.split(batch, batch.split(BATCH_HEADER_SIZE + batch.records_size // 2))
    assert harness.core.values() == [SMALL] * 4
    harness.compressor.prepare_head(harness.queue)
    assert [part.is_compressed for part in harness.queue.closed] == [True, False]


async def test_closing_lets_the_threads_go() -> None:
    harness = Compressing()
    harness.close_batch(LARGE)
    harness.compressor.prepare_head(harness.queue)
    await harness.compressor.close()
    await harness.back.get()
