"""Sends lines and reports: what `aioproducer produce` does once its arguments are read.

Records leave with `send_nowait` in a tight loop and wait for room only when the buffer is full, so
memory is bounded by `buffer_memory` and a few pieces of input. A signal ends the reading; what was
accepted is flushed before the report. A record counts as failed unless the broker acknowledged it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from aioproducer.cli.lines import RecordSplitter, read_chunks
from aioproducer.cli.report import Tally, failures, progress, say, summary
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    BufferExhaustedError,
    InvalidPartitionError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    RecordTooLargeError,
)
from aioproducer.producer import Producer
from aioproducer.records import Header

__all__ = ["LineOptions", "send_lines"]

_FLUSH_AFTER_SIGNAL = 10.0
_RECORDS_PER_TURN = 5_000
_PROGRESS_EVERY = 0.25
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CLEAR_LINE = "\r\x1b[K"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOptions:
    """Which lines go where, and as what.

    Attributes:
        topic: Where to.
        files: What to read; empty or `-` is standard input.
        key: The key of every record that has none in its line.
        key_delimiter: What ends the key at the start of a line.
        delimiter: What ends a line.
        headers: Of every record.
        partition: Of every record, or None.
        empty_is_null: Send empty values and keys as null.
        is_quiet: Say nothing unless something fails.
    """

    topic: str
    files: tuple[str, ...] = ()
    key: bytes | None = None
    key_delimiter: bytes | None = None
    delimiter: bytes = b"\n"
    headers: tuple[Header, ...] | None = None
    partition: int | None = None
    empty_is_null: bool = False
    is_quiet: bool = False


def send_lines(options: LineOptions, config: ProducerConfig) -> int:
    """Send everything, report, and return the exit code."""
    try:
        descriptors = _open_files(options.files)
    except OSError as error:
        say(f"aioproducer: {error.filename or 'standard input'}: {error.strerror}")
        return 2
    try:
        return asyncio.run(_LineSender(options, config, descriptors).run())
    except KeyboardInterrupt:  # before there was a handler for it, so before anything was sent
        return 128 + signal.SIGINT


def _open_files(names: Sequence[str]) -> list[int]:
    descriptors: list[int] = []
    try:
        for name in names or ["-"]:
            if name == "-":
                descriptors.append(os.dup(0))
            else:
                with open(name, "rb", buffering=0) as file:  # refuses a directory
                    descriptors.append(os.dup(file.fileno()))
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return descriptors


class _LineSender:
    """One run."""

    def __init__(
        self, options: LineOptions, config: ProducerConfig, descriptors: Sequence[int]
    ) -> None:
        self._options = options
        self._tally = Tally()
        self._producer = Producer(config.replace(on_error=self._tally.note))
        self._is_started = False
        self._splitter = RecordSplitter(options.delimiter, config.max_request_size)
        self._descriptors = descriptors
        self._signal: signal.Signals | None = None
        self._gives_up = asyncio.Event()
        self._started_at = time.monotonic()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        sending = asyncio.create_task(self._send_everything())
        for one in _SIGNALS:
            loop.add_signal_handler(one, self._stop, one, sending)
        exit_code, problem = 0, ""
        try:
            await sending
        except asyncio.CancelledError:
            if self._signal is None:
                raise
            exit_code = 128 + self._signal
            if not self._is_started:
                problem = "interrupted before a broker was reached"
        except (InvalidTopicError, InvalidPartitionError) as error:
            exit_code, problem = 2, str(error)
        except KafkaError as error:
            exit_code, problem = 1, str(error)
        except OSError as error:
            exit_code, problem = 1, f"the input cannot be read: {error.strerror}"
        await self._end()
        self._report(problem)
        return exit_code or int(self._tally.failed > 0)

    def _stop(self, received: signal.Signals, sending: asyncio.Task[None]) -> None:
        if self._signal is not None:
            self._gives_up.set()
            return
        self._signal = received
        if self._is_started and not self._options.is_quiet:
            say(f"{received.name}: flushing, for {_FLUSH_AFTER_SIGNAL:g} s at most")
        sending.cancel()

    async def _send_everything(self) -> None:
        options = self._options
        await self._producer.start()
        self._is_started = True
        partitions = await self._producer.partitions_for(options.topic)
        if options.partition is not None and options.partition not in partitions:
            raise InvalidPartitionError(
                f"topic {options.topic!r} has {len(partitions)} partitions; there is no partition "
                f"{options.partition}"
            )
        self._started_at = time.monotonic()
        showing = asyncio.create_task(self._show_progress())
        try:
            async with aclosing(read_chunks(self._descriptors)) as chunks:
                async for chunk in chunks:
                    await self._send_chunk(chunk)
            await self._producer.flush()
        finally:
            showing.cancel()
            await asyncio.wait([showing])

    async def _send_chunk(self, chunk: bytes) -> None:
        lines = self._splitter.feed(chunk) if chunk else self._splitter.end()
        for start in range(0, len(lines), _RECORDS_PER_TURN):
            await self._send(lines[start : start + _RECORDS_PER_TURN])
            await asyncio.sleep(0)
        for _ in range(self._splitter.take_skipped()):
            self._tally.refuse(
                RecordTooLargeError("A line is longer than max_request_size", hint="")
            )

    async def _send(self, lines: Sequence[bytes]) -> None:
        options = self._options
        send_nowait = self._producer.send_nowait
        topic, partition, headers = options.topic, options.partition, options.headers
        sent = sent_bytes = 0
        try:
            for line in lines:
                key, value = self._key_and_value(line)
                try:
                    send_nowait(topic, value, key=key, partition=partition, headers=headers)
                except BufferExhaustedError:
                    await self._send_when_admitted(key, value)
                except RecordTooLargeError as error:
                    self._tally.refuse(error)
                    continue
                sent += 1
                sent_bytes += len(line)
        finally:
            self._tally.sent += sent
            self._tally.sent_bytes += sent_bytes

    def _key_and_value(self, line: bytes) -> tuple[bytes | None, bytes | None]:
        options = self._options
        key, value = options.key, line
        if options.key_delimiter is not None:
            before, found, after = line.partition(options.key_delimiter)
            if found:
                key, value = before, after
        if options.empty_is_null:
            return key or None, value or None
        return key, value

    async def _send_when_admitted(self, key: bytes | None, value: bytes | None) -> None:
        options = self._options
        while True:
            try:
                await self._producer.send(
                    options.topic,
                    value,
                    key=key,
                    partition=options.partition,
                    headers=options.headers,
                )
            except KafkaTimeoutError:
                # There will be room: what fills the buffer is bounded by delivery_timeout_ms.
                continue
            return

    async def _show_progress(self) -> None:
        typed = any(os.isatty(descriptor) for descriptor in self._descriptors)
        if self._options.is_quiet or typed or not sys.stderr.isatty():
            return
        try:
            while True:
                await asyncio.sleep(_PROGRESS_EVERY)
                self._count_acknowledged()
                seconds = time.monotonic() - self._started_at
                say(f"{_CLEAR_LINE}{progress(self._tally, seconds)}", end="")
        finally:
            say(_CLEAR_LINE, end="")

    def _count_acknowledged(self) -> None:
        if self._is_started:
            self._tally.acknowledged = int(self._producer.metrics()["record_delivered_total"])

    async def _end(self) -> None:
        if self._is_started:
            # A second signal, or the end of the bound, gives up what is not flushed by then.
            tasks = [
                asyncio.create_task(self._producer.flush()),
                asyncio.create_task(self._gives_up.wait()),
            ]
            bound = None if self._signal is None else _FLUSH_AFTER_SIGNAL
            await asyncio.wait(tasks, timeout=bound, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        self._count_acknowledged()
        await self._producer.close(timeout=0)

    def _report(self, problem: str) -> None:
        tally = self._tally
        if problem:
            say(f"aioproducer: {problem}")
        if not self._options.is_quiet and (tally.sent or tally.refused or not problem):
            say(summary(tally, time.monotonic() - self._started_at))
        elif tally.failed:
            say(f"{tally.failed:,} of {tally.sent + tally.refused:,} records failed")
        for line in failures(tally):
            say(f"  {line}")
