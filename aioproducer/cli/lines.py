"""Reads records from files: large pieces in a thread, split at a delimiter.

Used by `produce`. `RecordSplitter` is pure; `read_chunks` owns the thread. The thread is a daemon
that reads descriptors without Python's buffers, so that a terminal or pipe that never ends holds
neither Ctrl-C nor the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Sequence

__all__ = ["RecordSplitter", "read_chunks"]

_CHUNK_SIZE = 262_144
_CHUNKS_AHEAD = 4


class RecordSplitter:
    """Cuts a stream of bytes into records.

    Args:
        delimiter: What ends a record; the last one of a stream may do without.
        max_size: Longer records are skipped and counted, so that memory stays bounded.
    """

    def __init__(self, delimiter: bytes, max_size: int) -> None:
        self._skipped = 0
        self._delimiter = delimiter
        self._max_size = max_size
        self._tail = bytearray()
        self._is_skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next piece of the stream; return the records it completes."""
        # The tail holds no delimiter, but may end with the first bytes of one.
        unseen = max(0, len(self._tail) - len(self._delimiter) + 1)
        self._tail += chunk
        records: list[bytes] = []
        if self._tail.find(self._delimiter, unseen) >= 0:
            records = bytes(self._tail).split(self._delimiter)
            self._tail = bytearray(records.pop())
            if self._is_skipping:
                del records[0]
                self._is_skipping = False
        if self._is_skipping:
            self._shorten_tail()
        elif len(self._tail) > self._max_size:
            self._skipped += 1
            self._is_skipping = True
            self._shorten_tail()
        return records

    def end(self) -> list[bytes]:
        """Take the end of the stream; return the record that had no delimiter, if any."""
        records = [bytes(self._tail)] if self._tail and not self._is_skipping else []
        self._tail.clear()
        self._is_skipping = False
        return records

    def take_skipped(self) -> int:
        """Return how many records were too long since the last call."""
        skipped, self._skipped = self._skipped, 0
        return skipped

    def _shorten_tail(self) -> None:
        # Enough to see a delimiter whose first bytes are here.
        del self._tail[: max(0, len(self._tail) - len(self._delimiter) + 1)]


async def read_chunks(descriptors: Sequence[int]) -> AsyncGenerator[bytes]:
    """Read files one after the other; an empty chunk marks the end of each.

    Args:
        descriptors: Open for reading; they are closed when they are read or no longer wanted.

    Raises:
        OSError: A file could not be read.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    free = threading.Semaphore(_CHUNKS_AHEAD)
    is_wanted = True

    def read_one(descriptor: int) -> None:
        chunk: bytes | OSError = b"."
        while chunk and not isinstance(chunk, OSError):
            free.acquire()
            if not is_wanted:
                return
            try:
                chunk = os.read(descriptor, _CHUNK_SIZE)
            except OSError as error:
                chunk = error
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody takes it
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)

    def read_all() -> None:
        for descriptor in descriptors:
            try:
                read_one(descriptor)
            finally:
                os.close(descriptor)

    threading.Thread(target=read_all, name="aioproducer-read", daemon=True).start()
    ended = 0
    try:
        while ended < len(descriptors):
            chunk = await chunks.get()
            free.release()
            if isinstance(chunk, OSError):
                raise chunk
            ended += not chunk
            yield chunk
    finally:
        is_wanted = False
        free.release(len(descriptors))
