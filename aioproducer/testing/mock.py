"""MockProducer: a Producer that stores records in memory, for tests of the code that sends.

It is a `Producer` with another sender (mock_sender.py). What is added here is what a test sees and
orders, and a start by itself in whatever loop calls it (`auto_start`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Unpack, overload

from aioproducer.background import Background
from aioproducer.config import ProducerConfig, ProducerOptions
from aioproducer.errors import BufferExhaustedError, ConfigError
from aioproducer.producer import Producer
from aioproducer.records import K, V
from aioproducer.sending.record_sender import RecordSender
from aioproducer.sending.undelivered import UndeliveredRecords
from aioproducer.testing.errors_to_order import OrderedError, as_error
from aioproducer.testing.mock_broker import Given, MockBroker, SentRecord
from aioproducer.testing.mock_sender import MockSender

__all__ = ["MockProducer"]


class MockProducer(Producer[K, V]):
    """A `Producer` without Kafka: no sockets, no threads, records what it was sent.

    All that a `Producer` does before a record leaves is done: checks, serializers, partitioner,
    buffer space, and the errors of each. A record is acknowledged at the end of the loop's turn,
    with offsets that count from 0 in each partition. Records without key go to one partition after
    the other, `batch_size` bytes each, from 0 on; a `Producer` takes them in random order.

    Args:
        config: All options as one value; or give them as keywords.
        bootstrap_servers: Is not used.
        partitions: The number of partitions of each topic.
        default_partitions: That of all other topics; all of them exist.
        auto_start: Start with the first call, in the loop that makes it, and again when another
            loop does: for tests that run in other loops than the code that they test, such as those
            with a TestClient. Without it, calls before `start` fail as those of a `Producer`.
        **options: The options of `ProducerConfig`, but `transactional_id`.

    Raises:
        ConfigError: An option that does not exist, a value that is not allowed, or a
            `transactional_id`: `FakeCluster` has transactions.

    Example:
        async with MockProducer(value_serializer="json", partitions={"payments": 6}) as mock:
            await pay(mock, card="card-1", amount=12.5)  # the code under test
        assert [record.given_value for record in mock.sent_to("payments")] == [{"amount": 12.5}]
    """

    @overload
    def __init__(
        self,
        config: ProducerConfig,
        /,
        *,
        partitions: Mapping[str, int] | None = None,
        default_partitions: int = 1,
        auto_start: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self,
        config: None = None,
        /,
        *,
        bootstrap_servers: str | Sequence[str] = "mock:9092",
        partitions: Mapping[str, int] | None = None,
        default_partitions: int = 1,
        auto_start: bool = False,
        **options: Unpack[ProducerOptions],
    ) -> None: ...
    def __init__(
        self,
        config: ProducerConfig | None = None,
        /,
        *,
        partitions: Mapping[str, int] | None = None,
        default_partitions: int = 1,
        auto_start: bool = False,
        **options: Any,
    ) -> None:
        if config is None:
            options.setdefault("bootstrap_servers", "mock:9092")
            super().__init__(**options)
        else:
            super().__init__(config, **options)
        if self.config.transactional_id is not None:
            raise ConfigError(
                option="transactional_id",
                value=self.config.transactional_id,
                allowed="None in a MockProducer, which has no transactions",
                hint="Use FakeCluster: it has transactions, and a Producer for it is a real one.",
            )
        self._broker = MockBroker(partitions or {}, default_partitions)
        self._given = Given()
        self._note_given(self._given.note)
        self._follows_loops = auto_start

    # ---- what was sent

    @property
    def sent(self) -> list[SentRecord[K, V]]:
        """The records accepted so far, in the order of the calls, but for those that failed.

        A record counts from the call of `send` on; it may have no outcome yet (`hold`).
        """
        return list(self._broker.sent)

    def sent_to(self, topic: str) -> list[SentRecord[K, V]]:
        """Return those of `sent` that went to one topic."""
        return [record for record in self._broker.sent if record.topic == topic]

    def clear(self) -> None:
        """Forget what was sent and what was ordered; offsets begin at 0 again.

        Records that were held get their outcome first.
        """
        self._broker.clear()

    # ---- what is to go wrong

    def fail_next(
        self, error: OrderedError, *, topic: str | None = None, count: int | None = 1
    ) -> None:
        """Fail the records that are accepted next, as if they had been sent and had failed.

        The call accepts such a record; its `Delivery`, `send_and_wait` and `on_delivery` get the
        error. A `Producer` tries again what can be retried until `delivery_timeout_ms` is over:
        that has happened by then.

        Args:
            error: Its class, e.g. `MessageTooLargeError`, an instance, Kafka's name or code.
            topic: Only records for this topic.
            count: How many records; None for ever.

        Raises:
            ValueError: There is no such error, or only a call can raise it.
        """
        if count is not None and count < 1:
            raise ValueError(f"count must be at least 1, or None for ever; {count} is not")
        instance = as_error(error)
        if isinstance(instance, BufferExhaustedError):
            raise ValueError("a record that found no buffer space was not accepted: use full()")
        self._broker.fail_next(instance, topic, count)

    def full(self, is_full: bool = True) -> None:
        """Refuse every record with BufferExhaustedError, as when the buffer is full; or no longer.

        `send` and others raise it without waiting for `max_block_ms`.
        """
        self._broker.set_full(is_full)

    def hold(self) -> None:
        """Leave records without outcome, as a broker does that does not respond.

        They get it with `release`; or they fail when `delivery_timeout_ms` is over, or the producer
        is closed.
        """
        self._broker.set_held(True)

    def release(self) -> None:
        """Give the records that are held their outcome, in the next turn of their loop."""
        self._broker.set_held(False)

    # ---- lifecycle

    async def start(self, timeout: float | None = None, *, wait: bool = True) -> None:
        """Start at once; from then on the producer belongs to this loop."""
        self._follows_loops = False
        await super().start(timeout, wait=wait)

    async def close(self, timeout: float | None = None) -> UndeliveredRecords:
        """Close as `Producer.close` does; records that are held fail when `timeout` is over."""
        self._follow_loop()
        self._follows_loops = False
        return await super().close(timeout)

    def __del__(self) -> None:
        # One that started by itself has nothing that must be closed.
        if not getattr(self, "_follows_loops", True):
            super().__del__()

    # ---- the seam of Producer

    def _new_sender(self, background: Background) -> RecordSender:
        return MockSender(self.config, background, self._broker, self._given)

    def _follow_loop(self) -> None:
        """Start on the running loop, if it is another one than that of the last call."""
        if not self._follows_loops:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._sender is None or self._sender.background.loop is not loop:
            self._open(self._new_sender(Background(loop)))

    def _refuse_call(self) -> None:
        before = self._sender
        self._follow_loop()
        if self._sender is before:
            super()._refuse_call()

    def _check_running_loop(self) -> bool:
        self._follow_loop()
        return super()._check_running_loop()

    def _open_sender(self) -> RecordSender:
        self._follow_loop()
        return super()._open_sender()
