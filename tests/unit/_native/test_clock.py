"""The clock of native code is the event loop's clock, whatever somebody puts in its place."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from aioproducer._native.clock import Clock
from aioproducer.background import Background


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_it_says_what_the_loop_says(new_loop: type[asyncio.AbstractEventLoop]) -> None:
    loop = new_loop()
    try:
        clock = Background(loop).clock
        before = loop.time()
        now = clock.now()
        assert before - 1e-6 <= now <= loop.time() + 1e-6
    finally:
        loop.close()


def test_a_monotonic_that_is_replaced_later_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    try:
        clock = Background(loop).clock
        assert clock.now() > 0
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: 1.5)
            assert clock.now() == loop.time() == 1.5
        assert clock.now() != 1.5
    finally:
        loop.close()


def test_a_loop_with_a_clock_of_its_own_is_asked() -> None:
    class Late(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return super().time() + 1_000.0

    loop = Late()
    try:
        assert abs(Background(loop).clock.now() - loop.time()) < 10
    finally:
        loop.close()


def test_what_the_clock_raises_is_raised() -> None:
    def broken() -> float:
        raise ValueError("no time")

    with pytest.raises(ValueError, match="no time"):
        Clock(broken, False).now()
