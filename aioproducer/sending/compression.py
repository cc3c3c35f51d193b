"""Compresses batches before they are sent: small ones at once, large ones in a thread.

Owns the codec and the threads. A batch that compression makes larger is sent as it is. A batch in a
thread holds back the later ones of its partition, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent import futures
from contextvars import Context
from functools import partial

from aioproducer._native.record_batch import RecordBatch
from aioproducer.compression import Data, codec_for
from aioproducer.config import ProducerConfig
from aioproducer.sending.partition_queue import PartitionQueue

__all__ = ["BatchCompressor"]

logger = logging.getLogger(__name__)

_COMPRESS_ON_LOOP = 8 * 1024
"""Bytes up to which a batch is compressed at once. Going to a thread and back costs about as
much; beyond it the slow codecs would hold the loop for milliseconds."""

_THREADS = 2


class BatchCompressor:
    """The codec of one producer and the threads it runs in.

    Args:
        config: Says which codec at which level.
        loop: The producer's loop.
        compressed: Called on the loop when a batch of a queue came back from a thread.
    """

    def __init__(
        self,
        config: ProducerConfig,
        loop: asyncio.AbstractEventLoop,
        compressed: Callable[[PartitionQueue], None],
    ) -> None:
        self._codec = codec_for(config.compression_type, config.compression_level)
        self._loop = loop
        self._compressed = compressed
        self._executor: futures.ThreadPoolExecutor | None = None
        self._running: set[asyncio.Future[bytes]] = set()

    @property
    def is_active(self) -> bool:
        """Whether batches are compressed at all."""
        return self._codec is not None

    def prepare_closed(self, queue: PartitionQueue) -> None:
        """Begin to compress a large batch as soon as it is closed."""
        batch = queue.closed[-1]
        if batch.records_size > _COMPRESS_ON_LOOP:
            self._compress_in_thread(queue, batch)

    def prepare_head(self, queue: PartitionQueue) -> bool:
        """Whether the queue's head can be sent now; False when it comes back from a thread."""
        if self._codec is None:
            return True
        batch = queue.head
        assert batch is not None
        if batch.is_prepared:
            return True
        queue.close_head()
        if batch.records_size > _COMPRESS_ON_LOOP:
            self._compress_in_thread(queue, batch)
            return batch.is_prepared
        batch.is_prepared = True
        try:
            payload = self._codec.compress(batch.payload)
        except Exception as error:
            self._log_uncompressed(error)
        else:
            batch.set_compressed(payload, self._codec.attributes)
        return True

    def restore(self, batch: RecordBatch) -> None:
        """Decompress the records of a batch, to split it."""
        if batch.is_compressed:
            batch.restore_records(self.decompress(batch.payload, batch.records_size))
            batch.is_prepared = False

    def decompress(self, payload: Data, size: int) -> bytes:
        """Decompress the payload of a batch whose records had `size` bytes."""
        assert self._codec is not None
        return self._codec.decompress(payload, size)

    async def close(self) -> None:
        """End the threads; return when they are idle."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            await asyncio.gather(*self._running, return_exceptions=True)

    def _compress_in_thread(self, queue: PartitionQueue, batch: RecordBatch) -> None:
        assert self._codec is not None
        if batch.is_compressing:
            return
        if self._executor is None:
            self._executor = futures.ThreadPoolExecutor(_THREADS, "aioproducer-compress")
        try:
            compressing = self._loop.run_in_executor(
                self._executor, self._codec.compress, batch.payload
            )
        except RuntimeError as error:
            # No thread can be started, or the interpreter is shutting down.
            batch.is_prepared = True
            self._log_uncompressed(error)
            return
        batch.is_compressing = True
        self._running.add(compressing)
        compressing.add_done_callback(partial(self._take_back, queue, batch), context=Context())

    def _take_back(
        self, queue: PartitionQueue, batch: RecordBatch, compressing: asyncio.Future[bytes]
    ) -> None:
        self._running.discard(compressing)
        batch.is_compressing = False
        batch.is_prepared = True
        if compressing.cancelled() or batch.is_done:
            return
        assert self._codec is not None
        error = compressing.exception()
        if error is None:
            batch.set_compressed(compressing.result(), self._codec.attributes)
        else:
            self._log_uncompressed(error)
        self._compressed(queue)

    def _log_uncompressed(self, error: BaseException) -> None:
        assert self._codec is not None
        logger.error("A batch is sent uncompressed: %s failed: %r", self._codec.name, error)
