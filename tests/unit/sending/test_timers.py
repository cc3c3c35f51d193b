"""The one timer of all partition queues."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from aioproducer.background import Background
from aioproducer.sending.batch_results import BatchResults
from aioproducer.sending.finishing import Finished, Finisher
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.timers import PartitionTimers
from tests.support.core import Core


class Expiring:
    """Batches that expire; the first one wakes a task that exits the program."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.broker_queues: Any = self
        self.expired: list[PartitionQueue] = []

    def expire(self, queue: PartitionQueue, now: float, finished: Finished) -> float | None:
        self.expired.append(queue)
        return None

    def expiry_passed(self, queue: PartitionQueue, next_expires_at: float) -> None:
        """Nothing else is in the queue."""

    def drain_offered(self) -> None:
        """Nothing is offered."""

    def finish(self, finished: Finished, *, direct: bool) -> None:
        if len(self.expired) == 1:
            raise SystemExit  # from a task that its delivery woke
        self.loop.stop()


def test_what_is_due_later_comes_up_also_after_an_interrupt() -> None:
    loop = asyncio.new_event_loop()
    core = Core(loop, partitions=2)
    first, second = PartitionQueue(core.topic(), 0), PartitionQueue(core.topic(), 1)
    expiring = Expiring(loop)
    timers = PartitionTimers(
        Background(loop), cast("BatchResults", expiring), cast("Finisher", expiring)
    )
    try:
        now = loop.time()
        timers.expire_at(first, now)
        timers.expire_at(second, now + 0.01)
        with pytest.raises(SystemExit):
            loop.run_forever()
        loop.call_later(1.0, loop.stop)
        loop.run_forever()
        assert expiring.expired == [first, second]
    finally:
        timers.close()
        loop.close()
