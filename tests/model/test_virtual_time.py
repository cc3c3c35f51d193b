"""The clock of the model tests: it jumps, but never past what is still under way."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.support.virtual_time import StuckError, VirtualTimeLoop, run


def test_an_hour_passes_at_once() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(3_600)
        return loop.time() - before

    started = time.monotonic()
    assert run(main()) == pytest.approx(3_600)  # pyright: ignore[reportUnknownMemberType]
    assert time.monotonic() - started < 60


def test_timers_fire_in_their_order_and_at_their_time() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        start = loop.time()
        fired: list[tuple[str, float]] = []

        def fire(name: str) -> None:
            fired.append((name, loop.time() - start))

        for name, delay in (("late", 5.0), ("soon", 0.5), ("between", 2.0)):
            loop.call_later(delay, fire, name)
        await asyncio.sleep(10)
        return fired

    fired = run(main())
    assert [name for name, _ in fired] == ["soon", "between", "late"]
    assert [round(at, 6) for _, at in fired] == [0.5, 2.0, 5.0]


def test_what_is_under_way_over_a_socket_arrives_before_time_passes() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(100_000))
        writer.close()
        await writer.wait_closed()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            before = loop.time()
            port: int = server.sockets[0].getsockname()[1]
            async with asyncio.timeout(0.001):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(bytes(100_000))
                assert len(await reader.read(-1)) == 100_000
                writer.close()
                await writer.wait_closed()
            return loop.time() - before

    assert run(main()) == 0


def test_the_clock_stands_still_while_a_thread_works() -> None:
    async def main() -> tuple[bool, float]:
        loop = asyncio.get_running_loop()
        before = loop.time()
        going_on = threading.Event()
        # The thread waits for the loop's next turns, the loop for the thread: not for the clock.
        loop.call_soon(loop.call_soon, going_on.set)
        async with asyncio.timeout(0.001):
            return await loop.run_in_executor(None, going_on.wait, 5), loop.time() - before

    assert run(main()) == (True, 0)


def test_a_program_that_can_never_go_on_gets_an_error() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(StuckError):
        run(main())


def test_the_loop_names_what_is_left_on_it() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        assert (loop.pending_timers(), loop.open_sockets()) == ([], [])
        timer = loop.call_later(1, print)
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        assert loop.pending_timers() == [timer]
        assert loop.open_sockets() == [socket.fileno() for socket in server.sockets]
        timer.cancel()
        server.close()
        assert (loop.pending_timers(), loop.open_sockets()) == ([], [])

    run(main())
