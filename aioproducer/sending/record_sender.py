"""What a producer asks of the object that sends its records.

`Sender` is the one that talks to Kafka. `aioproducer.testing.MockProducer` has another, which
stores the records in memory. A producer makes its sender in `Producer._new_sender`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aioproducer._native.accumulator import RecordAccumulator
    from aioproducer._native.record_batch import Delivery
    from aioproducer.background import Background
    from aioproducer.errors import KafkaError
    from aioproducer.sending.backpressure import Backpressure
    from aioproducer.sending.undelivered import UndeliveredRecords
    from aioproducer.telemetry.status import ProducerState, ProducerStatus

__all__ = ["RecordSender"]


class RecordSender(Protocol):
    """Sends what the accumulator takes, and ends each record with an outcome."""

    @property
    def background(self) -> Background:
        """The loop that it runs on."""
        ...

    @property
    def accumulator(self) -> RecordAccumulator:
        """Where the send path puts records."""
        ...

    @property
    def backpressure(self) -> Backpressure:
        """Callers who wait for buffer space."""
        ...

    async def start(self, timeout: float) -> None:
        """Reach the cluster within `timeout` seconds."""
        ...

    def start_in_background(self) -> None:
        """Try to reach the cluster until that succeeds, or the sender is closed."""
        ...

    @property
    def is_reached(self) -> bool:
        """Whether the cluster has been reached once."""
        ...

    async def wait_until_reached(self, timeout: float) -> None:
        """Wait `timeout` seconds at most until the cluster is reached."""
        ...

    async def flush(self) -> None:
        """Wait until every record accepted so far is delivered or failed."""
        ...

    def begin_close(self) -> UndeliveredRecords:
        """Collect what fails from now on."""
        ...

    async def finish(self) -> None:
        """Wait, after the last `flush`, until brokers have read the requests without response."""
        ...

    async def give_up(self) -> None:
        """Send nothing more, and fail what is not delivered yet."""
        ...

    async def close(self) -> None:
        """End timers, tasks, threads and connections."""
        ...

    def leave_behind(self) -> None:
        """Do nothing more in the child of a fork."""
        ...

    async def partitions_for(self, name: str) -> tuple[int, ...]:
        """The ids of a topic's partitions, once they are known."""
        ...

    def metrics(self) -> dict[str, float]:
        """Counters since the start, and current gauges."""
        ...

    def status(self, state: ProducerState) -> ProducerStatus:
        """How the producer is, in a state of its lifecycle."""
        ...

    def look_at_deadlines(self) -> None:
        """End everything that is due now."""
        ...

    def error_if_down(self, topic: str, partition: object) -> KafkaError | None:
        """The error for a record of a topic whose brokers are all down; else None."""
        ...

    def not_yet(self, delivery: Delivery, waited: float) -> KafkaError:
        """The error of a caller who no longer waits for a record, which goes on."""
        ...
