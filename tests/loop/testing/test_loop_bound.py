from __future__ import annotations

import asyncio
import threading

import pytest

from aioproducer.testing import loop_bound
from aioproducer.testing.loop_bound import LoopBound, on_loop


class Place(LoopBound):
    def bind(self) -> None:
        self._bind_to_loop()

    @on_loop
    def thread(self, *, fail: BaseException | None = None) -> int:
        """Return where it runs."""
        if fail is not None:
            raise fail
        return threading.get_ident()


def test_a_call_before_the_start_runs_where_it_is_made() -> None:
    assert Place().thread() == threading.get_ident()


async def test_a_call_runs_on_the_loop_whoever_makes_it() -> None:
    place = Place()
    place.bind()
    assert place.thread() == threading.get_ident()
    assert await asyncio.to_thread(place.thread) == threading.get_ident()


def test_a_call_after_the_end_runs_where_it_is_made() -> None:
    place = Place()

    async def bind() -> None:
        place.bind()

    thread = threading.Thread(target=asyncio.run, args=(bind(),))
    thread.start()
    thread.join(10)
    assert place.thread() == threading.get_ident()


async def test_what_a_call_raises_is_raised_where_it_is_made() -> None:
    place = Place()
    place.bind()
    for error in (KeyError("x"), TimeoutError("of its own")):
        with pytest.raises(type(error)) as raised:
            await asyncio.to_thread(place.thread, fail=error)
        assert str(raised.value) == str(error)


async def test_a_call_to_a_blocked_loop_ends_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop_bound, "LONGEST_WAIT", 0.05)
    place = Place()
    place.bind()
    raised: list[BaseException] = []

    def call() -> None:
        try:
            place.thread()
        except TimeoutError as error:
            raised.append(error)

    # The loop waits for the thread, which waits for the loop.
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(10)
    assert "is it blocked?" in str(raised[0])


def test_a_decorated_method_keeps_its_name_and_docstring() -> None:
    assert Place.thread.__name__ == "thread"
    assert Place.thread.__doc__ == "Return where it runs."
