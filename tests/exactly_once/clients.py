"""aioproducer and its peers, each called as its own documentation says.

A careful user of each: what is to be called again is, what is to be aborted is, and after anything
else the producer is closed and another one is made.
"""

# aiokafka is there for `make exactly-once` only, and ships no types.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

__all__ = ["Client", "Options", "Step", "client_of", "name_of"]


class Step(enum.Enum):
    """What is to be done after an error."""

    AGAIN = "the same call again"
    ABORT = "abort: the transaction has failed, and is not committed"
    ANEW = "close it, and make another one"


@dataclass(frozen=True, slots=True)
class Options:
    """What is not a client's default, the same for all as far as they have it."""

    transaction_timeout_ms: int = 20_000
    delivery_timeout_ms: int = 15_000
    request_timeout_ms: int = 5_000
    max_block_ms: int = 5_000


class Client(Protocol):
    """A transactional producer."""

    async def open(self) -> None:
        """Connect, and take the transactional id over."""

    async def begin(self) -> None:
        """Begin a transaction."""

    async def send(self, topic: str, partition: int, value: bytes) -> None:
        """Send a record, without a wait for its acknowledgement."""

    async def flush(self) -> None:
        """Wait for the records, where the client is to be used like that."""

    async def commit(self) -> None:
        """Commit; return when it is."""

    async def abort(self) -> None:
        """Abort; return when it is."""

    async def close(self) -> None:
        """Let everything go."""

    def next_step(self, error: Exception) -> Step:
        """Say what is to be done after an error of any call but `send` and `flush`."""
        ...


class AioproducerClient:
    """The verbs, with no record awaited: a commit waits for all, and fails if one did."""

    def __init__(self, bootstrap_servers: str, options: Options, transactional_id: str) -> None:
        from aioproducer import Producer

        self._producer: Producer[Any, Any] = Producer(
            bootstrap_servers=bootstrap_servers,
            transactional_id=transactional_id,
            transaction_timeout_ms=options.transaction_timeout_ms,
            delivery_timeout_ms=options.delivery_timeout_ms,
            request_timeout_ms=options.request_timeout_ms,
            max_block_ms=options.max_block_ms,
        )

    async def open(self) -> None:
        await self._producer.start()

    async def begin(self) -> None:
        await self._producer.begin_transaction()

    async def send(self, topic: str, partition: int, value: bytes) -> None:
        await self._producer.send(topic, value, partition=partition)

    async def flush(self) -> None:
        pass

    async def commit(self) -> None:
        await self._producer.commit_transaction()

    async def abort(self) -> None:
        await self._producer.abort_transaction()

    async def close(self) -> None:
        await self._producer.close(timeout=5)

    def next_step(self, error: Exception) -> Step:
        from aioproducer import KafkaError, KafkaTimeoutError

        if isinstance(error, KafkaTimeoutError):
            return Step.AGAIN
        is_abortable = isinstance(error, KafkaError) and error.requires_abort
        return Step.ABORT if is_abortable else Step.ANEW


class AiokafkaClient:
    """As its page on transactions has it: each record is awaited before the commit."""

    def __init__(self, bootstrap_servers: str, options: Options, transactional_id: str) -> None:
        from aiokafka import AIOKafkaProducer

        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            transactional_id=transactional_id,
            transaction_timeout_ms=options.transaction_timeout_ms,
            # The one bound it has: of a request, and of a batch.
            request_timeout_ms=options.delivery_timeout_ms,
        )
        self._futures: list[asyncio.Future[Any]] = []

    async def open(self) -> None:
        await self._producer.start()

    async def begin(self) -> None:
        self._futures.clear()
        await self._producer.begin_transaction()

    async def send(self, topic: str, partition: int, value: bytes) -> None:
        self._futures.append(await self._producer.send(topic, value, partition=partition))

    async def flush(self) -> None:
        await asyncio.gather(*self._futures)

    async def commit(self) -> None:
        await self._producer.commit_transaction()

    async def abort(self) -> None:
        await self._producer.abort_transaction()
        await asyncio.gather(*self._futures, return_exceptions=True)

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self._producer.stop()
        for future in self._futures:
            future.cancel()

    def next_step(self, error: Exception) -> Step:
        # As its `async with producer.transaction()`, which aborts after no error of a commit.
        return Step.ANEW


class ConfluentClient:
    """The calls that block, in threads. What an error's flags say is done."""

    def __init__(self, bootstrap_servers: str, options: Options, transactional_id: str) -> None:
        from confluent_kafka import Producer

        self._bound = options.max_block_ms / 1000
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": options.transaction_timeout_ms,
                "delivery.timeout.ms": options.delivery_timeout_ms,
                "request.timeout.ms": options.request_timeout_ms,
                "socket.timeout.ms": options.request_timeout_ms,
            }
        )

    async def open(self) -> None:
        await asyncio.to_thread(self._producer.init_transactions, self._bound)

    async def begin(self) -> None:
        self._producer.begin_transaction()

    async def send(self, topic: str, partition: int, value: bytes) -> None:
        self._producer.produce(topic, value, partition=partition)
        self._producer.poll(0)

    async def flush(self) -> None:
        pass

    async def commit(self) -> None:
        await asyncio.to_thread(self._producer.commit_transaction, self._bound)

    async def abort(self) -> None:
        await asyncio.to_thread(self._producer.abort_transaction, self._bound)

    async def close(self) -> None:
        await asyncio.to_thread(self._producer.close)

    def next_step(self, error: Exception) -> Step:
        from confluent_kafka import KafkaError, KafkaException

        told = error.args[0] if isinstance(error, KafkaException) else None
        if not isinstance(told, KafkaError):
            return Step.ANEW
        if told.retriable():
            return Step.AGAIN
        return Step.ABORT if told.txn_requires_abort() else Step.ANEW


def name_of(error: Exception) -> str:
    """Return what tells an error from others: its class or code, and what it was made of."""
    told = error.args[0] if error.args else None
    name = getattr(told, "name", None)  # of confluent-kafka's errors, which have one class
    cause = error.__cause__
    because = f" ({type(cause).__name__})" if cause is not None else ""
    return f"{name() if callable(name) else type(error).__name__}{because}"


def client_of(name: str, bootstrap_servers: str, options: Options) -> Callable[[str], Client]:
    """Return what makes a client, not opened, from a transactional id."""
    kinds: dict[str, Callable[[str, Options, str], Client]] = {
        "aioproducer": AioproducerClient,
        "aiokafka": AiokafkaClient,
        "confluent_kafka": ConfluentClient,
    }
    return partial(kinds[name], bootstrap_servers, options)
