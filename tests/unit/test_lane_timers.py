"""The one timer of all lanes."""

from __future__ import annotations

import asyncio

import pytest

from aioproducer.background import Background
from aioproducer.lane import PartitionLane
from aioproducer.lane_timers import LaneTimers
from tests.support.core import Core


def test_what_is_due_later_comes_up_also_after_an_interrupt() -> None:
    loop = asyncio.new_event_loop()
    core = Core(loop, partitions=2)
    first, second = PartitionLane(core.topic(), 0), PartitionLane(core.topic(), 1)
    due: list[PartitionLane] = []

    def time_passed() -> None:
        due.extend(timers.expiring.pop_due(loop.time()))
        if due == [first]:
            raise SystemExit  # from a task that was told of its record
        loop.stop()

    timers = LaneTimers(Background(loop), time_passed)
    try:
        now = loop.time()
        timers.schedule(timers.expiring, first, now)
        timers.schedule(timers.expiring, second, now + 0.01)
        with pytest.raises(SystemExit):
            loop.run_forever()
        loop.call_later(1.0, loop.stop)
        loop.run_forever()
        assert due == [first, second]
    finally:
        timers.close()
        loop.close()
