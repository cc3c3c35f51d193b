"""Runs this repository's programs as a user would: in a process of their own.

Called by the tests of the command line and of the examples.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tools.kafka_cluster import ROOT, free_ports

__all__ = ["Finished", "finish", "produce", "run", "running", "serving"]


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program left: its exit code and its two outputs."""

    code: int
    out: str
    err: str


@asynccontextmanager
async def running(*arguments: str, **environ: str) -> AsyncGenerator[Process]:
    """Start Python with these arguments; whatever still runs at the end is killed.

    The environment has no `KAFKA_*` but those given.
    """
    inherited = {name: value for name, value in os.environ.items() if name[:6] != "KAFKA_"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=ROOT,
        env=inherited | environ,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def finish(process: Process, text: bytes | None = None) -> Finished:
    """Give a program the rest of its input and wait for its end."""
    out, err = await process.communicate(text)
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


async def run(*arguments: str, text: bytes = b"", **environ: str) -> Finished:
    """Run Python with these arguments and this standard input."""
    async with running(*arguments, **environ) as process:
        return await finish(process, text)


async def produce(*arguments: str, text: bytes = b"", **environ: str) -> Finished:
    """Run `aioproducer produce` with this standard input."""
    return await run("-m", "aioproducer", "produce", *arguments, text=text, **environ)


@asynccontextmanager
async def serving(app: str, **environ: str) -> AsyncGenerator[str]:
    """Serve an ASGI application on a free port; yield its URL, and end it in order.

    Raises:
        AssertionError: It did not come up, or did not end well; with what it said.
    """
    (port,) = free_ports(1)
    arguments = ["-m", "uvicorn", app, "--port", str(port), "--log-level", "warning"]
    async with running(*arguments, **environ) as process:
        while not await _is_open(port):
            assert process.returncode is None, (await finish(process)).err
            await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        finished = await finish(process)
        assert finished.code in (0, -15), finished.err


async def _is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
